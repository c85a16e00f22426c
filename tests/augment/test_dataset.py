"""Mixtures for torch: the same ones for every number of workers and ranks, and after every resume."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from augment.dataset import MixtureDataset, MixtureStream, collate
from augment.plan import MixturePlan
from augment.recipe import MixRecipe
from manifests.corpus import Corpus
from manifests.errors import AudioError, RecipeError
from tests.augment.small_pool import loose_corpus, pool_of, recipe

KINDS = {"speech": 2, "music": 3, "effects": 4}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return loose_corpus(tmp_path, KINDS)


def dataset(corpus: Corpus, mix: MixRecipe | None = None, **settings: Any) -> MixtureDataset:
    mix = mix or recipe()
    return MixtureDataset(mix, pool_of(mix, corpus), **{"length": 8, **settings})


def stream(corpus: Corpus, **settings: Any) -> MixtureStream:
    return MixtureStream(recipe(), pool_of(recipe(), corpus), **{"batch_size": 2, "stop": 6, **settings})


def equal(first: list[Any], second: list[Any]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, b)
        for one, two in zip(first, second, strict=True)
        for a, b in zip(one[:2], two[:2], strict=True)
    )


def test_an_example_is_a_mixture_and_the_targets_that_it_sums(corpus: Corpus) -> None:
    mixture, targets = dataset(corpus)[3]
    assert mixture.shape == (2, 2000)
    assert targets.shape == (3, 2, 2000)
    assert mixture.dtype == targets.dtype == torch.float32
    assert torch.allclose(targets.sum(0), mixture, atol=1e-6)


def test_the_loader_gives_the_same_batches_for_any_number_of_workers(corpus: Corpus) -> None:
    found = []
    for workers in (0, 2):
        loader = DataLoader(
            dataset(corpus), batch_size=2, num_workers=workers, multiprocessing_context="spawn" if workers else None
        )
        found.append(list(loader))
    assert equal(found[0], found[1])


def test_the_stream_gives_the_same_batches_for_any_number_of_workers(corpus: Corpus) -> None:
    found = []
    for workers in (0, 1, 3):
        loader = DataLoader(
            stream(corpus),
            batch_size=None,
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
        )
        found.append(list(loader))
    assert len(found[0]) == 6
    assert equal(found[0], found[1])
    assert equal(found[0], found[2])


def test_ranks_share_the_mixtures_of_one(corpus: Corpus) -> None:
    whole = list(stream(corpus, batch_size=4, stop=3))
    for ranks in (2, 4):
        parts = [
            list(stream(corpus, batch_size=4 // ranks, stop=3, rank=rank, world_size=ranks))
            for rank in range(ranks)
        ]
        joined = [
            tuple(torch.cat([parts[rank][step][which] for rank in range(ranks)]) for which in range(2))
            for step in range(3)
        ]
        assert equal(joined, whole)


def test_ranks_are_those_of_torchrun(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert (stream(corpus).rank, stream(corpus).world_size) == (1, 3)


def test_a_distributed_sampler_parts_the_dataset(corpus: Corpus) -> None:
    data = dataset(corpus)
    ranks = [
        list(DataLoader(data, batch_size=1, sampler=DistributedSampler(data, 2, rank, shuffle=False)))
        for rank in (0, 1)
    ]
    every = [ranks[index % 2][index // 2] for index in range(8)]
    assert equal(every, list(DataLoader(data, batch_size=1)))


def test_a_stream_resumes_from_a_counter(corpus: Corpus) -> None:
    assert equal(list(stream(corpus, start=4)), list(stream(corpus))[4:])


def test_epochs_differ_and_reach_workers_that_live_on(corpus: Corpus) -> None:
    data = dataset(corpus)
    first = list(DataLoader(data, batch_size=4))
    data.set_epoch(1)
    second = list(DataLoader(data, batch_size=4))
    assert not equal(first, second)
    data.set_epoch(0)
    loader = DataLoader(data, batch_size=4, num_workers=1, persistent_workers=True, multiprocessing_context="spawn")
    assert equal(list(loader), first)
    data.set_epoch(1)
    assert equal(list(loader), second)


def test_plans_come_along_on_request(corpus: Corpus) -> None:
    data = dataset(corpus, with_plan=True)
    (batch,) = DataLoader(data, batch_size=8, collate_fn=collate)
    assert [plan.index for plan in batch[2]] == list(range(8))
    assert all(isinstance(plan, MixturePlan) for plan in batch[2])
    assert len(next(iter(stream(corpus, with_plan=True)))) == 3


def test_a_file_that_vanished_is_an_error_by_default(corpus: Corpus) -> None:
    for path in (corpus.folder / "audio").glob("effects*/*"):
        path.unlink()
    with pytest.raises(AudioError, match=r"effects\.flac: no such file"):
        list(dataset(corpus))


@pytest.mark.parametrize("damage", ["vanished", "cut short", "noise"])
def test_a_broken_file_is_replaced_by_a_reproducible_draw_and_counted(
    corpus: Corpus, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = dataset(corpus, length=30, on_error="replace", with_plan=True)
    data.set_epoch(3)
    before = list(data)
    victim = corpus.folder / "audio" / "effects1" / "effects.flac"
    content = victim.read_bytes()
    victim.unlink()
    if damage != "vanished":
        victim.write_bytes(content[:900] if damage == "cut short" else b"x" * 4000)
    data = dataset(corpus, length=30, on_error="replace", with_plan=True)
    data.set_epoch(3)
    with caplog.at_level(logging.WARNING):
        after = list(data)
    hit = [any(event.song_id == "effects1" for event in plan.events) for _, _, plan in before]
    assert 0 < sum(hit) < 30
    assert data.num_replaced >= sum(hit)
    assert len(caplog.records) == data.num_replaced
    for was_hit, old, new in zip(hit, before, after, strict=True):
        assert (new[2].attempt > 0) == was_hit
        assert torch.equal(old[1], new[1]) != was_hit
        assert all(event.song_id != "effects1" for event in new[2].events)
    again = dataset(corpus, length=30, on_error="replace", with_plan=True)
    again.set_epoch(3)
    assert equal(list(again), after)


def test_replacements_are_counted_over_all_workers(corpus: Corpus) -> None:
    (corpus.folder / "audio" / "effects1" / "effects.flac").unlink()
    counts = []
    for workers in (0, 2):
        data = dataset(corpus, length=20, on_error="replace")
        list(DataLoader(data, num_workers=workers, multiprocessing_context="spawn" if workers else None))
        counts.append(data.num_replaced)
    assert counts[0] == counts[1] > 0


def test_a_corpus_that_is_gone_is_an_error_after_ten_draws(corpus: Corpus) -> None:
    data = dataset(corpus, on_error="replace")
    for path in (corpus.folder / "audio").glob("*/*"):
        path.unlink()
    with pytest.raises(AudioError, match=r"10 draws in a row.*check that the corpus is still there"):
        data[0]
    assert data.num_replaced == 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 0}, "length is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_impossible_settings_of_a_dataset_are_refused(corpus: Corpus, settings: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        dataset(corpus, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"start": -1}, "start is -1"),
        ({"rank": 2, "world_size": 2}, "rank is 2 of 2"),
    ],
)
def test_impossible_settings_of_a_stream_are_refused(corpus: Corpus, settings: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        stream(corpus, **settings)


def test_an_index_outside_of_the_epoch_and_an_epoch_below_zero_are_refused(corpus: Corpus) -> None:
    with pytest.raises(IndexError, match="index 8 is not within the epoch's 8"):
        dataset(corpus)[8]
    with pytest.raises(RecipeError, match="epoch is -1"):
        dataset(corpus).set_epoch(-1)


def test_a_stream_needs_mixtures_of_one_length(corpus: Corpus) -> None:
    mix = recipe(length_s="shortest")
    with pytest.raises(RecipeError, match="'length_s' is 'shortest', and a batch needs mixtures of one length"):
        MixtureStream(mix, pool_of(mix, corpus), batch_size=2)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"transforms": ["swap", {"scale": {}}, {"stretch": {}}, {"limiter": {"threshold_db": -20}}]},
        {"remove": {"target": "dialogue"}},
    ],
)
def test_a_stream_renders_what_the_dataset_renders(corpus: Corpus, fields: dict[str, Any]) -> None:
    mix = recipe(**fields)
    pool = pool_of(mix, corpus)
    alone = MixtureDataset(mix, pool, length=8)
    batches = list(MixtureStream(mix, pool, batch_size=4, stop=2, with_plan=True))
    for index in range(8):
        mixtures, targets, plans = batches[index // 4]
        assert plans[index % 4].index == index
        assert torch.equal(mixtures[index % 4], alone[index][0])
        assert torch.equal(targets[index % 4], alone[index][1])
    separated = recipe(remove={"target": "music", "by": "separator"})
    stream = MixtureStream(separated, pool, batch_size=2, stop=1, separate=lambda audio, rate: 0 * audio)
    assert next(iter(stream))[1].shape[1] == len(separated.outputs) == 3
