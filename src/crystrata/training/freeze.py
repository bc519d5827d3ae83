"""Parts that stay as they are while others are trained."""

from __future__ import annotations

from collections.abc import Iterable
from types import MethodType

from torch import nn

from crystrata.errors import unknown_name


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
