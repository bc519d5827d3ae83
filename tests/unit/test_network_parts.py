"""Parts of a network: some of its heads, scalings, bases and steps, with numbers made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from known_crystals import CRYSTALS, SETTINGS
from known_tasks import dataset_of, network_of

from crystrata.datasets.batch import Targets
from crystrata.datasets.sampling import Step
from crystrata.elements import COVALENT_RADII
from crystrata.errors import UsageError
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.batch import collate
from crystrata.graphs.neighbours import build_graphs
from crystrata.networks.geometry import RelativeBasis
from crystrata.networks.heads.classification import ClassificationHead
from crystrata.networks.heads.sequence import RnnHead, step_grid
from crystrata.networks.latent import Latent
from crystrata.tasks import Task


def test_a_network_of_some_heads_predicts_the_same() -> None:
    dataset = dataset_of()
    network = network_of(dataset).eval()
    (batch,) = dataset.batches(Step(dataset.train, len(dataset.train)))
    one = network.only(["energy"]).eval()
    assert one.task_names == ("energy",)
    with torch.no_grad():
        torch.testing.assert_close(one(batch)["energy"], network(batch)["energy"], rtol=0, atol=0)


def test_steps_of_a_sequence_are_scaled_by_its_own_length() -> None:
    present = torch.tensor([[True, True, True], [True, True, False], [True, False, False]])
    assert step_grid(present, torch.zeros(3, 4)).where(present, torch.nan).nan_to_num(-1).tolist() == [
        [0, 0.5, 1], [0, 1, -1], [0, -1, -1],
    ]  # fmt: skip


def test_a_sequence_without_targets_has_as_many_steps_as_are_set_or_is_refused() -> None:
    task = Task("trace", "sequence", columns=("y",), head={"subtype": "rnn", "hidden": 6})
    latent = Latent(torch.zeros(2, 5))
    grid = GraphSettings()
    assert RnnHead(task, 5, grid, hidden=6, seq_len=4)(latent).shape == (2, 4)
    with pytest.raises(UsageError, match="give those that are wanted, or set seq_len"):
        RnnHead(task, 5, grid, hidden=6)(latent)


def test_gaussians_of_relative_length_are_one_step_apart_and_wide() -> None:
    basis, (crystal,) = RelativeBasis(5), CRYSTALS[1:2]
    graphs, _ = build_graphs([(0, crystal)], SETTINGS)
    batch = collate(graphs, np.array([0]))
    radius = COVALENT_RADII[10] + COVALENT_RADII[16]  # of sodium and chlorine
    between = (batch.numbers[batch.centre] + batch.numbers[batch.neighbour]) == 28
    centres = torch.linspace(0.6, 2.7, 5)
    for place, centre in enumerate(centres):
        values = basis(batch, torch.full((len(batch.vector),), float(centre) * radius))[between][0]
        wanted = torch.exp(-((torch.arange(5.0) - place) ** 2))
        torch.testing.assert_close(values, wanted, rtol=1e-4, atol=1e-6)


def test_descriptors_are_scaled_by_known_training_values_and_constant_ones_by_one() -> None:
    dataset = dataset_of()
    network = network_of(dataset)
    width = network.descriptor_mean.shape[0]
    descriptors = torch.zeros(4, width)
    descriptors[:, 0] = torch.tensor([1.0, 3.0, torch.nan, torch.nan])
    descriptors[:, 1] = 7.0
    descriptors[:, 2] = torch.nan
    descriptors[:, 3] = torch.tensor([torch.nan, torch.nan, 5.0, torch.nan])
    network.fit_scaling({}, descriptors=descriptors)
    assert network.descriptor_mean[:4].tolist() == [2.0, 7.0, 0.0, 5.0]
    assert network.descriptor_scale[:4].tolist() == [1.0, 1.0, 1.0, 1.0]
    network.fit_scaling({}, descriptors=torch.tensor([[1.0], [7.0]]).expand(2, width).contiguous())
    assert network.descriptor_scale[0].item() == 3.0


def test_the_error_of_a_class_is_one_where_another_was_predicted() -> None:
    torch.manual_seed(0)
    head = ClassificationHead(
        Task("kind", "classification", columns=("k",), classes=("a", "b", "c")), 5, GraphSettings()
    )
    latent = Latent(torch.randn(4, 5))
    output = head(latent)
    found = head.predict(output, latent)
    labels = found.clone()
    labels[1] = (labels[1] + 1) % 3
    known = torch.tensor([True, True, False, True])
    assert head.errors(output, latent, Targets(labels, known)).tolist() == [0.0, 1.0, 0.0]
