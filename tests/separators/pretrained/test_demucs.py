"""Demucs's files, bags and names, against what its package makes of them."""

from __future__ import annotations

import json
import logging
import os
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from manifests.errors import RecipeError
from separators import Separator, separate
from separators.loading import LoadOptions
from separators.pretrained import demucs as loader
from separators.pretrained import normalised
from separators.pretrained.demucs_files import read_network
from tests.separators.small_separators import blocks_of, noise

apply = pytest.importorskip("demucs.apply")
states = pytest.importorskip("demucs.states")
htdemucs = pytest.importorskip("demucs.htdemucs")
hdemucs = pytest.importorskip("demucs.hdemucs")
demucs = pytest.importorskip("demucs.demucs")

RATE, SEGMENT = 8000, 1000
SOURCES = ["drums", "vocals"]


def hybrid_transformer(seed: int = 0, **changes: object) -> torch.nn.Module:
    torch.manual_seed(seed)
    sizes = {"channels": 8, "depth": 2, "nfft": 128, "bottom_channels": 8, "t_layers": 1, "t_heads": 2}
    length = {"samplerate": RATE, "segment": Fraction(SEGMENT, RATE)}
    return htdemucs.HTDemucs(SOURCES, **{**sizes, **length, **changes}).eval()


def hybrid(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    sizes = {"channels": 8, "depth": 4, "nfft": 256, "dconv_attn": 9, "dconv_lstm": 9}
    return hdemucs.HDemucs(SOURCES, samplerate=RATE, segment=SEGMENT / RATE, **sizes).eval()


def waveform(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    sizes = {"channels": 4, "depth": 3, "dconv_attn": 9, "dconv_lstm": 9, "resample": False}
    return demucs.Demucs(SOURCES, samplerate=RATE, segment=SEGMENT / RATE, **sizes).eval()


def package_of(model: torch.nn.Module, **changes: object) -> dict[str, object]:
    """What the package pickles, with settings of a training as they come from its configuration."""
    args, kwargs = model._init_args_kwargs
    training = {"seed": 42, "segment": Fraction(SEGMENT, RATE), "lr": np.float64(3e-4)}
    state = states.get_state(model, None, half=True)
    return {
        "klass": type(model),
        "args": args,
        "kwargs": kwargs,
        "state": state,
        "training_args": training,
        **changes,
    }


def saved(folder: Path, model: torch.nn.Module, signature: str = "955717e8") -> Path:
    """As the package saves it: the hash of the file in its name."""
    states.save_with_checksum(package_of(model), folder / f"{signature}.th")
    (path,) = folder.glob(f"{signature}-*.th")
    return path


def loaded(rest: str | Path, folder: Path = Path(), **options: object) -> Separator:
    return loader.load(str(rest), LoadOptions(folder=folder, **options))


def separated_by_the_package(model: torch.nn.Module, mixture: np.ndarray, overlap: float) -> np.ndarray:
    """As `demucs.api` does: normalised by the whole, shifts left out."""
    wave = torch.from_numpy(mixture)
    mean, deviation = wave.mean(0).mean(), wave.mean(0).std() + 1e-8
    out = apply.apply_model(model, ((wave - mean) / deviation)[None], shifts=0, overlap=overlap)
    return (out * deviation + mean)[0].numpy()


@pytest.mark.parametrize("make", [hybrid_transformer, hybrid])
def test_it_separates_as_the_package_does(tmp_path: Path, make) -> None:
    path = saved(tmp_path, make())
    model = states.load_model(path).eval()
    mixture = noise(4 * SEGMENT) + np.float32(0.05)
    separator = loaded(path, overlap=0.0)
    assert (separator.sources, separator.sample_rate, separator.channels) == (tuple(SOURCES), RATE, 2)
    wanted = separated_by_the_package(model, mixture, 0.0)
    assert np.abs(wanted).max() > 1e-2
    np.testing.assert_allclose(separate(separator, mixture), wanted, atol=1e-5)
    # Where two segments meet, weights are half a frame apart; past the last whole one the package pads.
    found = separate(loaded(path), mixture)
    wanted = separated_by_the_package(model, mixture, 0.25)
    hop, end = 750, 3750
    place = np.arange(end)
    is_alone = (place % hop >= SEGMENT - hop) | (place < hop)
    np.testing.assert_allclose(found[..., :end][..., is_alone], wanted[..., :end][..., is_alone], atol=1e-5)
    apart = 0.5 / (SEGMENT - hop) * 2 * np.abs(wanted).max()
    np.testing.assert_allclose(found[..., :end], wanted[..., :end], atol=apart)


def test_the_network_without_spectra_takes_segments_that_fit_its_layers(tmp_path: Path) -> None:
    path = saved(tmp_path, waveform())
    model = states.load_model(path).eval()
    segment = model.valid_length(SEGMENT)
    assert read_network(path).segment_frames == segment > SEGMENT
    model.segment = segment / RATE
    mixture = noise(3 * segment)
    wanted = separated_by_the_package(model, mixture, 0.0)
    np.testing.assert_allclose(separate(loaded(path, overlap=0.0), mixture), wanted, atol=1e-5)


def test_how_the_stream_is_cut_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalised, "_STATISTICS_FRAMES", 700)
    separator, mixture = loaded(saved(tmp_path, hybrid_transformer()), shifts=2, batch_size=2), noise(4000)
    found = np.concatenate(list(separator.stream(blocks_of(mixture, 97))), axis=2)
    np.testing.assert_array_equal(found, separate(separator, mixture))


@pytest.mark.parametrize("mixture", [np.zeros((2, 1500), np.float32), np.ones((2, 1), np.float32)])
def test_silence_and_a_single_frame_are_separated(tmp_path: Path, mixture: np.ndarray) -> None:
    found = separate(loaded(saved(tmp_path, hybrid_transformer())), mixture)
    assert found.shape == (2, *mixture.shape)
    assert np.isfinite(found).all()


def test_without_normalisation_it_is_what_the_network_says_of_the_mixture(tmp_path: Path) -> None:
    path, mixture = saved(tmp_path, hybrid_transformer()), noise(SEGMENT) * 20
    model = states.load_model(path)
    wanted = apply.apply_model(model, torch.from_numpy(mixture)[None], shifts=0, overlap=0)[0].numpy()
    separator = loaded(f"{path}?normalise=false", overlap=0.0)
    np.testing.assert_allclose(separate(separator, mixture), wanted, atol=1e-4)
    assert separator.identity != loaded(path, overlap=0.0).identity
    with pytest.raises(RecipeError, match="normalise is 'no'; write true or false"):
        loaded(f"{path}?normalise=no")


@pytest.mark.parametrize("weights", [None, [[1.0, 0.0], [3.0, 1.0]]])
def test_a_bag_is_the_weighted_mean_of_its_networks(tmp_path: Path, weights: object) -> None:
    paths = [saved(tmp_path, hybrid(0), "e51eebcc"), saved(tmp_path, hybrid(1), "a1d90b5c")]
    bag = {"models": ["e51eebcc", "a1d90b5c"], "segment": 0.25, **({"weights": weights} if weights else {})}
    (tmp_path / "mine.yaml").write_text(json.dumps(bag))
    separator = loaded("mine.yaml", tmp_path, overlap=0.0)
    assert separator.name == "demucs:mine.yaml"
    model = apply.BagOfModels([states.load_model(path) for path in paths], weights, 0.25)
    mixture = noise(4 * SEGMENT)
    wanted = separated_by_the_package(model.eval(), mixture, 0.0)
    np.testing.assert_allclose(separate(separator, mixture), wanted, atol=1e-5)


def test_a_bag_that_does_not_fit_its_files_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, hybrid_transformer(), "e51eebcc")
    bag = tmp_path / "mine.yaml"
    bag.write_text("models: [e51eebcc, e51eebcc]\nweights: [[1, 2, 3], [1, 2, 3]]")
    with pytest.raises(RecipeError, match=r"rows of \[3, 3\] numbers; give 2 rows.* of 2 numbers"):
        loaded(bag)
    bag.write_text("models: [e51eebcd]")
    with pytest.raises(RecipeError, match=r"of the network 'e51eebcd' there must be one file .* there is none"):
        loaded(bag)
    path.rename(tmp_path / "e51eebcc-00000000.th")
    bag.write_text("models: [e51eebcc]")
    with pytest.raises(RecipeError, match="sha256 begins otherwise than its name says"):
        loaded(bag)


def test_a_segment_longer_than_a_transformer_was_trained_on_is_left_out(tmp_path: Path) -> None:
    path = saved(tmp_path, hybrid_transformer())
    assert read_network(path, 44.0).segment_frames == SEGMENT
    assert read_network(path, 0.1).segment_frames == 800


def test_safetensors_of_the_package_hold_the_same_network(tmp_path: Path) -> None:
    model = hybrid_transformer()
    wanted = loaded(saved(tmp_path, model)).identity
    (sources,), kwargs = model._init_args_kwargs
    fraction = {"_type": "fraction", "numerator": SEGMENT, "denominator": RATE}
    facts = {
        "klass": "demucs.htdemucs.HTDemucs",
        "args": json.dumps([sources]),
        "kwargs": json.dumps({**kwargs, "segment": fraction}),
    }
    path = tmp_path / "model.safetensors"
    save_file(states.get_state(model, None, half=True), path, facts)
    assert loaded(path).identity == wanted
    save_file(states.get_state(model, None, half=True), path, {**facts, "klass": "os.system"})
    with pytest.raises(RecipeError, match=r"holds a os.system; give a file that demucs has saved"):
        loaded(path)
    save_file(states.get_state(model, None, half=True), path)
    with pytest.raises(RecipeError, match="holds no class, args and kwargs"):
        loaded(path)


def test_settings_that_this_version_has_not_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = hybrid_transformer()
    model._init_args_kwargs[1]["t_older"] = 3
    with caplog.at_level(logging.WARNING):
        loaded(saved(tmp_path, model))
    assert "no t_older" in caplog.text


class Malicious:
    def __reduce__(self) -> object:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("key", ["klass", "state", "training_args"])
def test_a_file_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(package_of(hybrid_transformer(), **{key: Malicious()}), "model.th")
    with pytest.raises(RecipeError, match=r"model.th: holds posix.mkdir, .* refused"):
        loaded("model.th")
    assert not Path("ran").exists()


def test_a_class_that_a_file_names_is_never_made_while_it_is_read(tmp_path: Path) -> None:
    class Made:
        def __reduce__(self) -> object:
            return htdemucs.HTDemucs, (SOURCES,)

    torch.save(package_of(hybrid_transformer(), kwargs={"channels": Made()}), tmp_path / "model.th")
    with pytest.raises(RecipeError, match=r"an argument of its class is a demucs.htdemucs.HTDemucs"):
        loaded(tmp_path / "model.th")


def test_other_files_are_refused(tmp_path: Path) -> None:
    path, model = tmp_path / "model.th", hybrid_transformer()
    torch.save(model.state_dict(), path)
    with pytest.raises(RecipeError, match="holds no class, args and kwargs"):
        loaded(path)
    torch.save(package_of(model, state={"__quantized": True}), path)
    with pytest.raises(RecipeError, match="is quantised, which is not supported"):
        loaded(path)
    torch.save(package_of(model, kwargs={"depth": "deep"}), path)
    with pytest.raises(RecipeError, match=r"demucs.htdemucs.HTDemucs cannot be made from what the file says"):
        loaded(path)
    torch.save(package_of(model, state=hybrid(0).state_dict()), path)
    with pytest.raises(RecipeError, match=r"tensor '.*belong together"):
        loaded(path)
    torch.save(package_of(model), path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(RecipeError, match="cut short"):
        loaded(path)


def test_a_name_is_looked_up_in_the_package_and_found_where_it_was_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEMLOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    address = r"https://dl.fbaipublicfiles.com/demucs/hybrid_transformer/955717e8-8726e21a.th"
    with pytest.raises(RecipeError, match=rf"{address} .*not in the cache; fetch it with --allow-downloads"):
        loaded("htdemucs")
    with pytest.raises(RecipeError, match=r"f7e0c4bc-ba3fe64a.th"):
        loaded("f7e0c4bc")
    with pytest.raises(RecipeError, match=r"demucs has no 'htdemuc' \(did you mean 'htdemucs'\?\)"):
        loaded("htdemuc")
    path = saved(tmp_path, hybrid_transformer())
    listing = f"root: here/\n{path.name}\n"
    monkeypatch.setattr(loader, "_released_files", lambda _: {"955717e8": f"https://host/{listing.split()[2]}"})
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    path.rename(tmp_path / "hub/checkpoints" / path.name)
    assert loaded("htdemucs").name == "demucs:htdemucs"


def test_without_the_package_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, hybrid_transformer())
    monkeypatch.setitem(sys.modules, "demucs", None)
    for rest in (str(path), "htdemucs"):
        with pytest.raises(RecipeError, match=r"pip install 'stemloom\[demucs\]'"):
            loaded(rest)
