"""What is wanted of a material, and how far a prediction is from it. B recipes, T wishes."""

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


@dataclass(frozen=True)
class Want:
    """One wish.

    Attributes:
        task: Name of the task.
        relation: `=`, `<` or `>` a value; `least` or `most`, as far as it goes; `class`, one of some classes.
        value: The value, in the unit of the task; or one for each recipe.
        classes: Names of the classes that are as good; their probabilities add up.
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
            raise UsageError(f"{self.task}: the relation {self.relation!r} and the value {self.value} do not fit")
        if (self.relation == "class") != bool(self.classes):
            raise UsageError(f"{self.task}: name the wanted classes")
        if self.value is not None and not np.isfinite(self.value).all():
            raise UsageError(f"{self.task}: the wanted value must be a finite number, not {self.value}")
        if not self.weight > 0:
            raise UsageError(f"{self.task}: the weight must be above 0, not {self.weight}")

    @classmethod
    def parse(cls, text: str) -> Want:
        """Read `band_gap=1.4`, `formation_energy<-0.5`, `band_gap=max`, `material=metal` or `material=AC|QC`.

        Raises:
            UsageError: It is none of these.
        """
        found = _TEXT.fullmatch(text)
        if not found:
            raise UsageError(f"{text!r} is no wish: write TASK=VALUE, TASK<VALUE, TASK>VALUE, TASK=max or TASK=CLASS")
        task, relation, value = found.groups()
        try:
            number = float(value)
        except ValueError:
            if relation != "=":
                raise UsageError(f"{text!r}: {value!r} is no number") from None
        else:
            return cls(task, "=" if relation == "=" else "<" if relation == "<" else ">", number)
        if value in _EXTREMES:
            return cls(task, _EXTREMES[value])
        return cls(task, "class", classes=tuple(value.split("|")))


class Targets:
    """Wishes as a loss on latents, on the standardised scale of each task.

    Args:
        wants: At least one, each for a task of its own.
        network: Must have the tasks.

    Raises:
        UsageError: There is no wish, two are for one task, a task or class is unknown, or no head answers like this.
    """

    def __init__(self, wants: Sequence[Want], network: Network) -> None:
        if not wants:
            raise UsageError("nothing is wanted: give at least one target")
        names = [want.task for want in wants]
        if twice := {name for name in names if names.count(name) > 1}:
            raise UsageError(f"{min(twice)} is wanted twice")
        self.wants, self.network = tuple(wants), network
        self._tasks = {task.name: task for task in network.tasks}
        for want in wants:
            self._check(want)

    def _check(self, want: Want) -> None:
        if want.task not in self._tasks:
            raise unknown_name("task", want.task, list(self._tasks))
        task, head = self._tasks[want.task], self.network.head(want.task)
        if isinstance(head, ClassificationHead):
            for name in want.classes:
                if name not in task.classes:
                    raise unknown_name(f"class of {want.task}", name, task.classes)
            if want.relation != "class":
                raise UsageError(f"{want.task} is a class: write {want.task}={task.classes[0]}")
        elif not (isinstance(head, ScalarHead) and head.components is None):
            raise UsageError(f"{want.task} is a {task.kind}: only numbers and classes can be wanted")
        elif want.relation == "class":
            raise UsageError(f"{want.task} is a number: {'|'.join(want.classes)!r} is none")

    def of_row(self, row: int) -> Targets:
        """Return the wishes of one recipe alone, where each has values of its own."""
        wants = [replace(one, value=one.value[row]) if isinstance(one.value, tuple) else one for one in self.wants]
        return Targets(wants, self.network)

    def require_rows(self, rows: int) -> None:
        """Refuse values for each recipe that are not as many as the recipes.

        Raises:
            UsageError: They are not.
        """
        for want in self.wants:
            if isinstance(want.value, tuple) and len(want.value) != rows:
                raise UsageError(f"{want.task}: {len(want.value)} values are wanted of {rows} recipes")

    def losses(self, latent: Tensor) -> Tensor:
        """Return the loss of each recipe, (B,): squared distances from values, -log p of classes, summed."""
        return torch.stack([want.weight * self._loss(want, latent) for want in self.wants]).sum(0)

    def _loss(self, want: Want, latent: Tensor) -> Tensor:
        head = self.network.head(want.task)
        output = head(Latent(latent))
        if isinstance(head, ClassificationHead):
            return -output.log_softmax(1)[:, self._places(want)].logsumexp(1)
        if want.value is None:
            return output if want.relation == "least" else -output
        distance = output - self.standardised(want)
        if want.relation != "=":
            distance = (distance if want.relation == "<" else -distance).clamp(min=0)
        return distance.square()

    def values(self, latent: Tensor) -> Tensor:
        """Return what is predicted for each wish, (B, T): values in their units, probabilities of wanted classes."""
        columns = []
        for want in self.wants:
            head = self.network.head(want.task)
            output = head(Latent(latent))
            if isinstance(head, ClassificationHead):
                columns.append(head.probabilities(output)[:, self._places(want)].sum(1))
            else:
                columns.append(head.predict(output, Latent(latent)))
        return torch.stack(columns, dim=1)

    def standardised(self, want: Want) -> Tensor:
        """Return the wanted value on the scale of the network, () or (B,)."""
        head = self.network.head(want.task)
        if not isinstance(head, ScalarHead):
            raise TypeError(f"{want.task} has no scale")
        scale = head.scaling.scale
        return head.scaling.standardise(torch.as_tensor(want.value, dtype=scale.dtype, device=scale.device))

    def _places(self, want: Want) -> list[int]:
        return [self._tasks[want.task].classes.index(name) for name in want.classes]
