"""A sequence by dilated convolutions over its steps, modulated by the latent. B samples, L steps, C channels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from crystrata.networks.heads.sequence import FiLM, SequenceHead
from crystrata.networks.task_scaling import ErrorKind, TaskTransform


class DilatedConvolutions(nn.Module):
    """x <- x + GELU(conv(norm(x))), kernel 3, dilation 2^k in layer k; beyond its end a sequence is zero.

    Args:
        channels: C.
        layers: Convolutions.
    """

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.first = nn.Linear(1, channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(layers))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel_size=3, dilation=2**k, padding=2**k) for k in range(layers)
        )

    def forward(self, t: Tensor, present: Tensor) -> Tensor:
        """Return features (B, L, C) of steps (B, L); `present` (B, L) is False in the padding."""
        x, there = self.first(t.unsqueeze(2)), present.unsqueeze(2)
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            seen = norm(x).where(there, 0.0)
            x = x + functional.gelu(convolution(seen.transpose(1, 2)).transpose(1, 2))
        return x


class TcnHead(SequenceHead):
    """Convolutions over t, FiLM, linear.

    Args:
        width: d.
        hidden: C.
        num_layers: Convolutions.
        d_in, seq_len, transform, error: As in `SequenceHead`.
    """

    def __init__(
        self,
        width: int,
        hidden: int = 64,
        num_layers: int = 4,
        d_in: int | None = None,
        seq_len: int | None = None,
        transform: TaskTransform = "identity",
        error: ErrorKind = "mse",
    ) -> None:
        super().__init__(width, d_in, seq_len, transform, error)
        self.convolutions = DilatedConvolutions(hidden, num_layers)
        self.film = FiLM(width, hidden)
        self.last = nn.Linear(hidden, 1)

    def read(self, latent: Tensor, t: Tensor, present: Tensor) -> Tensor:
        """Return standardised values, (B, L); see `SequenceHead.read`."""
        return self.last(self.film(self.convolutions(t, present), latent)).squeeze(2)
