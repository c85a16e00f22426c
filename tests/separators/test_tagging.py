"""Taggers: loading them, and hearing audio of any length."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from manifests.errors import AudioError, RecipeError
from separators.embedder import SmallEmbedder
from separators.tagging import ClassList, Tagger, load_tagger, read_classes, tag
from tests.separators.small_separators import blocks_of, noise
from tests.separators.test_embedder import CLASSES, energies

RATE = 8000


class Powers:
    """Logits are the power of each 100 frames, times 1 and 2; what is left of the last 100 is a column too."""

    def __init__(self, sample_rate: int = RATE, fault: str = "") -> None:
        self.sample_rate, self.classes, self._fault = sample_rate, 2, fault
        self.longest = 0

    def __call__(self, audio: torch.Tensor) -> torch.Tensor:
        self.longest = max(self.longest, audio.shape[1])
        columns = -(-audio.shape[1] // 100)
        power = torch.nn.functional.pad(audio**2, (0, columns * 100 - audio.shape[1])).reshape(-1, columns, 100)
        if self._fault == "raise":
            raise ValueError("no weights")
        if self._fault == "classes":
            return power.mean(2)[:, None]
        logits = torch.stack([power.mean(2), 2 * power.mean(2)], dim=1)
        return logits * torch.nan if self._fault == "nan" else logits


def tagger(embedder: Any, **settings: Any) -> Tagger:
    names = tuple(f"c{number}" for number in range(embedder.classes))
    return Tagger("mine", "0", embedder, ClassList(names), **settings)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


@pytest.mark.parametrize("chunk_s", [30.0, 3.0, 0.8])
def test_chunks_give_what_the_whole_gives_and_hold_no_more(chunk_s: float) -> None:
    audio = 3 * noise(81_250)
    embedder = Powers()
    found = tag(tagger(embedder), blocks_of(audio, 7777), RATE, 100, chunk_s=chunk_s)
    mono = np.pad(audio.mean(axis=0), (0, 50)).reshape(-1, 100)
    assert found.shape == (2, 813)
    np.testing.assert_allclose(found[0, :812], sigmoid((mono**2).mean(1))[:812], rtol=1e-5)
    np.testing.assert_allclose(found[1, :812], sigmoid(2 * (mono**2).mean(1))[:812], rtol=1e-5)
    assert embedder.longest <= (chunk_s + 4) * RATE


def test_a_network_hears_the_same_at_the_joints() -> None:
    torch.manual_seed(0)
    network = SmallEmbedder(sample_rate=RATE, classes=4, width=4).eval()
    audio = noise(20 * RATE, channels=1)
    whole, chunks = (
        tag(tagger(network, hop_s=0.04, window_s=0.0), blocks_of(audio, 9999), RATE, 320, chunk_s=chunk_s)
        for chunk_s in (30.0, 4.0)
    )
    assert whole.shape == (4, 500)
    assert np.ptp(whole) > 0.01
    np.testing.assert_allclose(chunks, whole, atol=1e-4)


def test_columns_of_other_lengths_and_rates_come_out_in_time() -> None:
    # a burst from 3 to 5 s, in 16 kHz, heard at 8 kHz in columns of 12.5 ms, given in columns of 0.1 s
    audio = np.zeros((2, 10 * 16_000), np.float32)
    audio[:, 3 * 16_000 : 5 * 16_000] = 2.0
    found = tag(tagger(Powers()), [audio], 16_000, 1600)
    assert found.shape == (2, 100)
    assert np.flatnonzero(found[0] > 0.9).tolist() == list(range(30, 50))


def test_windows_that_overlap_are_placed_by_their_middles() -> None:
    class Slow(Powers):
        """Half a second on each half second, but said to be twice as long, from there on."""

        def __call__(self, audio: torch.Tensor) -> torch.Tensor:
            return super().__call__(audio)[:, :, 1::40]

    audio = np.zeros((1, 10 * RATE), np.float32)
    audio[:, 3 * RATE : 4 * RATE] = 2.0
    found = tag(tagger(Slow(), hop_s=0.5, window_s=1.0), [audio], RATE, RATE // 10)
    # columns from 3.0 and 3.5 s, their middles at 3.5 and 4.0 s
    assert np.flatnonzero(found[0] > 0.9).tolist() == list(range(33, 43))


@pytest.mark.parametrize("frames", [1, 799, 800, 801])
def test_short_audio_has_as_many_columns_as_it_fills(frames: int) -> None:
    assert tag(tagger(Powers()), [noise(frames)], RATE, 800).shape == (2, -(-frames // 800))
    for rate in (1000, 16_000):
        assert tag(tagger(Powers(rate)), [noise(frames)], RATE, 800).shape == (2, -(-frames // 800))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan", "mine: gives NaN"),
        ("raise", "mine: raises ValueError: no weights"),
        ("classes", r"mine: gives logits of the shape \(1, 1, 10\), not \(1, 2, columns\)"),
    ],
)
def test_a_tagger_that_fails_is_an_error_of_the_audio(fault: str, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        tag(tagger(Powers(fault=fault)), [noise(1000)], RATE, 100)


def test_no_audio_is_refused() -> None:
    with pytest.raises(AudioError, match="0 frames"):
        tag(tagger(Powers()), [], RATE, 100)


def test_yamnets_list_of_classes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    path.write_text('index,mid,display_name\n0,/m/09x0r,Speech\n1,/m/0ytgt,"Child speech, kid speaking"\n')
    assert read_classes(path) == ClassList(("Speech", "Child speech, kid speaking"), ("/m/09x0r", "/m/0ytgt"))
    path = tmp_path / "names.txt"
    path.write_text("Speech\n\nChild speech, kid speaking\n")
    assert read_classes(path) == ClassList(("Speech", "Child speech, kid speaking"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "number,name\n0,Dog\n", "needs the columns index and display_name"),
        ("a.csv", "", "needs the columns index and display_name"),
        ("a.csv", "index,display_name\n0,Dog\n2,Cat\n", "index '2' stands where 1 is due"),
        ("a.csv", "index,display_name\n0,Dog\n1,Dog\n", "name 'Dog' stands twice"),
        ("a.csv", "index,display_name\n0,Dog\n1,\n", "name '' stands twice or is empty"),
        ("a.csv", "index,mid,display_name\n0,/m/1,Dog\n1,/m/1,Cat\n", "id '/m/1' stands twice"),
        ("a.txt", "\n", "lists no class"),
    ],
)
def test_a_wrong_list_of_classes_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RecipeError, match=message):
        read_classes(tmp_path / name)
    with pytest.raises(RecipeError, match="cannot be read as a list of classes"):
        read_classes(tmp_path / "other.txt")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    pytest.importorskip("onnxruntime")
    return energies(tmp_path / "model.onnx")


def names_in(folder: Path, count: int = CLASSES) -> Path:
    path = folder / f"names{count}.txt"
    path.write_text("".join(f"c{number}\n" for number in range(count)))
    return path


def test_an_onnx_tagger_knows_what_it_is(graph: Path, tmp_path: Path) -> None:
    said = "onnx:model.onnx?sample_rate=8000&least_frames=300"
    found = load_tagger(said, names_in(tmp_path), folder=tmp_path)
    assert (found.name, found.embedder.sample_rate, found.classes.names[1]) == (said, 8000, "c1")
    again = load_tagger(said, names_in(tmp_path), folder=tmp_path)
    assert again.identity == found.identity
    others = [
        load_tagger(f"{said}&hop_s=0.5&window_s=1", names_in(tmp_path), folder=tmp_path),
        load_tagger("onnx:model.onnx?least_frames=300", names_in(tmp_path), folder=tmp_path),
    ]
    (tmp_path / "names5.txt").write_text("a\nb\nc\nd\ne\n")
    others.append(load_tagger(said, tmp_path / "names5.txt", folder=tmp_path))
    assert len({found.identity, *(other.identity for other in others)}) == 4
    assert (others[0].hop_s, others[0].window_s) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("text", "classes", "message"),
    [
        ("onnx:model.onnx?least_frames=300", 4, "has 5 classes, and the list 4"),
        ("onnx:model.onnx?least_frames=300", None, "does not say its classes; give a list"),
        ("onnx:model.onnx?least_frames=x", 5, "least_frames is 'x': it must be a number above 0"),
        ("onnx:model.onnx?hop_s=0.5&least_frames=300", 5, "give both, or none"),
        ("onnx:model.onnx?hop=0.5", 5, "hop"),
        ("onnx:other.onnx", 5, "there is no such file"),
        ("onnx:", 5, "write onnx:PATH, python:MODULE:NAME"),
        ("tensorflow:yamnet", 5, "there is no tagger 'tensorflow:yamnet'"),
    ],
)
def test_what_is_no_tagger_is_refused(
    graph: Path, tmp_path: Path, text: str, classes: int | None, message: str
) -> None:
    listed = None if classes is None else names_in(tmp_path, classes)
    with pytest.raises(RecipeError, match=message):
        load_tagger(text, listed, folder=tmp_path)


PYTHON = """
import torch

class Detector:
    sample_rate, classes, class_names = 8000, 2, ("Low", "High")
    def __call__(self, audio):
        return torch.zeros(1, 2, 1 + audio.shape[1] // 800)

class Network(torch.nn.Module):
    sample_rate, classes = 8000, 2
    def __init__(self, device="none"):
        super().__init__()
        self.told, self.weight = device, torch.nn.Parameter(torch.tensor([0.0, 1.0], dtype=torch.bfloat16))
    def forward(self, audio):
        assert not self.training
        return self.weight.expand(1, 1 + audio.shape[1] // 800, 2).transpose(1, 2)

made, network, nothing = Detector(), Network(), 3

def other():
    return {}

def broken():
    raise OSError("weights are missing")
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "mine.py").write_text(PYTHON)
    return tmp_path


def test_a_tagger_of_pythons_is_an_object_or_what_makes_one(own: Path) -> None:
    for name in ("Detector", "made"):
        found = load_tagger(f"python:mine.py:{name}", folder=own)
        assert found.classes.names == ("Low", "High")
        np.testing.assert_array_equal(tag(found, [noise(1600)], RATE, 800), np.full((2, 2), 0.5))
    for name in ("Network", "network"):
        found = load_tagger(f"python:mine.py:{name}", names_in(own, 2), folder=own)
        assert tag(found, [noise(1600)], RATE, 800)[1] == pytest.approx(sigmoid(np.ones(2)))
        assert getattr(found.embedder, "module").told == ("cpu" if name == "Network" else "none")  # noqa: B009


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine.py:Detectr", "there is no 'Detectr'"),
        ("mine.py:nothing", "fails when it is called"),
        ("mine.py:broken", "OSError: weights are missing"),
        ("mine.py:Network", "does not say its class_names"),
        ("mine.py:torch.zeros", "fails when it is called"),
        ("other.py:x", "cannot be imported"),
        ("mine", "write python:MODULE:NAME"),
        ("mine.py:other", "dict is no detector: it must have sample_rate and classes"),
    ],
)
def test_what_is_no_tagger_of_pythons_is_refused(own: Path, name: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_tagger(f"python:{name}", folder=own)
