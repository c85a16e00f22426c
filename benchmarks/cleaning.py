"""How well voices are found in music and effects, and taken out of them.

    python -m benchmarks.cleaning CORPUS --out FOLDER [--separators bundled:vocals baseline:hpss] [--clips 24]

CORPUS has single sounds (`recipes/bundled/corpora.py` makes one): stems `music` and `effects`, `speech` and
`vocals` in the split `--split`, which nothing was trained with. Out of them clips of 12 s are made: music, or
effects in a row, without any voice, and with one at 0 to -20 dB (over the music while it is heard) for 15 to 60 %
of the time. They are a corpus that `stemloom clean` then cleans with every separator, with the first one by every
witness, and with the ideal ratio mask of the true voice, the oracle.

Prints Markdown, and writes it to FOLDER/cleaning.md with FOLDER/clips.csv.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from builders.clean import CleanBuilder
from builders.recipe import CleanRecipe
from builders.stem_cleaning import hear_stem
from curation.cleaning import voice_ratio_db
from manifests.audio import Audio, quantise, read, write
from manifests.corpus import CORPUS_ROOT, Corpus
from manifests.tables import frame_of, write_table
from separators.loading import load_separator
from separators.separator import Separator
from separators.streams import Spool
from training.metrics import sdr
from training.oracles import ideal_ratio_mask

RATE = 44_100
CLIP_S = 12.0
LEVELS_DB = (0, -5, -10, -15, -20)
FRACTIONS = (0.15, 0.3, 0.6)
TOP_STEPS = 3
SILENT_RMS = 1e-3
DEFAULT = CleanRecipe(stems=("music", "effects")).witness


@dataclass(frozen=True)
class Clip:
    """A stem with a voice in it, or without."""

    name: str
    kind: str
    clean: Audio
    voice: Audio
    level_db: float

    @property
    def stem(self) -> Audio:
        return quantise(self.clean + self.voice)


@dataclass(frozen=True)
class Oracle:
    """The ideal ratio mask of the voice in whichever clip it hears, as a separator."""

    clips: dict[str, Clip] = field(repr=False)
    name: str = "oracle"
    identity: str = "oracle"
    sample_rate: int = RATE
    channels: int = 2
    sources: tuple[str, ...] = ("vocals", "accompaniment")

    def stream(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        mixture = np.concatenate(list(blocks), axis=1)
        clip = self.clips[fingerprint(mixture)]
        yield ideal_ratio_mask(np.stack([clip.voice, clip.clean]), mixture, RATE)


def fingerprint(audio: Audio) -> str:
    return hashlib.blake2b(np.round(audio * 2.0**15).astype(np.int32).tobytes(), digest_size=16).hexdigest()


def clips_of(corpus: Corpus, split: str, count: int, seed: int) -> Iterator[Clip]:
    """So many clips of each kind and level, and as many without voices as with."""
    rng = np.random.default_rng(seed)
    stems = corpus.stems[corpus.stems["split"] == split]
    rows = {stem: list(found.itertuples()) for stem, found in stems.groupby("stem")}
    frames = round(CLIP_S * RATE)

    def sound(kinds: list[str], length: int) -> Audio:
        parts: list[Audio] = []
        while sum(part.shape[1] for part in parts) < length:
            row = rows[str(rng.choice([kind for kind in kinds if kind in rows]))]
            weights = np.array([float(found.num_frames) for found in row])
            chosen = row[int(rng.choice(len(row), p=weights / weights.sum()))]
            start = int(rng.integers(max(1, chosen.num_frames - length + 1)))
            audio, _ = read(corpus.folder / chosen.path, start, min(length, chosen.num_frames - start))
            if np.sqrt(np.mean(audio**2, dtype=np.float64)) < SILENT_RMS:
                continue
            parts.append(np.repeat(audio, 2, axis=0) if len(audio) == 1 else audio)
        joined = np.concatenate(parts, axis=1)[:, :length]
        return joined * np.float32(0.1 / np.sqrt(np.mean(joined**2, dtype=np.float64)))

    for kind in ("music", "effects"):
        for level in (*LEVELS_DB, None):
            for number in range(count if level is not None else count * len(LEVELS_DB)):
                clean, voice = sound([kind], frames), np.zeros((2, frames), np.float32)
                if level is not None:
                    length = round(FRACTIONS[number % len(FRACTIONS)] * frames)
                    start = int(rng.integers(frames - length + 1))
                    said = sound(["speech"] if rng.random() < 0.5 else ["vocals"], length)
                    beside = np.sqrt(np.mean(clean[:, start : start + length] ** 2, dtype=np.float64))
                    voice[:, start : start + length] = said / 0.1 * max(beside, 0.01) * 10 ** (level / 20)
                scale = np.float32(0.9 / max(0.9, np.abs(clean + voice).max()))
                yield Clip(
                    f"{kind}{'' if level is None else level}-{number}",
                    kind,
                    clean * scale,
                    voice * scale,
                    np.nan if level is None else level,
                )


def write_corpus(clips: Iterable[Clip], out: Path) -> tuple[Corpus, dict[str, Clip]]:
    """A corpus of the clips' stems, and the clips by their names."""
    rows, known = [], {}
    for clip in clips:
        path = f"audio/{clip.name}/{clip.kind}.flac"
        write(out / path, clip.stem, RATE, 24)
        facts = {"sample_rate": RATE, "channels": 2, "num_frames": clip.stem.shape[1], "provenance": "recorded"}
        rows.append(
            {
                "song_id": clip.name,
                "stem": clip.kind,
                "root": CORPUS_ROOT,
                "path": path,
                "audit": "unheard",
                **facts,
            }
        )
        known[clip.name] = clip
    write_table(out, "stems", frame_of("stems", rows))
    return Corpus.open(out), known


def cleaned_by(
    separator: Separator, witness: str, corpus: Corpus, clips: dict[str, Clip], out: Path
) -> pd.DataFrame:
    """What a cleaning made of every clip."""
    recipe = CleanRecipe(stems=("music", "effects"), witness=witness, audio="link")
    CleanBuilder(out, separator, recipe, progress=say(f"{separator.name} by {witness}")).build(corpus.folder)
    result = Corpus.open(out)
    assert result.cleaned is not None
    rows = []
    for found in result.cleaned.itertuples():
        clip = clips[str(found.song_id)]
        cleaned = clip.stem
        if found.verdict == "cleaned":
            cleaned = result.load(result.song(clip.name)[clip.kind])
        spans = json.loads(str(found.damaged)) if found.verdict != "dropped" else [[0, clip.stem.shape[1]]]
        rows.append(
            {
                "clip": clip.name,
                "kind": clip.kind,
                "level_db": clip.level_db,
                "method": separator.name,
                "witness": witness,
                "verdict": found.verdict,
                **measures(clip, cleaned, spans),
            }
        )
    return pd.DataFrame(rows)


def measures(clip: Clip, cleaned: Audio, damaged: list[list[int]]) -> dict[str, float]:
    loudness = float(np.sum(clip.voice.astype(np.float64) ** 2))
    error = (cleaned - clip.clean).astype(np.float64)
    left = float(np.sum(error * clip.voice)) / loudness if loudness else np.nan
    whole = float(np.sum(clip.stem.astype(np.float64) ** 2))
    kept = np.ones(cleaned.shape[1], bool)
    for start, end in damaged:
        kept[start:end] = False
    return {
        "sdr_before": float(sdr(clip.clean[None], clip.stem[None])[0]),
        "sdr_after": float(sdr(clip.clean[None], cleaned[None])[0]),
        "sdr_kept": float(sdr(clip.clean[None, :, kept], cleaned[None, :, kept])[0]) if kept.any() else np.nan,
        "kept": float(kept.mean()),
        "reduction_db": -20 * np.log10(max(abs(left), 1e-3)) if loudness else np.nan,
        "change_db": 10
        * np.log10(max(float(np.sum((cleaned - clip.stem).astype(np.float64) ** 2)) / whole, 1e-12)),
    }


def suspicions(separator: Separator, corpus: Corpus, clips: dict[str, Clip], scratch: Path) -> pd.DataFrame:
    """What each clip could be told by: the mean of the three highest steps of each curve."""
    rows = []
    for name, clip in clips.items():
        with Spool(scratch) as spool:
            path = corpus.path_of(corpus.song(name)[clip.kind])
            heard = hear_stem(path, separator, [separator.sources.index("vocals")], spool)
        curves = {
            "the witness of the stem": heard.chances["stem"],
            "the witness of the estimate": heard.chances["voice"],
            "the higher of both": np.maximum(heard.chances["stem"], heard.chances["voice"]),
            "the estimate's level over the stem": voice_ratio_db(heard.voice, heard.stem),
        }
        tops = {clue: float(np.sort(curve)[-TOP_STEPS:].mean()) for clue, curve in curves.items()}
        rows.append({"level_db": clip.level_db, "method": separator.name, **tops})
    return pd.DataFrame(rows)


def say(what: str):
    def progress(stage: str, done: int, total: int, rejected: int) -> None:
        if stage == "clean" and done % 60 == 0:
            print(f"{what}: {done} of {total}", flush=True)

    return progress


def area(positive: pd.Series, negative: pd.Series) -> float:
    """Under the ROC curve: how often a clip with a voice scores higher than one without."""
    found, other = positive.to_numpy()[:, None], negative.to_numpy()[None]
    return float(np.mean((found > other) + 0.5 * (found == other)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--separators", nargs="+", default=["bundled:vocals", "baseline:hpss"])
    parser.add_argument("--split", default="test")
    parser.add_argument("--clips", type=int, default=24, help="of each kind and level")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    loaded: list[Separator] = [load_separator(name) for name in options.separators]
    drawn = clips_of(Corpus.open(options.corpus), options.split, options.clips, options.seed)
    corpus, clips = write_corpus(drawn, options.out / "stems")
    oracle = Oracle({fingerprint(corpus.load(corpus.song(name)[clip.kind])): clip for name, clip in clips.items()})
    jobs = [(separator, DEFAULT) for separator in (*loaded, oracle)]
    jobs += [(loaded[0], witness) for witness in ("voice", "either", "none")]
    table = pd.concat(
        cleaned_by(separator, witness, corpus, clips, options.out / f"{number}")
        for number, (separator, witness) in enumerate(jobs)
    )
    table.to_csv(options.out / "clips.csv", index=False)
    heard = pd.concat(suspicions(separator, corpus, clips, options.out) for separator in (loaded[0], oracle))
    heard.to_csv(options.out / "suspicions.csv", index=False)
    text = report(table, heard)
    (options.out / "cleaning.md").write_text(text)
    print(text)


def report(table: pd.DataFrame, heard: pd.DataFrame) -> str:
    usual = table[table["witness"] == DEFAULT]
    levels = sorted(table["level_db"].dropna().unique(), reverse=True)
    heads = " | ".join(f"{level:g} dB" for level in levels)
    lines = []
    for kind in ("music", "effects"):
        some = usual[(usual["kind"] == kind) & usual["level_db"].notna()]
        lines += [
            f"\nClips of {kind} with voices: SDR of the stem against what it was without, median (and how many dB "
            "less voice there is, over all clips); and of its parts that clips are cut from.\n",
            f"| | {heads} | kept / cleaned / dropped | what clips hold |",
            "|---|" + "---|" * (len(levels) + 2),
        ]
        first = some[some["method"] == some["method"].iloc[0]]
        cells = [f"{first.loc[first['level_db'] == level, 'sdr_before'].median():.1f}" for level in levels]
        lines.append(f"| not cleaned | {' | '.join(cells)} | | {first['sdr_before'].median():.1f} (100 %) |")
        for method, found in some.groupby("method", sort=False):
            cells = []
            for level in levels:
                at = found[found["level_db"] == level]
                cells.append(f"{at['sdr_after'].median():.1f} ({at['reduction_db'].mean():.1f})")
            held = f"{found['sdr_kept'].median():.1f} ({100 * found['kept'].mean():.0f} %)"
            lines.append(f"| {method} | {' | '.join(cells)} | {verdicts(found)} | {held} |")
    lines += [
        "\nClips found to have voices, as many of those with as without. Untouched: the change is below -40 dB.\n",
        f"| | decided by | precision | recall | {heads} | without voices: kept / cleaned / dropped | untouched |",
        "|---|---|" + "---|" * (len(levels) + 4),
    ]
    for (method, witness), found in table.groupby(["method", "witness"], sort=False):
        sung, free = found[found["level_db"].notna()], found[found["level_db"].isna()]
        hits, alarms = sung["verdict"] != "kept", free["verdict"] != "kept"
        precision = hits.mean() / max(1e-9, hits.mean() + alarms.mean())
        cells = [f"{hits[sung['level_db'] == level].mean():.2f}" for level in levels]
        untouched = f"{100 * (free['change_db'] <= -40).mean():.0f} %"
        facts = [method, witness, f"{precision:.2f}", f"{hits.mean():.2f}", *cells, verdicts(free), untouched]
        lines.append(f"| {' | '.join(facts)} |")
    lines += [
        "\nArea under the ROC curve, by what a clip is told from (the mean of its three highest steps).\n",
        f"| | told from | all | {heads} |",
        "|---|---|" + "---|" * (len(levels) + 1),
    ]
    for method, found in heard.groupby("method", sort=False):
        clean, sung = found[found["level_db"].isna()], found[found["level_db"].notna()]
        for clue in heard.columns.drop(["level_db", "method"]):
            cells = [f"{area(sung.loc[sung['level_db'] == level, clue], clean[clue]):.2f}" for level in levels]
            lines.append(f"| {method} | {clue} | {area(sung[clue], clean[clue]):.2f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def verdicts(found: pd.DataFrame) -> str:
    counts = found["verdict"].value_counts()
    return " / ".join(str(counts.get(name, 0)) for name in ("kept", "cleaned", "dropped"))


if __name__ == "__main__":
    main()
