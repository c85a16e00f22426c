"""What of a corpus a separator's sources are compared with.

Sources and stems are named after what they hold, and the names differ: accompaniment and instrumental, dialogue and
speech. A source is looked for among a song's stems by its own name, then by names of the same thing; what is
everything but one thing (an accompaniment) is the sum of the song's other stems, where it is no stem itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

from manifests.corpus import MIXTURE, Corpus
from manifests.errors import RecipeError, TableError, did_you_mean

__all__ = ["Targets", "alike", "source_number", "stems_for", "target_stems"]

Targets: TypeAlias = Mapping[str, str | Sequence[str]]
"""A separator's source to the stems that sum to its reference, as a list or joined by '+'."""

_ALIKE = (
    ("vocals", "voice", "singing"),
    ("instrumental", "accompaniment", "no_vocals", "karaoke", "backing"),
    ("dialogue", "speech", "dialog", "dx"),
    ("background", "no_dialogue", "no_speech"),
    ("music", "mx", "music_instrumental"),
    ("effects", "sfx", "fx"),
)
_ALL_BUT = {"instrumental": "vocals", "background": "dialogue"}


def alike(name: str) -> tuple[str, ...]:
    """Names of the same thing.

    Parameters
    ----------
    name : str
        Of a source or a stem.

    Returns
    -------
    tuple of str
        `name` first.
    """
    group = next((group for group in _ALIKE if name.lower() in group), ())
    return (name, *(other for other in group if other != name))


def source_number(target: str, sources: Sequence[str]) -> int | None:
    """Where a separator has a target among its sources, by this name or one of the same thing; None without it."""
    return next((sources.index(name) for name in alike(target) if name in sources), None)


def stems_for(source: str, stems: Collection[str]) -> tuple[str, ...] | None:
    """The stems of a song that sum to a source.

    Parameters
    ----------
    source : str
        Of a separator.
    stems : collection of str
        What the song has.

    Returns
    -------
    tuple of str or None
        None where the song does not have it.

    Examples
    --------
    >>> stems_for("accompaniment", ["mixture", "bass", "drums", "other", "vocals"])
    ('bass', 'drums', 'other')
    >>> stems_for("dialogue", ["mixture", "speech", "music"])
    ('speech',)
    """
    names = alike(source)
    for name in names:
        if name in stems and name != MIXTURE:
            return (name,)
    without = next((_ALL_BUT[name] for name in names if name in _ALL_BUT), None)
    left_out = None if without is None else stems_for(without, stems)
    if left_out is None:
        return None
    return tuple(stem for stem in stems if stem != MIXTURE and stem not in left_out) or None


def target_stems(
    sources: Sequence[str], corpus: Corpus, song_id: str, targets: Targets | None = None
) -> dict[str, tuple[str, ...]]:
    """What each source of a separator is compared with in a song.

    Parameters
    ----------
    sources : sequence of str
        Of the separator.
    corpus : Corpus
    song_id : str
    targets : mapping of str to str or sequence of str, optional
        Stems by source; sources that it does not name are not compared. By default all are, with what
        `stems_for` finds.

    Returns
    -------
    dict of str to tuple of str
        Stems by source, in the order of `sources`.

    Raises
    ------
    RecipeError
        `targets` is empty, or names a source that the separator does not have.
    TableError
        The song lacks a stem.
    """
    stems = corpus.song(song_id)
    has = f"it has {', '.join(stems)}"
    if targets is None:
        found = {source: stems_for(source, stems) for source in sources}
        for source, alone in found.items():
            if alone is None:
                raise TableError(
                    f"{corpus.folder}: song '{song_id}' has no stem for the source '{source}' ({has}); say what to "
                    f"compare it with by --target {source}=STEM+STEM (in Python targets={{'{source}': "
                    "'STEM+STEM'}), and leave out sources to skip"
                )
        return {source: parts for source, parts in found.items() if parts is not None}
    if not targets:
        raise RecipeError("targets is empty: name at least one source, or leave it out to compare all")
    for source in targets:
        if source not in sources:
            raise RecipeError(
                f"targets names the source '{source}'{did_you_mean(source, sources)}, and the separator has "
                f"{', '.join(sources)}"
            )
    chosen = {source: _parts(targets[source]) for source in sources if source in targets}
    for source, parts in chosen.items():
        for stem in parts:
            if stem not in stems:
                raise TableError(
                    f"{corpus.folder}: song '{song_id}' has no stem '{stem}', which targets gives for the source "
                    f"'{source}'{did_you_mean(stem, stems)}; {has}"
                )
    return chosen


def _parts(stems: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(stem.strip() for stem in (stems.split("+") if isinstance(stems, str) else stems))
