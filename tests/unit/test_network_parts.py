"""Parts of a network: some of its heads, with everything that they need."""

from __future__ import annotations

import torch
from known_tasks import dataset_of, network_of

from crystrata.datasets.batch import Batch
from crystrata.datasets.sampling import Step


def test_a_network_of_some_heads_predicts_the_same() -> None:
    dataset = dataset_of()
    network = network_of(dataset).eval()
    (batch,) = dataset.batches(Step(dataset.train, len(dataset.train)))
    one = network.only(["energy"]).eval()
    assert one.task_names == ("energy",)
    with torch.no_grad():
        torch.testing.assert_close(one(batch)["energy"], network(batch)["energy"], rtol=0, atol=0)


def test_a_reconstruction_is_judged_where_other_heads_have_no_targets() -> None:
    dataset = dataset_of()
    network = network_of(dataset).eval()
    (batch,) = dataset.batches(Step(dataset.train, len(dataset.train)))
    bare = Batch(batch.rows, {}, descriptor=batch.descriptor)  # as where heads for other tasks were carried along
    with torch.no_grad():
        errors, sums = network.validate(bare, only=["rebuilt"])
        wanted, _ = network.validate(batch)
    assert [*errors] == [*sums] == ["rebuilt"]
    torch.testing.assert_close(errors["rebuilt"], wanted["rebuilt"], rtol=0, atol=0)
