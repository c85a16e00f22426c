"""Libraries of sounds in, sets of mixtures for the cinema out, as one recipe says.

The path, top to bottom in `LibrariesBuilder.build`: look (is every folder what the recipe says, is there something
for every source of the mixtures), import, clean, mix. The last three are builders of their own, which claim their
folders, resume and reject by themselves; nothing is written before all was looked at.

    out/libraries/NAME    a library as a corpus (`builders.imports`)
    out/cleaned/NAME      the same without voices where there should be none (`builders.clean`)
    out/mixtures/NAME     mixtures of all libraries, cleaned ones where there are such (`builders.mixtures`)
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from augment.recipe import MixRecipe, load_mix
from builders.clean import CleanBuilder, voices_of
from builders.imports import ImportBuilder, find_songs, first_songs, require_apart
from builders.mixtures import MixtureBuilder, require_kind
from builders.recipe import (
    CleanRecipe,
    ImportRecipe,
    LibrariesRecipe,
    LibraryMixtureRecipe,
    LibraryRecipe,
    MixtureRecipe,
)
from builders.stage import Engine, Progress, silent
from manifests.corpus import MIXTURE, Corpus
from manifests.errors import AudioError, RecipeError, StemloomError, did_you_mean
from manifests.recipes import find_recipe, load_recipe, recipe_names
from manifests.tables import TableFormat
from separators.separator import Separator

__all__ = ["Libraries", "LibrariesBuilder", "Library", "libraries_names", "load_libraries"]

_FOLDERS = (Path(__file__).parent / "recipes", Path(__file__).parents[1] / "recipes")


@dataclass(frozen=True)
class Library:
    """A library, as it was looked at.

    Attributes
    ----------
    folder : Path
    recipe : ImportRecipe
    songs : mapping of tuple to int
        Stem and split (or None) to how many there are.
    left_out : int
        Of what was found.
    """

    folder: Path
    recipe: ImportRecipe
    songs: Mapping[tuple[str, str | None], int]
    left_out: int


@dataclass(frozen=True)
class Libraries:
    """What came out, by the recipe's names."""

    imported: Mapping[str, Corpus]
    cleaned: Mapping[str, Corpus]
    mixtures: Mapping[str, Corpus]

    def lines(self) -> list[tuple[str, str]]:
        """What to tell a person: a name and a text for each corpus."""
        lines = [(f"library {name}", _told(corpus, "songs")) for name, corpus in self.imported.items()]
        for name, corpus in self.cleaned.items():
            assert corpus.cleaned is not None
            verdicts = corpus.cleaned["verdict"].value_counts().sort_index()
            parts = ", ".join(f"{count} stems {verdict}" for verdict, count in verdicts.items())
            lines.append((f"cleaned {name}", f"{_told(corpus, 'songs')}; {parts}"))
        return lines + [(f"mixtures {name}", _told(corpus, "mixtures")) for name, corpus in self.mixtures.items()]


@dataclass(frozen=True)
class LibrariesBuilder:
    """Builds corpora of libraries, and sets of mixtures of them.

    Parameters
    ----------
    out : Path
        The folder of all. What was stopped is resumed there; a part of it that another recipe made is refused.
    recipe : LibrariesRecipe
    root : Path
        What the recipe's folders are relative to.
    load : callable, optional
        From the recipe's `separator` to one; `separators.loading.load_separator` by default.
    jobs : int >= 0
        Worker processes of imports and mixtures with the default engines; 0 works in this process.
    table_format : {'parquet', 'jsonl'}
    limit : int >= 1, optional
        To try a recipe: so many songs of each split and stem of a library, and at most so many mixtures of each
        split. A trial has a folder of its own.
    progress : callable, optional
    engine_of : callable, optional
        From the seconds that one item may take (None: no limit) to what runs the stages of a part: by default what
        each part's builder has by default.

    Examples
    --------
    >>> recipe, _ = load_libraries("dnr-v2")
    >>> built = LibrariesBuilder(Path("dnr"), recipe, Path("data")).build()  # doctest: +SKIP
    """

    out: Path
    recipe: LibrariesRecipe
    root: Path = Path()
    load: Callable[[str], Separator] | None = None
    jobs: int = 2
    table_format: TableFormat = "parquet"
    limit: int | None = None
    progress: Progress = silent
    engine_of: Callable[[float | None], Engine] | None = None

    def plan(self) -> dict[str, Library]:
        """Look at everything that `build` needs, and write nothing.

        Returns
        -------
        dict of str to Library
            By the recipe's names.

        Raises
        ------
        RecipeError
            When a folder does not hold its layout, no library has a stem that is to be cleaned or mixed, or a
            mixing recipe or the separator cannot be made.
        AudioError
            When a folder is not there, or there is nothing to be taken from it.
        BuildError
            When `out` lies in a library, or that in it.
        """
        return self._look()[0]

    def _look(self) -> tuple[dict[str, Library], Separator | None]:
        """What `plan` says, and the separator, which takes its time to load."""
        libraries = {}
        for name, each in self.recipe.libraries.items():
            with _named(f"library '{name}'"):
                libraries[name] = self._looked_at(each)
        held = {kind for library in libraries.values() for kind in library.songs}
        stems = sorted({stem for stem, _ in held})
        separator = None
        if self.recipe.clean is not None:
            for stem in self.recipe.clean.stems:
                if stem not in stems:
                    raise RecipeError(
                        f"field 'clean.stems' names '{stem}'{did_you_mean(stem, stems)}: the libraries have "
                        f"{', '.join(stems)}"
                    )
            separator = self._separator(self.recipe.clean.separator)
            voices_of(separator, self.recipe.clean.voices)
        for name, mixed in self.recipe.mixtures.items():
            with _named(f"mixtures '{name}'"):
                mix = self._mix(mixed)
                require_kind("cinematic", mix)
                _require_sources(mix, mixed, held)
        return libraries, separator

    def build(self) -> Libraries:
        """Run the whole path.

        Returns
        -------
        Libraries

        Raises
        ------
        StemloomError
            As `plan`, and as the builders of the parts do. Messages name the part.
        """
        imported, cleaned, mixtures = {}, {}, {}
        libraries, separator = self._look()
        for name, library in libraries.items():
            with _named(f"library '{name}'"):
                imported[name] = ImportBuilder(
                    self.out / "libraries" / name,
                    library.recipe,
                    engine=self._engine(library.recipe.max_item_s),
                    jobs=self.jobs,
                    table_format=self.table_format,
                    limit=self.limit,
                    progress=self._progress_of(name),
                ).build(library.folder)
        for name, corpus in imported.items():
            settings = self._cleaning_of(corpus)
            if settings is not None and separator is not None:
                out, progress = self.out / "cleaned" / name, self._progress_of(name)
                with _named(f"cleaned '{name}'"):
                    cleaned[name] = CleanBuilder(
                        out, separator, settings, self.table_format, progress=progress, engine=self._engine(None)
                    ).build(corpus.folder)
        folders = [corpus.folder for corpus in {**imported, **cleaned}.values()]
        for name, mixed in self.recipe.mixtures.items():
            with _named(f"mixtures '{name}'"):
                mixtures[name] = MixtureBuilder(
                    self.out / "mixtures" / name,
                    "cinematic",
                    self._mix(mixed),
                    _limited(mixed, self.limit),
                    engine=self._engine(mixed.max_item_s),
                    jobs=self.jobs,
                    table_format=self.table_format,
                    progress=self._progress_of(name),
                ).build(folders)
        return Libraries(imported, cleaned, mixtures)

    def _looked_at(self, each: LibraryRecipe) -> Library:
        folder = self.root / Path(each.folder).expanduser()
        fields = each.model_dump(exclude={"folder"})
        if each.metadata is not None:
            fields["metadata"] = str(self.root / Path(each.metadata).expanduser())
        recipe = ImportRecipe(**fields)
        found, left_out = find_songs(folder, recipe)
        require_apart(folder, self.out)
        if not found:
            first = f" (first: {left_out[0].path}: {left_out[0].reason})" if left_out else ""
            raise AudioError(f"{folder}: there is nothing to be taken, and {len(left_out)} left out{first}")
        songs = first_songs(found, self.limit)
        kinds = Counter((stem, song.split) for song in songs for stem in song.stems if stem != MIXTURE)
        return Library(folder, recipe, kinds, len(left_out))

    def _engine(self, timeout_s: float | None) -> Engine | None:
        return None if self.engine_of is None else self.engine_of(timeout_s)

    def _separator(self, what: str) -> Separator:
        if self.load is not None:
            return self.load(what)
        from separators.loading import load_separator  # torch

        return load_separator(what)

    def _cleaning_of(self, corpus: Corpus) -> CleanRecipe | None:
        """How a library is cleaned; None if it has no stem that should be."""
        if self.recipe.clean is None:
            return None
        held = set(corpus.stems["stem"])
        stems = tuple(stem for stem in self.recipe.clean.stems if stem in held)
        fields = self.recipe.clean.model_dump(exclude={"separator"}) | {"stems": stems}
        return CleanRecipe(**fields) if stems else None

    def _mix(self, mixed: LibraryMixtureRecipe) -> MixRecipe:
        is_file = mixed.mix.endswith((".yaml", ".yml"))
        return load_mix(self.root / Path(mixed.mix).expanduser() if is_file else mixed.mix)

    def _progress_of(self, name: str) -> Progress:
        return lambda stage, done, total, rejected: self.progress(f"{name} {stage}", done, total, rejected)


def libraries_names() -> list[str]:
    """Names of the ready recipes.

    Returns
    -------
    list of str
        Sorted.
    """
    return recipe_names(_FOLDERS)


def load_libraries(recipe: str | Path) -> tuple[LibrariesRecipe, Path]:
    """Read a recipe of libraries.

    Parameters
    ----------
    recipe : str or Path
        The name of a ready recipe (`libraries_names` lists them), or the path of a YAML file.

    Returns
    -------
    recipe : LibrariesRecipe
    root : Path
        What its folders are relative to if nobody says otherwise: the file's folder, and of a ready recipe the
        working directory.

    Raises
    ------
    RecipeError
        When there is no such recipe, or something in it is wrong: one line for each field.
    """
    path = find_recipe(recipe, _FOLDERS, "recipe of libraries")
    return load_recipe(path, LibrariesRecipe), Path() if path.parent in _FOLDERS else path.parent


def _limited(mixed: LibraryMixtureRecipe, limit: int | None) -> MixtureRecipe:
    fields = mixed.model_dump(exclude={"mix"})
    if limit is not None and mixed.splits is not None:
        fields["splits"] = {split: min(num, limit) for split, num in mixed.splits.items()}
    elif limit is not None:
        fields["num"] = min(mixed.num, limit)
    return MixtureRecipe(**fields)


def _require_sources(mix: MixRecipe, mixed: LibraryMixtureRecipe, held: set[tuple[str, str | None]]) -> None:
    """Refuse mixtures of which a source could be drawn from no library."""
    for split in mixed.splits or ("",):
        for name, source in mix.of_split(split).sources.items():
            there = {stem for stem, of in held if source.splits is None or of in source.splits}
            if not any(there.issuperset(parts) for parts in source.parts):
                of_split = f" of split {' or '.join(source.splits)}" if source.splits else ""
                raise RecipeError(
                    f"source '{name}' is taken from {' or '.join(source.stems)}{of_split}, and the libraries have "
                    f"{', '.join(sorted(there)) or 'nothing'} there; add a library, or leave the split out"
                )


@contextlib.contextmanager
def _named(part: str) -> Iterator[None]:
    """Errors that say of which part of the recipe they are."""
    try:
        yield
    except StemloomError as error:
        raise type(error)(f"{part}: {error}") from error


def _told(corpus: Corpus, what: str) -> str:
    songs = corpus.stems.drop_duplicates("song_id")
    hours = float((songs["num_frames"] / songs["sample_rate"]).sum()) / 3600
    rejected = 0 if corpus.rejected is None else len(corpus.rejected)
    return f"{len(songs)} {what} ({hours:.2f} h)" + (f", {rejected} rejected" if rejected else "")
