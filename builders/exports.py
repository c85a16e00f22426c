"""The export: a corpus in, the layout of another project out.

What the layouts are is in `manifests.exports`; here a person's recipe is turned into a call of one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from builders.recipe import ExportRecipe
from builders.stage import Progress, silent
from manifests.corpus import Corpus
from manifests.errors import RecipeError, TableError, did_you_mean
from manifests.exports import csv, huggingface, lhotse, msst, musdb18
from manifests.exports.songs import TRAIN, Exported


def export_corpus(corpus: Corpus, out: Path, recipe: ExportRecipe, progress: Progress = silent) -> Exported:
    """Write a corpus in the layout of another project.

    The folder appears when it is complete: an export that is stopped leaves nothing of that name, and starts anew.

    Parameters
    ----------
    corpus : Corpus
    out : Path
        A new or empty folder.
    recipe : ExportRecipe
    progress : callable, optional
        Called with `check` and `export`, songs done, songs in all, 0.

    Returns
    -------
    Exported
        Songs by split, and files by what became of them.

    Raises
    ------
    RecipeError
        When the recipe does not fit the layout or the corpus.
    TableError
        When the corpus does not hold what its tables say, or a song does not fit the layout.
    AudioError
        When a file cannot be decoded.
    BuildError
        When `out` is not new or empty, or the disk refuses.

    Examples
    --------
    >>> recipe = ExportRecipe(layout="musdb18", stems={"vocals": ["vocals"], "other": ["instrumental"]})
    >>> export_corpus(Corpus.open(Path("corpus")), Path("musdb"), recipe)  # doctest: +SKIP
    """
    return _export_call(recipe)(corpus, out, songs=chosen_songs(corpus, recipe), progress=progress)


def chosen_songs(corpus: Corpus, recipe: ExportRecipe) -> list[str]:
    """The ids of the songs that a recipe asks for, in the order of the stems table.

    Parameters
    ----------
    corpus : Corpus
    recipe : ExportRecipe

    Returns
    -------
    list of str

    Raises
    ------
    RecipeError
        When it names a split or a song that the corpus has not.
    TableError
        When no song is left.
    """
    stems = corpus.stems.drop_duplicates("song_id")
    splits = dict(zip(stems["song_id"], stems["split"].fillna(TRAIN), strict=True))
    _refuse_unknown("splits", "split", recipe.splits or (), set(splits.values()))
    _refuse_unknown("leave_out", "song", recipe.leave_out, splits.keys())
    left_out = set(recipe.leave_out)
    chosen = [
        song_id
        for song_id, split in splits.items()
        if song_id not in left_out and (recipe.splits is None or split in recipe.splits)
    ]
    if not chosen:
        raise TableError(f"{corpus.folder}: no songs are left to export; leave fewer out")
    return chosen


def _refuse_unknown(field: str, noun: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f"; it has {', '.join(sorted(known)[:5])}"
            raise RecipeError(f"field '{field}': the corpus has no {noun} '{name}'{hint}")


def _export_call(recipe: ExportRecipe) -> Callable[..., Exported]:
    """The layout's `export`, with what the recipe says about it."""
    if recipe.layout == "huggingface":
        return partial(huggingface.export, shard_bytes=int(recipe.shard_mb * 1e6))
    if recipe.layout == "lhotse":
        return partial(lhotse.export, cuts=recipe.cuts, audio=recipe.audio)
    if recipe.layout == "csv":
        return partial(csv.export, audio=recipe.audio)
    if recipe.layout == "msst":
        return partial(
            msst.export,
            dataset_type=recipe.dataset_type,
            stems=recipe.stems,
            silence=recipe.silence,
            sample_rate=recipe.sample_rate,
            audio=recipe.audio,
        )
    if recipe.audio == "refer":
        raise RecipeError("field 'audio' is 'refer', and MUSDB18 needs the files in its folders; use copy or link")
    return partial(
        musdb18.export,
        stems=recipe.stems,
        silence=recipe.silence,
        sample_rate=recipe.sample_rate,
        audio=recipe.audio,
    )
