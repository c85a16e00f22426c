"""How a separator is trained, as a person writes it: YAML files and the ready ones in `recipes/train/`.

    base: umx                     # a ready recipe, or the path of another YAML file; what stands here wins
    network: {hidden: 256}        # groups of fields are merged, lists and plain values are replaced
    mix: {base: umx, length_s: 4}
    batch_size: 8

`load_training` resolves `base`, and what it gives is the whole recipe, which is kept beside the weights.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, field_validator, model_validator

from augment.distributions import KINDS
from augment.recipe import MixRecipe, load_mix, mix_names
from manifests.errors import RecipeError, did_you_mean
from manifests.plain import yaml_of
from manifests.recipes import Settings, find_recipe, make_recipe, read_mapping, recipe_names

__all__ = [
    "LossRule",
    "LossTerm",
    "OptimizerRule",
    "ScheduleRule",
    "TrainRecipe",
    "ValidationRule",
    "load_training",
    "merged",
    "placed",
    "training_names",
]

_Fraction = Annotated[float, Field(ge=0, lt=1)]
_Positive = Annotated[float, Field(gt=0)]
_Count = Annotated[int, Field(ge=1)]

MAGNITUDE_TERMS = ("magnitude_l1", "magnitude_mse")
"""Terms that compare a network's magnitudes, before what turns them into audio."""

_IN_DB = ("snr", "si_sdr")


class LossTerm(Settings):
    """A part of the loss."""

    name: Literal["l1", "mse", "snr", "si_sdr", "stft", "magnitude_l1", "magnitude_mse", "activity", "guided"]
    """`l1`, `mse`: of the waveforms. `snr`, `si_sdr`: negative, in dB. `stft`: over several resolutions.
    `magnitude_l1`, `magnitude_mse`: of what a network on magnitudes says, before phases. `activity`, `guided`:
    cross-entropies of what MRX-C and iTDCN++ say besides."""

    weight: _Positive = 1.0
    """Of the term in the sum."""

    max_db: _Positive | None = None
    """Of `snr` (30 by default) and `si_sdr` (60): the ceiling above which a source counts as done."""

    n_ffts: Annotated[tuple[Annotated[int, Field(ge=4)], ...], Field(min_length=1)] = (512, 1024, 2048)
    """Of `stft`."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.max_db is not None and self.name not in _IN_DB:
            raise ValueError(f"max_db is for {' and '.join(_IN_DB)}, and this term is {self.name}: leave it out")
        return self


def _terms(value: Any) -> Any:
    """A term alone is a list of one; a name alone is a term."""
    listed = value if isinstance(value, list | tuple) else [value]
    return tuple({"name": term} if isinstance(term, str) else term for term in listed)


class LossRule(Settings):
    """What a training step minimises: the weighted sum of its terms."""

    terms: Annotated[tuple[LossTerm, ...], BeforeValidator(_terms), Field(min_length=1)]
    """Its parts; one alone, or only its name, will do."""

    assignment: Literal["fixed", "permutation", "one_and_rest", "mixit"] = "fixed"
    """Which estimate stands for which target: by name, or the best of all."""

    weights: dict[str, _Positive] = Field(default_factory=dict)
    """Of targets, where one counts for more or less than the others, whose weight is 1."""

    earlier: Annotated[float, Field(ge=0)] = 1.0
    """Weight of what an iterative network said in earlier iterations."""

    consistency: Literal["none", "uniform", "energy"] = "none"
    """Estimates are made to sum to the mixture first, each taking its share of what is missing."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        names = [term.name for term in self.terms]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"term '{twice[0]}' is there twice: write it once")
        by_name = [name for name in names if name in (*MAGNITUDE_TERMS, "activity")]
        if by_name and self.assignment != "fixed":
            raise ValueError(f"{by_name[0]} compares by name: write 'assignment: fixed'")
        if "guided" in names and self.assignment not in ("fixed", "permutation"):
            raise ValueError(f"guided compares each source, and '{self.assignment}' sums: leave the term out")
        if self.weights and self.assignment != "fixed":
            raise ValueError("weights are of targets by name: write 'assignment: fixed', or leave them out")
        return self


class OptimizerRule(Settings):
    """Adam or AdamW."""

    name: Literal["adam", "adamw"] = "adam"
    """`adamw` takes the weight decay apart from the gradient."""

    learning_rate: _Positive = 1e-3
    """After the warm-up, and before the schedule lowers it."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Pull of every weight towards 0."""

    betas: tuple[_Fraction, _Fraction] = (0.9, 0.999)
    """Decays of the running means of the gradient and of its square."""


class ScheduleRule(Settings):
    """How the learning rate changes."""

    name: Literal["constant", "exponential", "plateau", "cosine"] = "constant"
    """`exponential`: times `factor` every so many epochs. `plateau`: times `factor` when `patience`
    validations have not improved. `cosine`: down to nothing at the last epoch."""

    factor: Annotated[float, Field(gt=0, le=1)] = 1.0
    """`exponential`, `plateau`: what the learning rate is multiplied by."""

    every_epochs: _Count = 1
    """`exponential`: epochs from one lowering to the next."""

    patience: _Count = 5
    """`plateau`: validations without an improvement."""

    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """The learning rate grows from nothing over so many steps."""


class ValidationRule(Settings):
    """What is validated: always the same mixtures, with the average of the weights if there is one."""

    split: str | None = "validation"
    """Of the corpora; none: all, which is for trying things out."""

    num: _Count = 64
    """Mixtures."""

    final_num: _Count | None = None
    """Mixtures of the last validation, of the best weights; by default four times as many."""

    batch_size: _Count | None = None
    """By default that of training."""

    every_epochs: _Count = 1
    """Epochs from one validation to the next."""

    by: Literal["loss", "sdr"] = "loss"
    """What the best weights are best by: the mean loss, or the mean over targets of the median SDR."""


def _mix(value: Any) -> Any:
    """A mixing recipe by name, by path, or in place, on top of another if it says so."""
    if isinstance(value, MixRecipe):
        return value
    try:
        if isinstance(value, str):
            return load_mix(value)
        if isinstance(value, Mapping) and "base" in value:
            base = load_mix(str(value["base"])).model_dump(mode="json", exclude_defaults=True)
            return merged(base, {name: item for name, item in value.items() if name != "base"})
    except RecipeError as error:
        raise ValueError(str(error)) from error
    return value


class TrainRecipe(Settings):
    """How a separator is trained."""

    about: str = ""
    """What it is and where it comes from."""

    network: dict[str, Any]
    """Its `name` (`separators.weights.NETWORKS`) and its sizes; sources, sample rate, channels and the segment are
    by default those of the mixtures."""

    mix: Annotated[MixRecipe, BeforeValidator(_mix)]
    """What it is trained on: a ready mixing recipe's name, the path of one, or its fields, on top of `base` if they
    have that."""

    targets: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    """For each of the mixtures' targets the network's source that it is compared with, or several whose sum is, or
    none (`[]`); by default the source of the same name."""

    split: str | None = "train"
    """Of the corpora; none: all."""

    loss: LossRule
    """What is minimised; a term, its name or a list of them will do."""

    optimizer: OptimizerRule = OptimizerRule()
    """What takes the steps."""

    schedule: ScheduleRule = ScheduleRule()
    """How the learning rate changes."""

    validation: ValidationRule = ValidationRule()
    """On what, and how often."""

    batch_size: _Count
    """Mixtures of a batch, of one process."""

    accumulate: _Count = 1
    """Batches of a step."""

    steps_per_epoch: _Count | None = None
    """Of the optimizer."""

    epoch_audio_s: _Positive | None = None
    """Instead of `steps_per_epoch`: seconds of mixtures in an epoch, so that networks with segments of different
    lengths see as much."""

    epochs: _Count
    """At most."""

    early_stopping: _Count | None = None
    """Validations without a better one after which training ends."""

    clip_norm: _Positive | None = None
    """Gradients are scaled down to this norm."""

    average: _Fraction | None = None
    """Decay of the exponential moving average of the weights, which is what is then validated and saved."""

    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """On a GPU; spectra are float32 always."""

    start_from: str | None = None
    """Weights to start from: those of the same name and shape are taken."""

    freeze: tuple[str, ...] = ()
    """Parameters that stay as they are, as patterns (`nets.0.*`); so do statistics of batch normalisation there."""

    freeze_batch_norm: bool = False
    """Whether all statistics of batch normalisation stay as they are."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Of the first weights, of every mixture and of dropout."""

    log_every: _Count = 20
    """Steps between lines of `metrics.jsonl`."""

    tensorboard: bool = False
    """Curves, spectrograms and audio for TensorBoard too (extra `stemloom[tensorboard]`)."""

    @field_validator("loss", mode="before")
    @classmethod
    def _short_loss(cls, value: Any) -> Any:
        return value if isinstance(value, dict | LossRule) and "terms" in dict(value) else {"terms": value}

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.steps_per_epoch is None and self.epoch_audio_s is None:
            raise ValueError("steps_per_epoch and epoch_audio_s are both missing: write one of them")
        if self.steps_per_epoch is not None and self.epoch_audio_s is not None:
            raise ValueError(
                f"steps_per_epoch is {self.steps_per_epoch} and epoch_audio_s {self.epoch_audio_s:g}: write one of "
                "them, and null for one that the base has ('steps_per_epoch=null')"
            )
        if self.mix.num_frames is None:
            raise ValueError(f"mix.length_s is '{self.mix.length_s}', and a batch needs one length: write seconds")
        for target in self.targets:
            if target not in self.mix.outputs:
                raise ValueError(
                    f"targets: the mixtures have no target '{target}'{did_you_mean(target, self.mix.outputs)}"
                )
        for target in self.loss.weights:
            if target not in self.mix.outputs:
                raise ValueError(
                    f"loss.weights: the mixtures have no target '{target}'{did_you_mean(target, self.mix.outputs)}"
                )
        if not isinstance(self.network.get("name"), str):
            raise ValueError("network.name is missing: add it")
        return self

    def epoch_steps(self, world_size: int = 1) -> int:
        """Steps of an epoch.

        Parameters
        ----------
        world_size : int
            Processes that train together.

        Returns
        -------
        int
        """
        if self.steps_per_epoch is not None:
            return self.steps_per_epoch
        assert self.epoch_audio_s is not None
        assert self.mix.num_frames is not None
        seconds = self.mix.num_frames / self.mix.sample_rate * self.batch_size * self.accumulate * world_size
        return max(1, round(self.epoch_audio_s / seconds))


_FOLDERS = (Path(__file__).parent / "recipes", Path(__file__).parents[1] / "recipes" / "train")


def training_names() -> list[str]:
    """Names of the ready recipes.

    Returns
    -------
    list of str
        Sorted.
    """
    return recipe_names(_FOLDERS)


def load_training(
    recipe: str | Path | Mapping[str, Any],
    changes: Sequence[str] = (),
    *,
    over: Sequence[Mapping[str, Any]] = (),
) -> TrainRecipe:
    """Read a training recipe.

    Parameters
    ----------
    recipe : str, Path or mapping
        The name of a ready recipe (`training_names` lists them), the path of a YAML file, or its fields.
    changes : sequence of str
        Fields that win over the file's, as ``network.hidden=64``; values are YAML.
    over : sequence of mapping
        Fields that win over the file's, the later over the earlier; see `merged`.

    Returns
    -------
    TrainRecipe

    Raises
    ------
    RecipeError
        When there is no such recipe, or something in it is wrong: one line for each field.
    """
    source = "recipe" if isinstance(recipe, Mapping) else str(recipe)
    base = _resolved(recipe, ())
    for fields in over:
        base = merged(base, fields)
    values = base
    parsed = [_change(change) for change in changes]
    for change in parsed:
        values = merged(values, change)
    if changes and _is_wrong(values):
        wrong = [text for text, change in zip(changes, parsed, strict=True) if _is_wrong(merged(base, change))]
        changed = f"--set {' '.join(changes if len(wrong) in (0, len(changes)) else wrong)}"
        source = f"{source} with {changed}" if _is_wrong(base) else changed
    return make_recipe(values, source, TrainRecipe)


def _is_wrong(values: dict[str, Any]) -> bool:
    try:
        make_recipe(values, "", TrainRecipe)
    except RecipeError:
        return True
    return False


def _resolved(recipe: str | Path | Mapping[str, Any], seen: tuple[Path, ...]) -> dict[str, Any]:
    """The recipe's fields on top of those of its base, and so on down."""
    if isinstance(recipe, Mapping):
        values, folder = dict(recipe), Path()
    else:
        path = find_recipe(recipe, _FOLDERS, "training recipe")
        if path.resolve() in seen:
            raise RecipeError(f"{path}: field 'base' leads back to this file; remove it from one of them")
        seen, values, folder = (*seen, path.resolve()), read_mapping(path), path.parent
    base = values.pop("base", None)
    values = placed(values, folder)
    if base is None:
        return values
    if not isinstance(base, str):
        raise RecipeError(f"field 'base' is {base!r}: it must be the name of a ready recipe or a YAML file's path")
    return merged(_resolved(folder / base if os.path.isfile(folder / base) else base, seen), values)


def placed(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Fields whose paths, which in a file are relative to it, are seen from where we are.

    Parameters
    ----------
    values : mapping
        Of a training recipe, or some of it.
    folder : Path
        Where the file is.

    Returns
    -------
    dict
    """
    mix = values.get("mix")
    if isinstance(mix, Mapping):
        values = {**values, "mix": _placed(mix, "base", folder)}
    else:
        values = _placed(values, "mix", folder)
    return _placed(values, "start_from", folder)


def _placed(values: Mapping[str, Any], name: str, folder: Path) -> dict[str, Any]:
    """The values with the path of a file that is there made one from where we are; what is no path stays."""
    path = values.get(name)
    found = isinstance(path, str) and path not in mix_names() and os.path.isfile(folder / path)
    return {**values, name: str(folder / str(path))} if found else dict(values)


def _change(text: str) -> dict[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not all(name.split(".")):
        raise RecipeError(f"change '{text}': write FIELD=VALUE, such as network.hidden=64")
    try:
        change: Any = yaml_of(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"change '{text}': the value is no YAML ({error})") from error
    for part in reversed(name.split(".")):
        change = {part: change}
    return dict(change)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Fields on top of others.

    Mappings within mappings are merged, but not what stands for one thing: another network, another mix.

    Parameters
    ----------
    base, changes : mapping
        As in a recipe's file.

    Returns
    -------
    dict
    """
    result = dict(base)
    for name, value in changes.items():
        before = result.get(name)
        if isinstance(value, Mapping) and "base" in value:
            result[name] = dict(value)
        elif isinstance(value, Mapping) and isinstance(before, str) and name == "mix":
            result[name] = {"base": before, **value}
        elif isinstance(value, Mapping) and isinstance(before, Mapping):
            same = value.get("name", before.get("name")) == before.get("name") and not value.keys() & set(KINDS)
            result[name] = merged(before, value) if same else dict(value)
        else:
            result[name] = value
    return result
