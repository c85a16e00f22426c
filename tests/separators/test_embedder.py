"""Sound classifiers."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import RecipeError
from separators.embedder import Embedder, OnnxEmbedder, SmallEmbedder, soft_or
from tests.separators.small_networks import size

CLASSES = 5


def energies(path: Path, batched: bool = False) -> Path:
    """A graph that gives the power of each 100 frames, times 1 to 5, as 'scores', and the blocks as 'blocks'."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shape = [1, "frames"] if batched else ["frames"]
    weights = onnx.numpy_helper.from_array(np.arange(1, CLASSES + 1, dtype=np.float32)[None], "weights")
    blocks = onnx.numpy_helper.from_array(np.array([-1, 100]), "size")
    axes = onnx.numpy_helper.from_array(np.array([1]), "axes")
    nodes = [
        helper.make_node("Reshape", ["waveform", "size"], ["blocks"]),
        helper.make_node("Mul", ["blocks", "blocks"], ["powers"]),
        helper.make_node("ReduceMean", ["powers", "axes"], ["power"]),
        helper.make_node("MatMul", ["power", "weights"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "energies",
        [helper.make_tensor_value_info("waveform", kind, shape)],
        [
            helper.make_tensor_value_info("scores", kind, ["columns", CLASSES]),
            helper.make_tensor_value_info("blocks", kind, ["columns", 100]),
        ],
        [weights, blocks, axes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("batched", [False, True])
def test_an_onnx_classifier_gives_its_scores_as_logits(tmp_path: Path, batched: bool) -> None:
    pytest.importorskip("onnxruntime")
    embedder = OnnxEmbedder(energies(tmp_path / "model.onnx", batched), sample_rate=8000, least_frames=300)
    assert isinstance(embedder, Embedder)
    assert embedder.sample_rate == 8000
    assert embedder.classes == CLASSES
    audio = torch.full((2, 600), 0.25)
    audio[1, 200:] = 0
    logits = embedder(audio)
    assert logits.shape == (2, CLASSES, 6)
    wanted = torch.arange(1, CLASSES + 1) / 16
    torch.testing.assert_close(logits[0].sigmoid(), wanted[:, None].expand(-1, 6))
    torch.testing.assert_close(logits[1, :, :2], logits[0, :, :2])
    assert logits[1, :, 2:].sigmoid().max() < 1e-5
    assert torch.isfinite(logits).all()


def test_a_trained_classifier_goes_to_workers(tmp_path: Path) -> None:
    embedder = OnnxEmbedder(energies(tmp_path / "model.onnx"), sample_rate=8000, least_frames=300)
    audio = torch.randn(1, 2000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pickle.loads(pickle.dumps(embedder))(audio), embedder(audio), rtol=0, atol=0)


def test_short_audio_is_lengthened_and_other_outputs_can_be_had(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = energies(tmp_path / "model.onnx")
    embedder = OnnxEmbedder(path, output="blocks", scores="logits", least_frames=300)
    blocks = embedder(torch.ones(1, 120, requires_grad=True))
    assert embedder.classes == 100
    assert blocks.shape == (1, 100, 3)
    assert blocks[0].T.flatten().tolist() == [1] * 120 + [0] * 180
    assert not blocks.requires_grad


def test_what_is_no_onnx_classifier_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    path = energies(tmp_path / "model.onnx")
    with pytest.raises(RecipeError, match="no output 'logits': name one of scores, blocks"):
        OnnxEmbedder(path, output="logits")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(RecipeError, match=r"broken\.onnx: onnxruntime cannot open it"):
        OnnxEmbedder(broken)
    with pytest.raises(RecipeError, match="scores is 'sigmoid'"):
        OnnxEmbedder(path, scores="sigmoid")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RecipeError, match=r"pip install 'stemloom\[onnx\]'"):
        OnnxEmbedder(path)


def test_the_small_classifier_has_ten_layers_and_a_column_every_40_ms() -> None:
    embedder = SmallEmbedder()
    assert isinstance(embedder, Embedder)
    assert len(embedder.layers) == 11
    assert size(embedder) == pytest.approx(0.48e6, rel=0.02)
    with torch.no_grad():
        logits = embedder.eval()(torch.zeros(2, 3 * 16000))
    assert logits.shape == (2, 527, 76)


@pytest.mark.parametrize("frames", [1, 100, 1601, 8000])
def test_the_small_classifier_takes_any_length(frames: int) -> None:
    embedder = SmallEmbedder(sample_rate=8000, classes=3, width=2).eval()
    with torch.no_grad():
        logits = embedder(torch.ones(1, frames))
    assert logits.shape == (1, 3, -(-(1 + -(-frames // 80)) // 4))
    assert torch.isfinite(logits).all()


def test_the_small_classifier_hears_log_mel_spectra() -> None:
    embedder = SmallEmbedder(classes=3, width=2).eval()
    seen: list[torch.Tensor] = []
    embedder.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    audio = torch.randn(1, 1600, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        embedder(audio)
    mel = librosa.feature.melspectrogram(
        y=audio[0].numpy(), sr=16000, n_fft=400, hop_length=160, n_mels=64, fmin=125, fmax=7500, pad_mode="constant"
    )
    np.testing.assert_allclose(seen[0][0, 0].numpy(), np.log(mel + 1e-5), rtol=1e-3, atol=1e-3)


def test_a_fresh_classifier_tells_sounds_apart_without_statistics() -> None:
    torch.manual_seed(0)
    embedder = SmallEmbedder(classes=20).eval()
    time = torch.arange(8000) / 16000
    with torch.no_grad():
        low, high = embedder(torch.sin(2 * torch.pi * torch.tensor([[200.0], [4000.0]]) * time)).mean(dim=2)
    assert 0.01 < float((low - high).abs().mean()) < 100


def test_a_column_hears_about_a_second() -> None:
    torch.manual_seed(0)
    embedder = SmallEmbedder(classes=2, width=4).eval()
    audio = 0.1 * torch.randn(1, 4 * 16000, generator=torch.Generator().manual_seed(0))
    audio.requires_grad_()
    embedder(audio)[0, :, 50].sum().backward()
    assert audio.grad is not None
    heard = audio.grad[0].nonzero()[:, 0] / 16000
    assert 0.5 < float(heard.max() - heard.min()) < 1.2
    assert abs(float(heard.max() + heard.min()) / 2 - 2.0) < 0.05


def test_the_small_classifier_learns_to_tell_two_sounds_apart() -> None:
    torch.manual_seed(0)
    embedder = SmallEmbedder(sample_rate=8000, classes=2, width=4)
    time = torch.arange(2400) / 8000
    audio = 0.3 * torch.stack([torch.sin(2 * torch.pi * hz * time) for hz in (300, 340, 2400, 2500)])
    labels = torch.tensor([0, 0, 1, 1])
    optimizer = torch.optim.Adam(embedder.parameters(), 1e-2)
    for _ in range(15):
        loss = torch.nn.functional.cross_entropy(embedder(audio).mean(dim=2), labels)
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in embedder.parameters())
        optimizer.step()
    assert loss.item() < 0.1


@given(st.lists(st.lists(st.floats(0.001, 0.999), min_size=3, max_size=3), min_size=1, max_size=4))
def test_soft_or_is_the_probability_of_at_least_one(probabilities: list[list[float]]) -> None:
    values = torch.tensor(probabilities)
    found = soft_or(torch.logit(values)[None, :, :, None])
    wanted = 1 - np.prod(1 - np.array(probabilities), axis=0)
    np.testing.assert_allclose(found[0, :, 0].sigmoid().numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_soft_or_of_one_is_itself_and_of_extremes_finite() -> None:
    logits = torch.linspace(-30, 30, 13)[None, None, :, None].requires_grad_()
    torch.testing.assert_close(soft_or(logits), logits[:, 0], rtol=1e-4, atol=1e-4)
    extreme = torch.tensor([-200.0, 200.0])[None, None, :, None].repeat(1, 2, 1, 1).requires_grad_()
    found = soft_or(extreme)
    assert torch.isfinite(found).all()
    found.sum().backward()
    assert torch.isfinite(extreme.grad).all()
