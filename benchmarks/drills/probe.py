"""Untrained networks with every kind of head, their outputs spread so that a change would show. B crystals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from crystrata.compositions.keys import atomic_fractions
from crystrata.datasets.batch import Targets
from crystrata.datasets.labels import column_labels
from crystrata.graph_settings import GraphSettings
from crystrata.graphs.arrays import GraphArrays
from crystrata.graphs.batch import CrystalBatch, collate
from crystrata.jarvis_properties import PROPERTIES, property_tasks, trained_tasks
from crystrata.networks.encoders import build_encoder
from crystrata.networks.encoders.encoder import StructureEncoder
from crystrata.networks.heads import build_head
from crystrata.networks.heads.gap import GapHead
from crystrata.networks.heads.head import Head
from crystrata.networks.heads.tensor import TensorHead
from crystrata.networks.latent import Latent
from drills.exact_graphs import exact_graphs, graphs_of
from drills.real_crystals import demo

SMALL = {
    "e3nn": {"channels": 16, "layers": 2},
    "cgcnn": {"channels": 32, "layers": 2},
    "plain_e3nn": {"channels": 16, "layers": 2},
}
"""Settings that make an encoder fast, with latents all of one width."""

WIDTH, HIDDEN = 32, 32
SETTINGS = GraphSettings()
TASKS = trained_tasks(property_tasks(PROPERTIES))


@dataclass(frozen=True)
class Probe:
    """An encoder with every kind of head on every property that it may serve.

    Attributes:
        words: Encoder and precision.
        encoder: The encoder.
        heads: The heads, by name of property and kind.
        dtype: Precision.
        spreads: How far each output lies from its mean over the demo crystals, root mean square.
    """

    words: str
    encoder: StructureEncoder
    heads: dict[str, Head]
    dtype: torch.dtype
    spreads: dict[str, float] = field(default_factory=dict)

    @torch.no_grad()
    def __call__(self, batch: CrystalBatch) -> dict[str, Tensor]:
        """Return what no rotation changes, name -> (B,), and tensors, name -> (B, 3, 3) or (B, 3, 3, 3)."""
        latent, outputs = Latent.of_crystals(self.encoder(batch), batch), dict[str, Tensor]()
        for name, head in self.heads.items():
            output = head(latent)
            if isinstance(head, TensorHead):
                outputs[f"{name}, tensor"] = output
            if isinstance(head, GapHead):
                outputs[f"{name}, metal logit"] = output[:, 0]
            outputs[name] = head.predict(output, latent)
        return outputs

    def outputs(self, graphs: GraphArrays, batches: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Return the outputs of all graphs, in their order, computed in batches of the given rows."""
        parts = [self(collate(graphs, rows)) for rows in batches]
        back = torch.from_numpy(np.argsort(np.concatenate(batches)))
        return {name: torch.cat([part[name] for part in parts])[back] for name in parts[0]}


@cache
def probe(encoder: str, dtype: torch.dtype) -> Probe:
    """Return the probe of an encoder; its weights are those of float64 in either precision.

    e3nn rounds the constants of its products to the precision in which a network is made.
    """
    words = f"{encoder} in {str(dtype).split('.')[1]}"
    if dtype != torch.float64:
        exact = probe(encoder, torch.float64)
        heads = {name: deepcopy(head).to(dtype) for name, head in exact.heads.items()}
        return Probe(words, deepcopy(exact.encoder).to(dtype), heads, dtype, exact.spreads)
    with made_in(dtype):
        torch.manual_seed(0)
        made = Probe(words, build_encoder(encoder, SETTINGS, SMALL[encoder]), deepcopy(_heads()), dtype)
    graphs, (rows,) = demo_graphs(dtype)
    batch = collate(graphs, rows)
    with torch.no_grad():
        spread(made.heads.values(), Latent.of_crystals(made.encoder(batch), batch))
    for name, values in made.outputs(graphs, [rows]).items():
        made.spreads[name] = float((values - values.mean(0)).square().mean().sqrt())
    return made


@cache
def _heads() -> dict[str, Head]:
    """Return every head on every property that it may serve, in float64; products of tensors take a second to make.

    The head of the largest piezoelectric component has the tensor of the other one, and a number of its frame.
    """
    torch.manual_seed(0)
    with made_in(torch.float64):
        return {
            f"{task.name} by {kind}": build_head(
                replace(task.of_kind(kind), head={"hidden": [HIDDEN]}), WIDTH, SETTINGS
            )
            for task in TASKS
            for kind in task.kinds
            if kind != "piezoelectric_largest"
        }


@contextmanager
def made_in(dtype: torch.dtype) -> Iterator[None]:
    """Make networks in a precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@torch.no_grad()
def spread(heads: Iterable[Head], latent: Latent) -> None:
    """Fit the scalings on demo labels and spread every network value over some crystals."""
    labels, fractions = _demo_labels()
    for head in heads:
        head.fit(labels[head.task.name], fractions)
        last = _last_layer(head)
        if isinstance(head, TensorHead):
            size = head.readout(latent).norm(dim=1).mean()
            for weight in (head.readout.linear.weight, head.readout.product.weight):
                weight.div_(size)
            _standardise(last, head.level(latent).unsqueeze(1), 0.5)  # an exponent
        else:
            _standardise(last, head(latent).reshape(len(latent.pooled), -1))
            if isinstance(head, GapHead):  # else three in four gaps were 0
                last.bias.add_(torch.tensor([-1.0, 1.0]))


def _last_layer(head: Head) -> nn.Linear:
    """Return the layer that gives the network value of a head, or the level of a tensor."""
    return [layer for layer in head.modules() if isinstance(layer, nn.Linear) and layer.out_features <= 2][-1]


def _standardise(last: nn.Linear, values: Tensor, deviation: float = 1.0) -> None:
    """Make the outputs of a last layer, now `values` (B, n), of mean 0 and a given standard deviation."""
    now, mean = torch.std_mean(values, dim=0)
    last.weight.mul_((deviation / now).unsqueeze(1))
    last.bias.sub_(mean).mul_(deviation / now)


@cache
def demo_graphs(dtype: torch.dtype) -> tuple[GraphArrays, list[np.ndarray]]:
    """Return the graphs of every twelfth demo crystal, and their rows as one batch."""
    crystals = list(demo().crystals())[::12]
    graphs = graphs_of(crystals, SETTINGS)
    rows = [np.arange(len(graphs))]
    return (exact_graphs(graphs, crystals, SETTINGS) if dtype == torch.float64 else graphs), rows


@cache
def _demo_labels() -> tuple[dict[str, Targets], Tensor]:
    """Return the demo labels of all trained properties, (n,) each, and the atomic fractions, (n, 103)."""
    numbers = [crystal.numbers for crystal in demo().crystals()]
    rows = np.arange(len(numbers))
    labels = {task.name: column_labels(task, demo().labels).targets(rows) for task in TASKS}
    fractions = atomic_fractions(np.concatenate(numbers), np.cumsum([0, *map(len, numbers)]))
    return labels, torch.from_numpy(fractions)


def mixed(graphs: GraphArrays, rng: np.random.Generator) -> list[np.ndarray]:
    """Return the rows of all graphs in random order, in batches of random size, 30 on average."""
    cuts = np.sort(rng.choice(np.arange(1, len(graphs)), size=len(graphs) // 30, replace=False))
    return np.split(rng.permutation(len(graphs)), cuts)


def deviations(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], spreads: Mapping[str, float]
) -> dict[str, Tensor]:
    """Return the deviation of each output of each crystal, name -> (B,).

    It is relative to the size of the output, at least to its spread over crystals.
    """
    relative = {}
    for name, values in wanted.items():
        off, size = ((found[name] - values).abs(), values.abs())
        if values.dim() > 1:
            off, size = off.flatten(1).amax(1), size.flatten(1).amax(1)
        relative[name] = (off / size.clamp(min=spreads[name])).nan_to_num(nan=torch.inf)
    return relative
