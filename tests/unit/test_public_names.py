"""`import crystrata` in a notebook: light to import, and what a user reaches from there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from known_crystals import CRYSTALS

import crystrata
from crystrata.cli.main import main
from crystrata.errors import ModelError, UsageError
from crystrata.files import write_json
from crystrata.jarvis_properties import property_tasks
from crystrata.networks.config import NetworkConfig
from crystrata.networks.network import Network
from crystrata.networks.training_record import TrainingRecord
from crystrata.networks.weights import pack_network
from crystrata.training.checkpoints import write_checkpoint

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of an untrained network."""
    torch.manual_seed(0)
    network = Network(NetworkConfig(property_tasks(["bulk_modulus"]), "cgcnn", {"channels": 8, "layers": 1}))
    facts = {"properties": ["bulk_modulus"], "source": {"name": "none", "demo": False}, "elements": ["Si"], "hulls": {}}
    file = tmp_path_factory.mktemp("model") / "best.pt"
    record = TrainingRecord.of([], [], {"bulk_modulus": np.zeros(0, dtype=bool)})
    write_checkpoint(file, pack_network(network, network.state_dict(), facts, record))
    write_json(file.with_name("results.json"), {})
    return file


def test_everything_listed_is_there_and_the_import_is_light() -> None:
    for name in crystrata.__all__:
        assert getattr(crystrata, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        crystrata.lod  # noqa: B018
    code = "import sys, crystrata; assert not {'torch', 'pandas', 'pydantic', 'pymatgen'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_structures_in_any_form_are_predicted_alike(weights: Path) -> None:
    from pymatgen.core import Structure
    from pymatgen.io.ase import AseAtomsAdaptor

    model = crystrata.load(weights, device="cpu")
    cif = ROOT / "examples" / "cifs" / "silicon.cif"
    structure = Structure.from_file(cif)
    (crystal,) = crystrata.read_crystals(cif)
    items = [cif, str(cif), crystal, structure, AseAtomsAdaptor.get_atoms(structure)]
    table = model.predict(items, interval=0)
    assert table["error"].tolist() == [""] * 5
    assert table["formula"].tolist() == ["Si"] * 5
    values = table["bulk_modulus [GPa]"].to_numpy(dtype=float)
    np.testing.assert_allclose(values, values[0], rtol=1e-4)
    assert len(model.predict(structure)) == len(model.predict(str(cif))) == 1
    assert crystrata.predict(CRYSTALS[1], model=weights)["formula"].tolist() == ["ClNa"]


def test_latents_of_structures(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = crystrata.embed([CRYSTALS[0], "gone.cif", CRYSTALS[1]], model=weights)
    assert table["error_code"].tolist() == ["", "not_found", ""]
    latents = table.filter(regex=r"^\d+$").to_numpy()
    assert latents.dtype == np.float32
    assert np.isfinite(latents).all(axis=1).tolist() == [True, False, True]
    alone = crystrata.load(weights).embed(CRYSTALS[1]).filter(regex=r"^\d+$").to_numpy()
    np.testing.assert_allclose(alone[0], latents[2], rtol=1e-5, atol=1e-6)
    files = [str(ROOT / "examples" / "cifs" / name) for name in ("silicon.cif", "quartz.cif")]
    for ending in ("parquet", "csv", "npy"):
        output = tmp_path / f"latents.{ending}"
        assert main(["embed", "--cif", *files, "gone.cif", "--model", str(weights), "--output", str(output)]) == 0
        assert "3 rows, 1 with errors" in capsys.readouterr().out
    read = pd.read_parquet(tmp_path / "latents.parquet").filter(regex=r"^\d+$").to_numpy()
    np.testing.assert_array_equal(np.load(tmp_path / "latents.npy"), read)
    np.testing.assert_allclose(pd.read_csv(tmp_path / "latents.csv").filter(regex=r"^\d+$"), read, rtol=1e-6)
    assert main(["embed", "--cif", *files, "--model", str(weights), "--output", "latents.txt"]) == 2
    assert "latents.txt: end the name in .parquet, .csv, .npy" in capsys.readouterr().err
    with pytest.raises(UsageError, match="nothing to embed"):
        crystrata.embed([], model=weights)


def test_what_is_no_structure_is_told(weights: Path) -> None:
    model = crystrata.load(weights, device="cpu")
    table = model.predict(["gone.cif", CRYSTALS[0]])
    assert table["error_code"].tolist() == ["not_found", ""]
    with pytest.raises(UsageError, match="item 0 is a float: give paths of structure files"):
        model.predict([1.5])
    with pytest.raises(ModelError):
        crystrata.load("no such model")
