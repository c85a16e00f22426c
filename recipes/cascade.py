"""A cascade against direct separation of three sources, in miniature.

    python recipes/cascade.py CORPUS --out FOLDER [--steps 400] [--seeds 2] [--mixtures 96]

The question of table 3 of Uhlich et al., "The Sound Demixing Challenge 2023 - Cinematic Demixing Track" (team
ZFTurbo): are music and effects found better in what is left once the dialogue was taken out? The cascade is a small
U-Net for dialogue and one of two nets for music and effects, `--steps` steps each. The second one is trained on
mixtures that the dialogue was taken out of: whole (`remove: {by: oracle}`), or as the first network finds it (`by:
separator`), so that what this misses is heard in training too. Direct separation is a U-Net of three nets, which is
as many weights, once with `--steps` steps, so that every net sees as many mixtures as in the cascade, and once with
twice as many, as the cascade has in all.

CORPUS has stems `speech` (or `dialogue`), `music` and `effects` in splits `train`, `validation` and `test`. What is
measured: SDR on mixtures of 4 s of the test split, each with all three. Prints Markdown, and writes results.md and
results.json into FOLDER. The same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import studies

from augment.render import Mixture
from manifests.audio import Audio
from separators.ensemble import Cascade
from separators.separator import Separator, separate
from training.oracles import ideal_ratio_mask, scaled_identity

THREE = studies.mix(studies.CINEMA)
TWO = studies.mix(
    {
        "dialogue": studies.CINEMA["dialogue"],
        **{name: {**studies.CINEMA[name], "target": "background"} for name in ("music", "effects")},
    }
)
DIRECT = "direct, {} steps"
CASCADE = "cascade, by {}"
BEHIND_TRUTH = "by oracle, behind the true dialogue"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400, help="of each training of the cascade")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--mixtures", type=int, default=96, help="to test with")
    options = parser.parse_args()
    started = time.process_time()
    mixtures = studies.tested(THREE, options.corpus, options.mixtures, 4.0)
    found = [
        methods(options.corpus, options.out / f"seed-{seed}", options.steps, seed) for seed in range(options.seeds)
    ]
    results = {
        name: np.stack([studies.sdr_of_targets(one[name], mixtures) for one in found], axis=1) for name in found[0]
    }
    results[BEHIND_TRUTH][[0, -1]] = np.nan
    for name, oracle in (("the mixture / 3", scaled_identity), ("ideal ratio mask", ideal_ratio_mask)):
        results[name] = studies.sdr_of_targets(
            lambda mixture, oracle=oracle: oracle(mixture.targets, mixture.mixture, studies.RATE), mixtures
        )[:, None]

    pairs = [
        (cascade, direct)
        for cascade in (CASCADE.format("oracle"), CASCADE.format("separator"))
        for direct in (DIRECT.format(options.steps), DIRECT.format(2 * options.steps))
    ]
    pairs.append((CASCADE.format("separator"), CASCADE.format("oracle")))
    studies.write_study(options, started, results, pairs)


def methods(corpus: Path, base: Path, steps: int, seed: int) -> dict[str, studies.Estimate]:
    """Everything trained with a seed."""
    first = studies.trained(
        studies.training(TWO, steps, seed, network={**studies.NETWORK, "residual": "background"}),
        corpus,
        base / "dialogue",
    )

    def dialogue(mixture: Audio, sample_rate: int) -> Audio:
        return separate(first, mixture)[0]

    def second(by: str) -> Separator:
        mixtures = {**THREE, "remove": {"target": "dialogue", "by": by}}
        fields = {"targets": {"residual": []}} if by == "separator" else {}
        return studies.trained(studies.training(mixtures, steps, seed, **fields), corpus, base / by, dialogue)

    def of(separator: Separator) -> studies.Estimate:
        return lambda mixture: separate(separator, mixture.mixture)

    def behind_truth(mixture: Mixture) -> Audio:
        truth = mixture.targets[:1]
        found = separate(seconds["oracle"], mixture.mixture - truth[0])
        return np.concatenate([truth, found])

    seconds = {by: second(by) for by in ("oracle", "separator")}
    direct = {
        DIRECT.format(number): of(
            studies.trained(studies.training(THREE, number, seed), corpus, base / f"direct-{number}")
        )
        for number in (steps, 2 * steps)
    }
    cascades = {CASCADE.format(by): of(Cascade(first, separator, "dialogue")) for by, separator in seconds.items()}
    return {**direct, **cascades, BEHIND_TRUTH: behind_truth}


if __name__ == "__main__":
    main()
