"""The engine of a Ray cluster: stages run on many machines, with the outcomes that one machine gives.

Needs the extra ``cluster``. What comes back for an item is what the table of `builders.engine` says, since every
worker on every node is a `builders.engine.Bench`, which runs stages as `LocalEngine` does. Ray does the rest: it
finds a place for each worker, brings the stage there, and tells when a worker or its node is lost.

Conventions
-----------
- A worker is a Ray actor that holds what its stage `Needs` as ``num_cpus``, ``num_gpus`` and ``memory``, and lives
  until there is nothing more to do: a stage, which may hold a network, is unpickled once for each worker.
- Workers are asked for as long as items wait, more than there are places for: those that find none stand in Ray's
  queue until a node joins, and an autoscaler sees them there. Items are given to workers that have started, so that
  none stands in the queue with them.
- At most as many items wait as are at work (and `_STARTING`), so that memory does not grow with their number.
- An item that ends its process is run once more, in a new process on the same node, and then is a "crash". An item
  whose worker is lost with it (the node died, or Ray ended the worker because the node was short of memory) was not
  at fault as far as one can tell: the next free worker gets it. Only one that has lost `_MAX_LOSSES` workers is a
  "crash": what fills the memory of each node that it comes to must find an end. Ray's own retries would keep such
  an item for a worker that is started again, which on a full cluster finds no place until all others are done.
- A node takes part if it has the versions of `builders.versions` and sees the folders of the run. If it does not,
  the run ends and says so: songs that it cannot find would be taken for broken ones.

References
----------
https://docs.ray.io/en/latest/ray-core/fault-tolerance.html
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import socket
import sys
import sysconfig
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from builders.engine import LITTLE, Bench, Failure, LocalEngine, Needs, Outcome
from builders.versions import versions
from manifests.errors import BuildError, RecipeError

__all__ = ["RayEngine"]

Item = TypeVar("Item")
Result = TypeVar("Result")

log = logging.getLogger(__name__)

_POLL_S, _ANSWER_S = 5.0, 10.0
_STARTING = 4
_SAME_MODE = "and the same RAY_AUTH_MODE, 'token' or 'disabled'"
_MAX_LOSSES = 4
_MAX_FAILED_STARTS = 3


@dataclass(frozen=True)
class RayEngine:
    """Runs stages in worker processes on the nodes of a Ray cluster.

    The connection is made when it is first needed, is that of the whole process, and ends with it, or with
    ``ray.shutdown()``. One that is there already is used.

    Parameters
    ----------
    address : str or None
        Of the cluster: ``HOST:6379`` as `ray start` says it, ``auto`` for the one that this machine is a node of,
        ``local`` for a new one on this machine alone, which ends with the process. None: what RAY_ADDRESS names, or
        the one of this machine, or a new one.
    jobs : int >= 1 or None
        Workers at once, at most. None: as many as the cluster has room for.
    timeout_s, max_memory_bytes
        As for `LocalEngine`. The memory is also what a place for a worker must have free.

    Raises
    ------
    RecipeError
        A number below its range, or an address of Ray Client.
    """

    address: str | None = None
    jobs: int | None = None
    timeout_s: float | None = None
    max_memory_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise RecipeError(
                f"--jobs is {self.jobs}; a cluster has at least 1 worker: leave it out for all that it has room for"
            )
        if (self.address or "").startswith("ray://"):
            raise RecipeError(
                f"--ray-address '{self.address}': Ray Client is not supported; run this on a node of the cluster, "
                "with 'auto' or HOST:6379"
            )
        self._bench_engine()

    def _bench_engine(self) -> LocalEngine:
        return LocalEngine(1, self.timeout_s, self.max_memory_bytes)

    def run(
        self, stage: Callable[[Item], Result], items: Iterable[tuple[str, Item]], needs: Needs = LITTLE
    ) -> Iterator[Outcome[Result]]:
        """Run a stage over items.

        Closing the iterator, or an exception in the loop over it (Ctrl-C included), stops the workers.

        Parameters
        ----------
        stage : callable
            A pure function from one item to one result, of a module that every node can import.
        items : iterable of (str, Item)
            Keys and items, taken as they are needed.
        needs : Needs
            Of one worker.

        Yields
        ------
        Outcome
            One for each item, in the order of completion.

        Raises
        ------
        BuildError
            Raised by the stage; or the cluster does not answer, a node is not fit to take part, or workers
            cannot be started.
        RecipeError
            Raised by the stage.
        Exception
            Any other exception of the stage, with a note that holds the key and the worker's traceback.
        """
        crew: _Crew[Result] = _Crew(self, pickle.dumps(stage), iter(items), needs)
        try:
            yield from crew.outcomes()
        finally:
            crew.stop()

    def connect(self) -> None:
        """Connect this process to the cluster, if it is not.

        Raises
        ------
        BuildError
            There is none at the address.
        """
        if ray.is_initialized():
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        address = self.address or os.environ.get("RAY_ADDRESS", "")
        host, _, port = address.rpartition(":")
        try:
            if host and port.isdecimal():  # Ray would try for a minute, deaf to signals
                socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
            with _own_sigterm():
                ray.init(self.address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, RuntimeError) as error:
            raise BuildError(
                f"no Ray cluster answers at {address or 'the address that was found'} ({str(error).rstrip('. ')}); "
                "run 'ray start --head' on one machine, 'ray start --address HOST:6379' on others, and this on one "
                f"of them, {_SAME_MODE}"
            ) from error


@dataclass(frozen=True)
class _Task:
    key: str
    item: bytes
    losses: int = 0


@dataclass
class _Crew(Generic[Result]):
    """The state of one run."""

    engine: RayEngine
    stage: bytes
    items: Iterator[tuple[str, Any]]
    needs: Needs
    waiting: deque[_Task] = field(default_factory=deque)
    starting: dict[ray.ObjectRef[Any], Any] = field(default_factory=dict)
    idle: list[Any] = field(default_factory=list)
    busy: dict[ray.ObjectRef[Any], tuple[Any, _Task]] = field(default_factory=dict)
    make: Callable[[], Any] | None = None
    failed_starts: int = 0
    was_told: bool = False

    def outcomes(self) -> Iterator[Outcome[Result]]:
        while self.fill():
            done, _ = ray.wait([*self.busy, *self.starting], timeout=_POLL_S)
            if not done:
                self.tell_of_no_place()
            found = [self.collect(ref) for ref in done]
            self.fill()  # now, so that the workers go on while the caller deals with what was found
            yield from (outcome for outcome in found if outcome is not None)

    def stop(self) -> None:
        for worker in (*self.starting.values(), *self.idle, *(worker for worker, _ in self.busy.values())):
            _dismiss(worker)

    def fill(self) -> bool:
        """Hand out items, and ask for workers. False when everything is done."""
        while self.idle and self.take(1):
            worker, task = self.idle.pop(), self.waiting.popleft()
            self.busy[worker.run.remote(task.key, task.item)] = worker, task
        while len(self.starting) < self.most_starting() and self.take(len(self.starting) + 1):
            worker = self.new_worker()
            self.starting[worker.prepare.remote()] = worker
        if not self.take(1):  # their places are for others
            for worker in (*self.idle, *self.starting.values()):
                _dismiss(worker)
            self.idle.clear()
            self.starting.clear()
        return bool(self.busy or self.waiting)

    def most_starting(self) -> int:
        most = max(_STARTING, len(self.busy))
        if self.engine.jobs is None:
            return most
        return min(most, self.engine.jobs - len(self.busy) - len(self.idle))

    def take(self, number: int) -> bool:
        """Have so many items wait. False if there are fewer."""
        while len(self.waiting) < number:
            for key, item in self.items:
                self.waiting.append(_Task(key, pickle.dumps(item)))
                break
            else:
                return False
        return True

    def new_worker(self) -> Any:
        if self.make is None:
            self.engine.connect()
            self.make = _maker(self.stage, self.engine, self.needs)
        return self.make()

    def collect(self, ref: ray.ObjectRef[Any]) -> Outcome[Result] | None:
        """Return the outcome of a worker's item if there is one; the worker is free then, or was lost."""
        worker, task = self.busy.pop(ref, (None, None))
        worker = worker or self.starting.pop(ref)
        try:
            outcome: Outcome[bytes] | None = ray.get(ref)
        except RayTaskError as error:
            _dismiss(worker)
            raise error.cause from None
        except RayError as error:
            _dismiss(worker)
            return self.bury(task, error)
        self.failed_starts = 0
        self.idle.append(worker)
        if outcome is None:
            return None
        result = None if outcome.result is None else pickle.loads(outcome.result)
        return Outcome(outcome.key, result, outcome.error)

    def bury(self, task: _Task | None, error: RayError) -> Outcome[Result] | None:
        if task is not None:
            task = replace(task, losses=task.losses + 1)
            log.warning("item %r has lost its worker: %s", task.key, error)
            if task.losses < _MAX_LOSSES:
                self.waiting.appendleft(task)
                return None
            detail = f"lost {task.losses} workers, each with its node or because the node was short of memory"
            return Outcome(task.key, None, Failure("crash", detail))
        self.failed_starts += 1
        if self.failed_starts >= _MAX_FAILED_STARTS:
            raise BuildError(
                f"workers cannot be started on the cluster, {self.failed_starts} times in a row "
                f"({_first_line(error)}); every node needs stemloom, in an environment with the same versions, "
                f"{_SAME_MODE}"
            ) from error
        return None

    def tell_of_no_place(self) -> None:
        """Say so if no node could ever hold a worker, however long it waits."""
        if self.busy or self.was_told:
            return
        wanted = _resources(self.engine, self.needs)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        if not any(all(node.get(name, 0) >= number for name, number in wanted.items()) for node in nodes):
            self.was_told = True
            log.warning(
                "no node of the cluster has %s for a worker (--max-worker-memory says how much memory): waiting "
                "for one that has",
                ", ".join(
                    f"{number / 1e9:g} GB of memory" if name == "memory" else f"{number:g} {name}"
                    for name, number in wanted.items()
                    if number
                ),
            )


def _resources(engine: RayEngine, needs: Needs) -> dict[str, float]:
    """What a worker takes of its node, as Ray calls it."""
    return {"CPU": needs.cpus, "GPU": needs.gpus, "memory": engine.max_memory_bytes or needs.memory_bytes}


def _maker(stage: bytes, engine: RayEngine, needs: Needs) -> Callable[[], Any]:
    """What asks for one more worker. The stage is brought to each node once."""
    wanted = _resources(engine, needs)
    actor = ray.remote(_Worker).options(
        num_cpus=wanted["CPU"],
        num_gpus=wanted["GPU"],
        memory=wanted["memory"],
        runtime_env={"env_vars": environment()},
    )
    shared = ray.put(stage)
    return lambda: actor.remote(shared, engine._bench_engine(), needs.folders, os.getcwd(), versions())


def environment() -> dict[str, str]:
    """What workers know of this process: our settings, and where our packages are if they are not installed."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("STEMLOOM_")}
    home = str(Path(__file__).resolve().parents[1])
    paths = [] if home == sysconfig.get_path("purelib") else [home]
    paths += filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return {**settings, "PYTHONPATH": os.pathsep.join(paths)} if paths else settings


def _dismiss(worker: Any) -> None:
    with contextlib.suppress(RayError):  # it may have gone by itself
        ray.kill(worker, no_restart=True)


class _Worker:
    """The node's side: a bench."""

    def __init__(
        self, stage: bytes, engine: LocalEngine, folders: tuple[str, ...], working: str, wanted: dict[str, str]
    ) -> None:
        self._stage, self._engine = stage, engine
        self._folders, self._working, self._wanted = folders, working, wanted
        self._bench: Bench | None = None

    def prepare(self) -> None:
        """Look whether this node is fit, before it gets an item."""
        here = socket.gethostname()
        for name, version in versions().items():
            if version != self._wanted[name]:
                raise BuildError(
                    f"node {here}: has {name} {version}, and the machine that runs the build {self._wanted[name]}; "
                    "install the same versions on all nodes"
                )
        for folder in self._folders:
            if not _holds_something(folder):
                raise BuildError(
                    f"node {here}: there is nothing in {folder}; mount the same disk at the same path on all nodes"
                )
        with contextlib.suppress(OSError):  # paths may be absolute
            os.chdir(self._working)
        # or the bench's process would load Ray, as the main module of its parent does
        sys.modules["__main__"].__file__ = None
        self._bench = Bench(self._stage, self._engine)

    def run(self, key: str, item: bytes) -> Outcome[bytes]:
        """See `Bench.run`."""
        assert self._bench is not None, "a worker is prepared first"
        return self._bench.run(key, item)


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep what the process does at SIGTERM, if it does something: Ray ends it with a dump of its stack."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    if callable(handler) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


def _holds_something(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(True for _ in entries)
    except OSError:
        return False
