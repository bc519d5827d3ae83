"""Readers of structure files: what is read agrees in every format, what cannot be is refused by name, in order."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import stat
import struct
import sys
import warnings
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crystrata.elements import SYMBOLS
from crystrata.structures.crystal import MIN_DISTANCE, Crystal, CrystalError, Rejected
from crystrata.structures.readers import find_structure_files, read_crystals
from crystrata.structures.readers.inputs import writable
from crystrata.structures.readers.structure_file import checked_crystal

EXAMPLES = Path(__file__).parents[2] / "examples" / "cifs"

LATTICE = np.array([[4.1, 0.1, -0.2], [0.3, 5.2, 0.4], [-0.5, 0.6, 6.3]])  # [A] triclinic, oriented anyhow
NUMBERS = [56, 22, 8, 8, 8]
FRAC = np.array([[0.01, 0.02, 0.03], [0.52, 0.51, 0.49], [0.5, 0.48, 0.98], [0.5, 0.02, 0.47], [0.03, 0.51, 0.53]])

P1 = "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n"
CELL = "".join(f"_cell_length_{axis} 5.0\n" for axis in "abc") + "".join(
    f"_cell_angle_{angle} 90\n" for angle in ("alpha", "beta", "gamma")
)


def cif(
    *sites: str, cell: str = CELL, symmetry: str = P1, tags: str = "label type_symbol fract_x fract_y fract_z"
) -> str:
    """Return a CIF of one block with these rows in its site table."""
    columns = "".join(f"_atom_site_{tag}\n" for tag in tags.split())
    return f"data_made\n{cell}{symmetry}loop_\n{columns}" + "".join(f"{site}\n" for site in sites)


def labelled(*sites: str, formula: str = "") -> str:
    """Return a CIF whose sites have labels only."""
    declared = f"_chemical_formula_sum '{formula}'\n" if formula else ""
    return cif(*sites, cell=CELL + declared, tags="label fract_x fract_y fract_z")


def occupied(*sites: str) -> str:
    """Return a CIF whose sites have occupancies."""
    return cif(*sites, tags="label type_symbol fract_x fract_y fract_z occupancy")


def named(name: str = "", hall: str = "", number: str = "") -> str:
    """Return the tags that name a space group."""
    tags = {"_space_group_name_H-M_alt": name, "_space_group_name_Hall": hall, "_space_group_IT_number": number}
    return "".join(f"{tag} '{value}'\n" for tag, value in tags.items() if value)


NACL = cif("Na1 Na 0 0 0", "Cl1 Cl 0.5 0.5 0.5")


def read_text(folder: Path, text: str, name: str = "made.cif") -> list[Crystal | Rejected]:
    """Write a file and read it."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return list(read_crystals([path]))


def only_crystal(items: list[Crystal | Rejected]) -> Crystal:
    (item,) = items
    assert isinstance(item, Crystal), item
    return item


def only_rejected(items: list[Crystal | Rejected]) -> Rejected:
    (item,) = items
    assert isinstance(item, Rejected), item
    assert item.reason
    assert "\n" not in item.reason
    return item


def ids(items: list[Crystal | Rejected]) -> list[str]:
    return [item.id for item in items]


def assert_same_crystal(crystal: Crystal) -> None:
    """The crystal is the one of this file: matrix, species and positions, atoms in any order."""
    order = np.lexsort((*(crystal.frac % 1.0).round(4).T, crystal.numbers))
    mine = np.lexsort((*(FRAC % 1.0).round(4).T, NUMBERS))
    assert crystal.numbers[order].tolist() == np.array(NUMBERS)[mine].tolist()
    np.testing.assert_allclose(crystal.frac[order] % 1.0, FRAC[mine], atol=2e-8)
    np.testing.assert_allclose(crystal.lattice @ crystal.lattice.T, LATTICE @ LATTICE.T, atol=2e-7)
    if crystal.orientation_given:
        np.testing.assert_allclose(crystal.lattice, LATTICE, atol=2e-8)


def pymatgen_structure() -> Any:
    from pymatgen.core.structure import Structure

    return Structure(LATTICE, [SYMBOLS[z - 1] for z in NUMBERS], FRAC)


def ase_atoms() -> Any:
    from ase import Atoms

    return Atoms(NUMBERS, cell=LATTICE, scaled_positions=FRAC, pbc=True)


def jarvis_dict() -> dict[str, object]:
    from jarvis.core.atoms import Atoms

    atoms = Atoms(lattice_mat=LATTICE.tolist(), coords=FRAC.tolist(), elements=[SYMBOLS[z - 1] for z in NUMBERS])
    return {
        key: value
        for key, value in atoms.to_dict().items()
        if key in ("lattice_mat", "coords", "elements", "cartesian")
    }


# --- every format tells the same crystal


def write_format(kind: str, folder: Path) -> Path:
    """Write the crystal of this file with the writers people use."""
    import ase.io
    from ase.db import connect
    from pymatgen.io.cif import CifWriter
    from pymatgen.io.vasp.inputs import Poscar

    path = folder / kind
    match kind:
        case "p1.cif":
            path.write_text(str(CifWriter(pymatgen_structure(), significant_figures=12)))
        case "packed.cif.gz":
            path.write_bytes(gzip.compress(str(CifWriter(pymatgen_structure(), significant_figures=12)).encode()))
        case "POSCAR":
            path.write_text(Poscar(pymatgen_structure()).get_str(direct=True, significant_figures=14))
        case "cartesian.vasp":
            path.write_text(Poscar(pymatgen_structure()).get_str(direct=False, significant_figures=14))
        case "ase.poscar":
            ase.io.write(path, ase_atoms(), format="vasp")
        case "frame.xyz" | "frame.extxyz":
            ase.io.write(path, ase_atoms(), format="extxyz")
        case "pymatgen.json":
            path.write_text(json.dumps(pymatgen_structure().as_dict()))
        case "ase.json":
            ase.io.write(path, ase_atoms(), format="json")
        case "jarvis.json":
            path.write_text(json.dumps(jarvis_dict()))
        case "rows.db":
            with connect(path) as database:
                database.write(ase_atoms())
    return path


@pytest.mark.parametrize(
    "kind",
    ["p1.cif", "packed.cif.gz", "POSCAR", "cartesian.vasp", "ase.poscar", "frame.xyz", "frame.extxyz", "pymatgen.json",
     "ase.json", "jarvis.json", "rows.db"],
)  # fmt: skip
def test_every_format_gives_the_same_crystal(kind: str, tmp_path: Path) -> None:
    path = write_format(kind, tmp_path)
    crystal = only_crystal(list(read_crystals([path])))
    if kind.startswith("frame"):  # ASE writes eight decimals of Cartesian positions
        crystal = Crystal(crystal.id, crystal.lattice, crystal.numbers, crystal.frac.round(8), True)
    assert_same_crystal(crystal)
    assert crystal.id == kind.split(".")[0]
    assert crystal.orientation_given == ("cif" not in kind)


def test_archive_members_are_read_like_files(tmp_path: Path) -> None:
    kinds = ["p1.cif", "packed.cif.gz", "POSCAR", "frame.xyz", "pymatgen.json", "rows.db"]
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for kind in kinds:
            archive.write(write_format(kind, tmp_path), f"inner/{kind}")
        archive.writestr("inner/readme.txt", "nothing")
        archive.writestr("__MACOSX/inner/._p1.cif", "nothing")
    items = list(read_crystals([tmp_path / "all.zip"]))
    assert ids(items) == ["POSCAR", "frame", "p1", "packed", "pymatgen", "rows"]
    for item in items:
        assert_same_crystal(only_crystal([item]))


def test_reading_a_database_leaves_it_as_it_was(tmp_path: Path) -> None:
    path = write_format("rows.db", tmp_path)
    before = path.read_bytes()
    list(read_crystals([path]))
    assert path.read_bytes() == before
    (tmp_path / "empty.db").write_bytes(b"")
    assert only_rejected(list(read_crystals([tmp_path / "empty.db"]))).code == "no_structure"
    assert (tmp_path / "empty.db").read_bytes() == b""


# --- POSCAR in its variants


def test_poscar_scale_selective_dynamics_and_potential_names(tmp_path: Path) -> None:
    text = (
        "GaAs\n{scale}\n0 .5 .5\n.5 0 .5\n.5 .5 0\nGa_d/1a2b As\n1 1\n"
        "Selective dynamics\n{mode}\n0 0 0 T T F\n{x} {x} {x} F F F\n"
    )
    plain = only_crystal(read_text(tmp_path, text.format(scale="5.65", mode="Direct", x=0.25), "POSCAR"))
    by_volume = only_crystal(
        read_text(tmp_path, text.format(scale=-(5.65**3) / 4, mode="Cartesian", x=0.25), "POSCAR_volume")
    )
    three = only_crystal(read_text(tmp_path, text.format(scale="5.65 5.65 5.65", mode="K", x=0.25), "CONTCAR"))
    for crystal in (plain, by_volume, three):
        assert crystal.numbers.tolist() == [31, 33]
        np.testing.assert_allclose(crystal.lattice, 5.65 / 2 * (np.ones((3, 3)) - np.eye(3)), atol=1e-9)
        np.testing.assert_allclose(crystal.frac, [[0, 0, 0], [0.25] * 3], atol=1e-9)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("VASP 4\n1\n4 0 0\n0 4 0\n0 0 4\n1 1\nDirect\n0 0 0\n.5 .5 .5\n", "unknown_species"),
        ("cut\n1\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\nDirect\n0 0 0\n", "unreadable"),
        ("counts\n1\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1\nDirect\n0 0 0\n0 0 .5\n", "unreadable"),
        ("words\n1\n4 0 0\n0 four 0\n0 0 4\nNa Cl\n1 1\nDirect\n0 0 0\n0 0 .5\n", "unreadable"),
        ("flat\n1\n4 0 0\n0 4 0\n4 4 0\nNa Cl\n1 1\nDirect\n0 0 0\n0 0 .5\n", "bad_cell"),
        ("NaN\n1\n4 0 0\n0 nan 0\n0 0 4\nNa Cl\n1 1\nDirect\n0 0 0\n0 0 .5\n", "not_finite"),
        ("huge\n1\n4 0 0\n0 4 0\n0 0 4\nNa\n9999999\nDirect\n0 0 0\n", "too_large"),
    ],
)  # fmt: skip
def test_poscar_rejections(text: str, code: str, tmp_path: Path) -> None:
    assert only_rejected(read_text(tmp_path, text, "POSCAR")).code == code


# --- several structures in one file


def test_frames_keep_their_place_and_a_broken_one_is_named(tmp_path: Path) -> None:
    good = '1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3\nFe 0 0 0\n'
    frames = [
        good,
        good.replace("Fe", "Wat"),
        good.replace("Lattice", "Lettuce"),
        good.replace("R:3\n", 'R:3 pbc="T T F"\n'),
        good.replace("Fe 0 0 0", "Fe 0 0"),
        good.replace("Fe", "Ni"),
    ]
    items = read_text(tmp_path, "".join(frames), "run.xyz")
    assert ids(items) == [f"run#{k}" for k in range(6)]
    codes = [item.code if isinstance(item, Rejected) else item.formula for item in items]
    assert codes == ["Fe", "unknown_species", "no_lattice", "not_periodic", "unreadable", "Ni"]


def test_molecule_xyz_is_no_crystal(tmp_path: Path) -> None:
    assert only_rejected(read_text(tmp_path, "1\nwater\nO 0 0 0\n", "water.xyz")).code == "no_lattice"


def test_jarvis_records_have_their_jids(tmp_path: Path) -> None:
    records = [{"jid": "JVASP-1", "atoms": jarvis_dict(), "gap": 1.0}, {"jid": "JVASP-2", "atoms": {"coords": []}}]
    items = read_text(tmp_path, json.dumps(records), "dft.json")
    assert ids(items) == ["JVASP-1", "JVASP-2"]
    assert_same_crystal(only_crystal(items[:1]))
    assert only_rejected(items[1:]).code == "no_structure"


def test_database_rows_and_ase_json_have_their_ids(tmp_path: Path) -> None:
    from ase.db import connect

    for name in ("rows.db", "rows.json"):
        with connect(tmp_path / name) as database:
            for _ in range(3):
                database.write(ase_atoms())
            del database[2]
        items = list(read_crystals([tmp_path / name]))
        assert ids(items) == ["rows#1", "rows#3"]
        for item in items:
            assert_same_crystal(only_crystal([item]))


def test_cif_with_several_blocks(tmp_path: Path) -> None:
    authors = "data_global\n_publ_author_name 'A. B.'\n_text\n;\ndata_hidden\nloop_\n;\n"
    items = read_text(tmp_path, authors + NACL + occupied("Na1 Na 0 0 0 0.5") + NACL, "pair.cif")
    assert ids(items) == ["pair#0", "pair#1", "pair#2"]  # blocks of one name do not overwrite each other
    assert [type(item) for item in items] == [Crystal, Rejected, Crystal]


# --- CIF: what is read right


def test_examples_are_the_known_crystals() -> None:
    from pymatgen.core.structure import Structure
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    expected = {
        "barium_titanate": ("BaO3Ti", 5, "P4mm", 1.869),
        "gallium_arsenide": ("AsGa", 8, "F-43m", 2.448),
        "quartz": ("O2Si", 9, "P3_221", 1.605),
        "rock_salt": ("ClNa", 8, "Fm-3m", 2.820),
        "silicon": ("Si", 8, "Fd-3m", 2.352),
        "strontium_titanate": ("O3SrTi", 5, "Pm-3m", 1.9525),
    }  # formula, atoms, space group, shortest bond [A]
    items = list(read_crystals([EXAMPLES]))
    assert ids(items) == list(expected)
    for item in items:
        crystal = only_crystal([item])
        structure = Structure(crystal.lattice, crystal.numbers.tolist(), crystal.frac)
        bonds = structure.distance_matrix[~np.eye(len(crystal), dtype=bool)]
        formula, atoms, group, bond = expected[crystal.id]
        with warnings.catch_warnings():  # spglib announces a change of its interface
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            assert SpacegroupAnalyzer(structure, symprec=1e-3).get_space_group_symbol() == group
        assert (crystal.formula, len(crystal)) == (formula, atoms)
        assert bonds.min() == pytest.approx(bond, abs=1e-3)
        assert not crystal.orientation_given


def test_symmetry_agrees_with_pymatgens_reading() -> None:
    from pymatgen.io.cif import CifParser

    for path in sorted(EXAMPLES.glob("*.cif")):
        with warnings.catch_warnings():  # it tells of coordinates it rounds
            warnings.simplefilter("ignore", UserWarning)
            (structure,) = CifParser(path).parse_structures(primitive=False)
        crystal = only_crystal(list(read_crystals([path])))
        np.testing.assert_allclose(crystal.lattice, structure.lattice.matrix, atol=1e-9)
        shift = structure.lattice.get_all_distances(crystal.frac, structure.frac_coords)
        assert shift.min(axis=1).max() < 1e-4
        assert Counter(crystal.numbers.tolist()) == Counter(structure.atomic_numbers)


def test_cut_digits_are_put_on_the_symmetry_element_and_others_are_kept(tmp_path: Path) -> None:
    cell = CELL.replace("gamma 90", "gamma 120")
    threefold = "loop_\n_space_group_symop_operation_xyz\nx,y,z\n-y,x-y,z\n-x+y,-x,z\n"
    text = cif("Si1 Si 0.333 0.667 0.1", "O1 O 0.1 0.33335 0.5", cell=cell, symmetry=threefold)
    crystal = only_crystal(read_text(tmp_path, text))
    assert crystal.numbers.tolist() == [14, 8, 8, 8]
    np.testing.assert_allclose(crystal.frac[0], [1 / 3, 2 / 3, 0.1], atol=1e-12)
    assert crystal.frac[1].tolist() == [0.1, 0.33335, 0.5]  # next to 1/3, and not rounded to it


@pytest.mark.parametrize(
    ("names", "angles", "atoms"),
    [
        ({"name": "F m -3 m"}, (90, 90), 4),
        ({"name": "P 1"}, (90, 90), 1),
        ({"name": "P 21/c"}, (90, 90), 2),
        ({"name": "P2_1/c", "number": "14"}, (90, 90), 2),
        ({"number": "225"}, (90, 90), 4),
        ({"name": "F d -3 m :1"}, (90, 90), 8),
        ({"name": "F d -3 m :2"}, (90, 90), 16),
        ({"name": "F d -3 m", "hall": "F 4d 2 3 -1d"}, (90, 90), 8),  # the symbol of Hall tells the origin
        ({"name": "F d -3 m", "hall": "-F 4vw 2vw 3"}, (90, 90), 16),
        ({"name": "R -3 m"}, (90, 120), 3),
        ({"name": "R -3 m"}, (60, 60), 1),  # rhombohedral axes
    ],
)
def test_symmetry_by_name(names: dict[str, str], angles: tuple[int, int], atoms: int, tmp_path: Path) -> None:
    alpha, gamma = angles
    cell = CELL.replace("alpha 90", f"alpha {alpha}").replace("beta 90", f"beta {alpha}")
    text = cif("Na1 Na 0 0 0", cell=cell.replace("gamma 90", f"gamma {gamma}"), symmetry=named(**names))
    assert len(only_crystal(read_text(tmp_path, text))) == atoms


@pytest.mark.parametrize("shift", ["1/5", ".2", "0.2", "6/5", "1/2-3/10"])
def test_operations_of_a_supercell(shift: str, tmp_path: Path) -> None:
    """A cell five times as long as the hexagonal one has operations that no space group lists."""
    cell = CELL.replace("length_a 5.0", "length_a 25.0").replace("gamma 90", "gamma 120")
    listed = [f"'{sign}x+{k}/5,{sign}y,z'\n" for k in range(5) for sign in ("", "-")]
    listed[2] = f"'x + {shift}, Y, z'\n"
    shifts = "loop_\n_space_group_symop_operation_xyz\n" + "".join(listed)
    assert len(only_crystal(read_text(tmp_path, cif("Na1 Na 0.01 0.3 0.1", cell=cell, symmetry=shifts)))) == 10
    mirror = "loop_\n_space_group_symop_operation_xyz\nx,y,z\n-x+1/5y,y,z\n"
    assert len(only_crystal(read_text(tmp_path, cif("Na1 Na 0.1 0.3 0.1", cell=cell, symmetry=mirror)))) == 2


def test_a_broken_block_costs_no_other_one(tmp_path: Path) -> None:
    broken = NACL.replace("Cl1 Cl", "Cl1 Cl Cl")
    items = read_text(tmp_path, NACL + broken + NACL + "data_authors\n_publ_author_name A. B.\n")
    assert [type(item) for item in items] == [Crystal, Rejected, Crystal]
    assert "line 11 of the data block" in only_rejected(items[1:2]).reason


def test_odd_but_clear_files_are_read(tmp_path: Path) -> None:
    upper = NACL.replace("data_", "DATA_").replace("loop_", "LOOP_").replace("_atom_site_fract", "_ATOM_SITE_FRACT")
    dotted = NACL.replace("_atom_site_", "_atom_site.").replace("_cell_length_", "_cell.length_")
    esd = NACL.replace("0.5 0.5 0.5", "0.50000(12) 0.5(1) .5").replace("5.0", "5.000(2)")
    foreign = "\ufeff_comment_ 'Å – é'\n".replace("_comment_", "# ") + NACL.replace("\n", "\r\n")
    minus = NACL.replace("0.5 0.5 0.5", "\u22120.5 0.5 0.5")
    expected = only_crystal(read_text(tmp_path, NACL))
    for text in (upper, dotted, esd, foreign, minus):
        crystal = only_crystal(read_text(tmp_path, text))
        assert crystal.formula == "ClNa"
        np.testing.assert_allclose(crystal.frac, expected.frac)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (
            cif("Fe1 Fe3+ 0 0 0", "O1 O2- .5 0 0", "Cu1 Cu+ 0 .5 0", "Si1 Si1 0 0 .5", "V1 V+5 .5 .5 0"),
            [26, 8, 29, 14, 23],
        ),
        (cif("C SI 0 0 0", "O O .5 0 0"), [14, 8]),
        (labelled("Si1 0 0 0", "O2A .5 0 0", "H12 0 .5 0", "Al(1) 0 0 .5"), [14, 8, 1, 13]),
        (labelled("CA1 0 0 0", "OW1 .5 0 0", "SiT 0 .5 0", formula="Ca O Si"), [20, 8, 14]),
    ],
)
def test_species_forms(text: str, numbers: list[int], tmp_path: Path) -> None:
    assert only_crystal(read_text(tmp_path, text)).numbers.tolist() == numbers


@pytest.mark.skipif("CRYSTRATA_JARVIS" not in os.environ, reason="CRYSTRATA_JARVIS names no JARVIS parquet file")
def test_real_crystals_survive_the_way_through_a_symmetrised_cif(tmp_path: Path) -> None:
    import pandas as pd
    from pymatgen.core.structure import Structure
    from pymatgen.io.cif import CifWriter

    table = pd.read_parquet(os.environ["CRYSTRATA_JARVIS"], columns=["lattice", "atomic_numbers", "frac_coords"])
    for row in table.sample(60, random_state=7).itertuples():
        structure = Structure(
            np.reshape(row.lattice, (3, 3)), row.atomic_numbers.tolist(), row.frac_coords.reshape(-1, 3)
        )
        with warnings.catch_warnings():  # spglib announces a change of its interface
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            text = str(CifWriter(structure, symprec=0.01, significant_figures=4))
        crystal = only_crystal(read_text(tmp_path, text))
        assert crystal.volume_per_atom == pytest.approx(structure.volume / len(structure), rel=1e-3)
        counts, cells = Counter(crystal.numbers.tolist()), len(crystal) / len(structure)
        assert counts == {z: n * cells for z, n in Counter(structure.atomic_numbers).items()}


# --- CIF: what is refused

MANY = "loop_\n_symmetry_equiv_pos_as_xyz\n" + "".join(f"'x,y,z+{k}/2000'\n" for k in range(1001))
CUBIC = "_symmetry_space_group_name_H-M 'F m -3 m'\n"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (occupied("Na1 Na 0 0 0 0.5"), "disordered"),
        (occupied("Na1 Na 0 0 0 0.5(1)", "K1 K 0 0 0 0.5(1)"), "disordered"),
        (occupied("Na1 Na 0 0 0 1", "O1 O .5 0 0 0"), "disordered"),
        (occupied("Na1 Na 0 0 0 -1"), "disordered"),
        (
            cif("O1 O 0 0 0 1", "O2 O .5 0 0 2", tags="label type_symbol fract_x fract_y fract_z disorder_group"),
            "disordered",
        ),
        (cif("O1 Wat 0 0 0"), "unknown_species"),
        (cif("O1 O 0 0 0", "V1 Vac .5 0 0"), "unknown_species"),
        (cif("X1 X 0 0 0"), "unknown_species"),
        (cif("M1 M 0 0 0"), "unknown_species"),
        (cif("D1 D 0 0 0"), "unknown_species"),
        (cif("H1 'H,D' 0 0 0"), "unknown_species"),
        (cif("G1 CO 0 0 0", "N1 Na .5 0 0"), "unknown_species"),
        (labelled("Wat 0 0 0", formula="W O3"), "unknown_species"),
        (labelled("Vac1 0 0 0"), "unknown_species"),
        (labelled("OW1 0 0 0"), "unknown_species"),
        (labelled("Co1 0 0 0", formula="C O2"), "unknown_species"),
        (labelled("CA1 0 0 0", formula="C Ca O3"), "unknown_species"),
        (cif("Na1 Na 0 0 0", "Cl1 Cl 0.01 0 0"), "overlapping"),
        (cif("Na1 Na 0 0 0", "Na2 Na 1 0 0"), "overlapping"),
        (cif("Na1 Na .5 0 0", "Na2 Na 0 .5 0", symmetry=CUBIC), "overlapping"),
        (cif("Na1 Na nan 0 0"), "not_finite"),
        (cif("Na1 Na 0 0 0", cell=CELL.replace("a 5.0", "a inf")), "not_finite"),
        (cif("Na1 Na 0 0 0", cell=CELL.replace("a 5.0", "a 1e999")), "not_finite"),
        (cif("Na1 Na 0 0 0", cell=CELL.replace("a 5.0", "a 0")), "bad_cell"),
        (cif("Na1 Na 0 0 0", cell=CELL.replace("a 5.0", "a 5e6")), "bad_cell"),
        (cif("Na1 Na 0 0 0", cell=CELL.replace("5.0", "0.05")), "bad_cell"),
        (cif("Na1 Na 0 0 0", cell=CELL.replace("alpha 90", "alpha 190")), "bad_cell"),
        (cif("Na1 Na 0 0 0", cell=CELL.replace("_cell_angle_beta 90\n", "")), "bad_cell"),
        (cif("Na1 Na 0 0 0", symmetry=MANY), "too_many_symmetry_operations"),
        (cif("Na1 Na 0 0 0", symmetry=P1 + "'foo,y,z'\n"), "bad_symmetry"),
        (cif("Na1 Na 0 0 0", symmetry=P1 + "'x,x,z'\n"), "bad_symmetry"),
        (cif("Na1 Na 0 0 0", symmetry=P1.replace("x,y", "x+1/2,y")), "bad_symmetry"),
        (cif("Na1 Na 0 0 0", symmetry="_symmetry_space_group_name_H-M 'F d -3 m'\n"), "bad_symmetry"),
        (cif("Na1 Na 0 0 0", symmetry="_symmetry_space_group_name_H-M 'no group'\n"), "bad_symmetry"),
        (cif("Na1 Na 0 0 0", symmetry=CUBIC, cell=CELL.replace("a 5.0", "a 6.0")), "bad_symmetry"),
        *(
            (cif("Na1 Na 0 0 0", symmetry=P1 + f"'{operation}'\n"), "bad_symmetry")
            for operation in (
                "2*x,y,z",
                "x,y",
                "x,y,z,z",
                "h,k,l",
                "a,b,c",
                "x,y,z+1/0",
                "x y,y,z",
                "x,y,.-z",
                "*x,y,z",
                "x+,y,z",
                "x,y,99999999999999999999z",
                "x,y,zz",
                f"x,y,{'9' * 400}z",
            )
        ),
        *(
            (cif("Na1 Na 0 0 0", symmetry=named(**names)), "bad_symmetry")
            for names in (
                {"number": "227"},
                {"number": "231"},
                {"hall": "P 1 21 1"},
                {"name": "P n n m", "number": "225"},
                {"name": "P m -3 m", "hall": "-F 4 2 3"},
                {"name": "R -3 m :H"},
                {"name": "P n c b"},
            )
        ),
        (cif(*(f"Na{k} Na {k / 2001:.5f} 0 0" for k in range(2001))), "too_large"),
        (cif(*(f"Na{k} Na {k / 97:.4f} .1 .2" for k in range(97)), symmetry=CUBIC), "too_large"),
        (cif(), "empty"),
        ("", "empty"),
        (" \n\n", "empty"),
        ("data_words\n_publ_author_name 'A. B.'\n", "no_structure"),
        ("A letter, by mistake.\n", "no_structure"),
        (cif("Na1 Na 0 0 0", tags="label type_symbol Cartn_x Cartn_y Cartn_z"), "no_structure"),
        (cif("Na1 Na 0 0 0", "Cl1 Cl 0.5"), "unreadable"),
        (NACL + "_cell_length_a 6.0\n", "unreadable"),
        (NACL + "_cell_length_b\n", "unreadable"),
        (NACL + "_word it is\n", "unreadable"),
        (NACL + "_quoted 'it is\n", "unreadable"),
        (NACL + "loop_\n_a\n_b\n", "empty"),
        (cif("Na1 Na 0 zero 0"), "unreadable"),
        (cif("Na1 Na 0 0,5 0"), "unreadable"),
        (NACL + "_publ_section_comment\n;\nnever closed\n", "unreadable"),
        (NACL + "_long '" + "a' '" * 5000 + "\n", "unreadable"),
        ("data_\0binary", "unreadable"),
        (cif("Na1 Na 0 ? 0"), "missing_atoms"),
        (cif("O1 O 0 0 0 2", tags="label type_symbol fract_x fract_y fract_z attached_hydrogens"), "missing_atoms"),
        (NACL + "_space_group_magn.number_BNS 1.1\n", "magnetic"),
        (NACL + "_cell_modulation_dimension 1\n", "modulated"),
    ],
)
def test_cif_rejections(text: str, code: str, tmp_path: Path) -> None:
    assert only_rejected(read_text(tmp_path, text)).code == code


def test_cif_cut_anywhere_never_raises_and_never_grows(tmp_path: Path) -> None:
    whole = (EXAMPLES / "quartz.cif").read_text()
    end = whole.index("Si1 Si")
    for cut in range(0, len(whole), 7):
        (item,) = read_text(tmp_path, whole[:cut])
        if cut <= end:  # before the first atom there is nothing to read
            assert isinstance(item, Rejected), cut
        else:
            assert isinstance(item, Rejected) or len(item) <= 9
    half = only_rejected(read_text(tmp_path, whole[: whole.index("0.785767")]))
    assert half.code == "unreadable"
    assert "export it again" in half.reason


# --- JSON that is no structure, or a trap


def test_json_rejections(tmp_path: Path) -> None:
    mixed = pymatgen_structure()
    mixed[0] = {"Na": 0.5, "K": 0.5}
    deuterium = json.dumps(pymatgen_structure().as_dict()).replace('"element": "Ba"', '"element": "D"')
    trap = {**pymatgen_structure().as_dict(), "@module": "os", "@class": "system", "@callable": {"@module": "os"}}
    cases = [
        ("{", "unreadable"),
        ("[" * 100_000, "unreadable"),
        ("[]", "no_structure"),
        ("3", "no_structure"),
        ('{"key": 1}', "no_structure"),
        (json.dumps(mixed.as_dict()), "disordered"),
        (deuterium, "unknown_species"),
        (json.dumps({**jarvis_dict(), "elements": ["Wat"] * 5}), "unknown_species"),
        (json.dumps({**jarvis_dict(), "coords": [[0, 0, 0]]}), "bad_numbers"),
        (json.dumps({**jarvis_dict(), "lattice_mat": None}), "bad_numbers"),
        (json.dumps({**jarvis_dict(), "lattice_mat": [[float("nan")] * 3] * 3}), "not_finite"),
        (json.dumps({"numbers": [0], "positions": [[0, 0, 0]], "cell": np.eye(3).tolist()}), "unknown_species"),
        (json.dumps({"numbers": [1], "positions": [[0, 0, 0]], "cell": np.zeros((3, 3)).tolist()}), "no_lattice"),
        (json.dumps({"numbers": [1] * 2001, "positions": [[0, 0, 0]] * 2001, "cell": np.eye(3).tolist()}), "too_large"),
    ]
    for text, code in cases:
        assert only_rejected(read_text(tmp_path, text, "made.json")).code == code, text[:80]
    assert_same_crystal(only_crystal(read_text(tmp_path, json.dumps(trap), "made.json")))


# --- files, folders, order


def test_order_is_kept_with_broken_files_between(tmp_path: Path) -> None:
    (tmp_path / "good.cif").write_text(NACL)
    (tmp_path / "broken.cif").write_text(NACL[:-6])
    (tmp_path / "packed.cif.gz").write_bytes(gzip.compress(NACL.encode())[:-30])
    (tmp_path / "notes.txt").write_text("notes")
    names = ["broken.cif", "good.cif", "gone.cif", "notes.txt", "packed.cif.gz", "good.cif"]
    items = list(read_crystals([str(tmp_path / name) for name in names]))
    assert ids(items) == ["broken", "good", "gone", "notes.txt", "packed", "good"]
    codes = [item.code if isinstance(item, Rejected) else "crystal" for item in items]
    assert codes == ["unreadable", "crystal", "not_found", "unknown_format", "unreadable", "crystal"]


def test_folder_is_read_by_name_and_other_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".cache").mkdir()
    for name in ("z.cif", "a.cif", "b/c.cif", ".cache/x.cif"):
        (tmp_path / name).write_text(NACL)
    for name in ("notes.md", "table.csv", "log.txt", ".hidden.cif", "INCAR", "OUTCAR.gz"):
        (tmp_path / name).write_text("other")
    (tmp_path / "model.xsf").write_text("other")
    (tmp_path / "b" / "circle").symlink_to(tmp_path, target_is_directory=True)
    items = list(read_crystals([tmp_path]))
    assert ids(items) == ["a", "model.xsf", "z", "c"]
    assert only_rejected(items[1:2]).code == "unknown_format"
    assert [path.name for path in find_structure_files(tmp_path)] == ["a.cif", "z.cif", "c.cif"]
    assert only_crystal(list(read_crystals(tmp_path / "a.cif"))).id == "a"  # one path without a list


def test_empty_folder_is_named(tmp_path: Path) -> None:
    assert find_structure_files(tmp_path) == []
    assert only_rejected(list(read_crystals([tmp_path]))).code == "no_structure"


def test_names_that_no_system_allows_are_not_found() -> None:
    items = list(read_crystals(["a" * 5000 + ".cif", "nul\0.cif"]))
    assert [only_rejected([item]).code for item in items] == ["not_found", "not_found"]


def test_magnetic_suffix_is_refused(tmp_path: Path) -> None:
    assert only_rejected(read_text(tmp_path, NACL, "made.mcif")).code == "magnetic"


def test_a_pipe_is_no_file_and_is_not_waited_for(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(tmp_path / "pipe.cif")
    assert only_rejected(list(read_crystals([tmp_path]))).code == "unreadable"


def test_large_files_are_refused_unread(tmp_path: Path) -> None:
    with open(tmp_path / "large.cif", "wb") as file:
        file.truncate(20_000_001)
    (tmp_path / "bomb.cif.gz").write_bytes(gzip.compress(bytes(30_000_000)))
    assert [only_rejected([item]).code for item in read_crystals([tmp_path])] == ["too_large", "too_large"]


def test_broken_database_and_archive(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_bytes(b"no database " * 100)
    (tmp_path / "text.zip").write_bytes(b"no archive")
    (tmp_path / "zero.zip").write_bytes(b"")
    assert [only_rejected([item]).code for item in read_crystals([tmp_path])] == ["unreadable"] * 3
    cut = write_format("rows.db", tmp_path).read_bytes()
    (tmp_path / "text.db").write_bytes(cut[: len(cut) // 2])
    assert only_rejected(list(read_crystals([tmp_path / "text.db"]))).code == "unreadable"


# --- zip archives of strangers


def test_archive_with_escaping_names_links_and_nesting(tmp_path: Path) -> None:
    path = tmp_path / "pack.zip"
    link = zipfile.ZipInfo("link.cif")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("../up.cif", "/root.cif", "C:/drive.cif", "..\\back.cif"):
            archive.writestr(name, NACL)
        archive.writestr(link, "/etc/passwd")
        archive.writestr("inner.zip", b"PK")
        archive.writestr("good.cif", NACL)
        archive.writestr("sub/broken.cif", "data_")
    found = {item.id: item.code if isinstance(item, Rejected) else "crystal" for item in read_crystals([path])}
    unsafe = dict.fromkeys(["up", "root", "drive", "back", "link"], "unsafe_archive")
    assert found == {**unsafe, "inner.zip": "unknown_format", "good": "crystal", "broken": "no_structure"}
    assert sorted(item.name for item in tmp_path.rglob("*")) == ["pack.zip"]  # nothing was unpacked


def test_archive_bombs_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "dense.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.cif", bytes(5_000_000))
    assert only_rejected(list(read_crystals([tmp_path / "dense.zip"]))).code == "unsafe_archive"

    with zipfile.ZipFile(tmp_path / "liar.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.cif", bytes(25_000_000))
    liar = (tmp_path / "liar.zip").read_bytes()
    (tmp_path / "liar.zip").write_bytes(liar.replace(struct.pack("<I", 25_000_000), struct.pack("<I", 500)))
    assert only_rejected(list(read_crystals([tmp_path / "liar.zip"]))).code in ("unreadable", "empty", "too_large")


def test_encrypted_member_and_empty_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "locked.zip", "w") as archive:
        archive.writestr("a.cif", NACL)
    content = bytearray((tmp_path / "locked.zip").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    (tmp_path / "locked.zip").write_bytes(content)
    assert "password" in only_rejected(list(read_crystals([tmp_path / "locked.zip"]))).reason
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("notes.md", "notes")
    assert only_rejected(list(read_crystals([tmp_path / "none.zip"]))).code == "no_structure"


def test_importing_the_readers_loads_no_heavy_library() -> None:
    import subprocess

    code = (
        "import sys; import crystrata.structures.readers; "
        "sys.exit(bool({'pymatgen', 'ase', 'jarvis', 'torch'} & set(sys.modules)))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        ).returncode
        == 0
    )


@pytest.mark.parametrize(
    ("name", "written"),
    [("Sïlïzium 硅 💎 a b", None), ("\udcff\udcfe", "\\xff\\xfe"), ("\ud800", "\\ud800"), ("\x1b[31m", "\\x1b[31m"),
     ("\udcc3\udca4", "ä"), ("a\nb", None)],
)  # fmt: skip
def test_a_name_can_be_written_by_any_file_and_terminal(name: str, written: str | None) -> None:
    assert writable(name) == (name if written is None else written)
    writable(name).encode()


def test_names_that_are_not_utf8_are_spelled(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff.cif"
    try:
        Path(os.fsdecode(name)).write_text("nothing")
    except (OSError, UnicodeError):
        pytest.skip("this system has no such names")
    [item] = read_crystals(tmp_path)
    assert item.id == "\\xff"


def test_worker_processes_read_the_same_in_the_same_order(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    examples = sorted(EXAMPLES.glob("*.cif"))
    for number in range(40):  # two tasks
        shutil.copy(examples[number % len(examples)], folder / f"{number:02}.cif")
    (folder / "07.cif").write_text("nothing")
    with zipfile.ZipFile(folder / "11.zip", "w") as archive:
        archive.write(examples[0], "inside.cif")
    (tmp_path / "empty").mkdir()
    paths = [tmp_path / "empty", folder, tmp_path / "missing.cif"]
    here, there = list(read_crystals(paths)), list(read_crystals(paths, workers=1))
    assert ids(there) == ids(here)
    assert [item.id for item in here if isinstance(item, Rejected)] == ["empty", "07", "missing"]
    for one, other in zip(here, there, strict=True):
        if isinstance(one, Crystal):
            assert isinstance(other, Crystal)
            assert np.array_equal(one.frac, other.frac)
        else:
            assert other == one


def test_the_distance_check_of_a_large_empty_cell_needs_no_memory() -> None:
    """What is looked at grows with the atoms, not with the volume: a molecule in a box of 300 A once took 2.5 GB."""
    resource = pytest.importorskip("resource")
    frac = np.random.default_rng(0).random((8, 3)) * 0.01 + np.linspace(0.1, 0.9, 8)[:, None]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    crystal = checked_crystal("box", 300 * np.eye(3), [6] * 8, frac)
    assert len(crystal) == 8
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # [kB]


def test_the_distance_check_finds_what_an_exhaustive_search_finds() -> None:
    draw = np.random.default_rng(1)
    refused = 0
    for _ in range(200):
        cell = draw.normal(size=(3, 3)) * draw.choice([0.8, 2.0, 4.0]) + np.eye(3)
        frac = draw.random((draw.integers(1, 5), 3)) * draw.choice([0.2, 3.0]) - 1
        try:
            crystal = Crystal.create("made", cell, [6] * len(frac), frac)
        except CrystalError:
            continue
        images = np.stack(np.meshgrid(*[np.arange(-12, 13)] * 3), axis=-1).reshape(-1, 3)
        apart = crystal.frac[:, None] - crystal.frac[None] + images[:, None, None]
        lengths = np.linalg.norm(apart @ crystal.lattice, axis=-1)
        same = np.eye(len(frac), dtype=bool)[None] & (images == 0).all(1)[:, None, None]
        nearest = lengths[~same].min()
        try:
            checked_crystal("made", cell, [6] * len(frac), frac)
            found = True
        except CrystalError as error:
            if error.code == "bad_cell":
                continue
            found = False
        refused += not found
        assert found == (nearest >= MIN_DISTANCE)
    assert 5 < refused < 195
