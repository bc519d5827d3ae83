"""The commands that the documents print can be given as printed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PARSED_ONLY = ("inference_multitask.py", "process_data_phase2.py")  # they know no dry run


def commands(document: str) -> list[tuple[str, ...]]:
    """Return script and flags of every command of the suite in the code blocks of a document."""
    found = []
    for line in (ROOT / document).read_text(encoding="utf-8").splitlines():
        if match := re.match(r" {4}\S*python\S* (scripts/phase2_multitask/|bootstrap\.py run )(.*)", line):
            script = ["run_phase2.py"] if match[1].startswith("bootstrap") else []
            found.append((*script, *shlex.split(match[2], comments=True)))
    return found


README, MANUAL = commands("README.md"), commands("OPERATION_MANUAL.md")


def test_the_commands_are_found() -> None:
    assert len(README) >= 8
    assert len(MANUAL) >= 15
    assert {command[0] for command in MANUAL} >= {*PARSED_ONLY, "run_matrix.py", "train_singletask.py"}


def test_the_readme_starts_the_three_tiers_and_two_specialists() -> None:
    started = [" ".join(command) for command in README]
    for level in ("lite", "std", "pro"):
        assert any(line.startswith(f"run_phase2.py --level {level}") for line in started), level
    for name in ("formation_energy", "dielectric"):
        assert any(line.startswith("train_singletask.py") and f"--property {name}" in line for line in started), name


@pytest.mark.parametrize("command", sorted({*README, *MANUAL}), ids=" ".join)
def test_every_command_can_be_given_as_printed(
    command: tuple[str, ...],
    script: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, *flags = command
    monkeypatch.chdir(tmp_path)
    if name == "inference_multitask.py":
        (tmp_path / "examples").symlink_to(ROOT / "examples")
        monkeypatch.setattr("crystrata.runs.find.SHIPPED", ROOT / "models" / "pretrained")
        assert script(name, *flags) == 0
        assert "formation_energy" in "".join(capsys.readouterr())
        assert (tmp_path / "phase2_preds.csv").is_file() == ("--output" in flags)
        return
    if name in PARSED_ONLY or "--only-missing" in flags:  # to know what is missing, even a dry run opens the data
        for verb in ("predict", "store", "several_runs"):
            monkeypatch.setattr(f"crystrata.cli.{verb}.run_verb", lambda action: 0)
        assert script(name, *flags) == 0
        return
    assert script(name, *flags, *([] if "--dry-run" in flags else ["--dry-run"])) == 0
    printed = capsys.readouterr().out
    assert printed
    if name != "run_matrix.py":
        assert yaml.safe_load(printed)["properties"]
    assert list(tmp_path.iterdir()) == []
