"""MDX-Net graphs: small ones of the same layout, against closed forms and a plain loop over chunks."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import librosa
import numpy as np
import pytest

from manifests.errors import AudioError, RecipeError
from separators import Separator, separate
from separators.loading import LoadOptions
from separators.pretrained import mdx
from tests.separators.small_separators import blocks_of, noise

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

N_FFT, HOP, BINS, COLUMNS = 256, 64, 100, 16
CHUNK = HOP * (COLUMNS - 1)
OPSET = onnx.helper.make_opsetid("", 17)
TEXT = f"?n_fft={N_FFT}&hop={HOP}"


def graph(
    path: Path,
    kinds: tuple[str, ...] = ("Identity",),
    *,
    constant: np.ndarray | float = 0.0,
    batch: int | str = "batch",
    bins: int | str = BINS,
) -> Path:
    """A graph of operations behind one another; those of two numbers take the constant as the second."""
    values = np.asarray(constant, np.float32)
    nodes, last = [], "input"
    for number, kind in enumerate(kinds):
        inputs = [last, "constant"] if kind in ("Add", "Mul", "Concat", "Div") else [last]
        last = "output" if number == len(kinds) - 1 else f"value{number}"
        nodes.append(onnx.helper.make_node(kind, inputs, [last]))
    shape = [batch, 4, bins, COLUMNS]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("input", "output")]
    held = onnx.helper.make_tensor("constant", onnx.TensorProto.FLOAT, values.shape, values.ravel())
    made = onnx.helper.make_graph(nodes, "mdx", ends[:1], ends[1:], [held])
    onnx.save(onnx.helper.make_model(made, opset_imports=[OPSET], ir_version=8), str(path))
    return path


def loaded(rest: str | Path, **options: object) -> Separator:
    return mdx.load(str(rest), LoadOptions(**options))


def tone(bin_number: float, frames: int) -> np.ndarray:
    """Of a bin's frequency, other phases in the two channels."""
    phases = 2 * np.pi * bin_number * np.arange(frames) / N_FFT
    return np.stack([np.cos(phases), 0.5 * np.sin(phases)]).astype(np.float32)


def by_chunks(mixture: np.ndarray, mask: np.ndarray | float = 1.0) -> np.ndarray:
    """The published procedure for whole arrays: chunks end to end, half a window left out of each end."""
    trim = N_FFT // 2
    kept = CHUNK - 2 * trim
    pad = kept - mixture.shape[1] % kept
    padded = np.pad(mixture, ((0, 0), (trim, pad + trim)))
    parts = []
    for start in range(0, mixture.shape[1] + pad, kept):
        chunk = padded[:, start : start + CHUNK]
        options = {"hop_length": HOP, "window": "hann", "center": True}
        spectra = librosa.stft(chunk, n_fft=N_FFT, pad_mode="reflect", **options)
        spectra[:, :3] = spectra[:, BINS:] = 0
        spectra[:, :BINS] *= mask
        parts.append(librosa.istft(spectra, n_fft=N_FFT, length=CHUNK, **options)[:, trim:-trim])
    return np.concatenate(parts, axis=1)[:, : mixture.shape[1]]


def test_chunks_are_cut_heard_and_joined_as_published(tmp_path: Path) -> None:
    mixture = noise(7 * (CHUNK - N_FFT))
    mask = np.random.default_rng(0).uniform(0, 1, (BINS, COLUMNS)).astype(np.float32)
    separator = loaded(f"{graph(tmp_path / 'a.onnx', ('Mul',), constant=mask)}{TEXT}", overlap=0.0, window="flat")
    vocals, rest = separate(separator, mixture)
    np.testing.assert_allclose(vocals, by_chunks(mixture, mask), atol=1e-6)
    np.testing.assert_allclose(rest, mixture - vocals, atol=1e-7)


@pytest.mark.parametrize("options", [{}, {"overlap": 0.75, "shifts": 2}, {"window": "hann", "batch_size": 3}])
def test_a_graph_that_changes_nothing_gives_the_mixture_within_its_bins(
    tmp_path: Path, options: dict[str, object]
) -> None:
    separator = loaded(f"{graph(tmp_path / 'a.onnx')}{TEXT}", **options)
    assert (separator.sources, separator.sample_rate, separator.channels) == (("vocals", "accompaniment"), 44100, 2)
    low, high = tone(20, 4321), tone(BINS + 10, 4321)
    vocals, rest = separate(separator, low + high)
    # Tones begin and end suddenly, which is in all bins.
    away = slice(N_FFT, -N_FFT)
    np.testing.assert_allclose(vocals[:, away], low[:, away], atol=5e-3)
    np.testing.assert_allclose(rest[:, away], high[:, away], atol=5e-3)
    assert np.abs(vocals - low)[:, away].mean() < 3e-5


@pytest.mark.parametrize("frames", [1, 50, CHUNK - N_FFT, CHUNK, 3 * CHUNK + 7])
def test_a_graph_of_all_bins_gives_back_what_is_above_the_lowest(tmp_path: Path, frames: int) -> None:
    bins = N_FFT // 2 + 1
    separator = loaded(f"{graph(tmp_path / 'a.onnx', bins=bins)}{TEXT}")
    mixture = tone(40.3, frames)
    vocals, rest = separate(separator, mixture)
    assert vocals.shape == mixture.shape
    np.testing.assert_allclose(vocals + rest, mixture, atol=1e-6)
    if frames > CHUNK:
        np.testing.assert_allclose(vocals[:, N_FFT:-N_FFT], mixture[:, N_FFT:-N_FFT], atol=2e-3)


def test_compensation_multiplies_the_source(tmp_path: Path) -> None:
    path, mixture = graph(tmp_path / "a.onnx", ("Mul",), constant=0.5), noise(3000)
    vocals, _ = separate(loaded(f"{path}{TEXT}"), mixture)
    doubled, rest = separate(loaded(f"{path}{TEXT}&compensate=2"), mixture)
    np.testing.assert_allclose(doubled, 2 * vocals, atol=1e-6)
    np.testing.assert_allclose(rest, mixture - doubled, atol=1e-6)


def test_what_a_graph_adds_by_itself_is_cancelled_by_denoising(tmp_path: Path) -> None:
    mixture = noise(3000)
    plain, _ = separate(loaded(f"{graph(tmp_path / 'a.onnx')}{TEXT}"), mixture)
    path = graph(tmp_path / "b.onnx", ("Add",), constant=0.3)
    noisy, _ = separate(loaded(f"{path}{TEXT}"), mixture)
    clean, _ = separate(loaded(f"{path}{TEXT}&denoise=true"), mixture)
    assert np.abs(noisy - plain).max() > 1e-3
    np.testing.assert_allclose(clean, plain, atol=1e-6)


@pytest.mark.parametrize("batch", ["batch", 1, 2])
def test_neither_blocks_nor_batches_change_anything(tmp_path: Path, batch: int | str) -> None:
    mixture = noise(6000)
    mask = np.random.default_rng(0).uniform(0, 1, (BINS, COLUMNS)).astype(np.float32)
    path = graph(tmp_path / "a.onnx", ("Mul", "Abs"), constant=mask, batch=batch)
    separator = loaded(f"{path}{TEXT}", batch_size=3, shifts=2)
    found = separate(separator, mixture)
    by_blocks = np.concatenate(list(separator.stream(blocks_of(mixture))), axis=2)
    np.testing.assert_array_equal(by_blocks, found)
    # The last chunk, wherever it begins, is heard after what was given already.
    end = -2 * CHUNK
    alone = separate(loaded(f"{path}{TEXT}", shifts=2), mixture)
    np.testing.assert_allclose(alone[..., :end], found[..., :end], atol=1e-6)


def test_settings_are_read_from_beside_the_graph(tmp_path: Path) -> None:
    path, mixture = graph(tmp_path / "a.onnx", bins="bins"), noise(2000)
    wanted = loaded(f"{path}{TEXT}&dim_f={BINS}&dim_t={COLUMNS}&compensate=1.035&primary_stem=Instrumental")
    assert wanted.sources == ("accompaniment", "vocals")
    own = {"n_fft": N_FFT, "hop": HOP, "dim_f": BINS, "compensate": 1.035, "primary_stem": "Instrumental"}
    (tmp_path / "a.yaml").write_text(json.dumps(own))
    assert loaded(path).identity == wanted.identity
    (tmp_path / "a.yaml").unlink()
    entry = {
        "compensate": 1.035,
        "mdx_dim_f_set": BINS,
        "mdx_dim_t_set": 4,
        "mdx_n_fft_scale_set": N_FFT,
        "primary_stem": "Instrumental",
        "is_karaoke": True,
    }
    (tmp_path / "a.json").write_text(json.dumps(entry))
    assert loaded(f"{path}?hop={HOP}").identity == wanted.identity
    (tmp_path / "a.json").unlink()
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    (tmp_path / "model_data.json").write_text(json.dumps({"0" * 32: {}, digest: entry}))
    separator = loaded(f"{path}?hop={HOP}")
    assert separator.identity == wanted.identity
    np.testing.assert_array_equal(separate(separator, mixture), separate(wanted, mixture))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"nobody says its n_fft; write it behind the path as in a.onnx\?n_fft=6144"),
        ("?n_fft=256&dim_f=99", "dim_f is 99, and the graph takes 100"),
        ("?n_fft=128", "dim_f is 100, and n_fft 128 has 65 bins"),
        ("?n_fft=256&hop=16", "nothing of a chunk of 240 frames is left without 256"),
        ("?n_fft=255", "multiple of 2"),
        ("?n_ftt=256", r"there is no 'n_ftt' \(did you mean 'n_fft'\?\)"),
        ("?n_fft=256&remainder=vocals", "call what is left of the mixture otherwise"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        loaded(f"{graph(tmp_path / 'a.onnx')}{text}")


def test_other_stems_leave_a_rest(tmp_path: Path) -> None:
    path = graph(tmp_path / "a.onnx")
    assert loaded(f"{path}{TEXT}&primary_stem=Drums").sources == ("drums", "rest")
    assert loaded(f"{path}{TEXT}&primary_stem=Drums&remainder=no_drums").sources == ("drums", "no_drums")


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = graph(tmp_path / "a.onnx")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(RecipeError, match=r"a.onnx: onnxruntime cannot open it"):
        loaded(f"{path}{TEXT}")
    shape = ["batch", 2, 8]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("input", "output")]
    node = onnx.helper.make_node("Identity", ["input"], ["output"])
    made = onnx.helper.make_graph([node], "other", ends[:1], ends[1:])
    onnx.save(onnx.helper.make_model(made, opset_imports=[OPSET], ir_version=8), str(path))
    with pytest.raises(RecipeError, match=r"not \(batch, 4, bins, columns\); give an MDX-Net graph"):
        loaded(f"{path}{TEXT}")


def test_what_a_graph_breaks_is_told_with_its_place(tmp_path: Path) -> None:
    path = graph(tmp_path / "a.onnx", ("Div",), constant=0.0)
    with pytest.raises(AudioError, match=r"mdx-onnx:.*a.onnx: gives NaN or infinity for the audio from 0.00 s"):
        separate(loaded(f"{path}{TEXT}"), noise(100))


def test_identity_is_of_the_graph_and_its_settings(tmp_path: Path) -> None:
    path = graph(tmp_path / "a.onnx")
    first = loaded(f"{path}{TEXT}").identity
    graph(tmp_path / "b.onnx", ("Mul",), constant=0.5)
    others = [
        loaded(f"{tmp_path / 'b.onnx'}{TEXT}"),
        loaded(f"{path}{TEXT}&denoise=true"),
        loaded(f"{path}{TEXT}", overlap=0.5),
    ]
    assert len({first, *(other.identity for other in others)}) == 4
    assert loaded(f"{path}{TEXT}", batch_size=4).identity == first


def test_without_the_package_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = graph(tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RecipeError, match=r"pip install 'stemloom\[onnx\]'"):
        loaded(f"{path}{TEXT}")
