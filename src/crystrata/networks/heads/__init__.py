"""Heads: from latents to the predictions of one task. A new head is one file here and one row of `tasks.KINDS`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from crystrata.errors import UsageError, unknown_name
from crystrata.graph_settings import GraphSettings
from crystrata.networks.heads.head import Head
from crystrata.tasks import KINDS, Task


def head_class(kind: str, subtype: str = "") -> type[Head]:
    """Return the class of the heads of a kind.

    Raises:
        UsageError: There is no such kind or subtype.
    """
    if kind not in KINDS:
        raise unknown_name("kind of head", kind, KINDS)
    row = KINDS[kind]
    if subtype not in ("", *row.subtypes):
        raise unknown_name(f"subtype of {kind}", subtype, row.subtypes)
    module, _, name = row.subtypes.get(subtype, row.head).partition(".")
    found: type[Head] = getattr(import_module(f"{__name__}.{module}"), name)
    return found


def build_head(
    task: Task,
    width: int,
    graph: GraphSettings | None = None,
    *,
    input_width: int | None = None,
    encoder: Mapping[str, Any] | None = None,
) -> Head:
    """Make the head of a task, on latents of the given width.

    `dims`, the widths from the latent to the output, is understood in place of `hidden`.

    Args:
        task: The task.
        width: d.
        graph: Settings of the neighbourhoods.
        input_width: D, width of the descriptor that the network reads; None without one.
        encoder: Settings of the composition encoder.

    Raises:
        UsageError: A setting is unknown or does not fit.
    """
    head = head_class(task.kind, task.subtype)
    settings = {**KINDS[task.kind].settings, **head.settings_of(task, input_width, dict(encoder or {}))}
    settings.pop("subtype", None)
    dims = settings.pop("dims", None)
    known = head.setting_names()
    for setting in settings:
        if setting not in known:
            raise unknown_name(f"setting of head {task.subtype or task.kind}", setting, known)
    if dims is not None:
        output = len(task.classes) or settings.get("input_dim") or settings.get("components") or 1
        settings["hidden"] = _hidden(task, dims, width, None if task.kind == "curve" else output)
    return head(task, width, graph or GraphSettings(), **settings)


def _hidden(task: Task, dims: Sequence[int], width: int, output: int | None) -> list[int]:
    if len(dims) < 2 or dims[0] != width or (output is not None and dims[-1] != output):
        wanted = "its output" if output is None else output
        raise UsageError(f"task {task.name!r}: dims go from the latent, {width}, to {wanted}, not {list(dims)}")
    return list(dims[1:-1])
