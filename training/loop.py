"""The training loop.

    run = train(load_training("umx"), [Path("corpus")], Path("runs/umx"))

The path, top to bottom in `train`: make the network and what it minimises, go on where the last run stopped, and
then step after step: take a batch, differentiate, step, report; after each epoch validate the average of the
weights, keep the best, save. `training.runs` says what a run leaves in its folder.

Step `s` depends on the seed, `s` and the weights only: mixtures are drawn by number, and torch's generators are
seeded anew at each step. So a run that was killed goes on to the bit on a CPU, and any number of processes
(torchrun) see the same mixtures as one process with as large a batch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from augment.render import Separate
from manifests.errors import BuildError, RecipeError
from manifests.installed import installed_version
from manifests.lock import BuildLock
from manifests.staging import address
from separators.network import Network
from separators.weights import load_matching, load_network, save_network
from training.batches import Batch, Mixtures
from training.checks import corpora_for
from training.journal import Journal
from training.making import averaging, freeze, make_network, make_optimizer, set_training
from training.objective import Objective
from training.processes import Processes, interrupts, joined
from training.recipe import TrainRecipe
from training.runs import BEST, STATE, claim_folder, keep_plans, read_state, write_run, write_state
from training.schedule import Progress, learning_rate_factor
from training.validation import Validation, validate

__all__ = ["Tick", "TrainedRun", "train"]

_SAVE_EVERY_S = 600.0

_PREPARING = 64
"""Mixtures that a network may look at before its first step."""

_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclasses.dataclass(frozen=True)
class Tick:
    """How far a run is, after each step.

    Attributes
    ----------
    step, steps : int
        Done, and in all.
    epoch : int
        From 0.
    loss : float
        Of this step.
    data_wait : float
        Share of the time since the last report that was spent waiting for mixtures.
    validation : dict, optional
        `Validation.to_json`, after an epoch with one.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    data_wait: float
    validation: dict[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """How a run ended.

    Attributes
    ----------
    folder : Path
    finished : bool
        False when it was stopped, and the same call goes on.
    step : int
        Steps done.
    validation : dict, optional
        `Validation.to_json` of the best weights, when the run finished.
    interrupted : bool
        It was stopped by Ctrl-C, and not because `max_minutes` were over.
    """

    folder: Path
    finished: bool
    step: int
    validation: dict[str, Any] | None = None
    interrupted: bool = False


def train(
    recipe: TrainRecipe,
    folders: Sequence[Path],
    out: Path,
    *,
    device: str = "auto",
    workers: int = 0,
    max_minutes: float | None = None,
    separate: Separate | None = None,
    progress: Callable[[Tick], None] = lambda tick: None,
) -> TrainedRun:
    """Train a separator.

    Parameters
    ----------
    recipe : TrainRecipe
    folders : sequence of Path
        Finished corpora; what has a packed store is read from it.
    out : Path
        The run's folder. A run that was stopped is resumed there; one of another recipe is refused.
    device : str
        Of torch; `auto`: a GPU if there is one.
    workers : int
        Processes that make mixtures; 0 makes them in this one, between steps.
    max_minutes : float, optional
        The run stops after so long, at the end of a step: the same call resumes.
    separate : callable, optional
        For a mixing recipe whose cascade is by a separator.
    progress : callable, optional
        Called with a `Tick` after each step.

    Returns
    -------
    TrainedRun

    Raises
    ------
    RecipeError
        The recipe does not fit the corpora or the network.
    BuildError
        The folder holds another run, the disk refuses, or the loss is not finite any more; the message then says
        where the plans of the batch are.
    AudioError, TableError
        A corpus is damaged.
    """
    if workers < 0:
        raise RecipeError(f"workers is {workers}: write 0, or how many processes are to make mixtures")
    started = time.monotonic()
    with joined(device) as processes, _lock(out, processes), interrupts() as interrupted:
        corpora = corpora_for(recipe, folders)
        training = Mixtures.of_training(recipe, corpora, workers, separate)
        validation = Mixtures.of_validation(recipe, corpora, separate=separate)
        if processes.is_first:
            claim_folder(out, recipe, corpora)

        run = _Run(recipe, out, processes, training)
        step = run.resume()
        epoch_steps = recipe.epoch_steps(processes.world_size)
        steps = epoch_steps * recipe.epochs
        saved_s = time.monotonic()
        stopped = False
        batches = training.batches(
            recipe.batch_size,
            start=step * recipe.accumulate,
            rank=processes.rank,
            world_size=processes.world_size,
        )
        with run.journal(step) as journal, contextlib.closing(batches):
            while not (stopped or run.is_finished(step, steps)):
                epoch = step // epoch_steps
                run.start_step(step, epoch_steps)
                for number in range(recipe.accumulate):
                    with run.tally.waiting():
                        batch = next(batches)
                    run.differentiate(batch, synchronise=number == recipe.accumulate - 1)
                loss = run.finish_step(step)
                step += 1
                is_epoch = step % epoch_steps == 0
                tick = Tick(step, steps, epoch, loss, run.tally.data_wait)
                if step % recipe.log_every == 0 or is_epoch:
                    journal.report({"step": step, "epoch": epoch, **run.tally.means(processes)})
                    run.tally = _Tally()
                late = max_minutes is not None and time.monotonic() - started > 60 * max_minutes
                stopped = processes.any(interrupted.is_set() or late)
                if is_epoch and (epoch + 1) % recipe.validation.every_epochs == 0:
                    found = run.validate(run.shown, validation, recipe.validation.num)
                    run.take_note(step, found)
                    journal.report({"step": step, "epoch": epoch, "validation": found.to_json()})
                    journal.show(step, run.objective.targets, found, recipe.mix.sample_rate)
                    tick = dataclasses.replace(tick, validation=found.to_json())
                    run.tally = _Tally()
                is_due = processes.any(time.monotonic() - saved_s > _SAVE_EVERY_S)
                if tick.validation or stopped or is_due or step == steps:
                    run.save(step)
                    saved_s = time.monotonic()
                progress(tick)

        if not run.is_finished(step, steps):
            return TrainedRun(out, False, step, interrupted=interrupted.is_set())
        if processes.is_first and not (out / BEST).is_file():  # no validation was due, or none gave a number
            run.save_best(step, None)
        processes.wait()
        best = run.objective_of(load_network(out / BEST))
        summary = run.validate(best, validation, recipe.validation.final_num or 4 * recipe.validation.num).to_json()
        if processes.is_first:
            seconds = (recipe.mix.num_frames or 0) / recipe.mix.sample_rate
            mixtures = step * recipe.accumulate * recipe.batch_size * processes.world_size
            values = {
                "builder": "train",
                "steps": step,
                "hours_seen": mixtures * seconds / 3600,
                "wall_s": time.monotonic() - started,
                "validation": summary,
                "corpora": {name: address(corpus.folder) for name, corpus in corpora.items()},
                "matched": run.matched,
                "device": _device_name(processes.device),
                "processes": processes.world_size,
                "python": platform.python_version(),
                "versions": {name: installed_version(name) for name in ("stemloom", "torch", "numpy")},
            }
            write_run(out, values)
        return TrainedRun(out, True, step, summary)


class _Run:
    """What changes while a run goes on: weights, their average, the optimizer's moments, how validations went."""

    def __init__(self, recipe: TrainRecipe, out: Path, processes: Processes, training: Mixtures) -> None:
        self.recipe = recipe
        self.out = out
        self.processes = processes
        self.training = training
        self.tally = _Tally()
        self.history = Progress()
        self.matched: dict[str, Any] | None = None
        self.losses: list[torch.Tensor] = []

        _seed(recipe.seed, 0, 0)
        network = make_network(recipe)
        freeze(network, recipe.freeze)
        self.objective = self.objective_of(network)
        self.average = (
            None
            if recipe.average is None
            else AveragedModel(self.objective, avg_fn=averaging(recipe.average), use_buffers=True)
        )
        self.optimizer = make_optimizer(self.objective, recipe)
        is_half = recipe.precision == "float16" and processes.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=is_half)
        self.wrapped: torch.nn.Module = self.objective

    @property
    def shown(self) -> Objective:
        """What is validated and saved: the average, if there is one."""
        return self.objective if self.average is None else cast(Objective, self.average.module)

    def objective_of(self, network: Network) -> Objective:
        objective = Objective(network, self.recipe.loss, self.recipe.mix.outputs, self.recipe.targets)
        return objective.to(self.processes.device)

    def resume(self) -> int:
        """Take up the state of a run that was stopped, or prepare a new one; the steps that are done."""
        path = self.out / STATE
        step = 0
        if path.is_file():
            state = read_state(path)
            step = int(state["step"])
            self.history = Progress(**state["history"])
            self.matched = state["matched"]
            self.objective.load_state_dict(state["objective"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            self.tally.load(state["tally"])
            self._require_processes(int(state["processes"]))
            if self.average is not None:
                self.average.load_state_dict(state["average"])
        else:
            network = self.objective.network
            if self.recipe.start_from is not None:
                self.matched = dataclasses.asdict(load_matching(network, Path(self.recipe.start_from)))
            else:
                examples = dataclasses.replace(self.training, workers=0).batches(1, stop=_PREPARING)
                network.prepare(mixtures.to(self.processes.device) for mixtures, _ in examples)
        self.processes.wait()
        if self.processes.world_size > 1:
            self.wrapped = DistributedDataParallel(self.objective)
        return step

    def _require_processes(self, before: int) -> None:
        """Another number of processes would see other mixtures from here on."""
        if before != self.processes.world_size:
            raise BuildError(
                f"{self.out}: the run was begun with {before} processes, and now there are "
                f"{self.processes.world_size}; use as many, or another --out folder with "
                f"'start_from: {self.out / BEST}'"
            )

    def is_finished(self, step: int, steps: int) -> bool:
        patience = self.recipe.early_stopping
        return step >= steps or (patience is not None and self.history.since_best >= patience)

    def journal(self, step: int) -> contextlib.AbstractContextManager[Journal]:
        folder = self.out if self.processes.is_first else None
        return Journal(folder, step, tensorboard=self.recipe.tensorboard)

    def start_step(self, step: int, epoch_steps: int) -> None:
        recipe = self.recipe
        set_training(self.objective, recipe.freeze_batch_norm)
        _seed(recipe.seed, step, self.processes.rank)
        factor = learning_rate_factor(recipe.schedule, step, epoch_steps, recipe.epochs, self.history.drops)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.optimizer.learning_rate * factor
        self.tally.learning_rate = recipe.optimizer.learning_rate * factor
        self.optimizer.zero_grad(set_to_none=True)
        self.losses = []

    def differentiate(self, batch: Batch, *, synchronise: bool) -> None:
        """Add the gradient of a batch; processes sum theirs with the last batch of a step."""
        device = self.processes.device
        is_reduced = self.recipe.precision != "float32" and device.type == "cuda"
        dtype = _PRECISIONS[self.recipe.precision] if is_reduced else None
        wrapped = self.wrapped
        alone = isinstance(wrapped, DistributedDataParallel) and not synchronise
        with cast(DistributedDataParallel, wrapped).no_sync() if alone else contextlib.nullcontext():
            with torch.autocast(device.type, dtype, enabled=is_reduced):
                losses, parts = wrapped(*(tensor.to(device, non_blocking=True) for tensor in batch))
                loss = losses.mean() / self.recipe.accumulate
            self.scaler.scale(loss).backward()
        self.losses.append(loss.detach())
        self.tally.add(parts)

    def finish_step(self, step: int) -> float:
        """Step, if loss and gradient are finite; the loss."""
        self.scaler.unscale_(self.optimizer)
        norm = float(torch.nn.utils.clip_grad_norm_(self.objective.parameters(), self.recipe.clip_norm or math.inf))
        loss = self.processes.mean(torch.stack(self.losses).sum())
        # a gradient out of float16's range is the scaler's to deal with
        if not math.isfinite(loss) or not (self.scaler.is_enabled() or math.isfinite(norm)):
            self._refuse(step, loss, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.objective)
        self.tally.done(loss, norm)
        return loss

    def _refuse(self, step: int, loss: float, norm: float) -> None:
        size, processes, accumulate = self.recipe.batch_size, self.processes, self.recipe.accumulate
        first = step * accumulate * processes.world_size * size
        kept = "another process' message"
        if processes.is_first:
            plans = self.training.plans(first, accumulate * processes.world_size * size)
            kept = str(keep_plans(self.out, step, plans))
        saved = [name for name in (STATE, BEST) if (self.out / name).is_file()]
        unharmed = f", and what was saved before is as it was ({', '.join(saved)})" if saved else ""
        raise BuildError(
            f"step {step}: the loss is {loss:g} and the norm of the gradient {norm:g}; the plans of its mixtures "
            f"are in {kept} (augment.plans_of and render replay them){unharmed}; lower optimizer.learning_rate, "
            "set clip_norm, or use 'precision: float32'"
        )

    def validate(self, objective: Objective, mixtures: Mixtures, num: int) -> Validation:
        size = self.recipe.validation.batch_size or self.recipe.batch_size
        rank, world_size = self.processes.rank, self.processes.world_size
        starts = range(rank * size, num, world_size * size)
        batches = mixtures.batches(size, stop=len(starts), rank=rank, world_size=world_size)
        found = validate(objective, _first(batches, num, starts))
        return found.joined(self.processes.gather((found.losses, found.sdr_db)))

    def take_note(self, step: int, found: Validation) -> None:
        """Keep the weights if they are the best so far."""
        value = found.loss if self.recipe.validation.by == "loss" else -found.mean_sdr_db
        patience = self.recipe.schedule.patience if self.recipe.schedule.name == "plateau" else None
        if self.history.update(value, patience) and self.processes.is_first:
            self.save_best(step, found.to_json())

    def save_best(self, step: int, validation: Mapping[str, Any] | None) -> None:
        about = {"recipe": self.recipe.model_dump(mode="json"), "step": step, "validation": validation}
        save_network(self.out / BEST, self.shown.network, about=about)

    def save(self, step: int) -> None:
        if self.processes.is_first:
            values = {
                "step": step,
                "history": dataclasses.asdict(self.history),
                "matched": self.matched,
                "objective": self.objective.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "tally": self.tally.state(),
                "processes": self.processes.world_size,
                "average": None if self.average is None else self.average.state_dict(),
            }
            write_state(self.out / STATE, values)


class _Tally:
    """Sums since the last report."""

    def __init__(self) -> None:
        self.start_s = time.monotonic()
        self.wait_s = 0.0
        self.learning_rate = 0.0
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.parts: list[Mapping[str, torch.Tensor]] = []

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        start_s = time.monotonic()
        yield
        self.wait_s += time.monotonic() - start_s

    @property
    def data_wait(self) -> float:
        return self.wait_s / max(time.monotonic() - self.start_s, 1e-9)

    def add(self, parts: Mapping[str, torch.Tensor]) -> None:
        self.parts.append(parts)

    def done(self, loss: float, norm: float) -> None:
        self.losses.append(loss)
        self.norms.append(norm)

    def state(self) -> dict[str, Any]:
        parts = [{name: part.cpu() for name, part in parts.items()} for parts in self.parts]
        elapsed_s = time.monotonic() - self.start_s
        return {
            "elapsed_s": elapsed_s,
            "wait_s": self.wait_s,
            "losses": self.losses,
            "norms": self.norms,
            "parts": parts,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.start_s = time.monotonic() - state["elapsed_s"]
        self.wait_s, self.losses, self.norms = state["wait_s"], state["losses"], state["norms"]
        self.parts = state["parts"]

    def means(self, processes: Processes) -> dict[str, Any]:
        names = self.parts[0] if self.parts else ()
        terms = {
            name: processes.mean(torch.cat([part[name].to(processes.device) for part in self.parts]).mean())
            for name in names
        }
        steps = len(self.losses)
        return {
            "loss": math.fsum(self.losses) / steps,
            **({"terms": terms} if terms else {}),
            "learning_rate": self.learning_rate,
            "gradient_norm": math.fsum(self.norms) / steps,
            "step_s": (time.monotonic() - self.start_s) / steps,
            "data_wait_s": self.wait_s / steps,
        }


def _first(batches: Iterator[Batch], num: int, starts: Iterable[int]) -> Iterator[Batch]:
    """Batches that start at these mixtures, without mixtures from `num` on."""
    for start, (mixtures, targets) in zip(starts, batches, strict=True):
        yield mixtures[: num - start], targets[: num - start]


def _seed(seed: int, step: int, rank: int) -> None:
    """What a network draws at a step (dropout) depends on the step only."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0]))


def _lock(out: Path, processes: Processes) -> contextlib.AbstractContextManager[Any]:
    return BuildLock(out) if processes.is_first else contextlib.nullcontext()


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
