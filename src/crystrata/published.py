"""Published test errors on the official tests of the JARVIS leaderboard (dft_3d, release of 2021), one record each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Test MAE of published models on one official test, in the unit of its label.

    Attributes:
        cgcnn: CGCNN, retrained; of the dielectric tests the original contribution.
        alignn: ALIGNN.
        best: Best that is published, on the leaderboard or in a paper with the same ids.
        best_model: Name of that model.
    """

    cgcnn: float
    alignn: float
    best: float
    best_model: str


PUBLISHED: dict[str, Published] = {
    "formation_energy_peratom": Published(0.0551, 0.0331, 0.0263, "CrystalFramer"),
    "optb88vdw_bandgap": Published(0.186, 0.142, 0.111, "ESNet"),
    "ehull": Published(0.059, 0.076, 0.0404, "ESNet"),
    "mbj_bandgap": Published(0.326, 0.310, 0.242, "CrystalFramer"),
    "bulk_modulus_kv": Published(11.01, 10.40, 8.70, "coNGN"),
    "shear_modulus_gv": Published(10.08, 9.48, 8.49, "coNGN"),
    "epsx": Published(22.2, 20.4, 18.57, "coNGN"),
    "epsy": Published(21.8, 20.0, 18.59, "coNGN"),
    "epsz": Published(21.1, 19.6, 17.81, "coNGN"),
    "dfpt_piezo_max_dij": Published(18.4, 20.6, 13.89, "coNGN"),
    "spillage": Published(0.384, 0.351, 0.346, "coNGN"),
}
"""Benchmark -> figures."""
