"""The multi-task network: one encoder, one head per property. B crystals, P properties."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from crystrata.datasets.labelled_batch import Components, LabelledBatch
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.batch import BatchForm, CrystalBatch
from crystrata.networks.encoders import build_encoder
from crystrata.networks.encoders.encoder import Latent
from crystrata.networks.heads import build_head
from crystrata.networks.heads.head import Head
from crystrata.networks.trainable import TrainableNetwork
from crystrata.properties import get_property


@dataclass(frozen=True)
class NetworkConfig:
    """Everything needed to build a network without its weights.

    Attributes:
        encoder: Name of the encoder.
        settings: Its settings.
        properties: Names of the properties, in order.
        graph: Settings of the neighbourhoods it was made for.
        head_hidden: Hidden width of the heads.
        heads: Kind of the head of a property, where it is not the property's own.
    """

    encoder: str
    properties: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    graph: GraphSettings = field(default_factory=GraphSettings)
    head_hidden: int = 128
    heads: dict[str, str] = field(default_factory=dict)

    def head_kind(self, name: str) -> str:
        """Return the kind of a property's head."""
        return self.heads.get(name, get_property(name).head)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "properties": list(self.properties)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkConfig:
        """Make a configuration from the values of `as_dict`."""
        graph = GraphSettings(**values["graph"])
        return cls(**{**values, "properties": tuple(values["properties"]), "graph": graph})


class MultiTaskNetwork(TrainableNetwork[LabelledBatch]):
    """crystals -> encoder -> latent -> heads -> physical properties."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config.encoder, config.graph, config.settings)
        self._compiled: Callable[[CrystalBatch], Tensor] | None = None
        self.heads = nn.ModuleDict(
            {
                name: build_head(
                    config.head_kind(name),
                    get_property(name),
                    self.encoder.latent_width,
                    config.head_hidden,
                    config.graph,
                )
                for name in config.properties
            }
        )

    def head(self, name: str) -> Head:
        """Return the head of a property."""
        return cast(Head, self.heads[name])

    @property
    def properties(self) -> tuple[str, ...]:
        """Properties that it predicts, in order."""
        return self.config.properties

    @property
    def tasks(self) -> tuple[str, ...]:
        """The properties: each is a task of the training."""
        return self.config.properties

    @property
    def graph(self) -> GraphSettings:
        """Settings of the neighbourhoods that it reads."""
        return self.config.graph

    @property
    def latent_width(self) -> int:
        """Width d of its latents."""
        return self.encoder.latent_width

    @property
    def needs_angles(self) -> bool:
        """Whether it reads the angles between edges."""
        return self.encoder.needs_angles

    def only(self, names: Sequence[str]) -> MultiTaskNetwork:
        """Return a network of the same encoder with the heads of some of its properties; it shares the weights."""
        config = replace(
            self.config, properties=tuple(names), heads={name: self.config.head_kind(name) for name in names}
        )
        network = MultiTaskNetwork(config)
        network.encoder = self.encoder
        network.heads = nn.ModuleDict({name: self.heads[name] for name in names})
        return network

    @property
    def training_form(self) -> BatchForm:
        """What the network reads of the graphs it is trained on."""
        encoder, config = self.encoder, self.config
        whole = tuple(name for name in config.properties if self.head(name).reads_whole_crystals)
        return BatchForm(encoder.needs_angles, encoder.invariant, whole if encoder.invariant else ())

    def compile_encoder(self) -> None:
        """Let torch compile the encoder for the shapes of training; evaluation keeps the plain one."""
        self._compiled = torch.compile(self.encoder.forward, dynamic=True)

    def forget_compiled_encoder(self) -> None:
        """Go back to the plain encoder."""
        self._compiled = None

    def encode(self, batch: CrystalBatch) -> Latent:
        """Return the latents of a batch."""
        encoder = self._compiled if self.training and self._compiled else self.encoder
        return Latent.of(encoder(batch), batch)

    def forward(self, batch: CrystalBatch) -> dict[str, Tensor]:
        """Return predictions in physical units, property name -> (B,)."""
        return self.describe(batch)[0]

    def describe(self, batch: CrystalBatch) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Return predictions, as `forward`, the further columns of the heads, title -> (B,), and the latents (B, d)."""
        latent = self.encode(batch)
        values, details = {}, {}
        for name in self.heads:
            head = self.head(name)
            output = head(latent)
            values[name] = head.predict(output, latent)
            details.update(head.details(output, latent))
        return values, details, latent.crystal

    @property
    def detail_titles(self) -> list[str]:
        """Titles of the further columns of the heads, in the order of `describe`."""
        return [title for name in self.heads for title in self.head(name).detail_titles]

    def losses(
        self,
        batch: CrystalBatch,
        targets: Tensor,
        mask: Tensor,
        components: Mapping[str, Components] | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return loss sums and counts by property.

        Args:
            batch: The crystals.
            targets: Labels in physical units, (B, P).
            mask: True where a label is known, (B, P).
            components: Labels of tensor components, by property.
        """
        latent = self.encode(batch)
        sums, counts = {}, {}
        for column, name in enumerate(self.heads):
            head = self.head(name)
            parts = (components or {}).get(name)
            sums[name], counts[name] = head.loss(head(latent), latent, targets[:, column], mask[:, column], parts)
        return sums, counts

    def loss_sums(self, batch: LabelledBatch) -> dict[str, Tensor]:
        """Return the loss sum of each property over a micro-batch."""
        return self.losses(batch.crystals, batch.targets, batch.mask, batch.components)[0]

    def step_counts(self, batches: Sequence[LabelledBatch]) -> Tensor:
        """Return the known labels of each property in the step that is cut into these micro-batches, (P,)."""
        return batches[0].step_counts

    def errors(self, batch: LabelledBatch) -> dict[str, Tensor]:
        """Return the absolute errors of known labels in physical units, property name -> (M,)."""
        predicted = self(batch.crystals)
        errors = {}
        for column, name in enumerate(self.config.properties):
            known = batch.mask[:, column]
            errors[name] = (predicted[name] - batch.targets[:, column]).abs()[known]
        return errors

    def fit_scaling(self, targets: Tensor, fractions: Tensor) -> None:
        """Fit the scaling of every head on training labels (n, P), NaN where unknown, and fractions (n, 103)."""
        for column, name in enumerate(self.heads):
            known = ~torch.isnan(targets[:, column])
            if known.any():
                self.head(name).scaling.fit(targets[known, column], fractions[known])


def count_parameters(network: nn.Module) -> int:
    """Return the number of trained parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
