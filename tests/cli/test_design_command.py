"""`crystrata design`: from objectives to compositions and candidate crystals, on a small trained network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from known_compositions import mean_of, trained_run

from crystrata.cli.design import main
from crystrata.compositions.keys import weights as fractions_of
from crystrata.elements import SYMBOLS
from crystrata.errors import UsageError
from crystrata.networks.weights import digest_of_weights
from crystrata.structures.readers import read_crystals
from crystrata.training.checkpoints import read_checkpoint
from crystrata.workflows.export import export_model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that knows the mean electronegativity of the demo compounds, and whether oxygen is in them."""
    return trained_run(tmp_path_factory.mktemp("models"))


def pull_of(formula: str) -> float:
    return float(mean_of("X", [formula])[0])


def test_compositions_meet_their_objectives(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out"
    flags = [
        "--model",
        str(run),
        "--objective",
        "pull=2.6",
        "--objective",
        "kind=oxide",
        "--elements",
        "Li,Na,Mg,Al,Si,O,Ti",
    ]
    assert main([*flags, "--max-elements", "3", "--starts", "6", "--steps", "150", "--output", str(folder)]) == 0
    printed = capsys.readouterr().out
    table = pd.read_csv(folder / "compositions.csv")
    assert table["formula"].is_unique
    assert (table["loss"].diff().dropna() >= 0).all()
    best = table.iloc[0]
    assert best["formula"] in printed
    assert pull_of(best["formula"]) == pytest.approx(2.6, abs=0.25)  # of the compound itself, not of the network
    assert "O" in best["formula"]
    assert best["pull low"] < best["pull"] < best["pull high"]
    for formula in table["formula"]:
        amounts = fractions_of([formula])[0]
        assert 1 <= (amounts > 0).sum() <= 3
        assert {SYMBOLS[place] for place in np.flatnonzero(amounts)} <= {"Li", "Na", "Mg", "Al", "Si", "O", "Ti"}
    record = json.loads((folder / "design.json").read_text())
    assert record["request"]["constraints"]["max_elements"] == 3
    weights = read_checkpoint(run / "best.pt")["state"]
    assert record["model"] == {"path": str(run / "best.pt"), "weights": digest_of_weights(weights)}


def test_structures_are_found_predicted_and_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [
        "--model",
        str(run),
        "--objective",
        "pull=2.4",
        "--seeds",
        "MgO,SrS",
        "--elements",
        "Mg,Ca,Sr,O,S",
        "--freeze-elements",
        "O",
    ]
    flags += ["--steps", "5", "--structures", "2", "--formulas", "2", "--source", "demo", "--max-elements", "2"]
    assert main([*flags, "--output", str(tmp_path)]) == 0
    assert "-as-" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "structures.csv")
    assert {"prototype", "difference", "miss", "formation_energy [eV/atom]", "ehull low [eV/atom]"} <= set(
        table.columns
    )
    assert np.isfinite(table["ehull [eV/atom]"]).all()
    read = {one.id.removesuffix(".cif"): one for one in read_crystals([tmp_path / "structures"])}
    assert set(table["id"]) == {Path(name).name for name in read}
    for row in table.to_dict("records"):
        assert next(one.formula for name, one in read.items() if name.endswith(row["id"])) == row["formula"]


def test_excluded_elements_do_not_occur(run: Path, tmp_path: Path) -> None:
    flags = ["--model", str(run), "--objective", "pull=max", "--starts", "8", "--steps", "60", "--max-elements", "2"]
    for name, more in (("usual", []), ("named", ["--elements", "He,Ne,O,F"]), ("without", ["--without", "F"])):
        assert main([*flags, *more, "--output", str(tmp_path / name)]) == 0
    seen = {
        name: set(
            np.flatnonzero(
                fractions_of(pd.read_csv(tmp_path / name / "compositions.csv")["formula"]).any(axis=0)
            ).tolist()
        )
        for name in ("usual", "named", "without")
    }
    assert seen["usual"].isdisjoint({1, 9})  # helium, neon
    assert seen["named"] <= {1, 9, 7, 8}
    assert 8 in seen["usual"]  # fluorine pulls most
    assert seen["without"].isdisjoint({1, 8, 9})


def test_an_earlier_call_leaves_no_structures(run: Path, tmp_path: Path) -> None:
    flags = [
        "--model",
        str(run),
        "--objective",
        "pull=max",
        "--elements",
        "Mg,O",
        "--max-elements",
        "2",
        "--steps",
        "5",
    ]
    flags += ["--output", str(tmp_path), "--starts", "3"]
    assert main([*flags, "--structures", "2", "--formulas", "1", "--source", "demo"]) == 0
    table = pd.read_csv(tmp_path / "structures.csv")
    assert (table["miss"].diff().dropna() >= 0).all()
    assert len(list((tmp_path / "structures").glob("*.cif"))) == len(table) > 0
    assert main(flags) == 0
    assert not (tmp_path / "structures.csv").exists()
    assert not list((tmp_path / "structures").glob("*.cif"))


def test_latent_searches_need_seeds(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    flags = ["--model", str(run), "--objective", "pull=max", "--output", str(tmp_path)]
    assert main([*flags, "--method", "latent"]) == 2
    assert "starts from known compositions: give --seeds" in capsys.readouterr().err
    assert main([*flags, "--method", "latent", "--seeds", "MgO,NaCl", "--steps", "10"]) == 0
    table = pd.read_csv(tmp_path / "compositions.csv")
    assert np.isfinite(table[["pull in latent", "pull decoded", "pull of composition", "pull"]]).all(axis=None)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--objective", "pul=1"], "did you mean 'pull'"),
        (["--objective", "pull"], "is not an objective"),
        (["--objective", "pull=1", "--elements", "Mg,Xq"], "unknown element 'Xq'"),
        (["--objective", "pull=1", "--without", "Xq"], "--without: unknown element 'Xq'"),
        (["--objective", "pull=1", "--fix", "O"], "--fix takes amounts such as O=0.5"),
        (["--objective", "pull=1", "--fix", "O=0.5", "--max-elements", "1"], "leaves no element"),
        (["--objective", "pull=1", "--freeze-elements", "O"], "give seeds"),
        (["--objective", "pull=1", "--seeds", "Wat"], "seed 'Wat' is not a formula"),
        (["--objective", "pull=1", "--starts", "0"], "starts must be above 0"),
        (["--objective", "pull=nan"], "must be a finite number, not nan"),
        (["--objective", "pull=1", "--max-atoms", "0"], "max_atoms 2 or more"),
        (["--objective", "pull=1", "--seeds", "UO2"], "the seed UO2 contains U, which is not allowed"),
        (["--objective", "pull=1", "--seeds", "MgO", "--starts", "3"], "--seeds and --starts contradict"),
        (
            ["--want", "pull=1", "--method", "input", "--seeds", "MgO", "--without", "F"],
            "--without needs --method",
        ),
    ],
)
def test_an_invalid_call_is_one_line_with_a_fix(
    run: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["--model", str(run), *flags, "--output", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_an_exported_model_designs_the_same(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = export_model(run, tmp_path / "shared", "made")
    flags = ["--objective", "pull=2.2", "--starts", "3", "--steps", "20"]
    for source, name in ((run, "straight"), (folder, "exported")):
        assert main(["--model", str(source), *flags, "--output", str(tmp_path / name)]) == 0
    tables = [(tmp_path / name / "compositions.csv").read_text() for name in ("straight", "exported")]
    assert tables[0] == tables[1]
    assert "half width of all" in (folder / "README.md").read_text()
    with pytest.raises(UsageError, match="has no official tests"):
        export_model(run, tmp_path / "other", "made", run)


def test_older_flags_are_understood(run: Path, tmp_path: Path) -> None:
    values = ["--seeds", "MgO", "--steps", "5", "--max-elements", "2"]
    for name, flags in (
        ("current", ["--model", str(run), "--objective", "pull=2.4", "--freeze-elements", "O"]),
        ("older", ["--run", str(run), "--want", "pull=2.4", "--hold", "O"]),
    ):
        assert main([*flags, *values, "--output", str(tmp_path / name)]) == 0
    tables = [(tmp_path / name / "compositions.csv").read_text() for name in ("current", "older")]
    assert tables[0] == tables[1]


def test_other_models_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", str(tmp_path), "--objective", "gap=1"]) != 0
    assert "best.pt" in capsys.readouterr().err
    assert main(["--model", "jarvis-nine", "--objective", "band_gap=1"]) == 2
    assert "reads crystal structures, not compositions" in capsys.readouterr().err
