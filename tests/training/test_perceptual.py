"""The 2f-model against its formula, and programs that print what PEAQ measured."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from manifests.audio import Audio
from manifests.errors import AudioError, RecipeError
from tests.synthesis import pink_noise
from training.perceptual import (
    GSTPEAQ_COMMAND,
    PeaqBackend,
    PeaqMovs,
    PeaqProgram,
    two_f_model,
    two_f_scores,
)

# Prints the rates, channels and peaks of two WAV files as if they were PEAQ's variables.
PROGRAM = """
import json, sys, wave
def peak(path):
    with wave.open(path) as file:
        assert file.getframerate() == 48000 and file.getsampwidth() == 2
        data = file.readframes(file.getnframes())
    return max(abs(int.from_bytes(data[i:i + 2], "little", signed=True)) for i in range(0, len(data), 2)) / 32768
style, reference, estimate = sys.argv[1:]
movs = {"AvgModDiff1": 100 * peak(reference), "ADB": peak(estimate)}
if style == "json":
    print(json.dumps(movs | {"ODG": -1.5}))
elif style == "gstpeaq":
    print("Setting pipeline to PAUSED ...")
    print("   BandwidthRefB: %f" % 900)
    print("            ADBB: %f" % movs["ADB"])
    print("    AvgModDiff1B: %f" % movs["AvgModDiff1"])
    print("    AvgModDiff2B: %f" % 125.292)
    print("Objective Difference Grade: -1.500")
elif style == "grade":
    print("Objective Difference Grade: -1.500\\nDistortion Index: -0.8")
elif style == "nan":
    print('{"AvgModDiff1": NaN, "ADB": 1}')
elif style == "list":
    print("[1, 2]")
else:
    sys.exit("no such file, <%s>" % style)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "a folder" / "peaq.py"
    path.parent.mkdir()
    path.write_text(PROGRAM)
    return path


def backend(program: Path, style: str, **settings: float) -> PeaqProgram:
    return PeaqProgram([sys.executable, str(program), style, "{reference}", "{estimate}"], **settings)  # type: ignore[arg-type]


def sound(peak: float, channels: int = 2, frames: int = 2000) -> Audio:
    audio = pink_noise(np.random.default_rng(0), channels, frames)
    return audio * np.float32(peak / np.abs(audio).max())


class Remembering:
    """A backend that keeps what it was given."""

    name = "remembering"

    def __init__(self) -> None:
        self.given: list[tuple[Audio, Audio]] = []

    def __call__(self, reference: Audio, estimate: Audio) -> PeaqMovs:
        self.given.append((reference, estimate))
        return PeaqMovs(20.0, 1.0 + len(self.given) / 10)


def test_the_formula_is_kastners() -> None:
    # Kastner & Herre 2019, equation 1, by hand
    assert two_f_model(0.0, 2.0) == pytest.approx(56.1345 / (1 + 0.8628**2) - 54.2902 + 86.3515)
    assert two_f_model(50.0, 1.0) == pytest.approx(56.1345 / (1 + (1.41 + 0.8628) ** 2) - 27.1451 + 86.3515)
    assert two_f_model(0.0, -1.0) == 100.0
    assert two_f_model(500.0, 4.0) == 0.0
    found = [two_f_model(difference, 2.0) for difference in range(0, 100, 10)]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("style", ["json", "gstpeaq"])
def test_a_program_is_given_both_and_its_output_is_read(style: str, program: Path) -> None:
    measure = backend(program, style)
    assert isinstance(measure, PeaqBackend)
    assert measure.name == Path(sys.executable).name
    found = measure(sound(0.25), sound(0.75, channels=2))
    assert found.avg_mod_diff_1 == pytest.approx(25.0, abs=0.01)
    assert found.adb == pytest.approx(0.75, abs=0.001)


@pytest.mark.parametrize(
    ("style", "message"),
    [
        ("grade", "prints no numbers AvgModDiff1 and ADB, but 'Objective Difference Grade: -1.500"),
        ("nan", "prints no numbers"),
        ("list", "prints no numbers"),
        ("missing", "exit status 1: no such file, <missing>"),
    ],
)
def test_a_program_that_fails_is_named_with_what_it_says(style: str, message: str, program: Path) -> None:
    with pytest.raises(AudioError, match=message) as caught:
        backend(program, style)(sound(0.5), sound(0.5))
    assert sys.executable in str(caught.value)


def test_a_program_that_hangs_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "hang.py"
    path.write_text("import time; time.sleep(60)")
    with pytest.raises(AudioError, match=r"longer than 0\.5 s"):
        backend(path, "json", timeout_s=0.5)(sound(0.5), sound(0.5))


def test_commands_that_cannot_work_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"has no \{estimate\}"):
        PeaqProgram(["peaq", "{reference}"])
    with pytest.raises(RecipeError, match="install it"):
        PeaqProgram([str(tmp_path / "nothing"), "{reference}", "{estimate}"])(sound(0.5), sound(0.5))


def test_gstreamers_command_is_a_pipeline_of_both_files() -> None:
    assert PeaqProgram().name == "gst-launch-1.0"
    text = " ".join(GSTPEAQ_COMMAND)
    assert text.count(" ! ") == 8
    assert "location={reference} ! wavparse ! audioconvert ! audioresample ! peaq.ref filesrc" in text
    assert text.endswith("peaq.test peaq name=peaq console-output=true")


def test_scores_are_of_each_source_at_48_khz_and_silent_references_have_none() -> None:
    references = np.stack([sound(0.5, frames=800), np.zeros((2, 800), np.float32), sound(0.5, frames=800)])
    measure = Remembering()
    found = two_f_scores(references, 0.5 * references, 8000, measure)
    assert found[0] == two_f_model(20.0, 1.1)
    assert math.isnan(found[1])
    assert found[2] == two_f_model(20.0, 1.2)
    assert [audio.shape for pair in measure.given for audio in pair] == [(2, 4800)] * 4


def test_what_exceeds_full_scale_is_brought_within_by_one_gain() -> None:
    measure = Remembering()
    two_f_scores(sound(0.5)[None], sound(2.0)[None], 48000, measure)
    (reference, estimate) = measure.given[0]
    assert np.abs(estimate).max() == pytest.approx(1.0)
    assert np.abs(reference).max() == pytest.approx(0.25)
    two_f_scores(sound(0.5)[None], sound(0.9)[None], 48000, measure)
    np.testing.assert_array_equal(measure.given[1][0], sound(0.5))


def test_audio_that_peaq_cannot_compare_is_refused() -> None:
    with pytest.raises(AudioError, match="3 channels"):
        two_f_scores(np.ones((1, 3, 10), np.float32), np.ones((1, 3, 10), np.float32), 48000, Remembering())
    with pytest.raises(ValueError, match=r"estimates \(1, 2, 9\)"):
        two_f_scores(np.ones((1, 2, 10), np.float32), np.ones((1, 2, 9), np.float32), 48000, Remembering())
