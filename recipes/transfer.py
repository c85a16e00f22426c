"""Transfer learning for dialogue separation, in miniature.

    python recipes/transfer.py CORPUS --out FOLDER [--steps 400] [--seeds 3] [--shares 1,8] [--mixtures 96]

The question of Strauss et al., "A Hands-On Comparison of DNNs for Dialog Separation Using Transfer Learning from
Music Source Separation", Interspeech 2021: does a network that knows singing learn dialogue better than one that
knows nothing? A small U-Net learns to take vocals out of music in twice `--steps` steps; then it learns to take
speech out of music and effects in `--steps` steps, beside the same network that starts from scratch, on the same
mixtures in the same order. One more starts from scratch and has as many steps as both together. `--shares` are the
parts of the recordings that dialogue is learnt from: 8 is every eighth one, of speech, music and effects alike.

CORPUS has stems `speech` (or `dialogue`), `vocals`, `music` and `effects` in splits `train`, `validation` and
`test`. What is measured: mixtures of 4 s of the test split, which no network has heard anything of. Prints
Markdown, and writes results.md and results.json into FOLDER. The same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import studies

from augment.render import Mixture
from manifests.audio import Audio
from separators.separator import separate
from training.metrics import measure
from training.oracles import ideal_ratio_mask

MUSIC = {"stems": ["music", "music_instrumental", "instrumental"], "lufs": [-34, -20]}
SPEECH = ["speech", "dialogue"]
SINGING = studies.mix(
    {
        "vocals": {"stems": "vocals", "lufs": [-28, -20], "loop": True},
        "music": {**MUSIC, "target": "accompaniment", "count": [1, 2]},
    }
)
DIALOGUE = studies.mix(
    {
        "dialogue": {"stems": SPEECH, "lufs": [-28, -20], "loop": True},
        "music": {**MUSIC, "target": "background", "count": [0, 1]},
        "effects": {
            "stems": "effects",
            "target": "background",
            "count": [0, 3],
            "lufs": [-34, -20],
            "place": "scatter",
        },
    },
    min_sources=2,
)
SCORES = ("si_sdr_db", "si_sir_db", "sdr_db")
UNPROCESSED, ORACLE, SINGER, LONGER = (
    "the mixture",
    "ideal ratio mask",
    "before fine-tuning",
    "from scratch, {} steps",
)
QUIET_DB, LOUD_DB = 0, 6
METHODS = ("from scratch", "fine-tuned")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400, help="on dialogue; on singing twice as many")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shares", default="1,8", help="one in so many recordings to learn dialogue from")
    parser.add_argument("--mixtures", type=int, default=96, help="to test with")
    options = parser.parse_args()
    started = time.process_time()
    stems = [*SPEECH, *MUSIC["stems"], "effects"]
    corpora = {
        share: studies.thinned(options.corpus, share, stems, options.out / f"part-{share}")
        for share in map(int, options.shares.split(","))
    }
    mixtures = studies.tested(DIALOGUE, options.corpus, options.mixtures, 4.0)

    results = {UNPROCESSED: scores([np.stack([mixture.mixture] * 2) for mixture in mixtures], mixtures)[:, None]}
    each = [
        learnt(options.corpus, corpora, options.out / f"seed-{seed}", options.steps, seed, mixtures)
        for seed in range(options.seeds)
    ]
    results |= {name: np.stack([one[name] for one in each], axis=1) for name in each[0]}
    masked = [ideal_ratio_mask(mixture.targets, mixture.mixture, studies.RATE) for mixture in mixtures]
    results[ORACLE] = scores(masked, mixtures)[:, None]

    before = results[UNPROCESSED]
    rows = [
        [name, *map(studies.shown, (values[0], values[0] - before[0], *values[1:]))]
        for name, values in results.items()
    ]
    pairs = [(of(METHODS[1], share), of(METHODS[0], share)) for share in corpora]
    pairs += [(of(METHODS[1], share), SINGER) for share in corpora]
    if 1 in corpora:
        pairs.append((of(METHODS[1], 1), LONGER.format(3 * options.steps)))
    level = before[0, 0]
    parts = {
        f"below {QUIET_DB} dB": level < QUIET_DB,
        f"{QUIET_DB} to {LOUD_DB} dB": (level >= QUIET_DB) & (level < LOUD_DB),
        f"{LOUD_DB} dB and above": level >= LOUD_DB,
    }
    by_level = [
        [name, *(studies.shown((values[0] - before[0])[:, part]) for part in parts.values())]
        for name, values in results.items()
        if name != UNPROCESSED
    ]
    differences = [
        [f"{one} less {other}", *map(studies.difference, results[one][:2], results[other][:2])]
        for one, other in pairs
    ]
    lines = [
        f"{options.mixtures} mixtures, {options.seeds} seeds; {2 * options.steps} steps on singing, "
        f"{options.steps} on dialogue. Dialogue, dB: means over both, ± the standard error over mixtures.",
        "",
        *studies.table(["", "SI-SDR", "improvement", "SI-SIR", "SDR"], rows),
        "",
        "Improvement of SI-SDR by that of the mixture, dB.",
        "",
        *studies.table(["", *(f"{name} ({part.sum()})" for name, part in parts.items())], by_level),
        "",
        "Paired differences, dB; in brackets those of each seed.",
        "",
        *studies.table(["", "SI-SDR", "SI-SIR"], differences),
    ]
    studies.write_results(options, started, lines, SCORES, results)


def of(method: str, share: int) -> str:
    return f"{method}, {'all recordings' if share == 1 else f'1/{share} of them'}"


def learnt(
    whole: Path, corpora: Mapping[int, Path], base: Path, steps: int, seed: int, mixtures: list[Mixture]
) -> dict[str, np.ndarray]:
    """Scores of everything trained with a seed."""

    def trained(
        mix: dict[str, Any], number: int, residual: str, corpus: Path, run: str, **fields: Any
    ) -> np.ndarray:
        network = {**studies.NETWORK, "residual": residual}
        recipe = studies.training(mix, number, seed, network=network, **fields)
        separator = studies.trained(recipe, corpus, base / run)
        return scores([separate(separator, mixture.mixture) for mixture in mixtures], mixtures)

    found = {SINGER: trained(SINGING, 2 * steps, "accompaniment", whole, "singing")}
    starts = ({}, {"start_from": str(base / "singing" / "best.safetensors")})
    for share, corpus in corpora.items():
        for method, start in zip(METHODS, starts, strict=True):
            run = f"{method.replace(' ', '-')}-{share}"
            found[of(method, share)] = trained(DIALOGUE, steps, "background", corpus, run, **start)
    found[LONGER.format(3 * steps)] = trained(DIALOGUE, 3 * steps, "background", whole, "from-scratch-longer")
    return found


def scores(estimates: Sequence[Audio], mixtures: Sequence[Mixture]) -> np.ndarray:
    """Of dialogue [shape=(scores, mixtures)]."""
    pairs = zip(mixtures, estimates, strict=True)
    measured = [measure(mixture.targets, found) for mixture, found in pairs]
    return np.array([[values[score][0] for values in measured] for score in SCORES])


if __name__ == "__main__":
    main()
