"""The Lightning data module: batches of the training, validation and test parts."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from crystrata.datasets.batch import Batch
from crystrata.datasets.dataset import MaterialDataset
from crystrata.datasets.sampling import EpochSampler, Step, fixed_batches
from crystrata.datasets.splits import PARTS, Split
from crystrata.errors import TrainingError
from crystrata.graphs.batch import ALL_ATOMS, BatchForm

EVALUATION_BATCH, EVALUATION_ATOMS = 128, 4000


class _Batches(Dataset):
    """The dataset as the loader sees it: a step in, its micro-batches out."""

    def __init__(self, dataset: MaterialDataset, form: BatchForm | None) -> None:
        self.dataset, self.form = dataset, form

    def __getitem__(self, step: Step) -> Sequence[Batch]:
        return self.dataset.batches(step, self.form)


class BatchDataModule(L.LightningDataModule):
    """Loaders over one dataset and one split; an item is an optimizer step, a list of its micro-batches.

    Args:
        dataset: Materials with labels.
        split: Rows of each part.
        batch_size: Samples per micro-batch.
        accumulate: Micro-batches per optimizer step.
        seed: Seed of the order.
        workers: Loader processes; 0 loads in the training process.
        pin_memory: Whether batches go through page-locked memory (with a GPU).
        form: What the network reads of the data.
    """

    def __init__(
        self,
        dataset: MaterialDataset,
        split: Split,
        *,
        batch_size: int,
        accumulate: int = 1,
        seed: int = 0,
        workers: int = 0,
        pin_memory: bool = False,
        form: BatchForm | None = ALL_ATOMS,
    ) -> None:
        super().__init__()
        self.dataset, self.split = dataset, split
        self.workers, self.pin_memory, self.form = workers, pin_memory, form
        self.sampler = EpochSampler(split.train, batch_size, accumulate=accumulate, seed=seed)

    def label_counts(self) -> dict[str, dict[str, int]]:
        """Return the samples with a known label of each task in each part."""
        return {
            name: {part: int(known[self.split.part(part)].sum()) for part in PARTS}
            for name, known in self.dataset.known.items()
        }

    def unlabelled(self) -> dict[str, list[str]]:
        """Return task -> the parts in which it has no known label, where there is one; empty parts do not count."""
        there = [part for part in PARTS if len(self.split.part(part))]
        found = {name: [part for part in there if not counts[part]] for name, counts in self.label_counts().items()}
        return {name: parts for name, parts in found.items() if parts}

    def check(self) -> None:
        """Refuse to train a task that has no label, or without anything to select by.

        Raises:
            TrainingError: The training or validation part is empty, a task has no training label, or none has a
                validation label.
        """
        for part in ("train", "val"):
            if not len(self.split.part(part)):
                raise TrainingError(f"the {part} part is empty: use more materials (--max-samples), or another split")
        counts = self.label_counts()
        for name, parts in counts.items():
            if not parts["train"]:
                raise TrainingError(
                    f"{name} has no label in the training part: leave it out, or use more materials (--max-samples)"
                )
        if counts and not any(parts["val"] for parts in counts.values()):
            raise TrainingError(
                "no task has a label in the validation part: use more materials, or another split or seed"
            )

    def micro_batches(self, step: Step) -> list[Batch]:
        """Return the micro-batches of a step, as the loaders do."""
        return self.dataset.batches(step, self.form)

    def train_dataloader(self) -> DataLoader:
        """Return the loader of the training part; its order is a function of seed and epoch."""
        return self._loader(self.sampler)

    def val_dataloader(self) -> DataLoader:
        """Return the loader of the validation part."""
        return self.evaluation_loader("val")

    def test_dataloader(self) -> DataLoader:
        """Return the loader of the test part."""
        return self.evaluation_loader("test")

    def evaluation_loader(self, part: str) -> DataLoader:
        """Return the loader of a part in a fixed order."""
        rows, atom_counts = self.split.part(part), self.dataset.atom_counts
        return self._loader(fixed_batches(rows, atom_counts, EVALUATION_BATCH, EVALUATION_ATOMS))

    def state_dict(self) -> dict[str, int]:
        """Return the place in the order of training, for a checkpoint."""
        return {"epoch": self.sampler.epoch, "done": self.sampler.done}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue at the place of a checkpoint."""
        self.sampler.epoch, self.sampler.done = state_dict["epoch"], state_dict["done"]

    def _loader(self, steps: Iterable[Step]) -> DataLoader:
        return DataLoader(
            _Batches(self.dataset, self.form),
            batch_size=None,
            sampler=steps,
            num_workers=self.workers,
            pin_memory=self.pin_memory,
            persistent_workers=self.workers > 0,
            multiprocessing_context="spawn" if self.workers else None,
            generator=torch.Generator(),  # its own: a loader that starts must not draw from the trainer's
            worker_init_fn=_leave_signals_to_the_trainer,
        )


def _leave_signals_to_the_trainer(_: int) -> None:
    """Let a worker outlive the signals that stop a run, which finishes its step; it ends with its parent."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
