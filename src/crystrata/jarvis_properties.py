"""The nine properties of JARVIS-DFT as tasks, and what is published about them. A new property is one more row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from crystrata.errors import UsageError, unknown_name
from crystrata.tasks import Task


@dataclass(frozen=True)
class Published:
    """Test MAE of published models on one official test, in the unit of its label."""

    cgcnn: float  # CGCNN, retrained; of the dielectric tests the original contribution
    alignn: float  # ALIGNN
    best: float  # best that is published, on the leaderboard or in a paper with the same ids
    best_model: str  # name of that model


PUBLISHED: dict[str, Published] = {
    "formation_energy_peratom": Published(0.0551, 0.0331, 0.0263, "CrystalFramer"),
    "optb88vdw_bandgap": Published(0.186, 0.142, 0.111, "ESNet"),
    "ehull": Published(0.059, 0.076, 0.0404, "ESNet"),
    "mbj_bandgap": Published(0.326, 0.310, 0.242, "CrystalFramer"),
    "bulk_modulus_kv": Published(11.01, 10.40, 8.70, "coNGN"),
    "shear_modulus_gv": Published(10.08, 9.48, 8.49, "coNGN"),
    "epsx": Published(22.2, 20.4, 18.57, "coNGN"),
    "epsy": Published(21.8, 20.0, 18.59, "coNGN"),
    "epsz": Published(21.1, 19.6, 17.81, "coNGN"),
    "dfpt_piezo_max_dij": Published(18.4, 20.6, 13.89, "coNGN"),
    "spillage": Published(0.384, 0.351, 0.346, "coNGN"),
}
"""Benchmark -> figures."""


PROPERTIES: dict[str, Task] = {
    task.name: task
    for task in (
        Task("formation_energy", title="formation energy", unit="eV/atom", columns=("formation_energy_peratom",),
             plausible=(-5.0, 5.0), additive=True, level_of_theory="OptB88vdW",
             benchmark="formation_energy_peratom"),
        Task("band_gap", "gap", title="band gap, OptB88vdW", unit="eV", columns=("optb88vdw_bandgap",),
             other_kinds=("scalar",), lower=0.0, plausible=(0.0, 10.0), level_of_theory="OptB88vdW",
             benchmark="optb88vdw_bandgap"),
        Task("band_gap_mbj", "gap", title="band gap, MBJ", unit="eV", columns=("mbj_bandgap",),
             other_kinds=("scalar",), lower=0.0, plausible=(0.0, 10.0), level_of_theory="MBJ",
             benchmark="mbj_bandgap"),
        Task("bulk_modulus", title="bulk modulus (Voigt)", unit="GPa", columns=("bulk_modulus_kv",), lower=0.0,
             plausible=(0.0, 600.0), heavy_tailed=True, level_of_theory="OptB88vdW", benchmark="bulk_modulus_kv"),
        Task("shear_modulus", title="shear modulus (Voigt)", unit="GPa", columns=("shear_modulus_gv",), lower=0.0,
             plausible=(0.0, 600.0), heavy_tailed=True, level_of_theory="OptB88vdW", benchmark="shear_modulus_gv"),
        Task("dielectric", "dielectric", title="electronic dielectric constant, mean",
             columns=("epsx", "epsy", "epsz"), components=("dielectric xx", "dielectric yy", "dielectric zz"),
             other_kinds=("scalar",), transform="asinh", lower=1.0, plausible=(0.0, 400.0),
             level_of_theory="OptB88vdW"),
        Task("piezoelectric", "piezoelectric", title="largest piezoelectric coefficient d_ij", unit="pC/N",
             columns=("dfpt_piezo_max_dij",), other_kinds=("scalar", "piezoelectric_largest"), transform="asinh",
             lower=0.0, plausible=(0.0, 3000.0), level_of_theory="OptB88vdW", benchmark="dfpt_piezo_max_dij"),
        Task("spillage", title="spin-orbit spillage", columns=("spillage",), lower=0.0, plausible=(0.0, 4.0),
             level_of_theory="OptB88vdW", benchmark="spillage"),
        Task("ehull", title="energy above the convex hull", unit="eV/atom", plausible=(0.0, 1.0),
             derived_from="formation_energy", level_of_theory="OptB88vdW"),
        Task("ehull_official", title="official 2021 ehull label (leaderboard only)", unit="eV/atom",
             columns=("ehull",), lower=0.0, plausible=(0.0, 10.0), derived_from="formation_energy",
             leaderboard_only=True, level_of_theory="OptB88vdW", benchmark="ehull"),
    )
}  # fmt: skip
"""Name -> task, in the order of every table. The official `ehull` label is the distance from another hull, which
`hull/conventions.py` explains."""

NINE = tuple(name for name, record in PROPERTIES.items() if not record.leaderboard_only)
"""The properties that the suite is about; the others are for the leaderboard alone."""

GROUPS: dict[str, tuple[str, ...]] = {
    "core4": ("formation_energy", "band_gap", "bulk_modulus", "shear_modulus"),
    "priority7": ("formation_energy", "band_gap", "bulk_modulus", "shear_modulus", "ehull", "band_gap_mbj", "spillage"),
    "secondary2": ("dielectric", "piezoelectric"),
    "all9": NINE,
}
"""Named property groups; `core4` is the default of a run, `all9` is what `--all-properties` means."""


def get_property(name: str) -> Task:
    """Return a property; a UsageError names the nearest one if none has that name."""
    try:
        return PROPERTIES[name]
    except KeyError:
        raise unknown_name("property", name, PROPERTIES) from None


def resolve_properties(names: Iterable[str]) -> tuple[str, ...]:
    """Return known, distinct property names in table order; a UsageError if one is unknown or nothing is named."""
    chosen = {get_property(name.strip()).name for name in names if name.strip()}
    if not chosen:
        raise UsageError(f"no property is named. Known: {', '.join(PROPERTIES)}")
    return tuple(name for name in PROPERTIES if name in chosen)


def property_tasks(names: Iterable[str], kinds: Mapping[str, str] | None = None) -> tuple[Task, ...]:
    """Return the tasks of some properties, in table order; `kinds`: property -> kind of head, if not its own.

    A UsageError if a name is unknown, or a property has no such kind of head.
    """
    chosen = kinds or {}
    return tuple(
        PROPERTIES[name].of_kind(chosen[name]) if name in chosen else PROPERTIES[name]
        for name in resolve_properties(names)
    )


def trained_tasks(tasks: Iterable[Task]) -> tuple[Task, ...]:
    """Return the tasks that need a head so that all of `tasks` can be predicted: those that others follow from first.

    A UsageError if a task follows from one that is neither among them nor a property.
    """
    tasks = tuple(tasks)
    named = {task.name for task in tasks}
    needed = dict.fromkeys(task.derived_from for task in tasks if task.derived_from)
    bases = [get_property(name) for name in needed if name is not None and name not in named]
    return (*bases, *(task for task in tasks if not task.derived_from))


def properties(names: Sequence[str]) -> list[Task]:
    """Return several properties, in the order given."""
    return [get_property(name) for name in names]
