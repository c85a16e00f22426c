"""One run of a builder in its folder: the recipe claimed, stages run and counted, rejects kept, tables written.

What every builder does between its stages, so that a builder's own module holds its path and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from builders.cache import ResultCache
from builders.scan import Reject
from builders.stage import Done, Engine, Progress, Stage, Work, run_stage, silent
from builders.versions import versions
from manifests.corpus import CORPUS_ROOT, Corpus
from manifests.errors import BuildError, RecipeError
from manifests.exports.placing import take_file
from manifests.files import TEMPORARY_PREFIX, replacing
from manifests.plain import json_of
from manifests.staging import address, as_addresses, url_of
from manifests.tables import TableFormat, frame_of, write_table
from separators.separator import Separator

_MOST_TOLD = 5
_TEMPORARY = f"{TEMPORARY_PREFIX}*"
_MADE = (".cache", "audio", "annotations", "curves", "removed")
"""Folders that builders write to. In others of a build's folder somebody else may be at work: `audit`, `packed`."""

FAILURES = {"rejected": "unreadable", "crash": "worker crashed", "timeout": "took too long"}
"""Kinds of `builders.engine.Failure`, as reasons of the rejected table."""


class Run:
    """What the stages of one run hand to each other, and what they count.

    Parameters
    ----------
    out : Path
        The build folder; its lock is held.
    builder : str
        The builder's name in `recipe.json` and `run.json`.
    recipe : BaseModel
        Everything that changes what the run makes.
    engine : Engine
    table_format : {'parquet', 'jsonl'}
    progress : callable
    claim : mapping of str to str, optional
        What besides the recipe decides what the run makes, such as its source.
    separator : Separator, optional
        That decides it too. Another one is refused in the folder; another name of the same one passes.
    reads : collection of Path
        Folders with what the stages read: every machine that runs them must see these, and `out`.
    """

    def __init__(
        self,
        out: Path,
        builder: str,
        recipe: BaseModel,
        engine: Engine,
        table_format: TableFormat = "parquet",
        progress: Progress = silent,
        claim: Mapping[str, str] | None = None,
        separator: Separator | None = None,
        reads: Collection[Path] = (),
    ) -> None:
        self.out = out
        self.builder = builder
        self.settings = recipe.model_dump(mode="json")
        self.engine = engine
        self.table_format = table_format
        self.progress = progress
        self.claim = dict(claim or {})
        self._separator = separator
        # what stands for a bucket is brought by each machine for itself
        seen = (out, *(folder for folder in reads if url_of(folder) is None))
        self._folders = tuple(str(folder.resolve()) for folder in seen)
        self.cache = ResultCache(out / ".cache")
        self.rejects: list[Reject] = []
        self.counts: dict[str, dict[str, int]] = {}
        self.wall_s: dict[str, float] = {}
        self.hours: dict[str, float] = {}

    def claim_folder(self) -> None:
        """Write the recipe into the build folder, or refuse one with another recipe.

        Raises
        ------
        BuildError
            When the folder holds the work of another recipe, builder or separator.
        """
        path = self.out / "recipe.json"
        before = read_recipe(path) if path.exists() else None
        if before is not None and self._came_to_nothing(before):
            before = None
        if self._separator is not None:
            self._claim_separator(path, before or {}, self._separator)
        settings = {"builder": self.builder, "recipe": self.settings, **self.claim}
        if before is not None and (unequal := list(_unequal(before, settings))):
            raise BuildError(f"{path}: {_differences(before['builder'], unequal)}")
        if before != settings:
            with replacing(path) as file:
                file.write((json.dumps(settings, indent=2, sort_keys=True) + "\n").encode())

    def _came_to_nothing(self, before: Mapping[str, Any]) -> bool:
        """Whether a run of this builder has begun here and made nothing: another recipe may follow."""
        if before["builder"] != self.builder:
            return False
        kept = ("recipe.json", ".cache", ".lock", TEMPORARY_PREFIX)
        others = [path for path in self.out.iterdir() if not path.name.startswith(kept)]
        return all(path.is_dir() and not any(made.is_file() for made in path.rglob("*")) for path in others)

    def _claim_separator(self, path: Path, before: Mapping[str, Any], separator: Separator) -> None:
        now = separator.name
        name, identity = before.get("separator", now), before.get("separator_identity", separator.identity)
        if identity != separator.identity:
            if name == now:
                now = "that of other weights, or with another overlap, window or shifts"
            raise BuildError(
                f"{path}: the folder holds the work of {name}, and this is {now}; use the same, or another --out "
                "folder"
            )
        self.claim |= {"separator": name, "separator_identity": identity}

    def remove_temporary_files(self) -> None:
        """Remove what a killed process was writing. The lock is held, and no stage runs: nobody writes now."""
        for found in (self.out.glob(_TEMPORARY), *((self.out / name).rglob(_TEMPORARY) for name in _MADE)):
            for path in found:
                path.unlink(missing_ok=True)

    def forget_result(self) -> None:
        """Remove the table whose existence says that the build is complete, until it is again."""
        for form in ("parquet", "jsonl"):
            (self.out / f"stems.{form}").unlink(missing_ok=True)

    def stage(
        self,
        stage: Stage[Any],
        works: Sequence[Work[Any]],
        *,
        reject_stage: str | None,
        cached: bool = True,
        counted: bool = True,
        is_whole: Callable[[dict[str, Any]], bool] = lambda value: True,
        with_arrays: bool = True,
        known: int = 0,
    ) -> Iterable[Done]:
        """Run a stage, count, show progress, and turn failures into rejects.

        Parameters
        ----------
        stage : Stage
        works : sequence of Work
        reject_stage : str or None
            The stage that a failure's row names; None keeps no row of it.
        cached : bool
            Whether results are kept, and taken from what is kept.
        counted : bool
            Whether the run's counts and times have the stage: not where a caller counts by other items.
        is_whole : callable, optional
            As for `run_stage`.
        with_arrays : bool
            As for `run_stage`.
        known : int
            Items that need not be run because they have not changed: they are counted with the others.

        Yields
        ------
        Done
            One for each work.
        """
        start = time.monotonic()
        failed = 0
        ids = {work.name: work.content_ids[0] if work.content_ids else None for work in works}
        stage = replace(stage, needs=replace(stage.needs, folders=self._folders))
        outcomes = (
            run_stage(stage, works, self.engine, self.cache, is_whole, with_arrays)
            if cached
            else _uncached(stage, works, self.engine)
        )
        total = known + len(works)
        self.progress(stage.name, known, total, 0)
        for number, done in enumerate(outcomes, known + 1):
            if done.failure is not None:
                done = replace(done, failure=replace(done.failure, detail=as_addresses(done.failure.detail)))
                assert done.failure is not None
                failed += 1
                if reject_stage is not None:
                    reason = FAILURES[done.failure.kind]
                    self.rejects.append(
                        Reject(ids[done.name], done.name, reject_stage, reason, done.failure.detail)
                    )
            self.progress(stage.name, number, total, failed)
            yield done
        if counted:
            self.counts[stage.name] = {"in": total, "kept": total - failed, "rejected": failed}
            self.wall_s[stage.name] = time.monotonic() - start

    def rejected_table(self) -> pd.DataFrame:
        """What was left out so far, sorted."""
        rows = [reject.row() for reject in self.rejects]
        return frame_of("rejected", sorted(rows, key=lambda row: (row["path"], row["stage"], row["reason"])))

    def save(self, inputs: Sequence[str], tables: Mapping[str, pd.DataFrame], **facts: object) -> None:
        """Write `run.json` and the tables, `stems` last: its existence means that the build is complete.

        Parameters
        ----------
        inputs : sequence of str
            Content ids of what was read.
        tables : mapping of str to pd.DataFrame
            `stems` and others; `rejected` is added.
        **facts
            Further fields of `run.json`, as JSON values.
        """
        self.remove_temporary_files()  # of workers that were killed
        run = {
            "builder": self.builder,
            "recipe": self.settings,
            **facts,
            "versions": versions(),
            "inputs": sorted(inputs),
            "counts": self.counts,
            "rejected": self._rejected_counts(),
            "hours": self.hours,
            "wall_s": {stage: round(seconds, 3) for stage, seconds in self.wall_s.items()},
        }
        with replacing(self.out / "run.json") as file:
            # paths of the person's own need not be UTF-8
            text = json.dumps(run, indent=2, ensure_ascii=False) + "\n"
            file.write(text.encode("utf-8", "backslashreplace"))
        ordered = {**tables, "rejected": self.rejected_table()}
        for name in sorted(ordered, key=lambda name: name == "stems"):
            write_table(self.out, name, ordered[name], self.table_format)

    def _rejected_counts(self) -> dict[str, dict[str, int]]:
        counts: dict[str, dict[str, int]] = {}
        for reject in self.rejects:
            reasons = counts.setdefault(reject.stage, {})
            reasons[reject.reason] = reasons.get(reject.reason, 0) + 1
        return counts


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a build folder's `recipe.json`.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict
        `builder`, its `recipe`, and what else was claimed.

    Raises
    ------
    BuildError
        When it cannot be read or is no builder's recipe.
    """
    try:
        found = json_of(path.read_bytes())
    except OSError as error:
        raise BuildError(
            f"{path}: cannot be read ({error.strerror or error}); check the disk, then run the same command again"
        ) from error
    except ValueError:
        found = None
    fields: dict[str, Any] = found if isinstance(found, dict) else {}
    if not (isinstance(fields.get("builder"), str) and isinstance(fields.get("recipe"), dict)):
        raise BuildError(
            f"{path}: is no recipe, as a crash may have left it; if the folder is of this very build, delete "
            "the file and run the same command again: it resumes; otherwise use another --out folder"
        )
    return fields


def refuse_foreign(out: Path, writer: str) -> None:
    """Refuse a folder with files in it that are no run's.

    Parameters
    ----------
    out : Path
        The build folder, which need not be there.
    writer : str
        What might have written it: 'import', 'curation'.

    Raises
    ------
    BuildError
        When it is a file, cannot be looked into, or holds anything and neither `recipe.json` nor cached results.
    """
    try:
        if out.exists() and not out.is_dir():
            raise BuildError(f"{out}: is a file; give a folder")
        # a run's results show that one was here, where its damaged recipe was deleted
        if not out.is_dir() or (out / "recipe.json").exists() or ResultCache(out / ".cache").holds_any():
            return
        # what the lock, and a recipe that was being written, leave
        names = [path.name for path in out.iterdir() if not path.name.startswith((".lock", TEMPORARY_PREFIX))]
    except OSError as error:
        raise BuildError(
            f"{out}: the folder cannot be looked into ({error.strerror or error}); choose one that you may write to"
        ) from error
    found = sorted(names)
    if found:
        raise BuildError(
            f"{out}: already holds '{found[0]}', which no {writer} has written, and nothing is overwritten; choose "
            "a folder that is new or empty"
        )


def refuse_nested(out: Path, source: Path) -> None:
    """Refuse a folder that lies in the corpus that it is made of, or around it.

    Raises
    ------
    BuildError
    """
    inner, outer = Path(address(out)), Path(address(source))
    if inner == outer or inner in outer.parents or outer in inner.parents:
        raise BuildError(f"{out}: lies in {source}, or that in it; choose a folder beside the corpus")


def own_path(root: str, path: str) -> str:
    """Where a corpus that is made of another has a file of that one.

    Parameters
    ----------
    root, path : str
        Of the row in the other corpus.

    Returns
    -------
    str
        As before, below its root's name if it had one.
    """
    return path if root == CORPUS_ROOT else f"audio/{root}/{path}"


def refuse_limit(limit: int | None) -> None:
    """Refuse a number of songs that is none.

    Raises
    ------
    RecipeError
    """
    if limit is not None and limit < 1:
        raise RecipeError(f"limit is {limit}; give the number of songs, at least 1, or None for all")


def other_tables(corpus: Corpus) -> dict[str, pd.DataFrame]:
    """Tables that a corpus made of another takes over from it as they are, where there are such."""
    found = {name: getattr(corpus, name) for name in ("pairs", "tracks")}
    return {name: table for name, table in found.items() if table is not None}


def take_stem(corpus: Corpus, row: Mapping[str, Any], out: Path, *, link: bool) -> str:
    """Take a stem of another corpus over as it is.

    Parameters
    ----------
    corpus : Corpus
    row : mapping
        Of its stems table.
    out : Path
        The build folder.
    link : bool
        Share the file where the file system can, instead of copying it.

    Returns
    -------
    str
        Its path there; see `own_path`.
    """
    path = own_path(row["root"], row["path"])
    source, target = corpus.path_of(row), out / path
    if not (target.exists() and target.samefile(source)):
        take_file(source, target, link=link)
    return path


def files_below(out: Path, suffixes: Mapping[str, Collection[str]]) -> list[str]:
    """Files that a run may have written. A person's own notes beside them are left out.

    Parameters
    ----------
    out : Path
        The build folder.
    suffixes : mapping of str to collection of str
        By the folder in it, of the run's files there: lower case, with the dot.

    Returns
    -------
    list of str
        Paths in the build folder, sorted.
    """
    return sorted(
        path.relative_to(out).as_posix()
        for folder, known in suffixes.items()
        for path in (out / folder).rglob("*")
        if path.is_file() and path.suffix.lower() in known
    )


def remove_stale(out: Path, ours: Iterable[str], kept: Collection[str]) -> None:
    """Remove files that an earlier run wrote and no row refers to any more, and folders that are empty then.

    Parameters
    ----------
    out : Path
        The build folder.
    ours : iterable of str
        Paths in it that only a run can have written.
    kept : collection of str
        Those of them that stay.
    """
    for name in ours:
        if name not in kept:
            (out / name).unlink()
            with contextlib.suppress(OSError):  # the song's other stems are still there
                (out / name).parent.rmdir()


def _uncached(stage: Stage[Any], works: Sequence[Work[Any]], engine: Engine) -> Iterable[Done]:
    for outcome in engine.run(stage.function, iter([(work.name, work.item) for work in works]), stage.needs):
        yield Done(outcome.key, outcome.result, outcome.error)


def _differences(builder: str, unequal: Sequence[tuple[str, Any, Any]]) -> str:
    """What an earlier build in the folder has that this one has not, in words, and what to do."""
    fix = "use the same settings, or another --out folder"
    if any(name == "builder" for name, _, _ in unequal):
        return f"the folder holds a build of '{builder}'; {fix}"
    told = [
        f"{name.removeprefix('recipe.')} {was!r}, and this is {this!r}" for name, was, this in unequal[:_MOST_TOLD]
    ]
    told += [f"{len(unequal) - _MOST_TOLD} more settings that differ"] * (len(unequal) > _MOST_TOLD)
    return f"the folder was built with {'; '.join(told)}; {fix}"


def _unequal(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Fields that are not the same, also within fields that hold others ('mix.length_s'), with both values."""
    for name in sorted(set(old) | set(new)):
        was, this = old.get(name), new.get(name)
        if isinstance(was, dict) and isinstance(this, dict):
            yield from ((f"{name}.{inner}", *values) for inner, *values in _unequal(was, this))
        elif was != this:
            yield name, was, this
