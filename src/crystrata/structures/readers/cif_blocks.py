"""The data blocks of a CIF as tags and values, split with care before pymatgen's tokeniser sees them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

from crystrata.structures.crystal import CrystalError
from crystrata.structures.readers.source import MEND

MAX_LINE = 10_000  # characters; the standard allows 2,048, and quotes in a line cost quadratic time

_KEYWORD = re.compile(r"^\s*(data_|loop_|global_|save_|stop_)", re.IGNORECASE)
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
    """Return a CIF number without its uncertainty.

    Raises:
        CrystalError: `not_finite` for NaN and infinity, `unreadable` for anything else that is no number.
    """
    if match := _NUMBER.fullmatch(text.strip()):
        return float(match[1])
    if text.strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
        raise CrystalError("not_finite", f"{what} is {text!r}")
    raise CrystalError("unreadable", f"{what} is {text!r}, no number; {MEND}")


def block_texts(text: str) -> list[str]:
    """Split a CIF into the texts of its data blocks, without the `data_` of their first lines.

    Blocks of the same name stay apart, `data_` inside a text field is no block, and keywords become lower case:
    pymatgen's own splitting gets these three wrong without a word.

    Raises:
        CrystalError: `unreadable`: a text field has no end, or a line is longer than any CIF's.
    """
    # The minus sign of typesetters is meant; other non-ASCII characters must break a number, not vanish from it.
    text = text.replace("\u2212", "-").replace("\u00a0", " ").encode("ascii", "replace").decode()
    blocks: list[list[str]] = []
    in_field = False
    for line in text.split("\n"):
        if line.startswith(";"):
            in_field = not in_field
        elif not in_field:
            if not line.strip():
                continue
            if len(line) > MAX_LINE:
                raise CrystalError("unreadable", f"a line has more than {MAX_LINE} characters; {MEND}")
            if keyword := _KEYWORD.match(line):
                line = keyword[0].strip().lower() + line[keyword.end() :]
                if keyword[1].lower() == "data_":
                    blocks.append([])
                    line = line[len("data_") :]
        if blocks:
            blocks[-1].append(line)
    if in_field:
        raise CrystalError("unreadable", f"a text field (;) has no end: the file is cut; {MEND}")
    return ["\n".join(lines) for lines in blocks]


def structure_blocks(text: str) -> Iterator[str]:
    """Yield the texts of the blocks that list atoms (other blocks hold authors, reflections, powder patterns)."""
    for block in block_texts(text):
        if re.search(r"^\s*_atom_site[_.](label|type_symbol|fract_x|cartn_x)\b", block, re.IGNORECASE | re.MULTILINE):
            yield block


def parse_block(block: str) -> Tags:
    """Return the tags of one block.

    Raises:
        CrystalError: `empty` for a table without rows, `unreadable` for broken syntax.
    """
    from pymatgen.io.cif import CifBlock

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            data = CifBlock.from_str(f"data_{block}").data
    except ZeroDivisionError:
        raise CrystalError("empty", "a table of the file has no rows; export it again") from None
    except (ValueError, IndexError) as error:
        raise CrystalError("unreadable", f"a table has missing or surplus values ({error}); {MEND}") from None
    # A value that belongs to no tag shifts the meaning of what follows.
    if stray := [str(warning.message) for warning in caught if "Possible issue" in str(warning.message)]:
        raise CrystalError("unreadable", f"a value belongs to no tag ({stray[0].rpartition(': ')[2]}); {MEND}")
    return Tags(
        (key.lower().replace(".", "_"), value if isinstance(value, list) else [value]) for key, value in data.items()
    )
