"""The import: somebody's folder of recorded stems, or of single sounds, in, a corpus out.

The path, top to bottom in `ImportBuilder.build`: find (what is a song in this layout), hash, take (check that the
mixture is the sum of the stems; link, copy or encode), write. What the layouts are is in `manifests.imports`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from builders.engine import LocalEngine
from builders.recipe import SINGLE_SOUNDS, ImportRecipe
from builders.run import Run, refuse_foreign, refuse_limit, remove_stale
from builders.scan import Reject
from builders.stage import Engine, Product, Progress, Stage, Work, silent
from builders.triplet import is_whole
from manifests.audio import AUDIO_SUFFIXES
from manifests.corpus import MIXTURE, Corpus
from manifests.downmix import Surround
from manifests.errors import AudioError, BuildError
from manifests.imports import fma, folders, fsd50k, librispeech, loose, moisesdb, musdb18
from manifests.imports.songs import FoundSong, NoSong, Options, content_ids, song_id_of, take_song
from manifests.lock import BuildLock
from manifests.staging import address
from manifests.tables import TableFormat, frame_of

TAKE_VERSION = 1


@dataclass(frozen=True)
class ImportBuilder:
    """Builds a corpus from a folder of recorded stems.

    Parameters
    ----------
    out : Path
        The build folder, outside of what is imported. An import that was stopped is resumed there; a folder with
        other files in it, or another recipe's, is refused.
    recipe : ImportRecipe
    engine : Engine, optional
        `LocalEngine` with `jobs` workers by default.
    jobs : int >= 0
        Worker processes of the default engine.
    table_format : {'parquet', 'jsonl'}
    limit : int >= 1, optional
        Only `first_songs`; a folder holds the work of one limit.
    progress : callable, optional

    Examples
    --------
    >>> recipe = ImportRecipe(layout="musdb18", audio="link")
    >>> corpus = ImportBuilder(Path("corpus"), recipe).build(Path("musdb18hq"))  # doctest: +SKIP
    """

    out: Path
    recipe: ImportRecipe
    engine: Engine | None = None
    jobs: int = 2
    table_format: TableFormat = "parquet"
    limit: int | None = None
    progress: Progress = silent

    def build(self, folder: Path) -> Corpus:
        """Run the whole path.

        Parameters
        ----------
        folder : Path
            Where the songs are.

        Returns
        -------
        Corpus
            With tables `stems`, `tracks` (a row for each song, with its title) and `rejected`.

        Raises
        ------
        RecipeError
            When the folder does not hold the layout.
        AudioError
            When there is no such folder, or no song can be taken.
        BuildError
            When the build folder holds something else, belongs to another running build, or lies in the folder or
            around it; or the disk refuses.
        """
        found, left_out = find_songs(folder, self.recipe)
        found = first_songs(found, self.limit)
        require_apart(folder, self.out)
        refuse_foreign(self.out, "import")
        with BuildLock(self.out):
            run = _Run(self, folder, left_out)
            run.claim_folder()
            run.remove_temporary_files()
            hashed = run.hash(found)
            run.forget_result()
            stems, tracks = run.take(hashed)
            run.write(stems, tracks)
        return Corpus.open(self.out)


def find_songs(folder: Path, recipe: ImportRecipe) -> tuple[list[FoundSong], list[NoSong]]:
    """What an import would take, and what it would leave out by the looks of it.

    Parameters
    ----------
    folder : Path
    recipe : ImportRecipe

    Returns
    -------
    found : list of FoundSong
        By path.
    rejected : list of NoSong

    Raises
    ------
    RecipeError
        When the folder does not hold the layout.
    AudioError
        When there is no such folder.
    """
    if recipe.layout == "musdb18":
        return musdb18.find_songs(folder)
    if recipe.layout == "moisesdb":
        return moisesdb.find_songs(folder, recipe.bleed)
    metadata = None if recipe.metadata is None else Path(recipe.metadata)
    if recipe.layout == "loose":
        return loose.find_songs(folder, recipe.stem, metadata)
    if recipe.layout == "librispeech":
        return librispeech.find_songs(folder)
    if recipe.layout == "fma":
        return fma.find_songs(folder, metadata)
    if recipe.layout == "fsd50k":
        return fsd50k.find_songs(folder, recipe.labels)
    return folders.find_songs(
        folder,
        recipe.mixture,
        recipe.stems,
        rename=recipe.rename,
        speakers=recipe.downmix != "none",
        segments=recipe.segments,
    )


def first_songs(found: Sequence[FoundSong], limit: int | None) -> list[FoundSong]:
    """A few songs to try a recipe with.

    Parameters
    ----------
    found : sequence of FoundSong
    limit : int >= 1 or None
        How many of each split and kind of sounds; None: all of them.

    Returns
    -------
    list of FoundSong
        The first ones, in their order.

    Raises
    ------
    RecipeError
        When the limit is below 1.
    """
    refuse_limit(limit)
    if limit is None:
        return list(found)
    counts: Counter[tuple[str | None, ...]] = Counter()
    first = []
    for song in found:
        kind = (song.split, *sorted(song.stems))
        counts[kind] += 1
        if counts[kind] <= limit:
            first.append(song)
    return first


@dataclass(frozen=True)
class _Item:
    """A song with the content ids of its files, for a worker."""

    song: FoundSong
    ids: dict[str, tuple[str, ...]]


class _Run(Run):
    """One run of an import: its stages."""

    def __init__(self, builder: ImportBuilder, folder: Path, left_out: Sequence[NoSong]) -> None:
        recipe = builder.recipe
        engine = builder.engine or LocalEngine(builder.jobs, recipe.max_item_s)
        claim = {} if builder.limit is None else {"limit": str(builder.limit)}
        super().__init__(
            builder.out, "import", recipe, engine, builder.table_format, builder.progress, claim, reads=(folder,)
        )
        self.folder = folder
        self.rejects += [Reject(None, song.path, "find", song.reason, song.detail) for song in left_out]
        # MoisesDB's mixture is the sum of its stems by definition, and its tracks differ in length
        is_moisesdb = recipe.layout == "moisesdb"
        self.options = Options(
            license=recipe.license,
            link=recipe.audio == "link",
            pad=recipe.pad or is_moisesdb,
            make_mixture=recipe.make_mixture or is_moisesdb or recipe.segments is not None,
            alone=recipe.layout in SINGLE_SOUNDS,
            sample_rate=recipe.sample_rate,
            surround=_surround(recipe),
        )

    def hash(self, found: Sequence[FoundSong]) -> list[_Item]:
        """Songs with their content ids, each content once."""
        stage: Stage[FoundSong] = Stage("hash", 1, partial(_hash_song, options=self.options), {})
        songs = {song.path: song for song in found}
        works = [Work(song.path, song, ()) for song in found]
        ids = {}
        for done in self.stage(stage, works, reject_stage="hash", cached=False):
            if done.product is not None:
                ids[done.name] = {stem: tuple(each) for stem, each in done.product.value["ids"].items()}
        items: dict[str, _Item] = {}
        for path in sorted(ids):
            song_id = song_id_of(songs[path], ids[path])
            if song_id in items:
                detail = f"the same audio as {items[song_id].song.path}; remove one of them"
                self.rejects.append(Reject(song_id, path, "hash", "duplicate", detail))
            else:
                items[song_id] = _Item(songs[path], ids[path])
        return list(items.values())

    def take(self, items: Sequence[_Item]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Songs to files of the corpus, and rows of the stems and the tracks table."""
        function = partial(_take_song, home=self.out, options=self.options)
        stage: Stage[_Item] = Stage("take", TAKE_VERSION, function, asdict(self.options))
        works = [Work(item.song.path, item, _content(item)) for item in items]
        ids = {item.song.path: song_id_of(item.song, item.ids) for item in items}
        stems, tracks = [], []
        for done in self.stage(stage, works, reject_stage="take", is_whole=partial(_is_whole, self.out)):
            if done.product is None:
                continue
            value = done.product.value
            if "reason" in value:
                self.rejects.append(Reject(ids[done.name], done.name, "take", value["reason"], value["detail"]))
            else:
                stems += value["stems"]
                tracks.append(value["track"])
        if not stems:
            first = self.rejects[0]
            raise AudioError(
                f"{self.folder}: none of {len(self.rejects)} songs can be taken "
                f"(first: {first.path}: {first.reason}: {first.detail})"
            )
        stems.sort(key=lambda row: (row["song_id"], row["stem"] != MIXTURE, row["stem"]))
        tracks.sort(key=lambda row: str(row["track_id"]))
        songs = {row["song_id"]: row for row in stems}  # whose stems are equally long
        self.hours["kept"] = sum(row["num_frames"] / row["sample_rate"] for row in songs.values()) / 3600
        return stems, tracks

    def write(self, stems: list[dict[str, Any]], tracks: list[dict[str, Any]]) -> None:
        """The tables, the stems table last."""
        remove_stale(self.out, _written_stems(self.out), {row["path"] for row in stems})
        tables = {"tracks": frame_of("tracks", tracks), "stems": frame_of("stems", stems)}
        self.save([row["track_id"] for row in tracks], tables, folder=str(self.folder))


def _surround(recipe: ImportRecipe) -> Surround | None:
    if recipe.downmix == "none":
        return None
    return Surround(
        downmix=recipe.downmix, order=recipe.order, centre_db=recipe.centre_db, surround_db=recipe.surround_db
    )


def _hash_song(song: FoundSong, options: Options) -> Product:
    return Product({"ids": {stem: list(ids) for stem, ids in content_ids(song, options).items()}})


def _take_song(item: _Item, home: Path, options: Options) -> Product:
    taken = take_song(item.song, item.ids, home, options)
    if isinstance(taken, NoSong):
        return Product({"reason": taken.reason, "detail": taken.detail})
    return Product({"stems": taken.stems, "track": taken.track})


def _content(item: _Item) -> tuple[str, ...]:
    """Everything that the rows of a song depend on besides the options."""
    files = [f"{stem} {' '.join(item.ids[stem])}" for stem in sorted(item.ids)]
    facts = [getattr(item.song, field.name) for field in fields(item.song) if field.name not in ("path", "stems")]
    return (song_id_of(item.song, item.ids), *files, repr(facts))


def _is_whole(out: Path, value: dict[str, Any]) -> bool:
    return "reason" in value or is_whole(out, value)


def require_apart(folder: Path, out: Path) -> None:
    """Refuse an import that would take its own stems for songs, or the songs for old stems of its own.

    Raises
    ------
    BuildError
        When one of the two lies in the other.
    """
    source, build = Path(address(folder)), Path(address(out))
    if build.is_relative_to(source):
        raise BuildError(f"{out}: lies in {folder}, which is imported; choose an --out folder outside of it")
    if source.is_relative_to(build):
        raise BuildError(f"{folder}: lies in {out}, where it is imported to; choose another --out folder")


def _written_stems(out: Path) -> list[str]:
    """The stems in a build folder, as paths of the stems table. What is not ours is left out."""
    return sorted(
        path.relative_to(out).as_posix()
        for path in out.glob("audio/*/*")
        if re.fullmatch("[0-9a-f]{32}", path.parent.name) and path.suffix.lower() in AUDIO_SUFFIXES
    )
