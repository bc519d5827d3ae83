"""The document of a run: YAML files laid over one another, values by dotted name, references resolved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from crystrata.errors import UsageError

if TYPE_CHECKING:
    from omegaconf import DictConfig

Document: TypeAlias = dict[str, Any]


def read_document(pieces: Sequence[tuple[str, str | Path]]) -> Document:
    """Return the plain values that files and single values give together; later ones go before.

    Mappings are laid over one another, lists are replaced. `${a.b}` stands for the value at `a.b` of the whole.

    Args:
        pieces: In order: ("", file), or (dotted name, value as YAML). A number in a name is a place in a list.

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
