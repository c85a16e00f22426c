"""Runs of a study in processes of their own, several at once: one that crashes costs its own run.

Processes are spawned, hold one device each, and end with the process that started them, however that ends. Ctrl-C
is theirs too, but through us: they finish their step, save, and end.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import torch

from manifests.errors import StemloomError
from manifests.orphans import end_with_parent
from training.processes import interrupts
from training.variants import Run, Working, do_run

__all__ = ["STOPPED", "do_runs"]

STOPPED = "stopped before its end; the same command goes on"

_POLL_S = 0.2

Report = Callable[[Run, str, int, int], None]


def do_runs(
    runs: Sequence[Run], jobs: int, devices: Sequence[str], working: Working, report: Report
) -> tuple[dict[str, str], bool]:
    """Do runs.

    Parameters
    ----------
    runs : sequence of Run
    jobs : int
        At once; 0: one after another in this process.
    devices : sequence of str
        Of torch. A run has one for itself, or shares it where there are more jobs than devices.
    working : Working
    report : callable
        Called with a run, what is done, and how much of how much; 'finished' and 'failed' at its end. From several
        threads.

    Returns
    -------
    failures : dict of str to str
        By the name of a run that did not finish: why.
    interrupted : bool
        By Ctrl-C, on which no other run is begun.
    """
    if jobs == 0:
        return _in_this_process(runs, devices[0], working, report)
    free: queue.SimpleQueue[str] = queue.SimpleQueue()
    for number in range(jobs):
        free.put(devices[number % len(devices)])
    failures: dict[str, str] = {}
    alive: list[BaseProcess] = []

    with interrupts() as interrupted, ThreadPoolExecutor(jobs) as pool:

        def do(run: Run) -> None:
            if interrupted.is_set():
                failures[run.name] = STOPPED
                return
            device = free.get()
            try:
                ended = _in_a_process(run, device, working, jobs, report, alive)
            finally:
                free.put(device)
            _note(run, ended, failures, report)

        left = {pool.submit(do, run) for run in runs}
        told = False
        try:
            while left:
                done, left = wait(left, timeout=_POLL_S)
                for future in done:
                    future.result()
                if interrupted.is_set() and not told:
                    told = True
                    for process in alive[:]:
                        if process.pid is not None:
                            with contextlib.suppress(ProcessLookupError):
                                os.kill(process.pid, signal.SIGINT)
        except BaseException:  # Ctrl-C again, or a bug: at once
            interrupted.set()
            for process in alive[:]:
                process.kill()
            raise
    return failures, interrupted.is_set()


def _in_this_process(
    runs: Sequence[Run], device: str, working: Working, report: Report
) -> tuple[dict[str, str], bool]:
    failures: dict[str, str] = {}
    is_interrupted = False
    for run in runs:
        if is_interrupted:
            failures[run.name] = STOPPED
            continue
        ended = _ended(run, device, working, lambda *about, run=run: report(run, *about))
        is_interrupted = ended == "interrupted"
        _note(run, ended, failures, report)
    return failures, is_interrupted


def _note(run: Run, ended: str, failures: dict[str, str], report: Report) -> None:
    """Take down and tell how a run ended."""
    if ended != "finished":
        failures[run.name] = STOPPED if ended in ("stopped", "interrupted") else ended
    report(run, "finished" if ended == "finished" else "failed", 1, 1)


def _ended(run: Run, device: str, working: Working, report: Callable[[str, int, int], None]) -> str:
    """Do a run in this process, and say how it ended: a state, or what went wrong."""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # as the process of a run is started with
        return do_run(run, device, working, report)
    except KeyboardInterrupt:
        return "interrupted"
    except Exception as error:
        return _why(error)


def _in_a_process(
    run: Run, device: str, working: Working, jobs: int, report: Report, alive: list[BaseProcess]
) -> str:
    """Do a run in a process, and say how it ended: a state, or what went wrong."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(run, device, working, jobs, theirs), name=run.name)
    # Ctrl-C waits until the process can tell it from an accident; what it starts on the way must be there before
    resource_tracker.ensure_running()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    alive.append(process)
    theirs.close()
    ended = None
    try:
        while True:
            kind, *about = ours.recv()
            if kind == "ended":
                (ended,) = about
            else:
                report(run, *about)
    except (EOFError, OSError):
        pass
    finally:
        process.join()
        alive.remove(process)
        ours.close()
    if ended is not None:
        return str(ended)
    code = process.exitcode or 0
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    hint = "; the system may have run out of memory: try fewer --jobs" if code == -signal.SIGKILL else ""
    return f"its process {how}{hint}"


def _work(run: Run, device: str, working: Working, jobs: int, ours: Connection) -> None:
    """What the process of a run does."""
    with contextlib.suppress(OSError):  # so that a terminal's Ctrl-C reaches it only through its parent
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_with_parent()
    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))
    ours.send(("ended", _ended(run, device, working, lambda *about: ours.send(("report", *about)))))


def _why(error: Exception) -> str:
    """What went wrong: of an error that is not about what a person gave, where too."""
    if isinstance(error, StemloomError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
