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
    stemloom train RECIPE --from CORPUS... --out RUN                a separator, from mixtures drawn on the fly
    stemloom separate FILES... --model M --out FOLDER               stems of files of any length
    stemloom clean CORPUS --stems music,effects --separator M --out CLEAN    a corpus without voices in these stems
    stemloom anchor CORPUS --tagger onnx:M --classes LIST --out ANCHORS    clips where a sound's labels are heard
    stemloom evaluate MODEL --on CORPUS --out FOLDER                how good a separator is, with a page
    stemloom mushra NAME=MODEL... --on CORPUS --out FOLDER          a listening test of separators
    stemloom ablate STUDY --out FOLDER              which data and which augmentation help, with statistics
    stemloom check BUILD                            validate a build
    stemloom report BUILD                           a page about a build
    stemloom audit BUILD                            hear the songs of a build and judge them, on a page
    stemloom card BUILD                             a dataset card and Croissant metadata, to publish a build

Exit codes: 0 success, 1 failure, 2 bad usage, 130 stopped by Ctrl-C and 143 by SIGTERM (the same command resumes;
an export starts anew).
"""

from __future__ import annotations

import dataclasses
import getpass
import io
import itertools
import logging
import math
import os
import re
import signal
import sys
import threading
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cyclopts
from cyclopts import App, Parameter, validators
from pydantic import BaseModel, ValidationError
from rich.console import Console, ConsoleRenderable
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
from rich.text import Text

from builders.recipe import (
    RECIPES,
    AnchorRecipe,
    CardRecipe,
    CatalogRecipe,
    CleanRecipe,
    CurateRecipe,
    ExportRecipe,
    ImportRecipe,
    MixedRecipe,
    MixtureRecipe,
    PackRecipe,
    SeparationRecipe,
)
from manifests.errors import RecipeError, StemloomError
from manifests.installed import installed_version
from manifests.recipes import make_recipe, read_mapping, wrong_fields
from manifests.staging import as_addresses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from augment.recipe import MixRecipe
    from augment.render import Separate
    from builders.audit.standing import Applied
    from builders.catalog import CatalogBuilder
    from builders.stage import Engine as StageEngine
    from builders.stage import Progress as ProgressCall
    from manifests.corpus import Corpus
    from separators.separator import Separator
    from training.ablation import Ablation, StudyTick
    from training.loop import Tick

# what drives a terminal, and what turns the order of what it shows; a line break and a tab do no harm
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def _visible(text: str) -> str:
    """What people are shown: a stranger's control characters in letters, what stands for a bucket as its URL."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), as_addresses(text))


class _SafeConsole(Console):
    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(_visible(text), **options)


class _SafeLog(RichHandler):
    def render_message(self, record: logging.LogRecord, message: str) -> ConsoleRenderable:
        return super().render_message(record, _visible(message))


# no markup, no emoji: paths and messages may hold square brackets and colons
console = _SafeConsole(highlight=False, markup=False, emoji=False, soft_wrap=True)
errors = _SafeConsole(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

BEST = "best.safetensors"

_DEFAULTS = CatalogRecipe()
_CURATE_DEFAULTS = CurateRecipe()
_CARD_DEFAULTS = CardRecipe()
_MIXTURE_DEFAULTS = MixtureRecipe()
_PACK_DEFAULTS = PackRecipe()
_SEPARATION_DEFAULTS = SeparationRecipe()
_ANCHOR_DEFAULTS = AnchorRecipe()

Jobs = Annotated[int, Parameter(help="Worker processes; 0 works in this process.")]
DryRun = Annotated[bool, Parameter(negative="", help="Say what would be done, and do nothing.")]
Limit = Annotated[
    int | None,
    Parameter(help="Only the first files, sorted by path.", validator=validators.Number(gte=1)),
]
WorkerMemory = Annotated[
    float | None,
    Parameter(
        help="GB that one worker may hold; what needs more is given up (Linux). By default its share of the "
        "machine's memory, and at least 2.",
        validator=validators.Number(gte=1, lte=1_000_000),
    ),
]
Memory = Annotated[
    float,
    Parameter(
        help="GB, at least 1, that all processes may hold while the sound of all tracks is compared.",
        validator=validators.Number(gte=1, lte=1_000_000),
    ),
]
Device = Annotated[str, Parameter(help="Of torch: cpu, cuda, cuda:1 ...; auto takes a GPU if there is one.")]
MaxMinutes = Annotated[
    float | None,
    Parameter(
        help="Stop after so long, which is no failure (0 is the exit code); the same command resumes.",
        validator=validators.Number(gt=0),
    ),
]
Config = Annotated[Path | None, Parameter(help="YAML file with recipe fields; flags given beside it win.")]
TableFormat = Annotated[Literal["parquet", "jsonl"], Parameter(name="--format", help="File format of the tables.")]


_PORT = validators.Number(gte=0, lte=65535)
_SHARE = validators.Number(gt=0, lt=1)


def _to_read(_: type, tokens: Sequence[cyclopts.Token]) -> Path:
    """A folder, or what stands for one in a bucket, with its tables brought."""
    from manifests.staging import fetched

    return fetched(tokens[0].value)


def _to_publish(_: type, tokens: Sequence[cyclopts.Token]) -> Path:
    """A folder, or what stands for one in a bucket, which `main` publishes when the command has ended."""
    from manifests.staging import working_folder

    return working_folder(tokens[0].value)


Source = Annotated[Path, Parameter(converter=_to_read)]
Out = Annotated[Path, Parameter(converter=_to_publish)]
Corpora = Annotated[
    tuple[Source, ...],
    Parameter(
        name="--from",
        help="Folders of finished corpora, or URLs of them in buckets.",
        negative="",
        consume_multiple=True,
    ),
]


@dataclasses.dataclass(frozen=True)
class _Separating:
    """How separators work: flags of all commands that have one."""

    device: Device = "auto"
    overlap: Annotated[float, Parameter(help="Of neighbouring segments, 0 to below 1.")] = 0.25
    shifts: Annotated[int, Parameter(help="Grids of segments that are averaged.")] = 1
    batch_size: Annotated[int, Parameter(help="Segments at once.")] = 1
    allow_downloads: Annotated[
        bool, Parameter(negative="", help="Fetch weights that are addresses with their sha256, or known names.")
    ] = False

    def load(self, what: str) -> Separator:
        from separators.loading import load_separator

        return load_separator(what, **dataclasses.asdict(self) | {"device": _device(self.device)})


Separating = Annotated[_Separating, Parameter(name="*")]
_SEPARATING = _Separating()


@dataclasses.dataclass(frozen=True)
class _Running:
    """What runs the stages: flags of all commands that have some."""

    jobs: Annotated[
        int | None,
        Parameter(
            help="Worker processes; 0 works in this process. By default 2 (0 for separators and taggers, which use "
            "all of the machine), and on a cluster as many as it has room for."
        ),
    ] = None
    engine: Annotated[
        Literal["local", "ray"], Parameter(help="Where stages run: on this machine, or on all of a Ray cluster.")
    ] = "local"
    ray_address: Annotated[
        str | None,
        Parameter(
            help="Of the cluster: HOST:6379, or auto for that of this machine. By default what RAY_ADDRESS says, "
            "that of this machine, or a new one on it."
        ),
    ] = None

    def make(
        self, timeout_s: float | None = None, max_worker_memory: float | None = None, *, jobs: int = 2
    ) -> StageEngine:
        """The engine, with so many jobs here where nobody says how many."""
        limit = None if max_worker_memory is None else int(max_worker_memory * 1e9)
        if self.engine == "local":
            from builders.engine import LocalEngine

            if self.ray_address is not None:
                raise RecipeError("--ray-address is given without --engine ray; add that, or leave it out")
            jobs = jobs if self.jobs is None else self.jobs
            return LocalEngine(jobs, timeout_s, _share_of_memory(jobs) if limit is None else limit)
        try:
            from builders.cluster import RayEngine
        except ModuleNotFoundError as error:
            raise RecipeError(
                f"--engine ray needs the package {error.name}, which is missing: pip install 'stemloom[cluster]'"
            ) from error
        return RayEngine(self.ray_address, self.jobs, timeout_s, limit)


def _share_of_memory(jobs: int) -> int:
    """Bytes for one of so many workers, so that none brings the machine down."""
    return max(2_000_000_000, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // max(1, jobs))


Running = Annotated[_Running, Parameter(name="*")]
_RUNNING = _Running()

# a flag that is given twice would silently win over the first where it is nested
_FLAGS = Parameter(name="*", negative_iterable="", allow_repeating=False, consume_multiple=True)


app = App(
    name="stemloom",
    version=lambda: installed_version("stemloom") or "not installed",
    help="Builds training corpora for audio source separation.",
    suppress_keyboard_interrupt=False,
)
build_app = App(name="build", help="Build a corpus.")
app.command(build_app)


@build_app.command(name="catalog")
def build_catalog(
    folder: Source,
    /,
    *,
    out: Out,
    config: Config = None,
    running: Running = _RUNNING,
    dry_run: DryRun = False,
    limit: Limit = None,
    max_worker_memory: WorkerMemory = None,
    memory: Memory = 4,
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
        engine = running.make(recipe.max_item_s, max_worker_memory)
        builder = _builder(out, recipe, engine, table_format, limit, progress)
        corpus = dataclasses.replace(builder, memory_bytes=int(memory * 1e9)).build(folder)
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
    out: Out,
    config: Config = None,
    running: Running = _RUNNING,
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
    return _build_mixtures("cinematic", mix, corpora, out, running, dry_run, table_format, recipe)


@build_app.command(name="universal")
def build_universal(
    mix: str,
    /,
    *,
    corpora: Corpora,
    out: Out,
    config: Config = None,
    running: Running = _RUNNING,
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
    return _build_mixtures("universal", mix, corpora, out, running, dry_run, table_format, recipe)


@build_app.command(name="libraries")
def build_libraries(
    recipe: str,
    /,
    *,
    out: Out,
    root: Annotated[
        Path | None,
        Parameter(help="What the recipe's folders are relative to: its own by default, here for a ready one."),
    ] = None,
    separating: Separating = _SEPARATING,
    running: Running = _RUNNING,
    dry_run: DryRun = False,
    limit: Annotated[
        int | None,
        Parameter(
            help="To try a recipe: so many songs of each split and stem of a library, and mixtures of each split.",
            validator=validators.Number(gte=1),
        ),
    ] = None,
    table_format: TableFormat = "parquet",
) -> int:
    """Turn libraries of speech, music and effects into mixtures for the cinema: import, clean of voices, mix.

    Parameters
    ----------
    recipe
        The name of a ready recipe (such as dnr-v2), or a YAML file.
    out
        The folder of all corpora. The same command resumes a build that was stopped.
    """
    from builders.libraries import LibrariesBuilder, load_libraries

    loaded, home = load_libraries(recipe)
    jobs = 2 if running.jobs is None else running.jobs
    builder = LibrariesBuilder(out, loaded, root or home, separating.load, jobs, table_format, limit)
    table = _summary(f"{out}")
    if dry_run:
        for name, library in builder.plan().items():
            counts = [f"{count} {' '.join(filter(None, kind))}" for kind, count in library.songs.items()]
            table.add_row(f"library {name}", ", ".join(counts))
            if library.left_out:
                table.add_row(f"left out: {name}", f"{library.left_out} of {library.folder}")
    else:
        with _progress() as progress:
            engine_of = None if running.engine == "local" else running.make
            built = dataclasses.replace(builder, progress=progress, engine_of=engine_of).build()
        for name, text in built.lines():
            table.add_row(name, text)
    console.print(table)
    return 0


def _build_mixtures(
    kind: Literal["cinematic", "universal"],
    mix: str,
    corpora: tuple[Path, ...],
    out: Path,
    running: _Running,
    dry_run: bool,
    table_format: Literal["parquet", "jsonl"],
    recipe: MixtureRecipe,
) -> int:
    from builders.check import read_record
    from builders.mixtures import MixtureBuilder

    with _progress() as progress:
        builder = MixtureBuilder(out, kind, mix, recipe, table_format=table_format, progress=progress)
        if dry_run:
            table = _summary(f"{out}")
            for split, pool in builder.plan(corpora).items():
                for name, choice in pool.choices.items():
                    places = f"{len(choice.table)} places in {len(set(choice.song))} songs"
                    table.add_row(f"{split} {name}".strip(), places)
                    for reason, count in pool.left_out[name].items():
                        table.add_row(f"left out: {f'{split} {name}'.strip()}", f"{count} {reason}")
        else:
            engine = running.make(recipe.max_item_s)
            corpus = dataclasses.replace(builder, engine=engine).build(corpora)
            table = _mixed(corpus, out, read_record(out / "run.json"))
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
    out: Out = Path("listen"),
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
    folder: Source,
    /,
    *,
    out: Out,
    running: Running = _RUNNING,
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
        engine = running.make(_DEFAULTS.max_item_s)
        tracks = _builder(out, _DEFAULTS, engine, table_format, limit, progress).scan(folder)
    table = _summary(f"{out}")
    hours = float((tracks["num_frames"] / tracks["sample_rate"]).sum()) / 3600
    table.add_row("tracks", f"{len(tracks)} ({hours:.2f} h)")
    for version, count in tracks["version"].value_counts().items():
        table.add_row(f"labelled {version}", str(count))
    console.print(table)
    return 0


@app.command
def curate(
    corpus: Source,
    /,
    *,
    out: Out,
    config: Config = None,
    running: Running = _RUNNING,
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
        songs = CurateBuilder(out, recipe, limit=limit).plan(corpus)
        console.print(f"{corpus}: {songs} songs would be inspected, then curated into {out}")
        return 0
    with _progress() as progress:
        curated = CurateBuilder(
            out,
            recipe,
            engine=running.make(recipe.max_item_s, max_worker_memory),
            table_format=table_format,
            limit=limit,
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
    out: Out,
    config: Config = None,
    running: Running = _RUNNING,
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
        engine = running.make(recipe.max_item_s)
        builder = ImportBuilder(out, recipe, engine, table_format=table_format, progress=progress)
        corpus = builder.build(folder)
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
    corpus: Source,
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
    build: Source,
    /,
    *,
    config: Config = None,
    running: Running = _RUNNING,
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
        plan = PackBuilder(recipe, limit=limit).plan(build)
        console.print(
            f"{build}: {plan.num_stems} stems would be packed as {plan.sample_format}, {plan.num_bytes / 1e9:.2f} "
            f"GB; {plan.free_bytes / 1e9:.2f} GB are free"
        )
        return 0
    with _added_to(build), _progress() as progress:
        engine = running.make(recipe.max_item_s)
        packed = PackBuilder(recipe, engine, limit=limit, progress=progress).build(build)
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
def train(
    recipe: str,
    /,
    *,
    corpora: Corpora,
    out: Out,
    changes: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set",
            help="Fields that win, as batch_size=4 network.hidden=64.",
            negative="",
            consume_multiple=True,
        ),
    ] = (),
    device: Device = "auto",
    workers: Annotated[
        int,
        Parameter(
            help="Processes that make mixtures; 0 makes them between steps.", validator=validators.Number(gte=0)
        ),
    ] = 1,
    max_minutes: MaxMinutes = None,
    separator: Annotated[
        str | None, Parameter(help="What takes a target out first, for mixtures with 'remove: {by: separator}'.")
    ] = None,
    dry_run: DryRun = False,
) -> int:
    """Train a separator on mixtures that are drawn on the fly. On several GPUs: torchrun -m stemloom train ...

    Parameters
    ----------
    recipe
        A ready training recipe (deezer2019, deezer2019-small, demo, jusperlee2023, mrx, strauss2021, umx),
        or a YAML file.
    corpora
        Folders of finished corpora, with splits; what is packed is read from its store.
    out
        The run's folder. The same command resumes a run that was stopped.
    """
    import yaml

    from separators.weights import load_matching
    from training.checks import check_training
    from training.loop import train as run_training
    from training.making import make_network
    from training.recipe import load_training
    from training.runs import STATE

    resolved = load_training(recipe, changes)
    network = make_network(resolved)
    size = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    steps = resolved.epochs * resolved.epoch_steps(int(os.environ.get("WORLD_SIZE", 1)))
    is_first = int(os.environ.get("RANK", 0)) == 0
    matched = None
    if dry_run:
        matched = check_training(resolved, corpora)
        text = resolved.model_dump(mode="json", exclude_defaults=True)
        console.print(yaml.safe_dump(text, sort_keys=False, width=100))
    elif resolved.start_from is not None and not (out / STATE).is_file():
        matched = load_matching(network, Path(resolved.start_from))
    if is_first:
        console.print(
            f"{recipe}: {type(network).__name__} of {size:.2f} million parameters for "
            f"{', '.join(network.sources)}; {steps} steps"
        )
        if matched is not None:
            tensors = len(network.state_dict())
            console.print(f"{resolved.start_from}: {len(matched.taken)} of the network's {tensors} tensors taken")
    if dry_run:
        return 0
    separate = None if separator is None else _separate_by(separator, resolved.mix, device)
    with _steps(is_first) as progress:
        run = run_training(
            resolved,
            corpora,
            out,
            device=device,
            workers=workers,
            max_minutes=max_minutes,
            separate=separate,
            progress=progress,
        )
    if not is_first:
        return 0
    if not run.finished:
        has_best = (out / BEST).is_file()
        weights = f"best weights so far: {out / BEST}" if has_best else f"no {BEST} yet, before a first validation"
        console.print(f"stopped at step {run.step} of {steps}, {weights}; the same command resumes")
        return 130 if run.interrupted else 0
    assert run.validation is not None
    table = _summary(f"{out}")
    table.add_row("steps", str(run.step))
    table.add_row("loss", _decibels(run.validation["loss"], ""))
    for target, level in run.validation["targets"].items():
        table.add_row(f"SDR of {target}", f"{_decibels(level)} (median of {run.validation['num']} mixtures)")
    console.print(table)
    console.print(f"weights: {out / BEST}")
    return 0


@app.command
def separate(
    inputs: Annotated[tuple[Path, ...], Parameter(negative="")],
    /,
    *,
    model: str,
    out: Path,
    separating: Separating = _SEPARATING,
    running: Running = _RUNNING,
    dry_run: DryRun = False,
    limit: Limit = None,
    recipe: Annotated[SeparationRecipe, _FLAGS] = _SEPARATION_DEFAULTS,
) -> int:
    """Take files apart into stems, of any length and rate.

    Parameters
    ----------
    inputs
        Audio files, or one folder of them.
    model
        bundled:vocals, checkpoint:PATH, demucs:NAME, mdx-onnx:PATH, roformer:PATH, python:MODULE:NAME, command:...,
        baseline:centre, "2*checkpoint:A + checkpoint:B", or a YAML file.
    out
        A folder for each file, with a file for each source. The same command resumes what was stopped. Files that
        cannot be separated are rows of rejected.parquet in it, with the reason, and the exit code is 1.
    """
    from builders.separation import plan_separation, separate_files

    separator = separating.load(model)
    files = inputs[0] if len(inputs) == 1 else list(inputs)
    if dry_run:
        plan = plan_separation(files, separator, out, recipe, limit=limit)
        console.print(f"{len(plan.to_do)} files would be separated, {len(plan.done)} are done already")
        return 0
    with _progress() as progress:
        engine = running.make(jobs=0)
        done = separate_files(files, separator, out, recipe, limit=limit, progress=progress, engine=engine)
    table = _summary(f"{out}")
    new = sum(file.is_new for file in done.files)
    table.add_row("separated", f"{new} files into {', '.join(separator.sources)}")
    if new < len(done.files):
        table.add_row("done before", f"{len(done.files) - new} files")
    quieter = sum(file.gain_db < 0 for file in done.files)
    if quieter:
        table.add_row("made quieter", f"{quieter} files, whose stems would have gone beyond full scale")
    for (stage, reason), rows in done.rejected.groupby(["stage", "reason"]):
        table.add_row(f"rejected: {stage}", f"{len(rows)} {reason}")
    console.print(table)
    if len(done.rejected):
        console.print(f"reasons: {out / 'rejected.parquet'}")
    return 0 if done.is_whole else 1


@app.command
def clean(
    corpus: Source,
    /,
    *,
    separator: str,
    out: Out,
    config: Config = None,
    separating: Separating = _SEPARATING,
    running: Running = _RUNNING,
    dry_run: DryRun = False,
    limit: Annotated[
        int | None,
        Parameter(help="Only the first songs, sorted by id.", validator=validators.Number(gte=1)),
    ] = None,
    table_format: TableFormat = "parquet",
    recipe: Annotated[CleanRecipe, _FLAGS],
) -> int:
    """Take voices out of stems that should have none: a new corpus beside the old one.

    Parameters
    ----------
    corpus
        The folder of a finished build or import; it is left as it is.
    separator
        As for 'stemloom separate': bundled:vocals, demucs:NAME, "2*checkpoint:A + checkpoint:B" ...
    out
        The new corpus' folder. The same command resumes a run that was stopped.
    """
    from builders.clean import CleanBuilder

    builder = CleanBuilder(out, separating.load(separator), recipe, table_format, limit)
    if dry_run:
        stems = builder.plan(corpus)
        console.print(f"{corpus}: {stems} stems would be cleaned into {out}")
        return 0
    with _progress() as progress:
        engine = running.make(jobs=0)
        cleaned = dataclasses.replace(builder, progress=progress, engine=engine).build(corpus)
    table = _summary(f"{out}")
    found = cleaned.cleaned
    assert found is not None
    assert cleaned.rejected is not None
    for verdict, rows in found.groupby("verdict"):
        heard = rows["voice_db"].median()
        level = "" if verdict == "kept" else f" (voices at {_decibels(float(heard))}, median)"
        table.add_row(str(verdict), f"{len(rows)} stems{level}")
    table.add_row("songs", f"{cleaned.stems['song_id'].nunique()}")
    for (stage, reason), rows in cleaned.rejected.groupby(["stage", "reason"]):
        table.add_row(f"left out: {stage}", f"{len(rows)} {reason}")
    console.print(table)
    return 0


@app.command
def anchor(
    corpus: Source,
    /,
    *,
    tagger: str,
    out: Out,
    classes: Path | None = None,
    device: Device = "auto",
    running: Running = _RUNNING,
    config: Config = None,
    dry_run: DryRun = False,
    limit: Annotated[
        int | None,
        Parameter(help="Only the first songs, sorted by id.", validator=validators.Number(gte=1)),
    ] = None,
    table_format: TableFormat = "parquet",
    recipe: Annotated[AnchorRecipe, _FLAGS] = _ANCHOR_DEFAULTS,
) -> int:
    """Find where the labels of whole sounds are heard: a new corpus beside the old one, with clips of them.

    Parameters
    ----------
    corpus
        The folder of a finished build or import, whose tags are the labels; it is left as it is.
    tagger
        A sound event detector: onnx:PATH, python:MODULE:NAME or python:FILE.py:NAME.
    out
        The new corpus' folder. The same command resumes a run that was stopped.
    classes
        The detector's classes: yamnet_class_map.csv, or a text file with a name a line.
    """
    from builders.anchors import AnchorBuilder
    from separators.tagging import load_tagger

    detector = load_tagger(tagger, classes, device=_device(device))
    builder = AnchorBuilder(out, detector, recipe, table_format, limit)
    if dry_run:
        sounds, labels = builder.plan(corpus)
        console.print(f"{corpus}: {sounds} sounds would be heard for {len(labels)} labels")
        return 0
    with _progress() as progress:
        engine = running.make(jobs=0)
        found = dataclasses.replace(builder, progress=progress, engine=engine).build(corpus)
    assert found.clips is not None
    assert found.rejected is not None
    table = _summary(f"{out}")
    counts = found.clips["label"].value_counts()
    table.add_row("anchors", f"{len(found.clips)} of {len(counts)} labels")
    for label, count in counts.head(10).items():
        table.add_row(f"  {label}", f"{count}")
    table.add_row("songs", f"{found.stems['song_id'].nunique()}")
    for (stage, reason), rows in found.rejected.groupby(["stage", "reason"]):
        table.add_row(f"left out: {stage}", f"{len(rows)} {reason}")
    console.print(table)
    return 0


@app.command
def evaluate(
    model: str,
    /,
    *,
    on: Source,
    out: Out,
    split: Annotated[str | None, Parameter(help="Songs of this split only.")] = None,
    limit: Annotated[int | None, Parameter(help="Only so many songs.", validator=validators.Number(gte=1))] = None,
    targets: Annotated[
        tuple[str, ...],
        Parameter(
            name="--target", help="A source's stems, as music=drums+bass+other.", negative="", consume_multiple=True
        ),
    ] = (),
    beside: Annotated[
        tuple[str, ...],
        Parameter(
            help="Other separators to compare with, as MODEL or NAME=MODEL: baseline:centre, big=demucs:htdemucs.",
            negative="",
            consume_multiple=True,
        ),
    ] = (),
    oracles: Annotated[bool, Parameter(help="Compare with the ideal ratio mask.")] = True,
    clips: Annotated[float | None, Parameter(help="Also measure clips of so many seconds.")] = None,
    clips_of_table: Annotated[
        bool, Parameter(help="Also measure the clips of the clips table.", negative="")
    ] = False,
    bsseval: Annotated[
        Literal["museval", "blocks"] | None,
        Parameter(help="BSSEval v4: by museval, or the same with bounded memory."),
    ] = None,
    sweep: Annotated[bool, Parameter(help="Also SDR against the mixture's loudness.", negative="")] = False,
    separating: Separating = _SEPARATING,
) -> int:
    """Measure a separator on a corpus, and write a page with players.

    Parameters
    ----------
    model
        As for 'stemloom separate'; a .safetensors file as it is. NAME=MODEL says what tables and page call it.
    on
        The folder of a finished corpus.
    out
        The folder for tables, excerpts and the page. The same command resumes what was stopped.
    """
    from builders.report.evaluation import write_evaluation_page
    from manifests.corpus import Corpus
    from training.evaluation import evaluate as run_evaluation
    from training.measurement import EvaluationSettings

    named = dict(target.partition("=")[::2] for target in targets)
    settings = EvaluationSettings(
        split=split,
        limit=limit,
        targets=named or None,
        clips="table" if clips_of_table else clips,
        oracles=("ideal ratio mask",) if oracles else (),
        bsseval=bsseval,
        sweep_lufs=tuple(range(-45, -8, 6)) if sweep else (),
    )
    models = [_named(what) for what in (model, *beside)]
    separators = [separating.load(what) for _, what in models]
    with _progress() as progress:
        found = run_evaluation(
            separators[0],
            Corpus.open(on),
            out,
            settings,
            beside=separators[1:],
            names=[name or one.name for (name, _), one in zip(models, separators, strict=True)],
            progress=progress,
        )
    page = write_evaluation_page(out)
    songs = found.summary[(found.summary["per"] == "song") & found.summary["score"].isin(["sdr_db", "si_sdr_db"])]
    title = f"{out}: {len(found.songs['song_id'].unique())} songs, medians in dB"
    table = Table(title=title, title_justify="left")
    table.add_column("method, target", overflow="fold")
    for name in ("SDR", "its mean ± std", "SI-SDR"):
        table.add_column(name, no_wrap=True, justify="right")
    for method, of_method in songs.groupby("method", sort=False):
        # a line of its own: names are long, and must not be broken
        table.add_row(str(method))
        for target, rows in of_method.groupby("target", sort=False):
            figures = rows.set_index("score")[["median", "mean", "std"]].to_dict("index")
            sdr, si_sdr = figures["sdr_db"], figures["si_sdr_db"]
            mean = f"{_decibels(sdr['mean'], '')} ± {_decibels(sdr['std'], '')}"
            table.add_row(f"  {target}", _decibels(sdr["median"], ""), mean, _decibels(si_sdr["median"], ""))
        table.add_section()
    console.print(table)
    console.print(f"page: {page}")
    return 0


@app.command
def mushra(
    models: Annotated[tuple[str, ...], Parameter(negative="", help="NAME=MODEL for each separator.")],
    /,
    *,
    on: Source,
    out: Path,
    test_id: Annotated[str, Parameter(help="Of the experiment, in file names.")] = "separation",
    target: Annotated[
        str, Parameter(help="What is enhanced: a source of every separator, that pauses while others are heard.")
    ] = "dialogue",
    split: Annotated[str | None, Parameter(help="Songs of this split only.")] = None,
    limit: Annotated[int | None, Parameter(help="Only so many songs.", validator=validators.Number(gte=1))] = None,
    length_s: Annotated[float, Parameter(help="Of an excerpt.", validator=validators.Number(gt=0))] = 10.0,
    attenuation_db: Annotated[float, Parameter(help="Of the background, in the reference.")] = 12.0,
    separating: Separating = _SEPARATING,
) -> int:
    """Write a listening test of separators that enhance dialogue, as a webMUSHRA experiment.

    Parameters
    ----------
    models
        Separators as for 'stemloom separate', each with a name: small=checkpoint:a.safetensors.
    on
        The folder of a finished corpus: songs with a mixture and stems that sum to it.
    out
        The folder for the configuration and the audio; copy what is in it into webMUSHRA's.
    """
    from manifests.corpus import Corpus
    from training.listening import RemixSettings, write_listening_test
    from training.trials import listening_items

    named = dict(model.partition("=")[::2] for model in models)
    if len(named) != len(models) or not all(named.values()):
        raise RecipeError(f"models are {', '.join(models)}: write NAME=MODEL, each of another name")
    separators = {name: separating.load(what) for name, what in named.items()}
    corpus = Corpus.open(on)
    items = list(listening_items(corpus, separators, target=target, split=split, limit=limit, length_s=length_s))
    config = write_listening_test(out, test_id, items, RemixSettings(attenuation_db=attenuation_db))
    console.print(f"{config}: {len(items)} trials of {', '.join(named)}")
    return 0


@app.command
def ablate(
    study: str,
    /,
    *,
    out: Path,
    corpora: Annotated[
        tuple[str, ...],
        Parameter(name="--corpus", help="NAME=FOLDER of the study's corpora.", negative="", consume_multiple=True),
    ] = (),
    size: Annotated[str | None, Parameter(help="One of the study's sizes; the first by default.")] = None,
    seeds: Annotated[
        int | None, Parameter(help="Only so many of its seeds.", validator=validators.Number(gte=1))
    ] = None,
    jobs: Annotated[
        int,
        Parameter(
            help="Trainings at once, each in a process of its own; 0: one by one in this process.",
            validator=validators.Number(gte=0),
        ),
    ] = 1,
    devices: Annotated[
        tuple[str, ...],
        Parameter(name="--device", help="Of torch, as cuda:0 cuda:1; a training takes one.", consume_multiple=True),
    ] = ("auto",),
    workers: Annotated[
        int,
        Parameter(help="Processes that make mixtures, of each training.", validator=validators.Number(gte=0)),
    ] = 0,
    max_minutes: MaxMinutes = None,
    dry_run: DryRun = False,
) -> int:
    """Train and test all variants of a study, compare them by statistics over songs and seeds, and write a page.

    Parameters
    ----------
    study
        A ready study (augmentation, cleaning, loudness, mono-to-stereo, training-data), or a YAML file.
    out
        The folder for runs, tables and the page. The same command goes on; what is done is not done again.
    """
    from builders.report.study import write_study_page
    from manifests.staging import fetched
    from training.ablation import checked_runs, run_study
    from training.study import load_study
    from training.variants import is_done

    given = dict(corpus.partition("=")[::2] for corpus in corpora)
    for name, folder in given.items():
        if not folder:
            raise RecipeError(f"--corpus {name}: write NAME=FOLDER")
    recipe = load_study(study, size=size, corpora={name: fetched(folder) for name, folder in given.items()})
    if seeds is not None:
        if seeds > len(recipe.seeds):
            raise RecipeError(
                f"--seeds {seeds}: {study} has {_counted(len(recipe.seeds), 'seed')}; write 'seeds' there"
            )
        recipe = recipe.model_copy(update={"seeds": recipe.seeds[:seeds]})
    console.print(
        f"{study}: {len(recipe.variants)} variants with {_counted(len(recipe.seeds), 'seed')} each, compared with "
        f"'{recipe.compared_with}'; tested on {', '.join(test.name for test in recipe.tests)}"
    )
    if dry_run:
        for run in checked_runs(recipe, out):
            steps = run.recipe.epochs * run.recipe.epoch_steps()
            console.print(f"{run.name}: {'is done' if is_done(run) else f'{steps} steps'} ({run.folder})")
        return 0
    with _runs() as progress:
        found = run_study(
            recipe,
            out,
            jobs=jobs,
            devices=devices,
            workers=workers,
            max_minutes=max_minutes,
            progress=progress,
        )
    page = write_study_page(out)
    if len(found.summary):
        console.print(_study_table(f"{out}", found, recipe.scores[0]))
    if found.done_before:
        console.print(f"{_counted(found.done_before, 'run')} had been done before")
    console.print(f"page: {page}")
    stopped = [name for name, why in found.missing.items() if why.startswith("stopped")]
    for name, why in found.missing.items():
        if name not in stopped:
            errors.print(f"{name}: {why}", style="red")
    if stopped:
        console.print(f"{_counted(len(stopped), 'run')} not finished; the same command goes on")
    if len(stopped) < len(found.missing):
        errors.print("The page says what is missing; the same command tries again.")
        return 1
    return 130 if found.interrupted else 0


def _study_table(title: str, found: Ablation, score: str) -> Table:
    """Medians of a score by variant."""
    table = Table(title=f"{title}: medians of songs, {score}", title_justify="left")
    table.add_column("variant", style="bold")
    rows = found.summary[found.summary["score"] == score] if len(found.summary) else found.summary
    columns = list(dict.fromkeys(zip(rows["test"], rows["target"], strict=True))) if len(rows) else []
    for test, target in columns:
        table.add_column(f"{test}, {target}", justify="right")
    for variant, part in rows.groupby("variant", sort=False) if len(rows) else ():
        medians = {(row["test"], row["target"]): row["median"] for row in part.to_dict("records")}
        table.add_row(str(variant), *(_decibels(medians.get(column), "") for column in columns))
    return table


@app.command
def check(
    build: Source,
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
        errors.print(f"{build}: {_counted(len(problems), 'problem')}")
        return 1
    console.print(f"{build}: all well")
    return 0


@app.command
def report(build: Source, /) -> int:
    """Write a page about a build: counts, distributions, best and worst songs.

    Parameters
    ----------
    build
        A build folder.
    """
    from builders.report import write_report

    with _added_to(build):
        console.print(f"report: {write_report(build)}")
    return 0


@app.command
def audit(
    build: Source,
    /,
    *,
    port: Annotated[
        int, Parameter(help="Of the page, on this machine alone; 0 takes a free one.", validator=_PORT)
    ] = 0,
    order: Annotated[
        Literal["doubtful", "random", "title"],
        Parameter(help="The songs to hear first; random tells how many songs of the whole build are bad."),
    ] = "doubtful",
    within: Annotated[
        float, Parameter(help="How near that share is to be known, as 0.05 for 5 %.", validator=_SHARE)
    ] = 0.05,
    confidence: Annotated[float, Parameter(help="How surely it is to be.", validator=_SHARE)] = 0.95,
    reviewer: Annotated[str | None, Parameter(help="Who judges; by default, who is logged in.")] = None,
    open_browser: Annotated[
        bool, Parameter(name="--open", negative="--no-open", help="Open the page in a browser.")
    ] = True,
    export: Annotated[
        Path | None,
        Parameter(help="Write what was judged to this .csv or .jsonl file, which is replaced, and serve nothing."),
    ] = None,
    apply: Annotated[
        bool,
        Parameter(
            negative="",
            help="Write the verdicts into the stems table, and serve nothing; --export may be given too.",
        ),
    ] = False,
) -> int:
    """Hear the songs of a build on a page, accept and reject them; 'stemloom curate' leaves out the rejected.

    Parameters
    ----------
    build
        A build folder.
    """
    from builders.audit.export import write_export
    from builders.audit.standing import apply_verdicts
    from builders.audit.verdicts import read_verdicts

    if export is not None or apply:
        verdicts = read_verdicts(build)
        if export is not None:
            count = write_export(build, export, verdicts)
            console.print(f"{export}: {count} verdict{'' if count == 1 else 's'}")
        if apply:
            with _added_to(build):
                _say_applied(build, apply_verdicts(build, verdicts))
        return 0
    try:
        from builders.audit.app import Settings
        from builders.audit.server import serve
    except ModuleNotFoundError as error:
        raise RecipeError(
            f"the page needs the package {error.name}, which is missing: pip install 'stemloom[audit]'"
        ) from error
    settings = Settings(order=order, within=within, confidence=confidence, reviewer=reviewer or _login_name())

    def ready(address: str) -> None:
        console.print(f"hear and judge: {address}  (Ctrl-C ends)")
        if open_browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    with _added_to(build):
        _say_applied(build, serve(build, port=port, settings=settings, ready=ready))
    return 0


def _say_applied(build: Path, applied: Applied) -> None:
    counts = ", ".join(f"{getattr(applied, name)} {name}" for name in ("accepted", "rejected", "unheard"))
    console.print(f"{build}: stems are {counts}")
    for note in applied.notes:
        errors.print(f"{build}: {note}")


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no entry of this user
        return "unknown"


@app.command
def card(build: Source, /, *, config: Config = None, recipe: Annotated[CardRecipe, _FLAGS] = _CARD_DEFAULTS) -> int:
    """Write what goes beside a corpus that is published: README.md, for the Hugging Face Hub, and croissant.json.

    Parameters
    ----------
    build
        A build folder.
    """
    from builders.card import write_card

    with _added_to(build):
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
def demo(
    *,
    out: Path = Path("demo-build"),
    jobs: Jobs = 2,
    seed: int = 0,
    training: Annotated[bool, Parameter(help="End with a small separator, trained on the corpus.")] = True,
) -> int:
    """Make a small catalogue in code, build a corpus from it, compare with the truth, train a separator on it.

    Parameters
    ----------
    out
        Folder for the catalogue, the build and the training.
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
    if not result.is_good:
        return 1
    return _train_on_demo(out, jobs) if training else 0


def _train_on_demo(out: Path, jobs: int) -> int:
    """Songs of other artists to train with, to validate and to test; a minute of training; how good it became."""
    from builders.curate import CurateBuilder

    corpus, run = out / "training", out / "run"
    curated = CurateRecipe(shares={"train": 0.6, "validation": 0.2, "test": 0.2}, clip_s=None)
    with _progress() as progress:
        CurateBuilder(corpus, curated, jobs=jobs, progress=progress).build(out / "build")
    code = train("demo", corpora=(corpus,), out=run, workers=min(jobs, 1))
    if code:
        return code
    beside = ("baseline:identity=vocals,accompaniment", "baseline:centre")
    return evaluate(str(run / BEST), on=corpus, out=out / "evaluation", split="test", beside=beside)


def _builder(
    out: Path,
    recipe: CatalogRecipe,
    engine: StageEngine,
    table_format: Literal["parquet", "jsonl"],
    limit: int | None,
    progress: ProgressCall,
) -> CatalogBuilder:
    from builders.catalog import CatalogBuilder

    return CatalogBuilder(
        out,
        recipe,
        engine=engine,
        table_format=table_format,
        limit=limit,
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


def _named(text: str) -> tuple[str | None, str]:
    """NAME=MODEL, or MODEL alone; what stands behind a colon is the model's own."""
    match = re.fullmatch(r"([\w .-]+)=(.+)", text)
    return (match[1].strip(), match[2].strip()) if match else (None, text)


def _device(name: str) -> str:
    from training.processes import device_of

    return device_of(name)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _decibels(value: float | None, unit: str = " dB") -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.2f}{unit}"


def _separate_by(what: str, mix: MixRecipe, device: str) -> Separate:
    """What takes the target out that a mixing recipe removes, for `augment.render`."""
    from separators.separator import separate as separate_whole

    if mix.remove is None:
        raise RecipeError("--separator is given, and the mixing recipe removes no target: leave one of them out")
    separator = _Separating(device=device).load(what)
    number = separator.sources.index(mix.remove.target) if mix.remove.target in separator.sources else None
    if number is None or (separator.sample_rate, separator.channels) != (mix.sample_rate, mix.channels):
        raise RecipeError(
            f"--separator {what}: gives {', '.join(separator.sources)} at {separator.sample_rate} Hz in "
            f"{separator.channels} channels, and the mixing recipe needs '{mix.remove.target}' at "
            f"{mix.sample_rate} Hz in {mix.channels}"
        )
    return lambda mixture, rate: separate_whole(separator, mixture)[number]


def _summary(title: str) -> Table:
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    return table


def _shown_bars(shown: bool = True) -> Progress:
    """Bars for a person, silence for a pipe."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=errors, disable=not (shown and errors.is_terminal))


@contextmanager
def _progress() -> Iterator[ProgressCall]:
    """A bar for each stage."""
    with _shown_bars() as bars:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int, rejected: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(f"{stage:<8}", total=total, note="")
            bars.update(tasks[stage], completed=done, total=total, note=f"{rejected} refused" if rejected else "")

        yield show


@contextmanager
def _runs() -> Iterator[Callable[[StudyTick], None]]:
    """A bar for the study and one for each run that is at work; a line for each that ends."""
    with _shown_bars() as bars:
        whole = bars.add_task("study", total=None, note="")
        tasks: dict[str, TaskID] = {}

        def show(tick: StudyTick) -> None:
            bars.update(whole, completed=tick.runs_done, total=tick.runs)
            if tick.doing in ("finished", "failed"):
                if tick.run in tasks:
                    bars.remove_task(tasks.pop(tick.run))
                errors.print(f"{tick.run}: {'done' if tick.doing == 'finished' else 'not finished'}")
                return
            if tick.run not in tasks:
                tasks[tick.run] = bars.add_task(tick.run, total=tick.total, note="")
            bars.update(tasks[tick.run], completed=tick.done, total=tick.total, note=tick.doing)

        yield show


@contextmanager
def _steps(shown: bool) -> Iterator[Callable[[Tick], None]]:
    """A bar for a person, and a line for each validation for a file."""
    with _shown_bars(shown) as bars:
        task = bars.add_task("train", total=None, note="")

        def show(tick: Tick) -> None:
            note = f"loss {tick.loss:.4g} · waits for data {tick.data_wait:.0%}"
            bars.update(task, completed=tick.step, total=tick.steps, note=note)
            if tick.validation is not None and shown:
                levels = ", ".join(
                    f"{name} {_decibels(level)}" for name, level in tick.validation["targets"].items()
                )
                loss = _decibels(tick.validation["loss"], "")
                errors.print(
                    f"epoch {tick.epoch + 1}, step {tick.step}: validation loss {loss}; SDR {levels}; {note}"
                )

        yield show


@contextmanager
def _published(arguments: Mapping[str, Any]) -> Iterator[None]:
    """Publish the folder that the command wrote to, if it stands for one in a bucket."""
    from builders.publishing import published
    from manifests.staging import url_of

    given = (
        (name, one) for name, value in arguments.items() for one in (value if isinstance(value, tuple) else [value])
    )
    for name, place in given:
        if isinstance(place, Path) and (found := re.match(r"(\w+):/([^/].*)", str(place))):
            raise RecipeError(
                f"{name} {found[1]}://{found[2]}: this command takes a local folder here; bring the objects to one "
                "('rclone copy', 'aws s3 sync'); docs/buckets.md says which commands work with buckets"
            )
    out = arguments.get("out")
    url = url_of(out) if isinstance(out, Path) and not arguments.get("dry_run") else None
    if url is None:
        yield
        return
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise RecipeError(f"--out {url}: of several processes each would publish it; give a local folder")
    with published(url, progress=_transfers):
        yield
    console.print(f"published: {url}")


@contextmanager
def _added_to(build: Path) -> Iterator[None]:
    """Publish what a command adds to a corpus, if that is in a bucket."""
    from builders.publishing import published

    with published(build, whole=False, progress=_transfers):
        yield


def _transfers(stage: str, done: int, total: int, _: int) -> None:
    if errors.is_terminal and (done == total or done % 100 == 0):
        errors.print(f"{stage}: {done} of {total} objects")


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


@contextmanager
def _terminable(seen: list[int]) -> Iterator[None]:
    """Let SIGTERM, by which schedulers end their jobs, do what Ctrl-C does, and take down that it has come."""

    def stop(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        if not callable(signal.getsignal(signal.SIGINT)):  # a job in the background ignores Ctrl-C
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)  # which waits where Ctrl-C must wait

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(tokens: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    tokens = list(sys.argv[1:] if tokens is None else tokens)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name need not be text
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", handlers=[_SafeLog(console=errors, show_path=False)]
    )
    terminated: list[int] = []
    try:
        _use_config(tokens)
        command, bound, _ = app.parse_args(tokens, print_error=False, exit_on_error=False)
        with _terminable(terminated), _published(bound.arguments):
            code = command(*bound.args, **bound.kwargs)
    except cyclopts.CycloptsError as error:
        cause = error.__cause__
        if isinstance(cause, ValidationError):
            errors.print("error: " + "\n".join(wrong_fields(cause)), style="red")
        else:
            errors.print(cyclopts.CycloptsPanel(error), soft_wrap=False)
        code = 2
    except StemloomError as error:
        errors.print(f"error: {error}", style="red")
        code = 2 if isinstance(error, RecipeError) else 1
    except KeyboardInterrupt:
        errors.print(f"stopped; the same command {'starts anew' if tokens[:1] == ['export'] else 'resumes'}")
        code = 130
    if code == 130 and terminated:
        code = 143
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
