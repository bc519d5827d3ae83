"""`--compile`: the compiled encoder is used only where its numbers are those of the plain one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from known_crystals import CRYSTALS, batch_of
from torch import Tensor

from crystrata.graphs.batch import CrystalBatch
from crystrata.jarvis_properties import property_tasks
from crystrata.networks.config import NetworkConfig
from crystrata.networks.network import Network
from crystrata.runs.directory import HISTORY

RUN = ("--level", "lite", "--epochs", "1", "--max-samples", "60", "--compile")
WARNING = "warning: --compile has no effect"


def history(run: Path) -> Any:
    return json.loads((run / HISTORY).read_text())


def compiled_as(monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]) -> list[int]:
    """Let `torch.compile` return the encoder with its latents changed; return the list of its calls."""
    calls = []

    def compile(forward: Callable[[CrystalBatch], Tensor], dynamic: bool) -> Callable[[CrystalBatch], Tensor]:
        def encode(batch: CrystalBatch) -> Tensor:
            calls.append(len(batch))
            return change(forward(batch))

        return encode

    monkeypatch.setattr(torch, "compile", compile)
    return calls


def test_an_equal_encoder_is_used(
    train: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = train(tmp_path / "plain", *RUN[:-1])
    calls = compiled_as(monkeypatch, lambda latents: latents)
    run = train(tmp_path / "compiled", *RUN)
    assert len(calls) > 5
    assert WARNING not in capsys.readouterr().out
    assert history(run)[0]["val_mae"] == history(plain)[0]["val_mae"]


@pytest.mark.parametrize("change", [lambda latents: 1.01 * latents, lambda latents: latents * torch.nan])
def test_a_wrong_one_is_not(
    train: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Tensor], Tensor],
) -> None:
    calls = compiled_as(monkeypatch, change)
    train(tmp_path, *RUN)
    assert len(calls) == 1
    assert f"{WARNING}: " in capsys.readouterr().out


def test_a_compiler_that_fails_is_told_of(
    train: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(latents: Tensor) -> Tensor:
        raise RuntimeError("no C++ compiler\nand a long trace")

    compiled_as(monkeypatch, fail)
    train(tmp_path, *RUN)
    assert f"{WARNING}: RuntimeError: no C++ compiler\n" in capsys.readouterr().out


def test_evaluation_keeps_the_plain_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = compiled_as(monkeypatch, lambda latents: latents)
    network = Network(NetworkConfig(property_tasks(["spillage"]), "e3nn", {"channels": 8, "layers": 1}))
    network.compile_encoder()
    monkeypatch.setattr(type(network.encoder), "forward", lambda self, batch: torch.zeros(len(batch.numbers), 8))
    network.eval()
    network.encode_crystals(batch_of(CRYSTALS))
    assert calls == []
    assert not any("_compiled" in name for name in network.state_dict())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("algorithm", ["e3nn", "cgcnn"])
def test_the_real_compiler(
    train: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], algorithm: str
) -> None:
    flags = ("--algorithm", algorithm, *RUN)
    plain, run = train(tmp_path / "plain", *flags[:-1]), train(tmp_path / "compiled", *flags)
    assert WARNING not in capsys.readouterr().out
    for name, mae in history(plain)[0]["val_mae"].items():
        assert history(run)[0]["val_mae"][name] == pytest.approx(mae, rel=1e-3)
