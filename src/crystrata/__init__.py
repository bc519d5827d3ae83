"""Crystrata: nine properties of a crystal from its structure, with an E(3)-equivariant multi-task network."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("crystrata")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0.1.0+source"

_PUBLIC = {
    "load": "prediction.trained_model",
    "predict": "prediction.trained_model",
    "embed": "prediction.trained_model",
    "train": "workflows.own_data",
    "TrainedModel": "prediction.trained_model",
    "Formula": "prediction.predict",
    "read_crystals": "structures.readers",
    "Crystal": "structures.crystal",
    "Task": "tasks",
}
"""Name for `import crystrata` -> module that has it, which is imported when the name is first used."""

__all__ = [
    "Crystal", "Formula", "Task", "TrainedModel", "__version__", "embed", "load", "predict", "read_crystals", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'crystrata' has no attribute {name!r}")
    return getattr(import_module(f"crystrata.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
