"""The convex hull of formation energies: energy above hull of any composition, spanned by training crystals alone."""

from crystrata.hull.cached import ReferenceHull, TrainingHull, cached_hull_energies, training_hull
from crystrata.hull.conventions import CONVENTIONS, Levels
from crystrata.hull.energies import formula_counts, hull_energies

__all__ = [
    "CONVENTIONS",
    "Levels",
    "ReferenceHull",
    "TrainingHull",
    "cached_hull_energies",
    "formula_counts",
    "hull_energies",
    "training_hull",
]
