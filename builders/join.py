"""Fingerprints to pairs of tracks that share music, in parts that fit the memory.

The join of `curation.joining` over a `PrintStore`, in three stages that any engine runs. Each writes files and
returns little, and a file that is there is not written again:

1. **postings**: some tracks to their postings, part by part;
2. **meet**: some parts of all postings, sorted, to a piece of the index, and to votes;
3. **count**: all votes of some tracks to pairs, whose fingerprints are then compared over all their length.

A catalogue grows by **segments**: what has arrived since the last run is joined with itself and with the index of
what was there, which stays as it is, and so do its pairs. Small segments are merged.

    join.json                   settings and segments; written last
    index/FIRST-END/PIECE.S     postings of a segment's tracks: S is 1 for labelled instrumentals, else 0
    found/FIRST-END.npz         pairs whose later track is in the segment
    work/                       what a run writes and removes again
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from builders.engine import LocalEngine
from builders.parts import PartWriter, read_bins, read_part
from builders.prints import PrintStore
from builders.stage import Engine
from curation.joining import (
    Ints,
    Pairs,
    PostingLayout,
    VoteLayout,
    Words,
    meetings,
    postings_of,
    without_crowds,
)
from curation.matching import least_overlap, match_at
from manifests.errors import BuildError
from manifests.files import replacing

Against: TypeAlias = Literal["everything", "labelled"]
Progress: TypeAlias = Callable[[str, int, int, int], None]

VERSION = 1
SIDES = (0, 1)

_OWN_BYTES = 300_000_000
"""What a process holds before it has any work."""

_POSTING_BYTES, _VOTE_BYTES = 100, 60
_PIECE_ITEMS = 25_000_000
_CHUNK_TRACKS = 1 << 16
_BINS = 4096
_GROWTH = 3
_FEW_ITEMS = 5_000_000
"""Fingerprints of some three thousand songs: joined here, before workers had started."""

_STRANGERS = 0.47
_CHECKED_AT_ONCE = 512


@dataclass(frozen=True)
class JoinSettings:
    """What decides which pairs are found.

    Attributes
    ----------
    against : {'everything', 'labelled'}
        Whether any two tracks are compared, or labelled instrumentals with the rest.
    min_votes : int >= 1
        Moments, half a second apart or more, at which two tracks agree at one offset.
    sample_one_in : int >= 1
        Look at one key in this many.
    crowd : int >= 1
        Places that count of one key, on each side.
    max_bit_error_rate : float [0, 0.5]
        Of the fingerprints where they overlap. Pairs above it are strangers.
    """

    against: Against = "everything"
    min_votes: int = 2
    sample_one_in: int = 1
    crowd: int = 1000
    max_bit_error_rate: float = 0.4


@dataclass(frozen=True)
class Found:
    """What a join found.

    Attributes
    ----------
    pairs : Pairs
        As numbers of tracks in the store.
    bit_error_rates : np.ndarray of float64 [shape=(pairs,)]
    strangers : int
        Pairs with enough votes whose fingerprints differ all the same.
    """

    pairs: Pairs
    bit_error_rates: npt.NDArray[np.float64]
    strangers: int


@dataclass(frozen=True)
class Segment:
    """Tracks that were joined in one run, and how their index is cut."""

    first: int
    end: int
    pieces: int
    parts: int

    @property
    def name(self) -> str:
        """Its folder's."""
        return f"{self.first:09d}-{self.end:09d}"

    def piece_of(self, part: int) -> int:
        """The piece that holds a part."""
        return part * self.pieces // self.parts

    def parts_of(self, piece: int) -> range:
        """The parts in a piece."""
        return range(-(-piece * self.parts // self.pieces), -(-(piece + 1) * self.parts // self.pieces))


def _silent(stage: str, done: int, total: int, rejected: int) -> None:
    """No progress shown."""


@dataclass(frozen=True)
class PrintJoin:
    """Joins a store of fingerprints with itself, and what has arrived with what was there.

    Parameters
    ----------
    folder : Path
        The store's folder; the join's files are beside it.
    engine : Engine
        Of catalogues, and additions, that are worth starting workers for.
    settings : JoinSettings
        Others than those of an earlier run join everything again.
    memory_bytes : int >= 1e9
        What all processes together may hold.
    workers : int >= 1
        How many of the engine's workers share it.
    progress : callable, optional
        Called with the stage's name, pieces done, pieces in all, and 0.
    """

    folder: Path
    engine: Engine
    settings: JoinSettings = JoinSettings()
    memory_bytes: int = 4_000_000_000
    workers: int = 1
    progress: Progress = _silent

    def run(self) -> Found:
        """Join what has not been joined.

        Returns
        -------
        Found
            All pairs, those of earlier runs included.

        Raises
        ------
        BuildError
            When the memory does not suffice, a worker fails, or the disk refuses.
        """
        if self.memory_bytes < 1_000_000_000:
            raise BuildError(f"memory: {self.memory_bytes / 1e9:g} GB do not suffice; give at least 1 GB")
        store = PrintStore(self.folder)
        count = len(store.tracks)
        postings = PostingLayout.of(count)
        segments = self._segments(postings)
        done = segments[-1].end if segments else 0
        if done > count:
            raise BuildError(f"{self.folder}: {done} tracks were joined, and {count} are there; delete the folder")
        items = int(store.lengths[done:].sum())
        join = replace(self, engine=LocalEngine(0), progress=_silent) if items < _FEW_ITEMS else self
        if count > done:
            segments = join._joined(store, segments, Segment(done, count, 1, postings.parts))
        segments = join._merged(segments)
        self._tidy(segments)
        return _gathered([self._found(segment) for segment in segments])

    def _segments(self, layout: PostingLayout) -> list[Segment]:
        """What is joined already; nothing where other settings were, or the catalogue has outgrown its parts."""
        path = self.folder / "join.json"
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            if state["version"] == VERSION and state["settings"] == asdict(self.settings):
                fields = ("first", "end", "pieces", "parts")
                segments = [Segment(*(int(entry[key]) for key in fields)) for entry in state["segments"]]
                if all(segment.parts == layout.parts for segment in segments):
                    return segments
        except FileNotFoundError:
            pass
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise BuildError(f"{path}: cannot be read ({error}); delete {self.folder}") from error
        for name in ("work", "index", "found"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        return []

    def _commit(self, segments: Sequence[Segment]) -> None:
        state = {
            "version": VERSION,
            "settings": asdict(self.settings),
            "segments": [asdict(one) for one in segments],
        }
        with replacing(self.folder / "join.json") as file:
            file.write(json.dumps(state).encode())

    def _share(self) -> int:
        """Bytes for the work of one worker."""
        processes = self.workers + 1
        return max(200_000_000, (self.memory_bytes - processes * _OWN_BYTES) // self.workers)

    def _joined(self, store: PrintStore, older: list[Segment], new: Segment) -> list[Segment]:
        lengths = store.lengths
        work = self.folder / "work" / new.name
        for other in (self.folder / "work").glob("*"):
            if other != work:
                shutil.rmtree(other)

        share = self._share()
        chunks = _chunks(lengths, new, share // _POSTING_BYTES)
        pieces = -(-int(lengths[new.first : new.end].sum()) // _PIECE_ITEMS)
        new = replace(new, pieces=min(new.parts, max(self.workers, pieces)))
        votes = VoteLayout.of(new.end, int(lengths[: new.end].max(initial=1)))
        plan = _Plan(str(self.folder), str(work), self.settings, new, tuple(older), len(chunks), votes)
        self._run("postings", partial(_write_postings, plan), chunks)
        self._run("meet", partial(_meet, plan), range(new.pieces))
        blocks = _blocks(plan, share // _VOTE_BYTES)
        self._run("count", partial(_count, plan), blocks)
        _write_found(self._found_path(new), _gathered([_read_found(plan.found(block)) for block in blocks]))
        self._commit([*older, new])
        return [*older, new]

    def _merged(self, segments: list[Segment]) -> list[Segment]:
        """Merge the last segments while the one before is not much larger: the index stays a few files."""
        while len(segments) > 1 and _size(segments[-2]) < _GROWTH * _size(segments[-1]):
            old = segments[-2:]
            whole = Segment(old[0].first, old[1].end, max(one.pieces for one in old), old[0].parts)
            self._run("merge", partial(_merge, str(self.folder), tuple(old), whole), range(whole.pieces))
            _write_found(self._found_path(whole), _gathered([self._found(one) for one in old]))
            segments = [*segments[:-2], whole]
            self._commit(segments)
        return segments

    def _tidy(self, segments: list[Segment]) -> None:
        """Remove what no segment needs: the work of this run, merged segments, what a killed run left."""
        shutil.rmtree(self.folder / "work", ignore_errors=True)
        kept = {path for one in segments for path in (self.folder / "index" / one.name, self._found_path(one))}
        for path in (*(self.folder / "index").glob("*"), *(self.folder / "found").glob("*")):
            if path not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _run(self, name: str, function: Callable[[Any], None], items: Sequence[Any]) -> None:
        """Run a stage over pieces of work, all of which must be done."""
        self.progress(name, 0, len(items), 0)
        outcomes = self.engine.run(function, iter([(str(number), item) for number, item in enumerate(items)]))
        for done, outcome in enumerate(outcomes, 1):
            if outcome.error is not None:
                raise BuildError(
                    f"{self.folder}: {name}, piece {outcome.key} of {len(items)}: {outcome.error.detail}; run the "
                    "same command again, with more --memory if it was short of that: it resumes"
                )
            self.progress(name, done, len(items), 0)

    def _found_path(self, segment: Segment) -> Path:
        return self.folder / "found" / f"{segment.name}.npz"

    def _found(self, segment: Segment) -> Found:
        return _read_found(self._found_path(segment))


@dataclass(frozen=True)
class _Plan:
    """What all stages of one run know."""

    folder: str
    work: str
    settings: JoinSettings
    new: Segment
    older: tuple[Segment, ...]
    num_chunks: int
    votes: VoteLayout

    @property
    def layout(self) -> PostingLayout:
        return PostingLayout(self.new.parts)

    @property
    def bin_tracks(self) -> int:
        """Tracks that have their votes counted together, to find where blocks end."""
        return -(-self.new.end // _BINS)

    def chunk(self, number: int, side: int) -> Path:
        return Path(self.work, "postings", f"{number}.{side}")

    def voted(self, piece: int) -> Path:
        return Path(self.work, "votes", str(piece))

    def found(self, block: tuple[int, int]) -> Path:
        return Path(self.work, "found", f"{block[0]}.npz")


def _write_postings(plan: _Plan, chunk: tuple[int, int, int]) -> None:
    """Write the postings of the tracks of a chunk: its number, its first track, its end."""
    number, first, end = chunk
    if plan.chunk(number, SIDES[-1]).exists():
        return
    store = PrintStore(Path(plan.folder))
    items, lengths = store.items_of(first, end), store.lengths[first:end]
    postings = postings_of(items, lengths, first, plan.layout, sample_one_in=plan.settings.sample_one_in)
    labelled = store.tracks["labelled"][plan.layout.tracks(postings.words)]
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(labelled)])[postings.bounds]
    for side in SIDES:
        with PartWriter(plan.chunk(number, side), plan.new.parts) as pieces:
            pieces.add_all(postings.words[labelled == bool(side)], before if side else postings.bounds - before)


def _meet(plan: _Plan, piece: int) -> None:
    """Write a piece of the index, and the votes of all postings in it."""
    if plan.voted(piece).exists():
        return
    parts = plan.new.parts_of(piece)
    folder = Path(plan.folder)
    bin_votes = plan.votes.first_votes(np.array([plan.bin_tracks]))[0]
    with contextlib.ExitStack() as stack:
        # entered first, so that it appears last: it stands for all
        voted = stack.enter_context(PartWriter(plan.voted(piece), len(parts), bins=_BINS))
        paths = [_index_path(folder, plan.new, piece, side) for side in SIDES]
        index = [stack.enter_context(PartWriter(path, len(parts))) for path in paths]
        for part in parts:
            old = [[_old_part(folder, one, part, side) for side in SIDES] for one in plan.older]
            new = [_new_part(plan, part, side, [one[side] for one in old]) for side in SIDES]
            for pieces, words in zip(index, new, strict=True):
                pieces.add(words)
            packed = [plan.votes.pack(*met, plan.layout) for met in _met(plan, new, old)]
            found = np.unique(np.concatenate([np.zeros(0, np.uint64), *packed]))
            voted.add(found, (found // bin_votes).astype(np.int64))


def _met(plan: _Plan, new: Sequence[Words], old: Sequence[Sequence[Words]]) -> Iterator[tuple[Words, Words]]:
    """Postings that meet, of one part: those of new tracks each other and those of old ones."""
    rest, labelled = new
    groups = [(labelled, rest)]
    for old_rest, old_labelled in old:
        groups += [(labelled, old_rest), (rest, old_labelled)]
    if plan.settings.against == "everything":
        groups += [(new[side], one[side]) for side in SIDES for one in old]
        for words in new:
            yield from meetings(words, None, plan.layout)
    for one, other in groups:
        yield from meetings(one, other, plan.layout)


def _new_part(plan: _Plan, part: int, side: int, older: Sequence[Words]) -> Words:
    found = [read_part(plan.chunk(number, side), part) for number in range(plan.num_chunks)]
    return without_crowds(np.sort(np.concatenate(found)), older, plan.settings.crowd, plan.layout)


def _old_part(folder: Path, segment: Segment, part: int, side: int) -> Words:
    piece = segment.piece_of(part)
    return read_part(_index_path(folder, segment, piece, side), part - segment.parts_of(piece)[0], mapped=True)


def _count(plan: _Plan, block: tuple[int, int]) -> None:
    """Write the pairs of the tracks of a block: its first track and its end."""
    if plan.found(block).exists():
        return
    first, end = plan.votes.first_votes(np.array(block))
    votes = []
    for piece in range(plan.new.pieces):
        for part in range(len(plan.new.parts_of(piece))):
            words = read_part(plan.voted(piece), part, bins=_BINS, mapped=True)
            # the end of the last block need not fit a vote
            stop = len(words) if block[1] == plan.new.end else int(np.searchsorted(words, end))
            votes.append(np.array(words[int(np.searchsorted(words, first)) : stop]))
    pairs = plan.votes.counted(np.concatenate(votes), plan.settings.min_votes)
    del votes
    rates, offsets = _compared(PrintStore(Path(plan.folder)), pairs)
    kept = rates <= plan.settings.max_bit_error_rate
    near = Pairs(pairs.a[kept], pairs.b[kept], pairs.votes[kept], offsets[kept])
    _write_found(plan.found(block), Found(near, rates[kept], int(np.count_nonzero(~kept))))


def _compared(store: PrintStore, pairs: Pairs) -> tuple[npt.NDArray[np.float64], Ints]:
    """Bit error rates of pairs over all their overlap, and the offsets nearby at which they are the lowest.

    The rate is 1 where the overlap is too short.
    """
    prints = store.mapped()
    rates, offsets = np.ones(len(pairs.a)), pairs.offset_items.copy()
    for number, (a, b, offset) in enumerate(zip(pairs.a, pairs.b, pairs.offset_items.tolist(), strict=True)):
        first, second = prints[a], prints[b]
        best = match_at(first, second, offset)
        if best.bit_error_rate < _STRANGERS:
            beside = (match_at(first, second, offset + step) for step in (-1, 1))
            best = min(best, *beside, key=lambda match: match.bit_error_rate)
            if best.overlap_items >= least_overlap(first, second):
                rates[number], offsets[number] = best.bit_error_rate, best.offset_items
        if number % _CHECKED_AT_ONCE == _CHECKED_AT_ONCE - 1:
            prints.let_go()
    return rates, offsets


def _merge(folder: str, old: Sequence[Segment], whole: Segment, piece: int) -> None:
    """Write a piece of the index of two segments together."""
    for side in SIDES:
        path = _index_path(Path(folder), whole, piece, side)
        if not path.exists():
            with PartWriter(path, len(whole.parts_of(piece))) as pieces:
                for part in whole.parts_of(piece):
                    pieces.add(np.sort(np.concatenate([_old_part(Path(folder), one, part, side) for one in old])))


def _chunks(lengths: Ints, segment: Segment, most_items: int) -> list[tuple[int, int, int]]:
    """Tracks cut where a chunk has enough items or tracks: number, first, end."""
    chunks: list[tuple[int, int, int]] = []
    first = segment.first
    while first < segment.end:
        sums = np.cumsum(lengths[first : min(segment.end, first + _CHUNK_TRACKS)])
        stop = first + max(1, int(np.searchsorted(sums, most_items, side="right")))
        chunks.append((len(chunks), first, stop))
        first = stop
    return chunks


def _blocks(plan: _Plan, most_votes: int) -> list[tuple[int, int]]:
    """Tracks cut where they have enough votes: first, end."""
    counts = np.zeros(_BINS, np.int64)
    for piece in range(plan.new.pieces):
        counts += read_bins(plan.voted(piece), _BINS)
    blocks, first, held = [], 0, 0
    for number, votes in enumerate(counts[: -(-plan.new.end // plan.bin_tracks)].tolist()):
        if held and held + votes > most_votes:
            blocks.append((first, number * plan.bin_tracks))
            first, held = number * plan.bin_tracks, 0
        held += votes
    return [*blocks, (first, plan.new.end)]


def _size(segment: Segment) -> int:
    return segment.end - segment.first


def _index_path(folder: Path, segment: Segment, piece: int, side: int) -> Path:
    return folder / "index" / segment.name / f"{piece}.{side}"


def _write_found(path: Path, found: Found) -> None:
    with replacing(path) as file:
        np.savez(file, **asdict(found.pairs), bit_error_rates=found.bit_error_rates, strangers=found.strangers)


def _read_found(path: Path) -> Found:
    with np.load(path, allow_pickle=False) as file:
        pairs = Pairs(*(file[name] for name in ("a", "b", "votes", "offset_items")))
        return Found(pairs, file["bit_error_rates"], int(file["strangers"]))


def _gathered(found: Sequence[Found]) -> Found:
    """All pairs together, in the order of a and b."""
    columns = [
        np.concatenate([np.zeros(0, np.int64), *(getattr(one.pairs, name) for one in found)])
        for name in ("a", "b", "votes", "offset_items")
    ]
    rates = np.concatenate([np.zeros(0), *(one.bit_error_rates for one in found)])
    order = np.lexsort((columns[1], columns[0]))
    return Found(Pairs(*(column[order] for column in columns)), rates[order], sum(one.strangers for one in found))
