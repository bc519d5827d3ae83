"""Crystrata: nine properties of a crystal from its structure, with an E(3)-equivariant multi-task network."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("crystrata")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0.1.0+source"
