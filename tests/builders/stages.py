"""Stages for the engine's tests, in a module of their own that a spawned worker imports quickly."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from manifests.errors import AudioError, BuildError


def square(number: int) -> int:
    return number * number


def reject_odd(number: int) -> dict[str, Any]:
    if number % 2:
        raise AudioError(f"item {number}: odd; give an even one")
    return {"half": number // 2, "wave": [0.5] * number}


def run_out_of_memory(number: int) -> int:
    raise MemoryError(f"{number} bytes")


def end_process(folder: Path, how: str) -> str:
    """Count the tries in a file of the item's name, then end the process in some way."""
    with (folder / how).open("a") as file:
        file.write("x")
    if how == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "abort":
        os.abort()
    elif how == "exit 0":
        os._exit(0)
    elif how == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(3600)
    return how


def crash_once(folder: Path, name: str) -> list[str]:
    """Crash at the first try; at the second tell which items run beside it."""
    mark = folder / f"{name}.running"
    mark.touch()
    if name == "fragile":
        if not (folder / "tried").exists():
            (folder / "tried").touch()
            mark.unlink()
            os.abort()
        time.sleep(0.3)
    else:
        time.sleep(0.1)
    beside = sorted(path.name for path in folder.glob("*.running") if path != mark)
    mark.unlink()
    return beside


def raise_bug(number: int) -> int:
    if number == 3:
        return int({}["no such key"])
    return number


class AwkwardError(Exception):
    """Pickles, but does not unpickle."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def raise_awkward(number: int) -> int:
    raise AwkwardError("strange", "number")


def leave(number: int) -> int:
    sys.exit(0)


def return_function(number: int) -> Any:
    return lambda: number


def fill_disk(number: int) -> int:
    raise BuildError("/build: No space left on device; free some space")


def allocate(num_bytes: int) -> int:
    return int(np.ones(num_bytes, dtype=np.uint8)[-1])


def environment(name: str) -> tuple[str | None, bool]:
    return os.environ.get(name), signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def process_id(_: int) -> int:
    return os.getpid()


def note_and_wait(folder: Path, name: str) -> int:
    """Tell in a file of the item's name who works on it, and take a while."""
    with (folder / name).open("a") as file:
        file.write(f"{os.getppid()}\n")
    time.sleep(0.3)
    return os.getppid()
