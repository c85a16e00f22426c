"""What a set came out as, beside what its recipe says: against plans made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from augment.plan import Event, MixturePlan, plans_table
from builders.mixture_facts import realised
from manifests.tables import read_table
from tests.builders.small_mixtures import (
    RATE,
    build_mixtures,
    mix_recipe,
    noise,
    run_of,
    sound_corpus,
    sound_rows,
)
from tests.manifests.exports.small_corpus import write_song, write_tables


def plan(index: int, events: list[tuple[str, str, int, int]], num_frames: int = 8000) -> MixturePlan:
    """A plan of one second of two targets: source, song, start and length of each event."""
    made = []
    for source, song, start, length in events:
        target = "a" if source in ("one", "more") else "b"
        made.append(Event(source, target, song, "stem", "in", f"{song}.flac", 0, length, RATE, start, length))
    made.sort(key=lambda event: event.target)
    return MixturePlan(0, 0, index, 0, RATE, 2, num_frames, ("a", "b"), tuple(made))


TWO_TARGETS = {
    "one": {"target": "a", "stems": "stem", "count": [0, 2], "silence": 0.5, "lufs": {"normal": [-20, 3]}},
    "more": {"target": "a", "stems": "stem", "count": 1, "gain": [0.5, 1], "lufs": -20},
    "two": {"target": "b", "stems": "stem", "lufs": -30, "gain_db": {"normal": [2, 4]}},
}


def table_of(plans: list[MixturePlan], levels: list[float | None]) -> pd.DataFrame:
    table = plans_table(plans)
    sounding = table["path"].notna()
    assert sounding.sum() == len(levels)
    table["loudness_lufs"] = np.nan
    table.loc[sounding, "loudness_lufs"] = [np.nan if level is None else level for level in levels]
    return table


def test_counts_levels_and_overlaps_are_those_of_the_plans() -> None:
    mix = mix_recipe(sources=TWO_TARGETS)
    plans = [
        plan(0, [("one", "x", 0, 4000), ("one", "y", 2000, 4000), ("two", "z", 4000, 4000)]),
        plan(1, [("more", "x", 0, 8000)]),
        plan(2, [("two", "z", 0, 2000)], num_frames=16_000),
    ]
    found = realised(mix, table_of(plans, [-18.0, -22.0, -30.0, -9.0, None]))
    assert found["mixtures"] == 3
    one, more, two = (found["sources"][name] for name in ("one", "more", "two"))
    assert one["histogram"] == {"0": 2, "2": 1}
    assert one["count"]["mean"] == pytest.approx(2 / 3)
    assert one["count"]["nominal_mean"] == 0.5  # half of a mean of 1
    assert (one["loudness_lufs"]["mean"], one["loudness_lufs"]["std"]) == (-20.0, 2.0)
    assert one["loudness_lufs"]["nominal_mean"] == -20
    assert one["loudness_lufs"]["nominal_std"] == 3
    assert one["median_length_s"] == 0.5
    assert "nominal_mean" not in more["loudness_lufs"]  # a factor has no mean in decibels that is worth telling
    assert more["loudness_lufs"]["mean"] == -9.0
    assert two["histogram"] == {"0": 1, "1": 2}
    assert two["loudness_lufs"]["nominal_mean"] == -28
    assert two["loudness_lufs"]["nominal_std"] == 4
    assert two["loudness_lufs"]["mean"] == -30.0
    assert two["median_length_s"] == pytest.approx(0.375)
    # of 4 s in all: a sounds 0.75 + 1, b 0.5 + 0.25, both 0.25, a's several 0.25
    assert found["targets"] == pytest.approx({"a": 1.75 / 4, "b": 0.75 / 4})
    assert found["overlaps"] == pytest.approx({"a and b": 0.25 / 4, "a, several": 0.25 / 4, "b, several": 0})


def test_what_is_repeated_or_of_several_stems_is_one_source(tmp_path: Path) -> None:
    rows = sound_rows(tmp_path, "effects", 2, frames=1500)
    for number in range(2):
        parts = {"bass": noise(10 + number), "drums": noise(20 + number)}
        rows += write_song(tmp_path, f"song{number}", parts, rate=RATE, provenance="recorded")
    write_tables(tmp_path, rows)
    sources = {
        "effects": {"stems": "effects", "count": [1, 2], "loop": True},
        "music": {"stems": "bass+drums", "count": 2},
    }
    build_mixtures(tmp_path / "set", tmp_path, mix_recipe(sources=sources), num=8)
    found = run_of(tmp_path / "set")["realised"]["sources"]
    assert found["music"]["histogram"] == {"2": 8}
    assert set(found["effects"]["histogram"]) == {"1", "2"}
    table = read_table(tmp_path / "set", "mixtures")
    assert (table["source"] == "effects").sum() > 2 * 8  # 4,000 frames out of 1,500
    assert (table["source"] == "music").sum() == 4 * 8


def test_nominal_and_realised_agree_where_nothing_is_in_the_way(tmp_path: Path) -> None:
    sound_corpus(tmp_path / "in", {"speech": 3})
    sources = {"speech": {"stems": "speech", "count": [1, 3], "lufs": {"normal": [-30, 2]}}}
    build_mixtures(tmp_path / "set", tmp_path / "in", mix_recipe(sources=sources), num=60)
    speech = run_of(tmp_path / "set")["realised"]["sources"]["speech"]
    assert speech["count"]["nominal_mean"] == 2
    assert speech["count"]["mean"] == pytest.approx(2, abs=4 * 0.82 / 60**0.5)
    assert speech["loudness_lufs"]["mean"] == pytest.approx(-30, abs=4 * 2 / 60**0.5)
    assert speech["loudness_lufs"]["std"] == pytest.approx(2, abs=0.8)


@pytest.mark.parametrize(
    "written",
    [
        3,
        [0, 3],
        {"choice": [0, 1, 4], "weights": [1, 2, 1]},
        {"choice": [2, 5]},
        {"poisson": 3},
        {"zero_truncated_poisson": 0.7},
        {"zero_truncated_poisson": 8},
        {"poisson": 3, "clip": [1, 4]},
    ],
)
def test_nominal_counts_are_what_is_drawn_in_the_mean(written: Any) -> None:
    mix = mix_recipe(sources={"a": {"stems": "a", "count": written}, "b": {"stems": "b"}})
    found = realised(mix, plans_table([MixturePlan(0, 0, 0, 0, RATE, 2, 100, ("a", "b"), ())]))
    rng = np.random.default_rng(3)
    drawn = np.array([mix.sources["a"].count.draw_count(rng) for _ in range(20_000)])
    nominal = found["sources"]["a"]["count"]["nominal_mean"]
    assert nominal == pytest.approx(drawn.mean(), abs=5 * max(drawn.std(), 1e-12) / 20_000**0.5 * 2**0.5)


@pytest.mark.parametrize(
    "written",
    [
        -23,
        [-30, -20],
        {"normal": [-27, 4]},
        {"skew_normal": [-20, 3, 5]},
        {"choice": [-30, -20], "weights": [1, 3]},
    ],
)
def test_nominal_levels_are_what_is_drawn(written: Any) -> None:
    mix = mix_recipe(sources={"a": {"stems": "a", "lufs": written, "gain_db": [-2, 1]}})
    found = realised(mix, plans_table([MixturePlan(0, 0, 0, 0, RATE, 2, 100, ("a",), ())]))
    rng = np.random.default_rng(3)
    rule = mix.sources["a"]
    assert rule.lufs is not None
    drawn = np.array([rule.lufs.draw(rng) + rule.gain_db.draw(rng) for _ in range(20_000)])
    level = found["sources"]["a"]["loudness_lufs"]
    assert level["nominal_mean"] == pytest.approx(drawn.mean(), abs=7 * drawn.std() / 20_000**0.5)
    assert level["nominal_std"] == pytest.approx(drawn.std(), rel=0.05)
