"""From a class path and its arguments to an object, and what may be imported at all."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any, TypeVar

from crystrata.errors import UsageError, unknown_name
from crystrata.settings import require_known

ROOTS = ("crystrata", "lightning", "torch")
"""Packages that a class path may lead into; anything else is refused before it is imported."""

CLASS, ARGUMENTS = "class_path", "init_args"

_OLD_PACKAGE = "foundation_model"
_NEW_NAMES = {"FlexibleMultiTaskModel": "CompositionModel", "CompoundDataModule": "CompositionData"}

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
        raise UsageError(f"{where}: {path} is not a {base.__name__}")
    known = list(inspect.signature(found).parameters)
    require_known(arguments, known, f"{where}.{ARGUMENTS}")
    arguments = {key: default for key, default in defaults.items() if key in known} | arguments
    try:
        return found(**arguments)
    except Exception as error:  # whatever a foreign constructor answers to wrong values
        raise UsageError(f"{where}: {path} cannot be made of these arguments: {error}") from None
