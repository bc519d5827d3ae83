"""Sums over neighbourhoods: A_m,i = sum_e Y_m(e) x_e over the edges e of centre i.

N atoms, E edges, C channels, M angular components.

The sum is one sparse matrix product; neither (E, M, C) nor a dense neighbour list is ever stored. Geometry carries no
gradient here (crystals are fixed), so the backward pass is the product with the transposed matrix.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor

from crystrata.graphs.batch import CrystalBatch


class NeighbourSum:
    """The linear map from edge values (E, C) to centre values (M, N, C) for given angular factors.

    Args:
        factors: Y_m(e), (E, M); contributions vanish where they are zero.
        centre: Centre of each edge, (E,) int64, ascending.
        n_atoms: N.
    """

    def __init__(self, factors: Tensor, centre: Tensor, n_atoms: int) -> None:
        self.factors = factors
        self.centre = centre
        self.shape = (factors.shape[1], n_atoms)
        self.matrices = _sparse_pair(factors, centre, n_atoms) if _sparse_products(factors) else None

    def __call__(self, values: Tensor) -> Tensor:
        """Return sums (M, N, C) of edge values (E, C)."""
        if self.matrices is not None and values.dtype == self.factors.dtype:
            return _SparseSum.apply(values, *self.matrices).view(*self.shape, values.shape[1])
        return self._indexed(values)

    def _indexed(self, values: Tensor) -> Tensor:
        """The same sum by `index_add`, for builds and precisions without sparse products."""
        sums = [
            values.new_zeros(self.shape[1], values.shape[1]).index_add(0, self.centre, values * factor.unsqueeze(1))
            for factor in self.factors.to(values.dtype).unbind(1)
        ]
        return torch.stack(sums)


class _SparseSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
        ctx.backward_matrix = backward
        return forward @ values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.backward_matrix @ gradient.contiguous(), None, None


def _sparse_products(factors: Tensor) -> bool:
    """Whether CSR products run here: MKL or CUDA, float32 or float64, and at least one edge."""
    if torch.compiler.is_compiling():  # the compiler knows no sparse tensors, and fuses the sums by index instead
        return False
    if factors.requires_grad or factors.dtype not in (torch.float32, torch.float64) or not len(factors):
        return False
    return factors.is_cuda or torch.backends.mkl.is_available()


def _sparse_pair(factors: Tensor, centre: Tensor, n_atoms: int) -> tuple[Tensor, Tensor]:
    """Return CSR matrices (M N, E) and (E, M N) of the sum and of its transpose."""
    n_edges, width = factors.shape
    device = factors.device
    shifts = torch.arange(width, device=device)
    ends = torch.bincount(centre, minlength=n_atoms).cumsum(0)
    rows = torch.cat([ends.new_zeros(1), (ends + n_edges * shifts.unsqueeze(1)).reshape(-1)])
    columns = torch.arange(n_edges, device=device).repeat(width)
    summing = _csr(rows, columns, factors.t().reshape(-1), (width * n_atoms, n_edges))
    rows = torch.arange(n_edges + 1, device=device) * width
    columns = (centre.unsqueeze(1) + n_atoms * shifts).reshape(-1)
    spreading = _csr(rows, columns, factors.reshape(-1), (n_edges, width * n_atoms))
    return summing, spreading


@cache
def _announce_csr() -> None:
    """Let torch say once, unheard, that CSR tensors are in beta state; the sums are tested against `index_add`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        one = torch.tensor([0, 1])
        torch.sparse_csr_tensor(one, one[:1], torch.ones(1), (1, 1), check_invariants=False)


def _csr(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    _announce_csr()
    rows, columns = rows.to(torch.int32), columns.to(torch.int32)  # what MKL computes with: saves a copy per product
    return torch.sparse_csr_tensor(rows, columns, values, shape, check_invariants=False)


def mean_over_crystals(values: Tensor, batch: CrystalBatch) -> Tensor:
    """Return the mean over the atoms of each crystal, (B, C), of atom values (N, C): intensive pooling."""
    shares = values * batch.share.unsqueeze(1)
    return values.new_zeros(len(batch), values.shape[1]).index_add(0, batch.crystal, shares)
