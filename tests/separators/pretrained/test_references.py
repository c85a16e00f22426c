"""What names a file of weights, and files from elsewhere: a server of this machine stands for the network."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from manifests.errors import RecipeError
from manifests.staging import cache_folder
from separators.pretrained.references import downloaded, local_weights, split_settings

WEIGHTS = b"weights" * 1000
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


class Server(ThreadingHTTPServer):
    asked: list[str]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if "missing" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(WEIGHTS)))
        self.end_headers()
        self.wfile.write(WEIGHTS[:100] if "short" in self.path else WEIGHTS)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEMLOOM_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_path_is_itself(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(WEIGHTS)
    assert local_weights("a.ckpt", tmp_path) == tmp_path / "a.ckpt"
    assert local_weights(str(tmp_path / "a.ckpt"), Path("elsewhere")) == tmp_path / "a.ckpt"
    with pytest.raises(
        RecipeError, match=r"b.ckpt: there is no such file; give the path .* https://HOST/FILE#sha256=HEX"
    ):
        local_weights("b.ckpt", tmp_path)


def test_an_address_is_fetched_once(server: Server, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    reference = f"{server.address}/models/a.ckpt#sha256={SHA256.upper()}&license=CC-BY-4.0"
    with caplog.at_level(logging.INFO):
        path = local_weights(reference, Path(), allow_download=True)
    assert path.read_bytes() == WEIGHTS
    assert path.name == "a.ckpt"
    assert files(cache) == [path]
    assert "licence CC-BY-4.0" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert local_weights(reference, Path()) == path
    assert "licence CC-BY-4.0" in caplog.text
    assert server.asked == ["/models/a.ckpt"]


def test_nothing_is_fetched_that_was_not_allowed(server: Server, cache: Path) -> None:
    reference = f"{server.address}/a.ckpt#sha256={SHA256}&license=CC-BY-4.0"
    with pytest.raises(
        RecipeError, match=r"/a.ckpt \(licence CC-BY-4.0\): it is not in the cache; fetch it with --allow-downloads"
    ):
        local_weights(reference, Path())
    assert server.asked == []
    assert not cache.exists()


def test_another_file_is_not_taken_and_nothing_is_left(server: Server, cache: Path) -> None:
    with pytest.raises(RecipeError, match=f"its sha256 is {SHA256}, expected {'0' * 64}"):
        local_weights(f"{server.address}/a.ckpt#sha256={'0' * 64}", Path(), allow_download=True)
    with pytest.raises(RecipeError, match=r"short.ckpt: (cannot be fetched|is another file)"):
        local_weights(f"{server.address}/short.ckpt#sha256={SHA256}", Path(), allow_download=True)
    assert files(cache) == []


def test_what_cannot_be_fetched_is_told(server: Server, cache: Path) -> None:
    with pytest.raises(RecipeError, match=r"missing.ckpt: cannot be fetched \(404"):
        local_weights(f"{server.address}/missing.ckpt#sha256={SHA256}", Path(), allow_download=True)
    with pytest.raises(RecipeError, match="look at the address and at the connection"):
        local_weights(f"http://127.0.0.1:9/a.ckpt#sha256={SHA256}", Path(), allow_download=True)
    assert files(cache) == []


def test_a_damaged_copy_is_fetched_again_or_told(server: Server, cache: Path) -> None:
    reference = f"{server.address}/a.ckpt#sha256={SHA256}"
    path = local_weights(reference, Path(), allow_download=True)
    path.write_bytes(b"damaged")
    with pytest.raises(RecipeError, match=r"its copy .*a.ckpt is damaged .*--allow-downloads"):
        local_weights(reference, Path())
    assert local_weights(reference, Path(), allow_download=True).read_bytes() == WEIGHTS


def test_the_beginning_of_a_hash_is_enough_for_those_who_know_no_more(server: Server, cache: Path) -> None:
    assert downloaded(f"{server.address}/a.th", SHA256[:8], allow_download=True).read_bytes() == WEIGHTS
    with pytest.raises(RecipeError, match="is another file"):
        downloaded(f"{server.address}/a.th", "00000000", allow_download=True)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("https://host/a.ckpt", r"needs the sha256 .* write https://host/a.ckpt#sha256=HEX .*sha256sum"),
        ("https://host/a.ckpt#sha256=12", "needs the sha256"),
        ("hf:owner/repo/a.ckpt", "write hf:owner/repo/a.ckpt#sha256=HEX"),
        (f"hf:owner/a.ckpt#sha256={SHA256}", "write hf:OWNER/REPO/PATH@REVISION#sha256=HEX"),
        (f"http://host/a.ckpt#sha256={SHA256}", "not fetched over plain http; use https"),
        (f"https://host/a.ckpt#sha265={SHA256}", r"no 'sha265' \(did you mean 'sha256'\?\)"),
    ],
)
def test_references_that_say_too_little_are_refused(cache: Path, reference: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        local_weights(reference, Path(), allow_download=True)


@pytest.mark.parametrize(
    ("reference", "url"),
    [
        ("hf:owner/repo/sub/a.ckpt", "https://huggingface.co/owner/repo/resolve/main/sub/a.ckpt"),
        ("hf:owner/repo/a.ckpt@v1.2", "https://huggingface.co/owner/repo/resolve/v1.2/a.ckpt"),
    ],
)
def test_hugging_face_has_a_short_form(cache: Path, reference: str, url: str) -> None:
    with pytest.raises(RecipeError, match=f"^{url} "):
        local_weights(f"{reference}#sha256={SHA256}", Path())


def test_the_cache_is_the_systems_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEMLOOM_CACHE", raising=False)
    assert cache_folder().name.lower() == "stemloom"


@pytest.mark.parametrize(
    ("text", "reference", "settings"),
    [
        ("a.onnx", "a.onnx", {}),
        ("a.onnx?", "a.onnx", {}),
        ("a.onnx?n=1&m=b%26c", "a.onnx", {"n": "1", "m": "b&c"}),
        ("https://h/a?x=1#sha256=00", "https://h/a?x=1#sha256=00", {}),
        ("https://h/a?x=1#sha256=00?n=1", "https://h/a?x=1#sha256=00", {"n": "1"}),
        (
            "https://h/a#sha256=00?n=https://h/b?y%3D2#sha256=11",
            "https://h/a#sha256=00",
            {"n": "https://h/b?y=2#sha256=11"},
        ),
    ],
)
def test_settings_stand_behind_a_question_mark(text: str, reference: str, settings: dict[str, str]) -> None:
    assert split_settings(text, ("n", "m")) == (reference, settings)


@pytest.mark.parametrize("text", ["a?x=1", "a?n", "a?n=", "a?n=1&n=2"])
def test_settings_that_say_nothing_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"^a"):
        split_settings(text, ("n", "m"))
