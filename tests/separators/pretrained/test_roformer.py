"""RoFormer checkpoints with the YAML that they are shared with."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_model

from manifests.errors import RecipeError
from separators import NetworkSeparator, Separator, separate
from separators.bs_roformer import BSRoformer
from separators.loading import LoadOptions
from separators.pretrained import roformer
from tests.separators import small_networks
from tests.separators.small_networks import seeded
from tests.separators.small_separators import blocks_of, noise

pytest.importorskip("bs_roformer")

OVERLAP = 0.5


class Dumper(yaml.SafeDumper):
    pass


Dumper.add_representer(
    tuple, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:python/tuple", value)
)


def small(**changes: object) -> BSRoformer:
    return seeded(lambda: small_networks.roformer(**{"sources": ("vocals",), **changes})).eval()


def recipe_of(network: BSRoformer, **changes: object) -> dict[str, dict[str, object]]:
    config = network.config
    bands = {"freqs_per_bands": config.band_bins} if config.bands == "split" else {"num_bands": config.mel_bands}
    return {
        "audio": {"chunk_size": config.segment_frames, "sample_rate": config.sample_rate, "num_channels": 2},
        "model": {
            "dim": config.features,
            "depth": config.layers,
            "stereo": config.channels == 2,
            "num_stems": len(config.sources),
            "time_transformer_depth": config.time_depth,
            "freq_transformer_depth": config.band_depth,
            "linear_transformer_depth": 0,
            **bands,
            "dim_head": config.head_features,
            "heads": config.heads,
            "attn_dropout": 0.1,
            "flash_attn": True,
            "dim_freqs_in": config.window_frames // 2 + 1,
            "stft_n_fft": config.window_frames,
            "stft_hop_length": config.hop_frames,
            "stft_win_length": config.window_frames,
            "stft_normalized": False,
            "mask_estimator_depth": config.mask_depth,
            "multi_stft_resolutions_window_sizes": (4096, 2048),
            **changes,
        },
        "training": {
            "instruments": list(config.sources) if len(config.sources) > 1 else ["vocals", "other"],
            "target_instrument": None if len(config.sources) > 1 else "vocals",
            "lr": 1e-5,
        },
        "inference": {"batch_size": 4, "num_overlap": 2},
    }


def shared(folder: Path, network: BSRoformer, recipe: dict[str, dict[str, object]] | None = None) -> Path:
    path = folder / "vocals.ckpt"
    torch.save(network.model.state_dict(), path)
    path.with_suffix(".yaml").write_text(yaml.dump(recipe or recipe_of(network), Dumper=Dumper))
    return path


def loaded(rest: str | Path, folder: Path = Path()) -> Separator:
    return roformer.load(str(rest), LoadOptions(folder=folder, overlap=OVERLAP, shifts=2, batch_size=2))


@pytest.mark.parametrize("bands", ["split", "mel"])
def test_it_separates_as_the_network_that_was_saved(tmp_path: Path, bands: str) -> None:
    network, mixture = small(bands=bands), noise(2500)
    separator = loaded(shared(tmp_path, network))
    assert "!!python/tuple" in (tmp_path / "vocals.yaml").read_text()
    assert separator.sources == ("vocals", "other")
    assert (separator.sample_rate, separator.channels) == (network.sample_rate, 2)
    (vocals,) = separate(NetworkSeparator(network=network, overlap=OVERLAP, shifts=2), mixture)
    found = separate(separator, mixture)
    np.testing.assert_allclose(found[0], vocals, atol=1e-6)
    np.testing.assert_allclose(found[1], mixture - found[0], atol=1e-7)
    by_blocks = np.concatenate(list(separator.stream(blocks_of(mixture))), axis=2)
    np.testing.assert_array_equal(by_blocks, found)


def test_a_network_of_several_sources_has_no_remainder(tmp_path: Path) -> None:
    network = small(sources=("drums", "vocals", "other"))
    assert loaded(shared(tmp_path, network)).sources == ("drums", "vocals", "other")


@pytest.mark.parametrize("wrap", ["state_dict", "state", "model"])
def test_states_are_found_within_what_trainers_wrap_around_them(tmp_path: Path, wrap: str) -> None:
    network = small()
    wanted = loaded(shared(tmp_path, network)).identity
    state = {f"module.model.{name}": value for name, value in network.model.state_dict().items()}
    torch.save({wrap: state, "epoch": 7}, tmp_path / "vocals.ckpt")
    assert loaded("vocals.ckpt", tmp_path).identity == wanted


def test_safetensors_and_a_yaml_of_another_name_are_taken(tmp_path: Path) -> None:
    network = small()
    path = shared(tmp_path, network)
    save_model(network.model, str(tmp_path / "weights.safetensors"))
    (tmp_path / "vocals.yaml").rename(tmp_path / "other.yaml")
    separator = loaded("weights.safetensors?config=other.yaml", tmp_path)
    mixture = noise(1500)
    with torch.no_grad():
        wanted = separate(NetworkSeparator(network=network, overlap=OVERLAP, shifts=2), mixture)
    np.testing.assert_allclose(separate(separator, mixture)[:1], wanted, atol=1e-6)
    assert separator.name == "roformer:weights.safetensors"
    with pytest.raises(RecipeError, match=r"no vocals.yaml beside it.*\?config=FILE"):
        loaded(path)
    with pytest.raises(RecipeError, match=r"no 'confg' \(did you mean 'config'\?\)"):
        loaded("weights.safetensors?confg=other.yaml", tmp_path)


def test_identity_is_of_weights_and_settings(tmp_path: Path) -> None:
    network = small()
    path = shared(tmp_path, network)
    first = loaded(path).identity
    assert loaded(path).identity == first
    assert roformer.load(str(path), LoadOptions(overlap=0.25, shifts=2)).identity != first
    with torch.no_grad():
        next(network.model.parameters()).add_(1.0)
    assert loaded(shared(tmp_path, network)).identity != first


def test_weights_and_yaml_may_be_at_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMLOOM_CACHE", str(tmp_path / "cache"))
    path = shared(tmp_path, small())
    rest = "hf:owner/repo/vocals.ckpt@v1#sha256={}?config=hf:owner/repo/vocals.yaml@v1%23sha256={}"
    hashes = [hashlib.sha256(part.read_bytes()).hexdigest() for part in (path, path.with_suffix(".yaml"))]
    with pytest.raises(RecipeError, match=r"resolve/v1/vocals.ckpt .*--allow-downloads"):
        loaded(rest.format(*hashes))
    for part, digest in zip((path, path.with_suffix(".yaml")), hashes, strict=True):
        kept = tmp_path / "cache/weights" / digest / part.name
        kept.parent.mkdir(parents=True)
        kept.write_bytes(part.read_bytes())
    separator = loaded(rest.format(*hashes))
    assert separator.name == "roformer:hf:owner/repo/vocals.ckpt@v1"
    assert separator.identity == loaded(path).identity


class Malicious:
    def __reduce__(self) -> object:
        return os.mkdir, ("ran",)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = shared(tmp_path, small())
    torch.save({"state_dict": Malicious()}, path)
    with pytest.raises(RecipeError, match=r"vocals.ckpt: holds posix.mkdir, which .* refused.*safetensors"):
        loaded(path)
    assert not (tmp_path / "ran").exists()


def test_broken_files_are_told(tmp_path: Path) -> None:
    path = shared(tmp_path, small())
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(RecipeError, match=r"vocals.ckpt: is no file of weights, or one that was cut short"):
        loaded(path)
    torch.save([1, 2], path)
    with pytest.raises(RecipeError, match="holds a list where a network's tensors should be"):
        loaded(path)
    path.unlink()
    with pytest.raises(RecipeError, match=r"vocals.ckpt: there is no such file"):
        loaded(path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = shared(tmp_path, small(), recipe_of(small(features=16)))
    with pytest.raises(RecipeError, match=r"vocals.ckpt: tensor '.*' has the shape .*, not .*belong together"):
        loaded(path)
    path = shared(tmp_path, small(), recipe_of(small(layers=3)))
    with pytest.raises(RecipeError, match=r"tensor 'layers.* is missing"):
        loaded(path)
    network = small()
    with torch.no_grad():
        next(network.model.parameters()).fill_(torch.nan)
    with pytest.raises(RecipeError, match="holds NaN or infinity"):
        loaded(shared(tmp_path, network))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"skip_connection": True}, "model.skip_connection' is True: such a network is not supported"),
        ({"linear_transformer_depth": 1}, "only one where it is 0"),
        ({"stft_win_length": 32}, "only equal ones are supported"),
        ({"num_stems": 2}, "model.num_stems is 2, and the network is of vocals"),
        ({"time_transfomer_depth": 1}, "did you mean 'time_transformer_depth'"),
        ({"freqs_per_bands": (2, 2)}, "band_bins sums to 4"),
        ({"num_bands": 7}, "give freqs_per_bands"),
    ],
)
def test_settings_that_the_network_has_not_are_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    network = small()
    path = shared(tmp_path, network, recipe_of(network, **changes))
    with pytest.raises(RecipeError, match=message):
        loaded(path)


def test_a_yaml_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = shared(tmp_path, small())
    path.with_suffix(".yaml").write_text("audio: !!python/object/apply:os.mkdir ['ran']\n")
    with pytest.raises(RecipeError, match=r"vocals.yaml: cannot be read as YAML"):
        loaded(path)
    assert not (tmp_path / "ran").exists()


def test_without_the_package_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shared(tmp_path, small())
    monkeypatch.setitem(sys.modules, "bs_roformer", None)
    with pytest.raises(RecipeError, match=r"pip install 'stemloom\[roformer\]'"):
        loaded(path)
