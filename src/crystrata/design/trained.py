"""A trained model of compositions for inverse design: from atomic fractions to latents and back, with the training
compositions, intervals and domain.

B compositions, n elements, D descriptor width, d latent width.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crystrata.compositions.descriptors import KernelMean
from crystrata.compositions.keys import group_key, known_weights
from crystrata.datasets.splits import PARTS
from crystrata.errors import ModelError, UsageError
from crystrata.networks.device import resolve_device
from crystrata.networks.ensemble import Ensemble
from crystrata.networks.model_folder import read_model_folder
from crystrata.networks.nearest import nearest
from crystrata.networks.network import Network
from crystrata.networks.weights import digest_of_weights, unpack_network
from crystrata.runs.directory import BEST, RESULTS, SPLITS
from crystrata.runs.find import WEIGHTS, is_model_folder
from crystrata.training.checkpoints import read_checkpoint


class DesignModel:
    """Differentiable mapping from atomic fractions to latents, and from descriptors back to fractions.

    Args:
        network: A network that reads the kernel mean descriptor.
        descriptor: The descriptor that it was trained on.

    Raises:
        UsageError: The network reads another descriptor.
    """

    def __init__(self, network: Network, descriptor: KernelMean) -> None:
        matrix = descriptor.kernel.matrix
        if matrix.shape[1] != network.descriptor_mean.shape[0]:
            raise UsageError(
                f"the network reads {network.descriptor_mean.shape[0]} numbers, but the kernel mean has "
                f"{matrix.shape[1]}: give the descriptor of kind kernel_mean that the network was trained on"
            )
        self.network, self.kernel = network, descriptor.kernel
        self.device = network.device
        self._matrix = torch.tensor(matrix, dtype=torch.get_default_dtype(), device=self.device)  # (n, D)

    def descriptors(self, weights: Tensor) -> Tensor:
        """Return descriptors (B, D) of atomic fractions (B, n), in the precision of the fractions."""
        return weights @ self._matrix.to(weights.dtype)

    def latents(self, descriptors: Tensor) -> Tensor:
        """Return the latents (B, d) of descriptors (B, D)."""
        return self.network.composition_latents(descriptors)

    def decoder(self) -> str:
        """Return the name of the task that decodes latents.

        Raises:
            UsageError: The network has no such task, or its latents are not bounded.
        """
        decoder = next((task.name for task in self.network.tasks if task.kind == "autoencoder"), None)
        if decoder is None:
            raise UsageError("the space `latent` needs an autoencoder head: train with one, or take the space `input`")
        if self.network.stage.kind == "none":
            raise UsageError("the space `latent` needs a bounded latent: train with the latent stage tanh or deposit")
        return decoder

    def decoded(self, decoder: str, latents: Tensor) -> Tensor:
        """Return the descriptors (B, D) decoded from latents (B, d)."""
        return self.network.predict(decoder, latents)

    def standardised(self, descriptors: Tensor) -> Tensor:
        """Return descriptors (B, D) on the scale that the network reads."""
        return self.network.standardised(descriptors)

    def restored(self, standardised: Tensor) -> Tensor:
        """Return descriptors (B, D) from the scale that the network reads."""
        return standardised * self.network.descriptor_scale + self.network.descriptor_mean

    def compositions(self, descriptors: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return the fractions (B, n) with the descriptors nearest to descriptors (B, D), and the distances, (B,)."""
        return self.kernel.inverse(descriptors.detach().cpu().double().numpy())


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode without gradients, and restore it afterwards, even after an error."""
    modes = [(module, module.training) for module in network.modules()]
    trained = [(weight, weight.requires_grad, weight.grad) for weight in network.parameters()]
    try:
        network.eval()
        network.requires_grad_(False)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for weight, requires, grad in trained:
            weight.requires_grad_(requires)
            weight.grad = grad


_NEAR = 0.99  # share of validation compositions within a domain distance of 1
_LEAST_REACH = 1e-6  # in case all latents are equal
_BATCH = 4096


@dataclass(frozen=True)
class TrainedCompositions:
    """A network of compositions with the facts from its training.

    Attributes:
        model: The network.
        names: Reduced formulas of the compositions in the split: training, validation, test, in this order.
        fractions: Their atomic fractions, (m, n).
        latents: Latents of the training compositions, (m', d).
        reach: Distance from these that covers 99 % of the validation compositions.
        half_widths: Task -> level [%] -> half width of the prediction interval.
        parts: Part of the split -> reduced formulas.
        path: The weights file.
        digest: SHA-256 of the weights.
    """

    model: DesignModel
    names: tuple[str, ...]
    fractions: np.ndarray
    latents: np.ndarray
    reach: float
    half_widths: dict[str, dict[str, float]]
    parts: dict[str, list[str]]
    path: Path
    digest: str

    @classmethod
    def load(cls, path: Path, device: str = "auto") -> TrainedCompositions:
        """Load a model from a path that `read_compositions` understands.

        Raises:
            ModelError: A file of the model is missing or damaged.
            UsageError: The model does not predict from the kernel mean of compositions alone.
        """
        return cls.of_content(read_compositions(path), path, device)

    @classmethod
    def of_content(cls, content: dict[str, Any], path: Path, device: str = "auto") -> TrainedCompositions:
        """Return the model whose content `read_compositions` has read from a path."""
        network, facts = unpack_network(content)
        if isinstance(network, Ensemble) or not network.reads_compositions:  # ensembles read crystals alone
            raise UsageError(
                f"{path} reads crystal structures, not compositions: inverse design needs a model of compositions, "
                "such as jarvis-compositions"
            )
        if network.reads_crystals:
            raise UsageError(f"{path} reads crystal structures too: inverse design needs a model of compositions alone")
        settings = {key: value for key, value in facts["descriptor"].items() if key not in ("kind", "width", "digest")}
        if facts["descriptor"]["kind"] != "kernel_mean":
            raise UsageError(
                f"{path} reads the descriptor {facts['descriptor']['kind']}: inverse design needs kernel_mean"
            )
        source = KernelMean(**settings)
        if source.digest != facts["descriptor"]["digest"]:
            raise ModelError(f"{path} was trained with another table of element features: train it again")
        model, parts = DesignModel(network.to(resolve_device(device)), source), facts["compositions"]
        names = tuple(name for part in PARTS for name in parts[part])
        fractions, _ = known_weights(names)
        latents = latents_of(model, fractions[: len(parts["train"]) + len(parts["val"])])
        train, val = latents[: len(parts["train"])], latents[len(parts["train"]) :]
        reach = float(np.quantile(nearest(val, train, 1)[1], _NEAR)) if len(val) else 1.0
        file = path if path.is_file() else path / (WEIGHTS if is_model_folder(path) else BEST)
        digest, widths = digest_of_weights(content["state"]), facts["half_widths"]
        return cls(model, names, fractions, train, max(reach, _LEAST_REACH), widths, parts, file, digest)

    def distance(self, weights: np.ndarray) -> np.ndarray:
        """Return the distance of compositions (B, n) from the training compositions, (B,), in units of `reach`."""
        return nearest(latents_of(self.model, weights), self.latents, 1)[1][:, 0] / self.reach

    def nearest_known(self, weights: np.ndarray, count: int = 2) -> list[list[str]]:
        """Return the compositions of the split with the most atoms in common with each composition (B, n)."""
        found = []
        for composition in weights:
            apart = np.abs(self.fractions - composition).sum(axis=1)
            found.append([self.names[place] for place in np.argsort(apart, kind="stable")[:count]])
        return found

    def seeds(self, formulas: Sequence[str]) -> np.ndarray:
        """Return atomic fractions of formulas, (B, n).

        Raises:
            UsageError: A formula cannot be read.
        """
        fractions, valid = known_weights(formulas)
        if not valid.all():
            raise UsageError(f"seed {formulas[int(np.argmin(valid))]!r} is not a formula")
        return fractions


@torch.inference_mode()
def latents_of(model: DesignModel, weights: np.ndarray) -> np.ndarray:
    """Return the latents of compositions (B, n), (B, d) float32."""
    parts = [
        model.latents(model.descriptors(torch.as_tensor(block, dtype=torch.get_default_dtype(), device=model.device)))
        for block in np.split(weights, range(_BATCH, len(weights), _BATCH))
    ]
    return torch.cat(parts).cpu().numpy()


def read_compositions(path: Path) -> dict[str, Any]:
    """Return the content of a weights file, with the compositions of the split and the intervals among its facts.

    Args:
        path: A completed run, a weights file beside its split (such as the `final_model.pt` of continual learning,
            which has no intervals), or the folder of a shipped model.

    Raises:
        ModelError: A file is missing or damaged.
    """
    if is_model_folder(path):
        return read_model_folder(path)
    file = path / BEST if path.is_dir() else path
    content = read_checkpoint(file)
    if isinstance(content["facts"].get("compositions", {}).get("train"), list):  # the copy in a study
        return content
    results = file.with_name(RESULTS)
    known = path.is_dir() or results.is_file()
    return with_compositions(content, file.parent, _read(results) if known else {"tasks": {}})


def with_compositions(content: dict[str, Any], run: Path, results: dict[str, Any]) -> dict[str, Any]:
    """Return the content of the weights of a run, with the compositions of the split and the intervals among its facts.

    Args:
        content: Content of its `best.pt`.
        run: Its directory.
        results: Content of its `results.json`.

    Raises:
        ModelError: The split is missing or damaged.
    """
    split = _read(run / SPLITS)
    parts = {part: [group_key(name) for name in split[part]] for part in PARTS}
    widths = {
        name: {level: one["half_width"] for level, one in found["levels"].items() if one.get("half_width") is not None}
        for name, found in results.get("intervals", {}).items()
        if found
    }
    widths |= {name: {} for name in results["tasks"] if name not in widths}
    return {**content, "facts": {**content["facts"], "compositions": parts, "half_widths": widths}}


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is missing or damaged: {error}; complete the run first") from None
