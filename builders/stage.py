"""A stage, and how it is run over many items: cached, in workers, with every failure told.

A stage's function is pure: an item in, JSON values (and arrays) out, or a `StemloomError`. Its results are kept
under the content ids of what it read, so that a killed build resumes by item, and a changed parameter runs it
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from builders.cache import JsonValue, ResultCache, cache_key
from builders.engine import LITTLE, Failure, Needs, Outcome

Item = TypeVar("Item")
Arrays = Mapping[str, npt.NDArray[Any]]


Progress = Callable[[str, int, int, int], None]
"""Called with the stage's name, items done, items in all, and items rejected so far."""


def silent(stage: str, done: int, total: int, rejected: int) -> None:
    """No progress shown."""


class Engine(Protocol):
    """What runs a stage's function: `builders.engine.LocalEngine`, or on a cluster `builders.cluster.RayEngine`.

    A stage is pickled once for each worker, which keeps it: what is costly to make, a network with its weights, is
    made once, as a part of the function.
    """

    def run(
        self, stage: Callable[[Any], Any], items: Iterator[tuple[str, Any]], needs: Needs = LITTLE
    ) -> Iterator[Outcome[Any]]:
        """One outcome for each item, in the order of completion."""


@dataclass(frozen=True)
class Stage(Generic[Item]):
    """A named, versioned function over items.

    Attributes
    ----------
    name : str
    version : int
        Raised by whoever changes what the function returns.
    function : callable
        Item to `Product`. A module's function or a partial of one: it crosses process borders.
    parameters : mapping
        Everything besides the item that its result depends on, as JSON values.
    needs : Needs
        Of one worker; results do not depend on it.
    """

    name: str
    version: int
    function: Callable[[Item], Product]
    parameters: Mapping[str, JsonValue]
    needs: Needs = LITTLE

    def key(self, content_ids: Sequence[str]) -> str:
        """The cache's key of one item's work."""
        return cache_key(self.name, self.version, self.parameters, content_ids)


@dataclass(frozen=True)
class Product:
    """What a stage makes of an item: JSON values, and arrays where it must be."""

    value: dict[str, Any]
    arrays: Arrays = field(default_factory=dict)


@dataclass(frozen=True)
class Work(Generic[Item]):
    """One item for a stage, the name that its outcome comes back under, and what it reads."""

    name: str
    item: Item
    content_ids: tuple[str, ...]


@dataclass(frozen=True)
class Done:
    """What became of one piece of work: a product, or a failure."""

    name: str
    product: Product | None
    failure: Failure | None


def run_stage(
    stage: Stage[Item],
    works: Sequence[Work[Item]],
    engine: Engine,
    cache: ResultCache,
    is_whole: Callable[[dict[str, Any]], bool] = lambda value: True,
    with_arrays: bool = True,
) -> Iterator[Done]:
    """Run a stage over works; what the cache has is not run again.

    Parameters
    ----------
    stage : Stage
    works : sequence of Work
        Names are unique. Works with equal content ids share one result, of the first that is not rejected.
    engine : Engine
    cache : ResultCache
        Only this function's caller writes to it.
    is_whole : callable, optional
        Whether a cached value's side products (written audio) are still there.
    with_arrays : bool
        Whether the arrays of what the cache has are read. If not, they are left out, and may be torn.

    Yields
    ------
    Done
        One for each work: the cached ones first, then in the order of completion.
    """
    pending: dict[str, list[Work[Item]]] = {}
    for work in works:
        key = stage.key(work.content_ids)
        if key not in pending:
            product = _cached(cache, key, with_arrays)
            if product is not None and is_whole(product.value):
                yield Done(work.name, product, None)
                continue
        pending.setdefault(key, []).append(work)
    while pending:
        again: dict[str, list[Work[Item]]] = {}
        items = ((key, same[0].item) for key, same in pending.items())
        for outcome in engine.run(stage.function, items, stage.needs):
            same = pending[outcome.key]
            if outcome.result is not None:
                cache.put(outcome.key, outcome.result.value, outcome.result.arrays)
            elif outcome.error is not None and outcome.error.kind == "rejected" and len(same) > 1:
                # what is wrong may be wrong with this file alone: it may be gone, or named for another format
                same, again[outcome.key] = same[:1], same[1:]
            for work in same:
                yield Done(work.name, outcome.result, outcome.error)
        pending = again


def _cached(cache: ResultCache, key: str, with_arrays: bool) -> Product | None:
    value = cache.get(key)
    if not isinstance(value, dict):
        return None
    arrays = cache.get_arrays(key) if with_arrays else {}
    return None if arrays is None else Product(value, arrays)


def plain(number: float | np.floating[Any] | None) -> float | None:
    """A float that JSON holds: NaN and infinity become null."""
    return None if number is None or not np.isfinite(number) else float(number)


def model_needs(model: object) -> Needs:
    """What a worker needs whose stage holds a separator or a tagger.

    Parameters
    ----------
    model : object
        With the device, as torch names it, in an attribute `device` of itself or of one of its parts.

    Returns
    -------
    Needs
        One GPU where a part computes on one.
    """
    return Needs(gpus=int(_is_on_gpu(model)), memory_bytes=2_000_000_000)


def _is_on_gpu(part: object, depth: int = 6) -> bool:
    if str(getattr(part, "device", "")).startswith("cuda"):
        return True
    if isinstance(part, list | tuple):
        parts: Iterable[object] = part
    else:
        parts = (part if isinstance(part, dict) else getattr(part, "__dict__", {})).values()
    return depth > 0 and any(_is_on_gpu(inner, depth - 1) for inner in parts)
