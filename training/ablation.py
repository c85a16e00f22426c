"""Running a study: every variant with every seed is trained and tested, once, and all are compared.

    study = load_study("augmentation", corpora={"songs": Path("corpus")})
    ablation = run_study(study, Path("study"))
    ablation.summary

A folder comes out:

    study.json            what was asked, what was trained, and what is missing and why; written last
    songs.parquet         a row for each variant, seed, test, song and target, with all scores
    summary.parquet       what each variant scores (`training.comparison.summaries`)
    comparisons.parquet   how sure the differences are (`training.comparison.comparisons`)
    sweep.parquet         SDR by the mixture's loudness, where a test asks for it
    curves.parquet        what validations found while training
    runs/                 a folder for each training, with its evaluations (`training.variants`)

What is there already is not done again: a study that was stopped goes on, and one that got another variant trains
that one alone. A run that fails leaves the others as they are; the next call tries it again.
"""

from __future__ import annotations

import dataclasses
import logging
import platform
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from manifests.errors import BuildError, RecipeError
from manifests.installed import installed_version
from manifests.lock import BuildLock
from manifests.tables import find_table
from training.comparison import comparisons, summaries
from training.journal import read_journal
from training.records import save_table, write_json
from training.runs import RUN
from training.study import StudyRecipe
from training.variants import Run, Working, check_runs, is_done, runs_of
from training.workers import STOPPED, do_runs

__all__ = ["STUDY", "Ablation", "StudyTick", "checked_runs", "run_study"]

log = logging.getLogger(__name__)

STUDY = "study.json"


@dataclasses.dataclass(frozen=True)
class StudyTick:
    """How far a study is.

    Attributes
    ----------
    run : str
        The one of which something is told.
    doing : str
        'train', the name of a test, 'finished' or 'failed'.
    done, total : int
        How much of that.
    runs_done, runs : int
        Of the study.
    """

    run: str
    doing: str
    done: int
    total: int
    runs_done: int
    runs: int


@dataclasses.dataclass(frozen=True, eq=False)
class Ablation:
    """What came out.

    Attributes
    ----------
    folder : Path
    songs, summary, comparisons, sweep, curves : pd.DataFrame
        As in the folder.
    missing : dict of str to str
        Runs that are not finished, and why.
    done_before : int
        Runs that were finished already.
    interrupted : bool
        By Ctrl-C; the same call goes on.
    """

    folder: Path
    songs: pd.DataFrame
    summary: pd.DataFrame
    comparisons: pd.DataFrame
    sweep: pd.DataFrame
    curves: pd.DataFrame
    missing: dict[str, str]
    done_before: int
    interrupted: bool


def run_study(
    study: StudyRecipe,
    out: Path,
    *,
    jobs: int = 1,
    devices: Sequence[str] = ("auto",),
    workers: int = 0,
    max_minutes: float | None = None,
    progress: Callable[[StudyTick], None] = lambda tick: None,
) -> Ablation:
    """Train and test all variants of a study with all its seeds, as far as that was not done, and compare them.

    Parameters
    ----------
    study : StudyRecipe
        Of `training.study.load_study`.
    out : Path
        A folder, new or of an earlier call.
    jobs : int
        Trainings at once, each in a process of its own; 0: one after another in this process, where one that
        crashes ends all.
    devices : sequence of str
        Of torch; a training takes one that is free.
    workers : int
        Processes that make mixtures, of each training.
    max_minutes : float, optional
        The study stops after so long; the same call goes on.
    progress : callable, optional
        Called with a `StudyTick`, never twice at once.

    Returns
    -------
    Ablation

    Raises
    ------
    RecipeError
        A variant does not fit its corpora, or a test its separators: before anything is trained.
    TableError
        A corpus is none, or is damaged.
    BuildError
        The folder is something else, another call is at work in it, or the disk refuses.
    """
    if jobs < 0 or not devices:
        raise RecipeError(f"jobs is {jobs} and devices {list(devices)}: write 0 or more, and at least one device")
    deadline_s = None if max_minutes is None else time.time() + 60 * max_minutes
    runs = checked_runs(study, out)
    with BuildLock(out, "study"):
        # what is there of an earlier call is not finished from here on
        (out / STUDY).unlink(missing_ok=True)
        # variants with the same settings are one run
        left = {run.folder: run for run in runs if not is_done(run)}
        count = _Count(len({run.folder for run in runs}) - len(left), len({run.folder for run in runs}), progress)
        done_before = count.done
        failures, interrupted = do_runs([*left.values()], jobs, devices, Working(workers, deadline_s), count.tell)
        missing = {
            run.name: failures.get(left[run.folder].name, STOPPED)
            for run in runs
            if run.folder in left and not is_done(run)
        }
        return _written(study, runs, out, missing, done_before, interrupted)


def checked_runs(study: StudyRecipe, out: Path) -> list[Run]:
    """All runs of a study, after a look for whatever would keep them from their end.

    Parameters
    ----------
    study : StudyRecipe
    out : Path

    Returns
    -------
    list of Run

    Raises
    ------
    RecipeError, TableError, BuildError
        As `run_study`.
    """
    runs = runs_of(study, out)
    check_runs(runs)
    if find_table(out, "stems") is not None or (out / RUN).exists():
        raise BuildError(f"{out}: is a corpus, a build or a training run; choose another folder for the study")
    by_folder: dict[Path, list[str]] = {}
    for run in runs:
        by_folder.setdefault(run.folder, []).append(run.variant)
    for names in dict.fromkeys(tuple(names) for names in by_folder.values() if len(names) > 1):
        log.warning("variants %s are the same training, which is done once", " and ".join(names))
    return runs


class _Count:
    """How many runs are done, told with each report."""

    def __init__(self, done: int, total: int, progress: Callable[[StudyTick], None]) -> None:
        self.done = done
        self._total = total
        self._progress = progress
        self._lock = threading.Lock()

    def tell(self, run: Run, doing: str, done: int, total: int) -> None:
        with self._lock:
            self.done += doing == "finished"
            self._progress(StudyTick(run.name, doing, done, total, self.done, self._total))


def _written(
    study: StudyRecipe, runs: Sequence[Run], out: Path, missing: dict[str, str], done_before: int, interrupted: bool
) -> Ablation:
    """Collect what the finished runs found, compare it, and write it down."""
    finished = [run for run in runs if run.name not in missing]
    songs = _collected(finished, "songs")
    names = [variant.name for variant in study.variants]
    tables = {
        "songs": songs,
        "summary": summaries(songs, study.scores),
        "comparisons": comparisons(songs, study.scores, names, study.compared_with),
        "sweep": _collected(finished, "sweep"),
        "curves": _curves(runs),
    }
    for name, table in tables.items():
        save_table(out, name, table, "parquet")
    record = {
        "builder": "ablate",
        "study": study.model_dump(mode="json"),
        "runs": [
            {
                "variant": run.variant,
                "seed": run.seed,
                "folder": run.folder.relative_to(out).as_posix(),
                "steps": run.recipe.epochs * run.recipe.epoch_steps(),
                "missing": missing.get(run.name),
            }
            for run in runs
        ],
        "python": platform.python_version(),
        "versions": {name: installed_version(name) for name in ("stemloom", "torch", "numpy", "scipy")},
    }
    write_json(out / STUDY, record)
    return Ablation(out, **tables, missing=missing, done_before=done_before, interrupted=interrupted)


def _collected(runs: Sequence[Run], table: str) -> pd.DataFrame:
    """A table of all evaluations, with variant, seed and test in place of the method."""
    parts = []
    for run in runs:
        for test in run.tests:
            path = run.folder_of(test) / f"{table}.parquet"
            if path.is_file():
                found = pd.read_parquet(path).drop(columns="method")
                parts.append(
                    pd.DataFrame({"variant": run.variant, "seed": run.seed, "test": test.name} | dict(found))
                )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _curves(runs: Sequence[Run]) -> pd.DataFrame:
    """What validations found: a row for each run, step and target, and one for the loss."""
    rows: list[dict[str, Any]] = []
    for run in runs:
        for line in read_journal(run.folder):
            found = line.get("validation")
            if found is not None:
                about = {"variant": run.variant, "seed": run.seed, "step": line["step"]}
                rows.append({**about, "what": "loss", "value": found["loss"]})
                rows += [{**about, "what": f"sdr_db {name}", "value": v} for name, v in found["targets"].items()]
    table = pd.DataFrame(rows, columns=["variant", "seed", "step", "what", "value"])
    return table.astype({"value": "float64"})
