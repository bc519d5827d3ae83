"""One crystal in every kind of file: from each the same numbers, over the whole road from the file to the table."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from crystrata.elements import SYMBOLS
from crystrata.graphs.batch import collate
from crystrata.networks.config import NetworkConfig
from crystrata.networks.network import Network
from crystrata.prediction.predict import predict_files, predict_materials
from crystrata.prediction.trained_model import TrainedModel
from crystrata.presets import ENCODERS
from crystrata.structures.crystal import Crystal, Rejected
from drills.drill import Drill, Tally
from drills.probe import SETTINGS, SMALL, TASKS, demo_graphs, spread
from drills.real_crystals import demo, sample, source_in_words
from drills.rewritings import unheard

SYMPREC = 1e-2  # [A]
EIGHT_DIGITS, FIVE_DIGITS = 1e-4, 1e-2
"""Largest relative deviation: of files that hold a crystal to rounding, and of those that round it."""


def _cif(structure: Any, **how: Any) -> bytes:
    from pymatgen.io.cif import CifWriter

    return str(CifWriter(structure, **how)).encode()


def _poscar(structure: Any, *, direct: bool) -> bytes:
    from pymatgen.io.vasp import Poscar

    return Poscar(structure, sort_structure=True).get_str(direct=direct).encode()


def _ase(structure: Any, form: str) -> bytes:
    from ase import Atoms
    from ase.io import write

    file: Any = BytesIO() if form == "cif" else StringIO()
    atoms = Atoms(structure.atomic_numbers, cell=structure.lattice.matrix, pbc=True, positions=structure.cart_coords)
    write(file, atoms, format=form)
    content = file.getvalue()
    return content if isinstance(content, bytes) else content.encode()


def _jarvis(structure: Any) -> bytes:
    form = {
        "lattice_mat": structure.lattice.matrix.tolist(),
        "coords": structure.cart_coords.tolist(),
        "elements": [site.specie.symbol for site in structure],
        "cartesian": True,
    }
    return json.dumps([{"jid": "one", "atoms": form}]).encode()


@dataclass(frozen=True)
class FileForm:
    """A way to write a structure of pymatgen.

    Attributes:
        suffix: Ending of the file's name.
        write: Gives the file's content.
        tolerance: Largest relative deviation of a prediction.
    """

    suffix: str
    write: Callable[[Any], bytes]
    tolerance: float = EIGHT_DIGITS


FORMS: dict[str, FileForm] = {
    "CIF with symmetry": FileForm(".cif", lambda one: _cif(one, symprec=SYMPREC)),
    "CIF in P1": FileForm(".cif", _cif),
    "CIF in P1 of the primitive cell": FileForm(".cif", lambda one: _cif(one.get_primitive_structure())),
    "CIF with symmetry, 5 digits": FileForm(
        ".cif", lambda one: _cif(one, symprec=SYMPREC, significant_figures=5), FIVE_DIGITS
    ),
    "CIF in P1, 5 digits": FileForm(".cif", lambda one: _cif(one, significant_figures=5), FIVE_DIGITS),
    "CIF of ASE": FileForm(".cif", lambda one: _ase(one, "cif")),
    "POSCAR": FileForm(".vasp", lambda one: _poscar(one, direct=True)),
    "POSCAR, Cartesian": FileForm(".vasp", lambda one: _poscar(one, direct=False)),
    "extended xyz": FileForm(".xyz", lambda one: _ase(one, "extxyz")),
    "JSON of pymatgen": FileForm(".json", lambda one: one.to_json().encode()),
    "JSON of ASE": FileForm(".json", lambda one: _ase(one, "json")),
    "JSON of JARVIS": FileForm(".json", _jarvis),
}
"""Name -> form."""


def try_files(quick: bool, scratch: Path, tally: Tally) -> None:
    """Count each crystal in each file form; it holds where every encoder gives it the numbers of the crystal itself."""
    crystals = sample(quick, 150)
    structures = [_refined(crystal) for crystal in crystals]
    refined = [
        Crystal.create(crystal.id, structure.lattice.matrix, structure.atomic_numbers, structure.frac_coords)
        for crystal, structure in zip(crystals, structures, strict=True)
    ]
    files = {name: _written(scratch / f"form_{row}", name, structures) for row, name in enumerate(FORMS)}
    worst = {name: [(0.0, "")] * len(crystals) for name in FORMS}
    for encoder in ENCODERS if not quick else ("e3nn", "cgcnn"):
        model = untrained_model(encoder)
        wanted, spreads = predict_materials(model, list(refined)), spreads_of(model)
        for name, form in FORMS.items():
            found = predict_files(model, files[name])
            for row, (value, column) in enumerate(_differences(found, wanted, spreads)):
                worst[name][row] = max(worst[name][row], (value / form.tolerance, f"{encoder}, {column}: {value:.2g}"))
    for name, each in worst.items():
        for crystal, (excess, words) in zip(crystals, each, strict=True):
            tally.check(excess < 1, f"{crystal.id} as {name}: {words}")


def _refined(crystal: Crystal) -> Any:
    """Return the conventional cell with the symmetry exact, else a file with symmetry could not be the same crystal."""
    from pymatgen.core import Structure
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    symbols = [SYMBOLS[number - 1] for number in crystal.numbers]
    structure = Structure(crystal.lattice, symbols, crystal.frac)
    with unheard():
        return SpacegroupAnalyzer(structure, symprec=SYMPREC).get_refined_structure()


def _written(folder: Path, name: str, structures: Sequence[Any]) -> list[Path]:
    folder.mkdir()
    files = [folder / f"{row:04d}{FORMS[name].suffix}" for row in range(len(structures))]
    with unheard():
        for file, structure in zip(files, structures, strict=True):
            file.write_bytes(FORMS[name].write(structure))
    return files


def untrained_model(encoder: str) -> TrainedModel:
    """Return a model with random weights whose predictions differ from crystal to crystal, in float32."""
    torch.manual_seed(0)
    network = Network(NetworkConfig(TASKS, encoder, SMALL[encoder], SETTINGS))
    graphs, (rows,) = demo_graphs(torch.float32)
    with torch.no_grad():
        spread(map(network.head, network.task_names), network.encode_crystals(collate(graphs, rows)))
    return TrainedModel(network, Path("untrained"), {"properties": network.task_names})


def spreads_of(model: TrainedModel) -> pd.Series:
    """Return the standard deviation of each predicted number over demo crystals; none of those that a frame decides."""
    table = predict_materials(model, list[Crystal | Rejected](demo().crystals())[::12]).select_dtypes("number")
    return table[[column for column in table if not column.endswith((" xx", " yy", " zz"))]].std()


def _differences(found: pd.DataFrame, wanted: pd.DataFrame, spreads: pd.Series) -> list[tuple[float, str]]:
    """Return the largest relative difference of each row and its column; a file that is refused differs without end."""
    numbers = wanted[list(spreads.index)]
    size = numbers.abs().clip(lower=spreads, axis=1)
    off = ((found[numbers.columns] - numbers).abs() / size).fillna(np.inf)
    same = found["formula"] == wanted["formula"]
    return [
        (value, column) if same[row] else (np.inf, str(found["error"][row] or found["formula"][row]))
        for row, (value, column) in enumerate(zip(off.max(axis=1), off.idxmax(axis=1), strict=True))
    ]


DRILLS = (
    Drill(
        "file_forms",
        "CIF with symmetry and in P1, POSCAR, extended xyz, JSON of three kinds: the same predictions, relative 1e-4 "
        f"in float32; 1e-2 from files of 5 digits; {source_in_words()}",
        try_files,
    ),
)
