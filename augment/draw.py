"""Drawing a mixture's plan out of a recipe, a pool and three numbers.

Everything random about a mixture is decided here, by a generator of its own: `SeedSequence((seed, epoch, index))`.
So a mixture depends on nothing else: not on workers, ranks, the order of draws or where a run was resumed.

Each transform of a mixture, and of each of its sources, draws from a generator that is spawned of that one for it
alone. So recipes that differ in transforms draw the same songs, moments and gains, and the transforms that they
share draw the same parameters: what differs between networks that are trained on them is the transforms' doing.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from augment.distributions import Distribution
from augment.plan import Event, MixturePlan, Step
from augment.pool import Choice, File, Pool
from augment.recipe import MixRecipe, SourceRule
from augment.render import REMOVE
from augment.transforms.rule import Rule, Scene
from augment.transforms.rules import frames_needed, name_of
from manifests.errors import RecipeError

__all__ = ["draw", "generator"]

Spawn = Callable[..., np.random.Generator]

_TRIES = 20
_GROUP = 1 << 32
"""Marks the generator of a group of mixtures; no index is as large."""


def generator(seed: int, epoch: int, index: int, attempt: int = 0) -> np.random.Generator:
    """The generator that decides a mixture.

    Parameters
    ----------
    seed, epoch, index : int
        At least 0.
    attempt : int
        How many draws of this mixture came before.

    Returns
    -------
    np.random.Generator
    """
    return _spawned(seed, epoch, index, attempt)


def _spawned(seed: int, epoch: int, index: int, attempt: int, *names: int) -> np.random.Generator:
    """A mixture's generator, or one of its own for something in it."""
    key = (seed, epoch, index, attempt) if attempt else (seed, epoch, index)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key, spawn_key=names)))


def draw(recipe: MixRecipe, pool: Pool, seed: int, epoch: int, index: int, attempt: int = 0) -> MixturePlan:
    """Decide a mixture.

    Parameters
    ----------
    recipe : MixRecipe
    pool : Pool
        Of the same recipe.
    seed, epoch, index : int
        At least 0.
    attempt : int
        Draw another mixture for the same three numbers: the one to use when files of those before it are broken.

    Returns
    -------
    MixturePlan

    Raises
    ------
    RecipeError
        When the counts of 1,000 draws never reach `min_sources`, or a length or a factor never is above 0.
    """
    rng = generator(seed, epoch, index, attempt)
    key = (seed, epoch, index, attempt)
    takes = _together(recipe, pool, rng, key) if recipe.together else _apart(recipe, pool, rng)
    num_frames = _length(recipe, takes)
    spawn = functools.partial(_spawned, *key)
    steps, _ = _steps(recipe.transforms, num_frames, recipe, recipe.channels, recipe.targets, spawn)
    inner_frames = frames_needed(steps, num_frames)
    targets = recipe.targets
    events: list[Event] = []
    for name, source in recipe.sources.items():
        mine = [take for take in takes if take.name == name]
        if mine:
            events += _placed(
                recipe,
                source,
                source.targets(name),
                mine,
                inner_frames,
                rng,
                functools.partial(spawn, _number(name)),
            )
    events.sort(key=lambda event: targets.index(event.target))
    if recipe.remove is not None:
        steps.append({"name": REMOVE, "target": recipe.remove.target, "by": recipe.remove.by})
    return MixturePlan(
        seed,
        epoch,
        index,
        attempt,
        recipe.sample_rate,
        recipe.channels,
        num_frames,
        targets,
        tuple(events),
        tuple(steps),
    )


@dataclass(frozen=True)
class _Take:
    """A place that was drawn for a source, and how far into it: a share of what is left to choose.

    That is where the crop starts in a source that is longer than the mixture, and where a shorter one lies in it.
    """

    name: str
    files: tuple[File, ...]
    start: int
    num_frames: int
    position: float

    def frames_at(self, rate: int) -> int:
        """Its length in frames at another rate, rounded down."""
        return self.num_frames * rate // self.files[0].sample_rate


def _take(pool: Pool, name: str, entry: int, position: float) -> _Take:
    choice = pool.choices[name]
    first = int(choice.first_file[entry])
    files = tuple(pool.file(first + number) for number in range(int(choice.num_files[entry])))
    return _Take(name, files, int(choice.start[entry]), int(choice.num_frames[entry]), position)


def _apart(recipe: MixRecipe, pool: Pool, rng: np.random.Generator) -> list[_Take]:
    """Sources from songs of their own."""
    for _ in range(1000):
        counts = {name: _count(source, rng) for name, source in recipe.sources.items()}
        if sum(counts.values()) >= recipe.min_sources:
            break
    else:
        raise RecipeError(
            f"recipe: min_sources {recipe.min_sources} was not reached in 1,000 draws of the counts; lower it, or "
            "raise the counts"
        )
    songs: set[int] = set()
    labels: set[int] = set()
    takes = []
    for name, count in counts.items():
        choice = pool.choices[name]
        for _ in range(count):
            entry = _entry(choice, rng, songs if recipe.distinct else set(), labels)
            songs.add(int(choice.song[entry]))
            if recipe.distinct_labels and choice.label[entry] >= 0:
                labels.add(int(choice.label[entry]))
            takes.append(_take(pool, name, entry, rng.random()))
    return takes


def _count(source: SourceRule, rng: np.random.Generator) -> int:
    if source.silence and rng.random() < source.silence:
        return 0
    return source.count.draw_count(rng)


def _entry(choice: Choice, rng: np.random.Generator, songs: set[int], labels: set[int]) -> int:
    """An entry of a song and a label that are not among these, as long as there is one.

    Where there is none, rather the song comes twice than the label.
    """
    for _ in range(_TRIES):
        entry = choice.table.draw(rng)
        if int(choice.song[entry]) not in songs and int(choice.label[entry]) not in labels:
            return entry
    # hardly any song is left: look at all of them
    is_other = ~np.isin(choice.label, list(labels))
    for is_left in [~np.isin(choice.song, list(songs)) & is_other, *([is_other] if labels else [])]:
        left = np.flatnonzero(is_left)
        weights = choice.table.shares()[left]
        if weights.sum() > 0:
            return int(rng.choice(left, p=weights / weights.sum()))
    return entry


def _together(
    recipe: MixRecipe, pool: Pool, rng: np.random.Generator, key: tuple[int, int, int, int]
) -> list[_Take]:
    """Sources from one moment of a song; or, in groups, each from the moment of any member of the group.

    A group's draws belong to the group: each member repeats them and takes its part, so that no mixture depends on
    another having been drawn.
    """
    names = list(recipe.sources)
    table = pool.choices[names[0]].table
    size = recipe.shuffle_groups
    if size == 1:
        moments = dict.fromkeys(names, (table.draw(rng), rng.random()))
    else:
        seed, epoch, index, attempt = key
        ours = generator(seed, epoch, index // size, _GROUP + attempt)
        group = [(table.draw(ours), ours.random()) for _ in range(size)]
        moments = {name: group[int(ours.permutation(size)[index % size])] for name in names}
    for _ in range(1000):
        heard = [name for name in names if _count(recipe.sources[name], rng)]
        if len(heard) >= recipe.min_sources:
            return [_take(pool, name, *moments[name]) for name in heard]
    raise RecipeError(
        f"recipe: min_sources {recipe.min_sources} was not reached in 1,000 draws; lower it, or the sources' "
        "silence"
    )


def _length(recipe: MixRecipe, takes: Sequence[_Take]) -> int:
    if recipe.num_frames is not None:
        return recipe.num_frames
    lengths = [take.frames_at(recipe.sample_rate) for take in takes if recipe.sources[take.name].sets_length]
    return max(1, min(lengths, default=1) if recipe.length_s == "shortest" else max(lengths, default=1))


def _steps(
    rules: Sequence[Rule],
    num_frames: int,
    recipe: MixRecipe,
    channels: int,
    targets: tuple[str, ...],
    spawn: Spawn,
) -> tuple[list[Step], int]:
    """Draw transforms, each from a generator of its own, and how many channels come out of the last one."""
    steps: list[Step] = []
    seen: Counter[str] = Counter()
    for rule in rules:
        name = name_of(rule)
        rng = spawn(_number(name), seen[name])
        seen[name] += 1
        if rule.p < 1 and rng.random() >= rule.p:
            continue
        parameters = rule.draw(rng, Scene(num_frames, recipe.sample_rate, channels, targets))
        channels = rule.output_channels(channels, **parameters)
        steps.append({"name": name, **parameters})
    return steps, channels


def _number(name: str) -> int:
    """A number for a name, the same in every process."""
    return zlib.crc32(name.encode())


def _placed(
    recipe: MixRecipe,
    source: SourceRule,
    targets: tuple[str, ...],
    takes: Sequence[_Take],
    inner_frames: int,
    rng: np.random.Generator,
    spawn: Spawn,
) -> list[Event]:
    """The events of one rule's sources."""
    lufs = None if source.lufs is None else source.lufs.draw(rng)
    events: list[Event] = []
    spans: list[tuple[int, int]] = []
    cursor = 0
    for number, take in enumerate(takes):
        wanted = _wanted(recipe, source, take, inner_frames, rng)
        file = take.files[0]
        channels = min(file.channels, recipe.channels)
        mine = functools.partial(spawn, number)
        steps, channels = _steps(source.transforms, wanted, recipe, channels, (), mine)
        length, taken = _fitted(recipe, take, wanted, steps)
        gain_db = _gain_db(source, take.name, rng)
        if lufs is not None:
            if channels < recipe.channels:  # its loudness is that of all its channels
                steps.append({"name": "mono_to_stereo", "method": "plain"})
            steps.append({"name": "loudness", "lufs": lufs})
        start = _start(recipe, source, take, taken, rng)
        target = targets[number % len(targets)]
        offset = _offset(recipe, source, take, length, inner_frames, cursor, spans, rng)
        if offset is None:
            continue
        if length > inner_frames - offset:  # what is cut off is neither read nor measured
            length, taken = _fitted(recipe, take, inner_frames - offset, steps)
        repeats = range(offset, inner_frames, length) if source.loop else (offset,)
        for place in repeats:
            shown = min(length, inner_frames - place)
            events += [
                Event(
                    take.name,
                    target,
                    file.song_id,
                    file.stem,
                    file.root,
                    file.path,
                    start,
                    taken,
                    file.sample_rate,
                    place,
                    shown,
                    gain_db,
                    tuple(steps),
                )
                for file in take.files
            ]
        spans.append((offset, offset + length))
        cursor = offset + length
    return events


def _wanted(recipe: MixRecipe, source: SourceRule, take: _Take, inner_frames: int, rng: np.random.Generator) -> int:
    """How long a source is to be in the mixture, if it is long enough."""
    if source.length_s is None:
        return inner_frames if source.place == "fill" else min(inner_frames, take.frames_at(recipe.sample_rate))
    length_s = _above_zero(source.length_s, rng, f"source '{take.name}': field 'length_s'")
    return min(max(1, round(length_s * recipe.sample_rate)), inner_frames)


def _fitted(recipe: MixRecipe, take: _Take, wanted: int, steps: Sequence[Step]) -> tuple[int, int]:
    """The length that a source has frames for, at most `wanted`, and how many frames of its file that takes."""
    file_rate = take.files[0].sample_rate
    length = wanted
    while True:
        taken = math.ceil(frames_needed(steps, length) * file_rate / recipe.sample_rate)
        if taken <= take.num_frames or length == 1:
            return length, min(taken, take.num_frames)
        length = max(1, min(length - 1, length * take.num_frames // taken))


def _gain_db(source: SourceRule, name: str, rng: np.random.Generator) -> float:
    gain_db = source.gain_db.draw(rng)
    if source.gain is not None:
        gain_db += 20 * math.log10(_above_zero(source.gain, rng, f"source '{name}': field 'gain'"))
    return gain_db


def _above_zero(distribution: Distribution, rng: np.random.Generator, what: str) -> float:
    """A draw given that it is above 0."""
    for _ in range(1000):
        value = distribution.draw(rng)
        if value > 0:
            return value
    raise RecipeError(
        f"recipe: {what} was not above 0 in 1,000 draws of {distribution.model_dump(mode='json')}; move it up"
    )


def _start(recipe: MixRecipe, source: SourceRule, take: _Take, taken: int, rng: np.random.Generator) -> int:
    """Where in the file the crop starts."""
    spare = take.num_frames - taken
    start = int(take.position * (spare + 1))
    if source.shift_s:
        start += round(rng.uniform(0, source.shift_s) * take.files[0].sample_rate)
    return take.start + min(start, spare)


def _offset(
    recipe: MixRecipe,
    source: SourceRule,
    take: _Take,
    length: int,
    inner_frames: int,
    cursor: int,
    spans: Sequence[tuple[int, int]],
    rng: np.random.Generator,
) -> int | None:
    """Where in the mixture a source starts; None where there is no place for it."""
    if source.place == "sequence":
        gap = max(0.0, source.gap_s.draw(rng))
        offset = cursor + round(gap * recipe.sample_rate)
        return offset if offset < inner_frames else None
    if source.place == "fill":  # what comes together stays together
        return 0 if source.loop else int(take.position * (inner_frames - length + 1))
    for _ in range(_TRIES):
        if source.offset_s is None:
            offset = int(rng.integers(inner_frames - length + 1))
        else:
            offset = round(source.offset_s.draw(rng) * recipe.sample_rate)
        if 0 <= offset < inner_frames and _sounding(spans, offset, length) < (source.max_overlap or math.inf):
            return offset
    return None


def _sounding(spans: Sequence[tuple[int, int]], offset: int, length: int) -> int:
    """The largest number of spans that sound at once within a stretch."""
    inside = [(max(start, offset), min(stop, offset + length)) for start, stop in spans]
    inside = [(start, stop) for start, stop in inside if start < stop]
    return max((sum(start <= at < stop for start, stop in inside) for at, _ in inside), default=0)
