"""Programs as separators."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from manifests.errors import AudioError, RecipeError
from separators import Separator, separate
from separators.loading import LoadOptions
from separators.pretrained import programs
from tests.separators.small_separators import blocks_of, noise

# Sources by name of file: factors of the mixture, and whatever else the arguments say.
SCRIPT = """
import pathlib, sys
import numpy as np, soundfile
mixture, rate = soundfile.read(sys.argv[1], dtype="float32", always_2d=True)
folder = pathlib.Path(sys.argv[2])
for word in sys.argv[3:]:
    name, factor, *rest = word.split(":")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = float(factor) * mixture
    frames = int(rest[0]) if rest else 0
    audio = np.pad(audio, ((0, max(frames, 0)), (0, 0)))[: len(audio) + frames]
    channels = int(rest[1]) if len(rest) > 1 else mixture.shape[1]
    soundfile.write(path, audio[:, :channels], int(rest[2]) if len(rest) > 2 else rate, subtype="FLOAT")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "separate.py").write_text(SCRIPT)
    return tmp_path


def loaded(words: str, folder: Path, settings: str = "sources=vocals,rest sample_rate=8000") -> Separator:
    command = f"{settings} {shlex.quote(sys.executable)} {words}"
    return programs.load(command.strip(), LoadOptions(folder=folder))


def of_files(files: str, folder: Path, settings: str = "sources=vocals,rest sample_rate=8000") -> Separator:
    return loaded(f"separate.py {{input}} {{output}} {files}", folder, settings)


@pytest.mark.parametrize(
    "files",
    [
        "vocals.wav:0.25 rest.wav:0.75",
        "mixture/Vocals.wav:0.25 mixture/rest.wav:0.75 mixture/mixture.wav:1",
        "mixture_vocals.wav:0.25 mixture-rest.wav:0.75 mixture_no_vocals.wav:1",
        "'mixture_(Vocals)_some-model.wav:0.25' 'mixture_(Rest)_some-model.wav:0.75'",
    ],
)
def test_sources_are_read_from_what_it_writes(folder: Path, files: str) -> None:
    separator, mixture = of_files(files, folder), noise(1000)
    assert (separator.sources, separator.sample_rate, separator.channels) == (("vocals", "rest"), 8000, 2)
    wanted = np.stack([0.25 * mixture, 0.75 * mixture])
    found = np.concatenate(list(separator.stream(blocks_of(mixture))), axis=2)
    np.testing.assert_allclose(found, wanted, atol=1e-7)


def test_beyond_full_scale_nothing_is_clipped(folder: Path) -> None:
    mixture = 20 * noise(100)
    np.testing.assert_array_equal(separate(of_files("vocals.wav:1 rest.wav:1", folder), mixture)[0], mixture)


def test_a_longer_name_is_not_taken_for_a_shorter_one(folder: Path) -> None:
    separator = of_files("a_vocals.wav:1 a_no_vocals.wav:2", folder, "sources=vocals,no_vocals sample_rate=8000")
    found = separate(separator, noise(100))
    np.testing.assert_allclose(found[1], 2 * found[0])


def test_a_yaml_file_says_the_same(folder: Path) -> None:
    words = [sys.executable, "separate.py", "{input}", "{output}", "vocals.wav:0.5", "rest.wav:0.5"]
    fields = {"program": words, "sources": ["vocals", "rest"], "sample_rate": 8000, "timeout_s": 60}
    (folder / "mine.yaml").write_text(json.dumps(fields))
    separator = programs.load("mine.yaml", LoadOptions(folder=folder))
    settings = "sources=vocals,rest sample_rate=8000 timeout_s=60"
    assert separator.identity == of_files("vocals.wav:0.5 rest.wav:0.5", folder, settings).identity
    np.testing.assert_allclose(separate(separator, noise(100)), np.stack([0.5 * noise(100)] * 2))


@pytest.mark.parametrize(("more", "end"), [(1, 0.0), (0, None), (-1, None)])
def test_a_frame_more_or_less_is_put_right_at_the_end(folder: Path, more: int, end: float | None) -> None:
    mixture = noise(500)
    found = separate(of_files(f"vocals.wav:1:{more} rest.wav:1", folder), mixture)
    assert found.shape == (2, 2, 500)
    whole = min(500, 500 + more)
    np.testing.assert_array_equal(found[0, :, :whole], mixture[:, :whole])
    assert not found[0, :, whole:].any()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            "vocals.wav:1:2 rest.wav:1",
            "its vocals.wav: has 502 frames, and the mixture 500; raise tolerance_frames",
        ),
        ("vocals.wav:1:0:1 rest.wav:1", "its vocals.wav: has 8000 Hz and 1 channels, not 8000 and 2"),
        ("vocals.wav:1:0:2:44100 rest.wav:1", "its vocals.wav: has 44100 Hz and 2 channels, not 8000 and 2"),
        ("vocals.wav:1", "gives no file of 'rest': there is vocals.wav"),
        ("no_vocals.wav:1 rest.wav:1", "gives no file of 'vocals': there is no_vocals.wav, rest.wav"),
        ("a_vocals.wav:1 b_vocals.wav:1 rest.wav:1", "gives several files of 'vocals': there is a_vocals.wav"),
        ("vocals.wav:nan rest.wav:1", "its vocals.wav: .*sample nan at frame 499"),
    ],
)
def test_what_it_gives_otherwise_is_an_error_of_the_song(folder: Path, files: str, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        separate(of_files(files, folder), noise(500))


def test_tolerance_is_a_setting(folder: Path) -> None:
    settings = "sources=vocals sample_rate=8000 tolerance_frames=200"
    assert separate(of_files("vocals.wav:1:-150", folder, settings), noise(500)).shape == (1, 2, 500)


def test_what_a_failing_program_says_at_last_is_told(folder: Path) -> None:
    script = "import sys; print('starting'); sys.exit('no such model')"
    separator = loaded(f"-c {shlex.quote(script)} {{input}} {{output}}", folder)
    with pytest.raises(AudioError, match=r"(?s)fails with exit status 1; it says at last: .*no such model"):
        separate(separator, noise(100))
    script = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    with pytest.raises(AudioError, match="fails with exit status -11"):
        separate(loaded(f"-c {shlex.quote(script)} {{input}} {{output}}", folder), noise(100))


def test_a_hanging_program_is_ended_with_what_it_has_started(folder: Path) -> None:
    child = "import time, pathlib\\nwhile True: pathlib.Path('beat').touch(); time.sleep(0.02)"
    script = f'import subprocess, sys; subprocess.run([sys.executable, "-c", "{child}"])'
    (folder / "hang.py").write_text(script)
    separator = loaded("hang.py {input} {output}", folder, "sources=vocals sample_rate=8000 timeout_s=3")
    with pytest.raises(AudioError, match="takes longer than 3 s and was ended; raise timeout_s"):
        separate(separator, noise(100))
    assert (folder / "beat").exists()
    (folder / "beat").unlink()
    time.sleep(0.3)
    assert not (folder / "beat").exists()


def test_nothing_is_left_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = folder / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    separate(of_files("vocals.wav:1 rest.wav:1", folder), noise(100))
    with pytest.raises(AudioError):
        separate(of_files("rest.wav:1", folder), noise(100))
    stream = of_files("vocals.wav:1 rest.wav:1", folder).stream([noise(100)])
    next(stream)
    stream.close()
    assert list(place.iterdir()) == []


def test_no_shell_reads_the_words(folder: Path) -> None:
    separator = of_files("vocals.wav:1 rest.wav:1 '$(touch ran).wav:1' ';touch ran.wav:1'", folder)
    assert separate(separator, noise(100)).shape == (2, 2, 100)
    assert not (folder / "ran").exists()


def test_a_mixture_too_long_for_its_file_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_WAV_BYTES", 800)
    with pytest.raises(AudioError, match="too long for a WAV file"):
        separate(of_files("vocals.wav:1 rest.wav:1", folder), noise(101))


def test_identity_is_of_the_command_its_files_and_its_version(folder: Path) -> None:
    files, settings = "vocals.wav:1 rest.wav:1", "sources=vocals,rest sample_rate=8000"
    first = of_files(files, folder, settings).identity
    assert of_files(files, folder, settings).identity == first
    assert of_files("vocals.wav:2 rest.wav:1", folder, settings).identity != first
    assert of_files(files, folder, f"{settings} version=2").identity != first
    (folder / "separate.py").write_text(SCRIPT + "\n")
    assert of_files(files, folder, settings).identity != first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources=vocals no-such-program {input} {output}", "there is no program 'no-such-program'; install it"),
        ("sources=vocals ./missing {input} {output}", "there is no program './missing'"),
        ("sources=vocals python {input}", r"\{output\} is in no word behind the program"),
        ("python {input} {output}", "field 'sources' is missing"),
        ("sourcs=vocals python {input} {output}", "unknown field 'sourcs'; did you mean 'sources'"),
        ("sources=vocals timeout_s=-1 python {input} {output}", "timeout_s"),
        ("sources=vocals,vocals python {input} {output}", "distinct names"),
        ("sources=vocals python '{input} {output}", r"cannot be cut into words \(No closing quotation\)"),
        ("sources=vocals", "program"),
        ("missing.yaml", r"missing.yaml: cannot be read"),
    ],
)
def test_commands_that_cannot_be_run_are_refused(folder: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        programs.load(text, LoadOptions(folder=folder))
