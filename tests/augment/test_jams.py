"""JAMS in and out, against scaper's own rendering, reading and validating."""

from __future__ import annotations

import dataclasses
import gzip
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from augment.annotation import seconds_of
from augment.jams import jams_of_plan, jams_roots, plan_of_jams, write_jams
from augment.plan import Event, MixturePlan, plans_of, plans_table
from augment.render import Mixture, render
from augment.soundscape import loudness_of
from manifests.crops import CropReader
from manifests.errors import AudioError, BuildError, RecipeError, TableError
from tests.augment.soundscapes import RATE, need_scaper, numpy_1_names, scape, sound_folders
from tests.synthesis import pink_noise

__all__ = ["numpy_1_names"]

pytestmark = pytest.mark.usefixtures("numpy_1_names")

# float32 against float64, of sounds at up to full scale
ROUNDING = 1e-6


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    return sound_folders(tmp_path)


def rendered(plan: MixturePlan, roots: dict[str, Path]) -> Mixture:
    with CropReader(roots) as reader:
        return render(plan, reader)


def generated(tmp_path: Path, made: Any, **settings: Any) -> tuple[Any, list[Any], Path]:
    """What scaper makes: the soundscape and its events [shape=(channels, frames)], and the JAMS."""
    path = tmp_path / "soundscape.jams"
    audio, _, _, events = made.generate(None, str(path), **settings)
    return audio.T, [event.T for event in events], path


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("channels", "background", "levels"),
    [
        (1, "park", {}),
        (2, "park", {"peak_normalization": True}),
        (2, "street", {}),
        (1, "street", {"fix_clipping": True}),
    ],
)
def test_a_soundscape_sounds_as_scapers_own(
    tmp_path: Path, roots: dict[str, Path], seed: int, channels: int, background: str, levels: dict[str, bool]
) -> None:
    made = scape(roots, seed, channels=channels, background=background)
    audio, events, path = generated(tmp_path, made, **levels)
    plan = plan_of_jams(path, jams_roots(path), targets="event")
    mixture = rendered(plan, roots)
    assert mixture.mixture.shape == (channels, 4 * RATE)
    assert np.abs(mixture.mixture - audio).max() < ROUNDING
    assert len(mixture.targets) == len(events) == 5
    assert np.abs(mixture.targets - np.stack(events)).max() < ROUNDING
    assert mixture.names[0] == f"background0_{background}"


@pytest.mark.parametrize("ref_db", [-8.0, -40.0])
def test_clipping_is_fixed_where_it_clips(tmp_path: Path, roots: dict[str, Path], ref_db: float) -> None:
    audio, _, path = generated(tmp_path, scape(roots, 1, ref_db=ref_db), fix_clipping=True)
    plan = plan_of_jams(path, roots)
    found = rendered(plan, roots).mixture
    assert np.abs(found - audio).max() < ROUNDING
    assert (np.abs(found).max() > 0.99) == (ref_db == -8.0)


@pytest.mark.parametrize("fade_s", [0.01, 0.05])
@pytest.mark.parametrize("seed", range(3))
def test_fades_are_scapers(tmp_path: Path, roots: dict[str, Path], seed: int, fade_s: float) -> None:
    audio, events, path = generated(tmp_path, scape(roots, seed, fade_s=fade_s, channels=2))
    mixture = rendered(plan_of_jams(path, roots, targets="event"), roots)
    assert np.abs(mixture.mixture - audio).max() < ROUNDING
    assert np.abs(mixture.targets - np.stack(events)).max() < ROUNDING


@pytest.mark.parametrize(("source_rate", "rate"), [(22_050, 16_000), (16_000, 44_100), (48_000, 44_100)])
def test_other_rates_are_resampled_alike(tmp_path: Path, source_rate: int, rate: int) -> None:
    roots = sound_folders(tmp_path, source_rate)
    _, events, path = generated(tmp_path, scape(roots, 2, rate=rate, channels=2))
    plan = plan_of_jams(path, roots, targets="event")
    assert {event.source_rate for event in plan.events} == {source_rate}
    for event, found, expected in zip(plan.events, rendered(plan, roots).targets, events, strict=True):
        start, stop = event.offset_frame, event.offset_frame + event.length_frames
        assert np.flatnonzero(np.abs(expected).max(axis=0))[[0, -1]] == pytest.approx([start, stop - 1], abs=1)
        error = np.abs(found - expected) / np.abs(expected).max()
        assert np.sqrt(np.mean(error**2)) < 1e-4
        # SoX and soxr differ most where a sound is cut off
        assert error[:, start + 200 : stop - 200].max() < 2e-4
        assert error.max() < 4e-3


def test_repetitions_of_another_rate_follow_each_other_without_a_gap(tmp_path: Path) -> None:
    roots = sound_folders(tmp_path, 22_050)
    audio, _, path = generated(tmp_path, scape(roots, 2, background="street", num_events=0))
    plan = plan_of_jams(path, roots)
    ends = [event.offset_frame + event.length_frames for event in plan.events]
    assert [event.offset_frame for event in plan.events] == [0, *ends[:-1]]
    assert ends[-1] == plan.num_frames
    found = rendered(plan, roots).mixture
    # moved by less than a frame after the first repetition; the loudness is the same
    first = slice(0, ends[0] - 200)
    assert np.abs(found[:, first] - audio[:, first]).max() < 1e-4
    assert np.corrcoef(found[0], audio[0])[0, 1] > 0.99
    assert loudness_of(found, RATE) == pytest.approx(-25.0, abs=0.01)


def test_pitch_and_stretch_become_steps_with_their_parameters(
    tmp_path: Path, roots: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("python_stretch")
    made = scape(roots, 3, background=None, num_events=2, pitch_shift=("const", 2.5), time_stretch=("const", 1.25))
    made.add_event(
        ("const", "siren"),
        ("choose", []),
        ("const", 0),
        ("const", 0),
        ("const", 1.5),
        ("const", 6),
        None,
        ("const", 0.8),
    )
    _, events, path = generated(tmp_path, made)
    with caplog.at_level(logging.WARNING):
        plan = plan_of_jams(path, roots, targets="event")
    assert caplog.text.count("not SoX's algorithm") == 3
    steps = [event.transforms for event in plan.events]
    # in the order of their times
    assert steps[0] == ({"name": "tempo", "rate": 1.25},)
    assert steps[1:] == [({"name": "repitch", "semitones": 2.5, "rate": 0.8},)] * 2
    mixture = rendered(plan, roots)
    for event, found, expected in zip(plan.events, mixture.targets, events, strict=True):
        scapers = np.flatnonzero(np.abs(expected).max(axis=0))
        assert abs(event.offset_frame - scapers[0]) <= 40
        assert abs(event.offset_frame + event.length_frames - scapers[-1]) < 0.05 * RATE
        sound = slice(event.offset_frame, event.offset_frame + event.length_frames)
        assert loudness_of(found[:, sound], RATE) == pytest.approx(loudness_of(expected[:, sound], RATE), abs=0.5)


def test_reverb_is_left_out_with_a_warning(
    tmp_path: Path, roots: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    _, events, path = generated(tmp_path, scape(roots, 1), reverb=0.3)
    with caplog.at_level(logging.WARNING):
        plan = plan_of_jams(path, roots)
    assert "reverb 0.3 of SoX is left out" in caplog.text
    # scaper's isolated events have none either
    assert np.abs(rendered(plan, roots).mixture - sum(events)).max() < ROUNDING


def test_targets_are_labels_roles_or_what_is_asked_for(tmp_path: Path, roots: dict[str, Path]) -> None:
    _, events, path = generated(tmp_path, scape(roots, 5))
    by_role = rendered(plan_of_jams(path, roots, targets="role"), roots)
    assert by_role.names == ("background", "foreground")
    assert np.abs(by_role.targets - np.stack([events[0], sum(events[1:])])).max() < ROUNDING
    plan = plan_of_jams(path, roots)
    assert plan.targets == ("park", "street", "dog", "siren")
    # by target, as a table of plans gives them back
    assert plans_of(plans_table([plan])) == [plan]
    assert len({event.target for event in plan.events}) == 3
    groups = {"siren": "effects", "dog": "effects", "park": "ambience"}
    assert plan_of_jams(path, roots, targets=groups).targets == ("effects", "ambience")
    with pytest.raises(RecipeError, match=r"label 'park' of .* has no target"):
        plan_of_jams(path, roots, targets={"siren": "effects", "dog": "effects"})
    with pytest.raises(RecipeError, match="targets is 'labels'"):
        plan_of_jams(path, roots, targets="labels")  # type: ignore[arg-type]


def test_folders_may_have_moved(tmp_path: Path, roots: dict[str, Path]) -> None:
    audio, _, path = generated(tmp_path, scape(roots, 4))
    moved = {role: folder.rename(tmp_path / f"moved-{role}") for role, folder in roots.items()}
    assert np.abs(rendered(plan_of_jams(path, moved), moved).mixture - audio).max() < ROUNDING
    with pytest.raises(TableError, match=r"event 0: source_file .*long.wav' lies in none of the roots elsewhere"):
        plan_of_jams(path, {"elsewhere": tmp_path / "elsewhere"})


def test_a_packed_jams_is_read(tmp_path: Path, roots: dict[str, Path]) -> None:
    _, _, path = generated(tmp_path, scape(roots, 4))
    packed = tmp_path / "soundscape.jamz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert plan_of_jams(packed, roots) == plan_of_jams(path, roots)


def changed(path: Path, change: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    change(content["annotations"][0])
    return content


def test_what_is_wrong_is_said(tmp_path: Path, roots: dict[str, Path]) -> None:
    jams = pytest.importorskip("jams")
    _, _, path = generated(tmp_path, scape(roots, 4))

    def refused(change: Any) -> str:
        with pytest.raises((TableError, AudioError)) as caught:
            plan_of_jams(changed(path, change), roots)
        return str(caught.value)

    assert "no annotation of the namespace 'scaper' (there are: beat)" in refused(
        lambda a: a.update(namespace="beat")
    )
    assert "field 'sandbox.scaper' is missing" in refused(lambda a: a["sandbox"].clear())
    assert "'sandbox.scaper.ref_db' is missing" in refused(lambda a: a["sandbox"]["scaper"].pop("ref_db"))
    assert "event 2: field 'snr' is None" in refused(lambda a: a["data"][2]["value"].update(snr=None))
    assert "event 0: field 'value' is 'dog'" in refused(lambda a: a["data"][0].update(value="dog"))
    assert "field 'event_time' is -1.0" in refused(lambda a: a["data"][1]["value"].update(event_time=-1.0))
    assert "field 'role' is 'noise'" in refused(lambda a: a["data"][2]["value"].update(role="noise"))
    assert "has nothing for source_time 99" in refused(lambda a: a["data"][1]["value"].update(source_time=99.0))
    gone = str(roots["foreground"] / "dog" / "gone.wav")
    assert "gone.wav" in refused(lambda a: a["data"][1]["value"].update(source_file=gone))
    assert "no events" in refused(
        lambda a: (a["data"].clear(), a["sandbox"]["scaper"].update(fg_labels=[], bg_labels=[]))
    )
    trimmed = tmp_path / "trimmed.jams"
    jams.load(str(path)).slice(1.0, 2.0).save(str(trimmed))
    with pytest.raises(TableError, match="was trimmed"):
        plan_of_jams(trimmed, roots)
    for text in ("{", "[]"):
        trimmed.write_text(text)
        with pytest.raises(TableError, match=r"trimmed\.jams: .*write it again"):
            plan_of_jams(trimmed, roots)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fade_s", [0.0, 0.02])
@pytest.mark.parametrize(("background", "peak"), [("street", {}), ("park", {"peak_normalization": True})])
def test_a_plan_goes_to_scaper_and_comes_back(
    tmp_path: Path, roots: dict[str, Path], seed: int, fade_s: float, background: str, peak: dict[str, bool]
) -> None:
    made = scape(roots, seed, channels=2, fade_s=fade_s, background=background)
    audio, events, path = generated(tmp_path, made, **peak)
    plan = plan_of_jams(path, roots, targets="role", seed=3, epoch=1, index=seed)
    again = tmp_path / "again.jams"
    write_jams(again, jams_of_plan(plan, roots, background=["background"]))
    theirs, _, _, their_events = need_scaper().generate_from_jams(str(again))
    assert np.abs(theirs.T - audio).max() < ROUNDING
    assert np.abs(np.stack([event.T for event in their_events]) - np.stack(events)).max() < ROUNDING
    assert plan_of_jams(again, roots) == plan
    assert jams_roots(again) == roots
    # without our rows, what scaper reads is the same plan
    content = json.loads(again.read_text())
    del content["sandbox"]["stemloom"]
    read = plan_of_jams(content, roots, targets="role", seed=3, epoch=1, index=seed)
    for found, expected in zip(read.events, plan.events, strict=True):
        assert found.gain_db == pytest.approx(expected.gain_db, abs=1e-5)
        assert dataclasses.replace(found, gain_db=expected.gain_db, source=expected.source) == expected


def test_the_layout_is_scapers(tmp_path: Path, roots: dict[str, Path]) -> None:
    jams = pytest.importorskip("jams")
    util = pytest.importorskip("scaper.util")
    _, _, path = generated(tmp_path, scape(roots, 6))
    theirs = json.loads(path.read_text())
    plan = plan_of_jams(path, roots, targets="event")
    again = tmp_path / "again.jams"
    write_jams(again, jams_of_plan(plan, roots, background=["background0_park"]))
    ours = json.loads(again.read_text())

    def keys(content: Any) -> Any:
        return {key: keys(value) for key, value in content.items()} if isinstance(content, dict) else None

    assert keys(ours["annotations"][0]) == keys(theirs["annotations"][0])
    assert [keys(o) for o in ours["annotations"][0]["data"]] == [keys(o) for o in theirs["annotations"][0]["data"]]
    assert keys(ours["file_metadata"]) == keys(theirs["file_metadata"])
    (annotation,) = jams.load(str(again), validate=True, strict=True).search(namespace="scaper")
    settings = ours["annotations"][0]["sandbox"]["scaper"]
    assert settings["polyphony_max"] == util.max_polyphony(annotation)
    assert settings["polyphony_gini"] == pytest.approx(util.polyphony_gini(annotation), abs=0.01)
    assert settings["ref_db"] == pytest.approx(-25.0, abs=1e-4)
    for found, expected in zip(ours["annotations"][0]["data"], theirs["annotations"][0]["data"], strict=True):
        assert found["value"]["role"] == expected["value"]["role"]
        assert found["value"]["snr"] == pytest.approx(expected["value"]["snr"], abs=1e-4)
        assert found["time"] == pytest.approx(expected["time"], abs=1 / RATE)
        assert found["duration"] == pytest.approx(expected["duration"], abs=2 / RATE)


@pytest.fixture
def plan(tmp_path: Path) -> MixturePlan:
    """A plan that scaper never made: other rates, a trimmed sound, a level, a step that scaper lacks."""
    rng = np.random.default_rng(8)
    for name, rate, channels in (("speech", 16_000, 1), ("music", 22_050, 2)):
        soundfile.write(tmp_path / f"{name}.wav", pink_noise(rng, channels, 5 * rate).T, rate, subtype="FLOAT")
    speech = Event("talk", "dialogue", "s", "speech", ".", "speech.wav", 29, 16_001, 16_000, 4_001, 16_001, -3.0)
    music = Event("music", "music", "m", "music", ".", "music.wav", 7, 44_100, 22_050, 0, 32_000, -9.0)
    return MixturePlan(
        1,
        2,
        3,
        0,
        16_000,
        2,
        32_000,
        ("dialogue", "music", "effects"),
        (
            speech,
            dataclasses.replace(speech, offset_frame=9_000, length_frames=12_345, source_start_frame=30_000),
            dataclasses.replace(music, transforms=({"name": "loudness", "lufs": -30.0},)),
        ),
        ({"name": "gain", "gain": 0.5},),
    )


def test_scaper_renders_our_mixtures(tmp_path: Path, plan: MixturePlan) -> None:
    roots = {".": tmp_path}
    path = tmp_path / "mixture.jams"
    jam = jams_of_plan(plan, roots)
    assert jam["sandbox"]["stemloom"]["not_in_scaper"] == []
    write_jams(path, jam)
    audio = need_scaper().generate_from_jams(str(path))[0].T
    assert np.abs(rendered(plan, roots).mixture - audio).max() < 1e-4
    assert plan_of_jams(path, roots) == plan


def test_levels_are_loudnesses_or_relative_to_the_background(tmp_path: Path, plan: MixturePlan) -> None:
    roots = {".": tmp_path}

    def levels(**settings: Any) -> tuple[float, list[float], list[str]]:
        annotation = jams_of_plan(plan, roots, **settings)["annotations"][0]
        values = [observation["value"] for observation in annotation["data"]]
        return annotation["sandbox"]["scaper"]["ref_db"], [v["snr"] for v in values], [v["role"] for v in values]

    music_lufs = -30.0 - 9.0 + 20 * np.log10(0.5)
    ref_db, snrs, roles = levels()
    assert (ref_db, roles) == (0.0, ["foreground"] * 3)
    # scaper's meter has slightly other filters than that of the step
    assert snrs[2] == pytest.approx(music_lufs, abs=0.3)
    ref_db, relative, roles = levels(background=["music"])
    assert (ref_db, roles) == (snrs[2], ["foreground", "foreground", "background"])
    assert relative == pytest.approx([snrs[0] - ref_db, snrs[1] - ref_db, 0.0])


def test_what_is_known_of_a_stem_goes_along(tmp_path: Path, plan: MixturePlan) -> None:
    stems = pd.DataFrame(
        {
            "song_id": ["s", "m"],
            "stem": ["speech", "music"],
            "tags": ["woman, near", None],
            "transcript": ["good morning", None],
            "rms": [0.1, 0.1],
        }
    )
    jam = jams_of_plan(plan, {".": tmp_path}, label="tags", stems=stems)
    labels = [observation["value"]["label"] for observation in jam["annotations"][0]["data"]]
    assert labels == ["woman, near", "woman, near", "music"]
    speech, _, music = jam["sandbox"]["stemloom"]["events"]
    assert speech == {
        "song_id": "s",
        "stem": "speech",
        "target": "dialogue",
        "loudness_lufs": speech["loudness_lufs"],
        "tags": "woman, near",
        "transcript": "good morning",
    }
    assert "tags" not in music
    for label, expected in (("target", "dialogue"), ("source", "talk"), ("stem", "speech")):
        found = jams_of_plan(plan, {".": tmp_path}, label=label)  # type: ignore[arg-type]
        assert found["annotations"][0]["data"][0]["value"]["label"] == expected


def test_what_scaper_lacks_is_said(tmp_path: Path, plan: MixturePlan) -> None:
    first, second, music = plan.events
    steps = ({"name": "swap"}, {"name": "peak", "peak_db": -1.0, "only_down": False})
    odd = dataclasses.replace(
        plan,
        events=(
            dataclasses.replace(first, transforms=({"name": "sign"},)),
            second,
            dataclasses.replace(music, transforms=({"name": "tempo", "rate": 1.0},)),
        ),
        transforms=steps,
    )
    stored = jams_of_plan(odd, {".": tmp_path})["sandbox"]["stemloom"]
    assert stored["not_in_scaper"] == [
        "event 0: sign",
        "event 2: tempo (another algorithm)",
        "mixture: swap",
        "mixture: peak",
    ]


def test_pitch_and_tempo_have_fields_in_scaper(tmp_path: Path, plan: MixturePlan) -> None:
    pytest.importorskip("python_stretch")
    speech = dataclasses.replace(plan.events[0], num_frames=20_001, length_frames=16_000)

    def value(*steps: dict[str, Any]) -> dict[str, Any]:
        changed = dataclasses.replace(plan, events=(dataclasses.replace(speech, transforms=steps),))
        found: dict[str, Any] = jams_of_plan(changed, {".": tmp_path})["annotations"][0]["data"][0]
        return found

    faster = value({"name": "tempo", "rate": 1.25})
    assert (faster["value"]["pitch_shift"], faster["value"]["time_stretch"]) == (None, 0.8)
    # 20,000 frames of the file become 16,000
    assert faster["value"]["event_duration"] == pytest.approx(20_000 / 16_000, abs=1e-6)
    assert faster["duration"] == 1.0
    higher = value({"name": "repitch", "semitones": 3.0, "rate": 1.0})
    assert (higher["value"]["pitch_shift"], higher["value"]["time_stretch"]) == (3.0, None)
    assert higher["value"]["event_duration"] == pytest.approx(1.0, abs=1e-6)


def test_a_plan_without_events_is_silent(tmp_path: Path, plan: MixturePlan) -> None:
    silent = dataclasses.replace(plan, events=())
    path = tmp_path / "silent.jams"
    write_jams(path, jams_of_plan(silent, {".": tmp_path}))
    assert plan_of_jams(path, {}) == silent


def test_writing_tells_what_is_wrong(tmp_path: Path, plan: MixturePlan) -> None:
    with pytest.raises(RecipeError, match=r"ends in '\.json'"):
        write_jams(tmp_path / "mixture.json", {})
    (tmp_path / "taken").write_text("")
    with pytest.raises(BuildError, match="cannot be written"):
        write_jams(tmp_path / "taken" / "mixture.jams", {})
    with pytest.raises(TableError, match=r"root '\.'"):
        jams_of_plan(plan, {"elsewhere": tmp_path})


@given(
    st.integers(0, 10**9),
    st.integers(1, 10**8),
    st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000]),
)
def test_seconds_become_their_frames_again(start: int, length: int, rate: int) -> None:
    start_s = seconds_of(start, rate)
    length_s = seconds_of(start + length, rate, start_s)
    assert int(start_s * rate) == start
    assert int((start_s + length_s) * rate) == start + length
    assert start_s == pytest.approx(start / rate, abs=1e-9)
