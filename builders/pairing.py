"""Two files compared: aligned, then weighed. The stage between fingerprints and the pairs table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from builders.engine import Needs
from builders.scan import FoundFile, read_found
from builders.stage import Product, plain
from curation.alignment import Alignment, align, matched_gain, render
from curation.evidence import Evidence, confidence, decide, exchanged, weigh
from manifests.audio import Audio

ALIGN_VERSION = 5
ALIGN_NEEDS = Needs(memory_bytes=1_200_000_000)
"""Two releases of 5 minutes."""


@dataclass(frozen=True)
class PairItem:
    """Two files, the probable mixture first; whether their titles say so."""

    first: FoundFile
    second: FoundFile
    is_labelled: bool = False

    @property
    def content_ids(self) -> tuple[str, ...]:
        """Everything that the comparison depends on besides the recipe."""
        label = ("labelled",) if self.is_labelled else ()
        return (self.first.content_id, self.second.content_id, *label)


def compare_pair(item: PairItem, min_segment_s: float) -> Product:
    """Align two files and say what they are to each other.

    Parameters
    ----------
    item : PairItem
    min_segment_s : float > 0
        Shorter common stretches are left out.

    Returns
    -------
    Product
        Measured columns of the pairs table, `relation` ('pair', 'same recording', 'unrelated') and `reason`; the
        mixture is the file that contains the other, whatever the labels said.

    Raises
    ------
    AudioError
        If a file cannot be decoded any more, or has changed.
    """
    first, first_rate = read_found(item.first)
    second, second_rate = read_found(item.second)
    alignment = align(first, second, first_rate, second_rate, min_segment_s=min_segment_s)
    ids = {"mixture_id": item.first.content_id, "instrumental_id": item.second.content_id}
    if not alignment.segments:
        nothing = "no common stretch: the waveforms do not run in parallel at any lag"
        return Product({**ids, "relation": "unrelated", "reason": nothing})
    x, y = _parallel(first, second, first_rate, second_rate, alignment)
    forward, backward = weigh(x, y, first_rate), weigh(y, x, first_rate)
    num_frames = min(first.shape[1], round(second.shape[1] * first_rate / second_rate))
    relation, reason = decide(forward, backward, alignment, num_frames, is_labelled=item.is_labelled)
    evidence, gain = forward, matched_gain(x, y)
    if relation == "instrumental-mixture":
        ids = {"mixture_id": item.second.content_id, "instrumental_id": item.first.content_id}
        alignment = exchanged(alignment, first_rate, second_rate)
        evidence, gain = backward, matched_gain(y, x)
    return Product(
        {
            **ids,
            "relation": "pair" if relation.endswith("instrumental") or relation.endswith("mixture") else relation,
            "reason": reason,
            **_measures(alignment, evidence, float(gain)),
        }
    )


def _parallel(
    first: Audio, second: Audio, first_rate: int, second_rate: int, alignment: Alignment
) -> tuple[Audio, Audio]:
    """The common stretches of both, mono, end to end."""
    mono = second.mean(axis=0, keepdims=True, dtype=np.float32)
    pieces = render(mono, second_rate, first_rate, alignment)
    x = [first[:, s.start_frame : s.end_frame].mean(axis=0, dtype=np.float32) for s in alignment.segments]
    return np.concatenate(x), np.concatenate([piece[0] for piece in pieces])


def _measures(alignment: Alignment, evidence: Evidence, gain: float) -> dict[str, Any]:
    segments = [[s.start_frame, s.end_frame, s.lag_frames] for s in alignment.segments]
    return {
        "lag_frames": plain(alignment.lag_frames),
        "drift_ppm": plain(alignment.drift_ppm),
        "polarity": alignment.polarity,
        "gain_db": plain(20 * np.log10(abs(gain) + 1e-9)),
        "coherence": plain(evidence.coherence),
        "residual_db": plain(evidence.residual_db),
        "containment": plain(float(np.clip(evidence.containment, 0, 1))),
        "same_fraction": plain(evidence.same_fraction),
        "confidence": plain(confidence(evidence, alignment)),
        "segments": json.dumps(segments),
    }
