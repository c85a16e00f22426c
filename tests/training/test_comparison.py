"""Tables of studies against values worked out apart."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from training.comparison import comparisons, summaries, with_means

SCORES = ["sdr_db"]


def songs(values: dict[str, np.ndarray], targets: tuple[str, ...] = ("vocals",)) -> pd.DataFrame:
    """Rows of scores: of each variant [shape=(targets, seeds, songs)]."""
    return pd.DataFrame(
        [
            {
                "variant": variant,
                "seed": seed,
                "test": "test",
                "song_id": f"s{number}",
                "target": target,
                "sdr_db": array[place, seed, number],
            }
            for variant, array in values.items()
            for place, target in enumerate(targets)
            for seed in range(array.shape[1])
            for number in range(array.shape[2])
        ]
    )


def draws(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(5, 2, shape)


def test_summaries_are_medians_of_songs_means() -> None:
    array = draws(0, 1, 3, 7)
    array[0, 1, 2] = math.nan
    array[0, 0, 4] = math.inf
    (row,) = summaries(songs({"a": array}), SCORES).to_dict("records")
    kept = np.delete(array[0], [2, 4], axis=1)
    assert row["median"] == pytest.approx(np.median(kept.mean(axis=0)))
    assert row["mean"] == pytest.approx(kept.mean())
    assert (row["seed_low"], row["seed_high"]) == pytest.approx(
        (np.median(kept, axis=1).min(), np.median(kept, axis=1).max())
    )
    assert (row["seeds"], row["songs"], row["left_out"]) == (3, 5, 2)


def test_comparisons_are_paired_tests_of_songs_means() -> None:
    base, other = draws(1, 1, 2, 9), draws(2, 1, 2, 9)
    (row,) = comparisons(songs({"base": base, "other": other}), SCORES, ["base", "other"], "base").to_dict(
        "records"
    )
    one, two = other[0].mean(axis=0), base[0].mean(axis=0)
    assert (row["variant"], row["other"], row["songs"], row["seeds"]) == ("other", "base", 9, 2)
    assert row["t_p"] == pytest.approx(stats.ttest_rel(one, two).pvalue)
    assert row["t"] == pytest.approx(stats.ttest_rel(one, two).statistic)
    assert row["wilcoxon_p"] == pytest.approx(stats.wilcoxon(one, two).pvalue)
    assert row["mean"] == pytest.approx((one - two).mean())
    assert row["t_holm"] == row["t_holm_pairs"] == row["t_p"]


def test_families_are_the_baselines_comparisons_and_all_pairs() -> None:
    values = {name: draws(seed, 1, 1, 8) for seed, name in enumerate(["a", "base", "b", "c"])}
    table = comparisons(songs(values), SCORES, ["a", "base", "b", "c"], "base")
    assert len(table) == 6
    of_base = table[table["other"] == "base"]
    assert list(of_base["variant"]) == ["a", "b", "c"]
    smallest = of_base.sort_values("t_p").iloc[0]
    assert smallest["t_holm"] == pytest.approx(min(1, 3 * smallest["t_p"]))
    smallest = table.sort_values("t_p").iloc[0]
    assert smallest["t_holm_pairs"] == pytest.approx(min(1, 6 * smallest["t_p"]))
    assert table.loc[table["other"] != "base", "mean"].isna().all()
    assert "seeds_p" not in table or table["seeds_p"].isna().all()  # one seed


def test_variants_are_compared_over_what_both_have() -> None:
    base, other = draws(3, 1, 3, 6), draws(4, 1, 3, 6)
    table = songs({"base": base, "other": other})
    table = table[~((table["variant"] == "other") & (table["seed"] == 1))]
    (row,) = comparisons(table, SCORES, ["base", "other"], "base").to_dict("records")
    assert row["seeds"] == 2
    assert row["mean"] == pytest.approx((other[0, [0, 2]] - base[0, [0, 2]]).mean())
    table = table[~((table["variant"] == "base") & (table["seed"] != 1))]
    (row,) = comparisons(table, SCORES, ["base", "other"], "base").to_dict("records")
    assert row["seeds"] == 0
    assert math.isnan(row["t_p"])


def test_the_mean_is_over_targets_that_all_variants_have() -> None:
    two = songs({"two": draws(5, 2, 1, 3)}, ("vocals", "drums"))
    three = songs({"three": draws(6, 3, 1, 3)}, ("vocals", "drums", "bass"))
    table = with_means(pd.concat([two, three]), SCORES)
    mean = table[(table["variant"] == "three") & (table["target"] == "mean") & (table["song_id"] == "s1")]
    both = three[(three["song_id"] == "s1") & three["target"].isin(["vocals", "drums"])]
    assert mean["sdr_db"].item() == pytest.approx(both["sdr_db"].mean())
    assert "mean" not in {*with_means(songs({"a": draws(7, 1, 1, 3)}), SCORES)["target"]}


def test_a_silent_target_makes_no_mean() -> None:
    array = draws(8, 2, 1, 3)
    array[0, 0, 1] = math.nan
    table = with_means(songs({"a": array}, ("vocals", "drums")), SCORES)
    means = table[table["target"] == "mean"].set_index("song_id")["sdr_db"]
    assert means.isna().to_dict() == {"s0": False, "s1": True, "s2": False}


def test_no_songs_are_no_comparison() -> None:
    assert not len(summaries(pd.DataFrame(), SCORES))
    assert not len(comparisons(pd.DataFrame(), SCORES, ["a", "b"], "a"))
