"""From a class path and its arguments to an object: what may be imported, which keys there are, and of which type."""

from __future__ import annotations

import copy
import inspect
from argparse import ArgumentError
from collections.abc import Iterable, Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any, TypeVar

from crystrata.errors import UsageError, unknown_name

ROOTS = ("crystrata", "lightning", "torch")
"""Packages that a class path may lead into; anything else is refused before it is imported."""

CLASS, ARGUMENTS = "class_path", "init_args"

_OLD_PACKAGE = "foundation_model"
_NEW_NAMES = {"FlexibleMultiTaskModel": "CompositionModel", "CompoundDataModule": "CompositionData"}

_IN_WORDS = {"Settings": "a mapping", "list[Settings]": "a list of mappings"}
"""Type of a field, as its dataclass writes it -> words of messages."""

Made = TypeVar("Made")


def require_allowed(value: Any, where: str = "") -> None:
    """Refuse every class path, however deep, that leads out of `ROOTS` or into the old package.

    Raises:
        UsageError: One does.
    """
    if isinstance(value, Mapping):
        path = value.get(CLASS)
        if isinstance(path, str):
            _require_allowed(path, where)
        for key, part in value.items():
            require_allowed(part, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list):
        for place, part in enumerate(value):
            require_allowed(part, f"{where}.{place}")


def _require_allowed(path: str, where: str) -> None:
    root, last = path.split(".")[0], path.split(".")[-1]
    if root == _OLD_PACKAGE:
        new = _NEW_NAMES.get(last)
        written = f"write {new}" if new else f"its classes are {', '.join(_NEW_NAMES.values())} here"
        raise UsageError(f"{where}: {path} is a class of the old package: {written}")
    if "." in path and root not in ROOTS:
        raise UsageError(f"{where}: {path} is not imported: class paths lead into {', '.join(ROOTS)} only")


def class_and_arguments(value: Any, where: str) -> tuple[str, dict[str, Any]]:
    """Return class path and arguments of `{class_path: ..., init_args: {...}}`, or of a class path alone.

    Raises:
        UsageError: It is neither, or has other keys.
    """
    if isinstance(value, str):
        return value, {}
    if not isinstance(value, Mapping) or not isinstance(value.get(CLASS), str):
        raise UsageError(f"{where} needs a {CLASS}, and its {ARGUMENTS} where it has some")
    for key in value:
        if key not in (CLASS, ARGUMENTS):
            raise unknown_name(f"key at {where}", str(key), (CLASS, ARGUMENTS))
    arguments = value.get(ARGUMENTS) or {}
    if not isinstance(arguments, Mapping):
        raise UsageError(f"{where}.{ARGUMENTS} must be a mapping, not {arguments!r}")
    return value[CLASS], dict(arguments)


def named_class(path: str, known: Mapping[str, type[Made]], where: str) -> type[Made]:
    """Return the class of a table that a path names, by its short name or in full.

    Raises:
        UsageError: The table has no such class.
    """
    short = path.rpartition(".")[2]
    found = known.get(short)
    if found is None or path not in (short, f"{found.__module__}.{short}"):
        raise unknown_name(f"class at {where}", path, known)
    return found


def imported_object(value: Any, base: type[Made], where: str, defaults: Mapping[str, Any]) -> Made:
    """Import a class and make an object of it.

    Args:
        value: Class path with arguments; a short name means a class beside the base class.
        base: What it must be derived from.
        where: Place in the document.
        defaults: Arguments that are given where the class takes them and the document does not say.

    Raises:
        UsageError: There is no such class, an argument is unknown, or it cannot be made from them.
    """
    path, arguments = class_and_arguments(value, where)
    require_allowed({CLASS: path, ARGUMENTS: arguments}, where)
    home = base.__module__.rpartition(".")[0]
    module, _, name = (path if "." in path else f"{home}.{path}").rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{where}: there is no class {path} ({error})") from None
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise UsageError(f"{where}: {path} is no {base.__name__}")
    known = list(inspect.signature(found).parameters)
    require_known(arguments, known, f"{where}.{ARGUMENTS}")
    arguments = {key: default for key, default in defaults.items() if key in known} | arguments
    try:
        return found(**arguments)
    except Exception as error:  # whatever a foreign constructor answers to wrong values
        raise UsageError(f"{where}: {path} cannot be made of these arguments: {error}") from None


def require_known(given: Iterable[Any], known: Iterable[str], where: str) -> None:
    """Refuse keys that are not known, naming the nearest one.

    Raises:
        UsageError: One is not.
    """
    known = list(known)
    for key in given:
        if key not in known:
            raise unknown_name(f"key at {where}" if where else "key", str(key), known)


def typed(cls: type[Made], values: Mapping[str, Any], where: str) -> Made:
    """Make an object of a dataclass from plain values, each of the type that its field states.

    Raises:
        UsageError: A key is unknown, or a value of another type.
    """
    from jsonargparse import ArgumentParser

    require_known(values, [field.name for field in fields(cls)], where)  # type: ignore[arg-type]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "it")
    try:
        parsed = parser.parse_object({"it": copy.deepcopy(dict(values))}).it
    except ArgumentError as error:
        named = str(error).removeprefix('Parser key "it.').partition('"')[0].partition(".")[0]
        types = {field.name: str(field.type) for field in fields(cls)}  # type: ignore[arg-type]
        wanted = _IN_WORDS.get(types[named].removesuffix(" | None"), types[named])
        raise UsageError(f"{where}.{named} must be {wanted}, not {values[named]!r}") from None
    scalar = (bool, int, float, str)  # of lists and mappings the parser would read the strings inside once more
    return cls(**{key: parsed[key] if isinstance(value, scalar) else value for key, value in values.items()})
