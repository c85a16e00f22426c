"""What two files turn out to be to each other, whatever their labels said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.pairing import PairItem, compare_pair
from builders.scan import FoundFile
from manifests.audio import Audio, content_id, write
from manifests.errors import AudioError
from manifests.tables import frame_of
from tests.builders.small_catalog import FRAMES, RATE, mixture, parts
from tests.synthesis import fractional_delay, resampled


def found(folder: Path, name: str, audio: Audio, sample_rate: int = RATE) -> FoundFile:
    write(folder / name, audio, sample_rate)
    return FoundFile(str(folder), name, content_id(folder / name))


def compared(first: FoundFile, second: FoundFile, min_segment_s: float = 6.0) -> dict[str, Any]:
    return compare_pair(PairItem(first, second), min_segment_s).value


def test_the_file_that_contains_the_other_is_the_mixture_in_either_order(tmp_path: Path) -> None:
    late = fractional_delay(parts(0)[0], 100.25) * np.float32(-0.5)
    mixed, instrumental = found(tmp_path, "m.flac", mixture(0)), found(tmp_path, "i.flac", late)
    forward, backward = compared(mixed, instrumental), compared(instrumental, mixed)
    for row in (forward, backward):
        assert (row["relation"], row["reason"]) == ("pair", None)
        assert (row["mixture_id"], row["instrumental_id"]) == (mixed.content_id, instrumental.content_id)
        assert row["lag_frames"] == pytest.approx(100.25, abs=0.02)
        assert row["drift_ppm"] == pytest.approx(0, abs=0.1)
        assert row["polarity"] == -1
        assert row["gain_db"] == pytest.approx(6.02, abs=0.2)
        assert row["confidence"] > 0.9


def test_rates_and_channels_may_differ(tmp_path: Path) -> None:
    slow = resampled(mixture(0), 1e6 * (8 / 7 - 1))  # the same seconds at another rate
    other_rate = RATE * 8 // 7
    mono = parts(0)[0].mean(axis=0, keepdims=True)
    row = compared(found(tmp_path, "m.flac", slow * 0.9, other_rate), found(tmp_path, "i.flac", mono))
    assert row["relation"] == "pair"
    assert row["drift_ppm"] == pytest.approx(0, abs=0.5)
    assert row["lag_frames"] == pytest.approx(0, abs=0.1)


def test_a_product_fits_the_pairs_table_and_its_segments_lie_in_the_mixture(tmp_path: Path) -> None:
    row = compared(found(tmp_path, "m.flac", mixture(0)), found(tmp_path, "i.flac", parts(0)[0]))
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    fields = {key: value for key, value in row.items() if key != "relation"}
    paths = {"pair_id": "x", "mixture_path": "m.flac", "instrumental_path": "i.flac", "evidence": ""}
    frame_of("pairs", [{**fields, **paths, "status": "chosen"}])
    segments = json.loads(row["segments"])
    assert segments
    ends = [end for start, end, _ in segments for end in (start, end)]
    assert ends == sorted(ends)
    assert ends[0] >= 0
    assert ends[-1] <= FRAMES


def test_one_recording_twice_is_no_pair(tmp_path: Path) -> None:
    row = compared(found(tmp_path, "a.flac", mixture(0)), found(tmp_path, "b.flac", mixture(0) * 0.7))
    assert row["relation"] == "same recording"
    assert "one recording twice" in row["reason"]


def test_two_songs_are_no_pair_and_say_why(tmp_path: Path) -> None:
    row = compared(found(tmp_path, "a.flac", mixture(0)), found(tmp_path, "b.flac", parts(1)[0]))
    assert row["relation"] == "unrelated"
    assert row["reason"]


def test_stretches_shorter_than_asked_for_are_left_out(tmp_path: Path) -> None:
    files = found(tmp_path, "m.flac", mixture(0)), found(tmp_path, "i.flac", parts(0)[0])
    row = compared(*files, min_segment_s=9.0)
    assert row["relation"] == "unrelated"
    assert row["reason"] == "no common stretch: the waveforms do not run in parallel at any lag"


@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_changed_is_not_compared(tmp_path: Path, which: int) -> None:
    files = found(tmp_path, "m.flac", mixture(0)), found(tmp_path, "i.flac", parts(0)[0])
    write(files[which].location, mixture(1), RATE)
    with pytest.raises(AudioError, match="changed while it was read"):
        compared(*files)
