"""Make the bundled separator out of training runs: weights in half precision, with what they were trained on.

    python recipes/bundled/bundle.py RUN/best.safetensors... --corpus CORPUS...

The separator is the mean of the networks; there is a corpus for each of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import separators
from manifests.corpus import Corpus
from separators.weights import load_network, read_saved, save_network

OUT = Path(separators.__file__).parent / "bundled" / "vocals"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--corpus", type=Path, nargs="+", required=True)
    options = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    for old in OUT.glob("*.safetensors"):
        old.unlink()
    for number, (weights, corpus) in enumerate(zip(options.weights, options.corpus, strict=True)):
        about = about_of(weights, corpus)
        path = OUT / f"{number}.safetensors"
        save_network(path, load_network(weights), about=about, dtype=torch.float16)
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
        for name, value in about["trained_on_minutes"].items():
            print(f"  {name}: {value} min")


def about_of(weights: Path, corpus: Path) -> dict[str, object]:
    """Licence, training data and recipe."""
    stems = Corpus.open(corpus).stems
    heard = stems[stems["split"].isin(["train", "validation"])]
    minutes = (heard["num_frames"] / heard["sample_rate"] / 60).groupby([heard["stem"], heard["license"]]).sum()
    trained = read_saved(weights).about
    return {
        "licence": "MIT",
        "trained_on_minutes": {f"{stem}, {licence}": round(value, 1) for (stem, licence), value in minutes.items()},
        "steps": trained["step"],
        "validation": trained["validation"],
        "recipe": trained["recipe"],
    }


if __name__ == "__main__":
    main()
