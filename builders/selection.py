"""Which songs of a corpus stay: heard, inspected, graded, gated, no duplicate, nothing that must stay unseen.

The first half of a curation, in the order in which its steps are called; `builders.curate` does the second with the
songs that are left. Whoever leaves has a row in the rejected table.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from builders.audit.standing import Standing, standing
from builders.audit.verdicts import read_verdicts
from builders.inspection import INSPECT_NEEDS, INSPECT_VERSION, Inspection, InspectItem, inspect_song, load_witness
from builders.recipe import CurateRecipe
from builders.run import FAILURES, Run
from builders.scan import HASH, SURVEY, FoundFile, Reject, walk_folder
from builders.stage import Engine, Progress, Stage, Work
from curation.chromaprint import Fingerprint
from curation.defects import Verdict
from curation.gates import EVERY_STEM, Gate, GateReport, apply_gates, parse_gates
from curation.genres import normalise_genres
from curation.leaks import DUPLICATE_OVERLAP, MAX_DUPLICATE_ERROR_RATE, find_duplicates, find_leaks
from curation.matching import MAX_BIT_ERROR_RATE
from curation.measures import Measures
from curation.songs import songs_of
from manifests.corpus import MIXTURE, Corpus, whole_of
from manifests.errors import BuildError, RecipeError, did_you_mean
from manifests.schemas import GRADES
from manifests.tables import TableFormat

log = logging.getLogger(__name__)

SONG_MEASURES = {
    *(field.name for field in dataclasses.fields(Measures) if field.name != "num_frames"),
    *("active_fraction", "residual_db"),
}
"""What gates on songs can be on, of each stem."""

ROW_MEASURES = frozenset({"voiced_fraction", "salient_fraction"})
CLIP_MEASURES = {"rms", *ROW_MEASURES}
"""What gates on clips can be on: the clip as a whole, or each stem."""


@dataclass
class InspectedSong:
    """A song that is still in: what the inspection said of it."""

    key: str
    measures: dict[str, dict[str, float | None]]
    verdict: Verdict
    fingerprint: Fingerprint


class Selection(Run):
    """The songs of a corpus that are left after each step.

    Parameters
    ----------
    out : Path
    recipe : CurateRecipe
    corpus : Corpus
        The source.
    engine : Engine
    table_format : {'parquet', 'jsonl'}
    progress : callable
    limit : int, optional
        Only the first songs, sorted by id.

    Raises
    ------
    RecipeError
        If a setting of these steps cannot be met.
    """

    def __init__(
        self,
        out: Path,
        recipe: CurateRecipe,
        corpus: Corpus,
        engine: Engine,
        table_format: TableFormat,
        progress: Progress,
        limit: int | None,
    ) -> None:
        reads = (corpus.folder, *corpus.roots.values(), *map(Path, recipe.unseen))
        super().__init__(out, "curate", recipe, engine, table_format, progress, reads=reads)
        self.recipe = recipe
        self.corpus = corpus
        # settings that are wrong are told before hours of work
        stems = sorted(set(corpus.stems["stem"]))
        self.gates = known_gates("gates", recipe.gates, stems, SONG_MEASURES)
        self.clip_gates = known_gates("clip_gates", recipe.clip_gates, stems, CLIP_MEASURES)
        if recipe.witness is not None:
            load_witness(recipe.witness)
        for name in recipe.unseen:
            if not Path(name).is_dir():
                raise RecipeError(f"field 'unseen' is '{name}': there is no such folder; correct the path")
        songs = songs_of(corpus.stems)
        songs["genre"] = normalise_genres(songs["genre"])
        songs["title"] = songs["song_id"].map(_titles(corpus)).astype("string")
        self.songs = songs.set_index("song_id", drop=False)
        if limit is not None:
            for song_id in self.songs.index[limit:]:
                self.leave_out(song_id, "inspect", "limit", "beyond --limit")
            self.songs = self.songs[:limit]
        self.hours["in"] = self.num_hours()
        self.heard: Standing = standing(corpus, read_verdicts(corpus.folder))
        self.found: dict[str, InspectedSong] = {}
        self.links: list[tuple[str, str]] = []
        self.outside: dict[str, Fingerprint] = {}
        self.facts: dict[str, Any] = {"gates": [], "genres": {}, "splits": {}, "grades": {}, "leaks": {}}

    def hear(self) -> None:
        """Leave out what people rejected when they listened."""
        for note in self.heard.notes():
            log.warning("%s: %s", self.corpus.folder, note)
        with self.step("audit"):
            if self.recipe.audit == "ignore":
                return
            for song_id in self.songs.index:
                stems = self.corpus.song(song_id)
                rejected = next((stem for stem in stems if self.heard.audit[song_id, stem] == "rejected"), None)
                if rejected is not None:
                    self.leave_out(song_id, "audit", *self._rejection(song_id, rejected))
                elif self.recipe.audit == "unheard" and not self.is_accepted(song_id):
                    self.leave_out(song_id, "audit", "unheard", "nobody has accepted all of it by ear")
            gone = {reject.id for reject in self.rejects if reject.stage == "audit"}
            self.songs = self.songs[~self.songs.index.isin(gone)]

    def _rejection(self, song_id: str, stem: str) -> tuple[str, str]:
        """Why a stem was rejected: the reason, and who said so."""
        verdict = self.heard.said.get((song_id, stem))
        if verdict is None:
            return "rejected", f"{stem}: the stems table says so"
        what = "song" if verdict.stem is None else verdict.stem
        detail = f"{what}: rejected by {verdict.reviewer} on {verdict.time[:10]}"
        return verdict.reason or "rejected", f"{detail}: {verdict.note}" if verdict.note else detail

    def is_accepted(self, song_id: str) -> bool:
        """Whether a person has accepted all of a song, and the recipe asks for such verdicts."""
        stems = self.corpus.song(song_id)
        return self.recipe.audit != "ignore" and all(self.heard.audit[song_id, s] == "accepted" for s in stems)

    def inspect(self) -> None:
        """Every song measured; those whose files cannot be read, or are not what their rows say, are left out."""
        stage = self._inspection()
        with self.step("hash"):
            items = self._items()
            self.songs = self.songs[self.songs.index.isin(list(items))]
        works = [Work(song_id, item, item.content_ids) for song_id, item in items.items()]
        keys = {work.name: stage.key(work.content_ids) for work in works}
        for done in self.stage(stage, works, reject_stage=None):
            if done.failure is not None:
                self.leave_out(done.name, "inspect", FAILURES[done.failure.kind], done.failure.detail)
            elif done.product is not None:
                inspection = Inspection(done.product.value, done.product.arrays)
                self.found[done.name] = InspectedSong(
                    keys[done.name], inspection.measures, inspection.verdict, inspection.fingerprint
                )
        self.songs = self.songs[self.songs.index.isin(list(self.found))]

    def _inspection(self) -> Stage[InspectItem]:
        witness = self.recipe.witness
        function = partial(inspect_song, witness=witness)
        return Stage("inspect", INSPECT_VERSION, function, {"witness": witness}, INSPECT_NEEDS)

    def _items(self) -> dict[str, InspectItem]:
        """Songs whose files are there as their rows say, by the bytes themselves."""
        rows = {
            f"{song_id}/{stem}": (song_id, stem, row)
            for song_id in self.songs.index
            for stem, row in self.corpus.song(song_id).items()
        }
        files = {}
        for name, (_, _, row) in rows.items():
            files[name] = FoundFile(str(self.corpus.folder_of(row)), str(row["path"]))
        works = [Work(name, file, ()) for name, file in files.items()]
        wrong: dict[str, tuple[str, str]] = {}
        for done in self.stage(HASH, works, reject_stage=None, cached=False, counted=False):
            song_id, _, row = rows[done.name]
            if done.failure is not None:
                wrong[song_id] = (FAILURES[done.failure.kind], done.failure.detail)
                continue
            assert done.product is not None
            found = done.product.value["content_id"]
            files[done.name] = replace(files[done.name], content_id=found)
            if row["content_id"] not in (None, found):
                detail = f"{files[done.name].location}: content_id is {found}, and the stems table says "
                wrong[song_id] = ("changed", f"{detail}{row['content_id']}; run 'stemloom check' on the source")
        for song_id in sorted(wrong):
            self.leave_out(song_id, "inspect", *wrong[song_id])
        stems: dict[str, list[tuple[str, FoundFile]]] = {}
        for name, (song_id, stem, _) in rows.items():
            if song_id not in wrong:
                stems.setdefault(song_id, []).append((stem, files[name]))
        return {song_id: InspectItem(song_id, tuple(found)) for song_id, found in stems.items()}

    def inspection(self, song_id: str) -> Inspection:
        """What the cache holds of a song."""
        key = self.found[song_id].key
        value, arrays = self.cache.get(key), self.cache.get_arrays(key)
        if not isinstance(value, dict) or arrays is None:
            raise BuildError(f"{self.out / '.cache'}: the inspection of song '{song_id}' is gone; run it again")
        return Inspection(value, arrays)

    def grade(self) -> None:
        """Leave out songs with a lower grade than the recipe's, but for those that a person has accepted."""
        grades = pd.Series({song_id: song.verdict.grade for song_id, song in self.found.items()}, dtype="string")
        self.facts["grades"] = {grade: int((grades == grade).sum()) for grade in GRADES}
        low = [song_id for song_id in grades[grades > self.recipe.min_grade].index if not self.is_accepted(song_id)]
        details = {song_id: "; ".join(self.found[song_id].verdict.reasons) for song_id in low}
        with self.step("grade"):
            for song_id in low:
                self.leave_out(song_id, "grade", f"grade {grades[song_id]}", details[song_id])
            self.songs = self.songs.drop(index=low)

    def gate(self) -> None:
        """Leave out songs that do not pass the gates."""
        with self.step("gate"):
            if not self.gates or self.songs.empty:
                return
            measures = self._measures()
            gated = apply_gates(measures, self.gates)
            self.facts["gates"] += [gate_report(report) for report in gated.reports]
            for song_id, reasons in gated.reasons[~gated.kept].items():
                values = {str(name): float(value) for name, value in measures.loc[[song_id]].iloc[0].items()}
                failed = [
                    gate for gate in self.gates if any(text.startswith(gate.name) for text in json.loads(reasons))
                ]
                found = "; ".join(f"{gate}: {_values_of(gate, values)}" for gate in failed)
                self.leave_out(str(song_id), "gate", json.loads(reasons)[0], found)
            self.songs = self.songs[gated.kept.reindex(self.songs.index)]

    def _measures(self) -> pd.DataFrame:
        """A row per song, a column ``<measure>_<stem>`` for each measure of each stem."""
        rows = []
        for song_id in self.songs.index:
            row = {
                f"{measure}_{stem}": value
                for stem, measures in self.found[song_id].measures.items()
                for measure, value in measures.items()
            }
            for stem, known in self.corpus.song(song_id).items():
                for measure in ("active_fraction", "residual_db"):
                    row[f"{measure}_{stem}"] = known[measure]
            rows.append(row)
        return pd.DataFrame(rows, index=self.songs.index).astype("float64")

    def drop_duplicates(self) -> None:
        """Of songs with the same audio keep the best; remember what is nearly the same, for the splits."""
        near = find_duplicates(self._prints(), max_bit_error_rate=MAX_BIT_ERROR_RATE)
        with self.step("duplicates"):
            self.links = list(zip(near["song_a"], near["song_b"], strict=True))
            # an excerpt in common (a sample, a jingle) makes no duplicate, but must not be in two splits
            is_whole = near["overlap_fraction"] >= DUPLICATE_OVERLAP
            same = near[is_whole & (near["bit_error_rate"] <= MAX_DUPLICATE_ERROR_RATE)]
            if self.recipe.duplicates == "keep" or same.empty:
                return

            # best first: a song leaves for one that stays
            def place(song_id: str) -> tuple[bool, str, str]:
                return (not self.is_accepted(song_id), self.found[song_id].verdict.grade, song_id)

            order = sorted(self.songs.index, key=place)
            rank = {song_id: place for place, song_id in enumerate(order)}
            partners: dict[str, dict[str, float]] = {}
            for a, b, rate in same[["song_a", "song_b", "bit_error_rate"]].itertuples(index=False):
                partners.setdefault(a, {})[b] = rate
                partners.setdefault(b, {})[a] = rate
            gone = set()
            for song_id in order:
                stays = [other for other in partners.get(song_id, {}) if rank[other] < rank[song_id]]
                stays = [other for other in stays if other not in gone]
                if stays:
                    gone.add(song_id)
                    detail = f"bit error rate {partners[song_id][stays[0]]:.3f} to song '{stays[0]}', which stays"
                    self.leave_out(song_id, "duplicates", "same audio", detail)
            self.songs = self.songs.drop(index=list(gone))

    def drop_unseen(self) -> None:
        """Leave out what is also in the folders that must stay unseen."""
        if not self.recipe.unseen:
            return
        with self.step("unseen"):
            for folder in map(Path, self.recipe.unseen):
                self.outside.update(self._fingerprints(folder))
            leaks = find_leaks(self._prints(), dict.fromkeys(self.songs.index, None), self.outside)
            leaks = leaks.drop_duplicates("song_a")
            for song_id, path, rate in leaks[["song_a", "song_b", "bit_error_rate"]].itertuples(index=False):
                self.leave_out(song_id, "unseen", "must stay unseen", f"bit error rate {rate:.3f} to {path}")
            self.songs = self.songs.drop(index=leaks["song_a"].tolist())

    def _prints(self) -> dict[tuple[str, str], Fingerprint]:
        """Fingerprints of the songs that are left."""
        wholes = {song_id: whole_of(self.corpus.song(song_id)) for song_id in self.songs.index}
        return {(song_id, stem): self.found[song_id].fingerprint for song_id, stem in wholes.items() if stem}

    def _fingerprints(self, folder: Path) -> Iterator[tuple[str, Fingerprint]]:
        """Of every audio file in a folder, by its path."""
        paths, _ = walk_folder(folder)
        if not paths:
            raise RecipeError(f"field 'unseen' is '{folder}': holds no audio file; correct the path")
        found = [Work(path, FoundFile(str(folder), path), ()) for path in paths]
        files = {}
        for done in self.stage(HASH, found, reject_stage="unseen", cached=False, counted=False):
            if done.product is not None:
                files[done.name] = FoundFile(str(folder), done.name, done.product.value["content_id"])
        works = [Work(path, file, (file.content_id,)) for path, file in sorted(files.items())]
        for done in self.stage(SURVEY, works, reject_stage="unseen", counted=False):
            if done.product is not None:
                yield f"{folder}/{done.name}", np.asarray(done.product.arrays["fingerprint"], np.uint32)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count and time a step between the stages."""
        start, rejects, songs = time.monotonic(), len(self.rejects), len(self.songs)
        yield
        self.counts[name] = {"in": songs, "kept": len(self.songs), "rejected": len(self.rejects) - rejects}
        self.wall_s[name] = time.monotonic() - start

    def leave_out(self, song_id: str, stage: str, reason: str, detail: str) -> None:
        """Write down why a song leaves; the caller takes it out."""
        rows = self.corpus.song(song_id)
        path = str((rows.get(MIXTURE) or next(iter(rows.values())))["path"])
        self.rejects.append(Reject(song_id, path, stage, reason, detail))

    def num_hours(self) -> float:
        """Of the songs that are left."""
        return float(self.songs["seconds"].sum()) / 3600


def known_gates(
    field: str, texts: Sequence[str], stems: Sequence[str], measures: Collection[str]
) -> tuple[Gate, ...]:
    """Gates of a recipe's field, on what is measured there."""
    gates = parse_gates(texts)
    for gate in gates:
        of_row = gate.measure in ROW_MEASURES
        if gate.measure not in measures or of_row != (gate.stem is None):
            listed = ", ".join(name if name in ROW_MEASURES else f"STEM.{name}" for name in sorted(measures))
            raise RecipeError(f"field '{field}': '{gate}' is none of what is measured there: {listed}")
        if gate.stem not in (None, EVERY_STEM, *stems):
            raise RecipeError(
                f"field '{field}': '{gate}' is on the stem '{gate.stem}'{did_you_mean(str(gate.stem), stems)}; the "
                f"corpus has {', '.join(stems)}"
            )
    return gates


def _titles(corpus: Corpus) -> dict[str, str]:
    """Song titles, where the corpus has a tracks table."""
    if corpus.tracks is None:
        return {}
    known = corpus.tracks[corpus.tracks["title"].notna()]
    return dict(zip(known["track_id"], known["title"], strict=True))


def _values_of(gate: Gate, measures: Mapping[str, float]) -> str:
    """What a gate saw of a song."""
    names = [f"{gate.measure}_{gate.stem}"]
    if gate.stem == EVERY_STEM:
        names = [name for name in measures if name.startswith(f"{gate.measure}_")]
    return ", ".join(f"{name.removeprefix(f'{gate.measure}_')} {measures[name]:.4g}" for name in names)


def gate_report(report: GateReport) -> dict[str, Any]:
    """A gate's distribution as JSON."""
    gate = report.gate
    return {
        "name": str(gate),
        "measure": gate.measure,
        "stem": gate.stem,
        "minimum": gate.minimum,
        "maximum": gate.maximum,
        "edges": report.edges.tolist(),
        "counts": report.counts.tolist(),
        "kept": report.kept,
        "dropped": report.dropped,
        "unknown": report.unknown,
    }
