"""The command line: parse, call one builder, show progress, say how it went.

    stemloom demo                                   the whole path on a small catalogue made in code
    stemloom scan MUSIC --out BUILD                 the tracks table of a folder of music
    stemloom build catalog MUSIC --out BUILD        aligned (mixture, instrumental, vocals) triplets
    stemloom build cinematic RECIPE --from CORPUS... --out BUILD    mixtures of speech, music and effects, rendered
    stemloom build universal RECIPE --from CORPUS... --out BUILD    mixtures of any sounds, rendered
    stemloom listen RECIPE --from CORPUS... --out FOLDER            examples of a mixing recipe, on a page
    stemloom curate CORPUS --out CURATED            a corpus to train with: graded, balanced, split, cut
    stemloom import FOLDER --layout L --out CORPUS  a corpus from a folder of recorded stems or single sounds
    stemloom export CORPUS --layout L --out FOLDER  a corpus as other projects read it
    stemloom pack BUILD                             plain samples beside a build, to train without decoding
    stemloom check BUILD                            validate a build
    stemloom report BUILD                           a page about a build
    stemloom card BUILD                             a dataset card and Croissant metadata, to publish a build

Exit codes: 0 success, 1 failure, 2 bad usage, 130 stopped by Ctrl-C (the same command resumes;
an export starts anew).
"""

from __future__ import annotations

import io
import itertools
import logging
import math
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from importlib import metadata as distributions
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cyclopts
from cyclopts import App, Parameter, validators
from pydantic import BaseModel, ValidationError
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

from builders.recipe import (
    RECIPES,
    CardRecipe,
    CatalogRecipe,
    CurateRecipe,
    ExportRecipe,
    ImportRecipe,
    MixedRecipe,
    MixtureRecipe,
    PackRecipe,
)
from manifests.errors import RecipeError, StemloomError
from manifests.recipes import make_recipe, read_mapping, wrong_fields

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builders.catalog import CatalogBuilder
    from builders.run import Progress as ProgressCall
    from manifests.corpus import Corpus

# no markup: paths and messages may hold square brackets
console = Console(highlight=False, markup=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

_DEFAULTS = CatalogRecipe()
_CURATE_DEFAULTS = CurateRecipe()
_CARD_DEFAULTS = CardRecipe()
_MIXTURE_DEFAULTS = MixtureRecipe()
_PACK_DEFAULTS = PackRecipe()

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
Config = Annotated[Path | None, Parameter(help="YAML file with recipe fields; flags given beside it win.")]
TableFormat = Annotated[Literal["parquet", "jsonl"], Parameter(name="--format", help="File format of the tables.")]


Corpora = Annotated[
    tuple[Path, ...],
    Parameter(name="--from", help="Folders of finished corpora.", negative="", consume_multiple=True),
]

# a flag that is given twice would silently win over the first where it is nested
_FLAGS = Parameter(name="*", negative_iterable="", allow_repeating=False, consume_multiple=True)


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
    config: Config = None,
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
    songs = corpus.stems.drop_duplicates("song_id")
    hours = float((songs["num_frames"] / songs["sample_rate"]).sum()) / 3600
    table.add_row("songs", f"{len(corpus.songs())} ({hours:.2f} h)")
    table.add_row("other pairs of these songs", str(status.get("alternative", 0)))
    table.add_row("refused candidates", f"{status.get('refused', 0)} (reasons in the pairs table)")
    for (stage, reason), rows in rejected.groupby(["stage", "reason"]):
        table.add_row(f"rejected: {stage}", f"{len(rows)} {reason}")
    console.print(table)
    if not corpus.songs():
        console.print("no pair was found; the reasons are in the pairs and rejected tables")
    return 0


@build_app.command(name="cinematic")
def build_cinematic(
    mix: str,
    /,
    *,
    corpora: Corpora,
    out: Path,
    config: Config = None,
    jobs: Jobs = 2,
    engine: Engine = "local",
    dry_run: DryRun = False,
    table_format: TableFormat = "parquet",
    recipe: Annotated[MixtureRecipe, _FLAGS] = _MIXTURE_DEFAULTS,
) -> int:
    """Render mixtures of speech or dialogue, music and effects, each event annotated.

    Parameters
    ----------
    mix
        The mixing recipe: the name of a ready one (such as dnr-v2), or a YAML file.
    out
        The build folder. The same command resumes a build that was stopped.
    """
    return _build_mixtures("cinematic", mix, corpora, out, jobs, dry_run, table_format, recipe)


@build_app.command(name="universal")
def build_universal(
    mix: str,
    /,
    *,
    corpora: Corpora,
    out: Path,
    config: Config = None,
    jobs: Jobs = 2,
    engine: Engine = "local",
    dry_run: DryRun = False,
    table_format: TableFormat = "parquet",
    recipe: Annotated[MixtureRecipe, _FLAGS] = _MIXTURE_DEFAULTS,
) -> int:
    """Render mixtures of any sounds, each event annotated.

    Parameters
    ----------
    mix
        The mixing recipe: the name of a ready one (such as fuss), or a YAML file.
    out
        The build folder. The same command resumes a build that was stopped.
    """
    return _build_mixtures("universal", mix, corpora, out, jobs, dry_run, table_format, recipe)


def _build_mixtures(
    kind: Literal["cinematic", "universal"],
    mix: str,
    corpora: tuple[Path, ...],
    out: Path,
    jobs: int,
    dry_run: bool,
    table_format: Literal["parquet", "jsonl"],
    recipe: MixtureRecipe,
) -> int:
    from builders.check import read_record
    from builders.mixtures import MixtureBuilder

    with _progress() as progress:
        builder = MixtureBuilder(out, kind, mix, recipe, jobs=jobs, table_format=table_format, progress=progress)
        if dry_run:
            table = _summary(f"{out}")
            for split, pool in builder.plan(corpora).items():
                for name, choice in pool.choices.items():
                    places = f"{len(choice.table)} places in {len(set(choice.song))} songs"
                    table.add_row(f"{split} {name}".strip(), places)
                    for reason, count in pool.left_out[name].items():
                        table.add_row(f"left out: {f'{split} {name}'.strip()}", f"{count} {reason}")
        else:
            table = _mixed(builder.build(corpora), out, read_record(out / "run.json"))
    console.print(table)
    return 0


def _mixed(corpus: Corpus, out: Path, run: dict[str, Any]) -> Table:
    """How a set of mixtures came out, beside what the recipe says."""
    from builders.report.mixtures import left_out

    table = _summary(f"{out}")
    mixtures = corpus.stems[corpus.stems["stem"] == "mixture"]
    seconds = mixtures["num_frames"] / mixtures["sample_rate"]
    table.add_row("mixtures", f"{len(mixtures)} ({float(seconds.sum()) / 3600:.2f} h)")
    for split, length in seconds.groupby(mixtures["split"]):
        table.add_row(f"{split}", f"{len(length)} mixtures ({float(length.sum()) / 3600:.2f} h)")
    facts = run["realised"]
    for name, source in facts["sources"].items():
        words = [f"{source['count']['mean']:.2f} in a mixture (nominal {source['count']['nominal_mean']:.2f})"]
        level = source["loudness_lufs"]
        if level["mean"] is not None:
            nominal = f" (nominal {level['nominal_mean']:.1f})" if "nominal_mean" in level else ""
            words.append(f"{level['mean']:.1f} LUFS{nominal}")
        table.add_row(f"source {name}", ", ".join(words))
    for name, share in facts["targets"].items():
        table.add_row(f"target {name}", f"sounds for {100 * share:.0f} % of the time")
    for part, name, cause, number in left_out(run):
        table.add_row(f"left out: {f'{part} {name}'.strip()}", f"{number} {cause}")
    if run["replaced"]:
        table.add_row("drawn again", f"{run['replaced']} times: files could not be read")
    assert corpus.rejected is not None
    for (stage, reason), rows in corpus.rejected.groupby(["stage", "reason"]):
        table.add_row(f"rejected: {stage}", f"{len(rows)} {reason}")
    return table


@app.command
def listen(
    mix: str,
    /,
    *,
    corpora: Corpora,
    out: Path = Path("listen"),
    num: Annotated[
        int, Parameter(name=["--num", "-n"], help="How many examples.", validator=validators.Number(gte=1))
    ] = 8,
    seed: Annotated[int, Parameter(help="Of the draws.", validator=validators.Number(gte=0, lte=2**63 - 1))] = 0,
    split: Annotated[str | None, Parameter(help="Take sources from this split only.")] = None,
    jobs: Jobs = 2,
) -> int:
    """Render a few mixtures of a recipe, and write a page to hear and to see them.

    Parameters
    ----------
    mix
        The mixing recipe: the name of a ready one (such as jusperlee2023), or a YAML file.
    out
        A new or empty folder for the examples and their page.
    """
    from augment.recipe import load_mix
    from builders.listen import write_examples

    with _progress() as progress:
        page = write_examples(
            load_mix(mix), corpora, out, name=mix, num=num, seed=seed, split=split, jobs=jobs, progress=progress
        )
    console.print(f"examples: {page}")
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
def curate(
    corpus: Path,
    /,
    *,
    out: Path,
    config: Config = None,
    jobs: Jobs = 2,
    engine: Engine = "local",
    dry_run: DryRun = False,
    limit: Annotated[
        int | None,
        Parameter(help="Only the first songs, sorted by id.", validator=validators.Number(gte=1)),
    ] = None,
    max_worker_memory: WorkerMemory = None,
    table_format: TableFormat = "parquet",
    recipe: Annotated[CurateRecipe, _FLAGS] = _CURATE_DEFAULTS,
) -> int:
    """Make a corpus to train with: graded, gated, without duplicates, balanced, split, cut into clips.

    Parameters
    ----------
    corpus
        The folder of a finished build or import; it is left as it is.
    out
        The new corpus' folder. The same command resumes a run that was stopped.
    """
    from builders.check import read_record
    from builders.curate import CurateBuilder

    if dry_run:
        songs = CurateBuilder(out, recipe, jobs=jobs, limit=limit).plan(corpus)
        console.print(f"{corpus}: {songs} songs would be inspected, then curated into {out}")
        return 0
    with _progress() as progress:
        curated = CurateBuilder(
            out,
            recipe,
            jobs=jobs,
            table_format=table_format,
            limit=limit,
            max_memory_bytes=None if max_worker_memory is None else int(max_worker_memory * 1e9),
            progress=progress,
        ).build(corpus)
    table = _summary(f"{out}")
    mixtures = curated.stems.drop_duplicates("song_id")
    seconds = mixtures["num_frames"] / mixtures["sample_rate"]
    grades = ", ".join(f"{count} {grade}" for grade, count in mixtures["grade"].value_counts().sort_index().items())
    table.add_row("songs", f"{len(mixtures)} ({float(seconds.sum()) / 3600:.2f} h; grades {grades})")
    for split, length in seconds.groupby(mixtures["split"]):
        table.add_row(f"{split}", f"{len(length)} songs ({float(length.sum()) / 3600:.2f} h)")
    assert curated.rejected is not None
    assert curated.clips is not None
    without = len(mixtures) - curated.clips["song_id"].nunique()
    for gate in read_record(out / "run.json")["gates"]:
        table.add_row(f"gate {gate['name']}", f"{gate['kept']} pass, {gate['dropped']} do not\n{_drawn(gate)}")
    table.add_row("clips", f"{len(curated.clips)}" + (f" ({without} songs have none)" if without else ""))
    for (stage, reason), rows in curated.rejected.groupby(["stage", "reason"]):
        table.add_row(f"left out: {stage}", f"{len(rows)} {reason}")
    console.print(table)
    return 0


@app.command(name="import")
def import_stems(
    folder: Path,
    /,
    *,
    out: Path,
    config: Config = None,
    jobs: Jobs = 2,
    engine: Engine = "local",
    dry_run: DryRun = False,
    table_format: TableFormat = "parquet",
    recipe: Annotated[ImportRecipe, _FLAGS],
) -> int:
    """Turn a folder of recorded stems into a corpus: MUSDB18-HQ, MoisesDB, any folder for each song, single sounds.

    Parameters
    ----------
    folder
        Where the songs are.
    out
        The build folder. The same command resumes an import that was stopped.
    """
    from builders.imports import ImportBuilder, find_songs

    if dry_run:
        found, left_out = find_songs(folder, recipe)
        console.print(f"{folder}: {len(found)} songs would be imported, {len(left_out)} left out")
        for song in left_out:
            console.print(f"{song.path}: {song.reason}: {song.detail}")
        return 0
    with _progress() as progress:
        corpus = ImportBuilder(out, recipe, jobs=jobs, table_format=table_format, progress=progress).build(folder)
    table = _summary(f"{out}")
    songs = corpus.stems.drop_duplicates("song_id")
    seconds = songs["num_frames"] / songs["sample_rate"]
    table.add_row("songs", f"{len(songs)} ({float(seconds.sum()) / 3600:.2f} h)")
    for split, length in seconds.groupby(songs["split"].fillna("no split")):
        table.add_row(f"{split}", f"{len(length)} songs ({float(length.sum()) / 3600:.2f} h)")
    assert corpus.rejected is not None
    for (stage, reason), rows in corpus.rejected.groupby(["stage", "reason"]):
        table.add_row(f"rejected: {stage}", f"{len(rows)} {reason}")
    console.print(table)
    return 0


@app.command
def export(
    corpus: Path,
    /,
    *,
    out: Path,
    config: Config = None,
    dry_run: DryRun = False,
    recipe: Annotated[ExportRecipe, _FLAGS],
) -> int:
    """Write a corpus in the layout of another project.

    Parameters
    ----------
    corpus
        The folder of a finished build.
    out
        A new or empty folder. It appears when it is complete.
    """
    from builders.exports import chosen_songs, export_corpus
    from manifests.corpus import Corpus

    source = Corpus.open(corpus)
    if dry_run:
        console.print(f"{corpus}: {len(chosen_songs(source, recipe))} songs would be exported as {recipe.layout}")
        return 0
    with _progress() as progress:
        exported = export_corpus(source, out, recipe, progress)
    table = _summary(f"{out}")
    for split, count in exported.songs.items():
        table.add_row(split, f"{count} songs")
    for how, count in exported.files.items():
        table.add_row(f"files {how}", str(count))
    console.print(table)
    return 0


@app.command
def pack(
    build: Path,
    /,
    *,
    config: Config = None,
    jobs: Jobs = 2,
    engine: Engine = "local",
    dry_run: DryRun = False,
    limit: Annotated[
        int | None,
        Parameter(help="Only the first songs, sorted by id.", validator=validators.Number(gte=1)),
    ] = None,
    recipe: Annotated[PackRecipe, _FLAGS] = _PACK_DEFAULTS,
) -> int:
    """Decode a build's audio once, into the folder `packed` inside it, for training that would wait for decoders.

    Parameters
    ----------
    build
        The folder of a finished build. The same command resumes a packing that was stopped.
    """
    from builders.pack import PackBuilder
    from manifests.packed import PACKED

    if dry_run:
        plan = PackBuilder(recipe, jobs=jobs, limit=limit).plan(build)
        console.print(
            f"{build}: {plan.num_stems} stems would be packed as {plan.sample_format}, {plan.num_bytes / 1e9:.2f} "
            f"GB; {plan.free_bytes / 1e9:.2f} GB are free"
        )
        return 0
    with _progress() as progress:
        packed = PackBuilder(recipe, jobs=jobs, limit=limit, progress=progress).build(build)
    table = _summary(f"{build / PACKED}")
    index = packed.index
    seconds = float((index["num_frames"] / index["sample_rate"]).sum())
    table.add_row("stems", f"{len(index)} ({seconds / 3600:.2f} h)")
    table.add_row("samples", f"{index['sample_format'].iloc[0]}, {packed.num_bytes / 1e9:.2f} GB")
    for (stage, reason), rows in packed.rejected.groupby(["stage", "reason"]):
        table.add_row(f"rejected: {stage}", f"{len(rows)} {reason}")
    console.print(table)
    if len(packed.rejected):
        console.print(
            f"{len(packed.rejected)} stems are not in the store; the reasons are in rejected.parquet there"
        )
    return 0


@app.command
def check(
    build: Path,
    /,
    *,
    unseen: Annotated[
        tuple[Path, ...],
        Parameter(
            help="Folders with music (a test set) of which nothing may be in the build.",
            negative="",
            consume_multiple=True,
        ),
    ] = (),
) -> int:
    """Validate a build: schemas, files, hashes, lengths, sums, splits without leaks.

    Parameters
    ----------
    build
        A build folder.
    """
    from builders.check import check_build

    with _progress() as progress:
        problems = check_build(build, progress, unseen=unseen)
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
def card(build: Path, /, *, config: Config = None, recipe: Annotated[CardRecipe, _FLAGS] = _CARD_DEFAULTS) -> int:
    """Write what goes beside a corpus that is published: README.md, for the Hugging Face Hub, and croissant.json.

    Parameters
    ----------
    build
        A build folder.
    """
    from builders.card import write_card

    written = write_card(build, recipe)
    table = _summary(f"{build}")
    for row in written.licenses:
        name = "no licence" if row.license is None else row.license.name
        table.add_row(name, f"{row.songs} songs ({row.hours:.2f} h), {row.provenance}")
    console.print(table)
    console.print(f"card: {written.readme}")
    console.print(f"croissant: {written.croissant}")
    if written.missing:
        flags = ", ".join(f"--{name}" for name in written.missing)
        console.print(f"croissant.json lacks what only you know, before you publish it: {flags}")
    if written.unlicensed:
        errors.print(
            f"{written.unlicensed} of {written.songs} songs have no licence: you may not redistribute them, "
            "nor what is made of them, unless their owners let you",
            style="red",
        )
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


def _drawn(gate: dict[str, Any]) -> str:
    """The distribution that a gate cuts, from its lowest to its highest value, with a bar where it cuts."""
    edges, counts = gate["edges"], gate["counts"]
    if not counts:
        return "no values"
    threshold = gate["maximum"] if gate["minimum"] is None else gate["minimum"]
    cut = min(range(len(edges)), key=lambda place: abs(edges[place] - threshold))
    sides = [_bars(counts[:cut], max(counts)), _bars(counts[cut:], max(counts))]
    return f"{edges[0]:.3g} {'│'.join(sides)} {edges[-1]:.3g}"


def _bars(counts: Sequence[int], highest: int) -> str:
    """Two bins a character."""
    pairs = [max(counts[place : place + 2]) for place in range(0, len(counts), 2)]
    return "".join(" ▁▂▃▄▅▆▇█"[math.ceil(8 * count / highest)] for count in pairs)


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
    words = tokens[1:] if tokens[:1] == ["build"] else tokens
    kind = RECIPES.get(words[0]) if words else None
    kind = MixtureRecipe if kind is MixedRecipe else kind  # the rest of it is no flag
    for position, token in enumerate(tokens):
        name, _, value = token.partition("=")
        if name != "--config" or kind is None:
            continue
        value = value or "".join(tokens[position + 1 : position + 2])
        if not value:
            continue  # the parser says what is missing
        path = Path(value)
        values = read_mapping(path)
        make_recipe(
            {**_needed_flags(tokens, kind), **values}, str(path), kind
        )  # errors name the file and the field
        fields = {key: _as_flag(value) for key, value in values.items()}
        app.config = [cyclopts.config.Dict(fields, source=str(path), use_commands_as_keys=False)]


def _needed_flags(tokens: Sequence[str], kind: type[BaseModel]) -> dict[str, object]:
    """The flags of fields without a default, which a file may leave to them."""
    given = dict(itertools.pairwise(word for token in tokens for word in token.split("=", 1)))
    needed = [name for name, field in kind.model_fields.items() if field.is_required()]
    return {name: given[f"--{name}"] for name in needed if f"--{name}" in given}


def _as_flag(value: object) -> object:
    """A value of a YAML file as the command line would say it."""
    if isinstance(value, dict):
        return {
            key: ",".join(map(str, names)) if isinstance(names, list) else names for key, names in value.items()
        }
    return "none" if value is None else value


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
        errors.print(f"stopped; the same command {'starts anew' if tokens[:1] == ['export'] else 'resumes'}")
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
