"""Losses without labels, for pretraining: each a sum and a count, weighted by a static weight only.

B samples, D descriptor width, S width of the graph descriptor, d latent width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from crystrata.errors import UsageError
from crystrata.networks.scaling import known_errors

TEMPERATURE, HIDDEN_FRACTION = 0.07, 0.15


class MaskedFeatures(nn.Module):
    """Some numbers of the descriptor are hidden from the encoder and guessed from its latent by a linear map.

    Args:
        width: d.
        input_dim: D.
        fraction: Part of the numbers that is hidden.

    Raises:
        UsageError: The fraction is not between 0 and 1.
    """

    def __init__(self, width: int, input_dim: int, fraction: float = HIDDEN_FRACTION) -> None:
        super().__init__()
        if not 0 < fraction < 1:
            raise UsageError(f"the fraction of hidden numbers lies between 0 and 1, not at {fraction}")
        self.fraction = fraction
        self.stand_in = nn.Parameter(torch.zeros(input_dim))
        self.guess = nn.Linear(width, input_dim)

    def hide(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return descriptors for the encoder and where they hide what stands in x, both (B, D)."""
        hidden = torch.rand(x.shape, device=x.device) < self.fraction
        return torch.where(hidden, self.stand_in, x), hidden

    def loss(self, latent: Tensor, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the summed squared error of the hidden numbers and their count.

        Args:
            latent: Of the descriptors with hidden numbers, (B, d).
            x: The descriptors as they are, (B, D).
            hidden: What was hidden, (B, D).
        """
        return known_errors("mse", self.guess(latent), x, hidden).sum(), hidden.sum()


def contrastive_loss(
    composition: Tensor, graph: Tensor, has_both: Tensor, temperature: float = TEMPERATURE
) -> tuple[Tensor, Tensor]:
    """Return the symmetric cross-entropy of finding one's own partner (Radford et al., 2021), summed, and the count.

    Only samples that have both latents take part, also as the others to tell apart from. These are those of the
    micro-batch: unlike the other losses, this one depends on how a step is cut.

    Args:
        composition: h_c, (B, d).
        graph: h_g, (B, d).
        has_both: True where both are there, (B,); anything may stand in the latents elsewhere.
        temperature: Divides the cosine.
    """
    both = has_both.unsqueeze(1)
    left, right = (functional.normalize(h.where(both, 0.0), dim=1) for h in (composition, graph))
    alone = torch.eye(len(has_both), dtype=torch.bool, device=has_both.device)
    compared = (both & has_both) | alone  # a sample that lacks one has only itself to choose from: its loss is 0
    similarity = (left @ right.T / temperature).masked_fill(~compared, -torch.inf)
    own = torch.arange(len(has_both), device=has_both.device)
    total = sum(functional.cross_entropy(logits, own, reduction="sum") for logits in (similarity, similarity.T))
    return torch.as_tensor(0.5 * total), has_both.sum()


class CrossReconstruction(nn.Module):
    """The descriptor from the latent of the graph, and the descriptor of the graph from the latent of the composition.

    Args:
        width: d, of both latents.
        input_dim: D.
        graph_dim: S.
    """

    def __init__(self, width: int, input_dim: int, graph_dim: int) -> None:
        super().__init__()
        self.descriptor = nn.Linear(width, input_dim)
        self.graph = nn.Linear(width, graph_dim)

    def loss(
        self, composition: Tensor, graph: Tensor, x: Tensor, structure: Tensor, has_both: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the sum over samples of both mean squared errors, and the count of samples that have both.

        Args:
            composition: h_c, (B, d).
            graph: h_g, (B, d).
            x: Descriptors, (B, D).
            structure: Descriptors of the graphs, (B, S); taken as they are, so that no gradient bends them.
            has_both: True where both are there, (B,); anything may stand in the rest.
        """
        both = has_both.unsqueeze(1)
        left, right = composition.where(both, 0.0), graph.where(both, 0.0)
        errors = known_errors("mse", self.descriptor(right), x, both).mean(1)
        errors = errors + known_errors("mse", self.graph(left), structure.detach(), both).mean(1)
        return errors.sum(), has_both.sum()
