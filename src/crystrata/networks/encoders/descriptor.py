"""What every encoder of descriptors is: (B, D) in, latents (B, d) out. B samples, D and d the two widths."""

from __future__ import annotations

import inspect

from torch import Tensor, nn


class DescriptorEncoder(nn.Module):
    """Base of the encoders that read a descriptor of a composition, or any other table of numbers.

    Attributes:
        input_width: D.
        latent_width: d.
    """

    input_width: int
    latent_width: int

    def forward(self, x: Tensor) -> Tensor:
        """Return latents (B, d) of descriptors (B, D)."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    @classmethod
    def setting_names(cls) -> list[str]:
        """Names of the settings that the constructor takes."""
        return list(inspect.signature(cls).parameters)
