"""What every head must be: exact under masks, within its bounds, able to undo its own scaling, saved whole."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from contract_cases import HeadCase, crystal_latents, labels_of, targets_of
from known_crystals import CRYSTALS, batch_of
from torch import Tensor

from crystrata.jarvis_properties import get_property
from crystrata.networks.heads.head import Head
from crystrata.networks.latent import Latent

GARBAGE = (1e30, -1e30, math.inf, -math.inf, math.nan)
KNOWN = torch.tensor([True, False, True, True, False, False, True, False])


@pytest.fixture
def head(head_case: HeadCase) -> Head:
    return head_case.build()


@pytest.fixture
def labels(head_case: HeadCase) -> Tensor:
    return labels_of(head_case.record)


def only(latent: Latent, row: int) -> Latent:
    """The latent of one crystal."""
    return Latent.of_crystals(latent.atoms[latent.batch.crystal == row], batch_of([CRYSTALS[row]]))


def loss_and_gradients(head: Head, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Return loss sum, count, the gradient of the sum on the crystals' latents (8, d), and those on the weights."""
    values, batch = crystal_latents().atoms.clone().requires_grad_(), crystal_latents().batch
    latent = Latent.of_crystals(values, batch)
    total, count = head.loss(head(latent), latent, targets_of(labels, mask))
    gradients = torch.autograd.grad(total, [values, *head.parameters()])
    crystals = torch.zeros(len(batch), values.shape[1]).index_add(0, batch.crystal, gradients[0])
    return total.detach(), count, crystals, list(gradients[1:])


def test_form(head: Head, labels: Tensor) -> None:
    latent = crystal_latents()
    output = head(latent)
    assert head.predict(output, latent).shape == (8,)
    total, count = head.loss(output, latent, targets_of(labels, KNOWN))
    assert total.shape == count.shape == ()
    assert int(count) == 4
    assert total > 0


def test_what_it_says_besides_is_announced(head: Head) -> None:
    latent = crystal_latents()
    details = head.details(head(latent), latent)
    assert tuple(details) == head.detail_titles
    assert all(column.shape == (8,) for column in details.values())


def test_the_loss_is_the_sum_over_the_known(head: Head, labels: Tensor) -> None:
    latent = crystal_latents()
    total, _ = head.loss(head(latent), latent, targets_of(labels, KNOWN))
    each = []
    for row in torch.nonzero(KNOWN).flatten().tolist():
        one = only(latent, row)
        part, count = head.loss(head(one), one, targets_of(labels[[row]]))
        assert int(count) == 1
        each.append(part)
    torch.testing.assert_close(total, torch.stack(each).sum())


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_stands_in_a_masked_place_has_no_influence(head: Head, labels: Tensor, garbage: float) -> None:
    clean = loss_and_gradients(head, labels.where(KNOWN, 0.0), KNOWN)
    dirty = loss_and_gradients(head, labels.where(KNOWN, garbage), KNOWN)
    assert torch.equal(clean[0], dirty[0])
    assert torch.equal(clean[1], dirty[1])
    assert torch.equal(clean[2], dirty[2])
    for before, after in zip(clean[3], dirty[3], strict=True):
        assert torch.equal(before, after)
        assert torch.isfinite(after).all()


def test_masked_crystals_have_no_gradient_and_known_ones_do(head: Head, labels: Tensor) -> None:
    gradient = loss_and_gradients(head, labels, KNOWN)[2]
    assert (gradient[~KNOWN] == 0).all()
    assert (gradient[KNOWN].abs().amax(1) > 0).all()


def test_no_label_at_all_gives_zero_and_no_gradient(head: Head) -> None:
    total, count, on_latents, on_weights = loss_and_gradients(head, torch.full((8,), math.nan), torch.zeros(8) > 0)
    assert total == 0
    assert int(count) == 0
    assert all((gradient == 0).all() for gradient in (on_latents, *on_weights))


@pytest.mark.parametrize("name", ["bulk_modulus", "shear_modulus"])
def test_a_modulus_is_not_negative_though_every_label_was(name: str) -> None:
    head = HeadCase("scalar", get_property(name)).build(fitted=False)
    latent = crystal_latents()
    head.fit(targets_of(torch.linspace(-20.0, -1.0, 8)), latent.fractions)
    values = head.predict(head(latent), latent)
    assert values.min() == 0
    assert head.predict(torch.full((8,), -1e9), latent).tolist() == [0.0] * 8


def test_predictions_stay_within_the_bounds(head_case: HeadCase, head: Head) -> None:
    latent = crystal_latents()
    for scale in (0.1, 10.0, 10.0):  # weights of a tenth, of one, of ten times their first size
        with torch.no_grad():
            for parameter in head.parameters():
                parameter *= scale
            values = head.predict(head(latent), latent)
        assert torch.isfinite(values).all()
        if head_case.record.lower is not None:
            assert values.min() >= head_case.record.lower


def test_scaling_is_undone_by_the_prediction_side(head_case: HeadCase, labels: Tensor) -> None:
    scaling, fractions = head_case.build().double().scaling, crystal_latents().fractions.double()
    for value in (labels.double(), 40 * labels.double(), 0.01 * labels.double()):
        torch.testing.assert_close(scaling.restore(scaling.standardise(value, fractions), fractions), value)
    standard = scaling.standardise(labels.double(), fractions)
    assert standard.abs().mean() == pytest.approx(1.0, rel=0.2)


def test_a_head_alone_learns_its_labels(head_case: HeadCase, labels: Tensor) -> None:
    """Loss and prediction must speak of one scale. A tensor that symmetry makes zero is asked for zero."""
    head, latent = head_case.build(), crystal_latents()
    if head_case.kind.startswith("piezoelectric"):
        with torch.no_grad():
            labels = labels.where(head.predict(head(latent), latent) > 1e-3, 0.0)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 300)
    for _ in range(300):
        total, count = head.loss(head(latent), latent, targets_of(labels))
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        predicted = head.predict(head(latent), latent)
    torch.testing.assert_close(predicted, labels, rtol=0.06, atol=0.6)


def test_saved_and_loaded_it_keeps_its_scaling(head_case: HeadCase, head: Head, labels: Tensor, tmp_path: Path) -> None:
    torch.save(head.state_dict(), tmp_path / "head.pt")
    latent, other = crystal_latents(), head_case.build(seed=1, fitted=False)
    assert not torch.allclose(other(latent), head(latent))
    other.load_state_dict(torch.load(tmp_path / "head.pt", weights_only=True))
    assert torch.equal(other.predict(other(latent), latent), head.predict(head(latent), latent))
    assert torch.equal(
        other.loss(other(latent), latent, targets_of(labels, KNOWN))[0],
        head.loss(head(latent), latent, targets_of(labels, KNOWN))[0],
    )
    assert torch.equal(
        other.scaling.standardise(labels, latent.fractions), head.scaling.standardise(labels, latent.fractions)
    )


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_equal_labels_still_give_a_finite_scale(head_case: HeadCase, value: float) -> None:
    head, latent = head_case.build(fitted=False), crystal_latents()
    head.fit(targets_of(torch.full((1,), value)), latent.fractions[:1])
    total, _ = head.loss(head(latent), latent, targets_of(torch.full((8,), value), KNOWN))
    assert torch.isfinite(total)
    assert torch.isfinite(head.predict(head(latent), latent)).all()
