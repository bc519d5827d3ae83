"""Crystrata's speed beside its peers: one adapter per peer, one worker process each, rounds taken in turn."""
