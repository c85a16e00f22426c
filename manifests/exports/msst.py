"""The dataset types of ZFTurbo's Music-Source-Separation-Training (`--dataset_type`).

    type 1, 4   out/train/<song>/{mixture,<stem>,...}.{wav,flac}     4: stems are drawn from the same position
    type 2      out/train/<stem>/<song>.{wav,flac}
    type 3      out/train.csv: columns instrum,path                  with absolute paths, as its code reads them
    all         out/<split>/<song>/{mixture,<stem>,...}.wav          validation, test: --valid_path out/validation

Songs of no split are in `train`. Give `out/train` (type 3: `out/train.csv`) as `--data_path`, and the stems as
`training.instruments` in the config. The trainer draws each instrument from any song folder and takes all files for
one sample rate, so that all songs must have every stem (types 1 and 4), one rate and one channel count. It
looks for validation files with one suffix, WAV by default, so that those are WAV throughout.

References
----------
https://github.com/ZFTurbo/Music-Source-Separation-Training, docs/dataset_types.md and utils/dataset.py
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

from manifests.corpus import MIXTURE, Corpus
from manifests.errors import RecipeError
from manifests.exports.folder import new_folder, refuse_taken
from manifests.exports.groups import grouped, mixture_of, require_one_format, require_stems
from manifests.exports.mixing import Sound
from manifests.exports.names import file_name, unique_names
from manifests.exports.placing import Placed
from manifests.exports.songs import (
    TRAIN,
    AudioUse,
    Exported,
    Progress,
    Song,
    checked_songs,
    exported,
    lasting_path,
    place_song,
    require_audio,
    silent,
)
from manifests.files import replacing


def export(
    corpus: Corpus,
    out: Path,
    dataset_type: Literal[1, 2, 3, 4],
    *,
    songs: Collection[str] | None = None,
    stems: Mapping[str, Sequence[str]] | None = None,
    silence: bool = False,
    sample_rate: int | None = None,
    audio: AudioUse = "copy",
    progress: Progress = silent,
) -> Exported:
    """Write a corpus for Music-Source-Separation-Training.

    Parameters
    ----------
    corpus : Corpus
        Songs of one channel count.
    out : Path
        A new or empty folder.
    dataset_type : {1, 2, 3, 4}
        The layout of the training songs; the other splits are as type 1, which is what validation reads.
    songs : collection of str, optional
        Ids of the songs to export; all by default.
    stems : mapping of str to sequence of str, optional
        Each instrument, and the stems of the corpus that add up to it; by default every stem by its own name.
    silence : bool
        Write silence for a stem that a song has not, where a song folder must have it and False is an error.
        True is right only where nothing of the kind is played.
    sample_rate : int, optional
        Resample songs of other rates to this one, in Hz; without it, songs of several rates are an error.
    audio : {'copy', 'link', 'refer'}
        What becomes of WAV and FLAC files: copied, hard-linked where the file system can, or (type 3 only) left
        where they are, with `train.csv` referring to them. Others are encoded as WAV.
    progress : callable, optional
        Called with stage, songs done, songs in all, 0.

    Returns
    -------
    Exported
        Songs by split.

    Raises
    ------
    TableError
        When the corpus does not hold what its tables say, or a song does not fit the layout.
    AudioError
        When a file cannot be decoded.
    RecipeError
        When `dataset_type`, `stems` or `audio` is not possible.
    BuildError
        When `out` is not new or empty, or the disk refuses.
    """
    if dataset_type not in (1, 2, 3, 4):
        raise RecipeError(f"dataset_type {dataset_type!r} is not written; use 1, 2, 3 or 4")
    require_audio(audio)
    if audio == "refer" and dataset_type != 3:
        raise RecipeError(f"audio 'refer' needs dataset_type 3, not {dataset_type}; use 'copy' or 'link'")
    refuse_taken(out)
    chosen = checked_songs(corpus, songs, progress)
    require_one_format(chosen, "Music-Source-Separation-Training", sample_rate)
    if stems is None:
        stems = {stem: [stem] for song in chosen for stem in song.sounds if stem != MIXTURE}
    groups = grouped(chosen, stems)
    for stem, name in unique_names({stem: stem for stem in (MIXTURE, *stems)}).items():
        if name != stem:
            raise RecipeError(
                f"stems: '{stem}' cannot be a file's name beside the others; export it under another (stems=...)"
            )
    splits = [file_name(song.split or TRAIN) for song in chosen]
    are_folders = [split != TRAIN or dataset_type in (1, 4) for split in splits]
    for song, is_folder in zip(chosen, are_folders, strict=True):
        if is_folder and not silence:
            require_stems(song, groups[song.song_id])
    placed: list[Placed] = []
    index: list[tuple[str, str]] = []
    with new_folder(out) as folder:
        for done, (song, split, is_folder) in enumerate(zip(chosen, splits, are_folders, strict=True)):
            progress("export", done, len(chosen), 0)
            sounds = groups[song.song_id]
            if is_folder:
                targets = {stem: folder / split / song.name / stem for stem in (MIXTURE, *sounds)}
                files = _place(song, targets, {MIXTURE: mixture_of(song), **sounds}, split, audio, sample_rate)
            else:
                sounds = {stem: group for stem, group in sounds.items() if group}
                targets = {stem: folder / split / stem / song.name for stem in sounds}
                files = _place(song, targets, sounds, split, audio, sample_rate)
                index += [(stem, lasting_path(file.path, folder, out)) for stem, file in files.items()]
            placed += files.values()
        if dataset_type == 3:
            _write_index(folder / f"{TRAIN}.csv", index)
    progress("export", len(chosen), len(chosen), 0)
    return exported(out, splits, [file.how for file in placed])


def _place(
    song: Song,
    targets: Mapping[str, Path],
    sounds: Mapping[str, Sequence[Sound]],
    split: str,
    audio: AudioUse,
    sample_rate: int | None,
) -> dict[str, Placed]:
    """The files of a song by stem, those that are only referred to where they are."""
    take = {".wav", ".flac"} if split == TRAIN else {".wav"}
    found = {}
    if audio == "refer" and split == TRAIN and sample_rate in (None, song.sample_rate):
        whole = {stem: group[0].path for stem, group in sounds.items() if len(group) == 1}
        found = {stem: Placed(path, "referred") for stem, path in whole.items() if path.suffix.lower() in take}
    rest = {targets[stem]: group for stem, group in sounds.items() if stem not in found}
    placed = place_song(song, rest, take=take, encode=".wav", link=audio == "link", sample_rate=sample_rate)
    return found | {stem: placed[target] for stem, target in targets.items() if target in placed}


def _write_index(path: Path, index: Sequence[tuple[str, str]]) -> None:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["instrum", "path"])
    rows.writerows(index)
    with replacing(path) as file:
        file.write(text.getvalue().encode("utf-8", "surrogateescape"))
