"""Reading and writing checkpoints: atomic, with a digest inside, earlier ones kept, nothing foreign unpickled."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from crystrata.errors import ModelError
from crystrata.files import replace
from crystrata.runs.directory import TOP
from crystrata.training.parts import read_in_parts, remove_unnamed_parts, write_in_parts

_UNREADABLE = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError, pickle.UnpicklingError,
)  # fmt: skip
"""What torch raises, as the case may be, on a file that is foreign or holds more than tensors."""

_MARK = b"sha256:"
_COMMENT = len(_MARK) + 64


class AtomicCheckpointIO(CheckpointIO):
    """Lightning's access to checkpoint files: a file is the old or the new one, whole, at every moment.

    Args:
        keep: Checkpoints that are kept: the newest under its own name, earlier ones beside it.
    """

    def __init__(self, keep: int) -> None:
        self.keep = keep

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; the one before becomes `<name>.1.pt`, and so on.

        Raises:
            StorageError: The disk is full or the folder cannot be written; the earlier files stay.
        """
        write_checkpoint(Path(path), checkpoint, keep=self.keep)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint; only tensors and plain values are accepted."""
        return read_checkpoint(Path(path), map_location or "cpu")  # Lightning moves what belongs on a GPU

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint."""
        remove_checkpoint(Path(path))


def write_checkpoint(path: Path, values: dict[str, Any], *, keep: int = 1) -> None:
    """Write tensors and plain values, atomically, with their SHA-256.

    The file is a zip archive that `torch.load` reads as it is; the digest of all bytes before it is the archive's
    comment. It is packed in memory first: torch's own writer hides a full disk behind an error of its archive. A file
    of more than 15 MB is written in parts.

    Args:
        path: Destination.
        values: What to write.
        keep: Files that are kept in all: older ones get a number, 1 for the last before this one.
    """
    packed = BytesIO()
    torch.save(values, packed)
    digest = hashlib.sha256(packed.getbuffer()[:-2]).hexdigest().encode()
    packed.seek(-2, os.SEEK_END)  # an archive without a comment ends with the comment's length, 0
    packed.write(_COMMENT.to_bytes(2, "little") + _MARK + digest)
    write_in_parts(path, packed.getbuffer(), before=lambda: _rotate(path, keep))


def remove_checkpoint(path: Path) -> None:
    """Delete a checkpoint or a weights file, with its parts."""
    path.unlink(missing_ok=True)
    remove_unnamed_parts(path.parent)


def remove_leftovers(run: Path) -> None:
    """Remove what a process that was killed while it wrote has left in a run directory."""
    for folder in (run, run / TOP):
        for leftover in folder.glob(".*.part"):
            leftover.unlink()
        remove_unnamed_parts(folder)


def earlier(path: Path, number: int) -> Path:
    """Return the name of an earlier checkpoint: `checkpoint.pt`, 1 -> `checkpoint.1.pt`; 0 is the newest."""
    return path.with_suffix(f".{number}{path.suffix}") if number else path


def _rotate(path: Path, keep: int) -> None:
    """Give each file the next older name; the newest keeps its own as well, until the new file takes it."""
    for number in range(keep - 1, 1, -1):
        if earlier(path, number - 1).exists():
            replace(earlier(path, number - 1), earlier(path, number))
    if keep > 1 and path.exists():
        second_name = path.with_name(f".{path.name}.part")
        second_name.unlink(missing_ok=True)
        try:
            os.link(path, second_name)
        except OSError:  # a file system without second names
            shutil.copyfile(path, second_name)
        replace(second_name, earlier(path, 1))
        second_name.unlink(missing_ok=True)  # it stays where both are names of one file, after a kill just here


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Return what `write_checkpoint` wrote.

    Raises:
        ModelError: The file is missing, damaged, or holds more than tensors and plain values.
    """
    try:
        content = read_in_parts(path)
    except FileNotFoundError:
        raise ModelError(f"there is no {path}; train a model first or name another run") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    mark, digest = content[-_COMMENT:-64], content[-64:]
    if mark != _MARK:
        raise ModelError(f"{path} is damaged or no checkpoint of Crystrata: its digest is missing")
    if hashlib.sha256(memoryview(content)[: -_COMMENT - 2]).hexdigest().encode() != digest:
        raise ModelError(f"{path} is damaged: its content does not fit its SHA-256")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a foreign pickle, which is refused below
            return torch.load(BytesIO(content), map_location=map_location, weights_only=True)
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path} is damaged or no checkpoint of Crystrata: {reason[:200]}") from None


def checkpoints_of(path: Path) -> list[Path]:
    """Return the files that a checkpoint's name stands for, the newest first."""
    files = [path]
    while earlier(path, len(files)).is_file():
        files.append(earlier(path, len(files)))
    return files


def newest_sound(path: Path) -> tuple[Path, list[str]]:
    """Return the newest checkpoint that is whole, and what is wrong with newer ones.

    Raises:
        ModelError: None is whole.
    """
    wrong: list[str] = []
    for file in checkpoints_of(path):
        try:
            read_checkpoint(file)
        except ModelError as error:
            wrong.append(str(error))
        else:
            return file, wrong
    raise ModelError(wrong[0])
