"""Every split protocol: parts are disjoint, groups whole, official ids official, and no tested label is trained on."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from known_crystals import CRYSTALS, SETTINGS, SUPERCELLS, in_other_images, permuted, translated, turned
from rich.console import Console

from crystrata.cli.train import main
from crystrata.datasets.dataset import CrystalPropertyDataset
from crystrata.datasets.splits import (
    PARTS,
    PROTOCOLS,
    Candidates,
    Split,
    SplitRequest,
    keep_unseen,
    parse_protocol,
    resolve_split,
    subsample,
)
from crystrata.datasets.splits.grouped import chemical_system
from crystrata.datasets.splits.official import SPLITS_FILE, UNIVERSAL
from crystrata.datasets.splits.prototypes import (
    UNKNOWN,
    VOLUME_RATIO,
    cached_prototypes,
    joined,
    near_duplicate_pairs,
    near_duplicates_of,
    prototype_keys,
)
from crystrata.datasets.splits.published import (
    BENCHMARKS,
    FURTHER_GROUPS,
    SUITE,
    SUITE_GROUPS,
    download_published,
    read_published,
)
from crystrata.errors import DataError, OfflineError, UsageError
from crystrata.hull import CONVENTIONS, TrainingHull
from crystrata.jarvis_properties import PROPERTIES
from crystrata.networks.training_record import TrainingRecord
from crystrata.runs.config import resolve_config
from crystrata.sources.demo import open_demo
from crystrata.sources.jarvis import open_data_file
from crystrata.sources.jarvis.download import Transport
from crystrata.sources.table import CrystalTable
from crystrata.structures.crystal import Crystal
from crystrata.workflows.prepare import prepare, training_hulls
from drills.rewritings import supercell

SEED = 5
NAMED = [name for name, protocol in PROTOCOLS.items() if name != "official" and not protocol.may_leave_empty]
NAMED += [f"official:{group[0]}" for group in SUITE_GROUPS]  # those of tables of one's own: test_task_splits
GROUPED = ("random", "by-chemical-system", "by-prototype", "refit")


def scaled(crystal: Crystal, factor: float, id: str) -> Crystal:
    return replace(crystal, id=id, lattice=factor * crystal.lattice)


def made_table() -> CrystalTable:
    """A third of the demo crystals passed off as JARVIS ones, every fourth of them twice: 0.9% larger in volume."""
    demo = open_demo()
    rows = list(range(0, len(demo), 3))
    chosen = [crystal for row, crystal in enumerate(demo.crystals()) if row % 3 == 0]
    crystals = [*chosen, *(scaled(crystal, 1.003, "twin") for crystal in chosen[::4])]
    labels = pd.concat([demo.labels.iloc[rows], demo.labels.iloc[rows[::4]]])
    labels.index = pd.Index([f"JVASP-{number}" for number in range(len(crystals))], name="id")
    crystals = [replace(crystal, id=id) for crystal, id in zip(crystals, labels.index, strict=True)]
    return CrystalTable("made", "e" * 64, labels, lambda: iter(crystals))


def made_splits(ids: list[str]) -> pd.DataFrame:
    """Official splits of the suite on these ids; one tested id is also trained, another also validated on."""
    rows = []
    for number, group in enumerate(SUITE_GROUPS):
        order = np.random.default_rng(number).permutation(ids).tolist()
        parts = {"test": order[:9], "val": [order[0], *order[9:18]], "train": [order[1], *order[18:150]]}
        rows += [(name, id, part) for name in group for part in PARTS for id in parts[part]]
    return pd.DataFrame(rows, columns=["benchmark", "jid", "split"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("splits")


@pytest.fixture(scope="module")
def table() -> CrystalTable:
    return made_table()


@pytest.fixture(scope="module")
def dataset(table: CrystalTable, folder: Path) -> CrystalPropertyDataset:
    return CrystalPropertyDataset(table, folder / "stores", graph=SETTINGS)


@pytest.fixture(scope="module")
def splits_file(dataset: CrystalPropertyDataset, folder: Path) -> Path:
    made_splits(list(dataset.ids)).to_parquet(folder / SPLITS_FILE)
    return folder / SPLITS_FILE


@pytest.fixture(scope="module")
def request_of(splits_file: Path, folder: Path) -> Callable[[CrystalPropertyDataset], SplitRequest]:
    def of(dataset: CrystalPropertyDataset) -> SplitRequest:
        return SplitRequest(Candidates.of(dataset.materials), SEED, folder, splits_file=splits_file)

    return of


@pytest.fixture(scope="module")
def splits(dataset: CrystalPropertyDataset, request_of: Callable[..., SplitRequest]) -> dict[str, Split]:
    return {name: resolve_split(name, request_of(dataset)) for name in NAMED}


def published(splits_file: Path, benchmark: str, part: str) -> set[str]:
    frame = pd.read_parquet(splits_file)
    return set(frame[(frame.benchmark == benchmark) & (frame.split == part)].jid)


def ids_of(split: Split, dataset: CrystalPropertyDataset, part: str) -> set[str]:
    return {dataset.ids[row] for row in split.part(part)}


def seen_of(dataset: CrystalPropertyDataset, ids: set[str]) -> np.ndarray:
    """Return whether weights that were trained on these ids saw each material."""
    return TrainingRecord.of(sorted(ids), [""] * len(ids), {}).saw(dataset.ids)


@pytest.mark.parametrize("name", NAMED)
def test_no_crystal_is_in_two_parts(name: str, splits: dict[str, Split], dataset: CrystalPropertyDataset) -> None:
    split = splits[name]
    rows = np.concatenate([split.part(part) for part in PARTS])
    assert len(np.unique(rows)) == len(rows)
    left_out = split.notes.get("left_out_near_duplicates_of_test", 0)
    assert len(rows) + left_out == len(dataset)
    assert (left_out > 0) == (name == "union-strict")
    for part in PARTS:
        assert len(split.part(part)) > 0
        assert (np.diff(split.part(part)) > 0).all()
    assert (split.protocol, split.seed) == (name, SEED)


def group_keys(name: str, crystals: Candidates, folder: Path) -> list[str]:
    if name == "by-chemical-system":
        return [chemical_system(formula) for formula in crystals.formulas]
    if name == "by-prototype":
        return cached_prototypes(crystals, folder / "prototypes")
    return crystals.formulas


@pytest.mark.parametrize("name", [*GROUPED, "union", "union-strict"])
def test_no_group_is_in_two_parts(
    name: str, splits: dict[str, Split], dataset: CrystalPropertyDataset, folder: Path
) -> None:
    keys = group_keys(name, Candidates.of(dataset.materials), folder)
    parts = PARTS if name in GROUPED else ("train", "val")  # the official tests of a union cut through formulas
    groups = [{keys[row] for row in splits[name].part(part)} for part in parts]
    assert len(set.union(*groups)) == sum(map(len, groups)) > len(parts)


def test_a_refit_holds_little_out(splits: dict[str, Split], dataset: CrystalPropertyDataset) -> None:
    shares = [len(splits["refit"].part(part)) / len(dataset) for part in PARTS]
    assert shares == pytest.approx([0.95, 0.025, 0.025], abs=0.02)


def test_a_refit_from_union_holds_out_what_union_has_not_seen(
    splits: dict[str, Split], dataset: CrystalPropertyDataset
) -> None:
    refit, union, formulas = splits["union-refit"], splits["union"], Candidates.of(dataset.materials).formulas
    held = [*refit.val, *refit.test]
    assert set(held) <= set(union.test)
    seen = {formulas[row] for row in (*union.train, *union.val)}
    assert seen.isdisjoint(formulas[row] for row in held)
    assert {formulas[row] for row in refit.val}.isdisjoint(formulas[row] for row in refit.test)
    assert set(union.train) <= set(refit.train)
    keep_unseen(
        refit, dataset.ids, seen_of(dataset, ids_of(union, dataset, "train"))
    )  # so that a refit can start from union


def test_what_was_seen_before_is_not_validated_on(splits: dict[str, Split], dataset: CrystalPropertyDataset) -> None:
    split, ids = splits["random"], dataset.ids
    seen = {ids[row] for row in (split.val[0], split.val[2], split.train[0])} | {"elsewhere"}
    kept = keep_unseen(split, ids, seen_of(dataset, seen))
    assert set(kept.val) == set(split.val) - {split.val[0], split.val[2]}
    assert kept.notes["validation_crystals_seen_before"] == 2
    assert kept.as_dict(ids)["seen_before"] == sorted(seen - {ids[split.train[0]], "elsewhere"})
    with pytest.raises(
        UsageError,
        match=rf"1 materials of the test part of this split .random., such as {ids[split.test[0]]}",
    ):
        keep_unseen(split, ids, seen_of(dataset, {ids[split.test[0]]}))
    with pytest.raises(UsageError, match="every validation material"):
        keep_unseen(split, ids, seen_of(dataset, ids_of(split, dataset, "val")))


@pytest.mark.parametrize("name", GROUPED)
def test_near_duplicates_stay_together(name: str, splits: dict[str, Split], dataset: CrystalPropertyDataset) -> None:
    part_of = np.empty(len(dataset), dtype=np.int64)
    for number, part in enumerate(PARTS):
        part_of[splits[name].part(part)] = number
    pairs = near_duplicate_pairs(Candidates.of(dataset.materials))
    assert len(pairs) >= 40
    assert (part_of[pairs[:, 0]] == part_of[pairs[:, 1]]).all()


def hulls_of(dataset: CrystalPropertyDataset, split: Split, folder: Path) -> dict[str, TrainingHull]:
    config = resolve_config(properties=list(CONVENTIONS), outlier_filter=False, data_dir=str(folder))
    return training_hulls(config, dataset.materials, dataset.labels, split, lambda done, total: None)


@pytest.mark.parametrize("name", NAMED)
def test_no_label_of_a_tested_crystal_is_trained_on(
    name: str, splits: dict[str, Split], table: CrystalTable, folder: Path, request_of: Callable[..., SplitRequest]
) -> None:
    known = CrystalPropertyDataset(table, folder / "stores", tuple(PROPERTIES), SETTINGS)
    split = splits[name]
    frame = table.labels.copy()
    numbers = frame.columns[[kind.kind == "f" for kind in frame.dtypes]]
    frame.loc[[known.ids[row] for row in split.test], numbers] -= 50.0  # [eV/atom] and so on: far below any hull
    changed = CrystalPropertyDataset(replace(table, labels=frame), folder / "stores", tuple(PROPERTIES), SETTINGS)
    labels, others = (one.numbers(task.name for task in one.tasks) for one in (known, changed))
    assert (others[split.test] != labels[split.test]).any(axis=0).all()
    again = resolve_split(name, request_of(changed))
    for part in PARTS:
        assert np.array_equal(again.part(part), split.part(part))
    np.testing.assert_array_equal(others[split.train], labels[split.train])
    before_all, after_all = (hulls_of(one, split, folder) for one in (known, changed))
    everything = replace(split, train=np.arange(len(changed)))
    leaking_all = hulls_of(changed, everything, folder)
    for hull in CONVENTIONS:
        before, after, leaking = before_all[hull], after_all[hull], leaking_all[hull]
        np.testing.assert_array_equal(after.levels.level, before.levels.level)
        np.testing.assert_array_equal(after.reference.energies, before.reference.energies)
        np.testing.assert_array_equal(after.reference.counts, before.reference.counts)
        assert (leaking.levels.level < before.levels.level - 1).any()  # it would show, if tested crystals spanned it


@pytest.mark.parametrize("benchmark", SUITE)
def test_an_official_split_has_the_official_ids(
    benchmark: str, dataset: CrystalPropertyDataset, splits_file: Path, request_of: Callable[..., SplitRequest]
) -> None:
    split = resolve_split(f"official:{benchmark}", request_of(dataset))
    test = published(splits_file, benchmark, "test")
    assert ids_of(split, dataset, "test") == test
    assert ids_of(split, dataset, "val") == published(splits_file, benchmark, "val") - test
    assert set(split.official_tests) == set(next(group for group in SUITE_GROUPS if benchmark in group))
    for rows in split.official_tests.values():
        assert np.array_equal(rows, split.test)
    assert split.as_dict(dataset.ids)["official_tests"][benchmark] == [dataset.ids[row] for row in split.test]


@pytest.mark.parametrize("name", ["union", "union-strict"])
def test_the_union_tests_on_all_official_tests(
    name: str, splits: dict[str, Split], dataset: CrystalPropertyDataset, splits_file: Path
) -> None:
    split = splits[name]
    assert ids_of(split, dataset, "test") == set.union(*(published(splits_file, one, "test") for one in SUITE))
    assert set(split.official_tests) == set(SUITE)
    for one, rows in split.official_tests.items():
        assert {dataset.ids[row] for row in rows} == published(splits_file, one, "test")
    assert len(split.val) == pytest.approx(0.1 * (len(split.val) + len(split.train)), abs=4)
    near = near_duplicates_of(Candidates.of(dataset.materials), split.test)
    counted = [split.notes[f"near_duplicates_of_test_in_{part}"] for part in ("train", "val")]
    assert counted == [near[split.train].sum(), near[split.val].sum()]
    assert (sum(counted) > 0) == (name == "union")


def test_formation_energy_is_the_universal_split(
    splits: dict[str, Split], dataset: CrystalPropertyDataset, splits_file: Path, folder: Path
) -> None:
    assert np.array_equal(
        splits["formation-energy"].test, splits["official:formation_energy_peratom"].test
    )  # as the leaderboard has it
    frame = pd.read_parquet(splits_file)
    universal = frame[frame.benchmark == "spillage"].assign(benchmark=UNIVERSAL)
    named = folder / "universal.parquet"
    pd.concat([frame, universal]).to_parquet(named)
    split = resolve_split(
        "formation-energy", SplitRequest(Candidates.of(dataset.materials), SEED, folder, splits_file=named)
    )
    assert np.array_equal(split.test, splits["official:spillage"].test)
    assert set(split.official_tests) == {"spillage"}


@pytest.mark.parametrize("name", NAMED)
def test_a_sample_of_an_official_test_says_so(
    name: str, splits: dict[str, Split], dataset: CrystalPropertyDataset
) -> None:
    whole = splits[name]
    official = bool(whole.official_tests)
    small = subsample(whole, 15, dataset.ids)
    assert small.protocol == (f"{name} (sample)" if official else name)
    assert not small.official_tests  # a part of an official test is none
    fewer_trained = subsample(whole, len(whole.test) * 10, dataset.ids)
    assert len(fewer_trained.test) == len(whole.test)
    assert set(fewer_trained.official_tests) == set(whole.official_tests)
    assert fewer_trained.protocol == name  # the whole official test, fewer training crystals


# --- published splits, read ---------------------------------------------------------------------------------------


def leaderboard_files(splits_file: Path, folder: Path) -> Path:
    """The same splits in the form of the leaderboard: a zip with {"train": {id: value}, ...} for each benchmark."""
    folder.mkdir(exist_ok=True)
    for benchmark, rows in pd.read_parquet(splits_file).groupby("benchmark"):
        parts = {str(part): dict.fromkeys(ids, 1.5) for part, ids in rows.groupby("split")["jid"]}
        with zipfile.ZipFile(folder / f"dft_3d_{benchmark}.json.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"dft_3d_{benchmark}.json", json.dumps(parts))
    (folder / "megnet_e_form.json.zip").write_bytes(b"of another data set")
    return folder


def test_the_leaderboard_files_give_the_same_splits(splits_file: Path, tmp_path: Path) -> None:
    files = leaderboard_files(splits_file, tmp_path / "files")
    assert read_published(files) == read_published(splits_file)
    one = read_published(files / "dft_3d_ehull.json.zip")
    assert one == {"ehull": read_published(splits_file)["ehull"]}
    unpacked = tmp_path / "dft_3d_ehull.json"
    with zipfile.ZipFile(files / "dft_3d_ehull.json.zip") as archive:
        unpacked.write_bytes(archive.read("dft_3d_ehull.json"))
    assert read_published(unpacked) == one


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("dft_3d_ehull.json", "{", "cut or damaged"),
        ("dft_3d_ehull.json", "[1]", "no benchmark file"),
        ("dft_3d_ehull.json", '{"train": {"a": 1}, "val": {"b": 1}}', "no ids for test"),
        ("dft_3d_ehull.json", '{"train": 3, "val": {}, "test": {}}', "no benchmark file"),
        ("dft_3d_ehull.json.zip", "no zip", "cut or damaged"),
        ("splits.parquet", "no parquet", "no table of splits"),
    ],
)
def test_a_damaged_file_is_refused_with_name_and_mend(tmp_path: Path, name: str, content: str, complaint: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=complaint) as error:
        read_published(tmp_path / name)
    assert name in str(error.value)
    assert "--splits-file" in str(error.value)


def test_tables_of_another_form_are_refused(tmp_path: Path) -> None:
    good = pd.DataFrame({"benchmark": ["ehull"] * 3, "jid": ["a", "b", "c"], "split": ["train", "val", "test"]})
    good.to_parquet(tmp_path / "good.parquet")
    assert read_published(tmp_path / "good.parquet")["ehull"].test == {"c"}
    for bad, complaint in [
        (good.drop(columns="jid"), "splits|columns"),
        (good.replace("test", "exam"), "'exam'"),
        (good.replace("c", None), "gaps"),
        (good[:2], "no ids for test"),
    ]:
        bad.to_parquet(tmp_path / "bad.parquet")
        with pytest.raises(DataError, match=complaint):
            read_published(tmp_path / "bad.parquet")
    for missing in (tmp_path / "none.parquet", tmp_path / "dft_3d_none.json.zip", tmp_path):
        with pytest.raises(DataError, match="--splits-file"):
            read_published(missing if missing != tmp_path else tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no file"):
        read_published(tmp_path / "empty")


@pytest.fixture
def server(splits_file: Path, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """The leaderboard's folder on this machine; `asked` lists the files that were fetched."""
    files, asked = leaderboard_files(splits_file, tmp_path / "host"), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/")
            asked.append(name)
            found = (files / name).is_file()
            body = (files / name).read_bytes() if found else b"none"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/zip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as host:
        thread = Thread(target=host.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield SimpleNamespace(url=f"http://127.0.0.1:{host.server_port}/", asked=asked, files=files)
        host.shutdown()
        thread.join()


def test_what_is_missing_is_downloaded_once(server: SimpleNamespace, splits_file: Path, tmp_path: Path) -> None:
    kept, names = tmp_path / "kept", ("ehull", "spillage")
    for _ in range(2):
        found = download_published(names, kept, transport=Transport(attempts=1), url=server.url)
        assert found == {name: read_published(splits_file)[name] for name in names}
    assert server.asked == ["dft_3d_ehull.json.zip", "dft_3d_spillage.json.zip"]
    assert not list((kept / "unfinished").iterdir())


def test_a_download_that_is_no_benchmark_file_is_not_kept(server: SimpleNamespace, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (server.files / "dft_3d_ehull.json.zip").write_bytes(b"rubbish")
    for name, complaint in (("ehull", "damaged"), ("none", "404")):
        with pytest.raises(DataError, match=complaint) as error:
            download_published([name], kept, transport=Transport(attempts=1), url=server.url)
        assert "--splits-file" in str(error.value)
        assert "--data-file" not in str(error.value)
    assert not list(kept.glob("*.zip"))


def test_without_network_the_error_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match="--splits-file"):
        download_published(["ehull"], tmp_path, transport=Transport(attempts=1), url="http://127.0.0.1:9/")


# --- what cannot be split ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["official:ehull", "union", "union-strict", "formation-energy"])
def test_crystals_without_the_ids_are_refused(
    name: str, dataset: CrystalPropertyDataset, request_of: Callable[..., SplitRequest]
) -> None:
    request = request_of(dataset)
    with pytest.raises(UsageError, match="demo crystals"):
        resolve_split(name, replace(request, crystals=replace(request.crystals, demo=True), splits_file=None))
    gone = resolve_split(name, request).test[0]
    ids = [id if row != gone else "another" for row, id in enumerate(dataset.ids)]
    with pytest.raises(UsageError, match=f"1 of them are not in this data \\({dataset.ids[gone]}"):
        resolve_split(name, replace(request, crystals=replace(request.crystals, ids=ids)))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("by-prototpye", "did you mean 'by-prototype'"),
        ("oficial:ehull", "did you mean 'official'"),
        ("official", "needs a benchmark"),
        ("official:", "needs a benchmark"),
        ("union:ehull", "takes no argument"),
    ],
)
def test_unknown_protocols_name_the_nearest(name: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_protocol(name)
    assert main(["--dry-run", "--split", name]) == 2
    assert complaint in capsys.readouterr().err


def test_unknown_benchmarks_name_the_nearest(
    dataset: CrystalPropertyDataset, request_of: Callable[..., SplitRequest], tmp_path: Path
) -> None:
    request = request_of(dataset)
    for known in (request, replace(request, splits_file=None, data_dir=tmp_path)):  # by the file, by the leaderboard
        with pytest.raises(UsageError, match="did you mean 'spillage'"):
            resolve_split("official:spilage", known)


def test_too_few_groups_are_refused(dataset: CrystalPropertyDataset, request_of: Callable[..., SplitRequest]) -> None:
    request = request_of(dataset)
    one = replace(request.crystals, formulas=["SiO2"] * len(dataset))
    with pytest.raises(UsageError, match="leaves no crystal for val and test"):
        resolve_split("random", replace(request, crystals=one))


def test_flags_reach_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dry-run", "--split", "official:ehull", "--splits-file", "ids.parquet"]) == 0
    printed = capsys.readouterr().out
    assert "split: official:ehull" in printed
    assert "splits_file: ids.parquet" in printed
    assert main(["--dry-run", "--splits-file", "ids.parquet"]) == 2
    assert "contradict" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for protocol in PROTOCOLS.values():
        assert protocol.title in shown


def test_a_run_finds_the_splits_beside_its_data(
    table: CrystalTable, splits_file: Path, tmp_path: Path, splits: dict[str, Split]
) -> None:
    crystals = list(table.crystals())
    columns = {
        "jid": [crystal.id for crystal in crystals],
        "spg": table.labels["spacegroup"].to_numpy(),
        "lattice": [crystal.lattice.ravel().tolist() for crystal in crystals],
        "atomic_numbers": [crystal.numbers.tolist() for crystal in crystals],
        "frac_coords": [crystal.frac.ravel().tolist() for crystal in crystals],
        "formation_energy_peratom": table.labels["formation_energy_peratom"].to_numpy(),
    }
    pd.DataFrame(columns).to_parquet(tmp_path / "made.parquet")
    (tmp_path / SPLITS_FILE).write_bytes(splits_file.read_bytes())
    config = resolve_config(
        "e3nn", "smoke", properties=["formation_energy"], split="union", seed=SEED, max_samples=10_000,
        data_file=str(tmp_path / "made.parquet"), data_dir=str(tmp_path / "data"),
    )  # fmt: skip
    prepared = prepare(config, Console(quiet=True))
    for part in PARTS:
        assert np.array_equal(prepared.split.part(part), splits["union"].part(part))
    assert prepared.facts["split"]["protocol"] == "union"
    assert prepared.facts["split"]["near_duplicates_of_test_in_train"] > 0
    sample = prepare(replace(config, max_samples=60), Console(quiet=True))
    assert sample.facts["split"]["protocol"] == "union (sample)"


# --- near-duplicates and prototypes --------------------------------------------------------------------------------


def candidates_of(*crystals: Crystal, spacegroups: list[int] | None = None) -> Candidates:
    return Candidates(
        ids=[f"{row} {crystal.id}" for row, crystal in enumerate(crystals)],
        formulas=[crystal.formula for crystal in crystals],
        spacegroups=np.array(spacegroups or [0] * len(crystals)),
        lattice=np.array([crystal.lattice for crystal in crystals]),
        atom_counts=np.array([len(crystal) for crystal in crystals]),
        numbers=np.concatenate([crystal.numbers for crystal in crystals]),
        frac=np.concatenate([crystal.frac for crystal in crystals]),
    )


def test_near_duplicates_agree_with_comparing_every_pair() -> None:
    random = np.random.default_rng(3)
    kinds = random.integers(0, 3, 120)
    grown = [scaled(CRYSTALS[kind], 1 + 0.05 * random.random(), "") for kind in kinds]
    crystals = candidates_of(*grown, spacegroups=random.integers(1, 3, 120).tolist())
    volumes = np.maximum.outer(crystals.volumes, crystals.volumes) / np.minimum.outer(
        crystals.volumes, crystals.volumes
    )
    same = np.equal.outer(kinds, kinds) & np.equal.outer(crystals.spacegroups, crystals.spacegroups)
    near = same & (volumes <= VOLUME_RATIO)
    np.fill_diagonal(near, False)
    for count in (1, 6, 40):
        rows = random.choice(120, count, replace=False)
        expected = near[rows].any(axis=0)
        expected[rows] = False
        assert expected.any()
        np.testing.assert_array_equal(near_duplicates_of(crystals, rows), expected)
    linked = near_duplicate_pairs(crystals)
    assert all(near[first, second] for first, second in linked)
    groups = np.array(joined([f"{row:03d}" for row in range(120)], linked))
    assert (groups[:, None] == groups)[near].all()  # the pairs link all near-duplicates
    assert not near_duplicates_of(crystals, np.zeros(0, dtype=np.int64)).any()


def keys_of(*crystals: Crystal) -> list[str]:
    one = candidates_of(*crystals)
    return prototype_keys(one.lattice, one.atom_counts, one.numbers, one.frac)


@pytest.mark.parametrize("crystal", CRYSTALS, ids=lambda crystal: crystal.id)
def test_a_prototype_does_not_depend_on_how_the_crystal_is_written(crystal: Crystal) -> None:
    same = [turned(crystal), translated(crystal), permuted(crystal), in_other_images(crystal)]
    same += [supercell(crystal, rows) for rows in SUPERCELLS.values()]
    assert set(keys_of(crystal, *same)) == set(keys_of(crystal))
    elements = np.unique(crystal.numbers)
    renamed = (np.searchsorted(elements, crystal.numbers) + 21).astype(np.uint8)
    assert keys_of(scaled(replace(crystal, numbers=renamed), 1.1, "others")) == keys_of(crystal)


def test_known_prototypes() -> None:
    silicon, salt, zincblende, _, perovskite, *_ = CRYSTALS
    assert keys_of(salt) == ["225 1(4 m-3m) 1(4 m-3m)"]
    assert len(set(keys_of(*CRYSTALS))) == len(CRYSTALS)
    exchanged = [replace(one, numbers=one.numbers[::-1].copy()) for one in (salt, zincblende)]
    assert keys_of(*exchanged) == keys_of(salt, zincblende)
    assert keys_of(silicon) != keys_of(zincblende)
    centred = replace(perovskite, frac=perovskite.frac + 0.5)  # its Wyckoff letters are others: a b c, a b d
    assert keys_of(centred) == keys_of(perovskite)
    along = {
        (4.0, 5.0, 7.0): [(0, 0, 0), (0.5, 0.5, 0.2), (0.5, 0.5, -0.2)],
        (7.0, 4.0, 5.0): [(0, 0, 0), (0.2, 0.5, 0.5), (-0.2, 0.5, 0.5)],
        (4.5, 4.2, 6.1): [(0, 0, 0), (0.5, 0.5, 0.2), (0.5, 0.5, -0.2)],
    }
    axes = [Crystal.create("", np.diag(cell), [22, 8, 8], frac) for cell, frac in along.items()]
    assert len(set(keys_of(*axes))) == 1  # orthorhombic axes by any name


def test_a_crystal_without_symmetry_analysis_has_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    import spglib

    monkeypatch.setattr(spglib, "get_symmetry_dataset", lambda *_: None)
    assert keys_of(*CRYSTALS[:2]) == [f"{UNKNOWN} Si", f"{UNKNOWN} ClNa"]


def test_crystals_without_symmetry_are_counted(
    dataset: CrystalPropertyDataset, request_of: Callable[..., SplitRequest], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path, splits: dict[str, Split],
) -> None:  # fmt: skip
    import spglib

    assert splits["by-prototype"].notes["without_symmetry"] == 0
    assert splits["by-prototype"].notes["prototypes"] >= 10
    monkeypatch.setattr(spglib, "get_symmetry_dataset", lambda *_: None)
    split = resolve_split("by-prototype", replace(request_of(dataset), data_dir=tmp_path))
    assert split.notes["without_symmetry"] == len(dataset)


def test_prototypes_are_kept_and_damage_is_mended(tmp_path: Path) -> None:
    crystals, seen = candidates_of(*CRYSTALS), []
    keys = cached_prototypes(crystals, tmp_path, progress=lambda *step: seen.append(step))
    assert seen == [(8, 8)]
    assert cached_prototypes(crystals, tmp_path, progress=lambda *step: seen.append(step)) == keys == keys_of(*CRYSTALS)
    assert len(seen) == 1
    (file,) = tmp_path.glob("*.json")
    whole = file.read_text()
    other = whole.replace('"194 ', '"195 ')
    assert other != whole
    for damage in ("", "{}", "[]", whole[:-9], other):
        file.write_text(damage)
        with pytest.warns(UserWarning, match=r"prototypes .* are damaged; they are computed again"):
            assert cached_prototypes(crystals, tmp_path) == keys
        assert file.read_text() == whole
    (lock,) = tmp_path.glob("*.lock")
    lock.unlink()
    lock.mkdir()  # where no lock can be taken, what is there is read
    assert cached_prototypes(crystals, tmp_path) == keys
    others = candidates_of(*CRYSTALS[::-1])
    assert cached_prototypes(others, tmp_path) == keys[::-1]
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_kept_prototypes_are_read_where_nothing_can_be_locked(tmp_path: Path) -> None:
    crystals = candidates_of(*CRYSTALS)
    keys = cached_prototypes(crystals, tmp_path)
    [lock] = tmp_path.glob("*.lock")
    lock.unlink()
    lock.mkdir()  # as little to be locked as a file in a read-only folder
    assert cached_prototypes(crystals, tmp_path) == keys


def test_processes_give_the_same_prototypes(dataset: CrystalPropertyDataset, folder: Path, tmp_path: Path) -> None:
    crystals = Candidates.of(dataset.materials)
    alone = cached_prototypes(crystals, folder / "prototypes")
    assert len(alone) > 128  # more than one chunk
    assert cached_prototypes(crystals, tmp_path, workers=1) == alone


def test_links_join_whole_prototypes() -> None:
    keys = ["a", "b", "b", "c", "d", "a"]
    assert joined(keys, np.array([[0, 1], [3, 3]])) == ["a", "a", "a", "c", "d", "a"]
    assert joined(keys, np.zeros((0, 2), dtype=np.int64)) == keys


# --- the real data -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jarvis(jarvis_file: Path, tmp_path_factory: pytest.TempPathFactory) -> SplitRequest:
    if not jarvis_file.with_name(SPLITS_FILE).exists():
        pytest.skip(f"{SPLITS_FILE} does not lie beside the data file")
    cache = tmp_path_factory.mktemp("jarvis")
    table = open_data_file(jarvis_file, cache_dir=cache)
    crystals = replace(
        candidates_of(*table.crystals()),
        ids=table.labels.index.tolist(),
        spacegroups=table.labels["spacegroup"].to_numpy(),
    )
    return SplitRequest(crystals, 42, cache, data_file=jarvis_file)


def test_jarvis_union_counts(jarvis: SplitRequest) -> None:
    split = resolve_split("union", jarvis)
    assert len(split.test) == 17_325
    assert len(split.train) + len(split.val) == 38_387
    assert len(split.val) == pytest.approx(3_839, abs=20)
    sizes = [len(split.official_tests[group[0]]) for group in SUITE_GROUPS]
    assert sizes == [5572, 5537, 1815, 1968, 4449, 334, 1137]
    strict = resolve_split("union-strict", jarvis)
    assert np.array_equal(strict.test, split.test)
    assert len(strict.train) + len(strict.val) == 38_387 - strict.notes["left_out_near_duplicates_of_test"]


@pytest.mark.parametrize("group", SUITE_GROUPS, ids=lambda group: group[0])
def test_jarvis_official_sizes(jarvis: SplitRequest, group: tuple[str, ...]) -> None:
    split = resolve_split(f"official:{group[0]}", jarvis)
    size = {"formation_energy_peratom": 5572, "ehull": 5537, "mbj_bandgap": 1815, "bulk_modulus_kv": 1968,
            "epsx": 4449, "dfpt_piezo_max_dij": 334, "spillage": 1137}[group[0]]  # fmt: skip
    assert len(split.test) == size
    assert sum(len(split.part(part)) for part in PARTS) == len(jarvis.crystals)
    assert set(group) <= set(split.official_tests)


def test_jarvis_groups_are_as_documented(jarvis: SplitRequest) -> None:
    found = read_published(Path(str(jarvis.data_file)).with_name(SPLITS_FILE))
    assert set(BENCHMARKS) <= set(found)
    by_ids: dict[tuple, set[str]] = {}
    for name in BENCHMARKS:
        by_ids.setdefault((found[name].val, found[name].test), set()).add(name)
    told = [set(group) for group in (*SUITE_GROUPS, *FURTHER_GROUPS) if group != ("optb88vdw_total_energy",)]
    told[0].add("optb88vdw_total_energy")
    assert sorted(map(sorted, by_ids.values())) == sorted(map(sorted, told))
    energy = resolve_split("formation-energy", jarvis)
    assert np.array_equal(energy.train, resolve_split("official:formation_energy_peratom", jarvis).train)
    assert (len(energy.train), len(energy.val), len(energy.test)) == (44_568, 5_572, 5_572)


@pytest.mark.parametrize("name", ["random", "by-chemical-system", pytest.param("by-prototype", marks=pytest.mark.slow)])
def test_jarvis_groups_stay_whole_and_parts_have_their_shares(name: str, jarvis: SplitRequest) -> None:
    split = resolve_split(name, jarvis)
    keys = group_keys(name, jarvis.crystals, jarvis.data_dir)
    groups = [{keys[row] for row in split.part(part)} for part in PARTS]
    assert len(set.union(*groups)) == sum(map(len, groups))
    shares = [len(split.part(part)) / len(jarvis.crystals) for part in PARTS]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
