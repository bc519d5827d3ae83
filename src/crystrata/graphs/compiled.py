"""Compiling the kernels of this package with numba, kept on disk between processes. Imported only when one is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit, types

inline = njit(inline="never")
"""A function that kernels of the same file call; it is compiled with them, and kept with them."""


def view(element: str, dimensions: int = 1) -> types.Array:
    """Return the type of an array in C order that a kernel only reads, mapped from a file or not."""
    return types.Array(getattr(types, element), dimensions, "C", readonly=True)


def kernel(*signature: Any) -> Callable[[Callable], Callable]:
    """Compile a function for arguments of the given types, now; it lets other threads run.

    The machine code is kept in `__pycache__` or, where that cannot be written, in the user's cache folder or in
    NUMBA_CACHE_DIR. Without any such place, with a full disk or with damaged files it is compiled for this process alone.
    """

    def compiled(function: Callable) -> Callable:
        try:
            return njit(signature, cache=True, nogil=True)(function)
        except Exception:  # whatever is wrong with the kept code; an error in the function itself comes again below
            return njit(signature, nogil=True)(function)

    return compiled
