"""The YAML and CSV blocks of the foundation model's documents, as people have them, through `fm-trainer`."""

from __future__ import annotations

import json
import os
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from crystrata.cli.trainer import main
from crystrata.runs.directory import CONFIG, RESULTS, TASK_PREDICTIONS

PRINTED = Path(os.environ.get("CRYSTRATA_PRINTED", "nowhere"))
pytestmark = pytest.mark.skipif(not PRINTED.is_dir(), reason="CRYSTRATA_PRINTED names no folder of manuals")

SMALL = ("--trainer.max_epochs=1", "--trainer.accelerator=cpu")
Fit = Callable[..., Path]


def blocks(document: str, language: str) -> list[str]:
    """Return the blocks of a language in a printed document."""
    text = (PRINTED / document).read_text(encoding="utf-8")
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for block in found]


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fit:
    """Runs `fm-trainer fit` on a file in a folder with the printed tables; returns the run directory."""
    monkeypatch.chdir(tmp_path)
    Path("examples/data").mkdir(parents=True)
    descriptors, attributes = blocks("foundation_first.md", "csv")
    Path("examples/data/dummy_formula_descriptors.csv").write_text(descriptors)
    Path("examples/data/dummy_attributes.csv").write_text(attributes)

    def fit(document: str, *further: str) -> Path:
        Path("config.yaml").write_text(document)
        assert main(["fit", "--config", "config.yaml", *SMALL, *further], "fm-trainer") == 0
        (run,) = tmp_path.rglob(CONFIG)
        return run.parent

    return fit


def scaling_law() -> str:
    return next(block for block in blocks("foundation_first.md", "yaml") if 'experiment_name: "scaling' in block)


def test_the_scaling_law_demo_as_printed(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit(scaling_law())
    assert run.relative_to(Path.cwd()).parts[:3] == ("results", "logs", "scaling_law_demo")
    assert set(json.loads((run / RESULTS).read_text())["tasks"]) == {"task_A", "task_B"}
    predicted = pd.read_parquet(run / TASK_PREDICTIONS / "task_B.parquet")
    assert predicted["composition"].unique().tolist() == ["mat_9", "mat_10"]
    assert predicted["t"].tolist() == [10, 20, 30, 10, 20, 30]
    assert "foundation_model.models.FlexibleMultiTaskModel is read as CompositionModel" in capsys.readouterr().err


@pytest.mark.parametrize("subtype", ["rnn", "transformer", "vec"])
def test_the_sequence_heads_as_printed_without_steps(fit: Fit, subtype: str) -> None:
    """Examples 2 to 4 name no steps_column: the steps of the series are numbered."""
    examples = [one for one in blocks("foundation_first.md", "yaml") if "# ..." in one]
    example = next(one for one in examples if f'subtype: "{subtype}"' in one)
    task = yaml.safe_load(example)["model"]["init_args"]
    base = yaml.safe_load(scaling_law())
    base["model"]["init_args"] |= task | {"shared_block_dims": [2, task["task_configs"][0].get("d_in", 64)]}
    base["data"]["init_args"].pop("task_masking_ratios")
    run = fit(yaml.safe_dump(base), "--model.init_args.task_configs.0.data_column=series_B_y")
    (name,) = json.loads((run / RESULTS).read_text())["tasks"]
    predicted = pd.read_parquet(run / TASK_PREDICTIONS / f"{name}.parquet")
    assert "t" not in predicted
    assert np.isfinite(predicted["pred"]).all()
    assert predicted["component"].tolist() == [0, 1, 2, 0, 1, 2]


NEWER = """\
seed_everything: 42
model:
  class_path: foundation_model.models.FlexibleMultiTaskModel
  init_args:
    encoder_config:
      type: mlp
      hidden_dims: [128, 256, 128] # first = input_dim, last = latent_dim
      norm: true
    task_configs:
      - name: example_task
        type: REGRESSION
        dims: [128, 64, 1]
        data_column: my_property
        loss_weight: 0.8
data:
  class_path: foundation_model.data.datamodule.CompoundDataModule
  init_args:
    descriptor_fn:
      class_path: foundation_model.data.composition_sources.PrecomputedDescriptorSource
      init_args: { path: "data/descriptors.parquet", composition_column: null }
    composition_column: "composition"
    batch_size: 64
trainer:
  max_epochs: 60
"""
TRANSFORMER = """\
model:
  init_args:
    encoder_config:
      type: transformer
      input_dim: 128
      d_model: 256
      num_layers: 4
      nhead: 4
      dropout: 0.1
      use_cls_token: true
      apply_layer_norm: true
"""


@pytest.mark.parametrize("encoder", ["mlp", "transformer"])
def test_the_newer_document_as_printed(fit: Fit, encoder: str) -> None:
    """Descriptors by the class of their source, `norm: true`, a transformer encoder; the print has lost its indents."""
    printed = (PRINTED / "foundation_newer.md").read_text(encoding="utf-8")
    for document in (NEWER, TRANSFORMER):
        assert "\n".join(line.strip() for line in document.strip().splitlines()) in printed
    draw, names = np.random.default_rng(0), [f"Li{count}O" for count in range(1, 61)]
    Path("data").mkdir()
    columns = [f"f{place}" for place in range(128)]
    pd.DataFrame(draw.normal(size=(60, 128)), names, columns).to_parquet("data/descriptors.parquet")
    pd.DataFrame({"composition": names, "my_property": draw.normal(size=60)}).to_parquet("data/mine.parquet")
    document = NEWER
    if encoder == "transformer":
        values = yaml.safe_load(NEWER)
        values["model"]["init_args"] |= yaml.safe_load(TRANSFORMER)["model"]["init_args"]
        values["model"]["init_args"]["task_configs"][0]["dims"][0] = 256
        document = yaml.safe_dump(values)
    config = json.loads(
        (fit(document, "--model.init_args.task_configs.0.data_files=data/mine.parquet") / CONFIG).read_text()
    )
    assert config["descriptor"] == {"kind": "table", "path": "data/descriptors.parquet"}
    assert config["tasks"][0]["loss_weight"] == 0.8
    if encoder == "mlp":
        assert config["composition_settings"] == {"hidden_dims": [128, 256, 128], "norm": "layer"}
    else:
        assert (config["composition"], config["composition_settings"]["d_model"]) == ("transformer", 256)
