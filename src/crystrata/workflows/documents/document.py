"""The document of a run: YAML files laid over one another, values by dotted name, references resolved, and the objects
that class paths with their arguments name; what may be imported at all is decided here.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from crystrata.errors import UsageError, unknown_name
from crystrata.settings import require_known

if TYPE_CHECKING:
    from omegaconf import DictConfig

Document: TypeAlias = dict[str, Any]

ROOTS = ("crystrata", "lightning", "torch")
"""Packages that a class path may lead into; anything else is refused before it is imported."""

CLASS, ARGUMENTS = "class_path", "init_args"

_OLD_PACKAGE = "foundation_model"
NEW_NAMES = {
    "FlexibleMultiTaskModel": "CompositionModel",
    "CompoundDataModule": "CompositionData",
    "PrecomputedDescriptorSource": "descriptor: {kind: table}",
}
"""Class of the old package -> what it is here."""

Made = TypeVar("Made")


def read_document(pieces: Sequence[tuple[str, str | Path]]) -> Document:
    """Return the plain values that files and single values give together; later ones take precedence.

    Mappings are laid over one another, lists are replaced. `${a.b}` stands for the value at `a.b` of the whole. Pieces
    are ("", file), or (dotted name, value as YAML), where a number in a name is a place in a list.

    Raises:
        UsageError: A file cannot be read, or a name or reference leads nowhere.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    document = OmegaConf.create({})
    for name, content in pieces:
        if name:
            _set(document, name, str(content))
        else:
            document.merge_with(_read(Path(content)))
    try:
        found = OmegaConf.to_container(document, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UsageError(f"at {error.full_key or 'the top'} of the configuration: {_first_line(error)}") from None
    return {str(key): value for key, value in found.items()}  # type: ignore[union-attr]


def _read(file: Path) -> DictConfig:
    import yaml
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        content = OmegaConf.load(file)
    except OSError as error:
        if error.strerror is None:  # a file with a bare number or word
            raise UsageError(f"{file} holds no mapping of keys") from None
        raise UsageError(f"{file}: {error.strerror}. Check the path.") from None
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, DictConfig):
        raise UsageError(f"{file} holds no mapping of keys")
    return content


def _set(document: DictConfig, name: str, text: str) -> None:
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        value = OmegaConf.from_dotlist([f"value={text}"])._get_node("value")
        OmegaConf.update(document, name, value, force_add=True)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise UsageError(f"--{name} {text}: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def require_allowed(value: Any, where: str = "") -> None:
    """Refuse every class path, however deep, that leads out of `ROOTS`; old classes are known by name."""
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
        if last not in NEW_NAMES:
            raise UsageError(f"{where}: {unknown_name('class of the old package', last, NEW_NAMES)}")
    elif "." in path and root not in ROOTS:
        raise UsageError(f"{where}: {path} is not imported: class paths lead into {', '.join(ROOTS)} only")


def old_classes(value: Any) -> dict[str, str]:
    """Return the class paths of the old package in a part of a document, and what they are here."""
    if isinstance(value, Mapping):
        path = str(value.get(CLASS, ""))
        found = {path: NEW_NAMES[path.split(".")[-1]]} if path.split(".")[0] == _OLD_PACKAGE else {}
        return {old: new for part in value.values() for old, new in old_classes(part).items()} | found
    return {old: new for part in value for old, new in old_classes(part).items()} if isinstance(value, list) else {}


def class_and_arguments(value: Any, where: str) -> tuple[str, dict[str, Any]]:
    """Return class path and arguments of `{class_path: ..., init_args: {...}}`, or of a class path alone."""
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
        defaults: Arguments that are given where the class takes them and the document does not set them.

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
