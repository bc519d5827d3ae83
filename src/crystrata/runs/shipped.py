"""Shipped models: folders that `crystrata export` makes, some of which come with the package."""

from __future__ import annotations

from pathlib import Path

PRETRAINED = "pretrained"
"""Folder of shipped models: in the models folder, and in the package."""

DEFAULT_MODEL = "jarvis-nine"
"""The shipped model that predicts where nothing is named and no run is suitable."""

EVALUATED_MODEL = "jarvis-nine-union"
"""The model that never saw the official tests: benchmarks start from it. It is in the source tree, not in the wheel."""

DEFAULT_COMPOSITIONS = "jarvis-compositions"
"""The shipped model of compositions that inverse design searches with where nothing is named."""

WEIGHTS = "weights.safetensors"
DESCRIPTION = "model.json"
CARD = "README.md"

_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED, _IN_SOURCES = _PACKAGE / PRETRAINED, _PACKAGE.parents[1] / "models" / PRETRAINED
SHIPPED = _INSTALLED if _INSTALLED.is_dir() else _IN_SOURCES
"""Where the models that come with the package lie: inside it where it is installed, else in the source tree."""


def is_model_folder(path: Path) -> bool:
    """Whether a folder is a shipped model, be it an incomplete one."""
    return any((path / name).is_file() for name in (DESCRIPTION, WEIGHTS))


def find_shipped(models_dir: Path, name: str = DEFAULT_MODEL) -> Path | None:
    """Return the folder of the shipped model of a name, or None: one of the models folder goes before the package's."""
    if Path(name).name != name:
        return None
    folders = (models_dir / PRETRAINED / name, SHIPPED / name)
    return next((folder for folder in folders if is_model_folder(folder)), None)
