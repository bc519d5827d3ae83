"""ALIGNN (Choudhary and DeCost, 2021) in its torch-only form, `alignn_atomwise_pure`, energy alone."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from alignn.models.alignn_atomwise_pure import ALIGNNAtomWisePure, ALIGNNAtomWisePureConfig
from alignn.torch_graph_builder import batch_torch_graph_pairs, build_pure_torch_graph
from jarvis.core.atoms import Atoms
from jarvis.core.specie import atomic_numbers_to_symbols

from peers.sample import Sample
from peers.torch_settings import Learner, as_stated, steps, tensor
from peers.worker import Case

REACH = {
    "paper": {"two_body_cutoff": 8.0, "three_body_cutoff": None, "max_neighbors": 12},
    "default": {"two_body_cutoff": 5.0, "three_body_cutoff": 3.5, "max_neighbors": 12},
}
"""12 nearest neighbours with the whole line graph, or what the package takes today: 5 A, angles within 3.5 A."""


def _atoms(sample: Sample) -> list[Any]:
    return [
        Atoms(lattice_mat=one.lattice[0], coords=one.frac, elements=atomic_numbers_to_symbols(one.numbers))
        for one in sample.split()
    ]


def _graphs(sample: Sample, reach: str) -> list[Any]:
    return [build_pure_torch_graph(atoms, **REACH[reach]) for atoms in _atoms(sample)]


def _network() -> ALIGNNAtomWisePure:
    """4 + 4 layers of width 256, as published; no forces."""
    torch.manual_seed(0)
    config = ALIGNNAtomWisePureConfig(
        name="alignn_atomwise_pure", alignn_layers=4, gcn_layers=4, hidden_features=256, atom_input_features=92,
        calculate_gradient=False, gradwise_weight=0.0, energy_mult_natoms=False,
    )  # fmt: skip
    return ALIGNNAtomWisePure(config)


def _facts(pairs: list[Any], sample: Sample) -> dict[str, Any]:
    edges, angles = (sum(len(pair[part].src) for pair in pairs) / len(sample.numbers) for part in (0, 1))
    return {"edges per atom": edges, "angles per atom": angles, "versions": f"alignn {version('alignn')}"}


def graphs(sample: Sample, reach: str) -> Case:
    """Graph and line graph by its fast builder (matscipy and torch)."""
    as_stated()
    crystals = _atoms(sample)

    def built() -> list[Any]:
        return [build_pure_torch_graph(atoms, **REACH[reach]) for atoms in crystals]

    return Case(lambda: built() is None, len(crystals), _facts(built(), sample))


def training(sample: Sample, reach: str, batch: int) -> Case:
    """Steps of ALIGNN 4 + 4, 256."""
    return steps(replace(learner(sample, reach), facts=_facts(_graphs(sample, reach), sample)), sample, batch)


def learner(sample: Sample, reach: str) -> Learner:
    """ALIGNN 4 + 4, 256."""
    as_stated()
    model = _network()

    def prepare(part: Sample) -> tuple[Any, torch.Tensor]:
        return (*batch_torch_graph_pairs(_graphs(part, reach)), tensor(part.lattice)), tensor(part.energy)

    return Learner(model, prepare, lambda graph: model(graph)["out"], {"versions": f"alignn {version('alignn')}"})


def predictions(sample: Sample, folder: str) -> Case:
    """Energies of CIF files one by one: jarvis reader, graph, network, as its `get_prediction` does."""
    as_stated()
    model = _network().eval()
    paths = sorted(Path(folder).glob("*.cif"))

    def run() -> None:
        with torch.no_grad():
            for path in paths:
                atoms = Atoms.from_cif(str(path))
                graph = build_pure_torch_graph(atoms, **REACH["default"])
                float(model((*graph, tensor(atoms.lattice_mat)))["out"])

    return Case(run, len(paths), {"versions": f"alignn {version('alignn')}", "remark": "one structure at a time"})
