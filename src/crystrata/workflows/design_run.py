"""Inverse design from objectives to compositions and candidate crystals, written as tables and structure files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from crystrata import __version__
from crystrata.compositions.keys import known_weights
from crystrata.datasets.splits.prototypes import prototype_keys
from crystrata.design import METHODS, Method
from crystrata.design.composition_search import CompositionSettings
from crystrata.design.constraints import Constraints
from crystrata.design.formulas import MOST_ATOMS
from crystrata.design.latent_search import LatentSettings
from crystrata.design.objectives import Objective, ObjectiveFunction
from crystrata.design.results import CHARGES, DISTANCE, ERROR, FORMULA, KNOWN, NEAREST, results_table
from crystrata.design.search import SearchResult, search_compositions
from crystrata.design.substitution import Candidate, candidates, strained
from crystrata.design.trained import TrainedCompositions
from crystrata.elements import SYMBOLS
from crystrata.errors import UsageError, unknown_name
from crystrata.files import write_json, write_text
from crystrata.jarvis_properties import get_property
from crystrata.networks.weights import digest_of_weights
from crystrata.prediction.predict import interval_titles, predict_materials
from crystrata.prediction.trained_model import TrainedModel
from crystrata.sources.table import CrystalTable

COMPOSITIONS, STRUCTURES, SETTINGS, FOLDER = "compositions.csv", "structures.csv", "design.json", "structures"
STABLE = "ehull"

_SCALES = (0.94, 0.97, 1.0, 1.03, 1.06)  # of the lengths of a candidate; the lowest energy wins
_SHOWN = 10


@dataclass(frozen=True)
class DesignRequest:
    """Objectives, constraints and settings of a design run.

    Attributes:
        method: `composition` supports all constraints; `latent` and `input` support none and need seeds.
        seeds: Formulas to start from; random starts without them.
        composition: Settings of a search in compositions.
        latent: Settings of a search in latents or descriptors.
        max_atoms: Largest number of atoms in a formula.
        formulas: Number of formulas to find structures for.
        structures: Number of structures for each; 0 for none.
    """

    objectives: tuple[Objective, ...]
    constraints: Constraints
    method: Method = "composition"
    seeds: tuple[str, ...] = ()
    composition: CompositionSettings = field(default_factory=CompositionSettings)
    latent: LatentSettings = field(default_factory=LatentSettings)
    max_atoms: int = MOST_ATOMS
    formulas: int = 3
    structures: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise unknown_name("method", self.method, METHODS)
        if self.method != "composition":
            if self.constraints != Constraints():
                raise UsageError(f"the method {self.method} supports no constraints: choose the method composition")
            if not self.seeds:
                raise UsageError(f"the method {self.method} starts from known compositions: give --seeds")
        if self.formulas < 1 or self.structures < 0 or self.max_atoms < 2:
            raise UsageError("formulas must be 1 or more, max_atoms 2 or more, structures 0 or more")
        allowed = self.constraints.allowed
        for seed in self.seeds:
            excluded = np.flatnonzero((known_weights([seed])[0][0] > 0) & ~allowed)
            if len(excluded):
                symbols = ", ".join(SYMBOLS[place] for place in excluded)
                raise UsageError(
                    f"the seed {seed} contains {symbols}, which is not allowed: allow it, or leave out the seed"
                )


def run_design(
    request: DesignRequest, trained: TrainedCompositions, output: Path, console: Console, *,
    structure_model: TrainedModel | None = None, known: CrystalTable | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Search for compositions, find structures for the best, and write and show both; return the table of compositions.

    Structures need a model of crystals, which evaluates the candidates, and known crystals to substitute into.

    Raises:
        UsageError: Objectives and constraints contradict each other or do not fit the network, or structures are
            requested without a model of crystals and known crystals.
    """
    if request.structures and (structure_model is None or known is None):
        raise UsageError("structures need a model of crystals and known crystals")
    started = time.perf_counter()
    function = ObjectiveFunction(request.objectives, trained.model.network)
    found = _search(request, trained, console)
    columns = {f"in {request.method}": found.latent_values, "decoded": found.decoded_values}
    latent_values = {suffix: values for suffix, values in columns.items() if values is not None}
    table = results_table(trained, function, found.weights, max_atoms=request.max_atoms, latent_values=latent_values)
    seconds = time.perf_counter() - started
    _prepare_folder(output)
    write_text(output / COMPOSITIONS, table.to_csv(index=False, float_format="%.6g"))
    record = {
        "request": asdict(request),
        "model": {"path": str(trained.path), "weights": trained.digest},
        "structure_model": None
        if structure_model is None
        else {"path": str(structure_model.path), "weights": digest_of_weights(structure_model.network.state_dict())},
        "structures_from": None if known is None else {"source": known.name, "digest": known.digest},
        "crystrata": __version__,
        "seconds": seconds,
    }
    write_json(output / SETTINGS, record)
    _show_compositions(table, request, console)
    if request.structures and structure_model is not None and known is not None:
        with console.status("finding structures"):
            structures = _structures(request, table[FORMULA].tolist(), structure_model, known, output)
        write_text(output / STRUCTURES, structures.to_csv(index=False, float_format="%.6g"))
        _show_structures(structures, request, console)
    console.print(f"{len(table)} formulas from {len(found.weights)} compositions in {seconds:.1f} s; folder: {output}")
    return table


def _prepare_folder(output: Path) -> None:
    """Make the folder, and remove the structures of an earlier run."""
    output.mkdir(parents=True, exist_ok=True)
    (output / STRUCTURES).unlink(missing_ok=True)
    for file in (output / FOLDER).glob("*-as-*.cif"):
        file.unlink()


def _search(request: DesignRequest, trained: TrainedCompositions, console: Console) -> SearchResult:
    """Return the result of the search."""
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("searching for compositions")

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return search_compositions(
            trained.model,
            request.objectives,
            request.composition if request.method == "composition" else request.latent,
            seeds=trained.seeds(request.seeds) if request.seeds else None,
            constraints=request.constraints,
            progress=progress,
        )


def _structures(
    request: DesignRequest, formulas: Sequence[str], structure_model: TrainedModel, known: CrystalTable, output: Path
) -> pd.DataFrame:
    """Return predicted candidates for the first formulas that have any, best first, and write their files."""
    domain = structure_model.calibration.domain if structure_model.calibration else None

    def volume(formula: str) -> float:
        return 1.0 if domain is None else float(domain.usual_volume(known_weights([formula])[0])[0])

    tables = []
    for formula in formulas:
        try:
            found = candidates(formula, known, _structure_type, most=request.structures, volume_per_atom=volume)
        except UsageError:  # no known crystal has this stoichiometry
            continue
        table = _ranked(found, structure_model, request.objectives)
        for one, name in zip(table.pop("crystal"), table["id"], strict=True):
            write_text(output / FOLDER / f"{name}.cif", _as_cif(one))
        tables.append(table)
        if len(tables) == request.formulas:
            break
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["id", FORMULA])


def _structure_type(crystal: Any) -> str:
    counts = np.array([len(crystal)])
    return prototype_keys(crystal.lattice[None], counts, crystal.numbers, crystal.frac)[0]


def _ranked(found: Sequence[Candidate], structure_model: TrainedModel, objectives: Sequence[Objective]) -> pd.DataFrame:
    """Predict candidates, each at its volume of lowest energy, and order them by their distance from the objectives.

    The distance from each objective, and from the hull, is counted in half widths of its prediction interval.
    """
    scales = _SCALES if "formation_energy" in structure_model.properties else (1.0,)
    sizes = [strained(one.crystal, scales) for one in found]
    table = predict_materials(structure_model, [crystal for scaled in sizes for crystal in scaled])
    table["crystal"] = [crystal for scaled in sizes for crystal in scaled]
    for name in ("prototype", "prototype_formula", "difference", "known"):
        table[name] = [getattr(one, name) for one in found for _ in scales]
    table = table[table["error_code"] == ""]
    if len(scales) > 1:
        energy = get_property("formation_energy").column
        table = table.loc[table.groupby("id", sort=False)[energy].idxmin()]
    table["miss"] = 0.0
    for objective in (*objectives, Objective(STABLE, "<", 0.0)):
        if objective.task in structure_model.properties and objective.relation != "class":
            table["miss"] += _miss(table, objective)
    return table.sort_values("miss", kind="stable")


def _miss(table: pd.DataFrame, objective: Objective) -> np.ndarray:
    record = get_property(objective.task)
    values = table[record.column].to_numpy()
    low, high = interval_titles(record)
    half = ((table[high] - table[low]) / 2).to_numpy() if high in table else np.ones(len(table))
    if objective.relation in ("least", "most"):  # from the best candidate
        distance = values - values.min() if objective.relation == "least" else values.max() - values
    else:
        distance = values - float(np.asarray(objective.value))
    if objective.relation == "<":
        distance = np.maximum(distance, 0)
    elif objective.relation == ">":
        distance = np.maximum(-distance, 0)
    return np.abs(distance) / np.where(np.isfinite(half) & (half > 0), half, 1.0)


def _as_cif(crystal: Any) -> str:
    from pymatgen.core import Lattice, Structure
    from pymatgen.io.cif import CifWriter

    structure = Structure(Lattice(crystal.lattice), crystal.numbers.tolist(), crystal.frac)
    return str(CifWriter(structure))


def _show_compositions(table: pd.DataFrame, request: DesignRequest, console: Console) -> None:
    shown = Table(title="Compositions, lowest loss first", title_justify="left")
    tasks = [objective.task for objective in request.objectives]
    for title in (FORMULA, ERROR, *tasks, DISTANCE, CHARGES, NEAREST):
        shown.add_column(title, overflow="fold")
    for row in table.head(_SHOWN).to_dict("records"):
        values = [
            f"{row[task]:.3g}"
            + (f" ({row[f'{task} low']:.3g} to {row[f'{task} high']:.3g})" if _bounded(row, task) else "")
            for task in tasks
        ]
        name = f"{row[FORMULA]}{' (known)' if row[KNOWN] else ''}"
        shown.add_row(name, f"{row[ERROR]:.2g}", *values, f"{row[DISTANCE]:.2g}", row[CHARGES], row[NEAREST])
    console.print(shown)


def _bounded(row: dict[Any, Any], task: str) -> bool:
    return bool(np.isfinite(row.get(f"{task} low", np.nan)))


def _show_structures(table: pd.DataFrame, request: DesignRequest, console: Console) -> None:
    if table.empty:
        console.print("no known crystal has the stoichiometry of these formulas: no structures", style="yellow")
        return
    shown = Table(title="Structures, by substitution into known crystals", title_justify="left")
    names = [objective.task for objective in request.objectives if objective.task in _names(table)]
    names += [name for name in ("formation_energy", STABLE) if name in _names(table) and name not in names]
    for title in ("structure", "difference", *names, DISTANCE, "warning"):
        shown.add_column(title, overflow="fold")
    for row in table.head(2 * _SHOWN).to_dict("records"):
        values = []
        for name in names:
            record = get_property(name)
            ends = [row.get(title, np.nan) for title in interval_titles(record)]
            interval = f" ({ends[0]:.3g} to {ends[1]:.3g})" if np.isfinite(ends).all() else ""
            values.append(f"{row[record.column]:.3g}{interval}")
        distance = row.get(DISTANCE, np.nan)
        shown.add_row(row["id"], f"{row['difference']:.2g}", *values, f"{distance:.2g}", row["warning"])
    console.print(shown)


def _names(table: pd.DataFrame) -> set[str]:
    return {str(column).partition(" [")[0] for column in table.columns}
