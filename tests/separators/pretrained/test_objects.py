"""Separators of somebody's own in Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from manifests.errors import AudioError, RecipeError
from separators import separate
from separators.loading import LoadOptions
from separators.pretrained import objects
from separators.pretrained.checked import Checked
from tests.separators.small_separators import noise

MODULE = """
from dataclasses import dataclass

@dataclass
class Halves:
    factor: float = 0.5
    device: str = "?"
    name: str = "halves"
    identity: str = "halves 1"
    sample_rate: int = 8000
    channels: int = 2
    sources: tuple = ("vocals", "rest")

    def stream(self, blocks):
        import numpy
        for block in blocks:
            yield numpy.stack([self.factor * block, (1 - self.factor) * block])

ready = Halves(0.25)
broken = Halves(float("nan"))
number = 7

class Place:
    inner = ready

def make(device, batch_size=1, other=3):
    return Halves(0.75, device=f"{device} {batch_size} {other}")

def needs(what):
    return ready

def fails():
    raise OSError("no weights")

def nothing():
    return None
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MODULE)
    return tmp_path


def loaded(rest: str, folder: Path) -> Checked:
    return objects.load(rest, LoadOptions(folder=folder, device="cuda:3", batch_size=5))


@pytest.mark.parametrize(
    ("name", "factor", "device"),
    [("Halves", 0.5, "cuda:3"), ("ready", 0.25, "?"), ("make", 0.75, "cuda:3 5 3"), ("Place.inner", 0.25, "?")],
)
def test_objects_classes_and_functions_make_separators(folder: Path, name: str, factor: float, device: str) -> None:
    separator, mixture = loaded(f"mine.py:{name}", folder), noise(200)
    assert (separator.name, separator.identity, separator.sources) == ("halves", "halves 1", ("vocals", "rest"))
    assert separator.separator.device == device
    np.testing.assert_allclose(separate(separator, mixture)[0], factor * mixture, atol=1e-7)


def test_installed_modules_are_named_by_their_dots() -> None:
    separator = loaded("separators.baselines:CentreExtraction", Path())
    assert separator.sources == ("vocals", "accompaniment")


def test_what_they_give_is_checked(folder: Path) -> None:
    with pytest.raises(AudioError, match="halves: gives NaN"):
        separate(loaded("mine.py:broken", folder), noise(200))


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("mine", "write python:MODULE:NAME"),
        ("mine.py:", "write python:MODULE:NAME"),
        ("mine.py:redy", r"there is no 'redy' \(did you mean 'ready'\?\)"),
        ("missing.py:ready", r"python:missing.py: cannot be imported \(FileNotFoundError"),
        ("no_such_module:ready", r"cannot be imported \(ModuleNotFoundError.*; install the module"),
        ("mine.py:number", "is a int, neither a separator nor what makes one"),
        ("mine.py:needs", r"fails when it is called \(TypeError: needs\(\) missing"),
        ("mine.py:fails", r"fails when it is called \(OSError: no weights\)"),
        ("mine.py:nothing", "None is no separator: it lacks name"),
    ],
)
def test_what_is_no_separator_is_refused(folder: Path, rest: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        loaded(rest, folder)


def test_a_module_that_fails_is_told(folder: Path) -> None:
    (folder / "bad.py").write_text("1 / 0")
    with pytest.raises(RecipeError, match=r"python:bad.py: cannot be imported \(ZeroDivisionError"):
        loaded("bad.py:ready", folder)
