"""The packing: a corpus in, its audio as plain samples beside it, to be read without decoding.

The path, top to bottom in `PackBuilder.build`: choose stems and the sample format, lay out, make the shards, decode
every stem into its region, write the index. What a store is is in `manifests.packed`.

A stem is packed when its samples are on the disk; only then is that noted in the cache, so that a packing that was
killed goes on where it was. What the cache says holds for one layout, in shards that were there all the time:
another layout, or a shard that was removed, starts anew, under a new generation in `layout.json`.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import soxr

from builders.check import read_record
from builders.engine import LocalEngine
from builders.recipe import PackRecipe
from builders.run import Run, read_recipe, refuse_foreign, refuse_limit
from builders.scan import FoundFile, Reject
from builders.stage import Engine, Product, Progress, Stage, Work, silent
from manifests.audio import Audio, blocks, content_id, read
from manifests.audited import stems_as_built
from manifests.corpus import CORPUS_ROOT, Corpus
from manifests.errors import AudioError, BuildError, RecipeError, TableError, did_you_mean
from manifests.exports.mixing import resampled_frames
from manifests.files import replacing
from manifests.lock import BuildLock
from manifests.packed import PACKED, SampleFormat, shard_path
from manifests.packing import (
    Region,
    forget_index,
    make_shards,
    plan_layout,
    region_written,
    shard_sizes,
    write_index,
)

PACK_VERSION = 1

_BLOCK_FRAMES = 1 << 17
_EXACT_IN_INT16 = {"PCM_16", "PCM_S8", "PCM_U8"}


@dataclass(frozen=True)
class Plan:
    """What a packing would make.

    Attributes
    ----------
    num_stems : int
        Files to be packed.
    sample_format : {'int16', 'float32'}
    num_bytes : int
        Of all shards.
    free_bytes : int
        On the disk, with what an earlier packing takes there.
    """

    num_stems: int
    sample_format: SampleFormat
    num_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Packed:
    """What a packing has made.

    Attributes
    ----------
    index : pd.DataFrame
        As `manifests.packed.read_index` reads it.
    rejected : pd.DataFrame
        What is not in the store, and why: `rejected.parquet` in its folder.
    num_bytes : int
        Of all shards.
    """

    index: pd.DataFrame
    rejected: pd.DataFrame
    num_bytes: int


@dataclass(frozen=True)
class PackBuilder:
    """Packs the audio of a finished corpus into the folder `packed` inside it.

    Parameters
    ----------
    recipe : PackRecipe
    engine : Engine, optional
        `LocalEngine` with `jobs` workers by default.
    jobs : int >= 0
        Worker processes of the default engine.
    limit : int >= 1, optional
        Only the first songs, sorted by id.
    roots : mapping of str to Path
        Folders that rows name in their `root`, besides the corpus' own.
    progress : callable, optional

    Examples
    --------
    >>> PackBuilder(PackRecipe(sample_format="int16")).build(Path("corpus"))  # doctest: +SKIP
    """

    recipe: PackRecipe = field(default_factory=PackRecipe)
    engine: Engine | None = None
    jobs: int = 2
    limit: int | None = None
    roots: Mapping[str, Path] = field(default_factory=dict)
    progress: Progress = silent

    def build(self, folder: Path) -> Packed:
        """Run the whole path.

        Parameters
        ----------
        folder : Path
            A finished corpus. A packing that was stopped is resumed there; one with other settings is refused.

        Returns
        -------
        Packed

        Raises
        ------
        TableError
            If the folder is no corpus, or its tables are damaged.
        RecipeError
            If the recipe names a stem or a split that the corpus has not.
        BuildError
            If the disk has too little space, the store has other settings, belongs to another running packing, or
            nothing could be packed.
        """
        run = _Run(self, folder)
        refuse_foreign(run.out, "packing")
        run.refuse_other_settings()
        run.require_space()
        with BuildLock(run.out):
            run.claim_folder()
            run.remove_temporary_files()
            run.make_room()
            packed = run.pack()
            run.write(packed)
        return Packed(packed, run.rejected_table(), run.num_bytes)

    def plan(self, folder: Path) -> Plan:
        """Check everything that can be checked without decoding, and write nothing.

        Parameters
        ----------
        folder : Path
            As for `build`.

        Returns
        -------
        Plan

        Raises
        ------
        TableError, RecipeError, BuildError
            As for `build`, but for the space.
        """
        run = _Run(self, folder)
        refuse_foreign(run.out, "packing")
        run.refuse_other_settings()
        return Plan(len(run.index), run.sample_format, run.num_bytes, run.free_bytes())


@dataclass(frozen=True)
class PackItem:
    """A stem, what its row says of the file, and where its samples go."""

    file: FoundFile
    content_id: str | None
    sample_rate: int
    channels: int
    packed_rate: int
    region: Region


def pack_stem(item: PackItem, packed: str) -> Product:
    """Decode a stem into its region. A stage.

    Parameters
    ----------
    item : PackItem
    packed : str
        The store's folder.

    Returns
    -------
    Product
        ``shard`` and ``offset_bytes``.

    Raises
    ------
    AudioError
        If the file cannot be decoded, is not what its row says, or does not fit the sample format.
    BuildError
        If the disk refuses.
    """
    path = item.file.location
    first, rate = read(path, 0, 1)
    for name, found, said in (("sample_rate", rate, item.sample_rate), ("channels", len(first), item.channels)):
        if found != said:
            raise AudioError(f"{path}: has {name} {found}, and its row says {said}; {_REBUILD}")
    with region_written(Path(packed), item.region, path) as put:
        for block in _converted(path, item):
            put(block)
        # after decoding: what was made of other bytes must not count as this stem
        if item.content_id is not None and content_id(path) != item.content_id:
            raise AudioError(f"{path}: is not the file that its row names by content_id; {_REBUILD}")
    return Product({"shard": item.region.shard, "offset_bytes": item.region.offset_bytes})


_REBUILD = "run 'stemloom check', then build it again"


def _converted(path: Path, item: PackItem) -> Iterator[Audio]:
    """Blocks of a file with the region's channels, at its rate."""
    fewer = min(item.channels, item.region.channels)
    stream = _fewer_channels(blocks(path, _BLOCK_FRAMES), fewer)
    if item.packed_rate != item.sample_rate:
        stream = _resampled(stream, item.sample_rate, item.packed_rate, fewer)
    for block in stream:
        yield block if fewer == item.region.channels else np.repeat(block, item.region.channels, axis=0)


def _fewer_channels(stream: Iterator[Audio], channels: int) -> Iterator[Audio]:
    for block in stream:
        yield block if len(block) == channels else block.mean(axis=0, keepdims=True, dtype=np.float32)


def _resampled(stream: Iterator[Audio], sample_rate: int, new_rate: int, channels: int) -> Iterator[Audio]:
    resampler = soxr.ResampleStream(sample_rate, new_rate, channels, dtype="float32", quality="VHQ")
    for block in stream:
        yield resampler.resample_chunk(np.ascontiguousarray(block.T)).T
    yield resampler.resample_chunk(np.zeros((0, channels), np.float32), last=True).T


class _Run(Run):
    """One run of a packing."""

    def __init__(self, builder: PackBuilder, folder: Path) -> None:
        recipe = builder.recipe
        refuse_limit(builder.limit)
        engine = builder.engine or LocalEngine(builder.jobs, recipe.max_item_s)
        reads = (folder, *builder.roots.values())
        super().__init__(folder / PACKED, "pack", recipe, engine, progress=builder.progress, reads=reads)
        self.corpus = Corpus.open(folder, builder.roots)
        # before it is read: what changes from here on makes the store out of date
        self.stems_table = content_id(_stems_path(folder))
        self.rows = self._fitting(_chosen(self.corpus, recipe, builder.limit), recipe.channels)
        self.sample_format: SampleFormat = (
            self._exact_format(recipe) if recipe.sample_format == "auto" else recipe.sample_format
        )
        columns = ["root", "path", "song_id", "stem", "num_frames", "channels", "sample_rate", "content_id"]
        stems = pd.DataFrame([_as_packed(row, recipe) for row in self.rows], columns=columns)
        self.index = plan_layout(stems, self.sample_format, max(1, int(recipe.shard_gib * (1 << 30))))
        self.sizes = shard_sizes(self.index)
        self.num_bytes = sum(self.sizes.values())
        self.generation = ""

    def _fitting(self, stems: pd.DataFrame, channels: int | None) -> list[dict[str, Any]]:
        """Rows with their files, without what would need a decision about which channel goes where."""
        rows = []
        for row in _records(stems):
            self.corpus.folder_of(row)  # paths that lead out of their root end the packing here
            if channels in (None, 1, row["channels"]) or row["channels"] == 1:
                rows.append(row)
                continue
            detail = f"{row['channels']} channels cannot become {channels}; pack with channels 1, or leave that out"
            self.rejects.append(Reject(row["content_id"], _name(row), "layout", "channels", detail))
        return rows

    def _exact_format(self, recipe: PackRecipe) -> SampleFormat:
        """int16 if that loses nothing."""
        for number, row in enumerate(self.rows, 1):
            is_computed = recipe.sample_rate not in (None, row["sample_rate"])
            is_computed |= recipe.channels == 1 and row["channels"] > 1
            if is_computed or not _is_exact_in_int16(self.corpus.path_of(row)):
                return "float32"
            self.progress("formats", number, len(self.rows), 0)
        return "int16"

    def refuse_other_settings(self) -> None:
        """Raise `BuildError` if the store was packed with other settings."""
        path = self.out / "recipe.json"
        if not path.exists():
            return
        before = read_recipe(path)["recipe"]
        for name, value in self.settings.items():
            if before.get(name) != value:
                raise BuildError(
                    f"{path}: the store was packed with {name} {before.get(name)!r}, and this is {value!r}; use "
                    f"the same settings, or remove the folder {self.out} first"
                )

    def free_bytes(self) -> int:
        """Free on the disk, with what our own shards take."""
        folder = next(folder for folder in (self.out, *self.out.parents) if folder.exists())
        ours = sum(path.stat().st_blocks * 512 for path in self._shards())
        return shutil.disk_usage(folder).free + ours

    def require_space(self) -> None:
        """Raise `BuildError` if the shards cannot fit: they are sparse, and would fill the disk late."""
        free = self.free_bytes()
        if self.num_bytes > free:
            raise BuildError(
                f"{self.out}: {len(self.index)} stems as {self.sample_format} take {self.num_bytes / 1e9:.2f} GB, "
                f"and {free / 1e9:.2f} GB are free; free some space, or pack fewer stems or splits, or as int16"
            )

    def make_room(self) -> None:
        """The shards in their full length: those that are there, if they are of the same layout."""
        forget_index(self.out)
        path = self.out / "layout.json"
        layout = hashlib.blake2b(self.index.to_csv(index=False).encode(), digest_size=16).hexdigest()
        before = read_record(path) if path.exists() else {}
        whole = {shard_path(self.out, shard): size for shard, size in self.sizes.items()}
        if before.get("layout") == layout and {p: p.stat().st_size for p in self._shards()} == whole:
            self.generation = str(before["generation"])
            return
        # removed, not overwritten: a training may be reading the old ones, and goes on doing so
        for shard in self._shards():
            shard.unlink()
        shutil.rmtree(self.out / ".cache", ignore_errors=True)
        self.generation = secrets.token_hex(16)
        with replacing(path) as file:
            file.write(json.dumps({"layout": layout, "generation": self.generation}).encode() + b"\n")
        make_shards(self.out, self.sizes)

    def _shards(self) -> list[Path]:
        return sorted(path for path in self.out.glob("*.pcm") if re.fullmatch(r"\d{5,}\.pcm", path.name))

    def pack(self) -> pd.DataFrame:
        """Decode every stem into its region; the rows of those that are there."""
        stage = Stage(
            "pack", PACK_VERSION, partial(pack_stem, packed=str(self.out)), {"generation": self.generation}
        )
        works = []
        for row, place in zip(self.rows, _records(self.index), strict=True):
            names = ("shard", "offset_bytes", "num_frames", "channels", "sample_format")
            region = Region(**{name: place[name] for name in names})
            item = PackItem(
                FoundFile(str(self.corpus.folder_of(row)), str(row["path"])),
                row["content_id"],
                row["sample_rate"],
                row["channels"],
                place["sample_rate"],
                region,
            )
            # equal files have regions of their own
            ids = (row["content_id"] or _name(row), f"{region.shard}:{region.offset_bytes}")
            works.append(Work(_name(row), item, ids))
        failed = {done.name for done in self.stage(stage, works, reject_stage="pack") if done.failure is not None}
        is_packed = [_name(row) not in failed for row in self.rows]
        packed = self.index[is_packed].reset_index(drop=True)
        if packed.empty:
            raise BuildError(f"{self.out}: no stem could be packed ({self.rejects[0].detail}); correct that first")
        return packed

    def write(self, packed: pd.DataFrame) -> None:
        """The record and what was rejected, and last the index."""
        self.hours["packed"] = float((packed["num_frames"] / packed["sample_rate"]).sum() / 3600)
        facts = {"sample_format": self.sample_format, "num_bytes": self.num_bytes}
        self.save(packed["content_id"].dropna().tolist(), {}, **facts)
        write_index(self.out, packed, self.stems_table)


def _stems_path(folder: Path) -> Path:
    path = stems_as_built(folder)
    assert path is not None, "Corpus.open refuses a folder without"
    return path


def _chosen(corpus: Corpus, recipe: PackRecipe, limit: int | None) -> pd.DataFrame:
    """The rows to pack, in the order of the stems table."""
    stems = corpus.stems
    for column, names in (("stem", recipe.stems), ("split", recipe.splits)):
        known = set(stems[column].dropna())
        for name in names or ():
            if name not in known:
                hint = did_you_mean(name, known) or f"; it has {_listed(known)}"
                raise RecipeError(f"field '{column}s': the corpus has no {column} '{name}'{hint}")
        if names is not None:
            stems = stems[stems[column].isin(names)]
    if limit is not None:
        stems = stems[stems["song_id"].isin(sorted(stems["song_id"].unique())[:limit])]
    if stems.empty:
        raise TableError(f"{corpus.folder}: no stems are left to pack; leave fewer out")
    return stems.drop_duplicates(["root", "path"])


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:5]) or "none"


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of plain values, with None for nulls."""
    plain = frame.astype(object)
    return [
        {str(name): value for name, value in row.items()}
        for row in plain.where(plain.notna(), None).to_dict("records")
    ]


def _name(row: Mapping[str, Any]) -> str:
    """What the rejected table calls a stem by."""
    return str(row["path"]) if row["root"] == CORPUS_ROOT else f"{row['root']}/{row['path']}"


def _as_packed(row: Mapping[str, Any], recipe: PackRecipe) -> dict[str, Any]:
    """A row with the length, the rate and the channels that it is to have."""
    rate = recipe.sample_rate or row["sample_rate"]
    return {
        **row,
        "num_frames": resampled_frames(row["num_frames"], row["sample_rate"], rate),
        "sample_rate": rate,
        "channels": recipe.channels or row["channels"],
    }


def _is_exact_in_int16(path: Path) -> bool:
    """Whether a file's samples are whole numbers of 16 bits.

    What cannot be opened decides nothing: it will be rejected. Lossy codecs decode to more than 16 bits, and beyond
    full scale.
    """
    try:
        return str(soundfile.info(str(path)).subtype) in _EXACT_IN_INT16
    except (soundfile.LibsndfileError, OSError):
        return path.suffix.lower() not in (".m4a", ".mp4", ".aac")
