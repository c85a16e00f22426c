"""What goes beside a corpus that is published: `README.md`, the dataset card, and `croissant.json`.

The card is Markdown for people with a YAML header for the Hugging Face Hub; `datasets` finds the tables by it. Both
files are made of the tables and of `run.json`: the same build gives the same bytes. Songs without a licence are
counted at the top of the card. A file that a person changed, or that is not ours, is not overwritten: each file
says in its last line, or its last field, what it was when it was written.

References
----------
Hugging Face Hub, dataset card metadata, https://github.com/huggingface/hub-docs/blob/main/datasetcard.md
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import yaml

from builders.check import read_record, require_finished
from builders.citations import citations
from builders.croissant import croissant
from builders.recipe import SINGLE_SOUNDS, CardRecipe
from builders.report import sections, songs
from builders.report.records import part
from builders.report.words import number, setting
from curation.licenses import LicenseRow, license_table, unlicensed_songs
from manifests.corpus import CORPUS_ROOT, Corpus
from manifests.errors import BuildError
from manifests.files import replacing
from manifests.installed import installed_version
from manifests.tables import empty_table, find_table, read_table

CARD, CROISSANT = "README.md", "croissant.json"

_TABLES = ("stems", "clips", "mixtures", "tracks", "pairs", "rejected")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_MARK = "<!-- stemloom card {} -->\n"
_MARKED = re.compile(r"<!-- stemloom card ([0-9a-f]{32}) -->\n\Z")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$!&])")
_MADE = {
    "catalog": "which found songs that were released with and without vocals in a music catalogue, aligned both, "
    "and took the vocals out.",
    "curate": "which graded the songs of a corpus, left out defective and repeated ones, split them by artist, and "
    "cut them into clips.",
    "import": "which took recorded stems, and checked that each mixture is the sum of its stems.",
    "loose": "which took single sounds as they are.",
    "cinematic": "which drew speech, music and effects from corpora of them, and mixed them.",
    "universal": "which drew sounds from corpora of them, and mixed them.",
    "clean": "which took voices out of the stems {stems} of a corpus, as the separator {model} heard them.",
    "anchor": "which found where in the sounds of a corpus their labels are heard, by the tagger {model}: "
    "each clip is such a place, an anchor.",
}
_SUMMARIES = {
    "catalog": "Mixtures, instrumentals and vocals for training audio source separation, derived from releases.",
    "curate": "Stems for training audio source separation, graded, split by artist, and cut into clips.",
    "import": "Recorded stems for training audio source separation.",
    "cinematic": "Mixtures of speech, music and effects, with their stems, for cinematic audio source separation.",
    "universal": "Mixtures of sounds, with their stems, for audio source separation.",
    "clean": "Stems for training audio source separation, with voices taken out of those that should have none.",
    "anchor": "Sounds for training audio source separation, and where in each its label is heard.",
}


@dataclass(frozen=True)
class Card:
    """What `write_card` wrote, and what whoever publishes the corpus has to know.

    Attributes
    ----------
    readme, croissant : Path
        The files.
    songs : int
    unlicensed : int
        Songs of which no licence is known.
    licenses : tuple of LicenseRow
    missing : tuple of str
        Settings of `CardRecipe` that Croissant asks for and nobody gave.
    """

    readme: Path
    croissant: Path
    songs: int
    unlicensed: int
    licenses: tuple[LicenseRow, ...]
    missing: tuple[str, ...]


def write_card(build: Path, recipe: CardRecipe | None = None) -> Card:
    """Write `README.md` and `croissant.json` into a finished build.

    Parameters
    ----------
    build : Path
        A build folder: a catalogue build, a curated corpus, an imported one, a set of mixtures.
    recipe : CardRecipe, optional

    Returns
    -------
    Card

    Raises
    ------
    BuildError
        When there is no such folder, its build has not finished, its `run.json` cannot be read, or one of the files
        is there and was changed since it was written, or is not ours. Nothing is written then.
    TableError
        When a table is damaged.
    """
    recipe = recipe or CardRecipe()
    require_finished(build)
    run = read_record(build / "run.json")
    _refuse_changed(build / CARD, _is_our_card)
    _refuse_changed(build / CROISSANT, _is_our_croissant)
    corpus = Corpus.open(build)
    tables = {name: read_table(build, name) for name in _TABLES if find_table(build, name) is not None}
    tracks = tables.get("tracks", empty_table("tracks"))
    licenses = license_table(corpus.stems, tracks)
    title = recipe.title or build.resolve().name
    cites = citations(run)
    summary = _SUMMARIES.get(str(run.get("builder")), "Stems for training audio source separation.")
    facts = {
        "name": title,
        "description": summary,
        "license": _license_names(licenses),
        "citeAs": "\n\n".join(cites) or None,
        "keywords": ["audio", "music", "source separation", "stems"],
        "url": recipe.url,
        "creator": None if recipe.creator is None else {"@type": "sc:Organization", "name": recipe.creator},
        "datePublished": None if recipe.date is None else recipe.date.isoformat(),
        "version": recipe.version,
    }
    header = yaml.safe_dump(_header(title, corpus, tables, licenses), sort_keys=False, allow_unicode=True)
    body = _body(build, run, corpus, tables, licenses, title, summary, cites)
    text = f"---\n{header}---\n\n{body}\n"
    _write(build / CARD, text + _MARK.format(_digest(text)))
    document = croissant(build, tables, facts)
    document["identifier"] = _identifier(document)
    _write(build / CROISSANT, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    wanted = {"url": recipe.url, "creator": recipe.creator, "version": recipe.version, "date": recipe.date}
    return Card(
        build / CARD,
        build / CROISSANT,
        len(corpus.songs()),
        unlicensed_songs(licenses),
        tuple(licenses),
        tuple(name for name, value in wanted.items() if value is None),
    )


def _header(
    title: str, corpus: Corpus, tables: Mapping[str, pd.DataFrame], licenses: Sequence[LicenseRow]
) -> dict[str, Any]:
    """What the Hub wants to know: https://huggingface.co/docs/hub/datasets-cards."""
    rows = len(corpus.stems)
    names = [name for name in _TABLES if name != "rejected" and name in tables and len(tables[name])]
    return {
        "pretty_name": title,
        **_hub_license(licenses),
        "task_categories": ["audio-to-audio"],
        "size_categories": [next((name for limit, name in _SIZES if rows < limit), "n>1M")],
        "tags": ["audio", "music", "source-separation", "stems", "stemloom"],
        "configs": [
            {
                "config_name": name,
                **({"default": True} if name == "stems" else {}),
                "data_files": [{"split": "train", "path": _file_of(corpus.folder, name)}],
            }
            for name in names
        ],
    }


def _hub_license(licenses: Sequence[LicenseRow]) -> dict[str, Any]:
    """One of the Hub's identifiers, or several; 'other' for what it has no name for, 'unknown' for none at all."""
    if not licenses or any(row.license is None for row in licenses):
        return {"license": "unknown"}
    found = sorted({row.license.hub for row in licenses if row.license is not None})
    if "other" in found:
        return {"license": "other", "license_name": "see-licences-below"}
    return {"license": found[0] if len(found) == 1 else found}


def _license_names(licenses: Sequence[LicenseRow]) -> list[str] | None:
    """Addresses of the licences, or their names; None when there is a song without one."""
    if not licenses or any(row.license is None for row in licenses):
        return None
    return sorted({row.license.url or row.license.name for row in licenses if row.license is not None})


def _body(
    build: Path,
    run: Mapping[str, Any],
    corpus: Corpus,
    tables: Mapping[str, pd.DataFrame],
    licenses: Sequence[LicenseRow],
    title: str,
    summary: str,
    cites: Sequence[str],
) -> str:
    empty = {name: empty_table(name) for name in ("tracks", "pairs", "clips", "rejected")}
    known = {**empty, **tables}
    listed = songs.list_songs(corpus, known["tracks"], known["pairs"])
    residuals = [song.residual_db for song in listed if song.residual_db is not None]
    genres, _ = sections.genres(run)
    files = [(path.name, holds) for name, holds in _HOLDS.items() if (path := find_table(build, name)) is not None]
    files += [
        (name, holds)
        for name, holds in _OTHER_FILES.items()
        if name == CROISSANT or (build / name.rstrip("/*")).exists()
    ]
    return (
        _environment()
        .from_string(importlib.resources.files("builders").joinpath("card.md.j2").read_text(encoding="utf-8"))
        .render(
            title=title,
            summary=summary,
            unlicensed=unlicensed_songs(licenses),
            warnings=_warnings(corpus, licenses),
            num_songs=len(listed),
            hours=sum(song.duration_s for song in listed) / 3600,
            stems=[name for _, name in sections.stem_key(corpus.stems)],
            rates=sorted(set(corpus.stems["sample_rate"])),
            channels=sorted(set(corpus.stems["channels"])),
            num_clips=len(known["clips"]),
            splits=sections.splits(run, listed),
            licenses=licenses,
            files=files,
            version=_version(run),
            made=_made(run),
            stages=[row for row in sections.stages(run) if dict(row.counts).keys() & {"in", "kept", "chosen"}],
            grades=sections.grades(run, listed),
            residual=[float(value) for value in np.percentile(residuals, [5, 50, 95])] if residuals else None,
            genres=[row for row in genres if row.after > 0],
            has_reference=bool(genres) and genres[0].reference is not None,
            rejected=_left_out(known["rejected"]),
            citations=cites,
        )
        .strip()
        + "\n"
    )


_HOLDS = {
    "stems": "a row for each audio file: song, stem, path, length, levels, quality, origin, licence",
    "clips": "a row for each excerpt to train or test with",
    "mixtures": "a row for each source of each mixture: what it is, where, how loud, what happened to it",
    "tracks": "a row for each recording that the songs were made of: tags, version, loudness",
    "pairs": "how the recordings of each pair align",
    "cleaned": "a row for each stem that was searched for voices: verdict, what was found, where it was cleaned",
    "rejected": "what was left out, with the reason",
}
_OTHER_FILES = {
    "audio/*": "the stems",
    "removed/*": "what was taken out of each stem that was cleaned",
    "annotations/*": "the sources of each mixture as JAMS, in the layout of scaper",
    "curves/*": "levels, voice and residue of each song, second by second (numpy)",
    "run.json": "the recipe, versions, counts",
    "report.html": "the corpus in pictures and sounds",
    "croissant.json": "this dataset as Croissant metadata",
}


def _made(run: Mapping[str, Any]) -> str:
    """What the builder did, to end a sentence with."""
    is_loose = run.get("builder") == "import" and part(run, "recipe").get("layout") in SINGLE_SOUNDS
    made = _MADE.get("loose" if is_loose else str(run.get("builder")), "from other corpora.")
    model = run.get("separator") or run.get("tagger") or "of its recipe"
    return made.format(stems=setting(part(run, "recipe").get("stems")), model=model)


def _warnings(corpus: Corpus, licenses: Sequence[LicenseRow]) -> list[str]:
    """What else whoever publishes the corpus has to know."""
    found = []
    for is_so, text in (
        ("is_reserved", "songs are marked 'all rights reserved': they may not be redistributed."),
        ("forbids_change", "songs are under a NoDerivatives licence: stems made of them may not be redistributed."),
        ("forbids_sale", "songs are under a NonCommercial licence: the dataset as a whole is for such uses only."),
    ):
        count = sum(row.songs for row in licenses if row.license is not None and getattr(row.license, is_so))
        if count:
            found.append(f"{count} {text}")
    outside = int((corpus.stems["root"] != CORPUS_ROOT).sum())
    if outside:
        found.append(f"{outside} audio files lie outside of this folder, and are not part of what is published.")
    return found


def _left_out(rejected: pd.DataFrame) -> list[tuple[str, str, int]]:
    counted = Counter(zip(rejected["stage"], rejected["reason"], strict=True))
    return [(stage, reason, count) for (stage, reason), count in sorted(counted.items())]


def _environment() -> jinja2.Environment:
    # no escaping of HTML, this is Markdown: texts from tags go through `cell`
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["number"] = number
    environment.filters["cell"] = cell
    return environment


def cell(text: object) -> str:
    """A text as it may stand in a Markdown table: on one line, with nothing that Markdown or HTML would read."""
    line = " ".join(str(text).encode("utf-8", "backslashreplace").decode().split())
    escaped = _MARKDOWN.sub(r"\\\1", line)
    # the Hub makes links of bare addresses
    return re.sub(r"(?i)\b(https?|www)([:.])", r"\1\\\2", escaped)


def _file_of(folder: Path, name: str) -> str:
    path = find_table(folder, name)
    assert path is not None
    return path.name


def _version(run: Mapping[str, Any]) -> str:
    found = str(part(run, "versions").get("stemloom", ""))
    if found and found != "not installed":
        return found
    return installed_version("stemloom") or ""


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


def _identifier(document: Mapping[str, Any]) -> str:
    """Of a Croissant document without its identifier."""
    rest = {key: value for key, value in document.items() if key != "identifier"}
    return f"stemloom:{_digest(json.dumps(rest, sort_keys=True))}"


def _is_our_card(text: str) -> bool:
    marked = _MARKED.search(text)
    return marked is not None and marked[1] == _digest(text[: marked.start()])


def _is_our_croissant(text: str) -> bool:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("identifier") == _identifier(document)


def _refuse_changed(path: Path, is_ours: Callable[[str], bool]) -> None:
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError):
        text = ""
    if not is_ours(text):
        raise BuildError(
            f"{path}: was changed by hand, or is not of 'stemloom card', and is not overwritten; "
            "move it away and run the same command again"
        )


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        # file names that are not UTF-8 reach us as lone surrogates
        file.write(text.encode("utf-8", "backslashreplace"))
