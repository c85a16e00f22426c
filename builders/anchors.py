"""Anchors: of sounds that are labelled as a whole, where each label is heard, as a corpus beside the old one.

The path, top to bottom in `AnchorBuilder.build`: hear (every sound through a tagger, its anchors found by
`curation.anchors`), link the audio, write the tables. Labels are what the `tags` of the stems table say. A sound
without an anchor leaves, with a row in the rejected table.

    out/audio/...          the sounds, linked
    out/clips.parquet      the anchors, with `label` and `label_probability`

Where the source has a clips table, an anchor lies in its clips, those that touch taken as one: what a cleaning
found damaged stays out.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from builders.engine import LocalEngine
from builders.recipe import AnchorRecipe
from builders.run import (
    Run,
    files_below,
    other_tables,
    own_path,
    refuse_foreign,
    refuse_limit,
    refuse_nested,
    remove_stale,
    take_stem,
)
from builders.scan import HASH, FoundFile, Reject
from builders.stage import Engine, Product, Progress, Stage, Work, model_needs, silent
from curation.anchors import AnchorLimits, find_anchors
from curation.labels import LabelSet, label_set
from manifests.audio import AUDIO_SUFFIXES, blocks, probe
from manifests.corpus import CORPUS_ROOT, MIXTURE, Corpus
from manifests.errors import AudioError, BuildError, RecipeError, did_you_mean
from manifests.lock import BuildLock
from manifests.recipes import read_mapping, read_rows
from manifests.staging import address
from manifests.tables import TableFormat, frame_of
from separators.tagging import COLUMN_S, Floats, Tagger, tag

__all__ = ["AnchorBuilder", "read_class_mapping"]

log = logging.getLogger(__name__)

ANCHOR_VERSION = 2


@dataclass(frozen=True)
class AnchorBuilder:
    """Makes a corpus whose clips are the places where a label is heard. The source is left as it is.

    Parameters
    ----------
    out : Path
        The new corpus' folder. A run that was stopped is resumed there; a folder with another tagger's work, of
        another corpus or with other settings is refused.
    tagger : Tagger
    recipe : AnchorRecipe
    table_format : {'parquet', 'jsonl'}
    limit : int >= 1, optional
        Only the first songs, sorted by id.
    progress : callable, optional
    engine : Engine, optional
        `LocalEngine(0)` by default: one sound after another in this process, since a tagger may need all of the
        machine. Workers of another engine have a tagger each, which must pickle.

    Examples
    --------
    >>> tagger = load_tagger("onnx:yamnet.onnx", Path("yamnet_class_map.csv"))  # doctest: +SKIP
    >>> AnchorBuilder(Path("anchors"), tagger, AnchorRecipe()).build(Path("corpus"))  # doctest: +SKIP
    """

    out: Path
    tagger: Tagger
    recipe: AnchorRecipe
    table_format: TableFormat = "parquet"
    limit: int | None = None
    progress: Progress = field(default=silent)
    engine: Engine | None = None

    def build(self, folder: Path) -> Corpus:
        """Run the whole path.

        Parameters
        ----------
        folder : Path
            A finished corpus.

        Returns
        -------
        Corpus
            Of the songs that have an anchor.

        Raises
        ------
        TableError
            The source is no corpus, or its tables are damaged.
        RecipeError
            The corpus has no such stem, a song has several, the mapping is wrong, or no tag is a class.
        BuildError
            The folder holds anything else or a running build, no song is left, or the disk refuses.
        """
        run = _Run(self, folder)
        refuse_nested(self.out, folder)
        refuse_foreign(self.out, "anchor mining")
        with BuildLock(self.out):
            run.claim_folder()
            run.remove_temporary_files()
            run.forget_result()
            run.hear()
            run.link()
            run.write()
        return Corpus.open(self.out)

    def plan(self, folder: Path) -> tuple[int, Counter[str]]:
        """Find what `build` would do, and write nothing.

        Parameters
        ----------
        folder : Path

        Returns
        -------
        num_sounds : int
            That would be heard.
        labels : Counter
            How many of them have each label; no sound without tags is among them.

        Raises
        ------
        TableError, RecipeError
            As for `build`.
        """
        run = _Run(self, folder)
        heard = [labels for labels in run.labels.values() if labels is not None]
        return len(heard), Counter(run.known.labels[number] for labels in heard for number in labels)


@dataclass(frozen=True)
class _Sound:
    """A sound to be heard: what its row says, its labels, and where anchors may lie (None: anywhere)."""

    file: FoundFile
    sample_rate: int
    num_frames: int
    labels: tuple[int, ...]
    spans: tuple[tuple[int, int], ...] | None

    @property
    def facts(self) -> tuple[Any, ...]:
        """What its anchors depend on besides its content."""
        return self.num_frames, self.labels, self.spans


@dataclass(frozen=True)
class _Miner:
    """Finds the anchors of sounds. A stage."""

    tagger: Tagger
    known: LabelSet
    recipe: AnchorRecipe

    def __post_init__(self) -> None:
        self._limits()

    def _limits(self) -> AnchorLimits:
        return AnchorLimits(
            **{item.name: getattr(self.recipe, item.name) for item in dataclasses.fields(AnchorLimits)}
        )

    def __call__(self, sound: _Sound) -> Product:
        """The anchors of a sound, and if there are none, why."""
        path = sound.file.location
        info = probe(path)
        if info.sample_rate != sound.sample_rate or info.num_frames < sound.num_frames:
            raise AudioError(
                f"{path}: has {info.num_frames} frames at {info.sample_rate} Hz, and its row of the stems table "
                f"{sound.num_frames} at {sound.sample_rate} Hz; run 'stemloom check', then build it again"
            )
        column_frames = max(1, round(COLUMN_S * info.sample_rate))
        heard = tag(self.tagger, blocks(path), info.sample_rate, column_frames)
        probabilities = self.known.grouped(heard)[:, : -(-sound.num_frames // column_frames)]
        anchors = find_anchors(
            probabilities,
            column_frames=column_frames,
            num_frames=sound.num_frames,
            length_frames=max(1, round(self.recipe.length_s * info.sample_rate)),
            labels=sound.labels,
            spans=sound.spans,
            limits=self._limits(),
        )
        return Product(
            {
                "anchors": [
                    {**dataclasses.asdict(found), "label": self.known.labels[found.label]} for found in anchors
                ],
                "why": self._why_none(probabilities, sound),
            }
        )

    def _why_none(self, probabilities: Floats, sound: _Sound) -> str:
        if sound.spans == ():
            return "has no clip in the clips table"
        highest = probabilities.max(axis=1)
        label = max(sound.labels or range(len(highest)), key=lambda label: float(highest[label]))
        said = f"'{self.known.labels[label]}' is at most {highest[label]:.3f} over {COLUMN_S:g} s"
        if highest[label] < self.recipe.min_probability:
            return said
        return f"{said}, and no anchor is likely enough and without others"


class _Run(Run):
    def __init__(self, builder: AnchorBuilder, folder: Path) -> None:
        corpus = Corpus.open(folder)
        recipe, tagger = builder.recipe, builder.tagger
        refuse_limit(builder.limit)
        mapping = None if recipe.mapping is None else read_class_mapping(Path(recipe.mapping))
        claim = {"source": address(folder), "tagger": tagger.identity, "classes": json.dumps(mapping)}
        engine = builder.engine or LocalEngine(0)
        reads = (folder, *corpus.roots.values())
        super().__init__(
            builder.out, "anchor", recipe, engine, builder.table_format, builder.progress, claim, reads=reads
        )
        self.corpus, self.recipe, self.tagger = corpus, recipe, tagger
        self.known = label_set(tagger.classes.names, ids=tagger.classes.ids, mapping=mapping)
        self.miner = _Miner(tagger, self.known, recipe)
        self.rows = self._heard_rows(corpus.songs()[: builder.limit])
        self.spans = self._spans()
        self.labels, self.unknown = self._read_labels()
        self.found: dict[str, list[dict[str, Any]]] = {}
        self.inputs: list[str] = []
        self.hours["in"] = self._hours()

    def _hours(self) -> float:
        return math.fsum(row["num_frames"] / row["sample_rate"] / 3600 for row in self.rows.values())

    def _heard_rows(self, songs: list[str]) -> dict[str, Mapping[str, Any]]:
        """The stem of each song that is heard; songs without one leave."""
        known = sorted(set(self.corpus.stems["stem"]))
        for stem in self.recipe.stems or ():
            if stem not in known:
                raise RecipeError(
                    f"field 'stems' names '{stem}'{did_you_mean(stem, known)}: the corpus has {', '.join(known)}"
                )
        rows = {}
        for song_id in songs:
            stems = self.corpus.song(song_id)
            named = [stem for stem in stems if stem in (self.recipe.stems or {*stems} - {MIXTURE} or stems)]
            if len(named) > 1:
                raise RecipeError(
                    f"song '{song_id}' has the stems {', '.join(named)}, and one is heard: name it in 'stems'"
                )
            if named:
                rows[song_id] = stems[named[0]]
            else:
                detail = f"has {', '.join(stems)}, and not {' or '.join(self.recipe.stems or ())}"
                self.rejects.append(Reject(song_id, song_id, "anchor", "no such stem", detail))
        return rows

    def _spans(self) -> dict[str, list[tuple[int, int]]] | None:
        """Where anchors may lie, by song; None: anywhere."""
        clips = self.corpus.clips
        if clips is None:
            return None
        spans: dict[str, list[tuple[int, int]]] = {}
        for song_id, start, length in zip(clips["song_id"], clips["start_frame"], clips["num_frames"], strict=True):
            spans.setdefault(song_id, []).append((int(start), int(start + length)))
        return spans

    def _read_labels(self) -> tuple[dict[str, tuple[int, ...] | None], Counter[str]]:
        """The labels of each song: none stand for any, and None for a song that is not heard."""
        labels: dict[str, tuple[int, ...] | None] = {}
        unknown: Counter[str] = Counter()
        is_tagged = False
        for song_id, row in self.rows.items():
            numbers, others = self.known.read(row["tags"])
            unknown.update(others)
            has_tags = bool((row["tags"] or "").strip())
            is_tagged |= has_tags
            labels[song_id] = numbers if numbers or (not has_tags and self.recipe.unlabelled == "any") else None
        if not any(found is not None for found in labels.values()):
            listed = ", ".join(f"'{name}'{self.known.nearest(name)}" for name, _ in unknown.most_common(3))
            why = (
                f"no tag is a class of {self.tagger.name}: {listed}" if unknown else "no sound has tags that count"
            )
            fix = "name classes in 'mapping'" if is_tagged else "write 'unlabelled: any', or import it with tags"
            raise RecipeError(f"{self.corpus.folder}: {why}; {fix}")
        for name, count in unknown.most_common():
            log.warning("tag '%s' of %d sounds is no class of %s", name, count, self.tagger.name)
        return labels, unknown

    def hear(self) -> None:
        """Every sound that has labels."""
        before = len(self.rejects)
        for song_id, labels in self.labels.items():
            if labels is None:
                tags = self.rows[song_id]["tags"]
                reason = "no known label" if (tags or "").strip() else "no label"
                self._leave(song_id, reason, f"its tags are {tags!r}")
        settings = {**self.settings, **{name: self.claim[name] for name in ("tagger", "classes")}}
        stage: Stage[_Sound] = Stage("anchor", ANCHOR_VERSION, self.miner, settings, model_needs(self.tagger))
        for done in self.stage(stage, self._works(), reject_stage=None):
            if done.failure is not None:
                log.warning("%s: has no anchors: %s", done.name, done.failure.detail)
                self._leave(done.name, "not heard", done.failure.detail)
            elif done.product is not None and done.product.value["anchors"]:
                self.found[done.name] = done.product.value["anchors"]
            elif done.product is not None:
                self._leave(done.name, "no anchor", done.product.value["why"])
        self.counts["anchor"] = {
            "in": len(self.rows),
            "kept": len(self.found),
            "rejected": len(self.rejects) - before,
        }
        if not self.found:
            reasons = Counter(reject.reason for reject in self.rejects).most_common(5)
            listed = "; ".join(f"{count} {reason}" for reason, count in reasons)
            first = next((reject.detail for reject in self.rejects if reject.reason == "not heard"), None)
            fix = "loosen the limits" if first is None else f"the first that failed: {first}"
            raise BuildError(f"{self.corpus.folder}: no song is left ({listed}); {fix}")
        self.rows = {song_id: row for song_id, row in self.rows.items() if song_id in self.found}

    def _works(self) -> list[Work[_Sound]]:
        """Sounds with the content ids of their files."""
        files = {
            song_id: FoundFile(str(self.corpus.folder_of(row)), row["path"])
            for song_id, row in self.rows.items()
            if self.labels[song_id] is not None
        }
        hashes = [Work(song_id, file, ()) for song_id, file in files.items()]
        works = []
        for done in self.stage(HASH, hashes, reject_stage=None, cached=False, counted=False):
            if done.product is not None:
                content, row = done.product.value["content_id"], self.rows[done.name]
                sound = _Sound(
                    replace(files[done.name], content_id=content),
                    row["sample_rate"],
                    row["num_frames"],
                    self.labels[done.name] or (),
                    None if self.spans is None else tuple(self.spans.get(done.name, ())),
                )
                works.append(Work(done.name, sound, (content, repr(sound.facts))))
            elif done.failure is not None:
                log.warning("%s: has no anchors: %s", done.name, done.failure.detail)
                self._leave(done.name, "not heard", done.failure.detail)
        self.inputs = [work.content_ids[0] for work in works]
        return works

    def _leave(self, song_id: str, reason: str, detail: str) -> None:
        self.rejects.append(Reject(song_id, self.rows[song_id]["path"], "anchor", reason, detail))

    def link(self) -> None:
        """The audio of the songs that are left; what no song has any more is removed."""
        kept = set()
        for number, song_id in enumerate(self.rows, 1):
            for row in self.corpus.song(song_id).values():
                kept.add(take_stem(self.corpus, row, self.out, link=self.recipe.audio == "link"))
            self.progress("link", number, len(self.rows), 0)
        remove_stale(self.out, files_below(self.out, {"audio": AUDIO_SUFFIXES}), kept)

    def write(self) -> None:
        """Tables, the stems table last: its existence means that the corpus is complete."""
        stems = self.corpus.stems[self.corpus.stems["song_id"].isin(list(self.rows))].copy()
        stems["path"] = [own_path(root, path) for root, path in zip(stems["root"], stems["path"], strict=True)]
        stems["root"] = CORPUS_ROOT
        tables = {"stems": stems, "clips": self._clips()}
        tables |= other_tables(self.corpus)
        self.hours["kept"] = self._hours()
        labels = Counter(anchor["label"] for anchors in self.found.values() for anchor in anchors)
        self.save(
            self.inputs,
            tables,
            tagger=self.tagger.name,
            labels=dict(sorted(labels.items())),
            unknown_tags=dict(sorted(self.unknown.items())),
        )

    def _clips(self) -> pd.DataFrame:
        """The anchors, by song and then by time."""
        rows = [
            {
                "clip_id": f"{song_id}-{anchor['start_frame']}-{anchor['num_frames']}",
                "song_id": song_id,
                "start_frame": anchor["start_frame"],
                "num_frames": anchor["num_frames"],
                **{name: row[name] for name in ("split", "genre", "artist")},
                "label": anchor["label"],
                "label_probability": anchor["probability"],
            }
            for song_id, row in self.rows.items()
            for anchor in sorted(self.found[song_id], key=lambda anchor: anchor["start_frame"])
        ]
        return frame_of("clips", rows)


def read_class_mapping(path: Path) -> dict[str, str | None]:
    """What classes are called.

    Parameters
    ----------
    path : Path
        A YAML file of ``class: label`` lines, or a table (.csv) with the columns ``class`` and ``label``. A label
        that is null or empty takes the class out.

    Returns
    -------
    dict of str to str or None

    Raises
    ------
    RecipeError
        The file cannot be read, or says something else.
    """
    values: dict[Any, object] = {}
    if path.suffix.lower() == ".csv":
        for line_num, row in read_rows(path, ("class", "label")):
            if row["class"] in values:
                raise RecipeError(
                    f"{path}: line {line_num}: class '{row['class']}' stands twice; keep one row of it"
                )
            values[row["class"]] = row["label"] or None
    else:
        values.update(read_mapping(path))
    for name, label in values.items():
        if not (isinstance(name, str) and isinstance(label, str | None)):
            raise RecipeError(f"{path}: '{name}: {label}' is no class and label; write both as text, in quotes")
    return {name: label if isinstance(label, str) else None for name, label in values.items()}
