"""Pairing by shuffles on a Ray cluster: the pairs of one machine, to the last number."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")

from ray.cluster_utils import Cluster  # noqa: E402

from builders import cluster_join, join  # noqa: E402
from builders.cluster import RayEngine  # noqa: E402
from builders.cluster_join import ClusterJoin  # noqa: E402
from builders.engine import LocalEngine  # noqa: E402
from builders.join import Against, JoinPlan, JoinSettings, PrintJoin, Segment  # noqa: E402
from builders.prints import Print, PrintStore  # noqa: E402
from curation.joining import PostingLayout, VoteLayout  # noqa: E402
from manifests.errors import BuildError  # noqa: E402
from tests.builders.test_cluster import LITTLE_NODE, processes_of  # noqa: E402
from tests.builders.test_engine import ended  # noqa: E402
from tests.builders.test_join import TRACKS, columns, segments  # noqa: E402


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    """Two nodes of one CPU on this machine, which keep their workers for the next test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # no token is written into anybody's home
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        config = {"num_workers_soft_limit": 4}
        head = {**LITTLE_NODE, "include_dashboard": False, "_system_config": config}
        nodes = Cluster(initialize_head=True, head_node_args=head)
        try:
            nodes.add_node(**LITTLE_NODE)
            yield RayEngine(nodes.address)
        finally:
            folder = nodes.head_node.get_session_dir_path()
            ray.shutdown()
            nodes.shutdown()
            assert ended(lambda: processes_of(folder) == []), "Ray's processes outlive their cluster"


@pytest.fixture(autouse=True)
def _workers_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "_FEW_ITEMS", 0)
    monkeypatch.setattr(cluster_join, "_FEW_ITEMS", 0)


@pytest.mark.parametrize(("against", "parts"), [("everything", 1024), ("labelled", 1024), ("everything", 1)])
def test_shuffles_find_what_one_machine_finds(
    engine: RayEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, against: Against, parts: int
) -> None:
    monkeypatch.setattr(PostingLayout, "of", classmethod(lambda cls, count: cls(parts)))
    monkeypatch.setattr(cluster_join, "_PARTITIONS_OF_SHARE", 20_000)
    settings = JoinSettings(against, min_votes=1, crowd=3)
    for name in ("here", "there"):
        PrintStore(tmp_path / name).add(TRACKS)
    expected = PrintJoin(tmp_path / "here", LocalEngine(0), settings).run()
    stages: list[str] = []
    found = ClusterJoin(tmp_path / "there", engine, settings, progress=lambda name, *_: stages.append(name)).run()
    assert columns(found) == columns(expected)
    assert found.strangers == expected.strangers
    assert len(found.pairs.a) > 15
    assert set(stages) == {"meet", "count"}, "stages of the engine ran"


def test_what_a_cluster_joined_grows_on_one_machine(engine: RayEngine, tmp_path: Path) -> None:
    for name, cuts in (("here", (0, 180)), ("there", (0, 150, 180))):
        for first, end in pairwise(cuts):
            PrintStore(tmp_path / name).add(TRACKS[first:end])
            ClusterJoin(tmp_path / name, LocalEngine(0) if first else engine).run()
    assert segments(tmp_path / "there") == [(0, 150), (150, 180)]
    here, there = (PrintJoin(tmp_path / name, LocalEngine(0)).run() for name in ("here", "there"))
    assert columns(here) == columns(there)


def test_tracks_without_keys_have_no_pairs(
    engine: RayEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short = [Print(one.track_id, False, one.items[:5]) for one in TRACKS[:3]]
    PrintStore(Path("prints")).add(short)
    assert len(ClusterJoin(Path("prints"), engine).run().pairs.a) == 0


def test_tasks_that_fit_no_node_are_refused(engine: RayEngine, tmp_path: Path) -> None:
    PrintStore(tmp_path).add(TRACKS[:3])
    with pytest.raises(BuildError, match=r"no node has 9\.7 GB of memory for a task; give a smaller --memory"):
        ClusterJoin(tmp_path, engine, memory_bytes=10_000_000_000).run()


def test_a_node_that_does_not_see_the_store_is_told(engine: RayEngine, tmp_path: Path) -> None:
    store = PrintStore(tmp_path).add(TRACKS[:10])
    plan = JoinPlan("", "", JoinSettings(), Segment(0, 10, 1, 1), (), VoteLayout.of(10, 2000))
    with pytest.raises(BuildError, match=r"node .*: 0 of 10 tracks are in .*/elsewhere; mount the same disk"):
        ClusterJoin(tmp_path / "elsewhere", engine)._found_now(plan, store)


def test_cells_have_alike_many_pairs_of_tracks() -> None:
    plan = JoinPlan("", "", JoinSettings(), Segment(0, 1_000_000, 1, 1024), (), VoteLayout.of(1_000_000, 4000))
    first = cluster_join._cells(plan)
    later = 1e6 - np.array([*first, 1_000_000])
    pairs = (later[:-1] ** 2 - later[1:] ** 2) / 2
    assert first[0] == 0
    assert 4000 < len(first) <= 8192
    assert pairs[:-100].max() < 1.1 * pairs[:-100].min()


def test_groups_that_come_apart_are_told() -> None:
    with pytest.raises(BuildError, match="hash differently"):
        cluster_join._once([1, 2, 1])
