"""Three files from a pair: they sum to the last bit, on the file's grid, within full scale."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from builders.scan import FoundFile
from builders.triplet import TripletItem, is_whole, write_triplet
from manifests.audio import Audio, content_id, quantise, read, write
from manifests.errors import AudioError
from manifests.loudness import loudness_lufs
from manifests.tables import frame_of
from tests.builders.small_catalog import FRAMES, RATE, mixture, parts

STEMS = ("mixture", "instrumental", "vocals")


def item_of(
    folder: Path, mixed: Audio, instrumental: Audio, segments: list[list[float]] | None = None
) -> TripletItem:
    """A pair written as float-exact 24-bit files, and how it aligns: with no lag, unless told."""
    files = []
    for name, audio in (("m.flac", mixed), ("i.flac", instrumental)):
        write(folder / name, audio, RATE)
        files.append(FoundFile(str(folder), name, content_id(folder / name)))
    text = json.dumps(segments or [[0, mixed.shape[1], 0.0]])
    return TripletItem(files[0], files[1], str(folder / "out"), files[0].content_id, "pair", text, 0.0, 1)


def written(
    item: TripletItem,
    method: Literal["transfer", "half-wave"] = "transfer",
    target_lufs: float | None = None,
    audio_format: Literal["flac", "wav"] = "flac",
    bit_depth: Literal[16, 24] = 24,
) -> tuple[dict[str, Audio], dict[str, dict[str, Any]]]:
    """Audio and rows by stem."""
    rows = {
        row["stem"]: row for row in write_triplet(item, method, target_lufs, audio_format, bit_depth).value["stems"]
    }
    assert tuple(rows) == STEMS
    return {stem: read(Path(item.out, rows[stem]["path"]))[0] for stem in STEMS}, rows


def loudest(audio: dict[str, Audio]) -> float:
    return max(float(np.abs(each).max()) for each in audio.values())


@pytest.mark.parametrize("bit_depth", [16, 24])
@pytest.mark.parametrize("audio_format", ["flac", "wav"])
@pytest.mark.parametrize("method", ["transfer", "half-wave"])
def test_the_stems_sum_to_the_mixture_to_the_last_bit(
    tmp_path: Path,
    method: Literal["transfer", "half-wave"],
    audio_format: Literal["flac", "wav"],
    bit_depth: Literal[16, 24],
) -> None:
    item = item_of(tmp_path, mixture(0), parts(0)[0])
    audio, rows = written(item, method, None, audio_format, bit_depth)
    np.testing.assert_array_equal(audio["mixture"], audio["instrumental"] + audio["vocals"])
    for stem in STEMS:
        np.testing.assert_array_equal(audio[stem], quantise(audio[stem], bit_depth))
        assert rows[stem]["path"] == f"audio/{item.song_id}/{stem}.{audio_format}"
    step = 2.0 ** (1 - bit_depth)
    assert np.abs(audio["mixture"] - mixture(0)).max() <= 2 * step, "the mixture is the release's"


def test_rows_tell_what_the_files_hold(tmp_path: Path) -> None:
    item = item_of(tmp_path, mixture(0), parts(0)[0])
    audio, rows = written(item)
    frame_of("stems", rows.values())
    for stem, row in rows.items():
        assert (row["num_frames"], row["sample_rate"], row["channels"]) == (FRAMES, RATE, 2)
        assert row["rms"] == pytest.approx(np.sqrt(np.mean(audio[stem].astype(np.float64) ** 2)), rel=1e-6)
        assert row["loudness_lufs"] == pytest.approx(loudness_lufs(audio[stem], RATE), abs=1e-6)
        assert row["content_id"] == content_id(Path(item.out, row["path"]))
        assert row["parents"] == f"{item.mixture.content_id};{item.instrumental.content_id}"
        assert row["gain_db"] == pytest.approx(0, abs=1e-6)
    assert rows["vocals"]["method"] == "transfer"
    assert rows["mixture"]["method"] == "release"


def test_derived_vocals_are_near_the_true_ones(tmp_path: Path) -> None:
    audio, _ = written(item_of(tmp_path, mixture(0), parts(0)[0]))
    truth = parts(0)[1]
    error = np.sum((audio["vocals"] - truth) ** 2) / np.sum(truth**2)
    assert -10 * np.log10(error) > 20


def test_silence_where_there_are_no_vocals_is_measured_as_such(tmp_path: Path) -> None:
    instrumental = np.concatenate([parts(0)[0], np.zeros((2, FRAMES), np.float32)], axis=1)
    _, rows = written(item_of(tmp_path, instrumental, instrumental))
    assert rows["vocals"]["active_fraction"] == 0
    assert rows["mixture"]["active_fraction"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("target_lufs", [-30.0, -23.0])
def test_a_target_loudness_is_met_by_one_gain_for_all(tmp_path: Path, target_lufs: float) -> None:
    item = item_of(tmp_path, mixture(0), parts(0)[0])
    plain, _ = written(item)
    audio, rows = written(item, target_lufs=target_lufs)
    assert loudness_lufs(audio["mixture"], RATE) == pytest.approx(target_lufs, abs=0.01)
    np.testing.assert_array_equal(audio["mixture"], audio["instrumental"] + audio["vocals"])
    for stem in STEMS:
        assert rows[stem]["gain_db"] == pytest.approx(target_lufs - loudness_lufs(plain["mixture"], RATE), abs=0.01)
        np.testing.assert_allclose(audio[stem], plain[stem] * 10 ** (rows[stem]["gain_db"] / 20), atol=1e-6)


def test_a_loudness_out_of_reach_stops_below_full_scale(tmp_path: Path) -> None:
    audio, rows = written(item_of(tmp_path, mixture(0), parts(0)[0]), target_lufs=0.0)
    assert loudest(audio) == pytest.approx(0.999, abs=1e-4)
    assert rows["mixture"]["loudness_lufs"] < -3
    np.testing.assert_array_equal(audio["mixture"], audio["instrumental"] + audio["vocals"])


def test_a_stem_beyond_full_scale_lowers_all(tmp_path: Path) -> None:
    loud = mixture(0) / np.abs(mixture(0)).max()
    audio, rows = written(item_of(tmp_path, loud, -loud))
    assert loudest(audio) <= 0.9991
    assert rows["mixture"]["gain_db"] <= 0
    np.testing.assert_array_equal(audio["mixture"], audio["instrumental"] + audio["vocals"])


@pytest.mark.parametrize("channels", [(1, 2), (2, 1), (1, 1)])
def test_mono_and_stereo_mix(tmp_path: Path, channels: tuple[int, int]) -> None:
    files = (mixture(0), parts(0)[0])
    first, second = (audio[:count] for audio, count in zip(files, channels, strict=True))
    audio, rows = written(item_of(tmp_path, first, second))
    assert {row["channels"] for row in rows.values()} == {channels[0]}
    np.testing.assert_array_equal(audio["mixture"], audio["instrumental"] + audio["vocals"])


def test_segments_are_joined_end_to_end_with_a_short_fade(tmp_path: Path) -> None:
    segments = [[0, 100_000, 0.0], [110_000, FRAMES, 0.0]]
    audio, rows = written(item_of(tmp_path, mixture(0), parts(0)[0], segments))
    assert {row["num_frames"] for row in rows.values()} == {FRAMES - 10_000}
    width = RATE // 100
    whole = quantise(mixture(0))
    far = 2**-22
    np.testing.assert_allclose(
        audio["mixture"][:, : 100_000 - width - 1], whole[:, : 100_000 - width - 1], atol=far
    )
    np.testing.assert_allclose(audio["mixture"][:, 100_000 + width :], whole[:, 110_000 + width :], atol=far)
    assert np.all(audio["mixture"][:, 99_999:100_001] == 0)
    np.testing.assert_array_equal(audio["mixture"], audio["instrumental"] + audio["vocals"])


def test_the_same_pair_gives_the_same_bytes(tmp_path: Path) -> None:
    item = item_of(tmp_path, mixture(0), parts(0)[0])
    _, first = written(item)
    _, second = written(replace(item, out=str(tmp_path / "other")))
    assert first == second


def test_whole_means_every_file_byte_for_byte(tmp_path: Path) -> None:
    item = item_of(tmp_path, mixture(0), parts(0)[0])
    _, rows = written(item)
    value = {"stems": list(rows.values())}
    assert is_whole(Path(item.out), value)
    path = Path(item.out, rows["vocals"]["path"])
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert not is_whole(Path(item.out), value)
    path.unlink()
    assert not is_whole(Path(item.out), value)


def test_what_a_triplet_depends_on_is_in_its_key(tmp_path: Path) -> None:
    item = item_of(tmp_path, mixture(0), parts(0)[0])
    changes: list[dict[str, Any]] = [
        {"mixture": replace(item.mixture, content_id="0")},
        {"instrumental": replace(item.instrumental, content_id="0")},
        {"song_id": "0"},
        {"segments": "[]"},
        {"drift_ppm": 1e-9},
        {"polarity": -1},
    ]
    keys = {replace(item, **change).content_ids for change in changes} | {item.content_ids}
    assert len(keys) == len(changes) + 1
    assert replace(item, out="elsewhere").content_ids == item.content_ids


@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_changed_is_not_derived_from(tmp_path: Path, which: int) -> None:
    item = item_of(tmp_path, mixture(0), parts(0)[0])
    write((item.mixture, item.instrumental)[which].location, mixture(1), RATE)
    with pytest.raises(AudioError, match="changed while it was read"):
        written(item)
    assert not Path(item.out).exists()
