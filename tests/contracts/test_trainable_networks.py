"""What the trainer relies on, of every network that it trains: crystals, compositions, and both together."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from known_crystals import CRYSTALS, SETTINGS, table_of
from known_tasks import dataset_of, network_of
from rich.console import Console
from torch import Tensor

from crystrata.datasets.batch import Batch
from crystrata.datasets.data_module import BatchDataModule
from crystrata.datasets.dataset import CrystalPropertyDataset, MaterialDataset
from crystrata.datasets.sampling import Step
from crystrata.datasets.splits import Split
from crystrata.jarvis_properties import property_tasks
from crystrata.networks.config import NetworkConfig
from crystrata.networks.loss_weights import LossWeights
from crystrata.networks.network import Network
from crystrata.networks.training_record import TrainingRecord
from crystrata.networks.weights import pack_network, unpack_single
from crystrata.training.module import OptimizerSettings, TrainingModule

PROPERTIES = ("formation_energy", "band_gap")


@dataclass(frozen=True)
class Case:
    """A network in double precision with data to train on."""

    network: Network
    dataset: MaterialDataset

    def batches(self, rows: np.ndarray, part: int, epoch: int | None = 0) -> list[Batch]:
        """The micro-batches of a step."""
        return [to_double(batch) for batch in self.dataset.batches(Step(rows, part, epoch), self.network.training_form)]


def to_double(batch: Batch) -> Batch:
    """Return a batch whose floating-point parts have double precision."""

    def move(part: Tensor) -> Tensor:
        return part.double() if part.is_floating_point() else part

    return batch.moved(move)


def crystals_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    energy = np.array([-1.0, np.nan, -0.3, 0.2, -2.0, np.nan, 0.4, 0.0])
    table = table_of(CRYSTALS[:8], formation_energy_peratom=energy, optb88vdw_bandgap=np.arange(8) / 2)
    dataset = CrystalPropertyDataset(table, tmp_path_factory.mktemp("stores"), PROPERTIES, SETTINGS)
    torch.manual_seed(0)
    network = Network(NetworkConfig(property_tasks(PROPERTIES), "cgcnn", {"channels": 8, "layers": 1}, SETTINGS))
    network.fit_scaling(dataset.training_targets(), fractions=dataset.fractions(np.arange(len(dataset))))
    return Case(network.double(), dataset)


def compositions_case(_: pytest.TempPathFactory) -> Case:
    dataset = dataset_of()
    return Case(network_of(dataset, latent_stage="tanh").double(), dataset)


def fusion_case(_: pytest.TempPathFactory) -> Case:
    dataset = dataset_of(structures=True)
    options = {"structure": "cgcnn", "structure_settings": {"channels": 8, "layers": 1}, "graph": SETTINGS}
    terms = ("masked_features", "cross_reconstruction")
    network = network_of(dataset, self_supervised=terms, modality_dropout=0.0, **options)
    return Case(network.double(), dataset)


@pytest.fixture(scope="module", params=[crystals_case, compositions_case, fusion_case], ids=lambda make: make.__name__)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Each kind of network."""
    return request.param(tmp_path_factory)


ROWS = np.arange(8)
RECORD = TrainingRecord.of([], [], {})


def test_every_task_has_a_loss_and_a_count(case: Case) -> None:
    (batch,) = case.batches(ROWS, 8)
    sums, counts = case.network.loss_sums(batch), case.network.step_counts([batch])
    assert tuple(sums) == case.network.losses
    assert counts.shape == (len(sums),)
    assert all(part.ndim == 0 and bool(part.isfinite()) for part in sums.values())
    assert bool((counts > 0).all())


@pytest.mark.parametrize("part", [1, 3, 5])
def test_micro_batches_add_up_to_the_step(case: Case, part: int) -> None:
    """Counts, loss and gradient of a step are the same in one piece or in several."""
    chosen = [name for name in case.network.losses if name != "masked_features"]  # it draws what it hides
    found = []
    for size in (8, part):
        batches = case.batches(ROWS, size)
        counts = dict(zip(case.network.losses, case.network.step_counts(batches), strict=True))
        balance = LossWeights(chosen, learned=True).double()
        sums = [{name: case.network.loss_sums(batch)[name] for name in chosen} for batch in batches]
        loss = torch.stack([balance(s, counts, b.share) for s, b in zip(sums, batches, strict=True)]).sum()
        parameters = list(case.network.parameters())
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        found.append((loss.detach(), {k: counts[k] for k in chosen}, [g for g in gradients if g is not None]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-8, atol=1e-10)


def test_errors_are_finite_and_as_many_as_known_labels(case: Case) -> None:
    (batch,) = case.batches(ROWS, 8, epoch=None)
    case.network.eval()
    errors, _ = case.network.validate(batch)
    case.network.train()
    assert set(errors) == set(case.network.task_names)
    assert all(part.ndim == 1 and bool(part.isfinite().all()) and bool((part >= 0).all()) for part in errors.values())
    for name, known in case.dataset.known.items():
        assert len(errors[name]) >= known[ROWS].sum() > 0


def test_a_step_can_be_trained_on_and_overfits(case: Case) -> None:
    """A few steps of the trainer on one batch bring the losses down."""
    network = unpack_single(packed(case))[0].float()
    settings = OptimizerSettings(3e-3, learned_balance=False)
    task = TrainingModule(network, settings, dict.fromkeys(network.task_names, 1.0), case.dataset.ids, Console())
    batches = case.dataset.batches(Step(ROWS, 4, 0), network.training_form)
    optimizer, seen = task.configure_optimizers(), []
    network.train()
    for _ in range(40):
        sums, counts = task.set_gradient(list(batches))
        optimizer.step()
        seen.append(float((sums / counts).sum()))
    assert seen[-1] < 0.7 * seen[0]


def test_a_single_sample_is_a_batch(case: Case) -> None:
    for row in ROWS[:4]:
        (batch,) = case.batches(np.array([row]), 1)
        assert all(bool(part.isfinite()) for part in case.network.loss_sums(batch).values())


def packed(case: Case) -> dict[str, Any]:
    """The weights file of a case, written and read."""
    file = BytesIO()
    torch.save(pack_network(case.network, case.network.state_dict(), {"of": "tests"}, RECORD), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_weights_files_hold_the_whole_network(case: Case) -> None:
    network, facts = unpack_single(packed(case))
    assert facts == {"of": "tests", "trained_tasks": []}
    assert network.config.as_dict() == case.network.config.as_dict()
    (batch,) = case.batches(ROWS, 8, epoch=None)
    case.network.eval()
    wanted, found = (one.validate(batch)[0] for one in (case.network, network.double()))
    case.network.train()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)  # the state passes through float32 buffers


def test_the_data_module_serves_it(case: Case) -> None:
    split = Split(np.arange(4), np.arange(4, 6), np.arange(6, 8), "of this test", 0)
    data = BatchDataModule(case.dataset, split, batch_size=2, accumulate=2, form=case.network.training_form)
    (step,) = list(data.train_dataloader())
    assert sorted(torch.cat([batch.rows for batch in step]).tolist()) == [0, 1, 2, 3]
    assert sum(batch.share for batch in step) == pytest.approx(1.0)
    assert sorted(row for (batch,) in data.val_dataloader() for row in batch.rows.tolist()) == [4, 5]
    assert set(data.label_counts()) == set(case.dataset.known)
