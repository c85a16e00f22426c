"""What can be wrong with a training before its first step: corpora, splits, network, loss, weights to start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manifests.corpus import Corpus, open_corpora
from manifests.errors import RecipeError, did_you_mean
from separators.weights import Matched, load_matching
from training.batches import Mixtures, open_packed
from training.making import freeze, make_network
from training.objective import Objective
from training.recipe import TrainRecipe

__all__ = ["check_training", "corpora_for"]


def corpora_for(recipe: TrainRecipe, folders: Sequence[Path]) -> dict[str, Corpus]:
    """Open the corpora that a recipe trains on.

    Parameters
    ----------
    recipe : TrainRecipe
    folders : sequence of Path

    Returns
    -------
    dict of str to Corpus
        By the names of their folders.

    Raises
    ------
    RecipeError
        There are none, one is given twice, or they lack a split that the recipe takes.
    TableError
        One is no corpus, or is damaged.
    """
    places = [folder.resolve() for folder in folders]
    twice = [folder for number, folder in enumerate(folders) if places[number] in places[:number]]
    if twice:
        raise RecipeError(f"{twice[0]}: is given twice, and its songs would count twice: give each corpus once")
    corpora = open_corpora(folders, open_packed)
    known = {split for corpus in corpora.values() for split in corpus.stems["split"].dropna()}
    for field, split in (("split", recipe.split), ("validation.split", recipe.validation.split)):
        # sources may name splits of their own
        if split and split not in known and any(source.splits is None for source in recipe.mix.sources.values()):
            have = f"have {', '.join(sorted(known))}" if known else "have no splits"
            raise RecipeError(
                f"field '{field}' is '{split}'{did_you_mean(split, known)}, and the corpora {have}: 'stemloom "
                "curate' makes splits; to try things out, take all songs to train and to validate, by 'split: "
                "null' and 'validation: {split: null}' ('--set split= --set validation.split=')"
            )
    return corpora


def check_training(recipe: TrainRecipe, folders: Sequence[Path]) -> Matched | None:
    """Find what would keep a training from its first step, without writing anything.

    Parameters
    ----------
    recipe : TrainRecipe
    folders : sequence of Path
        Finished corpora.

    Returns
    -------
    Matched, optional
        What of `start_from` fits, if there is that.

    Raises
    ------
    RecipeError
        The recipe does not fit the corpora or the network.
    TableError
        A corpus is damaged.
    """
    corpora = corpora_for(recipe, folders)
    Mixtures.of_training(recipe, corpora)
    Mixtures.of_validation(recipe, corpora)
    network = make_network(recipe)
    freeze(network, recipe.freeze)
    Objective(network, recipe.loss, recipe.mix.outputs, recipe.targets)
    return None if recipe.start_from is None else load_matching(network, Path(recipe.start_from))
