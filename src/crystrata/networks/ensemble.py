"""Several networks as one: each answers for its properties, and where several do, the mean of them. B crystals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from crystrata.errors import ModelError
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.batch import CrystalBatch
from crystrata.networks.multitask import MultiTaskNetwork
from crystrata.properties import PROPERTIES


class Ensemble(nn.Module):
    """The members' answers; all members read the same graphs.

    Args:
        members: The networks, each with heads for no more than what it answers.

    Raises:
        ModelError: There is no member, or they read different graphs.
    """

    def __init__(self, members: Sequence[MultiTaskNetwork]) -> None:
        super().__init__()
        if not members or any(member.graph != members[0].graph for member in members):
            raise ModelError("networks that are combined must read the same graphs")
        self._members = nn.ModuleList(members)

    @property
    def members(self) -> list[MultiTaskNetwork]:
        """The networks, in order."""
        return [cast(MultiTaskNetwork, member) for member in self._members]

    @property
    def properties(self) -> tuple[str, ...]:
        """Properties that some member answers for, in table order."""
        known = {name for member in self.members for name in member.properties}
        return tuple(name for name in PROPERTIES if name in known)

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

    def describe(self, batch: CrystalBatch) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Return predictions, further columns and the latents of the first member, as `MultiTaskNetwork.describe`."""
        told = [member.describe(batch) for member in self.members]
        values = _means([answer[0] for answer in told])
        details = _means([answer[1] for answer in told])
        return {name: values[name] for name in self.properties}, details, told[0][2]


def _means(answers: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    titles = dict.fromkeys(title for answer in answers for title in answer)
    return {title: torch.stack([answer[title] for answer in answers if title in answer]).mean(0) for title in titles}
