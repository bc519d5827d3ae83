"""Multi-task learning at its smallest: one shared encoder, one linear head per task, synthetic data.

    python src/main.py --config config.yaml

B samples, D input width, K classes.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from crystrata.errors import CrystrataError
from crystrata.networks.layers import Perceptron
from crystrata.settings import NonNegative, NonNegativeInt, Positive, PositiveInt, make

LOG = logging.getLogger("minimal_multitask")

NOISE = 0.5
"""Spread of the noise on a score, whose own spread is 1."""


class SharedEncoder(Perceptron):
    """features (B, input_dim) -> hidden ReLU layers -> linear layer -> latent (B, shared_dim)."""

    def __init__(self, input_dim: int, hidden_dims: Sequence[int], shared_dim: int) -> None:
        super().__init__([input_dim, *hidden_dims, shared_dim], norm="none", activation="relu")


class TaskHead(nn.Linear):
    """latent (B, shared_dim) -> logits (B, num_classes)."""

    def __init__(self, shared_dim: int, num_classes: int) -> None:
        if num_classes < 2:
            raise ValueError(f"num_classes must be 2 or more, not {num_classes}")
        super().__init__(shared_dim, num_classes)


class MultiTaskModel(nn.Module):
    """features -> shared encoder -> latent -> one linear head per task.

    Args:
        input_dim: D.
        shared_hidden: Widths of the encoder's hidden layers.
        shared_dim: Width of the latent that the heads share.
        task_configs: One mapping per task: `type` (classification), `num_classes`, and `name` if it is to have one of
            its own; otherwise it is `task_1`, `task_2`, and so on.

    Raises:
        ValueError: Two tasks have one name, a type is unknown, or there are fewer than two classes.
        UsageError: A width is below 1.
    """

    def __init__(
        self, input_dim: int, shared_hidden: Sequence[int], shared_dim: int, task_configs: Sequence[Mapping[str, Any]]
    ) -> None:
        super().__init__()
        self.names = [str(task.get("name", f"task_{number}")) for number, task in enumerate(task_configs, start=1)]
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"each task needs a name of its own, not {', '.join(self.names)}")
        for name, task in zip(self.names, task_configs, strict=True):
            if missing := [key for key in ("type", "num_classes") if key not in task]:
                raise ValueError(f"task {name!r}: {' and '.join(missing)} missing")
            if task["type"] != "classification":
                raise ValueError(f"task {name!r}: unknown type {task['type']!r} (known: classification)")
        self.encoder = SharedEncoder(input_dim, shared_hidden, shared_dim)
        self.heads = nn.ModuleList(TaskHead(shared_dim, task["num_classes"]) for task in task_configs)

    def num_tasks(self) -> int:
        """Return the number of tasks."""
        return len(self.heads)

    def forward(self, features: Tensor) -> list[Tensor]:
        """Return the logits of each task, (B, K), from features (B, D)."""
        latent = self.encoder(features)
        return [head(latent) for head in self.heads]


def multi_task_loss(
    logits_list: Sequence[Tensor], labels_list: Sequence[Tensor], weights: Sequence[float] | None = None
) -> Tensor:
    """Return the weighted sum of the cross-entropies, a scalar.

    Args:
        logits_list: (B, K) of each task.
        labels_list: Class indices (B,) of each task.
        weights: One weight per task; 1 if not given.

    Raises:
        ValueError: Logits, labels and weights differ in number.
    """
    weights = [1.0] * len(logits_list) if weights is None else weights
    for what, given in (("labels", labels_list), ("loss_weights", weights)):
        if len(given) != len(logits_list):
            raise ValueError(f"{len(given)} {what} for {len(logits_list)} tasks")
    losses = [cross_entropy(logits, labels) for logits, labels in zip(logits_list, labels_list, strict=True)]
    return torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum()


def generate_synthetic_multi_task_data(
    n: int, dim: int, classes: Sequence[int], device: torch.device | str = "cpu", seed: int = 42
) -> tuple[Tensor, list[Tensor]]:
    """Return features (n, D) ~ N(0, 1) and the class indices (n,) of each task.

    A task is a direction of its own: its score, the features along it plus noise, is cut at its quantiles, so that
    the classes are equally frequent. The same seed gives the same data on every device; other generators are untouched.
    """
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, dim, generator=generator)
    labels = []
    for count in classes:
        direction = normalize(torch.randn(dim, generator=generator), dim=0)
        score = features @ direction + NOISE * torch.randn(n, generator=generator)
        cuts = score.quantile(torch.arange(1, count) / count)
        labels.append(torch.bucketize(score, cuts).to(device))
    return features.to(device), labels


@dataclass(frozen=True)
class LoggingConfig:
    """Level of the log, and its file, from the working directory."""

    level: str = "INFO"
    file: str = "logs/app.log"


@dataclass(frozen=True)
class ModelConfig:
    """Widths and tasks, as `MultiTaskModel` takes them."""

    input_dim: PositiveInt = 16
    shared_hidden: tuple[PositiveInt, ...] = (64, 64)
    shared_dim: PositiveInt = 32
    tasks: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class TrainingConfig:
    """Passes over the data, samples per step, rate of Adam, and one weight per task (1 if none is given)."""

    epochs: PositiveInt = 30
    batch_size: PositiveInt = 32
    learning_rate: Positive = 1e-3
    loss_weights: tuple[NonNegative, ...] | None = None


@dataclass(frozen=True)
class DataConfig:
    """The seed of data, weights and order, and numbers of samples."""

    random_seed: NonNegativeInt = 42
    num_train: PositiveInt = 800
    num_val: PositiveInt = 200


@dataclass(frozen=True)
class Config:
    """The four sections of `config.yaml`; what is not given has the value that is shown here."""

    logging: LoggingConfig = field(default_factory=LoggingConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    data: DataConfig = field(default_factory=DataConfig)


def read_config(path: Path) -> Config:
    """Return the configuration in a YAML file.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: It is not YAML.
        UsageError: A key is unknown, or a value of another kind or out of range.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no configuration at {path.resolve()}: name one with --config FILE")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} must hold the sections logging, model, training and data")
    config = make(Config, content, str(path))
    if not config.model.tasks:
        raise ValueError(f"{path}: model.tasks must name at least one task")
    return config


def random_seed(config: Config, env_file: Path) -> int:
    """Return the seed: RANDOM_SEED of the environment, or else of `env_file`, or else of the configuration.

    Raises:
        ValueError: It is not a whole number from 0 to 2^63 - 1.
    """
    written = {}
    for line in env_file.read_text(encoding="utf-8").splitlines() if env_file.is_file() else ():
        key, _, value = " ".join(shlex.split(line, comments=True)).removeprefix("export ").partition("=")
        written[key.strip()] = value.strip()
    seed = os.environ.get("RANDOM_SEED") or written.get("RANDOM_SEED") or str(config.data.random_seed)
    if not seed.isdecimal() or int(seed) >= 2**63:
        raise ValueError(f"the random seed must be a whole number from 0 to 2^63 - 1, not {seed!r}")
    return int(seed)


@contextmanager
def logging_to(level: str, file: Path) -> Iterator[None]:
    """Log to the terminal and to a file that is rotated at 1 MB; the three before it stay.

    Raises:
        ValueError: The level has another name than DEBUG, INFO, WARNING, ERROR or CRITICAL.
    """
    LOG.setLevel(level.upper())
    file.parent.mkdir(parents=True, exist_ok=True)
    rotating = RotatingFileHandler(file, maxBytes=1_000_000, backupCount=3, encoding="utf-8")
    rotating.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout), rotating]
    for handler in handlers:
        LOG.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            LOG.removeHandler(handler)
            handler.close()


def train(config: Config, seed: int) -> tuple[MultiTaskModel, dict[str, float]]:
    """Train on the first `num_train` samples, validate on the other `num_val`, and log each epoch.

    Returns:
        The model, and the share of validation samples of each task that it classifies correctly.

    Raises:
        ValueError: A task cannot be used, or there is not one weight for each.
        UsageError: A width cannot be used.
    """
    shape, training, num_train = config.model, config.training, config.data.num_train
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MultiTaskModel(shape.input_dim, shape.shared_hidden, shape.shared_dim, shape.tasks).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=training.learning_rate)
    total = num_train + config.data.num_val  # one draw for both parts: the same directions, the same cuts
    classes = [task["num_classes"] for task in shape.tasks]
    features, labels = generate_synthetic_multi_task_data(total, shape.input_dim, classes, device, seed)
    order = torch.Generator().manual_seed(seed)
    accuracies: dict[str, float] = {}
    for epoch in range(1, training.epochs + 1):
        training_loss = 0.0
        for rows in torch.randperm(num_train, generator=order).to(device).split(training.batch_size):
            loss = multi_task_loss(model(features[rows]), [values[rows] for values in labels], training.loss_weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            training_loss += loss.item() * len(rows) / num_train
        held_out = [values[num_train:] for values in labels]
        validation_loss, accuracies = evaluate(model, features[num_train:], held_out, training.loss_weights)
        shown = ", ".join(f"{name} {share:.1%}" for name, share in accuracies.items())
        LOG.info(f"epoch {epoch}: loss {training_loss:.3f}; validation loss {validation_loss:.3f}, accuracy {shown}")
    return model, accuracies


@torch.no_grad()
def evaluate(
    model: MultiTaskModel, features: Tensor, labels: Sequence[Tensor], weights: Sequence[float] | None = None
) -> tuple[float, dict[str, float]]:
    """Return the combined loss on these samples, and the share of them that each task classifies correctly."""
    logits_list = model(features)
    correct = [(logits.argmax(1) == values).double().mean() for logits, values in zip(logits_list, labels, strict=True)]
    loss = multi_task_loss(logits_list, labels, weights)
    return loss.item(), {name: share.item() for name, share in zip(model.names, correct, strict=True)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the configuration says and return the exit code: 0, or 2 for an error that its message explains."""
    parser = argparse.ArgumentParser(description="Minimal multi-task learning on synthetic data.")
    default = Path(__file__).parents[1] / "config.yaml"
    parser.add_argument("--config", type=Path, default=default, metavar="FILE", help=f"(default: {default.name})")
    path = parser.parse_args(arguments).config
    try:
        config = read_config(path)
        seed = random_seed(config, path.with_name(".env"))
        with logging_to(config.logging.level, Path(config.logging.file)):
            LOG.info(f"{path}, random seed {seed}")
            model, accuracies = train(config, seed)
            for name, task in zip(model.names, config.model.tasks, strict=True):
                LOG.info(f"{name}: validation accuracy {accuracies[name]:.1%}, chance {1 / task['num_classes']:.1%}")
    except (OSError, ValueError, CrystrataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
