"""Separation of files."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from builders.recipe import SeparationRecipe
from builders.separation import plan_separation, separate_files
from manifests.audio import quantise, read, write
from manifests.errors import AudioError, BuildError, RecipeError
from separators.baselines import Identity
from separators.loading import load_separator
from separators.resampling import Resampled
from separators.separator import separate
from separators.weights import save_network
from tests.separators.small_networks import residual_unmix, seeded
from tests.separators.small_separators import Scaled, noise
from tests.synthesis import tone

RATE = 8000


@dataclass(frozen=True)
class Counted(Scaled):
    """Counts how often it is asked, and may fail."""

    asked: tuple[list[int], ...] = ([],)
    fails_at: int | None = None
    own_identity: str | None = None

    @property
    def identity(self) -> str:
        return self.own_identity or super().identity

    def stream(self, blocks):
        self.asked[0].append(1)
        if len(self.asked[0]) == self.fails_at:
            raise KeyboardInterrupt
        yield from super().stream(blocks)


def counted(**changes) -> Counted:
    return Counted(**{"factors": (0.25, 0.75), "sources": ("vocals", "rest"), "asked": ([],), **changes})


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    folder = tmp_path / "songs"
    write(folder / "one.wav", noise(5000), RATE)
    write(folder / "album" / "two.flac", noise(3000, seed=1), RATE)
    write(folder / "album" / "three.flac", noise(1, seed=2), RATE)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_of_files_becomes_a_folder_of_sources(songs: Path, tmp_path: Path) -> None:
    seen = []
    done = separate_files(songs, counted(), tmp_path / "out", progress=lambda *state: seen.append(state))
    assert [file.path for file in done.files] == ["album/three.flac", "album/two.flac", "one.wav"]
    assert done.rejected.empty
    assert seen == [("separate", number, 3, 0) for number in range(4)]
    for song, file in (("one", "one.wav"), ("album/two", "album/two.flac"), ("album/three", "album/three.flac")):
        mixture = read(songs / file)[0]
        for source, factor in (("vocals", 0.25), ("rest", 0.75)):
            audio, rate = read(tmp_path / "out" / song / f"{source}.flac")
            assert rate == RATE
            np.testing.assert_array_equal(audio, quantise(np.float32(factor) * mixture))
    assert [name for name in names(tmp_path / "out") if "/" not in name and not name.startswith(".lock")] == [
        "recipe.json",
        "rejected.parquet",
        "run.json",
    ]
    record = json.loads((tmp_path / "out" / "one" / "separated.json").read_text())
    assert record["separator"] == "scaled"
    assert record["gain_db"] == 0
    assert record["work"]["separator_identity"] == counted().identity
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["separator"] == "scaled"


def test_files_keep_their_rate_length_and_channels(tmp_path: Path) -> None:
    for name, rate, channels in (("a", 11025, 1), ("b", 8000, 2), ("c", 44100, 2)):
        write(tmp_path / f"{name}.wav", tone(440.0, 9001, rate, channels=channels), rate)
    done = separate_files([tmp_path / f"{name}.wav" for name in "abc"], counted(), tmp_path / "out")
    assert [(file.sample_rate, file.channels, file.num_frames) for file in done.files] == [
        (11025, 1, 9001),
        (8000, 2, 9001),
        (44100, 2, 9001),
    ]
    for name, rate in (("a", 11025), ("b", 8000), ("c", 44100)):
        audio, found = read(tmp_path / "out" / name / "rest.flac")
        mixture = read(tmp_path / f"{name}.wav")[0]
        assert (audio.shape, found) == (mixture.shape, rate)
        inside = slice(3000, -3000)
        np.testing.assert_allclose(audio[:, inside], 0.75 * mixture[:, inside], atol=1e-4)


def test_what_is_done_is_not_done_again(songs: Path, tmp_path: Path) -> None:
    separate_files(songs, counted(), tmp_path / "out")
    again = counted()
    done = separate_files(songs, again, tmp_path / "out")
    assert again.asked[0] == []
    assert [file.is_new for file in done.files] == [False] * 3
    assert plan_separation(songs, again, tmp_path / "out").to_do == ()

    write(songs / "one.wav", noise(4000, seed=7), RATE)
    (tmp_path / "out" / "album" / "two" / "rest.flac").write_bytes(b"torn")
    (tmp_path / "out" / "album" / "three" / "separated.json").write_text("{")
    plan = plan_separation(songs, again, tmp_path / "out")
    assert sorted(plan.to_do) == ["album/three.flac", "album/two.flac", "one.wav"]
    done = separate_files(songs, again, tmp_path / "out")
    assert [file.is_new for file in done.files] == [True] * 3
    assert read(tmp_path / "out" / "one" / "rest.flac")[0].shape == (2, 4000)

    (songs / "one.wav").write_bytes(b"no audio any more")
    assert list(separate_files(songs, again, tmp_path / "out").rejected["path"]) == ["one.wav"]
    assert list((tmp_path / "out" / "one").iterdir()) == []


def test_a_stopped_separation_goes_on_where_it_was(songs: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        separate_files(songs, counted(fails_at=2), tmp_path / "out")
    assert [name for name in names(tmp_path / "out") if ".stemloom-" in name] == []
    (tmp_path / "out" / "album" / ".stemloom-killed.tmp").write_bytes(b"half")
    plan = plan_separation(songs, counted(), tmp_path / "out")
    assert (plan.done, plan.to_do) == (("album/three.flac",), ("album/two.flac", "one.wav"))
    rest = counted()
    separate_files(songs, rest, tmp_path / "out")
    assert len(rest.asked[0]) == 2
    assert [name for name in names(tmp_path / "out") if ".stemloom-" in name] == []


def test_a_folder_holds_one_separators_work(songs: Path, tmp_path: Path) -> None:
    separate_files(songs, counted(), tmp_path / "out")
    with pytest.raises(BuildError, match=r"the work of scaled, and this is other; .*another --out folder"):
        separate_files(songs, counted(factors=(0.5, 0.5), name="other"), tmp_path / "out")
    with pytest.raises(BuildError, match="the work of scaled, and this is that of other weights"):
        separate_files(songs, counted(factors=(0.5, 0.5)), tmp_path / "out")
    with pytest.raises(BuildError, match="audio_format 'flac', and this is 'wav'"):
        separate_files(songs, counted(), tmp_path / "out", SeparationRecipe(audio_format="wav"))
    # Another path to the same weights is the same separator.
    renamed = counted(name="elsewhere", own_identity=counted().identity)
    assert not any(file.is_new for file in separate_files(songs, renamed, tmp_path / "out").files)
    assert not any(file.is_new for file in separate_files(songs, counted(), tmp_path / "out").files)
    with pytest.raises(BuildError, match="which no separation has written"):
        separate_files(songs, counted(), songs.parent)


def test_what_cannot_be_separated_is_told_and_the_rest_is_done(songs: Path, tmp_path: Path) -> None:
    (songs / "notes.txt").write_text("no music")
    (songs / "broken.wav").write_bytes(b"RIFF but no more")
    write(songs / "surround.wav", noise(500, 6), RATE)
    done = separate_files(songs, counted(), tmp_path / "out")
    assert len(done.files) == 3
    rejected = done.rejected.set_index("path")
    assert sorted(rejected.index) == ["broken.wav", "notes.txt", "surround.wav"]
    assert "6 channels" in rejected.loc["surround.wav", "detail"]
    assert rejected.loc["notes.txt", "reason"] == "not audio"
    assert json.loads((tmp_path / "out" / "run.json").read_text())["counts"]["separate"]["rejected"] == 2
    missing = separate_files([songs / "none.wav"], counted(), tmp_path / "elsewhere")
    assert "No such file" in missing.rejected.loc[0, "detail"]


def test_what_is_left_out_by_its_name_is_said_by_name(songs: Path, tmp_path: Path, caplog) -> None:
    for name in ("cover.jpg", "album/notes.txt"):
        (songs / name).write_text("no music")
    with caplog.at_level(logging.WARNING):
        done = separate_files(songs, counted(), tmp_path / "out")
    assert "no audio by their names: album/notes.txt, cover.jpg" in caplog.text
    assert done.is_whole
    (songs / "old.WMA").write_text("music")
    with caplog.at_level(logging.WARNING):
        done = separate_files(songs, counted(), tmp_path / "out")
    assert "old.WMA: not separated: .WMA is audio of a format that is not read" in caplog.text
    assert done.rejected.set_index("path").loc["old.WMA", "reason"] == "unread format"
    assert not done.is_whole


def test_a_file_that_is_given_twice_is_separated_once_and_said(songs: Path, tmp_path: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        done = separate_files([songs / "one.wav", songs / "album" / ".." / "one.wav"], counted(), tmp_path / "out")
    assert [file.path for file in done.files] == ["one.wav"]
    assert "one.wav: is given 2 times, and separated once" in caplog.text


def test_nan_is_a_reject_not_a_file(songs: Path, tmp_path: Path) -> None:
    done = separate_files(songs / "one.wav", counted(factors=(1.0, float("nan"))), tmp_path / "out")
    assert "gives NaN or infinity for 'rest'" in done.rejected.loc[0, "detail"]
    assert not (tmp_path / "out" / "one").exists()


def test_what_is_beyond_full_scale_lowers_all_sources_alike_and_says_so(tmp_path: Path, caplog) -> None:
    write(tmp_path / "loud.wav", tone(440.0, 4000, RATE, amplitude=0.8), RATE)
    loud = counted(factors=(0.5, 2.0))
    with caplog.at_level(logging.WARNING):
        (file,) = separate_files(tmp_path / "loud.wav", loud, tmp_path / "out").files
    peak = 2 * np.abs(read(tmp_path / "loud.wav")[0]).max()
    assert file.gain_db == pytest.approx(20 * np.log10(0.999 / peak), abs=1e-3)
    assert "'rest' peaks at +4.08 dB" in caplog.text
    vocals, rest = (read(tmp_path / "out" / "loud" / f"{name}.flac")[0] for name in ("vocals", "rest"))
    assert np.abs(rest).max() == pytest.approx(0.999, abs=1e-5)
    np.testing.assert_allclose(rest, 4 * vocals, atol=1e-6)
    assert json.loads((tmp_path / "out" / "loud" / "separated.json").read_text())["gain_db"] == file.gain_db

    recipe = SeparationRecipe(audio_format="wav", bit_depth=32)
    (file,) = separate_files(tmp_path / "loud.wav", loud, tmp_path / "float", recipe).files
    assert file.gain_db == 0
    np.testing.assert_array_equal(
        read(tmp_path / "float" / "loud" / "rest.wav")[0], 2 * read(tmp_path / "loud.wav")[0]
    )


def test_formats_are_what_was_asked_for(songs: Path, tmp_path: Path) -> None:
    recipe = SeparationRecipe(audio_format="wav", bit_depth=16)
    separate_files(songs / "one.wav", counted(), tmp_path / "out", recipe)
    info = soundfile.info(tmp_path / "out" / "one" / "vocals.wav")
    assert (info.format, info.subtype) == ("WAV", "PCM_16")
    with pytest.raises(ValidationError, match="flac does not hold"):
        SeparationRecipe(bit_depth=32)


def test_files_of_one_name_do_not_share_a_folder(tmp_path: Path) -> None:
    for number, name in enumerate(("song.wav", "song.flac", "Song.wav.flac", "a/song.wav")):
        write(tmp_path / "in" / name, noise(50, seed=number), RATE)
    done = separate_files(tmp_path / "in", Identity(sample_rate=RATE), tmp_path / "out")
    folders = {file.path: file.folder.relative_to(tmp_path / "out").as_posix() for file in done.files}
    assert folders == {
        "song.wav": "song.wav",
        "song.flac": "song.flac",
        "Song.wav.flac": "Song.wav.flac",
        "a/song.wav": "a/song",
    }
    for name, folder in folders.items():
        mixture = read(tmp_path / "in" / name)[0]
        np.testing.assert_array_equal(
            read(tmp_path / "out" / folder / "vocals.flac")[0], quantise(mixture / np.float32(2))
        )


def test_only_the_first_files(songs: Path, tmp_path: Path) -> None:
    done = separate_files(songs, counted(), tmp_path / "out", limit=2)
    assert [file.path for file in done.files] == ["album/three.flac", "album/two.flac"]


def test_what_makes_no_sense_is_refused_before_anything_is_written(songs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(RecipeError, match=r"source '\.\./vocals' is no name for a file"):
        separate_files(songs, counted(sources=("../vocals", "rest")), out)
    with pytest.raises(RecipeError, match="would share files"):
        separate_files(songs, counted(sources=("Vocals", "vocals")), out)
    with pytest.raises(RecipeError, match="limit is 0"):
        separate_files(songs, counted(), out, limit=0)
    with pytest.raises(RecipeError, match="no files"):
        separate_files([], counted(), out)
    with pytest.raises(RecipeError, match="is a folder"):
        separate_files([songs], counted(), out)
    with pytest.raises(AudioError, match="none: there is no such file or folder"):
        separate_files(songs / "none", counted(), out)
    with pytest.raises(BuildError, match="is inside of"):
        separate_files(songs, counted(), songs / "out")
    assert not out.exists()
    assert not (songs / "out").exists()


def test_a_full_disk_stops_the_run(songs: Path, tmp_path: Path, monkeypatch) -> None:
    import manifests.files

    def full(temporary: Path):
        if temporary.parent.name == "one":
            raise OSError(28, "No space left on device")
        return created(temporary)

    created = manifests.files._created
    monkeypatch.setattr(manifests.files, "_created", full)
    with pytest.raises(BuildError, match="No space left"):
        separate_files(songs, counted(), tmp_path / "out")
    monkeypatch.undo()
    done = separate_files(songs, counted(), tmp_path / "out")
    assert [file.is_new for file in done.files] == [False, False, True]


def test_a_checkpoint_separates_files_of_any_rate(tmp_path: Path) -> None:
    save_network(tmp_path / "net.safetensors", seeded(residual_unmix))
    write(tmp_path / "song.flac", noise(7001, 1), 48000)
    separator = load_separator(f"checkpoint:{tmp_path}/net.safetensors", overlap=0.5)
    (file,) = separate_files(tmp_path / "song.flac", separator, tmp_path / "out").files
    assert (file.num_frames, file.sample_rate, file.channels) == (7001, 48000, 1)
    got = sum(read(file.folder / f"{source}.flac")[0] for source in ("vocals", "rest"))
    low = Resampled(Identity(sources=("all",)), 48000, 1)
    # The network's sources sum to the mixture up to its own half rate, but for what its Wiener filter regularises.
    np.testing.assert_allclose(got, separate(low, read(tmp_path / "song.flac")[0])[0], atol=0.02)
