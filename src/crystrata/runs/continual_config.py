"""One frozen configuration of continual learning: tasks that are learned one after another, and what is replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any

from crystrata.errors import UsageError, unknown_name
from crystrata.files import digest_of_json, read_toml_table
from crystrata.runs.config import NOT_RESULT, RunConfig

TABLE = "continual"
"""Table of a TOML file that holds the configuration; other tables belong to other commands."""

TABLES = ("continual", "rehearsal")
"""Names that the table may have; the second is older."""

_DECIDED = (
    "tasks", "start", "carry_heads", "freeze_shared", "split", "splits_file", "redraw_masks", "models_dir", "run_id",
)  # fmt: skip
"""Fields of a run that continual learning itself decides."""

_DEFAULTS: dict[str, Any] = {
    "composition": "mlp", "composition_settings": {"hidden_dims": [None, 256, 128]}, "latent_stage": "tanh",
}  # fmt: skip
_OLDER = {"encoder": "composition", "encoder_settings": "composition_settings", "pretrain": "self_supervised",
          "graph_encoder": "structure", "graph_settings": "structure_settings"}  # fmt: skip
"""Older names of fields of a run."""


@dataclass(frozen=True)
class ContinualConfig:
    """Everything that decides the steps of continual learning.

    Attributes:
        catalogue: `demo` or `full`, a list of tasks over JARVIS columns, or None.
        tasks: Further tasks, with the keys of a task; one without `data_files` reads the JARVIS table by composition.
        data_file: JARVIS file; None takes the one that CRYSTRATA_JARVIS names.
        curves_file: Table of phonon densities of states by jid, which join a catalogue as a task, or None.
        max_compositions: Compositions of the JARVIS table that are used; None takes all.
        replay: What is seen of every earlier task: a fraction of its training samples below 1, or their number.
        replay_by_task: Task -> amount in place of `replay`; 0 replays nothing.
        replay_interval: Earlier tasks are replayed on every n-th step.
        redraw: Whether each epoch replays other samples.
        order_seed: Shuffles the order of the tasks; None takes them as listed.
        last: Tasks that come at the end in any case, in this order: those that are to be freshest.
        training: Fields of `RunConfig` that hold for every step.
        output: Folder of the runs of all steps.

    Raises:
        UsageError: A value is out of range, `last` names a task twice, or a key of `training` is unknown or decided by
            the steps.
    """

    catalogue: str | None = None
    tasks: tuple[dict[str, Any], ...] = ()
    data_file: str | None = None
    curves_file: str | None = None
    max_compositions: int | None = None
    replay: float = 0.05
    replay_by_task: dict[str, float] = field(default_factory=dict)
    replay_interval: int = 1
    redraw: bool = True
    order_seed: int | None = None
    last: tuple[str, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    output: str = "artifacts/continual"

    def __post_init__(self) -> None:
        if not self.tasks and self.catalogue is None:
            raise UsageError("continual learning needs tasks: name a catalogue, or list them as [[continual.tasks]]")
        for name, amount in {"replay": self.replay, **self.replay_by_task}.items():
            if not (isfinite(amount) and amount >= 0 and (amount < 1 or float(amount).is_integer())):
                raise UsageError(f"replay of {name!r}: a fraction below 1 or a whole number of samples, not {amount}")
        if self.replay_interval < 1 or (self.max_compositions is not None and self.max_compositions < 1):
            raise UsageError("replay_interval and max_compositions must be 1 or more")
        for name in self.last:
            if self.last.count(name) > 1:
                raise UsageError(f"[{TABLE}] last names {name!r} twice: a task is learned once")
        for key in self.training:
            if key in _DECIDED:
                raise UsageError(f"[{TABLE}.training] {key} is decided by the steps: leave it out")
        self.run_config(())

    def run_config(self, tasks: tuple[dict[str, Any], ...], **fields: Any) -> RunConfig:
        """Return the configuration of a run over some of the tasks, with further fields of its own."""
        training = {_OLDER.get(key, key): value for key, value in self.training.items()}
        values = {**_DEFAULTS, **training, "redraw_masks": self.redraw, **fields}
        if not tasks and not values.get("autoencoder"):
            values["autoencoder"] = True  # a run has a task; this one only checks the other fields
        return RunConfig.from_dict({**values, "tasks": tasks})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ContinualConfig:
        """Make a configuration from the values of `as_dict`, or of the table of a TOML file.

        Raises:
            UsageError: A key is unknown, or a value of the wrong kind.
        """
        known = [entry.name for entry in fields(cls)]
        for key in values:
            if key not in known:
                raise unknown_name(f"key of [{TABLE}]", key, known)
        for key in ("tasks", "last"):
            if not isinstance(values.get(key, ()), list | tuple):
                raise UsageError(f"[{TABLE}] {key} is a list, not {values[key]!r}: write it in square brackets")
        try:
            return cls(**{**values, **{key: tuple(values.get(key, ())) for key in ("tasks", "last")}})
        except (TypeError, AttributeError) as error:
            raise UsageError(f"[{TABLE}] has a value of the wrong kind: {error}") from None

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "tasks": [dict(task) for task in self.tasks], "last": list(self.last)}

    def deciding(self) -> dict[str, Any]:
        """Return the values that must be the same for the steps to be continued."""
        values = self.as_dict()
        training = {key: value for key, value in values.pop("training").items() if key not in NOT_RESULT}
        del values["output"]
        return {**values, **{f"training.{key}": value for key, value in training.items()}}

    def digest(self) -> str:
        """Return a digest of everything that decides the result."""
        return digest_of_json(self.deciding())


def read_continual(path: Path, **given: Any) -> ContinualConfig:
    """Read the table `[continual]` of a TOML file.

    Args:
        path: The file; other tables are ignored.
        given: Values that take precedence over those of the file; None changes nothing. `epochs` is that of `training`.

    Raises:
        InputError: The file is missing or no TOML.
        UsageError: It has no such table, or a key or value cannot be used.
    """
    table = read_toml_table(path, *TABLES)
    values = {**table, **{key: value for key, value in given.items() if value is not None}}
    if "epochs" in given and given["epochs"] is not None:
        values["training"] = {**values.get("training", {}), "epochs": values.pop("epochs")}
    return ContinualConfig.from_dict(values)
