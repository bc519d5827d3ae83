"""Readers of structure files: CIF, POSCAR, extended xyz, JSON of pymatgen / ASE / JARVIS, ASE db, folders and zips."""

from crystrata.structures.readers.formats import FORMATS, Format
from crystrata.structures.readers.inputs import find_structure_files, read_crystals

__all__ = ["FORMATS", "Format", "find_structure_files", "read_crystals"]
