"""MUSDB18-HQ: `train` and `test`, a folder for each song, a WAV file for each stem.

    out/
      setup.yaml
      train/Artist - Title/{mixture,bass,drums,other,vocals}.wav
      test/...

`musdb.DB(out, is_wav=True)` reads it, and so does what reads MUSDB18-HQ by its folders. The validation songs lie
in `train`, as they do there; `setup.yaml` names them and the stems, so that
`musdb.DB(out, setup_file="setup.yaml", is_wav=True, subsets="train", split="valid")` gives them.

What is neither bass, drums nor vocals is `other`, so that the four always sum to the mixture. A corpus without any
bass or drums (a catalogue of mixtures and instrumentals) gives a layout without them, which `musdb` reads too; one
without vocals as well is refused, as `other` would be the mixture.

References
----------
Rafii, Liutkus, Stoeter, Mimilakis, Bittner: MUSDB18-HQ, an uncompressed version of MUSDB18 (2019),
doi:10.5281/zenodo.3338373. https://github.com/sigsep/sigsep-mus-db
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from manifests.corpus import MIXTURE, Corpus
from manifests.errors import RecipeError, did_you_mean
from manifests.exports.folder import new_folder, refuse_taken
from manifests.exports.groups import grouped, mixture_of, require_one_format, require_stems
from manifests.exports.placing import Placed
from manifests.exports.songs import (
    TEST,
    TRAIN,
    VALIDATION,
    Exported,
    Progress,
    Song,
    checked_songs,
    exported,
    place_song,
    require_audio,
    silent,
)
from manifests.files import replacing

STEMS = ("bass", "drums", "other", "vocals")
SETUP = "setup.yaml"

_SUBSETS = {None: "train", TRAIN: "train", VALIDATION: "train", TEST: "test"}
_STEM_IDS = {MIXTURE: 0, "drums": 1, "bass": 2, "other": 3, "vocals": 4}

_log = logging.getLogger(__name__)


def export(
    corpus: Corpus,
    out: Path,
    *,
    songs: Collection[str] | None = None,
    stems: Mapping[str, Sequence[str]] | None = None,
    silence: bool = False,
    sample_rate: int | None = None,
    audio: Literal["copy", "link"] = "copy",
    progress: Progress = silent,
) -> Exported:
    """Write a corpus as MUSDB18-HQ.

    Parameters
    ----------
    corpus : Corpus
        Songs of one channel count (MUSDB18's own are 44.1 kHz stereo). Songs of no split, and those of
        `validation`, go to `train`.
    out : Path
        A new or empty folder.
    songs : collection of str, optional
        Ids of the songs to export; all by default.
    stems : mapping of str to sequence of str, optional
        For each of `bass`, `drums`, `other`, `vocals` the stems of the corpus that add up to it. By default
        those of the same name, and to `other` all that remain.
    silence : bool
        Write silence for a stem that a song has not and other songs have, where False is an error. True is right
        only where nothing of the kind is played.
    sample_rate : int, optional
        Resample songs of other rates to this one, in Hz; without it, songs of several rates are an error.
    audio : {'copy', 'link'}
        What becomes of WAV files: copied, or hard-linked where the file system can. Others are encoded as WAV.
    progress : callable, optional
        Called with stage, songs done, songs in all, 0.

    Returns
    -------
    Exported
        Songs by `train` and `test`.

    Raises
    ------
    TableError
        When the corpus does not hold what its tables say, or a song does not fit the layout.
    AudioError
        When a file cannot be decoded.
    RecipeError
        When `stems` is not about stems of the layout and the corpus, is left out and no song has bass, drums or
        vocals, or `audio` or a split is not known.
    BuildError
        When `out` is not new or empty, or the disk refuses.
    """
    require_audio(audio, ("copy", "link"))
    refuse_taken(out)
    chosen = checked_songs(corpus, songs, progress)
    require_one_format(chosen, "MUSDB18", sample_rate)
    subsets = [_subset(song) for song in chosen]
    wanted = _groups(chosen, stems)
    groups = grouped(chosen, wanted)
    _refuse_left_out(chosen, wanted)
    if not silence:
        for song in chosen:
            require_stems(song, groups[song.song_id])
    placed: list[Placed] = []
    with new_folder(out) as folder:
        for subset in ("train", "test"):
            (folder / subset).mkdir()
        for done, (song, subset) in enumerate(zip(chosen, subsets, strict=True)):
            progress("export", done, len(chosen), 0)
            stems_of_song = {MIXTURE: mixture_of(song), **groups[song.song_id]}
            sounds = {folder / subset / song.name / stem: group for stem, group in stems_of_song.items()}
            placed += place_song(
                song, sounds, take={".wav"}, encode=".wav", link=audio == "link", sample_rate=sample_rate
            ).values()
        with replacing(folder / SETUP) as file:
            setup = _setup(chosen, list(wanted), sample_rate or chosen[0].sample_rate)
            file.write(yaml.safe_dump(setup, allow_unicode=True, sort_keys=False).encode())
    progress("export", len(chosen), len(chosen), 0)
    return exported(out, subsets, [file.how for file in placed])


def _subset(song: Song) -> str:
    if song.split not in _SUBSETS:
        raise RecipeError(
            f"song '{song.song_id}' is in split '{song.split}', and MUSDB18 has train, validation and test; "
            "leave it out, or assign the splits again"
        )
    return _SUBSETS[song.split]


def _groups(songs: Sequence[Song], stems: Mapping[str, Sequence[str]] | None) -> Mapping[str, Sequence[str]]:
    """Which stems of the corpus make which of the layout."""
    if stems is None:
        known = _stems_of(songs)
        rest = [stem for stem in known if stem not in STEMS or stem == "other"]
        groups = {stem: rest if stem == "other" else [stem] for stem in STEMS}
        groups = {stem: group for stem, group in groups.items() if set(group) & set(known)}
        if set(groups) == {"other"}:
            raise RecipeError(
                f"stems: no song has bass, drums or vocals (they have {', '.join(rest)}), and 'other' would be the "
                f"mixture itself; say which stems make which, such as '--stems.vocals {rest[0]}'"
            )
        if missing := set(STEMS) - set(groups):
            _log.warning("no song has %s: the layout goes without", " or ".join(sorted(missing)))
        return groups
    for stem in stems:
        if stem not in STEMS:
            raise RecipeError(f"stems: MUSDB18 has {', '.join(STEMS)}, not '{stem}'{did_you_mean(stem, STEMS)}")
    return stems


def _refuse_left_out(songs: Sequence[Song], stems: Mapping[str, Sequence[str]]) -> None:
    """All stems of the corpus must be in the layout, or their sum would not be the mixture."""
    parts = {part for group in stems.values() for part in group}
    if left := [stem for stem in _stems_of(songs) if stem not in parts]:
        raise RecipeError(
            f"stems: '{left[0]}' is in no group, and the mixture would not be the sum of its stems; add it to one"
        )


def _stems_of(songs: Sequence[Song]) -> list[str]:
    return list(dict.fromkeys(stem for song in songs for stem in song.sounds if stem != MIXTURE))


def _setup(songs: Sequence[Song], stems: Sequence[str], sample_rate: int) -> dict[str, Any]:
    """What `musdb` reads with `setup_file`."""
    accompaniment = {stem: 1 for stem in stems if stem != "vocals"}
    targets: dict[str, dict[str, int]] = {stem: {stem: 1} for stem in stems}
    targets["accompaniment"] = accompaniment
    targets["linear_mixture"] = dict.fromkeys(stems, 1)
    return {
        "sample_rate": float(sample_rate),
        "sources": {stem: f"{stem}.wav" for stem in stems},
        "mixture": f"{MIXTURE}.wav",
        "stem_ids": _STEM_IDS,
        "targets": targets,
        "validation_tracks": sorted(song.name for song in songs if song.split == VALIDATION),
    }
