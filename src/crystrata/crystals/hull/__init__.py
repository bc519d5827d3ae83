"""The convex hull of formation energies: energy above hull of any composition, spanned by training crystals alone."""

from crystrata.crystals.hull.energies import formula_counts, hull_energies
from crystrata.crystals.hull.kept import ReferenceHull, cached_hull_energies

__all__ = ["ReferenceHull", "cached_hull_energies", "formula_counts", "hull_energies"]
