"""Optimizers that treat matrices as wholes: against the published algorithms written out, and continued exactly."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from crystrata.training.optimizers import SOAP, MatrixOptimizer, Muon, orthogonal

LARGEST = 5
SHAPES = ((6, 4), (6, 4), (3, 9), (1, 5), (7,), (7,), (), (2, 3, 2))


def _weights(seed: int = 0, shapes: tuple[tuple[int, ...], ...] = SHAPES) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.double)) for shape in shapes]


def _set_gradients(weights: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=generator, dtype=torch.double) * (1 + step % 3)


def _soap_written_out(start: Tensor, gradients: list[Tensor], rate: float, decay: float, every: int) -> Tensor:
    """Algorithm 3 of Vyas et al. for one matrix, with the bias correction of Adam and its mean in the plain basis."""
    beta, eps, weight = 0.95, 1e-8, start.clone()
    left, right = (gradients[0] @ gradients[0].T) * (1 - beta), (gradients[0].T @ gradients[0]) * (1 - beta)
    left_basis, right_basis = (
        torch.linalg.eigh(one)[1].flip(1) if len(one) <= LARGEST else torch.eye(len(one), dtype=torch.double)
        for one in (left, right)
    )
    mean, square = torch.zeros_like(start), torch.zeros_like(start)
    for step, gradient in enumerate(gradients[1:], start=1):
        mean = beta * mean + (1 - beta) * gradient
        square = beta * square + (1 - beta) * (left_basis.T @ gradient @ right_basis).square()
        turned = (left_basis.T @ mean @ right_basis) / (1 - beta**step)
        change = left_basis @ (turned / ((square / (1 - beta**step)).sqrt() + eps)) @ right_basis.T
        weight = weight * (1 - rate * decay) - rate * change
        left = beta * left + (1 - beta) * gradient @ gradient.T
        right = beta * right + (1 - beta) * gradient.T @ gradient
        if step % every == 0:
            if len(left) <= LARGEST:
                order = (left_basis * (left @ left_basis)).sum(0).argsort(descending=True)
                square, left_basis = square[order], torch.linalg.qr((left @ left_basis)[:, order])[0]
            order = (right_basis * (right @ right_basis)).sum(0).argsort(descending=True)
            square, right_basis = square[:, order], torch.linalg.qr((right @ right_basis)[:, order])[0]
    return weight


def test_soap_is_the_published_algorithm_for_every_matrix_of_a_stack() -> None:
    """Over more than two turns of the bases; a first gradient of full rank leaves no basis to choose."""
    weights = _weights(shapes=((5, 5), (5, 5), (6, 4)))
    started, seen = [weight.detach().clone() for weight in weights], [[] for _ in weights]  # type: ignore[var-annotated]
    optimizer = SOAP(weights, lr=0.01, weight_decay=0.1, every=4, largest=LARGEST)
    for step in range(14):
        _set_gradients(weights, step)
        for gradients, weight in zip(seen, weights, strict=True):
            assert weight.grad is not None
            gradients.append(weight.grad.clone())
        optimizer.step()
    for weight, start, gradients in zip(weights, started, seen, strict=True):
        expected = _soap_written_out(start, gradients, 0.01, 0.1, 4)
        assert not torch.allclose(weight, start, atol=1e-2)
        torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=1e-6)


def test_what_is_no_matrix_is_trained_by_adam() -> None:
    """Lists of numbers, single numbers and higher tensors follow torch's AdamW."""
    ours, theirs = _weights(shapes=((7,), ())), _weights(shapes=((7,), ()))
    optimizer = Muon(ours, lr=0.01, weight_decay=0.1)
    expected = torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.1)
    for step in range(9):
        _set_gradients(ours, step)
        _set_gradients(theirs, step)
        optimizer.step()
        expected.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_a_side_that_is_too_long_keeps_its_basis() -> None:
    """Rows of the long side then have one scale each, and their statistics are not held."""
    weights = _weights(shapes=((3, 9),))
    optimizer = SOAP(weights, lr=0.01, largest=5)
    for step in range(3):
        _set_gradients(weights, step)
        optimizer.step()
    assert {"left", "left_basis"} < {*optimizer.state[weights[0]]}
    assert "right" not in optimizer.state[weights[0]]


@pytest.mark.parametrize("shape", [(4, 12, 5), (3, 5, 12), (2, 6, 6)])
def test_orthogonal_matrices_have_singular_values_near_one(shape: tuple[int, ...]) -> None:
    """Of tall, wide and square matrices, whatever their size; singular vectors stay."""
    matrices = 1e3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonal(matrices)
    values = torch.linalg.svdvals(found)
    assert float(values.min()) > 0.3
    assert float(values.max()) < 1.3
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    inner = u.mT @ found @ vh.mT
    assert float((inner - torch.diag_embed(inner.diagonal(dim1=1, dim2=2))).abs().max()) < 1e-2


def test_muon_goes_where_that_of_torch_goes() -> None:
    """Both scale the step to the size of Adam's; torch's iteration has 8 bits, so directions are compared."""
    ours, theirs = (
        [nn.Parameter(weight.detach().float()) for weight in _weights(shapes=((12, 8), (8, 12)))] for _ in range(2)
    )
    started = [weight.detach().clone() for weight in ours]
    optimizer = Muon(ours, lr=0.01)
    expected = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    for step in range(6):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            gradient = torch.randn(one.shape, generator=torch.Generator().manual_seed(10 * step + number))
            one.grad, other.grad = gradient, gradient.clone()
        optimizer.step()
        expected.step()
    for one, other, start in zip(ours, theirs, started, strict=True):
        moved, expected_move = (one - start).detach().flatten(), (other - start).detach().flatten()
        assert float(torch.nn.functional.cosine_similarity(moved, expected_move, dim=0)) > 0.98
        assert 0.8 < float(moved.norm() / expected_move.norm()) < 1.2


@pytest.mark.parametrize("make", [SOAP, Muon])
def test_a_saved_state_continues_bit_for_bit(make: Callable[..., MatrixOptimizer]) -> None:
    """After some steps, in one of which a weight had no gradient, the state is saved, loaded and gone on with."""
    weights = _weights()
    optimizer = make(weights, lr=0.01, weight_decay=0.1)
    copies: list[nn.Parameter] = []
    for step in range(30):
        if step == 13:
            copies = [nn.Parameter(weight.detach().clone()) for weight in weights]
            state = deepcopy(optimizer.state_dict())
            continued = make(copies, lr=1.0)
            continued.load_state_dict(state)
        for some in (weights, copies):
            _set_gradients(some, step)
            if some and step in (5, 17):
                some[1].grad = None
        optimizer.step()
        if copies:
            continued.step()
    for one, other in zip(weights, copies, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("make", [SOAP, Muon])
def test_a_step_without_gradients_changes_nothing(make: Callable[..., MatrixOptimizer]) -> None:
    """As after a step that was not finite: neither weights nor state."""
    weights = _weights()
    optimizer = make(weights, lr=0.01, weight_decay=0.1)
    for step in range(3):
        _set_gradients(weights, step)
        optimizer.step()
    before = [weight.detach().clone() for weight in weights]
    for weight in weights:
        weight.grad = None
    optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(weights, before, strict=True))
    assert {int(state["step"]) for state in optimizer.state.values()} == {3}
