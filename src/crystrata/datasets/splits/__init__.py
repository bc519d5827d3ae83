"""Training, validation and test parts: every protocol by name, the same answer for every run of a seed."""

from crystrata.datasets.splits.candidates import Candidates, SplitRequest
from crystrata.datasets.splits.grouped import random_split
from crystrata.datasets.splits.protocols import PROTOCOLS, parse_protocol, resolve_split
from crystrata.datasets.splits.split import FRACTIONS, Split, keep_rows, keep_unseen, subsample
from crystrata.tasks import PARTS

__all__ = [
    "FRACTIONS",
    "PARTS",
    "PROTOCOLS",
    "Candidates",
    "Split",
    "SplitRequest",
    "keep_rows",
    "keep_unseen",
    "parse_protocol",
    "random_split",
    "resolve_split",
    "subsample",
]
