"""Symmetric copies of atoms: one stands for all in training. N atoms, B crystals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import spglib
import torch
from known_crystals import CRYSTALS, SETTINGS, all_crystals, displaced, jarvis_crystals, permuted, turned
from torch import Tensor

from crystrata.datasets.batch import Batch, Targets
from crystrata.graphs.batch import CrystalBatch, collate
from crystrata.jarvis_properties import GROUPS, property_tasks, trained_tasks
from crystrata.networks.config import NetworkConfig
from crystrata.networks.network import Network
from crystrata.structures.crystal import Crystal
from drills.exact_graphs import graphs_of
from drills.rewritings import supercell

DISTINCT = {"silicon": 1, "NaCl": 2, "GaAs": 2, "quartz": 2, "SrTiO3": 3, "triclinic": 5, "magnesium": 1, "copper": 1}
PROPERTIES = tuple(task.name for task in trained_tasks(property_tasks(GROUPS["all9"])))
WHOLE = np.array([0, 3, 5])


def copies(crystal: Crystal) -> list[int]:
    """The first copy of each atom."""
    return graphs_of([crystal], SETTINGS).copy_of.tolist()


@pytest.mark.parametrize("crystal", CRYSTALS, ids=lambda crystal: crystal.id)
def test_copies_are_the_symmetry_orbits(crystal: Crystal) -> None:
    big = permuted(supercell(turned(crystal), 2 * np.eye(3, dtype=int)))
    for one in (crystal, big):
        first = copies(one)
        assert len(set(first)) == DISTINCT[crystal.id]
        assert all(one.numbers[atom] == one.numbers[i] for i, atom in enumerate(first))
        assert all(first[atom] == atom <= i for i, atom in enumerate(first))


def test_a_displaced_atom_is_no_copy() -> None:
    cell = supercell(CRYSTALS[0], 2 * np.eye(3, dtype=int))
    assert len(set(copies(displaced(cell, [0.0, 0.0, 1e-7])))) == 1
    assert len(set(copies(displaced(cell, [0.02, 0.05, 0.11])))) > 1
    everything = replace(cell, frac=cell.frac + 0.02 * np.random.default_rng(0).normal(size=cell.frac.shape))
    assert copies(everything) == list(range(len(cell)))


@pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")
def test_real_copies_are_of_one_orbit() -> None:
    crystals = jarvis_crystals(200)
    if not crystals:
        pytest.skip("CRYSTRATA_JARVIS is not set")
    graphs = graphs_of(crystals, SETTINGS)
    wrong = 0
    for crystal, first, last in zip(crystals, graphs.atom_offsets, graphs.atom_offsets[1:], strict=False):
        found = spglib.get_symmetry_dataset((crystal.lattice, crystal.frac, crystal.numbers), symprec=0.02)
        orbit = found.equivalent_atoms
        wrong += any(orbit[i] != orbit[atom] for i, atom in enumerate(graphs.copy_of[first:last]))
    assert wrong <= 2  # layers stacked so that atoms of two orbits have the same surroundings as far as they see
    within = np.arange(len(graphs.numbers)) - np.repeat(graphs.atom_offsets[:-1], graphs.atom_counts)
    assert (graphs.copy_of == within).mean() < 0.7


def test_a_batch_of_distinct_atoms() -> None:
    graphs = graphs_of(CRYSTALS, SETTINGS)
    chosen = np.array([4, 3, 1])
    batch = collate(graphs, chosen, angles=True, distinct=True, whole=np.array([0, 2]))
    assert batch.atom_counts.tolist() == [3, 2, 2]
    assert batch.crystal.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert batch.numbers.tolist() == [38, 22, 8, 14, 8, 11, 17]
    torch.testing.assert_close(batch.share, torch.tensor([1 / 5, 1 / 5, 3 / 5, 1 / 3, 2 / 3, 1 / 2, 1 / 2]))
    full = collate(graphs, chosen, angles=True)
    assert full.share.tolist() == pytest.approx([1 / 5] * 5 + [1 / 9] * 9 + [1 / 2] * 2)
    kept = [0, 1, 2, 5, 8, 14, 15]  # of the atoms of the full batch
    stands_for = [0, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4, 4, 4, 5, 6]
    for place, atom in enumerate(kept):
        here, there = batch.centre == place, full.centre == atom
        assert torch.equal(batch.vector[here], full.vector[there])
        assert batch.neighbour[here].tolist() == [stands_for[j] for j in full.neighbour[there].tolist()]
    edges = torch.nonzero(torch.isin(full.centre, torch.tensor(kept))).squeeze(1)
    assert torch.equal(batch.cosine, full.cosine[torch.isin(full.pair[0], edges)])
    assert torch.equal(edges[batch.pair], full.pair[:, torch.isin(full.pair[0], edges)])
    assert batch.whole is not None
    assert batch.whole.rows.tolist() == [0, 2]
    assert batch.whole.atoms.tolist() == [0, 1, 2, 2, 2, 5, 6]
    assert batch.whole.batch.numbers.tolist() == [38, 22, 8, 8, 8, 11, 17]


def test_a_moved_batch_takes_its_whole_crystals_along() -> None:
    batch = collate(graphs_of(CRYSTALS, SETTINGS), np.arange(8), distinct=True, whole=WHOLE).to("cpu", torch.float64)
    assert batch.whole is not None
    assert batch.share.dtype == batch.whole.batch.vector.dtype == torch.float64
    assert batch.whole.rows.dtype == torch.int64


@pytest.mark.parametrize("encoder", ["e3nn", "cgcnn"])
def test_losses_and_gradients_are_those_of_all_atoms(encoder: str) -> None:
    crystals = all_crystals()
    graphs, rows = graphs_of(crystals, SETTINGS), np.arange(len(crystals))
    torch.manual_seed(0)
    small = {"channels": 16, "layers": 2}
    heads = dict.fromkeys(("dielectric", "piezoelectric"), "scalar") if encoder == "cgcnn" else {}
    network = Network(NetworkConfig(property_tasks(PROPERTIES, heads), encoder, small))
    form = network.training_form
    assert form.distinct
    assert form.whole == (("dielectric", "piezoelectric") if encoder == "e3nn" else ())
    mask = torch.ones(len(crystals), len(PROPERTIES), dtype=torch.bool)
    for name in form.whole:
        mask[:, PROPERTIES.index(name)] = torch.isin(torch.arange(len(crystals)), torch.from_numpy(WHOLE))
    whole = WHOLE if form.whole else None
    exact = losses(network, collate(graphs, rows), mask)
    short = losses(network, collate(graphs, rows, distinct=True, whole=whole), mask)
    for one, other in zip(short, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-4, atol=2e-4 * float(other.abs().max()) + 1e-6)


def losses(network: Network, batch: CrystalBatch, mask: Tensor) -> list[Tensor]:
    """The loss of each property and the gradient on each weight."""
    targets = {task.name: Targets(torch.ones(len(batch)), mask[:, column]) for column, task in enumerate(network.tasks)}
    sums = network.loss_sums(Batch(torch.arange(len(batch)), targets, crystals=batch))
    found = torch.stack(list(sums.values()))
    gradients = torch.autograd.grad(found.sum(), list(network.parameters()), allow_unused=True)
    return [found.detach(), *(gradient for gradient in gradients if gradient is not None)]


def test_features_that_turn_need_all_atoms() -> None:
    assert not Network(NetworkConfig(property_tasks(["dielectric"]), "plain_e3nn")).training_form.distinct
