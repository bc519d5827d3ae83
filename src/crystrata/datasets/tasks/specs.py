"""What a task is: which column of which table it learns, and how. Plain values, as a configuration file holds them."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crystrata.datasets.splits import PARTS
from crystrata.errors import UsageError, unknown_name

KINDS = ("regression", "vector", "classification", "curve", "sequence", "autoencoder")
TRANSFORMS = ("identity", "asinh", "log1p")
"""Scale of the loss; `log1p` is standardised after it and cut at five standard deviations."""
SEQUENCE_SUBTYPES = ("rnn", "vec", "transformer", "tcn", "hybrid")
SELECTIONS = (*PARTS, "all")

_KIND_ALIASES = {"kernelregression": "curve", "kernel_regression": "curve"}
_ALIASES = {"type": "kind", "steps_column": "t_column", "num_classes": "classes"}
_HEAD_SETTINGS = (  # may stand beside the other keys of a task; the head that is built knows which of them it has
    "dims subtype d_in hidden cell seq_len d_model nhead num_encoder_layers dim_feedforward class_weights".split()
)
_OPTIMIZER_SETTINGS = ("lr", "scheduler_type", "freeze_parameters")
_RETIRED = "lora_"


@dataclass(frozen=True)
class TaskSpec:
    """One task.

    Attributes:
        name: Name in outputs, tables and files.
        kind: Row of `KINDS`; a curve is learned by kernel regression.
        data_files: Tables of the task, concatenated; none where a table is handed over in memory.
        data_column: Column of the labels; none for an autoencoder.
        t_column: Column of the coordinate of a curve or sequence, "" for none. Only the sequence head `vec` needs none.
        composition_column: Column of the keys, or None for the index of the table (the first column of a csv).
        split_column: Column of train, val or test; it may be missing.
        classes: Names of the classes of a classification.
        loss_weight: Static weight of the loss.
        task_masking_ratio: Fraction of the known training samples that is trained on.
        transform: Row of `TRANSFORMS`.
        predict_idx: A row of `SELECTIONS` or the compositions themselves; None for test, or all where no test part is.
        head: Settings of the head.
        optimizer: Settings of the optimiser of this head: lr, scheduler_type, freeze_parameters.

    Raises:
        UsageError: A value is out of range, or missing for this kind.
    """

    name: str
    kind: str
    data_files: tuple[str, ...] = ()
    data_column: str = ""
    t_column: str = ""
    composition_column: str | None = "composition"
    split_column: str = "split"
    classes: tuple[str, ...] = ()
    loss_weight: float = 1.0
    task_masking_ratio: float = 1.0
    transform: str = "identity"
    predict_idx: str | tuple[str, ...] | None = None
    head: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_name(f"kind of task {self.name!r}", self.kind, KINDS)
        if self.transform not in TRANSFORMS:
            raise unknown_name(f"transform of task {self.name!r}", self.transform, TRANSFORMS)
        if isinstance(self.predict_idx, str) and self.predict_idx not in SELECTIONS:
            raise unknown_name(f"predict_idx of task {self.name!r}", self.predict_idx, SELECTIONS)
        for setting in self.optimizer:
            if setting not in _OPTIMIZER_SETTINGS:
                raise unknown_name(f"optimizer setting of task {self.name!r}", setting, _OPTIMIZER_SETTINGS)
        if self.kind == "sequence" and self.subtype not in SEQUENCE_SUBTYPES:
            raise unknown_name(f"subtype of task {self.name!r}", self.subtype, SEQUENCE_SUBTYPES)
        for wrong, words in self._rules():
            if wrong:
                raise UsageError(f"task {self.name!r}: {words}")

    def _rules(self) -> Iterable[tuple[bool, str]]:
        """Yield (broken, words) of every rule on values and on what this kind needs."""
        yield not self.name, "a task needs a name"
        yield not _number(self.loss_weight) or self.loss_weight < 0, "loss_weight must be a number of at least 0"
        ratio = self.task_masking_ratio
        yield not _number(ratio) or not 0 < ratio <= 1, "task_masking_ratio must be above 0 and at most 1"
        lr = self.optimizer.get("lr", 1.0)
        yield not _number(lr) or lr <= 0, f"optimizer.lr must be a number above 0, not {lr!r}"
        if self.kind == "autoencoder":
            yield bool(self.data_files or self.data_column), "an autoencoder has no data_files and no data_column"
        else:
            yield not self.data_column, "data_column names the column of its labels, and must be given"
        yield self.needs_t and not self.t_column, "t_column names the column of its coordinate, and must be given"
        yield bool(self.t_column) and self.kind not in ("curve", "sequence"), f"a {self.kind} has no t_column"
        yield self.kind == "classification" and len(self.classes) < 2, "classes: a number of at least 2, or their names"
        yield len(set(self.classes)) < len(self.classes), "two of its classes have the same name"
        yield self.kind != "classification" and bool(self.classes), f"a {self.kind} has no classes"
        unscaled = self.kind in ("classification", "autoencoder") and self.transform != "identity"
        yield unscaled, f"a {self.kind} has no transform"

    @property
    def subtype(self) -> str:
        """Sub-type of a sequence head."""
        return str(self.head.get("subtype", "rnn"))

    @property
    def needs_t(self) -> bool:
        """Whether the head reads a coordinate."""
        return self.kind == "curve" or (self.kind == "sequence" and self.subtype != "vec")

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> TaskSpec:
        """Make a task from plain values.

        The older names `type`, `steps_column` and `num_classes` are understood, and settings of the head may stand
        beside the other keys. Settings of low-rank adapters (`lora_...`), which are gone, are passed over.

        Raises:
            UsageError: A key is unknown, a key and its older name are both given, or a value cannot be used.
        """
        name = str(record.get("name", ""))
        fields = {item.name for item in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        head = _settings("head", record.get("head"), name)
        for key, value in record.items():
            known = _ALIASES.get(key, key)
            if key.startswith(_RETIRED) or key == "head":
                continue
            if key in _HEAD_SETTINGS:
                known, place = key, head
            elif known in fields:
                place = values
            else:
                raise unknown_name(f"key of task {name!r}", key, [*sorted(fields), *_ALIASES, *_HEAD_SETTINGS])
            if known in place:
                raise UsageError(f"task {name!r}: {known} is given twice ({', '.join(_names_of(known))})")
            place[known] = value
        for key in ("name", "kind"):
            if key not in values:
                raise UsageError(f"task {name!r} lacks the key {key!r}")
        return cls(**{key: _plain(key, value, name) for key, value in values.items()}, head=head)

    def as_dict(self) -> dict[str, Any]:
        """Return the task as values of JSON; `from_dict` makes the same task from them."""
        plain = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}
        return {**plain, "head": dict(self.head), "optimizer": dict(self.optimizer)}


def parse_tasks(
    records: Sequence[Mapping[str, Any]],
    *,
    loss_weights: Mapping[str, float] | None = None,
    task_masking_ratios: Mapping[str, float] | None = None,
    attributes_source: str | None = None,
    other_losses: Collection[str] = (),
) -> tuple[TaskSpec, ...]:
    """Make all tasks of a configuration, of the newer or the older layout.

    Args:
        records: One mapping of plain values a task.
        loss_weights: Task -> static weight; the `loss_weight` of a task itself goes before.
        task_masking_ratios: Task -> fraction, in the same way.
        attributes_source: One table for every task without files of its own.
        other_losses: Further names that `loss_weights` may hold: the self-supervised terms.

    Raises:
        UsageError: A task cannot be used, two have one name, or a mapping names a task that is not there.
    """
    names = [str(record.get("name", "")) for record in records]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two tasks are named {twice[0]!r}; each needs a name of its own")
    shared: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, given, others in (
        ("loss_weight", loss_weights, other_losses),
        ("task_masking_ratio", task_masking_ratios, ()),
    ):
        for name, value in (given or {}).items():
            if name in shared:
                shared[name][key] = value
            elif name not in others:
                raise unknown_name(f"task in {key}s", name, [*names, *others])
    if retired := sorted({key for record in records for key in record if key.startswith(_RETIRED)}):
        warnings.warn(f"low-rank adapters are gone: {', '.join(retired)} change nothing", stacklevel=2)
    merged = [{**shared[name], **record} for name, record in zip(names, records, strict=True)]
    for record in merged:
        if attributes_source is not None and record.get("data_column") and not record.get("data_files"):
            record["data_files"] = attributes_source
    return tuple(map(TaskSpec.from_dict, merged))


def _plain(key: str, value: Any, task: str) -> Any:
    """Return a value as the field holds it: tuples for lists, "" for no column, lower-case kinds."""
    if key == "kind":
        kind = str(value).lower()
        return _KIND_ALIASES.get(kind, kind)
    if key == "classes" and isinstance(value, int):
        return tuple(map(str, range(value)))
    if key == "data_files" and isinstance(value, str):
        return (value,)
    if key in ("data_files", "classes") or (key == "predict_idx" and not isinstance(value, (str, type(None)))):
        if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable | None):
            raise UsageError(f"task {task!r}: {key} must be a list, not {value!r}")
        return tuple(map(str, value or ()))
    if key == "optimizer":
        return _settings(key, value, task)
    if key in ("data_column", "t_column"):
        return value or ""
    return value


def _settings(key: str, value: Any, task: str) -> dict[str, Any]:
    if not isinstance(value, Mapping | None):
        raise UsageError(f"task {task!r}: {key} must be a mapping of settings, not {value!r}")
    return dict(value or {})


def _names_of(field_name: str) -> list[str]:
    return [field_name, *(alias for alias, name in _ALIASES.items() if name == field_name)]


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
