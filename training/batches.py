"""Where a training's mixtures come from: pools of the training and the validation split, and batches out of them.

Training mixtures are endless and numbered: batch `b` of a run is the same whenever and wherever it is made, so that
a run resumes from a counter, and a batch that made the loss NaN can be made again. Validation mixtures are the
first ones of the validation split, always the same.
"""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Generator, Mapping
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from augment.dataset import MixtureStream
from augment.draw import draw
from augment.plan import MixturePlan
from augment.pool import Pool, make_pool
from augment.recipe import MixRecipe
from augment.render import Separate
from manifests.corpus import Corpus
from manifests.errors import RecipeError
from manifests.orphans import end_with_parent
from manifests.packed import PACKED, PackedCorpus
from manifests.staging import fetched
from training.recipe import TrainRecipe

__all__ = ["Batch", "Mixtures", "open_packed"]

Batch = tuple[torch.Tensor, torch.Tensor]
"""Mixtures (batch, channels, frames) and their targets (batch, targets, channels, frames)."""


def open_packed(folder: Path) -> Corpus:
    """A corpus as its packed store holds it, if it has one, else as its files do.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    Corpus
    """
    folder = fetched(folder)
    return (PackedCorpus if (folder / PACKED).is_dir() else Corpus).open(folder)


@dataclasses.dataclass(frozen=True)
class Mixtures:
    """The mixtures of one split.

    Attributes
    ----------
    mix : MixRecipe
    pool : Pool
    seed : int
    workers : int
        Processes that make batches; 0 makes them in this one.
    separate : callable, optional
        For a recipe whose cascade is by a separator.
    """

    mix: MixRecipe
    pool: Pool
    seed: int
    workers: int = 0
    separate: Separate | None = None

    @classmethod
    def of_training(
        cls, recipe: TrainRecipe, corpora: Mapping[str, Corpus], workers: int = 0, separate: Separate | None = None
    ) -> Mixtures:
        """Those that a recipe trains on.

        Parameters
        ----------
        recipe : TrainRecipe
        corpora : mapping of str to Corpus
        workers : int
        separate : callable, optional

        Returns
        -------
        Mixtures

        Raises
        ------
        RecipeError
            The corpora have nothing for a source of the mixtures, or nothing that is long enough.
        """
        mix = recipe.mix.of_split(recipe.split or "")
        return cls(mix, _pool(mix, corpora), recipe.seed, workers, separate)

    @classmethod
    def of_validation(
        cls, recipe: TrainRecipe, corpora: Mapping[str, Corpus], workers: int = 0, separate: Separate | None = None
    ) -> Mixtures:
        """Those that a recipe validates with, not of the training's seed, whatever that is: see `of_training`."""
        mix = recipe.mix.of_split(recipe.validation.split or "")
        return cls(mix, _pool(mix, corpora), _VALIDATION_SEED, workers, separate)

    def batches(
        self, batch_size: int, *, start: int = 0, stop: int | None = None, rank: int = 0, world_size: int = 1
    ) -> Generator[Batch, None, None]:
        """Batches in order.

        Parameters
        ----------
        batch_size : int
        start, stop : int
            The first batch, and the first that is not given; without a stop there is no end.
        rank, world_size : int
            Which of so many processes takes them: each gets other ones.

        Yields
        ------
        Batch
        """
        stream = MixtureStream(
            self.mix,
            self.pool,
            seed=self.seed,
            batch_size=batch_size,
            start=start,
            stop=stop,
            rank=rank,
            world_size=world_size,
            separate=self.separate,
        )
        yield from DataLoader(
            stream,
            batch_size=None,
            num_workers=self.workers,
            multiprocessing_context="spawn" if self.workers else None,
            worker_init_fn=_prepare_worker,
            pin_memory=torch.cuda.is_available(),
            # what it would draw of torch's own generator, a run that goes on would draw at another step
            generator=torch.Generator(),
        )

    def plans(self, first: int, number: int) -> list[MixturePlan]:
        """The plans of mixtures.

        Parameters
        ----------
        first, number : int
            The first mixture's index, and how many.

        Returns
        -------
        list of MixturePlan
        """
        return [draw(self.mix, self.pool, self.seed, 0, index) for index in range(first, first + number)]


_VALIDATION_SEED = 2**31


def _pool(mix: MixRecipe, corpora: Mapping[str, Corpus]) -> Pool:
    """What mixtures are drawn from: of songs that are all shorter than a mixture, every one would hold silence."""
    pool = make_pool(mix, corpora)
    if not mix.together or mix.num_frames is None:
        return pool
    choice = next(iter(pool.choices.values()))
    longest_s = 0.0
    for frames, file in zip(choice.num_frames, choice.first_file, strict=True):
        longest_s = max(longest_s, int(frames) / pool.file(int(file)).sample_rate)
        if longest_s >= mix.num_frames / mix.sample_rate:
            return pool
    raise RecipeError(
        f"mix.length_s is {mix.length_s}, and the longest of the places that all sources have is {longest_s:g} s; "
        "write a shorter length, or cut longer clips"
    )


def _prepare_worker(worker: int) -> None:
    """Ctrl-C goes to all processes; the one that trains ends the others, and takes them along when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
