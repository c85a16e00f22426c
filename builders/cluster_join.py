"""Pairs of tracks that share music, of more tracks than one machine can hold: `builders.join` on a Ray cluster.

Needs the extra ``cluster``. The functions are those of `builders.join`, and so is every number of what they find.
What they hand to each other goes through shuffles of Ray Data, in the memory and on the disks of all nodes:

1. **postings**: chunks of tracks to rows ``(piece, part, side, words)``, `words` the postings of one part;
2. rows of one **piece** meet on one node: it writes the piece of the index, and gives rows ``(cell, part, words)``,
   `words` the votes of one part for the tracks of a cell;
3. rows of one **cell**, a range of tracks, meet on one node: votes are counted, and fingerprints compared.

A row holds many words, so that a shuffle sorts thousands of rows and not billions.

Conventions
-----------
- All nodes see the store's folder at the same path: fingerprints are read from it, and the index is written there.
- Only a large catalogue of which nothing was joined is shuffled. What that leaves is a segment like any other: what
  arrives later is joined with it by `PrintJoin`'s stages, on one machine or many.
- Votes wait in the object store, which spills to disk, before they are shuffled: only then is it known how many
  there are, and so how many partitions keep each small.

References
----------
https://docs.ray.io/en/latest/data/shuffling-data.html
"""

from __future__ import annotations

import functools
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.exceptions import RayError, RayTaskError

from builders.cluster import RayEngine, environment
from builders.join import (
    POSTING_BYTES,
    SIDES,
    Found,
    JoinPlan,
    PrintJoin,
    Segment,
    chunks_of,
    compared,
    gathered,
    index_writer,
    postings_by_side,
    votes_of,
)
from builders.prints import PrintStore
from curation.joining import Ints, Pairs, Words, without_crowds
from manifests.errors import BuildError, StemloomError

__all__ = ["ClusterJoin"]

_PARTITIONS_OF_SHARE = 16
"""A partition is there several times while it is sorted, and some are three times as large as the mean."""

_GROUPS_OF_PARTITION = 4
"""Groups come to partitions by a hash: a few in each, so that their sizes are alike."""

_FEW_ITEMS = 200_000_000
"""What a hundred thousand tracks have: stages join fewer while the workers of a shuffle start."""

_CELL_TRACKS = 128
_MAX_CELLS = 8192


@dataclass(frozen=True)
class ClusterJoin(PrintJoin):
    """Joins a store of fingerprints as `PrintJoin` does, a whole catalogue by shuffles on the engine's cluster.

    Without a `builders.cluster.RayEngine` it is a `PrintJoin`. Of the engine, its cluster is used, not its limits.
    """

    def _found_now(self, plan: JoinPlan, store: PrintStore) -> tuple[Segment, Found]:
        is_small = plan.older or store.lengths.sum() < _FEW_ITEMS
        if is_small or not isinstance(self.engine, RayEngine):
            return super()._found_now(plan, store)
        self.engine.connect()
        try:
            with _context():
                return self._shuffled(plan, store)
        except RayTaskError as error:
            if isinstance(error.cause, StemloomError):
                raise error.cause from None
            raise
        except RayError as error:
            raise BuildError(
                f"{self.folder}: the cluster gave up: {error}; run the same command again, with more --memory if a "
                "node was short of that"
            ) from error

    def _shuffled(self, plan: JoinPlan, store: PrintStore) -> tuple[Segment, Found]:
        share, needed = self._share(), self._needed_bytes()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        if not any(node.get("memory", 0) >= needed for node in nodes):
            raise BuildError(f"no node has {needed / 1e9:.1f} GB of memory for a task; give a smaller --memory")
        places = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
        items = int(store.lengths.sum())

        def partitions(num_bytes: int) -> int:
            return max(places, -(-num_bytes // (share // _PARTITIONS_OF_SHARE)))

        pieces = min(plan.new.parts, _GROUPS_OF_PARTITION * partitions(8 * items))
        plan = replace(plan, folder=str(self.folder.absolute()), new=replace(plan.new, pieces=pieces))
        chunks = chunks_of(store, plan.new, min(share // POSTING_BYTES, -(-items // places)))
        options: dict[str, Any] = {
            "batch_format": "pyarrow",
            "memory": needed,
            "runtime_env": {"env_vars": environment()},
        }

        self.progress("meet", 0, 1, 0)
        tracks = ray.data.from_items(
            [{"first": first, "end": end} for _, first, end in chunks], override_num_blocks=len(chunks)
        )
        postings = tracks.map_batches(functools.partial(_postings, plan), batch_size=1, **options)
        pieced = postings.groupby("piece", num_partitions=min(pieces, partitions(8 * items)))
        votes = pieced.map_groups(functools.partial(_votes, plan), **options).materialize()
        self.progress("meet", 1, 1, 0)

        self.progress("count", 0, 1, 0)
        celled = votes.groupby("cell", num_partitions=min(len(_cells(plan)), partitions(votes.size_bytes())))
        found = celled.map_groups(functools.partial(_pairs, plan), **options)
        rows = found.take_all()
        _once([row["cell"] for row in rows])
        self.progress("count", 1, 1, 0)
        return plan.new, gathered([_found(row) for row in rows])


def _postings(plan: JoinPlan, chunk: pa.Table) -> pa.Table:
    """Rows of the postings of a chunk's tracks: of all parts, so that each piece has rows."""
    ((first,), (end,)) = chunk["first"].to_pylist(), chunk["end"].to_pylist()
    sides = postings_by_side(plan, _opened(plan), first, end)
    parts = range(plan.new.parts)
    columns = {"piece": [plan.new.piece_of(part) for part in parts], "part": parts}
    return pa.concat_tables(
        pa.table({**columns, "side": np.full(len(parts), side), "words": _lists(postings.words, postings.bounds)})
        for side, postings in enumerate(sides)
    )


def _votes(plan: JoinPlan, rows: pa.Table) -> Iterator[pa.Table]:
    """Write a piece of the index, and give rows of the votes of all postings in it."""
    piece = rows["piece"][0].as_py()
    cells = _cells(plan)
    part_of, side_of = rows["part"].to_numpy(), rows["side"].to_numpy()
    lists = rows["words"].combine_chunks()
    words, bounds_of = lists.values.to_numpy(), lists.offsets.to_numpy()
    with ExitStack() as stack:
        writers = [stack.enter_context(index_writer(Path(plan.folder), plan.new, piece, side)) for side in SIDES]
        for part in plan.new.parts_of(piece):
            new = []
            for side, add in zip(SIDES, writers, strict=True):
                wanted = np.flatnonzero((part_of == part) & (side_of == side))
                here = np.concatenate([words[bounds_of[row] : bounds_of[row + 1]] for row in wanted])
                new.append(without_crowds(np.sort(here), (), plan.settings.crowd, plan.layout))
                add(new[-1])
            voted = votes_of(plan, new)
            bounds = np.append(np.searchsorted(voted, plan.votes.first_votes(cells)), len(voted))
            columns = {"cell": np.arange(len(cells)), "part": np.full(len(cells), part)}
            yield pa.table({**columns, "words": _lists(voted, bounds)}).filter(np.diff(bounds) > 0)


def _pairs(plan: JoinPlan, rows: pa.Table) -> pa.Table:
    """One row: the pairs of a cell's tracks."""
    cell = rows["cell"][0].as_py()
    _once(rows["part"].to_pylist())
    votes = rows["words"].combine_chunks().flatten().to_numpy()
    found = compared(plan, _opened(plan), plan.votes.counted(votes, plan.settings.min_votes))
    columns = {**asdict(found.pairs), "bit_error_rates": found.bit_error_rates}
    return pa.table({"cell": [cell], "strangers": [found.strangers]} | {k: [v] for k, v in columns.items()})


def _found(row: dict[str, Any]) -> Found:
    pairs = Pairs(*(np.asarray(row[name], np.int64) for name in ("a", "b", "votes", "offset_items")))
    return Found(pairs, np.asarray(row["bit_error_rates"], np.float64), row["strangers"])


def _lists(words: Words, bounds: Ints) -> pa.Array:
    """A column of lists: row `r` is ``words[bounds[r]:bounds[r + 1]]``."""
    return pa.LargeListArray.from_arrays(bounds, words)


def _cells(plan: JoinPlan) -> Ints:
    """The first track of each cell. A track votes with those after it: the first cells are the narrowest."""
    number = min(_MAX_CELLS, -(-plan.new.end // _CELL_TRACKS))
    shares = 1 - np.sqrt(1 - np.arange(number) / number)
    return np.unique((plan.new.end * shares).astype(np.int64))


@functools.lru_cache(maxsize=1)
def _store(folder: str, num_tracks: int) -> PrintStore:
    store = PrintStore(Path(folder))
    if len(store.tracks) != num_tracks:
        raise BuildError(
            f"node {socket.gethostname()}: {len(store.tracks)} of {num_tracks} tracks are in {folder}; mount the "
            "same disk at the same path on all nodes"
        )
    return store


def _opened(plan: JoinPlan) -> PrintStore:
    """The store, which a worker opens once."""
    return _store(plan.folder, plan.new.end)


def _once(numbers: list[int]) -> None:
    """See that a shuffle has brought together what belongs together."""
    if len(set(numbers)) < len(numbers):
        raise BuildError(
            "the nodes of the cluster hash differently, and rows of one group came apart; install the same "
            "packages on all nodes (Ray hashes with polars where that is installed)"
        )


@contextmanager
def _context() -> Iterator[None]:
    """Settings of Ray Data for the datasets that are made meanwhile."""
    logger, context = logging.getLogger("ray.data"), ray.data.DataContext.get_current()
    wanted = {
        "enable_progress_bars": False,
        "raise_original_map_exception": True,
        "shuffle_compression": "none",  # postings get 13 % smaller, and take twice as long
    }
    level, before = logger.level, {name: getattr(context, name) for name in wanted}
    logger.setLevel(logging.CRITICAL)  # what goes wrong is raised
    try:
        for name, value in wanted.items():
            setattr(context, name, value)
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            setattr(context, name, value)
