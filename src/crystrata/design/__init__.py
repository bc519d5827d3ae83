"""Inverse design: compositions with wanted properties, by gradient through a trained network of compositions."""
