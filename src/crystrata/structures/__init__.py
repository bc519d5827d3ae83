"""Crystals: the `Crystal` record, file readers, the JARVIS source and the demo crystals."""
