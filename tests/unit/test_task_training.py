"""Compositions for the trainer: what an epoch sees, heads that come and go, gaps in descriptors and labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from known_crystals import SETTINGS
from known_tasks import TASKS, dataset_of, network_of

from crystrata.compositions.descriptors import descriptor_source
from crystrata.datasets.sampling import Step
from crystrata.errors import UsageError
from crystrata.networks.config import NetworkConfig
from crystrata.networks.loss_weights import LossWeights
from crystrata.tasks import Task

HALF = ({**TASKS[0], "task_masking_ratio": 0.5}, TASKS[3])


def seen(dataset: object, epoch: int | None, name: str = "energy") -> set[int]:
    """Training rows whose label an epoch sees."""
    (batch,) = dataset.batches(Step(dataset.train, 100, epoch))  # type: ignore[attr-defined]
    return set(batch.rows[batch.targets[name].known].tolist())


def test_each_epoch_sees_other_labels_and_an_evaluation_all() -> None:
    dataset = dataset_of(HALF)
    every = seen(dataset, None)
    assert len(every) == dataset.known["energy"][dataset.train].sum()
    first, second = seen(dataset, 0), seen(dataset, 1)
    assert len(first) == len(second) == round(0.5 * len(every))
    assert first < every
    assert first != second
    assert seen(dataset, 0) == first  # also after another epoch
    assert seen(dataset_of(HALF[:1]), 0) == first  # whatever other tasks there are
    same = dataset_of(HALF, redraw=False)
    assert seen(same, 0) == seen(same, 1) == first
    assert len(seen(dataset_of([{**TASKS[0], "task_masking_ratio": 3 / len(every)}, TASKS[3]]), 5)) == 3


def test_a_task_without_a_label_in_a_step_pulls_on_nothing() -> None:
    dataset = dataset_of()
    without = np.flatnonzero(~dataset.known["energy"])
    (batch,) = dataset.batches(Step(without, 100, 0))
    assert not batch.targets["energy"].known.any()
    network = network_of(dataset, latent_stage="deposit", deposit_width=6)
    sums = network.loss_sums(batch)
    assert float(sums["energy"].detach()) == 0
    gradients = torch.autograd.grad(sums["energy"], list(network.parameters()), allow_unused=True)
    assert all(one is None or not one.any() for one in gradients)
    assert float(network.step_counts([batch])[0]) == 0


def test_labels_are_gathered_by_row() -> None:
    dataset = dataset_of()
    rows = np.array([40, 3, 17])
    (batch,) = dataset.batches(Step(rows, 3))
    labels = dataset.labels["heat"]
    for place, row in enumerate(rows):
        wanted = labels.values[labels.offsets[row] : labels.offsets[row + 1]]
        chosen = batch.targets["heat"].sample == place
        assert batch.targets["heat"].values[chosen].tolist() == wanted.tolist()
        sequence = batch.targets["trace"]
        assert sequence.values[place][sequence.present[place]].tolist() == wanted.tolist()
    assert batch.targets["moduli"].values.shape == (3, 2)


def test_a_task_can_be_added_and_removed() -> None:
    dataset = dataset_of()
    network = network_of(dataset).eval()
    (batch,) = dataset.batches(Step(np.arange(6), 6))
    before = network(batch)
    network.add_task(Task("second", "scalar", columns=("energy",)))
    assert network.task_names[-1] == "second"
    after = network(batch)
    assert set(after) - set(before) == {"second"}
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert NetworkConfig.from_dict(network.config.as_dict()) == network.config
    with pytest.raises(UsageError, match="two tasks are named 'energy'"):
        network.add_task(Task("energy", "scalar", columns=("e",)))
    with pytest.raises(UsageError, match=r"'a\.b' cannot have this name"):
        network.add_task(Task("a.b", "scalar", columns=("e",)))
    assert len(network.heads) == len(network.config.tasks) == 7
    network.remove_tasks("second", "energy")
    assert NetworkConfig.from_dict(network.config.as_dict()) == network.config
    left = network(batch)
    assert set(left) == set(before) - {"energy"}
    assert all(torch.equal(left[name], before[name]) for name in left)
    with pytest.raises(UsageError, match="unknown task 'enrgy'"):
        network.remove_tasks("heat", "enrgy")
    assert "heat" in network.heads


def test_gaps_of_the_descriptor_count_as_its_mean_and_are_not_learned() -> None:
    dataset = dataset_of()
    network = network_of(dataset).eval()
    (batch,) = dataset.batches(Step(np.arange(4), 4))
    descriptor = batch.descriptor.clone()
    descriptor[:, 0] = torch.nan
    holed = type(batch)(**{**vars(batch), "descriptor": descriptor})
    filled = type(batch)(
        **{**vars(batch), "descriptor": descriptor.where(descriptor == descriptor, network.descriptor_mean)}
    )
    assert torch.equal(network.encode(holed).pooled, network.encode(filled).pooled)
    assert float(network.step_counts([holed])[-1]) == 4 * 11
    assert bool(network.validate(holed)[0]["rebuilt"].isfinite().all())


def test_a_composition_without_a_crystal_is_described_by_itself() -> None:
    dataset = dataset_of(structures=True)
    options = {"structure": "cgcnn", "structure_settings": {"channels": 8, "layers": 1}, "graph": SETTINGS}
    network = network_of(dataset, **options).eval()
    (batch,) = dataset.batches(Step(np.arange(10), 10), network.training_form)
    assert batch.crystal_rows.tolist() == [0, 5]
    alone = type(batch)(**{**vars(batch), "crystals": None, "crystal_rows": batch.crystal_rows[:0]})
    differs = (network.encode(batch).pooled != network.encode(alone).pooled).any(1)
    assert differs.nonzero().flatten().tolist() == [0, 5]


def test_losses_without_labels_need_their_crystals() -> None:
    with pytest.raises(UsageError, match="choose a graph encoder"):
        network_of(dataset_of(), self_supervised=("contrastive",))
    with pytest.raises(UsageError, match="did you mean 'masked_features'"):
        network_of(dataset_of(), self_supervised=("masked_feature",))


def test_widths_of_a_head_are_checked() -> None:
    spec = {**TASKS[0], "dims": [8, 32, 1]}
    assert network_of(dataset_of([spec])).head("energy").layers.hidden[0].first[0].out_features == 32  # type: ignore[union-attr, index]
    with pytest.raises(UsageError, match="from the latent, 8, to 1"):
        network_of(dataset_of([{**TASKS[0], "dims": [9, 32, 1]}]))


def test_sums_of_weights_below_one_are_counts_too() -> None:
    balance = LossWeights(("family", "hidden"), learned=True, static=("hidden",))
    sums = {"family": torch.tensor(0.2), "hidden": torch.tensor(3.0)}
    loss = balance(sums, {"family": torch.tensor(0.4), "hidden": torch.tensor(0.0)})
    assert float(loss.detach()) == pytest.approx(0.5 * 0.5 + 3.0)
    assert set(balance.sigmas()) == {"family"}


def test_errors_are_measured_by_the_training_labels() -> None:
    dataset = dataset_of()
    network, labels = network_of(dataset), dataset.training_targets()
    energy = labels["energy"]
    known = energy.values[energy.known]
    assert network.head("energy").error_scale(energy) == pytest.approx(
        float((known - known.mean()).abs().mean()), rel=1e-5
    )
    classes = labels["family"].values[labels["family"].known]
    assert network.head("family").error_scale(labels["family"]) == pytest.approx(
        1 - float(classes.bincount().max()) / len(classes)
    )
    assert network.head("rebuilt").error_scale(energy) == 1


def test_descriptors_are_found_by_name() -> None:
    assert descriptor_source("kernel_mean", grid=9).names[8].endswith("[8]")
    with pytest.raises(UsageError, match="did you mean 'statistics'"):
        descriptor_source("statistic")
    with pytest.raises(UsageError, match="did you mean 'grid'"):
        descriptor_source("kernel_mean", grids=9)
