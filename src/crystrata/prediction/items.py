"""What people hold in Python, as materials to predict: files, structures of pymatgen and ASE, crystals, formulas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from crystrata.errors import UsageError
from crystrata.prediction.predict import Formula, Material
from crystrata.prediction.trained_model import TrainedModel
from crystrata.structures.crystal import Crystal, Rejected
from crystrata.structures.readers import read_crystals
from crystrata.structures.readers.checks import attempt
from crystrata.structures.readers.json_structures import crystal_of_form


def materials_of(items: Any, model: TrainedModel) -> Iterator[Material]:
    """Yield the materials that items are, in order; one that cannot be read is a `Rejected` with its reason.

    Args:
        items: One item or several: a path of structures, a `Structure` of pymatgen, an `Atoms` of ASE, a `Crystal`, or
            a formula.
        model: What predicts them: text that names no file is a formula where it reads compositions.

    Raises:
        UsageError: An item is of another type.
    """
    several = isinstance(items, Iterable) and not (isinstance(items, str | Path) or _is_structure(items))
    for place, item in enumerate(items if several else [items]):
        if isinstance(item, Crystal | Formula | Rejected):
            yield item
        elif _is_structure(item):
            yield _of_structure(f"item {place}", item)
        elif isinstance(item, str) and model.network.reads_compositions and not Path(item).exists():
            yield Formula(item)
        elif isinstance(item, str | Path):
            yield from read_crystals([item])
        else:
            raise UsageError(
                f"item {place} is a {type(item).__name__}: give paths of structure files, structures of pymatgen or "
                "ASE, crystals of crystrata, or formulas"
            )


def _is_structure(item: Any) -> bool:
    return isinstance(item, Crystal) or any(hasattr(item, name) for name in ("as_dict", "todict"))


def _of_structure(id: str, item: Any) -> Crystal | Rejected:
    form = item.todict() if hasattr(item, "todict") else item.as_dict()
    return attempt(id, partial(crystal_of_form, id, form, majority=False))
