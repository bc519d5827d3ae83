"""The dispatcher: every cell as the specification prints it, overrides, contradictions, and what a mistake answers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from crystrata import __version__
from crystrata.cli import main as console
from crystrata.cli.train import EntryPoint, build_parser, config_of, main
from crystrata.errors import CrystrataError, DataError, ModelError, StorageError, TrainingError
from crystrata.jarvis_properties import GROUPS
from crystrata.presets import PRESETS, PROFILES
from crystrata.runs.cells import Cell, matrix_cells
from crystrata.runs.config import RunConfig
from crystrata.workflows.documents.document import read_document
from crystrata.workflows.documents.experiment import document_of, read_experiment

STD, PRO, LITE, CGCNN = (f"train_multitask_{name}.py" for name in ("std", "pro", "lite", "cgcnn"))

# Printed: backend script, family, epochs, batch, learning rate, size, most samples; None where nothing is printed.
CELLS: dict[tuple[str, str], tuple[Any, ...]] = {
    ("e3nn", "smoke"): (STD, "multitask_std_e3nn", 5, 8, 2e-3, "std", None),
    ("e3nn", "lite"): (LITE, "multitask_lite_e3nn", 2, 4, 1e-2, "lite", 140),
    ("e3nn", "std"): (STD, "multitask_std_e3nn", 100, 16, 1e-3, "std", None),
    ("e3nn", "pro"): (PRO, "multitask_pro_e3nn", 500, 4, 5e-4, "pro", None),
    ("e3nn", "max"): (PRO, "multitask_pro_e3nn", 800, 4, 3e-4, "pro", None),
    ("e3nn", "competition"): (PRO, "multitask_pro_e3nn", 260, 6, 4.5e-4, "pro", None),
    ("e3nn", "leaderboard"): (STD, "multitask_std_e3nn", 40, 32, 3e-3, "std", None),
    ("cgcnn", "smoke"): (CGCNN, "multitask_cgcnn", 5, 64, 1e-3, "small", 800),
    ("cgcnn", "lite"): (CGCNN, "multitask_cgcnn", 40, 96, 1e-3, "small", 3000),
    ("cgcnn", "std"): (CGCNN, "multitask_cgcnn", 200, 128, 1e-3, "medium", None),
    ("cgcnn", "pro"): (CGCNN, "multitask_cgcnn", 300, 128, 1e-3, "large", None),
    ("cgcnn", "max"): (CGCNN, "multitask_cgcnn", 500, 160, 7e-4, "large", None),
    ("cgcnn", "competition"): (CGCNN, "multitask_cgcnn", 280, 128, 9e-4, "medium", None),
    ("cgcnn", "leaderboard"): (CGCNN, "multitask_cgcnn", 40, 64, 3e-3, "medium", None),
}
NINE = [
    "formation_energy", "band_gap", "band_gap_mbj", "bulk_modulus", "shear_modulus", "dielectric", "piezoelectric",
    "spillage", "ehull",
]  # fmt: skip
SHOWN = ("family", "epochs", "batch_size", "lr", "size", "max_samples")
Resolve = Callable[..., dict[str, Any]]


@pytest.fixture
def resolve(capsys: pytest.CaptureFixture[str]) -> Resolve:
    """What `--dry-run` prints for some flags."""

    def resolved(*flags: object, entry: EntryPoint | None = None) -> dict[str, Any]:
        assert main([*map(str, flags), "--dry-run"], entry) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return yaml.safe_load(captured.out)

    return resolved


def refused(capsys: pytest.CaptureFixture[str], *flags: object, entry: EntryPoint | None = None) -> str:
    """The one line on standard error with which flags are refused, exit code 2."""
    try:
        code = main([*map(str, flags), "--dry-run"], entry)
    except SystemExit as ended:
        code = ended.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def cell_flags(algorithm: str, mode: str) -> list[str]:
    return ["--algorithm", algorithm, *(["--profile", mode] if mode in PROFILES else ["--level", mode])]


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_a_dry_run_prints_the_table(cell: tuple[str, str], resolve: Resolve) -> None:
    shown = resolve(*cell_flags(*cell))
    assert (PRESETS[cell].script, *(shown[name] for name in SHOWN)) == CELLS[cell]
    assert (shown["algorithm"], shown["mode"]) == cell
    assert shown["properties"] == ["formation_energy", "band_gap", "bulk_modulus", "shear_modulus"]


def test_there_are_fourteen_cells() -> None:
    assert set(CELLS) == set(PRESETS)
    assert len(CELLS) == 14


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_the_backend_script_runs_the_same(
    cell: tuple[str, str], resolve: Resolve, script: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = resolve(*cell_flags(*cell), "--all-properties", "--epochs", 3)
    flags = cell_flags(*cell)[2:]
    assert script(PRESETS[cell].script, *flags, "--all-properties", "--epochs", 3, "--dry-run") == 0
    assert yaml.safe_load(capsys.readouterr().out) == expected


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        (number + name, cell)
        for number, name, cell in (
            ("21_", STD, ("e3nn", "std")), ("22_", PRO, ("e3nn", "pro")), ("20_", LITE, ("e3nn", "lite")),
            ("12_", CGCNN, ("cgcnn", "std")),
        )
        for number in ("", number)
    ],
)  # fmt: skip
def test_a_script_alone_runs_the_level_of_its_name(
    name: str, cell: tuple[str, str], resolve: Resolve, script: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = resolve(*cell_flags(*cell))
    assert script(name, "--dry-run") == 0
    assert yaml.safe_load(capsys.readouterr().out) == expected


def test_the_older_script_of_specialists_means_pro(
    resolve: Resolve, script: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    for flags, level in (((), "pro"), (("--level", "std"), "std")):
        assert script("32_train_singletask_pro.py", "--property", "band_gap", *flags, "--dry-run") == 0
        older = yaml.safe_load(capsys.readouterr().out)
        assert script("train_singletask.py", "--property", "band_gap", "--level", level, "--dry-run") == 0
        assert older == yaml.safe_load(capsys.readouterr().out)
        assert older["mode"] == level


def test_without_flags_it_is_e3nn_std(resolve: Resolve) -> None:
    assert resolve() == resolve("--algorithm", "e3nn", "--level", "std", "--seed", 42)


def test_a_dry_run_is_the_configuration_and_leaves_no_file(
    resolve: Resolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = resolve("--algorithm", "cgcnn", "--level", "max", "--source", "demo", "--resume")
    family, properties = shown.pop("family"), shown.pop("properties")
    config = RunConfig.from_dict(shown)
    assert config.as_dict() == shown
    assert (config.family, list(config.properties)) == (family, properties)
    assert list(tmp_path.iterdir()) == []


def test_which_properties(resolve: Resolve) -> None:
    assert resolve("--all-properties")["properties"] == NINE
    assert resolve("--properties", "ehull, band_gap")["properties"] == ["band_gap", "ehull"]
    for group, names in GROUPS.items():
        assert set(resolve("--property-group", group)["properties"]) == set(names)
    assert resolve("--competition", "--all-properties")["properties"] == NINE
    assert resolve("--properties", "ehull_official,ehull")["properties"] == ["ehull", "ehull_official"]
    alone = resolve("--property", "ehull_official", entry=EntryPoint("one.py", single_task=True))
    assert (alone["properties"], alone["family"]) == (["ehull_official"], "singletask_std_e3nn/ehull_official")


@pytest.mark.parametrize(
    ("flag", "value", "name"),
    [
        ("--epochs", 7, "epochs"),
        ("--lr", 3e-4, "lr"),
        ("--batch-size", 5, "batch_size"),
        ("--max-samples", 900, "max_samples"),
        ("--seed", 1, "seed"),
        ("--device", "cpu", "device"),
        ("--workers", 2, "workers"),
        ("--patience", 4, "patience"),
        ("--source", "demo", "source"),
        ("--data-file", "x.json", "data_file"),
        ("--release", "dft_3d_2022", "release"),
        ("--data-dir", "d", "data_dir"),
        ("--models-dir", "m", "models_dir"),
        ("--run-id", "mine", "run_id"),
        ("--outlier-z", 5.0, "outlier_z"),
    ],
)
@pytest.mark.parametrize("base", [("--competition",), ("--algorithm", "cgcnn", "--level", "smoke")], ids=str)
def test_an_override_on_top(base: tuple[str, ...], flag: str, value: object, name: str, resolve: Resolve) -> None:
    plain, changed = resolve(*base), resolve(*base, flag, value)
    assert changed[name] == value
    may_follow = {name, "patience"} if name == "epochs" else {name}
    assert {key for key in plain if plain[key] != changed[key]} <= may_follow


def test_the_outlier_filter_can_be_left_out(resolve: Resolve) -> None:
    assert resolve()["outlier_filter"] is True
    assert resolve("--no-filter")["outlier_filter"] is False


def test_sizes_have_one_vocabulary_in_both_tracks(resolve: Resolve) -> None:
    sizes = {
        algorithm: [
            resolve("--algorithm", algorithm, "--preset", size)["size"] for size in ("small", "medium", "large")
        ]
        for algorithm in ("e3nn", "cgcnn")
    }
    assert sizes == {"e3nn": ["lite", "std", "pro"], "cgcnn": ["small", "medium", "large"]}
    large = resolve("--algorithm", "cgcnn", "--competition", "--preset", "large")
    assert (large["size"], large["epochs"], large["structure_settings"]["channels"]) == ("large", 280, 256)


def test_the_reference_trunk_can_be_chosen(resolve: Resolve) -> None:
    shown = resolve("--encoder", "plain_e3nn", "--level", "lite")
    assert (shown["structure"], shown["algorithm"], shown["family"]) == ("plain_e3nn", "e3nn", "multitask_lite_e3nn")


def test_another_head_can_be_chosen(resolve: Resolve) -> None:
    tasks = resolve("--all-properties", "--head", "band_gap = gap", "--head", "dielectric=scalar")["tasks"]
    kinds = {task["name"]: task["kind"] for task in tasks}
    assert (kinds["band_gap"], kinds["dielectric"], kinds["bulk_modulus"]) == ("gap", "scalar", "scalar")


def test_the_competition_wins_over_a_level_with_one_notice(
    resolve: Resolve, capsys: pytest.CaptureFixture[str]
) -> None:
    competition = resolve("--competition")
    assert main(["--competition", "--level", "lite", "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert yaml.safe_load(captured.out) == competition
    assert captured.err == "notice: the profile competition takes precedence over --level lite\n"
    assert resolve("--level", "competition") == competition  # no notice: nothing is overruled
    assert resolve("--level", "competition", "--competition") == competition
    assert resolve("--profile", "competition") == competition


def test_the_leaderboard_profile_has_training_settings_of_its_own(resolve: Resolve) -> None:
    assert resolve("--profile", "leaderboard")["weight_decay"] == 0.05
    assert resolve("--level", "std")["weight_decay"] == 1e-5
    assert resolve("--profile", "leaderboard", "--weight-decay", 0.2)["weight_decay"] == 0.2
    assert resolve("--algorithm", "cgcnn", "--profile", "leaderboard")["schedule"] == "cosine"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--level", "prro"], "unknown level 'prro'; did you mean 'pro'?"),
        (["--properties", "bandgap"], "unknown property 'bandgap'; did you mean 'band_gap'?"),
        (["--properties", "ehull,bulk_modulos"], "unknown property 'bulk_modulos'; did you mean 'bulk_modulus'?"),
        (["--epoch", "5"], "unknown argument --epoch; did you mean '--epochs'?"),
        (["--max_samples=9"], "unknown argument --max_samples; did you mean '--max-samples'?"),
        (["--algorithm", "e3n"], "unknown algorithm 'e3n'; did you mean 'e3nn'?"),
        (["--algorithm", "CGCNN"], "unknown algorithm 'CGCNN'; did you mean 'cgcnn'?"),
        (["--property-group", "core"], "unknown property group 'core'; did you mean 'core4'?"),
        (["--preset", "smal"], "unknown size of e3nn 'smal'; did you mean 'small'?"),
        (["--source", "jarvi"], "unknown --source 'jarvi'; did you mean 'jarvis'?"),
        (["--encoder", "plain_e3n"], "'plain_e3n'; did you mean 'plain_e3nn'?"),
        (["--angles", "cache"], "did you mean 'cached'?"),
        (["--release", "dft_3d_2O22"], "did you mean 'dft_3d_2022'?"),
        (["--properties", ","], "no property is named"),
        (["--properties", ""], "no property is named"),
        (["--device", "gpu"], "unknown --device 'gpu'"),
        (["--head", "bandgap=gap"], "unknown property in --head 'bandgap'; did you mean 'band_gap'?"),
        (["--head", "band_gap=gab"], "unknown head of band_gap 'gab'; did you mean 'gap'?"),
        (["--head", "band_gap=dielectric"], "unknown head of band_gap 'dielectric'"),
        (["--properties", "ehull", "--head", "ehull=scalar"], "ehull has no head: it follows from formation_energy"),
    ],
    ids=str,
)
def test_an_unknown_name_is_refused_with_the_nearest(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, *flags)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--all-properties", "--properties", "ehull"], "--all-properties and --properties contradict each other"),
        (["--all-properties", "--property-group", "core4"], "--property-group contradict each other"),
        (["--source", "demo", "--data-file", "x.json"], "--source demo and --data-file contradict each other"),
        (["--resume", "--run-id", "a"], "--resume and --run-id contradict each other"),
        (["--algorithm", "cgcnn", "--encoder", "e3nn"], "encoder"),
        (["--algorithm", "e3nn", "--encoder", "cgcnn"], "encoder"),
        (["--head", "band_gap"], "write the property and its kind of head, as in --head dielectric=scalar"),
        (["--head", "band_gap="], "write the property and its kind of head"),
        (["--head", "=gap"], "write the property and its kind of head"),
        (["--head", "spillage=scalar"], "--head names spillage, which this run does not train"),
        (["--encoder", "plain_e3nn", "--angles", "cached"], "--angles and --encoder plain_e3nn contradict each other"),
        (["--lr", "-1"], "--lr must be above 0, not -1"),
        (["--lr", "0"], "--lr must be above 0"),
        (["--lr", "nan"], "--lr must be a finite number"),
        (["--lr", "inf"], "--lr must be"),
        (["--lr", "fast"], "argument --lr: invalid float value: 'fast'"),
        (["--epochs", "0"], "--epochs must be above 0, not 0"),
        (["--epochs", "2.5"], "argument --epochs: invalid int value: '2.5'"),
        (["--batch-size", "0"], "--batch-size must be above 0"),
        (["--max-samples", "10"], "--max-samples must be 60 or more"),
        (["--patience", "0"], "--patience must be above 0"),
        (["--workers", "-1"], "--workers must be 0 or more"),
        (["--seed", "-1"], "--seed must"),
        (["--outlier-z", "0"], "--outlier-z must be above 0"),
    ],
    ids=str,
)
def test_a_contradiction_or_a_value_without_meaning_is_refused(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, *flags)


@pytest.mark.parametrize(
    ("entry", "flags", "said"),
    [
        (
            EntryPoint(STD, "e3nn", "std", ("smoke", "std")),
            ["--level", "pro"],
            "unknown level 'pro' (known: smoke, std)",
        ),
        (EntryPoint(STD, "e3nn", "std", ("smoke", "std"), ()), ["--competition"], "unknown argument --competition"),
        (
            EntryPoint(STD, "e3nn", "std", ("smoke", "std"), ()),
            ["--level", "competition"],
            "unknown level 'competition'",
        ),
        (EntryPoint(LITE, "e3nn", "lite", ("lite",), ()), ["--level", "competition"], "unknown level 'competition'"),
        (EntryPoint(LITE, "e3nn", "lite", ("lite",)), ["--level", "std"], "unknown level 'std' (known: lite)"),
        (EntryPoint(CGCNN, "cgcnn", "std"), ["--algorithm", "e3nn"], "unknown argument --algorithm"),
        (EntryPoint("one.py", single_task=True), [], "the following arguments are required: --property"),
        (EntryPoint("one.py", single_task=True), ["--property", "bandgap"], "did you mean 'band_gap'?"),
        (EntryPoint("one.py", single_task=True), ["--property", "ehull", "--all-properties"], "unknown argument"),
    ],
)
def test_a_script_refuses_what_it_does_not_do(
    entry: EntryPoint, flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, *flags, entry=entry)
    assert said in message
    assert entry.program in message or message.startswith("error: ")


def test_no_abbreviated_flag_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean '--all-properties'?" in refused(capsys, "--all-prop")


@pytest.mark.parametrize(
    ("flags", "family", "size"),
    [
        ([], "singletask_std_e3nn/dielectric", "std"),
        (["--level", "lite"], "singletask_lite_e3nn/dielectric", "lite"),
        (["--competition"], "singletask_pro_e3nn/dielectric", "pro"),
        (["--algorithm", "cgcnn", "--level", "pro"], "singletask_cgcnn/dielectric", "large"),
    ],
)
def test_specialists(
    flags: list[str], family: str, size: str, script: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert script("train_singletask.py", "--property", "dielectric", *flags, "--dry-run") == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["family"], shown["properties"], shown["size"]) == (family, ["dielectric"], size)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TrainingError("the loss is not finite"), 1),
        (StorageError("no space"), 1),
        (ModelError("no model"), 2),
        (DataError("cut file"), 2),
        (CrystrataError("anything"), 2),
        (KeyboardInterrupt(), 130),
        (None, 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_exit_code_is_that_of_the_run(
    error: BaseException | None, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: object) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr("crystrata.workflows.run.run", run)
    assert main(["--level", "lite"]) == code
    said = capsys.readouterr().err
    assert said == ("" if error is None else f"error: {error}\n" if str(error) else "interrupted\n")


def test_a_defect_of_the_program_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("crystrata.workflows.run.run", run)
    with pytest.raises(RuntimeError, match="a defect"):
        main(["--level", "lite"])


HELP = """
import runpy, sys
from pathlib import Path
heavy = {"torch", "lightning", "e3nn", "torch_geometric", "pymatgen", "ase", "jarvis", "pyarrow", "matplotlib", "numba"}
for file in sorted(Path(sys.argv[1]).glob("*.py")):
    sys.argv = [str(file), "--help"]
    try:
        runpy.run_path(str(file), run_name="__main__")
    except SystemExit as ended:
        print("ended", file.name, ended.code, sorted(heavy & set(sys.modules)))
"""


def test_every_script_has_help_that_loads_nothing_heavy(root: Path) -> None:
    folder = root / "scripts" / "phase2_multitask"
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, "-c", HELP, str(folder)], capture_output=True, text=True, env=environment, timeout=60
    )
    names = sorted(file.name for file in folder.glob("*.py"))
    assert done.returncode == 0, done.stderr
    ends = [line for line in done.stdout.splitlines() if line.startswith("ended ")]
    assert ends == [f"ended {name} 0 []" for name in names]
    assert [name[0] in "123" or f"usage: {name} " in done.stdout for name in names] == [True] * len(names)
    assert done.stdout.count("usage: train_multitask_std.py ") == 2  # of the older name too


def test_the_console_command_and_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.main(["train", "--level", "lite", "--dry-run"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["mode"] == "lite"
    assert console.main(["--version"]) == 0
    assert capsys.readouterr().out == f"crystrata {__version__}\n"
    assert console.main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(verb in listed for verb in ("train", "predict", "store"))
    assert console.main([]) == 2
    assert "usage: crystrata" in capsys.readouterr().out
    assert console.main(["trian"]) == 2
    assert capsys.readouterr().err == "crystrata: error: unknown verb 'trian'; did you mean 'train'?\n"


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_the_yaml_of_a_dry_run_gives_the_same_run(
    cell: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*cell_flags(*cell), "--all-properties", "--batch-size", "7", "--run-id", "mine", "--time-budget", "0.3"]
    wanted = config_of(build_parser(EntryPoint()).parse_args(flags), EntryPoint())
    assert main([*flags, "--dry-run", "yaml"]) == 0
    (tmp_path / "run.yaml").write_text(capsys.readouterr().out)
    experiment, notices = read_experiment(read_document([("", tmp_path / "run.yaml")]))
    assert experiment.config == wanted
    assert experiment.config.digest() == wanted.digest()
    assert notices == []


@pytest.mark.parametrize("cell", matrix_cells(), ids=lambda cell: cell.name)
def test_every_model_of_the_matrix_has_its_yaml(cell: Cell) -> None:
    experiment, _ = read_experiment(yaml.safe_load(yaml.safe_dump(document_of(cell.config))))
    assert experiment.config == cell.config
