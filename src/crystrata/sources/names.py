"""Names of the sources that materials come from, as flags and configurations write them."""

from __future__ import annotations

from typing import Literal

Source = Literal["auto", "jarvis", "demo"]
SOURCES: tuple[Source, ...] = ("auto", "jarvis", "demo")
DEFAULT_RELEASE = "dft_3d_2021"
