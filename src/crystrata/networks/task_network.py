"""The network of tasks: a composition, and its crystal where there is one, to any number of labels.

    descriptor -> encoder -> (+ graph latents) -> latent stage -> task heads

B compositions, D descriptor width, d latent width.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from crystrata.datasets.composition_batch import CompositionBatch
from crystrata.datasets.task_targets import TaskTargets
from crystrata.datasets.tasks.specs import TaskSpec
from crystrata.errors import UsageError, unknown_name
from crystrata.graphs.batch import BatchForm
from crystrata.networks.encoders import build_descriptor_encoder, build_encoder
from crystrata.networks.encoders.encoder import Latent
from crystrata.networks.fusion import GatedFusion
from crystrata.networks.heads.task_head import TaskHead
from crystrata.networks.latent_stage import LatentStage
from crystrata.networks.self_supervised import CrossReconstruction, MaskedFeatures, contrastive_loss
from crystrata.networks.task_config import (
    CONTRASTIVE,
    CROSS_RECONSTRUCTION,
    MASKED_FEATURES,
    TaskNetworkConfig,
    head_of,
)
from crystrata.networks.trainable import TrainableNetwork


@dataclass(frozen=True)
class GraphLatents:
    """Latents of the crystals of a batch; zero where a composition has none.

    Attributes:
        latent: As wide as those of the compositions, (B, d).
        pooled: As the graph encoder gives them, (B, S).
        there: True where there is a crystal, (B,).
    """

    latent: Tensor
    pooled: Tensor
    there: Tensor


class TaskNetwork(TrainableNetwork[CompositionBatch]):
    """Descriptor encoder, gated fusion with a graph encoder, latent stage, and a head for each task.

    The descriptor is standardised inside by the training rows; entries that are not finite count as their mean.

    Attributes:
        resting: Tasks whose heads are kept and can predict, but have no part in losses and errors.
    """

    descriptor_mean: Tensor
    descriptor_scale: Tensor

    def __init__(self, config: TaskNetworkConfig) -> None:
        super().__init__()
        self.config = replace(config, tasks=())
        self.resting: frozenset[str] = frozenset()
        self.encoder = build_descriptor_encoder(config.encoder, config.settings)
        width, input_width = self.encoder.latent_width, self.encoder.input_width
        self.register_buffer("descriptor_mean", torch.zeros(input_width))
        self.register_buffer("descriptor_scale", torch.ones(input_width))
        self.stage = LatentStage(config.latent_stage, width, config.deposit_width)
        graph_width = 0
        self.graph_encoder = self.graph_latent = self.fusion = None
        if config.graph_encoder is not None:
            self.graph_encoder = build_encoder(config.graph_encoder, config.graph, config.graph_settings)
            graph_width = self.graph_encoder.latent_width
            self.graph_latent = nn.Linear(graph_width, width)
            self.fusion = GatedFusion(width, config.modality_dropout)
        self.pretraining = nn.ModuleDict()
        if MASKED_FEATURES in config.pretrain:
            self.pretraining[MASKED_FEATURES] = MaskedFeatures(width, input_width)
        if CROSS_RECONSTRUCTION in config.pretrain:
            self.pretraining[CROSS_RECONSTRUCTION] = CrossReconstruction(width, input_width, graph_width)
        self.heads = nn.ModuleDict()
        for spec in config.tasks:
            self.add_task(spec)

    def add_task(self, spec: TaskSpec) -> None:
        """Give a task a head of its own, untrained; what is there stays as it is.

        Raises:
            UsageError: There is a task of that name, or the name or a setting cannot be used.
        """
        config = replace(self.config, tasks=(*self.config.tasks, spec))
        head = head_of(spec, self.stage.latent_width, self.encoder, config)
        try:
            self.heads[spec.name] = head.to(self.descriptor_mean.device)
        except KeyError as error:
            raise UsageError(f"task {spec.name!r} cannot have this name: {error.args[0]}") from None
        self.config = config

    def remove_tasks(self, names: Iterable[str]) -> None:
        """Forget some tasks with their heads.

        Raises:
            UsageError: There is no task of a name.
        """
        gone = set(names)
        for name in sorted(gone):
            if name not in self.heads:
                raise unknown_name("task", name, list(self.heads))
        for name in gone:
            del self.heads[name]
        self.config = replace(self.config, tasks=tuple(spec for spec in self.config.tasks if spec.name not in gone))

    def head(self, name: str) -> TaskHead:
        """Return the head of a task."""
        return cast(TaskHead, self.heads[name])

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that do not rest, then of the losses without labels."""
        return (*(spec.name for spec in self._awake), *self.config.pretrain)

    @property
    def _awake(self) -> list[TaskSpec]:
        return [spec for spec in self.config.tasks if spec.name not in self.resting]

    @property
    def unbalanced_tasks(self) -> tuple[str, ...]:
        """Losses without labels have static weights only."""
        return self.config.pretrain

    @property
    def training_form(self) -> BatchForm | None:
        """What it reads of the graphs; None where it reads none."""
        encoder = self.graph_encoder
        return None if encoder is None else BatchForm(encoder.needs_angles, encoder.invariant)

    def latents(self, batch: CompositionBatch) -> Tensor:
        """Return what the heads read, (B, width of the latent stage)."""
        return self._joined(self.encoder(self.standardised(batch.descriptor)), self._graph_latents(batch))

    def composition_latents(self, descriptor: Tensor) -> Tensor:
        """Return what the heads read of compositions without a crystal, from descriptors (B, D)."""
        return self.stage(self.encoder(self.standardised(descriptor)))

    def standardised(self, descriptor: Tensor) -> Tensor:
        """Return what the encoder reads of descriptors (B, D), of the same shape; 0 where they are not finite."""
        return ((descriptor - self.descriptor_mean) / self.descriptor_scale).nan_to_num(0.0, 0.0, 0.0)

    def forward(self, batch: CompositionBatch, only: Collection[str] | None = None) -> dict[str, Tensor]:
        """Return predictions in physical units, by task.

        Curves are predicted where the labels of the batch have their coordinates, and left out where it has none.

        Args:
            batch: The compositions.
            only: Tasks that are asked for; all if not given. The heads of others are not run.
        """
        latent = self.latents(batch)
        found = {}
        for spec in self.config.tasks:
            labels = batch.labels.get(spec.name)
            if (only is None or spec.name in only) and (self.head(spec.name).form == "fixed" or labels is not None):
                found[spec.name] = self.predict(spec, latent, labels)
        return found

    def predict(self, spec: TaskSpec, latent: Tensor, labels: TaskTargets | None = None) -> Tensor:
        """Return the prediction of one task in physical units; that of an autoencoder is the descriptor."""
        head = self.head(spec.name)
        value = head.predict(head(latent, labels))
        return value * self.descriptor_scale + self.descriptor_mean if spec.kind == "autoencoder" else value

    def loss_sums(self, batch: CompositionBatch) -> dict[str, Tensor]:
        """Return the loss sum of each task; a head without a label in this micro-batch is not run."""
        x = self.standardised(batch.descriptor)
        composition, graphs = self.encoder(x), self._graph_latents(batch)
        latent, sums = self._joined(composition, graphs), {}
        for spec in self._awake:
            labels, head = self._targets(spec, batch), self.head(spec.name)
            sums[spec.name] = x.new_zeros(()) if labels is None else head.loss(head(latent, labels), labels)[0]
        return sums | {
            name: self._pretraining_loss(name, batch, x, composition, graphs) for name in self.config.pretrain
        }

    @property
    def classified(self) -> tuple[str, ...]:
        """Names of the classifications."""
        return tuple(spec.name for spec in self.config.tasks if spec.kind == "classification")

    def validation_losses(self, batch: CompositionBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Return loss sums and counts; see `TrainableNetwork.validation_losses`."""
        return self.loss_sums(batch), self.step_counts([batch])

    def step_counts(self, batches: Sequence[CompositionBatch]) -> Tensor:
        """Return what the loss sums of a whole step are divided by, (T,): labels, their class weights, or samples."""
        return torch.stack([self._counts(batch) for batch in batches]).sum(0)

    def errors(self, batch: CompositionBatch) -> dict[str, Tensor]:
        """Return the terms of the validation metric, task -> (M,).

        They are absolute errors in physical units, for curves at every known point; 1 for a wrong class, else 0; for an
        autoencoder the mean squared error of each descriptor, in units of the training variance.
        """
        latent, errors = self.latents(batch), {}
        for spec in self._awake:
            labels, head = self._targets(spec, batch), self.head(spec.name)
            if labels is None:
                continue
            if spec.kind == "autoencoder":
                squares = (head(latent) - labels.values).square().where(labels.known, 0.0)
                errors[spec.name] = squares.sum(1) / labels.known.sum(1).clamp(min=1)
                continue
            predicted = self.predict(spec, latent, labels)
            wrong = predicted != labels.values if spec.kind == "classification" else (predicted - labels.values).abs()
            errors[spec.name] = wrong[labels.known].to(latent.dtype)
        return errors

    @torch.no_grad()
    def fit_scaling(self, descriptors: Tensor, labels: Mapping[str, TaskTargets]) -> None:
        """Fit the scaling of the descriptor on training rows (n, D), and that of heads on training labels.

        Args:
            descriptors: NaN where unknown; a number that is always the same gets the scale 1.
            labels: Task -> labels; heads of tasks that are missing keep their scaling.
        """
        known = descriptors.isfinite()
        count = known.sum(0).clamp(min=1)
        mean = descriptors.double().where(known, 0.0).sum(0) / count
        spread = ((descriptors.double() - mean).where(known, 0.0).square().sum(0) / count).sqrt()
        self.descriptor_mean.copy_(mean)
        self.descriptor_scale.copy_(spread.where(spread > 1e-6 * mean.abs().clamp(min=1e-6), 1.0))
        self.fit_heads(labels)

    def fit_heads(self, labels: Mapping[str, TaskTargets]) -> None:
        """Fit the scaling of some heads on their training labels."""
        for name, targets in labels.items():
            self.head(name).fit(targets)

    def _joined(self, composition: Tensor, graphs: GraphLatents | None) -> Tensor:
        if self.fusion is not None and graphs is not None:
            composition = self.fusion(composition, graphs.latent, graphs.there)
        return self.stage(composition)

    def _graph_latents(self, batch: CompositionBatch) -> GraphLatents | None:
        if self.graph_encoder is None or self.graph_latent is None:
            return None
        n, like = len(batch.rows), self.descriptor_mean
        pooled = like.new_zeros(n, self.graph_encoder.latent_width)
        latent = like.new_zeros(n, self.encoder.latent_width)
        there = torch.zeros(n, dtype=torch.bool, device=like.device)
        if batch.crystals is not None:
            found = Latent.of(self.graph_encoder(batch.crystals), batch.crystals).crystal
            pooled = pooled.index_copy(0, batch.graph_rows, found)
            latent = latent.index_copy(0, batch.graph_rows, self.graph_latent(found))
            there = there.index_fill(0, batch.graph_rows, True)
        return GraphLatents(latent, pooled, there)

    def _targets(self, spec: TaskSpec, batch: CompositionBatch) -> TaskTargets | None:
        """Return what the head of a task learns from, None where the batch has nothing for it."""
        if spec.kind != "autoencoder":
            return batch.labels.get(spec.name)
        return TaskTargets(self.standardised(batch.descriptor), batch.descriptor.isfinite())

    def _counts(self, batch: CompositionBatch) -> Tensor:
        counts = []
        for spec in self._awake:
            labels = self._targets(spec, batch)
            counts.append(torch.zeros(()) if labels is None else self.head(spec.name).count(labels))
        counts += [
            torch.tensor(len(batch.rows) if name == MASKED_FEATURES else len(batch.graph_rows))
            for name in self.config.pretrain
        ]
        return torch.stack([count.to(self.descriptor_mean) for count in counts])

    def _pretraining_loss(
        self, name: str, batch: CompositionBatch, x: Tensor, composition: Tensor, graphs: GraphLatents | None
    ) -> Tensor:
        """Return the sum over samples of a loss without labels."""
        if name == MASKED_FEATURES:
            masked = cast(MaskedFeatures, self.pretraining[name])
            shown, hidden = masked.hide(x)
            total, _ = masked.loss(self.encoder(shown), x, hidden & batch.descriptor.isfinite())
            return total / (masked.fraction * x.shape[1])
        if graphs is None:
            raise TypeError(f"{name} needs a graph encoder")
        if name == CONTRASTIVE:
            return contrastive_loss(composition, graphs.latent, graphs.there)[0]
        cross = cast(CrossReconstruction, self.pretraining[CROSS_RECONSTRUCTION])
        return cross.loss(composition, graphs.latent, x, graphs.pooled, graphs.there)[0]
