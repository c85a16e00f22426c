"""Train and judge the voice network of `curation/voice.py`.

    python benchmarks/voice.py prepare --data DATA --music CATALOG [CATALOG ...] --out FOLDER
    python benchmarks/voice.py train --out FOLDER [--steps 4000]
    python benchmarks/voice.py judge --out FOLDER

`prepare` collects mono recordings at 16 kHz into FOLDER/voices.npz and FOLDER/others.npz; `train` draws endless
mixtures of them and writes FOLDER/voice.npz, which is copied beside `curation/voice.py`; `judge` prints one table:
how well the network tells steps with a voice from steps without in mixtures of recordings that it was not trained
on, by the level of the voice.

DATA is a folder of recordings with `manifest.csv` (columns path, class, song, licence, has_voice). Used are
public domain, CC0 and CC BY ones: voices are its classes `vocals`, `speech` and, of `multitrack`, files named
`vocals*`; the rest of `multitrack`, `music_instrumental` and effects without voice have none. A CATALOG is a
rendered one: `truth/songs.csv` (song_id, source) and `truth/stems/<song_id>_{instrumental,vocals}.ogg` of songs
whose source starts with `synthetic`.

HELD_OUT names the recordings that training never sees.
"""

# Torch is imported where it is needed: the processes that draw mixtures have no use for it.
import argparse
import csv
import itertools
import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # after the number of threads
import soxr

from curation.voice import FRAMES_PER_STEP, HOP, SAMPLE_RATE, WEIGHTS, log_mel, voice_probability
from manifests.audio import read

HELD_OUT = ("multitrack/eif_rubidium", "multitrack/mdn", "vocals/basic-pitch__vocadito_14", "speech/aeneas__es")
HELD_OUT += ("music_instrumental/data__Kevin_MacLeod_-_Vibe", "catalog0")
FREE = ("CC0", "CC BY 3", "CC BY 4", "public domain")

STEPS = 20
FRAMES = STEPS * FRAMES_PER_STEP * HOP
BATCH = 32
CHANNELS = (1, 16, 32, 48, 64)

# How often a family of recordings is drawn; what is not named here has weight 1.
VOICE_WEIGHTS = {"eif": 4, "vocals": 2, "speech": 2, "catalog": 3}
OTHER_WEIGHTS = {"catalog": 6, "eif": 3, "mdn": 2, "music_instrumental": 3, "effects": 2}


# ---- recordings


def prepare(data: Path, catalogs: list[Path], out: Path) -> None:
    voices, others = {}, {}
    with (data / "manifest.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if not row["licence"].startswith(FREE) or Path(row["path"]).stem == "master":
                continue
            name = row["path"].rsplit(".", 1)[0]
            is_track = row["class"] == "multitrack"
            if row["class"] in ("vocals", "speech") or (is_track and "/vocals" in name):
                voices[name] = mono(data / row["path"])
            elif (
                is_track
                or row["class"] == "music_instrumental"
                or (row["class"] == "effects" and row["has_voice"] == "0")
            ):
                others[name] = mono(data / row["path"])
    for number, catalog in enumerate(catalogs):
        with (catalog / "truth/songs.csv").open(encoding="utf-8", newline="") as file:
            songs = [row for row in csv.DictReader(file) if row["source"].startswith("synthetic")]
        for row in songs:
            stems = catalog / "truth/stems"
            others[f"catalog{number}/{row['song_id']}"] = mono(stems / f"{row['song_id']}_instrumental.ogg")
            if row["vocals"] == "festival":  # the others' voices are those of DATA
                voices[f"catalog{number}/{row['song_id']}"] = mono(stems / f"{row['song_id']}_vocals.ogg")
    out.mkdir(parents=True, exist_ok=True)
    for kind, pool in (("voices", voices), ("others", others)):
        minutes = sum(map(len, pool.values())) / SAMPLE_RATE / 60
        print(f"{kind}: {len(pool)} recordings, {minutes:.0f} minutes")
        np.savez(out / f"{kind}.npz", **{name.replace("/", "|"): audio for name, audio in pool.items()})


def mono(path: Path) -> np.ndarray:
    audio, sample_rate = read(path)
    return soxr.resample(audio.mean(axis=0), sample_rate, SAMPLE_RATE).astype(np.float32)


def pools(folder: Path, held_out: bool) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    found = []
    for kind in ("voices", "others"):
        with np.load(folder / f"{kind}.npz") as arrays:
            names = {name: name.replace("|", "/") for name in arrays.files}
            found.append(
                {name: arrays[key] for key, name in names.items() if name.startswith(HELD_OUT) == held_out}
            )
    return found[0], found[1]


# ---- mixtures


class Draw:
    """Mixtures of random recordings, with the voice's presence at every step."""

    def __init__(self, voices: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> None:
        self.voices, self.others = families(voices, VOICE_WEIGHTS), families(others, OTHER_WEIGHTS)

    def __call__(self, seed: tuple[int, ...], voice_db: float | None = None) -> tuple[np.ndarray, ...]:
        """Audio, labels and label weights of (seed, epoch, index); `voice_db` fixes the voice's level."""
        rng = np.random.default_rng(np.random.SeedSequence(seed))
        audio = np.zeros(FRAMES, np.float32)
        for _ in range(1 + (rng.random() < 0.4)):
            part = filtered(rng, crop(rng, pick(rng, self.others), 2 ** rng.uniform(-0.35, 0.35)))
            audio += part / (rms(part) + 1e-4) * 10 ** (rng.uniform(-10, 0) / 20)
        if rng.random() < 0.05:
            audio += rng.normal(0, 0.1, FRAMES).astype(np.float32)
        labels, weights = np.zeros(STEPS, np.float32), np.ones(STEPS, np.float32)
        if rng.random() >= 0.6:
            return audio, labels, weights
        voice = np.zeros(FRAMES, np.float32)
        for _ in range(1 + (rng.random() < 0.2)):
            part = crop(rng, pick(rng, self.voices), 2 ** rng.uniform(-0.3, 0.3))
            voice += filtered(rng, part) / (rms(part) + 1e-3)
        if rng.random() < 0.3:
            delay = rng.integers(300, 6000)
            voice[delay:] += voice[:-delay] * rng.uniform(0.1, 0.5)
        if rms(voice) < 0.05:
            return audio, labels, weights
        level_db = rng.uniform(-15, 15) if voice_db is None else voice_db
        voice *= max(rms(audio), 1e-3) / rms(voice) * 10 ** (level_db / 20)
        if voice_db is None and rng.random() < 0.12:
            audio *= 0.003
        loud = np.sqrt(np.square(voice.reshape(STEPS, -1)).mean(axis=1))
        around = np.sqrt(np.square(audio.reshape(STEPS, -1)).mean(axis=1))
        below_db = 20 * np.log10(loud / loud.max() + 1e-6)
        ratio_db = 20 * np.log10(loud / (around + 1e-6) + 1e-6)
        labels = ((below_db > -25) & (ratio_db > -18)).astype(np.float32)
        # between heard and not heard nobody knows
        weights[(labels == 0) & (below_db > -45) & (ratio_db > -30)] = 0
        return audio + voice, labels, weights


def families(pool: dict[str, np.ndarray], weights: dict[str, float]) -> list[tuple[float, list[np.ndarray]]]:
    found: dict[str, list[np.ndarray]] = {}
    for name, audio in pool.items():
        first, second = name.split("/")[:2]
        found.setdefault(second[:3] if first == "multitrack" else first.rstrip("0123456789"), []).append(audio)
    total = sum(weights.get(name, 1) for name in found)
    return [(weights.get(name, 1) / total, recordings) for name, recordings in sorted(found.items())]


def pick(rng: np.random.Generator, pool: list[tuple[float, list[np.ndarray]]]) -> np.ndarray:
    recordings = pool[rng.choice(len(pool), p=[share for share, _ in pool])][1]
    return recordings[rng.integers(len(recordings))]


def crop(rng: np.random.Generator, audio: np.ndarray, speed: float) -> np.ndarray:
    """FRAMES of a recording, played at another speed; a short one is repeated, or stands in silence."""
    length = int(FRAMES * speed) + 2
    if len(audio) < length:
        audio = np.pad(audio, (0, length - len(audio))) if rng.random() < 0.5 else np.resize(audio, length)
    start = rng.integers(0, len(audio) - length + 1)
    part = audio[start : start + length]
    return np.interp(np.arange(FRAMES) * speed, np.arange(length), part).astype(np.float32)


def filtered(rng: np.random.Generator, audio: np.ndarray) -> np.ndarray:
    """A random equaliser, and sometimes no treble."""
    spectrum = np.fft.rfft(audio)
    place = np.linspace(0, 1, len(spectrum))
    gains_db = np.interp(np.sqrt(place), np.linspace(0, 1, 6), rng.normal(0, 4, 6))
    if rng.random() < 0.2:
        gains_db -= np.where(place > rng.uniform(0.35, 1), 60, 0)
    return np.fft.irfft(spectrum * 10 ** (gains_db / 20), len(audio)).astype(np.float32)


def rms(audio: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(audio))))


_draw: Draw


def _start_drawing(folder: Path) -> None:
    global _draw
    _draw = Draw(*pools(folder, held_out=False))


def _drawn_batch(epoch: int) -> tuple[np.ndarray, ...]:
    drawn = [_draw((1, epoch, index)) for index in range(BATCH)]
    audio, labels, weights = zip(*drawn, strict=True)
    return np.stack([log_mel(each) for each in audio]), np.stack(labels), np.stack(weights)


# ---- the network


def network() -> Any:
    import torch
    from torch import nn

    class Voice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers: list[nn.Module] = []
            for inside, outside in itertools.pairwise(CHANNELS):
                layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU()]
                layers += [nn.MaxPool2d(2)]
            self.convolutions, self.dropout = nn.Sequential(*layers), nn.Dropout(0.2)
            self.mix, self.time = nn.Conv1d(CHANNELS[-1] * 5, 64, 1), nn.Conv1d(64, 64, 3, padding=1)
            self.out = nn.Conv1d(64, 1, 1)

        def forward(self, bands: torch.Tensor) -> torch.Tensor:
            steps = self.convolutions(bands[:, None]).flatten(1, 2)
            steps = torch.relu(self.time(torch.relu(self.mix(self.dropout(steps)))))
            return self.out(steps)[:, 0]

    return Voice()


def train(folder: Path, steps: int) -> None:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = network()
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {steps} steps of {BATCH} x {STEPS} steps")
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps, pct_start=0.15)
    start, smooth = time.monotonic(), 0.0
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, _start_drawing, (folder,)) as pool:
        for number, batch in enumerate(_ahead(pool, steps), 1):
            bands, labels, weights = map(torch.from_numpy, batch)
            losses = torch.nn.functional.binary_cross_entropy_with_logits(model(bands), labels, reduction="none")
            loss = (losses * weights).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            smooth += (loss.item() - smooth) * max(0.02, 1 / number)
            if number % 100 == 0:
                print(f"{number:5d}  loss {smooth:.4f}  {time.monotonic() - start:.0f} s", flush=True)
            if number % 500 == 0 or number == steps:
                np.savez(folder / "voice.npz", **exported(model.state_dict()))


def _ahead(pool: Any, steps: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Batches, drawn a few ahead of their use."""
    waiting = [pool.apply_async(_drawn_batch, (epoch,)) for epoch in range(min(4, steps))]
    for epoch in range(steps):
        if epoch + 4 < steps:
            waiting.append(pool.apply_async(_drawn_batch, (epoch + 4,)))
        yield waiting.pop(0).get()


def exported(state: dict[str, Any]) -> dict[str, np.ndarray]:
    """The weights as `curation.voice` reads them: batch normalisation folded into the convolutions, 16 bits."""
    arrays = {}
    for number in range(4):
        kernel, bias = (state[f"convolutions.{4 * number}.{part}"].numpy() for part in ("weight", "bias"))
        norm = {
            part: state[f"convolutions.{4 * number + 1}.{part}"].numpy()
            for part in ("weight", "bias", "running_mean", "running_var")
        }
        scale = norm["weight"] / np.sqrt(norm["running_var"] + 1e-5)
        arrays[f"conv{number}"] = kernel * scale[:, None, None, None]
        arrays[f"bias{number}"] = (bias - norm["running_mean"]) * scale + norm["bias"]
    for name in ("mix", "time", "out"):
        arrays[name], arrays[f"{name}_bias"] = (state[f"{name}.{part}"].numpy() for part in ("weight", "bias"))
    return {name: array.astype(np.float16) for name, array in arrays.items()}


# ---- what it is worth


def judge(folder: Path) -> None:
    draw = Draw(*pools(folder, held_out=True))
    print(f"weights: {WEIGHTS.stat().st_size / 1000:.0f} kB")
    print("| voice over music, dB | steps | area under the curve | right at 0.5 |\n|--:|--:|--:|--:|")
    for level_db in (10.0, 0.0, -5.0, -10.0, -15.0):
        found, truth = [], []
        for index in range(150):
            audio, labels, weights = draw((2, 0, index), level_db)
            known = weights > 0
            found.append(voice_probability(audio[np.newaxis], SAMPLE_RATE)[known])
            truth.append(labels[known])
        scores, labels = np.concatenate(found), np.concatenate(truth)
        right = ((scores > 0.5) == (labels > 0)).mean()
        print(f"| {level_db:+.0f} | {len(labels)} | {area_under_curve(scores, labels):.3f} | {right:.3f} |")


def area_under_curve(scores: np.ndarray, labels: np.ndarray) -> float:
    """Of the receiver operating characteristic: how often a step with a voice is above one without."""
    ranks = np.argsort(np.argsort(scores)) + 1.0
    positive = float(labels.sum())
    total = float(ranks[labels > 0].sum()) - positive * (positive + 1) / 2
    return total / (positive * (len(labels) - positive))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["prepare", "train", "judge"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--music", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    arguments = parser.parse_args()
    if arguments.task == "prepare":
        prepare(arguments.data, arguments.music, arguments.out)
    elif arguments.task == "train":
        train(arguments.out, arguments.steps)
    else:
        judge(arguments.out)


if __name__ == "__main__":
    main()
