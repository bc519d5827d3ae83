"""Settings are declared once, as documented fields: checks, flags and the manual's words come from there."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Lt

from crystrata.errors import UsageError, unknown_name

Positive = Annotated[float, Gt(0), Lt(float("inf"))]
PositiveInt = Annotated[int, Gt(0)]
NonNegative = Annotated[float, Ge(0), Lt(float("inf"))]
NonNegativeInt = Annotated[int, Ge(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]

_WORDS: dict[Any, str] = {
    str: "text", bool: "true or false", int: "a whole number", float: "a number", dict: "a mapping", list: "a list",
    tuple: "a list",
}  # fmt: skip
"""Kind -> words; a truth value comes before whole numbers, which it is one of in Python."""
_LIMITS = {"greater_than": "above {gt:g}", "greater_than_equal": "{ge:g} or more", "less_than": "below {lt:g}",
           "less_than_equal": "at most {le:g}"}  # fmt: skip
_OF_ERRORS = {"int": "a whole number", "float": "a number", "string": "text", "bool": "true or false",
              "list": "a list", "tuple": "a list", "dict": "a mapping"}  # fmt: skip
"""First word of an error of pydantic -> what was expected inside of a list or mapping."""

Made = TypeVar("Made")


def checked(value: Any, annotation: Any, place: str) -> Any:
    """Return a plain value as its annotation has it: tuples for lists, numbers for their text.

    A UsageError, which names the `place` of the value, if it is of another kind, or out of range.
    """
    from pydantic import TypeAdapter, ValidationError

    kinds = _kinds(annotation)
    if isinstance(value, os.PathLike) and str in kinds:
        value = os.fspath(value)
    if isinstance(value, bool) and bool not in kinds and Any not in kinds:
        raise UsageError(f"{place} must be {_in_words(annotation)}, not {value!r}")
    if isinstance(value, Mapping) and any(dataclasses.is_dataclass(kind) for kind in kinds):
        made: Any = next(kind for kind in kinds if dataclasses.is_dataclass(kind))
        return make(made, value, place)
    if any(dataclasses.is_dataclass(kind) and isinstance(value, kind) for kind in kinds if isinstance(kind, type)):
        return value
    choices = [kind for kind in kinds if isinstance(kind, str)]
    if isinstance(value, str) and choices and len(choices) == len(kinds) and value not in choices:
        raise unknown_name(place, value, choices)
    try:
        return TypeAdapter(annotation, config={"arbitrary_types_allowed": True}).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        inside = [part for part in first["loc"] if isinstance(part, int) or part in _keys(value)]
        where = place + "".join(f".{part}" for part in inside)
        if first.get("ctx", {}).get("lt") == float("inf"):
            raise UsageError(f"{where} must be a finite number, not {first['input']!r}") from None
        if (limit := _LIMITS.get(first["type"])) and first.get("ctx"):
            raise UsageError(f"{where} must be {limit.format(**first['ctx'])}, not {first['input']!r}") from None
        words = _OF_ERRORS.get(first["type"].split("_")[0]) if inside else None
        if words:
            raise UsageError(f"{where} must be {words}, not {first['input']!r}") from None
        raise UsageError(f"{place} must be {_in_words(annotation)}, not {value!r}") from None


def checked_flags(flags: argparse.Namespace, cls: type, names: Iterable[str]) -> dict[str, Any]:
    """Return the flags of the named fields that were given, each checked against its field.

    A UsageError names the flag whose value is out of range.
    """
    hints = get_type_hints(cls, include_extras=True)
    given = {name: getattr(flags, name) for name in names if getattr(flags, name) is not None}
    return {name: checked(value, hints[name], "--" + name.replace("_", "-")) for name, value in given.items()}


def make(cls: type[Made], values: Mapping[str, Any], place: str) -> Made:
    """Make an object of a dataclass from plain values, each checked against its field.

    A UsageError if a key is unknown (the nearest one is named), or a value of another kind or out of range.
    """
    hints = get_type_hints(cls, include_extras=True)
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    require_known(values, known, place)
    dotted = f"{place}." if place else ""
    return cls(**{name: checked(value, hints[name], f"{dotted}{name}") for name, value in values.items()})


def require_known(given: Iterable[Any], known: Iterable[str], place: str) -> None:
    """Refuse keys that are not known: a UsageError names the nearest one."""
    known = list(known)
    for key in given:
        if key not in known:
            raise unknown_name(f"key at {place}" if place else "key", str(key), known)


def check_arguments(taker: Callable[..., Any], settings: Mapping[str, Any], names: Sequence[str], what: str) -> None:
    """Refuse settings (name -> value) that a constructor does not take, or of another kind than it takes.

    `names` are those that it takes; `what` is for messages, such as `encoder mlp`. A UsageError if one does not fit.
    """
    hints = get_type_hints(taker.__init__, include_extras=True)
    for name, value in settings.items():
        if name not in names:
            raise unknown_name(f"setting of {what}", name, names)
        if name in hints:
            checked(value, hints[name], f"setting {name} of {what}")


def words_of(cls: type) -> dict[str, str]:
    """Return what the docstring of a class says about each of its fields."""
    section = re.split(r"\n(?=\S)", (inspect.getdoc(cls) or "").partition("Attributes:\n")[2])[0]
    said = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in said}


def add_flag(
    group: argparse._ActionsContainer,
    cls: type,
    name: str,
    *spellings: str,
    metavar: str | None = None,
    default: Any = None,
    **further: Any,
) -> None:
    """Add the flag of a field: `--max-samples` for `max_samples`, with the words of its docstring.

    Args:
        group: Parser or group.
        cls: The class that has the field `name`.
        spellings: Older spellings that are understood, or others than that of the field, first of them shown.
        metavar: Word for the value; made from its kind if not given.
        default: Value without the flag; None means "not given".
        further: Passed on to argparse.
    """
    annotation = get_type_hints(cls, include_extras=True)[name]
    words = words_of(cls)[name].rstrip(".")
    flags = spellings or ("--" + name.replace("_", "-"),)
    help_text = words[:1].lower() + words[1:] if not words[:2].isupper() else words
    shown = help_text.replace("%", "%%")
    if default not in (None, False):
        shown += f" (default: {default})"
    kinds = _kinds(annotation)
    if bool in kinds and "action" not in further and "nargs" not in further:
        group.add_argument(*flags, dest=name, action="store_true", default=default, help=shown, **further)
        return
    kind = int if int in kinds and float not in kinds else float if float in kinds else str
    choices = [str(one) for one in kinds if isinstance(one, str)]
    metavar = metavar or ("{" + ",".join(choices) + "}" if choices else {int: "N", float: "X", str: "NAME"}[kind])
    group.add_argument(*flags, dest=name, type=kind, default=default, metavar=metavar, help=shown, **further)


def _kinds(annotation: Any) -> list[Any]:
    """Return the single kinds that an annotation takes; the values of a Literal as they are."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [kind for one in get_args(annotation) for kind in _kinds(one) if kind is not type(None)]
    if origin is Literal:
        return list(get_args(annotation))
    return [origin or annotation]


def _in_words(annotation: Any) -> str:
    kinds = _kinds(annotation)
    names = [str(kind) for kind in kinds if isinstance(kind, str)]
    words = [f"one of {', '.join(names)}"] if names else []
    for kind in kinds:
        for known, said in _WORDS.items():
            if isinstance(kind, type) and issubclass(kind, known) and said not in words:
                words.append(said)
                break
        else:
            if kind in (Mapping, Sequence) or getattr(kind, "__name__", "") in ("Mapping", "Sequence"):
                words.append("a list" if "Sequence" in str(kind) else "a mapping")
    return " or ".join(dict.fromkeys(words)) or "another value"


def _keys(value: Any) -> set[Any]:
    return set(value) if isinstance(value, Mapping) else set()
