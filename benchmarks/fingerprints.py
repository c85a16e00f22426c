"""Catalogues of fingerprints of any size, with planted pairs: what `benchmarks.scale` joins.

A million tracks cannot be had, but how their fingerprints are distributed can: this module draws what Chromaprint's
16 classifiers measure, with the statistics of real releases, and quantises it as Chromaprint does.

- **Tracks**: a stationary Gaussian process of 16 dimensions with the measured cross-spectra, around a mean of the
  track's own, as lively in each dimension as some measured track. A classifier's thresholds are quantiles of the
  normal distribution, so that its four levels come as often as they do in music.
- **Pairs**: the instrumental is the mixture's process plus what was measured to lie between an aligned mixture and
  its instrumental (another pair's, at random moments): voices that come and go, encoders, the grid of frames that
  never falls in the same places.
- **What is in every catalogue**: silence at the ends; held tones in 1 % of the tracks; one of five jingles of 10 s
  in 2 %.

    python -m benchmarks.fingerprints fit CATALOG...       measure a catalogue with known pairs (library/, truth/)
    python -m benchmarks.fingerprints compare CATALOG      how near the drawn ones come to it

`fingerprints.npz` beside this module holds what was measured, a few hundred kilobytes of statistics.
"""

from __future__ import annotations

import argparse
import csv
import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pool, get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.special

from builders.prints import Print
from curation.chromaprint import SILENCE, Fingerprint, PcmStream, fingerprint, log_ratios
from curation.joining import PostingLayout, VoteLayout, meetings, postings_of
from curation.matching import best_match
from manifests.audio import blocks, probe

Floats = npt.NDArray[np.float64]

STATISTICS = Path(__file__).with_name("fingerprints.npz")
CHUNK_TRACKS = 512

_CLASSIFIERS = 16
_SEGMENT = 128
_STEP = 1 / 24  # of the measured differences
_PIECE = 1024
_ITEM_S = 1365 / 11025
_SPECTRUM_ITEMS = 2560
_TONES, _JINGLES = 50, 5


@dataclass(frozen=True)
class Statistics:
    """What was measured.

    Attributes
    ----------
    levels : np.ndarray [shape=(3, 16)]
        Thresholds of the classifiers, as quantiles of the normal distribution.
    between : np.ndarray [shape=(16, 16)]
        Covariance of the tracks' means.
    spectra : np.ndarray of complex [shape=(65, 16, 16)]
        Cross-spectra within tracks of unit variance, at frequencies from 0 to half of the items' rate.
    scales : np.ndarray [shape=(tracks, 16)]
        Standard deviations within tracks.
    differences : np.ndarray of int8 [shape=(pairs, 1024, 16)]
        Instrumental minus mixture, in steps of 1/24.
    """

    levels: Floats
    between: Floats
    spectra: npt.NDArray[np.complex128]
    scales: Floats
    differences: npt.NDArray[np.int8]

    @classmethod
    @functools.cache
    def load(cls, path: Path = STATISTICS) -> Statistics:
        with np.load(path, allow_pickle=False) as file:
            return cls(*(file[name] for name in cls.__dataclass_fields__))

    @functools.cached_property
    def factors(self) -> npt.NDArray[np.complex64]:
        """Square roots of the cross-spectra, at the frequencies of a drawn track, shape ``(1281, 16, 16)``."""
        values, vectors = np.linalg.eigh(self.spectra)
        roots = vectors * np.sqrt(np.maximum(values, 0))[:, None, :] @ vectors.conj().transpose(0, 2, 1)
        at = np.linspace(0, len(roots) - 1, _SPECTRUM_ITEMS // 2 + 1)
        low = np.minimum(at.astype(int), len(roots) - 2)
        share = (at - low)[:, None, None]
        return ((1 - share) * roots[low] + share * roots[low + 1]).astype(np.complex64)


@dataclass(frozen=True)
class Catalogue:
    """A catalogue of drawn fingerprints.

    Attributes
    ----------
    num_tracks : int
    labelled : float
        Share of the tracks that are labelled instrumentals, each with its mixture among the rest.
    seed : int
    """

    num_tracks: int
    labelled: float = 0.05
    seed: int = 0

    def prints(self, first_chunk: int = 0, end_chunk: int | None = None, jobs: int = 2) -> Iterator[Print]:
        """All tracks, or those of some chunks, in an order that does not depend on `jobs`."""
        chunks = range(first_chunk, min(self.num_chunks, end_chunk or self.num_chunks))
        with get_context("spawn").Pool(jobs) as pool:
            for number, drawn in zip(chunks, pool.imap(self.chunk, chunks), strict=True):
                for one in drawn[: self.num_tracks - number * CHUNK_TRACKS]:
                    yield Print(*one)

    @property
    def num_chunks(self) -> int:
        """Chunks that the tracks are drawn in."""
        return -(-self.num_tracks // CHUNK_TRACKS)

    @property
    def num_instrumentals(self) -> int:
        """Labelled instrumentals in a chunk."""
        return round(CHUNK_TRACKS * self.labelled)

    def chunk(self, number: int) -> list[tuple[str, bool, Fingerprint]]:
        """Some tracks: id, whether it is labelled, fingerprint. Pairs lie in one chunk."""
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, number, 1)))
        statistics = Statistics.load()
        mixtures, order = self._plan(number)
        process = _process(statistics, CHUNK_TRACKS - len(mixtures), rng)
        seconds = np.clip(np.exp(rng.normal(np.log(210), 0.25, len(process))), 60, 298)
        lengths = (seconds / _ITEM_S).astype(int)
        tracks = []
        for one, length in zip(process, lengths, strict=True):
            tracks.append(_padded(_with_hot(_quantised(one[:length], statistics.levels), rng), rng))
        for mixture in mixtures.tolist():
            between = _difference(statistics.differences, int(lengths[mixture]), rng)
            items = _quantised(process[mixture][: lengths[mixture]] + between, statistics.levels)
            begin, end = rng.integers(0, 24, 2)
            tracks.append(_padded(items[begin : len(items) - end], rng))
        first = CHUNK_TRACKS - len(mixtures)
        return [(self.track_id(number, index), index >= first, tracks[index]) for index in order.tolist()]

    def track_id(self, chunk: int, index: int) -> str:
        """A content id."""
        return hashlib.blake2b(f"{self.seed} {chunk} {index}".encode(), digest_size=16).hexdigest()

    def pairs(self) -> set[tuple[str, str]]:
        """The planted pairs whose tracks are both in the catalogue, as sorted ids."""
        found = set()
        for number in range(self.num_chunks):
            mixtures, order = self._plan(number)
            there = set(order[: self.num_tracks - number * CHUNK_TRACKS].tolist())
            for instrumental, mixture in enumerate(mixtures.tolist(), CHUNK_TRACKS - len(mixtures)):
                if there.issuperset((mixture, instrumental)):
                    pair = self.track_id(number, mixture), self.track_id(number, instrumental)
                    found.add((min(pair), max(pair)))
        return found

    def _plan(self, number: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Of a chunk: the tracks that are mixtures of its instrumentals, and the order of its tracks."""
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, number, 0)))
        count = self.num_instrumentals
        return rng.permutation(CHUNK_TRACKS - count)[:count], rng.permutation(CHUNK_TRACKS)


def _process(statistics: Statistics, count: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """What the classifiers measure, shape ``(tracks, items, 16)``: a Gaussian process of the measured spectra."""
    shape = (len(statistics.factors), _CLASSIFIERS, count)
    noise = rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    spectra = statistics.factors @ noise
    series = scipy.fft.irfft(spectra, _SPECTRUM_ITEMS, axis=0) * np.float32(np.sqrt(_SPECTRUM_ITEMS / 2))
    means = rng.multivariate_normal(np.zeros(_CLASSIFIERS), statistics.between, count, method="eigh")
    scales = statistics.scales[rng.integers(len(statistics.scales), size=count)]
    tracks = series.transpose(2, 0, 1) * scales[:, None, :].astype(np.float32)
    return np.asarray(tracks + means[:, None, :].astype(np.float32))


def _quantised(process: npt.NDArray[np.floating], levels: Floats) -> Fingerprint:
    """Two bits of each classifier in Gray code, the first classifier's most significant."""
    items = np.zeros(len(process), np.uint32)
    for classifier in range(_CLASSIFIERS):
        level = np.sum(process[:, classifier] >= levels[:, classifier, None], axis=0, dtype=np.uint32)
        items = items << np.uint32(2) | (level ^ level >> np.uint32(1))
    return items


def _difference(measured: npt.NDArray[np.int8], length: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """What lies between a mixture and its instrumental: that of a measured pair, from a random moment on."""
    one = measured[rng.integers(len(measured))].astype(np.float32) * np.float32(_STEP * rng.choice((-1, 1)))
    return np.take(one, np.arange(length) + rng.integers(len(one)), axis=0, mode="wrap")


def _with_hot(items: Fingerprint, rng: np.random.Generator) -> Fingerprint:
    """A tone that is held in some tracks, and a jingle that many have."""
    chance = rng.random()
    if chance < 0.01:
        length = int(rng.integers(40, 400))
        tone = np.random.default_rng(int(rng.integers(_TONES))).integers(0, 1 << 32, 1, dtype=np.uint32)
        return np.insert(items, int(rng.integers(len(items))), np.repeat(tone, length))
    if chance < 0.03:
        jingle = np.random.default_rng(_TONES + int(rng.integers(_JINGLES))).integers(
            0, 1 << 32, 80, dtype=np.uint32
        )
        return np.insert(items, int(rng.integers(len(items))), jingle)
    return items


def _padded(items: Fingerprint, rng: np.random.Generator) -> Fingerprint:
    """Silence before and after."""
    before, after = rng.integers(0, 17, 2)
    return np.concatenate([np.full(before, SILENCE, np.uint32), items, np.full(after, SILENCE, np.uint32)])


@dataclass(frozen=True)
class _Release:
    items: Fingerprint
    ratios: Floats


def _measured(path: Path) -> _Release:
    stream = PcmStream(probe(path).sample_rate)
    pcm = np.concatenate([*(stream.add(block) for block in blocks(path)), stream.finish()])
    return _Release(fingerprint(pcm), log_ratios(pcm).T)


def _rows(catalog: Path, table: str) -> list[dict[str, str]]:
    with (catalog / "truth" / f"{table}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _true_pairs(catalog: Path) -> list[tuple[str, str]]:
    """Paths of mixtures and their instrumentals."""
    kinds = {"mix", "mix_remaster", "mix_master_real"}
    rows = [row for row in _rows(catalog, "pairs") if row["true_pair"] == "1"]
    return [(row["mix_path"], row["inst_path"]) for row in rows if row["relation"].split("/")[0] in kinds]


def fit(catalogs: list[Path]) -> Statistics:
    """Measure catalogues whose pairs are known."""
    releases: dict[Path, _Release] = {}
    for catalog in catalogs:
        paths = [catalog / row["path"] for row in _rows(catalog, "releases")]
        with Pool(2) as pool:
            releases |= dict(zip(paths, pool.imap(_measured, paths), strict=True))
    heard = np.concatenate([one.ratios[one.items != SILENCE] for one in releases.values()])
    ordered = np.sort(heard, axis=0)

    def scores(ratios: Floats) -> Floats:
        """Normal scores: the quantiles that the values have among all."""
        ranks = np.stack([np.searchsorted(ordered[:, c], ratios[:, c]) for c in range(_CLASSIFIERS)], axis=1)
        return np.asarray(scipy.special.ndtri((ranks + 0.5) / (len(ordered) + 1)))

    drawn = {path: scores(one.ratios[one.items != SILENCE]) for path, one in releases.items()}
    means = np.stack([one.mean(axis=0) for one in drawn.values()])
    scales = np.stack([one.std(axis=0) for one in drawn.values()])
    differences = []
    for catalog in catalogs:
        for mixture, instrumental in _true_pairs(catalog):
            first, second = releases[catalog / mixture], releases[catalog / instrumental]
            match = best_match(first.items, second.items)
            if match is not None:
                begin = max(0, -match.offset_items)
                end = min(len(first.items), len(second.items) - match.offset_items, begin + _PIECE)
                if end - begin == _PIECE:
                    there = second.ratios[begin + match.offset_items : end + match.offset_items]
                    difference = (scores(there) - scores(first.ratios[begin:end])) / _STEP
                    differences.append(np.clip(np.rint(difference), -127, 127).astype(np.int8))
    return Statistics(
        levels=np.stack(
            [scipy.special.ndtri(_level_shares(releases.values(), c)) for c in range(_CLASSIFIERS)], axis=1
        ),
        between=np.cov(means.T),
        spectra=_cross_spectra([(one - one.mean(axis=0)) / one.std(axis=0) for one in drawn.values()]),
        scales=scales,
        differences=np.stack(differences),
    )


def _level_shares(releases: Iterator[_Release], classifier: int) -> Floats:
    """How many of all items lie below each of a classifier's thresholds."""
    shift = np.uint32(2 * (_CLASSIFIERS - 1 - classifier))
    counts = np.zeros(4)
    for one in releases:
        code = one.items[one.items != SILENCE] >> shift & np.uint32(3)
        counts += np.bincount(np.array([0, 1, 3, 2])[code], minlength=4)  # out of the Gray code
    return np.clip(np.cumsum(counts)[:3] / counts.sum(), 1e-6, 1 - 1e-6)


def _cross_spectra(tracks: list[Floats]) -> npt.NDArray[np.complex128]:
    """Welch's estimate over all tracks: Hann windows, half overlapping."""
    window = np.hanning(_SEGMENT + 1)[:-1, None]
    total = np.zeros((_SEGMENT // 2 + 1, _CLASSIFIERS, _CLASSIFIERS), np.complex128)
    count = 0
    for track in tracks:
        for start in range(0, len(track) - _SEGMENT + 1, _SEGMENT // 2):
            spectrum = np.fft.rfft(track[start : start + _SEGMENT] * window, axis=0)
            total += spectrum[:, :, None] * spectrum[:, None, :].conj()
            count += 1
    return total / (count * np.sum(window**2))


def compare(catalog: Path) -> None:
    """Print what a join depends on, measured in a catalogue and in one that is drawn."""
    releases = _rows(catalog, "releases")
    first = {row["composition_id"]: row["path"] for row in reversed(releases)}
    prints = {row["path"]: _measured(catalog / row["path"]).items for row in releases}
    pairs = [(prints[one], prints[other]) for one, other in _true_pairs(catalog)]
    _report("measured", [prints[path] for path in first.values()], pairs)
    drawn = Catalogue(CHUNK_TRACKS, labelled=0.2, seed=7)
    tracks = {track_id: items for track_id, _, items in drawn.chunk(0)}
    true = sorted(drawn.pairs())
    strangers = [items for track_id, items in tracks.items() if track_id not in {other for _, other in true}]
    _report("drawn", strangers, [(tracks[one], tracks[other]) for one, other in true])


def _report(name: str, strangers: list[Fingerprint], pairs: list[tuple[Fingerprint, Fingerprint]]) -> None:
    layout = PostingLayout.of(len(strangers))
    lengths = np.array([len(items) for items in strangers])
    words = postings_of(np.concatenate(strangers), lengths, 0, layout).words
    met = sum(len(one) for one, _ in meetings(words, None, layout))
    counts = np.bincount(layout.tracks(words)).astype(float)
    possible = (counts.sum() ** 2 - (counts**2).sum()) / 2
    print(f"{name}: {len(strangers)} strangers, {len(words) / lengths.sum():.3f} postings an item; ", end="")
    print(f"two unrelated moments have one key: {met / possible:.2g}")
    rates, votes = [], []
    for one, other in pairs:
        match = best_match(one, other)
        rates.append(1.0 if match is None else match.bit_error_rate)
        votes.append(_votes(one, other))
    shares = (0, 2, 5, 10, 25, 50, 75)
    print(f"  {len(pairs)} pairs; percentiles {shares}")
    print("  bit error rate (100 - percentile):", np.percentile(rates, [100 - share for share in shares]).round(3))
    print("  votes:", np.percentile(votes, shares).round(1))


def _votes(one: Fingerprint, other: Fingerprint) -> int:
    layout = PostingLayout.of(2)
    words = postings_of(np.concatenate([one, other]), np.array([len(one), len(other)]), 0, layout).words
    votes = VoteLayout.of(2, max(len(one), len(other)))
    packed = [votes.pack(*met, layout) for met in meetings(words, None, layout)]
    pairs = votes.counted(np.concatenate([np.zeros(0, np.uint64), *packed]), 1)
    return int(pairs.votes.max(initial=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["fit", "compare"])
    parser.add_argument("catalogs", nargs="+", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "fit":
        found = fit(arguments.catalogs)
        np.savez_compressed(STATISTICS, **{name: getattr(found, name) for name in Statistics.__dataclass_fields__})
        print(f"{STATISTICS}: {len(found.differences)} pairs, {STATISTICS.stat().st_size / 1e3:.0f} kB")
    else:
        compare(arguments.catalogs[0])


if __name__ == "__main__":
    main()
