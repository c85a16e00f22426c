"""Make the bundled separator out of a training run: weights in half precision, with what they were trained on.

python recipes/bundled/bundle.py RUN/best.safetensors --corpus CORPUS
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import separators
from manifests.corpus import Corpus
from separators.weights import load_network, read_saved, save_network

OUT = Path(separators.__file__).parent / "bundled" / "vocals.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--corpus", type=Path, required=True)
    options = parser.parse_args()
    stems = Corpus.open(options.corpus).stems
    heard = stems[stems["split"].isin(["train", "validation"])]
    minutes = (heard["num_frames"] / heard["sample_rate"] / 60).groupby([heard["stem"], heard["license"]]).sum()
    trained = read_saved(options.weights).about
    about = {
        "licence": "MIT",
        "trained_on_minutes": {f"{stem}, {licence}": round(value, 1) for (stem, licence), value in minutes.items()},
        "steps": trained["step"],
        "validation": trained["validation"],
        "recipe": trained["recipe"],
    }
    OUT.parent.mkdir(exist_ok=True)
    save_network(OUT, load_network(options.weights), about=about, dtype=torch.float16)
    print(f"{OUT}: {OUT.stat().st_size / 1e6:.1f} MB")
    for name, value in about["trained_on_minutes"].items():
        print(f"  {name}: {value} min")


if __name__ == "__main__":
    main()
