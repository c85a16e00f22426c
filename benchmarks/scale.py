"""How pairing by sound grows with the catalogue: time, memory, and what is found.

    python -m benchmarks.scale make --tracks 1001000 --out STORE
    python -m benchmarks.scale pair STORE --out FOLDER [--tracks 10000,100000,1000000] [--memory 4] [--jobs 2]
    python -m benchmarks.scale grow FOLDER/1000000 STORE --out FOLDER [--add 1000]

`make` draws a catalogue of fingerprints with planted pairs (`benchmarks.fingerprints`): one track in 20 is a
labelled instrumental whose mixture is among the others. It goes on where it was stopped. `pair` joins the first so
many of its tracks, labelled instrumentals against the rest, in fresh folders, one after another: wall time,
processor time of all processes, and the largest sum of what they hold at a moment (proportional set sizes: memory
that is shared counts once, and pages of mapped files count). The exponent is that of time between one size and the
next: 1 is linear. `grow` adds the tracks of STORE that follow those of a joined folder to it, in place, and tells
what that takes.

Recall is the share of the planted pairs that are found, precision the share of the found pairs that were planted.
Tables go to FOLDER/scale.md.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from benchmarks.fingerprints import CHUNK_TRACKS, Catalogue
from builders.engine import LocalEngine
from builders.join import Found, JoinSettings, PrintJoin
from builders.prints import Print, PrintStore
from manifests.errors import StemloomError

_CHUNKS_AT_ONCE = 50
_COPIED_AT_ONCE = 1 << 24


@dataclass
class Measured:
    """What a run took."""

    tracks: int
    wall_s: float
    cpu_s: float
    peak_bytes: int
    pairs: set[tuple[str, str]]
    strangers: int
    stages: dict[str, float] = field(default_factory=dict)


def make(num_tracks: int, out: Path, jobs: int) -> None:
    """Draw a catalogue into a store."""
    catalogue, there = Catalogue(num_tracks), len(PrintStore(out).tracks)
    if there == num_tracks:
        return
    if there % CHUNK_TRACKS or there > num_tracks:
        raise ValueError(
            f"{out}: holds a catalogue of {there:,} tracks, which no other size goes on; name a new folder"
        )
    first = there // CHUNK_TRACKS
    while first < catalogue.num_chunks:
        store = PrintStore(out).add(catalogue.prints(first, first + _CHUNKS_AT_ONCE, jobs))
        first += _CHUNKS_AT_ONCE
        print(f"{len(store.tracks):,} of {num_tracks:,} tracks", flush=True)


def first_tracks(store: PrintStore, count: int, out: Path) -> None:
    """A store of the first tracks of another."""
    shutil.rmtree(out, ignore_errors=True)
    PrintStore(out).add(_prints(store, 0, count))


def _prints(store: PrintStore, first: int, end: int) -> Iterator[Print]:
    prints = store.mapped()
    for number in range(first, end):
        yield Print(str(store.ids[number]), bool(store.tracks["labelled"][number]), prints[number])
        if number % 10_000 == 0:
            prints.let_go()


def measured(folder: Path, memory_bytes: int, jobs: int, settings: JoinSettings) -> Measured:
    """Join a store in a process of its own, and watch it."""
    context = get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_join, args=(folder, memory_bytes, jobs, settings, there))
    start = time.monotonic()
    process.start()
    there.close()
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.2):
            peak = max(peak, _held_bytes(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        answer = here.recv()
    finally:
        done.set()
        watcher.join()
        process.join()
    wall_s = time.monotonic() - start
    if isinstance(answer, StemloomError):
        raise answer
    found, cpu_s, stages = answer
    ids = PrintStore(folder).ids
    pairs = set()
    for a, b in zip(ids[found.pairs.a].tolist(), ids[found.pairs.b].tolist(), strict=True):
        pairs.add((min(a, b), max(a, b)))
    return Measured(len(ids), wall_s, cpu_s, peak, pairs, found.strangers, stages)


def _held_bytes(pid: int | None) -> int:
    """What a process and all below it hold."""
    held = 0
    try:
        parent = psutil.Process(pid)
        processes = [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return 0
    for one in processes:
        try:
            held += one.memory_full_info().pss
        except (psutil.Error, OSError):
            continue
    return held


def _join(folder: Path, memory_bytes: int, jobs: int, settings: JoinSettings, pipe: Connection) -> None:
    began: dict[str, float] = {}
    ended: dict[str, float] = {}

    def note(stage: str, done: int, total: int, rejected: int) -> None:
        began.setdefault(stage, time.monotonic())
        ended[stage] = time.monotonic()

    join = PrintJoin(folder, LocalEngine(jobs), settings, memory_bytes, max(1, jobs), note)
    try:
        found: Found = join.run()
    except StemloomError as error:
        pipe.send(error)
        return
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(one.ru_utime + one.ru_stime for one in usage)
    pipe.send((found, cpu_s, {stage: ended[stage] - began[stage] for stage in began}))


def pair(store: Path, sizes: list[int], out: Path, memory_bytes: int, jobs: int, settings: JoinSettings) -> str:
    """Join catalogues of several sizes, and tell of it."""
    rows = []
    before: Measured | None = None
    _require(store, max(sizes))
    for size in sizes:
        folder = out / str(size)
        first_tracks(PrintStore(store), size, folder)
        now = measured(folder, memory_bytes, jobs, settings)
        planted = Catalogue(size).pairs()
        row: dict[str, Any] = {
            "tracks": f"{now.tracks:,}",
            "wall": _time(now.wall_s),
            "processor": _time(now.cpu_s),
            "exponent": "" if before is None else f"{_exponent(before, now):.2f}",
            "peak memory": f"{now.peak_bytes / 1e9:.2f} GB",
            "planted": f"{len(planted):,}",
            "recall": f"{len(planted & now.pairs) / len(planted):.4f}",
            "precision": f"{len(planted & now.pairs) / max(1, len(now.pairs)):.4f}",
            "strangers": f"{now.strangers:,}",
            **{stage: _time(seconds) for stage, seconds in now.stages.items()},
        }
        rows.append(row)
        print(row, flush=True)
        before = now
    return _table(rows)


def _require(store: Path, count: int) -> None:
    there = len(PrintStore(store).tracks)
    if there < count:
        raise ValueError(f"{store}: holds {there:,} tracks, and {count:,} are needed; 'make' more of them")


def _exponent(before: Measured, now: Measured) -> float:
    return math.log(now.cpu_s / before.cpu_s) / math.log(now.tracks / before.tracks)


def grow(joined: Path, store: Path, count: int, memory_bytes: int, jobs: int, settings: JoinSettings) -> str:
    """Add tracks to a joined catalogue, and tell what that takes."""
    source, target = PrintStore(store), PrintStore(joined)
    before = len(target.tracks)
    _require(joined, 1)
    _require(store, before + count)
    target.add(_prints(source, before, before + count))
    again = measured(joined, memory_bytes, jobs, settings)
    planted = Catalogue(len(source.tracks)).pairs()
    ids = PrintStore(joined).ids
    new, there = set(ids[before:].tolist()), set(ids.tolist())
    late = {one for one in planted if there.issuperset(one) and not new.isdisjoint(one)}
    row = {
        "tracks": f"{before:,}",
        "added": f"{count:,}",
        "wall": _time(again.wall_s),
        "processor": _time(again.cpu_s),
        "peak memory": f"{again.peak_bytes / 1e9:.2f} GB",
        "planted": str(len(late)),
        "found": str(len(late & again.pairs)),
        **{stage: _time(seconds) for stage, seconds in again.stages.items()},
    }
    print(row, flush=True)
    return _table([row])


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _table(rows: list[Mapping[str, str]] | list[dict[str, Any]]) -> str:
    names: Iterable[str] = dict.fromkeys(name for row in rows for name in row)
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(list(names))]
    lines += ["| " + " | ".join(str(row.get(name, "")) for name in names) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("--tracks", type=int, default=1_001_000)
    pairing = commands.add_parser("pair")
    pairing.add_argument("store", type=Path)
    pairing.add_argument("--tracks", default="10000,100000,1000000")
    growing = commands.add_parser("grow")
    growing.add_argument("joined", type=Path)
    growing.add_argument("store", type=Path)
    growing.add_argument("--add", type=int, default=1000)
    for one in (making, pairing, growing):
        one.add_argument("--out", type=Path, required=True)
        one.add_argument("--jobs", type=int, default=2)
    for one in (pairing, growing):
        one.add_argument("--memory", type=float, default=4.0, help="GB")
        one.add_argument("--against", choices=["labelled", "everything"], default="labelled")
        one.add_argument("--sample-one-in", type=int, default=1)
    options = parser.parse_args()
    try:
        _do(options)
    except (StemloomError, ValueError) as error:
        parser.error(str(error))


def _do(options: argparse.Namespace) -> None:
    if options.command == "make":
        make(options.tracks, options.out, options.jobs)
        return
    settings = JoinSettings(options.against, sample_one_in=options.sample_one_in)
    limits = (int(options.memory * 1e9), options.jobs, settings)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.command == "pair":
        text = pair(options.store, [int(size) for size in options.tracks.split(",")], options.out, *limits)
    else:
        text = grow(options.joined, options.store, options.add, *limits)
    print(text)
    with (options.out / "scale.md").open("a", encoding="utf-8") as file:
        file.write(f"\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {settings}\n\n{text}")


if __name__ == "__main__":
    main()
