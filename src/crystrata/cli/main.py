"""The console command `crystrata`: and its verbs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from crystrata import __version__
from crystrata.cli import completed_runs, design, evaluate, predict, runs, several_runs, store, train
from crystrata.cli.parsing import run_verb
from crystrata.errors import nearest

_VERBS: dict[str, tuple[str, Callable[[list[str]], int]]] = {
    "train": (
        "train on JARVIS-DFT or on tables of your own",
        lambda rest: train.main(rest, train.EntryPoint(program="crystrata train")),
    ),
    "matrix": ("train the model matrix", lambda rest: several_runs.matrix(rest, "crystrata matrix")),
    "predict": ("predict properties from structures or formulas", lambda rest: predict.main(rest, "crystrata predict")),
    "embed": ("write the latents of structures or formulas", predict.embed_main),
    "evaluate": ("print the metrics of a model on a split or a table", evaluate.main),
    "runs": ("list the runs of a models folder", runs.list_runs),
    "compare": ("print the errors of several runs side by side", runs.compare),
    "info": ("say what a model is", runs.info),
    "resume": ("continue a run", runs.resume),
    "ensemble": ("make one model of several runs", completed_runs.ensemble),
    "continual": ("learn tasks one after another", several_runs.continual),
    "export": ("make the shareable folder of a run", completed_runs.export),
    "store": ("build or carry the graph store", lambda rest: store.main(rest, "crystrata store")),
    "design": ("find compositions with desired properties", design.main),
    "leaderboard": ("write a contribution to the JARVIS leaderboard", completed_runs.leaderboard),
}
_OLDER = {"combine": "ensemble", "rehearse": "continual"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given:
        given[0] = _OLDER.get(given[0], given[0])
    if given and given[0] in _VERBS:
        return _VERBS[given[0]][1](given[1:])
    return run_verb(lambda: _without_verb(given))


def _without_verb(given: list[str]) -> int:
    if given and given[0] in ("-V", "--version"):
        print(f"crystrata {__version__}")
        return 0
    if not given or given[0] in ("-h", "--help"):
        print("usage: crystrata VERB [flags]\n\nNine properties of a crystal from its structure.\n")
        print("\n".join(f"  {verb:11} {words}" for verb, (words, _) in _VERBS.items()))
        print("\n`crystrata VERB --help` lists the flags of a verb.")
        return 0 if given else 2
    print(f"crystrata: error: unknown verb {given[0]!r}{nearest(given[0], _VERBS)}", file=sys.stderr)
    return 2
