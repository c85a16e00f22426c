"""The engine of a Ray cluster: the outcomes of one machine, to the byte, whatever happens to its nodes."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray")

from ray.cluster_utils import Cluster  # noqa: E402

from builders import cluster as cluster_module  # noqa: E402
from builders.clean import CleanBuilder  # noqa: E402
from builders.cluster import RayEngine  # noqa: E402
from builders.curate import CurateBuilder  # noqa: E402
from builders.engine import LocalEngine, Needs, Outcome  # noqa: E402
from builders.imports import ImportBuilder  # noqa: E402
from builders.mixtures import MixtureBuilder  # noqa: E402
from builders.pack import PackBuilder  # noqa: E402
from builders.recipe import (  # noqa: E402
    CleanRecipe,
    CurateRecipe,
    ImportRecipe,
    MixtureRecipe,
    PackRecipe,
)
from builders.separation import separate_files  # noqa: E402
from builders.stage import Engine, model_needs  # noqa: E402
from manifests.audio import write  # noqa: E402
from manifests.errors import BuildError, RecipeError  # noqa: E402
from separators.ensemble import Ensemble  # noqa: E402
from separators.loading import load_separator  # noqa: E402
from tests.builders import stages  # noqa: E402
from tests.builders.small_catalog import RATE, build, contents, parts, write_catalog  # noqa: E402
from tests.builders.small_mixtures import mix_recipe, sound_corpus  # noqa: E402
from tests.builders.test_engine import PATIENCE_S, ROOT, ended, fates, is_alive, keyed  # noqa: E402
from tests.separators.small_separators import Scaled  # noqa: E402

LITTLE_NODE = {
    "num_cpus": 1,
    "memory": 4_000_000_000,
    "object_store_memory": 80_000_000,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three nodes of one CPU on this machine; the last one says that it has a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # no token is written into anybody's home
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        nodes = Cluster(initialize_head=True, head_node_args={**LITTLE_NODE, "include_dashboard": False})
        try:
            nodes.add_node(**LITTLE_NODE)
            nodes.add_node(**LITTLE_NODE, num_gpus=1)
            yield nodes
        finally:
            folder = nodes.head_node.get_session_dir_path()
            ray.shutdown()
            nodes.shutdown()
            assert ended(lambda: processes_of(folder) == []), "Ray's processes outlive their cluster"


def processes_of(session: str) -> list[int]:
    """Processes whose command line names the session's folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if session.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


@pytest.fixture(scope="module")
def engine(cluster: Cluster) -> RayEngine:
    return RayEngine(cluster.address)


@pytest.fixture(scope="module")
def alone(cluster: Cluster) -> RayEngine:
    """One worker: what does not need more starts sooner."""
    return RayEngine(cluster.address, jobs=1)


# the contract of engines


def test_outcomes_are_those_of_one_machine(engine: RayEngine) -> None:
    items = list(keyed(range(40)))
    assert fates(engine.run(stages.reject_odd, items)) == fates(LocalEngine(0).run(stages.reject_odd, items))


def test_accidents_cost_their_items_and_are_told_in_the_same_words(cluster: Cluster, tmp_path: Path) -> None:
    hows = ["SIGKILL", "well 1", "abort", "exit 0", "hang", "well 2"]
    found = []
    for run in (LocalEngine(2, timeout_s=1.5), RayEngine(cluster.address, jobs=2, timeout_s=1.5)):
        folder = tmp_path / type(run).__name__
        folder.mkdir()
        outcomes = fates(run.run(partial(stages.end_process, folder), ((how, how) for how in hows)))
        found.append((outcomes, {how: len((folder / how).read_text()) for how in hows}))
    assert found[0] == found[1]
    assert found[1][1] == {"SIGKILL": 2, "abort": 2, "exit 0": 2, "hang": 1, "well 1": 1, "well 2": 1}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces RLIMIT_DATA")
def test_a_worker_may_not_hold_more_memory_than_allowed(cluster: Cluster) -> None:
    limited = RayEngine(cluster.address, jobs=1, max_memory_bytes=1 << 30)
    items = [("small", 1 << 20), ("large", 1 << 31)]
    expected = fates(LocalEngine(1, max_memory_bytes=1 << 30).run(stages.allocate, items))
    assert fates(limited.run(stages.allocate, items)) == expected
    assert expected["large"][1] is not None


def test_bugs_and_errors_about_the_whole_run_propagate(alone: RayEngine) -> None:
    with pytest.raises(KeyError, match="no such key") as caught:
        list(alone.run(stages.raise_bug, keyed(itertools.count())))
    notes = "".join(caught.value.__notes__)
    assert "'003'" in notes
    assert 'return int({}["no such key"])' in notes
    with pytest.raises(BuildError, match="No space left"):
        list(alone.run(stages.fill_disk, keyed(range(3))))
    with pytest.raises(RuntimeError) as left:
        list(alone.run(stages.leave, keyed([1])))
    assert "SystemExit: 0" in "".join(left.value.__notes__)


def test_what_cannot_be_run_is_refused_before_a_worker_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = RayEngine("nowhere")
    with pytest.raises(Exception, match=r"pickle|local object"):
        next(nowhere.run(lambda number: number, keyed([1])))
    assert list(nowhere.run(stages.square, [])) == []
    for wrong in ({"jobs": 0}, {"timeout_s": 0.0}, {"max_memory_bytes": 0}):
        with pytest.raises(RecipeError, match=next(iter(wrong))):
            RayEngine(**wrong)


def test_an_address_where_nothing_answers_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", None)  # is not come to
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(BuildError, match=rf"no Ray cluster answers at {address} \(.*refused\); run 'ray start"):
            next(RayEngine(address).run(stages.reject_odd, keyed(range(1))))
    with pytest.raises(RecipeError, match=r"ray://head:10001.*Ray Client is not supported"):
        RayEngine("ray://head:10001")


def test_items_are_taken_as_they_are_needed_and_closing_ends_the_workers(engine: RayEngine) -> None:
    taken, pids = 0, set()

    def endless() -> Iterator[tuple[str, int]]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield str(number), number

    outcomes = engine.run(stages.process_id, endless())
    for given, outcome in enumerate(itertools.islice(outcomes, 30), 1):
        pids.add(outcome.result)
        assert taken - given <= 3 + cluster_module._STARTING + 1
    outcomes.close()
    assert os.getpid() not in pids
    assert ended(lambda: not any(is_alive(pid) for pid in pids))


def test_an_exception_in_the_source_of_items_propagates(alone: RayEngine) -> None:
    def source() -> Iterator[tuple[str, int]]:
        yield "0", 0
        raise LookupError("the catalogue has moved")

    with pytest.raises(LookupError, match="the catalogue has moved"):
        list(alone.run(stages.square, source()))


def test_workers_have_one_thread_ignore_ctrl_c_and_know_our_settings(
    alone: RayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEMLOOM_CACHE", "/of/the/driver")
    names = ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "STEMLOOM_CACHE"]
    outcomes = fates(alone.run(stages.environment, ((name, name) for name in names)))
    assert {name: result for name, (result, _) in outcomes.items()} == {
        "OMP_NUM_THREADS": ("1", True),
        "NUMBA_NUM_THREADS": ("1", True),
        "STEMLOOM_CACHE": ("/of/the/driver", True),
    }


# nodes


def test_a_lost_node_costs_no_item_and_none_comes_twice(
    cluster: Cluster, engine: RayEngine, tmp_path: Path
) -> None:
    lost = cluster.add_node(**LITTLE_NODE)
    names = [f"{number:02d}" for number in range(36)]
    outcomes: list[Outcome[int]] = []
    for outcome in engine.run(partial(stages.note_and_wait, tmp_path), ((name, name) for name in names)):
        outcomes.append(outcome)
        if len(outcomes) == 12:
            cluster.remove_node(lost, allow_graceful=False)
    assert sorted(outcome.key for outcome in outcomes) == names
    assert [outcome.error for outcome in outcomes if outcome.error is not None] == []
    tries = [len((tmp_path / name).read_text().split()) for name in names]
    assert set(tries) <= {1, 2}
    assert tries.count(2) <= 1, "only what was at work on the node is run again"
    assert len({outcome.result for outcome in outcomes}) >= 4


def test_a_node_that_joins_gets_work(cluster: Cluster, engine: RayEngine, tmp_path: Path) -> None:
    before = {node["NodeID"] for node in ray.nodes()}
    joined = None
    workers = set()
    outcomes = engine.run(partial(stages.note_and_wait, tmp_path), ((str(n), str(n)) for n in itertools.count()))
    for count, outcome in enumerate(outcomes):
        workers.add(outcome.result)
        if count == 6:
            joined = cluster.add_node(**LITTLE_NODE)
        if len(workers) == 4 or count == 300:
            break
    outcomes.close()
    assert joined is not None
    cluster.remove_node(joined)
    assert len(workers) == 4
    assert joined.node_id not in before


def test_a_stage_with_a_gpu_comes_to_the_node_that_has_one(alone: RayEngine) -> None:
    (outcome,) = alone.run(stages.environment, [("0", "CUDA_VISIBLE_DEVICES")], Needs(gpus=1))
    assert outcome.result == ("0", True)


@dataclass(frozen=True)
class OnDevice(Scaled):
    device: str = "cpu"


def test_a_separator_needs_a_gpu_if_a_part_of_it_does() -> None:
    assert model_needs(Ensemble([OnDevice(), OnDevice(name="other")])).gpus == 0
    assert model_needs(Ensemble([OnDevice(), OnDevice(device="cuda:0")])).gpus == 1


def test_a_node_without_the_folders_or_of_other_versions_is_told(
    alone: RayEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BuildError, match=rf"node .*there is nothing in {tmp_path}.*mount the same disk"):
        list(alone.run(stages.square, keyed([1]), Needs(folders=(str(tmp_path),))))
    monkeypatch.setattr(cluster_module, "versions", lambda: {"python": "3.99", "numpy": "1.0"})
    with pytest.raises(BuildError, match=r"node .*has python .*and the machine that runs the build 3\.99"):
        list(alone.run(stages.square, keyed([1])))


def test_no_place_for_a_worker_is_told(alone: RayEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    class Told(Exception):
        pass

    def tell(message: str, wanted: str) -> None:
        raise Told(message % wanted)

    monkeypatch.setattr(cluster_module, "_POLL_S", 0.5)
    monkeypatch.setattr(cluster_module.log, "warning", tell)
    with pytest.raises(Told, match=r"no node .* has 1 CPU, 9 GPU"):
        list(alone.run(stages.square, keyed([1]), Needs(gpus=9)))


# builders


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs and a file that is no audio."""
    folder = write_catalog(tmp_path_factory.mktemp("music"), 0, 1)
    (folder / "broken.flac").write_bytes(b"fLaC and then nothing")
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stems of two songs, a corpus of them, and a library of sounds."""
    home = tmp_path_factory.mktemp("sources")
    for number in range(2):
        for stem, audio in zip(("accompaniment", "vocals"), parts(number, 2.0), strict=True):
            write(home / "stems" / f"song {number}" / f"{stem}.wav", audio, RATE)
    ImportBuilder(home / "corpus", ImportRecipe(layout="folders", make_mixture=True), jobs=0).build(home / "stems")
    sound_corpus(home / "sounds")
    return home


@pytest.fixture(scope="module")
def catalog(music: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of the music, made on this machine."""
    out = tmp_path_factory.mktemp("catalog") / "out"
    build(music, out)
    return out


def make_all(engine: Engine, catalog: Path, sources: Path, home: Path) -> Path:
    """Something by each builder but that of catalogues."""
    shutil.copytree(catalog, home / "catalog")
    curation = CurateRecipe(clip_s=2.0, shares={"train": 1.0})
    CurateBuilder(home / "curated", curation, engine).build(sources / "corpus")
    PackBuilder(PackRecipe(), engine).build(home / "catalog")
    recipe = ImportRecipe(layout="folders", make_mixture=True)
    ImportBuilder(home / "imported", recipe, engine).build(sources / "stems")
    separator = load_separator("baseline:centre")
    # everything is a voice, so that something is done
    cleaning = CleanRecipe(stems=("accompaniment",), witness="none", voiced=0.0, max_dropped=1.0, faint_db=-90.0)
    CleanBuilder(home / "clean", separator, cleaning, engine=engine).build(sources / "corpus")
    separate_files(sources / "stems", separator, home / "separated", engine=engine)
    mixtures = MixtureBuilder(home / "mixed", "universal", mix_recipe(), MixtureRecipe(num=3), engine)
    mixtures.build([sources / "sounds"])
    return home


def test_every_builder_makes_the_same_bytes(alone: RayEngine, catalog: Path, sources: Path, tmp_path: Path) -> None:
    here = make_all(LocalEngine(0), catalog, sources, tmp_path / "here")
    there = make_all(alone, catalog, sources, tmp_path / "there")
    expected, found = contents(here), contents(there)
    # a store is packed anew each time
    ours = {name for name in expected if not name.endswith(("packed/layout.json", "packed/index.json"))}
    assert {name for name in ours if expected[name] != found.get(name)} == set()
    assert found.keys() == expected.keys()
    made = {Path(name).parts[0] for name in expected}
    assert made == {"catalog", "clean", "curated", "imported", "mixed", "separated"}
    assert any(name.startswith("clean/removed") for name in expected), "nothing was cleaned"
    assert any(name.endswith(".pcm") for name in expected), "nothing was packed"


def test_a_catalogue_is_the_same_to_the_byte_even_if_a_node_is_lost(
    cluster: Cluster, engine: RayEngine, music: Path, catalog: Path, tmp_path: Path
) -> None:
    lost = cluster.add_node(**LITTLE_NODE)

    def lose(stage: str, done: int, total: int, rejected: int) -> None:
        nonlocal lost
        if stage == "survey" and done == 1 and lost is not None:
            cluster.remove_node(lost, allow_graceful=False)
            lost = None

    build(music, tmp_path / "out", settings={"engine": engine, "progress": lose})
    assert lost is None
    assert contents(tmp_path / "out") == contents(catalog)


def test_a_command_that_is_stopped_resumes(cluster: Cluster, music: Path, catalog: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "stemloom", "build", "catalog", str(music), "--out", str(out)]
    command += ["--min-song-s", "5", "--engine", "ray", "--ray-address", cluster.address, "--jobs", "2"]
    options: dict[str, Any] = {
        "env": {**os.environ, "PYTHONPATH": str(ROOT)},
        "cwd": tmp_path,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }
    stopped = subprocess.Popen(command, start_new_session=True, **options)
    try:
        assert ended(lambda: any((out / ".cache").rglob("*.json")))
        os.killpg(stopped.pid, signal.SIGINT)
        _, errors = stopped.communicate(timeout=PATIENCE_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(stopped.pid, signal.SIGKILL)
        stopped.communicate()
    assert (stopped.returncode, errors) == (130, "stopped; the same command resumes\n")
    assert not (out / "stems.parquet").exists()
    again = subprocess.run(command, check=False, **options)
    assert (again.returncode, again.stderr) == (0, "")
    assert "songs" in again.stdout
    assert contents(out) == contents(catalog)
