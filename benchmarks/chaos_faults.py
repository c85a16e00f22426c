"""Kinds of faults that `benchmarks.chaos` lets happen to a build, each a real one.

A kind is a function: it starts a build, lets something happen to it, waits until the build has ended, and takes
the cause away again. What it returns says what must hold then: `MISSED`, nothing has happened; `STOPPED`, the same
command must heal it; `ENDED`, the result must be whole already.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from benchmarks.chaos_builds import HOME, ITEM_S, Build, Running, Starter

Struck: TypeAlias = Literal["missed", "stopped", "ended"]
MISSED: Struck = "missed"
STOPPED: Struck = "stopped"
ENDED: Struck = "ended"

_PAGE = 4096
_DAY_S = 86_400
_REFUSAL = "another build (pid "
_FULL = "free some space, then run the same command again: it resumes"


_ENDS = {signal.SIGINT: [130], signal.SIGTERM: [143, -signal.SIGTERM], signal.SIGKILL: [-signal.SIGKILL]}
"""Exit codes; a SIGTERM may come before or after the command has its handler."""


class Wrong(Exception):
    """A build did something else than it should, besides what its result shows."""


class Impossible(Exception):
    """This machine cannot have the fault: the message says why."""


@dataclass
class Scene:
    """A build in an empty folder, and chance.

    Attributes
    ----------
    build : Build
    home : Path
        All sources.
    out : Path
        The build folder.
    rng : np.random.Generator
    starter : Starter
    lasts_s : float
        What the undisturbed build takes from its lock to its end.
    landmarks : list of str
        Files that the undisturbed build leaves, results in its cache included.
    jobs : int
        Worker processes; some kinds need one.
    env : dict
        Of every process of the build.
    address : str
        What --out says, where it is a URL.
    last : contextlib.ExitStack
        What is undone after the round.
    """

    build: Build
    home: Path
    out: Path
    rng: np.random.Generator
    starter: Starter
    lasts_s: float
    landmarks: list[str]
    jobs: int
    env: dict[str, str] = field(default_factory=dict)
    address: str = ""
    flags: tuple[str, ...] = ()
    resources: dict[str, Any] = field(default_factory=dict)
    last: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def start(self, env: dict[str, str] | None = None, *, jobs: int | None = None) -> Running:
        """Start the build, as a new interpreter if it needs an environment of its own."""
        command = self.build.command(self.home, self.address or str(self.out), self.jobs if jobs is None else jobs)
        return self.starter.start([*command, *self.flags], self.out, {**self.env, **(env or {})}, fresh=bool(env))

    def at_a_moment(self, running: Running) -> bool:
        """Wait for a moment of its work: some time after it has begun, or when some file has appeared."""
        if not running.until(running.has_claimed):
            return False
        if self.rng.random() < 0.5:
            end = time.monotonic() + self.rng.uniform(0, self.lasts_s)
            return running.until(lambda: time.monotonic() > end)
        landmark = self.out / self.landmarks[self.rng.integers(len(self.landmarks))]
        return running.until(landmark.exists)


def driver_killed(scene: Scene, number: signal.Signals) -> Struck:
    """Once to three times in a row."""
    struck: Struck = MISSED
    for _ in range(scene.rng.integers(1, 4)):
        running = scene.start()
        if not scene.at_a_moment(running):
            running.wait()
            break
        running.signal_all(number) if number == signal.SIGINT else running.signal(number)
        code = running.wait()
        if code == 0:
            break  # it came too late
        # when all is written and the interpreter goes down, SIGINT has no handler any more
        results = [scene.out / name for name in scene.landmarks if not name.startswith(".")]
        is_late = code == -number and all(path.exists() for path in results)
        if code not in _ENDS[number] and not is_late:
            raise Wrong(f"exit code {code} after {number.name}: {running.said()[-2000:]}")
        struck = STOPPED
    return struck


def worker_killed(scene: Scene, number: signal.Signals) -> Struck:
    """One of the workers, once: its item is run again."""
    running = scene.start(jobs=max(1, scene.jobs))
    if not scene.at_a_moment(running) or not running.until(running.workers):
        running.wait()
        return MISSED
    workers = running.workers()
    struck: Struck = MISSED
    with contextlib.suppress(ProcessLookupError, ValueError):
        os.kill(int(scene.rng.choice(workers)), number)
        struck = ENDED
    return struck if _well(running) else STOPPED


def node_killed(scene: Scene) -> Struck:
    """One of the two nodes of a Ray cluster that have room for workers."""
    cluster = _cluster(scene.resources)
    lost = cluster.add_node(num_cpus=1, memory=4_000_000_000, object_store_memory=80_000_000)
    scene.flags = ("--engine", "ray", "--ray-address", cluster.address)
    running = scene.start(jobs=2)
    is_at_work = scene.at_a_moment(running)
    cluster.remove_node(lost, allow_graceful=False)
    _well(running)
    scene.flags = ()
    return ENDED if is_at_work else MISSED


def _cluster(resources: dict[str, Any]) -> Any:
    """A head that runs nothing and a node with one CPU, for all rounds."""
    if "cluster" not in resources:
        try:
            from ray.cluster_utils import Cluster
        except ImportError as error:
            raise Impossible("Ray is not installed") from error
        os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
        nodes = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80_000_000},
        )
        nodes.add_node(num_cpus=1, memory=4_000_000_000, object_store_memory=80_000_000)
        resources["cluster"] = nodes
        resources["last"].callback(nodes.shutdown)
    return resources["cluster"]


def disk_full(scene: Scene) -> Struck:
    """A disk of random size, enlarged when the build has ended."""
    disk = scene.out.parent / "disk"
    disk.mkdir()
    size_kb = int(np.exp(scene.rng.uniform(np.log(16), np.log(4000))))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        raise Impossible("only root can mount a small disk, and not everywhere")
    scene.last.callback(subprocess.run, ["umount", "-l", str(disk)], check=True)
    scene.out = disk / "out"
    running = scene.start()
    code = running.wait()
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    if code == 0:
        return MISSED
    if _FULL not in _unwrapped(running.said()):
        raise Wrong(f"a full disk, and the build says: {running.said()[-2000:]}")
    return STOPPED


def read_error(scene: Scene) -> Struck:
    """One read of one source, or of one file that an interrupted build has left, fails."""
    library = _preloaded(scene.resources["folder"])
    victims = _files(scene.home / scene.build.sources) if scene.build.sources else []
    if not victims or scene.rng.random() < 0.5:
        driver_killed(scene, signal.SIGKILL)
        victims = [path for path in _files(scene.out) if path.name != ".lock"] or victims
    if not victims:
        return STOPPED  # before it had written anything
    victim = victims[scene.rng.integers(len(victims))]
    mark = scene.out.parent / "struck"
    running = scene.start(
        {
            "LD_PRELOAD": str(library),
            "CHAOS_PATH": str(victim),
            "CHAOS_NTH": str(int(np.exp(scene.rng.uniform(0, np.log(40))))),
            "CHAOS_MARK": str(mark),
        }
    )
    code = running.wait()
    if "Traceback" in running.said():
        raise Wrong(f"{victim}: a read that fails is a bug to the build: {running.said()[-3000:]}")
    return STOPPED if mark.exists() or code else MISSED


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


@functools.cache
def _preloaded(folder: Path) -> Path:
    if sys.platform != "linux" or shutil.which("gcc") is None:
        raise Impossible("needs Linux and gcc")
    library = folder / "chaos_preload.so"
    source = HOME / "benchmarks" / "chaos_preload.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def torn(scene: Scene) -> Struck:
    """Files of a build that was killed, or has ended, lose their tails or hold pages of zeros."""
    if scene.rng.random() < 0.5:
        driver_killed(scene, signal.SIGKILL)
    else:
        scene.start().wait()
    # a recipe that cannot be read is refused by its name: whose the folder is, a person must say
    spared = (".lock", "recipe.json")
    files = [path for path in _files(scene.out) if path.name not in spared]
    for index in scene.rng.permutation(len(files))[: scene.rng.integers(1, 5)]:
        _tear(files[index], scene.rng)
    return STOPPED


def _tear(path: Path, rng: np.random.Generator) -> None:
    data = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        del data[int(rng.integers(len(data) + 1)) :]
    elif data:
        page = int(rng.integers(-(-len(data) // _PAGE))) * _PAGE
        data[page : page + _PAGE] = bytes(len(data[page : page + _PAGE]))
    path.unlink()  # the file may be linked to a source, which no crash of this build can tear
    path.write_bytes(data)


def two_builds(scene: Scene) -> Struck:
    """The same command a second time while the first one works."""
    first = scene.start()
    if not first.until(first.has_claimed):
        first.wait()
        return MISSED
    second = scene.start()
    code = second.wait()
    if first.code() is not None:
        return MISSED
    if code != 1 or _REFUSAL not in _unwrapped(second.said()):
        first.kill_all()
        raise Wrong(f"a second build ends with {code} and says: {second.said()[-2000:]}")
    _well(first)
    return ENDED


def clock_jumps(scene: Scene) -> Struck:
    """The clock is 3 days ahead, jumps while the build works, and is 10 years late when it goes on."""
    clock = scene.out.parent / "clock"
    _set_clock(clock, 3 * _DAY_S)
    env = {"LD_PRELOAD": str(_preloaded(scene.resources["folder"])), "CHAOS_CLOCK": str(clock)}
    running = scene.start(env)
    jumps = scene.at_a_moment(running)
    _set_clock(clock, int(scene.rng.choice([-3650, 30])) * _DAY_S)
    if jumps and scene.rng.random() < 0.5 and scene.at_a_moment(running):
        running.signal(signal.SIGKILL)
        running.wait()
        _set_clock(clock, -3650 * _DAY_S)
        running = scene.start(env)
    _well(running)
    return ENDED if jumps else MISSED


def _set_clock(path: Path, ahead_s: int) -> None:
    """In place: the file is mapped."""
    with path.open("r+b" if path.exists() else "wb") as file:
        file.write(ahead_s.to_bytes(8, "little", signed=True))


def sleep(scene: Scene) -> Struck:
    """All processes stop for longer than an item may take."""
    running = scene.start(jobs=max(1, scene.jobs))
    if not scene.at_a_moment(running):
        running.wait()
        return MISSED
    running.signal_all(signal.SIGSTOP)
    time.sleep(1.5 * ITEM_S)
    running.signal_all(signal.SIGCONT)
    _well(running)
    return ENDED


def store_fails(scene: Scene) -> Struck:
    """The object store resets, refuses, cuts off and is slow, at random; the build may be killed as well."""
    proxy = scene.resources["proxy"]
    rng = np.random.default_rng(scene.rng.integers(1 << 32))
    share, struck = scene.rng.choice([0.02, 0.1, 0.3]), []

    def answer(method: str, path: str) -> str | None:
        if rng.random() > share:
            return None
        how = str(rng.choice(["500", "503", "reset", "cut", "slow"]))
        struck.append(how)
        if how == "slow":
            time.sleep(rng.uniform(0.1, 2))
            return None
        return how

    proxy.answer = answer
    try:
        running = scene.start()
        if scene.rng.random() < 0.3 and scene.at_a_moment(running):
            running.signal(signal.SIGKILL)
            running.wait()
            return STOPPED
        code = running.wait()
        if "Traceback" in running.said():
            raise Wrong(f"an error of the store is a bug to the build: {running.said()[-3000:]}")
        if code == 0 and struck:
            return ENDED
    finally:
        proxy.answer = lambda method, path: None
    return STOPPED if struck else MISSED


def _well(running: Running) -> bool:
    """Wait for an end that must be a good one."""
    code = running.wait()
    if code:
        raise Wrong(f"exit code {code}: {running.said()[-3000:]}")
    return True


def _unwrapped(said: str) -> str:
    """Without the lines that a terminal's width makes."""
    return " ".join(said.split())


@dataclass(frozen=True)
class Kind:
    """A kind of fault, the builds that it can happen to, and how often it is drawn."""

    happens: Callable[[Scene], Struck]
    builds: tuple[str, ...]
    weight: float = 1.0


_ALL = ("catalog", "catalog", "curate", "mixtures", "join")

KINDS = {
    "driver SIGKILL": Kind(functools.partial(driver_killed, number=signal.SIGKILL), _ALL, 2),
    "driver SIGINT": Kind(functools.partial(driver_killed, number=signal.SIGINT), _ALL),
    "driver SIGTERM": Kind(functools.partial(driver_killed, number=signal.SIGTERM), _ALL),
    "worker SIGKILL": Kind(functools.partial(worker_killed, number=signal.SIGKILL), _ALL),
    "worker SIGSEGV": Kind(functools.partial(worker_killed, number=signal.SIGSEGV), _ALL),
    "Ray node": Kind(node_killed, ("catalog",), 0.25),
    "disk full": Kind(disk_full, _ALL),
    "read error": Kind(read_error, _ALL, 2),
    "torn files": Kind(torn, _ALL, 2),
    "two builds": Kind(two_builds, _ALL),
    "clock jumps": Kind(clock_jumps, ("catalog", "timed", "mixtures")),
    "sleep": Kind(sleep, ("timed",), 0.5),
    "object store": Kind(store_fails, ("bucket",)),
}
