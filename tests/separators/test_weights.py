"""Networks on disk."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from manifests.errors import BuildError, RecipeError
from separators.network import Network, NetworkConfig
from separators.weights import (
    NETWORKS,
    load_matching,
    load_network,
    network_classes,
    network_identity,
    read_saved,
    save_network,
)
from tests.separators.small_networks import SMALL, noise, open_unmix, residual_unmix, seeded, study


@pytest.mark.parametrize("make", SMALL)
def test_a_network_loads_as_it_was_saved(make, tmp_path: Path) -> None:
    network = seeded(make).eval()
    save_network(tmp_path / "net.safetensors", network)
    loaded = load_network(tmp_path / "net.safetensors")
    assert type(loaded) is type(network)
    assert loaded.config == network.config
    assert not loaded.training
    assert network_identity(loaded) == network_identity(network)
    with torch.no_grad():
        assert torch.equal(loaded(noise(1, 700)), network(noise(1, 700)))


def test_every_known_network_exists() -> None:
    for name in NETWORKS:
        config, network = network_classes(name)
        assert issubclass(config, NetworkConfig)
        assert issubclass(network, Network)
    with pytest.raises(RecipeError, match=r"'unett' \(did you mean 'unet'\?\)"):
        network_classes("unett")


def test_a_file_says_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_network(path, seeded(study), about={"license": "MIT", "hours": 3})
    saved = read_saved(path)
    assert saved.network == "unet"
    assert saved.about == {"license": "MIT", "hours": 3}
    assert saved.config["sources"] == list(seeded(study).sources)


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path: Path) -> None:
    network = seeded(lambda: open_unmix(hidden=64))
    for dtype in (torch.float32, torch.float16):
        save_network(tmp_path / f"{dtype}.safetensors", network, dtype=dtype)
    whole, half = ((tmp_path / f"{dtype}.safetensors").stat().st_size for dtype in (torch.float32, torch.float16))
    assert 0.5 < half / whole < 0.55
    loaded = load_network(tmp_path / f"{torch.float16}.safetensors")
    for name, tensor in network.state_dict().items():
        assert loaded.state_dict()[name].dtype == tensor.dtype
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=2**-10, atol=1e-7)


def test_weights_that_overflow_half_precision_are_refused(tmp_path: Path) -> None:
    network = seeded(study)
    with torch.no_grad():
        next(network.parameters()).mul_(1e9)
    with pytest.raises(RecipeError, match=r"not finite as torch\.float16"):
        save_network(tmp_path / "net.safetensors", network, dtype=torch.float16)
    assert list(tmp_path.iterdir()) == []


def test_loading_draws_nothing_from_the_global_generator(tmp_path: Path) -> None:
    save_network(tmp_path / "net.safetensors", seeded(study))
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    load_network(tmp_path / "net.safetensors")
    assert torch.equal(torch.rand(3), wanted)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "net.safetensors"
    save_network(path, seeded(study))
    before = path.read_bytes()

    @contextlib.contextmanager
    def full(file):
        class Full:
            def write(self, data):
                raise OSError(28, "No space left on device")

            def __getattr__(self, name):
                return getattr(file, name)

        yield Full()

    import manifests.files as files

    created = files._created
    monkeypatch.setattr(files, "_created", lambda temporary: full(created(temporary)))
    with pytest.raises(BuildError, match="No space left"):
        save_network(path, seeded(study, seed=1))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_network_is_refused_with_its_reason(tmp_path: Path) -> None:
    good, network = tmp_path / "good.safetensors", seeded(study)
    save_network(good, network)

    def refused(name: str, content: bytes, match: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RecipeError, match=match):
            load_network(tmp_path / name)

    refused("short.safetensors", good.read_bytes()[:-100], "cut short")
    refused("shorter.safetensors", good.read_bytes()[:5], "cut short")
    refused("text.safetensors", b"hello, this is no network at all", "no safetensors file")
    refused("empty.safetensors", b"", "cut short")
    torch.save(network.state_dict(), tmp_path / "net.pth")
    refused("net.ckpt", b"anything", "pickle.*convert it to safetensors")
    refused("renamed.safetensors", (tmp_path / "net.pth").read_bytes(), "pickle.*convert it to safetensors")
    with pytest.raises(RecipeError, match="No such file"):
        load_network(tmp_path / "none.safetensors")
    with pytest.raises(RecipeError, match=r"end in \.safetensors"):
        save_network(tmp_path / "net.pth", network)


def test_a_file_whose_config_and_tensors_do_not_fit_is_refused(tmp_path: Path) -> None:
    network, path = seeded(study), tmp_path / "net.safetensors"
    save_network(path, network)
    tensors, config = load_file(path), network.config.to_json()

    def refused(match: str, tensors=tensors, **facts: str) -> None:
        save_file(tensors, path, {"network": "unet", "config": json.dumps(config), **facts})
        with pytest.raises(RecipeError, match=match):
            load_network(path)

    name = next(iter(tensors))
    refused(f"'{name}' is missing", {key: value for key, value in tensors.items() if key != name})
    refused(f"'{name}' has the shape", {**tensors, name: torch.zeros(3)})
    refused("'more' is of no such network", {**tensors, "more": torch.zeros(3)})
    refused("no network 'spectron'", network="spectron")
    refused("no field 'binz'", config=json.dumps({**config, "binz": 3}))
    huge = {**config, "filters": [1 << 20 for _ in config["filters"]]}  # terabytes
    refused("has the shape .*, expected .*1048576", config=json.dumps(huge))
    refused("no JSON", config="{")
    refused("no JSON", config="[]")
    save_file(tensors, path)
    with pytest.raises(RecipeError, match=r"not written by 'stemloom train' \(no 'network' in its metadata"):
        load_network(path)


def test_a_header_as_long_as_a_pickle_starts_is_no_pickle(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    for length in range(0, 1000, 8):
        facts = {"network": "unet", "config": "{}", "about": json.dumps({"text": "x" * length})}
        save_file({"weight": torch.zeros(1)}, path, facts)
        if path.read_bytes().startswith(b"\x80\x02"):
            break
    assert path.read_bytes().startswith(b"\x80\x02")
    assert read_saved(path).network == "unet"


def test_a_network_nobody_could_load_again_is_not_saved(tmp_path: Path) -> None:
    class Own(Network):
        pass

    network = Own(NetworkConfig(sample_rate=8000, channels=1, sources=("a",), segment_frames=10))
    with pytest.raises(RecipeError, match=r"not in separators\.weights\.NETWORKS"):
        save_network(tmp_path / "net.safetensors", network)


def test_fine_tuning_takes_what_fits_and_tells_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_network(path, seeded(lambda: open_unmix(bandwidth_hz=10000.0, layers=1)))
    network = seeded(residual_unmix, seed=1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    matched = load_matching(network, path)
    saved, now = load_file(path), network.state_dict()
    assert "nets.0.fc1.weight" in matched.other_shape
    assert "nets.0.lstm.weight_ih_l1" in matched.missing
    assert "nets.1.fc2.weight" in matched.unexpected
    assert {*matched.taken, *matched.missing, *matched.other_shape} == before.keys()
    assert {*matched.taken, *matched.unexpected, *matched.other_shape} == saved.keys()
    assert all(torch.equal(now[name], saved[name]) for name in matched.taken)
    assert all(torch.equal(now[name], before[name]) for name in (*matched.missing, *matched.other_shape))
    with pytest.raises(RecipeError, match="none of its"):
        load_matching(seeded(study), path)


def test_identity_is_of_weights_and_config() -> None:
    network = seeded(study)
    identity = network_identity(network)
    assert network_identity(seeded(study)) == identity
    assert network_identity(seeded(study, seed=1)) != identity
    with torch.no_grad():
        next(network.parameters())[0] += 1e-6
    assert network_identity(network) != identity


def test_knowing_the_networks_imports_none_of_them() -> None:
    script = "import sys, separators.weights\nsys.exit('separators.unet' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2]).returncode == 0
