"""The command line: parse, call one builder, show progress, say how it went.

    stemloom demo                                   the whole path on a small catalogue made in code
    stemloom scan MUSIC --out BUILD                 the tracks table of a folder of music
    stemloom build catalog MUSIC --out BUILD        aligned (mixture, instrumental, vocals) triplets
    stemloom check BUILD                            validate a build
    stemloom report BUILD                           a page about a build

Exit codes: 0 success, 1 failure, 2 bad usage, 130 stopped by Ctrl-C (the same command resumes).
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from importlib import metadata as distributions
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import cyclopts
import yaml
from cyclopts import App, Parameter, validators
from pydantic import ValidationError
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from builders.recipe import CatalogRecipe, load_recipe, wrong_fields
from manifests.errors import RecipeError, StemloomError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builders.catalog import CatalogBuilder
    from builders.catalog import Progress as ProgressCall

# no markup: paths and messages may hold square brackets
console = Console(highlight=False, markup=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

_DEFAULTS = CatalogRecipe()

Jobs = Annotated[int, Parameter(help="Worker processes; 0 works in this process.")]
Engine = Annotated[Literal["local"], Parameter(help="What runs the stages.")]
DryRun = Annotated[bool, Parameter(negative="", help="Say what would be done, and do nothing.")]
Limit = Annotated[
    int | None,
    Parameter(help="Only the first files, sorted by path.", validator=validators.Number(gte=1)),
]
WorkerMemory = Annotated[
    float | None,
    Parameter(
        help="GB that one worker may hold; what needs more is given up (Linux).",
        validator=validators.Number(gte=1, lte=1_000_000),
    ),
]
TableFormat = Annotated[Literal["parquet", "jsonl"], Parameter(name="--format", help="File format of the tables.")]


def _version() -> str:
    try:
        return distributions.version("stemloom")
    except distributions.PackageNotFoundError:
        return "not installed"


app = App(
    name="stemloom",
    version=_version,
    help="Builds training corpora for audio source separation.",
    suppress_keyboard_interrupt=False,
)
build_app = App(name="build", help="Build a corpus.")
app.command(build_app)


@build_app.command(name="catalog")
def build_catalog(
    folder: Path,
    /,
    *,
    out: Path,
    config: Annotated[
        Path | None, Parameter(help="YAML file with recipe fields; flags given beside it win.")
    ] = None,
    jobs: Jobs = 2,
    engine: Engine = "local",
    dry_run: DryRun = False,
    limit: Limit = None,
    max_worker_memory: WorkerMemory = None,
    table_format: TableFormat = "parquet",
    recipe: Annotated[CatalogRecipe, Parameter(name="*")] = _DEFAULTS,
) -> int:
    """Turn a folder of releases into aligned (mixture, instrumental, vocals) triplets.

    Parameters
    ----------
    folder
        The catalogue: music files in any folder structure.
    out
        The build folder. The same command resumes a build that was stopped.
    """
    if dry_run:
        return _say_plan(folder, limit)
    with _progress() as progress:
        builder = _builder(out, recipe, jobs, table_format, limit, progress, max_worker_memory)
        corpus = builder.build(folder)
    pairs, rejected = corpus.pairs, corpus.rejected
    assert pairs is not None
    assert rejected is not None
    status = pairs["status"].value_counts()
    table = _summary(f"{out}")
    mixtures = corpus.stems[corpus.stems["stem"] == "mixture"]
    hours = float((mixtures["num_frames"] / mixtures["sample_rate"]).sum()) / 3600
    table.add_row("songs", f"{len(corpus.songs())} ({hours:.2f} h)")
    table.add_row("other pairs of these songs", str(status.get("alternative", 0)))
    table.add_row("refused candidates", f"{status.get('refused', 0)} (reasons in the pairs table)")
    for (stage, reason), rows in rejected.groupby(["stage", "reason"]):
        table.add_row(f"rejected: {stage}", f"{len(rows)} {reason}")
    console.print(table)
    if not corpus.songs():
        console.print("no pair was found; the reasons are in the pairs and rejected tables")
    return 0


@app.command
def scan(
    folder: Path,
    /,
    *,
    out: Path,
    jobs: Jobs = 2,
    engine: Engine = "local",
    dry_run: DryRun = False,
    limit: Limit = None,
    table_format: TableFormat = "parquet",
) -> int:
    """List the music in a folder: decode, read tags, measure loudness, fingerprint.

    Parameters
    ----------
    folder
        Music files in any folder structure.
    out
        Where the tracks and rejected tables go. `build catalog` with the same folder goes on from there.
    """
    if dry_run:
        return _say_plan(folder, limit)
    with _progress() as progress:
        tracks = _builder(out, CatalogRecipe(), jobs, table_format, limit, progress).scan(folder)
    table = _summary(f"{out}")
    hours = float((tracks["num_frames"] / tracks["sample_rate"]).sum()) / 3600
    table.add_row("tracks", f"{len(tracks)} ({hours:.2f} h)")
    for version, count in tracks["version"].value_counts().items():
        table.add_row(f"labelled {version}", str(count))
    console.print(table)
    return 0


@app.command
def check(build: Path, /) -> int:
    """Validate a build: schemas, files, hashes, lengths, sums.

    Parameters
    ----------
    build
        A build folder.
    """
    from builders.check import check_build

    with _progress() as progress:
        problems = check_build(build, progress)
    for problem in problems:
        errors.print(problem)
    if problems:
        errors.print(f"{build}: {len(problems)} problems")
        return 1
    console.print(f"{build}: all well")
    return 0


@app.command
def report(build: Path, /) -> int:
    """Write a page about a build: counts, distributions, best and worst songs.

    Parameters
    ----------
    build
        A build folder.
    """
    from builders.report import write_report

    console.print(f"report: {write_report(build)}")
    return 0


@app.command
def demo(*, out: Path = Path("demo-build"), jobs: Jobs = 2, seed: int = 0) -> int:
    """Make a small catalogue in code, build a corpus from it, and compare with the truth.

    Parameters
    ----------
    out
        Folder for the catalogue and the build.
    seed
        Of the catalogue.
    """
    from builders.demo import run_demo

    with _progress() as progress:
        result = run_demo(out, seed=seed, jobs=jobs, progress=progress)
    table = _summary("stemloom demo")
    for name, value in result.lines():
        table.add_row(name, value)
    console.print(table)
    console.print(f"report: {result.report}")
    return 0 if result.is_good else 1


def _builder(
    out: Path,
    recipe: CatalogRecipe,
    jobs: int,
    table_format: Literal["parquet", "jsonl"],
    limit: int | None,
    progress: ProgressCall,
    max_worker_memory: float | None = None,
) -> CatalogBuilder:
    from builders.catalog import CatalogBuilder

    return CatalogBuilder(
        out,
        recipe,
        jobs=jobs,
        table_format=table_format,
        limit=limit,
        max_memory_bytes=None if max_worker_memory is None else int(max_worker_memory * 1e9),
        progress=progress,
    )


def _say_plan(folder: Path, limit: int | None) -> int:
    from builders.scan import walk_folder

    paths, rejects = walk_folder(folder)
    console.print(
        f"{folder}: {len(paths[:limit])} audio files would be scanned, {len(rejects)} other entries left out"
    )
    return 0


def _summary(title: str) -> Table:
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    return table


@contextmanager
def _progress() -> Iterator[ProgressCall]:
    """Bars for a person, silence for a pipe."""
    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=errors, disable=not errors.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int, rejected: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, note="")
            bars.update(tasks[stage], completed=done, total=total, note=f"{rejected} refused" if rejected else "")

        yield show


def _use_config(tokens: Sequence[str]) -> None:
    """Let the recipe fields of `--config FILE` stand in for flags that were not given."""
    app.config = ()
    for position, token in enumerate(tokens):
        name, _, value = token.partition("=")
        if name != "--config":
            continue
        value = value or "".join(tokens[position + 1 : position + 2])
        if not value:
            continue  # the parser says what is missing
        path = Path(value)
        load_recipe(path)  # errors name the file and the field
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        fields = {key: "none" if value is None else value for key, value in values.items()}
        app.config = [cyclopts.config.Dict(fields, source=str(path), use_commands_as_keys=False)]


def main(tokens: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    tokens = list(sys.argv[1:] if tokens is None else tokens)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name need not be text
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=errors, show_path=False)]
    )
    try:
        _use_config(tokens)
        code = app(tokens, result_action="return_value", print_error=False, exit_on_error=False)
    except cyclopts.CycloptsError as error:
        cause = error.__cause__
        if isinstance(cause, ValidationError):
            errors.print("error: " + "\n".join(wrong_fields(cause)), style="red")
        else:
            errors.print(cyclopts.CycloptsPanel(error), soft_wrap=False)
        code = 2
    except RecipeError as error:
        errors.print(f"error: {error}", style="red")
        code = 2
    except StemloomError as error:
        errors.print(f"error: {error}", style="red")
        code = 1
    except KeyboardInterrupt:
        errors.print("stopped; the same command resumes")
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
