"""The house stands: imports run downwards only, heavy libraries are imported late, names say what a thing is."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FLOORS = {
    **dict.fromkeys("__init__ tasks jarvis_properties older_names settings presets graph_settings".split(), 0),
    **dict.fromkeys("elements errors files parallel".split(), 0),
    **dict.fromkeys(("structures", "compositions"), 1),
    "hull": 1.1,
    "sources": 1.2,
    **dict.fromkeys(("graphs", "runs"), 2),
    "datasets": 3,
    "networks": 4,
    "training": 5,
    "prediction": 6,
    "design": 7,
    "reports": 8,
    "workflows": 9,
    **dict.fromkeys(("cli", "web"), 10),
    "__main__": 11,
}
"""Part of the package (a folder, or a module at the top) -> floor. Modules of the lowest floor may import one another;
a hull is made of compositions, a source of both, and a configuration names its source."""

OPEN_TO_SCRIPTS = {"cli", "workflows"}
HEAVY = {"pymatgen", "jarvis", "ase", "omegaconf", "pydantic"}
NAMES_THAT_SAY_NOTHING = {"util", "utils", "helper", "helpers", "misc", "common", "manager", "managers"}


def imports(tree: ast.AST, module: str, package: bool, *, late: bool = True) -> Iterator[tuple[int, str]]:
    """Yield (line, absolute dotted name) of the imports of a module; without `late` only those made on its import."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            anchor = module.split(".")[: len(module.split(".")) - node.level + package] if node.level else []
            base = ".".join([*anchor, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif late or not (isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or _typing_only(node)):
            yield from imports(node, module, package, late=late)


def _typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not node.orelse


def modules(source: Path) -> Iterator[tuple[Path, str, bool, ast.Module]]:
    """Yield (file, dotted name, whether it is a package, syntax tree) of every module under `source`."""
    for file in sorted(source.rglob("*.py")):
        parts = file.relative_to(source).with_suffix("").parts
        package = parts[-1] == "__init__"
        yield file, ".".join(parts[:-1] if package else parts), package, ast.parse(file.read_text(encoding="utf-8"))


def part_of(dotted: str) -> str:
    """Return the part of the package that a name under `crystrata` lies in: `crystrata.graphs.batch` -> `graphs`."""
    second = dotted.split(".")[1] if "." in dotted else "__init__"
    return "__init__" if second == "__version__" else second


def violations(source: Path) -> list[str]:
    """Return every breach of the floors and of the late imports in a source tree that holds `crystrata/`."""
    found = []
    for file, module, package, tree in modules(source):
        here = part_of(module)
        if here not in FLOORS:
            found.append(f"{file}: {here!r} stands on no floor")
            continue
        for line, name in imports(tree, module, package):
            there = part_of(name)
            if name.split(".")[0] != "crystrata" or there == here:
                continue
            if there not in FLOORS:
                found.append(f"{file}:{line}: {name} stands on no floor")
            elif FLOORS[there] > FLOORS[here] or FLOORS[there] == FLOORS[here] > 0:
                found.append(f"{file}:{line}: {here} (floor {FLOORS[here]}) imports {there} (floor {FLOORS[there]})")
        for line, name in imports(tree, module, package, late=False):
            if name.split(".")[0] in HEAVY:
                found.append(f"{file}:{line}: {name} is heavy: import it in the function that uses it")
    return found


def script_violations(scripts: Path) -> list[str]:
    """Return every import of a script that reaches past the entry points of the package."""
    return [
        f"{file}:{line}: scripts may import {sorted(OPEN_TO_SCRIPTS)} only, not {name}"
        for file, module, package, tree in modules(scripts)
        for line, name in imports(tree, module, package)
        if name.split(".")[0] == "crystrata" and part_of(name) not in OPEN_TO_SCRIPTS
    ]


def empty_names(*folders: Path) -> list[str]:
    """Return the Python files and packages whose name has a word that says nothing."""
    paths = (path for folder in folders for path in folder.rglob("*") if path.suffix == ".py" or path.is_dir())
    return [str(path) for path in paths if NAMES_THAT_SAY_NOTHING & set(path.stem.lower().split("_"))]


def test_imports_run_downwards(root: Path) -> None:
    assert len(list(modules(root / "src"))) > 5
    assert violations(root / "src") == []


def test_scripts_enter_through_the_entry_points(root: Path) -> None:
    assert script_violations(root / "scripts") == []


def test_names_say_something(root: Path) -> None:
    assert empty_names(*(root / name for name in ("src", "scripts", "benchmarks", "examples", "tests"))) == []


@pytest.mark.parametrize("verb", [[], ["train"], ["predict"], ["evaluate"], ["continual"]], ids=" ".join)
def test_help_imports_nothing_heavy(root: Path, verb: list[str]) -> None:
    program = (
        f"import sys\nfrom crystrata.cli.main import main\nsys.argv = ['crystrata', *{verb}, '--help']\n"
        "try:\n    main()\nexcept SystemExit as exit:\n    assert not exit.code, exit.code\n"
        "heavy = [name for name in ('torch', 'pydantic', 'pandas') if name in sys.modules]\n"
        "assert not heavy, f'{heavy} were imported'"
    )
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "crystrata" in done.stdout


def write_tree(source: Path, files: dict[str, str]) -> Path:
    """Write modules (path under `source` -> text) and return `source`."""
    for name, text in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    return source


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("graphs/store.py", "from crystrata.datasets import x", "graphs (floor 2) imports datasets (floor 3)"),
        ("graphs/store.py", "from crystrata import datasets", "graphs (floor 2) imports datasets (floor 3)"),
        ("graphs/store.py", "def f():\n    import crystrata.runs.run", "graphs (floor 2) imports runs (floor 2)"),
        ("graphs/store.py", "from ..training import x", "graphs (floor 2) imports training (floor 5)"),
        ("graphs/__init__.py", "from ..cli.main import x", "graphs (floor 2) imports cli (floor 10)"),
        ("errors.py", "from crystrata.structures import x", "errors (floor 0) imports structures (floor 1)"),
        ("hull/cached.py", "from crystrata.sources import x", "hull (floor 1.1) imports sources (floor 1.2)"),
        ("structures/cif.py", "from crystrata.compositions import x", "imports compositions (floor 1)"),
        ("physics/law.py", "", "'physics' stands on no floor"),
        ("cli/main.py", "import crystrata.physics", "crystrata.physics stands on no floor"),
        ("structures/cif.py", "import ase.io", "ase.io is heavy"),
        ("structures/cif.py", "try:\n    from pymatgen.core import Lattice\nfinally:\n    pass", "is heavy"),
        ("structures/cif.py", "class A:\n    import jarvis", "jarvis is heavy"),
        ("settings.py", "from pydantic import TypeAdapter", "pydantic.TypeAdapter is heavy"),
    ],
)
def test_the_checker_sees_a_breach(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    found = violations(write_tree(tmp_path, {f"crystrata/{name}": text}))
    assert len(found) == 1
    assert complaint in found[0]


def test_the_checker_lets_sound_modules_pass(tmp_path: Path) -> None:
    files = {
        "crystrata/__init__.py": "from importlib.metadata import version",
        "crystrata/tasks.py": "from crystrata.errors import UsageError\nfrom crystrata.older_names import KEYS",
        "crystrata/graphs/store.py": "from .batch import x\nfrom crystrata.graphs import batch\nimport ast",
        "crystrata/structures/cif.py": "def read():\n    import ase.io\nif TYPE_CHECKING:\n    import pymatgen",
        "crystrata/cli/main.py": "from crystrata import __version__, tasks\nfrom crystrata.workflows import run",
    }
    assert violations(write_tree(tmp_path, files)) == []


def test_scripts_and_names_can_fail(tmp_path: Path) -> None:
    write_tree(
        tmp_path, {"a/run.py": "import crystrata.training", "a/graph_utils.py": "from crystrata.cli import main"}
    )
    assert [Path(line.split(":")[0]).name for line in script_violations(tmp_path)] == ["run.py"]
    assert [Path(line).name for line in empty_names(tmp_path)] == ["graph_utils.py"]
