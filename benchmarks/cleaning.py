"""How well voices are found in music and effects, and taken out of them.

    python -m benchmarks.cleaning CORPUS --out FOLDER [--separators bundled:vocals baseline:hpss] [--clips 24]

CORPUS has single sounds (`recipes/bundled/corpora.py` makes one): stems `music` and `effects`, `speech` and
`vocals` in the split `--split`, which nothing was trained with. Out of them clips of 12 s are made: music, or
effects in a row, without any voice, and with one at 0 to -20 dB (over the music while it is heard) for 15 to 60 %
of the time. Each clip is cleaned by every separator and the oracle, the ideal ratio mask of the true voice, as
`stemloom clean` does it: the same hearing, judging and subtracting.

Prints Markdown, and writes it to FOLDER/cleaning.md with FOLDER/clips.csv.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from builders.clean import HeardStem, hear_stem
from builders.recipe import CleanRecipe
from curation.cleaning import CleaningLimits, judge_steps, subtract, voice_ratio_db
from curation.defects import is_voice_stem
from manifests.audio import Audio, read, write
from manifests.corpus import Corpus
from separators.loading import load_separator
from separators.separator import Separator
from separators.streams import Spool
from training.metrics import sdr
from training.oracles import ideal_ratio_mask

RATE = 44_100
CLIP_S = 12.0
LEVELS_DB = (0, -5, -10, -15, -20)
FRACTIONS = (0.15, 0.3, 0.6)
ORACLE = "oracle"
TOP_STEPS = 3
SILENT_RMS = 1e-3


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
        return self.clean + self.voice


@dataclass(frozen=True)
class Oracle:
    """The ideal ratio mask of one clip's voice, as a separator."""

    clip: Clip
    name: str = ORACLE
    sample_rate: int = RATE
    channels: int = 2
    sources: tuple[str, ...] = ("vocals", "accompaniment")

    @property
    def identity(self) -> str:
        return f"{ORACLE} {self.clip.name}"

    def stream(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        mixture = np.concatenate(list(blocks), axis=1)
        yield ideal_ratio_mask(np.stack([self.clip.voice, self.clip.clean]), mixture, RATE)


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


def score(clip: Clip, heard: HeardStem, voice: Audio, recipe: CleanRecipe) -> dict[str, float | str]:
    """What a cleaning makes of a clip, and what it would have gone by."""
    limits = CleaningLimits(voiced=recipe.voiced, faint_db=recipe.faint_db, damaged_db=recipe.damaged_db)
    either = np.maximum(heard.chances["stem"], heard.chances["voice"])
    ratio = voice_ratio_db(heard.voice, heard.stem)
    judged = judge_steps(
        heard.voice,
        heard.stem,
        either,
        step_frames=heard.step_frames,
        num_frames=heard.num_frames,
        limits=limits,
    )
    cleaned, _ = subtract(clip.stem, voice, judged.cleaned, 0, round(recipe.fade_s * RATE))
    error = cleaned - clip.clean
    loudness = float(np.sum(clip.voice.astype(np.float64) ** 2))
    left = float(np.sum(error.astype(np.float64) * clip.voice)) / loudness if loudness else np.nan
    change = float(np.sum((cleaned - clip.stem).astype(np.float64) ** 2))
    whole = float(np.sum(clip.stem.astype(np.float64) ** 2))

    def top(curve: np.ndarray) -> float:
        return float(np.sort(curve)[-TOP_STEPS:].mean())

    return {
        "verdict": judged.verdict,
        "sdr_before": float(sdr(clip.clean[None], clip.stem[None])[0]) if loudness else np.inf,
        "sdr_after": float(sdr(clip.clean[None], cleaned[None])[0]),
        "reduction_db": -20 * np.log10(max(abs(left), 1e-3)) if loudness else np.nan,
        "change_db": 10 * np.log10(max(change / whole, 1e-12)),
        "by stem": top(heard.chances["stem"]),
        "by voice": top(heard.chances["voice"]),
        "by either": top(either),
        "by ratio": top(ratio),
    }


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
    recipe = CleanRecipe(stems=("music", "effects"))
    loaded: list[Separator] = [load_separator(name) for name in options.separators]
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for clip in clips_of(Corpus.open(options.corpus), options.split, options.clips, options.seed):
        path = options.out / "clip.wav"
        write(path, clip.stem, RATE, 24)
        for separator in [*loaded, Oracle(clip)]:
            voices = [number for number, name in enumerate(separator.sources) if is_voice_stem(name)]
            with Spool(options.out) as spool:
                heard = hear_stem(path, separator, voices, spool)
                voice = np.concatenate(list(spool.blocks()), axis=1)
            facts = {"clip": clip.name, "kind": clip.kind, "level_db": clip.level_db, "method": separator.name}
            rows.append(facts | score(clip, heard, voice, recipe))
    path.unlink()
    table = pd.DataFrame(rows)
    table.to_csv(options.out / "clips.csv", index=False)
    text = report(table)
    (options.out / "cleaning.md").write_text(text)
    print(text)


def report(table: pd.DataFrame) -> str:
    lines = []
    sung = table[table["level_db"].notna()]
    free = table[table["level_db"].isna()]
    levels = sorted(sung["level_db"].unique(), reverse=True)
    heads = " | ".join(f"{level:g} dB" for level in levels)
    for kind in ("music", "effects"):
        lines += [
            f"\nClips of {kind} with voices: SDR of the stem against what it was without (median), and how much "
            "less voice there is.\n",
            f"| | {heads} | kept / cleaned / dropped |",
            "|---|" + "---|" * (len(levels) + 1),
        ]
        some = sung[sung["kind"] == kind]
        first = some[some["method"] == some["method"].iloc[0]]
        cells = [f"{first.loc[first['level_db'] == level, 'sdr_before'].median():.1f}" for level in levels]
        lines.append(f"| not cleaned | {' | '.join(cells)} | |")
        for method, found in some.groupby("method", sort=False):
            cells = []
            for level in levels:
                at = found[found["level_db"] == level]
                cells.append(f"{at['sdr_after'].median():.1f} (−{at['reduction_db'].median():.1f})")
            counts = found["verdict"].value_counts()
            shares = " / ".join(str(counts.get(name, 0)) for name in ("kept", "cleaned", "dropped"))
            lines.append(f"| {method} | {' | '.join(cells)} | {shares} |")
    lines += [
        "\nClips found to have voices.\n",
        f"| | precision | recall: all | {heads} | clips without voices left untouched | those changed (largest) |",
        "|---|" + "---|" * (len(levels) + 4),
    ]
    for method, found in sung.groupby("method", sort=False):
        clean = free[free["method"] == method]
        hits, alarms = found["verdict"] != "kept", clean["verdict"] != "kept"
        cells = [f"{hits[found['level_db'] == level].mean():.2f}" for level in levels]
        untouched = int((~alarms).sum())
        worst = f"{clean['change_db'].max():.0f} dB" if alarms.any() else "–"
        lines.append(
            f"| {method} | {hits.sum() / max(1, hits.sum() + alarms.sum()):.2f} | {hits.mean():.2f} "
            f"| {' | '.join(cells)} | {untouched} of {len(clean)} | {worst} |"
        )
    lines += [
        "\nArea under the ROC curve, by what a clip is told from (the mean of its three highest steps).\n",
        f"| | told from | all | {heads} |",
        "|---|---|" + "---|" * (len(levels) + 1),
    ]
    for method, found in sung.groupby("method", sort=False):
        clean = free[free["method"] == method]
        for clue in ("by stem", "by voice", "by either", "by ratio"):
            cells = [f"{area(found.loc[found['level_db'] == level, clue], clean[clue]):.2f}" for level in levels]
            whole = f"{area(found[clue], clean[clue]):.2f}"
            lines.append(f"| {method} | {clue.removeprefix('by ')} | {whole} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
