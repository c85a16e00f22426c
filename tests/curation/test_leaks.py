"""Leaks: planted copies are found, however changed, and what has nothing in common is not."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.chromaprint import SAMPLE_RATE, SILENCE, Fingerprint, fingerprint, to_pcm
from curation.leaks import EXTERNAL, find_duplicates, find_leaks
from manifests.errors import RecipeError, TableError
from tests.synthesis import Audio, pink_noise, song, tone

RATE = 22_050


@functools.cache
def mixture(seed: int, seconds: float = 40.0) -> Audio:
    instrumental, vocals = song(np.random.default_rng(seed), seconds, RATE)
    return instrumental + vocals


def print_of(audio: Audio) -> Fingerprint:
    return fingerprint(to_pcm(audio, RATE))


def prints_of(**songs: Audio) -> dict[tuple[str, str], Fingerprint]:
    """Fingerprints of mixtures, by the song's name."""
    return {(name, "mixture"): print_of(audio) for name, audio in songs.items()}


def through_mp3(audio: Audio) -> Audio:
    file = io.BytesIO()
    soundfile.write(file, audio.T, RATE, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.8)
    file.seek(0)
    return np.ascontiguousarray(soundfile.read(file, dtype="float32")[0].T)


def delayed(audio: Audio, seconds: float) -> Audio:
    return np.pad(audio, ((0, 0), (round(seconds * RATE), 0)))


def cut(audio: Audio, start_s: float, end_s: float) -> Audio:
    return audio[:, round(start_s * RATE) : round(end_s * RATE)]


CHANGES = {
    "the same file": lambda audio: audio,
    "another level": lambda audio: 0.2 * audio,
    "the other polarity": lambda audio: -audio,
    "mono": lambda audio: audio[:1],
    "mp3 of another level": lambda audio: through_mp3(0.4 * audio),
    "delayed": lambda audio: delayed(audio, 3.21),
    "delayed by half of an item": lambda audio: delayed(audio, 0.062),
    "trimmed": lambda audio: cut(audio, 4.57, 33.1),
    "trimmed, delayed, mp3 of another level": lambda audio: through_mp3(0.5 * delayed(cut(audio, 6.1, 35.0), 1.7)),
    "noisy": lambda audio: audio + pink_noise(np.random.default_rng(0), 2, audio.shape[1], rms=0.005),
    "an excerpt of 12 s": lambda audio: cut(audio, 11.3, 23.3),
    "an excerpt of 12 s in another song": lambda audio: np.hstack(
        [cut(mixture(90), 0, 13.7), through_mp3(0.6 * cut(audio, 11.3, 23.3)), cut(mixture(90), 13.7, 40)]
    ),
    "with other music before and after": lambda audio: np.hstack(
        [cut(mixture(91), 0, 25), cut(audio, 10, 25), cut(mixture(92), 0, 25)]
    ),
    "its end, then another song": lambda audio: np.hstack([cut(audio, 26, 40), cut(mixture(93), 0, 30)]),
}


class TestLeaks:
    @pytest.mark.parametrize("change", CHANGES)
    def test_of_a_copy_are_found(self, change: str) -> None:
        prints = prints_of(a=mixture(1), b=mixture(2), copy=CHANGES[change](mixture(1)))
        found = find_leaks(prints, {"a": "train", "b": "test", "copy": "test"})
        assert found[["song_a", "split_a", "song_b", "split_b"]].values.tolist() == [["a", "train", "copy", "test"]]
        assert found["bit_error_rate"][0] <= 0.12
        assert find_duplicates(prints)[["song_a", "song_b"]].values.tolist() == [["a", "copy"]]

    def test_say_where_the_copy_is(self) -> None:
        prints = prints_of(
            a=mixture(1), b=np.hstack([cut(mixture(91), 0, 25), cut(mixture(1), 10, 25), cut(mixture(92), 0, 25)])
        )
        row = find_duplicates(prints).iloc[0]
        seconds_per_item = 1365 / SAMPLE_RATE
        # What is at 10 s of the one is at 25 s of the other, for 15 s.
        assert row["offset_items"] * seconds_per_item == pytest.approx(15, abs=0.13)
        assert row["overlap_items"] * seconds_per_item == pytest.approx(15 - 2.7, abs=3)

    def test_of_the_instrumental_into_another_split_are_found(self) -> None:
        instrumental, vocals = song(np.random.default_rng(5), 40.0, RATE)
        prints = prints_of(a=instrumental + 0.4 * vocals, b=instrumental, c=mixture(2))
        found = find_leaks(prints, {"a": "train", "b": "test", "c": "test"})
        assert found[["song_a", "song_b"]].values.tolist() == [["a", "b"]]

    def test_of_a_print_that_differs_everywhere_is_one_and_no_duplicate(self) -> None:
        rng = np.random.default_rng(0)
        a = rng.integers(0, 2**32, 400, dtype=np.uint32)
        wrong = (rng.random((400, 32)) < 0.25) & (np.arange(400) % 40 > 0)[:, None]
        prints = {("a", "m"): a, ("b", "m"): a ^ np.packbits(wrong, axis=1).view(np.uint32).ravel()}
        found = find_leaks(prints, {"a": "train", "b": "test"})
        assert found["bit_error_rate"].tolist() == [pytest.approx(wrong.mean())]
        assert found[["votes", "offset_items", "overlap_items"]].values.tolist() == [[10, 0, 400]]
        assert len(find_duplicates(prints)) == 0
        assert len(find_leaks(prints, {"a": "train", "b": "test"}, max_bit_error_rate=0.2)) == 0

    def test_into_an_external_set_are_found_from_any_split(self) -> None:
        prints = prints_of(a=mixture(1), b=mixture(2), c=mixture(3))
        external = {"A test song": print_of(through_mp3(0.5 * mixture(1))), "Another": print_of(mixture(3))}
        found = find_leaks(prints, {"a": None, "b": "train", "c": "test"}, external)
        assert sorted(found[["song_a", "song_b", "split_b"]].values.tolist()) == [
            ["a", "A test song", EXTERNAL],
            ["c", "Another", EXTERNAL],
        ]
        assert found["stem_b"].isna().all()
        assert found["stem_a"].tolist() == ["mixture"] * 2

    def test_may_have_the_ids_of_the_external_set(self) -> None:
        found = find_leaks(prints_of(a=mixture(1)), {"a": "test"}, {"a": print_of(mixture(1))})
        assert len(found) == 1

    def test_within_a_split_or_without_one_or_within_the_external_set_are_none(self) -> None:
        prints = prints_of(a=mixture(1), b=mixture(1), c=mixture(1))
        assert len(find_leaks(prints, {"a": "train", "b": "train", "c": None})) == 0
        twice = {"x": print_of(mixture(2)), "y": print_of(mixture(2))}
        assert len(find_leaks(prints, dict.fromkeys("abc", "train"), twice)) == 0

    def test_between_stems_of_one_song_are_none(self) -> None:
        audio = print_of(mixture(1))
        prints = {("a", "mixture"): audio, ("a", "instrumental"): audio}
        assert len(find_duplicates(prints)) == 0
        prints["b", "mixture"] = audio
        assert find_duplicates(prints)[["song_a", "stem_a", "song_b", "stem_b"]].values.tolist() == [
            ["a", "mixture", "b", "mixture"],
            ["a", "instrumental", "b", "mixture"],
        ]

    def test_come_with_the_surest_first(self) -> None:
        noisy = mixture(1) + pink_noise(np.random.default_rng(1), 2, 40 * RATE, rms=0.02)
        prints = prints_of(noisy=noisy, a=mixture(1), copy=mixture(1))
        found = find_duplicates(prints)
        assert len(found) == 3
        assert found["bit_error_rate"].is_monotonic_increasing
        assert set(found.iloc[0][["song_a", "song_b"]]) == {"a", "copy"}


class TestWhatHasNothingInCommon:
    def test_is_not_found_among_songs(self) -> None:
        prints = prints_of(**{f"s{seed}": mixture(seed) for seed in range(1, 9)})
        splits = {name: ("train", "test")[at % 2] for at, (name, _) in enumerate(prints)}
        assert len(find_leaks(prints, splits)) == 0
        assert len(find_duplicates(prints)) == 0

    @pytest.mark.parametrize(
        "plain",
        [
            np.zeros((2, 30 * RATE), np.float32),
            tone(440.0, 30 * RATE, RATE),
            tone(440.0, 30 * RATE, RATE) + tone(443.0, 30 * RATE, RATE),
        ],
        ids=["silence", "a tone", "a beating tone"],
    )
    def test_does_not_match_by_silence_and_tones(self, plain: Audio) -> None:
        prints = prints_of(
            **{f"with {seed}": np.hstack([plain, cut(mixture(seed), 0, 15)]) for seed in range(3)},
            alone=plain,
            louder=1.5 * plain,
        )
        splits = dict.fromkeys((name for name, _ in prints), "train") | {"with 0": "test", "alone": "test"}
        assert len(find_leaks(prints, splits)) == 0
        assert len(find_duplicates(prints)) == 0

    def test_may_be_empty(self) -> None:
        nothing = np.zeros(0, np.uint32)
        assert len(find_duplicates({})) == len(find_leaks({}, {})) == 0
        assert len(find_duplicates({("a", "mixture"): nothing, ("b", "mixture"): nothing})) == 0
        assert list(find_duplicates({})) == [
            *("song_a", "stem_a", "song_b", "stem_b", "votes", "offset_items", "overlap_items"),
            *("overlap_fraction", "bit_error_rate"),
        ]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 300),
    st.integers(0, 300),
    st.integers(60, 400),
    st.sampled_from([0.0, 0.03, 0.08]),
    st.integers(0, 40),
)
def test_a_planted_stretch_is_found_wherever_it_is(
    seed: int, before: int, after: int, length: int, rate: float, silence: int
) -> None:
    rng = np.random.default_rng(seed)
    shared = rng.integers(0, 2**32, length, dtype=np.uint32)
    # Errors come in a part of the items, as in music.
    wrong = (rng.random((length, 32)) < 4 * rate) & (rng.random((length, 1)) < 0.25)
    other = shared ^ np.packbits(wrong, axis=1).view(np.uint32).ravel()
    quiet = np.full(silence, SILENCE, np.uint32)
    a = np.concatenate([quiet, rng.integers(0, 2**32, before, dtype=np.uint32), shared, quiet])
    b = np.concatenate([quiet, other, rng.integers(0, 2**32, after, dtype=np.uint32), quiet])
    for prints in ({("a", "m"): a, ("b", "m"): b}, {("b", "m"): b, ("a", "m"): a}):
        found = find_duplicates(prints)
        assert len(found) == 1
        assert abs(found["offset_items"][0]) == before
        assert found["bit_error_rate"][0] <= 0.12
        assert found["overlap_items"][0] <= length + min(before, after) + 1


@settings(deadline=None, max_examples=15)
@given(st.permutations(range(6)), st.lists(st.sampled_from(["train", "test", None]), min_size=6, max_size=6))
def test_leaks_do_not_depend_on_the_order(order: list[int], splits: list[str | None]) -> None:
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 2**32, 100, dtype=np.uint32) for _ in range(4)]
    prints = {
        (f"s{at}", "m"): np.concatenate([parts[at % 3], parts[(at + 1) % 4], rng.integers(0, 2**32, 50, np.uint32)])
        for at in range(6)
    }
    of = {f"s{at}": split for at, split in enumerate(splits)}

    def pairs(found: pd.DataFrame) -> set[tuple[Any, ...]]:
        return {
            (frozenset(row[:2]), row[2]) for row in found[["song_a", "song_b", "bit_error_rate"]].values.tolist()
        }

    keys = list(prints)
    shuffled = {keys[at]: prints[keys[at]] for at in order}
    found = pairs(find_leaks(prints, of))
    assert pairs(find_leaks(shuffled, of)) == found
    for songs, _ in found:
        one, other = (of[song] for song in songs)
        assert None not in (one, other)
        assert one != other
    held = [{at % 3, (at + 1) % 4} for at in range(6)]
    shared = {frozenset((f"s{i}", f"s{j}")) for i in range(6) for j in range(i) if held[i] & held[j]}
    crossing = {songs for songs in shared if len({of[song] for song in songs} - {None}) == 2}
    assert {songs for songs, _ in found} == crossing


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({}, r"leaks: 2 songs have a fingerprint and no split \(first: 'a'\)"),
        ({"a": "train"}, r"leaks: 1 songs have a fingerprint and no split \(first: 'b'\)"),
        ({"a": "train", "b": EXTERNAL}, "song 'b' is in a split named 'external'"),
    ],
)
def test_songs_without_a_split_are_refused(splits: dict[str, str], message: str) -> None:
    prints = {("a", "m"): np.zeros(3, np.uint32), ("b", "m"): np.zeros(3, np.uint32)}
    with pytest.raises(TableError, match=message):
        find_leaks(prints, splits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_bit_error_rate": 0.6}, r"max_bit_error_rate is 0\.6, expected 0 to 0\.5"),
        ({"max_bit_error_rate": float("nan")}, "max_bit_error_rate is nan"),
        ({"sample_one_in": 0}, "sample_one_in is 0"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    for function in (find_duplicates, lambda prints, **kwargs: find_leaks(prints, {}, **kwargs)):
        with pytest.raises(RecipeError, match=message):
            function({}, **options)


def test_what_is_no_fingerprint_is_refused() -> None:
    with pytest.raises(ValueError, match="uint32"):
        find_duplicates({("a", "m"): np.zeros(3)})  # type: ignore[dict-item]
