"""Inverse design: compositions with wanted properties, by gradient through a trained network of compositions."""

from typing import Literal, get_args

Method = Literal["composition", "latent", "input"]
METHODS: tuple[Method, ...] = get_args(Method)
"""What a search moves: logits of atomic fractions, the latent, or the descriptor."""
