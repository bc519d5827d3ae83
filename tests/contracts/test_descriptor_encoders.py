"""What every encoder of descriptors must be: row by row, deterministic, trained in every weight."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from encoder_cases import DescriptorCase, descriptor_cases, descriptors
from head_cases import MATERIALS, WIDTH

from crystrata.errors import UsageError
from crystrata.networks.encoders import COMPOSITION_ENCODERS, build_composition_encoder
from crystrata.networks.encoders.composition import MLPEncoder


@pytest.fixture(params=descriptor_cases(), ids=str)
def case(request: pytest.FixtureRequest) -> DescriptorCase:
    return request.param


def test_every_encoder_has_a_case() -> None:
    assert {case.name for case in descriptor_cases()} == set(COMPOSITION_ENCODERS)


def test_form(case: DescriptorCase) -> None:
    encoder = case.build()
    z = encoder(descriptors())
    assert z.shape == (MATERIALS, encoder.latent_width) == (MATERIALS, WIDTH)
    assert encoder.input_width == descriptors().shape[1]
    assert torch.isfinite(z).all()


def test_a_sample_does_not_see_the_others(case: DescriptorCase) -> None:
    encoder, x = case.build(), descriptors()
    order = torch.tensor([3, 5, 0, 2, 1, 4])
    torch.testing.assert_close(encoder(x[order]), encoder(x)[order], rtol=1e-11, atol=1e-12)
    for row in range(MATERIALS):
        torch.testing.assert_close(encoder(x[[row]]), encoder(x)[[row]], rtol=1e-11, atol=1e-12)


def test_a_batch_of_one_can_be_trained_on(case: DescriptorCase) -> None:
    encoder = case.build().train()
    encoder(descriptors())
    z = encoder(descriptors()[:1])
    z.square().sum().backward()
    assert torch.isfinite(z).all()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


def test_evaluation_is_deterministic(case: DescriptorCase) -> None:
    encoder = case.build()
    assert torch.equal(encoder(descriptors()), encoder(descriptors()))


@pytest.mark.parametrize("training", [False, True])
def test_all_parameters_get_gradients(case: DescriptorCase, training: bool) -> None:
    encoder = case.build().train(training)
    weights = torch.randn(MATERIALS, WIDTH, dtype=torch.double)
    (encoder(descriptors()) * weights).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-9, name


def test_every_number_of_the_descriptor_is_read(case: DescriptorCase) -> None:
    x = descriptors().requires_grad_()
    (case.build()(x) * torch.randn(MATERIALS, WIDTH, dtype=torch.double)).sum().backward()
    assert x.grad is not None
    assert (x.grad.abs() > 1e-9).all()


def test_gradients_are_right(case: DescriptorCase) -> None:
    assert torch.autograd.gradcheck(case.build(), descriptors()[:2].requires_grad_(), atol=1e-6, rtol=1e-4)


def test_saved_and_loaded_it_is_the_same(case: DescriptorCase, tmp_path: Path) -> None:
    encoder, other = case.build(), case.build(seed=1)
    assert not torch.allclose(other(descriptors()), encoder(descriptors()))
    torch.save(encoder.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(other(descriptors()), encoder(descriptors()))


@pytest.mark.parametrize("norm", ["layer", "batch", "none"])
@pytest.mark.parametrize("residual", [False, True])
def test_the_last_layer_of_the_mlp_is_linear(norm: str, residual: bool) -> None:
    encoder = MLPEncoder((5, 7, 3), norm, residual).double().eval()  # type: ignore[arg-type]
    x = torch.randn(400, 5, dtype=torch.double)
    before, last = encoder.layers.hidden(x), encoder.layers.last
    torch.testing.assert_close(encoder(x), before @ last.weight.T + last.bias)
    with torch.no_grad():
        last.bias.sub_(100.0)
    assert -150 < encoder(x).min() < encoder(x).max() < -50  # LeakyReLU would leave a tenth


@pytest.mark.parametrize("widths", [(5,), (), (5, 0, 3)])
def test_widths_that_make_no_network(widths: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="widths"):
        MLPEncoder(widths)


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("mpl", {}, "did you mean 'mlp'"),
        ("mlp", {"hidden_dims": (3, 2), "norms": "layer"}, "did you mean 'norm'"),
        ("mlp", {"hidden_dims": (3, 2), "lora_rank": 4}, "lora_rank"),
        ("mlp", {"hidden_dims": (3, 2), "norm": "weight"}, "unknown setting norm"),
        ("mlp", {"hidden_dims": (3, 2), "dropout": 1.0}, "dropout is a fraction"),
        ("transformer", {"input_dim": 12, "d_model": 10, "nhead": 4}, "d_model 10 cannot be shared by nhead 4"),
        ("transformer", {"input_dim": 12, "d_model": 8, "nhead": 4, "group": 5}, "groups of 5"),
    ],
)
def test_settings_that_do_not_fit_are_named(name: str, settings: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        build_composition_encoder(name, settings)


def test_dropout_is_for_training_alone() -> None:
    encoder, x = (
        build_composition_encoder("mlp", {"hidden_dims": (4, 50, 50, 3), "dropout": 0.5}).eval(),
        torch.ones(2, 4),
    )
    assert torch.equal(encoder(x[:1]), encoder(x[1:]))
    encoder.train()
    assert not torch.equal(encoder(x)[0], encoder(x)[1])
