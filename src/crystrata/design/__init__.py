"""Inverse design: search for compositions with desired properties, by gradient through a trained network."""

from typing import Literal, get_args

Method = Literal["composition", "latent", "input"]
METHODS: tuple[Method, ...] = get_args(Method)
"""What a search optimises: logits of atomic fractions, the latent, or the descriptor."""
