"""Heads as test cases: every row and subtype of `tasks.KINDS`, and every property. A new row needs no test code.

B materials: the eight fixed crystals for heads that read crystals, six made-up latents for the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from known_crystals import CRYSTALS, SETTINGS, batch_of
from torch import Tensor

from crystrata.datasets.batch import Targets
from crystrata.jarvis_properties import PROPERTIES, get_property
from crystrata.networks.heads import build_head, head_class
from crystrata.networks.heads.head import Head
from crystrata.networks.latent import Latent
from crystrata.tasks import KINDS, Task

MATERIALS, WIDTH, DESCRIPTOR = 6, 8, 12
CRYSTAL_WIDTH, HIDDEN = 12, 24
LENGTHS = torch.tensor([4, 1, 7, 0, 3, 5])
"""Points of the curves: a single one and none among them."""

RECORDS = ("band_gap", "dielectric", "formation_energy")
"""Plain with a bound, transformed with a bound, with a composition baseline: the kinds of scaling a head meets."""

KNOWN = torch.tensor([True, False, True, True, False, False, True, False])
"""Which of the eight crystals have a label."""


@dataclass(frozen=True)
class HeadCase:
    """The head of one task.

    Attributes:
        task: The task, with the settings of its head.
        words: What is special about it.
        crystals: Whether it reads crystals with their atoms, in the precision of training; the others read latents
            alone, in double precision.
    """

    task: Task
    words: str = ""
    crystals: bool = False

    def __str__(self) -> str:
        return "-".join(filter(None, [self.task.kind, self.task.subtype, self.words]))

    @property
    def form(self) -> str:
        """Form of the targets that the head reads."""
        return head_class(self.task.kind, self.task.subtype).form

    @property
    def tolerance(self) -> dict[str, float]:
        """Of sums that are taken in another order."""
        return {} if self.crystals else {"rtol": 1e-10, "atol": 1e-12}

    def build(self, seed: int = 0, *, fitted: bool = True) -> Head:
        """Make the head in evaluation mode, its weights a function of the seed, fitted on the labels of the case."""
        torch.manual_seed(seed)
        width = CRYSTAL_WIDTH if self.crystals else WIDTH
        head = build_head(self.task, width, SETTINGS, input_width=DESCRIPTOR if self.task.labels == "none" else None)
        head = head.eval() if self.crystals else head.double().eval()
        if fitted:
            labels = self.labels()
            head.fit(all_known(labels) if self.crystals else labels, self.latent().fractions)
        return head

    def latent(self) -> Latent:
        """Latents of all materials."""
        return crystal_latents() if self.crystals else Latent(plain_latents())

    def labels(self) -> Targets:
        """Labels of all materials, about a third or a half unknown."""
        if self.crystals:
            return Targets(labels_of(self.task), KNOWN)
        make = torch.Generator().manual_seed(3)
        if self.form != "fixed":
            return self._curves(make) if self.form == "ragged" else self._curves(make).padded()
        if self.task.labels == "class":
            return Targets(torch.tensor([2, -1, 0, 1, -1, 2]), torch.tensor([1, 0, 1, 1, 0, 1]).bool())
        width = DESCRIPTOR if self.task.labels == "none" else self.task.head.get("components")
        shape = (MATERIALS,) if width is None else (MATERIALS, width)
        known = torch.rand(shape, generator=make) < 0.7
        known[1] = False
        return Targets(torch.rand(shape, generator=make, dtype=torch.double) * 3 + 0.2, known)

    def _curves(self, make: torch.Generator) -> Targets:
        points = int(LENGTHS.sum())
        values = torch.rand(points, generator=make, dtype=torch.double) * 3 + 0.2
        t = torch.rand(points, generator=make, dtype=torch.double) * 700 + 300
        known = torch.rand(points, generator=make) < 0.7
        known[4] = False  # the single point of the second curve
        return Targets(values, known, None if "d_in" in self.task.head else t, LENGTHS)


def task_of(kind: str, *, transform: str = "identity", **head: Any) -> Task:
    """A task of any kind, from what its row says of its labels."""
    labels = KINDS[kind].labels
    return Task(
        "made",
        kind,
        columns=() if labels == "none" else ("label",),
        transform=transform,  # type: ignore[arg-type]
        classes=("a", "b", "c") if labels == "class" else (),
        t_column="t" if labels == "curve" else "",
        head={"components": 3, **head} if labels == "vector" else head,
    )


SQUARES = {"error": "mse", "centre": "mean", "norm": "layer", "activation": "leaky_relu"}
SMALL_ATTENTION = {"d_model": 8, "nhead": 2}
SMALL_STEPS: Mapping[str, Mapping[str, Any]] = {
    "rnn": {"hidden": 6},
    "vec": {"seq_len": 9},
    "tcn": {"hidden": 6},
    "transformer": SMALL_ATTENTION,
    "hybrid": SMALL_ATTENTION,
}
"""Sizes that make a head of sequences fast."""

VARIANTS: dict[str, Task] = {
    "squares": task_of("scalar", **SQUARES),
    "squares, log1p": task_of("scalar", transform="log1p", hidden=(6, 5), **SQUARES),
    "huber, squares": task_of("vector", **{**SQUARES, "error": "huber"}),
    "linear, asinh": task_of("vector", components=2, transform="asinh", hidden=()),
    "weighted": task_of("classification", class_weights=(0.2, 3.0, 0.7)),
    "seven kernels": task_of("curve", kernels=7),
    "interaction": task_of("curve", kernels=5, interaction=True, learn_centres=True, error="huber"),
    "non-negative": task_of("curve", kernels=7, non_negative=True),
    "non-negative, log1p": task_of("curve", kernels=7, non_negative=True, error="mae", transform="log1p"),
    "lstm without steps": task_of("sequence", subtype="rnn", hidden=6, cell="lstm", d_in=WIDTH),
    "tcn without steps": task_of("sequence", subtype="tcn", hidden=6, d_in=WIDTH),
    "attention without steps": task_of("sequence", subtype="transformer", d_in=WIDTH, **SMALL_ATTENTION),
    "non-negative descriptor": task_of("autoencoder", non_negative=True),
}
"""Settings that change what a head does. The sequences with `d_in` have no steps."""


def head_cases() -> list[HeadCase]:
    """Every case: all rows and subtypes as they are, the variants, and every property with each of its kinds."""
    variants = [HeadCase(task, words) for words, task in VARIANTS.items()]
    return [*_rows(), *variants, *property_cases()]


def _rows() -> Iterator[HeadCase]:
    for kind, row in KINDS.items():
        if row.whole_crystals:
            continue  # their labels are those of a property
        for subtype in row.subtypes or [""]:
            yield HeadCase(task_of(kind, **({"subtype": subtype, **SMALL_STEPS.get(subtype, {})} if subtype else {})))


def property_cases() -> list[HeadCase]:
    """Every kind on the properties that may have it, the scalar one on each of `RECORDS`; all on crystals."""
    return [
        HeadCase(replace(get_property(name).of_kind(kind), head={"hidden": (HIDDEN,)}), name, crystals=True)
        for kind in KINDS
        for name in (RECORDS if kind == "scalar" else PROPERTIES)
        if kind in get_property(name).kinds
    ]


@cache
def crystal_latents() -> Latent:
    """Latents of the eight fixed crystals, (8, d), as an encoder would hand them over."""
    batch = batch_of(CRYSTALS)
    atoms = torch.randn(len(batch.numbers), CRYSTAL_WIDTH, generator=torch.Generator().manual_seed(5))
    return Latent.of_crystals(atoms, batch)


def plain_latents() -> Tensor:
    """Latents of six materials, (6, 8)."""
    return torch.randn(MATERIALS, WIDTH, generator=torch.Generator().manual_seed(7), dtype=torch.double)


def latents_of(latent: Latent, index: Tensor) -> Latent:
    """The latents of some materials, in the order that is asked for."""
    if latent.atoms is None or latent.batch is None:
        return Latent(latent.pooled[index])
    atoms = [latent.atoms[latent.batch.crystal == row] for row in index.tolist()]
    return Latent.of_crystals(torch.cat(atoms), batch_of([CRYSTALS[row] for row in index.tolist()]))


def rows(targets: Targets, index: Tensor) -> Targets:
    """The labels of some materials, in any form."""
    if targets.lengths is None:
        return Targets(targets.values[index], targets.known[index])
    place = index
    if targets.is_ragged:
        place = torch.cat([torch.nonzero(targets.sample == row).flatten() for row in index.tolist()])
    t = None if targets.t is None else targets.t[place]
    return Targets(targets.values[place], targets.known[place], t, targets.lengths[index])


def all_known(targets: Targets) -> Targets:
    """The same labels, none hidden."""
    return replace(targets, known=torch.ones_like(targets.known))


def targets_of(labels: Tensor, known: Tensor | None = None) -> Targets:
    """Labels of one number, known where nothing else is said."""
    return Targets(labels, torch.ones(len(labels), dtype=torch.bool) if known is None else known)


def labels_of(task: Task) -> Tensor:
    """Plausible labels of the eight fixed crystals, (8,), above the property's bound."""
    values = torch.tensor([1.1, 5.2, 1.4, 6.1, 3.3, 0.7, 0.2, 0.1])
    return 10 * values + (-20.0 if task.lower is None else task.lower)
