"""`report.html`: the page of a build, made of its tables, its `run.json`, and the audio of the songs it pictures.

The page is one file without scripts, beside the tables; it refers to whole stems by relative paths and holds the
excerpts that it plays. Titles and tags come from strangers' files: the templates escape everything, and what is
drawn is made of numbers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2

from builders.check import read_record, require_finished
from builders.report import anchors, cleanings, mixtures, sections, songs, words
from builders.report.gallery import portraits
from builders.report.players import bit_rate
from builders.report.records import finite, part, source_folder
from curation.licenses import license_table, unlicensed_songs
from manifests.corpus import Corpus
from manifests.files import replacing
from manifests.tables import empty_table, find_table, read_table


def write_report(build: Path) -> Path:
    """Write `report.html` into a finished build.

    Parameters
    ----------
    build : Path
        A build folder: a catalogue build, a curated corpus, an imported or cleaned one, one of anchors, a set of
        mixtures.

    Returns
    -------
    Path
        The page. The same build gives the same bytes.

    Raises
    ------
    BuildError
        When there is no such folder, its build has not finished, or its `run.json` cannot be read.
    TableError
        When a table is damaged.
    """
    require_finished(build)
    run = read_record(build / "run.json")
    corpus = Corpus.open(build)
    tracks = empty_table("tracks") if corpus.tracks is None else corpus.tracks
    pairs = empty_table("pairs") if corpus.pairs is None else corpus.pairs
    rejected = empty_table("rejected") if corpus.rejected is None else corpus.rejected
    clips = empty_table("clips") if find_table(build, "clips") is None else read_table(build, "clips")
    listed = songs.list_songs(corpus, tracks, pairs)
    shown = sections.SHOWN_ROWS
    mixed = mixtures.is_mixed(run)
    noun = "mixtures" if mixed else "songs"
    chosen = cleanings.choices(corpus) if cleanings.is_cleaned(run, corpus) else []
    num_others = sum(choice.num_pictures for _, _, found in chosen for choice in found)
    headings, ends = _pictured(listed, num_others, mixed)
    kbps = bit_rate(num_others + sum(len(song.stems) for side in ends for song in side))
    pictured = portraits(corpus, *ends, kbps)
    anchored, more_labels = anchors.labels(corpus, clips, kbps) if anchors.is_anchored(run) else ([], 0)
    licenses = license_table(corpus.stems, tracks)
    genres, more_genres = sections.genres(run)
    text = (
        environment()
        .get_template("page.html.j2")
        .render(
            name=build.resolve().name,
            builder=str(run.get("builder", "")),
            source=", ".join(_sources(build, run)),
            noun=noun,
            is_mixed=mixed,
            hours={
                "in": finite(part(run, "hours").get("in")),
                "kept": sum(song.duration_s for song in listed) / 3600,
            },
            songs_in=_songs_in(run),
            num_tracks=len(tracks) if len(pairs) else None,
            num_clips=len(clips),
            status={status: int((pairs["status"] == status).sum()) for status in sections.STATUSES},
            stages=sections.stages(run),
            grades=sections.grades(run, listed),
            gates=sections.gates(run),
            genres=genres,
            more_genres=more_genres,
            splits=sections.splits(run, listed),
            leaks=sections.leaks(run),
            licenses=licenses,
            unlicensed=unlicensed_songs(licenses),
            stem_key=sections.stem_key(corpus.stems),
            charts=sections.distributions(corpus, tracks, pairs, clips, listed, noun),
            mixing=mixtures.sources(run),
            counts=mixtures.counts(run),
            shares=mixtures.shares(run),
            undrawn=mixtures.left_out(run),
            cleaning=cleanings.section(corpus, run, chosen, kbps),
            anchored=anchored,
            more_labels=more_labels,
            probabilities=anchors.probabilities(clips),
            replaced=finite(run.get("replaced")),
            songs=listed,
            first_songs=listed if len(listed) <= shown else listed[: shown // 2],
            last_songs=[] if len(listed) <= shown else listed[-(shown // 2) :],
            pictured=[(heading, found) for heading, found in zip(headings, pictured, strict=True) if found],
            has_residuals=any(song.residual_db is not None for song in listed),
            has_pairs=len(pairs) > 0,
            refused=sections.refused(pairs),
            rejected=sections.rejected(rejected, tracks, run),
            recipe=mixtures.recipe_rows(run),
            recipe_text=mixtures.recipe_text(run) if mixed else "",
            versions=sorted(part(run, "versions").items()),
        )
    )
    path = build / "report.html"
    with replacing(path) as file:
        # file names that are not UTF-8 reach us as lone surrogates
        file.write(text.encode("utf-8", "backslashreplace"))
    return path


def _pictured(
    listed: Sequence[songs.Song], num_others: int, mixed: bool
) -> tuple[tuple[str, str], tuple[list[songs.Song], list[songs.Song]]]:
    """Headings, and the songs that are pictured below each."""
    best, worst = songs.ends(listed, num_others)
    if mixed:
        return ("Examples", ""), ([*best, *worst[::-1]], [])
    if not songs.is_ranked(listed):
        return ("Songs", ""), (songs.some(listed, num_others), [])
    return ("Best", "Worst"), (best, worst)


def environment() -> jinja2.Environment:
    """The templates of our pages, which escape everything."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("builders.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["number"] = words.number
    made.filters["time"] = words.time
    made.filters["clock"] = words.clock
    return made


def _sources(build: Path, run: dict[str, object]) -> list[str]:
    """Where what went in is, or was."""
    corpora = part(run, "corpora")
    single = run.get("corpus") or run.get("catalog") or source_folder(build) or ""
    return [str(found) for found in corpora.values()] or [str(single)]


def _songs_in(run: dict[str, object]) -> int | None:
    """Songs that a curation or an import began with: what came into its first stage."""
    if run.get("builder") == "catalog":
        return None
    counted = part(run, "counts")
    first = part(counted, next(iter(counted), ""))
    return first["in"] if isinstance(first.get("in"), int) else None
