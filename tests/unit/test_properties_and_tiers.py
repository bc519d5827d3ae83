"""The tables that everything reads: properties, groups, presets and sizes, against what the specification prints."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from itertools import product

import pytest

from crystrata.datasets.splits.published import SUITE
from crystrata.errors import UsageError
from crystrata.graph_settings import GraphSettings
from crystrata.jarvis_properties import (
    GROUPS,
    NINE,
    PROPERTIES,
    PUBLISHED,
    get_property,
    properties,
    property_tasks,
    resolve_properties,
    trained_tasks,
)
from crystrata.networks.encoders import build_encoder, encoder_class
from crystrata.networks.heads import build_head, head_class
from crystrata.networks.heads.head import Head
from crystrata.presets import (
    ALGORITHMS,
    ENCODERS,
    LEVELS,
    MODES,
    PRESETS,
    SIZE_ALIASES,
    SIZES,
    TRACKS,
    get_preset,
    resolve_size,
)
from crystrata.runs.config import resolve_config
from crystrata.tasks import KINDS

NAMES = (
    "formation_energy", "band_gap", "band_gap_mbj", "bulk_modulus", "shear_modulus", "dielectric", "piezoelectric",
    "spillage", "ehull",
)  # fmt: skip
UNITS = ("eV/atom", "eV", "eV", "GPa", "GPa", "", "pC/N", "", "eV/atom")

PRINTED = {
    ("e3nn", "smoke"): ("train_multitask_std.py", 5, 8, 2e-3),
    ("e3nn", "std"): ("train_multitask_std.py", 100, 16, 1e-3),
    ("e3nn", "pro"): ("train_multitask_pro.py", 500, 4, 5e-4),
    ("e3nn", "max"): ("train_multitask_pro.py", 800, 4, 3e-4),
    ("e3nn", "competition"): ("train_multitask_pro.py", 260, 6, 4.5e-4),
    ("cgcnn", "max"): ("train_multitask_cgcnn.py", 500, 160, 7e-4),
    ("cgcnn", "competition"): ("train_multitask_cgcnn.py", 280, 128, 9e-4),
}
"""(algorithm, mode) -> script, epochs, batch, learning rate."""

CGCNN = {
    "smoke": ("small", 5, 800), "lite": ("small", 40, 3000), "std": ("medium", 200, None),
    "pro": ("large", 300, None), "max": ("large", 500, None), "competition": ("medium", 280, None),
    "leaderboard": ("medium", 40, None),
}  # fmt: skip
"""Mode -> size, epochs, most samples."""

FAMILIES = {
    "smoke": "multitask_std_e3nn", "std": "multitask_std_e3nn", "lite": "multitask_lite_e3nn",
    "pro": "multitask_pro_e3nn", "max": "multitask_pro_e3nn", "competition": "multitask_pro_e3nn",
    "leaderboard": "multitask_std_e3nn",
}  # fmt: skip


def test_nine_properties_with_their_units() -> None:
    assert NAMES == NINE
    assert tuple(PROPERTIES) == (*NINE, "ehull_official")
    assert tuple(record.unit for record in properties(NINE)) == UNITS
    assert all(name == record.name for name, record in PROPERTIES.items())
    assert get_property("band_gap").column == "band_gap [eV]"
    assert get_property("spillage").column == "spillage"


def test_every_record_makes_sense() -> None:
    for record in PROPERTIES.values():
        assert record.derived_from is not None or record.kinds[0] == record.kind
        assert len(set(record.kinds)) == len(record.kinds)
        assert all(KINDS[kind].labels == "number" for kind in record.kinds)
        assert record.columns or record.derived_from
        assert record.derived_from is None or PROPERTIES[record.derived_from].columns
        assert record.title
        assert len(record.components) in (0, len(record.columns))
        if record.benchmark is not None:
            assert record.columns == (record.benchmark,)
        assert record.benchmark is None or record.benchmark in PUBLISHED
        if record.transform == "asinh":
            assert record.lower is not None
        if record.additive:
            assert record.unit == "eV/atom"
    unbounded = {name for name, record in PROPERTIES.items() if record.lower is None}
    assert unbounded == {"formation_energy", "ehull"}  # a crystal may lie below the hull of the training energies
    columns = [column for record in PROPERTIES.values() for column in record.columns]
    assert len(columns) == len(set(columns)) == 11
    assert [name for name in SUITE if name not in columns] == []  # every official test is answered by a property


def test_the_official_ehull_is_for_the_leaderboard_alone() -> None:
    record = get_property("ehull_official")
    assert (record.columns, record.benchmark, record.derived_from) == (("ehull",), "ehull", "formation_energy")
    published = PUBLISHED["ehull"]
    assert (published.cgcnn, published.alignn) == (0.059, 0.076)
    assert trained("ehull", "ehull_official") == ("formation_energy",)
    assert all("ehull_official" not in names for names in GROUPS.values())


def trained(*names: str) -> tuple[str, ...]:
    """Return the names of the tasks that need a head so that some properties can be predicted."""
    return tuple(task.name for task in trained_tasks(property_tasks(names)))


def test_a_property_takes_its_kinds_of_head_and_refuses_the_others() -> None:
    served = {kind for record in PROPERTIES.values() for kind in record.kinds}
    assert served == {kind for kind, row in KINDS.items() if row.labels == "number"}
    for record in PROPERTIES.values():
        for kind in record.kinds:
            (task,) = property_tasks([record.name], {record.name: kind})
            assert (task.kind, set(task.kinds)) == (kind, set(record.kinds))
            assert build_head(task, 8, GraphSettings()).task == task
        for kind in set(KINDS) - set(record.kinds):
            refused = "follows from formation_energy" if record.derived_from else f"unknown head of {record.name}"
            with pytest.raises(UsageError, match=refused):
                property_tasks([record.name], {record.name: kind})


def test_every_kind_and_subtype_has_a_head() -> None:
    for kind, row in KINDS.items():
        assert all(issubclass(head_class(kind, subtype), Head) for subtype in ("", *row.subtypes))
        assert head_class(kind).reads_whole_crystals == row.whole_crystals
    with pytest.raises(UsageError, match="did you mean 'gap'"):
        head_class("gaps")
    with pytest.raises(UsageError, match="unknown subtype of sequence 'lstm'"):
        head_class("sequence", "lstm")


def test_records_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        get_property("band_gap").unit = "J"  # type: ignore[misc]


def test_groups_hold_known_names() -> None:
    assert GROUPS["all9"] == NINE
    assert set(GROUPS["priority7"]) | set(GROUPS["secondary2"]) == set(NINE)
    assert GROUPS["core4"] == ("formation_energy", "band_gap", "bulk_modulus", "shear_modulus")
    assert all(set(names) <= set(NINE) and len(set(names)) == len(names) for names in GROUPS.values())


def test_names_are_resolved_in_table_order() -> None:
    assert resolve_properties(["ehull", " band_gap ", "", "ehull"]) == ("band_gap", "ehull")
    assert [record.name for record in properties(("ehull", "band_gap"))] == ["ehull", "band_gap"]


def test_a_derived_property_needs_the_head_of_another() -> None:
    assert get_property("ehull").derived_from == "formation_energy"
    assert trained("ehull") == ("formation_energy",)
    assert trained("spillage", "ehull", "formation_energy") == ("formation_energy", "spillage")
    assert trained(*NINE) == NINE[:-1]


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("bandgap", "band_gap"), ("Spillage", "spillage"), ("e_hull", "ehull"), ("ehull_oficial", "ehull_official")],
)
def test_an_unknown_property_is_refused_with_the_nearest(wrong: str, meant: str) -> None:
    for ask in (get_property, lambda name: resolve_properties(["ehull", name])):
        with pytest.raises(UsageError, match=f"unknown property '{wrong}'; did you mean '{meant}'"):
            ask(wrong)


@pytest.mark.parametrize("nothing", [[], [""], ["  "]])
def test_no_property_at_all_is_refused(nothing: list[str]) -> None:
    with pytest.raises(UsageError, match="no property is named"):
        resolve_properties(nothing)


def test_every_algorithm_has_every_mode() -> None:
    assert LEVELS == ("smoke", "lite", "std", "pro", "max")
    assert (*LEVELS, "competition", "leaderboard") == MODES
    assert set(PRESETS) == set(product(ALGORITHMS, MODES))
    assert set(TRACKS) == set(ALGORITHMS)


@pytest.mark.parametrize(("cell", "printed"), PRINTED.items(), ids=lambda value: "-".join(map(str, value[:2])))
def test_presets_are_the_printed_ones(cell: tuple[str, str], printed: tuple[str, int, int, float]) -> None:
    preset = get_preset(*cell)
    assert (preset.script, preset.epochs, preset.batch_size, preset.lr) == printed


def test_lite_is_a_tiny_run() -> None:
    lite = get_preset("e3nn", "lite")
    assert (lite.script, lite.epochs) == ("train_multitask_lite.py", 2)
    assert lite.max_samples is not None
    assert lite.max_samples <= 200


@pytest.mark.parametrize("mode", MODES)
def test_cgcnn_presets_and_run_folders(mode: str) -> None:
    preset = get_preset("cgcnn", mode)
    assert (preset.size, preset.epochs, preset.max_samples) == CGCNN[mode]
    assert preset.script == "train_multitask_cgcnn.py"
    assert preset.family == "multitask_cgcnn"
    assert get_preset("e3nn", mode).family == FAMILIES[mode]


def test_every_size_builds_its_encoder() -> None:
    for (algorithm, _), settings in SIZES.items():
        encoder = build_encoder(algorithm, GraphSettings(), settings)
        assert encoder.latent_width >= settings["channels"]
    for (algorithm, _), preset in PRESETS.items():
        assert (algorithm, preset.size) in SIZES


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_takes_the_settings_of_its_track_that_its_row_leaves(name: str) -> None:
    row = ENCODERS[name]
    known = encoder_class(name).setting_names()
    assert not set(row.without) & set(known)
    for (algorithm, size), settings in SIZES.items():
        if algorithm == row.algorithm:
            config = resolve_config(algorithm, size=size, structure=name)
            assert set(config.structure_settings) == set(settings) - set(row.without) <= set(known)
    assert ("angles" in known) != ("angles" in row.without)
    assert all(track in ENCODERS for track in ALGORITHMS)


def test_sizes_answer_to_both_vocabularies() -> None:
    assert [resolve_size("e3nn", size) for size in ("small", "medium", "large")] == ["lite", "std", "pro"]
    assert [resolve_size("cgcnn", size) for size in ("small", "medium", "large")] == ["small", "medium", "large"]
    assert resolve_size("e3nn", "pro") == "pro"
    assert set(SIZE_ALIASES) == {"small", "medium", "large"}


def test_unknown_tiers_are_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown algorithm 'e3n'; did you mean 'e3nn'"):
        get_preset("e3n", "std")
    with pytest.raises(UsageError, match="unknown level 'competitoin'; did you mean 'competition'"):
        get_preset("e3nn", "competitoin")
    with pytest.raises(UsageError, match="unknown size of cgcnn 'pro'"):
        resolve_size("cgcnn", "pro")
    with pytest.raises(UsageError, match="unknown size of e3nn 'hudge'"):
        resolve_size("e3nn", "hudge")
