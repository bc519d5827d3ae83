"""Several networks as one: each predicts its tasks, and where several do, the mean of them counts. B crystals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from crystrata.datasets.batch import Batch
from crystrata.errors import ModelError
from crystrata.graph_settings import GraphSettings
from crystrata.jarvis_properties import PROPERTIES
from crystrata.networks.network import Network
from crystrata.tasks import Task


class Ensemble(nn.Module):
    """The members' predictions; all members read the same graphs, and crystals alone.

    Args:
        members: The networks, each with heads for no more than what it predicts.

    Raises:
        ModelError: There is no member, they read different graphs, or one reads compositions.
    """

    reads_crystals, reads_compositions = True, False

    def __init__(self, members: Sequence[Network]) -> None:
        super().__init__()
        if not members or any(member.graph != members[0].graph for member in members):
            raise ModelError("networks that are combined must read the same graphs")
        if any(member.reads_compositions for member in members):
            raise ModelError("networks that are combined must read crystals alone")
        self._members = nn.ModuleList(members)

    @property
    def members(self) -> list[Network]:
        """The networks, in order."""
        return [cast(Network, member) for member in self._members]

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.members[0].device

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Tasks that some member predicts: properties in table order, then the others as they come."""
        known = {task.name: task for member in self.members for task in member.tasks}
        return tuple(known[name] for name in dict.fromkeys([*PROPERTIES, *known]) if name in known)

    @property
    def task_names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(task.name for task in self.tasks)

    @property
    def graph(self) -> GraphSettings:
        """Settings of the neighbourhoods that the members read."""
        return self.members[0].graph

    @property
    def needs_angles(self) -> bool:
        """Whether some member reads angles."""
        return any(member.needs_angles for member in self.members)

    @property
    def latent_width(self) -> int:
        """Width of the latents, which are those of the first member."""
        return self.members[0].latent_width

    @property
    def detail_titles(self) -> list[str]:
        """Titles of the further columns, each once."""
        return list(dict.fromkeys(title for member in self.members for title in member.detail_titles))

    def evaluate(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Return predictions, further columns and the latents of the first member; see `Network.evaluate`."""
        found = [member.evaluate(batch) for member in self.members]
        values = _means([one[0] for one in found])
        details = _means([one[1] for one in found])
        return {name: values[name] for name in self.task_names if name in values}, details, found[0][2]


def _means(predictions: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    titles = dict.fromkeys(title for one in predictions for title in one)
    return {title: torch.stack([one[title] for one in predictions if title in one]).mean(0) for title in titles}
