"""The static set: a mixing recipe and corpora in, mixtures on disk out, with every event annotated.

The path, top to bottom in `MixtureBuilder.build`: find what the sources can be drawn from, render (each mixture
from its plan, in workers), tell (counts, overlaps and levels as they came out beside what the recipe says), write.
The plans are those that `augment.dataset` streams: the same recipe, corpora, seed and index give the same mixture.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from augment.jams import jams_of_plan, write_jams
from augment.mixer import Mixer
from augment.plan import Event, MixturePlan, mixture_id_of
from augment.pool import Pool, make_pool, root_name
from augment.recipe import MixRecipe, load_mix
from augment.render import Mixture
from builders.engine import LocalEngine, Needs
from builders.mixture_facts import realised
from builders.recipe import MixedRecipe, MixtureRecipe
from builders.run import Run, refuse_foreign, remove_stale
from builders.stage import Engine, Product, Progress, Stage, Work, silent
from builders.triplet import is_whole, levels
from curation.licenses import SEPARATOR, joined_licenses, stem_licenses
from manifests.audio import Audio, content_id, quantise, write
from manifests.corpus import CORPUS_ROOT, MIXTURE, Corpus, open_corpora
from manifests.crops import CropReader
from manifests.errors import AudioError, RecipeError
from manifests.exports.mixing import CEILING
from manifests.lock import BuildLock
from manifests.loudness import SILENCE_LUFS, loudness_lufs
from manifests.staging import address
from manifests.tables import TableFormat, empty_table, frame_of

RENDER_VERSION = 1
RENDER_NEEDS = Needs(memory_bytes=800_000_000)
"""A minute of three targets."""

log = logging.getLogger(__name__)

_FACTS = ("genre", "language", "tags", "transcript")


@dataclasses.dataclass(frozen=True)
class MixtureBuilder:
    """Renders a set of mixtures.

    Parameters
    ----------
    out : Path
        The build folder. A build that was stopped is resumed there; one of another recipe is refused.
    kind : {'cinematic', 'universal'}
        cinematic: speech or dialogue, music and effects as targets. universal: any.
    mix : MixRecipe or str or Path
        The recipe, a ready one's name, or a YAML file.
    recipe : MixtureRecipe
        How many, which splits, which files.
    engine : Engine, optional
        `LocalEngine` with `jobs` workers by default.
    jobs : int >= 0
        Worker processes of the default engine.
    table_format : {'parquet', 'jsonl'}
    progress : callable, optional

    Examples
    --------
    >>> builder = MixtureBuilder(Path("dnr"), "cinematic", "dnr-v2", MixtureRecipe(num=3406))
    >>> corpus = builder.build([Path("speech"), Path("music"), Path("effects")])  # doctest: +SKIP
    """

    out: Path
    kind: str
    mix: MixRecipe | str | Path
    recipe: MixtureRecipe = dataclasses.field(default_factory=MixtureRecipe)
    engine: Engine | None = None
    jobs: int = 2
    table_format: TableFormat = "parquet"
    progress: Progress = silent

    def build(self, folders: Sequence[Path]) -> Corpus:
        """Run the whole path.

        Parameters
        ----------
        folders : sequence of Path
            Finished corpora.

        Returns
        -------
        Corpus
            A song for each mixture, a stem for each target; `mixtures` holds the events.

        Raises
        ------
        RecipeError
            If the recipe cannot be drawn from the corpora.
        TableError
            If a corpus has no stems table, or it is damaged.
        BuildError
            If the folder holds something else, or the disk refuses.
        """
        run = _Run(self, open_corpora(folders))
        refuse_foreign(self.out, "set of mixtures")
        with BuildLock(self.out):
            run.claim_folder()
            run.remove_temporary_files()
            run.forget_result()
            run.render()
            run.write()
        return Corpus.open(self.out)

    def plan(self, folders: Sequence[Path]) -> dict[str, Pool]:
        """What the sources could be drawn from, by split; nothing is written."""
        return _Run(self, open_corpora(folders)).pools


@dataclasses.dataclass(frozen=True)
class _Item:
    """A mixture to be rendered: its split, and its numbers."""

    split: str
    epoch: int
    index: int
    mixture_id: str


class _Run(Run):
    """One run of the set: its stages."""

    def __init__(self, builder: MixtureBuilder, corpora: Mapping[str, Corpus]) -> None:
        mix = builder.mix if isinstance(builder.mix, MixRecipe) else load_mix(builder.mix)
        require_kind(builder.kind, mix)
        self.mix = mix
        self.recipe = builder.recipe
        self.corpora = corpora
        self.identities = {name: corpus.identity for name, corpus in corpora.items()}
        resolved = MixedRecipe(
            **builder.recipe.model_dump(), mix=mix.model_dump(mode="json"), corpora=self.identities
        )
        engine = builder.engine or LocalEngine(builder.jobs, builder.recipe.max_item_s)
        reads = [folder for corpus in corpora.values() for folder in (corpus.folder, *corpus.roots.values())]
        super().__init__(
            builder.out, builder.kind, resolved, engine, builder.table_format, builder.progress, reads=reads
        )
        splits = sorted({split for corpus in corpora.values() for split in corpus.stems["split"].dropna()})
        if self.recipe.splits is None and len(splits) > 1:
            log.warning(
                "mixtures are drawn from the splits %s alike, and are in none; 'splits' instead of 'num' keeps "
                "them apart",
                ", ".join(splits),
            )
        self.nums = dict(sorted((self.recipe.splits or {"": self.recipe.num}).items()))
        self.pools = {split: make_pool(mix.of_split(split), corpora) for split in self.nums}
        self.stems: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.replaced = 0

    def render(self) -> None:
        """Mixtures to files, and rows of the stems and the mixtures table."""
        function = partial(
            _render_item,
            mixes={split: (self.mix.of_split(split), pool) for split, pool in self.pools.items()},
            recipe=self.recipe,
            facts=_facts_of(self.corpora),
            out=self.out,
        )
        stage: Stage[_Item] = Stage("render", RENDER_VERSION, function, self.settings, RENDER_NEEDS)
        works = [
            Work(mixture_id, _Item(split, epoch, index, mixture_id), (mixture_id, split))
            for epoch, (split, num) in enumerate(self.nums.items())
            for index in range(num)
            for mixture_id in [mixture_id_of(self.recipe.seed, epoch, index)]
        ]
        for done in self.stage(stage, works, reject_stage="render", is_whole=self._is_whole):
            if done.product is not None:
                self.stems += done.product.value["stems"]
                self.events += done.product.value["events"]
                self.replaced += done.product.value["replaced"]
        if not self.stems:
            first = self.rejects[0]
            raise AudioError(f"{self.out}: none of {len(works)} mixtures could be rendered (first: {first.detail})")

    def _is_whole(self, value: dict[str, Any]) -> bool:
        """Whether the files of a mixture that was rendered before are still there.

        One that was drawn again is rendered again: what could not be read then may be readable now.
        """
        mixture_id = value["stems"][0]["song_id"]
        is_annotated = _annotation_id(self.out, mixture_id, self.recipe) == value.get("annotation")
        return not value["replaced"] and is_annotated and is_whole(self.out, value)

    def write(self) -> None:
        """The tables, the stems table last."""
        self.stems.sort(key=lambda row: (row["song_id"], row["stem"] != MIXTURE, row["stem"]))
        self.events.sort(key=lambda row: row["mixture_id"])
        ours = [
            path.relative_to(self.out).as_posix()
            for folder in ("audio", "annotations")
            for path in self.out.glob(f"{folder}/*/*" if folder == "audio" else f"{folder}/*.jams")
        ]
        kept = {row["path"] for row in self.stems}
        kept |= {f"annotations/{row['song_id']}.jams" for row in self.stems if self.recipe.jams}
        remove_stale(self.out, ours, kept)
        mixtures = frame_of("mixtures", self.events)
        seconds = sum(row["num_frames"] / row["sample_rate"] for row in self.stems if row["stem"] == MIXTURE)
        self.hours["kept"] = seconds / 3600
        self.save(
            list(self.identities.values()),
            {"mixtures": mixtures, "stems": frame_of("stems", self.stems)},
            corpora={name: address(corpus.folder) for name, corpus in self.corpora.items()},
            left_out={split: pool.left_out for split, pool in self.pools.items()},
            replaced=self.replaced,
            realised=realised(self.mix, mixtures),
        )


def require_kind(kind: str, mix: MixRecipe) -> None:
    """Refuse a recipe that a set of mixtures cannot be made of.

    Parameters
    ----------
    kind : {'cinematic', 'universal'}
    mix : MixRecipe

    Raises
    ------
    RecipeError
        It has other targets than a cinematic set, or wants a separator.
    """
    cinematic = {"dialogue", "speech", "music", "effects"}
    if kind == "cinematic" and not set(mix.targets) <= cinematic:
        raise RecipeError(
            f"recipe: its targets are {', '.join(mix.targets)}, and a cinematic set has "
            f"{', '.join(sorted(cinematic))}; "
            "use 'stemloom build universal'"
        )
    if mix.remove is not None and mix.remove.by == "separator":
        raise RecipeError(
            f"recipe: field 'remove.by' is 'separator' (target '{mix.remove.target}'), and a set on disk is "
            "rendered without one; write 'by: oracle', or draw the mixtures on the fly"
        )


def _annotation(out: Path, mixture_id: str) -> Path:
    return out / "annotations" / f"{mixture_id}.jams"


def _annotation_id(out: Path, mixture_id: str, recipe: MixtureRecipe) -> str | None:
    """The content id of a mixture's annotation; None where it has none."""
    path = _annotation(out, mixture_id)
    return content_id(path) if recipe.jams and path.is_file() else None


Facts: TypeAlias = Mapping[tuple[str, str], Mapping[str, str]]
"""What is known of stems, by the root and path that events name: columns of the stems table, and `license`."""


def _facts_of(corpora: Mapping[str, Corpus]) -> Facts:
    """What annotations tell of stems; those of which nothing is known are left out."""
    facts: dict[tuple[str, str], dict[str, str]] = {}
    for name, corpus in corpora.items():
        stems = corpus.stems
        tracks = empty_table("tracks") if corpus.tracks is None else corpus.tracks
        known = stems[[column for column in (*_FACTS, "artist") if column in stems]].astype(object)
        # a licence may be that of the recordings that a stem was made of
        known["license"] = [joined_licenses(found) for found in stem_licenses(stems, tracks)]
        told = known.notna().any(axis=1)
        places = stems.loc[told, ["root", "path"]].itertuples(index=False, name=None)
        for (root, path), row in zip(places, known[told].to_dict("records"), strict=True):
            values = {str(column): str(value) for column, value in row.items() if not pd.isna(value)}
            facts[root_name(name, root), path] = values
    return facts


def _render_item(
    item: _Item,
    mixes: Mapping[str, tuple[MixRecipe, Pool]],
    recipe: MixtureRecipe,
    facts: Facts,
    out: Path,
) -> Product:
    """Render a mixture, write its stems and its annotation."""
    mix, pool = mixes[item.split]
    heard: list[float | None] = []
    replaced: list[str] = []

    def replace(plan: MixturePlan, error: AudioError) -> None:
        replaced.append(str(error))
        heard.clear()

    def hear(event: Event, audio: Audio) -> None:
        lufs = loudness_lufs(audio, mix.sample_rate)
        heard.append(None if lufs <= SILENCE_LUFS else lufs)

    with CropReader(pool.roots) as reader:
        mixer = Mixer(mix, pool, recipe.seed, reader, on_replaced=replace if recipe.on_error == "replace" else None)
        mixture = mixer.mix(item.epoch, item.index, heard=hear)
    stems = _written(mixture, recipe, facts, out, item.split or None)
    rows = _event_rows(mixture.plan, heard, facts, item.split or None)
    if recipe.jams:
        known = [
            {"song_id": event.song_id, "stem": event.stem, **facts.get((event.root, event.path), {})}
            for event in mixture.plan.events
        ]
        jam = jams_of_plan(mixture.plan, pool.roots, label="tags", stems=pd.DataFrame(known) if known else None)
        write_jams(_annotation(out, item.mixture_id), jam)
    annotation = _annotation_id(out, item.mixture_id, recipe)
    return Product({"stems": stems, "events": rows, "replaced": len(replaced), "annotation": annotation})


def _written(
    mixture: Mixture, recipe: MixtureRecipe, facts: Facts, out: Path, split: str | None
) -> list[dict[str, Any]]:
    """Write a mixture and its targets, all within full scale; rows of the stems table."""
    plan = mixture.plan
    peak = max(float(np.abs(mixture.mixture).max()), float(np.abs(mixture.targets).max(initial=0.0)))
    gain = np.float32(min(1.0, CEILING / max(peak, 1e-9)))
    parts = {
        name: quantise(target * gain, recipe.bit_depth)
        for name, target in zip(mixture.names, mixture.targets, strict=True)
    }
    # three parts may pass 2 on the way to a sum below 1, where float32 has not the last of 24 bits
    total = np.asarray(np.sum([*parts.values()], axis=0, dtype=np.float64), np.float32)
    # what a cascade took out is in none of the files
    events = [event for event in plan.events if event.target in parts]
    rows = []
    for name, audio in {MIXTURE: total, **parts}.items():
        path = PurePosixPath("audio", plan.mixture_id, f"{name}.{recipe.audio_format}")
        write(Path(out, *path.parts), audio, plan.sample_rate, recipe.bit_depth)
        mine = [event for event in events if name in (event.target, MIXTURE)]
        rows.append(
            {
                "song_id": plan.mixture_id,
                "stem": name,
                "root": CORPUS_ROOT,
                "path": str(path),
                "num_frames": audio.shape[1],
                "sample_rate": plan.sample_rate,
                "channels": audio.shape[0],
                "split": split,
                "provenance": "mixed",
                "parents": ";".join(dict.fromkeys(event.song_id for event in mine)),
                "license": _license_of(mine or events, facts),
                **levels(audio, plan.sample_rate),
                "audit": "unheard",
                "gain_db": 20 * math.log10(gain),
                "content_id": content_id(Path(out, *path.parts)),
            }
        )
    return rows


def _license_of(events: Sequence[Event], facts: Facts) -> str | None:
    """The licences of all sources; None where one of them has none. Silence has those of its mixture."""
    stated = [facts.get((event.root, event.path), {}).get("license") for event in events]
    if None in stated:
        return None
    return SEPARATOR.join(sorted({part for text in stated if text for part in text.split(SEPARATOR)})) or None


def _event_rows(
    plan: MixturePlan,
    heard: Sequence[float | None],
    facts: Facts,
    split: str | None,
) -> list[dict[str, Any]]:
    """Rows of the mixtures table, with what is known of the sources and how loud they came out."""
    rows = plan.rows()
    sounding = (row for row in rows if "path" in row)
    for row, lufs in zip(sounding, heard, strict=True):
        known = facts.get((row["root"], row["path"]), {})
        row |= {name: value for name, value in known.items() if name in _FACTS}
        row["loudness_lufs"] = lufs
    return [row | {"split": split} for row in rows]
