"""The data blocks of a CIF as tags and values. gemmi reads the syntax: loops, quotes, text fields, comments."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from gemmi import cif

from crystrata.structures.crystal import CrystalError
from crystrata.structures.readers.structure_file import ADVICE

_FIELD_OR_BLOCK = re.compile(r"^(?:;.*?^;|(?P<cut>;)|(?P<block>[ \t]*data_))", re.IGNORECASE | re.MULTILINE | re.DOTALL)
_LISTS_ATOMS = re.compile(r"^[ \t]*_atom_site[_.](?:label|type_symbol|fract_x|cartn_x)\b", re.IGNORECASE | re.MULTILINE)
_READ = (  # beginnings of the tags that matter
    "_atom_site_", "_cell_angle", "_cell_length", "_cell_modulation", "_cell_wave_vector", "_chemical_formula",
    "_space_group", "_symmetry",
)  # fmt: skip
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:\(\d*\)?)?")  # 5.431(2): value and uncertainty


class Tags(dict[str, list[str]]):
    """Values of one data block by tag; tags in lower case with `_` for `.`, so that old and new names agree."""

    def text(self, *names: str) -> str | None:
        """Return the first stated value of several tags, or None; `?` and `.` state nothing."""
        for name in names:
            values = self.get(name)
            if values and values[0].strip() not in ("", "?", "."):
                return values[0].strip()
        return None


def number(text: str, what: str) -> float:
    """Return a CIF number without its uncertainty; `not_finite` for NaN and infinity, else `unreadable`."""
    if match := _NUMBER.fullmatch(text.strip()):
        return float(match[1])
    if text.strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
        raise CrystalError("not_finite", f"{what} is {text!r}")
    raise CrystalError("unreadable", f"{what} is {text!r}, no number; {ADVICE}")


def structure_blocks(text: str) -> list[str]:
    """Return the texts of the data blocks that list atoms; others hold authors, reflections, powder patterns.

    gemmi reads the blocks one by one, so that a broken block, or two of the same name, do not cost the whole file; a
    text field without end does: `unreadable`.
    """
    # The minus sign of typesetters is one; other non-ASCII characters must break a number, not vanish from it.
    text = text.replace("\u2212", "-").replace("\u00a0", " ").encode("ascii", "replace").decode()
    starts = []
    for found in _FIELD_OR_BLOCK.finditer(text):
        if found["cut"]:
            raise CrystalError("unreadable", f"a text field (;) has no end: the file is cut; {ADVICE}")
        if found["block"]:
            starts.append(found.start())
    blocks = (text[start:end] for start, end in pairwise([*starts, len(text)]))
    return [block for block in blocks if _LISTS_ATOMS.search(block)]


def parse_block(block: str) -> Tags:
    """Return the tags of one block that a structure is made of.

    `empty` for a table without rows; `unreadable` for broken syntax, a missing or surplus value, or a tag with two
    values.
    """
    try:
        document = cif.read_string(block, 0)
        document.check_for_missing_values()
        items = list(document.sole_block())
    except (ValueError, RuntimeError) as error:
        what = str(error).replace("parse error", "a value is surplus or badly quoted")
        what = re.sub(r"^string:(\d+)\S*( in data_\S*:)?", r"line \1 of the data block:", what)
        raise CrystalError("unreadable", f"{what}; {ADVICE}") from None
    tags = Tags()
    for item in items:
        pair: Any = item.pair  # (tag, value) or None
        if pair:
            _add(tags, pair[0], [pair[1]])
        elif loop := item.loop:
            if not loop.length():
                raise CrystalError("empty", f"the table of {loop.tags[0]} has no rows; export the file again")
            values = loop.values
            for column, tag in enumerate(loop.tags):
                _add(tags, tag, values[column :: loop.width()])
    return tags


def _add(tags: Tags, tag: str, values: list[str]) -> None:
    key = tag.lower().replace(".", "_")
    if key.startswith(_READ):
        stated = [value if value in ("?", ".") else cif.as_string(value) for value in values]
        if tags.setdefault(key, stated) != stated:
            raise CrystalError("unreadable", f"{tag} has two different values in one data block; remove the wrong one")
