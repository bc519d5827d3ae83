"""Encoders, heads and the multi-task network that joins them."""
