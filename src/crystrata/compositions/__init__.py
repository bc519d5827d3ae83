"""Compositions: atomic fractions in the order of the element table."""
