"""The compiled encoder: used only after its numbers were compared with those of the plain one on a real step."""

from __future__ import annotations

from rich.console import Console
from torch import Tensor

from crystrata.datasets.batch import Batch
from crystrata.datasets.data_module import BatchDataModule
from crystrata.training.module import TrainingModule

TOLERANCE = 1e-4
"""Largest difference between compiled and plain: of a loss relative to itself, of a gradient to the largest one."""

_SMALL = 0.01  # of the largest loss: a smaller one (of a single label that is nearly hit) is compared with this


def compile_encoder(task: TrainingModule, data: BatchDataModule, console: Console) -> bool:
    """Compile the encoder of a task for training; return whether it is used.

    Loss and gradient of the first step of the next epoch are computed with both. Where compiling fails, or they differ,
    the plain encoder stays and the console says why: training is slower then, and never wrong.

    Args:
        task: On its device; its gradients are left empty, its random state untouched.
        data: Where the step comes from.
        console: Where the outcome is reported.
    """
    network, step = task.network, next(iter(data.sampler))
    batches = [batch.to(task.device) for batch in data.micro_batches(step)]
    task.train()
    plain = _numbers(task, batches)
    with console.status("compiling the encoder"):
        try:
            network.compile_encoder()
            trouble = _difference(_numbers(task, batches), plain)
        except Exception as error:  # a compiler fails in as many ways as there are machines
            lines = str(error).strip().splitlines() or [""]
            trouble = f"{type(error).__name__}: {lines[0]}"
    if trouble:
        network.forget_compiled_encoder()
        console.print(f"warning: --compile has no effect: {trouble}", style="yellow", soft_wrap=True)
    return not trouble


def _numbers(task: TrainingModule, batches: list[Batch]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss sum of each property and the gradient of each weight."""
    losses, _ = task.set_gradient(batches)
    gradients = {name: part.grad.clone() for name, part in task.named_parameters() if part.grad is not None}
    task.forget_gradient()
    return losses, gradients


def _difference(compiled: tuple[Tensor, dict[str, Tensor]], plain: tuple[Tensor, dict[str, Tensor]]) -> str:
    """Return what differs, in words; empty if nothing does."""
    (losses, gradients), (expected_losses, expected) = compiled, plain
    sizes = expected_losses.abs()
    off = float(((losses - expected_losses).abs() / sizes.clamp(min=_SMALL * float(sizes.max()))).max())
    if not off <= TOLERANCE:
        return f"a loss differs by {off:.1e} of itself"
    if gradients.keys() != expected.keys():
        return f"it has no gradient for {', '.join(sorted(expected.keys() ^ gradients.keys()))}"
    largest = max(float(part.abs().max()) for part in expected.values())
    for name, part in expected.items():
        off = float((gradients[name] - part).abs().max()) / largest
        if not off <= TOLERANCE:
            return f"the gradient of {name} differs by {off:.1e} of the largest gradient"
    return ""
