"""The network: a crystal and/or a composition to any number of tasks.

    crystal -> structure encoder --+
                                   +-> fusion -> latent stage -> heads -> values in physical units
    descriptor -> composition encoder --+

B materials, N atoms, D descriptor width, d latent width, T tasks, M terms of a validation metric.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from crystrata.datasets.batch import Batch, Targets
from crystrata.errors import UsageError, unknown_name
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.batch import BatchForm, CrystalBatch
from crystrata.networks.config import CONTRASTIVE, CROSS_RECONSTRUCTION, MASKED_FEATURES, NetworkConfig
from crystrata.networks.encoders import build_composition_encoder, build_encoder
from crystrata.networks.encoders.encoder import CompositionEncoder, StructureEncoder
from crystrata.networks.heads import build_head
from crystrata.networks.heads.head import Head
from crystrata.networks.latent import GatedFusion, Latent, LatentStage
from crystrata.networks.self_supervised import CrossReconstruction, MaskedFeatures, contrastive_loss
from crystrata.tasks import Task


class Network(nn.Module):
    """Encoders, gated fusion where there are two, latent stage, and a head for each task.

    The descriptor is standardised inside by the training rows; entries that are not finite count as their mean.

    Attributes:
        config: What it is made of.
        inactive: Tasks whose heads are kept and can predict, but take no part in losses and errors.
        encoder: Reads crystals; None where nothing does.
        composition_encoder: Reads descriptors of compositions; None where nothing does.
    """

    encoder: StructureEncoder | None
    composition_encoder: CompositionEncoder | None
    structure_latent: nn.Linear | None
    fusion: GatedFusion | None
    descriptor_mean: Tensor
    descriptor_scale: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = replace(config, tasks=())
        self.inactive: frozenset[str] = frozenset()
        self.encoder = self.composition_encoder = self.structure_latent = self.fusion = None
        self._compiled: Callable[[CrystalBatch], Tensor] | None = None
        width = input_width = 0
        if config.composition is not None:
            self.composition_encoder = build_composition_encoder(config.composition, config.composition_settings)
            width, input_width = self.composition_encoder.latent_width, self.composition_encoder.input_width
            self.register_buffer("descriptor_mean", torch.zeros(input_width))
            self.register_buffer("descriptor_scale", torch.ones(input_width))
        stage_width = width
        if config.structure is not None:
            self.encoder = build_encoder(config.structure, config.graph, config.structure_settings)
            stage_width = width or self.encoder.latent_width
        self.stage = LatentStage(config.latent_stage, stage_width, config.deposit_width)
        if self.encoder is not None and self.composition_encoder is not None:
            self.structure_latent = nn.Linear(self.encoder.latent_width, width)
            self.fusion = GatedFusion(width, config.modality_dropout)
        self.pretraining = nn.ModuleDict()
        if MASKED_FEATURES in config.self_supervised:
            self.pretraining[MASKED_FEATURES] = MaskedFeatures(width, input_width)
        if CROSS_RECONSTRUCTION in config.self_supervised and self.encoder is not None:
            structure_width = self.encoder.latent_width
            self.pretraining[CROSS_RECONSTRUCTION] = CrossReconstruction(width, input_width, structure_width)
        self.heads = nn.ModuleDict()
        for task in config.tasks:
            self.add_task(task)

    def add_task(self, task: Task) -> None:
        """Give a task a head of its own, untrained; what is there stays as it is.

        Raises:
            UsageError: There is a task of that name, or the name or a setting cannot be used.
        """
        config = self.config.with_tasks((*self.config.tasks, task))
        head = build_head(
            task,
            self.stage.latent_width,
            config.graph,
            input_width=None if self.composition_encoder is None else self.composition_encoder.input_width,
            encoder=config.composition_settings,
        )
        try:
            self.heads[task.name] = head.to(self.device)
        except KeyError as error:
            raise UsageError(f"task {task.name!r} cannot have this name: {error.args[0]}") from None
        self.config = config

    def remove_tasks(self, *names: str) -> None:
        """Take tasks away with their heads; what is left stays as it is. An unknown name is a UsageError."""
        if unknown := [name for name in names if name not in self.heads]:
            raise unknown_name("task", unknown[0], self.heads)
        self.config = self.config.with_tasks(tuple(task for task in self.config.tasks if task.name not in names))
        for name in names:
            del self.heads[name]

    def only(self, names: Sequence[str]) -> Network:
        """Return a network of the same encoders with the heads of some of its tasks; it shares the weights."""
        tasks = {task.name: task for task in self.config.tasks}
        network = Network(self.config.with_tasks(tuple(tasks[name] for name in names)))
        for name, part in (*self.named_children(), *self.named_buffers(recurse=False)):
            if name != "heads":
                setattr(network, name, part)
        network.heads = nn.ModuleDict({name: self.heads[name] for name in names})
        return network

    def head(self, name: str) -> Head:
        """Return the head of a task."""
        return cast(Head, self.heads[name])

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Tasks that it predicts, in order."""
        return self.config.tasks

    @property
    def task_names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(task.name for task in self.config.tasks)

    @property
    def active(self) -> tuple[Task, ...]:
        """Tasks that are learned."""
        return tuple(task for task in self.config.tasks if task.name not in self.inactive)

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of everything that has a loss, T of them: the active tasks, then the self-supervised losses."""
        return (*(task.name for task in self.active), *self.config.self_supervised)

    @property
    def graph(self) -> GraphSettings:
        """Settings of the neighbourhoods that it reads."""
        return self.config.graph

    @property
    def latent_width(self) -> int:
        """Width d of its latents."""
        return self.stage.latent_width

    @property
    def reads_crystals(self) -> bool:
        """Whether it reads crystals."""
        return self.encoder is not None

    @property
    def reads_compositions(self) -> bool:
        """Whether it reads the descriptors of compositions."""
        return self.composition_encoder is not None

    @property
    def needs_angles(self) -> bool:
        """Whether it reads the angles between edges."""
        return self.encoder is not None and self.encoder.needs_angles

    @property
    def training_form(self) -> BatchForm | None:
        """What it reads of the graphs that it is trained on; None where it reads none."""
        if self.encoder is None:
            return None
        whole = tuple(task.name for task in self.active if self.head(task.name).reads_whole_crystals)
        return BatchForm(self.needs_angles, self.encoder.invariant, whole if self.encoder.invariant else ())

    def compile_encoder(self) -> None:
        """Let torch compile the structure encoder for the shapes of training; evaluation keeps the plain one."""
        if self.encoder is not None:
            self._compiled = torch.compile(self.encoder.forward, dynamic=True)

    def forget_compiled_encoder(self) -> None:
        """Go back to the plain encoder."""
        self._compiled = None

    def encode(self, batch: Batch) -> Latent:
        """Return what the heads read of a batch."""
        return self._joined(self._of_compositions(batch), self._of_crystals(batch), batch)

    def encode_crystals(self, batch: CrystalBatch) -> Latent:
        """Return what the heads read of crystals, for a network that reads crystals alone."""
        return self.encode(Batch(torch.arange(len(batch)), {}, crystals=batch))

    def composition_latents(self, descriptor: Tensor) -> Tensor:
        """Return what the heads read of compositions without a crystal, (B, d), from descriptors (B, D)."""
        return self.stage(self._encode_descriptor(self.standardised(descriptor)))

    def standardised(self, descriptor: Tensor) -> Tensor:
        """Return what the encoder reads of descriptors (B, D), of the same shape; 0 where they are not finite."""
        return ((descriptor - self.descriptor_mean) / self.descriptor_scale).nan_to_num(0.0, 0.0, 0.0)

    def forward(self, batch: Batch, only: Collection[str] | None = None) -> dict[str, Tensor]:
        """Return predictions in physical units, by task.

        Curves are predicted where the targets of the batch have their coordinates, and left out where it has none.

        Args:
            batch: The materials.
            only: Tasks that are asked for; all if not given. The heads of others are not run.
        """
        latent, found = self.encode(batch), {}
        for task in self.config.tasks:
            targets = batch.targets.get(task.name)
            asked = only is None or task.name in only
            if asked and (self.head(task.name).form == "fixed" or targets is not None):
                found[task.name] = self.predict(task.name, latent, targets)
        return found

    def predict(self, name: str, latent: Latent | Tensor, targets: Targets | None = None) -> Tensor:
        """Return the prediction of one task in physical units; that of an autoencoder is the descriptor.

        Args:
            name: The task.
            latent: What its head reads; latents of compositions may be given as they are, (B, d).
            targets: Where a curve is asked.
        """
        head, latent = self.head(name), Latent(latent) if isinstance(latent, Tensor) else latent
        value = head.predict(head(latent, targets), latent)
        return value * self.descriptor_scale + self.descriptor_mean if head.task.kind == "autoencoder" else value

    def evaluate(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Return predictions of one number per material by task, further columns of the heads, and latents (B, d)."""
        latent = self.encode(batch)
        values, details = {}, {}
        for task in self.config.tasks:
            if task.is_number:
                head = self.head(task.name)
                output = head(latent)
                values[task.name] = head.predict(output, latent)
                details.update(head.details(output, latent))
        return values, details, latent.pooled

    @property
    def detail_titles(self) -> list[str]:
        """Titles of the further columns of the heads, in the order of `evaluate`."""
        return [title for task in self.tasks if task.is_number for title in self.head(task.name).detail_titles]

    def loss_sums(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss sum of each loss over a micro-batch; every head is run, whatever labels are known."""
        composition, structure = self._of_compositions(batch), self._of_crystals(batch)
        latent, sums = self._joined(composition, structure, batch), {}
        for task in self.active:
            head, targets = self.head(task.name), self.targets_of(task, batch)
            sums[task.name] = head.loss(head(latent, targets), latent, targets)[0]
        for name in self.config.self_supervised:
            sums[name] = self._self_supervised_loss(name, batch, composition, structure)
        return sums

    def step_counts(self, batches: Sequence[Batch]) -> Tensor:
        """Return what the loss sums of a whole step are divided by, (T,): labels, their weights, or materials."""
        return torch.stack([self._counts(batch) for batch in batches]).sum(0)

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the terms of the validation metric of each active task, (M,), and the loss sums of a batch."""
        composition, structure = self._of_compositions(batch), self._of_crystals(batch)
        latent, errors, sums = self._joined(composition, structure, batch), {}, {}
        for task in self.active:
            head, targets = self.head(task.name), self.targets_of(task, batch)
            output = head(latent, targets)
            errors[task.name] = head.errors(output, latent, targets)
            sums[task.name] = head.loss(output, latent, targets)[0]
        for name in self.config.self_supervised:
            sums[name] = self._self_supervised_loss(name, batch, composition, structure)
        return errors, sums

    @torch.no_grad()
    def fit_scaling(
        self, targets: Mapping[str, Targets], *, fractions: Tensor | None = None, descriptors: Tensor | None = None
    ) -> None:
        """Fit the scaling of heads on training labels, and that of the descriptor on training rows.

        Args:
            targets: Task -> labels of all n training materials; heads of tasks that are missing keep their scaling.
            fractions: Atomic fractions of these materials, (n, 103), where they are known.
            descriptors: Their descriptors, (n, D), NaN where unknown; a constant number gets the scale 1.
        """
        if descriptors is not None:
            known = descriptors.isfinite()
            count = known.sum(0).clamp(min=1)
            mean = descriptors.double().where(known, 0.0).sum(0) / count
            spread = ((descriptors.double() - mean).where(known, 0.0).square().sum(0) / count).sqrt()
            self.descriptor_mean.copy_(mean)
            self.descriptor_scale.copy_(spread.where(spread > 1e-6 * mean.abs().clamp(min=1e-6), 1.0))
        for name, labels in targets.items():
            if name in self.heads:
                self.head(name).fit(labels, fractions)

    def _encode_descriptor(self, x: Tensor) -> Tensor:
        if self.composition_encoder is None:
            raise TypeError("this network reads no compositions")
        return self.composition_encoder(x)

    def _of_compositions(self, batch: Batch) -> Tensor | None:
        """Return the latents of the compositions, (B, d); None where none are read."""
        if self.composition_encoder is None or batch.descriptor is None:
            return None
        return self._encode_descriptor(self.standardised(batch.descriptor))

    def _of_crystals(self, batch: Batch) -> Latent | None:
        """Return the latents of the G crystals of a batch; None where it has none or none are read."""
        if self.encoder is None or batch.crystals is None:
            return None
        encoder = self._compiled if self.training and self._compiled else self.encoder
        return Latent.of_crystals(encoder(batch.crystals), batch.crystals)

    def _joined(self, composition: Tensor | None, structure: Latent | None, batch: Batch) -> Latent:
        """Return what the heads read: the latents of one encoder, or both fused."""
        if composition is None:
            if structure is None:
                raise UsageError("the network reads crystals, and these materials have none")
            atoms, _ = structure.crystals()
            return replace(structure, pooled=self.stage(structure.pooled), atoms=self.stage(atoms))
        if self.fusion is not None:
            graph, there = self._aligned(composition, structure, batch)
            composition = self.fusion(composition, graph, there)
        return Latent(self.stage(composition))

    def _aligned(self, composition: Tensor, structure: Latent | None, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return latents of crystals as wide as those of compositions, (B, d), zero without one; and where one is."""
        latent = torch.zeros_like(composition)
        there = torch.zeros(len(composition), dtype=torch.bool, device=composition.device)
        if structure is not None and self.structure_latent is not None:
            found = self.structure_latent(structure.pooled)
            if batch.crystal_rows is None:
                return found, torch.ones_like(there)
            latent = latent.index_copy(0, batch.crystal_rows, found)
            there = there.index_fill(0, batch.crystal_rows, True)
        return latent, there

    def targets_of(self, task: Task, batch: Batch) -> Targets:
        """Return what the head of a task learns from."""
        if task.kind != "autoencoder":
            return batch.targets[task.name]
        if batch.descriptor is None:
            raise TypeError("an autoencoder rebuilds a descriptor, and the batch has none")
        return Targets(self.standardised(batch.descriptor), batch.descriptor.isfinite())

    def _counts(self, batch: Batch) -> Tensor:
        counts = [self.head(task.name).count(self.targets_of(task, batch)) for task in self.active]
        crystals = 0 if batch.crystals is None else len(batch.crystals)
        for name in self.config.self_supervised:
            counts.append(torch.tensor(len(batch) if name == MASKED_FEATURES else crystals))
        return torch.stack([count.to(next(self.parameters())) for count in counts])

    def _self_supervised_loss(
        self, name: str, batch: Batch, composition: Tensor | None, structure: Latent | None
    ) -> Tensor:
        """Return the sum over materials of a self-supervised loss."""
        if composition is None or batch.descriptor is None:
            raise TypeError(f"{name} needs the descriptors of compositions")
        x = self.standardised(batch.descriptor)
        if name == MASKED_FEATURES:
            masked = cast(MaskedFeatures, self.pretraining[name])
            shown, hidden = masked.hide(x)
            total, _ = masked.loss(self._encode_descriptor(shown), x, hidden & batch.descriptor.isfinite())
            return total / (masked.fraction * x.shape[1])
        graph, there = self._aligned(composition, structure, batch)
        if name == CONTRASTIVE:
            return contrastive_loss(composition, graph, there)[0]
        cross = cast(CrossReconstruction, self.pretraining[CROSS_RECONSTRUCTION])
        pooled = composition.new_zeros(len(composition), cross.graph.out_features)
        if structure is not None:
            rows = batch.crystal_rows
            pooled = structure.pooled if rows is None else pooled.index_copy(0, rows, structure.pooled)
        return cross.loss(composition, graph, x, pooled, there)[0]


def count_parameters(network: nn.Module) -> int:
    """Return the number of trained parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
