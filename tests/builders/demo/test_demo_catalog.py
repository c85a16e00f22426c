"""The demo catalogue: its truth holds in the files as decoded, and its traps are what they claim to be."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import scipy.fft
import scipy.signal
import soundfile
import soxr
from tinytag import TinyTag

from builders.demo.catalog import DemoTruth, write_demo_catalog
from manifests import audio
from manifests.errors import AudioError, BuildError, RecipeError
from tests.synthesis import fractional_delay

LOSSLESS = {"flac", "wav", "wav24"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoTruth:
    # A seed whose six pairs hold every codec, and lossless ones with drift, other rates, other polarity.
    return write_demo_catalog(tmp_path_factory.mktemp("demo"), seed=197, songs=9, seconds=5.0)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> DemoTruth:
    return write_demo_catalog(tmp_path_factory.mktemp("small"), seed=5, songs=4, seconds=4.0)


def decoded(path: Path) -> tuple[npt.NDArray[np.float64], int]:
    audio, sample_rate = soundfile.read(path, dtype="float64", always_2d=True)
    return audio.T, sample_rate


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def transfer(source, target, low, high):
    """Least-squares delay (frames, phase slope) and gain (dB) from source to target, between two bins."""
    window = np.hanning(source.shape[-1])
    before, after = scipy.fft.rfft(source * window), scipy.fft.rfft(target * window)
    omega = 2 * np.pi * np.arange(low, high) / source.shape[-1]
    cross = (np.conj(before) * after)[..., low:high]
    power = (np.abs(before) ** 2)[..., low:high]
    delay = -(cross.imag * omega).sum() / (power * omega**2).sum()
    return delay, 20 * np.log10(cross.real.sum() / power.sum())


def placed(demo: DemoTruth, pair):
    """The instrumental where the truth puts it in the mixture, the mixture without vocals, the vocals."""
    mixture, rate = decoded(demo.library / pair.mixture_path)
    instrumental, other = decoded(demo.library / pair.instrumental_path)
    vocals, vocals_rate = decoded(demo.truth / pair.vocals_path)
    assert rate == vocals_rate == pair.sample_rate
    assert vocals.shape == mixture.shape
    if other != rate:
        instrumental = soxr.resample(instrumental.T, other, rate, "VHQ").T
    stretch = 1 + pair.drift_ppm * 1e-6
    if stretch != 1:
        instrumental = soxr.resample(instrumental.T, stretch, 1.0, "VHQ").T
    room = mixture.shape[-1] + int(abs(pair.lag_frames)) + 64
    instrumental = np.pad(instrumental, ((0, 0), (0, max(0, room - instrumental.shape[-1]))))
    instrumental = fractional_delay(instrumental, -pair.lag_frames / stretch)[:, : mixture.shape[-1]]
    return instrumental * pair.polarity * 10 ** (pair.gain_db / 20), mixture - vocals, vocals


@pytest.fixture(scope="module")
def placements(demo: DemoTruth) -> list[tuple]:
    return [(pair, *placed(demo, pair)) for pair in demo.pairs.itertuples()]


def test_truth_places_every_instrumental_in_its_mixture(placements):
    for pair, instrumental, rest, _ in placements:
        frames = scipy.fft.prev_fast_len(rest.shape[-1], real=True)
        instrumental, rest = instrumental[:, :frames], rest[:, :frames]
        lossless = {pair.mixture_codec, pair.instrumental_codec} <= LOSSLESS
        low, high = int(300 / pair.sample_rate * frames), int(5000 / pair.sample_rate * frames)
        delay, gain_db = transfer(instrumental, rest, low, high)
        # Coding noise, not position, is what remains of a lossy pair: its bound is looser for that reason.
        assert abs(delay) < (0.002 if lossless else 0.06), pair
        assert abs(gain_db) < (0.005 if lossless else 0.6), pair
        if lossless:
            # Aside from what lies above the lower of two Nyquist frequencies, only quantisation is left.
            quiet = scipy.fft.rfft(instrumental - rest)[..., :high]
            loud = scipy.fft.rfft(rest)[..., :high]
            assert np.sum(np.abs(quiet) ** 2) < 1e-6 * np.sum(np.abs(loud) ** 2), pair


def test_catalogue_covers_what_it_promises(demo):
    pairs = demo.pairs
    assert len(pairs) == 6
    codecs = {codec.split("-")[0] for codec in [*pairs.mixture_codec, *pairs.instrumental_codec]}
    assert codecs >= {"flac", "wav", "mp3", "vorbis", "opus"}
    lossless = pairs[pairs.mixture_codec.isin(LOSSLESS) & pairs.instrumental_codec.isin(LOSSLESS)]
    assert set(pairs.polarity) == {-1, 1}
    assert -1 in set(lossless.polarity)
    assert (lossless.drift_ppm != 0).any()
    assert (lossless.lag_frames % 1 != 0).any()
    assert (pairs.drift_ppm == 0).any()
    assert pairs.drift_ppm[pairs.drift_ppm != 0].abs().between(4.9, 40.1).all()
    assert list(pairs.tagged).count(False) == 1
    assert pairs.artist.nunique() >= 5
    assert pairs.genre.nunique() >= 6


def test_levels_are_those_of_records(placements):
    for pair, instrumental, rest, vocals in placements:
        assert np.abs(rest + vocals).max() <= 1.0
        whole = vocals.shape[-1] // 2048 * 2048
        power = np.mean(vocals[:, :whole].reshape(2, -1, 2048) ** 2, axis=(0, 2))
        behind = np.mean(instrumental[:, :whole].reshape(2, -1, 2048) ** 2, axis=(0, 2))
        sung = power > 1e-2 * power.max()
        assert 0.15 < sung.mean() < 0.9
        ratio_db = 10 * np.log10(power[sung].mean() / behind[sung].mean())
        assert -6.0 < ratio_db < 1.0, pair


def test_tags_can_be_read_and_are_missing_where_the_truth_says_so(demo):
    labelled = 0
    for pair in demo.pairs.itertuples():
        mixture = TinyTag.get(demo.library / pair.mixture_path)
        instrumental = TinyTag.get(demo.library / pair.instrumental_path)
        if not pair.tagged:
            assert mixture.title is mixture.artist is instrumental.title is instrumental.album is None
            assert pair.title not in pair.mixture_path + pair.instrumental_path
            continue
        assert (mixture.title, mixture.artist, mixture.genre) == (pair.title, pair.artist, pair.genre)
        assert mixture.year
        assert instrumental.artist == pair.artist
        assert pair.title in instrumental.title
        assert (instrumental.title, instrumental.album) != (mixture.title, mixture.album)
        labelled += instrumental.title != pair.title
    assert labelled >= 4
    assert any(not title.isascii() for title in demo.pairs.title)


def test_decoys_are_what_they_claim(demo):
    paths = demo.decoys.set_index("kind").path
    of_paths = demo.decoys.set_index("kind").of_path
    assert list(paths.index) == [
        "no_instrumental",
        "no_mixture",
        "mislabelled",
        "cover",
        "duplicate",
        "reencoded",
        "corrupt",
    ]
    used = set(demo.pairs.mixture_path) | set(demo.pairs.instrumental_path)
    assert used.isdisjoint(paths)
    copy, source = (demo.library / path for path in (paths["duplicate"], of_paths["duplicate"]))
    assert copy.read_bytes() == source.read_bytes()
    again, first = (demo.library / path for path in (paths["reencoded"], of_paths["reencoded"]))
    assert again.read_bytes() != first.read_bytes()
    one, two = (decoded(path)[0][0] for path in (again, first))
    assert len(one) == len(two)
    assert np.corrcoef(one, two)[0, 1] > 0.95
    cover = TinyTag.get(demo.library / paths["cover"])
    original = TinyTag.get(demo.library / of_paths["cover"])
    assert cover.title == original.title
    assert cover.artist != original.artist


def likeness(one_path: Path, two_path: Path) -> float:
    """Normalised cross-correlation of a second of one file with the best place in another, 200 to 3000 Hz."""
    (one, rate), (two, other) = decoded(one_path), decoded(two_path)
    if rate != other:
        one = soxr.resample(one.T, rate, other, "VHQ").T
    # A second is short enough for the drift to do nothing, and in the middle there is singing.
    one = one[:, one.shape[-1] // 2 :][:, :other]
    size = scipy.fft.next_fast_len(one.shape[-1] + two.shape[-1], real=True)
    band = scipy.signal.butter(4, (200.0, 3000.0), "bandpass", fs=other, output="sos")
    one, two = (scipy.signal.sosfiltfilt(band, audio.mean(axis=0)) for audio in (one, two))
    spectra = [scipy.fft.rfft(audio, size) for audio in (one, two)]
    cross = np.abs(scipy.fft.irfft(np.conj(spectra[0]) * spectra[1], size))[: len(two) - len(one)]
    place = int(np.argmax(cross))
    there = two[place : place + len(one)]
    return float(cross[place] / np.sqrt(np.sum(one**2) * np.sum(there**2)))


def test_mislabelled_file_is_the_mixture_where_true_instrumentals_lack_the_voice(demo):
    row = demo.decoys.set_index("kind").loc["mislabelled"]
    assert likeness(demo.library / row.path, demo.library / row.of_path) > 0.99
    for pair in demo.pairs.itertuples():
        assert likeness(demo.library / pair.instrumental_path, demo.library / pair.mixture_path) < 0.96
    label, plain = (TinyTag.get(demo.library / path) for path in (row.path, row.of_path))
    assert (label.title, label.album) != (plain.title, plain.album)


def test_corrupt_file_is_an_audio_error(demo):
    path = demo.library / demo.decoys.set_index("kind").path["corrupt"]
    assert path.read_bytes()[:4] == b"fLaC"
    with pytest.raises(AudioError):
        audio.read(path)


def test_every_other_file_decodes_without_clipping(demo):
    corrupt = demo.decoys.set_index("kind").path["corrupt"]
    files = [path for path in demo.library.rglob("*") if path.is_file()]
    # Six pairs, a mixture, an instrumental, a mislabelled pair, and four extras.
    assert len(files) == 12 + 1 + 1 + 2 + 4
    for path in files:
        if path.relative_to(demo.library).as_posix() != corrupt:
            stereo, _ = decoded(path)
            assert stereo.shape[0] == 2
            assert 0.05 < np.abs(stereo).max() <= 1.0


def test_finished_catalogue_is_kept_and_other_settings_are_refused(small):
    before = {path: path.stat().st_mtime_ns for path in small.folder.rglob("*") if path.is_file()}
    again = write_demo_catalog(small.folder, seed=5, songs=4, seconds=4.0)
    assert before == {path: path.stat().st_mtime_ns for path in small.folder.rglob("*") if path.is_file()}
    assert again.pairs.equals(small.pairs)
    with pytest.raises(BuildError, match="choose another folder"):
        write_demo_catalog(small.folder, seed=6, songs=4, seconds=4.0)


def test_unfinished_catalogue_is_written_again_to_the_same_bytes(small, tmp_path):
    whole = digests(small.folder)
    shutil.copytree(small.truth, tmp_path / "truth")
    (tmp_path / "truth" / "pairs.parquet").unlink()
    (tmp_path / "truth" / small.pairs.vocals_path[0]).write_bytes(b"torn")
    with pytest.raises(BuildError, match="not complete"):
        DemoTruth.open(tmp_path)
    seen: list[tuple[int, int]] = []
    write_demo_catalog(tmp_path, 5, 4, 4.0, progress=lambda done, total: seen.append((done, total)))
    assert digests(tmp_path) == whole
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_another_seed_is_another_catalogue(small, demo):
    assert small.pairs.title[0] == demo.pairs.title[0]
    assert small.pairs.lag_frames[0] != demo.pairs.lag_frames[0]
    assert set(digests(small.folder).values()).isdisjoint(digests(demo.folder).values())


def test_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "mine.wav").write_bytes(b"precious")
    with pytest.raises(BuildError, match="not empty"):
        write_demo_catalog(tmp_path, songs=4, seconds=4.0)
    assert (tmp_path / "library" / "mine.wav").read_bytes() == b"precious"


@pytest.mark.parametrize(("songs", "seconds", "field"), [(3, 10.0, "songs"), (4, 3.0, "seconds")])
def test_impossible_settings_name_the_field(tmp_path, songs, seconds, field):
    with pytest.raises(RecipeError, match=field):
        write_demo_catalog(tmp_path, songs=songs, seconds=seconds)
