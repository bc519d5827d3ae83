"""Runs: their configuration, directory, manifest and weights."""
