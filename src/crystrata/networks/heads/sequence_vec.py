"""A sequence on a fixed grid as one vector; the steps are not read. B samples, L steps."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from crystrata.errors import UsageError
from crystrata.networks.heads.sequence import SequenceHead
from crystrata.networks.layers import Perceptron
from crystrata.networks.task_scaling import ErrorKind, TaskTransform


class VecHead(SequenceHead):
    """Perceptron from the latent to `seq_len` values, the first L of which are the sequence.

    Args:
        width: d.
        seq_len: Longest sequence.
        hidden: Widths of the hidden layers.
        d_in, transform, error: As in `SequenceHead`.
    """

    def __init__(
        self,
        width: int,
        seq_len: int,
        hidden: Sequence[int] = (128,),
        d_in: int | None = None,
        transform: TaskTransform = "identity",
        error: ErrorKind = "mse",
    ) -> None:
        super().__init__(width, d_in, seq_len, transform, error)
        self.layers = Perceptron([width, *hidden, seq_len])

    def read(self, latent: Tensor, t: Tensor, present: Tensor) -> Tensor:
        """Return standardised values, (B, L); see `SequenceHead.read`.

        Raises:
            UsageError: A sequence is longer than `seq_len`.
        """
        values, length = self.layers(latent), present.shape[1]
        if length > values.shape[1]:
            raise UsageError(f"a sequence of {length} steps is longer than the seq_len {values.shape[1]} of its head")
        return values[:, :length]
