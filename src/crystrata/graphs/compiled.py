"""Compiling kernels with numba and keeping them on disk between processes. Imported only where one is needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit, types

_OPTIONS = {"nogil": True, "error_model": "numpy"}  # division by zero is no error: none occurs

inline = njit(inline="always", **_OPTIONS)
"""A function that kernels of the same file call; it becomes a part of them, and is cached with them."""


def view(element: str, dimensions: int = 1) -> types.Array:
    """Return the type of an array in C order that a kernel only reads, mapped from a file or not."""
    return types.Array(getattr(types, element), dimensions, "C", readonly=True)


def kernel(*signature: Any) -> Callable[[Callable], Callable]:
    """Compile a function for arguments of the given types, now; it lets other threads run.

    The machine code is cached in `__pycache__` or, where that cannot be written, in the user's cache folder, or in the
    folder that NUMBA_CACHE_DIR names; damaged files are removed. Where there is no place or room for it, the function
    is compiled for this process alone.
    """

    def compiled(function: Callable) -> Callable:
        try:
            cached = njit(cache=True, **_OPTIONS)(function)
            try:
                cached.compile(signature)
            except Exception:  # damaged files fail in many ways; an error in the function itself comes again below
                for file in Path(cached.stats.cache_path).glob(f"*.{function.__name__}-*.nb?"):
                    file.unlink(missing_ok=True)
                cached.compile(signature)
        except Exception:  # no place, no room, or damage beyond repair: nothing is cached
            return njit(signature, **_OPTIONS)(function)
        cached.disable_compile()
        return cached

    return compiled
