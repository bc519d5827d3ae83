"""Losses without labels: what they count, what they ignore, and that they teach what they should."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from crystrata.errors import UsageError
from crystrata.networks.self_supervised import TEMPERATURE, CrossReconstruction, MaskedFeatures, contrastive_loss

BOTH = torch.tensor([True, False, True, True, False, True])


def test_hidden_numbers_are_hidden_and_counted() -> None:
    masked, x = MaskedFeatures(4, 50), torch.rand(400, 50) + 1
    seen, hidden = masked.hide(x)
    assert float(hidden.double().mean()) == pytest.approx(0.15, abs=0.01)
    assert torch.equal(seen[~hidden], x[~hidden])
    assert (seen[hidden] == 0).all()
    latent = torch.randn(400, 4)
    total, count = masked.loss(latent, x, hidden)
    assert count == hidden.sum()
    torch.testing.assert_close(total, (masked.guess(latent) - x)[hidden].square().sum())
    with pytest.raises(UsageError, match="fraction"):
        MaskedFeatures(4, 50, 1.0)


def test_numbers_that_were_not_hidden_have_no_influence() -> None:
    masked, x = MaskedFeatures(4, 5), torch.rand(3, 5)
    hidden, latent = torch.zeros(3, 5, dtype=torch.bool), torch.randn(3, 4, requires_grad=True)
    hidden[0, 2] = True
    total, _ = masked.loss(latent, x.where(hidden, math.nan), hidden)
    total.backward()
    assert torch.isfinite(total)
    assert latent.grad is not None
    assert (latent.grad[1:] == 0).all()
    assert (latent.grad[0] != 0).any()


def test_masked_features_teach_an_encoder_how_numbers_hang_together() -> None:
    """Ten numbers that are all the same one, of variance 1: the hidden follow from the others."""
    masked, encoder = MaskedFeatures(8, 10), nn.Sequential(nn.Linear(10, 32), nn.SiLU(), nn.Linear(32, 8))
    optimizer = torch.optim.Adam([*masked.parameters(), *encoder.parameters()], lr=5e-3)
    for _ in range(300):
        x = torch.randn(128, 1).expand(128, 10)
        seen, hidden = masked.hide(x)
        total, count = masked.loss(encoder(seen), x, hidden)
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
    assert total / count < 0.2


def test_contrast_is_the_symmetric_cross_entropy_of_those_that_have_both() -> None:
    left, right = torch.randn(6, 5, dtype=torch.double), torch.randn(6, 5, dtype=torch.double)
    total, count = contrastive_loss(left, right, BOTH)
    a, b = nn.functional.normalize(left[BOTH], dim=1), nn.functional.normalize(right[BOTH], dim=1)
    logits, own = a @ b.T / TEMPERATURE, torch.arange(4)
    wanted = 0.5 * (nn.functional.cross_entropy(logits, own) + nn.functional.cross_entropy(logits.T, own))
    assert count == 4
    torch.testing.assert_close(total / count, wanted)


def test_cross_reconstruction_is_both_mean_squared_errors() -> None:
    cross = CrossReconstruction(5, 7, 3)
    left, right, x, s = torch.randn(6, 5), torch.randn(6, 5), torch.randn(6, 7), torch.randn(6, 3)
    total, count = cross.loss(left, right, x, s, BOTH)
    wanted = (cross.descriptor(right) - x)[BOTH].square().mean() + (cross.graph(left) - s)[BOTH].square().mean()
    torch.testing.assert_close(total / count, wanted)
    parts = [cross.loss(left[c], right[c], x[c], s[c], BOTH[c]) for c in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(parts[0][0] + parts[1][0], total)
    assert parts[0][1] + parts[1][1] == count


@pytest.mark.parametrize("has_both", [BOTH, torch.zeros(6, dtype=torch.bool)])
def test_samples_without_a_partner_have_no_influence(has_both: torch.Tensor) -> None:
    left, right = torch.randn(6, 5), torch.randn(6, 5)
    right = right.where(has_both.unsqueeze(1), math.nan).requires_grad_()
    left.requires_grad_()
    cross = CrossReconstruction(5, 7, 3)
    structure = torch.randn(6, 3).where(has_both.unsqueeze(1), math.nan).requires_grad_()
    for total, count in (
        contrastive_loss(left, right, has_both),
        cross.loss(left, right, torch.randn(6, 7), structure, has_both),
    ):
        assert count == has_both.sum()
        assert torch.isfinite(total)
        assert has_both.any() or total == 0
        *gradients, on_structure = torch.autograd.grad(total, (left, right, structure), allow_unused=True)
        assert on_structure is None
        for gradient in gradients:
            assert torch.isfinite(gradient).all()
            assert (gradient[~has_both] == 0).all()
            assert (gradient[has_both].abs().amax(1) > 0).all()


def test_contrast_brings_partners_together() -> None:
    left, right = torch.randn(20, 16), torch.randn(20, 16)
    one, other = nn.Linear(16, 16), nn.Linear(16, 16)
    optimizer = torch.optim.Adam([*one.parameters(), *other.parameters()], lr=1e-2)
    everything = torch.ones(20, dtype=torch.bool)
    for _ in range(100):
        total, count = contrastive_loss(one(left), other(right), everything)
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
    similarity = nn.functional.normalize(one(left), dim=1) @ nn.functional.normalize(other(right), dim=1).T
    assert (similarity.argmax(1) == torch.arange(20)).all()
