"""Settings declared once: what a value must be, what is refused and with which words, flags made from fields."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Le

from crystrata.design.study_config import Scenario, SeedChoice, StudyConfig
from crystrata.errors import UsageError
from crystrata.runs.config import RunConfig
from crystrata.runs.continual_config import ContinualConfig
from crystrata.settings import (
    Fraction,
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveInt,
    add_flag,
    check_arguments,
    checked,
    checked_flags,
    make,
    words_of,
)
from crystrata.tasks import Task


@dataclass(frozen=True)
class Wheel:
    """A part of another record.

    Attributes:
        spokes: How many.
    """

    spokes: PositiveInt = 8


@dataclass(frozen=True)
class Bicycle:
    """A record of settings, with a word: that is none of them.

    Attributes:
        frame: What it is made of.
        gears: Steps of the transmission; a longer text
            goes on in the next line, 100 % of it.
        mass: In kg.
        bell: Whether it rings.
        widths: Of both tyres.
        extras: Further parts by name.
        wheel: Both of them.
        owner: Whose it is.

    Raises:
        UsageError: No setting either.
    """

    frame: Literal["steel", "carbon"] = "steel"
    gears: PositiveInt | None = None
    mass: Positive = 12.0
    bell: bool = True
    widths: tuple[int, ...] = ()
    extras: dict[str, float] = field(default_factory=dict)
    wheel: Wheel = field(default_factory=Wheel)
    owner: str | None = None


def test_plain_values_become_the_record() -> None:
    values = {"frame": "carbon", "gears": 3, "mass": 9, "widths": [25, 28], "extras": {"light": 1}, "owner": "Ada"}
    assert make(Bicycle, values, "") == Bicycle("carbon", 3, 9.0, True, (25, 28), {"light": 1.0}, owner="Ada")
    assert make(Bicycle, {"wheel": {"spokes": 16}}, "").wheel == Wheel(16)
    assert make(Bicycle, {"wheel": Wheel(16)}, "").wheel == Wheel(16)
    assert make(Bicycle, {"owner": Path("a") / "b"}, "").owner == str(Path("a") / "b")
    assert make(Bicycle, {}, "") == Bicycle()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gear": 3}, "unknown key 'gear'; did you mean 'gears'?"),
        ({"frame": "steal"}, "unknown frame 'steal'; did you mean 'steel'? (known: steel, carbon)"),
        ({"frame": 3}, "frame must be one of steel, carbon, not 3"),
        ({"gears": 0}, "gears must be above 0, not 0"),
        ({"gears": True}, "gears must be a whole number, not True"),
        ({"gears": 2.5}, "gears must be a whole number, not 2.5"),
        ({"gears": "many"}, "gears must be a whole number, not 'many'"),
        ({"mass": -1}, "mass must be above 0, not -1"),
        ({"mass": float("inf")}, "mass must be a finite number, not inf"),
        ({"mass": float("nan")}, "mass must be a finite number, not nan"),
        ({"mass": None}, "mass must be a number, not None"),
        ({"mass": [1.0]}, "mass must be a number, not [1.0]"),
        ({"bell": "loud"}, "bell must be true or false, not 'loud'"),
        ({"widths": 25}, "widths must be a list, not 25"),
        ({"widths": [25, "x"]}, "widths.1 must be a whole number, not 'x'"),
        ({"extras": [1]}, "extras must be a mapping, not [1]"),
        ({"extras": {"light": "x"}}, "extras.light must be a number, not 'x'"),
        ({"wheel": {"spoke": 3}}, "unknown key at wheel 'spoke'; did you mean 'spokes'?"),
        ({"wheel": {"spokes": -3}}, "wheel.spokes must be above 0, not -3"),
        ({"owner": 3}, "owner must be text, not 3"),
    ],
)
def test_what_is_refused_and_in_which_words(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make(Bicycle, values, "")
    assert str(caught.value).startswith(message)


def test_a_message_names_the_place() -> None:
    with pytest.raises(UsageError, match=r"^shed\.gears must be above 0, not 0$"):
        make(Bicycle, {"gears": 0}, "shed")
    with pytest.raises(UsageError, match=r"^unknown key at shed 'gear'; did you mean 'gears'"):
        make(Bicycle, {"gear": 0}, "shed")


@pytest.mark.parametrize(
    ("annotation", "inside", "outside", "words"),
    [
        (Positive, (1e-9, 5), (0, -1), "above 0"),
        (NonNegative, (0, 5), (-1e-9,), "0 or more"),
        (PositiveInt, (1,), (0,), "above 0"),
        (NonNegativeInt, (0,), (-1,), "0 or more"),
        (Fraction, (0, 0.999), (-0.1,), "0 or more"),
        (Fraction, (0.5,), (1, 2, float("nan")), "below 1"),
        (Annotated[int, Ge(60)] | None, (60, None), (59,), "60 or more"),
        (Annotated[float, Le(1)], (1, -3), (1.1,), "at most 1"),
    ],
)
def test_ranges(annotation: Any, inside: Sequence[Any], outside: Sequence[Any], words: str) -> None:
    for value in inside:
        assert checked(value, annotation, "x") == value
    for value in outside:
        with pytest.raises(UsageError, match=f"x must be {words}, not {value}"):
            checked(value, annotation, "x")


def test_settings_of_a_constructor() -> None:
    class Encoder:
        def __init__(self, width: PositiveInt = 8, names: Sequence[str] = (), sizes: Mapping[str, int] | None = None):
            pass

    known = ["width", "names", "sizes"]
    check_arguments(Encoder, {"width": 3, "names": ["a"], "sizes": {"a": 1}}, known, "encoder mlp")
    for settings, message in (
        ({"widht": 3}, "unknown setting of encoder mlp 'widht'; did you mean 'width'"),
        ({"width": 0}, "setting width of encoder mlp must be above 0, not 0"),
        ({"names": 3}, "setting names of encoder mlp must be a list, not 3"),
        ({"sizes": 3}, "setting sizes of encoder mlp must be a mapping, not 3"),
    ):
        with pytest.raises(UsageError, match=message):
            check_arguments(Encoder, settings, known, "encoder mlp")


def test_words_come_from_the_docstring() -> None:
    words = words_of(Bicycle)
    assert list(words) == [one.name for one in fields(Bicycle)]
    assert words["gears"] == "Steps of the transmission; a longer text goes on in the next line, 100 % of it."


@pytest.mark.parametrize("cls", [RunConfig, Task, ContinualConfig, StudyConfig, Scenario, SeedChoice])
def test_every_setting_has_words(cls: type) -> None:
    assert list(words_of(cls)) == [one.name for one in fields(cls)]


Flagged = Callable[[str], argparse.Namespace]


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ride")
    for name in ("frame", "gears", "mass", "owner"):
        add_flag(parser, Bicycle, name)
    add_flag(parser, Bicycle, "bell", "--ring", default=False)
    return parser


def test_flags_are_made_from_fields(parser: argparse.ArgumentParser) -> None:
    assert vars(parser.parse_args([])) == {
        "frame": None, "gears": None, "mass": None, "owner": None, "bell": False
    }  # fmt: skip
    given = parser.parse_args("--frame carbon --gears 3 --mass 9.5 --owner Ada --ring".split())
    assert (given.frame, given.gears, given.mass, given.owner, given.bell) == ("carbon", 3, 9.5, "Ada", True)
    shown = " ".join(parser.format_help().split())
    assert "--frame {steel,carbon} what it is made of" in shown
    assert "--gears N steps of the transmission; a longer text goes on in the next line, 100 % of it" in shown
    assert "--mass X in kg" in shown
    assert "--ring whether it rings" in shown


def test_the_spelling_default_and_value_of_a_flag_may_be_given() -> None:
    parser = argparse.ArgumentParser(prog="ride")
    add_flag(parser, Bicycle, "gears", "--steps", "--gears", metavar="STEPS", default=7)
    assert parser.parse_args([]).gears == 7
    assert parser.parse_args(["--gears", "3"]).gears == parser.parse_args(["--steps", "3"]).gears == 3
    assert "--steps STEPS, --gears STEPS" in " ".join(parser.format_help().split())
    assert "(default: 7)" in parser.format_help()


def test_values_of_flags_are_checked_like_the_fields(parser: argparse.ArgumentParser) -> None:
    names = ("frame", "gears", "mass")
    assert checked_flags(parser.parse_args(["--mass", "9"]), Bicycle, names) == {"mass": 9.0}
    for words, message in (
        ("--mass -1", "--mass must be above 0, not -1.0"),
        ("--mass nan", "--mass must be a finite number, not nan"),
        ("--frame steal", "unknown --frame 'steal'; did you mean 'steel'"),
    ):
        with pytest.raises(UsageError, match=message):
            checked_flags(parser.parse_args(words.split()), Bicycle, names)
