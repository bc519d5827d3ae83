"""Where the numbers that describe a composition come from: computed, or read from a table; all with one interface.

n compositions, D descriptor width, Z elements, F features of an element.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from crystrata.compositions.element_features import load_element_features
from crystrata.compositions.keys import composition_keys, known_weights
from crystrata.compositions.kmd import GRID, KernelMeanDescriptor
from crystrata.elements import SYMBOLS
from crystrata.errors import InputError, UsageError, unknown_name
from crystrata.files import digest_of_json

STATISTICS = ("mean", "variance", "max", "min")


def composition_statistics(weights: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return weighted mean, weighted variance, maximum and minimum of the features over the elements present.

    From atomic fractions (n, Z), each row with an element, and features (Z, F): (n, 4 F) float64, statistic by
    statistic in the order of `STATISTICS`.
    """
    empty = np.flatnonzero(~(weights > 0).any(axis=1))
    if len(empty):
        raise InputError(f"composition {empty[0]} has no element")
    row, element = np.nonzero(weights)
    first = np.searchsorted(row, np.arange(len(weights)))  # first element of each composition
    share, feature = weights[row, element][:, None], features[element]
    mean = np.add.reduceat(share * feature, first)
    variance = np.add.reduceat(share * (feature - mean[row]) ** 2, first)
    extremes = np.maximum.reduceat(feature, first), np.minimum.reduceat(feature, first)
    return np.concatenate([mean, variance, *extremes], axis=1)


_GAPS = ["", "NaN", "nan", "NA", "N/A", "null", "None", "na"]  # in a csv
_TRIED = "ClNa"  # whose numbers tell how many a function gives
TRUST_CODE = "CRYSTRATA_TRUST_CODE"
"""Environment variable by which a person allows functions that configurations name to be imported."""
_EXAMPLES = 5  # of keys without a descriptor, in the warning


class DescriptorSource(Protocol):
    """Something that describes compositions; `digest` is of all that the numbers depend on besides the composition."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def digest(self) -> str: ...

    def describe(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return descriptors (n, D) float32 and which of them are valid, (n,) bool; the other rows are zero."""


class KernelMean:
    """The kernel mean descriptor of the element features that come with the package.

    Form, sigma and grid as in `KernelMeanDescriptor`, which `kernel` is, with `matrix` (Z, D) and `inverse`.
    """

    def __init__(self, *, form: str = "1d", sigma: float | None = None, grid: int = GRID) -> None:
        features = load_element_features()
        self.kernel = KernelMeanDescriptor(features.values, form=form, sigma=sigma, grid=grid)
        if form == "1d":
            self.names = tuple(f"{name}[{point}]" for name in features.names for point in range(grid))
        else:
            self.names = tuple(f"like {symbol}" for symbol in SYMBOLS)
        settings = {"form": form, "sigma": sigma, "grid": grid if form == "1d" else None}
        self.digest = digest_of_json({"kernel mean": settings, "features": features.digest})

    def describe(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """See `DescriptorSource.describe`; a key is valid where it is a formula of known elements."""
        weights, valid = known_weights(keys)
        return self.kernel.transform(weights).astype(np.float32), valid


class Statistics:
    """Weighted mean, weighted variance, maximum and minimum of the element features that come with the package."""

    def __init__(self) -> None:
        features = load_element_features()
        self._features = features.values
        self.names = tuple(f"{statistic} {name}" for statistic in STATISTICS for name in features.names)
        self.digest = digest_of_json({"statistics": STATISTICS, "features": features.digest})

    def describe(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """See `DescriptorSource.describe`; a key is valid where it is a formula of known elements."""
        weights, valid = known_weights(keys)
        table = np.zeros((len(valid), len(self.names)), dtype=np.float32)
        table[valid] = composition_statistics(weights[valid], self._features)
        return table, valid


class Matminer:
    """Element statistics of matminer's `ElementProperty` (minimum, maximum, mean and others of each property).

    `preset`: `magpie`, `matminer`, `deml`, or another that matminer knows. An InputError if it does not, or if matminer
    is not installed (0.10.1 asks for pandas < 3; older ones fail with the pymatgen in use).
    """

    def __init__(self, preset: str = "magpie") -> None:
        try:
            from matminer import __version__
            from matminer.featurizers.composition import ElementProperty
        except ImportError as error:
            raise InputError(f"matminer cannot be loaded ({error}): python -m pip install 'matminer>=0.10'") from None
        try:
            self._featurizer: Any = ElementProperty.from_preset(preset, impute_nan=True)
        except ValueError as error:
            raise InputError(f"matminer has no preset {preset!r}: {error}") from None
        self.names = tuple(self._featurizer.feature_labels())
        self.digest = digest_of_json({"matminer": __version__, "preset": preset})

    def describe(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """See `DescriptorSource.describe`; not valid either where matminer gives no number for an element."""
        from pymatgen.core import Composition

        valid = known_weights(keys)[1]
        table = np.zeros((len(valid), len(self.names)), dtype=np.float32)
        for row in np.flatnonzero(valid).tolist():
            table[row] = self._featurizer.featurize(Composition(keys[row]))
        return _without_gaps(table, valid)


class FromFunction:
    """A function of one's own, `module:name`: from a composition to its numbers, (D,); None where there are none.

    It is imported only where a person says so, by `--trust-code` or the environment variable `CRYSTRATA_TRUST_CODE`: a
    configuration of somebody else runs no code. The current folder is searched for the module first.

    Raises:
        UsageError: Nobody said so.
        InputError: There is no such function.
    """

    def __init__(self, name: str) -> None:
        if os.environ.get(TRUST_CODE) != "1":
            raise UsageError(
                f"descriptor function {name}: importing it runs its code. If you trust it, give --trust-code, or set "
                f"{TRUST_CODE}=1 for commands without this flag"
            )
        module, _, function = name.partition(":")
        sys.path.insert(0, os.getcwd())
        try:
            self._function: Callable[[str], Any] = getattr(import_module(module), function)
            source = inspect.getsource(self._function)
        except (ImportError, AttributeError, ValueError, TypeError, OSError) as error:
            raise InputError(f"descriptor function {name}: write module:function of a Python file ({error})") from None
        finally:
            sys.path.remove(os.getcwd())
        self.names = tuple(f"{function}[{place}]" for place in range(len(self._numbers(_TRIED))))
        self.digest = digest_of_json({"function": name, "source": source})

    def _numbers(self, key: str) -> np.ndarray:
        found = self._function(key)
        return np.empty(0) if found is None else np.asarray(found, dtype=np.float32).ravel()

    def describe(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """See `DescriptorSource.describe`; a key is valid where it has as many finite numbers as rock salt."""
        rows = [self._numbers(key) for key in keys]
        valid = np.array([len(row) == len(self.names) for row in rows], dtype=bool)
        empty = np.zeros(len(self.names), dtype=np.float32)
        table = np.array([row if there else empty for row, there in zip(rows, valid, strict=True)], dtype=np.float32)
        return _without_gaps(table.reshape(len(rows), len(self.names)), valid)


class Joined:
    """Several sources side by side; `parts` give the `kind`, a row of `DESCRIPTORS`, and the settings of each."""

    def __init__(self, parts: Sequence[Mapping[str, Any]]) -> None:
        self._sources = [descriptor_source(**part) for part in parts]
        if not self._sources:
            raise InputError("joined descriptors need a source: name one or more in `parts`")
        self.names = tuple(name for source in self._sources for name in source.names)
        self.digest = digest_of_json({"joined": [source.digest for source in self._sources]})

    def describe(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """See `DescriptorSource.describe`; a key is valid where it is for every source."""
        tables, valid = zip(*(source.describe(keys) for source in self._sources), strict=True)
        return _without_gaps(np.concatenate(tables, axis=1), np.logical_and.reduce(valid))


class PrecomputedDescriptors:
    """Descriptors read from a table, a row for each composition; rows with a gap are not valid.

    The csv (also compressed) or parquet file has numbers in every column but that of the compositions: by default the
    index of a parquet table, the first column of a csv. An InputError if it cannot be read, a column is missing or no
    number, or a composition has two different rows.
    """

    def __init__(self, path: Path | str, composition_column: str | None = None) -> None:
        frame = _read_table(Path(path), composition_column)
        text = [str(name) for name in frame.columns if frame[name].dtype.kind not in "fiub"]
        if text or frame.empty:
            raise InputError(f"{path} has {f'columns that are no numbers: {text[:5]}' if text else 'no descriptors'}")
        self.names = tuple(map(str, frame.columns))
        with np.errstate(over="ignore"):  # a number too large for float32 is a gap
            self._table = frame.to_numpy(dtype=np.float32, na_value=np.nan)
        self._row_of: dict[str, int] = {}
        for row, key in enumerate(composition_keys(frame.index)):
            if not key:
                continue
            first = self._row_of.setdefault(key, row)
            if not np.array_equal(self._table[first], self._table[row], equal_nan=True):
                raise InputError(f"{path} has two different rows for {key!r} (rows {first + 1} and {row + 1})")
        content = hashlib.sha256(self._table.tobytes()).hexdigest()
        self.digest = digest_of_json({"names": self.names, "rows": self._row_of, "content": content})

    @property
    def keys(self) -> list[str]:
        """The compositions of the table."""
        return list(self._row_of)

    def describe(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """See `DescriptorSource.describe`; a key is valid where the table has a row without gaps for it."""
        rows = np.array([self._row_of.get(key, -1) for key in keys], dtype=np.int64)
        return _without_gaps(self._table[rows], rows >= 0)


def _read_table(path: Path, composition_column: str | None) -> Any:
    """Return a data frame whose index holds the compositions."""
    import pandas as pd

    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        elif ".csv" in path.suffixes:
            columns = pd.read_csv(path, nrows=0).columns
            composition_column = composition_column or columns[0]
            gaps = {column: _GAPS for column in columns if column != composition_column}  # NaN is sodium nitride there
            text = {composition_column: str}
            frame = pd.read_csv(path, dtype=text, index_col=False, keep_default_na=False, na_values=gaps)
        else:
            raise InputError(f"{path} is neither csv nor parquet")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a table: {error}") from None
    if composition_column is not None:
        if composition_column not in frame.columns:
            raise InputError(f"{path} has no column {composition_column!r} (columns: {list(frame.columns)[:10]})")
        return frame.set_index(composition_column)
    if isinstance(frame.index, pd.RangeIndex):
        raise InputError(f"the index of {path} holds row numbers, no compositions: name the column of the compositions")
    return frame


def _without_gaps(table: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the table with zeros in rows that are not valid or hold a number that is not finite; and who is left."""
    valid = valid & np.isfinite(table).all(axis=1)
    return np.where(valid[:, None], table, np.float32(0)), valid


DESCRIPTORS: dict[str, Callable[..., DescriptorSource]] = {
    "kernel_mean": KernelMean,
    "statistics": Statistics,
    "matminer": Matminer,
    "table": PrecomputedDescriptors,
    "joined": Joined,
    "function": FromFunction,
}
"""Kind -> source."""


def descriptor_source(kind: str, **settings: Any) -> DescriptorSource:
    """Make a source of descriptors; a UsageError if the kind or a setting is unknown, else an InputError."""
    if kind not in list(DESCRIPTORS):  # a file may give what no dictionary can look up
        raise unknown_name("kind of descriptor", kind, DESCRIPTORS)
    known = list(inspect.signature(DESCRIPTORS[kind]).parameters)
    for setting in settings:
        if setting not in known:
            raise unknown_name(f"setting of descriptor {kind}", setting, known)
    return DESCRIPTORS[kind](**settings)


class CachedDescriptors:
    """Any source behind a memory: every key is described once."""

    def __init__(self, source: DescriptorSource) -> None:
        self._source = source
        self.names, self.digest = source.names, source.digest
        self._row_of: dict[str, int] = {}
        self._table = np.zeros((0, len(source.names)), dtype=np.float32)
        self._valid = np.zeros(0, dtype=bool)

    def describe(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """See `DescriptorSource.describe`."""
        new = [key for key in dict.fromkeys(keys) if key not in self._row_of]
        if new:
            table, valid = self._source.describe(new)
            self._row_of.update(zip(new, range(len(self._valid), len(self._valid) + len(new)), strict=True))
            self._table, self._valid = np.concatenate([self._table, table]), np.concatenate([self._valid, valid])
        rows = np.array([self._row_of[key] for key in keys], dtype=np.int64)
        return self._table[rows], self._valid[rows]


def describe_valid(source: DescriptorSource, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Describe what can be described; one warning counts and names the rest.

    Returns descriptors (m, D) float32 of the valid keys, and their places in `keys`, (m,) int64, ascending; an
    InputError if no key has a descriptor.
    """
    table, valid = source.describe(keys)
    dropped = list(dict.fromkeys(key for key, kept in zip(keys, valid, strict=True) if not kept))
    shown = ", ".join(map(repr, dropped[:_EXAMPLES])) + (", ..." if len(dropped) > _EXAMPLES else "")
    if not valid.any():
        raise InputError(f"none of {len(keys)} compositions has a descriptor: {shown or 'no composition is given'}")
    if dropped:
        warnings.warn(
            f"{int((~valid).sum())} of {len(keys)} rows are left out: no descriptor for {len(dropped)} compositions "
            f"({shown})",
            stacklevel=2,
        )
    return table[valid], np.flatnonzero(valid)
