"""A variant of a study with a seed: what it is, whether it is done, and doing it.

A run's folder is named after a hash of all that its weights depend on: the training recipe with its seed, and the
corpora's tables. So what is there is not done again, whoever asked for it. In it, `tests/` has an evaluation for
each test, with `tested.json`: what its scores depend on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from manifests.corpus import Corpus
from manifests.errors import RecipeError, StemloomError
from separators.overlap_add import NetworkSeparator
from separators.separator import Separator
from separators.summed import Summed
from separators.weights import load_network
from training.checks import check_training
from training.evaluation import evaluate
from training.loop import train
from training.making import make_network
from training.measurement import EvaluationSettings
from training.processes import device_of
from training.recipe import TrainRecipe
from training.records import read_json, write_json
from training.runs import BEST, RUN
from training.songs import songs_of
from training.study import StudyRecipe, VariantRule, training_of
from training.targets import target_stems

__all__ = ["Report", "Run", "State", "Test", "Working", "check_runs", "do_run", "is_done", "runs_of"]

# Raised by whoever changes what a training with the same recipe, or a test of the same weights, comes to.
_VERSION = 1

State = Literal["finished", "stopped", "interrupted"]

Report = Callable[[str, int, int], None]
"""Called with what is done ('train', or a test's name), and how much of how much."""


@dataclasses.dataclass(frozen=True)
class Test:
    """A corpus to test on.

    Attributes
    ----------
    name : str
    corpus : Path
    identity : str
        Of the corpus.
    settings : EvaluationSettings
    """

    __test__ = False  # for pytest, which takes it for a test of its own

    name: str
    corpus: Path
    identity: str
    settings: EvaluationSettings


@dataclasses.dataclass(frozen=True)
class Run:
    """A variant with a seed.

    Attributes
    ----------
    variant : str
    seed : int
    folder : Path
        Of the training, and of its evaluations.
    recipe : TrainRecipe
    corpora : tuple of Path
        To train on.
    sums : mapping of str to tuple of str
        Sources that are tested as their sum.
    tests : tuple of Test
    """

    variant: str
    seed: int
    folder: Path
    recipe: TrainRecipe
    corpora: tuple[Path, ...]
    sums: Mapping[str, tuple[str, ...]]
    tests: tuple[Test, ...]

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"{self.variant}, seed {self.seed}"

    def folder_of(self, test: Test) -> Path:
        """Where the evaluation of a test is."""
        return self.folder / "tests" / test.name.replace(" ", "-")


@dataclasses.dataclass(frozen=True)
class Working:
    """How runs are done.

    Attributes
    ----------
    workers : int
        Processes that make mixtures, of each training.
    deadline_s : float, optional
        Of the clock (`time.time`): runs stop then.
    """

    workers: int = 0
    deadline_s: float | None = None

    def is_over(self) -> bool:
        """Whether the deadline is over."""
        return self.deadline_s is not None and time.time() >= self.deadline_s


def runs_of(study: StudyRecipe, out: Path) -> list[Run]:
    """All runs of a study, seed by seed: one that is stopped has as many variants as there can be.

    Parameters
    ----------
    study : StudyRecipe
    out : Path
        The study's folder.

    Returns
    -------
    list of Run

    Raises
    ------
    RecipeError
        A variant does not fit the study's base.
    TableError
        A corpus is none, or is damaged.
    """
    identities = {name: Corpus.open(study.folder_of(name)).identity for name in study.corpora}
    tests = tuple(
        Test(test.name, study.folder_of(test.corpus), identities[test.corpus], study.settings_of(test))
        for test in study.tests
    )
    runs = []
    for seed in study.seeds:
        for variant in study.variants:
            recipe = training_of(study, variant, seed)
            corpora = {name: study.folder_of(name) for name in study.corpora_of(variant)}
            folder = _folder_of(
                out, variant, recipe, {path.name: identities[name] for name, path in corpora.items()}
            )
            runs.append(Run(variant.name, seed, folder, recipe, (*corpora.values(),), variant.sums, tests))
    return runs


def _folder_of(out: Path, variant: VariantRule, recipe: TrainRecipe, identities: Mapping[str, str]) -> Path:
    depends_on = {
        "version": _VERSION,
        "recipe": recipe.model_dump(mode="json", exclude={"about", "log_every", "tensorboard"}),
        "corpora": identities,
    }
    digest = hashlib.blake2b(json.dumps(depends_on, sort_keys=True).encode(), digest_size=6).hexdigest()
    there = next((out / "runs").glob(f"*-{digest}"), None)
    return there or out / "runs" / f"{variant.name.replace(' ', '-')}-{recipe.seed}-{digest}"


def check_runs(runs: Sequence[Run]) -> None:
    """Find what would keep runs from their end, before anything is trained.

    Parameters
    ----------
    runs : sequence of Run

    Raises
    ------
    RecipeError
        Of all variants, a line for each problem.
    """
    problems: dict[str, list[str]] = {}
    corpora = {folder: Corpus.open(folder) for folder in {test.corpus for run in runs for test in run.tests}}
    for run in {run.variant: run for run in runs}.values():
        try:
            check_training(run.recipe, run.corpora)
            separator = _summed(NetworkSeparator(network=make_network(run.recipe)), run.sums)
            for test in run.tests:
                corpus = corpora[test.corpus]
                settings = _settings(test, separator.sources)
                for song_id in songs_of(corpus, settings.split)[: settings.limit]:
                    target_stems(separator.sources, corpus, song_id, settings.targets)
        except StemloomError as error:
            for line in str(error).splitlines():
                problems.setdefault(line, []).append(f"'{run.variant}'")
    if problems:
        said = [f"variant{'s' * (len(names) > 1)} {', '.join(names)}: {line}" for line, names in problems.items()]
        raise RecipeError("\n".join(said))


def is_done(run: Run) -> bool:
    """Whether a run is trained and all its tests are measured."""
    return (run.folder / RUN).is_file() and all(_is_tested(run, test) for test in run.tests)


def do_run(run: Run, device: str, working: Working, report: Report = lambda doing, done, total: None) -> State:
    """Train and test, or what of it is left.

    Parameters
    ----------
    run : Run
    device : str
        Of torch.
    working : Working
    report : callable, optional

    Returns
    -------
    {'finished', 'stopped', 'interrupted'}
        Stopped by the deadline, or interrupted by Ctrl-C: the same call goes on.

    Raises
    ------
    StemloomError
        As `training.loop.train` and `training.evaluation.evaluate`.
    """
    if working.is_over():
        return "stopped"
    if not (run.folder / RUN).is_file():
        trained = train(
            run.recipe,
            run.corpora,
            run.folder,
            device=device,
            workers=working.workers,
            max_minutes=None if working.deadline_s is None else (working.deadline_s - time.time()) / 60,
            progress=lambda tick: report("train", tick.step, tick.steps),
        )
        if not trained.finished:
            return "interrupted" if trained.interrupted else "stopped"
    network = load_network(run.folder / BEST)
    separator = _summed(NetworkSeparator(network=network, name=run.variant, device=device_of(device)), run.sums)
    for test in run.tests:
        if _is_tested(run, test):
            continue
        if working.is_over():
            return "stopped"

        def tell(stage: str, done: int, total: int, rejected: int, name: str = test.name) -> None:
            report(name, done, total)

        try:
            corpus = Corpus.open(test.corpus)
            evaluate(separator, corpus, run.folder_of(test), _settings(test, separator.sources), progress=tell)
        except KeyboardInterrupt:
            return "interrupted"
        write_json(run.folder_of(test) / "tested.json", _depends_on(run, test))
    return "finished"


def _summed(separator: Separator, sums: Mapping[str, Sequence[str]]) -> Separator:
    return Summed(separator, sums) if sums else separator


def _settings(test: Test, sources: Sequence[str]) -> EvaluationSettings:
    """How a test is measured, of a separator with these sources."""
    targets = {source: stems for source, stems in (test.settings.targets or {}).items() if source in sources}
    return dataclasses.replace(test.settings, targets=targets or None)


def _is_tested(run: Run, test: Test) -> bool:
    return read_json(run.folder_of(test) / "tested.json") == _depends_on(run, test)


def _depends_on(run: Run, test: Test) -> dict[str, Any]:
    """All that a test's scores depend on, besides the weights; JSON values."""
    values = {
        "version": _VERSION,
        "corpus": test.identity,
        "settings": dataclasses.asdict(test.settings),
        "sums": {name: list(parts) for name, parts in run.sums.items()},
    }
    return dict(json.loads(json.dumps(values)))
