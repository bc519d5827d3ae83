"""Two encoders together: the latent of a composition, corrected by that of its crystal where there is one.

    g = m sigmoid( W [h_c, h_g] + b ),    h = h_c + g h_g

m is 1 where there is a graph. In training, m is set to 0 for some samples (modality dropout), so that the heads learn
to do without. B samples, d latent width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crystrata.errors import UsageError


class GatedFusion(nn.Module):
    """Gated sum of a composition latent and a graph latent.

    Args:
        width: d, of both.
        modality_dropout: Fraction of samples that are trained without their graph.

    Raises:
        UsageError: The fraction is not in [0, 1).
    """

    def __init__(self, width: int, modality_dropout: float = 0.3) -> None:
        super().__init__()
        if not 0 <= modality_dropout < 1:
            raise UsageError(f"modality dropout is a fraction from 0 to below 1, not {modality_dropout}")
        self.modality_dropout = modality_dropout
        self.gate = nn.Linear(2 * width, width)

    def forward(self, composition: Tensor, graph: Tensor, has_graph: Tensor) -> Tensor:
        """Return the joint latents, (B, d).

        Args:
            composition: h_c, (B, d).
            graph: h_g, (B, d); anything where there is no graph.
            has_graph: True where there is, (B,).
        """
        used = has_graph
        if self.training:
            used = used & (torch.rand(used.shape, device=used.device) >= self.modality_dropout)
        graph = graph.where(used.unsqueeze(1), 0.0)
        return composition + torch.sigmoid(self.gate(torch.cat([composition, graph], dim=1))) * graph
