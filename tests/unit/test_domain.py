"""What is said of a crystal that is unlike those of the training: each caution by name, none without a reason."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from crystrata.prediction.domain import Domain, cautions
from crystrata.structures.crystal import Crystal

VOLUMES = np.array([10.0, 40.0])  # A^3 per atom of the two elements of the synthetic crystals


@pytest.fixture
def domain() -> Domain:
    """Trained on 2,000 crystals of two elements with volumes spread by 10 %, latents of unit variance."""
    rng = np.random.default_rng(0)
    fractions = np.zeros((2000, 103), dtype=np.float32)
    fractions[:, 10] = rng.random(2000)
    fractions[:, 16] = 1 - fractions[:, 10]
    volumes = np.exp(fractions[:, [10, 16]] @ np.log(VOLUMES) + 0.1 * rng.normal(size=2000))
    return Domain.fit(rng.normal(size=(1000, 6)), rng.normal(size=(500, 6)), fractions, volumes)


def salt(scale: float = 1.0) -> Crystal:
    """Sodium and chlorine at 20 A^3 per atom times a factor."""
    return Crystal.create("salt", (40 * scale) ** (1 / 3) * np.eye(3), [11, 17], [(0, 0, 0), (0.5, 0.5, 0.5)])


def test_one_percent_of_like_crystals_are_beyond_distance_one(domain: Domain) -> None:
    like = np.random.default_rng(1).normal(size=(20_000, 6))
    assert 0.002 < (domain.distance(like) > 1).mean() < 0.03
    assert (domain.distance(like + 10) > 3).all()
    np.testing.assert_allclose(domain.distance(domain.latents), 0, atol=1e-6)


def test_volumes_are_compared_with_those_of_the_elements(domain: Domain) -> None:
    fractions = np.zeros((4, 103), dtype=np.float32)
    fractions[[0, 1], 10], fractions[[2, 3], 16] = 1, 1
    found = domain.expansion(fractions, np.array([10.0, 40.0, 40.0, 10.0]))
    np.testing.assert_allclose(found, [1, 4, 1, 0.25], rtol=0.05)
    assert found[0] == found[2] == 1


def test_equal_latents_do_no_harm() -> None:
    domain = Domain.fit(np.ones((30, 4)), np.ones((20, 4)), np.eye(30, 103, dtype=np.float32), np.ones(30))
    assert domain.distance(np.ones((2, 4))).tolist() == [0, 0]


def test_a_usual_crystal_has_no_caution() -> None:
    for gaps in ((0.0, 0.0), (0.0, 1.9), (3.0, 5.0)):
        assert list(cautions(np.array([11, 17]), salt(), ["Na", "Cl"], distance=0.99, expansion=1.0, gaps=gaps)) == []


@pytest.mark.parametrize(
    ("crystal", "told", "text"),
    [
        (salt(), {}, "elements never trained on: Cl"),
        (salt(), {"distance": 1.42}, r"unlike the training crystals \(domain distance 1.4\)"),
        (salt(2), {"expansion": 2.0}, r"odd volume: 40 A\^3 per atom, 2 times what its elements take"),
        (salt(20), {"expansion": 20.0}, r"400 A\^3 per atom: atoms stand apart"),
        (salt(), {"metal_with_dielectric": True}, "predicted to be a metal: its dielectric constant has no meaning"),
        (
            salt(),
            {"gaps": (0.0, 9.31)},
            r"the two gaps contradict each other: 0 eV \(OptB88vdW\), 9.31 eV \(MBJ\)",
        ),
        (replace(salt(), note="a choice was made"), {}, "a choice was made"),
    ],
)
def test_each_caution_has_its_reason(crystal: Crystal, told: dict[str, float], text: str) -> None:
    seen = ["Na"] if "never" in text else ["Na", "Cl"]
    (found,) = cautions(np.array([11, 17]), crystal, seen, **told)  # type: ignore[arg-type]
    assert re.fullmatch(text, found)
