"""Separation of files: music of any length, rate and format in, a file for each source beside a record out.

    out/recipe.json                 the separator and the settings: a folder holds one separator's work
    out/SONG/vocals.flac, ...       as long as SONG, at its rate and in its channels
    out/SONG/separated.json         what these are: written last, so that it says that they are whole
    out/run.json, rejected.parquet  the last run: what was done, and what was left out and why

SONG is the file's path without its suffix, below the folder or the files' common folder; with its suffix, where two
files would share that name. The same call resumes: a file is left alone if its record names the same content,
separator and settings, and its sources are there.

A source may be louder than the mixture. Integer files cannot hold what is beyond full scale: then all sources of
that file get one gain, so that they still stand to each other as they should; record, result and log say
so. Float files (`bit_depth` 32) hold everything, and get none.

What is separated waits in a temporary file in `out`, 1.3 GB for each source and hour of stereo at 44.1 kHz, until
the gain is known; memory does not grow with the length.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from builders.engine import LocalEngine
from builders.recipe import SeparationRecipe
from builders.run import Run, refuse_foreign
from builders.scan import Reject, walk_folder
from builders.stage import Engine, Product, Progress, Stage, Work, model_needs, silent
from manifests.audio import blocks, content_id, probe
from manifests.encoding import encoding
from manifests.errors import AudioError, BuildError, RecipeError
from manifests.exports.mixing import CEILING
from manifests.files import TEMPORARY_PREFIX, replacing
from manifests.lock import BuildLock
from separators.resampling import Resampled
from separators.separator import Separator
from separators.streams import Spool

__all__ = ["Separated", "SeparatedFile", "SeparationPlan", "plan_separation", "separate_files"]

log = logging.getLogger(__name__)

SEPARATION_VERSION = 1
RECORD = "separated.json"

_SOURCE_NAME = re.compile(r"\w[\w .+-]*")
_HARMLESS = ("not audio", "link")
_NAMED = 5


@dataclasses.dataclass(frozen=True)
class SeparatedFile:
    """A file that is separated.

    Attributes
    ----------
    path : str
        As it was found, below the folder that was given.
    folder : Path
        That holds its sources and its record.
    num_frames, sample_rate, channels : int
        Of it and of each source.
    gain_db : float
        That all sources were written with: 0, or below it where one would have been beyond full scale.
    is_new : bool
        False if an earlier run had done it.
    """

    path: str
    folder: Path
    num_frames: int
    sample_rate: int
    channels: int
    gain_db: float
    is_new: bool


@dataclasses.dataclass(frozen=True)
class Separated:
    """What a separation has made.

    Attributes
    ----------
    files : tuple of SeparatedFile
        Those that were done before too.
    rejected : pd.DataFrame
        What was left out, and why.
    """

    files: tuple[SeparatedFile, ...]
    rejected: pd.DataFrame

    @property
    def is_whole(self) -> bool:
        """Whether all that was found is separated; what is no audio, and links to what is listed, do not count."""
        return bool(self.files) and bool(self.rejected["reason"].isin(_HARMLESS).all())


@dataclasses.dataclass(frozen=True)
class SeparationPlan:
    """What a separation would do.

    Attributes
    ----------
    done, to_do : tuple of str
        Paths of files, as they were found.
    rejected : int
        Files that are no audio by their name.
    """

    done: tuple[str, ...]
    to_do: tuple[str, ...]
    rejected: int


def separate_files(
    inputs: Path | Sequence[Path],
    separator: Separator,
    out: Path,
    recipe: SeparationRecipe | None = None,
    *,
    limit: int | None = None,
    progress: Progress = silent,
    engine: Engine | None = None,
) -> Separated:
    """Separate files.

    Parameters
    ----------
    inputs : Path or sequence of Path
        A folder, with all audio below it, or files.
    separator : Separator
        Of any rate and channels; files are resampled for it.
    out : Path
        Outside of the folder. A separation that was stopped is resumed there; one by another separator or with
        other settings is refused.
    recipe : SeparationRecipe, optional
    limit : int >= 1, optional
        Only the first files, sorted by path.
    progress : callable, optional
        Called with `separate`, files done, files in all, files rejected.
    engine : Engine, optional
        `LocalEngine(0)` by default: one file after another in this process, since a separator may need all of the
        machine. Workers of another engine have a separator each, which must pickle.

    Returns
    -------
    Separated

    Raises
    ------
    RecipeError
        A setting is impossible, a source's name is no file name, or `inputs` is neither a folder nor files.
    AudioError
        The file or folder is missing.
    BuildError
        `out` holds something else or another separator's work, belongs to another running separation, or the disk
        refuses.

    Examples
    --------
    >>> separated = separate_files(
    ...     Path("songs"), load_separator("baseline:centre"), Path("separated")
    ... )  # doctest: +SKIP
    """
    run = _Run(inputs, separator, out, recipe or SeparationRecipe(), limit, progress, engine)
    refuse_foreign(out, "separation")
    with BuildLock(out):
        run.claim_folder()
        run.remove_temporary_files()
        files = run.separate()
        run.write(files)
    return Separated(tuple(files), run.rejected_table())


def plan_separation(
    inputs: Path | Sequence[Path],
    separator: Separator,
    out: Path,
    recipe: SeparationRecipe | None = None,
    *,
    limit: int | None = None,
) -> SeparationPlan:
    """Find what `separate_files` would do, and write nothing.

    Parameters
    ----------
    inputs, separator, out, recipe, limit
        As for `separate_files`.

    Returns
    -------
    SeparationPlan

    Raises
    ------
    RecipeError, AudioError, BuildError
        As for `separate_files`.
    """
    run = _Run(inputs, separator, out, recipe or SeparationRecipe(), limit, silent)
    refuse_foreign(out, "separation")
    is_done = {item.name: run.work.record(item) is not None for item in run.items}
    done, to_do = (tuple(name for name, found in is_done.items() if found == wanted) for wanted in (True, False))
    return SeparationPlan(done, to_do, len(run.rejects))


@dataclasses.dataclass(frozen=True)
class _Item:
    """A file, its name below the folder, and the folder that its sources go to."""

    path: Path
    name: str
    folder: Path


@dataclasses.dataclass(frozen=True)
class _FileSeparator:
    """Separates files, but for those that are done. A stage."""

    separator: Separator
    recipe: SeparationRecipe
    out: Path

    def __call__(self, item: _Item) -> Product:
        """The file's ``content_id`` and ``record``, and whether that ``is_new``."""
        content = content_id(item.path)
        before = self.record(item, content)
        try:
            record = before or self._separated(item, content)
        except RecipeError as error:  # the separator does not take this file, and may take others
            raise AudioError(str(error)) from error
        return Product({"content_id": content, "record": record, "is_new": before is None})

    def record(self, item: _Item, content: str | None = None) -> dict[str, Any] | None:
        """The record of a file that needs nothing more, or None."""
        try:
            record = json.loads((item.folder / RECORD).read_text(encoding="utf-8"))
            sizes = {name: (item.folder / name).stat().st_size for name in record["files"].values()}
            if record["sizes"] == sizes and record["work"] == self._facts(content or content_id(item.path)):
                return dict(record)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, AudioError):
            pass
        return None

    def _facts(self, content: str) -> dict[str, Any]:
        separator = {"separator_identity": self.separator.identity, "sources": list(self.separator.sources)}
        settings = self.recipe.model_dump(mode="json")
        return {"version": SEPARATION_VERSION, "content_id": content, **separator, **settings}

    def _separated(self, item: _Item, content: str) -> dict[str, Any]:
        names = {source: f"{source}.{self.recipe.audio_format}" for source in self.separator.sources}
        # Whatever happens from here on, the folder is not done; what is in it may be of other content.
        for name in (RECORD, *names.values()):
            (item.folder / name).unlink(missing_ok=True)
        info = probe(item.path)
        separator = Resampled(self.separator, info.sample_rate, info.channels)
        with Spool(self.out) as spool:
            peaks, num_frames = np.zeros(len(names)), 0
            for block in separator.stream(blocks(item.path)):
                levels = np.abs(block).max(axis=(1, 2), initial=0.0)
                if not np.isfinite(levels).all():
                    source = separator.sources[int(np.argmin(np.isfinite(levels)))]
                    raise AudioError(
                        f"{item.path}: {separator.name} gives NaN or infinity for '{source}' after frame "
                        f"{num_frames}; look at the audio there, or at the weights"
                    )
                peaks = np.maximum(peaks, levels)
                num_frames += block.shape[2]
                spool.put(block)
            gain = self._gain(float(peaks.max()))
            with contextlib.ExitStack() as stack:
                puts = [
                    stack.enter_context(
                        encoding(
                            item.folder / name, num_frames, info.sample_rate, info.channels, self.recipe.bit_depth
                        )
                    )
                    for name in names.values()
                ]
                for block in spool.blocks():
                    for put, part in zip(puts, block, strict=True):
                        put(part * np.float32(gain))
        record = {
            "mixture": item.name,
            "separator": self.separator.name,
            "work": self._facts(content),
            "files": names,
            "sizes": {name: (item.folder / name).stat().st_size for name in names.values()},
            "num_frames": num_frames,
            "sample_rate": info.sample_rate,
            "channels": info.channels,
            "gain_db": round(20 * math.log10(gain), 3),
            "peaks_db": {
                name: round(20 * math.log10(max(peak, 1e-9)), 2)
                for name, peak in zip(names, peaks.tolist(), strict=True)
            },
        }
        with replacing(item.folder / RECORD) as file:
            # a person's path need not be UTF-8
            text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
            file.write(text.encode("utf-8", "backslashreplace"))
        return record

    def _gain(self, peak: float) -> float:
        return 1.0 if self.recipe.bit_depth == 32 or peak <= 1 else CEILING / peak


class _Run(Run):
    def __init__(
        self,
        inputs: Path | Sequence[Path],
        separator: Separator,
        out: Path,
        recipe: SeparationRecipe,
        limit: int | None,
        progress: Progress,
        engine: Engine | None = None,
    ) -> None:
        if limit is not None and limit < 1:
            raise RecipeError(f"limit is {limit}; give the number of files, at least 1, or None for all")
        _require_file_names(separator)
        found, rejects = _found(inputs, out)
        reads = [Path(os.path.commonpath([path.parent for path in found.values()]))] if found else []
        engine = engine or LocalEngine(0)
        super().__init__(out, "separate", recipe, engine, progress=progress, separator=separator, reads=reads)
        self.separator, self.rejects = separator, rejects
        self.work = _FileSeparator(separator, recipe, out)
        self.items = [
            _Item(path, name, out.joinpath(*folder.split("/")))
            for (name, path), folder in zip(found.items(), _folders(list(found)), strict=True)
        ][:limit]
        self.read: list[str] = []

    def remove_temporary_files(self) -> None:
        for path in self.out.rglob(f"{TEMPORARY_PREFIX}*"):
            path.unlink(missing_ok=True)

    def separate(self) -> list[SeparatedFile]:
        items = {item.name: item for item in self.items}
        files: dict[str, SeparatedFile] = {}
        self._warn()
        works = [Work(name, item, ()) for name, item in items.items()]
        stage: Stage[_Item] = Stage(
            "separate", SEPARATION_VERSION, self.work, self.settings, model_needs(self.separator)
        )
        for done in self.stage(stage, works, reject_stage=None, cached=False):
            content = None
            if done.product is not None:
                value = done.product.value
                content = value["content_id"]
                files[done.name] = _separated_file(items[done.name], value["record"], value["is_new"])
                if value["is_new"]:
                    _warn_of_gain(done.name, value["record"])
            elif done.failure is not None:
                with contextlib.suppress(AudioError):
                    content = content_id(items[done.name].path)
                reject = Reject(content, done.name, "separate", "not separated", done.failure.detail)
                self.rejects.append(reject)
                log.warning("%s: not separated: %s", done.name, reject.detail)
            self.read += [] if content is None else [content]
        new = [file for file in files.values() if file.is_new]
        if new:
            self.hours["separated"] = math.fsum(file.num_frames / file.sample_rate / 3600 for file in new)
        failed = len(items) - len(files)
        self.counts["separate"] = {"in": len(items), "kept": len(files), "rejected": failed}
        return [files[name] for name in items if name in files]

    def _warn(self) -> None:
        """Say what is left out by its name: what is no audio in one line, since an album's covers are many."""
        others = [reject.path for reject in self.rejects if reject.reason == "not audio"]
        for reject in self.rejects:
            if reject.reason != "not audio":
                log.warning("%s: not separated: %s", reject.path, reject.detail)
        if others:
            more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
            log.warning("no audio by their names: %s%s", ", ".join(others[:_NAMED]), more)

    def write(self, files: Sequence[SeparatedFile]) -> None:
        self.save(
            self.read,
            {},
            separator=self.separator.name,
            separated=sum(file.is_new for file in files),
            done_before=sum(not file.is_new for file in files),
            with_gain=sum(file.gain_db < 0 for file in files),
        )


def _warn_of_gain(name: str, record: dict[str, Any]) -> None:
    if record["gain_db"] < 0:
        peaks = record["peaks_db"]
        loudest = max(peaks, key=lambda source: float(peaks[source]))
        log.warning(
            "%s: '%s' peaks at %+.2f dB of full scale; all sources of it are written with %.2f dB of gain "
            "(bit_depth 32 needs none)",
            name,
            loudest,
            peaks[loudest],
            record["gain_db"],
        )


def _separated_file(item: _Item, record: dict[str, Any], is_new: bool) -> SeparatedFile:
    return SeparatedFile(
        path=item.name,
        folder=item.folder,
        num_frames=record["num_frames"],
        sample_rate=record["sample_rate"],
        channels=record["channels"],
        gain_db=record["gain_db"],
        is_new=is_new,
    )


def _require_file_names(separator: Separator) -> None:
    for source in separator.sources:
        if not _SOURCE_NAME.fullmatch(source):
            raise RecipeError(
                f"{separator.name}: source {source!r} is no name for a file; use letters, digits, blanks and '_.+-'"
            )
    if len({source.casefold() for source in separator.sources}) < len(separator.sources):
        raise RecipeError(
            f"{separator.name}: sources {list(separator.sources)} would share files; name each otherwise"
        )


def _found(inputs: Path | Sequence[Path], out: Path) -> tuple[dict[str, Path], list[Reject]]:
    """Files by their name below what was given, sorted, and what is no audio."""
    if isinstance(inputs, Path) and not inputs.exists():
        raise AudioError(f"{inputs}: there is no such file or folder; correct the path")
    if isinstance(inputs, Path) and not inputs.is_file():
        if inputs.resolve() in (out.resolve(), *out.resolve().parents):
            raise BuildError(
                f"{out}: is inside of {inputs}, and would be separated with it; choose a folder outside"
            )
        names, rejects = walk_folder(inputs)
        return {name: inputs.joinpath(*name.split("/")) for name in names}, rejects
    paths = [Path(os.path.abspath(path)) for path in ([inputs] if isinstance(inputs, Path) else inputs)]
    if not paths:
        raise RecipeError("there are no files to separate; give a folder, or files")
    if folders := [path for path in paths if path.is_dir()]:
        raise RecipeError(f"{folders[0]}: is a folder; give one folder by itself, or files")
    for path, count in Counter(paths).items():
        if count > 1:
            log.warning("%s: is given %d times, and separated once", path, count)
    common = Path(os.path.commonpath([path.parent for path in paths]))
    return {path.relative_to(common).as_posix(): path for path in sorted(set(paths))}, []


def _folders(names: Sequence[str]) -> list[str]:
    """Where the sources of each file go: its name without the suffix where that is nobody else's."""
    short = [str(Path(name).with_suffix("").as_posix()) for name in names]
    counts = Counter(name.casefold() for name in short)
    whole = {name.casefold() for name in names}
    return [
        brief if counts[brief.casefold()] == 1 and brief.casefold() not in whole else name
        for brief, name in zip(short, names, strict=True)
    ]
