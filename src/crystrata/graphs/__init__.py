"""Smooth neighbourhoods of crystals, their angles, the store on disk and the batches of the networks."""
