"""Figures of a study: the seeds are drawn, elements of no seed stand out, and every number is that of the result."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from crystrata.compositions.keys import weights
from crystrata.design.objectives import Objective
from crystrata.design.study_paths import PathResult
from crystrata.elements import SYMBOLS
from crystrata.reports.study_figures import (
    ScenarioResult,
    comparison_figure,
    element_figure,
    listing_figure,
    scatter_figure,
)

SEEDS = ["NaCl", "KBr"]
FOUND = {"latent_alpha_0": ["NaBr", "LiF"], "composition_strength_1": ["RbI", "NaCl"]}
SEED_VALUES = np.array([[0.1, -1.0, 5.0], [0.2, -1.5, 6.0]])
OBJECTIVES = (
    Objective("family", "class", classes=("salt",)),
    Objective("energy", "=", -2.0),
    Objective("gap", "most"),
)


def path(name: str, number: int) -> PathResult:
    values = SEED_VALUES + 0.1 * (number + 1)
    empty = np.zeros((2, 3))
    return PathResult(
        name=name, weights=weights(FOUND[name]), values=values, formulas=FOUND[name], rounding_errors=np.zeros(2),
        formula_values=values, charges=[None, None], neutral_formulas=[None, None], neutral_values=empty,
        distances=np.ones(2), cpu_seconds=1.0, seconds=1.0, latent_values=empty, decoded_values=empty,
    )  # fmt: skip


@pytest.fixture
def result() -> ScenarioResult:
    """Two seeds, a latent path and a path in compositions."""
    paths = [path(name, number) for number, name in enumerate(FOUND)]
    return ScenarioResult("salts", OBJECTIVES, SEEDS, weights(SEEDS), SEED_VALUES, paths)


def test_elements_of_no_seed_stand_out(result: ScenarioResult) -> None:
    (panel,) = element_figure(result).axes
    labels = {label.get_text(): label for label in panel.get_xticklabels()}
    assert set(labels) == {"Na", "Cl", "Br", "Li", "F", "Rb", "I"}  # what the paths found, so no K
    new = {name for name, label in labels.items() if label.get_fontweight() == "bold"}
    assert new == {"Li", "F", "Rb", "I"}
    red = {name for name, label in labels.items() if to_rgba(label.get_color()) != to_rgba("black")}
    assert red == new


def test_the_heat_map_counts_the_seeds_and_every_path(result: ScenarioResult) -> None:
    (panel,) = element_figure(result).axes
    counts = np.asarray(panel.images[0].get_array())
    columns = [label.get_text() for label in panel.get_xticklabels()]
    assert [label.get_text() for label in panel.get_yticklabels()] == [
        "seeds", "latent, alpha 0", "composition, strength 1",
    ]  # fmt: skip
    for row, formulas in enumerate([SEEDS, *FOUND.values()]):
        wanted = [sum(weights([formula])[0, SYMBOLS.index(name)] > 0 for formula in formulas) for name in columns]
        assert counts[row].tolist() == wanted
    texts = {(round(text.get_position()[0]), round(text.get_position()[1])): text.get_text() for text in panel.texts}
    assert texts == {(c, r): str(counts[r, c]) for r, c in zip(*np.nonzero(counts), strict=True)}


def test_the_scatter_has_a_layer_of_seeds_under_the_paths(result: ScenarioResult) -> None:
    panels = scatter_figure(result).axes
    assert [panel.get_xlabel() for panel in panels] == ["energy", "gap"]
    for column, panel in enumerate(panels, start=1):
        layers = {layer.get_label(): layer for layer in panel.collections}
        assert list(layers) == ["seeds", "latent, alpha 0", "composition, strength 1"]
        for layer, values in zip(layers.values(), [SEED_VALUES, *(one.values for one in result.paths)], strict=True):
            assert np.asarray(layer.get_offsets()) == pytest.approx(values[:, [column, 0]])
        assert layers["seeds"].get_zorder() < layers["latent, alpha 0"].get_zorder()
        lines = [(set(line.get_xdata()), set(line.get_ydata())) for line in panel.lines]
        assert ({0, 1}, {1.0}) in lines  # the class is sought with certainty
        assert (({-2.0}, {0, 1}) in lines) == (column == 1)  # an extreme has no target


def test_bars_are_means_with_deviations_and_a_line_at_the_target(result: ScenarioResult) -> None:
    panels = comparison_figure(result).axes
    assert [panel.get_title() for panel in panels] == ["P(salt), target 1", "energy, target -2", "gap"]
    for column, panel in enumerate(panels):
        tables = [SEED_VALUES, *(one.values for one in result.paths)]
        assert [bar.get_width() for bar in panel.patches] == pytest.approx([t[:, column].mean() for t in tables])
        spans = [np.ptp(segment[:, 0]) for segment in panel.collections[0].get_segments()]
        assert spans == pytest.approx([2 * t[:, column].std() for t in tables])
        assert any(set(line.get_xdata()) == {result.goals[column]} for line in panel.lines) == (column < 2)
    assert panels[0].get_yticklabels()[0].get_text() == "seeds"


def test_the_listing_goes_from_seed_to_result(result: ScenarioResult) -> None:
    (panel,) = listing_figure(result, result.paths[0]).axes
    texts = [text.get_text() for text in panel.texts]
    assert texts[0] == "salts: latent, alpha 0, from seed to composition"
    rows = [texts[first : first + 6] for first in range(1, len(texts), 6)]
    assert rows[0] == ["seed", "composition", "nearest formula", "P(salt)", "change of energy", "change of gap"]
    assert [(row[0], row[2], row[3], row[4]) for row in rows[1:]] == [
        ("NaCl", "NaBr", "0.200", "+0.1"),
        ("KBr", "LiF", "0.300", "+0.1"),
    ]
