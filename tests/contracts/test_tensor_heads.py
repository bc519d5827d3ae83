"""Tensor heads on real crystals, on every encoder: they turn with the crystal and have its symmetry in its frame."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from encoder_cases import EncoderCase, encoder_cases
from head_cases import HIDDEN, targets_of
from known_crystals import CRYSTALS, SETTINGS, batch_of, exact_batch_of, rotation, turned
from torch import Tensor

from crystrata.jarvis_properties import get_property
from crystrata.networks.encoders.encoder import StructureEncoder
from crystrata.networks.heads import build_head
from crystrata.networks.heads.head import Head
from crystrata.networks.heads.tensor import voigt_components
from crystrata.networks.latent import Latent
from crystrata.structures.crystal import Crystal
from crystrata.structures.readers import read_crystals

BY_NAME = {crystal.id: crystal for crystal in CRYSTALS}
CIFS = Path(__file__).resolve().parents[2] / "examples" / "cifs"


def example(name: str) -> Crystal:
    """A crystal of the examples; a CIF of hexagonal or tetragonal axes has a along x and c along z."""
    (crystal,) = read_crystals([CIFS / f"{name}.cif"])
    if not isinstance(crystal, Crystal):
        raise ValueError(f"{name}.cif: {crystal}")
    return crystal


POINT_GROUPS: dict[str, Crystal] = {
    "m-3m, atoms on inversion centres": BY_NAME["NaCl"],
    "m-3m, atoms off inversion centres": BY_NAME["silicon"],
    "m-3m, perovskite": BY_NAME["SrTiO3"],
    "6/mmm": BY_NAME["magnesium"],
    "-43m": BY_NAME["GaAs"],
    "32": example("quartz"),
    "4mm": example("barium_titanate"),
    "1": BY_NAME["triclinic"],
}
CENTROSYMMETRIC = [name for name in POINT_GROUPS if name[0] == "m" or name == "6/mmm"]
ACENTRIC = [name for name in POINT_GROUPS if name not in CENTROSYMMETRIC]
EXACT = 1e-12  # of the largest component; 5e-15 is seen in float64
ROUNDED = 1e-5  # with the float32 vectors of the store; 3e-7 is seen
ENCODERS = [case for case in encoder_cases() if case.settings.get("angles", "none") == "none"]

# Voigt components d_ij that the crystal class leaves, for axes as in known_crystals (Nye 1985, table 8). 32: two-fold
# axis along x; rows x, y, z and columns xx, yy, zz, yz, xz, xy.
VOIGT_FORMS = {
    "-43m": [[0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1]],
    "32": [[1, 1, 0, 1, 0, 0], [0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0]],
    "4mm": [[0, 0, 0, 0, 1, 0], [0, 0, 0, 1, 0, 0], [1, 1, 1, 0, 0, 0]],
}


@pytest.fixture(scope="module", autouse=True)
def _double_precision() -> Iterator[None]:
    """Build networks in float64: e3nn rounds the constants of its products to the precision in which it makes them."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="module", params=ENCODERS, ids=str)
def encoder(request: pytest.FixtureRequest, _double_precision: None) -> StructureEncoder:
    """An encoder in double precision."""
    case: EncoderCase = request.param
    return case.build()


def head_of(kind: str, width: int) -> Head:
    """A head of a tensor property, in double precision, its weights always the same."""
    return deepcopy(_first_head(kind, width))


@cache
def _first_head(kind: str, width: int) -> Head:
    torch.manual_seed(1)
    task = get_property(kind.removesuffix("_largest")).of_kind(kind)
    return build_head(replace(task, head={"hidden": (HIDDEN,)}), width, SETTINGS)


def tensors(kind: str, encoder: StructureEncoder, crystals: list[Crystal]) -> Tensor:
    """The tensors of crystals, (B, 3, 3) or (B, 3, 3, 3)."""
    batch = exact_batch_of(crystals)
    with torch.no_grad():
        output: Tensor = head_of(kind, encoder.latent_width)(Latent.of_crystals(encoder(batch), batch))
    return output


@pytest.mark.parametrize("mirrored", [False, True], ids=["rotated", "rotated and reflected"])
def test_the_tensors_turn_with_the_crystal(encoder: StructureEncoder, mirrored: bool) -> None:
    crystals = list(POINT_GROUPS.values())
    moved = [turned(crystal, mirrored=mirrored) for crystal in crystals]
    r = torch.from_numpy(rotation(mirrored=mirrored))
    before, after = (tensors("dielectric", encoder, group) for group in (crystals, moved))
    torch.testing.assert_close(after, torch.einsum("ai,bj,nij->nab", r, r, before), rtol=0, atol=EXACT)
    before, after = (tensors("piezoelectric", encoder, group) for group in (crystals, moved))
    wanted = torch.einsum("ai,bj,ck,nijk->nabc", r, r, r, before)
    torch.testing.assert_close(after, wanted, rtol=0, atol=EXACT * float(before.abs().max()))
    assert (after - before)[-1].abs().max() > 1e-3 * before.abs().max()  # the rotation is not without effect


def test_the_dielectric_tensor_is_symmetric_with_principal_values_above_one(encoder: StructureEncoder) -> None:
    values = tensors("dielectric", encoder, list(POINT_GROUPS.values()))
    torch.testing.assert_close(values, values.mT, rtol=0, atol=EXACT)
    assert torch.linalg.eigvalsh(values).min() > 1


def test_principal_values_stay_finite_and_above_one_at_any_weights(encoder: StructureEncoder) -> None:
    batch = batch_of(list(POINT_GROUPS.values()))
    head = head_of("dielectric", encoder.latent_width).float()
    with torch.no_grad():
        latent = Latent.of_crystals(encoder(exact_batch_of(list(POINT_GROUPS.values()))).float(), batch)
        for scale in (0.1, 100.0, 10.0):  # weights of a tenth, of ten times, of a hundred times their first size
            for parameter in head.parameters():
                parameter.mul_(scale)
            values = head(latent)
            assert torch.isfinite(values).all()
            assert torch.diagonal(values, dim1=1, dim2=2).min() > 1


def test_the_dielectric_tensor_has_the_symmetry_of_the_crystal_in_its_frame(encoder: StructureEncoder) -> None:
    """Cubic: a number. Trigonal, tetragonal, hexagonal: uniaxial about z. Triclinic: no two values equal."""
    for name, value in zip(POINT_GROUPS, tensors("dielectric", encoder, list(POINT_GROUPS.values())), strict=True):
        diagonal, spread = value.diagonal(), (value - torch.eye(3) * value.diagonal().mean()).abs().max()
        if name.startswith("m-3m") or name == "-43m":
            assert spread < EXACT, name
            continue
        assert spread > 1e-6, name
        if name == "1":
            assert torch.linalg.eigvalsh(value).diff().min() > 1e-6
            continue
        assert (value - torch.diag(diagonal)).abs().max() < EXACT, name
        assert (diagonal[0] - diagonal[1]).abs() < EXACT, name
        assert (diagonal[0] - diagonal[2]).abs() > 1e-6, name


def test_the_piezoelectric_tensor_is_zero_with_an_inversion_centre_and_only_then(encoder: StructureEncoder) -> None:
    values = tensors("piezoelectric", encoder, list(POINT_GROUPS.values()))
    sizes = dict(zip(POINT_GROUPS, values.abs().amax((1, 2, 3)).tolist(), strict=True))
    largest = max(sizes.values())
    assert {name for name in POINT_GROUPS if sizes[name] > 1e-3 * largest} == set(ACENTRIC), sizes
    assert max(sizes[name] for name in CENTROSYMMETRIC) < EXACT * largest


@pytest.mark.parametrize("kind", ["piezoelectric", "piezoelectric_largest"])
def test_in_the_precision_of_training_the_predicted_coefficient_is_zero_too(
    encoder: StructureEncoder, kind: str
) -> None:
    batch = batch_of(list(POINT_GROUPS.values()))
    head = head_of(kind, encoder.latent_width).float()
    with torch.no_grad():
        latent = Latent.of_crystals(encoder(exact_batch_of(list(POINT_GROUPS.values()))).float(), batch)
        predicted = dict(zip(POINT_GROUPS, head.predict(head(latent), latent).tolist(), strict=True))
    least = min(predicted[name] for name in ACENTRIC)
    assert least > 0
    assert max(abs(predicted[name]) for name in CENTROSYMMETRIC) < ROUNDED * max(predicted.values())


def test_the_piezoelectric_tensor_has_the_form_of_its_class(encoder: StructureEncoder) -> None:
    """Axes and signs: d_14 = d_25 = d_36 alone in zincblende; d_12 = -d_11, d_26 = -2 d_11, d_25 = -d_14 in quartz."""
    values = tensors("piezoelectric", encoder, [POINT_GROUPS[name] for name in VOIGT_FORMS])
    forms = dict(zip(VOIGT_FORMS, voigt_components(values), strict=True))
    scale = {name: float(form.abs().max()) for name, form in forms.items()}
    for name, pattern in VOIGT_FORMS.items():
        there = torch.tensor(pattern, dtype=torch.bool)
        assert forms[name][~there].abs().max() < EXACT * scale[name], name
        assert forms[name][there].abs().min() > 1e-6 * scale[name], name
    zincblende, quartz, polar = forms.values()
    equal = [
        (zincblende[0, 3], zincblende[1, 4], "-43m"),
        (zincblende[1, 4], zincblende[2, 5], "-43m"),
        (quartz[0, 1], -quartz[0, 0], "32"),
        (quartz[1, 5], -2 * quartz[0, 0], "32"),
        (quartz[1, 4], -quartz[0, 3], "32"),
        (polar[2, 0], polar[2, 1], "4mm"),
        (polar[0, 4], polar[1, 3], "4mm"),
    ]
    for one, other, name in equal:
        assert (one - other).abs() < EXACT * scale[name], name


@pytest.mark.parametrize("kind", ["dielectric", "piezoelectric", "piezoelectric_largest"])
def test_gradients_are_finite_where_symmetry_makes_the_tensor_zero(encoder: StructureEncoder, kind: str) -> None:
    """Cubic and centrosymmetric crystals (no anisotropy, no piezoelectricity), and weights that make every tensor 0."""
    crystals = [BY_NAME[name] for name in ("NaCl", "silicon", "SrTiO3", "copper")]
    batch = exact_batch_of(crystals)
    atoms = encoder(batch).detach()
    head = head_of(kind, encoder.latent_width)
    targets = targets_of(torch.full((len(crystals),), 4.0, dtype=torch.double))
    for weight in (1.0, 0.0):
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.mul_(weight)
        values = atoms.clone().requires_grad_()
        latent = Latent.of_crystals(values, batch)
        total, _ = head.loss(head(latent), latent, targets)
        gradients = torch.autograd.grad(total, [values, *head.parameters()])
        assert torch.isfinite(total)
        assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("kind", ["dielectric", "piezoelectric"])
def test_the_reported_number_does_not_turn(encoder: StructureEncoder, kind: str) -> None:
    crystals = list(POINT_GROUPS.values())
    head = head_of(kind, encoder.latent_width)
    values = []
    for group in (crystals, [turned(crystal, mirrored=True) for crystal in crystals]):
        batch = exact_batch_of(group)
        with torch.no_grad():
            latent = Latent.of_crystals(encoder(batch), batch)
            values.append(head.predict(head(latent), latent))
    torch.testing.assert_close(values[1], values[0], rtol=1e-9, atol=1e-9 * float(values[0].max()))
    assert values[0].min() >= 0
