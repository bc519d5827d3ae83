"""The hosted workflow names real files, commands and versions, and can do no harm."""

from __future__ import annotations

import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from crystrata.cli.train import main as train

Workflow = dict[Any, Any]


@pytest.fixture(scope="module")
def workflow(root: Path) -> Workflow:
    return yaml.safe_load((root / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def steps(workflow: Workflow) -> Iterator[dict[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


def commands(workflow: Workflow) -> list[list[str]]:
    return [shlex.split(line) for step in steps(workflow) for line in step.get("run", "").splitlines()]


def test_every_system_and_python_of_the_package_is_tested(workflow: Workflow, project: dict[str, Any]) -> None:
    named = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line) for line in project["classifiers"]]
    pythons = [match[1] for match in named if match]
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == pythons
    assert project["requires-python"] == f">={pythons[0]}"
    assert [system.split("-")[0] for system in matrix["os"]] == ["ubuntu", "windows", "macos"]
    ends = {
        entry["resolution"]: entry["python"] for entry in workflow["jobs"]["range"]["strategy"]["matrix"]["include"]
    }
    assert ends == {"lowest-direct": pythons[0], "highest": pythons[-1]}
    setups = [step["with"]["python-version"] for step in steps(workflow) if "setup-python" in step.get("uses", "")]
    assert set(setups) <= {*pythons, "${{ matrix.python }}"}


def test_what_it_runs_is_there(workflow: Workflow, root: Path, project: dict[str, Any]) -> None:
    verbs = re.search(r"bootstrap.py \{([a-z,]+)\}", (root / "bootstrap.py").read_text(encoding="utf-8"))
    assert verbs is not None
    made = {"sbom.json", "installed.txt"}
    ran = commands(workflow)
    for words in ran:
        files = [word for word in words if re.fullmatch(r"[\w./-]+\.(py|txt|toml|json)", word)]
        assert [name for name in files if name not in made and not (root / name).is_file()] == []
        if "bootstrap.py" in words:
            assert words[words.index("bootstrap.py") + 1] in verbs[1].split(",")
        assert [extra for extra in re.findall(r"\.\[(\w+)\]", " ".join(words)) if extra not in
                project["optional-dependencies"]] == []  # fmt: skip
    assert ["python", "bootstrap.py", "test"] in ran
    cached = [
        step["with"]["cache-dependency-path"].split() for step in steps(workflow) if "cache" in step.get("with", {})
    ]
    assert len(cached) == len(workflow["jobs"])
    assert [name for names in cached for name in names if not (root / name).is_file()] == []


def test_it_can_do_no_harm(workflow: Workflow) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert [
        name for name, job in workflow["jobs"].items() if "permissions" in job or "timeout-minutes" not in job
    ] == []
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert [action for action in used if not re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action)] == []
    checkouts = [step for step in steps(workflow) if "actions/checkout" in step.get("uses", "")]
    assert len(checkouts) == len(workflow["jobs"])
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)
    assert not any("${{" in step.get("run", "") for step in steps(workflow))  # text of others would become a command


def test_no_cuda_is_downloaded(workflow: Workflow) -> None:
    assert workflow["env"]["PIP_EXTRA_INDEX_URL"] == "https://download.pytorch.org/whl/cpu"
    for job in workflow["jobs"].values():
        if any("uv pip install" in step.get("run", "") for step in job["steps"]):
            assert job["env"]["UV_TORCH_BACKEND"] == "cpu"


def test_the_trial_of_the_wheel_gives_flags_that_exist(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = runpy.run_path(str(root / ".ci" / "try_wheel.py"))
    assert train([*trial["TRAIN"], "--dry-run"]) == 0
    assert "workers: 2" in capsys.readouterr().out
    held = trial["sources"](root / "src")
    assert {"crystrata/__main__.py", "crystrata/py.typed", "crystrata/cli/main.py"} <= held
    assert not any("__pycache__" in name for name in held)
