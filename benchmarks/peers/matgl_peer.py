"""TensorNet (Simeon and De Fabritiis, 2023) of matgl: training steps on Crystrata's edges, predictions from files."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from matgl.config import DEFAULT_ELEMENTS
from matgl.ext.pymatgen import Structure2Graph
from matgl.models import TensorNet
from pymatgen.core import Element, Structure
from torch_geometric.data import Data

from peers.sample import Sample
from peers.torch_settings import Learner, as_stated, steps, tensor
from peers.worker import Case


def training(sample: Sample, units: int, batch: int) -> Case:
    """Steps of TensorNet."""
    return steps(learner(sample, units), sample, batch)


def learner(sample: Sample, units: int) -> Learner:
    """TensorNet with two blocks."""
    as_stated()
    torch.manual_seed(0)
    elements = tuple(Element.from_Z(int(number)).symbol for number in np.unique(sample.numbers))
    model = TensorNet(element_types=elements, units=units, cutoff=8.0, is_intensive=False)
    kinds = np.searchsorted(np.unique(sample.numbers), np.arange(120))
    facts = {"edges per atom": sample.edges_per_atom, "versions": f"matgl {version('matgl')}"}
    return Learner(
        model,
        lambda part: (_batch(part, kinds), tensor(part.energy)),
        lambda graph: model(graph) / graph.counts,
        facts,
    )


def _batch(sample: Sample, kinds: np.ndarray) -> Data:
    return Data(
        node_type=tensor(kinds[sample.numbers], torch.int64),
        pos=tensor(sample.positions),
        edge_index=tensor(np.stack([sample.centre, sample.neighbour_in_sample]), torch.int64),
        pbc_offshift=tensor(sample.shift),
        batch=tensor(sample.crystal, torch.int64),
        num_graphs=len(sample),
        counts=tensor(sample.atom_counts),
    )


def predictions(sample: Sample, folder: str) -> Case:
    """Energies of CIF files one by one: pymatgen reader and `predict_structure`; an untrained network."""
    as_stated()
    warnings.filterwarnings("ignore")
    elements = tuple(dict.fromkeys([*DEFAULT_ELEMENTS, *(Element.from_Z(z).symbol for z in range(1, 104))]))
    model = TensorNet(element_types=elements, units=64, cutoff=5.0).eval()
    converter = Structure2Graph(element_types=elements, cutoff=5.0)
    paths = sorted(Path(folder).glob("*.cif"))

    def run() -> None:
        for path in paths:
            float(model.predict_structure(Structure.from_file(path), graph_converter=converter))

    facts = {"versions": f"matgl {version('matgl')}", "remark": "one structure at a time, neighbours within 5 A"}
    return Case(run, len(paths), facts)
