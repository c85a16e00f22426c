"""What cleaning stems of voices is worth, in miniature.

    python recipes/cleaning.py CORPUS --out FOLDER [--separator bundled:vocals] [--steps 600] [--seeds 3]

The winners of the cinematic track of SDX'23 (Uhlich et al., TISMIR 2024) took the voices out of their music and
effects before they trained, and say that it helped a lot. Here a small U-Net learns to separate dialogue, music and
effects from five versions of the same recordings:

    clean           as they are
    contaminated    voices in each, for 0 to 60 % of its time (`--share-of-time`), 0 to 20 dB below what they lie
                    over (`--levels`)
    cleaned         by `stemloom clean`, all of it
    cut             the same, but where a voice is heard nothing is trained with
    both            cleaned, and only what is damaged is left out: what `stemloom clean` gives

with the same dialogue, and is tested on clean mixtures of recordings that it has not heard. The voices that
contaminate are of the split `validation`: neither the network nor the bundled separator was trained with them.

CORPUS has stems `speech`, `vocals`, `music` and `effects` in splits `train`, `validation` and `test`. Prints
Markdown, and writes results.md and results.json into FOLDER. The same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import studies

from augment.render import Mixture
from builders.clean import CleanBuilder
from builders.recipe import CleanRecipe
from manifests.audio import Audio, read, write
from manifests.corpus import CORPUS_ROOT, Corpus
from manifests.paths import LINKS
from manifests.tables import frame_of, write_table
from separators.loading import load_separator
from separators.separator import separate
from training.oracles import ideal_ratio_mask, scaled_identity

STEMS = ("music", "effects")
VOICES = ("speech", "vocals")
CONDITIONS = ("clean", "contaminated", "cleaned", "cut", "both")
LIMITS = {
    "cleaned": {"max_dropped": 1.0},
    # what is heard at all is left out, and nothing is dropped for it
    "cut": {"faint_db": -60.0, "damaged_db": -59.9, "max_dropped": 1.0},
    "both": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--separator", default="bundled:vocals")
    parser.add_argument("--share", type=int, default=5, help="one in so many recordings of music to train with")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--mixtures", type=int, default=96, help="to test with")
    parser.add_argument("--share-of-time", type=float, nargs=2, default=(0.0, 0.6), help="with voices, from and to")
    parser.add_argument("--levels", type=float, nargs=2, default=(-20.0, 0.0), help="of voices, dB, from and to")
    parser.add_argument("--conditions", nargs="+", default=CONDITIONS, choices=CONDITIONS)
    options = parser.parse_args()
    started = time.process_time()
    corpora = versions(options)
    cinema = studies.mix(studies.CINEMA)
    mixtures = studies.tested(cinema, options.corpus, options.mixtures, 4.0)
    results = {
        name: np.stack(
            [
                learnt(corpora[name], options.out / f"seed-{seed}" / name, options.steps, seed, mixtures)
                for seed in range(options.seeds)
            ],
            axis=1,
        )
        for name in options.conditions
    }
    for name, oracle in (("the mixture / 3", scaled_identity), ("ideal ratio mask", ideal_ratio_mask)):
        results[name] = studies.sdr_of_targets(
            lambda mixture, oracle=oracle: oracle(mixture.targets, mixture.mixture, studies.RATE), mixtures
        )[:, None]
    pairs = [(name, "contaminated") for name in options.conditions if name != "contaminated"]
    studies.write_study(options, started, results, pairs, ["", *described(options)])


def learnt(corpora: list[Path], run: Path, steps: int, seed: int, mixtures: list[Mixture]) -> np.ndarray:
    separator = studies.trained(studies.training(studies.mix(studies.CINEMA), steps, seed), corpora, run)
    return studies.sdr_of_targets(lambda mixture: separate(separator, mixture.mixture), mixtures)


def versions(options: argparse.Namespace) -> dict[str, list[Path]]:
    """The corpora of each condition: its music and effects, and what all have in common."""
    corpus, out = options.corpus, options.out
    table = Corpus.open(corpus).stems
    is_trained = (table["split"] == "train") & table["stem"].isin(STEMS)
    rank = table.sort_values("song_id").groupby(["stem", "split"]).cumcount().reindex(table.index)
    is_chosen = is_trained & ((table["stem"] != "music") | (rank % options.share == 0))
    shared, clean = out / "shared", out / "clean"
    os.environ[LINKS] = str(corpus.resolve())
    for folder, rows in ((shared, ~is_trained & ~table["stem"].eq("vocals")), (clean, is_chosen)):
        if not (folder / "packed").is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            audio = folder / "audio"
            if not audio.is_symlink():
                audio.symlink_to((corpus / "audio").resolve())
            write_table(folder, "stems", table[rows].reset_index(drop=True))
            studies.packed(folder)
    contaminated = out / "contaminated"
    if not (contaminated / "packed").is_dir():
        contaminate(Corpus.open(corpus), table[is_chosen].to_dict("records"), contaminated, options)
        studies.packed(contaminated)
    loaded = load_separator(options.separator)
    for name in options.conditions:
        if name in LIMITS and not (out / name / "packed").is_dir():
            recipe = CleanRecipe(stems=STEMS, **LIMITS[name])
            CleanBuilder(out / name, loaded, recipe, progress=say(name)).build(contaminated)
            if name == "cleaned":  # all of each file
                for path in (out / name).glob("clips.*"):
                    path.unlink()
            studies.packed(out / name)
    return {name: [out / name, shared] for name in options.conditions}


def contaminate(corpus: Corpus, rows: list[dict], out: Path, options: argparse.Namespace) -> None:
    """Recordings with voices in them, and what was added to each in the tags."""
    voices = spoken(corpus, np.random.default_rng(0))
    for number, row in enumerate(rows):
        rng = np.random.default_rng((1, number))
        audio, rate = read(corpus.path_of(row))
        share, level_db = rng.uniform(*options.share_of_time), rng.uniform(*options.levels)
        added = np.zeros_like(audio)
        position = 0
        while position < audio.shape[1]:
            voice = next(voices)[:, : audio.shape[1] - position]
            voice = voice if len(audio) == 2 else voice.mean(axis=0, keepdims=True)
            # pauses are as long, in the mean, as the share asks for
            pause = round(rng.exponential(voice.shape[1] * (1 - share) / max(share, 0.01)))
            start = position + pause // 2
            part = audio[:, start : start + voice.shape[1]]
            if part.shape[1]:
                gain = rms(part) / rms(voice) * 10 ** (level_db / 20)
                added[:, start : start + part.shape[1]] = gain * voice[:, : part.shape[1]]
            position += voice.shape[1] + pause
        mixed = audio + added
        path = f"audio/{row['song_id']}/{row['stem']}.flac"
        scale = np.float32(1 / max(1.0, float(np.abs(mixed).max())))
        write(out / path, mixed * scale, rate, 24)
        row |= {
            "root": CORPUS_ROOT,
            "path": path,
            "content_id": None,
            "tags": f"voice {level_db:.1f} dB {100 * np.any(added, axis=0).mean():.0f} %",
        }
    write_table(out, "stems", frame_of("stems", rows))


def spoken(corpus: Corpus, rng: np.random.Generator) -> Iterator[Audio]:
    """Parts of voices of 2 to 6 s, stereo, endless."""
    table = corpus.stems
    rows = table[(table["split"] == "validation") & table["stem"].isin(VOICES)].to_dict("records")
    while True:
        row = rows[rng.integers(len(rows))]
        length = round(rng.uniform(2, 6) * row["sample_rate"])
        start = int(rng.integers(max(1, row["num_frames"] - length + 1)))
        audio, _ = read(corpus.path_of(row), start, min(length, row["num_frames"] - start))
        if rms(audio) > 1e-3:
            yield np.repeat(audio, 2, axis=0) if len(audio) == 1 else audio


def rms(audio: Audio) -> float:
    return max(1e-6, float(np.sqrt(np.mean(audio**2, dtype=np.float64))))


def described(options: argparse.Namespace) -> list[str]:
    """What the cleanings did."""
    out, rows = options.out, []
    for name in options.conditions:
        if name not in LIMITS:
            continue
        corpus = Corpus.open(out / name)
        assert corpus.cleaned is not None
        counts = corpus.cleaned["verdict"].value_counts()
        lengths = (corpus.stems if corpus.clips is None else corpus.clips)["num_frames"].sum()
        whole = Corpus.open(out / "contaminated").stems["num_frames"].sum()
        verdicts = " / ".join(str(counts.get(verdict, 0)) for verdict in ("kept", "cleaned", "dropped"))
        rows.append([name, verdicts, f"{100 * lengths / whole:.0f} %"])
    return studies.table(["", "stems kept / cleaned / dropped", "what is left to train with"], rows)


def say(name: str):
    def progress(stage: str, done: int, total: int, rejected: int) -> None:
        if done % 50 == 0:
            print(f"{name}: {stage} {done} of {total}", file=sys.stderr, flush=True)

    return progress


if __name__ == "__main__":
    main()
