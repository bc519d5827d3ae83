"""Self-supervised losses as a network and its trainer use them: what they read, what they weigh."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from known_crystals import SETTINGS
from known_tasks import dataset_of, network_of
from rich.console import Console
from torch import Tensor

from crystrata.datasets.batch import Batch
from crystrata.datasets.dataset import MaterialDataset
from crystrata.datasets.sampling import Step
from crystrata.networks import network as networks
from crystrata.networks.network import Network
from crystrata.training.module import OptimizerSettings, TrainingModule

TERMS = ("masked_features", "contrastive", "cross_reconstruction")


@pytest.fixture
def dataset() -> MaterialDataset:
    """Compositions, two of them with their crystals."""
    return dataset_of(structures=True)


@pytest.fixture
def network(dataset: MaterialDataset) -> Network:
    """A network of both encoders with every self-supervised loss."""
    torch.manual_seed(0)
    options = {"structure": "cgcnn", "structure_settings": {"channels": 8, "layers": 1}, "graph": SETTINGS}
    return network_of(dataset, self_supervised=TERMS, modality_dropout=0.0, **options)


def batch_of(dataset: MaterialDataset, network: Network) -> Batch:
    (batch,) = dataset.batches(Step(np.arange(10), 10, 0), network.training_form)
    return batch


def test_the_encoder_never_reads_what_is_hidden(dataset: MaterialDataset, network: Network) -> None:
    """Where a number is hidden the encoder gets the learned stand-in, here one that nothing else has."""
    batch, read = batch_of(dataset, network), []
    masked = network.pretraining["masked_features"]
    with torch.no_grad():
        masked.stand_in.fill_(123.0)
    assert network.composition_encoder is not None
    network.composition_encoder.register_forward_pre_hook(lambda _, given: read.append(given[0].detach()))
    network.loss_sums(batch)
    plain, shown = read
    assert batch.descriptor is not None
    assert torch.equal(plain, network.standardised(batch.descriptor))
    hidden = shown == 123.0
    assert 0.05 < float(hidden.double().mean()) < 0.3
    assert torch.equal(shown[~hidden], plain[~hidden])


def test_contrast_compares_compositions_with_their_crystals(
    dataset: MaterialDataset, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left the latents of descriptors, right those of graphs, of the rows that have a crystal."""
    batch, compared = batch_of(dataset, network), []
    original = networks.contrastive_loss

    def spy(composition: Tensor, graph: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        compared.append((composition.detach(), graph.detach(), there))
        return original(composition, graph, there)

    monkeypatch.setattr(networks, "contrastive_loss", spy)
    network.eval().loss_sums(batch)
    ((composition, graph, there),) = compared
    assert there.nonzero().flatten().tolist() == [0, 5]
    assert network.composition_encoder is not None
    assert network.encoder is not None
    assert network.structure_latent is not None
    assert batch.descriptor is not None
    assert batch.crystals is not None
    expected = network.composition_encoder(network.standardised(batch.descriptor))
    torch.testing.assert_close(composition, expected.detach())
    pooled = networks.Latent.of_crystals(network.encoder(batch.crystals), batch.crystals).pooled
    torch.testing.assert_close(graph[there], network.structure_latent(pooled).detach())
    assert not torch.allclose(graph[there], composition[there])


@pytest.mark.parametrize("name", TERMS)
def test_a_self_supervised_loss_has_its_static_weight(name: str, dataset: MaterialDataset, network: Network) -> None:
    """Also where the weights of tasks are learned: half the weight, half its part of the total."""
    ones = dict.fromkeys(TERMS, 1.0)

    def total(weights: dict[str, float]) -> float:
        settings = OptimizerSettings(1e-3, learned_balance=True, weights=weights)
        module = TrainingModule(network, settings, dict.fromkeys(network.task_names, 1.0), dataset.ids, Console())
        assert not set(TERMS) & set(module.balance.log_sigma)
        sums = dict.fromkeys(network.losses, torch.tensor(4.0))
        return float(module.balance(sums, dict.fromkeys(network.losses, torch.tensor(2.0))).detach())

    assert total(ones) - total({**ones, name: 0.25}) == pytest.approx(0.75 * 2)
