"""The manual says what the code does: its tables are the generators' own, its names exist, its links lead somewhere."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from crystrata.cli import (
    completed_runs,
    design,
    evaluate,
    own_data,
    predict,
    runs,
    several_runs,
    store,
    train,
    trainer,
)
from crystrata.cli.manual import TABLES, flags, main, refreshed
from crystrata.cli.parsing import Parser
from crystrata.errors import InputError, UsageError
from crystrata.presets import PRESETS
from crystrata.reports.manual import REJECTION_CODES

DOCUMENTS = (
    "README.md", "OPERATION_MANUAL.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/names.md",
    "data/README.md", "models/README.md",
)  # fmt: skip

YAML_FLAGS = {"--experiment_name", "--seed_everything", "--trainer", "--model", "--data", "--tasks"}  # of dotted names


@pytest.fixture(scope="module")
def manual(root: Path) -> str:
    return (root / "OPERATION_MANUAL.md").read_text(encoding="utf-8")


def blocks(text: str) -> dict[str, str]:
    return dict(re.findall(r"<!-- table: (\S+) -->\n(.*?)<!-- end -->", text, re.DOTALL))


@pytest.mark.parametrize("name", TABLES)
def test_every_table_of_the_manual_is_its_generators(manual: str, name: str) -> None:
    refresh = "python -m crystrata.cli.manual OPERATION_MANUAL.md"
    assert blocks(manual)[name] == f"\n{TABLES[name]()}\n", f"table {name} is out of date: run `{refresh}`"


def test_the_manual_has_no_other_table_block(manual: str) -> None:
    assert sorted(re.findall(r"<!-- table: (\S+) -->", manual)) == sorted(TABLES)
    assert manual.count("<!-- end -->") == len(TABLES)


def test_a_changed_table_is_seen_and_mended(manual: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "manual.md"
    document.write_text(manual.replace("| `smoke` |", "| `smoulder` |"), encoding="utf-8")
    assert document.read_text(encoding="utf-8") != manual
    assert main([str(document)]) == 0
    assert document.read_text(encoding="utf-8") == manual
    assert main([str(document)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{document}: refreshed", f"{document}: up to date"]


def test_text_around_a_block_stays() -> None:
    text = "before\n<!-- table: groups -->\nold\n<!-- end -->\nbetween\n<!-- table: groups -->\n<!-- end -->\nafter\n"
    table = "\n" + TABLES["groups"]() + "\n"
    opened = "<!-- table: groups -->\n" + table + "<!-- end -->\n"
    assert refreshed(text) == f"before\n{opened}between\n{opened}after\n"


def test_a_block_that_cannot_be_made_is_named() -> None:
    with pytest.raises(UsageError, match="did you mean 'sizes'"):
        refreshed("<!-- table: size -->\n<!-- end -->\n")
    with pytest.raises(InputError, match="'sizes' has no end"):
        refreshed("<!-- table: sizes -->\n| a |\n<!-- table: groups -->\n<!-- end -->\n")


def test_a_missing_document_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.md")]) == 2
    assert "none.md" in capsys.readouterr().err


def test_flags_come_with_their_values_and_defaults() -> None:
    parser = argparse.ArgumentParser()
    group = parser.add_argument_group("those")
    group.add_argument("--one", nargs="?", metavar="X", help="a")
    group.add_argument("--many", nargs="+", default="y", help="b")
    group.add_argument("--yes", action="store_true", help="c")
    lines = flags(parser).splitlines()
    assert lines[0] == "*those*"
    assert lines[-3:] == ["| `--one [X]` | - | a |", "| `--many MANY ...` | `y` | b |", "| `--yes` | - | c |"]


def codes_used(source: Path) -> set[str]:
    """Return the codes of all rejections in a source tree: first argument of CrystalError, second of Rejected."""
    found = set()
    for file in source.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            position = {"CrystalError": 0, "Rejected": 1}.get(node.func.id)
            argument = node.args[position] if position is not None and len(node.args) > position else None
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                found.add(argument.value)
    return found


def test_every_rejection_code_has_a_meaning(root: Path) -> None:
    assert codes_used(root / "src") == set(REJECTION_CODES)


def parser_of(verb: Callable[[list[str]], int], monkeypatch: pytest.MonkeyPatch) -> Parser:
    """Return the parser that a verb builds."""
    seen: list[Parser] = []

    def stop(self: Parser, *_: object) -> None:
        seen.append(self)
        raise SystemExit(0)

    monkeypatch.setattr(Parser, "parse_args", stop)
    with pytest.raises(SystemExit):
        verb([])
    return seen[0]


@pytest.mark.parametrize(
    ("verb", "heading"),
    [
        (predict.main, "### Flags of inference"),
        (store.main, "### Flags of the graph store"),
        (several_runs.matrix, "### Flags of the matrix"),
        (completed_runs.export, "### Flags of the export"),
        (completed_runs.leaderboard, "### Flags of the leaderboard"),
    ],
)
def test_the_other_verbs_flags_are_all_listed(
    manual: str, verb: Callable[[list[str]], int], heading: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = parser_of(verb, monkeypatch)
    section = manual.split(heading + "\n")[1].split("\n#")[0]
    listed = re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE)
    first = {next(name for name in action.option_strings if name.startswith("--")) for action in flags_of(parser)}
    assert sorted(listed) == sorted(first)
    assert all(f"`{older}" in section for action in flags_of(parser) for older in action.option_strings[1:])


def flags_of(parser: Parser) -> list[argparse.Action]:
    """Return the flags of a parser but the one for help; the first spelling of each is the one that is shown."""
    return [action for action in parser._actions if action.option_strings and action.dest != "help"]


def test_every_script_is_in_the_manual_and_every_preset_has_one(root: Path, manual: str) -> None:
    scripts = {path.name for path in (root / "scripts" / "phase2_multitask").glob("*.py")}
    assert {preset.script for preset in PRESETS.values()} <= scripts
    assert {name for name in scripts if f"`{name}`" not in manual} == set()
    assert set(re.findall(r"phase2_multitask/(\w+\.py)", manual)) <= scripts


def known_flags(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    parsers = [train.build_parser(train.EntryPoint(single_task=single)) for single in (False, True)]
    verbs = (
        predict.main,
        predict.embed_main,
        store.main,
        design.main,
        design.study,
        evaluate.main,
        several_runs.matrix,
    )
    verbs += (
        runs.list_runs,
        runs.compare,
        runs.info,
        runs.resume,
        several_runs.continual,
        completed_runs.ensemble,
        completed_runs.export,
        completed_runs.leaderboard,
    )
    parsers += [
        trainer.build_parser(),
        own_data.build_parser("crystrata train"),
        *(parser_of(verb, monkeypatch) for verb in verbs),
    ]
    return {flag for parser in parsers for flag in parser._option_string_actions} | YAML_FLAGS | {"--version"}


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name != "docs/names.md"])
def test_documents_name_only_flags_that_exist(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (root / name).read_text(encoding="utf-8")
    foreign = {"--version", "--index-url", "--no-build-isolation"}  # of pip and the like
    foreign |= {"--gres", "--time", "--requeue", "--signal"}  # of SLURM
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+", text))
    assert used - known_flags(monkeypatch) - foreign == set()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_inside_the_project_lead_somewhere(root: Path, name: str) -> None:
    document = root / name
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if not (document.parent / link).exists()]
    assert missing == []
