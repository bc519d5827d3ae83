"""Training in a child process that can be killed: the command of a person, with dropout and tight checkpoints."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from drills.drill import NotTried

_PRELOADED = ["drills.child", "crystrata.workflows.run", "crystrata.networks.encoders", "e3nn.o3"]


def start(arguments: list[str], folder: Path, *, environment: dict[str, str] | None = None) -> BaseProcess:
    """Start a training run in a process of its own.

    Args:
        arguments: What follows `run_phase2.py`.
        folder: Receives `output`, what the run prints, and `steps`, a byte for each step that was carried out.
        environment: Variables to set.

    Raises:
        NotTried: This system cannot fork.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        raise NotTried("this system cannot fork")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    folder.mkdir(parents=True, exist_ok=True)
    process = context.Process(target=_train, args=(arguments, folder, environment or {}))
    process.start()
    return process


def _train(arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    import torch

    from crystrata.cli.train import main

    torch.set_num_threads(1)
    _with_dropout()
    _with_a_checkpoint_after_every_step(folder / "steps")
    sys.exit(main(arguments))


def _with_dropout() -> None:
    """Make every latent of a training step random: a state of the generators that is not restored then shows."""
    from torch.nn import functional

    from crystrata.networks.network import Network

    build_encoder = Network.__init__

    def with_dropout(network: Any, config: Any) -> None:
        build_encoder(network, config)
        network.encoder.register_forward_hook(
            lambda module, _, latent: functional.dropout(latent, 0.1, module.training)
        )

    Network.__init__ = with_dropout  # type: ignore[method-assign]


def _with_a_checkpoint_after_every_step(counter: Path) -> None:
    from crystrata.training import artifacts

    artifacts.SAVE_SECONDS = 0.0
    write = artifacts.RunArtifacts.on_train_batch_end
    counted = os.open(counter, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def on_train_batch_end(self: Any, *arguments: Any) -> None:
        os.write(counted, b".")
        write(self, *arguments)

    artifacts.RunArtifacts.on_train_batch_end = on_train_batch_end  # type: ignore[method-assign]
