"""What a page about a set of mixtures shows besides: what came out beside what the recipe says, and the recipe.

Everything is from `run.json`. A field that is not what it should be is taken as missing, as in `sections`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from augment.recipe import MixRecipe
from builders.report import charts
from builders.report.records import finite, part
from builders.report.sections import Chart
from builders.report.words import number, setting

BUILDERS = ("cinematic", "universal")
"""Builders that mix."""


@dataclass(frozen=True)
class SourceRow:
    """A source of the recipe: its mean count and its loudness, nominal and as they came out, and its length."""

    name: str
    nominal_count: float | None
    count: float | None
    nominal_loudness: str
    loudness: str
    median_length_s: float | None


@dataclass(frozen=True)
class ShareRow:
    """A target, or what sounds at once, and its share of the time."""

    name: str
    share: float


def is_mixed(run: Mapping[str, Any]) -> bool:
    """Whether a build is a set of mixtures."""
    return run.get("builder") in BUILDERS


def sources(run: Mapping[str, Any]) -> list[SourceRow]:
    """Sources in the recipe's order."""
    rows = []
    for name, source in _sources(run).items():
        count, level = part(source, "count"), part(source, "loudness_lufs")
        rows.append(
            SourceRow(
                name,
                finite(count.get("nominal_mean")),
                finite(count.get("mean")),
                _spread(level, "nominal_"),
                _spread(level, ""),
                finite(source.get("median_length_s")),
            )
        )
    return rows


def counts(run: Mapping[str, Any]) -> list[Chart]:
    """How many of each source the mixtures have."""
    drawn = []
    for name, source in _sources(run).items():
        bars = {int(key): finite(value) for key, value in part(source, "histogram").items() if str(key).isdecimal()}
        heights = {value: height for value, height in bars.items() if height is not None and height >= 0}
        if not heights:
            drawn.append(Chart(name, "", "", "no values"))
            continue
        count = part(source, "count")
        nominal, mean = (number(finite(count.get(key)), 2) for key in ("nominal_mean", "mean"))
        svg = charts.wholes(heights, f"Histogram: {name} in a mixture")
        drawn.append(Chart(name, "in a mixture", svg, f"mean {mean}, nominal {nominal}"))
    return drawn


def shares(run: Mapping[str, Any]) -> list[ShareRow]:
    """Targets, and then what sounds at once."""
    realised = part(run, "realised")
    found = {**part(realised, "targets"), **part(realised, "overlaps")}
    values = {str(name): finite(share) for name, share in found.items()}
    return [ShareRow(name, share) for name, share in values.items() if share is not None]


def left_out(run: Mapping[str, Any]) -> list[tuple[str, str, str, int]]:
    """Split, source, reason and number of what could not be drawn from."""
    rows = []
    for split, by_source in part(run, "left_out").items():
        for source, reasons in by_source.items() if isinstance(by_source, dict) else ():
            for reason, count in reasons.items() if isinstance(reasons, dict) else ():
                if isinstance(count, int):
                    rows.append((str(split), str(source), str(reason), count))
    return rows


def recipe_text(run: Mapping[str, Any]) -> str:
    """The mixing recipe as a person would write it; empty when there is none."""
    mix = part(run, "recipe").get("mix")
    if not isinstance(mix, dict):
        return ""
    with contextlib.suppress(ValidationError):  # without what is as it is by default
        mix = MixRecipe.model_validate(mix).model_dump(mode="json", exclude_defaults=True)
    return str(yaml.dump(mix, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=88))


def recipe_rows(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The other fields of the recipe, in words."""
    mixed = is_mixed(run)
    return [
        (name, setting(value))
        for name, value in sorted(part(run, "recipe").items())
        if not (mixed and name in ("mix", "corpora"))
    ]


def _sources(run: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = part(part(run, "realised"), "sources")
    return {str(name): source for name, source in found.items() if isinstance(source, dict)}


def _spread(level: Mapping[str, Any], prefix: str) -> str:
    mean, std = (finite(level.get(f"{prefix}{key}")) for key in ("mean", "std"))
    if mean is None:
        return "–"
    return f"{number(mean)} ± {number(std)}"


class _Dumper(yaml.SafeDumper):
    """YAML in which lists and mappings of plain values stand on one line."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        node = super().represent_sequence(tag, sequence, flow_style)
        node.flow_style = all(isinstance(item, yaml.ScalarNode) for item in node.value)
        return node

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style)
        nodes = [value for _, value in node.value]
        node.flow_style = len(nodes) <= 2 and all(_is_short(value) for value in nodes)
        return node

    def ignore_aliases(self, data: Any) -> bool:
        """Equal values are written twice."""
        return True


def _is_short(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) or (isinstance(node, yaml.SequenceNode) and bool(node.flow_style))
