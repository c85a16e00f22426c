"""Where sources are read from: packed stores, and files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from augment.dataset import MixtureDataset
from augment.draw import draw
from augment.pool import make_pool
from augment.reading import PoolReader
from augment.render import render
from builders.engine import LocalEngine
from builders.pack import PackBuilder
from builders.recipe import PackRecipe
from manifests.corpus import Corpus
from manifests.errors import BuildError
from manifests.packed import PackedCorpus
from tests.augment.small_pool import RATE, loose_corpus, one_source, recipe, with_clips


def packed(corpus: Corpus, **settings: Any) -> PackedCorpus:
    PackBuilder(PackRecipe(**settings), engine=LocalEngine(0)).build(corpus.folder)
    opened = PackedCorpus.open(corpus.folder)
    assert isinstance(opened, PackedCorpus)
    return opened


def test_a_packed_corpus_gives_the_mixtures_of_its_files(tmp_path: Path) -> None:
    corpus = loose_corpus(tmp_path, {"speech": 2, "music": 2, "effects": 3})
    store = packed(corpus)
    mix = recipe()
    files = MixtureDataset(mix, make_pool(mix, corpus), length=10)
    memory = MixtureDataset(mix, make_pool(mix, store), length=10)
    for path in (tmp_path / "audio").glob("effects1/*"):
        path.unlink()  # the store does not need it
    found = [memory[index] for index in range(10)]
    for index in range(10):
        if all(event.song_id != "effects1" for event in draw(mix, make_pool(mix, corpus), 0, 0, index).events):
            assert files[index][1].numpy() == pytest.approx(found[index][1].numpy(), abs=1e-6)
    again = pickle.loads(pickle.dumps(memory))
    assert (again[3][0] == found[3][0]).all()


def test_packed_and_other_corpora_go_together(tmp_path: Path) -> None:
    voices = packed(loose_corpus(tmp_path / "voices", {"speech": 2}))
    sounds = loose_corpus(tmp_path / "sounds", {"music": 2, "effects": 2})
    mix = recipe(min_sources=5)
    pool = make_pool(mix, {"voices": voices, "sounds": sounds})
    assert pool.packed == {"voices": (tmp_path / "voices", ".")}
    (path,) = (tmp_path / "voices" / "audio" / "speech0").iterdir()
    path.unlink()
    mixture = render(draw(mix, pool, 0, 0, 0), PoolReader(pool))
    assert all(target.any() for target in mixture.targets)


def test_plans_count_the_frames_of_a_store_at_another_rate(tmp_path: Path) -> None:
    corpus = with_clips(loose_corpus(tmp_path, {"effects": 1}), [("effects0", 1000, 2000)])
    store = packed(corpus, sample_rate=RATE // 2, channels=1)
    assert store.stems[["num_frames", "sample_rate", "channels"]].iloc[0].tolist() == [2000, 4000, 1]
    assert store.clips is not None
    assert store.clips[["start_frame", "num_frames"]].iloc[0].tolist() == [500, 1000]
    mix = one_source(sample_rate=RATE // 2, channels=1)
    pool = make_pool(mix, store)
    event = draw(mix, pool, 0, 0, 0).events[0]
    assert event.source_rate == 4000
    assert 500 <= event.source_start_frame <= 500 + 1000 - event.num_frames
    mixture = render(draw(mix, pool, 0, 0, 0), PoolReader(pool))
    at_full_rate = one_source(sample_rate=RATE // 2, channels=1)
    plan = draw(at_full_rate, make_pool(at_full_rate, corpus), 0, 0, 0)
    assert np.corrcoef(mixture.mixture[0], render(plan, PoolReader(make_pool(mix, corpus))).mixture[0])[0, 1] > 0.95


def test_a_store_that_is_out_of_date_is_refused(tmp_path: Path) -> None:
    corpus = loose_corpus(tmp_path, {"effects": 2})
    packed(corpus)
    loose_corpus(tmp_path, {"effects": 3})
    with pytest.raises(BuildError, match=r"was changed after it was packed; run 'stemloom pack"):
        make_pool(one_source(), PackedCorpus.open(tmp_path))
