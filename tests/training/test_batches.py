"""Training mixtures are numbered, whoever makes them; validation has others, always the same."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from augment import PoolReader, render
from builders.engine import LocalEngine
from builders.pack import PackBuilder
from builders.recipe import PackRecipe
from manifests.corpus import Corpus
from manifests.errors import RecipeError
from manifests.packed import PackedCorpus
from tests.augment.small_pool import loose_corpus
from tests.training.small_training import MIX, corpus, recipe
from training.batches import Batch, Mixtures, open_packed


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return corpus(tmp_path_factory.mktemp("corpus"))


def of(data: Corpus, workers: int = 0) -> Mixtures:
    return Mixtures.of_training(recipe(seed=5), {"corpus": data}, workers)


def joined(batches: list[Batch]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.cat([mixtures for mixtures, _ in batches]), torch.cat([targets for _, targets in batches])


def equal(one: list[Batch], other: list[Batch]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(joined(one), joined(other), strict=True))


def test_batches_sum_to_their_mixtures_and_have_no_end(data: Corpus) -> None:
    batches = [*itertools.islice(of(data).batches(3), 4)]
    mixtures, targets = joined(batches)
    assert (mixtures.shape, targets.shape) == ((12, 2, 800), (12, 2, 2, 800))
    torch.testing.assert_close(targets.sum(dim=1), mixtures)
    assert len({one.numpy().tobytes() for one in mixtures}) == 12


def test_a_batch_is_the_same_wherever_one_starts(data: Corpus) -> None:
    whole = [*of(data).batches(2, stop=5)]
    assert len(whole) == 5
    assert equal([*of(data).batches(2, start=3, stop=5)], whole[3:])
    assert equal([*of(data, workers=2).batches(2, start=1, stop=5)], whole[1:])


def test_processes_share_the_batches_of_one(data: Corpus) -> None:
    alone = [*of(data).batches(4, stop=3)]
    shares = [[*of(data).batches(2, stop=3, rank=rank, world_size=2)] for rank in (0, 1)]
    together = [share[batch] for batch in range(3) for share in shares]
    assert equal(together, alone)


def test_making_batches_takes_nothing_from_torchs_generator(data: Corpus) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    next(of(data).batches(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_plans_are_those_of_the_batches(data: Corpus) -> None:
    training = of(data)
    mixtures = joined([*training.batches(3, start=2, stop=4)])[0]
    reader = PoolReader(training.pool)
    found = [render(plan, reader).mixture for plan in training.plans(6, 6)]
    np.testing.assert_array_equal(found, mixtures)


def test_validation_has_mixtures_of_its_own_whatever_the_seed(data: Corpus) -> None:
    found = [Mixtures.of_validation(recipe(seed=seed), {"corpus": data}).batches(2, stop=2) for seed in (0, 1)]
    one, other = ([*batches] for batches in found)
    assert equal(one, other)
    assert not equal(one, [*of(data).batches(2, stop=2)])


def test_splits_are_apart(tmp_path: Path) -> None:
    folders = {split: tmp_path / split for split in ("train", "validation")}
    corpora = {
        split: loose_corpus(folder, {"speech": number, "music": number}, split=split)
        for number, (split, folder) in enumerate(folders.items(), 2)
    }
    made = recipe(split="train", validation={"split": "validation"})
    training, validation = Mixtures.of_training(made, corpora), Mixtures.of_validation(made, corpora)
    roots = [{event.root for plan in one.plans(0, 20) for event in plan.events} for one in (training, validation)]
    assert roots == [{"train"}, {"validation"}]
    both = Mixtures.of_training(recipe(split=None), corpora)
    assert {event.root for plan in both.plans(0, 20) for event in plan.events} == set(folders)


def test_songs_that_are_all_shorter_than_a_mixture_are_refused(data: Corpus) -> None:
    mix = {**MIX, "length_s": 0.6}
    Mixtures.of_training(recipe(mix=mix), {"corpus": data})  # apart: what is too short lies in silence
    one = {**mix, "together": True, "sources": {"speech": {"stems": "speech"}}}
    message = r"mix\.length_s is 0\.6, and the longest of the places .* is 0\.5 s; write a shorter length, or cut"
    with pytest.raises(RecipeError, match=message):
        Mixtures.of_training(recipe(mix=one), {"corpus": data})
    with pytest.raises(RecipeError, match=message):
        Mixtures.of_validation(recipe(mix=one), {"corpus": data})
    Mixtures.of_training(recipe(mix={**one, "length_s": 0.5}), {"corpus": data})


def test_a_packed_store_is_used_where_there_is_one_and_gives_the_same(tmp_path: Path) -> None:
    data = corpus(tmp_path / "corpus")
    assert type(open_packed(data.folder)) is Corpus
    wanted = [*of(data).batches(2, stop=2)]
    PackBuilder(PackRecipe(), engine=LocalEngine(0)).build(data.folder)
    packed = open_packed(data.folder)
    assert type(packed) is PackedCorpus
    assert equal([*of(packed).batches(2, stop=2)], wanted)
