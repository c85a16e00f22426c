"""A separator held to what it promises."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from manifests.errors import AudioError, RecipeError
from separators import Separator, separate
from separators.pretrained.checked import Checked
from tests.separators.small_separators import Scaled, blocks_of, noise


@dataclass(frozen=True)
class Broken(Scaled):
    """Gives what `change` makes of the second block, and what is right of all others."""

    change: Callable[[np.ndarray], object] = np.copy
    name: str = "broken"

    def stream(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for number, block in enumerate(super().stream(blocks)):
            yield self.change(block) if number == 1 else block


def test_what_is_right_passes_unchanged() -> None:
    separator, mixture = Scaled(late=30), noise(1000)
    held = Checked(separator)
    assert isinstance(held, Separator)
    for field in ("name", "identity", "sample_rate", "channels", "sources"):
        assert getattr(held, field) == getattr(separator, field)
    found = np.concatenate(list(held.stream(blocks_of(mixture))), axis=2)
    np.testing.assert_array_equal(found, separate(separator, mixture))


def test_other_precision_becomes_single() -> None:
    (first, *_) = Checked(Broken(change=lambda block: block.astype(np.float64))).stream([noise(300)])
    assert first.dtype == np.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda block: block * np.nan, r"broken: gives NaN or infinity for the audio from 0.01 s on"),
        (lambda block: block / 0, "gives NaN or infinity"),
        (lambda block: block.astype(np.int16), "gives int16 values"),
        (lambda block: block[:, :1], r"gives a block of the shape \(1, 1, 100\), not \(1, 2, frames\)"),
        (lambda block: block[0], r"of the shape \(2, 100\)"),
        (lambda block: np.repeat(block, 2, axis=0), r"of the shape \(2, 2, 100\)"),
        (lambda block: block[..., :99], "gives 299 frames for a mixture of 300; it must give as many"),
        (
            lambda block: np.repeat(block, 2, axis=2),
            r"frames and more for the first \d+ of the mixture",
        ),
        (lambda block: block["vocals"], "broken: raises IndexError"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_what_is_wrong_is_an_error_of_the_song(change: Callable[[np.ndarray], object], message: str) -> None:
    with pytest.raises(AudioError, match=message):
        list(Checked(Broken(change=change)).stream(blocks_of(noise(300))))


def test_whoever_stops_early_is_told() -> None:
    class Lazy(Scaled):
        def stream(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
            yield next(iter(blocks))[None]

    with pytest.raises(AudioError, match="gives 77 frames for a mixture of 300"):
        list(Checked(Lazy()).stream(blocks_of(noise(300))))


def test_the_mixture_is_not_written_into() -> None:
    class Writing(Scaled):
        def stream(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
            for block in blocks:
                block *= 0
                yield block[None]

    mixture = noise(300)
    assert not separate(Checked(Writing()), mixture).any()
    assert mixture.any()


def test_errors_of_the_mixture_are_its_own() -> None:
    def failing() -> Iterator[np.ndarray]:
        yield noise(50)
        raise AudioError("song.wav: cannot be read")

    with pytest.raises(AudioError, match=r"^song.wav: cannot be read$"):
        list(Checked(Scaled()).stream(failing()))
    with pytest.raises(AudioError, match="takes blocks of the shape"):
        list(Checked(Scaled()).stream([noise(50, channels=1)]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "its name is ''; let it be a text"),
        ({"sample_rate": 44100.0}, "scaled: its sample_rate is 44100.0; let it be a whole number"),
        ({"channels": 0}, "its channels is 0"),
        ({"sources": ()}, r"its sources are \(\)"),
        ({"sources": ["vocals"]}, "let them be a tuple of distinct names"),
        ({"sources": ("vocals", "vocals")}, "distinct"),
    ],
)
def test_properties_of_other_kinds_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Checked(dataclasses.replace(Scaled(), **changes))


def test_what_lacks_members_is_refused() -> None:
    with pytest.raises(RecipeError, match="is no separator: it lacks name, identity"):
        Checked(object())
