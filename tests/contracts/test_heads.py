"""What every head must be: exact under masks and cuts, blind to padding, within its bounds, able to learn, saved whole.

B materials.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from head_cases import (
    LENGTHS,
    MATERIALS,
    HeadCase,
    all_known,
    head_cases,
    latents_of,
    rows,
    targets_of,
    task_of,
)
from torch import Tensor

from crystrata.datasets.batch import Targets
from crystrata.jarvis_properties import get_property
from crystrata.networks.heads.head import Head
from crystrata.networks.latent import Latent
from crystrata.networks.scaling import Scaling
from crystrata.tasks import KINDS

GARBAGE = (1e30, -1e30, math.inf, -math.inf, math.nan)
CASES = head_cases()
SUMS_OVER_NEIGHBOURS = [case for case in CASES if KINDS[case.task.kind].whole_crystals]
SEQUENCES = [case for case in CASES if case.form == "padded"]
WITH_DROPOUT = ("transformer", "hybrid")
NOT_ITS_OWN_GRADIENT = ("gap",)  # the width learns from errors that it does not act on
Result = tuple[Tensor, Tensor, Tensor, list[Tensor]]


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> HeadCase:
    """A head to test."""
    return request.param


@pytest.fixture
def head(case: HeadCase) -> Head:
    return case.build()


@pytest.fixture
def labels(case: HeadCase) -> Targets:
    return case.labels()


@pytest.fixture
def latent(case: HeadCase) -> Latent:
    return case.latent()


def loss_of(head: Head, latent: Latent, labels: Targets) -> tuple[Tensor, Tensor]:
    """Its loss sum and count."""
    return head.loss(head(latent, labels), latent, labels)


def prediction_of(head: Head, latent: Latent, labels: Targets) -> Tensor:
    """Its prediction."""
    return head.predict(head(latent, labels), latent)


def loss_and_gradients(head: Head, latent: Latent, labels: Targets) -> Result:
    """Return loss sum, count, the gradient of the sum on the latents of the materials (B, d), and on the weights."""
    leaf = (latent.pooled if latent.atoms is None else latent.atoms).clone().requires_grad_()
    total, count = loss_of(head, again(latent, leaf), labels)
    on_latents, *on_weights = torch.autograd.grad(
        total, [leaf, *head.parameters()], allow_unused=True, materialize_grads=True
    )
    if latent.batch is not None:
        on_latents = torch.zeros_like(latent.pooled).index_add(0, latent.batch.crystal, on_latents)
    return total.detach(), count, on_latents, on_weights


def again(latent: Latent, leaf: Tensor) -> Latent:
    """The latents made from other numbers: those of the atoms where there are any, else those of the materials."""
    return Latent(leaf) if latent.batch is None else Latent.of_crystals(leaf, latent.batch)


def wide(labels: Targets, by: int, filler: float) -> Targets:
    """The same sequences with more padding, filled with anything."""
    padding = (0, by)
    there = torch.nn.functional.pad(labels.present, padding)
    return Targets(
        torch.nn.functional.pad(labels.values, padding).where(there, filler),
        torch.nn.functional.pad(labels.known, padding),
        None if labels.t is None else torch.nn.functional.pad(labels.t, padding).where(there, filler),
        labels.lengths,
    )


def test_every_head_has_a_case() -> None:
    wanted = {(kind, subtype) for kind, row in KINDS.items() for subtype in row.subtypes or [""]}
    assert {(case.task.kind, case.task.subtype) for case in CASES} == wanted
    assert len({str(case) for case in CASES}) == len(CASES)


def test_form(case: HeadCase, head: Head, latent: Latent, labels: Targets) -> None:
    predicted = prediction_of(head, latent, labels)
    assert predicted.shape == labels.values.shape or case.task.subtype == "vec"
    assert torch.isfinite(predicted).all()
    total, count = loss_of(head, latent, labels)
    assert total.shape == count.shape == ()
    assert total > 0
    assert torch.equal(count, head.count(labels))
    assert case.task.labels != "number" or count == labels.known.sum() > 0


def test_what_it_says_besides_is_announced(head: Head, latent: Latent, labels: Targets) -> None:
    details = head.details(head(latent, labels), latent)
    assert tuple(details) == head.detail_titles
    assert all(column.shape == (len(labels),) for column in details.values())


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_stands_in_a_masked_place_has_no_influence(
    head: Head, latent: Latent, labels: Targets, garbage: float
) -> None:
    whole_numbers = not labels.values.is_floating_point()
    if whole_numbers and not math.isfinite(garbage):
        labels, whole_numbers = replace(labels, values=labels.values.double()), False
    clean = loss_and_gradients(head, latent, replace(labels, values=labels.values.where(labels.known, 0)))
    filler = -1 if whole_numbers else garbage
    dirty = loss_and_gradients(head, latent, replace(labels, values=labels.values.where(labels.known, filler)))
    assert torch.isfinite(dirty[0])
    for before, after in zip([*clean[:3], *clean[3]], [*dirty[:3], *dirty[3]], strict=True):
        assert torch.equal(before, after)
        assert torch.isfinite(after).all()


def test_materials_without_a_label_have_no_gradient_and_the_others_do(
    head: Head, latent: Latent, labels: Targets
) -> None:
    gradient, known = loss_and_gradients(head, latent, labels)[2], labels.known_points() > 0
    assert 0 < known.sum() < len(labels)
    assert (gradient[~known] == 0).all()
    assert (gradient[known].abs().amax(1) > 0).all()


def test_no_label_at_all_gives_zero_and_no_gradient(head: Head, latent: Latent, labels: Targets) -> None:
    nothing = replace(labels, known=torch.zeros_like(labels.known), values=labels.values.double() * math.nan)
    total, count, on_latents, on_weights = loss_and_gradients(head, latent, nothing)
    assert total == 0
    assert count == 0
    assert all((gradient == 0).all() for gradient in (on_latents, *on_weights))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_sums_and_counts_add_up_over_a_cut_batch(
    case: HeadCase, head: Head, latent: Latent, labels: Targets, size: int
) -> None:
    parts = [
        loss_of(head, latents_of(latent, index), rows(labels, index)) for index in torch.arange(len(labels)).split(size)
    ]
    total, count = loss_of(head, latent, labels)
    exact = case.tolerance and {"rtol": 1e-12, "atol": 1e-13}
    torch.testing.assert_close(torch.stack([part for part, _ in parts]).sum(), total, **exact)
    torch.testing.assert_close(torch.stack([part for _, part in parts]).sum(), count)


def test_one_material_gives_what_it_gives_in_a_batch(
    case: HeadCase, head: Head, latent: Latent, labels: Targets
) -> None:
    head.train(case.task.subtype not in WITH_DROPOUT)  # none knows its batch
    everything = head(latent, labels)
    for row in range(len(labels)):
        one, alone = rows(labels, torch.tensor([row])), latents_of(latent, torch.tensor([row]))
        output = head(alone, one)
        wanted = everything[labels.sample == row] if labels.is_ragged else everything[[row]]
        torch.testing.assert_close(output, wanted, **case.tolerance)
        assert torch.isfinite(head.loss(output, alone, one)[0])


def test_the_order_of_materials_does_not_matter(case: HeadCase, head: Head, latent: Latent, labels: Targets) -> None:
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    shuffled, moved = rows(labels, order), latents_of(latent, order)
    before, after = head(latent, labels), head(moved, shuffled)
    wanted = rows(replace(labels, values=before.detach()), order).values
    torch.testing.assert_close(after, wanted, **case.tolerance)
    exact = case.tolerance and {"rtol": 1e-12, "atol": 1e-13}
    torch.testing.assert_close(loss_of(head, moved, shuffled)[0], loss_of(head, latent, labels)[0], **exact)


@pytest.mark.parametrize("filler", [0.0, 1e30, math.nan])
@pytest.mark.parametrize("case", SEQUENCES, ids=str)
def test_padding_does_not_matter(head: Head, latent: Latent, labels: Targets, filler: float) -> None:
    more = wide(labels, 2, filler)
    before, after = head(latent, labels), head(latent, more)
    length = labels.values.shape[1]
    torch.testing.assert_close(after[:, :length][labels.present], before[labels.present], rtol=1e-10, atol=1e-12)
    first, second = loss_and_gradients(head, latent, labels), loss_and_gradients(head, latent, more)
    torch.testing.assert_close(second[0], first[0], rtol=1e-11, atol=1e-12)
    assert torch.equal(second[1], first[1])
    torch.testing.assert_close(second[2:], first[2:], rtol=1e-8, atol=1e-10)


def test_all_parameters_get_gradients(case: HeadCase, head: Head, latent: Latent, labels: Targets) -> None:
    if case.crystals:  # three labels: an even number of absolute errors may pull a bias both ways alike
        some = torch.tensor([0, 2, 3])
        latent, labels = latents_of(latent, some), all_known(rows(labels, some))
    gradients = loss_and_gradients(head, latent, labels)[3]
    for (name, _), gradient in zip(head.named_parameters(), gradients, strict=True):
        assert gradient.abs().max() > 1e-12, name


def test_gradients_are_those_of_the_loss(case: HeadCase) -> None:
    if case.task.kind in NOT_ITS_OWN_GRADIENT:
        return
    some = torch.tensor([0, 2, 5]) if case.crystals else torch.arange(MATERIALS)
    head, labels, latent = case.build().double(), rows(case.labels(), some), latents_of(case.latent(), some)
    labels = all_known(labels) if case.crystals else labels
    labels = replace(labels, values=labels.values.double() if case.crystals else labels.values)
    if latent.batch is not None:
        latent = replace(latent, batch=latent.batch.moved(lambda x: x.double() if x.is_floating_point() else x))
    leaf = (latent.pooled if latent.atoms is None else latent.atoms).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss_of(head, again(latent, x), labels)[0], leaf, atol=1e-6, rtol=1e-4)


def test_evaluation_is_deterministic_and_training_ends_nowhere_odd(head: Head, latent: Latent, labels: Targets) -> None:
    assert torch.equal(head(latent, labels), head(latent, labels))
    assert torch.isfinite(head.train()(latent, labels)).all()


def test_predictions_stay_within_the_bounds(case: HeadCase, head: Head, latent: Latent, labels: Targets) -> None:
    for scale in (0.1, 10.0, 10.0):  # weights of a tenth, of one, of ten times their first size
        with torch.no_grad():
            for parameter in head.parameters():
                parameter *= scale
            values = prediction_of(head, latent, labels)
        assert torch.isfinite(values).all()
        assert case.task.lower is None or values.min() >= case.task.lower


def test_scaling_is_undone_by_the_prediction_side(case: HeadCase, latent: Latent, labels: Targets) -> None:
    scaling = getattr(case.build().double(), "scaling", None)
    if not isinstance(scaling, Scaling):
        return  # a class, a descriptor: there is nothing to undo
    fractions = None if latent.fractions is None else latent.fractions.double()
    values = labels.values.double()
    for value in (values,) if case.task.transform == "log1p" else (values, 40 * values, 0.01 * values):
        torch.testing.assert_close(scaling.restore(scaling.standardise(value, fractions), fractions), value)
    if case.crystals:
        assert scaling.standardise(values, fractions).abs().mean() == pytest.approx(1.0, rel=0.2)


def test_it_learns_its_labels(case: HeadCase, head: Head, latent: Latent, labels: Targets) -> None:
    """Loss and prediction must speak of one scale. A tensor that symmetry makes zero is asked for zero."""
    if case.crystals:
        labels = all_known(labels)
        if case.task.kind.startswith("piezoelectric"):
            with torch.no_grad():
                allowed = prediction_of(head, latent, labels) > 1e-3
            labels = replace(labels, values=labels.values.where(allowed, 0.0))
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2 if case.crystals else 2e-2)
    steps = 300 if case.crystals else 250
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    seen = []
    for _ in range(steps):
        total, count = loss_of(head, latent, labels)
        seen.append(float((total / count).detach()))
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        total, count = loss_of(head, latent, labels)
        predicted = prediction_of(head, latent, labels)[labels.known].double()
    wanted = labels.values[labels.known].double()
    spread = (wanted - wanted.mean()).square().mean()
    assert total / count < 0.15 * seen[0]
    assert (predicted - wanted).square().mean() < 0.15 * spread
    if case.crystals:
        torch.testing.assert_close(predicted, wanted, rtol=0.06, atol=0.6)


def test_saved_and_loaded_it_is_the_same(
    case: HeadCase, head: Head, latent: Latent, labels: Targets, tmp_path: Path
) -> None:
    other = case.build(seed=1, fitted=False)
    assert not torch.allclose(other(latent, labels), head(latent, labels))
    torch.save(head.state_dict(), tmp_path / "head.pt")
    other.load_state_dict(torch.load(tmp_path / "head.pt", weights_only=True))
    assert torch.equal(prediction_of(other, latent, labels), prediction_of(head, latent, labels))
    assert torch.equal(loss_of(other, latent, labels)[0], loss_of(head, latent, labels)[0])


@pytest.mark.parametrize("value", [0, 2])
def test_equal_labels_still_give_a_finite_scale(case: HeadCase, latent: Latent, labels: Targets, value: int) -> None:
    """One label alone has no spread either."""
    head, equal = case.build(fitted=False), replace(labels, values=torch.full_like(labels.values, value))
    first = torch.zeros_like(labels.known)
    first.view(-1)[int(torch.nonzero(labels.known.flatten())[0])] = True
    head.fit(replace(equal, known=first), latent.fractions)
    assert torch.isfinite(loss_of(head, latent, equal)[0])
    assert torch.isfinite(prediction_of(head, latent, equal)).all()


@pytest.mark.parametrize("case", [case for case in CASES if case not in SUMS_OVER_NEIGHBOURS], ids=str)
def test_all_it_makes_is_where_the_latents_are(head: Head, latent: Latent, labels: Targets) -> None:
    """The meta device stands for any other: a tensor left on the CPU is refused in the first product with it.

    It cannot stand in for the sums over neighbours that heads of tensors take.
    """
    head, there = head.to("meta"), labels.to("meta")
    h = Latent(latent.pooled.to("meta"))
    if latent.atoms is not None and latent.batch is not None:
        batch = latent.batch.moved(lambda tensor: tensor.to("meta"))
        h = Latent.of_crystals(latent.atoms.to("meta"), batch)
    output, (total, count) = head(h, there), loss_of(head, h, there)
    assert {tensor.device.type for tensor in (output, total, count, head.predict(output, h))} == {"meta"}


@pytest.mark.parametrize("name", ["bulk_modulus", "shear_modulus"])
def test_a_modulus_is_not_negative_though_every_label_was(name: str) -> None:
    case = HeadCase(replace(get_property(name), head={"hidden": (24,)}), crystals=True)
    head, latent = case.build(fitted=False), case.latent()
    head.fit(targets_of(torch.linspace(-20.0, -1.0, 8)), latent.fractions)
    assert head.predict(head(latent), latent).min() == 0
    assert head.predict(torch.full((8,), -1e9), latent).tolist() == [0.0] * 8


CURVES = [case for case in CASES if case.task.labels == "curve" and not case.words and case.task.subtype != "vec"]


@pytest.mark.parametrize("case", CURVES, ids=str)
def test_every_curve_counts_the_same(head: Head, latent: Latent, labels: Targets) -> None:
    output = head(latent, labels)
    errors = (output - head.scaling.standardise(labels.values)).square()  # type: ignore[union-attr,operator]
    curve = labels.sample if labels.is_ragged else torch.arange(MATERIALS)[:, None].expand_as(errors)
    there = [labels.known & (curve == row) for row in range(MATERIALS)]
    means = [errors[known].mean() for known in there if known.any()]
    total, count = loss_of(head, latent, labels)
    assert count == len(means) < int((LENGTHS > 0).sum()) + 1
    torch.testing.assert_close(total, torch.stack(means).sum())


@pytest.mark.parametrize("non_negative", [False, True])
def test_only_a_curve_that_may_be_is_negative(non_negative: bool) -> None:
    case = HeadCase(task_of("curve", kernels=7, non_negative=non_negative))
    head = case.build()
    with torch.no_grad():
        head.mu1.last.bias.sub_(9.0)  # type: ignore[union-attr,operator]
    predicted = prediction_of(head, case.latent(), case.labels())
    assert (predicted < 0).all() != non_negative
    assert (predicted >= 0).all() == non_negative
    assert not non_negative or predicted.max() < 1e-2
