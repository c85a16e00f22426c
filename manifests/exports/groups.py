"""Which stems of a corpus make which stems of a layout, and what a layout cannot take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from manifests.corpus import MIXTURE
from manifests.errors import RecipeError, TableError, did_you_mean
from manifests.exports.mixing import Sound
from manifests.exports.songs import Song

_MAX_NAMED = 20


def grouped(songs: Sequence[Song], stems: Mapping[str, Sequence[str]]) -> dict[str, dict[str, tuple[Sound, ...]]]:
    """What makes each stem of a layout, by song.

    Parameters
    ----------
    songs : sequence of Song
    stems : mapping of str to sequence of str
        A stem of the layout, and the stems of the corpus that add up to it; those that a song has not are left out.

    Returns
    -------
    dict of str to dict of str to tuple of Sound
        Song id to stem to files, none where the song has no part of the stem.

    Raises
    ------
    RecipeError
        When `stems` is empty, names a stem that no song has, one stem twice, or the mixture.
    """
    known = {stem for song in songs for stem in song.sounds} - {MIXTURE}
    parts = Counter(part for group in stems.values() for part in group)
    if MIXTURE in (*stems, *parts):
        raise RecipeError(f"stems: '{MIXTURE}' is the sum of all stems, and none of them; leave it out")
    if not parts:
        raise RecipeError(
            f"stems: there is none to export; the songs have {', '.join(sorted(known)) or 'a mixture only'}"
        )
    for part, count in parts.items():
        if part not in known:
            hint = did_you_mean(part, known) or f"; they have {', '.join(sorted(known))}"
            raise RecipeError(f"stems: no song has a stem '{part}'{hint}")
        if count > 1:
            raise RecipeError(f"stems: '{part}' is named {count} times, and would be heard as often; name it once")
    return {
        song.song_id: {
            stem: tuple(song.sounds[part] for part in group if part in song.sounds) for stem, group in stems.items()
        }
        for song in songs
    }


def mixture_of(song: Song) -> tuple[Sound, ...]:
    """The files that add up to a song: its mixture, or all of its stems."""
    return (song.sounds[MIXTURE],) if MIXTURE in song.sounds else tuple(song.sounds.values())


def require_stems(song: Song, groups: Mapping[str, Sequence[Sound]]) -> None:
    """Refuse a song that has no part of a stem.

    Raises
    ------
    TableError
        Naming the song and the stem.
    """
    for stem, sounds in groups.items():
        if not sounds:
            raise TableError(
                f"song '{song.song_id}' has nothing for stem '{stem}' (it has {', '.join(song.sounds)}); leave the "
                "song out, or ask for silence if nothing of the kind is played in it"
            )


def require_one_format(songs: Sequence[Song], layout: str, sample_rate: int | None = None) -> None:
    """Refuse songs of several rates or channel counts, for layouts whose readers take them for one.

    Parameters
    ----------
    songs : sequence of Song
    layout : str
        Its name, for the message.
    sample_rate : int, optional
        The rate that all will be resampled to; theirs may differ then.

    Raises
    ------
    TableError
        Naming the songs that differ from most.
    """
    units = {"channels": "channels"} if sample_rate else {"sample_rate": "Hz", "channels": "channels"}
    for field, unit in units.items():
        counts = Counter(getattr(song, field) for song in songs)
        ((usual, _),) = counts.most_common(1)
        if others := [song for song in songs if getattr(song, field) != usual]:
            ids = ",".join(song.song_id for song in others[:_MAX_NAMED])
            more = f" and {len(others) - _MAX_NAMED} more" if len(others) > _MAX_NAMED else ""
            raise TableError(
                f"song '{others[0].song_id}' has {getattr(others[0], field)} {unit}, and most songs have {usual}: "
                f"{layout} takes all for alike; leave out {ids}{more}"
                + (
                    f", or ask for sample_rate {usual}"
                    if field == "sample_rate"
                    else ", or bring them to one layout"
                )
            )


def refuse_stems_named(songs: Sequence[Song], reserved: Collection[str], layout: str) -> None:
    """Refuse stems whose names a layout needs for something else.

    Raises
    ------
    RecipeError
        Naming the song and the stem.
    """
    for song in songs:
        for stem in song.sounds:
            if stem in reserved:
                raise RecipeError(
                    f"song '{song.song_id}' has a stem '{stem}', which is another field of {layout}; rename it"
                )
