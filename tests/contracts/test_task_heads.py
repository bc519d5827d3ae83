"""What every head of a task must be: exact under masks and cuts, blind to padding, able to learn, saved whole."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from task_cases import LENGTHS, SAMPLES, TASK_CASES, TaskCase, latents, loss_of, output_of, prediction_of, rows
from torch import Tensor

from crystrata.datasets.batch import Targets
from crystrata.networks.heads.head import Head
from crystrata.networks.latent import Latent
from crystrata.tasks import KINDS

GARBAGE = (1e30, -1e30, math.inf, math.nan)
SEQUENCES = [case for case in TASK_CASES if case.form == "padded"]


@pytest.fixture(params=TASK_CASES, ids=str)
def case(request: pytest.FixtureRequest) -> TaskCase:
    return request.param


def loss_and_gradients(head: Head, labels: Targets) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return loss sum, count, and the gradients of the sum on the latents and on every parameter."""
    h = latents().requires_grad_()
    total, count = loss_of(head, h, labels)
    gradients = torch.autograd.grad(total, [h, *head.parameters()], allow_unused=True, materialize_grads=True)
    return total.detach(), count, list(gradients)


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
    of_crystals = {kind for kind, row in KINDS.items() if row.whole_crystals} | {"gap"}
    assert {case.kind for case in TASK_CASES} == set(KINDS) - of_crystals
    assert {case.settings["subtype"] for case in TASK_CASES if case.kind == "sequence"} == set(
        KINDS["sequence"].subtypes
    )


def test_form(case: TaskCase) -> None:
    head, labels = case.build(), case.labels()
    predicted = prediction_of(head, latents(), labels)
    assert predicted.shape == labels.values.shape or case.settings.get("subtype") == "vec"
    assert torch.isfinite(predicted).all()
    total, count = loss_of(head, latents(), labels)
    assert total.shape == count.shape == ()
    assert total > 0
    assert torch.equal(count, head.count(labels))


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_stands_in_a_masked_place_has_no_influence(case: TaskCase, garbage: float) -> None:
    head, labels = case.build(), case.labels()
    if not labels.values.is_floating_point() and not math.isfinite(garbage):
        labels = replace(labels, values=labels.values.double())
    clean = loss_and_gradients(head, replace(labels, values=labels.values.where(labels.known, 0)))
    filler = garbage if labels.values.is_floating_point() else -1
    dirty = loss_and_gradients(head, replace(labels, values=labels.values.where(labels.known, filler)))
    assert torch.isfinite(dirty[0])
    assert torch.equal(clean[0], dirty[0])
    assert torch.equal(clean[1], dirty[1])
    assert all(torch.equal(a, b) and torch.isfinite(b).all() for a, b in zip(clean[2], dirty[2], strict=True))


def test_samples_without_a_label_have_no_gradient_and_the_others_do(case: TaskCase) -> None:
    head, labels = case.build(), case.labels()
    gradient = loss_and_gradients(head, labels)[2][0]
    known = labels.known_points() > 0
    assert 0 < known.sum() < SAMPLES
    assert (gradient[~known] == 0).all()
    assert (gradient[known].abs().amax(1) > 0).all()


def test_no_label_at_all_gives_zero_and_no_gradient(case: TaskCase) -> None:
    head, labels = case.build(), case.labels()
    nothing = replace(labels, known=torch.zeros_like(labels.known), values=labels.values.double() * math.nan)
    total, count, gradients = loss_and_gradients(head, nothing)
    assert total == 0
    assert count == 0
    assert all((gradient == 0).all() for gradient in gradients)


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_sums_and_counts_add_up_over_a_cut_batch(case: TaskCase, cut: int) -> None:
    head, labels, h = case.build(), case.labels(), latents()
    whole = loss_of(head, h, labels)
    sums, counts = [], []
    for index in (torch.arange(cut), torch.arange(cut, SAMPLES)):
        part = rows(labels, index)
        total, count = loss_of(head, h[index], part)
        sums.append(total)
        counts.append(count)
    torch.testing.assert_close(torch.stack(sums).sum(), whole[0], rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(torch.stack(counts).sum(), whole[1])


def test_one_sample_gives_what_it_gives_in_a_batch(case: TaskCase) -> None:
    head, labels, h = case.build(), case.labels(), latents()
    head.train(
        case.settings.get("subtype") not in ("transformer", "hybrid")
    )  # these two have dropout; none knows its batch
    everything = output_of(head, h, labels)
    for row in range(SAMPLES):
        one = rows(labels, torch.tensor([row]))
        alone = output_of(head, h[[row]], one)
        wanted = everything[labels.sample == row] if labels.is_ragged else everything[[row]]
        torch.testing.assert_close(alone, wanted, rtol=1e-10, atol=1e-12)
        assert torch.isfinite(head.loss(alone, Latent(h[[row]]), one)[0])


def test_the_order_of_samples_does_not_matter(case: TaskCase) -> None:
    head, labels, h = case.build(), case.labels(), latents()
    order = torch.tensor([3, 5, 0, 2, 1, 4])
    shuffled = rows(labels, order)
    before, after = output_of(head, h, labels), output_of(head, h[order], shuffled)
    wanted = rows(replace(labels, values=before.detach()), order).values
    torch.testing.assert_close(after, wanted, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        loss_of(head, h[order], shuffled)[0], loss_of(head, h, labels)[0], rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize("filler", [0.0, 1e30, math.nan])
@pytest.mark.parametrize("case", SEQUENCES, ids=str)
def test_padding_does_not_matter(case: TaskCase, filler: float) -> None:
    head, labels, h = case.build(), case.labels(), latents()
    more = wide(labels, 2, filler)
    before, after = output_of(head, h, labels), output_of(head, h, more)
    length = labels.values.shape[1]
    torch.testing.assert_close(after[:, :length][labels.present], before[labels.present], rtol=1e-10, atol=1e-12)
    first, second = loss_and_gradients(head, labels), loss_and_gradients(head, more)
    torch.testing.assert_close(second[0], first[0], rtol=1e-11, atol=1e-12)
    assert torch.equal(second[1], first[1])
    torch.testing.assert_close(second[2], first[2], rtol=1e-8, atol=1e-10)


def test_all_parameters_get_gradients(case: TaskCase) -> None:
    head, labels = case.build(), case.labels()
    gradients = loss_and_gradients(head, labels)[2][1:]
    for (name, _), gradient in zip(head.named_parameters(), gradients, strict=True):
        assert gradient.abs().max() > 1e-12, name


def test_evaluation_is_deterministic_and_training_ends_nowhere_odd(case: TaskCase) -> None:
    head, labels, h = case.build(), case.labels(), latents()
    assert torch.equal(output_of(head, h, labels), output_of(head, h, labels))
    assert torch.isfinite(output_of(head.train(), h, labels)).all()


def test_gradients_are_those_of_the_loss(case: TaskCase) -> None:
    head, labels = case.build(), case.labels()
    assert torch.autograd.gradcheck(
        lambda h: loss_of(head, h, labels)[0], latents().requires_grad_(), atol=1e-6, rtol=1e-4
    )


def test_it_learns_its_labels(case: TaskCase) -> None:
    """Loss and prediction must speak of one scale."""
    head, labels, h = case.build(), case.labels(), latents()
    optimizer = torch.optim.Adam(head.parameters(), lr=2e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 250)
    first = float("nan")
    for step in range(250):
        total, count = loss_of(head, h, labels)
        first = float((total / count).detach()) if step == 0 else first
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        total, count = loss_of(head, h, labels)
        predicted = prediction_of(head, h, labels)[labels.known].double()
    wanted = labels.values[labels.known].double()
    spread = (wanted - wanted.mean()).square().mean()
    assert total / count < 0.15 * first
    assert (predicted - wanted).square().mean() < 0.15 * spread


def test_saved_and_loaded_it_is_the_same(case: TaskCase, tmp_path: Path) -> None:
    head, other, labels, h = case.build(), case.build(seed=1, fitted=False), case.labels(), latents()
    assert not torch.allclose(output_of(other, h, labels), output_of(head, h, labels))
    torch.save(head.state_dict(), tmp_path / "head.pt")
    other.load_state_dict(torch.load(tmp_path / "head.pt", weights_only=True))
    assert torch.equal(prediction_of(other, h, labels), prediction_of(head, h, labels))
    assert torch.equal(loss_of(other, h, labels)[0], loss_of(head, h, labels)[0])


@pytest.mark.parametrize("kind", ["curve", "rnn", "tcn", "transformer", "hybrid"])
def test_every_curve_counts_the_same(kind: str) -> None:
    case = next(case for case in TASK_CASES if case.settings.get("subtype", case.kind) == kind)
    head, labels, h = case.build(), case.labels(), latents()
    output = output_of(head, h, labels)
    errors = (output - head.scaling.standardise(labels.values)).square()  # type: ignore[union-attr,operator]
    rows = labels.sample if labels.is_ragged else torch.arange(SAMPLES)[:, None].expand_as(errors)
    means = [
        errors[labels.known & (rows == row)].mean() for row in range(SAMPLES) if (labels.known & (rows == row)).any()
    ]
    total, count = loss_of(head, h, labels)
    assert count == len(means) < int((LENGTHS > 0).sum()) + 1
    torch.testing.assert_close(total, torch.stack(means).sum())


@pytest.mark.parametrize("non_negative", [False, True])
def test_only_a_curve_that_may_be_is_negative(non_negative: bool) -> None:
    head = TaskCase("curve", {"kernels": 7, "non_negative": non_negative}).build()
    with torch.no_grad():
        head.mu1.last.bias.sub_(9.0)  # type: ignore[union-attr,operator]
    predicted = prediction_of(head, latents(), TaskCase("curve").labels())
    assert (predicted < 0).all() != non_negative
    assert (predicted >= 0).all() == non_negative
    assert not non_negative or predicted.max() < 1e-2


def test_all_it_makes_is_where_the_latents_are(case: TaskCase) -> None:
    """The meta device stands for any other: a tensor left on the CPU is refused in the first product with it."""
    head, labels = case.build().to("meta"), case.labels().to("meta")
    h = latents().to("meta")
    output, (total, count) = output_of(head, h, labels), loss_of(head, h, labels)
    assert {tensor.device.type for tensor in (output, total, count, prediction_of(head, h, labels))} == {"meta"}
