"""Settings of tasks: the newer and the older names, what is refused and with which words, and the way back."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest

from crystrata.errors import UsageError
from crystrata.tasks import Task, parse_tasks

ENERGY = {"name": "energy", "kind": "regression", "data_column": "e"}
KIND = {"name": "kind", "kind": "classification", "data_column": "k", "classes": ["AC", "QC", "others"]}
DOS = {"name": "dos", "kind": "curve", "data_column": "dos", "t_column": "energy"}
STEPS = {"name": "steps", "kind": "sequence", "data_column": "y", "t_column": "x", "subtype": "tcn"}
AUTO = {"name": "rebuilt", "kind": "autoencoder"}


@pytest.mark.parametrize("record", [ENERGY, KIND, DOS, STEPS, AUTO, {**ENERGY, "predict_idx": ["Fe2O3", "NaCl"]}])
def test_a_task_survives_the_way_through_json(record: dict[str, Any]) -> None:
    spec = Task.from_dict(record)
    assert Task.from_dict(json.loads(json.dumps(spec.as_dict()))) == spec


def test_the_defaults_of_the_documents() -> None:
    spec = Task.from_dict(ENERGY)
    assert (spec.composition_column, spec.split_column) == ("composition", "split")
    assert (spec.loss_weight, spec.task_masking_ratio, spec.transform) == (1.0, 1.0, "identity")
    assert (spec.t_column, spec.predict_idx, spec.data_files) == ("", None, ())


def test_the_older_document_is_understood() -> None:
    spec = Task.from_dict(
        {
            "name": "task_B",
            "type": "SEQUENCE",
            "subtype": "rnn",
            "data_column": "series",
            "steps_column": "steps",
            "d_in": 512,
            "hidden": 128,
            "cell": "gru",
            "optimizer": {"lr": 1e-3, "scheduler_type": "None"},
            "lora_rank": 8,
        }
    )
    assert (spec.kind, spec.t_column, spec.subtype) == ("sequence", "steps", "rnn")
    assert spec.head == {"subtype": "rnn", "d_in": 512, "hidden": 128, "cell": "gru"}
    assert spec.optimizer == {"lr": 1e-3, "scheduler_type": "None"}
    assert Task.from_dict({**DOS, "kind": "KernelRegression"}).kind == "curve"
    number = {**KIND, "classes": 3}
    assert Task.from_dict(number).classes == ("0", "1", "2")
    number["num_classes"] = number.pop("classes")
    assert Task.from_dict(number).classes == ("0", "1", "2")
    assert Task.from_dict({**ENERGY, "steps_column": "", "data_files": "a.csv"}).data_files == ("a.csv",)


def test_a_regression_is_a_scalar_with_the_head_of_its_time() -> None:
    spec = Task.from_dict({**ENERGY, "hidden": [16]})
    assert (spec.kind, spec.columns) == ("scalar", ("e",))
    older = {"error": "mse", "centre": "mean", "norm": "layer", "activation": "leaky_relu"}
    assert spec.head == {**older, "hidden": [16]}
    assert Task.from_dict({**ENERGY, "head": {"centre": "median"}}).head == {**older, "centre": "median"}
    assert Task.from_dict({"name": "energy", "kind": "scalar", "columns": ["e"]}) == Task("energy", columns=("e",))


def test_a_sequence_does_without_a_coordinate_and_a_curve_does_not() -> None:
    for subtype in ("vec", "rnn", "tcn", "transformer", "hybrid"):
        assert Task.from_dict({**STEPS, "subtype": subtype, "t_column": ""}).t_column == ""
    with pytest.raises(UsageError, match="t_column names the column of its coordinate"):
        Task.from_dict({**DOS, "t_column": ""})


def test_a_regression_of_several_numbers_is_a_vector() -> None:
    assert Task.from_dict({**ENERGY, "dims": [8, 4, 3]}).kind == "vector"
    assert Task.from_dict({**ENERGY, "dims": [8, 4, 1]}).kind == "scalar"
    assert Task.from_dict({**ENERGY, "dims": []}).kind == "scalar"


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({**ENERGY, "data_colum": "e"}, "unknown key of task 'energy' 'data_colum'; did you mean 'data_column'"),
        ({**ENERGY, "kind": "regresion"}, "did you mean 'regression'? (known: scalar, gap"),
        ({**ENERGY, "kind": "kernal"}, "did you mean 'kernel'"),
        ({**ENERGY, "kind": "scaler"}, "did you mean 'scalar'"),
        ({**ENERGY, "transform": "log"}, "did you mean 'log1p'"),
        ({**ENERGY, "predict_idx": "tests"}, "did you mean 'test'"),
        ({**ENERGY, "predict_idx": {"a": 1}}, "predict_idx must be a list"),
        ({**ENERGY, "optimizer": {"learning_rate": 1}}, "unknown optimizer setting of task 'energy' 'learning_rate'"),
        ({**ENERGY, "optimizer": 3}, "optimizer must be a mapping"),
        ({**ENERGY, "head": "mlp"}, "head must be a mapping"),
        ({**ENERGY, "loss_weight": -1}, "loss_weight must be a number of at least 0"),
        ({**ENERGY, "loss_weight": "high"}, "loss_weight must be a number"),
        ({**ENERGY, "loss_weight": float("nan")}, "loss_weight must be a number"),
        ({**ENERGY, "task_masking_ratio": 0}, "task_masking_ratio must be above 0"),
        ({**ENERGY, "task_masking_ratio": 1.5}, "at most 1"),
        ({**ENERGY, "data_files": 3}, "data_files must be a list"),
        ({**ENERGY, "data_column": ""}, "data_column names the column of its labels"),
        ({**ENERGY, "t_column": "t"}, "a scalar has no t_column"),
        ({**ENERGY, "classes": 3}, "a scalar has no classes"),
        ({**ENERGY, "dims": [8, 1], "head": {"dims": [4, 1]}}, "dims is given twice"),
        ({"kind": "regression", "data_column": "e"}, "lacks the key 'name'"),
        ({"name": "energy", "data_column": "e"}, "lacks the key 'kind'"),
        ({**KIND, "classes": 1}, "a number of at least 2"),
        ({**KIND, "classes": ["a", "a"]}, "two of its classes have the same name"),
        ({**KIND, "transform": "asinh"}, "a classification has no transform"),
        ({**DOS, "t_column": ""}, "t_column names the column of its coordinate"),
        ({**DOS, "steps_column": "energy"}, "t_column is given twice (t_column, steps_column)"),
        ({**STEPS, "subtype": "lstm"}, "unknown subtype of task 'steps' 'lstm'"),
        ({**AUTO, "data_column": "x"}, "an autoencoder has no data_files"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(record: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Task.from_dict(record)
    assert words in str(caught.value)


def test_weights_and_ratios_of_all_tasks_are_folded_in_and_the_task_takes_precedence() -> None:
    records = [{**ENERGY, "loss_weight": 0}, DOS, {**KIND, "task_masking_ratio": 0.2}]
    energy, dos, kind = parse_tasks(
        records,
        loss_weights={"energy": 3.0, "dos": 0.8, "contrastive": 0.1},
        task_masking_ratios={"dos": 0.5, "kind": 0.9},
        other_losses=("contrastive",),
    )
    assert [spec.loss_weight for spec in (energy, dos, kind)] == [0, 0.8, 1.0]
    assert [spec.task_masking_ratio for spec in (energy, dos, kind)] == [1.0, 0.5, 0.2]
    with pytest.raises(UsageError, match="unknown task in loss_weights 'enrgy'; did you mean 'energy'"):
        parse_tasks(records, loss_weights={"enrgy": 1.0})
    with pytest.raises(UsageError, match="unknown task in task_masking_ratios 'contrastive'"):
        parse_tasks(records, task_masking_ratios={"contrastive": 1.0}, other_losses=("contrastive",))
    with pytest.raises(UsageError, match="two tasks are named 'energy'"):
        parse_tasks([ENERGY, ENERGY])


def test_one_table_for_every_task_without_files_of_its_own() -> None:
    own = {**DOS, "data_files": ["dos.parquet"]}
    energy, dos, auto = parse_tasks([ENERGY, own, AUTO], attributes_source="attributes.csv")
    assert (energy.data_files, dos.data_files, auto.data_files) == (("attributes.csv",), ("dos.parquet",), ())


def test_keys_of_adapters_are_accepted_with_one_notice() -> None:
    records = [{**ENERGY, "lora_rank": 8}, {**DOS, "lora_rank": 4, "lora_enabled": True}]
    with pytest.warns(UserWarning, match="lora_enabled, lora_rank change nothing") as told:
        specs = parse_tasks(records)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert specs == parse_tasks([ENERGY, DOS])
