"""Validation of a finished build: its tables, its files against the tables, its stems against each other.

`check_build` holds a build to the promises that writing it made: every row's file is there, byte for byte;
the stems of a song are equally long and sum to their mixture to 1e-4 of full scale; nothing is NaN, infinite
or, where there is a sum, beyond full scale; no audio lies about that no row names; pairs, stems and the record of
the run tell one story; one artist is in one split, no recording in two, and no sound in mixtures of two.

Audio is decoded in blocks, all stems of a song side by side, so that memory does not grow with the song. A
damaged table is one problem, and what cannot be judged without it is left out. Nothing is written.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow

from builders.leaks import find_corpus_leaks, parents_of_mixtures
from builders.recipe import RECIPES, SINGLE_SOUNDS
from curation.versions import artist_key, artist_names
from manifests.audio import AUDIO_SUFFIXES, Audio, blocks, content_id, probe
from manifests.corpus import CORPUS_ROOT, MIXTURE, Corpus, Row
from manifests.errors import AudioError, BuildError, RecipeError, StemloomError, TableError
from manifests.files import TEMPORARY_PREFIX
from manifests.recipes import make_recipe
from manifests.staging import url_of
from manifests.tables import SCHEMAS, find_table, read_table

TOLERANCE = 1e-4
"""Largest difference between a mixture and the sum of its stems, in parts of full scale."""

_BLOCK_FRAMES = 1 << 17
_MOST_PARENTS = 20
_FIX = "run the same build command again"
_COMMANDS = {
    **{name: f"stemloom build {name}" for name in ("catalog", "cinematic", "universal")},
    **{name: f"stemloom {name}" for name in ("curate", "import", "pack", "separate", "clean", "anchor")},
}
# Tables that a build of each kind writes besides `stems`, and the stems of each of its songs.
_DERIVED = ("curate", "clean", "anchor")
"""Builders that make a corpus of another one."""

_TABLES = {
    "catalog": ("tracks", "pairs", "rejected"),
    "curate": ("clips", "rejected"),
    "import": ("tracks", "rejected"),
    "cinematic": ("mixtures", "rejected"),
    "universal": ("mixtures", "rejected"),
    "clean": ("cleaned", "rejected"),
    "anchor": ("clips", "rejected"),
}
_STEMS = {
    "catalog": {MIXTURE, "instrumental", "vocals"},
    "import": {MIXTURE},
    "cinematic": {MIXTURE},
    "universal": {MIXTURE},
}
_JSON_TYPES: dict[type, str] = {str: "string", dict: "object", list: "array"}
_FIELDS: dict[str, dict[str, type]] = {
    "recipe.json": {"builder": str, "recipe": dict},
    "run.json": {
        "builder": str,
        "recipe": dict,
        "versions": dict,
        "inputs": list,
        "counts": dict,
        "rejected": dict,
        "hours": dict,
        "wall_s": dict,
    },
}


def check_build(
    build: Path,
    progress: Callable[[str, int, int, int], None] = lambda stage, done, total, found: None,
    *,
    unseen: Sequence[Path] = (),
) -> list[str]:
    """Say all that is wrong with a build.

    Parameters
    ----------
    build : Path
        A build folder.
    progress : callable, optional
        Called with ``"check"``, songs done, songs in all, and problems found so far.
    unseen : sequence of Path
        Folders of which nothing may be in the corpus; see `builders.leaks`.

    Returns
    -------
    list of str
        One line for each problem, with path, field, value and fix; empty when all is well.

    Raises
    ------
    BuildError
        When there is no such folder, its build has not finished, or a build is at work in it.
    """
    require_finished(build)
    if _is_held(build):
        raise BuildError(f"{build}: a build is at work in this folder; check it when that has ended")
    records, problems = _read_records(build)
    builder = next((r["builder"] for r in records.values() if isinstance(r.get("builder"), str)), "")
    corpus, wanted = Corpus(build), _wanted_stems(builder, records)
    tables, damaged = _read_tables(corpus, _TABLES.get(builder, ()))
    problems += damaged
    problems += _record_problems(build, records, tables)
    if "stems" in tables:
        problems += _row_problems(build, tables["stems"], wanted)
        # the splits of a dataset are its authors' own (MUSDB18 shares artists among them), and stay so when cleaned
        if builder not in ("import", "clean", "anchor"):
            problems += _artist_problems(build, tables["stems"])
        problems += _parent_problems(build, tables["stems"])
        if "pairs" in tables:
            problems += _pair_problems(build, tables["stems"], tables["pairs"], tables.get("rejected"))
        problems += _stray_files(build, tables["stems"])
        if "mixtures" in tables:
            problems += _mixture_problems(build, tables["stems"], tables["mixtures"])
        if "clips" in tables:
            problems += _clip_problems(build, tables["stems"], tables["clips"])
        if builder == "curate":
            problems += _curve_problems(build, tables["stems"])
        songs, known = corpus.songs(), len(problems)
        for done, song_id in enumerate(songs):
            progress("check", done, len(songs), len(problems))
            problems += _song_problems(corpus, song_id, wanted)
        progress("check", len(songs), len(songs), len(problems))
        if len(problems) == known:  # damaged audio would only be told again
            problems += find_corpus_leaks(corpus, unseen, progress)
    return [_one_line(problem) for problem in problems]


def require_finished(build: Path) -> None:
    """Refuse a folder that is not that of a finished build.

    Parameters
    ----------
    build : Path
        A build folder.

    Raises
    ------
    BuildError
        When it is missing or holds no stems table, which a build writes last.
    """
    if not build.is_dir():
        if url_of(build) is not None:
            raise BuildError(
                f"{build}: no build has finished there; give the folder that a build wrote to (its --out), or run "
                "the command that builds it again: it resumes"
            )
        raise BuildError(f"{build}: is no folder; give the one that a build wrote to (its --out)")
    if not any((build / f"stems.{format}").exists() for format in ("parquet", "jsonl")):
        known = any((build / name).exists() for name in ("recipe.json", "tracks.parquet", "tracks.jsonl"))
        fix = (
            f"its build has not finished: {_again(build)}, it resumes"
            if known
            else "give the folder that a build wrote to (its --out)"
        )
        raise BuildError(f"{build}: holds no stems table; {fix}")


def read_record(path: Path) -> dict[str, Any]:
    """Read `run.json` or `recipe.json`.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict
        Its fields.

    Raises
    ------
    BuildError
        When it is missing or holds no JSON object.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BuildError(f"{path}: is missing; {_again(path.parent)}") from error
    except OSError as error:
        raise BuildError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except (ValueError, RecursionError) as error:
        raise BuildError(f"{path}: is not JSON ({error}); remove it and {_again(path.parent)}") from error
    if not isinstance(record, dict):
        raise BuildError(f"{path}: holds {_as_json(record)}, not an object; remove it and {_again(path.parent)}")
    return record


def _as_json(value: object) -> str:
    return f"{json.dumps(value, ensure_ascii=False):.40}"


def _again(build: Path) -> str:
    """To run the command again that wrote to a folder: by its name, where `recipe.json` says what built it."""
    try:
        builder = json.loads((build / "recipe.json").read_text(encoding="utf-8"))["builder"]
        return f"run the same '{_COMMANDS[builder]}' command again"
    except (OSError, ValueError, RecursionError, LookupError, TypeError):  # what is wrong with it is told elsewhere
        return _FIX


def _is_held(build: Path) -> bool:
    """Whether some process's `BuildLock` holds the folder."""
    # Not by taking one: it writes, and a finished build may be on read-only ground.
    try:
        handle = os.open(build / ".lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # a file system without locks
    finally:
        os.close(handle)
    return False


def _read_records(build: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The record of the settings and that of the run, and what is wrong with them alone."""
    records, problems = {}, []
    for name in ("recipe.json", "run.json"):
        try:
            records[name] = read_record(build / name)
        except BuildError as error:
            problems.append(str(error))
    for name, record in records.items():
        for field, kind in _FIELDS[name].items():
            if not isinstance(record.get(field), kind):
                found = f"is {_as_json(record[field])}" if field in record else "is missing"
                wrong = f"field '{field}' {found}, where a JSON {_JSON_TYPES[kind]} belongs"
                problems.append(f"{build / name}: {wrong}; remove the file and {_again(build)}")
    settings = records.get("recipe.json", {})
    builder = str(settings.get("builder"))
    if builder in RECIPES and isinstance(settings.get("recipe"), dict):
        try:
            make_recipe(settings["recipe"], str(build / "recipe.json"), RECIPES[builder])
        except RecipeError as error:
            problems.append(str(error))
    return records, problems


def _wanted_stems(builder: str, records: Mapping[str, dict[str, Any]]) -> set[str]:
    """Stems that every song of a build has: of a library of single sounds, none."""
    recipes = [record.get("recipe") for record in records.values()]
    layouts = [found.get("layout") for found in recipes if isinstance(found, dict)]
    if builder == "import" and any(layout in SINGLE_SOUNDS for layout in layouts):
        return set()
    return _STEMS.get(builder, set())


def _read_tables(corpus: Corpus, needed: tuple[str, ...]) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The tables that are whole, and what is wrong with those that are not."""
    tables, problems = {}, []
    for name in SCHEMAS:
        try:
            if name in (*needed, "stems") or find_table(corpus.folder, name) is not None:
                table = corpus.stems if name == "stems" else read_table(corpus.folder, name)
                for column in table.columns:
                    table[column].to_list()  # pandas decodes text when it is asked for, and a torn file's may not
                tables[name] = table
        except TableError as error:
            problems.append(str(error))
        except (ValueError, pyarrow.ArrowException) as error:  # text in a torn Parquet file that is not UTF-8
            problems.append(f"{corpus.folder / name}: the table cannot be read ({error}); {_FIX}")
    return tables, problems


def _record_problems(
    build: Path, records: Mapping[str, dict[str, Any]], tables: Mapping[str, pd.DataFrame]
) -> Iterator[str]:
    """Where `run.json` and the rest of the build tell different stories."""
    if "run.json" not in records:
        return
    path, run = build / "run.json", records["run.json"]
    for field in ("builder", "recipe"):
        settings = records.get("recipe.json", {}).get(field)
        if settings is not None and field in run and run[field] != settings:
            yield f"{path}: field '{field}' is {_difference(run[field], settings)} in recipe.json; {_FIX}"
    # what is made of another corpus reads stems, and its tracks are those that they were made of
    is_derived = run.get("builder") in _DERIVED
    if "tracks" in tables and isinstance(run.get("inputs"), list) and not is_derived:
        listed, found = {str(i) for i in run["inputs"]}, set(tables["tracks"]["track_id"])
        if listed != found:
            yield (
                f"{path}: field 'inputs' lists {len(listed - found)} content ids that are not in the tracks "
                f"table, and lacks {len(found - listed)} of the {len(found)} there; {_FIX}"
            )
    if "rejected" in tables and isinstance(run.get("rejected"), dict):
        counted: dict[str, dict[str, int]] = {}
        for stage, reasons in tables["rejected"].groupby("stage")["reason"]:
            counted[str(stage)] = {str(key): int(count) for key, count in reasons.value_counts().items()}
        if run["rejected"] != counted:
            yield f"{path}: field 'rejected' is {_difference(run['rejected'], counted)} in its table; {_FIX}"


def _difference(found: object, wanted: object) -> str:
    """Two unequal values in words: of mappings, the first unequal entry."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        a, b = ({key: f"{value!r:.80}" for key, value in side.items()} for side in (found, wanted))
        key = next((k for k in (*a, *b) if a.get(k) != b.get(k)), None)
        if key is not None:
            return f"{key} {a.get(key, 'nothing')}, and {b.get(key, 'nothing')}"
    return f"{found!r:.80}, and {wanted!r:.80}"


def _row_problems(build: Path, stems: pd.DataFrame, wanted: set[str]) -> Iterator[str]:
    """What is wrong with the stems table that its schema cannot tell."""
    path = find_table(build, "stems")
    for row in stems[stems.duplicated(["root", "path"])].itertuples():
        yield f"{path}: row {row.Index}: path '{row.path}' stands in an earlier row too; {_FIX}"
    for song_id, names in stems.groupby("song_id", sort=False)["stem"]:
        if missing := wanted - set(names):
            yield f"{path}: song '{song_id}' has no stem {', '.join(sorted(missing))}; {_FIX}"
        elif set(names) == {MIXTURE}:
            yield f"{path}: song '{song_id}' has a mixture and no stem that it is the sum of; {_FIX}"
    splits = stems.groupby("song_id", sort=False)["split"].nunique(dropna=False)
    for song_id in splits.index[splits > 1]:
        found = stems.loc[stems["song_id"] == song_id, "split"].fillna("none").unique()
        yield f"{path}: song '{song_id}' is in the splits {', '.join(found)}; put all of its stems in one"


def _artist_problems(build: Path, stems: pd.DataFrame) -> Iterator[str]:
    """Artists with songs in several splits."""
    path = find_table(build, "stems")
    known = stems[stems["split"].notna() & stems["artist"].notna()]
    keys = {artist: _main_artist(artist) for artist in known["artist"].unique()}
    for key, rows in known.groupby(known["artist"].map(keys), sort=False):
        if rows["split"].nunique() > 1:
            found = rows["split"].unique()
            name = rows["artist"].iloc[0] or key
            yield f"{path}: artist '{name}' is in the splits {', '.join(found)}; put all their songs in one"


def _parent_problems(build: Path, stems: pd.DataFrame) -> Iterator[str]:
    """Songs that mixtures of several splits were made of; of very many, the first are told."""
    path = find_table(build, "stems")
    parents = parents_of_mixtures(stems[stems["split"].notna()])
    splits = parents.drop_duplicates(["parent", "split"]).groupby("parent")["split"].agg(list)
    leaking = splits[splits.map(len) > 1]
    for parent, found in leaking.head(_MOST_PARENTS).items():
        yield (
            f"{path}: song '{parent}' is in mixtures of the splits {', '.join(sorted(found))}; draw each split "
            "from songs of its own ('--splits' of the 'stemloom build' commands), or put these mixtures in one"
        )
    if len(leaking) > _MOST_PARENTS:
        yield f"{path}: {len(leaking) - _MOST_PARENTS} more songs are in mixtures of several splits"


def _main_artist(credit: str) -> str:
    names = artist_names(credit)
    return artist_key(names[0]) if names else credit


def _pair_problems(
    build: Path, stems: pd.DataFrame, pairs: pd.DataFrame, rejected: pd.DataFrame | None
) -> Iterator[str]:
    """Where the pairs and the stems tell different stories."""
    path, pairs_path = find_table(build, "stems"), find_table(build, "pairs")
    by_id = {pair["pair_id"]: pair for pair in pairs.to_dict("records")}
    linked = stems[stems["pair_id"].notna()]
    for song_id, pair_id in dict.fromkeys(zip(linked["song_id"], linked["pair_id"], strict=True)):
        pair = by_id.get(pair_id)
        if pair is None:
            yield f"{path}: song '{song_id}': pair_id '{pair_id}' is not in the pairs table; {_FIX}"
        elif pair["status"] != "chosen":
            yield f"{path}: song '{song_id}': its pair '{pair_id}' has status '{pair['status']}'; {_FIX}"
        elif pd.isna(pair["song_id"]) or pair["song_id"] != song_id:
            yield f"{path}: song '{song_id}': its pair '{pair_id}' has song_id '{pair['song_id']}'; {_FIX}"
    chosen = pairs[pairs["status"] == "chosen"]
    for song_id, count in chosen["song_id"].value_counts().items():
        if count > 1:
            yield f"{pairs_path}: song '{song_id}' has {count} chosen pairs, not one; {_FIX}"
    # a song whose derivation failed has a row in the rejected table instead
    failed = set() if rejected is None else set(rejected.loc[rejected["stage"] == "derive", "path"])
    is_written = chosen["pair_id"].isin(stems["pair_id"]) | chosen["song_id"].isin(stems["song_id"])
    for pair_id, mixture_path in chosen.loc[~is_written, ["pair_id", "mixture_path"]].itertuples(index=False):
        if mixture_path not in failed and rejected is not None:
            yield f"{pairs_path}: chosen pair '{pair_id}' has neither stems nor a row in 'rejected'; {_FIX}"


def _clip_problems(build: Path, stems: pd.DataFrame, clips: pd.DataFrame) -> Iterator[str]:
    """Clips of songs that are not there, in another split than their song, or beyond its end."""
    path = find_table(build, "clips")
    songs = stems.groupby("song_id").agg({"num_frames": "min", "split": "first"})
    of_song = songs.reindex(clips["song_id"])
    ends = (clips["start_frame"] + clips["num_frames"]).to_numpy(dtype=np.int64)
    lengths = of_song["num_frames"].to_numpy(dtype=np.float64, na_value=np.nan)
    for clip, is_known, is_late, split in zip(
        clips.to_dict("records"),
        ~np.isnan(lengths),
        ends > lengths,
        of_song["split"],
        strict=True,
    ):
        where = f"{path}: clip '{clip['clip_id']}'"
        if not is_known:
            yield f"{where}: its song '{clip['song_id']}' is not in the stems table; {_FIX}"
        elif is_late:
            yield f"{where}: ends after its song '{clip['song_id']}'; {_FIX}"
        elif (None if pd.isna(split) else split) != (None if pd.isna(clip["split"]) else clip["split"]):
            found, wanted = clip["split"], f"that of its song '{clip['song_id']}' is '{split}'"
            yield f"{where}: its split is '{found}', {wanted}; {_FIX}"


def _curve_problems(build: Path, stems: pd.DataFrame) -> Iterator[str]:
    """Curves of songs that cannot be read, or lack those that every song has; a corpus without any is well."""
    from builders.report.curves import read_curves  # whose package imports this module

    without = []
    for song_id, names in stems.groupby("song_id", sort=False)["stem"]:
        path = build / f"curves/{song_id}.npz"
        try:
            curves = read_curves(build, str(song_id))
        except TableError as error:
            yield str(error)
            continue
        if curves is None:
            without.append(path)
        elif curves.grade is None or set(curves.rms) != set(names):
            yield f"{path}: holds no grade, or levels of other stems than {', '.join(names)}; {_FIX}"
    if len(without) < stems["song_id"].nunique():
        yield from (f"{path}: is missing; {_FIX}" for path in without)


def _mixture_problems(build: Path, stems: pd.DataFrame, mixtures: pd.DataFrame) -> Iterator[str]:
    """Where the mixtures and the stems tell different stories."""
    path = find_table(build, "mixtures")
    songs, told = set(stems["song_id"]), set(mixtures["mixture_id"])
    for mixture_id in sorted(songs - told):
        yield f"{path}: song '{mixture_id}' of the stems table has no row; {_FIX}"
    for mixture_id in sorted(told - songs):
        yield f"{path}: mixture '{mixture_id}' is not in the stems table; {_FIX}"


def _stray_files(build: Path, stems: pd.DataFrame) -> Iterator[str]:
    """Audio, and remains of killed writes, that no row names."""
    named = set(stems.loc[stems["root"] == CORPUS_ROOT, "path"])
    for folder, folders, names in os.walk(build / "audio"):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            is_ours = path.suffix.lower() in AUDIO_SUFFIXES or name.startswith(TEMPORARY_PREFIX)
            if is_ours and str(PurePosixPath(path.relative_to(build))) not in named:
                yield f"{path}: no row of the stems table names this file; {_FIX}, it removes such files"


def _song_problems(corpus: Corpus, song_id: str, wanted: set[str]) -> list[str]:
    """What is wrong with the files of one song; without the `wanted` stems there is nothing to sum."""
    rows = corpus.song(song_id)
    problems = []
    for field in ("num_frames", "sample_rate", "channels"):
        if len({row[field] for row in rows.values()}) > 1:
            found = ", ".join(f"{stem} {row[field]}" for stem, row in rows.items())
            table = find_table(corpus.folder, "stems")
            problems.append(f"{table}: stems of song '{song_id}' differ in {field} ({found}); {_FIX}")
    has_sum = MIXTURE in rows and len(rows) > 1 and wanted <= set(rows) and not problems
    paths = {}
    for stem, row in rows.items():
        try:
            path = corpus.path_of(row)
            wrong = list(_file_problems(path, row))
            paths[stem] = path
        except StemloomError as error:
            problems.append(str(error))
            has_sum = False
        else:
            problems += wrong
            has_sum = has_sum and not wrong
    return problems + _sound_problems(paths, has_sum)


def _file_problems(path: Path, row: Row) -> Iterator[str]:
    """Where a file is not what its row says."""
    if not path.is_file():
        raise AudioError(f"{path}: is missing, and it is stem '{row['stem']}' of song '{row['song_id']}'; {_FIX}")
    found = content_id(path)
    if row["content_id"] not in (None, found):
        yield (
            f"{path}: content_id is {found}, and its row in the stems table says {row['content_id']}: "
            f"the file was changed after the build; {_FIX}"
        )
    info = probe(path)
    for field in ("num_frames", "sample_rate", "channels"):
        value = getattr(info, field)
        if value != row[field]:
            yield f"{path}: {field} is {value}, and its row in the stems table says {row[field]}; {_FIX}"


def _sound_problems(paths: Mapping[str, Path], has_sum: bool) -> list[str]:
    """Decode the stems of a song side by side: the peak of each, the mixture against the others' sum."""
    problems = []
    streams = {stem: blocks(path, _BLOCK_FRAMES) for stem, path in paths.items()}
    peaks = dict.fromkeys(paths, (0.0, 0))
    widest, start = (0.0, 0), 0
    while streams:
        chunks: dict[str, Audio] = {}
        for stem in list(streams):
            try:
                chunks[stem] = next(streams[stem])
            except StopIteration:
                del streams[stem]
            except AudioError as error:
                problems.append(str(error))
                del streams[stem]
                has_sum = False
        for stem, chunk in chunks.items():
            peaks[stem] = max(peaks[stem], _largest(chunk, start), key=_value)
        if has_sum and chunks and (len(chunks), len({c.shape for c in chunks.values()})) != (len(paths), 1):
            problems.append(f"{paths[MIXTURE]}: the song's stems are not equally long as decoded; {_FIX}")
            has_sum = False
        if has_sum and chunks:
            rest = sum(chunk for stem, chunk in chunks.items() if stem != MIXTURE)
            widest = max(widest, _largest(chunks[MIXTURE] - rest, start), key=_value)
        start += _BLOCK_FRAMES
    for stem, (peak, frame) in peaks.items():
        # a sound that is alone stays as it was found, and decoders overshoot
        if peak > 1 and len(paths) > 1:
            problems.append(f"{paths[stem]}: peak {peak:.6g} at frame {frame} is beyond full scale; {_FIX}")
    if has_sum and widest[0] > TOLERANCE:
        others = " + ".join(stem for stem in paths if stem != MIXTURE)
        problems.append(
            f"{paths[MIXTURE]}: differs from {others} by {widest[0]:.6g} of full scale at frame {widest[1]} "
            f"(at most {TOLERANCE:g}); {_FIX}"
        )
    return problems


def _largest(audio: Audio, start: int) -> tuple[float, int]:
    """The largest magnitude, and its frame."""
    levels = np.abs(audio).max(axis=0)
    frame = int(levels.argmax())
    return float(levels[frame]), start + frame


def _value(found: tuple[float, int]) -> float:
    return found[0]


def _one_line(text: str) -> str:
    """A line that a terminal shows as it is: names from strangers may hold line breaks and control codes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
