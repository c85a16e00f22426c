"""Studies of seconds: a tiny network, two variants, two seeds, songs of half a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.augment.small_pool import RATE, song_corpus
from tests.training.small_training import fields
from training.ablation import Ablation, run_study
from training.study import StudyRecipe, load_study

SOURCES = {"vocals": {"stems": "vocals"}, "accompaniment": {"stems": "bass+drums+other"}}
SWAP = {"name": "swap", "set": {"mix": {"transforms": ["swap"]}}}
LOUD = {"name": "loud", "set": {"mix": {"transforms": [{"scale": {"gain_db": [3, 9]}}]}}}
BREAKING = {"name": "breaking", "set": {"optimizer": {"learning_rate": 1e30}, "clip_norm": None}}


def small_study(folder: Path, **changes: Any) -> StudyRecipe:
    """A study of the songs in `folder`, which are made if they are not there."""
    if not (folder / "songs" / "stems.parquet").exists():
        (folder / "songs").mkdir(parents=True)
        song_corpus(folder / "songs", songs=5)
    mix = {"sample_rate": RATE, "length_s": 0.1, "together": True, "sources": SOURCES}
    return load_study(
        {
            "base": fields(mix=mix, loss="l1"),
            "corpora": {"songs": str(folder / "songs")},
            "train_on": ["songs"],
            "variants": [{"name": "baseline"}, SWAP],
            "tests": [{"name": "songs", "corpus": "songs"}],
            "scores": ["sdr_db", "si_sdr_db"],
            "seeds": 2,
            **changes,
        }
    )


def ran(study: StudyRecipe, out: Path, jobs: int = 0, **how: Any) -> Ablation:
    return run_study(study, out, jobs=jobs, devices=["cpu"], **how)


def weights_of(out: Path) -> dict[str, tuple[bytes, int]]:
    """Of each run the best weights and when they were written."""
    return {
        path.parent.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted((out / "runs").glob("*/best.safetensors"))
    }
