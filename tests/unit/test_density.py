"""Sums over neighbourhoods: the sparse product, its fallback and their gradients. E edges, C channels, M angular."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from known_crystals import CRYSTALS, batch_of

from crystrata.networks.density import NeighbourSum, mean_over_crystals

CENTRE = torch.tensor([0, 0, 0, 2, 2, 5])  # atoms 1, 3, 4 and 6 have no edge
N_ATOMS = 7


def data(dtype: torch.dtype = torch.double) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    factors = torch.randn(len(CENTRE), 3, generator=generator, dtype=torch.double)
    values = torch.randn(len(CENTRE), 4, generator=generator, dtype=torch.double)
    return factors.to(dtype), values.to(dtype)


def by_hand(factors: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    sums = torch.zeros(factors.shape[1], N_ATOMS, values.shape[1], dtype=values.dtype)
    for edge, centre in enumerate(CENTRE.tolist()):
        for m in range(factors.shape[1]):
            sums[m, centre] += factors[edge, m] * values[edge]
    return sums


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sparse_and_indexed_sums_are_the_sum(dtype: torch.dtype) -> None:
    factors, values = data(dtype)
    total = NeighbourSum(factors, CENTRE, N_ATOMS)
    torch.testing.assert_close(total(values), by_hand(factors, values))
    torch.testing.assert_close(total._indexed(values), by_hand(factors, values))


def test_sparse_products_are_used_where_they_exist() -> None:
    factors, _ = data()
    used = NeighbourSum(factors, CENTRE, N_ATOMS).matrices is not None
    assert used == torch.backends.mkl.is_available()


def test_another_precision_than_the_matrix_falls_back() -> None:
    factors, values = data(torch.float32)
    total = NeighbourSum(factors, CENTRE, N_ATOMS)
    assert total(values.double()).dtype == torch.double
    torch.testing.assert_close(total(values.bfloat16()).float(), by_hand(factors, values), rtol=0.05, atol=0.05)


def test_gradient_is_the_transposed_product() -> None:
    factors, values = data()
    values.requires_grad_()
    assert torch.autograd.gradcheck(NeighbourSum(factors, CENTRE, N_ATOMS), (values,))
    weight = torch.randn(3, N_ATOMS, 4, dtype=torch.double)
    total = NeighbourSum(factors, CENTRE, N_ATOMS)
    (sparse,) = torch.autograd.grad((total(values) * weight).sum(), values)
    (indexed,) = torch.autograd.grad((total._indexed(values) * weight).sum(), values)
    torch.testing.assert_close(sparse, indexed)


def test_a_transposed_gradient_is_taken_too() -> None:
    factors, values = data()
    values.requires_grad_()
    total = NeighbourSum(factors, CENTRE, N_ATOMS)
    other = torch.randn(5, 4, dtype=torch.double)
    (gradient,) = torch.autograd.grad((other @ total(values)[0].T).sum(), values)
    torch.testing.assert_close(gradient, factors[:, :1] * other.sum(0))


def test_factors_that_need_a_gradient_get_it() -> None:
    factors, values = data()
    factors.requires_grad_()
    (gradient,) = torch.autograd.grad(NeighbourSum(factors, CENTRE, N_ATOMS)(values).sum(), factors)
    torch.testing.assert_close(gradient, values.sum(1, keepdim=True).expand(-1, 3))


def test_no_edges_give_zeros() -> None:
    total = NeighbourSum(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 2)
    assert torch.equal(total(torch.zeros(0, 4)), torch.zeros(3, 2, 4))


def test_the_mean_is_over_the_atoms_of_each_crystal() -> None:
    values = torch.arange(10.0).reshape(5, 2)
    batch = batch_of([CRYSTALS[6], CRYSTALS[7], CRYSTALS[1]])
    assert batch.crystal.tolist() == [0, 0, 1, 2, 2]
    assert mean_over_crystals(values, batch).tolist() == [[1.0, 2.0], [4.0, 5.0], [7.0, 8.0]]
    shares = replace(batch, share=torch.tensor([0.25, 0.75, 1.0, 0.5, 0.5]))
    assert mean_over_crystals(values, shares).tolist()[0] == [1.5, 2.5]
