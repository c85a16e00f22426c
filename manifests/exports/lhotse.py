"""lhotse: recordings and cuts as JSON lines, for `lhotse.load_manifest` and samplers.

    out/
      stemloom_recordings_<split>.jsonl.gz    a Recording for each file, "<song_id>_<stem>"
      stemloom_cuts_<split>.jsonl.gz          a cut for each song (or clip, where a split has any)
      audio/<song>/<stem>.<suffix>            where audio is copied or linked

A cut's recording is the mixture, and its stems are custom recordings by their names, which lhotse slices with the
cut: `cut.load_audio()`, `cut.load_vocals()`, `cut.truncate(duration=6).load_vocals()`. What is known about a song
(`cut.title`, `cut.artist` ...; `cut.custom["split"]`, since `cut.split` is a method) and about a clip
(`cut.voiced_fraction`, `cut.rms_vocals` ...) is custom too. A song without a mixture has a cut for each stem.
Songs of no split are in `train`. Paths are absolute. The names are those that
`lhotse.recipes.utils.read_manifests_if_cached(parts, out, prefix="stemloom", types=["recordings", "cuts"])` finds.

References
----------
https://lhotse.readthedocs.io/en/latest/cuts.html (version 1.33)
"""

from __future__ import annotations

import gzip
import io
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from manifests.corpus import MIXTURE, Corpus
from manifests.errors import RecipeError, TableError
from manifests.exports.folder import new_folder, refuse_taken
from manifests.exports.groups import refuse_stems_named
from manifests.exports.names import file_name
from manifests.exports.songs import (
    FACTS,
    TRAIN,
    AudioUse,
    Exported,
    Progress,
    Song,
    checked_songs,
    exported,
    lasting_path,
    require_audio,
    shared_audio,
    silent,
)
from manifests.files import replacing
from manifests.tables import read_table

PREFIX = "stemloom"


def export(
    corpus: Corpus,
    out: Path,
    *,
    songs: Collection[str] | None = None,
    cuts: Literal["songs", "clips"] = "songs",
    audio: AudioUse = "copy",
    progress: Progress = silent,
) -> Exported:
    """Write a corpus as lhotse manifests.

    Parameters
    ----------
    corpus : Corpus
    out : Path
        A new or empty folder.
    songs : collection of str, optional
        Ids of the songs to export; all by default.
    cuts : {'songs', 'clips'}
        Whether a cut is a whole song or a row of the clips table.
    audio : {'copy', 'link', 'refer'}
        Copy the files as they are, hard-link them where the file system can, or refer to where they are.
    progress : callable, optional
        Called with stage, songs done, songs in all, 0.

    Returns
    -------
    Exported
        Songs by split.

    Raises
    ------
    TableError
        When the corpus does not hold what its tables say, or a clip leaves its song.
    AudioError
        When a file cannot be decoded.
    RecipeError
        When `cuts` or `audio` is not known.
    BuildError
        When `out` is not new or empty, or the disk refuses.
    """
    if cuts not in ("songs", "clips"):
        raise RecipeError(f"cuts '{cuts}' are not known; use 'songs' or 'clips'")
    require_audio(audio)
    refuse_taken(out)
    chosen = checked_songs(corpus, songs, progress)
    refuse_stems_named(chosen, ("song_id", *FACTS), "lhotse cuts")
    clips = _clips(corpus) if cuts == "clips" else None
    by_split: dict[str, list[Song]] = {}
    for song in chosen:
        by_split.setdefault(file_name(song.split or TRAIN), []).append(song)
    with new_folder(out) as folder:
        files = shared_audio(chosen, folder, audio, progress)
        for split, members in by_split.items():
            recordings = {
                song.song_id: {
                    stem: _recording(song, stem, lasting_path(file.path, folder, out))
                    for stem, file in files[song.song_id].items()
                }
                for song in members
            }
            _write_lines(
                folder / f"{PREFIX}_recordings_{split}.jsonl.gz",
                (recording for stems in recordings.values() for recording in stems.values()),
            )
            # lhotse takes an empty manifest for none at all
            if clips is None or any(song.song_id in clips for song in members):
                _write_lines(
                    folder / f"{PREFIX}_cuts_{split}.jsonl.gz",
                    (cut for song in members for cut in _cuts(song, recordings[song.song_id], clips)),
                )
    hows = [file.how for stems in files.values() for file in stems.values()]
    splits = [split for split, members in by_split.items() for _ in members]
    return exported(out, splits, hows)


@dataclass(frozen=True)
class _Clip:
    clip_id: str
    start_frame: int
    num_frames: int
    measures: Mapping[str, float]


def _clips(corpus: Corpus) -> dict[str, list[_Clip]]:
    """Song id to its clips."""
    clips: dict[str, list[_Clip]] = {}
    frame = read_table(corpus.folder, "clips")
    keys = [key for key in frame.columns if key == "voiced_fraction" or key.startswith("rms_")]
    for row in frame.to_dict("records"):
        measures = {key: float(row[key]) for key in keys if not math.isnan(row[key])}
        clip = _Clip(row["clip_id"], int(row["start_frame"]), int(row["num_frames"]), measures)
        clips.setdefault(row["song_id"], []).append(clip)
    return clips


def _recording(song: Song, stem: str, path: str) -> dict[str, Any]:
    channels = list(range(song.channels))
    return {
        "id": f"{song.song_id}_{stem}",
        "sources": [{"type": "file", "channels": channels, "source": path}],
        "sampling_rate": song.sample_rate,
        "num_samples": song.num_frames,
        "duration": song.num_frames / song.sample_rate,
        "channel_ids": channels,
    }


def _cuts(
    song: Song, recordings: Mapping[str, dict[str, Any]], clips: Mapping[str, Sequence[_Clip]] | None
) -> Iterator[dict[str, Any]]:
    known = {key: value for key, value in song.facts.items() if value is not None}
    whole = _Clip(song.song_id, 0, song.num_frames, {})
    for clip in [whole] if clips is None else clips.get(song.song_id, []):
        end = clip.start_frame + clip.num_frames
        if end > song.num_frames:
            raise TableError(
                f"clips: clip '{clip.clip_id}' ends at frame {end}, and song '{song.song_id}' at "
                f"{song.num_frames}; cut the clips again"
            )
        facts = {**known, **clip.measures}
        if MIXTURE in recordings:
            stems = {stem: recording for stem, recording in recordings.items() if stem != MIXTURE}
            made = [(clip.clip_id, recordings[MIXTURE], {**facts, **stems})]
        else:
            made = [(f"{clip.clip_id}_{stem}", recording, facts) for stem, recording in recordings.items()]
        for cut_id, recording, custom in made:
            yield {
                "id": cut_id,
                "start": clip.start_frame / song.sample_rate,
                "duration": clip.num_frames / song.sample_rate,
                "channel": recording["channel_ids"] if song.channels > 1 else 0,
                "supervisions": [],
                "recording": recording,
                "custom": {"song_id": song.song_id, **custom},
                "type": "MultiCut" if song.channels > 1 else "MonoCut",
            }


def _write_lines(path: Path, items: Iterable[Mapping[str, Any]]) -> None:
    # No time and no name in the header: the same songs give the same bytes.
    with replacing(path) as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        text = io.TextIOWrapper(packed, encoding="utf-8", newline="\n")
        for item in items:
            text.write(json.dumps(item, ensure_ascii=False, allow_nan=False) + "\n")
        text.flush()
        text.detach()
