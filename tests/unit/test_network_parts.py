"""Parts of a network: some of its heads, with everything that they need."""

from __future__ import annotations

import torch
from known_tasks import dataset_of, network_of

from crystrata.datasets.sampling import Step


def test_a_network_of_some_heads_predicts_the_same() -> None:
    dataset = dataset_of()
    network = network_of(dataset).eval()
    (batch,) = dataset.batches(Step(dataset.train, len(dataset.train)))
    one = network.only(["energy"]).eval()
    assert one.task_names == ("energy",)
    with torch.no_grad():
        torch.testing.assert_close(one(batch)["energy"], network(batch)["energy"], rtol=0, atol=0)
