"""Encoders of compositions: a perceptron on the descriptor, and a transformer whose tokens are its numbers.

    token_k = A x_k + p_k

with one linear map A for all tokens and a learned code p_k that says which number it is. Attention costs L^2; the
kernel mean descriptor has G numbers per element feature, so that `group` = G makes one token per feature. B materials,
D descriptor width, L tokens, d latent width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crystrata.errors import UsageError
from crystrata.networks.encoders.encoder import CompositionEncoder
from crystrata.networks.layers import AttentionBlock, Norm, Perceptron

HIDDEN_DIMS = (None, 256, 128)
"""Widths of an MLP for which none are given; None stands for that of the descriptor."""


class MLPEncoder(CompositionEncoder):
    """Dense layers from the descriptor to the latent; the last one is linear.

    Args:
        hidden_dims: Widths, first D, last d.
        norm: `layer`, `batch` (a batch of one sample takes the running statistics) or `none`.
        residual: Whether the layers before the last are residual blocks of two.
        dropout: Fraction of the output of each of them that is left out in training.
    """

    def __init__(
        self, hidden_dims: Sequence[int], norm: Norm = "layer", residual: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.layers = Perceptron(hidden_dims, norm, residual, dropout)
        self.input_width, self.latent_width = hidden_dims[0], hidden_dims[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Return latents (B, d) of descriptors (B, D)."""
        return self.layers(x)


class TransformerEncoder(CompositionEncoder):
    """Tokens, attention blocks, and the CLS token or the mean over tokens as latent.

    Args:
        input_dim: D.
        d_model: d, a multiple of `nhead`.
        num_layers: Attention blocks.
        nhead: Attention heads.
        dropout: In the blocks.
        dim_feedforward: Hidden width of the blocks; 4 d if not given.
        use_cls_token: Whether a learned token is put in front and read at the end; the mean over tokens is if not.
        apply_layer_norm: Whether the latent is normed.
        group: Numbers of the descriptor that one token takes; must divide D.

    Raises:
        UsageError: The group does not divide D, or the heads do not divide d.
    """

    def __init__(
        self,
        input_dim: int,
        d_model: int = 256,
        num_layers: int = 4,
        nhead: int = 4,
        dropout: float = 0.1,
        dim_feedforward: int | None = None,
        use_cls_token: bool = True,
        apply_layer_norm: bool = True,
        group: int = 1,
    ) -> None:
        super().__init__()
        if group < 1 or input_dim % group:
            raise UsageError(f"a descriptor of {input_dim} numbers cannot be cut into groups of {group}")
        self.input_width, self.latent_width, self.group = input_dim, d_model, group
        self.token = nn.Linear(group, d_model)
        self.code = nn.Parameter(0.5 * torch.randn(input_dim // group, d_model))
        self.cls = nn.Parameter(0.5 * torch.randn(1, 1, d_model)) if use_cls_token else None
        self.blocks = nn.ModuleList(AttentionBlock(d_model, nhead, dim_feedforward, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(d_model) if apply_layer_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return latents (B, d) of descriptors (B, D)."""
        tokens = self.token(x.unflatten(1, (-1, self.group))) + self.code  # (B, L, d)
        if self.cls is not None:
            tokens = torch.cat([self.cls.expand(len(x), 1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens.mean(1) if self.cls is None else tokens[:, 0])
