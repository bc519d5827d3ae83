"""Starting from trained weights: the encoder of another run, and its heads for the same properties or tasks."""

from __future__ import annotations

from pathlib import Path

from crystrata.errors import ModelError, UsageError
from crystrata.networks.ensemble import Ensemble
from crystrata.networks.multitask import MultiTaskNetwork
from crystrata.networks.task_network import TaskNetwork
from crystrata.networks.weights import Network, unpack_network, unpack_task_network
from crystrata.runs.directory import BEST
from crystrata.training.checkpoints import read_checkpoint
from crystrata.training.freeze import freeze


def start_from(network: MultiTaskNetwork, source: Path) -> list[str]:
    """Take over the weights of a trained network; return the properties whose heads were taken, scaling included.

    Args:
        network: The new network; a head of another property or another kind keeps its own start.
        source: Run directory or weights file.

    Raises:
        ModelError: The weights are missing or damaged.
        UsageError: They are those of another encoder, or read other graphs.
    """
    trained, _ = unpack_network(read_checkpoint(source / BEST if source.is_dir() else source))
    if not isinstance(trained, MultiTaskNetwork):
        raise UsageError(f"{source} holds several networks: start from one of the runs that it was made of")
    old, new = trained.config, network.config
    differing = [name for name in ("encoder", "settings", "graph") if getattr(old, name) != getattr(new, name)]
    if differing:
        told = ", ".join(f"{name} {getattr(old, name)}" for name in differing)
        raise UsageError(f"{source} has {told}: a run that starts from it must have the same")
    try:
        network.encoder.load_state_dict(trained.encoder.state_dict())
        shared = [
            name for name in new.properties if name in old.properties and old.head_kind(name) == new.head_kind(name)
        ]
        for name in shared:
            network.head(name).load_state_dict(trained.head(name).state_dict())
    except RuntimeError as error:
        raise ModelError(f"the weights of {source} do not fit this network: {error}") from None
    return shared


def start_graph_encoder_from(network: TaskNetwork, trained: Network) -> None:
    """Take over the encoder of a network of crystals; of several that predict as one, that of the first.

    Args:
        network: The new network, which reads crystals.
        trained: The network of crystals.

    Raises:
        UsageError: It has another encoder or reads other graphs, or the new network reads no crystals.
    """
    first = trained.members[0] if isinstance(trained, Ensemble) else trained
    old, new = first.config, network.config
    if network.graph_encoder is None:
        raise UsageError("a network without a graph encoder cannot start from one: choose it")
    for name, here, there in (
        ("encoder", new.graph_encoder, old.encoder),
        ("settings", new.graph_settings, old.settings),
        ("graph", new.graph, old.graph),
    ):
        if here != there:
            raise UsageError(f"the graph encoder to start from has {name} {there}: a run must have the same")
    network.graph_encoder.load_state_dict(first.encoder.state_dict())


def start_tasks_from(network: TaskNetwork, source: Path) -> list[str]:
    """Take over the weights of a trained network of tasks; return the tasks whose heads were taken.

    Everything but the heads is taken over, with the scaling of the descriptor; losses without labels start anew.

    Args:
        network: The new network; a head of another name, kind or shape keeps its own start.
        source: Run directory or weights file.

    Raises:
        ModelError: The weights are missing or damaged.
        UsageError: They are those of another encoder, or read other graphs.
    """
    trained = _trained_on_tasks(source)
    old, new = trained.config, network.config
    for name in ("encoder", "settings", "latent_stage", "deposit_width", "graph_encoder", "graph_settings", "graph"):
        if getattr(old, name) != getattr(new, name):
            raise UsageError(f"{source} has {name} {getattr(old, name)}: a run that starts from it must have the same")
    specs, shared = {spec.name: spec for spec in old.tasks}, []
    for spec in new.tasks:
        before = specs.get(spec.name)
        if before and (before.kind, before.head, before.transform) == (spec.kind, spec.head, spec.transform):
            network.head(spec.name).load_state_dict(trained.head(spec.name).state_dict())
            shared.append(spec.name)
    apart = ("heads.", "pretraining.")
    state = {name: tensor for name, tensor in trained.state_dict().items() if not name.startswith(apart)}
    network.load_state_dict(state, strict=False)
    return shared


def carry_heads(network: TaskNetwork, source: Path) -> list[str]:
    """Give a network the heads of a trained one for the tasks that it lacks, frozen and resting; return these tasks.

    Args:
        network: The new network; its latents must be those of the trained one.
        source: Run directory or weights file.

    Raises:
        ModelError: The weights are missing or damaged.
    """
    trained = _trained_on_tasks(source)
    lacking = [spec for spec in trained.config.tasks if spec.name not in network.heads]
    for spec in lacking:
        network.add_task(spec)
        network.head(spec.name).load_state_dict(trained.head(spec.name).state_dict())
        freeze(network.head(spec.name))
    names = [spec.name for spec in lacking]
    network.resting = network.resting.union(names)
    return names


def _trained_on_tasks(source: Path) -> TaskNetwork:
    return unpack_task_network(read_checkpoint(source / BEST if source.is_dir() else source))[0]
