"""`crystrata design study`: scenarios searched in several ways, on a small trained network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from known_compositions import trained_run

from crystrata.cli.design import main
from crystrata.compositions.descriptors import KernelMean
from crystrata.compositions.element_features import load_element_features
from crystrata.compositions.keys import formula_amounts
from crystrata.compositions.keys import weights as fractions_of
from crystrata.datasets.catalogues import catalogue_tasks
from crystrata.design.objectives import Objective, ObjectiveFunction
from crystrata.design.study_config import SeedChoice, StudyConfig, read_study
from crystrata.design.study_paths import choose_seeds
from crystrata.design.trained import TrainedCompositions, read_compositions
from crystrata.elements import SYMBOLS
from crystrata.errors import ModelError, UsageError
from crystrata.networks.latent import Latent
from crystrata.runs.continual_config import read_continual
from crystrata.training.checkpoints import write_checkpoint
from crystrata.workflows import study
from crystrata.workflows.export import export_model

PATHS = [
    "latent_alpha_0",
    "latent_alpha_0.5",
    "latent_alpha_1",
    "composition_strict_seed",
    "composition_seed_blend",
    "composition_whitelist",
    "composition_low_diversity",
    "composition_random_start",
]
CONFIG = """
[elsewhere]
anything = 1

[study]
latent = {{ steps = 20 }}
composition = {{ steps = 40 }}
constraints = {{ max_elements = 4, min_nonzero_weight = 0.02 }}
whitelist = ["Li", "Na", "Mg", "Al", "Si", "O", "Ti"]
max_atoms = 10
{study}

[study.seeds]
strategy = "probability"
count = 3
pool = "train"
append = ["MgO"]

[[study.scenarios]]
name = "pulling_oxide"
targets = {{ pull = 1 }}
class_target = {{ task = "kind", classes = ["oxide"] }}
{scenario}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that knows mean electronegativity and mass of the demo compounds, and whether oxygen is in them."""
    return trained_run(tmp_path_factory.mktemp("models"), mass=True)


def written(folder: Path, study: str = "", scenario: str = "") -> Path:
    file = folder / "study.toml"
    file.write_text(CONFIG.format(study=study, scenario=scenario), encoding="utf-8")
    return file


def flags(run: Path, file: Path, output: Path) -> list[str]:
    return ["study", "--config", str(file), "--model", str(run), "--output", str(output)]


@pytest.fixture(scope="module")
def done(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a scenario with three objectives that has finished."""
    folder = tmp_path_factory.mktemp("study")
    file = written(folder, scenario='objectives = ["mass<40"]')
    assert main(flags(run, file, folder / "out")) == 0
    return folder / "out/inverse_design/pulling_oxide"


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def predicted(run: Path, rows: list[dict[str, float]]) -> np.ndarray:
    """P(oxide), pull and mass of compositions, computed from the network alone."""
    network = TrainedCompositions.load(run, "cpu").model.network
    x = np.array([[row.get(symbol, 0.0) for symbol in SYMBOLS] for row in rows]) @ KernelMean().kernel.matrix
    with torch.no_grad():
        latent = Latent(network.composition_latents(torch.from_numpy(x).float()))
        kind, pull, mass = (network.head(name) for name in ("kind", "pull", "mass"))
        columns = [kind.probabilities(kind(latent))[:, 0], *(one.predict(one(latent), latent) for one in (pull, mass))]
    return torch.stack(columns, dim=1).numpy()


def test_every_output_is_there(done: Path) -> None:
    pictures = ["comparison", "element_frequency_heatmap", "qc_vs_secondary_scatter"]
    pictures += [f"seed_to_optimized__{name}" for name in PATHS[:-1]]
    assert sorted(file.stem for file in done.glob("*.png")) == sorted(pictures)
    for file in done.glob("*.png"):
        assert file.read_bytes().startswith(b"\x89PNG")
        assert file.stat().st_size > 5000
    assert list(results(done)["paths"]) == PATHS
    seeds = json.loads((done / "seeds.json").read_text())["seeds"]
    assert seeds == results(done)["seeds"]
    assert json.loads((done / "scenario.json").read_text())["scenario"]["name"] == "pulling_oxide"
    TrainedCompositions.load(done / "checkpoint.pt", "cpu")  # the copy is whole: with compositions and intervals


def test_seeds_are_the_most_probable_of_distinct_elements_after_those_appended(done: Path, run: Path) -> None:
    seeds = results(done)["seeds"]
    assert seeds[0] == "MgO"
    assert len(seeds) == 3
    elements = [frozenset(formula_amounts(seed)) for seed in seeds]
    assert len(set(elements)) == 3
    pool = [name for name in TrainedCompositions.load(run, "cpu").parts["train"] if len(formula_amounts(name)) > 1]
    likely = predicted(run, [dict(zip(SYMBOLS, row, strict=True)) for row in fractions_of(pool)])[:, 0]
    better = [name for name, chance in zip(pool, likely, strict=True) if chance > likely[pool.index(seeds[1])]]
    assert {frozenset(formula_amounts(name)) for name in better} <= {elements[0]}


def test_targets_are_on_the_scale_of_the_labels(done: Path, run: Path) -> None:
    objectives = {one["title"]: one for one in results(done)["objectives"]}
    assert list(objectives) == ["P(oxide)", "pull", "mass"]
    trained = TrainedCompositions.load(run, "cpu")
    features = load_element_features()
    pulls = fractions_of(trained.parts["train"]) @ features.values[:, features.names.index("X")]
    assert objectives["pull"]["value"] == pytest.approx(pulls.mean() + pulls.std(), rel=0.01)
    assert (objectives["mass"]["relation"], objectives["mass"]["value"]) == ("<", 40.0)
    assert objectives["P(oxide)"]["weight"] == 5


def test_arrays_are_the_predictions_of_the_network(done: Path, run: Path) -> None:
    found = results(done)
    rows = [dict(zip(SYMBOLS, row, strict=True)) for row in fractions_of(found["seeds"])]
    np.testing.assert_allclose(found["seed_values"], predicted(run, rows), rtol=1e-3, atol=1e-4)
    for name in PATHS:
        path = found["paths"][name]
        np.testing.assert_allclose(path["values"], predicted(run, path["weights"]), rtol=1e-3, atol=1e-4)
        whole = [dict(zip(SYMBOLS, row, strict=True)) for row in fractions_of(path["formulas"])]
        np.testing.assert_allclose(path["formula_values"], predicted(run, whole), rtol=1e-3, atol=1e-4)
        for row, formula, error in zip(path["weights"], path["formulas"], path["rounding_errors"], strict=True):
            composition = np.array([row.get(symbol, 0.0) for symbol in SYMBOLS])
            assert error == pytest.approx(
                np.abs(fractions_of([formula])[0] - composition / composition.sum()).max(), abs=1e-6
            )
        assert (path["latent_values"] is not None) == name.startswith("latent")
        assert path["cpu_seconds"] > 0


def test_paths_do_what_their_names_say(done: Path) -> None:
    paths, seeds = results(done)["paths"], results(done)["seeds"]
    for seed, row in zip(seeds, paths["composition_strict_seed"]["weights"], strict=True):
        assert set(row) <= set(formula_amounts(seed))
    for row in paths["composition_whitelist"]["weights"]:
        assert set(row) <= {"Li", "Na", "Mg", "Al", "Si", "O", "Ti"}
    for name in PATHS[3:]:
        assert all(len(row) <= 4 and min(row.values()) >= 0.02 - 1e-6 for row in paths[name]["weights"])
    settings = {path["name"]: path for path in json.loads((done / "scenario.json").read_text())["paths"]}
    assert [settings[name]["ae_align_scale"] for name in PATHS[:3]] == [0, 0.5, 1]
    assert [settings[name]["seed_blend"] for name in PATHS[3:7]] == [1, 0.95, 0.95, 0.95]
    assert [settings[name]["diversity_scale"] for name in PATHS[5:7]] == [1, 0]
    assert "Tc" not in settings["composition_random_start"]["constraints"]["allowed_elements"]
    assert not settings["composition_random_start"]["seeded"]


def test_the_summary_has_the_means_of_the_arrays(done: Path) -> None:
    text = (done / "SUMMARY.md").read_text()
    path = results(done)["paths"]["composition_seed_blend"]
    likely, pull, _ = np.array(path["values"]).T
    line = next(line for line in text.splitlines() if line.startswith("| composition, seed blend"))
    assert f"{likely.mean():.3g} +/- {likely.std():.2g}" in line
    assert f"{pull.mean():.3g} +/- {pull.std():.2g}" in line
    assert f"{100 * path['cpu_seconds'] / 3:.4g}" in text
    assert "90 % of the validation labels lie within" in text


def test_an_interrupted_study_continues(
    done: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    folder = output / "inverse_design/pulling_oxide"
    shutil.copytree(done.parents[1], output)
    before = results(folder)
    (folder / "results.json").unlink()
    (folder / "paths/composition_random_start.json").unlink()
    (folder / "comparison.png").unlink()
    searched: list[str] = []
    once = study.run_path

    def counted(path: Any, *rest: Any) -> Any:
        searched.append(path.name)
        return once(path, *rest)

    monkeypatch.setattr(study, "run_path", counted)
    file = written(tmp_path, scenario='objectives = ["mass<40"]')
    assert main(flags(run, file, output)) == 0
    assert searched == ["composition_random_start"]
    assert "latent_alpha_0: already finished" in capsys.readouterr().out
    assert (folder / "comparison.png").is_file()
    after = results(folder)
    for name in PATHS:
        for key in set(after["paths"][name]) - {"seconds", "cpu_seconds"}:
            assert after["paths"][name][key] == before["paths"][name][key], (name, key)
    assert main(flags(run, file, output)) == 0
    assert searched == ["composition_random_start"]
    assert "pulling_oxide: already finished" in capsys.readouterr().out


def test_another_configuration_is_refused_and_another_scenario_joins(
    done: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    shutil.copytree(done.parents[1], output)
    changed = written(tmp_path, "seed_blend = 0.9", 'objectives = ["mass<40"]')
    assert main(flags(run, changed, output)) == 2
    assert "started with other settings (seed_blend 0.95 -> 0.9)" in capsys.readouterr().err
    assert main(flags(run, written(tmp_path), output)) == 2
    assert "objectives ['mass<40'] -> []" in capsys.readouterr().err
    more = """objectives = ["mass<40"]
[[study.scenarios]]
name = "heavy"
objectives = ["mass=max", "pull<2"]
"""
    joined = tmp_path / "joined.toml"
    text = CONFIG.format(study="", scenario=more).replace('strategy = "probability"', 'strategy = "loss"')
    joined.write_text(text, encoding="utf-8")
    assert main(flags(run, joined, tmp_path / "new")) == 0
    assert sorted(one.name for one in (tmp_path / "new/inverse_design").iterdir() if one.is_dir()) == [
        "heavy", "pulling_oxide",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("study_lines", "scenario_lines", "words"),
    [
        ("seed_blen = 1", "", "did you mean 'seed_blend'"),
        ("latent_alphas = [2]", "", "ae_align_scale must be from 0 to 1"),
        ("seed_blend = 2", "", "seed_blend must be from 0 to 1"),
        ("without = 'He'", "", "without must be a list, not 'He'"),
        ("", 'objectives = ["pul=1"]', "did you mean 'pull'"),
        ("", 'objectives = ["pull=1"]', "pull has two objectives"),
        ("", "class_weigth = 1", "did you mean 'class_weight'"),
        ("", '[[study.scenarios]]\nname = "alone"\nobjectives = ["pull=1"]', "needs at least two objectives"),
        ("", '[[study.scenarios]]\nname = "x"\nobjectives = ["pull=1", "mass=2"]', "seeds by probability need a class"),
        (
            "",
            '[[study.scenarios]]\nname = "pulling_oxide"\nobjectives = ["pull=1", "mass=2"]',
            "two scenarios are named",
        ),
    ],
)
def test_an_invalid_study_is_one_line_with_a_fix(
    run: Path, study_lines: str, scenario_lines: str, words: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = written(tmp_path, study_lines, scenario_lines)
    assert main(flags(run, file, tmp_path / "none")) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_a_refusal_names_its_path(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path)
    text = file.read_text(encoding="utf-8")
    for before, after, words in [
        ("max_elements = 4", "max_elements = 9",
         "path composition_whitelist (elements of the whitelist): max_elements 9 is more than the 7 allowed elements"),
        ("max_elements = 4", "element_step_scale = { O = 0 }",
         "path composition_random_start: element_step_scale 0 freezes O at the amount of a seed"),
    ]:  # fmt: skip
        file.write_text(text.replace(before, after), encoding="utf-8")
        assert main(flags(run, file, tmp_path / "none")) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1


def test_seeds_by_loss_at_random_and_named(run: Path) -> None:
    trained = TrainedCompositions.load(run, "cpu")
    function = ObjectiveFunction([Objective("pull", "most")], trained.model.network)
    nearest = choose_seeds(trained, function, SeedChoice("loss", count=4, pool="train"), without=["F"])
    pulls = predicted(run, [dict(zip(SYMBOLS, row, strict=True)) for row in fractions_of(nearest)])[:, 1]
    assert (np.diff(pulls) <= 0).all()
    assert all("F" not in formula_amounts(seed) for seed in nearest)
    draws = [
        choose_seeds(trained, function, SeedChoice("random", pool="train", random_seed=seed)) for seed in (0, 0, 1)
    ]
    assert draws[0] == draws[1] != draws[2]
    with pytest.raises(UsageError, match="is not a formula"):
        choose_seeds(trained, function, SeedChoice("explicit", formulas=("Wat",)))


def test_named_seeds_are_all_taken_and_count_limits_the_pool(run: Path) -> None:
    trained = TrainedCompositions.load(run, "cpu")
    function = ObjectiveFunction([Objective("pull", "most")], trained.model.network)
    named = SeedChoice("explicit", count=2, formulas=("Fe2O3", "Fe3O4", "NaCl", "Fe4O6", "GaAs"), append=("LiF",))
    assert choose_seeds(trained, function, named) == ["FLi", "Fe2O3", "Fe3O4", "ClNa", "AsGa"]
    alone = choose_seeds(trained, function, SeedChoice("loss", count=3, pool="train"))
    appended = ("SiO", alone[0], "SiO2")
    four, two = (choose_seeds(trained, function, SeedChoice("loss", n, "train", (), appended)) for n in (4, 2))
    assert two == ["OSi", alone[0], "O2Si"]
    assert four == [*two, alone[1]]


def test_other_weights_are_refused(done: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out/inverse_design/pulling_oxide"
    shutil.copytree(done, folder)
    facts = json.loads((folder / "scenario.json").read_text())
    (folder / "scenario.json").write_text(json.dumps({**facts, "weights": "others"}))
    assert main(flags(run, written(tmp_path, scenario='objectives = ["mass<40"]'), tmp_path / "out")) == 2
    assert "(other weights)" in capsys.readouterr().err


def test_weights_beside_their_split_and_shared_models_are_opened(run: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(run / "best.pt", bare / "final_model.pt")
    shutil.copy(run / "splits.json", bare)
    whole = TrainedCompositions.load(run, "cpu")
    opened = TrainedCompositions.load(bare / "final_model.pt", "cpu")
    assert (opened.names, opened.half_widths) == (whole.names, {})
    assert {"pull", "mass"} <= set(whole.half_widths)
    shared = read_compositions(export_model(run, tmp_path / "shared", "made"))
    write_checkpoint(tmp_path / "copy.pt", shared)
    again = TrainedCompositions.load(tmp_path / "copy.pt", "cpu")
    assert (again.parts, again.half_widths) == (whole.parts, whole.half_widths)
    (bare / "splits.json").unlink()
    with pytest.raises(ModelError, match="complete the run first"):
        TrainedCompositions.load(bare / "final_model.pt", "cpu")


def test_tables_of_a_study_refuse_unknown_keys_and_values(tmp_path: Path) -> None:
    scenario = {"name": "one", "targets": {"a": 1, "b": 2}}
    for values, words in [
        ({"latent": {"step": 3}}, "did you mean 'steps'"),
        ({"constraints": {"max_element": 3}}, "did you mean 'max_elements'"),
        ({"seeds": {"strategy": "lost"}}, "did you mean 'loss'"),
        ({"seeds": {"strategy": "explicit"}}, "give formulas with the strategy explicit"),
        ({"seeds": {"count": 0}}, "must be 1 or more"),
        ({"constraints": {"max_elements": "few"}}, "study.constraints.max_elements must be a whole number, not 'few'"),
        ({"constraints": {"allowed_elements": "Fe"}}, "allowed_elements must be a list, not 'Fe'"),
        ({"constraints": {"fixed_amounts": {"O": "half"}}}, "fixed_amounts.O must be a number, not 'half'"),
        ({"constraints": {"max_elements": True}}, "max_elements must be a whole number, not True"),
        ({"latent": {"steps": 4.5}}, "study.latent.steps must be a whole number, not 4.5"),
        ({"composition": {"lr": "low"}}, "lr must be a number, not 'low'"),
        ({"composition": 3}, r"\[study.composition\] must be a table, not 3"),
        ({"latent_alphas": ["one"]}, "study.latent_alphas.0 must be a number, not 'one'"),
        ({"latent_alphas": "abc"}, "study.latent_alphas must be a list, not 'abc'"),
        ({"max_atoms": 9.5}, "max_atoms must be a whole number, not 9.5"),
        ({"whitelist": ["Fe", 1]}, "whitelist.1 must be text, not 1"),
        ({"seeds": {"count": "few"}}, "study.seeds.count must be a whole number, not 'few'"),
        ({"scenarios": 3}, "scenarios must be a list of tables, not 3"),
        ({"scenarios": [{"targets": {}}]}, "missing 1 required positional argument: 'name'"),
        ({"scenarios": [{**scenario, "objectives": "a=1"}]}, "objectives must be a list, not 'a=1'"),
        ({"scenarios": [{**scenario, "class_target": {"task": "c", "classes": "d"}}]}, "classes of .* must be a list"),
        ({"scenarios": [{**scenario, "class_target": {"task": "c"}}]}, "needs a task and classes"),
        ({"without": ["Xq"]}, "unknown element"),
        ({"scenarios": [{**scenario, "targets": {"a": 1, "b": "low"}}]}, "must be a number, not 'low'"),
        ({"scenarios": []}, "a study needs scenarios"),
        ({"scenarios": [{**scenario, "name": "a/b"}]}, "cannot name a folder"),
    ]:
        with pytest.raises(UsageError, match=words):
            StudyConfig.from_dict({"scenarios": [scenario], **values})


def test_older_keys_are_understood(tmp_path: Path) -> None:
    older = {"name": "one", "want": ["a=1", "b=2"]}
    config = StudyConfig.from_dict({"scenarios": [older], "checkpoint": "mine"})
    assert (config.scenarios[0].objectives, config.model) == (("a=1", "b=2"), "mine")
    file = written(tmp_path, 'checkpoint = "mine"')
    assert (read_study(file).model, read_study(file, model="other").model) == ("mine", "other")
    with pytest.raises(UsageError, match="has both objectives and want, its older name: remove want"):
        StudyConfig.from_dict({"scenarios": [{**older, "objectives": ["a=1", "b=2"]}]})


def test_the_shipped_example_is_read() -> None:
    config = read_study(Path(__file__).parents[2] / "examples/design/three_scenarios.toml")
    assert len(config.scenarios) == 3
    assert config.seeds.count == 20
    assert config.latent_alphas == (0.0, 0.5, 1.0)


@pytest.mark.parametrize("name", ["demo", "full"])
def test_continual_learning_and_study_share_a_file(name: str) -> None:
    file = Path(__file__).parents[2] / "examples" / "continual" / f"{name}.toml"
    study_of, continual = read_study(file), read_continual(file)
    assert study_of.model == f"{continual.output}/training/final_model.pt"
    (scenario,) = study_of.scenarios
    known = {task["name"]: task for task in catalogue_tasks(name)}
    assert {objective.task for objective in map(Objective.parse, scenario.objectives)} <= set(known)
    assert set(scenario.class_target["classes"]) <= set(known[scenario.class_target["task"]]["classes"])
