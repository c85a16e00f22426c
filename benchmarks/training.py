"""How fast the training loop is, beside a plain loop over batches that were rendered beforehand: the limit.

    python -m benchmarks.training DATA --out FOLDER [--steps 40] [--rounds 3] [--device cpu]

DATA is a folder of loose audio with a folder for each class (speech, vocals, music_instrumental, effects), as for
`benchmarks/mixing.py`. Both loops train the same network with the same loss, optimizer, clipping and average on the
same mixtures; the plain one has them in memory already. They run in turns, and what is reported are ratios of
medians over steps, the first few left out. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel

from benchmarks.mixing import prepared
from builders.pack import PackBuilder
from manifests.corpus import open_corpora
from manifests.packed import PACKED
from training.batches import Mixtures, open_packed
from training.loop import Tick, train
from training.making import averaging, make_network, make_optimizer
from training.objective import Objective
from training.recipe import TrainRecipe, load_training

LEFT_OUT = 5
SMALL_UNET = {
    "name": "unet",
    "window_frames": 2048,
    "hop_frames": 1024,
    "bins": 1024,
    "bands": 128,
    "columns": 128,
    "filters": [8, 16, 32, 64],
    "head": "direct",
    "mask_exponent": 1.0,
    "extension": "average",
}
NETWORKS = {
    "U-Net, 128 bands": SMALL_UNET,
    "Open-Unmix, hidden 128": {"name": "open-unmix", "hidden": 128, "wiener_iterations": 0},
    "Conv-TasNet, a quarter": {
        "name": "conv-tasnet",
        "filters": 64,
        "bottleneck": 64,
        "hidden": 128,
        "dilations": 6,
        "repeats": 2,
        "filter_frames": 80,
    },
}


def recipe_of(network: dict[str, object], steps: int) -> TrainRecipe:
    terms = "magnitude_mse" if network["name"] == "open-unmix" else "l1"
    return load_training(
        {
            "network": network,
            "mix": "jusperlee2023",
            "split": None,
            "loss": terms,
            "batch_size": 4,
            "steps_per_epoch": steps,
            "epochs": 1,
            "clip_norm": 5.0,
            "average": 0.99,
            "log_every": LEFT_OUT,
            "validation": {"num": 1, "final_num": 1, "split": None},
        }
    )


def ours(recipe: TrainRecipe, corpus: Path, out: Path, device: str, workers: int) -> tuple[float, float]:
    """Seconds of a step, and the share of them spent waiting for mixtures."""
    shutil.rmtree(out, ignore_errors=True)
    stamps, waits = [], []

    def note(tick: Tick) -> None:
        stamps.append(time.perf_counter())
        waits.append(tick.data_wait)

    train(recipe, [corpus], out, device=device, workers=workers, progress=note)
    # the last step validates
    steps = [after - before for before, after in zip(stamps[LEFT_OUT:-2], stamps[LEFT_OUT + 1 : -1], strict=True)]
    return statistics.median(steps), waits[-2]


def plain(recipe: TrainRecipe, corpus: Path, device: str) -> float:
    """Seconds of a step of the shortest loop that does as much, over batches in memory."""
    mixtures = Mixtures.of_training(recipe, open_corpora([corpus], open_packed))
    batches = [tuple(part.to(device) for part in batch) for batch in mixtures.batches(recipe.batch_size, stop=8)]
    torch.manual_seed(0)
    network = make_network(recipe)
    network.prepare(batch[0] for batch in batches)
    objective = Objective(network, recipe.loss, recipe.mix.outputs).to(device).train()
    optimizer = make_optimizer(objective, recipe)
    average = AveragedModel(objective, avg_fn=averaging(recipe.average or 0.0), use_buffers=True)
    steps = []
    for step in range(recipe.epoch_steps() - 1):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        losses, _ = objective(*batches[step % len(batches)])
        loss = losses.mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), recipe.clip_norm or 1.0)
        optimizer.step()
        average.update_parameters(objective)
        loss.item()
        steps.append(time.perf_counter() - start)
    return statistics.median(steps[LEFT_OUT:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    files = prepared(options.data, options.out, "flac").folder
    packed = prepared(options.data, options.out, "wav").folder
    if not (packed / PACKED).is_dir():
        PackBuilder().build(packed)
    corpora = {"FLAC": files, "the store": packed}
    device = torch.device(options.device)
    if device.type == "cuda":
        print(f"device: {torch.cuda.get_device_name(device)}")
    print("| network | parameters | mixtures from | workers | step, plain loop = 1 | waits for mixtures |")
    print("|---|---|---|---|---|---|")
    for name in options.networks:
        network = NETWORKS[name]
        recipe = recipe_of(network, options.steps)
        size = sum(parameter.numel() for parameter in make_network(recipe).parameters())
        contestants = [(kind, folder, workers) for kind, folder in corpora.items() for workers in (0, 1)]
        found: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for _ in range(options.rounds):
            for kind, folder, workers in contestants:
                before = plain(recipe, packed, options.device)
                step, wait = ours(recipe, folder, options.out / "run", options.device, workers)
                after = plain(recipe, packed, options.device)
                found.setdefault((kind, workers), []).append((2 * step / (before + after), wait))
        for (kind, workers), values in found.items():
            ratios, waits = zip(*values, strict=True)
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            wait = statistics.median(waits)
            print(f"| {name} | {size / 1e6:.2f} M | {kind} | {workers} | {spread} | {wait:.1%} |", flush=True)


if __name__ == "__main__":
    main()
