"""Builds from and to a bucket: the same bytes as in local folders, whatever the store does in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from augment.recipe import MixRecipe
from builders import publishing
from builders.check import check_build
from builders.mixtures import MixtureBuilder
from builders.publishing import published
from builders.recipe import MixtureRecipe
from builders.report import write_report
from manifests.corpus import Corpus
from manifests.errors import BuildError
from manifests.staging import fetched, working_folder
from manifests.stores import Store
from stemloom import main
from tests.bucket_server import Bucket, Proxy, proxied, serving, using
from tests.builders.small_catalog import build, contents, rejections, write_catalog
from tests.builders.small_corpora import stems, write_corpus

HOME = Path(__file__).parents[2]
MUSIC, OUT = "s3://bucket/music", "s3://bucket/corpora/songs"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small catalogue, `music`, and what a local build makes of it, `songs`."""
    home = tmp_path_factory.mktemp("local")
    folder = write_catalog(home / "music", 1)
    (folder / "100% #1? ü").mkdir()
    (folder / "100% #1? ü" / "no music.txt").write_text("notes")
    (folder / "broken [x].flac").write_bytes(b"fLaC, and no more")
    build(folder, home / "songs")
    return home


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, local: Path) -> Iterator[Bucket]:
    home = tmp_path_factory.mktemp("store")
    with serving(home) as bucket, using(bucket, home / "cache"):
        upload(local / "music", MUSIC)
        yield bucket


@pytest.fixture
def bucket(server: Bucket, tmp_path: Path) -> Iterator[Bucket]:
    """The music in a bucket, nothing else, and a cache that is empty."""
    with using(server, tmp_path / "cache"):
        yield server
        store = Store("s3://bucket/corpora")
        for path in store.listed():
            store.remove(path)


def upload(folder: Path, url: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and path.name != ".lock":
            Store(url).put(path, path.relative_to(folder).as_posix())


def objects(url: str = OUT) -> dict[str, bytes]:
    """What a reader of the bucket finds, but for run.json, which holds times and addresses."""
    store = Store(url)
    found = {path: store.read(path) or b"" for path in store.listed()}
    return {
        path: data
        for path, data in found.items()
        if path not in ("run.json", ".published") and ".cache" not in path
    }


def build_in_bucket() -> Corpus:
    with published(OUT) as out:
        return build(fetched(MUSIC), out)


def test_a_build_from_and_to_a_bucket_is_a_local_build(bucket: Bucket, local: Path, tmp_path: Path) -> None:
    corpus = build_in_bucket()
    expected = contents(local / "songs")
    found = objects()
    assert found.keys() == expected.keys()
    # details of rejects name places, and all else is the same, byte by byte
    assert [path for path in found if found[path] != expected[path]] == ["rejected.parquet"]
    rejected = rejections(corpus)
    assert {path: row[:2] for path, row in rejected.items()} == {
        "100% #1? ü/no music.txt": ("scan", "not audio"),
        "broken [x].flac": ("scan", "unreadable"),
    }
    assert rejected["broken [x].flac"][2].startswith(f"{MUSIC}/broken [x].flac: ")
    assert check_build(fetched(OUT)) == []
    # input in a bucket, output on disk, and the other way round
    from_bucket = build(fetched(MUSIC), tmp_path / "from")
    assert from_bucket.stems.equals(corpus.stems)
    with published("s3://bucket/corpora/other") as out:
        build(local / "music", out)
    assert objects("s3://bucket/corpora/other")["stems.parquet"] == expected["stems.parquet"]


def test_nothing_is_uploaded_twice(bucket: Bucket, tmp_path: Path) -> None:
    build_in_bucket()
    with proxied(bucket) as (proxy, behind), using(behind, tmp_path / "cache"):
        build_in_bucket()
        assert names(proxy, "PUT") == [".lock", "run.json"]
        # on a machine that knows nothing, what was published is brought, results included
        proxy.seen.clear()
        with using(behind, tmp_path / "other cache"):
            before = objects()
            with published(OUT) as out:
                assert (out / ".cache").is_dir()
                build(fetched(MUSIC), out)
            assert names(proxy, "PUT") == [".lock", "run.json"]
            assert objects() == before


def names(proxy: Proxy, method: str) -> list[str]:
    return [path.rpartition("/")[2] for each, path in proxy.seen if each == method]


def test_the_table_that_says_complete_comes_last_and_goes_first(bucket: Bucket, tmp_path: Path) -> None:
    with proxied(bucket) as (proxy, behind), using(behind, tmp_path / "cache"):
        build_in_bucket()
        paths = [path for method, path in proxy.seen if method == "PUT" and "/.cache/" not in path]
        put = [path.rpartition("/")[2] for path in paths]
        assert put[:2] == [".lock", ".published"]
        assert put[-1] == "stems.parquet"
        assert sorted(put[2:5]) == ["instrumental.flac", "mixture.flac", "vocals.flac"]
        # another result in the same place: stems go before anything is replaced, and stale objects last
        proxy.seen.clear()
        with published(OUT) as out:
            (out / "audio" / "extra.flac").write_bytes(b"new")
            next(out.glob("audio/*/vocals.flac")).unlink()
            (out / "pairs.parquet").write_bytes(b"other")
            (out / "stems.parquet").write_bytes(b"other")
        changes = [(method, path.rpartition("/")[2]) for method, path in proxy.seen if method in ("PUT", "DELETE")]
        assert changes == [
            ("PUT", ".lock"),
            ("DELETE", "stems.parquet"),
            ("PUT", "extra.flac"),
            ("PUT", "pairs.parquet"),
            ("PUT", "stems.parquet"),
            ("DELETE", "vocals.flac"),
            ("DELETE", ".lock"),
        ]


PROGRAM = """
import sys
from tests.builders.test_buckets import build_in_bucket
build_in_bucket()
"""


def test_an_upload_that_was_killed_goes_on_to_the_same_bytes(bucket: Bucket, local: Path, tmp_path: Path) -> None:
    with proxied(bucket) as (proxy, behind), using(behind, tmp_path / "cache"):
        # the third stem never arrives: the process is killed in the middle of its upload
        proxy.answer = lambda method, path: "stall" if method == "PUT" and "vocals" in path else None
        process = subprocess.Popen([sys.executable, "-c", PROGRAM], env=os.environ | {"PYTHONPATH": str(HOME)})
        wait_until(lambda: any("vocals" in name for name in names(proxy, "PUT")), process)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        assert "stems.parquet" not in objects()
        assert ".lock" in objects()
        proxy.answer = lambda method, path: None
        proxy.released.set()
        # another machine is told who is at work; this one takes its own lock over
        with (
            using(behind, tmp_path / "other cache"),
            pytest.raises(BuildError, match=r"lost, remove the object .*lock"),
        ):
            build_in_bucket()
        build_in_bucket()
    expected = contents(local / "songs")
    assert {path: objects()[path] for path in expected if "rejected" not in path} == {
        path: data for path, data in expected.items() if "rejected" not in path
    }
    assert ".lock" not in objects()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("method", "part"),
    [("GET", "Song 1.flac"), ("PUT", "stems.parquet"), ("GET", "list-type")],
)
def test_a_store_that_breaks_down_ends_the_build_and_leaves_nothing_wrong(
    bucket: Bucket, local: Path, tmp_path: Path, method: str, part: str
) -> None:
    part = part.replace(" ", "%20")
    with proxied(bucket) as (proxy, behind), using(behind, tmp_path / "cache"):
        proxy.answer = lambda each, path: "403" if each == method and part in path else None
        with pytest.raises(BuildError, match=r"s3://bucket/.*the store cannot be used .*resume"):
            build_in_bucket()
        assert "stems.parquet" not in objects_of(bucket)
        proxy.answer = lambda each, path: None
        build_in_bucket()
        assert objects()["stems.parquet"] == contents(local / "songs")["stems.parquet"]


def objects_of(bucket: Bucket) -> list[str]:
    folder = bucket.folder / "corpora" / "songs"
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def test_what_somebody_removed_from_the_bucket_is_gone_here_too(bucket: Bucket) -> None:
    with published(OUT) as out:
        (out / "recipe.json").write_text("{}")
    Store(OUT).remove("recipe.json")
    with published(OUT) as out:
        assert not (out / "recipe.json").exists()


def test_finished_files_are_uploaded_while_the_build_runs(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_PAUSE_S", 0.01)
    with pytest.raises(ZeroDivisionError), published(OUT) as out:
        fail_once_uploaded(out)
    # a build that failed publishes no table, and lets others in
    assert set(objects()) == {"audio/a.flac"}


def fail_once_uploaded(out: Path) -> None:
    store, end = Store(OUT), time.monotonic() + 60
    (out / "audio").mkdir(parents=True)
    (out / "audio" / "a.flac").write_bytes(b"audio")
    (out / "audio" / ".stemloom-b.tmp").write_bytes(b"half")
    (out / "stems.parquet").write_bytes(b"table")
    while "audio/a.flac" not in store.listed():
        assert time.monotonic() < end
        time.sleep(0.02)
    raise ZeroDivisionError


def test_a_report_is_added_to_a_corpus_in_a_bucket(bucket: Bucket, local: Path) -> None:
    upload(local / "songs", OUT)
    before = objects()
    with published(OUT, whole=False) as folder:
        write_report(folder)
        assert not (folder / "audio").exists()
    after = objects()
    assert "report.html" in after
    assert {path: after[path] for path in before} == before


def test_a_folder_that_holds_anything_else_is_left_alone(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"s3://bucket/music: already holds '.*', which no build has published"):
        forbidden(tmp_path)
    assert len(Store(MUSIC).listed()) == 4
    assert not working_folder(MUSIC).exists() or not any(working_folder(MUSIC).iterdir())


def forbidden(tmp_path: Path) -> None:
    with published(MUSIC) as out:
        build(tmp_path, out)


def test_what_was_added_before_a_crash_is_uploaded_by_the_next_run(bucket: Bucket, local: Path) -> None:
    upload(local / "songs", OUT)
    with pytest.raises(FileExistsError), published(OUT, whole=False) as folder:
        judge_twice(folder)
    assert "audit/verdicts.jsonl" not in objects()
    with published(OUT, whole=False):
        pass
    assert objects()["audit/verdicts.jsonl"] == b"{}\n"


def judge_twice(folder: Path) -> None:
    (folder / "audit").mkdir()
    (folder / "audit" / "verdicts.jsonl").write_bytes(b"{}\n")
    (folder / "audit").mkdir()


def test_mixtures_are_rendered_from_a_bucket_as_from_a_folder(bucket: Bucket, tmp_path: Path) -> None:
    write_corpus(tmp_path / "songs", [("one", stems(1)), ("two", stems(2))])
    upload(tmp_path / "songs", OUT)
    sources = {name: {"stems": [name]} for name in ("vocals", "instrumental")}
    mix = MixRecipe.model_validate({"sample_rate": 16_000, "length_s": 2.0, "sources": sources})

    def render(out: Path, folder: Path) -> None:
        MixtureBuilder(out, "universal", mix, MixtureRecipe(num=2), jobs=0).build([folder])

    render(tmp_path / "mixed", tmp_path / "songs")
    with published("s3://bucket/corpora/mixed") as out:
        render(out, fetched(OUT))
    expected = contents(tmp_path / "mixed")
    found = objects("s3://bucket/corpora/mixed")
    assert found.keys() == expected.keys()
    differing = [path for path in found if found[path] != expected[path]]
    # annotations name the files that were mixed, by their addresses
    assert [path.partition("/")[0] for path in differing] == ["annotations"] * 2
    assert f"{OUT}/audio/".encode() in found[differing[0]]


def test_commands_take_addresses(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_corpus(tmp_path / "songs", [("one", stems(1)), ("two", stems(2))])
    upload(tmp_path / "songs", OUT)
    training = "s3://bucket/corpora/training"
    flags = ["--jobs", "0", "--clip-s", "none", "--shares.train", "0.5", "--shares.validation", "0.5"]
    assert run("curate", OUT, "--out", training, *flags) == 0
    assert f"published: {training}" in capsys.readouterr().out
    curated = Corpus.open(training)
    assert curated.songs() == corpus.songs()
    assert run("check", training) == 0
    assert run("pack", training) == 0
    assert {"packed/index.parquet", "packed/00000.pcm"} <= set(objects(training))
    run_folder = tmp_path / "run"
    changes = ["epochs=1", "steps_per_epoch=1", "batch_size=1", "validation.num=1", "validation.final_num=1"]
    assert (
        run("train", "demo", "--from", training, "--out", str(run_folder), "--workers", "0", "--set", *changes) == 0
    )
    assert (run_folder / "best.safetensors").is_file()
    # a command that reads a local folder says so
    assert run("import", OUT, "--layout", "folders", "--out", str(tmp_path / "x")) == 2


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(str(ended.value.code))
