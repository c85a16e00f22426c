"""What the catalogue build finds of what a labelled catalogue holds.

    python benchmarks/catalog.py CATALOG --out BUILD [--jobs 2]

CATALOG is a folder with `library/` (the music) and `truth/{releases,pairs,songs}.csv` and, for the vocals,
`truth/stems/<song>_vocals.ogg`. The build goes to BUILD and is resumed when it is there. The duration filter of
the paper is off, so that radio edits count. Prints Markdown:

- pairs: precision and recall over the true pairs of the truth table; a pair counts as found when it is chosen or
  listed as an alternative, with the mixture as the mixture; decoys accepted, by kind;
- alignment: error of the lag near the start and the end of the longest common stretch, of the drift, of the
  polarity;
- vocals: SI-SDR of the chosen pairs' vocals against the true ones, by the worse codec of the pair, for both
  methods.

The truth counts positions as the reference decoder of the catalogue's maker gives them. MP3 files without a
LAME/Xing header hold no encoder delay, and decoders differ there; and where a song's real master takes part, its
stems do not all start together. Such pairs are left out of the lag figures and counted.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.signal
import soxr

from builders.catalog import CatalogBuilder
from builders.recipe import CatalogRecipe
from curation.alignment import Alignment, Segment, render
from curation.derivation import METHODS, derive_vocals
from manifests.audio import read

RATE = 44_100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalog", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--vocals", type=int, default=12, help="chosen pairs whose vocals are measured")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    recipe = CatalogRecipe(max_duration_difference_s=None)
    corpus = CatalogBuilder(options.out, recipe, jobs=options.jobs).build(options.catalog / "library")
    truth = Truth.read(options.catalog)
    pairs = corpus.pairs
    assert pairs is not None
    found = found_pairs(pairs, truth)
    figures = {
        "catalog": options.catalog.name,
        **pair_figures(found, truth),
        **lag_figures(found, truth),
        "wall_s": json.loads((options.out / "run.json").read_text())["wall_s"],
    }
    print_pairs(figures)
    print_lags(figures)
    if options.vocals:
        table = vocals_figures(found, truth, options.vocals)
        figures["vocals"] = table.to_dict("records")
        print_vocals(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1, default=float))


@dataclass(frozen=True)
class Truth:
    """The truth tables of a catalogue."""

    folder: Path
    releases: pd.DataFrame
    pairs: pd.DataFrame
    songs: pd.DataFrame

    @classmethod
    def read(cls, folder: Path) -> Truth:
        releases = pd.read_csv(folder / "truth/releases.csv").set_index("release_id", drop=False)
        pairs = pd.read_csv(folder / "truth/pairs.csv")
        songs = pd.read_csv(folder / "truth/songs.csv").set_index("song_id")
        return cls(folder, releases, pairs, songs)

    def release(self, path: str) -> pd.Series:
        """The release at a path relative to the library."""
        match = self.releases[self.releases["path"] == f"library/{path}"]
        return match.iloc[0]


def found_pairs(pairs: pd.DataFrame, truth: Truth) -> pd.DataFrame:
    """Accepted pairs with the truth's row of the two releases, where it has one."""
    accepted = pairs[pairs["status"] != "refused"].copy()
    accepted["mix_path"] = "library/" + accepted["mixture_path"].astype(str)
    accepted["inst_path"] = "library/" + accepted["instrumental_path"].astype(str)
    return accepted.merge(truth.pairs, on=["mix_path", "inst_path"], how="left", suffixes=("", "_true"))


def pair_figures(found: pd.DataFrame, truth: Truth) -> dict[str, Any]:
    true_pairs = truth.pairs[truth.pairs["true_pair"] == 1]
    is_true = found["true_pair"] == 1
    keys = set(zip(found["mix_path"], found["inst_path"], strict=True))
    missed = [
        f"{row.relation}: {row.mix_path} + {row.inst_path}"
        for row in true_pairs.itertuples()
        if (row.mix_path, row.inst_path) not in keys
    ]
    wrong = found[~is_true]
    # songs that have a true pair, and those for which one was chosen
    song_of = dict(zip(truth.releases["path"], truth.releases["song_id"], strict=True))
    songs = {song_of[path] for path in true_pairs["mix_path"]}
    chosen = found[(found["status"] == "chosen") & is_true]
    return {
        "true_pairs": len(true_pairs),
        "accepted": len(found),
        "precision": float(is_true.mean()) if len(found) else float("nan"),
        "recall": 1 - len(missed) / len(true_pairs),
        "songs": len(songs),
        "songs_chosen": len({song_of[path] for path in chosen["mix_path"]}),
        "missed": missed,
        "wrong": [
            f"{row.status} {row.relation if isinstance(row.relation, str) else 'not in the truth table'}: "
            f"{row.mix_path} + {row.inst_path}"
            for row in wrong.itertuples()
        ],
    }


def lag_figures(found: pd.DataFrame, truth: Truth) -> dict[str, Any]:
    rows, left_out = [], 0
    for row in found[found["true_pair"] == 1].itertuples():
        mixture, instrumental = (truth.releases.loc[getattr(row, n)] for n in ("mix_release", "inst_release"))
        is_master = "master_real" in row.relation
        if is_master or any(str(r["bitrate"]).endswith("noxing") for r in (mixture, instrumental)):
            left_out += 1
            continue
        longest = json.loads(row.longest)
        rate = mixture["sr"]
        segments = [Segment(int(a), int(b), float(lag)) for a, b, lag in json.loads(row.segments)]
        errors = []
        # a tenth of the stretch inside its ends, where a cut may be a few samples off
        for share in (0.1, 0.9):
            at = longest[2] + share * (longest[4] - longest[2])
            expected = longest[3] + share * (longest[5] - longest[3])
            frame = at * rate
            nearest = min(segments, key=lambda s: max(s.start_frame - frame, frame - s.end_frame, 0))
            position = nearest.lag_frames + frame * (1 + row.drift_ppm * 1e-6)
            errors.append(abs(position - expected * rate) * RATE / rate)
        speeds = [1 + r["drift_ppm"] * 1e-6 for r in (instrumental, mixture)]
        rows.append(
            {
                "relation": row.relation,
                "lag": float(np.mean(errors)),
                "worst": max(errors),
                "drift": abs(row.drift_ppm - (speeds[0] / speeds[1] - 1) * 1e6),
                "polarity": row.polarity == row.polarity_true,
                "cut": len(segments) == row.n_segments,
                "has_drift": speeds[0] != speeds[1],
            }
        )
    table = pd.DataFrame(rows)
    still = table[~table["has_drift"]]
    return {
        "lag_pairs": len(table),
        "lag_left_out": left_out,
        "lag_median": float(table["lag"].median()),
        "lag_p95": float(table["lag"].quantile(0.95)),
        "lag_worst": float(table["lag"].max()),
        "lag_median_no_drift": float(still["lag"].median()),
        "lag_p95_no_drift": float(still["lag"].quantile(0.95)),
        "drift_median": float(table["drift"].median()),
        "drift_worst": float(table["drift"].max()),
        "drift_within": float((table["drift"] <= 0.5).mean()),
        "polarity_right": float(table["polarity"].mean()),
        "segments_right": float(table["cut"].mean()),
    }


def vocals_figures(found: pd.DataFrame, truth: Truth, count: int) -> pd.DataFrame:
    """SI-SDR by method, for up to `count` pairs of each kind of codec."""
    kinds = ("mix", "mix_remaster", "duplicate", "mislabelled_instrumental")
    rows: list[dict[str, Any]] = []
    taken: dict[str, int] = {}
    for row in found[found["true_pair"] == 1].itertuples():
        mixture = truth.releases.loc[row.mix_release]
        instrumental = truth.releases.loc[row.inst_release]
        stem = truth.folder / "truth/stems" / f"{mixture['song_id']}_vocals.ogg"
        quality = worse_quality(mixture, instrumental)
        if mixture["kind"] not in kinds or instrumental["kind"] == "tv_track" or not stem.exists():
            continue
        if taken.get(quality, 0) >= count or str(mixture["bitrate"]).endswith("noxing"):
            continue
        taken[quality] = taken.get(quality, 0) + 1
        x, rate = read(truth.folder / row.mix_path)
        y, other_rate = read(truth.folder / row.inst_path)
        if x.shape[0] == 1:
            continue
        segments = tuple(Segment(int(a), int(b), float(lag)) for a, b, lag in json.loads(row.segments))
        alignment = Alignment(segments, row.drift_ppm, int(row.polarity), 0.0, 0.0, 0.0)
        segment = alignment.longest
        accompaniment = render(
            y, other_rate, rate, Alignment((segment,), row.drift_ppm, int(row.polarity), 0, 0, 0)
        )
        expected = true_vocals(stem, mixture, x.shape[1])[:, segment.start_frame : segment.end_frame]
        heard = x[:, segment.start_frame : segment.end_frame]
        for method in METHODS:
            derived = derive_vocals(heard, accompaniment[0], rate, method)
            rows.append(
                {
                    "quality": quality,
                    "method": method,
                    "si_sdr": si_sdr(derived.vocals, expected),
                    "path": row.mix_path,
                }
            )
    return pd.DataFrame(rows)


def worse_quality(*releases: pd.Series) -> str:
    ranks = {"lossless": 0, "above 128 kbit/s": 1, "128 kbit/s and below": 2}

    def quality(release: pd.Series) -> str:
        if release["codec"] == "flac":
            return "lossless"
        rate = str(release["bitrate"]).split("-")[0]
        low = rate in ("128k", "96k", "q3")
        return "128 kbit/s and below" if low else "above 128 kbit/s"

    return max((quality(release) for release in releases), key=ranks.__getitem__)


def true_vocals(stem: Path, release: pd.Series, num_frames: int) -> np.ndarray:
    """The song's vocals through the release's chain (fades, width, equaliser, gain, clock), but for the limiter."""
    vocals, _ = read(stem)
    frames = vocals.shape[1]
    if release["fade_in"]:
        k = int(release["fade_in"] * RATE)
        vocals[:, :k] *= np.linspace(0, 1, k, dtype=np.float32)
    if release["fade_out"]:
        k = min(int(release["fade_out"] * RATE), frames)
        vocals[:, -k:] *= np.cos(np.linspace(0, np.pi / 2, k)).astype(np.float32) ** 2
    mid, side = vocals.mean(axis=0), (vocals[0] - vocals[1]) / 2 * release["width"]
    vocals = np.stack([mid, mid]) if release["mono"] else np.stack([mid + side, mid - side])
    if release["swap"]:
        vocals = vocals[::-1]
    low, peak, high = json.loads(release["eq"])
    sos = np.vstack([shelf("low", 140, low), shelf("peak", 1500, peak * 0.6, 0.8), shelf("high", 7000, high)])
    vocals = scipy.signal.sosfilt(sos, vocals, axis=1)
    vocals = vocals * 10 ** (release["gain_db"] / 20) * release["polarity"]
    rate = release["sr"] * (1 + release["drift_ppm"] * 1e-6)
    if rate != RATE:
        vocals = np.stack([soxr.resample(np.ascontiguousarray(c), RATE, rate, "VHQ") for c in vocals])
    lead = round(release["lead_s"] * release["sr"]) + int(release["codec_lag"])
    out = np.zeros((2, num_frames), np.float32)
    length = min(vocals.shape[1], num_frames - lead)
    out[:, lead : lead + length] = vocals[:, :length]
    return out


def shelf(kind: str, frequency: float, gain_db: float, q: float = 0.7) -> np.ndarray:
    """Second-order section of the Audio EQ Cookbook (R. Bristow-Johnson)."""
    a = 10 ** (gain_db / 40)
    w = 2 * np.pi * frequency / RATE
    cosine, alpha = np.cos(w), np.sin(w) / (2 * q)
    s = 2 * np.sqrt(a) * alpha
    if kind == "peak":
        numerator = np.array([1 + alpha * a, -2 * cosine, 1 - alpha * a])
        denominator = np.array([1 + alpha / a, -2 * cosine, 1 - alpha / a])
    else:
        sign = 1 if kind == "low" else -1
        up, down = a + 1, a - 1
        numerator = a * np.array(
            [
                up - sign * down * cosine + s,
                sign * 2 * (down - sign * up * cosine),
                up - sign * down * cosine - s,
            ]
        )
        denominator = np.array(
            [
                up + sign * down * cosine + s,
                -sign * 2 * (down + sign * up * cosine),
                up + sign * down * cosine - s,
            ]
        )
    return np.concatenate([numerator, denominator])[None] / denominator[0]


def si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Scale-invariant SDR (Le Roux et al., ICASSP 2019), dB, over all channels at once."""
    e, r = estimate.ravel().astype(np.float64), reference.ravel().astype(np.float64)
    target = (e @ r) / (r @ r) * r
    return float(10 * np.log10((target @ target) / ((e - target) @ (e - target))))


def print_pairs(figures: dict[str, Any]) -> None:
    print("\n| catalogue | true pairs | accepted | precision | recall | songs with a pair | chosen |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {figures['catalog']} | {figures['true_pairs']} | {figures['accepted']} | {figures['precision']:.3f} | "
        f"{figures['recall']:.3f} | {figures['songs']} | {figures['songs_chosen']} |"
    )
    for name in ("missed", "wrong"):
        for line in figures[name]:
            print(f"- {name}: {line}")


def print_lags(figures: dict[str, Any]) -> None:
    print(
        "\n| catalogue | pairs | lag median | lag 95 % | lag worst | no drift: median | 95 % | drift <= 0.5 ppm |"
        " worst drift | polarity right | segments right |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    print(
        f"| {figures['catalog']} | {figures['lag_pairs']} (left out {figures['lag_left_out']}) | "
        f"{figures['lag_median']:.3f} | {figures['lag_p95']:.3f} | {figures['lag_worst']:.3f} | "
        f"{figures['lag_median_no_drift']:.3f} | {figures['lag_p95_no_drift']:.3f} | "
        f"{figures['drift_within']:.3f} | {figures['drift_worst']:.3f} | {figures['polarity_right']:.3f} | "
        f"{figures['segments_right']:.3f} |"
    )


def print_vocals(table: pd.DataFrame) -> None:
    if table.empty:
        print("\nno pair whose vocals are known")
        return
    median = table.pivot_table(index="quality", columns="method", values="si_sdr", aggfunc="median")
    count = table[table["method"] == METHODS[0]].groupby("quality").size()
    print("\n| codec (the worse of the pair) | pairs | half-wave | transfer | difference |")
    print("|---|---|---|---|---|")
    for quality, row in median.iterrows():
        print(
            f"| {quality} | {count[quality]} | {row['half-wave']:.1f} | {row['transfer']:.1f} | "
            f"{row['transfer'] - row['half-wave']:+.1f} |"
        )


if __name__ == "__main__":
    main()
