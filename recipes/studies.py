"""What the studies in miniature share: a small network, how it is trained, what it is tested on, how tables look.

Everything is mono at 16 kHz, so that a few hundred steps of eight mixtures take minutes on one core. A corpus that
was packed so (`stemloom pack CORPUS --sample-rate 16000 --channels 1`) is read fastest.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from augment.mixer import Mixer
from augment.pool import make_pool
from augment.reading import PoolReader
from augment.recipe import MixRecipe
from augment.render import Mixture, Separate
from builders.pack import PackBuilder
from builders.recipe import PackRecipe
from manifests.audio import Audio
from manifests.corpus import Corpus, open_corpora
from manifests.files import replacing
from manifests.paths import LINKS
from manifests.tables import write_table
from separators.overlap_add import NetworkSeparator
from separators.weights import load_network
from training.batches import open_packed
from training.loop import train
from training.metrics import sdr
from training.recipe import TrainRecipe, load_training

RATE = 16_000
SEGMENT_S = 95 * 512 / RATE
TEST_SEED = 2**31 + 1
NETWORK = {
    "name": "unet",
    "window_frames": 1024,
    "hop_frames": 512,
    "bins": 512,
    "bands": 64,
    "columns": 96,
    "filters": [8, 16, 32, 64],
    "head": "direct",
    "mask_exponent": 1.0,
    "extension": "average",
}

CINEMA = {
    "dialogue": {"stems": ["speech", "dialogue"], "lufs": [-28, -20], "loop": True},
    "music": {"stems": ["music", "music_instrumental", "instrumental"], "lufs": [-36, -22], "loop": True},
    "effects": {"stems": "effects", "count": [1, 3], "lufs": [-34, -20], "place": "scatter"},
}

Estimate = Callable[[Mixture], Audio]
Floats = npt.NDArray[np.float64]


def mix(sources: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """A mixing recipe of the studies' rate and length."""
    return {"sample_rate": RATE, "channels": 1, "length_s": SEGMENT_S, "sources": dict(sources), **fields}


def training(mixtures: Mapping[str, Any], steps: int, seed: int, **fields: Any) -> TrainRecipe:
    """A training recipe: the network, SNR, Adam with a cosine, four validations."""
    values = {
        "network": NETWORK,
        "mix": dict(mixtures),
        "loss": {"terms": {"name": "snr"}},
        "optimizer": {"learning_rate": 1e-3},
        "schedule": {"name": "cosine", "warmup_steps": min(50, steps // 4)},
        "clip_norm": 5.0,
        "batch_size": 8,
        "steps_per_epoch": max(1, steps // 4),
        "epochs": 4,
        "validation": {"num": 32, "final_num": 32},
        "seed": seed,
    }
    return load_training({**values, **fields})


def trained(
    recipe: TrainRecipe, corpora: Sequence[Path] | Path, run: Path, separate: Separate | None = None
) -> NetworkSeparator:
    """Train, go on with a training that was stopped, or take what is there."""
    started = time.process_time()
    folders = [corpora] if isinstance(corpora, Path) else list(corpora)
    done = train(recipe, folders, run, device="cpu", separate=separate)
    if not done.finished:
        raise SystemExit(f"{run}: stopped at step {done.step}; the same command goes on")
    print(f"{run}: {done.step} steps, {time.process_time() - started:.0f} s, {done.validation}", file=sys.stderr)
    return NetworkSeparator(network=load_network(run / "best.safetensors"), name=run.name)


def tested(mixtures: Mapping[str, Any], corpus: Path, num: int, length_s: float) -> list[Mixture]:
    """Mixtures of the test split: always the same."""
    recipe = MixRecipe.model_validate({**mixtures, "length_s": length_s}).of_split("test")
    pool = make_pool(recipe, open_corpora([corpus], open_packed))
    mixer = Mixer(recipe, pool, TEST_SEED, PoolReader(pool))
    return [mixer.mix(0, number) for number in range(num)]


def sdr_of_targets(estimate: Estimate, mixtures: Sequence[Mixture]) -> Floats:
    """SDR of each target and their mean [shape=(targets + 1, mixtures)]."""
    found = np.array([sdr(mixture.targets, estimate(mixture)) for mixture in mixtures])
    return np.concatenate([found, found.mean(axis=1, keepdims=True)], axis=1).T


def thinned(corpus: Path, share: int, stems: Sequence[str], folder: Path) -> Path:
    """A corpus with one in `share` of the recordings that are trained with, and all that validate."""
    if share == 1:
        return corpus
    table = Corpus.open(corpus).stems
    table = table[table["stem"].isin(stems)].sort_values(["stem", "song_id"])
    rank = table.groupby(["stem", "split"]).cumcount()
    kept = table[((table["split"] == "train") & (rank % share == 0)) | (table["split"] == "validation")]
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[LINKS] = str(corpus.resolve())
    for entry in corpus.iterdir():
        link = folder / entry.name
        if entry.name != "packed" and not entry.name.startswith("stems.") and not link.is_symlink():
            link.symlink_to(entry.resolve())
    write_table(folder, "stems", kept.reset_index(drop=True))
    return packed(folder)


def packed(folder: Path) -> Path:
    """A corpus, with samples beside it as the studies read them."""
    PackBuilder(PackRecipe(sample_rate=RATE, channels=1, sample_format="float32"), jobs=0).build(folder)
    return folder


def mean_and_error(values: Floats) -> tuple[float, float]:
    """Mean over mixtures, and its standard error; of values [shape=(seeds, mixtures)] those of the seeds' means."""
    means = np.atleast_2d(values).mean(axis=0)
    return float(means.mean()), float(means.std(ddof=1) / math.sqrt(len(means)))


def shown(values: Floats) -> str:
    mean, error = mean_and_error(values)
    return "" if math.isnan(mean) else f"{mean:.2f} ± {error:.2f}"


def difference(values: Floats, others: Floats) -> str:
    """A paired difference, and that of each seed alone."""
    each = ", ".join(f"{value:+.2f}" for value in np.mean(values - others, axis=1))
    mean, error = mean_and_error(values - others)
    return f"{mean:+.2f} ± {error:.2f} ({each})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of Markdown."""
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]


def listed(results: Mapping[str, Floats]) -> dict[str, Any]:
    """JSON of scores [shape=(scores, seeds, mixtures)]; null where there is none."""
    return {name: np.where(np.isfinite(values), values.round(4), None).tolist() for name, values in results.items()}


def write_study(
    options: argparse.Namespace,
    started: float,
    results: Mapping[str, Floats],
    pairs: Sequence[tuple[str, str]],
    more: Sequence[str] = (),
) -> None:
    """SDR of each target by method, and differences of methods, as a page and as JSON.

    Parameters
    ----------
    options : argparse.Namespace
        With out, mixtures, seeds, steps.
    started : float
        Of `time.process_time`.
    results : mapping of str to np.ndarray [shape=(targets + 1, seeds, mixtures)]
        By method.
    pairs : sequence of (method, method)
        Of which the second is subtracted from the first.
    more : sequence of str
        Lines that follow.
    """
    header = ["", *CINEMA, "mean"]
    rows = [[name, *(shown(score) for score in values)] for name, values in results.items()]
    differences = [[f"{one} less {other}", *map(difference, results[one], results[other])] for one, other in pairs]
    lines = [
        f"{options.mixtures} mixtures, {options.seeds} seeds, {options.steps} steps; SDR, dB: means over both, ± "
        "the standard error over mixtures.",
        "",
        *table(header, rows),
        "",
        "Paired differences, dB; in brackets those of each seed.",
        "",
        *table(header, differences),
        *more,
    ]
    write_results(options, started, lines, header[1:], results)


def write_results(
    options: argparse.Namespace,
    started: float,
    lines: Sequence[str],
    scores: Sequence[str],
    results: Mapping[str, Floats],
) -> None:
    """A page, and the scores as JSON; the arguments are those of `write_study`."""
    values = {
        "settings": {name: str(value) for name, value in vars(options).items()},
        "cpu_s_of_this_call": time.process_time() - started,
        "scores": scores,
        "results": listed(results),
    }
    text = "\n".join(lines) + "\n"
    for name, content in (("results.md", text), ("results.json", json.dumps(values, indent=1) + "\n")):
        with replacing(options.out / name) as file:
            file.write(content.encode())
    print(text)
