"""Labels of a task in their three forms: cut, padded, counted."""

from __future__ import annotations

import torch

from crystrata.datasets.batch import Targets


def curves(lengths: list[int], *, steps: bool = True) -> Targets:
    """Ragged curves whose values are their positions, every third unknown."""
    points = torch.arange(sum(lengths))
    return Targets(points + 0.5, points % 3 > 0, points * 10.0 if steps else None, torch.tensor(lengths))


def test_points_know_their_sample() -> None:
    targets = curves([2, 0, 3])
    assert len(targets) == 3
    assert targets.is_ragged
    assert targets.sample.tolist() == [0, 0, 2, 2, 2]
    assert targets.known_points().tolist() == [1, 0, 2]


def test_the_padded_form_holds_the_same_points() -> None:
    targets = curves([2, 0, 3])
    padded = targets.padded()
    assert not padded.is_ragged
    assert padded.present.tolist() == [[True, True, False], [False] * 3, [True] * 3]
    assert torch.equal(padded.values[padded.present], targets.values)
    assert padded.t is not None
    assert targets.t is not None
    assert torch.equal(padded.t[padded.present], targets.t)
    assert torch.equal(padded.known_points(), targets.known_points())
    assert padded.padded() is padded
    assert curves([2, 1], steps=False).padded().t is None


def test_curves_without_a_point_are_padded_to_one() -> None:
    padded = curves([0, 0]).padded()
    assert padded.values.shape == (2, 1)
    assert not padded.present.any()


def test_vectors_are_counted_by_component() -> None:
    known = torch.tensor([[True, False, True], [False] * 3])
    targets = Targets(torch.zeros(2, 3), known)
    assert targets.known_points().tolist() == [2, 0]
    assert Targets(torch.zeros(2), torch.tensor([True, False])).to("cpu").known_points().tolist() == [1, 0]
