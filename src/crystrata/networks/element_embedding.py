"""What a network knows of an element before it has seen a crystal. N atoms, C channels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from crystrata.compositions.element_features import load_element_features
from crystrata.elements import MAX_ATOMIC_NUMBER

_LIMIT = 4.0  # standard deviations: hydrogen and carbon lie far out


class ElementEmbedding(nn.Module):
    """A learned vector for each element plus a linear map of its physical properties, group and row.

    The properties let what is learned of one element speak for its neighbours in the periodic table. They are part of
    the saved weights.

    Args:
        channels: C.
    """

    features: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.own = nn.Embedding(MAX_ATOMIC_NUMBER + 1, channels)
        self.register_buffer("features", torch.tensor(_features(), dtype=torch.get_default_dtype()))
        self.known = nn.Linear(self.features.shape[1], channels, bias=False)

    def forward(self, numbers: Tensor) -> Tensor:
        """Return the vectors (N, C) of atomic numbers (N,)."""
        table = self.own.weight + self.known(self.features)
        return table.index_select(0, numbers)


def _features() -> np.ndarray:
    """Return the properties of the elements, standardised, with group and row one-hot, (1 + Z, F); no element is 0."""
    table = load_element_features()
    spread = (table.values - table.values.mean(0)) / table.values.std(0)
    kinds = [table.values[:, table.names.index(name)] for name in ("group", "row")]
    one_hot = [(values[:, None] == np.unique(values)).astype(float) for values in kinds]
    known = np.hstack([spread.clip(-_LIMIT, _LIMIT), *one_hot])
    return np.vstack([np.zeros(known.shape[1]), known])
