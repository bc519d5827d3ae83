"""The properties as data: one record each. A new property is one more record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

from crystrata.errors import UsageError, unknown_name
from crystrata.published import PUBLISHED, Published

Transform = Literal["identity", "asinh"]


@dataclass(frozen=True)
class Property:
    """What the suite knows about one property.

    Attributes:
        name: Name in flags, tables and files.
        title: Words for a person.
        unit: Unit of every reported number; "" for a pure number.
        columns: Label columns; several are averaged, and all must be known. A leaderboard benchmark of a column's name
            has that column as its label.
        components: Titles under which a tensor head tells the value of each of several columns.
        head: Kind of head, a row of the head table.
        other_heads: Further kinds that it may have (`--head`).
        transform: Scale on which the loss is measured, fitted on training rows.
        lower: Physical lower bound of a value, or None. No prediction is below it. A label below it (some computed
            moduli are negative) is masked in training and counts in validation and test.
        plausible: Range that a label is expected in; the outlier check reports what lies outside.
        heavy_tailed: Whether real labels lie far from all others (diamond): inside the plausible range the outlier
            check then holds no distance against one.
        additive: Whether the value is a mean over atoms (energies): the head then reads atoms, and a ridge on the
            composition carries the bulk of it.
        derived_from: Property that this one follows from without a head of its own: an energy above hull is the
            formation energy minus a hull of the training energies. Without columns, its labels follow so too.
        leaderboard_only: Whether it is there for an official test alone: it is trained where it is asked for by name,
            and belongs to none of the groups, tables and predictions that speak of the nine.
        benchmark: Official JARVIS leaderboard column that the label equals, or None.
    """

    name: str
    title: str
    unit: str
    columns: tuple[str, ...]
    head: str = "scalar"
    other_heads: tuple[str, ...] = ()
    transform: Transform = "identity"
    lower: float | None = None
    plausible: tuple[float, float] = (-inf, inf)
    heavy_tailed: bool = False
    additive: bool = False
    derived_from: str | None = None
    components: tuple[str, ...] = ()
    leaderboard_only: bool = False
    benchmark: str | None = None

    @property
    def published(self) -> Published | None:
        """Published errors on the official test of the label, or None."""
        return PUBLISHED[self.benchmark] if self.benchmark else None

    @property
    def column(self) -> str:
        """Column title in tables: name and unit, `band_gap [eV]`."""
        return self.titled(self.name)

    def titled(self, words: str) -> str:
        """Return the title of another column in the unit of the property: `band_gap low [eV]`."""
        return f"{words} [{self.unit}]" if self.unit else words

    @property
    def heads(self) -> tuple[str, ...]:
        """Kinds of head that may serve it, its own first; none where it is derived."""
        return () if self.derived_from else (self.head, *self.other_heads)


PROPERTIES: dict[str, Property] = {
    record.name: record
    for record in (
        Property("formation_energy", "formation energy", "eV/atom", ("formation_energy_peratom",),
                 plausible=(-5.0, 5.0), additive=True,
                 benchmark="formation_energy_peratom"),
        Property("band_gap", "band gap, OptB88vdW", "eV", ("optb88vdw_bandgap",), head="gap", other_heads=("scalar",),
                 lower=0.0, plausible=(0.0, 10.0), benchmark="optb88vdw_bandgap"),
        Property("band_gap_mbj", "band gap, MBJ", "eV", ("mbj_bandgap",), head="gap", other_heads=("scalar",),
                 lower=0.0, plausible=(0.0, 10.0), benchmark="mbj_bandgap"),
        Property("bulk_modulus", "bulk modulus (Voigt)", "GPa", ("bulk_modulus_kv",), lower=0.0,
                 plausible=(0.0, 600.0), heavy_tailed=True, benchmark="bulk_modulus_kv"),
        Property("shear_modulus", "shear modulus (Voigt)", "GPa", ("shear_modulus_gv",), lower=0.0,
                 plausible=(0.0, 600.0), heavy_tailed=True, benchmark="shear_modulus_gv"),
        Property("dielectric", "electronic dielectric constant, mean", "", ("epsx", "epsy", "epsz"),
                 components=("dielectric xx", "dielectric yy", "dielectric zz"), head="dielectric",
                 other_heads=("scalar",), transform="asinh", lower=1.0, plausible=(0.0, 400.0)),
        Property("piezoelectric", "largest piezoelectric coefficient d_ij", "pC/N", ("dfpt_piezo_max_dij",),
                 head="piezoelectric", other_heads=("scalar", "piezoelectric_largest"),
                 transform="asinh", lower=0.0, plausible=(0.0, 3000.0),
                 benchmark="dfpt_piezo_max_dij"),
        Property("spillage", "spin-orbit spillage", "", ("spillage",), lower=0.0, plausible=(0.0, 4.0),
                 benchmark="spillage"),
        Property("ehull", "energy above the convex hull", "eV/atom", (), plausible=(0.0, 1.0),
                 derived_from="formation_energy"),
        Property("ehull_official", "official 2021 ehull label (leaderboard only)", "eV/atom", ("ehull",),
                 lower=0.0, plausible=(0.0, 10.0), derived_from="formation_energy", leaderboard_only=True,
                 benchmark="ehull"),
    )
}  # fmt: skip
"""Name -> record, in the order of every table. The official `ehull` label is the distance from another hull, which
`crystals/hull/conventions.py` explains."""

NINE = tuple(name for name, record in PROPERTIES.items() if not record.leaderboard_only)
"""The properties that the suite is about; the others are for the leaderboard alone."""

GROUPS: dict[str, tuple[str, ...]] = {
    "core4": ("formation_energy", "band_gap", "bulk_modulus", "shear_modulus"),
    "priority7": ("formation_energy", "band_gap", "bulk_modulus", "shear_modulus", "ehull", "band_gap_mbj", "spillage"),
    "secondary2": ("dielectric", "piezoelectric"),
    "all9": NINE,
}
"""Named property groups; `core4` is the default of a run, `all9` is what `--all-properties` means."""


def get_property(name: str) -> Property:
    """Return the record of a property.

    Raises:
        UsageError: No property has that name; the nearest one is named.
    """
    try:
        return PROPERTIES[name]
    except KeyError:
        raise unknown_name("property", name, PROPERTIES) from None


def resolve_properties(names: Iterable[str]) -> tuple[str, ...]:
    """Return known, distinct property names in table order.

    Raises:
        UsageError: A name is unknown or nothing is named.
    """
    chosen = {get_property(name.strip()).name for name in names if name.strip()}
    if not chosen:
        raise UsageError(f"no property is named. Known: {', '.join(PROPERTIES)}")
    return tuple(name for name in PROPERTIES if name in chosen)


def trained_properties(names: Iterable[str]) -> tuple[str, ...]:
    """Return the properties that need a head so that all of `names` can be predicted, in table order."""
    return resolve_properties(get_property(name).derived_from or name for name in names)


def records(names: Sequence[str]) -> list[Property]:
    """Return the records of several properties, in the order given."""
    return [get_property(name) for name in names]
