"""The table of split protocols, and the one function that carries them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from crystrata.datasets.splits.candidates import SplitRequest
from crystrata.datasets.splits.grouped import split_by_chemical_system, split_by_formula, split_for_use
from crystrata.datasets.splits.official import (
    split_as_published,
    split_by_formation_energy,
    split_by_strict_union,
    split_by_union,
    split_for_use_from_union,
)
from crystrata.datasets.splits.prototypes import split_by_prototype
from crystrata.datasets.splits.rarest_first import split_all_into_test, split_as_stated
from crystrata.datasets.splits.saved import split_as_saved
from crystrata.datasets.splits.split import Split
from crystrata.errors import UsageError, unknown_name


@dataclass(frozen=True)
class Protocol:
    """One way to split.

    Attributes:
        name: Name in flags and tables.
        title: The name as it is typed, with its argument.
        words: What it does, for the manual.
        split: Carries it out.
        published: Whether it follows published ids, which come from `--splits-file` or its defaults.
        reads_file: Whether it reads `--splits-file`.
        looks_at_crystals: Whether it looks at crystals.
        may_leave_empty: Whether it may leave a part without a material.
    """

    name: str
    title: str
    words: str
    split: Callable[[SplitRequest, str], Split]
    published: bool = False
    reads_file: bool = False
    looks_at_crystals: bool = False
    may_leave_empty: bool = False


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "random", "random",
            "80/10/10 by hash order of the reduced formulas: polymorphs and near-duplicates, which share a formula, "
            "stay together", split_by_formula,
        ),
        Protocol(
            "official", "official:<benchmark>",
            "validation and test are the official ids of a leaderboard benchmark, such as official:mbj_bandgap; "
            "training is every other crystal, with all its labels; one run serves the benchmarks that share these ids",
            split_as_published, published=True, reads_file=True, looks_at_crystals=True,
        ),
        Protocol(
            "union", "union",
            "test is the union of the official tests of the nine properties; validation is a tenth of the rest, whole "
            "formulas at a time. Near-duplicates of tested crystals stay in training, as on the leaderboard, and are "
            "counted", split_by_union, published=True, reads_file=True, looks_at_crystals=True,
        ),
        Protocol(
            "union-strict", "union-strict",
            "as union, but near-duplicates of tested crystals are left out of training and validation",
            split_by_strict_union, published=True, reads_file=True, looks_at_crystals=True,
        ),
        Protocol(
            "formation-energy", "formation-energy",
            "every property by the official ids of the formation energy: comparable for formation energy and band gap "
            "only", split_by_formation_energy, published=True, reads_file=True, looks_at_crystals=True,
        ),
        Protocol(
            "by-chemical-system", "by-chemical-system",
            "80/10/10 with each set of elements on one side: tests on chemistry never seen", split_by_chemical_system,
        ),
        Protocol(
            "by-prototype", "by-prototype",
            "80/10/10 with each structure type (anonymous formula, space group, Wyckoff positions) on one side, "
            "near-duplicates together: tests on structures never seen", split_by_prototype,
            looks_at_crystals=True,
        ),
        Protocol(
            "refit", "refit",
            "95/2.5/2.5 as random: nearly all crystals, for a model to be used. How good its recipe is, a run by "
            "another protocol must tell", split_for_use,
        ),
        Protocol(
            "union-refit", "union-refit",
            "as refit, for runs that start from weights of union: what is held out, 2.5 % each, is of official tests "
            "and of formulas that union has not seen", split_for_use_from_union, published=True,
            reads_file=True, looks_at_crystals=True,
        ),
        Protocol(
            "by-table", "by-table",
            "as the `split` column of each table states; the rest by whole formulas, the rarest task first "
            "(`val_split`, `test_split`)", split_as_stated, may_leave_empty=True,
        ),
        Protocol(
            "saved", "saved",
            "as another run: `--splits-file` names its splits.json", split_as_saved, reads_file=True,
            may_leave_empty=True,
        ),
        Protocol("test-all", "test-all", "every material is in the test part: to evaluate, not to train",
                 split_all_into_test, may_leave_empty=True),
    )
}  # fmt: skip
"""Name -> protocol. A crystal of the test part is in no other part, with none of its labels; figures of different
protocols belong in different tables."""


def parse_protocol(text: str) -> Protocol:
    """Return the protocol that a flag or configuration names.

    Raises:
        UsageError: No protocol has that name (the nearest one is named), or its argument is missing or too much.
    """
    name, colon, argument = text.partition(":")
    if name not in PROTOCOLS:
        raise unknown_name("split", name, PROTOCOLS)
    protocol = PROTOCOLS[name]
    if protocol.title == name and colon:
        raise UsageError(f"--split {name} takes no argument, but {text!r} was given")
    if protocol.title != name and not argument:
        raise UsageError(f"--split {name} needs a benchmark, as in official:formation_energy_peratom")
    return protocol


def resolve_split(protocol: str, request: SplitRequest) -> Split:
    """Carry out the protocol of that name.

    Args:
        protocol: Name, such as `random` or `official:ehull`.
        request: The crystals and what else a protocol may need.

    Raises:
        UsageError: The name is unknown, or the crystals lack what the protocol tests on.
        DataError: Published splits are missing or damaged.
    """
    rule = parse_protocol(protocol)
    if rule.looks_at_crystals:
        request.crystals.require_crystals(protocol)
    split = rule.split(request, protocol)
    if rule.may_leave_empty:
        return split
    if empty := [name for name in ("train", "val", "test") if not len(split.part(name))]:
        raise UsageError(f"--split {protocol} leaves no crystal for {' and '.join(empty)}: take another split or seed")
    return split
