"""Distributions as SVG: what is drawn is what was counted, in the page's colours."""

from __future__ import annotations

import re

import numpy as np
import pytest

from builders.report.charts import gate, histogram, outlines

HOSTILE = "\"'></svg><script>alert(1)</script>"


def areas(svg: str) -> dict[str, float]:
    """Painted area of each colour."""
    found: dict[str, float] = {}
    for path, name in re.findall(r'<path d="([^"]*)"[^>]*style="fill: var\(--(\w+)\)', svg):
        x, y = np.array([(float(x), float(y)) for x, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", path)]).T
        found[name] = float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)
    return found


def test_a_histogram_takes_its_colours_from_the_page_and_counts_every_value() -> None:
    svg = histogram({"--chosen": [1.0, 1.0, 2.0], "--refused": [2.0]}, "Histogram: Lag, s")
    colours = set(re.findall(r"#[0-9a-fA-F]{6}", svg))
    assert colours <= {"#ffffff", "#000000"}
    found = areas(svg)
    assert found["chosen"] == pytest.approx(3 * found["refused"], rel=1e-4)
    assert found["refused"] > 100
    assert 'aria-label="Histogram: Lag, s"' in svg
    assert " width=" not in svg[: svg.index(">")]


@pytest.mark.parametrize("draw", [histogram, outlines])
def test_a_histogram_of_one_value_or_none_is_drawn_or_empty(draw: type[histogram]) -> None:
    assert draw({"--chosen": [], "--refused": []}, "x") == ""
    assert "<svg" in draw({"--chosen": [0.0]}, "x")
    assert "<svg" in draw({"--chosen": [1e9, 1e9]}, "x")


def test_outlines_of_equal_series_are_equally_large() -> None:
    svg = outlines({"--mixture": [1.0, 2.0, 2.0], "--vocals": [1.0, 2.0, 2.0]}, "x")
    assert "stroke: var(--mixture)" in svg
    assert "stroke: var(--vocals)" in svg
    assert "opacity" in svg


def test_what_a_gate_lets_pass_and_what_not_have_two_colours_and_a_threshold() -> None:
    edges = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    svg = gate(edges, np.array([3.0, 0.0, 2.0, 4.0]), 2.0, None, "Histogram: bandwidth")
    found = areas(svg)
    assert found["chosen"] == pytest.approx(2 * found["bad"], rel=1e-3)
    assert "stroke-dasharray" in svg
    assert "stroke: var(--ink)" in svg


def test_a_threshold_within_a_bin_divides_it() -> None:
    svg = gate(np.array([0.0, 4.0]), np.array([5.0]), None, 1.0, "x")
    found = areas(svg)
    assert found["bad"] == pytest.approx(3 * found["chosen"], rel=1e-3)


def test_two_limits_let_the_middle_pass() -> None:
    found = areas(gate(np.arange(5.0), np.ones(4), 1.0, 3.0, "x"))
    assert found["chosen"] > 0
    assert found["bad"] > 0


def test_levels_over_decades_are_on_a_logarithmic_axis() -> None:
    svg = gate(np.geomspace(1e-4, 1, 9), np.array([4.0, 0, 0, 0, 0, 0, 0, 4.0]), 0.01, None, "x")
    found = areas(svg)
    assert found["chosen"] == pytest.approx(found["bad"], rel=1e-2)
    assert ">0.01<" in svg


def test_a_gate_without_values_is_not_drawn() -> None:
    assert gate(np.zeros(0), np.zeros(0), 1.0, None, "x") == ""
    assert gate(np.arange(3.0), np.zeros(2), 1.0, None, "x") == ""


def test_a_label_is_escaped() -> None:
    assert "<script" not in gate(np.arange(3.0), np.ones(2), 1.0, None, HOSTILE)
    assert "<script" not in histogram({"--chosen": [1.0]}, HOSTILE)
