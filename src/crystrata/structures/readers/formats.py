"""The formats as data: how a file name tells its format, and who reads it. A new format is one more row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from crystrata.structures.crystal import Crystal, CrystalError, Rejected
from crystrata.structures.readers.cif import read_cif, read_magnetic_cif
from crystrata.structures.readers.json_and_db import read_ase_db, read_json
from crystrata.structures.readers.poscar_xyz import read_poscar, read_xyz
from crystrata.structures.readers.structure_file import StructureFile, rejected

Reader = Callable[[StructureFile], Iterator[Crystal | Rejected]]


@dataclass(frozen=True)
class Format:
    """One file format."""

    title: str  # words for a person
    suffixes: tuple[str, ...]  # file name endings, lower case; `.gz` may follow
    read: Reader  # yields the file's structures; may raise for the file as a whole
    max_bytes: int = 20_000_000  # largest file that is read [bytes]
    # beginnings of names without such an ending (`POSCAR`, `CONTCAR_relaxed`), upper case
    prefixes: tuple[str, ...] = ()


FORMATS: tuple[Format, ...] = (
    Format("CIF", (".cif",), read_cif),
    Format("magnetic CIF (refused)", (".mcif",), read_magnetic_cif),
    Format("POSCAR", (".vasp", ".poscar", ".contcar"), read_poscar, prefixes=("POSCAR", "CONTCAR")),
    Format("extended xyz", (".xyz", ".extxyz"), read_xyz, max_bytes=200_000_000),
    Format("JSON of pymatgen, ASE or JARVIS", (".json",), read_json, max_bytes=200_000_000),
    Format("ASE database", (".db",), read_ase_db, max_bytes=2_000_000_000),
)

ARCHIVE_SUFFIX = ".zip"

_NO_STRUCTURE_SUFFIXES = frozenset(
    ".md .rst .txt .csv .tsv .dat .out .err .log .html .htm .pdf .docx .xlsx .png .jpg .jpeg .gif .svg .eps .py .ipynb "
    ".sh .m .yaml .yml .toml .ini .cfg .xml .parquet .npy .npz .h5 .hdf5 .pt .ckpt .safetensors .bib .tex .sha256 "
    ".md5".split()
)
_NO_STRUCTURE_NAMES = frozenset(
    "README LICENSE MAKEFILE INCAR KPOINTS POTCAR OUTCAR OSZICAR DOSCAR EIGENVAL IBZKPT PROCAR XDATCAR CHG CHGCAR "
    "WAVECAR PCDAT REPORT".split()
)


def format_of(name: str) -> tuple[Format, str] | None:
    """Return the format that a file name tells and the name without its ending, or None for an unknown kind."""
    plain = name[: -len(".gz")] if name.lower().endswith(".gz") else name
    for form in FORMATS:
        for suffix in form.suffixes:
            if plain.lower().endswith(suffix) and len(plain) > len(suffix):
                return form, plain[: -len(suffix)]
    for form in FORMATS:
        if form.prefixes and re.fullmatch(rf"({'|'.join(form.prefixes)})([-_. ].*)?", plain, re.IGNORECASE):
            return form, plain
    return None


def is_other_file(name: str) -> bool:
    """Return whether a file found in a folder is clearly no structure (hidden, text, picture, VASP output)."""
    _, dot, suffix = name.rpartition(".")
    return (
        name.startswith((".", "__MACOSX"))
        or (bool(dot) and f".{suffix.lower()}" in _NO_STRUCTURE_SUFFIXES)
        or (name.partition(".")[0].upper() in _NO_STRUCTURE_NAMES and format_of(name) is None)
    )


def unknown_format(name: str) -> Rejected:
    """Return the rejection of a file whose name tells no known format."""
    endings = ", ".join(suffix for form in FORMATS for suffix in form.suffixes if "refused" not in form.title)
    return Rejected(
        name, "unknown_format", f"its name tells no known format; known: {endings}, {ARCHIVE_SUFFIX}, POSCAR"
    )


def read_source(form: Format, source: StructureFile) -> Iterator[Crystal | Rejected]:
    """Yield the structures of one file; whatever its reader raises becomes the last item, a rejection."""
    found = False
    try:
        for item in form.read(source):
            found = True
            yield item
        if not found:
            raise CrystalError("no_structure", "the file holds no structure")
    except Exception as error:  # a foreign file may break a parser in any way; `rejected` names it
        yield rejected(source.stem, error)
