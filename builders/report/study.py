"""`study.html`: the page of a study, made of the tables that `training.ablation` leaves in a folder.

Beside it are written `study.md`, its tables as Markdown, and `pictures/`, each picture as an SVG of its own.

The tables have the shape of the singing-voice study's (L. Prétet et al., ICASSP 2019, tables 2 and 3, figures 2 and
3): medians by variant, stem and test set, what is significantly better than the baseline in bold, and the matrix of
p-values of paired t-tests. The page is one file without scripts. Names come from a person's YAML: the template
escapes everything, and so do the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from builders.check import read_record
from builders.report import study_charts
from builders.report.evaluation import SCORES
from builders.report.findings import Findings, p_value, read_findings
from builders.report.page import environment
from builders.report.records import part, rows_of
from builders.report.words import number
from manifests.files import replacing

PAGE = "study.html"

_COLOURS = ("--soft", "--one", "--vocals", "--two", "--three", "--four", "--five", "--six", "--bad", "--mixture")
_STYLE = Path(__file__).parent / "templates" / "style.css"


@dataclass(frozen=True)
class Cell:
    """A median; how it stands to the baseline's ('better', 'worse' or ''), and the range of the seeds' own."""

    median: str
    stands: str
    seeds: str


@dataclass(frozen=True)
class ScoreTable:
    """Of a test: the columns' targets and scores, and a row of cells for each variant."""

    test: str
    songs: str
    targets: tuple[tuple[str, int], ...]
    scores: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


@dataclass(frozen=True)
class PairRow:
    """A variant less the baseline, in words."""

    variant: str
    stands: str
    mean: str
    interval: str
    median: str
    cohen_d: str
    share: str
    t_p: str
    t_holm: str
    wilcoxon_holm: str
    seeds_holm: str
    seeds_interval: str
    spread: str


def write_study_page(folder: Path) -> Path:
    """Write `study.html`, `study.md` and `pictures/` into the folder of a study.

    Parameters
    ----------
    folder : Path
        It holds `study.json`.

    Returns
    -------
    Path
        The page. The same study gives the same bytes.

    Raises
    ------
    BuildError
        There is no finished study, or the disk refuses.
    TableError
        A table is damaged.
    """
    record = read_record(folder / "study.json")
    study = part(record, "study")
    runs = [run for run in record.get("runs") or [] if isinstance(run, dict)]
    found = read_findings(folder, record)
    matrices, forests = study_charts.matrices(found), study_charts.forests(found)
    curves, sweeps = study_charts.curves(found), study_charts.sweeps(found)
    missing = [(f"{run['variant']}, seed {run['seed']}", str(run["missing"])) for run in runs if run.get("missing")]
    name = folder.resolve().name
    about = {
        "name": name,
        "about": str(study.get("about") or ""),
        "baseline": found.baseline,
        "alpha": f"{found.alpha:g}",
        "seeds": ", ".join(map(str, study["seeds"])),
        "num_seeds": len(study["seeds"]),
        "num_runs": len(runs),
        "steps": sorted({int(run["steps"]) for run in runs}),
        "missing": missing,
        "tests": [str(test["name"]) for test in study["tests"]],
        "tables": _score_tables(found),
        "pairs": _pairs(found),
        "first_score": found.score,
    }
    text = (
        environment()
        .get_template("study.html.j2")
        .render(
            **about,
            variants=_variants(study),
            reasons=[
                (why, [run for run, other in missing if other == why])
                for why in dict.fromkeys(why for _, why in missing)
            ],
            key=[(found.colour(name), name) for name in found.variants],
            matrices=matrices,
            forests=forests,
            curves=curves,
            sweeps=sweeps,
            base=yaml.safe_dump({"base": study["base"], "set": study["set"]}, sort_keys=False, width=100),
            corpora=sorted(part(study, "corpora").items()),
            versions=sorted((name, found) for name, found in part(record, "versions").items() if found),
        )
    )
    study_charts.write_pictures(
        folder / "pictures",
        {"p-values": matrices, "differences": forests, "curves": curves, "loudness": sweeps},
    )
    with replacing(folder / "study.md") as file:
        file.write(_markdown(about).encode("utf-8", "backslashreplace"))
    path = folder / PAGE
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    return path


def _score_tables(found: Findings) -> list[ScoreTable]:
    summary = found.tables["summary"]
    tables = []
    for test in dict.fromkeys(test for test, _ in found.items()):
        targets = [target for name, target in found.items() if name == test]
        columns = [(target, score) for target in targets for score in found.scores]
        compared = {column: found.compared(test, *column) for column in columns}
        rows = summary[summary["test"] == test]
        cells = {(row["variant"], row["target"], row["score"]): row for row in rows_of(rows)}
        counts = sorted({int(count) for count in rows["songs"]})
        left_out = int(rows["left_out"].max())
        tables.append(
            ScoreTable(
                test,
                _range(counts, "song")
                + (f"; up to {left_out} without a finite score are left out" if left_out else ""),
                tuple((target, len(found.scores)) for target in targets),
                tuple(_short(score) for _ in targets for score in found.scores),
                tuple(
                    (
                        variant,
                        tuple(
                            _cell(cells.get((variant, *column)), found.stands(compared[column].get(variant)))
                            for column in columns
                        ),
                    )
                    for variant in found.variants
                    if any((variant, *column) in cells for column in columns)
                ),
            )
        )
    return tables


def _pairs(found: Findings) -> list[tuple[str, str, str, list[PairRow]]]:
    """By test and target: the number of songs and seeds, and rows."""
    listed = []
    for test, target in found.items():
        compared = found.compared(test, target, found.scores[0])
        rows = [
            _pair_row(compared[name], found.stands(compared[name])) for name in found.variants if name in compared
        ]
        if rows:
            songs = sorted({int(row["songs"]) for row in compared.values()})
            seeds = sorted({int(row["seeds"]) for row in compared.values()})
            listed.append((test, target, f"{_range(songs, 'song')}, {_range(seeds, 'seed')}", rows))
    return listed


def _cell(row: Mapping[str, Any] | None, stands: str) -> Cell:
    if row is None:
        return Cell("–", "", "")
    seeds = f"{number(row['seed_low'], 2)} to {number(row['seed_high'], 2)}" if row["seeds"] > 1 else ""
    return Cell(number(row["median"], 2), stands, seeds)


def _pair_row(row: Mapping[str, Any], stands: str) -> PairRow:
    def between(low: str, high: str) -> str:
        if row.get(low) is None or row.get(high) is None:
            return "–"
        return f"{_signed(row[low])} to {_signed(row[high])}"

    share = row["share_better"]
    spread = [number(row.get(name), 2) for name in ("song_sd", "seed_sd", "rest_sd")]
    return PairRow(
        row["variant"],
        stands,
        _signed(row["mean"]),
        between("mean_low", "mean_high"),
        _signed(row["median"]),
        _signed(row["cohen_d"]),
        "–" if share is None else f"{100 * share:.0f} %",
        p_value(row["t_p"]),
        p_value(row["t_holm"]),
        p_value(row["wilcoxon_holm"]),
        p_value(row.get("seeds_holm")),
        between("seeds_low", "seeds_high"),
        " / ".join(spread),
    )


def _signed(value: object) -> str:
    """With its sign, and three decimals where two would hide it."""
    text = number(value, 3 if isinstance(value, float) and abs(value) < 0.1 else 2)
    return f"+{text}" if isinstance(value, float) and value > 0 and text[0].isdigit() else text


def _range(counts: Sequence[int], what: str) -> str:
    return f"{' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} {what}{'' if counts[-1] == 1 else 's'}"


def _short(score: str) -> str:
    return SCORES.get(score, score).removeprefix("BSSEval ")


def _variants(study: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Names, what they are about, and what they set."""
    found = []
    for variant in study["variants"]:
        fields = {name: variant[name] for name in ("set", "train_on", "sums") if variant.get(name)}
        text = yaml.safe_dump(fields, sort_keys=False, width=90) if fields else ""
        found.append((str(variant["name"]), str(variant.get("about") or ""), text))
    return found


def _markdown(about: Mapping[str, Any]) -> str:
    of_seeds = f"of the mean of seeds {about['seeds']}" if about["num_seeds"] > 1 else f"seed {about['seeds']}"
    lines = [
        f"Medians over songs, dB, {of_seeds}. **Bold**: better than "
        f"{about['baseline']}, *italics*: worse, with p < {about['alpha']} (paired t-tests over "
        "songs, Holm's correction).",
        "",
    ]
    for table in about["tables"]:
        targets = [target for target, count in table.targets for _ in range(count)]
        header = [f"{table.test} ({table.songs})", *map(" ".join, zip(targets, table.scores, strict=True))]
        lines += _rows(header, [[name, *map(_marked, cells)] for name, cells in table.rows])
    for test, target, counts, rows in about["pairs"]:
        lines += [f"{test}, {target}: {about['first_score']} less {about['baseline']}'s, dB ({counts}).", ""]
        header = ["", "mean", "95 %, songs", "median", "d", "better", "t", "t, Holm", "Wilcoxon, Holm"]
        header += ["95 %, songs and seeds", "p, Holm", "sd of songs / seeds / rest"]
        lines += _rows(
            header,
            [
                [
                    *(row.variant, row.mean, row.interval, row.median, row.cohen_d, row.share),
                    *(row.t_p, row.t_holm, row.wilcoxon_holm, row.seeds_interval, row.seeds_holm, row.spread),
                ]
                for row in rows
            ],
        )
    for name, why in about["missing"]:
        lines.append(f"Missing: {name}: {why}")
    return "\n".join(lines).rstrip() + "\n"


def _marked(cell: Cell) -> str:
    mark = {"better": "**", "worse": "*", "": ""}[cell.stands]
    return f"{mark}{cell.median}{mark}"


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table, and an empty one."""
    listed = (header, ["---"] * len(header), *rows)
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in listed] + [""]
