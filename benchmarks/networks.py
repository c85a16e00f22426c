"""Whether every network learns: small ones of each kind, a few dozen steps of `training.train` each.

    OMP_NUM_THREADS=1 python benchmarks/networks.py CORPUS --out FOLDER [--steps 60] [--only NAME ...]

CORPUS has songs with the stems `vocals` and `instrumental`, such as the demo corpus (docs/catalog.md); its splits
are not looked at, since nothing is judged but the loss on what is trained with. Mixtures are seconds of songs at
16 kHz, stereo, in mono for TDCN. The loss is that of the network's own paper where it has one, at a rate for few
steps; first and last are means over a tenth of the steps. Published sizes are counted without memory for them.
Networks that need a package that is missing are left out, which is said.

Prints one Markdown table and writes it to FOLDER/networks.md. Fails if a loss does not fall.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the packages live at the root, installed or not

import numpy as np  # noqa: E402
import torch  # noqa: E402

from separators.bs_roformer import BSRoformer, BSRoformerConfig  # noqa: E402
from separators.bsrnn import BSRNN, BSRNNConfig  # noqa: E402
from separators.conv_tasnet import ConvTasNet  # noqa: E402
from separators.dnn_ds import DNNDS  # noqa: E402
from separators.ht_demucs import HTDemucs  # noqa: E402
from separators.mrx import MRX, MRXC  # noqa: E402
from separators.network import Network  # noqa: E402
from separators.open_unmix import OpenUnmix  # noqa: E402
from separators.tdcn import TDCN, TDCNConfig  # noqa: E402
from separators.unet import UNet, singing_voice_config, spleeter_config  # noqa: E402
from separators.weights import load_network  # noqa: E402
from training.loop import train  # noqa: E402
from training.recipe import load_training  # noqa: E402

RATE = 16_000
SPECTRA = {"window_frames": 512, "hop_frames": 128}
UNET = {"window_frames": 1024, "hop_frames": 256, "bins": 256, "columns": 64, "mask_exponent": 1.0}
CONVOLUTIONS = {"bottleneck": 32, "hidden": 64, "dilations": 5, "repeats": 2}
MRX_SIZES = {"windows_frames": [256, 512, 1024], "hop_frames": 128, "hidden": 64, "layers": 1, "dropout": 0.0}
CONDITIONED = {"iterations": 2, "conditioning": "all", "sigmoid": "trained", "tuning": "guided", "classes": 20}
DEMUCS = {"features": 16, "depth": 3, "window_frames": 1024, "bottleneck": 64, "transformer_layers": 2}

# name, published network, small network, loss, package that it needs
NETWORKS: list[tuple[str, Callable[[], Network], dict[str, Any], Any, str | None]] = [
    (
        "U-Net of the singing-voice study",
        lambda: UNet(singing_voice_config()),
        {"name": "unet", **UNET, "filters": [8, 16, 32], "head": "direct", "extension": "average"},
        "magnitude_l1",
        None,
    ),
    (
        "Spleeter's U-Net",
        lambda: UNet(spleeter_config()),
        {"name": "unet", **UNET, "filters": [8, 16, 32, 32], "head": "dilated", "extension": "zeros"},
        "magnitude_l1",
        None,
    ),
    (
        "Open-Unmix",
        OpenUnmix,
        {
            "name": "open-unmix",
            **SPECTRA,
            "bandwidth_hz": 6000.0,
            "hidden": 64,
            "layers": 1,
            "wiener_iterations": 0,
        },
        "magnitude_mse",
        None,
    ),
    ("Conv-TasNet", ConvTasNet, {"name": "conv-tasnet", "filters": 64, **CONVOLUTIONS}, "l1", None),
    (
        "BSRNN",
        lambda: BSRNN(BSRNNConfig()),
        {"name": "bsrnn", **SPECTRA, "features": 16, "hidden": 16, "modules": 2, "mlp_hidden": 32},
        ["l1", {"name": "stft", "weight": 0.1}],
        None,
    ),
    ("MRX", MRX, {"name": "mrx", **MRX_SIZES}, "si_sdr", None),
    (
        "MRX-C",
        MRXC,
        {"name": "mrx-c", **MRX_SIZES, "mel_bands": 16, "mel_window_frames": 512, "activity_filters": 8},
        ["si_sdr", "activity"],
        None,
    ),
    ("TDCN++", TDCN, {"name": "tdcn", **CONVOLUTIONS}, "snr", None),
    (
        "iTDCN++, conditioned and guided",
        lambda: TDCN(TDCNConfig(iterations=2, bottleneck=128, conditioning="all", tuning="guided")),
        {"name": "tdcn", **CONVOLUTIONS, **CONDITIONED, "embedder_width": 4, "embedding_channels": 16},
        ["snr", {"name": "guided", "weight": 0.1}],
        None,
    ),
    (
        "DNN-DS",
        DNNDS,
        {
            "name": "dnn-ds",
            "residual": "instrumental",
            "window_frames": 640,
            "hop_frames": 320,
            "filters": [8, 16, 24],
        },
        "snr",
        None,
    ),
    ("HTDemucs", HTDemucs, {"name": "ht-demucs", **DEMUCS, "transformer_heads": 4}, "l1", "demucs"),
    (
        "BS-RoFormer",
        lambda: BSRoformer(BSRoformerConfig()),
        {
            **{"name": "bs-roformer", **SPECTRA, "band_bins": [4] * 16 + [16] * 8 + [65], "features": 32},
            **{"layers": 2, "heads": 2, "head_features": 16},
        },
        ["l1", {"name": "stft", "weight": 0.1}],
        "bs_roformer",
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--only", nargs="*", choices=[name for name, *_ in NETWORKS], help="a part of the networks")
    options = parser.parse_args()
    lines = [
        "| network | published parameters | trained here | loss | first | last | s |",
        "|---|---|---|---|---|---|---|",
    ]
    still = []
    for name, published, small, loss, package in NETWORKS:
        if options.only and name not in options.only:
            continue
        if package is not None and importlib.util.find_spec(package) is None:
            lines.append(f"| {name} | needs the package {package} | | | | | |")
            continue
        folder = options.out / small["name"] / str(len(lines))
        started = time.process_time()
        losses, trained = run(options.corpus, folder, small, loss, options.steps)
        seconds = time.process_time() - started
        tenth = max(1, len(losses) // 10)
        first, last = np.mean(losses[:tenth]), np.mean(losses[-tenth:])
        if not last < first:
            still.append(name)
        with torch.device("meta"):
            millions = size(published()) / 1e6
        lines.append(
            f"| {name} | {millions:.2f} M | {trained / 1e3:.0f} k | {text_of(loss)} | {first:.4g} | {last:.4g} | "
            f"{seconds:.0f} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "networks.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    if still:
        raise SystemExit(f"the loss does not fall: {', '.join(still)}")


def run(corpus: Path, folder: Path, network: dict[str, Any], loss: Any, steps: int) -> tuple[list[float], int]:
    """The loss of each step, and how many parameters are trained."""
    shutil.rmtree(folder, ignore_errors=True)
    recipe = load_training(
        {
            "network": network,
            "mix": {
                "sample_rate": RATE,
                "channels": 1 if network["name"] == "tdcn" else 2,
                "length_s": 1.0,
                "together": True,
                "sources": {"vocals": {"stems": "vocals"}, "instrumental": {"stems": "instrumental"}},
            },
            "split": None,
            "loss": {"terms": loss},
            "optimizer": {"learning_rate": 3e-3},
            "schedule": {"name": "cosine", "warmup_steps": 5},
            "clip_norm": 5.0,
            "batch_size": 4,
            "steps_per_epoch": steps,
            "epochs": 1,
            "validation": {"split": None, "num": 4, "final_num": 4},
        }
    )
    losses: list[float] = []
    train(recipe, [corpus], folder, device="cpu", progress=lambda tick: losses.append(tick.loss))
    return losses, size(load_network(folder / "best.safetensors"))


def size(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def text_of(loss: Any) -> str:
    terms = loss if isinstance(loss, list) else [loss]
    return " + ".join(term if isinstance(term, str) else f"{term['weight']:g} {term['name']}" for term in terms)


if __name__ == "__main__":
    main()
