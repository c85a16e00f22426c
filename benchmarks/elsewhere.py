"""What a build costs on a cluster, and from and to a bucket, and whether it is the same to the byte.

    python -m benchmarks.elsewhere --out FOLDER [--times 3]

The catalogue of `stemloom demo` is built in turns: by `LocalEngine` with two workers, on a Ray cluster of one node
with two CPUs, on one of three nodes with a CPU each (extra ``cluster``), and by `LocalEngine` from a bucket to a
bucket of a store on this machine (extra ``cloud`` and rclone): where nothing had been staged, where all objects had
been, and where nothing was left to do. Details of the rejected table name addresses there, all else must be equal
to the byte. Each time is divided by that of the local build of the same turn; the table, which goes to
FOLDER/elsewhere.md, has the medians. Starting and ending clusters and stores is not counted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from builders.catalog import CatalogBuilder
from builders.demo import write_demo_catalog
from builders.engine import LocalEngine
from builders.publishing import published
from builders.recipe import CatalogRecipe
from builders.stage import Engine
from manifests.staging import fetched
from manifests.tables import read_table
from tests.bucket_server import serving, using
from tests.builders.small_catalog import contents

_NODES = {"Ray, 1 node with 2 CPUs": [2], "Ray, 3 nodes with 1 CPU each": [1, 1, 1]}


def built(music: Path | str, out: Path | str, engine: Engine) -> float:
    """Seconds that a build takes, its download and upload included."""
    begin = time.monotonic()
    with published(str(out)) as folder:
        CatalogBuilder(folder, CatalogRecipe(), engine).build(fetched(str(music)))
    return time.monotonic() - begin


@contextmanager
def cluster(cpus: list[int]) -> Iterator[Engine]:
    """A Ray cluster on this machine, its nodes' workers not started yet."""
    import ray
    from ray.cluster_utils import Cluster

    from builders.cluster import RayEngine

    os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
    nodes = Cluster()
    try:
        for number in cpus:
            nodes.add_node(
                num_cpus=number, memory=6_000_000_000, object_store_memory=100_000_000, include_dashboard=False
            )
        engine = RayEngine(nodes.address)
        engine.connect()
        yield engine
    finally:
        ray.shutdown()
        nodes.shutdown()


def turn(music: Path, folder: Path) -> Iterator[tuple[str, float]]:
    """Each way, and how long it took; what differs from the local build is an error."""
    local = LocalEngine(2)
    yield "local, 2 workers", built(music, folder / "local", local)
    expected = contents(folder / "local")
    yield "local, nothing left to do", built(music, folder / "local", local)
    for number, (name, cpus) in enumerate(_NODES.items()):
        with cluster(cpus) as engine:
            yield name, built(music, folder / f"ray-{number}", engine)
        _same(contents(folder / f"ray-{number}"), expected, name)
    with serving(folder) as bucket, using(bucket, folder / "cache"):
        shutil.copytree(music, bucket.folder / "music")
        for name, out in (
            ("bucket, nothing staged", "first"),
            ("bucket, all staged", "second"),
            ("bucket, nothing left to do", "second"),
        ):
            yield name, built("s3://bucket/music", f"s3://bucket/{out}", local)
            _same(contents(bucket.folder / out), expected, name, spared=(".published", "rejected.parquet"))
            tables = [
                read_table(home, "rejected").drop(columns="detail")
                for home in (bucket.folder / out, folder / "local")
            ]
            pd.testing.assert_frame_equal(*tables)


def _same(found: dict[str, bytes], expected: dict[str, bytes], name: str, spared: Collection[str] = ()) -> None:
    names = (found.keys() | expected.keys()) - set(spared)
    different = sorted(key for key in names if found.get(key) != expected.get(key))
    if different:
        raise SystemExit(f"{name}: differs from the local build in {different}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    music = write_demo_catalog(options.out / "demo").library
    built(music, options.out / "warm", LocalEngine(0))  # imports, and what compiles itself
    ratios: dict[str, list[float]] = defaultdict(list)
    for number in range(options.times):
        base = 0.0
        for name, seconds in turn(music, options.out / f"turn-{number}"):
            base = base or seconds
            ratios[name].append(seconds / base)
            print(f"{name}: {seconds:.1f} s, {seconds / base:.2f}", flush=True)
        shutil.rmtree(options.out / f"turn-{number}")
    lines = ["| | of the local build's time |", "|---|--:|"]
    lines += [
        f"| {name} | {statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f}) |"
        for name, each in ratios.items()
    ]
    text = "\n".join([*lines, "", f"load {os.getloadavg()[0]:.1f}, {options.times} turns; all bytes equal", ""])
    (options.out / "elsewhere.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
