"""How mixtures are drawn: which sources, how many, how loud, where, what happens to them, and what the targets are.

A recipe is YAML with nothing else beside it; ready ones are in `recipes/mix/` and go by their names:

    recipe = load_mix("jusperlee2023")

Levels are drawn, never measured by the drawing: `gain_db` and `gain` are relative to the audio as it lies there,
`lufs` makes rendering measure the source and bring it there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, SerializeAsAny, model_validator

from augment.distributions import Count, Distribution
from augment.transforms.rule import Rule
from augment.transforms.rules import COMBINED, name_of, rule_of
from manifests.corpus import MIXTURE
from manifests.errors import RecipeError, did_you_mean
from manifests.recipes import Settings, find_recipe, load_recipe, recipe_names

__all__ = ["MixRecipe", "Removal", "SourceRule", "load_mix", "mix_names"]

Weighted = Literal["grade", "genre", "language", "split", "artist", "stem", "label"]


def _rule(value: Any) -> Any:
    """`swap`, or `{swap: {p: 0.5}}`, as a rule."""
    if isinstance(value, Rule):
        return value
    if isinstance(value, str):
        value = {value: None}
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, settings),) = value.items()
        if isinstance(settings, Mapping) or settings is None:
            try:
                return rule_of(str(name), dict(settings or {}))
            except RecipeError as error:
                raise ValueError(str(error)) from error
    raise ValueError("a transform is its name, or its name and its settings: 'swap', or '{swap: {p: 0.5}}'")


def _rule_list(value: Any) -> Any:
    """`combined` stands for the four transforms of the study."""
    if not isinstance(value, (list, tuple)):
        return value
    rules: list[Any] = []
    for item in value:
        rules += [{name: settings} for name, settings in COMBINED] if item == "combined" else [item]
    return rules


def _said(rule: Rule) -> dict[str, Any]:
    return {name_of(rule): rule.model_dump(mode="json", exclude_defaults=True)}


_OneRule = Annotated[SerializeAsAny[Rule], BeforeValidator(_rule), PlainSerializer(_said)]
Rules = Annotated[tuple[_OneRule, ...], BeforeValidator(_rule_list)]


def _names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _length(value: Any) -> Any:
    """Seconds, or whose length it is."""
    if value in ("shortest", "longest"):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    raise ValueError("a length is a number of seconds above 0, or 'shortest', or 'longest'")


_Name = Annotated[str, Field(pattern=r"^\w+$")]
"""Of a source or target: it becomes a stem and a file's name."""

_Names = Annotated[tuple[str, ...], BeforeValidator(_names), Field(min_length=1)]
_Share = Annotated[float, Field(ge=0, le=1)]


class SourceRule(Settings):
    """A kind of source: where it comes from, how many of it, how loud and where."""

    stems: _Names
    """Stems of the corpora that it is taken from. `drums+bass` is two stems of one song, together. Where targets
    come `together` from one song, the first of them that the song has; otherwise all of them, side by side."""

    target: _Name | None = None
    """What it is added to; its own name by default."""

    separate: bool = False
    """Each source is a target of its own: `NAME_1`, `NAME_2` ..., as many as there can be."""

    count: Count = Count(fixed=1)
    """How many of it a mixture has."""

    silence: _Share = 0.0
    """Probability that a mixture has none of it."""

    splits: _Names | None = None
    """Songs of no other split are used; by default all."""

    genres: _Names | None = None
    """Songs of no other genre are used; by default all."""

    grades: _Names | None = None
    """Songs of no other grade are used; by default all."""

    languages: _Names | None = None
    """Songs in no other language are used; by default all."""

    labels: _Names | None = None
    """Clips of no other label are used; by default all."""

    within: Literal["auto", "clips", "stems"] = "auto"
    """Whether crops lie within the rows of the clips table; auto: where the corpus has one."""

    per: Literal["clip", "song", "second", "label"] = "song"
    """What is as likely as another of its kind: a clip, a song, a second of audio, or a label of clips."""

    weights: dict[Weighted, dict[str, Annotated[float, Field(ge=0)]]] = Field(default_factory=dict)
    """Likelier or less likely by grade, genre ...: `{grade: {A: 1, B: 0.5}}`; what is not named weighs 1."""

    min_length_s: Annotated[float, Field(ge=0)] = 0.0
    """Shorter sources are not used."""

    place: Literal["fill", "scatter", "sequence"] = "fill"
    """fill: as much of the mixture as the source is long, at a random offset where it is shorter. scatter:
    `length_s` long, at `offset_s` or anywhere. sequence: one after another, with gaps."""

    length_s: Distribution | None = None
    """scatter, sequence: how long a source is; by default all of it."""

    offset_s: Distribution | None = None
    """scatter: where it starts; by default anywhere that it fits."""

    gap_s: Distribution = Distribution(fixed=0.0)
    """sequence: silence before each source, at least 0."""

    max_overlap: Annotated[int, Field(ge=1)] | None = None
    """scatter: how many of the rule's sources may sound at once; one that finds no place after 20 draws is left
    out."""

    sets_length: bool = True
    """Whether a mixture whose `length_s` is 'shortest' or 'longest' looks at this source."""

    loop: bool = False
    """fill: a source that is too short is repeated."""

    shift_s: Annotated[float, Field(ge=0)] = 0.0
    """Where targets come together: each starts up to this much later than the others, at random."""

    gain_db: Distribution = Distribution(fixed=0.0)
    """Drawn for each source."""

    gain: Distribution | None = None
    """The same as a factor; both are applied."""

    lufs: Distribution | None = None
    """Loudness (BS.1770) that each source is brought to before its gain; drawn once for all of them in a
    mixture."""

    transforms: Rules = ()
    """What happens to each source on its own."""

    @property
    def parts(self) -> tuple[tuple[str, ...], ...]:
        """Each of `stems`, taken apart at '+'."""
        return tuple(tuple(part.strip() for part in stem.split("+")) for stem in self.stems)

    def targets(self, name: str) -> tuple[str, ...]:
        """The targets that the sources of the rule with this name are added to."""
        target = self.target or name
        if not self.separate:
            return (target,)
        return tuple(f"{target}_{number}" for number in range(1, int(self.count.support[1]) + 1))

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        for field, place in (("offset_s", "scatter"), ("max_overlap", "scatter"), ("gap_s", "sequence")):
            if self.place != place and getattr(self, field) != type(self).model_fields[field].default:
                raise ValueError(f"field '{field}' is for place '{place}', and place is '{self.place}'")
        if self.within == "stems" and (self.labels is not None or self.per == "label" or "label" in self.weights):
            raise ValueError("labels are of clips, and within is 'stems'; write 'within: clips'")
        if self.length_s is not None and self.place == "fill":
            raise ValueError("field 'length_s' is for place 'scatter' or 'sequence', and place is 'fill'")
        if self.loop and self.place != "fill":
            raise ValueError(f"field 'loop' is for place 'fill', and place is '{self.place}'")
        for field in ("length_s", "gain"):
            distribution = getattr(self, field)
            if distribution is not None and distribution.support[1] <= 0:
                raise ValueError(f"field '{field}' never is above 0: {distribution.model_dump(mode='json')}")
        for field, low, high in (("gain_db", -150, 60), ("lufs", -70, 0)):
            distribution = getattr(self, field)
            ends = [] if distribution is None else [end for end in distribution.support if math.isfinite(end)]
            if any(not low <= end <= high for end in ends):
                raise ValueError(f"field '{field}' goes from {low} to {high}, not to {max(ends, key=abs):g}")
        if self.separate and self.count.support[1] == float("inf"):
            raise ValueError("separate targets need a count that has a largest value; add 'clip: [1, 4]' to it")
        if self.lufs is not None and any(len(parts) > 1 for parts in self.parts):
            raise ValueError("field 'lufs' measures one stem, and 'stems' joins several by '+'")
        if any(not part for parts in self.parts for part in parts):
            raise ValueError(f"field 'stems' has an empty name: {list(self.stems)}")
        return self


class Removal(Settings):
    """A cascade: one target is taken out first, and the others are what is to be found in the rest."""

    target: str
    """The name of the one that is taken out."""

    by: Literal["oracle", "separator"] = "oracle"
    """oracle: it is taken out whole. separator: what one given to the renderer finds is subtracted; what it misses
    stays in the mixture, as the target `residual`."""


def _without_nulls(sources: Any) -> Any:
    """What a recipe on top of another takes out of it."""
    if isinstance(sources, Mapping):
        return {name: source for name, source in sources.items() if source is not None}
    return sources


class MixRecipe(Settings):
    """How mixtures are drawn from a corpus."""

    about: str = ""
    """What it is and where it comes from."""

    sample_rate: Annotated[int, Field(ge=1000, le=384_000)]
    """Of mixtures, in Hz; sources of other rates are resampled."""

    channels: Annotated[int, Field(ge=1, le=2)] = 2
    """Of mixtures."""

    length_s: Annotated[float | Literal["shortest", "longest"], PlainValidator(_length)]
    """Of a mixture; or that of its shortest or longest source (LibriMix's min and max)."""

    sources: Annotated[dict[_Name, SourceRule], BeforeValidator(_without_nulls), Field(min_length=1)]
    """By name; targets come in this order. Null takes out one that a base has."""

    together: bool = False
    """Whether all sources of a mixture are from the same moment of one song."""

    shuffle_groups: Annotated[int, Field(ge=1)] = 1
    """With `together`: that many consecutive mixtures then exchange their sources (Demucs: 4)."""

    distinct: bool = True
    """Whether the sources of a mixture are from different songs, as far as there are so many."""

    distinct_labels: bool = False
    """Whether the clips of a mixture have different labels, as far as there are so many; those without one do not
    count."""

    min_sources: Annotated[int, Field(ge=0)] = 1
    """Counts are drawn again until a mixture has as many sources."""

    remove: Removal | None = None
    """The target that is taken out first, for training the later stages of a cascade."""

    transforms: Rules = ()
    """What happens to all targets alike."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.together:
            if self.distinct_labels:
                raise ValueError("distinct_labels is for sources from songs of their own, and they come 'together'")
            for name, source in self.sources.items():
                if source.count != Count(fixed=1) or source.place != "fill" or source.separate or source.loop:
                    raise ValueError(
                        f"source '{name}' comes together with the others from one song: leave out count, place, "
                        "loop and separate (silence may stay)"
                    )
        elif self.shuffle_groups > 1:
            raise ValueError(
                f"shuffle_groups {self.shuffle_groups} exchanges sources of one song: add 'together: true'"
            )
        rules = [*self.transforms, *(rule for source in self.sources.values() for rule in source.transforms)]
        if self.channels == 1 and any(name_of(rule) == "mono_to_stereo" for rule in rules):
            raise ValueError("transform 'mono_to_stereo' needs 'channels: 2', and the recipe has 1")
        if isinstance(self.length_s, str) and not any(source.sets_length for source in self.sources.values()):
            raise ValueError(
                f"length_s is '{self.length_s}', and no source sets the length; let one have sets_length"
            )
        most = sum(source.count.support[1] for source in self.sources.values() if source.silence < 1)
        if most < self.min_sources:
            raise ValueError(
                f"min_sources {self.min_sources} can never be reached: the sources' counts add up to {most:g} at "
                "most"
            )
        separate = [
            target for name, source in self.sources.items() if source.separate for target in source.targets(name)
        ]
        shared = {source.target or name for name, source in self.sources.items() if not source.separate}
        twice = sorted({name for name in separate if name in shared or separate.count(name) > 1})
        if twice:
            raise ValueError(f"separate target '{twice[0]}' has the name of another target; rename the source")
        if MIXTURE in self.targets:
            raise ValueError(
                f"a target cannot be called '{MIXTURE}', which is what they sum to; write 'target: NAME'"
            )
        if not self.targets:
            raise ValueError("there is no target: every source is separate, and none can be there")
        if self.remove is not None and self.remove.target not in self.targets:
            near = did_you_mean(self.remove.target, self.targets)
            raise ValueError(
                f"remove.target '{self.remove.target}' is no target{near}; there are {', '.join(self.targets)}"
            )
        return self

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets that are drawn, in their order."""
        return tuple(dict.fromkeys(t for name, source in self.sources.items() for t in source.targets(name)))

    @property
    def num_frames(self) -> int | None:
        """Length of every mixture in frames; None where it is that of its sources."""
        return None if isinstance(self.length_s, str) else max(1, round(self.length_s * self.sample_rate))

    def of_split(self, split: str) -> Self:
        """The recipe with its sources taken from one split, where it does not say from which.

        Parameters
        ----------
        split : str
            Empty: from all, as it is.

        Returns
        -------
        MixRecipe
        """
        if not split:
            return self
        sources = {
            name: source if source.splits is not None else source.model_copy(update={"splits": (split,)})
            for name, source in self.sources.items()
        }
        return self.model_copy(update={"sources": sources})

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the targets that are rendered: without what a cascade removes, with what is left of that."""
        if self.remove is None:
            return self.targets
        others = tuple(name for name in self.targets if name != self.remove.target)
        return others if self.remove.by == "oracle" else (*others, "residual")


_FOLDERS = (Path(__file__).parent / "recipes", Path(__file__).parents[1] / "recipes" / "mix")


def mix_names() -> list[str]:
    """Names of the ready recipes.

    Returns
    -------
    list of str
        Sorted.
    """
    return recipe_names(_FOLDERS)


def load_mix(recipe: str | Path) -> MixRecipe:
    """Read a mixing recipe.

    Parameters
    ----------
    recipe : str or Path
        The name of a ready recipe (`mix_names` lists them), or the path of a YAML file.

    Returns
    -------
    MixRecipe

    Raises
    ------
    RecipeError
        When there is no such recipe, or something in it is wrong: one line for each field.
    """
    return load_recipe(find_recipe(recipe, _FOLDERS), MixRecipe)
