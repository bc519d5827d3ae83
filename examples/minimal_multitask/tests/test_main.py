"""The example as a user meets it: the page's program, model, loss, data, configuration, seed, log, and its accuracy."""

from __future__ import annotations

import importlib
import logging
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.nn import functional

from crystrata.errors import UsageError

FOLDER = Path(__file__).parents[1]
sys.path.insert(0, str(FOLDER))
main = importlib.import_module("src.main")

TASKS = [
    {"name": "task_a", "type": "classification", "num_classes": 3},
    {"name": "task_b", "type": "classification", "num_classes": 2},
]
EPOCH = re.compile(r"epoch \d+: loss ([\d.]+); validation loss ([\d.]+), accuracy task_a ([\d.]+)%, task_b ([\d.]+)%")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The configuration of the example, with no seed from outside, in an empty working directory."""
    monkeypatch.delenv("RANDOM_SEED", raising=False)
    monkeypatch.chdir(tmp_path)
    return yaml.safe_load((FOLDER / "config.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Write a configuration, run the example on it, and return exit code, output and errors."""

    def call(config: object) -> tuple[int, str, str]:
        (tmp_path / "my.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        code = main.main(["--config", str(tmp_path / "my.yaml")])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def model() -> Any:
    """A small model of both tasks."""
    return main.MultiTaskModel(16, [64, 64], 32, TASKS)


def test_d1_the_shared_encoder_ends_in_a_linear_layer(model: Any) -> None:
    widths = [(part.in_features, part.out_features) for part in model.encoder.modules() if hasattr(part, "in_features")]
    assert widths == [(16, 64), (64, 64), (64, 32)]
    latent = model.encoder(torch.randn(500, 16))
    assert latent.shape == (500, 32)
    assert (latent < 0).any(), "the latent is cut off"
    hidden = model.encoder.hidden(torch.randn(500, 16))
    assert (hidden == 0).any()
    assert (hidden >= 0).all(), "hidden layers end in ReLU"


def test_d2_heads_are_linear(model: Any) -> None:
    a, b = torch.randn(2, 5, 32)
    for head, classes in zip(model.heads, (3, 2), strict=True):
        both, one, other, nothing = (head(latent) for latent in (a + b, a, b, torch.zeros_like(a)))
        assert one.shape == (5, classes)
        torch.testing.assert_close(both - other, one - nothing)


def test_d3_the_model_returns_logits_of_each_task(model: Any) -> None:
    logits = model(torch.randn(7, 16))
    assert isinstance(logits, list)
    assert [tuple(each.shape) for each in logits] == [(7, 3), (7, 2)]
    assert model.num_tasks() == 2
    assert len(list(model.parameters())) == 6 + 4


def test_d4_unknown_types_and_double_names_are_refused() -> None:
    odd = {"name": "task_c", "type": "regression", "num_classes": 2}
    with pytest.raises(ValueError, match="task 'task_c': unknown type 'regression'"):
        main.MultiTaskModel(16, [8], 4, [*TASKS, odd])
    with pytest.raises(ValueError, match="a name of its own"):
        main.MultiTaskModel(16, [8], 4, [TASKS[0], TASKS[0]])
    with pytest.raises(ValueError, match="num_classes must be 2 or more, not 1"):
        main.MultiTaskModel(16, [8], 4, [{**TASKS[0], "num_classes": 1}])
    with pytest.raises(ValueError, match="task 'task_1': num_classes missing"):
        main.MultiTaskModel(16, [8], 4, [{"type": "classification"}])
    with pytest.raises(UsageError, match="widths"):
        main.MultiTaskModel(16, [0], 4, TASKS)


def test_d5_the_loss_is_the_weighted_sum_of_cross_entropies(model: Any) -> None:
    logits, labels = model(torch.randn(9, 16)), [torch.randint(3, (9,)), torch.randint(2, (9,))]
    entropies = [functional.cross_entropy(*pair) for pair in zip(logits, labels, strict=True)]
    for weights, factors in ((None, (1, 1)), ([0.5, 3], (0.5, 3)), ([0, 1], (0, 1))):
        loss = main.multi_task_loss(logits, labels, weights)
        assert loss.shape == ()
        torch.testing.assert_close(loss, factors[0] * entropies[0] + factors[1] * entropies[1])


@pytest.mark.parametrize("weights", [[], [1.0], [1.0, 1.0, 1.0]])
def test_d5_a_wrong_number_of_weights_is_refused(model: Any, weights: list[float]) -> None:
    logits, labels = model(torch.randn(4, 16)), [torch.zeros(4, dtype=torch.long)] * 2
    with pytest.raises(ValueError, match=rf"{len(weights)} loss_weights for 2 tasks"):
        main.multi_task_loss(logits, labels, weights)
    with pytest.raises(ValueError, match="1 labels for 2 tasks"):
        main.multi_task_loss(logits, labels[:1])


def test_d6_data_has_equally_frequent_classes_that_features_tell() -> None:
    features, labels = main.generate_synthetic_multi_task_data(1000, 16, [3, 2, 7], seed=5)
    assert features.shape == (1000, 16)
    assert abs(features.mean()) < 0.05
    assert abs(features.std() - 1) < 0.05
    for values, classes in zip(labels, (3, 2, 7), strict=True):
        counts = values.bincount()
        assert len(counts) == classes
        assert counts.max() - counts.min() <= 1
    centres = torch.stack([features[labels[1] == each].mean(0) for each in (0, 1)])
    split = math.sqrt(2 / math.pi / (1 + main.NOISE**2))  # half the distance along a direction of length 1
    assert float((centres[1] - centres[0]).norm()) == pytest.approx(2 * split, rel=0.1)


def test_d6_the_same_seed_gives_the_same_data_and_leaves_other_generators_alone() -> None:
    def draw(seed: int) -> list[torch.Tensor]:
        features, labels = main.generate_synthetic_multi_task_data(50, 4, [3, 2], "cpu", seed)
        return [features, *labels]

    before = torch.get_rng_state()
    first = draw(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert all(map(torch.equal, first, draw(1)))
    assert not any(map(torch.equal, first, draw(2)))


def test_d7_d18_the_program_of_the_page_runs() -> None:
    """As it is printed, but that torch is imported."""
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert "from src.main import" in program
    assert "loss.backward()" in program
    names: dict[str, Any] = {}
    exec(program, names)
    assert names["loss"].shape == ()
    assert names["model"].names == ["task_1", "task_2"]
    assert all(each.grad.abs().sum() > 0 for each in names["model"].parameters())


def test_the_printed_page_runs_by_copy_and_paste() -> None:
    """The program of the manual as people have it."""
    printed = os.environ.get("CRYSTRATA_PRINTED")
    if not printed:
        pytest.skip("needs the printed manuals: set CRYSTRATA_PRINTED")
    page = (Path(printed) / "minimal_multitask.md").read_text(encoding="utf-8")
    (program,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "src.main" in block]
    names: dict[str, Any] = {"torch": torch}
    exec(program, names)
    assert names["loss"].shape == ()
    assert all(each.grad is not None for each in names["model"].parameters())


@pytest.mark.parametrize("arguments", [[], ["--config", "config.yaml"]])
def test_d8_the_printed_commands(arguments: list[str], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "example", ignore=shutil.ignore_patterns("logs", "__pycache__")))
    environment = {**os.environ, "RANDOM_SEED": "3", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "src/main.py", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(EPOCH.findall(done.stdout)) == 30
    assert "config.yaml, random seed 3" in done.stdout
    assert "epoch 30:" in (folder / "logs" / "app.log").read_text(encoding="utf-8")


def test_d9_level_and_file_of_the_log(config: dict[str, Any], run: Any, tmp_path: Path) -> None:
    config["training"]["epochs"] = 1
    code, out, _ = run(config)
    assert (code, out.count("epoch 1:")) == (0, 1)
    log = (tmp_path / "logs" / "app.log").read_text(encoding="utf-8")
    assert re.search(r"^\d{4}-\d\d-\d\d .* INFO epoch 1:", log, re.MULTILINE)
    code, out, _ = run({**config, "logging": {"level": "warning", "file": "other/quiet.log"}})
    assert (code, out) == (0, "")
    assert (tmp_path / "other" / "quiet.log").read_text(encoding="utf-8") == ""
    assert (tmp_path / "logs" / "app.log").read_text(encoding="utf-8") == log
    assert logging.getLogger("minimal_multitask").handlers == []
    code, _, err = run({**config, "logging": {"level": "LOUD", "file": "x.log"}})
    assert (code, "LOUD" in err) == (2, True)


def test_d9_the_log_file_rotates(tmp_path: Path) -> None:
    with main.logging_to("INFO", tmp_path / "app.log"):
        for _ in range(60):
            main.LOG.info("x" * 100_000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app.log", *(f"app.log.{each}" for each in (1, 2, 3))]
    assert all(path.stat().st_size <= 1_000_000 for path in tmp_path.iterdir())


def test_d10_d11_d12_the_shipped_configuration(config: dict[str, Any]) -> None:
    assert config == {
        "logging": {"level": "INFO", "file": "logs/app.log"},
        "model": {"input_dim": 16, "shared_hidden": [64, 64], "shared_dim": 32, "tasks": TASKS},
        "training": {"epochs": 30, "batch_size": 32, "learning_rate": 1e-3, "loss_weights": [1, 1]},
        "data": {"random_seed": 42, "num_train": 800, "num_val": 200},
    }


def test_d13_the_random_seed_takes_effect(
    config: dict[str, Any], run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config["training"]["epochs"] = 1

    def losses() -> str:
        torch.rand(1)  # the state of the common generator must not matter
        code, out, err = run(config)
        assert code == 0, err
        (line,) = EPOCH.findall(out)
        return str(line)

    ours = losses()
    assert losses() == ours
    config["data"]["random_seed"] = 7
    seven = losses()
    assert seven != ours
    for line in ("RANDOM_SEED=42", "export RANDOM_SEED='42'  # ours", "OTHER=1\n# RANDOM_SEED=3\n\nRANDOM_SEED = 42\n"):
        (tmp_path / ".env").write_text(line, encoding="utf-8")
        assert losses() == ours
    monkeypatch.setenv("RANDOM_SEED", "7")
    assert losses() == seven
    monkeypatch.setenv("RANDOM_SEED", "many")
    code, _, err = run(config)
    assert (code, "must be a whole number" in err, "'many'" in err) == (2, True, True)


def test_d13_the_example_of_an_env_file_names_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANDOM_SEED", raising=False)
    shutil.copy(FOLDER / ".env.example", tmp_path / ".env")
    config = main.Config(data=main.DataConfig(random_seed=1))
    assert main.random_seed(config, tmp_path / ".env") == 42
    assert main.random_seed(config, tmp_path / "none") == 1


def test_d14_d15_what_belongs_to_the_example() -> None:
    for name in ("README.md", "requirements.txt", "config.yaml", ".env.example", "src/main.py", "docs/API.md"):
        assert (FOLDER / name).is_file(), name
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for words in ("src/main.py --config", "pytest tests/ -v --cov=src", "CUDA"):
        assert words in text


def test_d17_a_missing_configuration_is_named(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path.resolve() / "none.yaml"))):
        main.read_config(Path("none.yaml"))
    assert main.main(["--config", "none.yaml"]) == 2
    assert str(tmp_path.resolve() / "none.yaml") in capsys.readouterr().err


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("model", "tasks", [{"name": "a", "type": "regression", "num_classes": 2}], "unknown type 'regression'"),
        ("model", "tasks", [{"name": "a", "type": "classification"}], "task 'a': num_classes missing"),
        ("model", "tasks", [{"name": "a", "type": "classification", "num_classes": 1}], "must be 2 or more"),
        ("model", "tasks", [], "model.tasks must name at least one task"),
        ("model", "shared_hidden", 64, "shared_hidden must be a list"),
        ("model", "shared_hidden", [0], "shared_hidden.0 must be above 0"),
        ("training", "loss_weights", [1], r"1 loss_weights for 2 tasks"),
        ("training", "loss_weights", [1, -1], "loss_weights.1 must be 0 or more"),
        ("training", "epochs", 0, "epochs must be above 0"),
        ("training", "learning_rate", "fast", "fast"),
        ("training", "rate", 1, "unknown key at .*training 'rate'"),
        ("data", "num_val", 1.5, "num_val must be a whole number"),
        ("logging", "level", None, "level must be text"),
    ],
)
def test_d17_a_configuration_that_cannot_be_used_is_refused(
    config: dict[str, Any], run: Any, section: str, key: str, value: object, words: str
) -> None:
    config[section][key] = value
    code, out, err = run(config)
    assert code == 2
    assert "epoch" not in out
    assert re.fullmatch(f"error: .*{words}.*\n", err), err


@pytest.mark.parametrize("content", [None, [], {"modle": {}}])
def test_d17_a_file_without_sections_is_refused(run: Any, content: object) -> None:
    code, _, err = run(content)
    assert (code, "model" in err) == (2, True)


def test_d11_a_learning_rate_without_a_point_is_a_number(config: dict[str, Any], run: Any) -> None:
    config["training"] |= {"epochs": 1, "learning_rate": "1e-3"}  # what YAML reads from a bare 1e-3
    assert run(config)[0] == 0


def test_d19_losses_fall_and_validation_is_better_than_chance(config: dict[str, Any], run: Any) -> None:
    code, out, _ = run(config)
    shown = [tuple(map(float, match)) for match in EPOCH.findall(out)]
    assert (code, len(shown)) == (0, 30)
    assert shown[-1][0] < 0.7 * shown[0][0]
    ends = re.findall(r"^(\w+): validation accuracy ([\d.]+)%, chance ([\d.]+)%$", out, re.MULTILINE)
    assert [name for name, *_ in ends] == ["task_a", "task_b"]
    for _, accuracy, chance in ends:
        assert float(accuracy) > float(chance) + 20  # more than five standard errors of 200 samples

    model, accuracies = main.train(main.make(main.Config, config, ""), 42)
    features, labels = main.generate_synthetic_multi_task_data(1000, 16, [3, 2], seed=42)
    loss, again = main.evaluate(model, features[800:], [values[800:] for values in labels])
    assert loss == pytest.approx(shown[-1][1], abs=1e-3)
    assert again == accuracies


def test_d19_a_weight_of_zero_leaves_its_task_at_chance(config: dict[str, Any]) -> None:
    config["training"] |= {"epochs": 5, "loss_weights": [0, 1]}
    _, accuracies = main.train(main.make(main.Config, config, ""), 42)
    assert accuracies["task_b"] > 0.7
    assert accuracies["task_a"] < 0.5


def test_d20_everything_public_is_typed_and_documented() -> None:
    own = [each for each in vars(main).values() if getattr(each, "__module__", None) == main.__name__]
    assert len(own) > 10
    for each in own:
        if callable(each) and not each.__name__.startswith("_"):
            assert each.__doc__, each
            assert "return" in getattr(each, "__annotations__", {"return": None}) or isinstance(each, type), each


def test_d21_the_page_helps_with_troubles() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for words in (
        "The loss stays flat",
        "shared capacity",
        "epochs",
        "One task dominates",
        "loss_weights",
        "the path that",
    ):
        assert words in text
