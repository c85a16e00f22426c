"""What a study is, as a person writes it: a training recipe, named variants of it, seeds, corpora to test on.

    about: does this or that augmentation help?
    base: deezer2019
    corpora: {songs: ../songs, unseen: ../other-songs}
    train_on: [songs]
    variants:
      - {name: baseline}
      - {name: swap, set: {mix: {transforms: [{swap: {p: 0.5}}]}}}
    tests:
      - {name: songs, corpus: songs, split: test}
      - {name: unseen, corpus: unseen}
    seeds: 3

A variant's training recipe is `base`, then the study's `set`, then its own: mappings are merged, so that a variant
says only what it changes. `sizes` are the same study smaller or larger: what one sets goes between the study's and
the variant's. Every variant is trained with every seed, and a seed draws the same songs, moments and gains for all
of them (`augment.draw`), from the same first weights where the network is the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from manifests.errors import RecipeError, did_you_mean
from manifests.recipes import Settings, find_recipe, make_recipe, read_mapping, recipe_names
from training.measurement import EvaluationSettings
from training.recipe import TrainRecipe, load_training, merged, placed
from training.scores import SCORES

__all__ = ["SizeRule", "StudyRecipe", "TestRule", "VariantRule", "load_study", "study_names", "training_of"]


def _name(text: str) -> str:
    """Folders are named after it."""
    if not re.fullmatch(r"\w[\w .,+()-]{0,59}", text):
        raise ValueError(
            "a name has up to 60 letters, digits, blanks and .,+()-_, and starts with one of the first two"
        )
    return text


_Name = Annotated[str, AfterValidator(_name)]
_MAX_SEEDS = 1000
_Count = Annotated[int, Field(ge=1)]


def _seeds(value: Any) -> Any:
    """A number is so many seeds, from 0 on."""
    if type(value) is int and value > _MAX_SEEDS:
        raise ValueError(f"at most {_MAX_SEEDS} seeds are trained with")
    listed = list(range(value)) if type(value) is int else value
    if not isinstance(listed, list | tuple) or not listed:
        raise ValueError("seeds are a number of at least 1, or a list of numbers")
    return tuple(listed)


_Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_seeds)]


class VariantRule(Settings):
    """One way to train."""

    name: _Name
    """What tables, pages and folders call it."""

    about: str = ""
    """What it changes, for the report."""

    set: dict[str, Any] = Field(default_factory=dict)
    """Fields of the training recipe that win over the study's."""

    train_on: tuple[str, ...] | None = None
    """Names of corpora, instead of the study's."""

    sums: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(default_factory=dict)
    """Sources that are tested as their sum: `{accompaniment: [drums, bass, other]}`."""


class TestRule(Settings):
    """A corpus to test on."""

    __test__ = False  # for pytest, which takes it for a test of its own

    name: _Name
    """What tables and pages call it."""

    corpus: str
    """Its name in `corpora`."""

    split: str | None = None
    """Only songs of this split."""

    limit: _Count | None = None
    """Only the first songs."""

    targets: dict[str, str] = Field(default_factory=dict)
    """Stems by source, where their names differ, joined by '+'."""

    sweep_lufs: tuple[float, ...] = ()
    """Loudnesses to bring the mixtures to before they are separated, for SDR by loudness."""


class SizeRule(Settings):
    """The study smaller or larger."""

    about: str = ""
    """How long it takes, and on what."""

    base: str | dict[str, Any] | None = None
    """Another training recipe to start from."""

    set: dict[str, Any] = Field(default_factory=dict)
    """Fields of the training recipe that win over the study's, and not over a variant's."""

    seeds: _Seeds | None = None
    """Seeds of trainings, or how many; by default those of the study."""

    limit: _Count | None = None
    """Songs of each test, at most."""


class StudyRecipe(Settings):
    """A comparison of ways to train separators."""

    about: str = ""
    """What it asks, and where it comes from."""

    base: str | dict[str, Any]
    """A training recipe: the name of a ready one, the path of a YAML file, or its fields."""

    set: dict[str, Any] = Field(default_factory=dict)
    """Fields of the training recipe that win over the base's, for all variants."""

    corpora: dict[_Name, str | None] = Field(min_length=1)
    """Folders of finished corpora, by name; a relative one is seen from the study's file. What is null is given on
    the command line: '--corpus NAME=FOLDER'."""

    train_on: tuple[str, ...] = ()
    """Names of corpora that all variants train on which have none of their own."""

    variants: tuple[VariantRule, ...]
    """The ways to train that are compared."""

    baseline: str | None = None
    """The variant that the others are compared with; the first one by default."""

    tests: Annotated[tuple[TestRule, ...], Field(min_length=1)]
    """The corpora that they are compared on."""

    seeds: _Seeds = (0, 1, 2)
    """Seeds of trainings, or how many."""

    scores: Annotated[tuple[str, ...], Field(min_length=1)] = ("bsseval_sdr_db", "bsseval_sir_db", "bsseval_sar_db")
    """What the tables show of `training.scores.SCORES`. The first one is that of the p-value matrix."""

    bsseval: Literal["museval", "blocks"] = "blocks"
    """How BSSEval v4 is computed, where a score needs it."""

    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Level of significance of p-values after Holm's correction."""

    sizes: dict[_Name, SizeRule] = Field(default_factory=dict)
    """The study smaller or larger, by name; the first one is taken if none is asked for."""

    @field_validator("scores")
    @classmethod
    def _are_known(cls, scores: tuple[str, ...]) -> tuple[str, ...]:
        for name in scores:
            if name not in SCORES:
                raise ValueError(f"there is no score '{name}'{did_you_mean(name, SCORES)}: {', '.join(SCORES)}")
        return scores

    @field_validator("seeds")
    @classmethod
    def _are_different(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len({*seeds}) < len(seeds):
            raise ValueError("a seed stands there twice: each gives one training")
        return seeds

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        for what, names in (
            ("variants", [variant.name for variant in self.variants]),
            ("tests", [test.name for test in self.tests]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two {what} are called '{twice[0]}': give each a name of its own")
            # folders are named after them
            folded = sorted({name for name in names if [*map(str.lower, names)].count(name.lower()) > 1})
            if folded:
                raise ValueError(f"{what} {' and '.join(folded)} differ in capitals only: give them other names")
        names = [variant.name for variant in self.variants]
        if len(names) < 2:
            raise ValueError("variants: a comparison needs at least two")
        if self.baseline is not None and self.baseline not in names:
            raise ValueError(f"baseline: there is no variant '{self.baseline}'{did_you_mean(self.baseline, names)}")
        for variant in self.variants:
            self._refuse_unknown_corpora(f"variant '{variant.name}'", self.corpora_of(variant))
            if not self.corpora_of(variant):
                raise ValueError(f"variant '{variant.name}' trains on nothing: name corpora in train_on")
        for test in self.tests:
            self._refuse_unknown_corpora(f"test '{test.name}'", [test.corpus])
        return self

    def _refuse_unknown_corpora(self, where: str, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.corpora:
                known = ", ".join(self.corpora)
                raise ValueError(f"{where}: there is no corpus '{name}'{did_you_mean(name, self.corpora)}: {known}")

    def corpora_of(self, variant: VariantRule) -> tuple[str, ...]:
        """Names of the corpora that a variant trains on."""
        return self.train_on if variant.train_on is None else variant.train_on

    def folder_of(self, corpus: str) -> Path:
        """Where a corpus is."""
        folder = self.corpora[corpus]
        if folder is None:
            raise RecipeError(f"corpus '{corpus}' has no folder: add '--corpus {corpus}=FOLDER'")
        return Path(folder)

    @property
    def compared_with(self) -> str:
        """The name of the baseline."""
        return self.baseline or self.variants[0].name

    @property
    def needs_bsseval(self) -> bool:
        """Whether a score is of BSSEval v4."""
        return any(name.startswith("bsseval") for name in self.scores)

    def settings_of(self, test: TestRule) -> EvaluationSettings:
        """How a test is measured."""
        return EvaluationSettings(
            split=test.split,
            limit=test.limit,
            targets=test.targets or None,
            bsseval=self.bsseval if self.needs_bsseval else None,
            sweep_lufs=test.sweep_lufs,
            excerpts=0,
        )


_FOLDERS = (Path(__file__).parent / "studies", Path(__file__).parents[1] / "recipes" / "studies")


def study_names() -> list[str]:
    """Names of the ready studies.

    Returns
    -------
    list of str
        Sorted.
    """
    return recipe_names(_FOLDERS)


def load_study(
    study: str | Path | Mapping[str, Any], *, size: str | None = None, corpora: Mapping[str, Path] | None = None
) -> StudyRecipe:
    """Read a study.

    Parameters
    ----------
    study : str, Path or mapping
        The name of a ready study (`study_names` lists them), the path of a YAML file, or its fields.
    size : str, optional
        One of its sizes; the first by default.
    corpora : mapping of str to Path, optional
        Folders that win over the study's.

    Returns
    -------
    StudyRecipe
        Of that size, with all folders known: without `sizes`.

    Raises
    ------
    RecipeError
        When there is no such study or size, a corpus is missing, a variant's training recipe is wrong, or anything
        else in it is: a line for each field.
    """
    source, folder = "study", Path()
    if isinstance(study, Mapping):
        values = dict(study)
    else:
        path = find_recipe(study, _FOLDERS, "study")
        source, folder, values = str(path), path.parent, read_mapping(path)
    recipe = _sized(_seen_from_here(make_recipe(values, source, StudyRecipe), folder), source, size)
    recipe = recipe.model_copy(update={"corpora": _folders(recipe, source, folder, dict(corpora or {}))})
    problems = []
    for variant in recipe.variants:
        try:
            training_of(recipe, variant, 0)
        except RecipeError as error:
            problems += [f"{source}: variant '{variant.name}': {line}" for line in str(error).splitlines()]
    if problems:
        raise RecipeError("\n".join(problems))
    return recipe


def training_of(study: StudyRecipe, variant: VariantRule, seed: int) -> TrainRecipe:
    """How a variant is trained with a seed.

    Parameters
    ----------
    study : StudyRecipe
    variant : VariantRule
        One of its variants.
    seed : int

    Returns
    -------
    TrainRecipe

    Raises
    ------
    RecipeError
        What the study and the variant set does not fit the base.
    """
    return load_training(study.base, over=(study.set, variant.set, {"seed": seed}))


def _sized(recipe: StudyRecipe, source: str, size: str | None) -> StudyRecipe:
    if size is None:
        size = next(iter(recipe.sizes), None)
    elif size not in recipe.sizes:
        known = f"it has {', '.join(recipe.sizes)}" if recipe.sizes else "it has none: leave the size out"
        raise RecipeError(f"{source}: there is no size '{size}'{did_you_mean(size, recipe.sizes)}; {known}")
    if size is None:
        return recipe
    rule = recipe.sizes[size]
    tests = recipe.tests
    if rule.limit is not None:
        tests = tuple(
            test.model_copy(update={"limit": min(test.limit or rule.limit, rule.limit)}) for test in recipe.tests
        )
    about = f"{recipe.about} Size '{size}'{f': {rule.about}' if rule.about else ''}.".strip()
    return recipe.model_copy(
        update={
            "about": about,
            "base": rule.base or recipe.base,
            "set": merged(recipe.set, rule.set),
            "seeds": rule.seeds or recipe.seeds,
            "tests": tests,
            "sizes": {},
        }
    )


def _seen_from_here(recipe: StudyRecipe, folder: Path) -> StudyRecipe:
    """The study with paths that are not relative to its file any more, but for those of corpora."""
    sizes = {
        name: rule.model_copy(
            update={
                "base": None if rule.base is None else _base_from_here(rule.base, folder),
                "set": placed(rule.set, folder),
            }
        )
        for name, rule in recipe.sizes.items()
    }
    return recipe.model_copy(
        update={
            "base": _base_from_here(recipe.base, folder),
            "set": placed(recipe.set, folder),
            "sizes": sizes,
            "variants": tuple(
                rule.model_copy(update={"set": placed(rule.set, folder)}) for rule in recipe.variants
            ),
        }
    )


def _base_from_here(base: str | dict[str, Any], folder: Path) -> str | dict[str, Any]:
    return str(folder / base) if isinstance(base, str) and os.path.isfile(folder / base) else base


def _folders(recipe: StudyRecipe, source: str, folder: Path, given: dict[str, Path]) -> dict[str, str]:
    problems = []
    for name in given.keys() - recipe.corpora.keys():
        known = ", ".join(recipe.corpora)
        problems.append(
            f"{source}: there is no corpus '{name}'{did_you_mean(name, recipe.corpora)}; it has {known}"
        )
    found = {}
    used = {name for variant in recipe.variants for name in recipe.corpora_of(variant)}
    used |= {test.corpus for test in recipe.tests}
    for name, written in recipe.corpora.items():
        if name not in used:
            continue
        place = given.get(name) or (None if written is None else folder / written)
        if place is None:
            problems.append(f"{source}: corpus '{name}' has no folder: add '--corpus {name}=FOLDER'")
        elif not os.path.isdir(place):
            problems.append(
                f"{source}: corpus '{name}': there is no folder {place}; correct it, or add "
                f"'--corpus {name}=FOLDER'"
            )
        else:
            found[name] = str(place.resolve())
    if problems:
        raise RecipeError("\n".join(sorted(problems)))
    return found
