"""A song found in somebody's folder, taken into a corpus: checked, hard-linked or copied, described.

A song whose mixture is the sum of its stems is taken as it is, byte for byte. Files are encoded (FLAC) where that
is not possible: a mixture that is missing is made, a stem of several files is their sum, a mono stem of a stereo
song is put on both channels, surround sound becomes stereo and other rates one where that is asked for, and where
something passes full scale, one gain (`gain_db`) brings all of the song within it. The song's id is its mixture's
content id, or that of its stems together where the mixture is made, with what is taken of each file if not all is.
A sound that is alone in its song (`Options.alone`) is taken as it is, whatever its peak, and has no mixture; its
content id is the song's. Levels are not measured here: their columns are null.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from manifests.audio import AUDIO_SUFFIXES, content_id, probe
from manifests.corpus import CORPUS_ROOT, MIXTURE
from manifests.downmix import LAYOUTS, Surround, split_speaker
from manifests.errors import AudioError
from manifests.exports.mixing import CEILING, Shape, Sound, resampled_frames, side_by_side
from manifests.exports.placing import Placed, place

TOLERANCE = 9.9e-5
"""Largest difference between a mixture and the sum of its stems, in parts of full scale: MUSDB18-HQ's five files of
16 bit differ by up to 2.5 steps, 7.6e-5. A check allows 1e-4: room for the rounding of what is encoded."""

_FLAC_MAX_CHANNELS = 8
_LATE_S = 0.1  # that a part may end after its file: people round
_OF_THE_SONG = ("artist", "genre", "split", "language", "tags", "transcript")

Ids: TypeAlias = Mapping[str, tuple[str, ...]]
"""Stem to the content ids of its files."""


@dataclass(frozen=True)
class FoundSong:
    """A song as it lies in a folder.

    Attributes
    ----------
    path : str
        Its folder, or its only file, relative to where the search began.
    stems : mapping of str to tuple of Path
        Stem to the files that add up to it; `mixture` is there when there is a file of it.
    artist, title, genre, split, license, language, tags, transcript : str or None
        As far as known.
    spans : mapping of (str, Path) to tuple of (float, float)
        By stem and file, the parts of the file that belong to the stem, in seconds, by their start; they may touch
        or overlap. All of it where there is no entry.
    """

    path: str
    stems: Mapping[str, tuple[Path, ...]]
    artist: str | None = None
    title: str | None = None
    genre: str | None = None
    split: str | None = None
    license: str | None = None
    language: str | None = None
    tags: str | None = None
    transcript: str | None = None
    spans: Mapping[tuple[str, Path], tuple[tuple[float, float], ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class NoSong:
    """Why something that was found cannot be taken: reason and detail for the rejected table."""

    path: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Options:
    """How songs are taken.

    Attributes
    ----------
    license : str or None
        Of all songs that have none of their own.
    link : bool
        Hard-link files, where the file system can, instead of copying them.
    pad : bool
        Let silence follow files that are shorter than the longest of their song, instead of refusing the song.
    make_mixture : bool
        Make every mixture of the stems, instead of checking and taking those that are there.
    alone : bool
        Every song is one file, its only stem: take it as it is, and make no mixture.
    sample_rate : int or None
        Resample what has another rate.
    surround : Surround or None
        Songs with a file that has more than two channels, or with a file for each loudspeaker, become stereo: all
        of their files.
    """

    license: str | None = None
    link: bool = False
    pad: bool = False
    make_mixture: bool = False
    alone: bool = False
    sample_rate: int | None = None
    surround: Surround | None = None


@dataclass(frozen=True)
class TakenSong:
    """A song in a corpus: its rows of the stems table, a mixture first, and its row of the tracks table."""

    stems: list[dict[str, Any]]
    track: dict[str, Any]


def content_ids(song: FoundSong, options: Options) -> dict[str, tuple[str, ...]]:
    """The content ids of a song's files, those of a mixture that is made anew left out.

    Parameters
    ----------
    song : FoundSong
    options : Options

    Returns
    -------
    dict of str to tuple of str
        By stem.

    Raises
    ------
    AudioError
        When a file cannot be read.
    """
    return {stem: tuple(content_id(path) for path in paths) for stem, paths in _wanted(song, options).items()}


def song_id_of(song: FoundSong, ids: Ids) -> str:
    """A song's id: the content id of its mixture or its only file, or else one made of its stems.

    Parameters
    ----------
    song : FoundSong
    ids : mapping of str to tuple of str
        From `content_ids`.

    Returns
    -------
    str
        32 hexadecimal digits. Names of files do not matter, nor the order of the files of a stem. Where only parts
        of files are taken, these matter.
    """
    if not song.spans:
        if MIXTURE in ids:
            return ids[MIXTURE][0]
        every = [found for group in ids.values() for found in group]
        if len(every) == 1:
            return every[0]
    of_stem = {
        stem: [
            f"{found}{_joined(song.spans[stem, path]) if (stem, path) in song.spans else ''}"
            for found, path in zip(ids[stem], song.stems[stem], strict=True)
        ]
        for stem in ids
    }
    lines = "".join(f"{stem} {' '.join(sorted(of_stem[stem]))}\n" for stem in sorted(ids))
    return hashlib.blake2b(lines.encode(), digest_size=16).hexdigest()


def take_song(song: FoundSong, ids: Ids, home: Path, options: Options) -> TakenSong | NoSong:
    """Put a song's files into a corpus, under `audio/<song_id>`.

    Parameters
    ----------
    song : FoundSong
    ids : mapping of str to tuple of str
        From `content_ids`.
    home : Path
        The corpus's folder.
    options : Options

    Returns
    -------
    TakenSong or NoSong
        The song's rows; or why its files are no song.

    Raises
    ------
    AudioError
        When a file cannot be decoded, or has changed since it was hashed.
    BuildError
        When the disk refuses.
    """
    stems = _wanted(song, options)
    names = sorted(stems.keys() - {MIXTURE})
    if not options.alone and (not names or (len(names) == 1 and MIXTURE not in stems)):
        detail = f"only {', '.join(stems) or 'nothing'}: a song is a mixture and its stems, or two stems and more"
        return NoSong(song.path, "no stems", detail)
    sounds = {
        stem: tuple(
            Sound(path, probe(path), spans=_joined(song.spans.get((stem, path), ())) or None)
            for path in stems[stem]
        )
        for stem in (*names, *(stems.keys() - names))
    }
    if (outside := _span_problem(song, sounds)) is not None:
        return NoSong(song.path, "segments", outside)
    every = [sound for group in sounds.values() for sound in group]
    if options.surround is not None:
        unknown = [sound for sound in every if options.surround.speakers(sound.info.channels) is None]
        if unknown:
            detail = f"{unknown[0].path.name} has {unknown[0].info.channels}, which no layout of loudspeakers has"
            return NoSong(song.path, "channels", detail)
        sounds = _in_stereo(sounds, options.surround)
        every = [sound for group in sounds.values() for sound in group]
    problem = _shape_problem(sounds, options)
    if problem is not None:
        return NoSong(song.path, *problem)
    rate = options.sample_rate or every[0].info.sample_rate
    shape = Shape(
        max(resampled_frames(sound.info.num_frames, sound.info.sample_rate, rate) for sound in every),
        max(sound.channels for sound in every),
        rate,
    )
    peak, widest, frame = _decoded(sounds, shape)
    if widest > TOLERANCE:
        detail = (
            f"differs from the sum of {', '.join(names)} by {widest:.4g} of full scale at frame {frame} (at most "
            f"{TOLERANCE:g}); add what is missing, or ask for make_mixture where the stems are right and complete"
        )
        return NoSong(song.path, "mixture is not the sum", detail)
    is_as_found = all(sound.is_target(shape, AUDIO_SUFFIXES) for sound in every)
    gain = 1.0 if peak <= 1 or (options.alone and is_as_found) else CEILING / peak
    if not options.alone:
        sounds.setdefault(MIXTURE, tuple(sound for group in sounds.values() for sound in group))
    origins = {MIXTURE: tuple(each for group in ids.values() for each in group), **ids}
    folder = home / "audio" / song_id_of(song, ids)
    placed = place(
        {folder / stem: sounds[stem] for stem in (MIXTURE, *names) if stem in sounds},
        shape,
        take=AUDIO_SUFFIXES,
        encode=".flac" if shape.channels <= _FLAC_MAX_CHANNELS else ".wav",
        link=options.link,
        gain=gain,
    )
    rows: list[dict[str, Any]] = []
    for target, file in placed.items():
        row: dict[str, Any] = {
            "song_id": folder.name,
            "stem": target.name,
            "root": CORPUS_ROOT,
            "path": file.path.relative_to(home).as_posix(),
            **asdict(shape),
            "provenance": "recorded",
            **_origin(file, sounds[target.name], origins[target.name], options),
            "license": song.license or options.license,
            "audit": "unheard",
            "gain_db": 20 * math.log10(gain),
            "content_id": content_id(file.path),
        }
        if file.how != "encoded" and row["content_id"] != origins[target.name][0]:
            raise AudioError(f"{sounds[target.name][0].path}: changed while it was read; import it again")
        rows.append({**row, **{key: getattr(song, key) for key in _OF_THE_SONG}})
    return TakenSong(rows, _track(song, rows[0], probe(home / rows[0]["path"]).codec))


def _wanted(song: FoundSong, options: Options) -> dict[str, tuple[Path, ...]]:
    return {stem: paths for stem, paths in song.stems.items() if stem != MIXTURE or not options.make_mixture}


def _joined(spans: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """In order and apart."""
    joined: list[tuple[float, float]] = []
    for start_s, end_s in sorted(spans):
        if joined and start_s <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end_s))
        else:
            joined.append((start_s, end_s))
    return tuple(joined)


def _span_problem(song: FoundSong, sounds: Mapping[str, Sequence[Sound]]) -> str | None:
    """A part that its file does not have; None if there is none."""
    for stem, group in sounds.items():
        for sound in group:
            length_s = sound.info.num_frames / sound.info.sample_rate
            for start_s, end_s in song.spans.get((stem, sound.path), ()):
                if start_s >= length_s or length_s + _LATE_S < end_s < math.inf:
                    end = "its end" if math.isinf(end_s) else f"{end_s:.10g} s"
                    return (
                        f"{sound.path}: {stem} is from {start_s:.10g} s to {end}, and the file is {length_s:.3f} s "
                        "long; correct the table"
                    )
    return None


def _in_stereo(sounds: Mapping[str, tuple[Sound, ...]], surround: Surround) -> dict[str, tuple[Sound, ...]]:
    """A song's files with what becomes of their channels; as they are where nothing is surround sound."""
    placed = []
    for stem, group in sounds.items():
        files = Counter(file_stem(sound.path, by_speaker=True) for sound in group)
        for sound in group:
            speakers = surround.speakers(sound.info.channels)
            assert speakers is not None, "checked before"
            is_apart = len(speakers) == 1 and files[file_stem(sound.path, by_speaker=True)] > 1
            named = split_speaker(sound.path.stem)[1] if is_apart else None
            placed.append((stem, sound, speakers if named is None else (named,)))
    if all(speakers in (LAYOUTS["mono"], LAYOUTS["stereo"]) for _, _, speakers in placed):
        return dict(sounds)
    matrices = surround.matrices([speakers for _, _, speakers in placed])
    found: dict[str, tuple[Sound, ...]] = dict.fromkeys(sounds, ())
    for (stem, sound, _), matrix in zip(placed, matrices, strict=True):
        found[stem] += (replace(sound, matrix=matrix),)
    return found


def _shape_problem(sounds: Mapping[str, Sequence[Sound]], options: Options) -> tuple[str, str] | None:
    """Why the files cannot be one song by length, channels or rate; None if they can."""
    every = [(stem, sound) for stem, group in sounds.items() for sound in group]
    if len({sound.info.sample_rate for _, sound in every}) > 1 and options.sample_rate is None:
        found = ", ".join(f"{stem} {sound.info.sample_rate}" for stem, sound in every)
        return "sample rates differ", f"{found} Hz; ask for one sample_rate"
    rate = options.sample_rate or every[0][1].info.sample_rate
    lengths = {resampled_frames(sound.info.num_frames, sound.info.sample_rate, rate) for _, sound in every}
    if len(lengths) > 1 and not options.pad:
        found = ", ".join(f"{stem} {sound.info.num_frames}" for stem, sound in every)
        return "lengths differ", f"{found} frames; if all start together, ask for pad"
    if len({sound.channels for _, sound in every} - {1}) > 1:
        found = ", ".join(f"{stem} {sound.channels}" for stem, sound in every)
        return "channels differ", f"{found}; bring them to one layout, or ask for a downmix"
    return None


def _decoded(sounds: Mapping[str, Sequence[Sound]], shape: Shape) -> tuple[float, float, int]:
    """Decode all of a song: its highest peak, and the mixture's largest difference from the sum, with its frame."""
    peak, widest, widest_frame, start = 0.0, 0.0, 0, 0
    for chunks in side_by_side(sounds, shape):
        mixture = chunks.pop(MIXTURE, None)
        total = np.sum([*chunks.values()], axis=0, dtype=np.float64)
        if mixture is not None:
            difference = np.abs(mixture - total).max(axis=0)
            if difference.max() > widest:
                widest, widest_frame = float(difference.max()), start + int(difference.argmax())
        heard = (total if mixture is None else mixture, *chunks.values())
        peak = max(peak, *(float(np.abs(chunk).max()) for chunk in heard))
        start += total.shape[1]
    return peak, widest, widest_frame


def _origin(file: Placed, sounds: Sequence[Sound], ids: Sequence[str], options: Options) -> dict[str, str | None]:
    """How a file was made and of what; nothing for one that is as it was found."""
    if file.how != "encoded":
        return {"method": None, "parents": None}
    method = "sum" if len(ids) > 1 else "re-encoded"
    if any(sound.spans is not None for sound in sounds):
        method = "segments"
    if options.surround is not None and any(sound.matrix is not None for sound in sounds):
        method = f"downmix {options.surround.downmix}"
    return {"method": method, "parents": ";".join(dict.fromkeys(ids))}


def _track(song: FoundSong, mixture: Mapping[str, Any], codec: str) -> dict[str, Any]:
    shared = ("root", "path", "num_frames", "sample_rate", "channels", "artist", "genre", "license")
    return {
        "track_id": mixture["song_id"],
        "codec": codec,
        "title": song.title,
        "song_title": song.title,
        "version": "original",
        **{key: mixture[key] for key in shared},
    }


def require_songs_folder(folder: Path) -> None:
    """Refuse what is no folder.

    Raises
    ------
    AudioError
        Naming it.
    """
    if not folder.is_dir():
        raise AudioError(f"{folder}: is no folder; give the one that holds the songs' folders")


def folders_below(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """A folder and all below it, sorted, with the names of their files; links are followed, each place once.

    Parameters
    ----------
    folder : Path
        Hidden files and folders below it are left out.

    Yields
    ------
    place : Path
    names : list of str
        Sorted.
    """
    seen = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(here)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(here), sorted(name for name in names if not name.startswith("."))


def stem_name(text: str) -> str:
    """A file's or folder's name as the name of a stem: lower case, letters, digits and `_`.

    Examples
    --------
    >>> stem_name("Lead Vocals")
    'lead_vocals'
    """
    return re.sub(r"\W+", "_", unicodedata.normalize("NFC", text).casefold()).strip("_") or "unnamed"


def file_stem(path: Path, by_speaker: bool) -> str:
    """The stem that a file is named after; `by_speaker`, without the loudspeaker's name at the end of its own."""
    return stem_name(plain_text(split_speaker(path.stem)[0] if by_speaker else path.stem))


def artist_and_title(name: str) -> tuple[str | None, str]:
    """The parts of `Artist - Title`, composed (NFC); a name without ` - ` is a title."""
    name = unicodedata.normalize("NFC", name)
    artist, dash, title = name.partition(" - ")
    return (artist, title) if dash and artist and title else (None, name)


def plain_text(name: str) -> str:
    """A name from the file system as text that a table can hold, with escapes for bytes that are not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
