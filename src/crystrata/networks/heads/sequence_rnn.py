"""A sequence by a recurrent network over its steps, modulated by the latent. B samples, L steps."""

from __future__ import annotations

from torch import Tensor, nn

from crystrata.errors import unknown_name
from crystrata.networks.heads.sequence import FiLM, SequenceHead
from crystrata.networks.task_scaling import ErrorKind, TaskTransform

CELLS: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


class RnnHead(SequenceHead):
    """GRU or LSTM over t, FiLM, linear. It runs forwards, so that padding at the end is never seen.

    Args:
        width: d.
        hidden: Width of the recurrent layers.
        cell: `gru` or `lstm`.
        num_layers: Recurrent layers.
        d_in, seq_len, transform, error: As in `SequenceHead`.

    Raises:
        UsageError: The cell is unknown, or `d_in` does not fit.
    """

    def __init__(
        self,
        width: int,
        hidden: int = 64,
        cell: str = "gru",
        num_layers: int = 2,
        d_in: int | None = None,
        seq_len: int | None = None,
        transform: TaskTransform = "identity",
        error: ErrorKind = "mse",
    ) -> None:
        super().__init__(width, d_in, seq_len, transform, error)
        if cell not in CELLS:
            raise unknown_name("cell", cell, CELLS)
        self.recurrent = CELLS[cell](1, hidden, num_layers, batch_first=True)
        self.film = FiLM(width, hidden)
        self.last = nn.Linear(hidden, 1)

    def read(self, latent: Tensor, t: Tensor, present: Tensor) -> Tensor:
        """Return standardised values, (B, L); see `SequenceHead.read`."""
        features, _ = self.recurrent(t.unsqueeze(2))
        return self.last(self.film(features, latent)).squeeze(2)
