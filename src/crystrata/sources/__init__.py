"""Where materials come from: the demo crystals, JARVIS-DFT, a table of one's own; and the names of the sources."""

from __future__ import annotations

from typing import Literal

Source = Literal["auto", "jarvis", "demo"]
SOURCES: tuple[Source, ...] = ("auto", "jarvis", "demo")
DEFAULT_RELEASE = "dft_3d_2021"
