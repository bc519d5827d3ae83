"""`crystrata-trainer`: files, overlays, values and references; what is refused, and how; the run that comes of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from known_tasks import label_table

from crystrata.cli.trainer import main
from crystrata.runs.directory import CHECKPOINT, CONFIG, HISTORY, LOGS, MANIFEST
from crystrata.training.checkpoints import read_checkpoint
from crystrata.workflows.documents.document import read_document
from crystrata.workflows.documents.experiment import Experiment, read_experiment
from crystrata.workflows.documents.older_keys import hours_of

TASKS: list[dict[str, Any]] = [
    {"name": "energy", "type": "REGRESSION", "data_column": "energy", "dims": [8, 4, 1]},
    {"name": "family", "type": "classification", "data_column": "family", "num_classes": 3},
]
CLASSES = {"oxide": 0, "salt": 1, "other": 2}


def document(folder: Path, **trainer: Any) -> dict[str, Any]:
    """A run over two tasks whose labels lie in `folder`."""
    return {
        "experiment_name": "first",
        "trainer": {"max_epochs": 3, "default_root_dir": str(folder / "models"), "accelerator": "cpu", **trainer},
        "model": {
            "class_path": "CompositionModel",
            "init_args": {
                "encoder_config": {"type": "mlp", "hidden_dims": [None, 16, 8]},
                "shared_block_optimizer": {"lr": 1e-2, "scheduler_type": "None"},
                "task_configs": TASKS,
            },
        },
        "data": {
            "class_path": "crystrata.workflows.documents.composition.CompositionData",
            "init_args": {
                "descriptor": {"kind": "statistics"},
                "attributes_source": str(folder / "labels.csv"),
                "task_configs": "${model.init_args.task_configs}",
                "val_split": 0.2,
                "test_split": 0.2,
            },
        },
    }


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the table of labels."""
    folder = tmp_path_factory.mktemp("labels")
    table = label_table()
    table.assign(family=table["family"].map(CLASSES)).to_csv(folder / "labels.csv", index=False)
    return folder


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, labels: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls `crystrata-trainer` with a document and further arguments; returns exit code and what it printed."""

    def call(*arguments: str, verb: str = "fit", values: dict[str, Any] | None = None) -> tuple[int, str, str]:
        values = values or document(labels, default_root_dir=str(tmp_path / "models"))
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
        try:
            code = main([*([verb] if verb else []), "--config", str(tmp_path / "run.yaml"), *arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def experiment_of(labels: Path, **model: Any) -> Experiment:
    values = document(labels)
    values["model"]["init_args"] |= model
    return read_experiment(values | {"data": read_document_of(values)["data"]})[0]


def read_document_of(values: dict[str, Any]) -> dict[str, Any]:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.create(values), resolve=True)  # type: ignore[return-value]


def test_a_run_with_callbacks_and_loggers(call: Call, labels: Path, tmp_path: Path) -> None:
    trainer = {
        "callbacks": [
            {
                "class_path": "lightning.pytorch.callbacks.EarlyStopping",
                "init_args": {"monitor": "val_total_loss", "patience": 1, "min_delta": 100.0},
            },
            {"class_path": "ModelCheckpoint", "init_args": {"monitor": "val_energy_loss", "filename": "mine"}},
        ],
        "logger": [{"class_path": "CSVLogger", "init_args": {"save_dir": str(tmp_path / "own")}}],
    }
    values = document(labels, default_root_dir=str(tmp_path / "models"), max_epochs=9, **trainer)
    code, out, err = call(values=values, verb="")  # without a verb, it is fit
    assert (code, err) == (0, "")
    run = tmp_path / "models" / "tasks_mlp" / "run_first"
    assert f"\nRun directory: {run}\n" in out
    assert "Mean absolute error" in out  # the closing tables
    assert "accuracy" in out
    history = json.loads((run / HISTORY).read_text())
    assert len(history) == 2  # nothing falls by 100
    assert set(history[0]["val_loss"]) == {"total", "final", "energy", "family"}
    assert list((run / LOGS).rglob("mine.ckpt"))
    logged = pd.read_csv(next((tmp_path / "own").rglob("metrics.csv")))
    wanted = {"val_total_loss", "val_final_loss", "val_energy_loss", "val_energy_mae", "val_family_accuracy"}
    assert wanted <= set(logged)
    row = logged.dropna(subset="val_total_loss").iloc[0]
    assert row["val_total_loss"] == pytest.approx(row["val_energy_loss"] + row["val_family_loss"], 1e-5)
    assert row["val_family_accuracy"] == pytest.approx(1 - row["val_family_mae"])
    assert json.loads((run / MANIFEST).read_text())["command"][0] == "crystrata-trainer"


def test_a_run_goes_on_and_a_second_one_has_a_name_of_its_own(call: Call, tmp_path: Path) -> None:
    family = tmp_path / "models" / "tasks_mlp"
    assert call("--trainer.max_epochs=1")[0] == 0
    assert call("--trainer.max_epochs", "2", "--ckpt_path", "last")[0] == 0
    assert [record["epoch"] for record in json.loads((family / "run_first" / HISTORY).read_text())] == [1, 2]
    code, _, err = call("--ckpt_path=last", "--model.init_args.latent_activation=none")
    assert code == 2
    assert "latent_stage tanh -> none" in err
    assert call("--trainer.max_epochs=1")[0] == 0
    assert sorted(path.name for path in family.iterdir()) == ["run_first", "run_first_2"]
    config = json.loads((family / "run_first_2" / CONFIG).read_text())
    assert (config["run_id"], config["seed"], config["epochs"]) == ("first_2", 42, 1)


def test_files_overlay_and_values_go_before_them(call: Call, tmp_path: Path) -> None:
    over = tmp_path / "over.yaml"
    over.write_text("trainer: {max_epochs: 7, patience: 4}\nmodel: {init_args: {latent_activation: none}}\n")
    code, out, _ = call(
        "--config", str(over), "--print_config", "--trainer.patience=5", "--seed_everything", "3",
        "--model.init_args.task_configs.0.loss_weight=0.5", "--freeze_encoder",
    )  # fmt: skip
    assert code == 0
    shown = yaml.safe_load(out)
    assert (shown["epochs"], shown["patience"], shown["seed"]) == (7, 5, 3)
    assert shown["latent_stage"] == "none"
    assert shown["freeze_shared"] is True
    assert shown["tasks"][0]["loss_weight"] == 0.5
    (tmp_path / "shown.yaml").write_text(out)
    again = read_document([("", tmp_path / "shown.yaml")])
    assert read_experiment(again)[0].as_document() == shown


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--model.init_args.latent_activaton=none", "at model.init_args 'latent_activaton'; did you mean 'latent_ac"),
        ("--trainer.max_epoch=3", "at trainer 'max_epoch'; did you mean 'max_epochs'? (known: max_epochs, accelerator"),
        ("--trainer.strategy=ddp", "trainer.strategy: 'ddp' can only be auto or single_device here: a run is one pr"),
        ("--trainer.devices=2", "trainer.devices: 2 can only be 1 or auto or [0] here: a run is one process"),
        ("--trainer.precision=16-mixed", "unknown trainer.precision '16-mixed'; did you mean 'bf16-mixed'"),
        ("--trainer.check_val_every_n_epoch=2", "every epoch is validated once, at its end: by it the best weights"),
        ("--trainer.val_check_interval=1", "trainer.val_check_interval: 1 can only be 1.0 here: every epoch is valida"),
        ("--trainer.plugins=[]", "trainer.plugins: [] is not taken: the run writes its own checkpoints"),
        ("--trainer.limit_val_batches=0", "trainer.limit_val_batches must be above 0, not 0"),
        ("--trainer.limit_train_batches=none", "trainer.limit_train_batches must be a whole number or a number, n"),
        ("--trainer.max_epochs=abc", "trainer.max_epochs must be a whole number, not 'abc'"),
        ("--trainer.max_time=soon", "trainer.max_time must be DD:HH:MM:SS"),
        ("--trainer.max_time=1:00:00:00", "trainer.max_time is the number 216000: write DD:HH:MM:SS in quotes"),
        ("--model.init_args.shared_block_optimizer.lr=abc", "shared_block_optimizer.lr must be a number, not 'ab"),
        ("--model.init_args.task_configs.0.optimizer.lr=abc", "'energy': optimizer.lr must be a number above 0, not"),
        ("--model.init_args.encoder_config=mlp", "model.init_args.encoder_config must be a mapping, not 'mlp'"),
        ("--data.init_args.task_configs=x", "data.init_args.task_configs must be a list of mappings, not 'x'"),
        ("--trainr.max_epochs=3", "unknown argument --trainr.max_epochs; did you mean '--trainer'"),
        ("--trainer.max_epochs", "--trainer.max_epochs needs a value"),
        ("--experiment_name=a/b", "experiment_name must be a plain name, not 'a/b'"),
        ("--model.init_args.graph_encoder={type: e3nn, graph: {kk: 3}}", "graph_encoder.graph 'kk'; did you mean 'k'"),
        ("--seed_everything=x", "seed_everything must be a whole number"),
        ("--model.class_path=foundation_model.models.FlexibleModel", "did you mean 'FlexibleMultiTaskModel'"),
        ("--model.class_path=CompositonModel", "did you mean 'CompositionModel'"),
        ("--data.class_path=CrystalData", "CompositionModel learns from CompositionData, not CrystalData"),
        ("--data.init_args.task_configs=[]", "the task_configs of model and data differ"),
        ("--model.init_args.lr=${trainer.lr}", "at model.init_args.lr of the configuration: Interpolation key"),
        ("--model.init_args.shared_block_optimizer.lrr=1", "shared_block_optimizer 'lrr'; did you mean 'lr'"),
        ("--model.init_args.shared_block_dims=[2,8]", "encoder_config and shared_block_dims contradict each other"),
        ("--model.init_args.train_only=[enery]", "task in train_only 'enery'; did you mean 'energy'"),
        ("--model.init_args.loss_weights.enery=2", "task in loss_weights 'enery'; did you mean 'energy'"),
        ("--model.init_args.task_configs.0.data_colum=x", "of task 'energy' 'data_colum'; did you mean"),
        ("--trainer.callbacks=[{class_path: EarlyStopping, init_args: {monitor: val_enery_loss}}]", "val_energy_loss"),
        ("--trainer.callbacks=[{class_path: EarlyStoping}]", "trainer.callbacks.0: there is no class EarlyStoping"),
        ("--trainer.callbacks=[{class_path: torch.nn.Linear}]", "torch.nn.Linear is not a Callback"),
        ("--ckpt_path=nowhere", "nowhere is no run directory"),
        ("--ckpt_path=last", "no run of the experiment 'first' with a checkpoint.pt"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_a_line(call: Call, argument: str, told: str, tmp_path: Path) -> None:
    code, out, err = call(argument)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert told in err
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("arguments", "epochs_and_steps"),
    [
        (("--trainer.fast_dev_run=true",), (1, 1)),
        (("--trainer.fast_dev_run=2",), (1, 2)),
        (("--trainer.limit_train_batches=2",), (3, 6)),
        (("--trainer.limit_train_batches=0.5",), (3, 6)),
        (("--trainer.max_steps=6",), (2, 6)),
        (("--trainer.max_steps=99",), (3, 12)),
        (("--trainer.min_epochs=3", "--trainer.patience=1", "--model.init_args.lr=0.9"), (3, 12)),
        (("--trainer.precision=bf16-mixed", "--trainer.deterministic=true", "--trainer.detect_anomaly=true"), (3, 12)),
        (("--trainer.devices=1", "--trainer.strategy=auto", "--trainer.num_nodes=1", "--trainer.num_sanity_val_steps=2",
          "--trainer.enable_progress_bar=true", "--trainer.enable_model_summary=true", "--trainer.log_every_n_steps=1",
          "--trainer.check_val_every_n_epoch=1", "--trainer.profiler=simple"), (3, 12)),
    ],
)  # fmt: skip
def test_fields_of_lightnings_trainer(
    call: Call, tmp_path: Path, arguments: tuple[str, ...], epochs_and_steps: tuple[int, int]
) -> None:
    code, _, err = call("--data.init_args.batch_size=8", *arguments)
    assert code == 0, err
    (run,) = (tmp_path / "models").glob("*/run_first")
    epochs, saved = json.loads((run / HISTORY).read_text()), read_checkpoint(run / CHECKPOINT)
    assert (len(epochs), saved["global_step"]) == epochs_and_steps


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        (
            "--model.init_args.encoder_config.hidden_dims=5",
            "hidden_dims of the encoder must be a list of widths, not 5",
        ),
        (
            "--model.init_args.encoder_config.hidden_dims=[null,a]",
            "hidden_dims of encoder mlp.1 must be a whole number, no",
        ),
        ("--model.init_args.encoder_config.dropout=abc", "dropout of encoder mlp must be a number, not 'abc'"),
        ("--model.init_args.encoder_config.norm=5", "norm of encoder mlp must be one of layer, batch, none, not 5"),
        ("--data.init_args.descriptor.kind=5", "unknown kind of descriptor 5 (known: kernel_mean"),
        ("--data.init_args.descriptor.kind=[5]", "unknown kind of descriptor [5] (known: kernel_mean"),
    ],
)
def test_settings_of_another_type_are_told_in_a_line(call: Call, argument: str, told: str) -> None:
    code, _, err = call(argument)
    assert (code, err.count("\n")) == (2, 1)
    assert told in err


def test_files_that_are_none_are_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for content, told in ((None, "No such file"), ("a: [", "is no YAML"), ("- a", "no mapping"), ("3", "no mapping")):
        file = tmp_path / "odd.yaml"
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_text(content)
        assert main(["fit", "--config", str(file)]) == 2
        err = capsys.readouterr().err
        assert told in err
        assert err.count("\n") == 1
    assert main(["fit"]) == 2
    assert "needs --config FILE" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["fitt"])
    assert ended.value.code == 2
    assert "did you mean 'fit'" in capsys.readouterr().err


def test_a_foreign_class_is_refused_before_it_is_imported(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "imported"
    (tmp_path / "foreign_module.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Callback: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    for place in (
        "--trainer.callbacks=[{class_path: foreign_module.Callback}]",
        "--trainer.callbacks=[foreign_module.Callback]",
        "--trainer.logger={class_path: foreign_module.Callback}",
        "--model.class_path=foreign_module.Callback",
        "--model.init_args.encoder_config.deep={class_path: foreign_module.Callback}",
    ):
        code, _, err = call(place)
        assert code == 2
        assert "foreign_module.Callback is not imported: class paths lead into crystrata, lightning, torch only" in err
    assert not mark.exists()
    assert "foreign_module" not in sys.modules


def test_older_keys(labels: Path) -> None:
    values = read_document_of(document(labels))
    model = values["model"]["init_args"]
    del model["encoder_config"]
    model |= {"shared_block_dims": [None, 16, 8], "norm_shared": False, "residual_shared": True, "lora_rank": 4}
    model |= {"loss_weights": {"energy": 0.3, "masked_features": 0.2}, "pretrain": True}
    model["task_configs"][0] |= {"lora_enabled": True, "loss_weight": 2.0}
    model["task_configs"][1]["optimizer"] = {"lr": 1e-4, "scheduler_type": "ReduceLROnPlateau"}
    del values["data"]["init_args"]["task_configs"]
    values["data"]["init_args"] |= {"train_random_seed": 5, "task_masking_ratios": {"family": 0.5}}
    experiment, notices = read_experiment(values)
    config = experiment.config
    told = "model.init_args.lora_rank, model.init_args.task_configs.0.lora_enabled"
    assert notices == [f"low-rank adapters are gone: {told} change nothing"]
    assert config.composition_settings == {"hidden_dims": [None, 16, 8], "norm": "none", "residual": True}
    assert [task.loss_weight for task in config.tasks] == [2.0, 1.0]
    assert [task.task_masking_ratio for task in config.tasks] == [1.0, 0.5]
    assert (config.self_supervised, config.learned_balance) == ({"masked_features": 0.2}, True)
    assert (config.split_seed, config.seed, config.schedule) == (5, 42, "constant")
    for task in config.tasks:
        assert task.data_files == (str(labels / "labels.csv"),)


def test_freezing(labels: Path) -> None:
    def frozen(**model: Any) -> tuple[bool, bool, list[bool]]:
        config = experiment_of(labels, **model).config
        heads = [bool(task.optimizer.get("freeze_parameters")) for task in config.tasks]
        return config.freeze_shared, config.learned_balance, heads

    balance = {"enable_learnable_loss_balancer": True}
    assert frozen() == (False, False, [False, False])
    assert frozen(freeze_encoder=True, **balance) == (True, True, [False, False])
    assert frozen(shared_block_optimizer={"freeze_parameters": True}) == (True, False, [False, False])
    assert frozen(train_only=["family"], **balance) == (True, False, [True, False])


def test_losses_without_labels_join_by_a_flag(call: Call, tmp_path: Path) -> None:
    assert call("--pretrain", "--trainer.max_epochs=1", "--model.init_args.loss_weights.masked_features=0.3")[0] == 0
    run = tmp_path / "models" / "tasks_mlp" / "run_first"
    assert json.loads((run / CONFIG).read_text())["self_supervised"] == {"masked_features": 0.3}
    (record,) = json.loads((run / HISTORY).read_text())
    assert record["val_loss"]["masked_features"] > 0
    assert set(record["sigma"]) == {"energy", "family"}


def test_an_encoder_of_crystals(labels: Path) -> None:
    crystals = {"type": "e3nn", "channels": 8, "layers": 1, "graph": {"k": 10}}
    config = experiment_of(labels, graph_encoder=crystals, pretrain={"contrastive": 0.1}, modality_dropout=0.5).config
    assert config.structure == "e3nn"
    assert config.structure_settings == {"channels": 8, "layers": 1}
    assert config.graph.k == 10
    assert (config.self_supervised, config.modality_dropout) == ({"contrastive": 0.1}, 0.5)
    assert config.algorithm == "composition+e3nn"


def test_a_callback_that_does_not_fit_is_told(call: Call) -> None:
    code, _, err = call("--trainer.callbacks=[{class_path: LearningRateMonitor}]", "--trainer.logger=false")
    assert code == 2
    assert err.startswith("error: trainer: Cannot use `LearningRateMonitor` callback with `Trainer` that has no logger")


def test_times() -> None:
    assert hours_of("00:01:30:00") == 1.5
    assert hours_of("01:00:00:36") == pytest.approx(24.01)
    assert hours_of({"hours": 0.5}) == 0.5
    assert hours_of({"minutes": 90.0}) == 1.5


def test_a_time_in_quotes_is_read(call: Call) -> None:
    code, out, _ = call("--print_config", "--trainer.max_time='1:00:00:00'")
    assert (code, yaml.safe_load(out)["time_budget"]) == (0, 24.0)


def test_help_and_one_unreadable_verb_are_quick(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert not ended.value.code
    out = capsys.readouterr().out
    assert "--config" in out
    assert "--model.init_args.task_configs.0.loss_weight" in out
