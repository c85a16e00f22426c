"""A store of fingerprints, and the join over it: in parts, in steps, killed and gone on with."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.fingerprints import Catalogue
from builders import join
from builders.engine import Failure, LocalEngine, Outcome
from builders.join import Found, JoinSettings, PrintJoin
from builders.prints import RECORD, Print, PrintStore
from curation.joining import PostingLayout
from manifests.errors import BuildError

TRACKS = [Print(*one) for one in Catalogue(512, labelled=0.2, seed=1).chunk(0)[:180]]
FEW_VOTES = JoinSettings(min_votes=2)


def columns(found: Found) -> dict[str, Any]:
    pairs = found.pairs
    kept = {name: getattr(pairs, name).tolist() for name in ("a", "b", "votes", "offset_items")}
    return {**kept, "rates": found.bit_error_rates.tolist()}


def joined(folder: Path, tracks: Iterable[Print], settings: JoinSettings = FEW_VOTES, **options: Any) -> Found:
    PrintStore(folder).add(tracks)
    return PrintJoin(folder, options.pop("engine", LocalEngine(0)), settings, **options).run()


def stopped(folder: Path, tracks: Iterable[Print], stage: str, **options: Any) -> None:
    """A join that is stopped before the first piece of a stage."""

    def stop(name: str, done: int, total: int, rejected: int) -> None:
        if name == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        joined(folder, tracks, progress=stop, **options)


TEARS = ("tail", "head", "middle", "gone")


def tear(folder: Path, pattern: str, how: str) -> None:
    (path,) = folder.glob(pattern)
    data = path.read_bytes()
    path.unlink()
    if how == "tail":
        path.write_bytes(data[:-9])
    elif how != "gone":
        at = 0 if how == "head" else len(data) // 2
        path.write_bytes(data[:at] + bytes(40) + data[at + 40 :])


def segments(folder: Path) -> list[tuple[int, int]]:
    return [(one["first"], one["end"]) for one in json.loads((folder / "join.json").read_text())["segments"]]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestStore:
    def test_tracks_read_back_equal(self, tmp_path: Path) -> None:
        first = PrintStore(tmp_path / "new").add(TRACKS[:5])
        store = first.add(TRACKS[5:9])
        assert len(first.tracks) == 5
        assert store.ids.tolist() == [one.track_id for one in TRACKS[:9]]
        assert store.tracks["labelled"].tolist() == [one.is_labelled for one in TRACKS[:9]]
        np.testing.assert_array_equal(store.items_of(3, 7), np.concatenate([one.items for one in TRACKS[3:7]]))
        prints = PrintStore(tmp_path / "new").mapped()
        for number, one in enumerate(TRACKS[:9]):
            np.testing.assert_array_equal(prints[number], one.items)
            prints.let_go()
        assert store.missing([TRACKS[8].track_id, TRACKS[9].track_id]) == {TRACKS[9].track_id}
        store.verify()

    def test_an_empty_store_has_nothing(self, tmp_path: Path) -> None:
        store = PrintStore(tmp_path)
        assert len(store.tracks) == 0 == len(store.ids)
        assert store.add([]) is store
        assert len(PrintStore(tmp_path).tracks) == 0

    def test_tracks_without_items_have_none(self, tmp_path: Path) -> None:
        empty = Print("0" * 32, False, np.zeros(0, np.uint32))
        store = PrintStore(tmp_path).add([empty, TRACKS[0], Print("1" * 32, True, np.zeros(0, np.uint32))])
        assert len(store.items_of(0, 1)) == len(store.mapped()[2]) == 0
        np.testing.assert_array_equal(store.mapped()[1], TRACKS[0].items)

    def test_what_a_killed_run_appended_is_written_over(self, tmp_path: Path) -> None:
        store = PrintStore(tmp_path).add(TRACKS[:3])

        def until_killed() -> Iterator[Print]:
            yield from TRACKS[3:6]
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.add(until_killed())
        for name, torn in (("items.bin", bytes(4096)), ("tracks.bin", b"torn")):
            with (tmp_path / name).open("ab") as file:
                file.write(torn)
        assert len(PrintStore(tmp_path).tracks) == 3
        PrintStore(tmp_path).add(TRACKS[3:5]).verify()
        whole = tmp_path / "whole"
        PrintStore(whole).add(TRACKS[:3]).add(TRACKS[3:5])
        assert files(whole) == {
            name: data for name, data in files(tmp_path).items() if not name.startswith("whole")
        }

    @pytest.mark.parametrize("name", ["items.bin", "tracks.bin"])
    def test_short_files_and_changed_ones_are_refused(self, tmp_path: Path, name: str) -> None:
        PrintStore(tmp_path).add(TRACKS[:4])
        data = (tmp_path / name).read_bytes()
        at = 2 * RECORD.itemsize + 5 if name == "tracks.bin" else 4000
        (tmp_path / name).write_bytes(data[:at] + bytes(8) + data[at + 8 :])
        with pytest.raises(BuildError, match="are not what was written; delete the folder"):
            PrintStore(tmp_path).verify()
        (tmp_path / name).write_bytes(data[:-9])
        with pytest.raises(BuildError, match=r"store\.json promises"):
            _ = PrintStore(tmp_path).tracks

    def test_items_that_cannot_be_read_are_told(self, tmp_path: Path) -> None:
        store = PrintStore(tmp_path).add(TRACKS[:4])
        assert len(store.tracks) == 4
        os.truncate(tmp_path / "items.bin", 400)
        with pytest.raises(BuildError, match=r"items\.bin: cannot be read to its end"):
            store.items_of(0, 4)

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}'])
    def test_a_broken_commit_record_is_named(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "store.json").write_text(text)
        with pytest.raises(BuildError, match=r"store\.json: cannot be read"):
            _ = PrintStore(tmp_path).tracks

    def test_another_version_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "store.json").write_text('{"version": 99, "tracks": 0, "items": 0, "runs": []}')
        with pytest.raises(BuildError, match="is of version 99, and this is 1"):
            _ = PrintStore(tmp_path).tracks

    def test_ids_come_once(self, tmp_path: Path) -> None:
        store = PrintStore(tmp_path).add(TRACKS[:2])
        for again in ([TRACKS[1]], [TRACKS[5], TRACKS[5]], [Print("short", False, TRACKS[0].items)]):
            with pytest.raises(ValueError, match="came twice"):
                store.add(again)
        assert len(PrintStore(tmp_path).tracks) == 2


class TestJoin:
    @pytest.fixture(autouse=True)
    def _by_the_engine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """However few the tracks are, the engine that was given joins them."""
        monkeypatch.setattr(join, "_FEW_ITEMS", 0)

    def test_planted_pairs_are_found_and_nothing_else(self, tmp_path: Path) -> None:
        found = joined(tmp_path, TRACKS, JoinSettings("labelled", min_votes=2))
        ids = PrintStore(tmp_path).ids
        pairs = {tuple(sorted((ids[a], ids[b]))) for a, b in zip(found.pairs.a, found.pairs.b, strict=True)}
        there = set(ids.tolist())
        planted = {pair for pair in Catalogue(512, labelled=0.2, seed=1).pairs() if there.issuperset(pair)}
        assert pairs <= planted
        assert len(pairs) >= 0.9 * len(planted) > 10
        assert (found.bit_error_rates <= 0.4).all()

    @pytest.mark.parametrize("against", ["everything", "labelled"])
    @pytest.mark.parametrize("cuts", [(100,), (1, 2, 3, 60, 61), (90, 150, 170, 175, 178)])
    def test_a_catalogue_that_grows_finds_what_one_finds_that_came_at_once(
        self, tmp_path: Path, cuts: tuple[int, ...], against: join.Against
    ) -> None:
        settings = JoinSettings(against, min_votes=2, crowd=3)
        expected = columns(joined(tmp_path / "once", TRACKS, settings))
        assert len(expected["a"]) > 5
        before: dict[str, Any] = {}
        for first, end in zip((0, *cuts), (*cuts, len(TRACKS)), strict=True):
            found = columns(joined(tmp_path / "grown", TRACKS[first:end], settings))
            rows = set(zip(*before.values(), strict=True)) if before else set()
            assert rows <= set(zip(*found.values(), strict=True))
            before = found
        assert found == expected
        assert len(segments(tmp_path / "grown")) <= 3

    def test_parts_pieces_chunks_and_blocks_do_not_show(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expected = columns(joined(tmp_path / "one", TRACKS))
        monkeypatch.setattr(PostingLayout, "of", classmethod(lambda cls, count: cls(1024)))
        monkeypatch.setattr(join, "_PIECE_ITEMS", 40_000)
        monkeypatch.setattr(join, "POSTING_BYTES", 200_000)
        monkeypatch.setattr(join, "_VOTE_BYTES", 100_000_000)
        calls: list[tuple[str, int]] = []
        many = joined(tmp_path / "many", TRACKS, progress=lambda name, done, total, _: calls.append((name, total)))
        assert columns(many) == expected
        assert all(total > 5 for _, total in calls)

    def test_worker_processes_change_nothing(self, tmp_path: Path) -> None:
        expected = columns(joined(tmp_path / "here", TRACKS[:60]))
        assert columns(joined(tmp_path / "there", TRACKS[:60], engine=LocalEngine(2), workers=2)) == expected

    @pytest.mark.parametrize("stage", ["postings", "meet", "count", "merge"])
    def test_a_run_that_stops_goes_on_to_the_same_bytes(self, tmp_path: Path, stage: str) -> None:
        for folder in ("whole", "stopped"):
            joined(tmp_path / folder, TRACKS[:100])
        expected = columns(joined(tmp_path / "whole", TRACKS[100:150]))

        def stop(name: str, done: int, total: int, rejected: int) -> None:
            if name == stage and done:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            joined(tmp_path / "stopped", TRACKS[100:150], progress=stop)
        assert columns(joined(tmp_path / "stopped", [])) == expected
        assert files(tmp_path / "whole") == files(tmp_path / "stopped")

    def test_a_track_more_after_a_stop_is_joined_too(self, tmp_path: Path) -> None:
        def stop(name: str, done: int, total: int, rejected: int) -> None:
            if name == "meet" and done:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            joined(tmp_path / "stopped", TRACKS[:60], progress=stop)
        assert columns(joined(tmp_path / "stopped", TRACKS[60:70])) == columns(
            joined(tmp_path / "once", TRACKS[:70])
        )

    def test_a_first_run_that_stops_goes_on_where_it_was(self, tmp_path: Path) -> None:
        stopped(tmp_path, TRACKS[:60], "count")
        before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("work/*/*/*")}
        assert {path.parent.name for path in before} == {"postings", "votes"}
        stopped(tmp_path, [], "count")
        assert {path: path.stat().st_mtime_ns for path in before} == before

    @pytest.mark.parametrize(
        ("stage", "before", "after"),
        [
            ("meet", {"memory_bytes": 1_000_000_000}, {"memory_bytes": 8_000_000_000}),
            ("count", {"workers": 2}, {"workers": 5}),
        ],
    )
    def test_a_run_that_stops_goes_on_with_other_workers_and_memory(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        stage: str,
        before: dict[str, int],
        after: dict[str, int],
    ) -> None:
        monkeypatch.setattr(PostingLayout, "of", classmethod(lambda cls, count: cls(64)))
        monkeypatch.setattr(join, "POSTING_BYTES", 50_000)
        expected = columns(joined(tmp_path / "whole", TRACKS[:100]))
        stopped(tmp_path / "stopped", TRACKS[:100], stage, **before)
        assert columns(joined(tmp_path / "stopped", [], **after)) == expected

    @pytest.mark.parametrize("torn", ["index/*/0.0", "found/*.npz", "join.json"])
    @pytest.mark.parametrize("how", TEARS)
    def test_files_that_are_torn_are_made_again(self, tmp_path: Path, torn: str, how: str) -> None:
        expected = columns(joined(tmp_path / "whole", TRACKS[:70]))
        joined(tmp_path / "torn", TRACKS[:60])
        tear(tmp_path / "torn", torn, how)
        assert columns(joined(tmp_path / "torn", TRACKS[60:70])) == expected

    @pytest.mark.parametrize("torn", ["work/*/postings/0.0", "work/*/votes/0", "index/*/0.1"])
    @pytest.mark.parametrize("how", TEARS)
    def test_the_work_of_a_run_that_is_torn_is_done_again(self, tmp_path: Path, torn: str, how: str) -> None:
        expected = columns(joined(tmp_path / "whole", TRACKS[:60]))
        stopped(tmp_path / "torn", TRACKS[:60], "meet" if "postings" in torn else "count")
        tear(tmp_path / "torn", torn, how)
        assert columns(joined(tmp_path / "torn", [])) == expected

    def test_what_was_joined_is_not_joined_again(self, tmp_path: Path) -> None:
        first = columns(joined(tmp_path, TRACKS[:50]))
        assert columns(PrintJoin(tmp_path, Broken(), FEW_VOTES).run()) == first

    def test_few_tracks_are_joined_without_workers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()
        expected = columns(joined(tmp_path / "a", TRACKS[:40]))
        assert columns(joined(tmp_path / "b", TRACKS[:40], engine=Broken())) == expected

    def test_other_settings_join_everything_again(self, tmp_path: Path) -> None:
        joined(tmp_path / "a", TRACKS, JoinSettings("labelled"))
        assert columns(joined(tmp_path / "a", [])) == columns(joined(tmp_path / "b", TRACKS))

    def test_a_shared_passage_is_no_pair(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(8)
        jingle = rng.integers(0, 2**32, 100, dtype=np.uint32)
        music = [rng.integers(0, 2**32, 700, dtype=np.uint32) for _ in range(2)]
        ends = [np.concatenate([music[0], jingle]), np.concatenate([jingle, music[1]])]
        found = joined(tmp_path, [Print(name(number), False, items) for number, items in enumerate(ends)])
        assert len(found.pairs.a) == 0
        assert found.strangers == 1

    def test_who_asks_for_pairs_that_hardly_differ_from_strangers_gets_them(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(9)
        a, b = (rng.integers(0, 2**32, 700, dtype=np.uint32) for _ in range(2))
        for begin in (100, 500):
            b[begin : begin + 15] = a[begin : begin + 15]
        tracks = [Print(name(number), False, items) for number, items in enumerate((a, b))]
        for limit, rates in ((0.4, []), (0.5, [pytest.approx(0.5 * 670 / 700, abs=0.01)])):
            found = joined(tmp_path / str(limit), tracks, JoinSettings(max_bit_error_rate=limit))
            assert found.bit_error_rates.tolist() == rates
            assert len(rates) + found.strangers == 1

    @pytest.mark.parametrize("count", [0, 1])
    def test_next_to_nothing_joins_to_nothing(self, tmp_path: Path, count: int) -> None:
        assert len(joined(tmp_path, TRACKS[:count]).pairs.a) == 0

    def test_a_worker_that_fails_ends_the_run_with_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match=r"postings, piece 0 of 1: out of memory; run the same command again"):
            joined(tmp_path, TRACKS[:3], engine=Broken())

    def test_too_little_memory_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match=r"0\.5 GB do not suffice"):
            joined(tmp_path, [], memory_bytes=500_000_000)

    def test_fewer_tracks_than_were_joined_are_refused(self, tmp_path: Path) -> None:
        joined(tmp_path, TRACKS[:5])
        (tmp_path / "store.json").unlink()
        with pytest.raises(BuildError, match="5 tracks were joined, and 0 are there"):
            joined(tmp_path, [])


class Broken:
    """An engine whose workers fail."""

    def run(
        self, stage: Callable[[Any], Any], items: Iterator[tuple[str, Any]], needs: Any = None
    ) -> Iterator[Any]:
        for key, _ in items:
            yield Outcome(key, None, Failure("crash", "out of memory"))


def name(number: int) -> str:
    return hashlib.blake2b(str(number).encode(), digest_size=16).hexdigest()
