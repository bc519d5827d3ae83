"""The loaders of a run, of whichever kind."""

from __future__ import annotations

from typing import Any, TypeVar

from crystrata.datasets.data_module import BatchDataModule
from crystrata.datasets.splits import Split
from crystrata.datasets.training_batch import TrainingData
from crystrata.networks.device import resolve_device
from crystrata.runs.config import RunConfig
from crystrata.runs.task_config import TaskRunConfig

Data = TypeVar("Data", bound=TrainingData)


def loaders(config: RunConfig | TaskRunConfig, dataset: Data, split: Split, **form: Any) -> BatchDataModule[Data]:
    """Return the loaders over dataset and split that a configuration asks for.

    Args:
        config: The run.
        dataset: Crystals or compositions.
        split: Rows of each part.
        form: `form`, what the network reads of the data, where it is known yet.
    """
    return BatchDataModule(
        dataset,
        split,
        batch_size=config.batch_size,
        accumulate=config.accumulate,
        seed=config.seed,
        workers=config.workers,
        pin_memory=resolve_device(config.device).type == "cuda",
        **form,
    )
