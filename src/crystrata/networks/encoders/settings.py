"""Settings of an encoder against what its constructor takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin, get_type_hints

from torch import nn

from crystrata.errors import UsageError, unknown_name

_IN_WORDS = {int: "a whole number", float: "a number", bool: "true or false", Sequence: "a list of numbers"}


def require_settings(name: str, encoder: type[nn.Module], known: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Refuse settings that the constructor of an encoder does not know, or of another type.

    Args:
        name: Name of the encoder.
        encoder: Its class.
        known: Names of its settings.
        settings: What is given.

    Raises:
        UsageError: One is unknown, or of another type.
    """
    types = get_type_hints(encoder.__init__)
    for setting, value in settings.items():
        if setting not in known:
            raise unknown_name(f"setting of encoder {name}", setting, known)
        if not _fits(value, types[setting]):
            wanted = _in_words(types[setting])
            raise UsageError(f"setting {setting} of encoder {name} must be {wanted}, not {value!r}")


def _in_words(kind: Any) -> str:
    kinds = [get_origin(part) or part for part in (kind, *get_args(kind))]
    return next((_IN_WORDS[part] for part in kinds if part in _IN_WORDS), "a name")


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a value is of a kind that constructors of encoders state."""
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    if get_origin(kind) is Literal:  # which of the names it is, the encoder tells
        return isinstance(value, str)
    if get_origin(kind) is Sequence:
        return isinstance(value, list | tuple) and all(_fits(part, get_args(kind)[0]) for part in value)
    if get_args(kind):
        return any(_fits(value, part) for part in get_args(kind))
    return isinstance(value, kind)
