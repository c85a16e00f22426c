"""The builds that `benchmarks.chaos` disturbs, and the process that starts them.

    python -m benchmarks.chaos_builds

reads orders, lines of JSON, and answers each: `{"start": [PROGRAM, ARGUMENT, ...], "env": {...}, "fresh": BOOL,
"errors": PATH}` starts a build, in a session of its own, and answers with its process id; `{"poll": PID}` answers
with its exit code, or null. A build is forked from this process, which has imported everything, so that random
moments fall into the work and not into imports; a fresh one is a new interpreter, with libraries preloaded.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HOME = Path(__file__).parents[1]
PATIENCE_S = 300.0
ITEM_S = 15.0
"""What one item of the catalogue `timed` may take."""

_KEYS = {
    "stems": ("song_id", "stem"),
    "pairs": ("pair_id",),
    "tracks": ("path",),
    "rejected": ("path", "stage", "reason", "detail"),
    "mixtures": ("mixture_id", "event"),
    "clips": ("clip_id",),
}
"""What tells the rows of a table from each other."""


@dataclass(frozen=True)
class Build:
    """A command that is disturbed.

    Attributes
    ----------
    arguments : callable
        From the folder with all sources, and --out, to the command.
    sources : str
        The folder with what it reads, below that of all sources; empty where only cached files are of interest.
    """

    arguments: Callable[[Path, str], list[str]]
    sources: str = ""

    def command(self, home: Path, out: str, jobs: int) -> list[str]:
        """The whole command."""
        return [*self.arguments(home, out), "--jobs", str(jobs)]


def _catalog(*flags: str) -> Callable[[Path, str], list[str]]:
    def arguments(home: Path, out: str) -> list[str]:
        return ["stemloom", "build", "catalog", str(home / "music"), "--out", out, "--min-song-s", "5", *flags]

    return arguments


def _curate(home: Path, out: str) -> list[str]:
    return ["stemloom", "curate", str(home / "corpus"), "--out", out, "--min-grade", "D", "--clip-s", "2"]


def _mixtures(home: Path, out: str) -> list[str]:
    mix, sounds = str(home / "mix.yaml"), str(home / "sounds")
    return ["stemloom", "build", "universal", mix, "--from", sounds, "--out", out, "--num", "8", "--jams"]


def _bucket(home: Path, out: str) -> list[str]:
    return ["stemloom", "build", "catalog", "s3://bucket/music", "--out", out, "--min-song-s", "5"]


BUILDS = {
    "catalog": Build(_catalog(), "music"),
    "timed": Build(_catalog("--max-item-s", str(ITEM_S)), "music"),
    "curate": Build(_curate, "corpus"),
    "mixtures": Build(_mixtures, "sounds"),
    "join": Build(lambda home, out: ["join", str(home / "prints.npz"), "--out", out]),
    "bucket": Build(_bucket, "music"),
}


def write_sources(home: Path, names: Sequence[str]) -> None:
    """Write what some builds read, small enough for a build to take seconds."""
    from builders.catalog import CatalogBuilder
    from builders.recipe import CatalogRecipe
    from tests.builders.small_catalog import MIN_SONG_S, write_catalog
    from tests.builders.small_mixtures import mix_recipe, sound_corpus

    music = write_catalog(home / "music", 0, 1)
    (music / "broken.flac").write_bytes(b"fLaC and then nothing")
    if "curate" in names:
        CatalogBuilder(home / "corpus", CatalogRecipe(min_song_s=MIN_SONG_S), jobs=0).build(music)
    if "mixtures" in names:
        sound_corpus(home / "sounds")
        (home / "mix.yaml").write_text(json.dumps(mix_recipe().model_dump(mode="json")))
    if "join" in names:
        from benchmarks.fingerprints import Catalogue

        drawn = Catalogue(512, labelled=0.2, seed=1).chunk(0)[:180]
        ids, labelled, items = zip(*drawn, strict=True)
        ends = np.cumsum([len(one) for one in items])
        np.savez(home / "prints.npz", ids=ids, labelled=labelled, ends=ends, items=np.concatenate(items))


def join(prints: Path, out: Path, jobs: int) -> None:
    """Three arrivals of drawn fingerprints, each joined with what was there; the pairs in a file."""
    import builders.join
    from builders.engine import LocalEngine
    from builders.join import JoinSettings, PrintJoin
    from builders.prints import Print, opened_store
    from manifests.files import replacing
    from manifests.lock import BuildLock

    builders.join._FEW_ITEMS = 0  # a few are joined as millions are, by workers
    with np.load(prints, allow_pickle=False) as file:
        ids, labelled = file["ids"].tolist(), file["labelled"].tolist()
        items = np.split(file["items"], file["ends"][:-1])
    tracks = [Print(*one) for one in zip(ids, labelled, items, strict=True)]
    with BuildLock(out):
        (out / "pairs.csv").unlink(missing_ok=True)
        store = opened_store(out / ".cache" / "prints")
        for end in (100, 120, len(tracks)):
            missing = store.missing(ids[:end])
            store = store.add(one for one in tracks[:end] if one.track_id in missing)
            engine = LocalEngine(jobs)
            found = PrintJoin(store.folder, engine, JoinSettings(min_votes=2), workers=max(1, jobs)).run()
        pairs = found.pairs
        columns = (store.ids[pairs.a], store.ids[pairs.b], pairs.votes, pairs.offset_items, found.bit_error_rates)
        rows = sorted(zip(*(column.tolist() for column in columns), strict=True))
        with replacing(out / "pairs.csv") as written:
            written.writelines(f"{','.join(map(str, row))}\n".encode() for row in rows)


@dataclass(frozen=True)
class Result:
    """What a build has left in its folder."""

    files: Mapping[str, bytes]
    rows: Mapping[str, Counter[tuple[Any, ...]]]
    facts: Mapping[str, Any]
    temporary: tuple[str, ...]

    @classmethod
    def of(cls, out: Path) -> Result:
        from manifests.files import TEMPORARY_PREFIX
        from manifests.tables import read_table
        from tests.builders.small_catalog import contents

        files = {
            name: data
            for name, data in contents(out).items()
            # what the store keeps for itself of an upload that was cut off is no object
            if name != ".published" and not Path(name).name.startswith(".rclone_temp_put")
        }
        rows: dict[str, Counter[tuple[Any, ...]]] = {}
        for name, keys in _KEYS.items():
            if f"{name}.parquet" in files:
                table = read_table(out, name)
                there = [key for key in keys if key in table]
                rows[name] = Counter(map(tuple, table[there].astype(str).to_numpy().tolist()))
        if "pairs.csv" in files:
            rows["pairs"] = Counter(tuple(row.split(",")[:2]) for row in files["pairs.csv"].decode().splitlines())
        run = json.loads((out / "run.json").read_text()) if (out / "run.json").exists() else {}
        left = [path for path in out.rglob(f"{TEMPORARY_PREFIX}*") if path.parent != out / ".cache" / "prints"]
        return cls(
            files,
            rows,
            {name: fact for name, fact in run.items() if name != "wall_s"},
            tuple(str(path.relative_to(out)) for path in left),
        )

    def against(self, whole: Result) -> tuple[int, int, list[str]]:
        """Rows lost, rows too many, and what else differs from an undisturbed result."""
        lost = more = 0
        for name in whole.rows.keys() | self.rows.keys():
            expected, found = whole.rows.get(name, Counter()), self.rows.get(name, Counter())
            lost, more = lost + (expected - found).total(), more + (found - expected).total()
        names = sorted(whole.files.keys() | self.files.keys())
        different = [name for name in names if whole.files.get(name) != self.files.get(name)]
        different += [f"run.json: {name}" for name in whole.facts if whole.facts[name] != self.facts.get(name)]
        return lost, more, different + [f"left: {name}" for name in self.temporary]


class Running:
    """A build that was started."""

    def __init__(self, starter: Starter, pid: int, out: Path, errors: Path) -> None:
        self.starter, self.pid, self.out, self.errors = starter, pid, out, errors
        self._code: int | None = None

    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        if self._code is None:
            self._code = self.starter.ask(poll=self.pid)
        return self._code

    def until(self, condition: Callable[[], object], limit_s: float = PATIENCE_S) -> bool:
        """Wait until a condition holds; False when the build has ended before, or the time is up."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            if self.code() is not None:
                return False
            if condition():
                return True
            time.sleep(0.005)
        return False

    def wait(self) -> int:
        """Its exit code when it has ended; one that does not is killed."""
        self.until(lambda: False)
        if self.code() is None:
            self.kill_all()
            raise TimeoutError(f"the build has not ended in {PATIENCE_S:g} s")
        return self.code() or 0

    def has_claimed(self) -> bool:
        """Whether it holds its folder."""
        with contextlib.suppress(OSError):
            return (self.out / ".lock").read_text().startswith(("{", f"{self.pid}\n"))
        return False

    def signal(self, number: int) -> None:
        """Send a signal to the build alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def signal_all(self, number: int) -> None:
        """Send a signal to it and its workers, as a terminal does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill_all(self) -> None:
        """End it, whatever it does."""
        self.signal_all(signal.SIGKILL)
        while self.code() is None:
            time.sleep(0.01)

    def workers(self) -> list[int]:
        """Its worker processes."""
        found = []
        with contextlib.suppress(OSError):
            for path in Path(f"/proc/{self.pid}/task").glob("*/children"):
                for child in map(int, path.read_text().split()):
                    with contextlib.suppress(OSError):
                        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                            found.append(child)
        return found

    def said(self) -> str:
        """What it printed."""
        return self.errors.read_text(errors="replace")


class Starter:
    """Starts builds; see the module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0
        command = [sys.executable, "-m", "benchmarks.chaos_builds"]
        self._process = subprocess.Popen(
            command, cwd=HOME, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def ask(self, **order: Any) -> Any:
        """Send an order, and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        return json.loads(self._process.stdout.readline())

    def start(
        self, command: Sequence[str], out: Path, env: Mapping[str, str] | None = None, *, fresh: bool = False
    ) -> Running:
        """Start a build whose folder is `out`."""
        self._count += 1
        errors = self.folder / f"{self._count}.log"
        pid = self.ask(start=list(command), env=dict(env or {}), fresh=fresh, errors=str(errors))
        return Running(self, pid, out, errors)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


@contextlib.contextmanager
def starting(folder: Path) -> Iterator[Starter]:
    """A starter, whose builds say in `folder` what they have to say."""
    starter = Starter(folder)
    try:
        yield starter
    finally:
        starter.close()


def _run(program: str, *arguments: str) -> None:
    if program == "join":
        from manifests.errors import StemloomError

        prints, _, out, _, jobs = arguments
        try:
            join(Path(prints), Path(out), int(jobs))
        except StemloomError as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            sys.exit(130)
    else:
        import stemloom

        stemloom.main(arguments)


def _become(start: list[str], env: dict[str, str], fresh: bool, errors: str) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    nowhere = os.open(os.devnull, os.O_RDONLY)
    said = os.open(errors, os.O_WRONLY | os.O_CREAT, 0o644)
    for number, descriptor in enumerate((nowhere, said, said)):
        os.dup2(descriptor, number)
    os.environ.update(env)
    if fresh:
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.chaos_builds", *start])
    _run(*start)


def _serve() -> None:
    for name in ("stemloom", "builders.catalog", "builders.curate", "builders.mixtures", "builders.publishing"):
        importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        if "poll" in order:
            pid, status = os.waitpid(order["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                _become(**order)
                return
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _run(*sys.argv[1:]) if len(sys.argv) > 1 else _serve()
