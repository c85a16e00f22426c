"""Hugging Face: Parquet files that hold the audio, for `datasets.load_dataset` and the Hub.

    out/
      README.md                                   the dataset card, which names the splits' files
      data/<split>-00000-of-00003.parquet

    dataset = datasets.load_dataset("out")
    audio, rate = soundfile.read(io.BytesIO(dataset["train"][0]["vocals"]["bytes"]))

A row is a song: what is known about it, and a column for each stem, whose cells hold the bytes of a file as it is
and its name, null where the song has no such stem. The columns are declared as `Audio(decode=False)`, so that
loading needs no decoder; `dataset.cast_column("vocals", datasets.Audio())` decodes. Songs of no split are in
`train`. Each row is a row group, so that writing and reading take the memory of one song.

References
----------
https://huggingface.co/docs/datasets/audio_dataset and https://huggingface.co/docs/hub/datasets-manual-configuration
(datasets 5.2)
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import yaml

from manifests.corpus import Corpus
from manifests.errors import AudioError, RecipeError
from manifests.exports.folder import new_folder, refuse_taken
from manifests.exports.groups import refuse_stems_named
from manifests.exports.mixing import Sound
from manifests.exports.songs import FACTS, TRAIN, Exported, Progress, Song, checked_songs, exported, silent
from manifests.files import replacing

_SHARD_BYTES = 500_000_000
_MAX_FILE_BYTES = (1 << 31) - 1  # Arrow counts the bytes of a binary cell in 32 bits
_AUDIO = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
_FIELDS = {"song_id": "string"}
_FIELDS |= {fact: "float64" if fact == "weight" else "string" for fact in FACTS if fact != "split"}
_FIELDS |= {"num_frames": "int64", "sample_rate": "int64", "channels": "int64"}


def export(
    corpus: Corpus,
    out: Path,
    *,
    songs: Collection[str] | None = None,
    shard_bytes: int = _SHARD_BYTES,
    progress: Progress = silent,
) -> Exported:
    """Write a corpus as Parquet files with the audio in them.

    Parameters
    ----------
    corpus : Corpus
    out : Path
        A new or empty folder.
    songs : collection of str, optional
        Ids of the songs to export; all by default.
    shard_bytes : int
        A Parquet file takes songs until it holds this much audio, and one song at least.
    progress : callable, optional
        Called with stage, songs done, songs in all, 0.

    Returns
    -------
    Exported
        Songs by split.

    Raises
    ------
    TableError
        When the corpus does not hold what its tables say.
    AudioError
        When a file cannot be decoded.
    RecipeError
        When a stem is named like another column, or a file is larger than 2 GiB.
    BuildError
        When `out` is not new or empty, or the disk refuses.
    """
    refuse_taken(out)
    chosen = checked_songs(corpus, songs, progress)
    refuse_stems_named(chosen, _FIELDS, "the dataset")
    stems = list(dict.fromkeys(stem for song in chosen for stem in song.sounds))
    schema = _schema(stems)
    by_split: dict[str, list[Song]] = {}
    for song in chosen:
        by_split.setdefault(re.sub(r"\W", "_", song.split or TRAIN), []).append(song)
    done = 0
    with new_folder(out) as folder:
        for split, members in by_split.items():
            shards = _shards(members, shard_bytes)
            for number, shard in enumerate(shards):
                path = folder / "data" / f"{split}-{number:05}-of-{len(shards):05}.parquet"
                with (
                    replacing(path) as file,
                    pyarrow.parquet.ParquetWriter(file, schema, **_storage(stems)) as writer,
                ):
                    for song in shard:
                        progress("export", done, len(chosen), 0)
                        writer.write_table(pyarrow.Table.from_pylist([_row(song)], schema))
                        done += 1
        with replacing(folder / "README.md") as file:
            file.write(_card(by_split, stems).encode())
    progress("export", len(chosen), len(chosen), 0)
    splits = [split for split, members in by_split.items() for _ in members]
    return exported(out, splits, ["copied" for song in chosen for _ in song.sounds])


def _schema(stems: Sequence[str]) -> pyarrow.Schema:
    """Types for Parquet, and for `datasets` the features that they stand for."""
    types = {"string": pyarrow.string(), "int64": pyarrow.int64(), "float64": pyarrow.float64()}
    fields = [(name, types[kind]) for name, kind in _FIELDS.items()] + [(stem, _AUDIO) for stem in stems]
    features: dict[str, dict[str, Any]] = {
        name: {"dtype": kind, "_type": "Value"} for name, kind in _FIELDS.items()
    }
    features |= {stem: {"decode": False, "_type": "Audio"} for stem in stems}
    return pyarrow.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _storage(stems: Sequence[str]) -> dict[str, Any]:
    """How columns are stored: compressed audio does not get smaller, nor is its minimum of use."""
    compression = dict.fromkeys(_FIELDS, "zstd") | {f"{stem}.path": "zstd" for stem in stems}
    return {
        "compression": compression | {f"{stem}.bytes": "none" for stem in stems},
        "use_dictionary": False,
        "write_statistics": list(_FIELDS),
    }


def _shards(songs: Sequence[Song], shard_bytes: int) -> list[list[Song]]:
    shards: list[list[Song]] = []
    size = 0
    for song in songs:
        num_bytes = sum(_size(sound) for sound in song.sounds.values())
        if not shards or size + num_bytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(song)
        size += num_bytes
    return shards


def _size(sound: Sound) -> int:
    size = sound.path.stat().st_size
    if size > _MAX_FILE_BYTES:
        raise RecipeError(
            f"{sound.path}: has {size} bytes, and a cell of the dataset holds {_MAX_FILE_BYTES}; "
            "leave the song out, or use another layout"
        )
    return size


def _row(song: Song) -> dict[str, Any]:
    shape = {"num_frames": song.num_frames, "sample_rate": song.sample_rate, "channels": song.channels}
    facts = {key: value for key, value in song.facts.items() if key in _FIELDS}
    return {"song_id": song.song_id, **facts, **shape, **{s: _cell(song, s) for s in song.sounds}}


def _cell(song: Song, stem: str) -> dict[str, Any]:
    path = song.sounds[stem].path
    try:
        return {"bytes": path.read_bytes(), "path": f"{song.name}_{stem}{path.suffix.lower()}"}
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror}); check the disk it is on") from error


def _card(by_split: dict[str, list[Song]], stems: Sequence[str]) -> str:
    """The dataset card: YAML for the Hub, Markdown for people."""
    files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in by_split]
    head = {"task_categories": ["audio-to-audio"], "configs": [{"config_name": "default", "data_files": files}]}
    lines = [
        f"- `{split}`: {len(members)} songs, {sum(s.num_frames / s.sample_rate for s in members) / 3600:.2f} h"
        for split, members in by_split.items()
    ]
    return "\n".join(
        [
            "---",
            yaml.safe_dump(head, sort_keys=False).rstrip(),
            "---",
            "",
            "# Stems for audio source separation",
            "",
            *lines,
            "",
            f"A row is a song; {', '.join(f'`{stem}`' for stem in stems)} hold an audio file each, undecoded.",
            "",
            "```python",
            "import io, datasets, soundfile",
            'row = datasets.load_dataset("PATH")["' + next(iter(by_split)) + '"][0]',
            f'audio, sample_rate = soundfile.read(io.BytesIO(row["{stems[0]}"]["bytes"]))',
            "```",
            "",
        ]
    )
