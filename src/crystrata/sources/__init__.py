"""Where materials come from: the demo crystals, JARVIS-DFT, a table of one's own."""
