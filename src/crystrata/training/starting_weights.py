"""Starting from trained weights: encoders, and heads of the same tasks; and parts that stay as they are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import MethodType
from typing import Any

from torch import nn

from crystrata.errors import ModelError, UsageError, unknown_name
from crystrata.networks.ensemble import Ensemble
from crystrata.networks.model_folder import read_model_folder
from crystrata.networks.network import Network
from crystrata.networks.training_record import TrainingRecord
from crystrata.networks.weights import unpack_network
from crystrata.runs.directory import BEST
from crystrata.runs.find import WEIGHTS, is_model_folder
from crystrata.tasks import Task
from crystrata.training.checkpoints import read_checkpoint

_SHARED = ("structure", "structure_settings", "graph", "composition", "composition_settings", "latent_stage",
           "deposit_width")  # fmt: skip
_OF_STRUCTURE = ("structure", "structure_settings", "graph")
_APART = ("heads.", "pretraining.")


def read_weights(path: Path) -> dict[str, Any]:
    """Return the content of the weights of a run directory, a weights file, or the folder of a shipped model.

    Raises:
        ModelError: They are missing or damaged.
    """
    folder = path.parent if path.name == WEIGHTS else path
    if is_model_folder(folder):
        return read_model_folder(folder)
    return read_checkpoint(path / BEST if path.is_dir() else path)


def read_start(path: Path) -> tuple[Network, TrainingRecord | None]:
    """Return the network of some weights to start from (of an ensemble, its first member) and its training record.

    Raises:
        ModelError: They are missing or damaged.
    """
    content = read_weights(path)
    trained, _ = unpack_network(content)
    return trained.members[0] if isinstance(trained, Ensemble) else trained, TrainingRecord.from_content(content)


def start_from(network: Network, trained: Network, source: str) -> list[str]:
    """Take over the weights of a trained network; return the tasks whose heads were taken, scaling included.

    Everything but the heads is taken over; self-supervised losses start untrained.

    Args:
        network: The new network; a head of another task, kind or shape keeps its own start.
        trained: The network to start from.
        source: Its name, for messages.

    Raises:
        UsageError: It has other encoders, or reads other graphs.
    """
    _require_same(network, trained, source, _SHARED)
    before, shared = {task.name: task for task in trained.tasks}, []
    for task in network.tasks:
        if task.name in before and _same_head(before[task.name], task):
            network.head(task.name).load_state_dict(trained.head(task.name).state_dict())
            shared.append(task.name)
    state = {name: tensor for name, tensor in trained.state_dict().items() if not name.startswith(_APART)}
    try:
        network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ModelError(f"the weights of {source} do not fit this network: {error}") from None
    return shared


def start_structure_encoder_from(network: Network, trained: Network, source: str) -> None:
    """Take over the encoder of crystals alone.

    Raises:
        UsageError: It is another encoder or reads other graphs, or the new network reads no crystals.
    """
    if network.encoder is None or trained.encoder is None:
        raise UsageError("structure_start is for networks that read crystals: choose a structure encoder on both sides")
    _require_same(network, trained, source, _OF_STRUCTURE)
    network.encoder.load_state_dict(trained.encoder.state_dict())


def _require_same(network: Network, trained: Network, source: str, names: Iterable[str]) -> None:
    old, new = trained.config, network.config
    if differing := [name for name in names if getattr(old, name) != getattr(new, name)]:
        found = ", ".join(f"{name} {getattr(old, name)}" for name in differing)
        raise UsageError(f"{source} has {found}: a run that starts from it must have the same")


def _same_head(old: Task, new: Task) -> bool:
    names = ("kind", "head", "transform", "classes", "additive")
    return all(getattr(old, name) == getattr(new, name) for name in names)


def carry_heads(network: Network, trained: Network) -> list[str]:
    """Give a network the heads of a trained one for the tasks that it lacks, frozen and inactive; return these tasks.

    Args:
        network: The new network; its latents must be those of the trained one.
        trained: The network to start from.
    """
    lacking = [task for task in trained.tasks if task.name not in network.heads]
    for task in lacking:
        network.add_task(task)
        network.head(task.name).load_state_dict(trained.head(task.name).state_dict())
        freeze(network.head(task.name))
    names = [task.name for task in lacking]
    network.inactive = network.inactive.union(names)
    return names


def freeze(part: nn.Module) -> None:
    """Take a part out of the training, for good.

    Its parameters get no gradient, and it is in evaluation mode from now on, whatever `train()` is called on: else its
    running statistics would drift and its dropout would blur what the trained parts read. Gradients still flow through.
    """
    part.requires_grad_(False)
    for module in part.modules():
        module.training = False
        module.__dict__["train"] = MethodType(_stay_frozen, module)


def freeze_all_but_heads(network: nn.Module, names: Iterable[str], balance: nn.Module | None = None) -> None:
    """Freeze everything of a network but some of its heads: the encoder, what follows it, and the other heads.

    Args:
        network: Has its heads, by name, in `heads`.
        names: Heads that are trained.
        balance: The learned task weights, frozen too where given.

    Raises:
        UsageError: A head is unknown.
    """
    heads, wanted = network.get_submodule("heads"), set(names)
    known = [name for name, _ in heads.named_children()]
    for name in sorted(wanted - set(known)):
        raise unknown_name("head", name, known)
    for parameter in network.parameters(recurse=False):
        parameter.requires_grad_(False)
    for part_name, part in network.named_children():
        if part_name != "heads":
            freeze(part)
    for name, head in heads.named_children():
        if name not in wanted:
            freeze(head)
    if balance is not None:
        freeze(balance)


def _stay_frozen(module: nn.Module, mode: bool = True) -> nn.Module:
    """Stand in for `train` of a frozen module."""
    return module
