"""The demo: write the catalogue, build a corpus from it, compare the corpus with the truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from builders.catalog import CatalogBuilder
from builders.demo.catalog import DemoTruth, write_demo_catalog
from builders.report import write_report
from manifests.audio import Audio, read
from manifests.corpus import Corpus

Progress = Callable[[str, int, int, int], None]


@dataclass(frozen=True)
class DemoResult:
    """How the build did on the demo catalogue.

    Attributes
    ----------
    songs : int
        Songs in the catalogue that have a pair.
    found : int
        Those that became a triplet of the right two files.
    wrong : int
        Triplets that are no true pair (decoys).
    lag_errors : tuple of float
        Absolute errors of the lag at the middle of each found pair, in frames.
    drift_errors_ppm : tuple of float
    polarities_right : int
    vocals_sdr_db : tuple of float
        SDR of each song's vocals against the true ones.
    lossless_sdr_db : tuple of float
        The same for the pairs whose files are both lossless.
    report : Path
        The page about the build.
    """

    songs: int
    found: int
    wrong: int
    lag_errors: tuple[float, ...]
    drift_errors_ppm: tuple[float, ...]
    polarities_right: int
    vocals_sdr_db: tuple[float, ...]
    lossless_sdr_db: tuple[float, ...]
    report: Path

    @property
    def is_good(self) -> bool:
        """Every pair found, no decoy, lags within a quarter of a frame, vocals well above the paper's 16 dB."""
        return (
            self.found == self.songs
            and self.wrong == 0
            and self.polarities_right == self.found
            and max(self.lag_errors) < 0.25
            and float(np.median(self.vocals_sdr_db)) > 15
        )

    def lines(self) -> list[tuple[str, str]]:
        """Name and value, for people."""
        return [
            ("pairs found", f"{self.found} of {self.songs} planted"),
            ("decoys accepted", str(self.wrong)),
            ("lag error", _median_and_worst(self.lag_errors, "{:.4f}", "sample")),
            ("drift error", _median_and_worst(self.drift_errors_ppm, "{:.4f}", "ppm")),
            ("polarity right", f"{self.polarities_right} of {self.found}"),
            ("vocals SDR", _median_and_worst(self.vocals_sdr_db, "{:.1f}", "dB", worst=min)),
            ("  lossless pairs", _median_and_worst(self.lossless_sdr_db, "{:.1f}", "dB", worst=min)),
        ]


def _median_and_worst(values: tuple[float, ...], form: str, unit: str, worst: Callable[..., float] = max) -> str:
    if not values:
        return "none"
    return f"median {form.format(float(np.median(values)))} {unit}, worst {form.format(worst(values))}"


def run_demo(
    out: Path, *, seed: int = 0, songs: int = 14, seconds: float = 45.0, jobs: int = 2, progress: Progress
) -> DemoResult:
    """Write the demo catalogue, build it, and compare.

    Parameters
    ----------
    out : Path
        Gets ``catalog/`` (with its truth) and ``build/``. What is there already is kept: the demo resumes.
    seed, songs, seconds
        As for `write_demo_catalog`.
    jobs : int >= 0
        Worker processes.
    progress : callable
        As for `CatalogBuilder`.

    Returns
    -------
    DemoResult
    """
    truth = write_demo_catalog(
        out / "catalog", seed, songs, seconds, lambda done, total: progress("compose", done, total, 0)
    )
    corpus = CatalogBuilder(out / "build", jobs=jobs, progress=progress).build(truth.library)
    return compare(corpus, truth, write_report(out / "build"))


def compare(corpus: Corpus, truth: DemoTruth, report: Path) -> DemoResult:
    """Measure a corpus against the truth of the catalogue that it was built from."""
    pairs = corpus.pairs
    assert pairs is not None
    chosen = pairs[pairs["status"] == "chosen"].to_dict("records")
    true_pairs = {(row["mixture_path"], row["instrumental_path"]): row for row in truth.pairs.to_dict("records")}
    found = [
        (pair, true_pairs[key])
        for pair in chosen
        if (key := (pair["mixture_path"], pair["instrumental_path"])) in true_pairs
    ]
    rows = pd.DataFrame([_measured(corpus, truth, pair, expected) for pair, expected in found])
    lossless = rows["lossless"].to_numpy(bool) if len(rows) else np.zeros(0, bool)
    columns = {name: tuple(map(float, rows[name])) if len(rows) else () for name in ("lag", "drift", "sdr")}
    return DemoResult(
        songs=len(true_pairs),
        found=len(found),
        wrong=len(chosen) - len(found),
        lag_errors=columns["lag"],
        drift_errors_ppm=columns["drift"],
        polarities_right=sum(int(pair["polarity"] == expected["polarity"]) for pair, expected in found),
        vocals_sdr_db=columns["sdr"],
        lossless_sdr_db=tuple(s for s, kept in zip(columns["sdr"], lossless, strict=True) if kept),
        report=report,
    )


def _measured(
    corpus: Corpus, truth: DemoTruth, pair: dict[Any, Any], expected: dict[Any, Any]
) -> dict[str, float | bool]:
    segments = json.loads(pair["segments"])
    middle = (segments[0][0] + segments[-1][1]) / 2
    slip = (pair["drift_ppm"] - expected["drift_ppm"]) * 1e-6
    vocals, _ = read(truth.truth / str(expected["vocals_path"]))
    kept = np.concatenate([vocals[:, start:end] for start, end, _ in segments], axis=1)
    row = corpus.song(str(pair["song_id"]))["vocals"]
    gain = np.float32(10 ** (float(row["gain_db"]) / 20))
    codecs = (str(expected["mixture_codec"]), str(expected["instrumental_codec"]))
    return {
        "lag": abs(pair["lag_frames"] - expected["lag_frames"] + slip * middle),
        "drift": abs(slip * 1e6),
        "sdr": sdr_db(corpus.load(row), gain * kept),
        "lossless": all(codec.startswith(("wav", "flac")) for codec in codecs),
    }


def sdr_db(estimate: Audio, reference: Audio) -> float:
    """Signal-to-distortion ratio of the whole signal, 10 log10(|s|^2 / |s - e|^2), in dB."""
    signal = float(np.square(reference, dtype=np.float64).sum())
    error = float(np.square(reference - estimate, dtype=np.float64).sum())
    return 10 * float(np.log10((signal + 1e-12) / (error + 1e-12)))
