"""Design objectives, and how far a prediction is from them. B compositions, T objectives, d latent width."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from crystrata.errors import UsageError, unknown_name
from crystrata.networks.heads.classification import ClassificationHead
from crystrata.networks.heads.scalar import ScalarHead
from crystrata.networks.latent import Latent
from crystrata.networks.network import Network

Relation = Literal["=", "<", ">", "least", "most", "class"]
_TEXT = re.compile(r"\s*([^=<>\s]+)\s*([=<>])\s*(.+?)\s*")
_EXTREMES: dict[str, Relation] = {"min": "least", "max": "most"}
_FORMS = "TASK=VALUE, TASK<VALUE, TASK>VALUE, TASK=min, TASK=max or TASK=CLASS"


@dataclass(frozen=True)
class Objective:
    """A desired value, bound, extreme or class of one task.

    Attributes:
        task: Name of the task.
        relation: `=`, `<` or `>` for a value; `least` or `most` to minimise or maximise; `class` for classes.
        value: The value, in the unit of the task, or one value per composition.
        classes: Names of equally acceptable classes; their probabilities add up.
        weight: Weight of its loss.

    Raises:
        UsageError: A value or the classes are missing, or the weight is not positive.
    """

    task: str
    relation: Relation
    value: float | tuple[float, ...] | None = None
    classes: tuple[str, ...] = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        if (self.relation in ("=", "<", ">")) != (self.value is not None):
            raise UsageError(f"{self.task}: the relation {self.relation!r} does not go with the value {self.value}")
        if (self.relation == "class") != bool(self.classes):
            raise UsageError(f"{self.task}: the relation `class`, and only that one, needs classes")
        if self.value is not None and not np.isfinite(self.value).all():
            raise UsageError(f"{self.task}: the value must be a finite number, not {self.value}")
        if not self.weight > 0:
            raise UsageError(f"{self.task}: the weight must be above 0, not {self.weight}")

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read `band_gap=1.4`, `formation_energy<-0.5`, `band_gap=max`, `material=metal` or `material=AC|QC`.

        Raises:
            UsageError: The text has none of these forms.
        """
        found = _TEXT.fullmatch(text)
        if not found:
            raise UsageError(f"{text!r} is not an objective: write {_FORMS}")
        task, relation, value = found.groups()
        try:
            number = float(value)
        except ValueError:
            if relation != "=":
                raise UsageError(f"{text!r}: {value!r} is not a number") from None
        else:
            return cls(task, "=" if relation == "=" else "<" if relation == "<" else ">", number)
        if value in _EXTREMES:
            return cls(task, _EXTREMES[value])
        return cls(task, "class", classes=tuple(value.split("|")))


class ObjectiveFunction:
    """The loss of latents under some objectives, on the standardised scale of each task.

    Args:
        objectives: At least one, each for a different task.
        network: Must have the tasks.

    Raises:
        UsageError: There is no objective, two are for the same task, a task or class is unknown, or a head predicts
            neither a number nor a class.
    """

    def __init__(self, objectives: Sequence[Objective], network: Network) -> None:
        if not objectives:
            raise UsageError("no objective: give at least one")
        names = [objective.task for objective in objectives]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise UsageError(f"{min(repeated)} has two objectives: give one for each task")
        self.objectives, self.network = tuple(objectives), network
        self._tasks = {task.name: task for task in network.tasks}
        for objective in objectives:
            self._check(objective)

    def _check(self, objective: Objective) -> None:
        name = objective.task
        if name not in self._tasks:
            raise unknown_name("task", name, list(self._tasks))
        task, head = self._tasks[name], self.network.head(name)
        if isinstance(head, ClassificationHead):
            for label in objective.classes:
                if label not in task.classes:
                    raise unknown_name(f"class of {name}", label, task.classes)
            if objective.relation != "class":
                raise UsageError(f"{name} is a class: write {name}={task.classes[0]}")
        elif not (isinstance(head, ScalarHead) and head.components is None):
            raise UsageError(f"{name} is a {task.kind}: objectives must be numbers or classes")
        elif objective.relation == "class":
            raise UsageError(f"{name} is a number, and {'|'.join(objective.classes)!r} is not")

    def of_row(self, row: int) -> ObjectiveFunction:
        """Return the objectives of one composition, where each composition has its own values."""
        objectives = [
            replace(objective, value=objective.value[row]) if isinstance(objective.value, tuple) else objective
            for objective in self.objectives
        ]
        return ObjectiveFunction(objectives, self.network)

    def require_rows(self, rows: int) -> None:
        """Refuse values per composition whose number differs from that of the compositions.

        Raises:
            UsageError: It differs.
        """
        for objective in self.objectives:
            if isinstance(objective.value, tuple) and len(objective.value) != rows:
                raise UsageError(f"{objective.task}: {len(objective.value)} values for {rows} compositions")

    def losses(self, latent: Tensor) -> Tensor:
        """Return the loss of each composition, (B,), from latents (B, d).

        The sum of squared distances from values, and of -log p of classes.
        """
        return torch.stack([one.weight * self._loss(one, latent) for one in self.objectives]).sum(0)

    def _loss(self, objective: Objective, latent: Tensor) -> Tensor:
        head = self.network.head(objective.task)
        output = head(Latent(latent))
        if isinstance(head, ClassificationHead):
            return -output.log_softmax(1)[:, self._class_indices(objective)].logsumexp(1)
        if objective.value is None:
            return output if objective.relation == "least" else -output
        distance = output - self._standardised(objective)
        if objective.relation != "=":
            distance = (distance if objective.relation == "<" else -distance).clamp(min=0)
        return distance.square()

    def values(self, latent: Tensor) -> Tensor:
        """Return the prediction for each objective, (B, T): a value in its unit, or the probability of its classes."""
        columns = []
        for objective in self.objectives:
            head = self.network.head(objective.task)
            output = head(Latent(latent))
            if isinstance(head, ClassificationHead):
                columns.append(head.probabilities(output)[:, self._class_indices(objective)].sum(1))
            else:
                columns.append(head.predict(output, Latent(latent)))
        return torch.stack(columns, dim=1)

    def _standardised(self, objective: Objective) -> Tensor:
        """Return the value of an objective on the scale of the network, () or (B,)."""
        head = self.network.head(objective.task)
        if not isinstance(head, ScalarHead):
            raise TypeError(f"{objective.task} has no scale")
        scale = head.scaling.scale
        return head.scaling.standardise(torch.as_tensor(objective.value, dtype=scale.dtype, device=scale.device))

    def _class_indices(self, objective: Objective) -> list[int]:
        return [self._tasks[objective.task].classes.index(name) for name in objective.classes]
