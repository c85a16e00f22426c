"""Builds that are killed, for the tests of faults; in a module of its own, to be run as a process.

    python -m tests.builders.mortal_builds FOLDER

reads lines of JSON, `["random", MUSIC, OUT]` (a build killed ten times, at random moments) or `["renames", MUSIC,
OUT]` (killed whenever a file is to get its name), and answers each with what it saw. The builds are forked from
this process, which has imported everything, so that the moments fall into the work and not into the imports.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from builders.scan import FoundFile, survey_file
from builders.stage import Product
from tests.builders.small_catalog import build, write_pair


def survey_or_die(victim: str, file: FoundFile) -> Product:
    """Survey a file, but for one, which ends the process as the system's out-of-memory killer would."""
    if file.path == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    return survey_file(file)


def killed_at_random(music: Path, out: Path, lasts_s: float) -> dict[str, int]:
    """Kill ten builds; one that is done before its time starts over in an empty folder."""
    draw = random.Random(1)
    killed, done = 0, 0
    while killed < 10:
        pid = forked(partial(build, music, out))
        time.sleep(draw.uniform(0, 0.4) * lasts_s)
        os.kill(pid, signal.SIGKILL)
        if os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
            killed += 1
        else:
            done += 1
            shutil.rmtree(out)
    return {"killed": killed, "done": done}


def killed_at_renames(music: Path, out: Path) -> dict[str, int]:
    """Kill a build before a rename, and the next one a rename later if no file was gained, until one is done."""
    killed, allowed, claimed = 0, 1, 0
    while True:
        before = names(out)
        pid = forked(partial(build_and_die, music, out, allowed))
        if not os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
            return {"killed": killed, "claimed": claimed}
        killed += 1
        allowed += names(out) == before
        claimed += (out / "stems.parquet").exists()


def forked(call: Callable[[], object]) -> int:
    """Run a call in a process of its own; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        call()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def build_and_die(music: Path, out: Path, allowed: int) -> None:
    """Build, with so many renames and no more."""
    die_before_rename(allowed)
    build(music, out)


def die_before_rename(allowed: int) -> None:
    """Let this process rename so many files and no more."""
    rename = os.replace
    left = iter(range(allowed))

    def replace(*arguments: Any, **options: Any) -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*arguments, **options)

    os.replace = replace


def names(folder: Path) -> set[str]:
    """Files that have their names."""
    return {str(path) for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")}


def main(folder: Path) -> None:
    """Answer orders until there are no more."""
    write_pair(folder / "music", 0)
    write_pair(folder / "music", 1)
    build(folder / "music", folder / "first")  # what is loaded late is loaded now
    started = time.monotonic()
    build(folder / "music", folder / "second")
    lasts_s = time.monotonic() - started
    for line in sys.stdin:
        how, music, out = json.loads(line)
        if how == "random":
            seen = killed_at_random(Path(music), Path(out), lasts_s)
        else:
            seen = killed_at_renames(Path(music), Path(out))
        print(json.dumps(seen), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
