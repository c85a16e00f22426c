"""From text to separators."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import separators.loading as loading
from manifests.errors import RecipeError
from separators.ensemble import Ensemble
from separators.loading import LOADERS, load_separator
from separators.overlap_add import NetworkSeparator
from separators.separator import Separator, separate
from separators.weights import save_network
from tests.separators.small_networks import open_unmix, residual_unmix, seeded
from tests.separators.small_separators import noise


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    for number in range(2):
        save_network(tmp_path / f"net {number}.safetensors", seeded(open_unmix, number))
    save_network(tmp_path / "vocals.safetensors", seeded(residual_unmix))
    return tmp_path


def test_a_checkpoint_runs_as_told(checkpoints: Path) -> None:
    text = f"checkpoint:{checkpoints / 'net 0.safetensors'}"
    got = load_separator(text, overlap=0.5, shifts=2, window="hann", batch_size=3)
    network = seeded(open_unmix).eval()
    wanted = NetworkSeparator(network=network, overlap=0.5, shifts=2, window="hann", batch_size=3)
    assert isinstance(got, Separator)
    assert got.name == text
    assert got.identity == wanted.identity
    np.testing.assert_array_equal(separate(got, noise(3000)), separate(wanted, noise(3000)))
    path = text.removeprefix("checkpoint:")
    assert load_separator(path, overlap=0.5, shifts=2, window="hann", batch_size=3).identity == wanted.identity


def test_a_sum_is_a_weighted_ensemble(checkpoints: Path) -> None:
    names = [f"checkpoint:{checkpoints}/net {number}.safetensors" for number in range(2)]
    got = load_separator(f"10*{names[0]} + 2.5 * {names[1]}")
    wanted = Ensemble([load_separator(name) for name in names], (4, 1))
    assert got.identity == wanted.identity
    assert load_separator(" + ".join(names)).identity == Ensemble(wanted.separators).identity


def test_a_plus_in_a_name_is_no_sum(tmp_path: Path) -> None:
    save_network(tmp_path / "a+b.safetensors", seeded(open_unmix))
    assert load_separator(f"checkpoint:{tmp_path}/a+b.safetensors").sources == open_unmix().sources


def test_a_file_says_the_rest_with_paths_of_its_own(checkpoints: Path) -> None:
    (checkpoints / "cascade.yaml").write_text(
        """
        cascade:
          first: checkpoint:vocals.safetensors
          take: vocals
          name_taken: singing
          second:
            ensemble:
              - {separator: "checkpoint:net 0.safetensors", weight: 3}
              - separator: checkpoint:net 1.safetensors
                weight: {vocals: 1, drums: 0, bass: 1, other: 1}
            postprocessing: {normalise: peak}
        sample_rate: 48000
        postprocessing:
          rescale: [drums]
          consistency: {bass: 0.5, other: 0.5}
        """
    )
    got = load_separator(checkpoints / "cascade.yaml")
    assert got.sources == ("singing", "vocals", "drums", "bass", "other")
    assert got.sample_rate == 48000
    mixture = noise(3000)
    np.testing.assert_allclose(separate(got, mixture).sum(axis=0), mixture, atol=1e-5)


def test_a_mapping_is_as_good_as_a_file() -> None:
    got = load_separator({"separator": "baseline:identity=speech, music", "channels": 1})
    assert got.sources == ("speech", "music")
    assert got.channels == 1


@pytest.mark.parametrize("name", ["identity", "centre", "hpss"])
def test_baselines_need_nothing(name) -> None:
    separator = load_separator(f"baseline:{name}=a,b")
    assert separator.name == f"baseline:{name}=a,b"
    assert separator.sources == ("a", "b")


def test_a_bundled_network_is_found_by_its_name(checkpoints: Path, monkeypatch) -> None:
    files = sorted(checkpoints.glob("net *.safetensors"))
    for name, kept in {"speech": files[:1], "vocals": files}.items():
        (checkpoints / name).mkdir()
        for file in kept:
            shutil.copy(file, checkpoints / name)
    monkeypatch.setattr(loading, "_BUNDLED", checkpoints)
    mixture = noise(2000)
    for name, kept in {"speech": files[:1], "vocals": files}.items():
        separator = load_separator(f"bundled:{name}")
        assert separator.name == f"bundled:{name}"
        parts = [separate(load_separator(str(file)), mixture) for file in kept]
        np.testing.assert_allclose(separate(separator, mixture), np.mean(parts, axis=0), atol=1e-6)
    with pytest.raises(RecipeError, match=r"'vocal' .*did you mean 'vocals'.*speech, vocals"):
        load_separator("bundled:vocal")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("chekpoint:a.safetensors", r"did you mean 'checkpoint'"),
        ("vocals", "write KIND:NAME"),
        ("", "write KIND:NAME"),
        ("checkpoint:none.safetensors", "none.safetensors: cannot be read"),
        ("baseline:center", r"no baseline 'center' \(did you mean 'centre'\?\)"),
        ("baseline:identity=a,,b", "a source has no name"),
        ("1.2.3*baseline:centre + baseline:hpss", r"weight '1\.2\.3' is no number"),
        ("0*baseline:centre + 0*baseline:hpss", "none above 0"),
        ("none.yaml", "none.yaml: there is no such file"),
        ({}, "give one of separator, ensemble, cascade, not none"),
        ({"separator": "baseline:hpss", "ensemble": []}, "not separator and ensemble"),
        ({"seperator": "baseline:hpss"}, "did you mean 'separator'"),
        ({"separator": "baseline:hpss", "postprocessing": {"rescale": ["vocal"]}}, "did you mean 'vocals'"),
        ({"ensemble": [{"separator": {"ensembel": []}}]}, "'ensemble.0.separator': .*did you mean 'ensemble'"),
        ({"cascade": {"first": "baseline:hpss", "take": "vocals"}}, "'cascade.second' is missing"),
    ],
)
def test_what_is_wrong_is_told_with_the_nearest(what, message) -> None:
    with pytest.raises(RecipeError, match=message):
        load_separator(what)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"overlap": 1.0}, "overlap is 1.0"),
        ({"overlap": float("nan")}, "overlap is nan"),
        ({"shifts": 0}, "shifts is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"window": "han"}, "did you mean 'hann'"),
    ],
)
def test_what_no_network_could_do_is_refused_for_all(settings, message) -> None:
    with pytest.raises(RecipeError, match=message):
        load_separator("baseline:centre", **settings)


def test_the_advice_for_parts_of_other_rates_is_right(tmp_path: Path) -> None:
    save_network(tmp_path / "net.safetensors", seeded(residual_unmix))
    part = f"checkpoint:{tmp_path}/net.safetensors"
    other = {"separator": "baseline:identity=vocals,rest", "sample_rate": 22050}
    with pytest.raises(RecipeError, match="in place of 'baseline:identity=vocals,rest'") as caught:
        load_separator({"ensemble": [{"separator": part}, {"separator": other}]})
    advice = yaml.safe_load(re.search(r"(\{separator: .*?\})", str(caught.value))[1])
    made = load_separator({"ensemble": [{"separator": part}, {"separator": advice}]})
    assert made.sample_rate == load_separator(part).sample_rate == 44100


@pytest.mark.parametrize("name", ["net.th", "my: net.ckpt"])
def test_a_file_without_its_kind_is_told_the_kinds(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match=r"there is no separator .*demucs:, "):
        load_separator(tmp_path / name)
    (tmp_path / name).touch()
    with pytest.raises(RecipeError, match=f"needs its kind before it, as in demucs:{tmp_path / name}, roformer:"):
        load_separator(tmp_path / name)


def test_a_device_that_is_not_there_is_told(checkpoints: Path) -> None:
    with pytest.raises(RecipeError, match="device is 'warp:9'"):
        load_separator(f"checkpoint:{checkpoints}/vocals.safetensors", device="warp:9")


def test_loaders_are_a_table() -> None:
    assert {"baseline", "bundled", "checkpoint"} <= LOADERS.keys()


def test_separators_without_networks_load_without_torch() -> None:
    script = (
        "import sys\nfrom separators.loading import load_separator\nload_separator('baseline:centre')\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2]).returncode == 0


def test_a_file_that_is_a_part_of_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("ensemble: [{separator: b.yaml}, {separator: 'baseline:centre'}]\n")
    (tmp_path / "b.yaml").write_text("separator: a.yaml\n")
    with pytest.raises(RecipeError, match=r"a\.yaml: is a part of itself"):
        load_separator(tmp_path / "a.yaml")
