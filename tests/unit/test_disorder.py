"""Disordered sites: the majority species where it is asked for, and only there."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from crystrata.structures.crystal import Crystal, Rejected
from crystrata.structures.readers import read_crystals

CELL = "".join(f"_cell_length_{axis} 5.0\n" for axis in "abc") + "".join(
    f"_cell_angle_{angle} 90\n" for angle in ("alpha", "beta", "gamma")
)
TAGS = "label type_symbol fract_x fract_y fract_z occupancy disorder_assembly disorder_group"
DISORDERED = ("M1 Fe 0 0 0 0.7", "M2 Ni 0 0 0 0.3", "O1 O .5 .5 .5 1", "Li1 Li 0 .5 .5 0.2")


def cif(*sites: str) -> str:
    """Return a CIF in P1 whose site table has these rows; what they leave out is unknown."""
    columns = "".join(f"_atom_site_{tag}\n" for tag in TAGS.split())
    rows = "".join(" ".join([*site.split(), *"..."][:8]) + "\n" for site in sites)
    return f"data_made\n{CELL}loop_\n{columns}{rows}"


def read(folder: Path, *sites: str, majority_species: bool = True) -> Crystal | Rejected:
    path = folder / "made.cif"
    path.write_text(cif(*sites))
    [item] = read_crystals(path, majority_species=majority_species)
    return item


def crystal_of(folder: Path, *sites: str) -> Crystal:
    item = read(folder, *sites)
    assert isinstance(item, Crystal), item
    return item


def test_only_where_it_is_asked_for(tmp_path: Path) -> None:
    refused = read(tmp_path, *DISORDERED, majority_species=False)
    assert isinstance(refused, Rejected)
    assert (refused.code, "--majority-species" in refused.reason) == ("disordered", True)
    crystal = crystal_of(tmp_path, *DISORDERED)
    assert crystal.numbers.tolist() == [26, 8]
    np.testing.assert_allclose(crystal.frac, [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert crystal.note == ("disordered, majority species taken: M1 (Fe 0.7, Ni 0.3) as Fe, Li1 (Li 0.2) as empty")


def test_an_ordered_crystal_stays_as_it_is(tmp_path: Path) -> None:
    sites = ("Na1 Na 0 0 0 1.0", "Cl1 Cl .5 .5 .5 0.9995")
    crystal, ordered = crystal_of(tmp_path, *sites), read(tmp_path, *sites, majority_species=False)
    assert isinstance(ordered, Crystal)
    assert crystal.numbers.tolist() == ordered.numbers.tolist() == [11, 17]
    assert crystal.note == ordered.note == ""


@pytest.mark.parametrize(
    ("sites", "numbers"),
    [
        (("A Fe 0 0 0 .4", "B Ni 0 0 0 .3", "C Co 0.001 0 .9999 .3"), [26]),  # most, though no half
        (("A Fe 0 0 0 .3", "B Fe 0 0 1 .3", "C Ni 0 0 0 .4"), [26]),  # two charges of one element
        (("A Fe 0 0 0 .97",), [26]),
        (("A Fe 0 0 0 .67", "B Ni 0 0 0 .34"), [26]),  # rounded
        (("B H .2 0 0 .7 A 1", "C H .25 .1 0 .3 A 2", "D F .5 .5 .5 .4 B 1", "E F .5 .5 .6 .6 B 2"), [1, 9]),
    ],
    ids=str,
)
def test_the_species_that_holds_most_is_taken(tmp_path: Path, sites: tuple[str, ...], numbers: list[int]) -> None:
    assert crystal_of(tmp_path, *sites).numbers.tolist() == numbers


@pytest.mark.parametrize(
    ("sites", "code", "said"),
    [
        (("A Fe 0 0 0 .5", "B Ni 0 0 0 .5"), "disordered", "no majority"),
        (("A Fe 0 0 0 .5",), "disordered", "no majority"),  # iron or nothing
        (("A Fe 0 0 0 .8", "B Ni 0 0 0 .8"), "disordered", "more than one"),
        (("A Fe 0 0 0 -.3", "B Ni .5 0 0 1"), "disordered", "must be 0 to 1"),
        (("A Fe 0 0 0 1.5",), "disordered", "must be 0 to 1"),
        (("A Fe 0 0 0 .2",), "empty", "no atom"),
        (("A Fe 0 0 0 1", "B Ni 0 0 0 1"), "overlapping", "apart"),
        (("A Fe 0 0 0 .6", "B Ni .02 0 0 .6"), "overlapping", "apart"),  # two sites, both mostly there
        (("A O 0 0 0 . A 1", "B O .5 0 0 . A 2"), "disordered", "alternative"),
        (("A Wat 0 0 0 .4",), "unknown_species", "Wat"),
    ],
    ids=str,
)
def test_what_has_no_majority_is_still_refused(tmp_path: Path, sites: tuple[str, ...], code: str, said: str) -> None:
    item = read(tmp_path, *sites)
    assert isinstance(item, Rejected)
    assert item.code == code
    assert said in item.reason


def test_pymatgen_json_and_members_of_an_archive_too(tmp_path: Path) -> None:
    from pymatgen.core.structure import Structure

    species = [{"Fe3+": 0.6, "Fe2+": 0.1, "Ni": 0.3}, {"O": 1}, {"Li": 0.2}]
    made = Structure(5 * np.eye(3), species, [[0, 0, 0], [0.5, 0.5, 0.5], [0, 0.5, 0.5]])
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("one.json", json.dumps(made.as_dict()))
        archive.writestr("two.cif", cif(*DISORDERED))
    items = list(read_crystals(tmp_path / "all.zip", majority_species=True))
    for item in items:
        assert isinstance(item, Crystal), item
        assert item.numbers.tolist() == [26, 8]
        assert "Li 0.2) as empty" in item.note
    for refused in read_crystals(tmp_path / "all.zip"):
        assert isinstance(refused, Rejected)
        assert (refused.code, "--majority-species" in refused.reason) == ("disordered", True)
