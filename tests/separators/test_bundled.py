"""The separator that comes with stemloom: small, and of use."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import separators
from separators import load_separator, separate
from separators.weights import read_saved
from tests.synthesis import song

FILES = sorted((Path(separators.__file__).parent / "bundled" / "vocals").glob("*.safetensors"))


def test_it_is_small_and_says_what_it_was_trained_on() -> None:
    assert 0 < sum(file.stat().st_size for file in FILES) < 15e6
    for file in FILES:
        about = read_saved(file).about
        assert about["licence"] == "MIT"
        kinds = [name.partition(", ")[2] for name in about["trained_on_minutes"]]
        assert kinds
        for kind in kinds:
            assert kind == "synthesised" or "public domain" in kind or kind.startswith(("CC0", "CC BY "))
            assert "SA" not in kind


def test_it_finds_the_voice_of_a_synthesised_song() -> None:
    accompaniment, vocals = song(np.random.default_rng(0), 6.0)
    mixture = (accompaniment + vocals).astype(np.float32)
    separator = load_separator("bundled:vocals")
    assert separator.name == "bundled:vocals"
    assert separator.sources == ("vocals", "accompaniment")
    found = separate(separator, mixture)
    np.testing.assert_allclose(found.sum(axis=0), mixture, atol=1e-4)
    error = np.square(found[0] - vocals).sum()
    assert error < 0.7 * np.square(mixture - vocals).sum()
