"""Neighbour lists within a radius, by the libraries of the field: pymatgen, matscipy, vesin."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from peers.sample import Sample
from peers.worker import Case


def _case(name: str, search: Callable[[Any], int], systems: list[Any], sample: Sample) -> Case:
    def run() -> None:
        for system in systems:
            search(system)

    edges = sum(search(system) for system in systems)
    return Case(
        run, len(systems), {"edges per atom": edges / len(sample.numbers), "versions": f"{name} {version(name)}"}
    )


def pymatgen(sample: Sample, cutoff: float) -> Case:
    """`Structure.get_neighbor_list`."""
    from pymatgen.core import Structure

    structures = [Structure(one.lattice[0], one.numbers.tolist(), one.frac) for one in sample.split()]
    return _case("pymatgen", lambda structure: len(structure.get_neighbor_list(cutoff)[0]), structures, sample)


def matscipy(sample: Sample, cutoff: float) -> Case:
    """`matscipy.neighbours.neighbour_list` with indices, distances and shifts."""
    from ase import Atoms
    from matscipy.neighbours import neighbour_list

    systems = [
        Atoms(numbers=one.numbers, positions=one.positions, cell=one.lattice[0], pbc=True) for one in sample.split()
    ]
    return _case("matscipy", lambda atoms: len(neighbour_list("ijdS", atoms, cutoff)[0]), systems, sample)


def vesin(sample: Sample, cutoff: float) -> Case:
    """`vesin.NeighborList` with indices, shifts and distances."""
    from vesin import NeighborList

    systems = [(one.positions, one.lattice[0]) for one in sample.split()]
    calculator = NeighborList(cutoff=cutoff, full_list=True)

    def search(system: Any) -> int:
        positions, cell = system
        return len(calculator.compute(points=positions, box=cell, periodic=True, quantities="ijSd")[0])

    return _case("vesin", search, systems, sample)
