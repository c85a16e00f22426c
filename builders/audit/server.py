"""Serving a build until somebody presses Ctrl-C: one server a build, verdicts applied before and after."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from builders.audit.app import Settings, make_app
from builders.audit.standing import Applied, apply_verdicts
from builders.audit.verdicts import VerdictLog
from builders.check import require_finished
from manifests.audited import AUDIT
from manifests.errors import BuildError
from manifests.files import TEMPORARY_PREFIX
from manifests.lock import BuildLock

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
_PATIENCE_S = 2


def serve(
    build: Path,
    *,
    port: int = 0,
    settings: Settings | None = None,
    ready: Callable[[str], object] = lambda address: None,
) -> Applied:
    """Serve the page about a build, until this process is told to stop (Ctrl-C, or SIGTERM).

    Parameters
    ----------
    build : Path
        A finished build.
    port : int
        On 127.0.0.1; 0 takes a free one.
    settings : Settings, optional
    ready : callable, optional
        Called with the address of the page, when it can be opened.

    Returns
    -------
    Applied
        What became of the column `audit` in the end; its notes are those that were not told in the beginning.

    Raises
    ------
    BuildError
        When another process serves the build, a build is at work in the folder, the port is taken, or the disk
        refuses.
    TableError
        When a table is damaged.
    """
    require_finished(build)
    with BuildLock(build / AUDIT, "server of 'stemloom audit'"):
        for path in (build / AUDIT).rglob(f"{TEMPORARY_PREFIX}*"):  # what a killed server was writing
            path.unlink(missing_ok=True)
        verdicts = VerdictLog(build)
        try:
            told: tuple[str, ...] = ()
            if verdicts.all():  # of a crash before they were applied
                told = apply_verdicts(build, verdicts.all()).notes
            for note in told:
                log.warning("%s: %s", build, note)
            token = secrets.token_urlsafe(18)
            app = make_app(build, token, settings, verdicts)
            with _listening(port) as listener:
                _run(
                    uvicorn.Server(_config(app)),
                    listener,
                    f"http://{HOST}:{listener.getsockname()[1]}/{token}/",
                    ready,
                )
        finally:
            verdicts.close()
        try:
            applied = apply_verdicts(build, verdicts.all())
        except BuildError as error:
            raise BuildError(
                f"{error} (the verdicts are kept: 'stemloom audit {build} --apply' applies them)"
            ) from error
        return dataclasses.replace(applied, notes=tuple(note for note in applied.notes if note not in told))


def _config(app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]  # uvicorn's own type of an application is wider
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=_PATIENCE_S,
    )


def _listening(port: int) -> socket.socket:
    """A socket that takes connections from now on, so that the address may be told."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise BuildError(
            f"port {port} of {HOST} cannot be had ({error.strerror or error}); give another one, or 0 for any"
        ) from error
    return listener


def _run(server: uvicorn.Server, listener: socket.socket, address: str, ready: Callable[[str], object]) -> None:
    """Serve until stopped; what is raised by the signals that stop it ends here."""
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _stop) if is_main else None
    try:
        ready(address)
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
