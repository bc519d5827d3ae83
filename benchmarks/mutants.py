"""Plants faults in the code, one at a time, and counts those that no test notices.

    python benchmarks/mutants.py [--count 60] [--seed 1] [--only NUMBERS] [--record FILE]

A mutant is one comparison, sum, number, truth value or condition changed in a module of networks, splits, metrics,
intervals, hull or resume, drawn by the seed; docstrings, messages and numbers in a table are left out. The tests of
that module run on a copy of the source, until the first of them fails. results/mutants.json has every mutant with its
outcome, results/mutants.md the survivors.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RECORD = Path(__file__).with_name("results") / "mutants.json"
_LONGEST = 600.0  # seconds of the tests of a mutant: a loop without end is noticed too
_CONTRACTS = "tests/contracts"
_UNIT = "tests/unit"
TESTS: dict[str, tuple[str, ...]] = {
    "networks/heads/tensor.py": (f"{_CONTRACTS}/test_tensor_heads.py", f"{_CONTRACTS}/test_heads.py"),
    "networks/heads/sequence.py": (f"{_UNIT}/test_network_parts.py", f"{_CONTRACTS}/test_heads.py"),
    "networks/heads/curve.py": (f"{_CONTRACTS}/test_heads.py", f"{_UNIT}/test_phonon_dos.py"),
    "networks/heads/scalar.py": (f"{_CONTRACTS}/test_heads.py",),
    "networks/heads/gap.py": (f"{_CONTRACTS}/test_heads.py",),
    "networks/heads/classification.py": (f"{_UNIT}/test_network_parts.py", f"{_CONTRACTS}/test_heads.py"),
    "networks/encoders/e3nn.py": (f"{_CONTRACTS}/test_encoders.py",),
    "networks/encoders/cgcnn.py": (f"{_CONTRACTS}/test_encoders.py",),
    "networks/encoders/composition.py": (f"{_CONTRACTS}/test_descriptor_encoders.py",),
    "networks/layers.py": (f"{_UNIT}/test_network_parts.py", f"{_CONTRACTS}/test_descriptor_encoders.py"),
    "networks/edges.py": (f"{_UNIT}/test_angles.py", f"{_UNIT}/test_network_parts.py"),
    "networks/geometry.py": (f"{_UNIT}/test_network_parts.py", f"{_CONTRACTS}/test_encoders.py"),
    "networks/density.py": (f"{_UNIT}/test_density.py",),
    "networks/latent.py": (f"{_UNIT}/test_task_networks.py", f"{_UNIT}/test_task_training.py"),
    "networks/network.py": (
        f"{_UNIT}/test_network_parts.py",
        f"{_CONTRACTS}/test_trainable_networks.py",
        f"{_UNIT}/test_task_training.py",
    ),
    "networks/scaling.py": (f"{_UNIT}/test_balance_and_scaling.py", f"{_CONTRACTS}/test_heads.py"),
    "networks/loss_weights.py": (f"{_UNIT}/test_balance_and_scaling.py",),
    "networks/self_supervised.py": (f"{_UNIT}/test_self_supervised.py", f"{_UNIT}/test_self_supervised_network.py"),
    "datasets/splits/grouped.py": (f"{_UNIT}/test_splits_and_sampling.py", f"{_UNIT}/test_split_protocols.py"),
    "datasets/splits/official.py": (f"{_UNIT}/test_split_protocols.py",),
    "datasets/splits/prototypes.py": (f"{_UNIT}/test_split_protocols.py", f"{_UNIT}/test_splits_and_sampling.py"),
    "datasets/splits/rarest_first.py": (f"{_UNIT}/test_task_splits.py",),
    "datasets/splits/split.py": (f"{_UNIT}/test_split_protocols.py", f"{_UNIT}/test_splits_and_sampling.py"),
    "datasets/masks.py": (f"{_UNIT}/test_task_training.py", f"{_UNIT}/test_task_targets.py"),
    "reports/metrics.py": (f"{_UNIT}/test_metrics_and_tables.py",),
    "prediction/intervals.py": (f"{_UNIT}/test_intervals.py",),
    "prediction/domain.py": (f"{_UNIT}/test_domain.py",),
    "prediction/calibration.py": (f"{_UNIT}/test_intervals.py", "tests/integration/test_calibration.py"),
    "hull/energies.py": (f"{_UNIT}/test_hull.py",),
    "hull/solvers.py": (f"{_UNIT}/test_hull.py",),
    "hull/cached.py": (f"{_UNIT}/test_hull.py",),
    "hull/conventions.py": (f"{_UNIT}/test_hull.py", f"{_UNIT}/test_official_label.py"),
    "training/checkpoints.py": (f"{_UNIT}/test_parts.py", f"{_UNIT}/test_files.py", "tests/integration/test_resume.py"),
    "training/artifacts.py": ("tests/integration/test_resume.py", "tests/integration/test_training.py"),
    "training/callbacks.py": (f"{_UNIT}/test_schedule_and_averaging.py", "tests/integration/test_resume.py"),
    "training/bad_steps.py": (f"{_UNIT}/test_memory.py", "tests/integration/test_training.py"),
    "datasets/sampling.py": (f"{_UNIT}/test_splits_and_sampling.py", "tests/integration/test_resume.py"),
}
"""Module -> the tests that are to notice a fault in it."""

_COMPARE = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
            ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}  # fmt: skip
_ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult}
_LOGIC = {ast.And: ast.Or, ast.Or: ast.And}


def places(tree: ast.Module) -> list[tuple[ast.AST, str]]:
    """Return what may be changed, node and words, in the order of the source; annotations and messages are left out."""
    found: list[tuple[ast.AST, str]] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert):
            return
        if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARE:
            found.append((node, "comparison"))
        elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC and not _of_types(node):
            found.append((node, "arithmetic"))
        elif isinstance(node, ast.BoolOp):
            found.append((node, "and / or"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
            found.append((node, "constant"))
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
            found.append((node, "sign"))
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    visit(child)

    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            visit(node)
    return found


def _of_types(node: ast.BinOp) -> bool:
    return isinstance(node.left, ast.Constant) and isinstance(node.left.value, str)


def change(node: ast.AST) -> None:
    """Change a node in place."""
    if isinstance(node, ast.Compare):
        node.ops[0] = _COMPARE[type(node.ops[0])]()
    elif isinstance(node, ast.BinOp):
        node.op = _ARITHMETIC[type(node.op)]()
    elif isinstance(node, ast.BoolOp):
        node.op = _LOGIC[type(node.op)]()
    elif isinstance(node, ast.Constant):
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1
    elif isinstance(node, ast.UnaryOp):
        node.op = ast.UAdd() if not isinstance(node.op, ast.Not) else ast.Not()
        if isinstance(node.op, ast.Not):
            node.operand = ast.UnaryOp(ast.Not(), node.operand)


def drawn(count: int, seed: int) -> Iterator[tuple[str, int]]:
    """Yield module and place of each mutant: a module at random, then one of its places."""
    source, taken = random.Random(seed), set[tuple[str, int]]()
    while len(taken) < count:
        module = source.choice(list(TESTS))
        tree = ast.parse((ROOT / "src" / "crystrata" / module).read_text(encoding="utf-8"))
        place = module, source.randrange(len(places(tree)))
        if place not in taken:
            taken.add(place)
            yield place


def tried(module: str, place: int) -> dict[str, Any]:
    """Plant a fault in a copy of the source and run the tests of its module; return what it was and who noticed."""
    with tempfile.TemporaryDirectory(prefix="mutant_") as folder:
        shutil.copytree(ROOT / "src", Path(folder) / "src", ignore=shutil.ignore_patterns("__pycache__"))
        file = Path(folder) / "src" / "crystrata" / module
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text)
        node, kind = places(tree)[place]
        before, line = ast.unparse(node), getattr(node, "lineno", 0)
        change(node)
        after = ast.unparse(node)
        file.write_text(ast.unparse(tree), encoding="utf-8")
        paths = f"pythonpath={Path(folder) / 'src'} {ROOT / 'benchmarks'}"
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "1", "-o", paths, *TESTS[module]]
        started = time.perf_counter()
        code, said = _within(command, _LONGEST)
        failed = [line.split()[1] for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return {
            "module": module, "line": line, "kind": kind, "before": before, "after": after,
            "killed_by": failed[0].partition(" ")[0] if failed else {0: "", None: "time"}.get(code, "import"),
            "seconds": round(time.perf_counter() - started, 1),
        }  # fmt: skip


def _within(command: list[str], seconds: float) -> tuple[int | None, str]:
    """Run a command; return its exit code and what it printed. One that takes too long is ended, and has no code."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return None, process.communicate()[0]
    return process.returncode, said


def page(mutants: list[dict[str, Any]], seed: int) -> str:
    """Return the page of the survivors."""
    alive = [(number, one) for number, one in enumerate(mutants) if not one["killed_by"]]
    lines = [
        "# Mutants", "", *(__doc__ or "").splitlines(),
        f"{len(mutants)} mutants of seed {seed}: {len(mutants) - len(alive)} noticed, {len(alive)} not.", "",
        "| number | place | before | after | why |", "| --- | --- | --- | --- | --- |",
        *(f"| {number} | {one['module']}:{one['line']} | `{one['before']}` | `{one['after']}` | {one.get('why', '')} |"
          for number, one in alive), "",
    ]  # fmt: skip
    return "\n".join(lines).replace("||", "|")


def main() -> int:
    """Try the mutants that are not on record, and write record and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--only", default="", metavar="NUMBERS", help="try these again, such as 3,17")
    parser.add_argument("--record", type=Path, default=RECORD, metavar="FILE")
    flags = parser.parse_args()
    content = json.loads(flags.record.read_text(encoding="utf-8")) if flags.record.is_file() else {}
    found: list[dict[str, Any]] = content.get("mutants", []) if content.get("seed") == flags.seed else []
    again = {int(number) for number in flags.only.split(",") if number}
    for number, (module, place) in enumerate(drawn(flags.count, flags.seed)):
        if number < len(found) and number not in again:
            continue
        one = tried(module, place)
        found[number : number + 1] = [one]
        print(f"{number}: {module}:{one['line']} {one['before']} -> {one['after']}: {one['killed_by'] or 'SURVIVED'}")
        flags.record.write_text(json.dumps({"seed": flags.seed, "mutants": found}, indent=1) + "\n", encoding="utf-8")
    flags.record.with_suffix(".md").write_text(page(found, flags.seed), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
