"""The cache finds what was put and nothing else, whatever befell its files; the lock keeps builds apart."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from builders.cache import JsonValue, ResultCache, cache_key
from manifests.errors import BuildError
from manifests.lock import BuildLock

ROOT = Path(__file__).parents[2]
KEY = cache_key("loudness", 1, {"block_s": 0.4}, ["00ff"])
VALUE: JsonValue = {"loudness_lufs": -23.5, "peaks": [1, 0.25, None], "odd name": "\udcff/ü"}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def cache(tmp_path: Path) -> ResultCache:
    return ResultCache(tmp_path / "cache")


def files(cache: ResultCache) -> list[Path]:
    return sorted(path for path in cache.folder.rglob("*") if path.is_file())


def entry_file(cache: ResultCache) -> Path:
    return cache.folder / KEY[:2] / f"{KEY}.json"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=json_values.filter(lambda value: value is not None))
def test_get_returns_what_was_put(cache: ResultCache, value: JsonValue) -> None:
    cache.put(KEY, value)
    assert cache.get(KEY) == value
    assert ResultCache(cache.folder).get(KEY) == value


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    array=arrays.arrays(
        st.sampled_from([np.uint32, np.int16, np.float32, np.complex64, np.bool_]),
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0),
    )
)
def test_arrays_come_back_with_type_shape_and_bits(cache: ResultCache, array: np.ndarray[Any, Any]) -> None:
    cache.put(KEY, 1, {"fingerprint": array, "empty": array[..., :0] if array.ndim else array})
    found = cache.get_arrays(KEY)
    assert found is not None
    assert set(found) == {"fingerprint", "empty"}
    assert found["fingerprint"].dtype == array.dtype
    assert found["fingerprint"].shape == array.shape
    assert found["fingerprint"].tobytes() == array.tobytes()


def test_what_was_never_put_is_missing(cache: ResultCache) -> None:
    assert cache.get(KEY) is None
    assert cache.get_arrays(KEY) is None
    cache.put(KEY, VALUE)
    assert cache.get_arrays(KEY) == {}
    assert cache.get(cache_key("loudness", 2, {"block_s": 0.4}, ["00ff"])) is None


def test_the_last_put_wins(cache: ResultCache) -> None:
    cache.put(KEY, 1, {"wave": np.arange(3)})
    cache.put(KEY, 2, {"wave": np.arange(4)})
    assert cache.get(KEY) == 2
    found = cache.get_arrays(KEY)
    assert found is not None
    assert found["wave"].tolist() == [0, 1, 2, 3]
    assert len(files(cache)) == 2, "no temporary file stays"


def test_the_key_depends_on_everything_the_result_depends_on() -> None:
    base: dict[str, Any] = {
        "stage": "align",
        "version": 1,
        "parameters": {"window_s": 8, "modes": ["a", "b"]},
        "content_ids": ["aa", "bb"],
    }
    changes: list[dict[str, Any]] = [
        {"stage": "align2"},
        {"version": 2},
        {"parameters": {"window_s": 8.5, "modes": ["a", "b"]}},
        {"parameters": {"window_s": 8}},
        {"parameters": {"window_s": 8, "modes": ["b", "a"]}},
        {"content_ids": ["bb", "aa"]},
        {"content_ids": ["aabb"]},
        {"content_ids": ["aa"]},
    ]
    keys = {cache_key(**{**base, **change}) for change in [{}, *changes]}
    assert len(keys) == 1 + len(changes)
    same = cache_key("align", 1, {"modes": ("a", "b"), "window_s": 8}, ("aa", "bb"))
    assert same == cache_key(**base)


def test_the_key_stays_the_same_from_release_to_release() -> None:
    # blake2b of '["loudness",1,{"block_s":0.4},["00ff"]]'. A change here throws away everybody's cache.
    assert KEY == "3ab0a8dd8b33af21f4af1be66c558bcd"


def test_parameters_that_json_cannot_hold_are_refused() -> None:
    with pytest.raises(TypeError):
        cache_key("scan", 1, {"folder": Path("/music")}, [])
    with pytest.raises(ValueError, match="JSON compliant"):
        cache_key("scan", 1, {"gain_db": float("nan")}, [])


@pytest.mark.parametrize("value", [(1, 2), {"pair": (1, 2)}, {1: "one"}, np.float32(1.0), {"x": {2}}])
def test_a_value_that_would_come_back_changed_is_refused(cache: ResultCache, value: Any) -> None:
    with pytest.raises(TypeError):
        cache.put(KEY, value)
    assert cache.get(KEY) is None


@pytest.mark.parametrize("value", [None, float("inf"), [float("nan")]])
def test_none_and_numbers_outside_json_are_refused(cache: ResultCache, value: Any) -> None:
    with pytest.raises(ValueError, match=r"None|JSON compliant"):
        cache.put(KEY, value)


def test_arrays_of_objects_are_refused_and_never_unpickled(cache: ResultCache) -> None:
    with pytest.raises(ValueError, match="'names' of dtype object"):
        cache.put(KEY, 1, {"names": np.array(["a", None], dtype=object)})
    assert files(cache) == []


@pytest.mark.parametrize("bad", ["", "../../etc/passwd", "AB" * 16, "0" * 31, KEY + "\n"])
def test_keys_that_are_no_keys_never_become_paths(cache: ResultCache, bad: str) -> None:
    with pytest.raises(ValueError, match="no cache key"):
        cache.get(bad)
    with pytest.raises(ValueError, match="array name"):
        cache.put(KEY, 1, {f"../{bad}": np.zeros(1)})


def test_an_entry_that_was_cut_anywhere_is_missing(cache: ResultCache) -> None:
    cache.put(KEY, VALUE)
    whole = entry_file(cache).read_bytes()
    for length in range(len(whole)):
        entry_file(cache).write_bytes(whole[:length])
        assert cache.get(KEY) is None
    entry_file(cache).write_bytes(whole)
    assert cache.get(KEY) == VALUE


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_an_entry_with_a_changed_byte_is_missing_or_means_the_same(
    cache: ResultCache, position: int, flip: int
) -> None:
    cache.put(KEY, VALUE)
    data = bytearray(entry_file(cache).read_bytes())
    data[position % len(data)] ^= flip
    entry_file(cache).write_bytes(bytes(data))
    assert cache.get(KEY) in (None, VALUE)


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", '{"checksum": "", "body": {}}', "\xff", "[" * 100_000, "1" * 5000]
)
def test_a_file_that_is_no_entry_is_missing(cache: ResultCache, text: str) -> None:
    cache.put(KEY, VALUE)
    entry_file(cache).write_bytes(text.encode("latin-1"))
    assert cache.get(KEY) is None
    cache.put(KEY, VALUE)
    assert cache.get(KEY) == VALUE


def test_an_entry_under_another_key_is_missing(cache: ResultCache) -> None:
    cache.put(KEY, VALUE)
    other = cache_key("loudness", 1, {}, [])
    target = cache.folder / other[:2] / f"{other}.json"
    target.parent.mkdir(exist_ok=True)
    entry_file(cache).rename(target)
    assert cache.get(other) is None


@pytest.mark.parametrize("damage", ["cut", "changed", "removed"])
def test_a_damaged_array_is_missing(cache: ResultCache, damage: str) -> None:
    cache.put(KEY, 1, {"wave": np.arange(100, dtype=np.float32)})
    (path,) = (path for path in files(cache) if path.suffix == ".npy")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(bytes(data) if damage == "changed" else bytes(data[:-4]))
    assert cache.get_arrays(KEY) is None


def test_a_put_that_is_killed_leaves_the_old_entry_or_the_new_one(cache: ResultCache) -> None:
    script = f"""
import itertools, sys
from pathlib import Path
from builders.cache import ResultCache
cache = ResultCache(Path({str(cache.folder)!r}))
for number in itertools.count(1):
    cache.put({KEY!r}, [number] * 2000)
    print(number, flush=True)
"""
    writer = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    finished = [int(next(writer.stdout)) for _ in range(5)]
    writer.send_signal(signal.SIGKILL)
    finished += [int(line) for line in writer.stdout]
    writer.wait()
    writer.stdout.close()
    value = cache.get(KEY)
    assert value in ([finished[-1]] * 2000, [finished[-1] + 1] * 2000)


def test_a_full_disk_is_reported_with_the_fix_and_harms_nothing(
    cache: ResultCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cache.put(KEY, "old")
    before = files(cache)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(BuildError, match=r"No space left on device.*free some space.*resumes") as caught:
            cache.put(KEY, "new")
    assert str(entry_file(cache)) in str(caught.value)
    assert files(cache) == before
    assert cache.get(KEY) == "old"


def test_entries_are_spread_over_folders_and_readable(cache: ResultCache) -> None:
    keys = [cache_key("scan", 1, {}, [str(number)]) for number in range(50)]
    for key in keys:
        cache.put(key, {"key": key})
    assert {path.parent.name for path in files(cache)} == {key[:2] for key in keys}
    assert json.loads(files(cache)[0].read_text())["body"]["value"] == {"key": files(cache)[0].stem}


HOLDER = """
import sys, time
from pathlib import Path
from manifests.lock import BuildLock
with BuildLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(3600)
"""


def test_a_second_build_in_the_folder_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "build"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BuildError) as caught, BuildLock(folder):
            pass
        assert f"pid {holder.pid}" in str(caught.value)
        assert f"kill -INT {holder.pid}" in str(caught.value)
        assert str(folder) in str(caught.value)
    finally:
        holder.kill()
        holder.communicate()
    with BuildLock(folder):
        assert (folder / ".lock").read_text() == f"{os.getpid()}\n"


def test_a_lock_is_released_with_its_block_and_can_be_taken_again(tmp_path: Path) -> None:
    lock = BuildLock(tmp_path)
    for _ in range(2):
        with lock, pytest.raises(BuildError, match=f"pid {os.getpid()}"), BuildLock(tmp_path):
            pass
    with pytest.raises(LookupError), BuildLock(tmp_path):
        raise LookupError
    with BuildLock(tmp_path):
        pass


def test_a_folder_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with (
        pytest.raises(BuildError, match=r"\.lock: cannot be locked \(Is a directory\); choose a folder"),
        BuildLock(tmp_path),
    ):
        pass


def test_a_file_is_no_folder_to_lock(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match=r"file: is a file; give a folder$"), BuildLock(tmp_path / "file"):
        pass
    with (
        pytest.raises(BuildError, match=r"file/in it: the folder cannot be made \(Not a directory\); choose one"),
        BuildLock(tmp_path / "file" / "in it"),
    ):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with (
        pytest.raises(BuildError, match=r"new: the folder cannot be made \(Permission denied\); choose one"),
        BuildLock(tmp_path / "new"),
    ):
        pass
