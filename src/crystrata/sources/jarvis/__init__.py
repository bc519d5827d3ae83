"""The JARVIS-DFT source: a local file in any of its forms, or an official release by name."""

from crystrata.sources.jarvis.download import RELEASES, Release
from crystrata.sources.jarvis.source import open_data_file, open_release

__all__ = ["RELEASES", "Release", "open_data_file", "open_release"]
