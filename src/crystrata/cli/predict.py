"""`crystrata predict` and `inference_multitask.py`: structure files in, a table of properties out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from crystrata.cli.parsing import Parser, add_models_dir, run_verb, terminal
from crystrata.errors import InputError, UsageError

ALL_FAILED = 1
EMBEDDINGS = (".parquet", ".csv", ".npy")


def main(arguments: Sequence[str] | None = None, program: str = "inference_multitask.py") -> int:
    """Parse the flags and predict; return the exit code: 0, 1 if every input failed, 2 for a wrong call."""
    parser = Parser(
        program,
        "Predict properties from structure files or formulas. The shipped model answers unless another is named.",
        ("POSCAR structure.cif", "cifs/ --output predictions.csv"),
    )
    what = parser.add_argument_group("structures or formulas")
    _add_inputs(what)
    what.add_argument(
        "--majority-species",
        action="store_true",
        help="read disordered sites as their majority species, with a warning",
    )
    what.add_argument(
        "--interval", type=float, default=90.0, metavar="PERCENT",
        help="level of the prediction intervals, 0 for none (default: 90)",
    )  # fmt: skip
    what.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes that read files (pays from some thousands on)"
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model", "--run", metavar="MODEL",
        help="name of a shipped model, best, latest, a run directory, a weights file, or the folder of a model "
        "(default: the shipped model)",
    )  # fmt: skip
    model.add_argument("--family", metavar="NAME", help="newest run of this family, such as multitask_cgcnn")
    add_models_dir(model, "--model-dir", words="folder of all runs (default: models)")
    model.add_argument("--device", default="auto", metavar="{auto,cpu,cuda}", help="where to compute")
    parser.add_argument("--output", metavar="FILE", help="csv or xlsx table (with --dir: phase2_preds.csv)")
    flags = parser.parse_args(arguments)
    return run_verb(lambda: _run(flags))


def _add_inputs(group: argparse._ActionsContainer) -> None:
    group.add_argument("paths", nargs="*", metavar="PATH", help="structure files, folders and archives")
    group.add_argument("--cif", nargs="+", metavar="FILE", help="structure files (CIF, POSCAR, xyz, JSON, ASE db, zip)")
    group.add_argument("--dir", metavar="DIR", help="a folder of structure files, read recursively")
    group.add_argument("--formula", nargs="+", metavar="FORMULA", help="formulas, for models that read compositions")


def _run(flags: argparse.Namespace) -> int:
    if flags.workers < 0:
        raise UsageError(f"--workers must be 0 or more, not {flags.workers}")
    paths = _inputs(flags)
    if flags.model and flags.family:
        raise UsageError("--model and --family contradict each other: give one")
    output = flags.output or ("phase2_preds.csv" if flags.dir else None)
    if output:
        from crystrata.reports.predictions import check_table_path

        check_table_path(Path(output))
    from crystrata.prediction.predict import Formula, predict, predict_files
    from crystrata.prediction.trained_model import load_model
    from crystrata.reports.predictions import print_predictions, write_predictions
    from crystrata.runs.find import find_model

    console = terminal(stderr=bool(flags.output))
    found = find_model(flags.models_dir, flags.model, flags.family)
    model = load_model(found, flags.device)
    with console.status("predicting") as status:

        def progress(done: int) -> None:
            status.update(f"predicting: {done} materials")

        if flags.formula:
            table = predict(model, map(Formula, flags.formula), interval=flags.interval, progress=progress)
        else:
            table = predict_files(
                model, paths, interval=flags.interval, majority_species=flags.majority_species,
                workers=flags.workers, progress=progress,
            )  # fmt: skip
    if output:
        write_predictions(table, Path(output), demo=model.facts["source"]["demo"])
    if flags.interval:
        known = f"{flags.interval:g} % prediction intervals"
        unknown = "no intervals: this model has not been calibrated; --resume of its run does it"
        console.print(known if model.calibration else unknown, soft_wrap=True)
    items = "formulas" if flags.formula else "structures"
    print_predictions(table, model, console, items=items, written=output)
    return ALL_FAILED if (table["error_code"] != "").all() else 0


def embed_main(arguments: Sequence[str] | None = None, program: str = "crystrata embed") -> int:
    """Parse the flags and write latents; return the exit code: 0, 1 if every input failed, 2 for a wrong call."""
    parser = Parser(
        program,
        "Write the latents of structures or formulas, the numbers by which a model knows them: for regressions, "
        "searches and maps of your own.",
        ("cifs/ --output latents.parquet", "POSCAR --model RUN --output latents.npy"),
    )
    _add_inputs(parser)
    parser.add_argument("--model", metavar="MODEL", help="as of crystrata predict (default: the shipped model)")
    add_models_dir(parser, words="folder of all runs (default: models)")
    parser.add_argument("--device", default="auto", metavar="{auto,cpu,cuda}", help="where to compute")
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="parquet or csv table, or npy, the numbers alone in input order"
    )
    flags = parser.parse_args(arguments)
    return run_verb(lambda: _embed(flags))


def _embed(flags: argparse.Namespace) -> int:
    output = Path(flags.output)
    if output.suffix not in EMBEDDINGS:
        raise UsageError(f"{output}: end the name in {', '.join(EMBEDDINGS)}")
    paths = _inputs(flags)
    import io

    import numpy as np

    from crystrata.files import write_bytes
    from crystrata.prediction.predict import Formula, embed
    from crystrata.prediction.trained_model import load_model
    from crystrata.runs.find import find_model
    from crystrata.structures.readers import read_crystals

    console = terminal()
    model = load_model(find_model(flags.models_dir, flags.model), flags.device)
    with console.status("embedding"):
        table = embed(model, map(Formula, flags.formula) if flags.formula else read_crystals(paths))
    content = io.BytesIO()
    if output.suffix == ".npy":
        np.save(content, table.filter(regex=r"^\d+$").to_numpy(dtype=np.float32))
    elif output.suffix == ".csv":
        content.write(table.to_csv(index=False, float_format="%.7g").encode())
    else:
        table.to_parquet(content, index=False)
    write_bytes(output, content.getvalue())
    failed = table[table["error_code"] != ""]
    for row in failed.itertuples():
        console.print(f"{row.id}: {row.error_code}: {row.error}", style="red", soft_wrap=True)
    console.print(f"{len(table)} rows, {len(failed)} with errors: {output}", soft_wrap=True)
    return ALL_FAILED if len(failed) == len(table) else 0


def _inputs(flags: argparse.Namespace) -> list[Path]:
    if sum(map(bool, (flags.paths, flags.cif, flags.dir, flags.formula))) != 1:
        raise UsageError("name structure files or folders, or formulas with --formula")
    if flags.formula:
        return []
    if given := flags.paths or flags.cif:
        missing = [name for name in given if not Path(name).exists()]
        if len(missing) == len(given):
            raise InputError(f"no such file: {', '.join(missing)}")
        return [Path(name) for name in given]
    from crystrata.structures.readers import find_structure_files

    folder = Path(flags.dir)
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}")
    if not find_structure_files(folder):
        raise InputError(f"{folder} holds no structure file (CIF, POSCAR, xyz, JSON, ASE db, zip)")
    return [folder]
