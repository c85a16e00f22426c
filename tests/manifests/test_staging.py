"""Folders in buckets as local folders: whole objects, staged once, in a folder that has a limit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from manifests.corpus import Corpus
from manifests.crops import CropReader
from manifests.errors import AudioError, BuildError, RecipeError
from manifests.paths import resolve
from manifests.staging import address, as_addresses, fetched, located, staged, stand_in, url_of, working_folder
from manifests.stores import Store, checked_url, is_url
from manifests.tables import read_table
from tests.bucket_server import Bucket, proxied, serving, using
from tests.builders.small_corpora import stems, write_corpus

HOME = Path(__file__).parents[2]
NAMES = ["a b.wav", "ü/ñandú.wav", "#1.wav", "who?.wav", "100%41.wav", "a::b.wav", "[x]*.wav", "+&=.wav"]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with serving(tmp_path_factory.mktemp("store")) as found:
        yield found


@pytest.fixture
def s3(bucket: Bucket, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    """A folder of its own for each test."""
    with using(bucket, tmp_path / "cache"):
        yield Store(f"s3://bucket/{request.node.name.replace('[', '-').replace(']', '')}")


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("STEMLOOM_CACHE", str(tmp_path / "cache"))
    store = Store("memory://bucket/folder")
    fetched(store.url)  # what this process knew of it no longer holds
    yield store
    fsspec.filesystem("memory").store.clear()


def put(store: Store, path: str, data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "to-put"
    file.write_bytes(data)
    store.put(file, path)


def cached(tmp_path: Path) -> list[bytes]:
    """What the staged files hold."""
    files = (tmp_path / "cache" / "buckets" / "staged").rglob("*")
    return sorted(path.read_bytes() for path in files if path.is_file() and path.name != ".lock")


@pytest.mark.parametrize("name", NAMES)
def test_an_object_of_any_name_is_staged_under_it(s3: Store, tmp_path: Path, name: str) -> None:
    put(s3, name, name.encode(), tmp_path)
    found = staged(s3.url, name)
    assert found.read_bytes() == name.encode()
    assert found.name == name.rpartition("/")[2]
    assert as_addresses(f"{found}: is odd") == f"{s3.url}/{name}: is odd"
    assert list(s3.listed()) == [name]
    assert s3.listed()[name] == s3.look(name)
    s3.remove(name)
    assert s3.look(name) is None


def test_an_object_is_downloaded_once_until_it_changes(bucket: Bucket, tmp_path: Path) -> None:
    with proxied(bucket) as (proxy, behind), using(behind, tmp_path / "cache"):
        store = Store("s3://bucket/once")
        put(store, "a.wav", b"first", tmp_path)
        folder = fetched(store.url)
        first = located(folder, "a.wav")
        assert located(folder, "a.wav") == first
        assert [path for method, path in proxy.seen if method == "GET" and "a.wav" in path] == [
            "/bucket/once/a.wav"
        ]
        put(store, "a.wav", b"second, longer", tmp_path)
        assert located(folder, "a.wav").read_bytes() == b"first"  # what was asked once holds
        assert located(fetched(store.url), "a.wav").read_bytes() == b"second, longer"
        assert first.read_bytes() == b"first"  # and whoever reads the old one goes on


def test_an_object_that_changes_while_it_is_read_is_not_kept(bucket: Bucket, tmp_path: Path) -> None:
    with proxied(bucket) as (proxy, behind), using(behind, tmp_path / "cache"):
        store = Store("s3://bucket/changing")
        put(store, "a.wav", b"before", tmp_path)

        def rewrite(method: str, path: str) -> None:
            if method == "GET" and path.endswith("a.wav"):
                proxy.answer = lambda method, path: None
                put(store, "a.wav", b"after!", tmp_path)

        proxy.answer = rewrite
        with pytest.raises(AudioError, match=r"s3://bucket/changing/a\.wav: changed while it was read"):
            staged(store.url, "a.wav")
        assert cached(tmp_path) == []


def test_processes_that_want_the_same_object_share_one_download(bucket: Bucket, tmp_path: Path) -> None:
    with proxied(bucket) as (proxy, behind), using(behind, tmp_path / "cache"):
        store = Store("s3://bucket/shared")
        data = os.urandom(300_000)
        put(store, "a.wav", data, tmp_path)
        program = "from manifests.staging import staged; print(staged('s3://bucket/shared', 'a.wav'))"
        environment = os.environ | {"PYTHONPATH": str(HOME)}
        both = [
            subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        told = {process.communicate(timeout=120)[0].strip() for process in both}
        assert [process.returncode for process in both] == [0, 0]
        (path,) = told
        assert Path(path).read_bytes() == data
        assert len([path for method, path in proxy.seen if method == "GET" and path.endswith("a.wav")]) == 1


def test_what_was_asked_for_longest_ago_leaves_when_the_limit_is_reached(
    memory: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manifests.staging._IN_USE", 1)
    monkeypatch.setenv("STEMLOOM_STAGING_GB", "0.000003")
    for name in "abcd":
        put(memory, name, name.encode() * 1000, tmp_path)
    for name in "abc":
        staged(memory.url, name)
        os.utime(staged(memory.url, name).parent, ns=(ord(name), ord(name)))
    os.utime(staged(memory.url, "a").parent)  # asked for again
    staged(memory.url, "d")
    assert cached(tmp_path) == [b"a" * 1000, b"c" * 1000, b"d" * 1000]


def test_a_file_that_another_process_uses_stays_beyond_the_limit(
    memory: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manifests.staging._IN_USE", 2)
    monkeypatch.setenv("STEMLOOM_STAGING_GB", "0.000001")
    for name in "abc":
        put(memory, name, name.encode() * 1000, tmp_path)
    paths = [staged(memory.url, name) for name in "abc"]
    # the two that were asked for last are in use; the first was let go when the third was wanted
    assert [path.is_file() for path in paths] == [False, True, True]
    assert staged(memory.url, "a").read_bytes() == b"a" * 1000


@pytest.mark.parametrize("text", ["0", "-1", "much"])
def test_a_limit_that_is_none_is_refused(
    memory: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    put(memory, "a", b"a", tmp_path)
    monkeypatch.setenv("STEMLOOM_STAGING_GB", text)
    with pytest.raises(RecipeError, match=f"STEMLOOM_STAGING_GB is '{text}'"):
        staged(memory.url, "a")


@pytest.mark.parametrize("answer", ["503", "500", "reset", "cut"])
def test_a_store_that_fails_now_and_then_is_asked_again(bucket: Bucket, tmp_path: Path, answer: str) -> None:
    data = os.urandom(100_000)
    with proxied(bucket) as (proxy, behind), using(behind, tmp_path / "cache"):
        store = Store(f"s3://bucket/moody-{answer}")
        put(store, "a.wav", data, tmp_path)
        left = [answer]
        proxy.answer = lambda method, path: left.pop() if left and method == "GET" and "a.wav" in path else None
        assert staged(store.url, "a.wav").read_bytes() == data
        assert left == []


def test_a_store_that_does_not_answer_ends_in_an_error_with_the_way_out(bucket: Bucket, tmp_path: Path) -> None:
    settings = '{"config_kwargs": {"read_timeout": 0.2, "retries": {"max_attempts": 0}}}'
    with proxied(bucket) as (proxy, behind), using(behind, tmp_path / "cache", FSSPEC_S3=settings):
        store = Store("s3://bucket/slow")
        put(store, "a.wav", b"data", tmp_path)
        proxy.answer = lambda method, path: "stall" if method == "GET" else None
        with pytest.raises(
            BuildError, match=r"s3://bucket/slow/a\.wav: the store cannot .*Timeout.*look at the endpoint.*resume"
        ):
            staged(store.url, "a.wav")
        assert cached(tmp_path) == []
        proxy.released.set()
        proxy.answer = lambda method, path: None
        assert staged(store.url, "a.wav").read_bytes() == b"data"


def test_refused_credentials_name_the_variables(bucket: Bucket, tmp_path: Path) -> None:
    with (
        using(bucket, tmp_path / "cache", AWS_SECRET_ACCESS_KEY="wrong"),
        pytest.raises(
            BuildError,
            match=r"s3://bucket/x: the store cannot be used \(PermissionError.*method\); look at the credentials",
        ),
    ):
        fetched("s3://bucket/x")


def test_a_cache_that_cannot_be_and_a_limit_that_is_none_are_told(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for cache in (tmp_path / "file", Path("/proc/nothing")):
        with using(bucket, cache), pytest.raises(BuildError, match=r"cannot be made .* STEMLOOM_CACHE"):
            fetched("s3://bucket/x")
    with (
        using(bucket, tmp_path / "cache", STEMLOOM_STAGING_GB="many"),
        pytest.raises(RecipeError, match="STEMLOOM_STAGING_GB is 'many'"),
    ):
        fetched("s3://bucket/x")


def test_a_bucket_that_is_not_there_is_an_error_about_it(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with using(bucket, tmp_path / "cache"):
        store = Store("s3://no-such-bucket/corpus")
        with pytest.raises(
            BuildError, match=r"s3://no-such-bucket/corpus/\.lock: cannot be made .*create the bucket"
        ):
            store.create(".lock", b"x")
        with pytest.raises(BuildError, match="create the bucket, or correct the address"):
            store.put(tmp_path / "file", "a.flac")
        for listed in (store.listed, store.listed_here):
            with pytest.raises(BuildError, match="s3://no-such-bucket/corpus: there is no such bucket; create the"):
                listed()


def test_an_object_that_is_not_there_is_an_error_about_it(memory: Store) -> None:
    with pytest.raises(AudioError, match="memory://bucket/folder/a: there is no such object"):
        staged(memory.url, "a")
    # as a file that is not there: who reads it says so
    assert not resolve(fetched(memory.url), "a").exists()


def test_a_corpus_in_a_bucket_opens_by_its_address(s3: Store, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "songs", [("one", stems(1))])
    for path in (tmp_path / "songs").rglob("*"):
        if path.is_file():
            s3.put(path, path.relative_to(tmp_path / "songs").as_posix())
    found = Corpus.open(s3.url)
    assert found.stems.equals(corpus.stems)
    assert found.identity == corpus.identity
    row = corpus.stems.iloc[0]
    assert np.array_equal(found.load(row, 10, 100), corpus.load(row, 10, 100))
    with CropReader({".": found.folder}) as crops:
        assert np.array_equal(crops.read(".", row["path"], 10, 100), corpus.load(row, 10, 100))
    # tables follow the store each time the corpus is opened
    s3.remove("stems.parquet")
    with pytest.raises(Exception, match=rf"{s3.url}: holds no stems\.parquet"):
        Corpus.open(s3.url)


def test_a_table_that_was_replaced_is_brought_again(memory: Store, tmp_path: Path) -> None:
    write_corpus(tmp_path / "songs", [("one", stems(1))])
    table = tmp_path / "songs" / "stems.parquet"
    memory.put(table, "stems.parquet")
    assert len(Corpus.open(memory.url).stems) == len(read_table(tmp_path / "songs", "stems"))
    (fetched(memory.url) / "stems.parquet").unlink()  # the cache may be cleaned at any time
    assert Corpus.open(memory.url).songs()


def test_folders_and_addresses_stand_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMLOOM_CACHE", str(tmp_path))
    for folder in (stand_in("s3://b/x y/z/"), working_folder("s3a://b/x y/z")):
        assert url_of(folder) == address(folder) == "s3://b/x y/z"
        assert folder.name == "z"
        assert as_addresses(f"{folder}/a.flac: is missing") == "s3://b/x y/z/a.flac: is missing"
    assert stand_in(str(tmp_path)) == stand_in(f"file://{tmp_path}") == tmp_path
    assert url_of(tmp_path) is None
    assert address(tmp_path) == str(tmp_path.resolve())


@pytest.mark.parametrize(
    "url", ["s3://", "s3://b//x", "s3://b/../x", "s3:/b/x", "s3:b", "ftp://host/x", "http://host/x"]
)
def test_addresses_that_are_none_are_refused(url: str) -> None:
    assert is_url(url)
    with pytest.raises(RecipeError, match="://"):
        checked_url(url)
