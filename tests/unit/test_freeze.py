"""Frozen parts do not change: no gradient, no drift of running statistics, no dropout, whatever is trained beside."""

from __future__ import annotations

import copy

import pytest
import torch
from known_crystals import CRYSTALS, SETTINGS, batch_of
from torch import Tensor, nn

from crystrata.datasets.batch import Batch, Targets
from crystrata.errors import UsageError
from crystrata.jarvis_properties import property_tasks
from crystrata.networks.config import NetworkConfig
from crystrata.networks.encoders.composition import MLPEncoder
from crystrata.networks.heads import build_head
from crystrata.networks.latent import Latent, LatentStage
from crystrata.networks.loss_weights import LossWeights
from crystrata.networks.network import Network
from crystrata.tasks import Task
from crystrata.training.starting_weights import freeze, freeze_all_but_heads

TASKS = ("density", "gap", "modulus")


class Composition(nn.Module):
    """Encoder with running statistics and dropout, stage, three heads."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(MLPEncoder((5, 12, 8), norm="batch"), nn.Dropout(0.5))
        self.stage = LatentStage("deposit", 8)
        self.heads = nn.ModuleDict(
            {task: build_head(Task(task, "scalar", columns=(task,), head={"hidden": (6,)}), 8) for task in TASKS}
        )

    def forward(self, x: Tensor) -> Tensor:
        h = Latent(self.stage(self.encoder(x)))
        return torch.stack([head(h) for head in self.heads.values()], dim=1)


def train(network: nn.Module, balance: LossWeights, steps: int = 5) -> None:
    """Train on random labels, calling `train()` every step as a trainer might."""
    optimizer = torch.optim.AdamW([*network.parameters(), *balance.parameters()], lr=0.05, weight_decay=0.1)
    counts = dict.fromkeys(TASKS, torch.tensor(32))
    for _ in range(steps):
        network.train()
        balance.train()
        errors = (network(3 + 2 * torch.randn(32, 5)) - 1).square().sum(0)
        loss = balance(dict(zip(TASKS, errors, strict=True)), counts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_only_the_listed_heads_change() -> None:
    network, balance = Composition(), LossWeights(TASKS, learned=True)
    train(network, balance)
    freeze_all_but_heads(network, ["gap"], balance)
    before = copy.deepcopy({**network.state_dict(), **balance.state_dict()})
    x = torch.randn(7, 5)
    latent = network.stage(network.encoder(x)).clone()
    train(network, balance)
    after = {**network.state_dict(), **balance.state_dict()}
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed == {f"heads.gap.{name}" for name, _ in network.heads["gap"].named_parameters()}
    assert torch.equal(network.stage(network.encoder(x)), latent)


def test_without_freezing_everything_changes() -> None:
    """The test above can fail."""
    network, balance = Composition(), LossWeights(TASKS, learned=True)
    before = copy.deepcopy({**network.state_dict(), **balance.state_dict()})
    train(network, balance)
    after = {**network.state_dict(), **balance.state_dict()}
    assert any("running_mean" in name for name in before)
    kept = {name for name in after if torch.equal(before[name], after[name])}
    assert kept == {name for name in kept if "scaling" in name}


def test_frozen_parts_stay_in_evaluation_mode_down_to_the_last_child() -> None:
    network = Composition()
    freeze(network.encoder)
    for wake in (network, network.encoder, network.encoder[0]):
        assert wake.train() is wake
        assert not any(module.training for module in network.encoder.modules())
    assert network.heads.training
    network.eval()
    assert not network.heads.training
    assert all(parameter.grad is None for parameter in network.encoder.parameters())


def test_a_copy_is_frozen_too_and_stands_on_its_own() -> None:
    network = Composition()
    freeze(network.encoder)
    other = copy.deepcopy(network).train()
    assert not any(module.training for module in other.encoder.modules())
    assert other.train() is other
    assert other.encoder.train() is other.encoder is not network.encoder


def test_gradients_flow_through_frozen_parts() -> None:
    network = Composition()
    freeze(network)
    x = torch.randn(4, 5, requires_grad=True)
    network(x).sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).any()


def test_the_encoder_alone_is_frozen_where_all_heads_are_listed() -> None:
    network, balance = Composition(), LossWeights(TASKS, learned=True)
    freeze_all_but_heads(network, TASKS)
    assert {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad} == {"heads"}
    assert all(parameter.requires_grad for parameter in balance.parameters())


def test_an_unknown_head_is_named_before_anything_is_frozen() -> None:
    network = Composition()
    with pytest.raises(UsageError, match="did you mean 'gap'"):
        freeze_all_but_heads(network, ["gaps"])
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_the_network_of_crystals_freezes_alike() -> None:
    tasks = property_tasks(["band_gap", "bulk_modulus"], {"band_gap": "scalar"})
    network = Network(NetworkConfig(tasks, "cgcnn", {"channels": 8, "layers": 1}, SETTINGS))
    freeze_all_but_heads(network, ["band_gap"])
    network.train()
    known = Targets(torch.ones(len(CRYSTALS)), torch.ones(len(CRYSTALS), dtype=torch.bool))
    targets = dict.fromkeys(network.task_names, known)
    sums = network.loss_sums(Batch(torch.arange(len(CRYSTALS)), targets, crystals=batch_of(CRYSTALS)))
    torch.stack(list(sums.values())).sum().backward()
    trained = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert trained
    assert all(name.startswith("heads.band_gap.") for name in trained)
    assert not network.encoder.training
