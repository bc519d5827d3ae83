"""Reading and writing checkpoints: atomic, plain tensors and values only, nothing foreign is unpickled."""

from __future__ import annotations

import pickle
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from crystrata.errors import ModelError
from crystrata.files import write_atomically

_UNREADABLE = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError, pickle.UnpicklingError,
)  # fmt: skip
"""What torch raises, as the case may be, on a file that is cut, foreign or holds more than tensors."""


class AtomicCheckpointIO(CheckpointIO):
    """Lightning's door to checkpoint files: a file is the old or the new one, whole, at every moment."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            StorageError: The disk is full or the folder cannot be written; the previous file stays.
        """
        write_checkpoint(Path(path), checkpoint)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint; only tensors and plain values are accepted."""
        return read_checkpoint(Path(path), map_location)

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


def write_checkpoint(path: Path, values: dict[str, Any]) -> None:
    """Write tensors and plain values, atomically.

    They are packed in memory first: torch's own writer hides a full disk behind an error of its archive.
    """
    packed = BytesIO()
    torch.save(values, packed)
    write_atomically(path, lambda file: file.write(packed.getbuffer()))


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Return what `write_checkpoint` wrote.

    Raises:
        ModelError: The file is missing, cut, or holds more than tensors and plain values.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a foreign pickle, which is refused below
            return torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"there is no {path}; train a model first or name another run") from None
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path} is damaged or no checkpoint of Crystrata: {reason[:200]}") from None
