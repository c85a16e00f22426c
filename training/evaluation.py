"""Measuring separators on a corpus: every song taken apart and compared with its stems, beside others and oracles.

    evaluation = evaluate(separator, Corpus.open(Path("test-set")), Path("evaluation"))
    evaluation.summary

A folder comes out:

    evaluation.json    what was measured and how, the summary, the excerpts; written last
    songs.parquet      a row for each method, song and target: what is known of the song, and its scores
    clips.parquet      the same for each clip, if asked for
    sweep.parquet      SDR by the mixture's loudness, if asked for
    excerpts/          seconds of the best, middle and worst songs: mixture, references, estimates of each separator
    scores/            what is known of each song and method: an evaluation that was stopped goes on from here

Conventions
-----------
Audio is measured at the corpus' own rate and channels: a separator of others is wrapped in
`separators.resampling.Resampled`.

The summary is over songs, and over clips if there are any; its target `mean` is the mean of the targets of a song
or clip that have a value. Over clips, the mean of that target's `sdr_db` is the figure of the challenges.

Memory does not grow with a song where all that works on it reads blocks: mixture, references and estimates lie in
temporary files in the folder. Oracles, BSSEval and the 2f-model hold the whole song.

References
----------
- S. Uhlich et al., "The Sound Demixing Challenge 2023 - Cinematic Demixing Track", TISMIR 7(1), 2024: the SDR, and
  how it depends on the input's loudness.
- M. Strauss et al., "A Hands-on Comparison of DNNs for Dialog Separation Using Transfer Learning from Music Source
  Separation", Interspeech 2021: means and spreads beside the input's and an oracle's.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from manifests.audio import content_id
from manifests.corpus import Corpus
from manifests.errors import RecipeError
from separators.separator import Separator
from training.excerpts import chosen_songs, write_excerpt
from training.measurement import EvaluationSettings, Method, Rows, clips_of, estimated, measured, order_of
from training.metrics import summarise
from training.oracles import ORACLES
from training.perceptual import PeaqBackend
from training.records import TableFormat, frame_of_rows, read_json, save_table, write_json
from training.scores import SCORES
from training.songs import opened, songs_of
from training.targets import target_stems

__all__ = ["MEAN", "Evaluation", "EvaluationSettings", "Progress", "evaluate"]

MEAN = "mean"
"""The target that is the mean of a song's targets."""

# Raised by whoever changes what a song's scores are.
_VERSION = 1

Progress: TypeAlias = Callable[[str, int, int, int], None]
"""Called with the stage's name, items done, items in all, and 0."""


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What came out.

    Attributes
    ----------
    folder : Path
    songs, clips, sweep : pd.DataFrame
        As in the folder's files; without rows where they were not asked for.
    summary : pd.DataFrame
        A row for each ``per`` ('song' or 'clip'), method, target and score: count, silent, infinite, median, mean,
        std (`training.metrics.Summary`).
    """

    folder: Path
    songs: pd.DataFrame
    clips: pd.DataFrame
    sweep: pd.DataFrame
    summary: pd.DataFrame


def evaluate(
    separator: Separator,
    corpus: Corpus,
    out: Path,
    settings: EvaluationSettings | None = None,
    *,
    beside: Sequence[Separator] = (),
    names: Sequence[str] | None = None,
    peaq: PeaqBackend | None = None,
    table_format: TableFormat = "parquet",
    progress: Progress = lambda stage, done, total, rejected: None,
) -> Evaluation:
    """Measure a separator on a corpus.

    Parameters
    ----------
    separator : Separator
        Its sources are the targets.
    corpus : Corpus
    out : Path
        A folder, new or of an earlier evaluation. What it knows of the same songs, methods and settings is not
        computed again; its tables are replaced.
    settings : EvaluationSettings, optional
    beside : sequence of Separator
        Baselines and others to compare with. They need all targets, under these names or names of the same thing.
    names : sequence of str, optional
        What tables and page call the separator and those beside it; their own names by default.
    peaq : PeaqBackend, optional
        Also the 2f-model.
    table_format : {'parquet', 'csv'}
    progress : callable, optional

    Returns
    -------
    Evaluation

    Raises
    ------
    RecipeError
        There are no such songs, two methods have one name, a separator lacks a name or a target, or a setting is
        impossible.
    TableError
        A song lacks a stem, or its stems do not fit together.
    AudioError
        A file cannot be read, or a separator gives what cannot be measured: a song that cannot be measured is never
        left out.
    BuildError
        The disk refuses.
    """
    settings = settings or EvaluationSettings()
    chosen = songs_of(corpus, settings.split)[: settings.limit]
    methods = _methods((separator, *beside), names, settings)
    titles = _titles(corpus)
    stems = {song_id: target_stems(separator.sources, corpus, song_id, settings.targets) for song_id in chosen}
    for method in methods:
        order_of(method, tuple(stems[chosen[0]]))
    rows: dict[str, Rows] = {"songs": [], "clips": [], "sweep": []}
    keys: dict[str, list[str]] = {}
    for done, song_id in enumerate(chosen):
        progress("measure", done, len(chosen), 0)
        work = [
            _key(method, corpus, song_id, stems[song_id], settings, peaq.name if peaq else None)
            for method in methods
        ]
        known = [_known(out, key) for key in work]
        if None in known:
            with opened(corpus, song_id, stems[song_id], out) as song:
                for number, method in enumerate(methods):
                    if known[number] is None:
                        known[number] = found = measured(method, song, corpus, settings, peaq)
                        write_json(_scores_path(out, work[number]), found)
        facts = _facts(corpus, song_id, titles)
        for method, found_before in zip(methods, known, strict=True):
            for table, listed in (found_before or {}).items():
                rows[table] += [{"method": method.name, **facts, **row} for row in listed]
        keys[song_id] = work
    progress("measure", len(chosen), len(chosen), 0)
    tables = {name: frame_of_rows(listed, SCORES) for name, listed in rows.items()}
    # what is there from an earlier evaluation is not finished from here on
    (out / "evaluation.json").unlink(missing_ok=True)
    for name, frame in tables.items():
        save_table(out, name, frame, table_format)
    summary = _summary(tables)
    record = {
        "version": _VERSION,
        "separator": {
            "name": methods[0].name,
            **{name: getattr(separator, name) for name in ("identity", "sample_rate", "channels")},
            "sources": list(separator.sources),
        },
        "methods": [
            {"name": method.name, "identity": method.identity, "is_oracle": method.is_oracle} for method in methods
        ],
        "corpus": str(corpus.folder),
        "songs": len(chosen),
        "targets": list(stems[chosen[0]]),
        "settings": {**dataclasses.asdict(settings), "peaq": peaq.name if peaq else None},
        "summary": summary.to_dict("records"),
        "excerpts": _excerpts(methods, corpus, stems, keys, tables["songs"], out, settings, progress),
    }
    write_json(out / "evaluation.json", record)
    return Evaluation(out, tables["songs"], tables["clips"], tables["sweep"], summary)


def _methods(
    separators: Sequence[Separator], names: Sequence[str] | None, settings: EvaluationSettings
) -> list[Method]:
    called = [one.name for one in separators] if names is None else list(names)
    if len(called) != len(separators):
        raise RecipeError(f"there are {len(separators)} separators and {len(called)} names: give one to each")
    methods = [Method(name, one.identity, one) for name, one in zip(called, separators, strict=True)]
    methods += [Method(name, f"oracle: {name}", ORACLES[name]) for name in settings.oracles]
    every = [method.name for method in methods]
    for name in every:
        if every.count(name) > 1:
            raise RecipeError(
                f"two methods are called '{name}': give one another name, as in mine={name}, so that tables can "
                "tell them apart"
            )
    return methods


def _titles(corpus: Corpus) -> dict[str, str]:
    """Titles by song, of those whose recording is in a tracks table."""
    if corpus.tracks is None:
        return {}
    tracks = corpus.tracks.set_index("track_id")
    titles = tracks["song_title"].fillna(tracks["title"]).dropna()
    found = {str(track): str(title) for track, title in titles.items()}
    if corpus.pairs is not None:
        chosen = corpus.pairs[corpus.pairs["status"] == "chosen"]
        pairs = zip(chosen["song_id"].astype(str), chosen["mixture_id"].astype(str), strict=True)
        found |= {song: found[mixture] for song, mixture in pairs if mixture in found}
    return found


def _facts(corpus: Corpus, song_id: str, titles: Mapping[str, str]) -> dict[str, Any]:
    """What is known of a song besides its scores."""
    stems = list(corpus.song(song_id).values())
    known = {name: next((row[name] for row in stems if row[name]), None) for name in ("split", "genre", "artist")}
    known["title"] = titles.get(song_id)
    return {"song_id": song_id, **known, "duration_s": stems[0]["num_frames"] / stems[0]["sample_rate"]}


def _key(
    method: Method,
    corpus: Corpus,
    song_id: str,
    stems: Mapping[str, Sequence[str]],
    settings: EvaluationSettings,
    peaq: str | None,
) -> str:
    """A name for a song's scores, made of everything that they depend on."""
    rows = corpus.song(song_id)
    contents = {name: row["content_id"] or content_id(corpus.path_of(row)) for name, row in rows.items()}
    clips = clips_of(corpus, song_id) if settings.clips == "table" else settings.clips
    parts = [_VERSION, method.identity, song_id, contents, list(stems.items()), clips]
    parts += [settings.bsseval, settings.sweep_lufs, peaq]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def _excerpts(
    methods: Sequence[Method],
    corpus: Corpus,
    stems: Mapping[str, Mapping[str, Sequence[str]]],
    keys: Mapping[str, Sequence[str]],
    songs: pd.DataFrame,
    out: Path,
    settings: EvaluationSettings,
    progress: Progress,
) -> Rows:
    """Excerpts of songs by the first separator's SDR; those are separated again, which gives what was measured."""
    own = songs[songs["method"] == methods[0].name].replace([np.inf, -np.inf], np.nan)
    by_song = own.groupby("song_id")["sdr_db"]
    # a song without one of the targets tells less; it is taken where there is no other
    is_whole = by_song.count() == own["target"].nunique()
    means = by_song.mean()[is_whole if is_whole.any() else slice(None)]
    chosen = chosen_songs({str(song_id): float(value) for song_id, value in means.items()}, settings.excerpts)
    separators = [number for number, method in enumerate(methods) if isinstance(method.works, Separator)]
    listed = []
    for done, (song_id, rank) in enumerate(chosen.items()):
        progress("excerpts", done, len(chosen), 0)
        # of each method in a folder of its own: one that is added later leaves the others as they are
        places = {number: f"{keys[song_id][number]}-{settings.excerpt_s:g}s" for number in separators}
        known = {number: read_json(out / "excerpts" / place / "excerpt.json") for number, place in places.items()}
        if None in known.values():
            with opened(corpus, song_id, stems[song_id], out) as song:
                for number, place in places.items():
                    if known[number] is None:
                        folder = out / "excerpts" / place
                        with estimated(methods[number], song) as estimates:
                            known[number] = found = write_excerpt(folder, song, estimates, settings.excerpt_s)
                        write_json(folder / "excerpt.json", found)
        heard = [(number, found) for number, found in known.items() if found is not None]
        files = [file for number, found in heard for file in _files(methods, number, places[number], found)]
        listed.append(
            {
                "song_id": song_id,
                "rank": rank,
                "sdr_db": means[song_id],
                "folder": "excerpts",
                **{name: heard[0][1][name] for name in ("start_s", "length_s")},
                "gain_db": min(found["gain_db"] for _, found in heard),
                "files": files,
            }
        )
        progress("excerpts", done + 1, len(chosen), 0)
    return listed


def _files(methods: Sequence[Method], number: int, place: str, excerpt: Mapping[str, Any]) -> Rows:
    """Files of an excerpt: what all methods have is taken from the first's, and comes first."""
    own = [
        {
            **file,
            "method": methods[number].name if file["role"] == "estimate" else None,
            "path": f"{place}/{file['path']}",
            "gain_db": excerpt["gain_db"],
        }
        for file in excerpt["files"]
        if number == 0 or file["role"] == "estimate"
    ]
    return sorted(own, key=lambda file: ("mixture", "reference", "estimate").index(file["role"]))


def _summary(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    rows: Rows = []
    for per, item, name in (("song", "song_id", "songs"), ("clip", "clip_id", "clips")):
        table = tables[name]
        if not len(table):
            continue
        columns = [column for column in SCORES if column in table]
        means = table.groupby(["method", item], sort=False)[columns].mean().reset_index().assign(target=MEAN)
        groups = pd.concat([table, means]).groupby(["method", "target"], sort=False)
        rows += [
            {"per": per, "method": method, "target": target, "score": column}
            | dataclasses.asdict(summarise(group[column]))
            for (method, target), group in groups
            for column in columns
        ]
    return pd.DataFrame(rows)


def _scores_path(out: Path, key: str) -> Path:
    return out / "scores" / f"{key}.json"


def _known(out: Path, key: str) -> dict[str, Rows] | None:
    """A song's rows, or None: also where their file is damaged."""
    found = read_json(_scores_path(out, key))
    return found if found is not None and found.keys() == {"songs", "clips", "sweep"} else None
