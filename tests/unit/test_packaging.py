"""What is installed is what was meant: versions, requirements, ignore rules, and the set-up script."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import crystrata


@pytest.fixture(scope="module")
def pyproject(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture
def bootstrap(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", root / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pins(root: Path) -> dict[str, str]:
    """Return name -> version of constraints.txt; every line must be an exact pin."""
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    matches = {line: re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][0-9.]*)", line) for line in lines if line[:1] not in "#"}
    assert all(matches.values()), [line for line, match in matches.items() if not match]
    return {canonicalize_name(match[1]): match[2] for match in matches.values() if match}


def requirements(pyproject: dict[str, Any]) -> list[Requirement]:
    project = pyproject["project"]
    return [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["dev"]]


def test_one_version_everywhere(root: Path, pyproject: dict[str, Any]) -> None:
    meant = pyproject["project"]["version"]
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == meant
    assert citation["license"] == pyproject["project"]["license"]
    assert crystrata.__version__.removesuffix("+source") == meant


def test_every_direct_dependency_is_pinned_within_its_range(root: Path, pyproject: dict[str, Any]) -> None:
    pinned = pins(root)
    wanted = {str(canonicalize_name(requirement.name)): requirement for requirement in requirements(pyproject)}
    assert set(pinned) == set(wanted)
    assert [f"{wanted[name]}: {pin}" for name, pin in pinned.items() if pin not in wanted[name].specifier] == []


def test_what_is_installed_lies_in_the_ranges(pyproject: dict[str, Any]) -> None:
    outside = []
    for requirement in requirements(pyproject):
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            continue  # a machine with part of the libraries may still run part of the tests
        if not requirement.specifier.contains(found, prereleases=True):
            outside.append(f"{requirement}: {found}")
    assert outside == []


def test_every_command_has_its_function(pyproject: dict[str, Any]) -> None:
    for entry in pyproject["project"]["scripts"].values():
        module, _, name = entry.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


def test_torch_is_never_a_build_requirement(pyproject: dict[str, Any]) -> None:
    assert not any("torch" in requirement for requirement in pyproject["build-system"]["requires"])
    extra = Requirement(pyproject["project"]["optional-dependencies"]["scatter"][0])
    metadata = pyproject["tool"]["uv"]["dependency-metadata"][0]
    assert extra.name == metadata["name"] == pyproject["tool"]["uv"]["no-build-isolation-package"][0]
    assert metadata["version"] in extra.specifier


def test_ignore_rules_swallow_no_source(root: Path) -> None:
    if shutil.which("git") is None or not (root / ".git").exists():
        pytest.skip("not a git checkout")
    sources = [
        path.relative_to(root).as_posix()
        for folder in ("src", "tests", "scripts", "benchmarks", "examples", "docs")
        for path in (root / folder).rglob("*")
        if path.is_file()
        and not any(part[0] == "." or part in ("__pycache__", "logs") for part in path.relative_to(root).parts)
    ]
    future = [f"src/crystrata/{name}/module.py" for name in ("models", "data", "build", "dist")]
    asked = "\n".join([*sources, *future, ".venv/x", "data/x", "models/x"])
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"], cwd=root, input=asked, capture_output=True, text=True
    )
    assert done.stdout.split("\n")[:-1] == [".venv/x", "data/x", "models/x"], done.stderr


def test_readme_belongs_to_the_package_and_shows_the_two_commands(root: Path, pyproject: dict[str, Any]) -> None:
    if not (root / "README.md").exists():
        pytest.skip("there is no README.md")
    text = (root / "README.md").read_text(encoding="utf-8")
    assert "python bootstrap.py run" in text
    assert "python bootstrap.py test" in text
    assert pyproject["project"].get("readme") == "README.md"


def test_stamp_follows_what_the_environment_depends_on(bootstrap: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("a")
    (tmp_path / "constraints.txt").write_text("b")
    seen = [bootstrap.stamp(tmp_path, (3, 11)), bootstrap.stamp(tmp_path, (3, 12))]
    assert seen[0] == bootstrap.stamp(tmp_path, (3, 11))
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("c")
        seen.append(bootstrap.stamp(tmp_path, (3, 11)))
    seen.append(bootstrap.stamp(Path(shutil.copytree(tmp_path, tmp_path / "moved")), (3, 11)))
    assert len(set(seen)) == 5


def test_interpreter_of_each_system(bootstrap: ModuleType) -> None:
    assert bootstrap.interpreter(Path("v"), windows=True) == Path("v/Scripts/python.exe")
    assert bootstrap.interpreter(Path("v"), windows=False) == Path("v/bin/python")


def test_half_installed_packages_are_forgotten(bootstrap: ModuleType, tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    for name in ("half-1.dist-info", "whole-1.dist-info"):
        (site / name).mkdir(parents=True)
        (site / name / "METADATA").touch()
    (site / "whole-1.dist-info" / "INSTALLER").touch()
    bootstrap.forget_half_installed(tmp_path)
    assert [path.name for path in site.iterdir()] == ["whole-1.dist-info"]


def stand_in(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, folder: Path, failing: str = ""
) -> list[list[str]]:
    """Point the script at `folder` and record its commands instead of running them; those with `failing` fail."""
    calls: list[list[str]] = []

    def call(command: list[str], **_: object) -> int:
        calls.append(command)
        return int(failing in command)

    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).write_text(name)
    (folder / ".venv").mkdir()
    monkeypatch.setattr(bootstrap, "ROOT", folder)
    monkeypatch.setattr(bootstrap, "VENV", folder / ".venv")
    monkeypatch.setattr(bootstrap, "STAMP", folder / ".venv" / "stamp")
    monkeypatch.setattr(bootstrap.subprocess, "call", call)
    return calls


def test_an_environment_is_made_once_and_again_when_stale(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = stand_in(bootstrap, monkeypatch, tmp_path)
    bootstrap.set_up()
    steps = [next(word for word in ("venv", "ensurepip", "pip") if word in call) for call in calls]
    assert steps == ["venv", "ensurepip", "pip"]
    assert calls[-1][-4:] == ["-c", "constraints.txt", "-e", ".[dev]"]
    calls.clear()
    bootstrap.set_up()
    assert calls == []
    (tmp_path / "constraints.txt").write_text("newer")
    bootstrap.set_up()
    assert len(calls) == 3


def test_a_failed_set_up_leaves_no_stamp(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(bootstrap, monkeypatch, tmp_path, failing="install")
    with pytest.raises(SystemExit, match="the next call goes on from here"):
        bootstrap.set_up()
    assert not (tmp_path / ".venv" / "stamp").exists()


@pytest.mark.skipif(os.name == "nt", reason="the child replaces the script on POSIX only")
def test_run_hands_arguments_folder_and_exit_code_over(root: Path, bootstrap: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "scripts" / "phase2_multitask").mkdir(parents=True)
    for name in ("bootstrap.py", "pyproject.toml", "constraints.txt"):
        shutil.copy(root / name, tmp_path)
    program = "import os, sys\nprint(os.getcwd(), sys.argv[1:])\nsys.exit(7)"
    (tmp_path / "scripts" / "phase2_multitask" / "run_phase2.py").write_text(program)
    python = bootstrap.interpreter(tmp_path / ".venv")
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (tmp_path / ".venv" / "crystrata-setup").write_text(bootstrap.stamp(tmp_path.resolve(), sys.version_info[:2]))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for arguments, seen in ((["--level", "lite"], ["--level", "lite"]), ([], bootstrap.DEMO)):
        command = [sys.executable, str(tmp_path / "bootstrap.py"), "run", *arguments]
        done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (7, f"{elsewhere.resolve()} {seen}\n"), done.stderr


def test_old_python_can_read_the_script_far_enough_to_be_told(root: Path) -> None:
    ast.parse((root / "bootstrap.py").read_text(encoding="utf-8"), feature_version=(3, 6))


def test_unknown_verbs_are_refused_before_anything_is_made(
    bootstrap: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bootstrap.main(["instal"]) == 2
    assert "python bootstrap.py {run,test,check,setup}" in capsys.readouterr().err
