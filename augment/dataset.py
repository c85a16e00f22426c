"""Mixtures for torch: a dataset with a length, and an endless stream of batches.

    dataset = MixtureDataset(recipe, pool, seed=0, length=10_000)
    loader = DataLoader(dataset, batch_size=8, num_workers=4, multiprocessing_context="forkserver")
    for epoch in range(100):
        dataset.set_epoch(epoch)
        for mixture, targets in loader: ...

    stream = MixtureStream(recipe, pool, seed=0, batch_size=8, start=step)
    for mixture, targets in DataLoader(stream, batch_size=None, num_workers=4): ...

`mixture` is float32 (batch, channels, frames), `targets` (batch, sources, channels, frames). A mixture depends on
the seed, the epoch and its index only: 0, 1 or 8 workers and any number of ranks see the same ones, in the same
order, and a run resumes from a counter. Both pickle, so workers need not be
forked, which can hang where the process has threads.

A file that cannot be read any more (vanished, damaged, on a drive that was unmounted) is, by `on_error`, an error,
or a warning and another draw of the same mixture, which is reproducible too: `draw(..., attempt=1)`. Replacements
are counted in `num_replaced`, over all workers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch.utils.data import Dataset, IterableDataset, default_collate, get_worker_info

from augment.mixer import Mixer
from augment.plan import MixturePlan
from augment.pool import Pool
from augment.reading import PoolReader
from augment.recipe import MixRecipe
from augment.render import Mixture, Reader, Separate
from manifests.errors import AudioError, RecipeError

__all__ = ["Example", "MixtureDataset", "MixtureStream", "PlannedExample", "collate"]

Example: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""The mixture (channels, frames) and its targets (sources, channels, frames)."""

PlannedExample: TypeAlias = tuple[torch.Tensor, torch.Tensor, MixturePlan]
"""The same, with the plan."""


def collate(examples: Sequence[Example] | Sequence[PlannedExample]) -> Any:
    """Batch examples, plans as a list: the `collate_fn` of a `DataLoader` whose dataset gives plans.

    Parameters
    ----------
    examples : sequence of Example or PlannedExample

    Returns
    -------
    tuple
        The mixtures (batch, channels, frames), the targets (batch, sources, channels, frames), and the list of
        plans if there are any.
    """
    tensors = default_collate([example[:2] for example in examples])
    plans = [example[2] for example in examples if len(example) == 3]
    return (*tensors, plans) if plans else tuple(tensors)


class _Counted:
    """Counts replaced draws over all workers, in memory that they share."""

    def __init__(self) -> None:
        self.count = torch.zeros(1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def __call__(self, plan: MixturePlan, error: AudioError) -> None:
        self.count += 1


def _mixer(
    recipe: MixRecipe,
    pool: Pool,
    seed: int,
    reader: Reader | None,
    separate: Separate | None,
    on_replaced: _Counted | None,
) -> Mixer:
    if seed < 0:
        raise RecipeError(f"seed is {seed}; seeds are at least 0")
    return Mixer(recipe, pool, seed, PoolReader(pool) if reader is None else reader, separate, on_replaced)


def _example(mixture: Mixture, with_plan: bool) -> Any:
    tensors = torch.from_numpy(mixture.mixture), torch.from_numpy(mixture.targets)
    return (*tensors, mixture.plan) if with_plan else tensors


class MixtureDataset(Dataset[Any]):
    """So many mixtures for each epoch, by index.

    Parameters
    ----------
    recipe : MixRecipe
    pool : Pool
        Of the same recipe (`augment.pool.make_pool`).
    seed : int
        At least 0.
    length : int
        Mixtures of an epoch.
    reader : Reader, optional
        Where audio comes from: by default the stores of corpora that were opened as packed, else files.
    with_plan : bool
        Give the plan as a third value; the loader then needs `collate_fn=collate`.
    on_error : {'raise', 'replace'}
        What a file that cannot be read means; see the module.
    separate : callable, optional
        For a recipe whose cascade is by a separator.

    Raises
    ------
    RecipeError
        When the seed or the length is out of its range.
    """

    def __init__(
        self,
        recipe: MixRecipe,
        pool: Pool,
        *,
        seed: int = 0,
        length: int,
        reader: Reader | None = None,
        with_plan: bool = False,
        on_error: Literal["raise", "replace"] = "raise",
        separate: Separate | None = None,
    ) -> None:
        if length < 1:
            raise RecipeError(f"length is {length}; an epoch has at least 1 mixture")
        self._replaced = _Counted()
        self.mixer = _mixer(recipe, pool, seed, reader, separate, self._replaced if on_error == "replace" else None)
        self.length = length
        self.with_plan = with_plan
        # shared, so that workers that live on see the next epoch
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return self.length

    @property
    def epoch(self) -> int:
        """The epoch that indices count in."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Go to another epoch; call it before the loader is iterated.

        Parameters
        ----------
        epoch : int
            At least 0.
        """
        if epoch < 0:
            raise RecipeError(f"epoch is {epoch}; epochs are counted from 0")
        self._epoch.fill_(epoch)

    @property
    def num_replaced(self) -> int:
        """Draws that were replaced since the start, in all workers."""
        return int(self._replaced.count)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self.length:
            raise IndexError(f"index {index} is not within the epoch's {self.length} mixtures")
        return _example(self.mixer.mix(self.epoch, index), self.with_plan)


class MixtureStream(IterableDataset[Any]):
    """Batches without end, or up to some number of them.

    Batch `b` of rank `r` holds the mixtures `(b * world_size + r) * batch_size` and those after it, all of epoch 0;
    so all ranks together see the same mixtures for every number of ranks, as long as the global batch (`batch_size
    * world_size`) is the same. Use it with `DataLoader(stream, batch_size=None)`: workers take turns by batches,
    and the loader hands them out in order.

    Parameters
    ----------
    recipe, pool, seed, reader, with_plan, on_error, separate
        As for `MixtureDataset`.
    batch_size : int
        Mixtures of a batch, of one rank.
    start : int
        The first batch: how many steps a resumed run has done.
    stop : int, optional
        The first batch that is not given; none: no end.
    rank, world_size : int, optional
        By default what torch.distributed or torchrun (RANK, WORLD_SIZE) say, or 0 of 1.

    Raises
    ------
    RecipeError
        When a number is out of its range, or the recipe's mixtures are not of one length.
    """

    def __init__(
        self,
        recipe: MixRecipe,
        pool: Pool,
        *,
        seed: int = 0,
        batch_size: int,
        start: int = 0,
        stop: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        reader: Reader | None = None,
        with_plan: bool = False,
        on_error: Literal["raise", "replace"] = "raise",
        separate: Separate | None = None,
    ) -> None:
        if recipe.num_frames is None:
            raise RecipeError(
                f"recipe: field 'length_s' is '{recipe.length_s}', and a batch needs mixtures of one length; write "
                "seconds, or use MixtureDataset with a batch size of 1"
            )
        self.rank, self.world_size = _place_among_ranks(rank, world_size)
        for name, value, least in (("batch_size", batch_size, 1), ("start", start, 0)):
            if value < least:
                raise RecipeError(f"{name} is {value}; it is at least {least}")
        self._replaced = _Counted()
        self.mixer = _mixer(recipe, pool, seed, reader, separate, self._replaced if on_error == "replace" else None)
        self.batch_size = batch_size
        self.start = start
        self.stop = stop
        self.with_plan = with_plan

    @property
    def num_replaced(self) -> int:
        """Draws that were replaced since the start, in all workers."""
        return int(self._replaced.count)

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        batch = self.start + number
        while self.stop is None or batch < self.stop:
            yield self._batch((batch * self.world_size + self.rank) * self.batch_size)
            batch += workers

    def _batch(self, first: int) -> Any:
        """The mixtures from a number on, rendered where they stay: copying a batch takes as long as making it."""
        recipe = self.mixer.recipe
        num_frames = recipe.num_frames
        assert num_frames is not None
        mixtures = _room(self.batch_size, recipe.channels, num_frames)
        targets = _room(self.batch_size, len(recipe.outputs), recipe.channels, num_frames)
        plans = [
            self.mixer.mix(0, first + number, out=(mixtures[number].numpy(), targets[number].numpy())).plan
            for number in range(self.batch_size)
        ]
        return (mixtures, targets, plans) if self.with_plan else (mixtures, targets)


def _room(*shape: int) -> torch.Tensor:
    """A tensor to be written; in a worker in shared memory, which is where it is to go."""
    if get_worker_info() is None:
        return torch.empty(shape)
    # as torch's own default_collate does
    storage = torch.UntypedStorage._new_shared(4 * math.prod(shape))  # type: ignore[no-untyped-call]
    return torch.empty(0).set_(storage).view(shape)


def _place_among_ranks(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if world_size is None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        else:
            rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    rank = 0 if rank is None else rank
    if not 0 <= rank < world_size:
        raise RecipeError(f"rank is {rank} of {world_size}; ranks are counted from 0")
    return rank, world_size
