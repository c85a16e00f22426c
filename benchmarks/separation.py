"""How much memory the separation of long files takes.

    OMP_NUM_THREADS=1 python benchmarks/separation.py --out FOLDER [--minutes 1,10,60] [--published-minutes 1,10]

Noise and tones, stereo at 44.1 kHz, are written to FOLDER in blocks, and separated to FLAC by `separate_files` in a
process of its own, whose largest resident memory is reported. Networks have random weights: small is a U-Net of two
sources with few filters, open-unmix the published size with two sources. An hour must stay below 2 GB, and what ten
minutes take and an hour takes must be alike.

Prints one Markdown table and writes it to FOLDER/separation.md. An hour takes 6 GB in FOLDER.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

RATE = 44100
BOUND_GB = 2.0


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        return separate(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", default="1,10,60", help="lengths for the small network")
    parser.add_argument("--published-minutes", default="1,10", help="lengths for the published Open-Unmix")
    arguments = parser.parse_args()
    lengths = {"small": arguments.minutes, "open-unmix": arguments.published_minutes}
    rows = [
        row(arguments.out, network, int(minutes))
        for network, text in lengths.items()
        for minutes in text.split(",")
        if minutes
    ]
    lines = [
        "| network | minutes | peak memory | before the first block | seconds per minute |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"Bound: {BOUND_GB} GB for an hour.",
    ]
    (arguments.out / "separation.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def row(out: Path, network: str, minutes: int) -> str:
    path = out / f"{minutes}.flac"
    if not path.exists():
        write_noise(path, minutes)
    folder = out / f"{network}-{minutes}"
    command = [sys.executable, __file__, "child", network, str(path), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    before_kb, peak_kb, seconds = map(float, done.stdout.split())
    print(f"{network}, {minutes} min: {peak_kb / 1e6:.2f} GB", file=sys.stderr)
    verdict = "" if peak_kb / 1e6 < BOUND_GB else " (over the bound)"
    return (
        f"| {network} | {minutes} | {peak_kb / 1e6:.2f} GB{verdict} | {before_kb / 1e6:.2f} GB "
        f"| {seconds / minutes:.1f} |"
    )


def write_noise(path: Path, minutes: int) -> None:
    from manifests.encoding import encoding

    rng = np.random.default_rng(0)
    with encoding(path, minutes * 60 * RATE, RATE, 2, 16) as put:
        for second in range(minutes * 60):
            time_s = second + np.arange(RATE) / RATE
            tones = sum(np.sin(2 * np.pi * hertz * time_s) for hertz in (110, 440, 1760, 7040))
            put((0.05 * tones + 0.05 * rng.standard_normal((2, RATE))).astype(np.float32))


def separate(network: str, path: str, folder: str) -> None:
    """One separation; prints the memory before and at most, in kB, and the seconds."""
    import torch

    from builders.separation import separate_files
    from separators.overlap_add import NetworkSeparator

    torch.manual_seed(0)
    separator = NetworkSeparator(network=made(network), name=network)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    done = separate_files(Path(path), separator, Path(folder))
    assert len(done.files) == 1, done.rejected
    print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic() - start)


def made(network: str):
    from separators.open_unmix import OpenUnmix, OpenUnmixConfig
    from separators.unet import UNet, spleeter_config

    sources = ("vocals", "accompaniment")
    if network == "open-unmix":
        return OpenUnmix(OpenUnmixConfig(sources=sources, residual="accompaniment"))
    return UNet(dataclasses.replace(spleeter_config(), sources=sources, filters=(2, 4, 8, 8, 8, 8)))


if __name__ == "__main__":
    main()
