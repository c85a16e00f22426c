"""The processes that train together (torchrun starts them), where they compute, and how they are interrupted."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any

import torch

from manifests.errors import RecipeError

__all__ = ["Processes", "device_of", "interrupts", "joined"]


@dataclass(frozen=True)
class Processes:
    """One process among those that train together.

    Attributes
    ----------
    rank, world_size : int
        Its number, and how many there are.
    device : torch.device
        Where it computes.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this one writes, and tells."""
        return self.rank == 0

    def mean(self, value: torch.Tensor) -> float:
        """The mean over processes of a scalar that each of them has."""
        if self.world_size > 1:
            torch.distributed.all_reduce(value)
        return float(value) / self.world_size

    def any(self, yes: bool) -> bool:
        """Whether any process says yes."""
        if self.world_size == 1:
            return yes
        return self.mean(torch.tensor(float(yes), device=self.device)) > 0

    def gather(self, value: Any) -> list[Any]:
        """What each process has, in all of them."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Go on when all are here."""
        if self.world_size > 1:
            torch.distributed.barrier()


def device_of(name: str) -> str:
    """What `auto` stands for, a GPU if there is one; another name as it is."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


@contextlib.contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the other processes, if there are any.

    Parameters
    ----------
    device : str
        Of torch; `auto`: a GPU if there is one, of several the one that torchrun's LOCAL_RANK names.

    Yields
    ------
    Processes

    Raises
    ------
    RecipeError
        There is no such device.
    """
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = device_of(device)
    place = None
    try:
        place = torch.device(device)
        if place.type == "cuda":
            if not torch.cuda.is_available():
                raise RuntimeError("torch finds no GPU")
            if ":" not in device:
                place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            torch.cuda.set_device(place)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        # of what is no GPU, torch lists all that it was ever built for
        is_gpu = place is not None and place.type == "cuda"
        why = str(error).partition("\n")[0] if is_gpu else "torch has none of that name here"
        raise RecipeError(f"device '{device}': {why}; give auto, cpu, cuda or cuda:NUMBER") from error
    if world_size == 1 or torch.distributed.is_initialized():
        yield Processes(rank, world_size, place)
        return
    backend = "nccl" if place.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, timeout=timedelta(minutes=30))
    try:
        yield Processes(rank, world_size, place)
        # One that leaves while another still speaks takes that one's connections along.
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Let Ctrl-C set an event, so that what is going on can come to an end; pressed again it ends at once.

    Yields
    ------
    threading.Event
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: FrameType | None) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
