"""Crystals that the tests share, made in code, and the ways to write one crystal differently. N atoms, B crystals."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
import torch

from crystrata.graph_settings import GraphSettings
from crystrata.graphs.arrays import offsets
from crystrata.graphs.batch import CrystalBatch, collate
from crystrata.sources.table import CrystalTable
from crystrata.structures.crystal import Crystal
from drills.exact_graphs import exact_graphs, graphs_of

SETTINGS = GraphSettings()
FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
SUPERCELLS = {
    "doubled": np.array([[2, 0, 0], [0, 1, 0], [0, 0, 1]]),
    "skewed": np.array([[1, 1, 0], [0, 1, 0], [-1, 2, 2]]),
    "another choice of vectors": np.array([[1, 1, 0], [0, 1, -1], [0, 0, 1]]),
}
Change = Callable[[Crystal], Crystal]


def _rhombic(a: float, b: float, c: float, alpha: float, beta: float, gamma: float) -> np.ndarray:
    """Lattice rows (3, 3) of lengths [A] and angles [degrees]."""
    ca, cb, cg = np.cos(np.radians([alpha, beta, gamma]))
    sg = np.sin(np.radians(gamma))
    y = (ca - cb * cg) / sg
    return np.array([[a, 0, 0], [b * cg, b * sg, 0], [c * cb, c * y, c * np.sqrt(1 - cb**2 - y**2)]])


def _quartz() -> Crystal:
    u, x, y, z = 0.4697, 0.4135, 0.2669, 0.1191
    silicon = [(u, 0, 2 / 3), (0, u, 1 / 3), (-u, -u, 0)]
    oxygen = [(x, y, z), (-y, x - y, z + 2 / 3), (-x + y, -x, z + 1 / 3),
              (y, x, -z), (x - y, -y, -z + 1 / 3), (-x, -x + y, -z + 2 / 3)]  # fmt: skip
    return Crystal.create("quartz", _rhombic(4.913, 4.913, 5.405, 90, 90, 120), [14] * 3 + [8] * 6, silicon + oxygen)


def _perovskite() -> Crystal:
    frac = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]
    return Crystal.create("SrTiO3", 3.905 * np.eye(3), [38, 22, 8, 8, 8], frac)


def _triclinic() -> Crystal:
    lattice = _rhombic(5.1, 5.9, 6.7, 81, 97, 74)
    frac = [(0.03, 0.11, 0.07), (0.52, 0.36, 0.21), (0.24, 0.83, 0.55), (0.77, 0.64, 0.88), (0.61, 0.08, 0.62)]
    return Crystal.create("triclinic", lattice, [19, 26, 16, 16, 8], frac)


CRYSTALS: tuple[Crystal, ...] = (
    Crystal.create("silicon", 5.431 * FCC, [14, 14], [(0, 0, 0), (0.25, 0.25, 0.25)]),
    Crystal.create("NaCl", 5.640 * FCC, [11, 17], [(0, 0, 0), (0.5, 0.5, 0.5)]),
    Crystal.create("GaAs", 5.653 * FCC, [31, 33], [(0, 0, 0), (0.25, 0.25, 0.25)]),
    _quartz(),
    _perovskite(),
    _triclinic(),
    Crystal.create("magnesium", _rhombic(3.209, 3.209, 5.211, 90, 90, 120), [12, 12],
                   [(1 / 3, 2 / 3, 0.25), (2 / 3, 1 / 3, 0.75)]),
    Crystal.create("copper", 3.615 * FCC, [29], [(0, 0, 0)]),
)  # fmt: skip
"""Eight crystals of distinct compositions, primitive cells; silicon, NaCl, GaAs and copper are face-centred."""

LONE_ATOM = Crystal.create("alone", 12 * np.eye(3), [18], [(0.2, 0.3, 0.4)])


@cache
def jarvis_crystals(count: int = 20) -> tuple[Crystal, ...]:
    """Crystals of at most 10 atoms from all over the file that CRYSTRATA_JARVIS names; none where it names none."""
    named = os.environ.get("CRYSTRATA_JARVIS")
    if not named:
        return ()
    columns = ["jid", "natoms", "lattice", "atomic_numbers", "frac_coords"]
    rows = pd.read_parquet(named, columns=columns).query("natoms <= 10")
    rows = rows.iloc[np.linspace(0, len(rows) - 1, count).astype(int)]
    return tuple(Crystal.create(row.jid, row.lattice, row.atomic_numbers, row.frac_coords) for row in rows.itertuples())


def all_crystals() -> tuple[Crystal, ...]:
    """The fixed crystals, and real ones where there are any."""
    return CRYSTALS + jarvis_crystals()


def rotation(*, mirrored: bool = False) -> np.ndarray:
    """A fixed rotation in general position, (3, 3); followed by a reflection if `mirrored`."""
    q, r = np.linalg.qr(np.array([[0.3, -1.2, 0.7], [1.1, 0.4, -0.2], [-0.5, 0.9, 1.6]]))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q) * (-1 if mirrored else 1)


def turned(crystal: Crystal, *, mirrored: bool = False) -> Crystal:
    """The crystal rotated, or rotated and reflected."""
    return replace(crystal, lattice=crystal.lattice @ rotation(mirrored=mirrored).T)


def translated(crystal: Crystal) -> Crystal:
    """All atoms moved by one vector, some out of the cell."""
    return replace(crystal, frac=crystal.frac + np.array([0.371, -0.644, 2.183]))


def permuted(crystal: Crystal) -> Crystal:
    """The atoms in another order."""
    order = np.random.default_rng(len(crystal)).permutation(len(crystal))[::-1]
    return replace(crystal, frac=crystal.frac[order], numbers=crystal.numbers[order])


def in_other_images(crystal: Crystal) -> Crystal:
    """Each atom in another periodic image of the cell."""
    shifts = np.random.default_rng(len(crystal)).integers(-3, 4, size=crystal.frac.shape)
    return replace(crystal, frac=crystal.frac + shifts)


def displaced(crystal: Crystal, by: Sequence[float] | np.ndarray, atom: int = 0) -> Crystal:
    """The crystal with one atom moved by a Cartesian vector [A]."""
    frac = crystal.frac.copy()
    frac[atom] += np.asarray(by) @ np.linalg.inv(crystal.lattice)
    return replace(crystal, frac=frac)


def angle_pairs(edge_counts: np.ndarray, angle_counts: np.ndarray) -> np.ndarray:
    """The two edge ids of every angle pair, (2, T): the nearest edges of each atom two by two, written out."""
    nearest = zip(offsets(edge_counts), angle_counts, strict=False)
    pairs = [pair for start, n in nearest for pair in combinations(range(start, start + n), 2)]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2).T


def batch_of(crystals: Sequence[Crystal], settings: GraphSettings = SETTINGS) -> CrystalBatch:
    """The batch that training sees: float32 geometry, angles rounded to 16 bits."""
    return collate(graphs_of(crystals, settings), np.arange(len(crystals)), angles=True)


def exact_batch_of(crystals: Sequence[Crystal], settings: GraphSettings = SETTINGS) -> CrystalBatch:
    """The same batch with vectors, radii and cosines in float64, computed from the crystals without rounding."""
    graphs = exact_graphs(graphs_of(crystals, settings), crystals, settings)
    unit = graphs.vector / np.linalg.norm(graphs.vector, axis=1, keepdims=True)
    first, second = angle_pairs(graphs.edge_counts, graphs.angle_counts)
    batch = collate(graphs, np.arange(len(crystals)), angles=True)
    return replace(batch, cosine=torch.from_numpy((unit[first] * unit[second]).sum(1)))


def table_of(crystals: Sequence[Crystal], digest: str = "d" * 64, **labels: object) -> CrystalTable:
    """A table of crystals in memory; labels by column."""
    index = pd.Index([crystal.id for crystal in crystals], name="id")
    frame = pd.DataFrame({"formula": [crystal.formula for crystal in crystals], **labels}, index=index)
    return CrystalTable("known", digest, frame, lambda: iter(crystals))
