"""What a task is: which labels are learned, of which kind, and how. A property of JARVIS is one, and so is a column."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from crystrata.errors import UsageError, unknown_name
from crystrata.older_names import HEAD_SETTINGS, TASK_KEYS, TASK_KINDS, without_retired

PARTS = ("train", "val", "test")
SELECTIONS = (*PARTS, "all")
Transform = Literal["identity", "asinh", "log1p"]
TRANSFORMS: tuple[Transform, ...] = ("identity", "asinh", "log1p")
"""Scale of the loss; `log1p` is standardised after it and cut at five standard deviations."""

_OPTIMIZER_SETTINGS = ("lr", "scheduler_type", "freeze_parameters")


@dataclass(frozen=True)
class Kind:
    """A kind of task: all that must be known of it before torch is imported."""

    head: str  # module and class under `networks/heads`, as `scalar.ScalarHead`; with subtypes, that of the first
    # what a cell of its label column holds: `number`, `class`, `vector`, `curve`, or `none` without labels
    labels: Literal["number", "class", "vector", "curve", "none"] = "number"
    metric: Literal["mae", "accuracy", "mse"] = "mae"  # what its evaluation is compared by: `mae`, `accuracy` or `mse`
    # settings of the head that differ from those of its class
    settings: Mapping[str, Any] = field(default_factory=dict)
    subtypes: Mapping[str, str] = field(default_factory=dict)  # name in the setting `subtype` -> module and class
    whole_crystals: bool = False  # whether its head reads all atoms of a crystal, and nothing of a composition


_SEQUENCES = {
    "rnn": "sequence.RnnHead",
    "vec": "sequence.VecHead",
    "transformer": "sequence.TransformerHead",
    "tcn": "sequence.TcnHead",
    "hybrid": "sequence.HybridHead",
}

KINDS: dict[str, Kind] = {
    "scalar": Kind("scalar.ScalarHead"),
    "gap": Kind("gap.GapHead"),
    "dielectric": Kind("tensor.DielectricHead", whole_crystals=True),
    "piezoelectric": Kind("tensor.PiezoelectricHead", whole_crystals=True),
    "piezoelectric_largest": Kind("tensor.LargestPiezoelectricHead", whole_crystals=True),
    "vector": Kind("scalar.ScalarHead", "vector", settings=TASK_KINDS["regression"][1]),
    "classification": Kind("classification.ClassificationHead", "class", "accuracy"),
    "curve": Kind("curve.KernelHead", "curve"),
    "sequence": Kind("sequence.RnnHead", "curve", subtypes=_SEQUENCES),
    "autoencoder": Kind("autoencoder.AutoencoderHead", "none", "mse"),
}
"""Name -> kind. A new kind is one file under `networks/heads` and one row; it passes the contract suite."""


@dataclass(frozen=True)
class Task:
    """One task; a UsageError if a value is out of range, or missing for its kind.

    Attributes:
        name: Name in outputs, tables and files.
        kind: What it is: scalar, vector, classification, curve, sequence or autoencoder; of crystals also gap,
            dielectric, piezoelectric (the tensor) or piezoelectric_largest.
        columns: Columns of the labels; several are averaged, and all must be known. None for an autoencoder.
        unit: Unit of every reported number; "" for a pure number.
        title: Words for a person; the name if "".
        t_column: Column of the coordinate of a curve or sequence. A sequence needs none: "" numbers its steps.
        classes: Names of the classes of a classification.
        transform: Scale on which the loss is measured, fitted on training labels: identity, asinh or log1p.
        lower: Physical lower bound of a value, or None. No prediction is below it. A label below it (some computed
            moduli are negative) is masked in training and counts in validation and test.
        plausible: Range that a label is expected in; the outlier check reports what lies outside.
        heavy_tailed: Whether real labels lie far from all others (diamond): inside the plausible range the outlier
            check then holds no distance against one.
        additive: Whether the value is a mean over atoms (energies): a head on crystals then reads atoms, and a ridge on
            the composition carries the bulk of it.
        derived_from: Task that this one follows from without a head of its own: an energy above hull is the formation
            energy minus a hull of the training energies. Without columns, its labels follow so too.
        components: Titles under which a tensor head gives the value of each of several columns.
        other_kinds: Further kinds that it may have.
        level_of_theory: How its labels were computed or measured, such as `OptB88vdW`; "" where that is not stated.
        benchmark: Official JARVIS leaderboard column that the label equals, or None.
        leaderboard_only: Whether it is there for an official test alone: it is trained where it is asked for by name,
            and belongs to none of the groups, tables and predictions that speak of the nine.
        head: Settings of the head.
        loss_weight: Static weight of the loss.
        task_masking_ratio: Fraction of the known training samples that is trained on.
        optimizer: Settings of the optimizer of this head: lr, scheduler_type, freeze_parameters.
        data_files: Tables of the task, concatenated; none where the source or a table in memory has its labels.
        composition_column: Column of the compositions or ids, or None for the index of the table.
        split_column: Column of train, val or test; it may be missing.
        predict_idx: What is predicted: train, val, test, all, or a list of materials; None for test, or all where
            there is no test part.
    """

    name: str
    kind: str = "scalar"
    columns: tuple[str, ...] = ()
    unit: str = ""
    title: str = ""
    t_column: str = ""
    classes: tuple[str, ...] = ()
    transform: Transform = "identity"
    lower: float | None = None
    plausible: tuple[float, float] = (-inf, inf)
    heavy_tailed: bool = False
    additive: bool = False
    derived_from: str | None = None
    components: tuple[str, ...] = ()
    other_kinds: tuple[str, ...] = ()
    level_of_theory: str = ""
    benchmark: str | None = None
    leaderboard_only: bool = False
    head: Mapping[str, Any] = field(default_factory=dict)
    loss_weight: float = 1.0
    task_masking_ratio: float = 1.0
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    data_files: tuple[str, ...] = ()
    composition_column: str | None = "composition"
    split_column: str = "split"
    predict_idx: str | tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_name(f"kind of task {self.name!r}", self.kind, KINDS, TASK_KINDS)
        if self.transform not in TRANSFORMS:
            raise unknown_name(f"transform of task {self.name!r}", self.transform, TRANSFORMS)
        if isinstance(self.predict_idx, str) and self.predict_idx not in SELECTIONS:
            raise unknown_name(f"predict_idx of task {self.name!r}", self.predict_idx, SELECTIONS)
        for setting in self.optimizer:
            if setting not in _OPTIMIZER_SETTINGS:
                raise unknown_name(f"optimizer setting of task {self.name!r}", setting, _OPTIMIZER_SETTINGS)
        if self.subtype not in ("", *KINDS[self.kind].subtypes):
            raise unknown_name(f"subtype of task {self.name!r}", self.subtype, KINDS[self.kind].subtypes)
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
        labels = KINDS[self.kind].labels
        if labels == "none":
            yield bool(self.data_files or self.columns), f"an {self.kind} has no data_files and no data_column"
        else:
            unlabelled = not self.columns and not self.derived_from
            yield unlabelled, "data_column names the column of its labels, and must be given"
        yield self.needs_t and not self.t_column, "t_column names the column of its coordinate, and must be given"
        yield bool(self.t_column) and labels != "curve", f"a {self.kind} has no t_column"
        yield labels == "class" and len(self.classes) < 2, "classes: a number of at least 2, or their names"
        yield len(set(self.classes)) < len(self.classes), "two of its classes have the same name"
        yield labels != "class" and bool(self.classes), f"a {self.kind} has no classes"
        yield labels in ("class", "none") and self.transform != "identity", f"a {self.kind} has no transform"
        yield len(self.columns) > 1 and labels != "number", f"a {self.kind} has one column of labels"

    @property
    def subtype(self) -> str:
        """Subtype of the head; "" for kinds that have none."""
        subtypes = KINDS[self.kind].subtypes
        return str(self.head.get("subtype", next(iter(subtypes)))) if subtypes else ""

    @property
    def labels(self) -> str:
        """What a cell of its label column holds; see `Kind`."""
        return KINDS[self.kind].labels

    @property
    def needs_t(self) -> bool:
        """Whether the head cannot do without a coordinate: a sequence numbers its steps."""
        return self.kind == "curve"

    @property
    def is_number(self) -> bool:
        """Whether a material has one number of it: such a task can be a column of a table."""
        return self.labels == "number"

    @property
    def words(self) -> str:
        """Words for a person."""
        return self.title or self.name

    @property
    def column(self) -> str:
        """Column title in tables: name and unit, `band_gap [eV]`."""
        return self.titled(self.name)

    def titled(self, words: str) -> str:
        """Return the title of another column in the unit of the task: `band_gap low [eV]`."""
        return f"{words} [{self.unit}]" if self.unit else words

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds that it may have, its own first; none where it is derived."""
        return () if self.derived_from else (self.kind, *self.other_kinds)

    def of_kind(self, kind: str) -> Task:
        """Return the task with another kind of head; a UsageError if it is derived, or has no such kind."""
        if self.derived_from:
            raise UsageError(f"--head {self.name}={kind}: {self.name} has no head: it follows from {self.derived_from}")
        if kind not in self.kinds:
            raise unknown_name(f"head of {self.name}", kind, self.kinds)
        others = tuple(one for one in self.kinds if one != kind)
        return dataclasses.replace(self, kind=kind, other_kinds=others)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Task:
        """Make a task from plain values.

        Older names (`type`, `data_column`, ...) are understood, and settings of the head may stand beside the other
        keys. Settings of low-rank adapters (`lora_...`), which are gone, are ignored. A UsageError if a key is unknown,
        a key and its older name are both given, or a value cannot be used.
        """
        name = str(record.get("name", ""))
        fields = {item.name for item in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        head = _settings("head", record.get("head"), name)
        for key, value in without_retired(record).items():
            known = TASK_KEYS.get(key, key)
            if key == "head":
                continue
            if key in HEAD_SETTINGS:
                known, place = key, head
            elif known in fields:
                place = values
            else:
                raise unknown_name(f"key of task {name!r}", key, [*sorted(fields), *TASK_KEYS, *HEAD_SETTINGS])
            if known in place:
                raise UsageError(f"task {name!r}: {known} is given twice ({', '.join(_names_of(known))})")
            place[known] = value
        for key in ("name", "kind"):
            if key not in values:
                raise UsageError(f"task {name!r} lacks the key {key!r}")
        kind = str(values.pop("kind")).lower()
        kind, older = TASK_KINDS.get(kind, (kind, {}))
        if (
            kind == "scalar" and older and (list(head.get("dims") or [1])[-1] or 1) > 1
        ):  # a regression of several numbers
            kind = "vector"
        plain = {key: _plain(key, value, name) for key, value in values.items()}
        return cls(kind=kind, head={**older, **head}, **plain)

    def as_dict(self) -> dict[str, Any]:
        """Return what differs from the defaults as values of JSON; `from_dict` makes the same task from them."""
        plain: dict[str, Any] = {"name": self.name, "kind": self.kind}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            default = {} if item.default is dataclasses.MISSING else item.default
            if item.name in plain or value == default:
                continue
            if item.name == "plausible":
                value = [None if math.isinf(end) else end for end in value]
            plain[item.name] = _as_json(value)
        return plain


def parse_tasks(
    records: Sequence[Mapping[str, Any]],
    *,
    loss_weights: Mapping[str, float] | None = None,
    task_masking_ratios: Mapping[str, float] | None = None,
    attributes_source: str | None = None,
    other_losses: Collection[str] = (),
) -> tuple[Task, ...]:
    """Make all tasks of a configuration, of the newer or the older layout, one mapping of plain values per task.

    Args:
        loss_weights: Task -> static weight; the `loss_weight` of a task itself takes precedence.
        task_masking_ratios: Task -> fraction, in the same way.
        attributes_source: One table for every task without files of its own.
        other_losses: Further names that `loss_weights` may hold: the self-supervised losses.

    A UsageError if a task cannot be used, two have one name, or a mapping names a task that is not there.
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
    if retired := sorted({key for record in records for key in record if key not in without_retired(record)}):
        warnings.warn(f"low-rank adapters are gone: {', '.join(retired)} change nothing", stacklevel=2)
    merged = [{**shared[name], **record} for name, record in zip(names, records, strict=True)]
    for record in merged:
        labelled = record.get("data_column") or record.get("columns")
        if attributes_source is not None and labelled and not record.get("data_files"):
            record["data_files"] = attributes_source
    return tuple(map(Task.from_dict, merged))


def _plain(key: str, value: Any, task: str) -> Any:
    """Return a value as the field holds it: tuples for lists, "" for no column."""
    if key == "classes" and isinstance(value, int):
        return tuple(map(str, range(value)))
    if key == "plausible":
        low, high = value
        return (-inf if low is None else float(low), inf if high is None else float(high))
    if key in ("data_files", "columns") and isinstance(value, str):
        return (value,) if value else ()
    listed = ("data_files", "columns", "classes", "components", "other_kinds")
    if key in listed or (key == "predict_idx" and not isinstance(value, (str, type(None)))):
        if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable | None):
            raise UsageError(f"task {task!r}: {key} must be a list, not {value!r}")
        return tuple(map(str, value or ()))
    if key == "optimizer":
        return _settings(key, value, task)
    return (value or "") if key == "t_column" else value


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_json(one) for key, one in value.items()}
    return [_as_json(one) for one in value] if isinstance(value, (list, tuple)) else value


def _settings(key: str, value: Any, task: str) -> dict[str, Any]:
    if not isinstance(value, Mapping | None):
        raise UsageError(f"task {task!r}: {key} must be a mapping of settings, not {value!r}")
    return dict(value or {})


def _names_of(field_name: str) -> list[str]:
    return [field_name, *(alias for alias, name in TASK_KEYS.items() if name == field_name)]


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
