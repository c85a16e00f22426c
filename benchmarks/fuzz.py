"""Damaged and hostile files of every kind that stemloom reads, each tried in a worker of the engine's.

    python -m benchmarks.fuzz --minutes 10 --seed 1 --out fuzz

Seeds are small valid files (`fuzz_targets.py`). Input number `n` of a target depends on the seed and `n` alone: a
few mutations (`fuzz_mutations.py`: flipped bits, bytes taken out or said twice, cuts, splices of two seeds, sizes
that are too large, words of a dictionary; values exchanged where the file is text). A worker has a time-out and a
memory limit, so that a crash of a decoder is an outcome as any. Right outcomes are a value and a `StemloomError`
("rejected"). What is unexpected (another exception: a bug of ours), crashes or takes too long is kept in the folder
`out`, the first input of each kind, cut down where it still does the same. Writes `fuzz.json` and `fuzz.md` there,
and prints the latter.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import os
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.fuzz_mutations import mutated
from benchmarks.fuzz_targets import ROOT, TARGETS
from builders.engine import LocalEngine
from manifests.errors import StemloomError

TIMEOUT_S = 20.0
MEMORY_BYTES = 4_000_000_000


@dataclass(frozen=True)
class Trial:
    """The stage: reads one input; ("value" | "rejected" | "unexpected", what it was)."""

    folder: Path

    def __call__(self, item: tuple[str, bytes]) -> tuple[str, str]:
        name, data = item
        folder = self.folder / str(os.getpid()) / name.replace(".", "-")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_bytes(data)
        try:
            TARGETS[name].check(path)
            return "value", ""
        except StemloomError as error:
            return "rejected", type(error).__name__
        except MemoryError:
            raise
        except Exception as error:
            frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(str(ROOT))]
            place = f"{Path(frames[-1].filename).relative_to(ROOT)}:{frames[-1].lineno}"
            return "unexpected", f"{type(error).__name__} at {place}: {str(error)[:200]}"
        finally:
            path.unlink(missing_ok=True)


@dataclass
class Findings:
    """What came of the inputs of one target."""

    inputs: int = 0
    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    first: dict[str, tuple[str, bytes]] = field(default_factory=dict)


def fuzz(
    names: Sequence[str], seed: int, *, inputs: int | None = None, minutes: float | None = None, jobs: int = 2
) -> dict[str, Findings]:
    """Try `inputs` inputs of each target, or as many as there is time for."""
    seeds = {name: TARGETS[name].seeds() for name in names}
    names = [name for name in names if seeds[name]]
    sent: dict[str, bytes] = {}
    end = time.monotonic() + (minutes or 1e9) * 60

    def items() -> Iterator[tuple[str, tuple[str, bytes]]]:
        for number in itertools.count() if inputs is None else range(inputs):
            for name in names:
                if time.monotonic() > end:
                    return
                rng = np.random.default_rng([seed, *name.encode(), number])
                data = sent[f"{name}/{number}"] = mutated(seeds[name], rng)
                yield f"{name}/{number}", (name, data)

    found = {name: Findings() for name in names}
    with tempfile.TemporaryDirectory() as folder:
        engine = LocalEngine(jobs, TIMEOUT_S, MEMORY_BYTES)
        for outcome in engine.run(Trial(Path(folder)), items()):
            name, data = outcome.key.partition("/")[0], sent.pop(outcome.key)
            if outcome.error is not None:
                kind, detail = outcome.error.kind, outcome.error.detail
            else:
                assert outcome.result is not None
                kind, detail = outcome.result
            found[name].inputs += 1
            found[name].counts[kind] += 1
            if kind not in ("value", "rejected"):
                found[name].first.setdefault(f"{kind}: {detail.partition(': ')[0]}", (detail, data))
    return found


@dataclass(frozen=True)
class Minimise:
    """A stage as well: the input with as much taken away as still does the same."""

    folder: Path

    def __call__(self, item: tuple[str, str, bytes]) -> bytes:
        name, kind, data = item
        trial, size, end = Trial(self.folder), len(data) // 2, time.monotonic() + TIMEOUT_S / 2
        while size and time.monotonic() < end:
            for at in range(0, len(data), size):
                smaller = data[:at] + data[at + size :]
                if trial((name, smaller))[1].partition(": ")[0] == kind:
                    data = smaller
                    break
            else:
                size //= 2
        return data


def minimised(found: dict[str, Findings]) -> None:
    """Cut down what is unexpected; what cannot be stays as it is."""
    items = {
        f"{name}\n{kind}": (name, detail.partition(": ")[0], data)
        for name, findings in found.items()
        for kind, (detail, data) in findings.first.items()
        if kind.startswith("unexpected")
    }
    with tempfile.TemporaryDirectory() as folder:
        for outcome in LocalEngine(2, TIMEOUT_S, MEMORY_BYTES).run(Minimise(Path(folder)), items.items()):
            if outcome.result is not None:
                name, kind = outcome.key.split("\n")
                found[name].first[kind] = (found[name].first[kind][0], outcome.result)


def written(found: dict[str, Findings], out: Path) -> str:
    """Keep the findings, and say what was tried."""
    kinds = ("value", "rejected", "crash", "timeout", "unexpected")
    lines = [
        "| file | inputs | values | rejected | crashes | time-outs | unexpected |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    record = {}
    for name, findings in found.items():
        lines.append(
            f"| `{name}` | {findings.inputs} | {' | '.join(str(findings.counts[kind]) for kind in kinds)} |"
        )
        kept = {}
        for number, (kind, (detail, data)) in enumerate(findings.first.items()):
            place = out / f"{Path(name).stem}-{Path(name).suffix[1:]}" / f"{number}{Path(name).suffix}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
            kept[str(place.relative_to(out))] = f"{kind.partition(':')[0]}: {detail}"
        record[name] = {"inputs": findings.inputs, **{kind: findings.counts[kind] for kind in kinds}, "kept": kept}
    totals = [sum(row[kind] for row in record.values()) for kind in ("inputs", *kinds)]
    lines.append(f"| all | {' | '.join(map(str, totals))} |")
    out.mkdir(parents=True, exist_ok=True)
    (out / "fuzz.json").write_text(json.dumps(record, indent=1))
    (out / "fuzz.md").write_text(text := "\n".join(lines) + "\n")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--targets", default=",".join(TARGETS), help="names of files, with commas")
    parser.add_argument("--out", type=Path, default=Path("fuzz"))
    options = parser.parse_args()
    found = fuzz(options.targets.split(","), options.seed, minutes=options.minutes, jobs=options.jobs)
    minimised(found)
    print(written(found, options.out))


if __name__ == "__main__":
    main()
