"""Engines: how a stage is run over many items, and the one of this machine; `builders.cluster` has that of many.

A *stage* is a pure function from one item to one result. An engine runs it over a stream of `(key, item)`
pairs and gives back one `Outcome` for each, whatever happens to the process that the stage runs in:

==================================================== ===================================================
what the stage does                                  what comes back
==================================================== ===================================================
returns a value                                      `Outcome(key, value, None)`
raises `AudioError`, `TableError` or another         `Failure("rejected", message)`
`StemloomError` about its item
kills its process (segfault, abort, the system's     run once more with nothing beside it, then
out-of-memory killer) or runs out of memory          `Failure("crash", how it ended)`
takes longer than `timeout_s`                        `Failure("timeout", ...)`; its process is killed
raises `BuildError` or `RecipeError`                 the error propagates: it is about the whole run, as
                                                     a full disk is, and every other item would fail too
raises anything else                                 the error propagates, with the worker's traceback:
                                                     it is a bug
==================================================== ===================================================

Conventions
-----------
- Outcomes come in the **order of completion**, so that one slow item holds nobody up: sort by key before
  writing a table. The set of outcomes does not depend on `jobs`.
- Items are taken from the iterable as workers need them, in the caller's thread. At most `jobs` are with the
  workers, as many may be finished but not yet fetched, and as many may wait for their second try.
- Stages, items and results cross process borders: they must pickle. A stage is a function of a module, a
  `partial` of one, or an object with `__call__`. A script that starts an engine needs
  `if __name__ == "__main__":`.
- Workers are started by spawn (never fork: threads and CUDA do not survive it), compute with one thread,
  ignore Ctrl-C (the driver ends them), write no core files, and die with their driver, even when that is
  killed by SIGKILL.
- What C libraries print on a worker's standard error is dropped (libmpg123 tells of each damaged MP3 frame);
  what Python prints there is not. With `jobs=0` all of it is seen.

Each worker has a pebble pool of its own, holds one item at a time, and is thrown away with its pool at its
first accident: so there is no doubt about which item was at fault. In a pool that is shared, a worker that
dies between taking an item and saying so, or while it holds the pool's pipe, can stall the others, and a
result that the driver has not read yet can take the blame for the crash that follows it.

A `Bench` is one such worker, given its items by somebody else: an engine of many machines has benches on them, and
so the same table of accidents.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import pickle
import resource
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from pebble import ProcessExpired, ProcessPool

from manifests.errors import BuildError, RecipeError, StemloomError
from manifests.orphans import end_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")
FailureKind: TypeAlias = Literal["crash", "timeout", "rejected"]

log = logging.getLogger(__name__)

_POLL_S = 1.0
_MOST_PASSED_S = 2 * _POLL_S
"""What one look at the workers counts for: where more has passed, this process was stopped, or its machine."""

_MAX_FAILED_STARTS = 3
_ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "NUMBA_NUM_THREADS",
    ),
    "1",
)


@dataclass(frozen=True)
class Failure:
    """Why an item has no result.

    Attributes
    ----------
    kind : {'crash', 'timeout', 'rejected'}
        See the module's table.
    detail : str
        For people: the error's message, the signal that ended the worker, the limit that was passed.
    """

    kind: FailureKind
    detail: str


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of one item: a result, or a failure.

    Attributes
    ----------
    key : str
        The item's key.
    result : Result or None
        What the stage returned; None when it failed.
    error : Failure or None
        None when the stage returned.
    """

    key: str
    result: Result | None
    error: Failure | None


@dataclass(frozen=True)
class Needs:
    """What one worker of a stage takes of the machine that it runs on.

    Attributes
    ----------
    cpus : int >= 1
        CPUs that it keeps busy: stages compute with one thread.
    gpus : float >= 0
        GPUs that it holds. A part of one is shared with others.
    memory_bytes : int >= 0
        What it may come to hold, its interpreter and libraries included: what is planned with, not a limit.
    folders : tuple of str
        Absolute paths of folders that hold something and that it reads or writes.
    """

    cpus: int = 1
    gpus: float = 0
    memory_bytes: int = 500_000_000
    folders: tuple[str, ...] = ()


LITTLE = Needs()
"""One CPU, and memory for what reads in blocks."""


@dataclass(frozen=True)
class LocalEngine:
    """Runs stages in worker processes on this machine.

    A stage's `Needs` change nothing here: `jobs` says how many workers this machine has room for, and those that
    need a GPU share it.

    Parameters
    ----------
    jobs : int
        Number of worker processes. 0 runs the stage in the calling process, for debugging: same outcomes, but
        no time or memory limit, and a stage that crashes takes the caller along.
    timeout_s : float or None
        Seconds that one item may take, counted from when a worker starts on it. The time that all processes are
        stopped for, as on a machine that sleeps, does not count, and what is done to the clock neither. None: no
        limit.
    max_memory_bytes : int or None
        Bytes of private memory that one worker may hold, its interpreter and libraries included. Enforced
        by Linux only (RLIMIT_DATA). None: no limit.

    Raises
    ------
    RecipeError
        A number below its range.
    """

    jobs: int
    timeout_s: float | None = None
    max_memory_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.jobs < 0:
            raise RecipeError(f"jobs is {self.jobs}; give the number of worker processes, or 0 for none")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise RecipeError(f"timeout_s is {self.timeout_s}; give seconds above 0, or None for no limit")
        if self.max_memory_bytes is not None and self.max_memory_bytes <= 0:
            raise RecipeError(
                f"max_memory_bytes is {self.max_memory_bytes}; give bytes above 0, or None for no limit"
            )

    def run(
        self, stage: Callable[[Item], Result], items: Iterable[tuple[str, Item]], needs: Needs = LITTLE
    ) -> Iterator[Outcome[Result]]:
        """Run a stage over items.

        Closing the iterator, or an exception in the loop over it (Ctrl-C included), stops the workers at
        once.

        Parameters
        ----------
        stage : callable
            A pure function from one item to one result.
        items : iterable of (str, Item)
            Keys and items, taken as they are needed.
        needs : Needs
            Of one worker; see above.

        Yields
        ------
        Outcome
            One for each item, in the order of completion.

        Raises
        ------
        BuildError, RecipeError
            Raised by the stage: the run cannot go on.
        RuntimeError
            Workers cannot be started.
        Exception
            Any other exception of the stage, with a note that holds the key and the worker's traceback.
        """
        if self.jobs == 0:
            yield from _run_here(stage, items)
            return
        crew: _Crew[Result] = _Crew(self, pickle.dumps(stage), iter(items))
        try:
            yield from crew.outcomes()
        finally:
            crew.stop()


def _run_here(stage: Callable[[Item], Result], items: Iterable[tuple[str, Item]]) -> Iterator[Outcome[Result]]:
    for key, item in items:
        try:
            outcome = Outcome(key, stage(item), None)
        except (BuildError, RecipeError):
            raise
        except StemloomError as error:
            outcome = Outcome(key, None, Failure("rejected", str(error)))
        except Exception as error:
            if not _is_out_of_memory(error):
                error.add_note(f"raised by the stage on item {key!r}")
                raise
            outcome = Outcome(key, None, Failure("crash", f"out of memory: {error}"))
        yield outcome


@dataclass(frozen=True)
class _Task:
    key: str
    payload: bytes
    attempt: int = 1


@dataclass(frozen=True)
class _Reply:
    """What a worker sends back: only text and bytes, so that nothing can fail on its way through a pipe."""

    kind: Literal["done", "rejected", "memory", "fatal"]
    payload: bytes = b""
    text: str = ""


class Bench:
    """One worker process of this machine, which gets its items one after another from somebody else.

    What goes in and comes out is pickled already, so that who holds a bench need not know what it is.

    Parameters
    ----------
    stage : bytes
        The pickled stage.
    engine : LocalEngine
        Its limits count.
    """

    def __init__(self, stage: bytes, engine: LocalEngine) -> None:
        self._crew: _Crew[bytes] = _Crew(replace(engine, jobs=1), stage, iter(()), unpickle=bytes)

    def run(self, key: str, item: bytes) -> Outcome[bytes]:
        """Run the stage on a pickled item. One that ends its process is run once more, in another.

        Parameters
        ----------
        key : str
        item : bytes

        Returns
        -------
        Outcome
            Whose result is pickled.

        Raises
        ------
        Exception
            As for `LocalEngine.run`.
        """
        self._crew.returned.append(_Task(key, item))
        (outcome,) = self._crew.outcomes()
        return outcome


class _OneProcessContext(SpawnContext):
    """A spawn context that starts one worker and refuses another.

    pebble replaces a worker that died. The refusal breaks the pool instead, which settles each of its
    futures: also those that pebble would forget, as when a library ends the worker with exit code 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.process: _WorkerProcess | None = None

    def Process(self, *args: Any, **kwargs: Any) -> _WorkerProcess:  # type: ignore[override]
        if self.process is not None:
            raise ChildProcessError("the worker has ended")
        self.process = _WorkerProcess(*args, **kwargs)
        return self.process


class _WorkerProcess(SpawnProcess):
    """A process that starts with one-threaded libraries and Ctrl-C held back."""

    def start(self) -> None:
        # The tracker would be started on the way, and its start lets SIGINT through again.
        resource_tracker.ensure_running()
        with _worker_environment():
            super().start()


_environment_lock = threading.Lock()


@contextmanager
def _worker_environment() -> Iterator[None]:
    """Set what a process inherits, for as long as it takes to start one.

    The number of threads is read when BLAS is loaded, before any code of ours runs in the worker; so it goes
    into the driver's environment and out again. A blocked SIGINT is inherited too: Ctrl-C during the worker's
    imports, before it can ignore it, would fill the screen with tracebacks.
    """
    with _environment_lock:
        saved = {name: os.environ.get(name) for name in _ONE_THREAD}
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        os.environ.update(_ONE_THREAD)
        try:
            yield
        finally:
            for name, value in saved.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class _Worker:
    """One process behind a pebble pool of its own, from its start to its first accident.

    `future` is what the driver waits for: first the report that the worker is ready, which tells a worker
    that cannot start from an item that crashes; then one task after another.
    """

    def __init__(self, stage: bytes, engine: LocalEngine) -> None:
        self.timeout_s = engine.timeout_s
        self.max_memory_bytes = engine.max_memory_bytes
        self.context = _OneProcessContext()
        self.pool = ProcessPool(
            max_workers=1,
            initializer=_prepare_worker,
            # without a standard error, a pipe of the worker may have its number
            initargs=(stage, engine.max_memory_bytes, sys.stderr is not None),
            context=self.context,
        )
        self.is_ready = False
        self.task: _Task | None = None
        self.spent_s = 0.0  # on the task
        self.future: Future[_Reply] = Future()

    def start(self, task: _Task) -> None:
        self.task = task
        self.future = self.pool.schedule(_report_ready)

    def submit(self, task: _Task) -> None:
        self.task, self.spent_s = task, 0.0
        try:
            # no time-out of pebble's: it goes by the clock, which jumps
            self.future = self.pool.schedule(_run_stage, args=(task.payload,))
        except RuntimeError as error:  # the process ended while it had nothing to do
            self.future = Future()
            self.future.set_exception(BrokenProcessPool(str(error)))

    @property
    def left_s(self) -> float:
        """What is left of the task's time."""
        if self.timeout_s is None or self.task is None or not self.is_ready:
            return math.inf
        return self.timeout_s - self.spent_s

    def end(self) -> str:
        """How the process ended, in words. Where memory is short, libraries abort or exit."""
        limit = self.max_memory_bytes
        return self.how_it_ended() + ("" if limit is None else f"; it may hold {limit / 1e9:g} GB of memory")

    def how_it_ended(self) -> str:
        code = self.context.process.exitcode if self.context.process is not None else None
        if code is None:
            return "the worker was lost"
        if code >= 0:
            return f"the worker exited with code {code}"
        if -code == signal.SIGKILL:
            return "the worker was ended by SIGKILL, as the system does when memory runs out"
        names = {number.value: number.name for number in signal.Signals}
        return f"the worker was ended by {names.get(-code, f'signal {-code}')}"

    def stop(self) -> None:
        # Left to pebble, a stage deep in C code is asked kindly and then waited for, 3 s for each worker.
        if self.context.process is not None and self.context.process.pid is not None:
            self.context.process.kill()
        self.pool.stop()  # type: ignore[no-untyped-call]

    def join(self) -> None:
        self.pool.join()


@dataclass
class _Crew(Generic[Result]):
    """The state of one run."""

    engine: LocalEngine
    stage: bytes
    items: Iterator[tuple[str, Any]]
    unpickle: Callable[[bytes], Any] = pickle.loads
    workers: list[_Worker] = field(default_factory=list)
    returned: deque[_Task] = field(default_factory=deque)  # from workers that could not start
    suspects: deque[_Task] = field(default_factory=deque)  # crashed once, to be run alone
    is_draining: bool = False  # no new items are started, so that the suspects can run alone
    failed_starts: int = 0
    looked_at_s: float = field(default_factory=time.monotonic)

    def outcomes(self) -> Iterator[Outcome[Result]]:
        while self.fill():
            futures = [worker.future for worker in self.workers if worker.task is not None]
            pause_s = min(_POLL_S, *(max(0.01, worker.left_s) for worker in self.workers))
            wait(futures, timeout=pause_s, return_when=FIRST_COMPLETED)
            self.count_time()
            found = [self.collect(worker) for worker in tuple(self.workers)]
            self.fill()  # now, so that the workers go on while the caller deals with what was found
            yield from (outcome for outcome in found if outcome is not None)

    def stop(self) -> None:
        for worker in self.workers:
            worker.stop()
        for worker in self.workers:
            worker.join()

    def fill(self) -> bool:
        """Hand out tasks. False when everything is done."""
        self.count_time()
        self.is_draining = self.is_draining or len(self.suspects) >= self.engine.jobs
        while not self.is_draining and self.num_busy < self.engine.jobs:
            task = self.next_task()
            if task is None:
                self.is_draining = bool(self.suspects)
                break
            self.give(task)
        if self.num_busy or not self.is_draining:
            return self.num_busy > 0
        if not self.suspects:
            self.is_draining = False
            return self.fill()
        self.give(self.suspects.popleft())
        return True

    def count_time(self) -> None:
        """Count what has passed since the last time for what the workers are at."""
        now_s = time.monotonic()
        passed_s = min(now_s - self.looked_at_s, _MOST_PASSED_S)
        self.looked_at_s = now_s
        for worker in self.workers:
            if worker.is_ready:
                worker.spent_s += passed_s

    @property
    def num_busy(self) -> int:
        return sum(worker.task is not None for worker in self.workers)

    def next_task(self) -> _Task | None:
        if self.returned:
            return self.returned.popleft()
        for key, item in self.items:
            return _Task(key, pickle.dumps(item))
        return None

    def give(self, task: _Task) -> None:
        """Give a task to an idle worker, or to a new one."""
        for worker in self.workers:
            if worker.task is None:
                worker.submit(task)
                return
        worker = _Worker(self.stage, self.engine)
        self.workers.append(worker)  # before it starts: Ctrl-C may come in between
        worker.start(task)

    def collect(self, worker: _Worker) -> Outcome[Result] | None:
        """Return the outcome of a worker's task if there is one, and clear up after an accident."""
        task = worker.task
        is_lost = not worker.pool.active  # looked at first: what it settles on its way out still counts
        is_settled, is_late = worker.future.done(), worker.left_s <= 0
        if task is None or not (is_settled or is_lost or is_late):
            return None
        if is_settled:
            accident = worker.future.exception()
        else:  # a task that reaches a pool while it breaks is never settled
            accident = BrokenProcessPool("the pool has stopped") if is_lost else TimeoutError()
        if accident is not None:
            self.workers.remove(worker)
            worker.stop()
            worker.join()
            return self.bury(worker, task, accident)
        reply = worker.future.result()
        if worker.is_ready:
            worker.task = None
            return self.settle(task, reply)
        self.raise_if_fatal(reply, "while it was loaded")
        self.failed_starts = 0
        worker.is_ready = True
        worker.submit(task)
        return None

    def settle(self, task: _Task, reply: _Reply) -> Outcome[Result] | None:
        """Turn a reply into an outcome. None when there is none yet."""
        self.raise_if_fatal(reply, f"on item {task.key!r}")
        if reply.kind == "done":
            return Outcome(task.key, self.unpickle(reply.payload), None)
        if reply.kind == "rejected":
            return Outcome(task.key, None, Failure("rejected", reply.text))
        return self.crash(task, reply.text)

    def raise_if_fatal(self, reply: _Reply, where: str) -> None:
        if reply.kind == "fatal":
            error = RuntimeError("the stage raised something that does not pickle; its traceback follows")
            if reply.payload:
                error = pickle.loads(reply.payload)
            error.add_note(f"raised by the stage {where}, in a worker:\n{reply.text}")
            raise error

    def crash(self, task: _Task, detail: str) -> Outcome[Result] | None:
        if task.attempt == 1:
            log.info("item %r: %s; it will be run once more, alone", task.key, detail)
            self.suspects.append(replace(task, attempt=2))
            return None
        return Outcome(task.key, None, Failure("crash", detail))

    def bury(self, worker: _Worker, task: _Task, accident: BaseException) -> Outcome[Result] | None:
        """Charge an accident to the task that was at work, or to nobody if the worker never got that far."""
        if not worker.is_ready:
            (self.returned if task.attempt == 1 else self.suspects).appendleft(task)
            self.failed_starts += 1
            if self.failed_starts >= _MAX_FAILED_STARTS:
                raise RuntimeError(
                    f"{worker.end()} before it could start on an item, {self.failed_starts} times in a row; "
                    "its own message is above. A script that starts an engine needs "
                    "'if __name__ == \"__main__\":' around that; if memory is short, lower jobs; jobs=0 runs "
                    "the stage in this process"
                ) from accident
            return None
        if isinstance(accident, TimeoutError):
            detail = f"took longer than {self.engine.timeout_s:g} s"
            return Outcome(task.key, None, Failure("timeout", detail))
        if isinstance(accident, (ProcessExpired, BrokenProcessPool)):
            return self.crash(task, worker.end())
        raise accident


# The worker's side. Each worker process serves one run, so what it needs is kept in the module.

_stage: Callable[[Any], Any] | None = None
_stage_problem: _Reply | None = None


def _prepare_worker(stage: bytes, max_memory_bytes: int | None, has_stderr: bool) -> None:
    global _stage, _stage_problem
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # pebble's handler waits for C code to return
    end_with_parent()
    _lower_limit(resource.RLIMIT_CORE, 0)
    if max_memory_bytes is not None:
        _lower_limit(resource.RLIMIT_DATA, max_memory_bytes)
    try:
        _stage = pickle.loads(stage)
    except BaseException as error:
        _stage_problem = _fatal(error)
    if has_stderr:
        _quiet_libraries()


def _quiet_libraries() -> None:
    """Send to nowhere what C code prints, and keep the way open for Python.

    Once and for good, before the first item: descriptors belong to all threads of a process.
    """
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)


def _lower_limit(kind: int, limit: int) -> None:
    hard = resource.getrlimit(kind)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(kind, (limit, hard))


def _report_ready() -> _Reply:
    return _stage_problem or _Reply("done")


def _run_stage(payload: bytes) -> _Reply:
    try:
        if _stage is None:
            raise RuntimeError("the worker has no stage")
        return _Reply("done", pickle.dumps(_stage(pickle.loads(payload))))
    except (BuildError, RecipeError) as error:
        return _fatal(error)
    except StemloomError as error:
        return _Reply("rejected", text=str(error))
    except BaseException as error:
        if _is_out_of_memory(error):
            return _Reply("memory", text=f"out of memory: {error}")
        return _fatal(error)


def _fatal(error: BaseException) -> _Reply:
    """Pack an exception. One that does not survive pickling is sent as its text.

    So is `SystemExit`: raised again in the driver it would end the run without a word.
    """
    text = "".join(traceback.format_exception(error))
    try:
        payload = pickle.dumps(error)
        pickle.loads(payload)
    except Exception:
        return _Reply("fatal", text=text)
    return _Reply("fatal", payload if isinstance(error, Exception) else b"", text)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # torch raises a RuntimeError, on the CPU and on a GPU.
    texts = ("can't allocate memory", "out of memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )
