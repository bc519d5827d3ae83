"""Plain values against the annotations of what takes them, so that a wrong one is told in a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from crystrata.errors import UsageError

_WORDS: dict[Any, tuple[str, tuple[type, ...]]] = {
    str: ("text", (str,)),
    Literal: ("a name", (str,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
}
"""Kind of a single value -> its name in messages, and what a file makes of it."""


def require_kind(value: Any, kind: Any, place: str) -> None:
    """Refuse a value that is not of an annotated kind; a list counts as any sequence. Other kinds are passed over.

    Args:
        value: Of a configuration file.
        kind: Annotation; of a union the first kind that is not a single None is named in the message.
        place: Where the value stands.

    Raises:
        UsageError: It is of another kind.
    """
    origin, of = get_origin(kind) or kind, get_args(kind)
    if origin in (UnionType, Union):
        if value is None and type(None) in of:
            return
        require_kind(value, of[0], place)
    elif origin is bool:
        if not isinstance(value, bool):
            raise UsageError(f"{place} must be true or false, not {value!r}")
    elif origin in _WORDS:
        words, kinds = _WORDS[origin]
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise UsageError(f"{place} must be {words}, not {value!r}")
    elif origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise UsageError(f"{place} must be a table, not {value!r}")
        for key, one in value.items():
            require_kind(one, of[1], f"{place}.{key}")
    elif origin in (tuple, Sequence):
        if not isinstance(value, (list, tuple)):
            raise UsageError(f"{place} must be a list, not {value!r}")
        for one in value:
            require_kind(one, of[0], f"each of {place}")
