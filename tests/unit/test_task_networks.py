"""The parts around descriptor encoders and task heads: scaling, latent stage, fusion, descriptor, kernels, settings."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from crystrata.datasets.batch import Targets
from crystrata.errors import InputError, UsageError
from crystrata.networks.heads import build_head
from crystrata.networks.heads.curve import LEAST_WIDTH
from crystrata.networks.heads.head import Head
from crystrata.networks.heads.sequence import step_grid
from crystrata.networks.latent import GatedFusion, Latent, LatentStage
from crystrata.networks.layers import AttentionBlock
from crystrata.networks.scaling import CLIP, CoordinateScaling, Scaling
from crystrata.tasks import Task


def head_of(kind: str, width: int = 4, **settings: Any) -> Head:
    """A head of a kind, or of a subtype of sequences; classes and transform are those of its task."""
    subtype = {} if kind in ("scalar", "classification", "curve") else {"subtype": kind}
    classes = tuple("abc"[: settings.pop("classes", 3)]) if kind == "classification" else ()
    task = Task(
        "made",
        "sequence" if subtype else kind,  # type: ignore[arg-type]
        columns=("label",),
        transform=settings.pop("transform", "identity"),
        classes=classes,
        t_column="t" if subtype or kind == "curve" else "",
        head={**subtype, **settings},
    )
    return build_head(task, width)


def known(value: Tensor) -> Tensor:
    return torch.ones_like(value, dtype=torch.bool)


@pytest.mark.parametrize("transform", ["identity", "asinh", "log1p"])
@pytest.mark.parametrize("components", [None, 3])
def test_scaling_is_a_z_score_and_is_undone(transform: Any, components: int | None) -> None:
    shape = (400,) if components is None else (400, components)
    value = torch.rand(shape, dtype=torch.double) * torch.tensor([1.0, 50.0, 2e3]).double()[: components or 1].squeeze()
    unknown = torch.rand(shape) < 0.3
    scaling = Scaling(transform, components).double()
    scaling.fit(value.where(~unknown, math.nan), ~unknown)
    z = scaling.standardise(value)
    columns, mask = z.reshape(400, -1), ~unknown.reshape(400, -1)
    for k in range(columns.shape[1]):
        labels = columns[mask[:, k], k]
        assert labels.mean().abs() < 1e-6
        assert labels.std(correction=0) == pytest.approx(1.0, abs=1e-6)
    torch.testing.assert_close(scaling.restore(z), value, rtol=1e-9, atol=1e-9)


def test_long_tails_are_clipped_and_predictions_not_negative() -> None:
    scaling = Scaling("log1p")
    value = torch.rand(100)
    scaling.fit(value, known(value))
    assert scaling.standardise(torch.tensor([1e30, 0.0])).abs().max() == CLIP
    assert scaling.restore(torch.tensor([-1e9, 1e9])).tolist()[0] == 0
    assert torch.isfinite(scaling.restore(torch.tensor([-1e9, 1e9]))).all()
    with pytest.raises(InputError, match="asinh"):
        scaling.fit(-value, known(value))
    scaling.fit(torch.cat([value, torch.tensor([-1.0])]), torch.cat([known(value), torch.tensor([False])]))


@pytest.mark.parametrize("value", [0.0, 3.0, 1e8])
@pytest.mark.parametrize("transform", ["identity", "asinh", "log1p"])
def test_equal_labels_give_a_finite_scale(transform: Any, value: float) -> None:
    scaling, labels = Scaling(transform), torch.full((5,), value)
    scaling.fit(labels, known(labels))
    assert scaling.scale == 1
    torch.testing.assert_close(scaling.restore(scaling.standardise(labels)), labels, rtol=1e-5, atol=1e-5)


def test_a_component_without_labels_keeps_its_scale() -> None:
    scaling, mask = Scaling("identity", 2), torch.tensor([[True, False]] * 3)
    scaling.fit(torch.tensor([[1.0, math.nan], [2.0, math.nan], [6.0, math.nan]]), mask)
    assert scaling.location.tolist() == [3.0, 0.0]
    assert scaling.scale[1] == 1


def test_coordinates_go_to_the_unit_interval() -> None:
    scaling = CoordinateScaling()
    scaling.fit(torch.tensor([300.0, 1000.0, 500.0]))
    assert scaling(torch.tensor([300.0, 650.0, 1000.0])).tolist() == [0.0, 0.5, 1.0]
    scaling.fit(torch.tensor([7.0, 7.0]))
    assert scaling(torch.tensor([7.0])).tolist() == [0.0]


def test_latent_stages() -> None:
    z = 5 * torch.randn(4, 6)
    assert torch.equal(LatentStage("none", 6)(z), z)
    assert torch.equal(LatentStage("tanh", 6)(z), z.tanh())
    deposit = LatentStage("deposit", 6, 3)
    assert deposit(z).shape == (4, deposit.latent_width) == (4, 3)
    assert deposit(z).abs().max() <= 1
    with pytest.raises(UsageError, match="did you mean 'deposit'"):
        LatentStage("deposits", 6)
    with pytest.raises(UsageError, match="keeps the width 6"):
        LatentStage("tanh", 6, 3)


def test_fusion_follows_the_presence_flag() -> None:
    fusion = GatedFusion(5).eval()
    left, right = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5)
    has_graph = torch.tensor([True, False, True, False])
    joint = fusion(left, right.where(has_graph.unsqueeze(1), math.nan), has_graph)
    assert torch.equal(joint[~has_graph], left[~has_graph])
    gate = torch.sigmoid(fusion.gate(torch.cat([left, right], dim=1)))
    torch.testing.assert_close(joint[has_graph], (left + gate * right)[has_graph])
    joint.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in fusion.parameters())


def test_modality_dropout_is_of_training_alone() -> None:
    fusion, everywhere = GatedFusion(3), torch.ones(4000, dtype=torch.bool)
    left, right = torch.zeros(4000, 3), torch.ones(4000, 3)
    without = (fusion.train()(left, right, everywhere) == 0).all(1).double().mean()
    assert without == pytest.approx(0.3, abs=0.03)
    assert (fusion.eval()(left, right, everywhere) != 0).all()
    assert torch.equal(fusion(left, right, everywhere), fusion(left, right, everywhere))
    with pytest.raises(UsageError, match="fraction"):
        GatedFusion(3, 1.0)


def test_attention_does_not_see_what_is_absent() -> None:
    block = AttentionBlock(8, 2).double().eval()
    x, present = torch.randn(3, 5, 8, dtype=torch.double), torch.ones(3, 5, dtype=torch.bool)
    present[0, 3:], present[2] = False, False
    other = x.clone()
    other[0, 3:] = 1e3
    torch.testing.assert_close(block(other, present)[0, :3], block(x, present)[0, :3])
    torch.testing.assert_close(block(x, present)[0, :3], block(x[:1, :3])[0])
    assert torch.isfinite(block(x, present)).all()


def test_kernels_stand_at_the_quantiles_of_the_training_coordinates() -> None:
    head = head_of("curve", kernels=5).double()
    t = torch.tensor([100.0, 110.0, 120.0, 130.0, 140.0, 200.0, 300.0, 400.0, 500.0])
    head.fit(Targets(torch.zeros(9), known(t), t[torch.randperm(9)], torch.tensor([4, 5])))
    wanted = torch.quantile((t.double() - 100) / 400, torch.linspace(0, 1, 5, dtype=torch.double))
    torch.testing.assert_close(head.centres, wanted)
    torch.testing.assert_close(head.log_width.exp().detach(), torch.full((5,), 0.25, dtype=torch.double))


def test_the_kernel_head_is_its_formula() -> None:
    head = head_of("curve", kernels=6, interaction=True).double()
    with torch.no_grad():
        head.log_width[0] = -50.0  # the least width holds it up
    h, t = torch.randn(2, 4, dtype=torch.double), torch.tensor([0.0, 0.4, 1.0, 0.2])
    output = head(Latent(h), Targets(t, known(t), t, torch.tensor([2, 2])))
    assert head.mu3 is not None
    for point in range(4):
        row, at = h[point // 2].unsqueeze(0), t[point].double().reshape(1, 1)
        s = head.log_width.exp().clamp(min=LEAST_WIDTH)
        y = (head.beta(row) * torch.exp(-((at - head.centres) ** 2) / (2 * s**2))).sum()
        y = y + head.mu1(row) + head.mu2(at) + head.mu3(torch.cat([row, at], dim=1))
        torch.testing.assert_close(output[point], y.squeeze())


def test_coefficients_are_computed_once_per_curve() -> None:
    head, seen = head_of("curve"), []
    head.beta.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    t = torch.rand(100)
    head(Latent(torch.randn(2, 4)), Targets(t, known(t), t, torch.tensor([97, 3])))
    assert seen == [2]


def test_the_classification_loss_keeps_the_scale_of_the_cross_entropy() -> None:
    labels = Targets(torch.tensor([0, 1, 2, 2, -1]), torch.tensor([True, True, True, True, False]))
    head, latent = head_of("classification", class_weights=(0.5, 2.0, 4.0)), Latent(torch.randn(5, 4))
    logits = head(latent)
    total, count = head.loss(logits, latent, labels)
    wanted = torch.nn.functional.cross_entropy(logits[:4], labels.values[:4], head.class_weights)
    torch.testing.assert_close(total / count, wanted)
    assert count == 0.5 + 2 + 4 + 4
    torch.testing.assert_close(head.probabilities(logits).sum(1), torch.ones(5))
    assert torch.equal(head.predict(logits, latent), head.probabilities(logits).argmax(1))


def test_labels_that_are_no_class_are_named() -> None:
    head = head_of("classification")
    head.fit(Targets(torch.tensor([0, 2, -1]), torch.tensor([True, True, False])))
    for wrong in (3.0, -1.0, 0.5):
        with pytest.raises(InputError, match="none of the classes 0 to 2"):
            head.fit(Targets(torch.tensor([0.0, wrong]), torch.tensor([True, True])))


def test_steps_without_coordinates_are_a_grid_of_their_own_length() -> None:
    present = torch.tensor([[True] * 5, [True] * 3 + [False] * 2, [True] + [False] * 4, [False] * 5])
    grid = step_grid(present, torch.zeros(1))
    assert grid[0].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert grid[1, :3].tolist() == [0.0, 0.5, 1.0]
    assert grid[2, 0] == 0
    assert torch.isfinite(grid).all()


@pytest.mark.parametrize("kind", ["rnn", "vec", "tcn", "transformer", "hybrid"])
def test_without_labels_a_sequence_has_seq_len_steps(kind: str) -> None:
    head = head_of(kind, 8, seq_len=6)
    assert head.eval()(Latent(torch.randn(3, 8))).shape == (3, 6)


def test_the_transformer_tells_equal_steps_apart() -> None:
    """Without a position code all outputs of equal t would be equal."""
    head = head_of("transformer", 8, d_model=8, nhead=2).eval()
    t = torch.full((1, 4), 0.5)
    assert head(Latent(torch.randn(1, 8)), Targets(t, known(t), t, torch.tensor([4]))).std() > 1e-4


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        ("transfomer", {}, "did you mean 'transformer'"),
        ("curve", {"kernel": 3}, "did you mean 'kernels'"),
        ("curve", {"kernels": 1}, "two kernels"),
        ("scalar", {"transform": "log"}, "did you mean 'log1p'"),
        ("scalar", {"error": "hubert"}, "did you mean 'huber'"),
        ("tcn", {"error": "mea"}, "unknown error"),
        ("rnn", {"d_in": 9}, "must be the width of what it reads, 8, not 9"),
        ("rnn", {"cell": "gur"}, "did you mean 'gru'"),
        ("transformer", {"d_model": 10, "nhead": 4}, "multiple"),
        ("classification", {"classes": 1}, "a number of at least 2"),
        ("classification", {"classes": 3, "class_weights": (1, 2)}, "one for each class"),
        ("classification", {"classes": 2, "class_weights": (1, -2)}, "positive"),
        ("classification", {"classes": 2, "class_weights": (1, math.nan)}, "positive"),
    ],
)
def test_settings_that_do_not_fit_are_named(kind: str, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        head_of(kind, 8, **settings)


def test_what_is_asked_of_a_curve_must_be_said() -> None:
    for kind in ("curve", "rnn"):
        with pytest.raises(UsageError, match="give those that are wanted"):
            head_of(kind, 8)(Latent(torch.randn(2, 8)))
    t = torch.rand(1, 5)
    with pytest.raises(UsageError, match="longer than the seq_len 4"):
        head_of("vec", 8, seq_len=4)(Latent(torch.randn(1, 8)), Targets(t, known(t), t, torch.tensor([5])))
