"""Files of a song: linked, copied, or encoded, with exact sums and bounded memory."""

import os

import numpy as np
import pytest
import soundfile
import soxr

from manifests.audio import probe, quantise, read, write
from manifests.errors import AudioError
from manifests.exports import mixing, placing
from manifests.exports.mixing import CEILING, Shape, Sound, full_scale_gain, resampled_frames, side_by_side
from manifests.exports.placing import place, take_file
from tests.manifests.exports.small_corpus import RATE, files_of, sounds
from tests.synthesis import pink_noise

FRAMES = 1000
SHAPE = Shape(FRAMES, 2, RATE)


@pytest.fixture
def song(tmp_path):
    """Four stems and their mixture, as sounds by stem."""
    made = {}
    for stem, audio in sounds(1, frames=FRAMES).items():
        write(tmp_path / "in" / f"{stem}.flac", audio, RATE)
        made[stem] = sound(tmp_path / "in" / f"{stem}.flac")
    return made


def sound(path):
    return Sound(path, probe(path))


def noise(seed, channels=2, frames=FRAMES, rms=0.1):
    return quantise(pink_noise(np.random.default_rng(seed), channels, frames, rms=rms))


def subtype(path):
    return soundfile.info(path).subtype


@pytest.mark.parametrize("block_frames", [1, 333, 1 << 17])
def test_files_are_decoded_side_by_side_and_summed(song, monkeypatch, block_frames):
    monkeypatch.setattr(mixing, "_BLOCK_FRAMES", block_frames)
    groups = {"all": [s for stem, s in song.items() if stem != "mixture"], "mixture": [song["mixture"]], "none": []}
    chunks = list(side_by_side(groups, SHAPE))
    whole = {key: np.concatenate([chunk[key] for chunk in chunks], axis=1) for key in groups}
    assert np.array_equal(whole["all"], sounds(1, frames=FRAMES)["mixture"])
    assert np.array_equal(whole["mixture"], whole["all"])
    assert np.array_equal(whole["none"], np.zeros((2, FRAMES), np.float32))
    assert {chunk[key].dtype for chunk in chunks for key in groups} == {np.dtype(np.float32)}
    assert max(chunk["all"].shape[1] for chunk in chunks) <= block_frames


@pytest.mark.parametrize(("rate", "block_frames"), [(6000, 1 << 17), (11025, 1 << 17), (6000, 75), (11025, 333)])
def test_other_rates_are_resampled_in_blocks_as_the_whole_is(song, monkeypatch, rate, block_frames):
    monkeypatch.setattr(mixing, "_BLOCK_FRAMES", block_frames)
    frames = resampled_frames(FRAMES, RATE, rate)
    assert frames == round(FRAMES * rate / RATE)
    groups = {"bass": [song["bass"]], "all": [s for stem, s in song.items() if stem != "mixture"]}
    chunks = list(side_by_side(groups, Shape(frames, 2, rate)))
    whole = {key: np.concatenate([chunk[key] for chunk in chunks], axis=1) for key in groups}
    audio = sounds(1, frames=FRAMES)
    for key, source in (("bass", audio["bass"]), ("all", audio["mixture"])):
        expected = soxr.resample(source.T, RATE, rate, quality="VHQ").T
        assert whole[key].shape == (2, frames)
        assert np.abs(whole[key] - expected[:, :frames]).max() < 1e-6


def test_a_tone_is_the_same_tone_at_another_rate(tmp_path):
    seconds = np.arange(4000) / RATE
    write(tmp_path / "tone.wav", np.float32(0.5) * np.sin(2 * np.pi * 440 * seconds).astype(np.float32)[None], RATE)
    shape = Shape(resampled_frames(4000, RATE, 6000), 1, 6000)
    placed = place(
        {tmp_path / "out": [sound(tmp_path / "tone.wav")]}, shape, take=(".wav",), encode=".wav", link=True
    )
    audio, rate = read(placed[tmp_path / "out"].path)
    assert (placed[tmp_path / "out"].how, rate, subtype(placed[tmp_path / "out"].path)) == (
        "encoded",
        6000,
        "PCM_24",
    )
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(audio.shape[1]) / 6000)
    assert np.abs(audio[0] - expected)[300:-300].max() < 1e-4


def test_short_and_mono_files_are_padded_and_spread(tmp_path, monkeypatch):
    monkeypatch.setattr(mixing, "_BLOCK_FRAMES", 300)
    mono = noise(3, channels=1, frames=450)
    write(tmp_path / "mono.wav", mono, RATE)
    chunks = list(side_by_side({"a": [sound(tmp_path / "mono.wav")]}, SHAPE))
    expected = np.zeros((2, FRAMES), np.float32)
    expected[:, :450] = mono
    assert np.array_equal(np.concatenate([chunk["a"] for chunk in chunks], axis=1), expected)


@pytest.mark.parametrize("num_frames", [FRAMES - 1, FRAMES // 2])
def test_a_file_longer_than_said_is_an_error(song, monkeypatch, num_frames):
    monkeypatch.setattr(mixing, "_BLOCK_FRAMES", FRAMES // 2)
    with pytest.raises(AudioError, match=r"bass\.flac: delivers more"):
        list(side_by_side({"a": [song["bass"]]}, Shape(num_frames, 2, RATE)))


def place_all(tmp_path, groups, *, take=(".flac",), encode=".wav", link=False, gain=1.0):
    targets = {tmp_path / "out" / name: group for name, group in groups.items()}
    placed = place(targets, SHAPE, take=take, encode=encode, link=link, gain=gain)
    assert list(placed) == list(targets)
    return {target.name: file for target, file in placed.items()}


def test_a_known_format_is_taken_byte_for_byte(tmp_path, song):
    placed = place_all(tmp_path, {"Op. 5": [song["bass"]]})
    assert placed["Op. 5"].how == "copied"
    assert placed["Op. 5"].path.name == "Op. 5.flac"
    assert placed["Op. 5"].path.read_bytes() == song["bass"].path.read_bytes()
    assert not os.path.samefile(placed["Op. 5"].path, song["bass"].path)


def test_a_link_is_the_same_file_also_through_a_symbolic_link(tmp_path, song):
    (tmp_path / "alias.flac").symlink_to(song["bass"].path)
    for source in (song["bass"].path, tmp_path / "alias.flac"):
        placed = take_file(source, tmp_path / "out" / f"{source.stem}.flac", link=True)
        assert placed.how == "linked"
        assert os.path.samefile(placed.path, song["bass"].path)
        assert not placed.path.is_symlink()


def test_where_links_are_not_possible_there_are_copies(tmp_path, song, monkeypatch):
    def refused(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    assert place_all(tmp_path, {"a": [song["bass"]]}, link=True)["a"].how == "copied"


def test_a_source_that_cannot_be_read_is_an_audio_error(tmp_path):
    with pytest.raises(AudioError, match=r"gone\.wav: cannot be read \(No such file"):
        take_file(tmp_path / "gone.wav", tmp_path / "out" / "a.wav", link=True)
    assert files_of(tmp_path) == []


def test_other_formats_sums_and_silence_are_encoded_without_loss(tmp_path, song):
    groups = {"bass": [song["bass"]], "two": [song["drums"], song["vocals"]], "none": []}
    placed = place_all(tmp_path, groups, take=(".wav",))
    audio = sounds(1, frames=FRAMES)
    assert {file.how for file in placed.values()} == {"encoded"}
    assert np.array_equal(read(placed["bass"].path)[0], audio["bass"])
    assert np.array_equal(read(placed["two"].path)[0], audio["drums"] + audio["vocals"])
    assert np.array_equal(read(placed["none"].path)[0], np.zeros((2, FRAMES)))
    assert subtype(placed["bass"].path) == "PCM_24"


def test_sixteen_bit_stays_sixteen_bit(tmp_path):
    parts = [quantise(noise(seed, rms=0.05), 16) for seed in range(2)]
    files = []
    for number, part in enumerate(parts):
        write(tmp_path / f"{number}.flac", part, RATE, 16)
        files.append(sound(tmp_path / f"{number}.flac"))
    placed = place_all(tmp_path, {"one": files[:1], "sum": files}, take=())
    assert {subtype(file.path) for file in placed.values()} == {"PCM_16"}
    assert np.array_equal(read(placed["sum"].path)[0], parts[0] + parts[1])


def test_a_gain_is_put_on_every_file(tmp_path, song):
    placed = place_all(tmp_path, {"bass": [song["bass"]], "none": []}, gain=0.3)
    assert placed["bass"].how == "encoded"
    assert np.allclose(read(placed["bass"].path)[0], sounds(1, frames=FRAMES)["bass"] * 0.3, atol=2**-23)


def test_a_sum_beyond_full_scale_asks_for_a_gain(tmp_path):
    audio = noise(1) / np.abs(noise(1)).max() * np.float32(0.75)
    write(tmp_path / "a.flac", audio, RATE)
    one = sound(tmp_path / "a.flac")
    twice = {tmp_path / "x": [one, one]}
    gain = full_scale_gain(twice, SHAPE, take=(".flac",))
    assert gain == pytest.approx(CEILING / 1.5, abs=1e-6)
    placed = place(twice, SHAPE, take=(".flac",), encode=".flac", link=False, gain=gain)
    assert np.abs(read(placed[tmp_path / "x"].path)[0]).max() == pytest.approx(CEILING, abs=1e-6)
    assert full_scale_gain({tmp_path / "x": [one]}, SHAPE, take=(".flac",)) == 1.0


def test_a_gain_is_that_of_the_whole_song(tmp_path, song):
    loud = noise(4) / np.abs(noise(4)).max()
    soundfile.write(tmp_path / "float.wav", 1.5 * loud.T, RATE, subtype="FLOAT")
    write(tmp_path / "a.wav", 0.75 * loud, RATE)
    float_file, half = sound(tmp_path / "float.wav"), sound(tmp_path / "a.wav")
    song = {tmp_path / "mixture": [float_file], tmp_path / "twice": [half, half]}
    assert full_scale_gain(song, SHAPE, take=(".wav",)) == pytest.approx(CEILING / 1.5, abs=1e-6)
    song[tmp_path / "twice"] = [half]
    assert full_scale_gain(song, SHAPE, take=(".wav",)) == 1.0


def test_an_earlier_file_is_replaced_by_a_link(tmp_path, song):
    source, target = song["bass"].path, tmp_path / "out" / "bass.flac"
    for earlier in (b"other", source.read_bytes()):
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(earlier)
        for _ in range(2):
            assert take_file(source, target, link=True).how == "linked"
            assert os.path.samefile(source, target)
            assert files_of(tmp_path / "out") == ["bass.flac"]
        target.unlink()


def test_only_files_whose_peak_is_not_known_are_decoded_for_the_gain(tmp_path, song, monkeypatch):
    soundfile.write(tmp_path / "float.wav", (noise(4) * 12).T, RATE, subtype="FLOAT")
    loud = sound(tmp_path / "float.wav")
    peak = float(np.abs(read(loud.path)[0]).max())
    assert peak > 1
    assert full_scale_gain({tmp_path / "x": [loud]}, SHAPE, take=()) == pytest.approx(CEILING / peak)

    def refuse(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(mixing, "side_by_side", refuse)
    assert full_scale_gain({tmp_path / "x": [song["bass"]], tmp_path / "y": []}, SHAPE, take=()) == 1.0


def test_memory_holds_blocks_and_not_files(tmp_path, monkeypatch):
    monkeypatch.setattr(mixing, "_BLOCK_FRAMES", 100)
    write(tmp_path / "a.flac", noise(1), RATE)
    widths = []
    real = placing.encoding

    def counting(*arguments):
        context = real(*arguments)

        class Counting:
            def __enter__(self):
                write_block = context.__enter__()

                def counted(block):
                    widths.append(block.shape[1])
                    write_block(block)

                return counted

            def __exit__(self, *error):
                return context.__exit__(*error)

        return Counting()

    monkeypatch.setattr(placing, "encoding", counting)
    place_all(tmp_path, {"a": [sound(tmp_path / "a.flac")]}, take=())
    assert widths == [100] * 10
