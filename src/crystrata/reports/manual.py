"""The manual's tables, made from the tables that the code reads: each function returns markdown."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from crystrata import errors
from crystrata.compositions.descriptors import DESCRIPTORS
from crystrata.datasets.splits import PROTOCOLS
from crystrata.jarvis_properties import GROUPS, NINE
from crystrata.jarvis_properties import properties as nine_properties
from crystrata.presets import ALGORITHMS, LEVELS, MODES, PRESETS, PROFILES, SIZE_ALIASES, SIZES, TRACKS, Preset
from crystrata.reports.tables import markdown
from crystrata.runs.directory import ARTIFACTS
from crystrata.settings import words_of
from crystrata.sources.jarvis.download import RELEASES
from crystrata.structures.readers import FORMATS

REJECTION_CODES: dict[str, str] = {
    "not_found": "the path does not exist or cannot be reached",
    "unreadable": "the file cannot be opened or parsed, is cut, encrypted, or holds binary data",
    "unknown_format": "the file name tells no known format",
    "empty": "no text, no atoms, or a table without rows",
    "no_structure": "the file, folder or archive holds no crystal structure",
    "no_lattice": "atoms without lattice vectors (a molecule, a plain xyz file)",
    "not_periodic": "the structure does not repeat in all three directions",
    "unknown_species": "a symbol or label names no element for certain, or an element beyond lawrencium",
    "missing_atoms": "a site has no position, or hydrogen atoms are counted but not placed",
    "disordered": "a site is partly occupied, mixed, or belongs to one of several alternatives",
    "magnetic": "a magnetic CIF",
    "modulated": "a modulated structure, which has no unit cell",
    "bad_numbers": "lattice, species or coordinates are no numbers, do not fit each other, or are absurdly large",
    "not_finite": "a lattice length, angle or coordinate is NaN or infinite",
    "bad_cell": "the cell is flat, skewed, far too small or far too large; often wrong units",
    "bad_symmetry": "the symmetry operations are none, form no group, do not fit the cell, or are ambiguous",
    "too_many_symmetry_operations": "more operations than any space group has",
    "overlapping": "two atoms are closer than any bond",
    "too_large": "too many atoms or bytes",
    "unsafe_archive": "an archive that would grow far beyond its size, or a member that leads out of it",
    "missing_keys": "a JARVIS record lacks what a crystal needs",
    "no_id": "a JARVIS record without `jid`",
    "repeated_id": "a JARVIS record whose `jid` stood before",
}
"""Code of a rejected input -> what it means; a test compares it with the codes that the package uses."""


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a markdown table; None becomes `-`."""
    return markdown(pd.DataFrame([list(row) for row in rows], columns=list(columns), dtype=object))


def code(text: object) -> str:
    """Return text as markdown code; nothing for an empty one."""
    return f"`{text}`" if text != "" else "-"


def levels(algorithm: str) -> str:
    """Return the five levels of an algorithm."""
    return _presets([(algorithm, level) for level in LEVELS], "level", {})


def profiles() -> str:
    """Return the profiles of every algorithm."""
    cells = [(algorithm, profile) for profile in PROFILES for algorithm in ALGORITHMS]
    further: dict[str, list[object]] = {
        "algorithm": [code(algorithm) for algorithm, _ in cells],
        "own settings": [_settings(PRESETS[cell].training) or None for cell in cells],
    }
    return _presets(cells, "profile", further)


def _presets(cells: Sequence[tuple[str, str]], first: str, further: Mapping[str, Sequence[object]]) -> str:
    def row(name: str, preset: Preset, *more: object) -> list[object]:
        crystals = preset.max_samples or "all"
        family = code(f"models/{preset.family}/")
        return [code(name), *more, preset.use, preset.size, preset.epochs, preset.batch_size, preset.accumulate,
                preset.lr, crystals, code(preset.script), family]  # fmt: skip

    columns = ("use", "size", "epochs", "batch", "accumulate", "learning rate", "crystals", "script", "runs in")
    named = zip(cells, *further.values(), strict=True)
    return table((first, *further, *columns), [row(cell[1], PRESETS[cell], *more) for cell, *more in named])


def sizes() -> str:
    """Return the model sizes with their parameters, counted on a network of all nine properties."""
    from crystrata.networks.config import NetworkConfig
    from crystrata.networks.network import Network, count_parameters
    from crystrata.runs.config import resolve_config

    aliases = {own: alias for alias, own in SIZE_ALIASES.items()}
    rows = []
    for (algorithm, size), settings in SIZES.items():
        used = [mode for mode in MODES if PRESETS[algorithm, mode].size == size]
        tasks = resolve_config(algorithm, used[0], properties=GROUPS["all9"]).trained
        config = NetworkConfig(tasks, structure=algorithm, structure_settings=dict(settings))
        parameters = count_parameters(Network(config))
        flag = code(f"--size {aliases.get(size, size)}")
        rows.append([code(algorithm), size, flag, _settings(settings), f"{parameters:,}", ", ".join(used)])
    return table(("algorithm", "size", "flag", "settings", "parameters", "used by"), rows)


def _settings(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def training() -> str:
    """Return the training settings that all levels of an algorithm share."""
    columns = ("algorithm", "schedule", "gradient clip", "weight decay", "EMA decay", "task weights")
    rows = [
        [code(name), track.schedule, track.clip, track.weight_decay, track.ema,
         "learned" if track.learned_balance else "static"]
        for name, track in TRACKS.items()
    ]  # fmt: skip
    return table(columns, rows)


def properties() -> str:
    """Return the nine properties: names, units, labels, bounds."""
    columns = ("name", "meaning", "unit", "label", "expected labels", "head", "loss scale", "lowest prediction")
    rows = []
    for record in nine_properties(NINE):
        if record.derived_from:
            label, rest = f"from {code(record.derived_from)} and the training hull", ["none", "-"]
        else:
            joined = ", ".join(map(code, record.columns))
            label = f"mean of {joined}" if len(record.columns) > 1 else joined
            ridge = ", additive over atoms, composition ridge" if record.additive else ""
            rest = [record.kind, record.transform + ridge]
        expected = f"{record.plausible[0]:g} to {record.plausible[1]:g}"
        rows.append([code(record.name), record.words, record.unit or "none", label, expected, *rest, record.lower])
    return table(columns, rows)


def groups() -> str:
    """Return the property groups."""
    rows = [[code(name), ", ".join(map(code, members))] for name, members in GROUPS.items()]
    return table(("group", "properties"), rows)


def artifacts() -> str:
    """Return the files of a run directory."""
    return table(("file", "holds"), [[code(name), words] for name, words in ARTIFACTS.items()])


def formats() -> str:
    """Return the structure formats that are read."""
    rows = [
        [form.title, ", ".join(map(code, (*form.suffixes, *(f"{prefix}*" for prefix in form.prefixes)))),
         f"{form.max_bytes / 1e6:g} MB"]
        for form in FORMATS
    ]  # fmt: skip
    return table(("format", "file names", "largest file"), rows)


def keys(cls: type) -> str:
    """Return the fields of a class of configuration files, with the words of its docstring."""
    words = words_of(cls)
    rows = [[code(field.name), _default(field), words[field.name]] for field in dataclasses.fields(cls)]
    return table(("key", "default", "meaning"), rows)


def _default(field: dataclasses.Field[object]) -> str | None:
    value = field.default
    if value is dataclasses.MISSING or value in (None, (), ""):
        return None
    if isinstance(value, tuple):
        return code(", ".join(map(str, value)))
    return code(str(value).lower() if isinstance(value, bool) else value)


def spellings(sections: Mapping[str, Mapping[str, str]]) -> str:
    """Return the keys of YAML files that are not spelled as the field of a run is, from section -> key -> field."""
    rows = [[code(f"{section}.{key}"), code(name)] for section, keys in sections.items() for key, name in keys.items()]
    return table(("key", "field"), rows)


def fixed(keys: Mapping[str, tuple[tuple[Any, ...], str]]) -> str:
    """Return the arguments of Lightning's Trainer that have one meaning here, from key -> values and reason."""
    rows = [
        [code(key), ", ".join(map(code, dict.fromkeys(map(str, values)))), why] for key, (values, why) in keys.items()
    ]
    return table(("key of `trainer`", "values", "reason"), rows)


def descriptors() -> str:
    """Return the kinds of descriptors of compositions with their settings."""
    rows = []
    for kind, source in DESCRIPTORS.items():
        settings = [code(name) for name in inspect.signature(source).parameters]
        rows.append([code(kind), ", ".join(settings), (inspect.getdoc(source) or "").splitlines()[0]])
    return table(("kind", "settings", "what it is"), rows)


def releases() -> str:
    """Return the official JARVIS-DFT releases."""
    rows = [
        [code(name), code(release.file_name), f"{release.rows:,}" if release.rows else None, code(release.url)]
        for name, release in RELEASES.items()
    ]
    return table(("name", "file", "records", "address"), rows)


def splits() -> str:
    """Return the split protocols."""
    return table(("`--split`", "parts"), [[code(one.title), one.words] for one in PROTOCOLS.values()])


def rejections() -> str:
    """Return the codes of rejected inputs."""
    return table(("code", "meaning"), [[code(name), words] for name, words in REJECTION_CODES.items()])


def exit_codes() -> str:
    """Return the errors that end a command, with their exit codes."""
    found = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.CrystrataError)]
    found.remove(errors.CrystrataError)
    rows = [[kind.exit_code, code(kind.__name__), (kind.__doc__ or "").splitlines()[0]] for kind in found]
    return table(("exit code", "error", "meaning"), sorted(rows, key=lambda row: (-int(str(row[0])), str(row[1]))))
