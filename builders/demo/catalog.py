"""A small music catalogue that nobody owns: synthesised songs, releases and traps, and the truth about them.

`write_demo_catalog` composes and sings songs, releases each as a mixture and an instrumental the way a
catalogue would hold them (other lead-in, gain, polarity, sample rate, codec, clock and label), adds files
that must not become pairs, and writes down what is true: alignment, gain and the vocals as they are heard in
the mixture file.

Conventions are those of the whole project. In ``library/`` lies what a user would have; paths in the truth's
tables are POSIX and relative to it. For a pair, with t in frames at the mixture's sample rate and the
instrumental resampled to that rate::

    mixture(t) = vocals(t) + scale * instrumental(lag_frames + t * (1 + drift_ppm * 1e-6)),
    scale = polarity * 10 ** (gain_db / 20)

All positions are those of the files as soundfile decodes them: the delay and the gain of every lossy codec
are measured after encoding and contained in the numbers. (Opus also has a high pass at 3 Hz, whose phase
advances low notes: by 0.15 frames at 350 Hz, by 0.003 at 3 kHz. That is no delay, and not in the numbers.)
Everything follows from the seed, to the byte.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import soundfile

from builders.demo.performance import perform
from builders.demo.releases import CODECS, Release, Written, encode, write_release, write_vocals
from builders.demo.score import compose
from builders.demo.sheets import COVER_ALBUM, COVER_ARTIST, COVER_STYLE, COVER_VOICE, SHEETS, Sheet
from builders.demo.tags import write_tags
from manifests.errors import BuildError, RecipeError

_Value = TypeVar("_Value")

_CODEC_DECK = (
    "flac", "flac", "mp3-192", "vorbis-high", "wav", "flac",
    "mp3-320", "opus", "wav24", "flac", "mp3-112", "vorbis",
)  # fmt: skip
_LABELS = (
    ("{title} (Instrumental)", "{album} (Instrumentals)"),
    ("{title} [Off Vocal]", "{title} - Single"),
    ("{title} - Karaoke Version", "Sing Along, Vol. 3"),
    ("{title} (Instrumental Version)", "{album} (Deluxe Edition)"),
    ("{title}", "{album} (Instrumentals)"),
    ("{title} (Versión Instrumental)", "{title} - Single"),
    ("{title} - Inst.", "{title} - EP"),
    ("{title} (Minus One)", "{title} - Single"),
    ("{title} (Version instrumentale)", "{title} - EP"),
    ("{title} (Backing Track)", "{album} (Bonus)"),
)
# (sign, release whose clock is off: 0 the mixture, 1 the instrumental)
_DRIFT_DECK = ((0, 0), (1, 1), (0, 0), (-1, 1), (0, 0), (1, 0), (0, 0), (-1, 1))
# (rate of the mixture, rate of the instrumental)
_RATE_DECK = ((44100, 44100), (44100, 48000), (48000, 44100), (44100, 44100), (48000, 48000))
_JAPANESE_LABEL = ("{title} (オフボーカル)", "{title} - Single")
_UNTAGGED = (3, 7)
_LEAST_SONGS = 4


@dataclass(frozen=True, eq=False)
class DemoTruth:
    """What is true about a demo catalogue.

    Attributes
    ----------
    folder : Path
        Holds ``library/`` (the catalogue) and ``truth/``.
    pairs : pd.DataFrame
        One row per true pair: title, artist, genre, mixture_path, instrumental_path (relative to the
        library), vocals_path (relative to ``truth/``; as long as, aligned with and scaled as the mixture
        file), sample_rate (of the mixture), lag_frames, drift_ppm, polarity, gain_db, mixture_codec,
        instrumental_codec, mixture_delay_frames and instrumental_delay_frames (of the codecs; contained in
        lag_frames), tagged.
    decoys : pd.DataFrame
        One row per file that must not become a pair: kind ('no_instrumental', 'no_mixture', 'cover',
        'duplicate', 'reencoded', 'corrupt', 'mislabelled'), path, of_path (the file it resembles, or null),
        detail.
    """

    folder: Path
    pairs: pd.DataFrame
    decoys: pd.DataFrame

    @property
    def library(self) -> Path:
        """The catalogue, as a user would have it."""
        return self.folder / "library"

    @property
    def truth(self) -> Path:
        """The tables and the vocals."""
        return self.folder / "truth"

    @classmethod
    def open(cls, folder: Path) -> DemoTruth:
        """Read the truth of a catalogue that `write_demo_catalog` has finished."""
        tables = [folder / "truth" / f"{name}.parquet" for name in ("pairs", "decoys")]
        for table in tables:
            if not table.exists():
                raise BuildError(f"{table}: not found, so the demo catalogue is not complete; write it again")
        return cls(folder, pd.read_parquet(tables[0]), pd.read_parquet(tables[1]))


def write_demo_catalog(
    folder: Path,
    seed: int = 0,
    songs: int = 14,
    seconds: float = 45.0,
    progress: Callable[[int, int], None] | None = None,
) -> DemoTruth:
    """Write a demo catalogue to ``folder/library`` and the truth about it to ``folder/truth``.

    The last three songs are decoys (a mixture alone, an instrumental alone, a mixture labelled as an
    instrumental), the others are true pairs; a cover, two duplicates and a corrupt file come on top. A
    finished catalogue of the same settings is left as it is, an unfinished one is written again.

    Parameters
    ----------
    folder : Path
        Created where it does not exist.
    seed : int
        Decides everything; the same seed gives the same bytes.
    songs : int
        Number of compositions, 4 or more; beyond the sheets at hand, songs are varied.
    seconds : float
        Approximate length of a song, 4 or more; a song has four bars at least.
    progress : callable, optional
        Called with (songs done, songs to do) after every song.

    Returns
    -------
    DemoTruth

    Raises
    ------
    RecipeError
        If `songs` or `seconds` is too small.
    BuildError
        If `folder` holds something else already.
    """
    if songs < _LEAST_SONGS:
        raise RecipeError(f"songs: {songs} is too few; three songs are decoys, so ask for {_LEAST_SONGS} or more")
    if seconds < 4.0:
        raise RecipeError(f"seconds: {seconds} is too short for a song of four bars; ask for 4 or more")
    truth = DemoTruth(folder, pd.DataFrame(), pd.DataFrame())
    if _claimed(truth, {"version": 1, "seed": seed, "songs": songs, "seconds": seconds}):
        return DemoTruth.open(folder)
    sheets = [_sheet(seed, index) for index in range(songs)]
    count = songs - 3
    mixtures, instrumentals = _planned(seed, sheets, count)
    pairs: list[dict[str, object]] = []
    decoys: list[dict[str, object]] = []
    for index, sheet in enumerate(sheets):
        score = compose(_rng(seed, index, 0), sheet, seconds)
        instrumental, vocals = perform(_rng(seed, index, 1), score, sheet)
        mixture = instrumental + vocals
        if index < count:
            written = write_release(truth.library, mixtures[index], mixture)
            behind = write_release(truth.library, instrumentals[index], instrumental)
            name = f"vocals/{index:03d}.wav"
            write_vocals(truth.truth / name, written, vocals)
            pairs.append(_pair(sheet, name, written, behind))
        elif index == count:
            write_release(truth.library, mixtures[index], mixture)
            decoys.append(
                _decoy("no_instrumental", mixtures[index].path, None, "a mixture without an instrumental")
            )
        elif index == count + 1:
            write_release(truth.library, instrumentals[index], instrumental)
            decoys.append(
                _decoy("no_mixture", instrumentals[index].path, None, "an instrumental without a mixture")
            )
        else:
            write_release(truth.library, mixtures[index], mixture)
            write_release(truth.library, instrumentals[index], mixture)
            detail = "labelled as an instrumental, but it is the mixture"
            decoys.append(_decoy("mislabelled", instrumentals[index].path, mixtures[index].path, detail))
        if progress is not None:
            progress(index + 1, songs)
    decoys += _extras(truth.library, seed, sheets[0], mixtures[:count], seconds)
    _write_table(truth.truth / "decoys.parquet", pd.DataFrame(decoys))
    _write_table(truth.truth / "pairs.parquet", pd.DataFrame(pairs))
    return DemoTruth.open(folder)


def _rng(*key: int) -> np.random.Generator:
    """Generator of one purpose, independent of all others."""
    return np.random.default_rng(np.random.SeedSequence(key))


def _claimed(truth: DemoTruth, settings: dict[str, object]) -> bool:
    """Take possession of the folder; True if a catalogue of the same settings is complete there."""
    marker = truth.truth / "demo.json"
    if marker.exists():
        found = json.loads(marker.read_text(encoding="utf-8"))
        if found != settings:
            raise BuildError(
                f"{truth.folder}: holds a demo catalogue of {found}, not {settings}; choose another folder"
            )
        return (truth.truth / "pairs.parquet").exists()
    for part in (truth.library, truth.truth):
        if part.exists() and any(part.iterdir()):
            raise BuildError(f"{part}: is not empty and holds no demo catalogue; choose another folder")
    (truth.truth / "vocals").mkdir(parents=True, exist_ok=True)
    truth.library.mkdir(exist_ok=True)
    marker.write_text(json.dumps(settings), encoding="utf-8")
    return False


def _sheet(seed: int, index: int) -> Sheet:
    """The sheet of a song; past the last, an earlier sheet with another name, key and tempo."""
    sheet = SHEETS[index % len(SHEETS)]
    part = index // len(SHEETS) + 1
    if part == 1:
        return sheet
    rng = _rng(seed, index, 2)
    return replace(
        sheet,
        title=f"{sheet.title}, Pt. {part}",
        album=f"{sheet.album} {part}",
        tempo=sheet.tempo * rng.uniform(0.9, 1.1),
        tonic=sheet.tonic + int(rng.integers(-4, 5)),
    )


def _dealt(rng: np.random.Generator, deck: Sequence[_Value], count: int) -> list[_Value]:
    """So many cards from a shuffled deck, reshuffled when it is used up: every card comes, none too often."""
    cards: list[_Value] = []
    while len(cards) < count:
        cards += [deck[place] for place in rng.permutation(len(deck))]
    return cards[:count]


def _planned(seed: int, sheets: Sequence[Sheet], pairs: int) -> tuple[list[Release], list[Release]]:
    """Draw how every song is released: mixtures and instrumentals, in the order of the songs."""
    rng = _rng(seed, 1 << 20)
    number = len(sheets)
    labels = _dealt(rng, _LABELS, number)
    deal = functools.partial(_dealt, rng)
    plans: list[list[Release]] = [[], []]
    # A clock is off in half of the pairs, and then in one of the two releases only.
    drifts = [(sign * rng.uniform(5.0, 40.0), side) for sign, side in deal(_DRIFT_DECK, number)]
    rates = deal(_RATE_DECK, number)
    for which, plan in enumerate(plans):
        codecs = deal(_CODEC_DECK, number)
        polarities = deal((1, 1, -1) if which else (1, 1, 1, 1, 1, -1), number)
        for index, sheet in enumerate(sheets):
            untagged = index in _UNTAGGED and index < pairs
            label = ("{title}", "{album}")
            if which:
                label = labels[index] if sheet.title.isascii() else _JAPANESE_LABEL
            title, album = (text.format(title=sheet.title, album=sheet.album) for text in label)
            rate = 48000 if codecs[index] == "opus" else rates[index][which]
            isrc = f"QZDM{sheet.year % 100:02d}{10 * index + which:05d}"
            name = f"{sheet.artist}/{album}/{index % 12 + 1:02d} - {title}"
            if untagged:
                name = f"unsorted/audio {int(rng.integers(1000)):03d}{which}{index:02d}"
            drift, side = drifts[index]
            plan.append(
                Release(
                    path=_file_name(name) + CODECS[codecs[index]][0],
                    tags={}
                    if untagged
                    else _tags(sheet, title, album, index % 12 + 1, isrc if index % 3 else None),
                    codec=codecs[index],
                    sample_rate=rate,
                    lead_frames=int(rng.uniform(0.0, 1.5) * rate),
                    tail_frames=int(rng.uniform(0.0, 0.4) * rate),
                    drift_ppm=round(drift, 3) if side == which else 0.0,
                    polarity=polarities[index],
                    gain_db=round(float(rng.uniform(-6.0, 6.0)), 3),
                )
            )
    return plans[0], plans[1]


def _file_name(name: str) -> str:
    """A path that every file system takes."""
    return "".join("_" if letter in '<>:"\\|?*' else letter for letter in name)


def _tags(sheet: Sheet, title: str, album: str, number: int, isrc: str | None) -> dict[str, str]:
    """Tags of a release, by the names of Vorbis comments."""
    tags = {
        "title": title,
        "artist": sheet.artist,
        "album": album,
        "genre": sheet.genre,
        "date": str(sheet.year),
        "tracknumber": str(number),
    }
    return tags | ({"isrc": isrc} if isrc else {})


def _pair(sheet: Sheet, vocals_path: str, mixture: Written, instrumental: Written) -> dict[str, object]:
    """One row of the truth about pairs."""
    above, below = mixture.release, instrumental.release
    drift = (1 + below.drift_ppm * 1e-6) / (1 + above.drift_ppm * 1e-6)
    ratio = above.sample_rate / below.sample_rate
    start = (below.lead_frames + instrumental.delay_frames) * ratio
    return {
        "title": sheet.title,
        "artist": sheet.artist,
        "genre": sheet.genre,
        "mixture_path": above.path,
        "instrumental_path": below.path,
        "vocals_path": vocals_path,
        "sample_rate": above.sample_rate,
        "lag_frames": start - (above.lead_frames + mixture.delay_frames) * drift,
        "drift_ppm": (drift - 1) * 1e6,
        "polarity": above.polarity * below.polarity,
        "gain_db": mixture.gain_db - instrumental.gain_db,
        "mixture_codec": above.codec,
        "instrumental_codec": below.codec,
        "mixture_delay_frames": mixture.delay_frames,
        "instrumental_delay_frames": instrumental.delay_frames,
        "tagged": bool(above.tags),
    }


def _decoy(kind: str, path: str, of_path: str | None, detail: str) -> dict[str, object]:
    """One row of the truth about decoys."""
    return {"kind": kind, "path": path, "of_path": of_path, "detail": detail}


def _extras(
    library: Path, seed: int, original: Sheet, mixtures: Sequence[Release], seconds: float
) -> list[dict[str, object]]:
    """Write the decoys that are not songs of their own: a cover, two duplicates, a corrupt file."""
    rng = _rng(seed, (1 << 20) + 1)
    # The same composition by others: slower, three semitones up.
    sheet = replace(
        original,
        artist=COVER_ARTIST,
        album=COVER_ALBUM,
        tempo=0.9 * original.tempo,
        tonic=original.tonic + 3,
        style=COVER_STYLE,
        voice=COVER_VOICE,
    )
    score = compose(_rng(seed, 0, 0), original, seconds)
    cover = Release(
        path=_file_name(f"{sheet.artist}/{sheet.album}/05 - {sheet.title}.flac"),
        tags=_tags(sheet, sheet.title, sheet.album, 5, "QZDM2290005"),
        codec="flac",
        sample_rate=44100,
        lead_frames=int(rng.uniform(0.0, 1.5) * 44100),
        tail_frames=0,
        drift_ppm=0.0,
        polarity=1,
        gain_db=0.0,
    )
    instrumental, vocals = perform(_rng(seed, 0, 3), score, sheet)
    write_release(library, cover, instrumental + vocals)
    rows = [_decoy("cover", cover.path, mixtures[0].path, "the same composition in another key, tempo and band")]

    source = mixtures[min(1, len(mixtures) - 1)].path
    copy = f"Various Artists/Discovered, Vol. 1/{Path(source).name}"
    (library / copy).parent.mkdir(parents=True, exist_ok=True)
    (library / copy).write_bytes((library / source).read_bytes())
    rows.append(_decoy("duplicate", copy, source, "the same bytes"))

    release = mixtures[min(2, len(mixtures) - 1)]
    codec = "vorbis" if release.codec.startswith(("flac", "wav", "mp3")) else "mp3-192"
    again = f"Various Artists/Discovered, Vol. 2/{Path(release.path).stem}{CODECS[codec][0]}"
    decoded, rate = soundfile.read(library / release.path, dtype="float32", always_2d=True)
    (library / again).parent.mkdir(parents=True, exist_ok=True)
    encode(library / again, decoded.T, rate, codec)
    write_tags(library / again, release.tags)
    rows.append(_decoy("reencoded", again, release.path, f"decoded and encoded again as {codec}"))

    broken = f"{sheet.artist}/{sheet.album}/06 - Torn Page.flac"
    data = (library / cover.path).read_bytes()
    head = 4096
    (library / broken).write_bytes(data[:head] + rng.bytes(min(len(data) // 4, 200_000)))
    rows.append(_decoy("corrupt", broken, None, "a good header, then noise instead of frames"))
    return rows


def _write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a table under another name and rename it, so that its existence means that it is whole."""
    partial = path.with_suffix(".partial")
    frame.to_parquet(partial, index=False)
    os.replace(partial, path)
