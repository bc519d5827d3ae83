"""Crystals with targets: the dataset, splits, sampling and the Lightning data module."""
