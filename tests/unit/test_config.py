"""The run configuration: presets and overrides resolved, refused values, digests that say what a resume may change."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
from known_tasks import dataset_of

from crystrata.datasets.data_module import BatchDataModule
from crystrata.datasets.splits import Split
from crystrata.errors import UsageError
from crystrata.jarvis_properties import GROUPS
from crystrata.presets import ALGORITHMS, MODES, PRESETS, SIZES, TRACKS
from crystrata.runs.config import NOT_RESULT, RunConfig, TrainerArguments, mode_in_words, resolve_config
from crystrata.settings import words_of
from crystrata.tasks import Task
from crystrata.training.fit import network_config

ELSEWHERE = {
    "models_dir": "elsewhere", "data_dir": "elsewhere", "workers": 3, "keep_last": 5,
    "top_k": 7, "time_budget": 2.5, "run_id": "mine", "data_file": "other.json",
    "device": "cpu", "compiled": True, "source": "demo", "splits_file": "other.parquet", "start": "other",
    "structure_start": "other", "strict_start": True, "table": "other.csv", "structures": "other", "id_column": "id",
}  # fmt: skip
"""Another place and manner of the same run, by field."""

OTHER_RESULT: dict[str, Any] = {
    "epochs": 7, "batch_size": 5, "lr": 0.02, "accumulate": 3, "schedule": "plateau", "clip": 9.0, "weight_decay": 0.1,
    "ema": 0.5, "learned_balance": False, "patience": 99, "max_samples": 61, "split": "other", "seed": 1,
    "structure_settings": {"channels": 8}, "release": "other", "outlier_filter": False, "outlier_z": 3.0,
    "composition": "mlp", "composition_settings": {"hidden_dims": [None, 8]}, "descriptor": {"kind": "statistics"},
    "latent_stage": "tanh", "deposit_width": 8, "modality_dropout": 0.5, "self_supervised": {"contrastive": 0.1},
    "val_split": 0.2, "test_split": 0.2, "split_seed": 1, "redraw_masks": False, "weigh_by_labels": False,
    "optimizer": "soap",
}  # fmt: skip
"""Another result, by field."""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_cell_becomes_a_configuration(algorithm: str, mode: str) -> None:
    config, preset, track = resolve_config(algorithm, mode), PRESETS[algorithm, mode], TRACKS[algorithm]
    for name in ("epochs", "batch_size", "lr", "accumulate", "max_samples", "size", "family"):
        assert getattr(config, name) == getattr(preset, name)
    for name in ("schedule", "clip", "weight_decay", "ema", "learned_balance"):
        assert getattr(config, name) == preset.training.get(name, getattr(track, name))
    assert (config.algorithm, config.encoder, config.mode) == (algorithm, algorithm, mode)
    assert config.structure_settings == SIZES[algorithm, preset.size]
    assert config.properties == GROUPS["core4"]
    assert config.patience == preset.training.get("patience", max(10, preset.epochs // 4))


def test_the_default_is_e3nn_std() -> None:
    assert resolve_config() == resolve_config("e3nn", "std")


@pytest.mark.parametrize(("name", "value"), OTHER_RESULT.items())
def test_an_override_wins_and_changes_nothing_else(name: str, value: Any) -> None:
    plain, changed = resolve_config("cgcnn", "lite"), resolve_config("cgcnn", "lite", **{name: value})
    assert getattr(changed, name) == value
    assert replace(changed, **{name: getattr(plain, name)}) == plain


def test_none_is_not_given() -> None:
    assert resolve_config("cgcnn", "smoke", epochs=None, lr=None, max_samples=None) == resolve_config("cgcnn", "smoke")


def test_patience_follows_the_epochs_that_are_run() -> None:
    assert [resolve_config(epochs=epochs).patience for epochs in (1, 40, 44, 500)] == [10, 10, 11, 125]
    assert resolve_config(epochs=500, patience=3).patience == 3
    assert resolve_config(mode="leaderboard", epochs=500).patience > 500  # its cosine is best at the end


def test_settings_of_a_table_are_not_shared() -> None:
    resolve_config("e3nn", "std", angles="cached").structure_settings["channels"] = 1
    assert "angles" not in SIZES["e3nn", "std"]
    assert resolve_config("e3nn", "std").structure_settings == SIZES["e3nn", "std"]


def test_angles_go_to_the_encoder() -> None:
    assert resolve_config(angles="cached").structure_settings["angles"] == "cached"


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        resolve_config().lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs must be above 0, not 0"),
        ({"epochs": True}, "epochs must be a whole number, not True"),
        ({"epochs": 1.5}, "epochs must be a whole number, not 1.5"),
        ({"batch_size": -4}, "batch_size must be above 0, not -4"),
        ({"lr": -1e-3}, "lr must be above 0, not -0.001"),
        ({"lr": float("nan")}, "lr must be a finite number, not nan"),
        ({"lr": float("inf")}, "lr must be a finite number, not inf"),
        ({"patience": 0}, "patience must be above 0, not 0"),
        ({"accumulate": 0}, "accumulate must be above 0, not 0"),
        ({"outlier_z": 0.0}, "outlier_z must be above 0, not 0.0"),
        ({"max_samples": 59}, "max_samples must be 60 or more, not 59"),
        ({"workers": -1}, "workers must be 0 or more, not -1"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"colour": "blue"}, "unknown key 'colour'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_values_without_meaning_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_config(**values)


def test_names_are_checked() -> None:
    with pytest.raises(UsageError, match="unknown property 'bandgap'; did you mean 'band_gap'"):
        resolve_config(properties=["bandgap"])
    with pytest.raises(UsageError, match="unknown size of e3nn 'huge'"):
        resolve_config(size="huge")
    with pytest.raises(UsageError, match="unknown algorithm"):
        resolve_config("egnn")
    with pytest.raises(UsageError, match="takes one property, not 2: band_gap, ehull"):
        resolve_config(properties=["ehull", "band_gap"], single_task=True)


@pytest.mark.parametrize(
    ("algorithm", "mode", "family"),
    [
        ("e3nn", "std", "singletask_std_e3nn/dielectric"),
        ("e3nn", "pro", "singletask_pro_e3nn/dielectric"),
        ("e3nn", "lite", "singletask_lite_e3nn/dielectric"),
        ("cgcnn", "pro", "singletask_cgcnn/dielectric"),
    ],
)
def test_a_specialist_has_a_folder_of_its_own(algorithm: str, mode: str, family: str) -> None:
    config = resolve_config(algorithm, mode, properties=["dielectric"], single_task=True, models_dir="here")
    assert config.family == family
    assert config.family_dir.as_posix() == f"here/{family}"
    assert resolve_config(algorithm, mode, properties=["dielectric"]).family == PRESETS[algorithm, mode].family


def test_a_production_specialist_is_trained_gently() -> None:
    one, all_of_them = (
        resolve_config("e3nn", "pro", properties=["spillage"], single_task=alone) for alone in (True, False)
    )
    assert (one.lr, one.patience, one.accumulate, one.ema) == (2e-4, 250, 4, 0.999)
    assert (all_of_them.lr, all_of_them.patience) == (5e-4, 125)
    assert resolve_config("e3nn", "pro", properties=["spillage"], single_task=True, lr=1e-3).lr == 1e-3


def test_a_derived_property_needs_no_head() -> None:
    config = resolve_config(properties=GROUPS["all9"])
    assert set(config.properties) - {task.name for task in config.trained} == {"ehull"}


def test_a_configuration_survives_json() -> None:
    config = resolve_config("cgcnn", "max", properties=GROUPS["all9"], seed=7, run_id="a", data_file="x.json")
    back = RunConfig.from_dict(json.loads(json.dumps(config.as_dict())))
    assert back == config
    assert back.digest() == config.digest()


def test_tasks_of_ones_own_survive_json() -> None:
    gap = Task("gap", columns=("gap",), unit="eV", head={"hidden": [8]}, data_files=("gaps.csv",))
    family = Task("family", "classification", columns=("family",), classes=("oxide", "salt"))
    config = RunConfig((gap, family), composition="mlp", autoencoder=True)
    back = RunConfig.from_dict(json.loads(json.dumps(config.as_dict())))
    assert back == config
    assert back.properties == ("gap", "family", "autoencoder")


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown key 'splitt'; did you mean 'split'"):
        RunConfig.from_dict({**resolve_config().as_dict(), "splitt": "random"})


def test_where_a_run_is_carried_out_does_not_change_its_digest() -> None:
    assert set(ELSEWHERE) == set(NOT_RESULT)
    assert resolve_config(**ELSEWHERE).digest() == resolve_config().digest()


@pytest.mark.parametrize(("name", "value"), OTHER_RESULT.items())
def test_what_a_run_computes_is_in_its_digest(name: str, value: Any) -> None:
    assert resolve_config(**{name: value}).digest() != resolve_config().digest()


def test_every_field_either_decides_the_result_or_not() -> None:
    identity = {"algorithm", "mode", "tasks", "size", "structure", "single_task", "graph", "carry_heads",
                "freeze_shared", "autoencoder", "trainer"}  # fmt: skip
    assert set(resolve_config().as_dict()) == identity | set(NOT_RESULT) | set(OTHER_RESULT)
    configs = [
        resolve_config(), resolve_config("cgcnn"), resolve_config(mode="lite"), resolve_config(properties=["ehull"]),
        resolve_config(properties=["ehull"], single_task=True), resolve_config(structure="plain_e3nn"),
        resolve_config(size="small"), resolve_config(properties=["dielectric"]),
        resolve_config(properties=["dielectric"], heads={"dielectric": "scalar"}),
        replace(resolve_config(), graph=replace(resolve_config().graph, k=11)), resolve_config(autoencoder=True),
        replace(resolve_config(start="other"), carry_heads=True), replace(resolve_config(), freeze_shared=True),
        replace(resolve_config(), trainer=TrainerArguments(max_steps=9)),
    ]  # fmt: skip
    assert len({config.digest() for config in configs}) == len(configs)


def test_modes_in_words() -> None:
    assert [mode_in_words(mode) for mode in ("lite", "competition")] == ["level lite", "profile competition"]


def test_every_field_is_documented() -> None:
    assert list(words_of(RunConfig)) == [field.name for field in fields(RunConfig)]
    assert list(words_of(Task)) == [field.name for field in fields(Task)]
    assert list(words_of(TrainerArguments)) == [field.name for field in fields(TrainerArguments)]


def test_what_differs_is_named() -> None:
    config = resolve_config("cgcnn", "lite")
    assert config.differences(replace(config, lr=0.5, models_dir="elsewhere")) == ["lr 0.001 -> 0.5"]
    assert config.differences(replace(config, lr=0.5), ["lr"]) == []


def test_a_run_has_something_to_learn() -> None:
    gap = (Task("gap", columns=("gap",)),)
    for values, message in (
        ({}, "a run needs a task"),
        ({"tasks": gap, "descriptor": {"grid": 8}}, "descriptor needs the key kind"),
        ({"tasks": gap, "carry_heads": True}, "carry_heads needs a start"),
        ({"tasks": gap, "algorithm": "e3nn", "structure": "cgcnn"}, "unknown encoder 'cgcnn'"),
    ):
        with pytest.raises(UsageError, match=message):
            RunConfig(**values)


def test_a_composition_encoder_needs_no_widths() -> None:
    dataset = dataset_of()
    data = BatchDataModule(dataset, Split(dataset.train, dataset.train, dataset.train, "random", 0), batch_size=8)
    settings = {
        name: network_config(RunConfig(dataset.tasks, composition=name), data).composition_settings
        for name in ("mlp", "transformer")
    }
    assert settings == {"mlp": {"hidden_dims": [12, 256, 128]}, "transformer": {"input_dim": 12}}
    wrong = RunConfig(dataset.tasks, composition="mlp", composition_settings={"hidden_dims": [7, 8]})
    with pytest.raises(UsageError, match="set to read 7 numbers, but a descriptor has 12"):
        network_config(wrong, data)


def test_a_configuration_cannot_allow_that_pickled_tables_run_code() -> None:
    """Neither that of somebody else's run nor a YAML file: a person says so on the command line."""
    with pytest.raises(UsageError, match=r"a file cannot say that pickles are to be trusted.*--trust-pickle"):
        RunConfig.from_dict({**resolve_config().as_dict(), "trust_pickle": True})


def test_graphs_are_loaded_in_the_process_of_the_run_unless_asked_for() -> None:
    for mode in MODES:
        assert resolve_config(mode=mode).workers == 0
    assert RunConfig(tasks=(Task("energy", columns=("energy",)),), composition="mlp").workers == 0
