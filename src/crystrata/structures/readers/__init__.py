"""Readers of structure files: CIF, POSCAR, extended xyz, JSON of pymatgen / ASE / JARVIS, ASE db, folders and zips."""

from crystrata.structures.readers.containers import find_structure_files, read_crystals
from crystrata.structures.readers.formats import FORMATS, Format

__all__ = ["FORMATS", "Format", "find_structure_files", "read_crystals"]
