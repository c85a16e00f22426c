"""Corpora whose clips are where a label is heard."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from augment.draw import draw
from augment.pool import make_pool
from augment.reading import PoolReader
from augment.recipe import load_mix
from augment.render import render
from builders.anchors import AnchorBuilder, read_class_mapping
from builders.check import check_build
from builders.recipe import AnchorRecipe
from manifests.corpus import Corpus
from manifests.errors import BuildError, RecipeError
from manifests.tables import frame_of, write_table
from separators.tagging import ClassList, Tagger, load_tagger
from tests.manifests.exports.small_corpus import write_song, write_tables
from tests.synthesis import pink_noise

RATE = 16_000
BANDS = {"Low tone": 500.0, "High tone": 2000.0, "Click, snap": 4000.0}

Bumps = dict[str, tuple[float, float]]


def sound(bumps: Bumps, seconds: float = 10.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Tones of bands from one second to another, over faint noise."""
    time = np.arange(round(seconds * rate)) / rate
    audio = 0.001 * pink_noise(np.random.default_rng(seed), 1, len(time))[0]
    for name, (start, end) in bumps.items():
        audio += 0.2 * np.sin(2 * np.pi * BANDS[name] * time) * ((time >= start) & (time < end))
    return audio[None].astype(np.float32)


def library(folder: Path, sounds: dict[str, tuple[np.ndarray, str | None]], rate: int = RATE) -> Corpus:
    rows = []
    for name, (audio, tags) in sounds.items():
        rows += write_song(
            folder, name, {"effects": audio}, rate=rate, tags=tags, artist=f"by {name}", split="train"
        )
    return write_tables(folder, rows)


class Bands:
    """Logits are +5 where the band of a tone is loud in 0.1 s and -5 elsewhere; `fault` is of sounds beyond 0.5."""

    sample_rate, classes = RATE, len(BANDS)

    def __init__(self, fault: str = "") -> None:
        self.fault, self.calls = fault, 0

    def __call__(self, audio: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        columns = -(-audio.shape[1] // 1600)
        frames = torch.nn.functional.pad(audio[0], (0, columns * 1600 - audio.shape[1])).reshape(columns, 1600)
        time = torch.arange(1600) / RATE
        waves = torch.stack([torch.exp(-2j * torch.pi * hz * time) for hz in BANDS.values()])
        logits = torch.where((frames.to(waves.dtype) @ waves.T).abs().T / 1600 > 0.04, 5.0, -5.0)
        if audio.abs().max() > 0.5 and self.fault == "nan":
            logits = logits * torch.nan
        if audio.abs().max() > 0.5 and self.fault == "interrupt":
            raise KeyboardInterrupt
        return logits[None]


def tagger(embedder: Any = None, identity: str = "bands") -> Tagger:
    return Tagger("bands", identity, embedder or Bands(), ClassList(tuple(BANDS), ("/m/1", "/m/2", "/m/3")))


def mine(corpus: Corpus, out: Path, how: Tagger | None = None, **recipe: Any) -> Corpus:
    return AnchorBuilder(out, how or tagger(), AnchorRecipe(**recipe)).build(corpus.folder)


def places(corpus: Corpus) -> list[tuple[str, str, float, float]]:
    assert corpus.clips is not None
    return [
        (row.song_id, row.label, row.start_frame / RATE, row.num_frames / RATE) for row in corpus.clips.itertuples()
    ]


@pytest.fixture
def source(tmp_path: Path) -> Corpus:
    both = {"Low tone": (2.0, 4.0), "High tone": (6.5, 8.5)}
    return library(
        tmp_path / "corpus",
        {
            "both": (sound(both), "low_TONE, /m/2"),
            "one": (sound(both, seed=1), "High tone"),
            "short": (sound({"Click, snap": (0.0, 0.6)}, 0.6), "Click, snap"),
            "wrong": (sound({"Low tone": (1.0, 2.0)}), "Click_and_snap;Low_tone_of_a_horn"),
            "strange": (sound({"Low tone": (1.0, 4.0)}), "Unicorn"),
            "silent": (sound({}), None),
            "untold": (sound({"Click, snap": (5.0, 7.0)}, seed=2), None),
        },
    )


def test_tones_are_found_where_they_are(tmp_path: Path, source: Corpus) -> None:
    corpus = mine(source, tmp_path / "anchors")
    assert places(corpus) == [
        ("both", "Low tone", 2.0, 2.0),
        ("both", "High tone", 6.5, 2.0),
        ("one", "High tone", 6.5, 2.0),
        ("short", "Click, snap", 0.0, 0.6),
        ("untold", "Click, snap", 5.0, 2.0),
    ]
    assert corpus.clips is not None
    assert corpus.clips["label_probability"].tolist() == pytest.approx([1 / (1 + np.exp(-5))] * 5, abs=1e-6)
    assert corpus.clips["artist"].tolist() == ["by both", "by both", "by one", "by short", "by untold"]
    assert set(corpus.clips["split"]) == {"train"}
    assert corpus.clips["clip_id"].tolist()[0] == "both-32000-32000"
    assert check_build(tmp_path / "anchors") == []


def test_what_has_no_anchor_leaves_with_its_reason(tmp_path: Path, source: Corpus) -> None:
    corpus = mine(source, tmp_path / "anchors")
    assert corpus.rejected is not None
    rows = {row.id: (row.stage, row.reason, row.detail) for row in corpus.rejected.itertuples()}
    assert rows == {
        "wrong": ("anchor", "no anchor", "'Click, snap' is at most 0.007 over 0.1 s"),
        "strange": ("anchor", "no known label", "its tags are 'Unicorn'"),
        "silent": ("anchor", "no anchor", "'Low tone' is at most 0.007 over 0.1 s"),
    }
    assert corpus.songs() == ["both", "one", "short", "untold"]
    assert not (tmp_path / "anchors/audio/wrong").exists()
    run = json.loads((tmp_path / "anchors/run.json").read_text())
    assert run["counts"]["anchor"] == {"in": 7, "kept": 4, "rejected": 3}
    assert run["labels"] == {"Click, snap": 2, "High tone": 2, "Low tone": 1}
    assert run["unknown_tags"] == {"Low_tone_of_a_horn": 1, "Unicorn": 1}


def test_audio_is_linked_and_the_rows_stay(tmp_path: Path, source: Corpus) -> None:
    corpus = mine(source, tmp_path / "anchors")
    for song_id in corpus.songs():
        rows = [found.song(song_id)["effects"] for found in (source, corpus)]
        assert source.path_of(rows[0]).samefile(corpus.path_of(rows[1]))
        assert rows[0] == rows[1]


def test_sounds_without_tags_may_be_refused(tmp_path: Path, source: Corpus) -> None:
    corpus = mine(source, tmp_path / "anchors", unlabelled="reject")
    assert "untold" not in corpus.songs()
    assert corpus.rejected is not None
    assert corpus.rejected.set_index("id").loc["untold", "reason"] == "no label"


def test_other_labels_keep_an_anchor_away(tmp_path: Path) -> None:
    busy = sound({"Low tone": (2.0, 6.0), "High tone": (1.0, 4.0), "Click, snap": (5.5, 6.0)})
    corpus = library(
        tmp_path / "corpus", {"busy": (busy, "Low tone"), "calm": (sound({"Low tone": (3.0, 5.0)}), "Low tone")}
    )
    assert places(mine(corpus, tmp_path / "a"))[0][2] == 2.0
    # 0.5 s of the high tone are 25 %, 0.6 s would be 30 % and a little
    assert places(mine(corpus, tmp_path / "b", max_other=0.3))[0][2] == 3.5
    calm = mine(corpus, tmp_path / "c", max_other=0.1)
    assert calm.songs() == ["calm"]
    assert calm.rejected is not None
    assert "no anchor is likely enough and without others" in calm.rejected["detail"].iloc[0]


@pytest.mark.parametrize("name", ["map.yaml", "map.csv"])
def test_a_mapping_joins_classes_and_takes_some_out(tmp_path: Path, source: Corpus, name: str) -> None:
    lines = {
        "map.yaml": "low tone: Tone\nHigh_tone: Tone\nClick, snap: null\n",
        "map.csv": 'class,label\nlow tone,Tone\nHigh_tone,Tone\n"Click, snap",\n',
    }
    (tmp_path / name).write_text(lines[name])
    corpus = mine(source, tmp_path / "anchors", mapping=str(tmp_path / name), per_label=None)
    assert places(corpus) == [
        ("both", "Tone", 2.0, 2.0),
        ("both", "Tone", 6.5, 2.0),
        ("one", "Tone", 2.0, 2.0),
        ("one", "Tone", 6.5, 2.0),
    ]


def test_a_changed_mapping_is_another_build(tmp_path: Path, source: Corpus) -> None:
    path = tmp_path / "map.yaml"
    path.write_text("Low tone: Tone\n")
    mine(source, tmp_path / "anchors", mapping=str(path))
    path.write_text("Low tone: Hum\n")
    with pytest.raises(BuildError, match="classes"):
        mine(source, tmp_path / "anchors", mapping=str(path))


def test_anchors_lie_in_the_clips_of_the_source(tmp_path: Path, source: Corpus) -> None:
    rows = [("both", 0.0, 3.0), ("both", 7.0, 2.0), ("one", 5.0, 2.0), ("one", 7.0, 2.0)]
    clips = [
        {"clip_id": f"{n}", "song_id": song, "start_frame": int(start * RATE), "num_frames": int(length * RATE)}
        for n, (song, start, length) in enumerate(rows)
    ]
    write_table(source.folder, "clips", frame_of("clips", clips))
    corpus = mine(source, tmp_path / "anchors", min_probability=0.4)
    assert places(corpus) == [
        ("both", "Low tone", 1.0, 2.0),
        ("both", "High tone", 7.0, 2.0),
        ("one", "High tone", 6.5, 2.0),
    ]
    assert corpus.rejected is not None
    assert corpus.rejected.set_index("id").loc["short", "detail"] == "has no clip in the clips table"


def test_a_broken_file_and_a_tagger_that_fails_cost_their_sounds_only(tmp_path: Path) -> None:
    tone = sound({"Low tone": (2.0, 4.0)})
    corpus = library(
        tmp_path / "corpus", {name: (tone * scale, None) for name, scale in (("a", 1), ("b", 1), ("loud", 4))}
    )
    path = corpus.path_of(corpus.song("b")["effects"])
    path.write_bytes(path.read_bytes()[:2000])
    found = mine(corpus, tmp_path / "anchors", tagger(Bands("nan")))
    assert found.songs() == ["a"]
    assert found.rejected is not None
    rows = found.rejected.set_index("id")
    assert rows["reason"].to_dict() == {"b": "not heard", "loud": "not heard"}
    assert "bands: gives NaN" in rows.loc["loud", "detail"]
    assert "b/effects.flac" in rows.loc["b", "detail"]


def test_a_file_that_is_not_what_its_row_says_is_told(tmp_path: Path) -> None:
    corpus = library(tmp_path / "corpus", {name: (sound({"Low tone": (2.0, 4.0)}), None) for name in "ab"})
    stems = corpus.stems.copy()
    stems.loc[stems["song_id"] == "b", "num_frames"] += 1
    write_table(corpus.folder, "stems", stems)
    found = mine(corpus, tmp_path / "anchors")
    assert found.rejected is not None
    assert "its row of the stems table 160001 at 16000 Hz" in found.rejected["detail"].iloc[0]


def test_a_run_that_was_stopped_goes_on_and_gives_the_same(tmp_path: Path) -> None:
    tone = sound({"Low tone": (2.0, 4.0)})
    corpus = library(tmp_path / "corpus", {"a": (tone, None), "loud": (tone * 4, None)})
    with pytest.raises(KeyboardInterrupt):
        mine(corpus, tmp_path / "anchors", tagger(Bands("interrupt")))
    assert not (tmp_path / "anchors/stems.parquet").exists()
    again = Bands()
    mine(corpus, tmp_path / "anchors", tagger(again))
    assert again.calls == 1
    mine(corpus, tmp_path / "other")
    for name in ("clips", "stems", "rejected"):
        first, second = ((tmp_path / folder / f"{name}.parquet").read_bytes() for folder in ("anchors", "other"))
        assert first == second


def test_what_was_heard_before_is_heard_again_for_other_labels_or_clips(tmp_path: Path) -> None:
    both = sound({"Low tone": (2.0, 4.0), "High tone": (6.5, 8.5)})
    sounds = {"a": (both, "Low tone"), "b": (both, "High tone")}
    corpus = library(tmp_path / "corpus", sounds)
    assert places(mine(corpus, tmp_path / "anchors")) == [("a", "Low tone", 2.0, 2.0), ("b", "High tone", 6.5, 2.0)]
    stems = corpus.stems.assign(tags="Low tone")
    write_table(corpus.folder, "stems", stems)
    assert places(mine(corpus, tmp_path / "anchors"))[1] == ("b", "Low tone", 2.0, 2.0)
    clip = {"song_id": "b", "start_frame": 3 * RATE, "num_frames": 3 * RATE}
    write_table(corpus.folder, "clips", frame_of("clips", [{"clip_id": "b0", **clip}]))
    assert places(mine(corpus, tmp_path / "anchors")) == [("b", "Low tone", 3.0, 2.0)]


def test_the_work_of_another_tagger_or_recipe_is_refused(tmp_path: Path, source: Corpus) -> None:
    mine(source, tmp_path / "anchors")
    with pytest.raises(BuildError, match="tagger"):
        mine(source, tmp_path / "anchors", tagger(identity="other"))
    with pytest.raises(BuildError, match="length_s"):
        mine(source, tmp_path / "anchors", length_s=1.0)
    with pytest.raises(BuildError, match="choose a folder beside the corpus"):
        mine(source, source.folder / "anchors")


def test_what_does_not_fit_is_refused_before_any_work(tmp_path: Path, source: Corpus) -> None:
    out = tmp_path / "anchors"
    with pytest.raises(RecipeError, match=r"names 'efects' .did you mean 'effects'"):
        mine(source, out, stems="efects")
    strange = library(tmp_path / "strange", {"a": (sound({}), "Low tune"), "b": (sound({}), "Horn")})
    with pytest.raises(
        RecipeError, match=r"no tag is a class of bands: 'Low tune' \(did you mean 'low tone'\?\), 'Horn'"
    ):
        mine(strange, out)
    untold = library(tmp_path / "untold", {"a": (sound({}), None)})
    with pytest.raises(RecipeError, match="no sound has tags that count; write 'unlabelled: any'"):
        mine(untold, out, unlabelled="reject")
    (tmp_path / "map.yaml").write_text("Low tune: Tone\n")
    with pytest.raises(RecipeError, match=r"no class 'Low tune' \(did you mean 'Low tone'\?\)"):
        mine(source, out, mapping=str(tmp_path / "map.yaml"))
    assert not out.exists()
    with pytest.raises(BuildError, match=r"no song is left \(1 no anchor\); loosen the limits"):
        mine(untold, out)


def test_of_songs_with_several_stems_one_is_named(tmp_path: Path) -> None:
    parts = {"effects": sound({"Low tone": (2.0, 4.0)}), "music": sound({"High tone": (1.0, 3.0)})}
    rows = [
        *write_song(tmp_path / "c", "a", parts, rate=RATE),
        *write_song(tmp_path / "c", "b", {"music": parts["music"]}, rate=RATE),
    ]
    corpus = write_tables(tmp_path / "c", rows)
    with pytest.raises(
        RecipeError, match="song 'a' has the stems effects, music, and one is heard: name it in 'stems'"
    ):
        mine(corpus, tmp_path / "anchors")
    found = mine(corpus, tmp_path / "anchors", stems="effects")
    assert places(found) == [("a", "Low tone", 2.0, 2.0)]
    assert sorted(found.song("a")) == ["effects", "music"]
    assert found.rejected is not None
    assert found.rejected["reason"].tolist() == ["no such stem"]


def test_a_plan_says_what_would_be_heard(tmp_path: Path, source: Corpus) -> None:
    count, labels = AnchorBuilder(tmp_path / "anchors", tagger(), AnchorRecipe()).plan(source.folder)
    assert count == 6
    assert labels == {"Low tone": 1, "High tone": 2, "Click, snap": 2}
    assert not (tmp_path / "anchors").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "name,label\nDog,Pet\n", "has no column 'class'"),
        ("a.csv", "class,label\nDog,Pet\nDog,\n", "class 'Dog' stands twice"),
        ("a.yaml", "Dog: 3\n", "'Dog: 3' is no class and label"),
        ("a.yaml", "3: Dog\n", "'3: Dog' is no class and label"),
        ("a.yaml", "Dog: A\nDog: B\n", "key 'Dog' stands in line 1 already"),
    ],
)
def test_a_wrong_mapping_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RecipeError, match=message):
        read_class_mapping(tmp_path / name)


@pytest.fixture
def graph(tmp_path: Path) -> Callable[[], Path]:
    """An ONNX graph that multiplies windows of 0.1 s with the tones' waves: probabilities of loud bands."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, numbers, kind = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT
    time = np.arange(1600) / RATE
    turns = [2 * np.pi * hz * time for hz in BANDS.values()]
    constants = {
        "size": np.array([-1, 1600]),
        "cos": np.stack([np.cos(turn) for turn in turns], axis=1).astype(np.float32) / 1600,
        "sin": np.stack([np.sin(turn) for turn in turns], axis=1).astype(np.float32) / 1600,
        "level": np.array(0.04**2 / 2, np.float32),
    }
    nodes = [
        ("Reshape", ["waveform", "size"], "windows"),
        ("MatMul", ["windows", "cos"], "real"),
        ("MatMul", ["windows", "sin"], "imaginary"),
        ("Mul", ["real", "real"], "real2"),
        ("Mul", ["imaginary", "imaginary"], "imaginary2"),
        ("Add", ["real2", "imaginary2"], "power"),
        ("Add", ["power", "level"], "sum"),
        ("Div", ["power", "sum"], "scores"),
    ]
    made = helper.make_graph(
        [helper.make_node(kind_, inputs, [output]) for kind_, inputs, output in nodes],
        "bands",
        [helper.make_tensor_value_info("waveform", kind, ["frames"])],
        [helper.make_tensor_value_info("scores", kind, ["columns", len(BANDS)])],
        [numbers.from_array(value, name) for name, value in constants.items()],
    )

    def write() -> Path:
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.save(model, tmp_path / "bands.onnx")
        rows = [f'{n},/m/{n},"{name}"' for n, name in enumerate(BANDS)]
        (tmp_path / "bands.csv").write_text("\n".join(["index,mid,display_name", *rows]) + "\n")
        return tmp_path / "bands.onnx"

    return write


def test_an_onnx_detector_finds_tones_in_files_of_another_rate(tmp_path: Path, graph: Callable[[], Path]) -> None:
    rate = 44_100
    sounds = {
        "both": (sound({"Low tone": (2.0, 4.0), "High tone": (6.0, 8.0)}, 9.6, rate), "Low tone, High tone"),
        "long": (sound({"Click, snap": (61.0, 63.0)}, 80.0, rate), "Click, snap"),
    }
    corpus = library(tmp_path / "corpus", sounds, rate)
    how = load_tagger(f"onnx:{graph()}?least_frames=1600", tmp_path / "bands.csv")
    found = mine(corpus, tmp_path / "anchors", how)
    assert found.clips is not None
    seconds = [(row.label, row.start_frame / rate, row.num_frames / rate) for row in found.clips.itertuples()]
    assert [label for label, _, _ in seconds] == ["Low tone", "High tone", "Click, snap"]
    assert [start for _, start, _ in seconds] == pytest.approx([2.0, 6.0, 61.0], abs=0.05)
    assert {length for _, _, length in seconds} == {2.0}
    assert found.clips["label_probability"].min() > 0.85


def test_mined_anchors_make_mixtures_of_two_tones(tmp_path: Path, source: Corpus) -> None:
    corpus = mine(source, tmp_path / "anchors")
    mix = load_mix("anchors")
    pool = make_pool(mix, corpus)
    seen = set()
    for index in range(8):
        mixture = render(draw(mix, pool, 0, 0, index), PoolReader(pool))
        spectra = np.abs(np.fft.rfft(mixture.targets[:, 0], axis=-1))
        hertz = spectra.argmax(axis=-1) * mix.sample_rate / mixture.targets.shape[-1]
        assert set(np.round(hertz)) <= set(BANDS.values())
        assert len(set(np.round(hertz))) == 2
        seen |= set(np.round(hertz))
    assert seen == set(BANDS.values())
