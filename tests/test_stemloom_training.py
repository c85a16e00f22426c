"""`stemloom train`, `separate` and `evaluate`: what they say, what they write, and the code they end with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from manifests.audio import probe, quantise, read, write
from manifests.tables import read_table, write_table
from tests.augment.small_pool import RATE, song_corpus, write_song, write_tables
from tests.synthesis import pink_noise
from tests.test_stemloom import Terminal

FILM_RATE = 16_000

RECIPE = """
network: {name: unet, residual: accompaniment, window_frames: 128, hop_frames: 64, bins: 64, columns: 16,
          filters: [4, 6], head: direct, mask_exponent: 1.0, extension: average}
mix:
  sample_rate: 8000
  length_s: 0.3
  sources:
    vocals: {stems: vocals}
    accompaniment: {stems: drums+bass+other}
loss: l1
batch_size: 2
steps_per_epoch: 3
epochs: 2
validation: {num: 2, final_num: 4}
log_every: 1
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Songs in three splits; not to be changed."""
    folder = song_corpus(tmp_path_factory.mktemp("corpora") / "songs", songs=4, frames=8000).folder
    stems = read_table(folder, "stems")
    splits = {"song0": "train", "song1": "train", "song2": "validation", "song3": "test"}
    write_table(folder, "stems", stems.assign(split=stems["song_id"].map(splits)))
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "small.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def weights(corpus: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from training.loop import train
    from training.recipe import load_training

    return (
        train(load_training(recipe), [corpus], tmp_path_factory.mktemp("runs") / "run").folder / "best.safetensors"
    )


def test_training_says_what_it_trains_and_ends_with_weights(
    run: Terminal, corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    words = [
        "train",
        recipe,
        "--from",
        corpus,
        "--out",
        tmp_path / "run",
        "--workers",
        "0",
        "--set",
        "seed=3",
        "epochs=1",
    ]
    code, out, err = run(*words)
    assert code == 0
    assert f"{recipe}: UNet of 0.00 million parameters for vocals, accompaniment; 3 steps\n" in out
    assert "epochs: 1" not in out
    assert "SDR of vocals" in out
    assert "(median of 4 mixtures)" in out
    assert "epoch 1, step 3: validation loss" in err
    assert f"weights: {tmp_path / 'run' / 'best.safetensors'}" in out
    assert json.loads((tmp_path / "run" / "run.json").read_text())["steps"] == 3
    code, _, err = run(*words[:-1], "batch_size=4")
    assert code == 1
    assert "the run was begun with batch_size 2, and is now asked for 4" in err


def test_a_dry_run_trains_nothing(run: Terminal, corpus: Path, recipe: Path, tmp_path: Path) -> None:
    words = ["train", recipe, "--from", corpus, "--out", tmp_path / "run", "--dry-run"]
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert "steps_per_epoch: 3\nepochs: 2\n" in out
    assert "million parameters" in out
    assert not (tmp_path / "run").exists()
    for change, said in {
        "validation.split=valid": "field 'validation.split' is 'valid' (did you mean 'validation'?)",
        "mix.sources.vocals.stems=speech": "the corpora have none of its stems speech",
        "freeze=[nothing]": "no parameter is called 'nothing'",
        "start_from=none.safetensors": "none.safetensors: cannot be read",
    }.items():
        code, _, err = run(*words, "--set", change)
        assert code == 2
        assert said in " ".join(err.split())
        assert not (tmp_path / "run").exists()


def test_training_says_how_much_it_took_to_start_from(
    run: Terminal, corpus: Path, recipe: Path, weights: Path, tmp_path: Path
) -> None:
    words = ["train", recipe, "--from", corpus, "--out", tmp_path / "run", "--workers", "0"]
    changes = ["--set", f"start_from={weights}", "network.residual=null"]
    code, out, _ = run(*words, *changes, "--dry-run")
    assert code == 0
    assert f"{weights}: 18 of the network's 36 tensors taken" in out


def test_training_that_is_stopped_resumes(run: Terminal, corpus: Path, recipe: Path, tmp_path: Path) -> None:
    words = ["train", recipe, "--from", corpus, "--out", tmp_path / "run", "--workers", "0"]
    code, out, _ = run(*words, "--max-minutes", "1e-6")
    assert code == 0
    assert "stopped at step 1 of 6, no best.safetensors yet, before a first validation; the same command" in out
    for _ in range(2):
        code, out, _ = run(*words, "--max-minutes", "1e-6")
    assert f"stopped at step 3 of 6, best weights so far: {tmp_path / 'run' / 'best.safetensors'}; the same" in out
    code, out, _ = run(*words)
    assert code == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]


def test_training_that_a_person_stops_ends_with_130(
    run: Terminal, corpus: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import loop

    stopped = loop.TrainedRun(tmp_path / "run", False, 4, interrupted=True)
    monkeypatch.setattr(loop, "train", lambda *args, **options: stopped)
    code, out, _ = run("train", recipe, "--from", corpus, "--out", tmp_path / "run")
    assert code == 130
    assert "stopped at step 4 of 6" in out


def test_the_help_of_train_names_every_ready_recipe(run: Terminal) -> None:
    from training.recipe import training_names

    code, out, _ = run("train", "--help")
    assert code == 0
    said = " ".join(out.replace("│", " ").split())
    assert f"({', '.join(training_names())})" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["umxx"], "there is no ready training recipe 'umxx' (did you mean 'umx'?)"),
        (
            ["RECIPE", "--set", "bach_size=4"],
            "--set bach_size=4: unknown field 'bach_size'; did you mean 'batch_size'?",
        ),
        (["RECIPE", "--set", "network.hidden=4"], "network.hidden: 'unet' has no such field"),
        (["RECIPE", "--max-minutes", "0"], "--max-minutes. Must be > 0"),
        (["RECIPE", "--set", "network.name=unett"], "there is no network 'unett'"),
        (["RECIPE", "--set", "mix.sources.vocals.stems=speech"], "speech"),
        (["RECIPE", "--set", "epochs"], "write FIELD=VALUE"),
        (["RECIPE", "--separator", "baseline:centre"], "the mixing recipe removes no target"),
        (["RECIPE", "--device", "cuda:77"], "device 'cuda:77'"),
    ],
)
def test_a_mistake_is_told_and_ends_with_2(
    run: Terminal, corpus: Path, recipe: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    given = [recipe if word == "RECIPE" else word for word in words]
    code, _, err = run("train", *given, "--from", corpus, "--out", tmp_path / "run", "--workers", "0")
    assert code == 2
    assert said in " ".join(err.split())
    assert not (tmp_path / "run" / "state.pt").exists()


def test_separate_writes_a_file_for_each_source(run: Terminal, weights: Path, tmp_path: Path) -> None:
    song = tmp_path / "a song.wav"
    write(song, pink_noise(np.random.default_rng(0), 2, 20_000), 44_100)
    code, out, err = run("separate", song, "--model", weights, "--out", tmp_path / "stems", "--device", "cpu")
    assert (code, err) == (0, "")
    assert "1 files into vocals, accompaniment" in out
    files = sorted(path.name for path in (tmp_path / "stems").rglob("*.flac"))
    assert files == ["accompaniment.flac", "vocals.flac"]
    info = probe(next((tmp_path / "stems").rglob("vocals.flac")))
    assert (info.num_frames, info.sample_rate, info.channels) == (20_000, 44_100, 2)
    code, out, _ = run(
        "separate", song, "--model", weights, "--out", tmp_path / "stems", "--device", "cpu", "--dry-run"
    )
    assert (code, out.strip()) == (0, "0 files would be separated, 1 are done already")


def test_separate_tells_what_it_cannot_do(run: Terminal, tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    song.write_bytes(b"no audio")
    code, out, _ = run("separate", song, "--model", "baseline:centre", "--out", tmp_path / "stems")
    assert code == 1
    assert "rejected" in out
    code, _, err = run("separate", song, "--model", "baselin:centre", "--out", tmp_path / "stems")
    assert code == 2
    assert "did you mean 'baseline'?" in err


def test_separate_fails_where_a_file_was_not_separated(run: Terminal, tmp_path: Path) -> None:
    songs, out = tmp_path / "songs", tmp_path / "stems"
    write(songs / "one.wav", pink_noise(np.random.default_rng(0), 2, 2000), 44_100)
    words = ["separate", songs, "--model", "baseline:centre", "--out", out]
    code, said, _ = run(*words)
    assert (code, "1 files into" in said, "rejected" in said) == (0, True, False)
    (songs / "broken.wav").write_bytes(b"no audio")
    write(songs / "two.wav", pink_noise(np.random.default_rng(1), 2, 2000), 44_100)
    code, said, _ = run(*words)
    assert code == 1
    assert "1 files into" in said
    assert "done before" in said
    assert f"reasons: {out / 'rejected.parquet'}" in said


def test_evaluate_calls_separators_by_their_names(run: Terminal, corpus: Path, tmp_path: Path) -> None:
    words = ["evaluate", "in the middle=baseline:centre", "--on", corpus, "--out", tmp_path / "evaluation"]
    beside = "baseline:identity=vocals,accompaniment"
    code, out, _ = run(*words, "--split", "test", "--beside", beside, f"x_1.b={beside}")
    assert code == 0
    for name in ("in the middle", beside, "x_1.b"):
        assert f" {name} " in out
    assert "baseline:centre" not in (tmp_path / "evaluation" / "evaluation.html").read_text()


def test_evaluate_measures_and_writes_a_page(run: Terminal, corpus: Path, weights: Path, tmp_path: Path) -> None:
    words = ["evaluate", weights, "--on", corpus, "--out", tmp_path / "evaluation", "--split", "test"]
    code, out, err = run(
        *words, "--beside", "baseline:identity=vocals,accompaniment", "baseline:centre", "--device", "cpu"
    )
    assert (code, err) == (0, "")
    assert "1 songs" in out
    for name in ("vocals", "accompaniment", "ideal ratio mask", "baseline:identity", "baseline:centre"):
        assert name in out
    page = tmp_path / "evaluation" / "evaluation.html"
    assert f"page: {page}" in " ".join(out.split())
    assert "best.safetensors" in page.read_text()
    mixture = next((tmp_path / "evaluation" / "excerpts").rglob("*.flac"))
    assert read(mixture)[1] == RATE


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A film in which somebody pauses, and one in which nobody does."""
    rows = []
    for number, name in enumerate(("pauses", "talks")):
        voice, background = (pink_noise(np.random.default_rng(seed), 2, 4 * FILM_RATE) for seed in (number, 9))
        if name == "pauses":
            voice[:, FILM_RATE : 2 * FILM_RATE] = 0.0
        parts = {"mixture": voice + background, "speech": voice, "background": background}
        rows += write_song(
            tmp_path / "films", name, {stem: quantise(audio) for stem, audio in parts.items()}, rate=FILM_RATE
        )
    return write_tables(tmp_path / "films", rows).folder


def test_mushra_writes_an_experiment_of_what_has_pauses(
    run: Terminal, films: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = "baseline:centre=dialogue,background"
    words = ["mushra", f"centre={model}", "--on", films, "--out", tmp_path / "test", "--length-s", "2"]
    code, out, err = run(*words, "--device", "cpu")
    assert code == 0, err
    assert "separation.yaml: 1 trials of centre" in " ".join(out.split())
    assert "song 'talks' is left out" in caplog.text
    pages = yaml.safe_load((tmp_path / "test" / "configs" / "separation.yaml").read_text())["pages"][0][1:]
    assert [page["id"] for page in pages] == ["pauses"]
    assert set(pages[0]["stimuli"]) >= {"centre"}
    for name in pages[0]["stimuli"].values():
        assert probe(tmp_path / "test" / name).num_frames == 2 * FILM_RATE
    code, _, err = run("mushra", "baseline:centre", "--on", films, "--out", tmp_path / "test")
    assert code == 2
    assert "write NAME=MODEL" in err
    for name, options, said in (
        (
            "a=baseline:centre",
            [],
            "'a' does not separate 'dialogue': choose one of vocals, accompaniment with '--target'",
        ),
        (f"a={model}", ["--target", "background"], "in none of 2 songs 'background' pauses for a tenth of 10 s"),
    ):
        code, _, err = run("mushra", name, "--on", films, "--out", tmp_path / "none", *options, "--device", "cpu")
        assert code == 2
        assert said in " ".join(err.split())


def test_evaluate_names_the_target_that_a_corpus_lacks(run: Terminal, corpus: Path, tmp_path: Path) -> None:
    words = ["evaluate", "baseline:identity=vocals,speech", "--on", corpus, "--out", tmp_path / "evaluation"]
    code, _, err = run(*words, "--device", "cpu")
    assert code in (1, 2)
    assert "speech" in err
