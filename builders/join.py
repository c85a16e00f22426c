"""Fingerprints to pairs of tracks that share music, in parts that fit the memory.

The join of `curation.joining` over a `PrintStore`, in three stages that any engine runs. Each writes files and
returns little, and a file that is there is not written again:

1. **postings**: some tracks to their postings, part by part;
2. **meet**: some parts of all postings, sorted, to a piece of the index, and to votes;
3. **count**: all votes of some tracks to pairs, whose fingerprints are then compared over all their length.

A catalogue grows by **segments**: what has arrived since the last run is joined with itself and with the index of
what was there, which stays as it is, and so do its pairs. Small segments are merged.

    join.json                   settings and segments; written last
    index/FIRST-END/PIECE.S     postings of a segment's tracks, part by part, then the crowds of each part: S is 1
                                for labelled instrumentals, else 0
    found/FIRST-END.npz         pairs whose later track is in the segment
    work/                       what a run writes and removes again
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from builders.engine import LocalEngine, Needs
from builders.parts import TornFile, is_whole, part_writer, read_bins, read_part
from builders.prints import PrintStore
from builders.stage import Engine, Progress, silent
from curation.joining import (
    Indexed,
    Ints,
    Pairs,
    PostingLayout,
    Postings,
    VoteLayout,
    Words,
    crowds_of,
    distinct,
    meetings,
    postings_of,
    without_crowds,
)
from curation.matching import glanced, least_overlap, match_at
from manifests.errors import BuildError
from manifests.files import replacing

Against: TypeAlias = Literal["everything", "labelled"]

VERSION = 3
SIDES = (0, 1)

_OWN_BYTES = 300_000_000
"""What a process holds before it has any work."""

POSTING_BYTES = 100
"""What making and sorting one takes."""

_VOTE_BYTES = 120
_PIECE_ITEMS = 25_000_000
_CHUNK_TRACKS = 1 << 16
_BINS = 4096
_GROWTH, _LARGE = 3, 64
_FEW_ITEMS = 5_000_000
"""Fingerprints of some three thousand songs: joined here, before workers had started."""

_GLANCE_ERROR = 0.07
"""What a glance at a pair may be wrong by, and what an offset nearby may be better by."""

_CHECKED_AT_ONCE = 1024

log = logging.getLogger(__name__)


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
    progress: Progress = silent

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
        try:
            return self._run_on()
        except TornFile as error:
            log.warning("%s: is not what was written; all is joined again", error.path)
            self._forget()
            return self._run_on()

    def _run_on(self) -> Found:
        store = PrintStore(self.folder)
        count = len(store.tracks)
        postings = PostingLayout.of(count)
        segments = self._segments(postings)
        done = segments[-1].end if segments else 0
        if done > count:
            raise BuildError(f"{self.folder}: {done} tracks were joined, and {count} are there; delete the folder")
        items = int(store.lengths[done:].sum())
        join = replace(self, engine=LocalEngine(0), progress=silent) if items < _FEW_ITEMS else self
        if count > done:
            segments = join._joined(store, segments, Segment(done, count, 1, postings.parts))
        segments = join._merged(segments)
        self._tidy(segments)
        return gathered([self._found(segment) for segment in segments])

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
            log.warning("%s: cannot be read (%s); all is joined again", path, error)
        self._forget()
        return []

    def _forget(self) -> None:
        for name in ("work", "index", "found"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self._commit([])  # whose the work is that a killed run leaves

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

    def _needed_bytes(self) -> int:
        """Bytes of one worker."""
        return _OWN_BYTES + self._share()

    def _joined(self, store: PrintStore, older: list[Segment], new: Segment) -> list[Segment]:
        lengths = store.lengths
        # what is found there was cut in the same way
        work = self.folder / "work" / f"{new.name}-{self.workers}-{self._share()}"
        if not work.exists():
            shutil.rmtree(self.folder / "index" / new.name, ignore_errors=True)
        for other in (self.folder / "work").glob("*"):
            if other != work:
                shutil.rmtree(other)

        votes = VoteLayout.of(new.end, int(lengths[: new.end].max(initial=1)))
        plan = JoinPlan(str(self.folder), str(work), self.settings, new, tuple(older), votes)
        new, found = self._found_now(plan, store)
        _write_found(self._found_path(new), found)
        self._commit([*older, new])
        return [*older, new]

    def _found_now(self, plan: JoinPlan, store: PrintStore) -> tuple[Segment, Found]:
        """Write the index of the new segment: how it was cut, and the pairs of its tracks."""
        share, new = self._share(), plan.new
        chunks = chunks_of(store, new, share // POSTING_BYTES)
        pieces = -(-int(store.lengths[new.first : new.end].sum()) // _PIECE_ITEMS)
        new = replace(new, pieces=min(new.parts, max(self.workers, pieces)))
        plan = replace(plan, new=new, num_chunks=len(chunks))
        self._run("postings", partial(_write_postings, plan), chunks)
        self._run("meet", partial(_meet, plan), range(new.pieces))
        blocks = _blocks(plan, share // _VOTE_BYTES)
        self._run("count", partial(_count, plan), blocks)
        return new, gathered([_read_found(plan.found(block)) for block in blocks])

    def _merged(self, segments: list[Segment]) -> list[Segment]:
        """Merge the last segments while the one before is not much larger: the index stays a few files."""
        while len(segments) > 1 and _size(segments[-2]) < _GROWTH * _size(segments[-1]):
            old = segments[-2:]
            whole = Segment(old[0].first, old[1].end, max(one.pieces for one in old), old[0].parts)
            self._run("merge", partial(_merge, str(self.folder), tuple(old), whole), range(whole.pieces))
            _write_found(self._found_path(whole), gathered([self._found(one) for one in old]))
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
        numbered = iter([(str(number), item) for number, item in enumerate(items)])
        needs = Needs(memory_bytes=self._needed_bytes(), folders=(str(self.folder.absolute()),))
        outcomes = self.engine.run(function, numbered, needs)
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
class JoinPlan:
    """What all stages of one run know."""

    folder: str
    work: str
    settings: JoinSettings
    new: Segment
    older: tuple[Segment, ...]
    votes: VoteLayout
    num_chunks: int = 0

    @property
    def layout(self) -> PostingLayout:
        """How postings are packed."""
        return PostingLayout(self.new.parts)

    @property
    def bin_tracks(self) -> int:
        """Tracks that have their votes counted together, to find where blocks end."""
        return -(-self.new.end // _BINS)

    def chunk(self, number: int, side: int) -> Path:
        """The file of a chunk's postings."""
        return Path(self.work, "postings", f"{number}.{side}")

    def voted(self, piece: int) -> Path:
        """The file of a piece's votes."""
        return Path(self.work, "votes", str(piece))

    def found(self, block: tuple[int, int]) -> Path:
        """The file of a block's pairs."""
        return Path(self.work, "found", f"{block[0]}.npz")


def _write_postings(plan: JoinPlan, chunk: tuple[int, int, int]) -> None:
    """Write the postings of the tracks of a chunk: its number, its first track, its end."""
    number, first, end = chunk
    if all(is_whole(plan.chunk(number, side)) for side in SIDES):
        return
    for side, postings in enumerate(postings_by_side(plan, PrintStore(Path(plan.folder)), first, end)):
        with part_writer(plan.chunk(number, side), plan.new.parts) as pieces:
            pieces.add_all(postings.words, postings.bounds)


def postings_by_side(plan: JoinPlan, store: PrintStore, first: int, end: int) -> tuple[Postings, Postings]:
    """Postings of the tracks from `first` to `end` (out): of those that are not labelled, and of those that are."""
    items, lengths = store.items_of(first, end), store.lengths[first:end]
    postings = postings_of(items, lengths, first, plan.layout, sample_one_in=plan.settings.sample_one_in)
    labelled = store.tracks["labelled"][plan.layout.tracks(postings.words)]
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(labelled)])[postings.bounds]
    return (
        Postings(postings.words[~labelled], postings.bounds - before),
        Postings(postings.words[labelled], before),
    )


def _meet(plan: JoinPlan, piece: int) -> None:
    """Write a piece of the index, and the votes of all postings in it."""
    folder = Path(plan.folder)
    index_paths = [_index_path(folder, plan.new, piece, side) for side in SIDES]
    if is_whole(plan.voted(piece), _BINS) and all(map(is_whole, index_paths)):
        return
    parts = plan.new.parts_of(piece)
    first_votes = plan.votes.first_votes(np.arange(-(-plan.new.end // plan.bin_tracks)) * plan.bin_tracks)
    read_whole = [_size(one) <= _LARGE * _size(plan.new) for one in plan.older]
    with contextlib.ExitStack() as stack:
        # entered first, so that it appears last: it stands for all
        voted = stack.enter_context(part_writer(plan.voted(piece), len(parts), bins=_BINS))
        add_to_index = [stack.enter_context(index_writer(folder, plan.new, piece, side)) for side in SIDES]
        for part in parts:
            # few new tracks look at few places of a large index: to read all of it would take longer than they do
            old = [
                [_old_part(folder, one, part, side, checked=checked) for side in SIDES]
                for one, checked in zip(plan.older, read_whole, strict=True)
            ]
            new = [_new_part(plan, part, side, [one[side] for one in old]) for side in SIDES]
            for add, words in zip(add_to_index, new, strict=True):
                add(words)
            found = votes_of(plan, new, [[side.words for side in one] for one in old])
            voted.add(found, np.diff(np.searchsorted(found, first_votes), append=len(found)))


def votes_of(plan: JoinPlan, new: Sequence[Words], old: Sequence[Sequence[Words]] = ()) -> Words:
    """Votes of the postings of one part, sorted, each once.

    Parameters
    ----------
    plan : JoinPlan
    new : sequence of np.ndarray of uint64
        Sorted postings of new tracks, by side.
    old : sequence of sequence of np.ndarray of uint64
        Those of each older segment, by side.

    Returns
    -------
    np.ndarray of uint64 [shape=(votes,)]
    """
    packed = [plan.votes.pack(*met, plan.layout) for met in _met(plan, new, old)]
    return distinct(np.concatenate([np.zeros(0, np.uint64), *packed]))


def _met(plan: JoinPlan, new: Sequence[Words], old: Sequence[Sequence[Words]]) -> Iterator[tuple[Words, Words]]:
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


def _new_part(plan: JoinPlan, part: int, side: int, older: Sequence[Indexed]) -> Words:
    found = [read_part(plan.chunk(number, side), part) for number in range(plan.num_chunks)]
    return without_crowds(np.sort(np.concatenate(found)), older, plan.settings.crowd, plan.layout)


def _old_part(folder: Path, segment: Segment, part: int, side: int, *, checked: bool = True) -> Indexed:
    piece = segment.piece_of(part)
    path, parts = _index_path(folder, segment, piece, side), segment.parts_of(piece)
    place = part - parts[0]
    return Indexed(read_part(path, place, mapped=True, checked=checked), read_part(path, len(parts) + place))


def _count(plan: JoinPlan, block: tuple[int, int]) -> None:
    """Write the pairs of the tracks of a block: its first track and its end."""
    with contextlib.suppress(TornFile):
        _read_found(plan.found(block))
        return
    first, end = plan.votes.first_votes(np.array(block))
    votes = []
    for piece in range(plan.new.pieces):
        for part in range(len(plan.new.parts_of(piece))):
            words = read_part(plan.voted(piece), part, bins=_BINS, mapped=True, checked=False)
            # the end of the last block need not fit a vote
            stop = len(words) if block[1] == plan.new.end else int(np.searchsorted(words, end))
            votes.append(np.array(words[int(np.searchsorted(words, first)) : stop]))
    pairs = plan.votes.counted(np.concatenate(votes), plan.settings.min_votes)
    del votes
    _write_found(plan.found(block), compared(plan, PrintStore(Path(plan.folder)), pairs))


def compared(plan: JoinPlan, store: PrintStore, pairs: Pairs) -> Found:
    """Those of some pairs whose fingerprints are near each other, and how many are not."""
    rates, offsets = _rates(store, pairs, plan.settings.max_bit_error_rate + _GLANCE_ERROR)
    kept = rates <= plan.settings.max_bit_error_rate
    near = Pairs(pairs.a[kept], pairs.b[kept], pairs.votes[kept], offsets[kept])
    return Found(near, rates[kept], int(np.count_nonzero(~kept)))


def _rates(store: PrintStore, pairs: Pairs, strangers: float) -> tuple[npt.NDArray[np.float64], Ints]:
    """Bit error rates of pairs over all their overlap, and the offsets nearby at which they are the lowest.

    The rate is 1 where the overlap is too short, or the pair has the rate of strangers at a glance.
    """
    prints = store.mapped()
    rates, offsets = np.ones(len(pairs.a)), pairs.offset_items.copy()
    for begin in range(0, len(rates), _CHECKED_AT_ONCE):
        part = slice(begin, begin + _CHECKED_AT_ONCE)
        glances = glanced(prints.items, prints.spans(pairs.a[part]), prints.spans(pairs.b[part]), offsets[part])
        for number in begin + np.flatnonzero(glances < strangers):
            first, second, offset = prints[pairs.a[number]], prints[pairs.b[number]], int(offsets[number])
            near = (match_at(first, second, offset + step) for step in (0, -1, 1))
            best = min(near, key=lambda match: match.bit_error_rate)
            if best.overlap_items >= least_overlap(first, second):
                rates[number], offsets[number] = best.bit_error_rate, best.offset_items
        prints.let_go()
    return rates, offsets


def _merge(folder: str, old: Sequence[Segment], whole: Segment, piece: int) -> None:
    """Write a piece of the index of two segments together."""
    for side in SIDES:
        if not is_whole(_index_path(Path(folder), whole, piece, side)):
            with index_writer(Path(folder), whole, piece, side) as add:
                for part in whole.parts_of(piece):
                    add(np.sort(np.concatenate([_old_part(Path(folder), one, part, side).words for one in old])))


def chunks_of(store: PrintStore, segment: Segment, most_items: int) -> list[tuple[int, int, int]]:
    """Tracks cut where a chunk has enough items or tracks: number, first, end."""
    chunks: list[tuple[int, int, int]] = []
    first = segment.first
    while first < segment.end:
        sums = np.cumsum(store.lengths[first : min(segment.end, first + _CHUNK_TRACKS)])
        stop = first + max(1, int(np.searchsorted(sums, most_items, side="right")))
        chunks.append((len(chunks), first, stop))
        first = stop
    return chunks


def _blocks(plan: JoinPlan, most_votes: int) -> list[tuple[int, int]]:
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


@contextlib.contextmanager
def index_writer(folder: Path, segment: Segment, piece: int, side: int) -> Iterator[Callable[[Words], None]]:
    """Write a piece of a segment's index; what it gives adds a part, each sorted and without crowds."""
    layout, crowds = PostingLayout(segment.parts), []
    with part_writer(_index_path(folder, segment, piece, side), 2 * len(segment.parts_of(piece))) as writer:

        def add(words: Words) -> None:
            writer.add(words)
            crowds.append(crowds_of(words, layout))

        yield add
        for one in crowds:
            writer.add(one)


def _size(segment: Segment) -> int:
    return segment.end - segment.first


def _index_path(folder: Path, segment: Segment, piece: int, side: int) -> Path:
    return folder / "index" / segment.name / f"{piece}.{side}"


def _write_found(path: Path, found: Found) -> None:
    with replacing(path) as file:
        np.savez(file, **asdict(found.pairs), bit_error_rates=found.bit_error_rates, strangers=found.strangers)


def _read_found(path: Path) -> Found:
    try:
        with np.load(path, allow_pickle=False) as file:
            pairs = Pairs(*(file[name] for name in ("a", "b", "votes", "offset_items")))
            return Found(pairs, file["bit_error_rates"], int(file["strangers"]))
    except (OSError, EOFError, ValueError, LookupError, TypeError, RuntimeError, zipfile.BadZipFile) as error:
        raise TornFile(path) from error


def gathered(found: Sequence[Found]) -> Found:
    """All pairs together, in the order of a and b."""
    columns = [
        np.concatenate([np.zeros(0, np.int64), *(getattr(one.pairs, name) for one in found)])
        for name in ("a", "b", "votes", "offset_items")
    ]
    rates = np.concatenate([np.zeros(0), *(one.bit_error_rates for one in found)])
    order = np.lexsort((columns[1], columns[0]))
    return Found(Pairs(*(column[order] for column in columns)), rates[order], sum(one.strangers for one in found))
