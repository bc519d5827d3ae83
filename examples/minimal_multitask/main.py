"""Multi-task learning at its smallest: one shared encoder, one linear head per task, synthetic data.

    python examples/minimal_multitask/main.py --config examples/minimal_multitask/config.yaml

Encoder, heads, loss and random streams are those of the package; `settings.py` reads the configuration.
B samples, D input width, K classes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from crystrata.datasets.batch import Targets
from crystrata.datasets.random_order import random_stream
from crystrata.errors import CrystrataError
from crystrata.networks.device import resolve_device
from crystrata.networks.encoders.composition import MLPEncoder
from crystrata.networks.heads import build_head
from crystrata.networks.heads.classification import ClassificationHead
from crystrata.networks.latent import Latent
from crystrata.networks.loss_weights import LossWeights
from crystrata.tasks import Task
from settings import LOG, logging_to, random_seed, read_config

NOISE = 0.5
"""Spread of the noise on a score, whose own spread is 1."""

UNREAD = Latent(torch.empty(0))
"""Losses and predictions of heads may read the latent; those of a classification read its logits alone."""


class MultiTaskModel(nn.Module):
    """features -> shared encoder -> latent -> one linear head per task.

    Args:
        input_dim: D.
        shared_hidden: Widths of the encoder's hidden layers.
        shared_dim: Width of the latent that the heads share.
        task_configs: One mapping per task: `name`, `type` (classification) and `num_classes`.

    Raises:
        ValueError: Two tasks have one name, or a type is unknown.
        UsageError: A width is below 1, or a task has fewer than two classes.
    """

    def __init__(
        self, input_dim: int, shared_hidden: Sequence[int], shared_dim: int, task_configs: Sequence[Mapping[str, Any]]
    ) -> None:
        super().__init__()
        self.names = [str(task["name"]) for task in task_configs]
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"each task needs a name of its own, not {', '.join(self.names)}")
        for task in task_configs:
            if task["type"] != "classification":
                raise ValueError(f"task {task['name']!r}: unknown type {task['type']!r} (known: classification)")
        self.encoder = MLPEncoder([input_dim, *shared_hidden, shared_dim], norm="none")
        heads = (build_head(_task(task), shared_dim) for task in task_configs)
        self.heads = cast(Sequence[ClassificationHead], nn.ModuleList(heads))

    def num_tasks(self) -> int:
        """Return the number of tasks."""
        return len(self.heads)

    def forward(self, features: Tensor) -> list[Tensor]:
        """Return the logits of each task, (B, K), of features (B, D)."""
        latent = self.encoder(features)
        return [head(Latent(latent)) for head in self.heads]


def _task(task: Mapping[str, Any]) -> Task:
    """Return a task as the package describes it; its labels are made here and come from no table."""
    columns, classes = (str(task["name"]),), tuple(map(str, range(task["num_classes"])))
    return Task(str(task["name"]), "classification", columns=columns, classes=classes, head={"hidden": ()})


def multi_task_loss(
    model: MultiTaskModel, logits: Sequence[Tensor], labels: Sequence[Tensor], weights: Sequence[float] | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum of the cross-entropies, a scalar, and the cross-entropy of each task by name.

    Args:
        model: The model that made the logits.
        logits: (B, K) of each task.
        labels: Class indices (B,) of each task.
        weights: One weight per task; 1 if not given.

    Raises:
        ValueError: Logits, labels and weights are not one for each task.
    """
    weights = [1.0] * model.num_tasks() if weights is None else weights
    for what, given in (("logits", logits), ("labels", labels), ("loss_weights", weights)):
        if len(given) != model.num_tasks():
            raise ValueError(f"{len(given)} {what} for {model.num_tasks()} tasks ({', '.join(model.names)})")
    sums, counts = {}, {}
    for name, head, output, values in zip(model.names, model.heads, logits, labels, strict=True):
        targets = Targets(values, torch.ones_like(values, dtype=torch.bool))
        sums[name], counts[name] = head.loss(output, UNREAD, targets)
    weighted = LossWeights(model.names, learned=False, weights=dict(zip(model.names, weights, strict=True)))
    return weighted(sums, counts), {name: sums[name] / counts[name] for name in model.names}


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
        direction = nn.functional.normalize(torch.randn(dim, generator=generator), dim=0)
        score = features @ direction + NOISE * torch.randn(n, generator=generator)
        cuts = score.quantile(torch.arange(1, count) / count)
        labels.append(torch.bucketize(score, cuts).to(device))
    return features.to(device), labels


@dataclass(frozen=True)
class Epoch:
    """What an epoch gave: losses in nats, combined and by task, and the fraction of validation samples told right."""

    loss: float
    task_losses: dict[str, float]
    validation_loss: float
    validation_accuracies: dict[str, float]

    def __str__(self) -> str:
        tasks = ", ".join(f"{name} {loss:.3f}" for name, loss in self.task_losses.items())
        told = ", ".join(f"{name} {part:.1%}" for name, part in self.validation_accuracies.items())
        return f"loss {self.loss:.3f} ({tasks}); validation loss {self.validation_loss:.3f}, accuracy {told}"


def train(config: Mapping[str, Any], seed: int) -> tuple[MultiTaskModel, list[Epoch]]:
    """Train on the first `num_train` samples, validate on the other `num_val`, and log each epoch.

    Raises:
        ValueError: A task cannot be used, or there is not one weight for each.
        UsageError: A width or number of classes cannot be used.
    """
    shape, training, num_train = config["model"], config["training"], config["data"]["num_train"]
    device, weights = resolve_device("auto"), training["loss_weights"]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MultiTaskModel(shape["input_dim"], shape["shared_hidden"], shape["shared_dim"], shape["tasks"])
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=float(training["learning_rate"]))
    total = num_train + config["data"]["num_val"]  # one draw for both parts: the same directions, the same cuts
    classes = [task["num_classes"] for task in shape["tasks"]]
    features, labels = generate_synthetic_multi_task_data(total, shape["input_dim"], classes, device, seed)
    held_out, held_out_labels = features[num_train:], [values[num_train:] for values in labels]
    history = []
    for number in range(1, training["epochs"] + 1):
        sums = torch.zeros(1 + model.num_tasks(), device=device)
        order = torch.from_numpy(random_stream(seed, "loader", number).permutation(num_train)).to(device)
        for rows in order.split(training["batch_size"]):
            loss, parts = multi_task_loss(model, model(features[rows]), [values[rows] for values in labels], weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sums += len(rows) * torch.stack([loss, *parts.values()]).detach()
        loss, *task_losses = (sums / num_train).tolist()
        validation = evaluate(model, held_out, held_out_labels, weights)
        history.append(Epoch(loss, dict(zip(model.names, task_losses, strict=True)), *validation))
        LOG.info(f"epoch {number}: {history[-1]}")
    return model, history


@torch.no_grad()
def evaluate(
    model: MultiTaskModel, features: Tensor, labels: Sequence[Tensor], weights: Sequence[float] | None = None
) -> tuple[float, dict[str, float]]:
    """Return the combined loss on these samples and the fraction that each task tells right."""
    logits = model(features)
    loss, _ = multi_task_loss(model, logits, labels, weights)
    told = zip(model.names, model.heads, logits, labels, strict=True)
    return loss.item(), {
        name: (head.predict(output, UNREAD) == values).double().mean().item() for name, head, output, values in told
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the configuration says and return the exit code: 0, or 2 for an error that its message explains."""
    parser = argparse.ArgumentParser(description="Minimal multi-task learning on synthetic data.")
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("config.yaml"), metavar="FILE")
    path = parser.parse_args(arguments).config
    try:
        config = read_config(path)
        seed = random_seed(config, path.with_name(".env"))
        with logging_to(config["logging"]["level"], Path(config["logging"]["file"])):
            LOG.info(f"{path}, random seed {seed}")
            _, history = train(config, seed)
            for task in config["model"]["tasks"]:
                accuracy, chance = history[-1].validation_accuracies[task["name"]], 1 / task["num_classes"]
                LOG.info(f"{task['name']}: validation accuracy {accuracy:.1%}, chance {chance:.1%}")
    except (OSError, ValueError, CrystrataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
