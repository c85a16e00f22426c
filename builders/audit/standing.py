"""What the verdicts of a build say of the stems that are there now, and the column `audit` made of it.

A verdict names the content ids of what was heard. Where a build was made again, verdicts on what has become other
audio, or has gone, are kept, and do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from builders.audit.verdicts import Verdict, read_verdicts
from curation.audit import Judgement
from manifests.audited import write_audit
from manifests.corpus import Corpus, Row
from manifests.lock import BuildLock

_NAMED = 5

Key: TypeAlias = tuple[str, str | None]
"""A song, or one of its stems."""


def newest(
    verdicts: Sequence[Verdict], counts: Callable[[Verdict], bool] = lambda said: True
) -> dict[Key, Verdict]:
    """What stands: the newest verdict on each song and stem, but for those taken back.

    A verdict on a song as a whole ends those given before on its stems alone, until it is taken back.

    Parameters
    ----------
    verdicts : sequence of Verdict
        The oldest first.
    counts : callable, optional
        Whether a verdict on a song is on what is there: another one ends none.

    Returns
    -------
    dict of (song_id, stem or None) to Verdict
    """
    last = {(verdict.song_id, verdict.stem): place for place, verdict in enumerate(verdicts)}
    left = {key: place for key, place in last.items() if verdicts[place].verdict != "unheard"}

    def is_ended(song_id: str, place: int) -> bool:
        whole = left.get((song_id, None), -1)
        return place < whole and counts(verdicts[whole])

    return {key: verdicts[place] for key, place in left.items() if not is_ended(key[0], place)}


def content_ids_of(rows: Mapping[str, Row], stem: str | None) -> dict[str, str | None]:
    """What a verdict on a song, or on one stem of it, is on, by stem."""
    return {name: row["content_id"] for name, row in rows.items() if stem in (None, name)}


def why_not(verdict: Verdict, songs: Mapping[str, Mapping[str, Row]]) -> str | None:
    """Why a verdict does not count any more: 'gone' or 'changed'; None where it does."""
    rows = songs.get(verdict.song_id)
    if rows is None or (verdict.stem is not None and verdict.stem not in rows):
        return "gone"
    return None if dict(verdict.content_ids) == content_ids_of(rows, verdict.stem) else "changed"


@dataclass(frozen=True)
class Standing:
    """What the verdicts of a build say of its stems as they are.

    Attributes
    ----------
    audit : dict of (song_id, stem) to str
        Value of the column for every row of the stems table.
    said : dict of (song_id, stem) to Verdict
        Of rows that a verdict is on: the stem's own, unless its song was judged after it, or else its song's.
    unused : dict of str to list of Verdict
        'gone' and 'changed': verdicts that do not count any more.
    """

    audit: dict[tuple[str, str], Judgement]
    said: dict[tuple[str, str], Verdict]
    unused: dict[str, list[Verdict]]

    def notes(self) -> list[str]:
        """The verdicts that do not count, in words."""
        words = {
            "gone": "of songs or stems that are not in the build any more",
            "changed": "of audio that has changed since it was heard",
        }
        found = []
        for why, verdicts in self.unused.items():
            names = [f"{v.song_id}/{v.stem}" if v.stem else v.song_id for v in verdicts]
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            count = "1 verdict" if len(names) == 1 else f"{len(names)} verdicts"
            do = "does" if len(names) == 1 else "do"
            found.append(f"{count} {words[why]} {do} not count: {', '.join(names[:_NAMED])}{more}")
        return found


def standing(corpus: Corpus, verdicts: Sequence[Verdict]) -> Standing:
    """Hold verdicts against the stems that are there.

    Parameters
    ----------
    corpus : Corpus
    verdicts : sequence of Verdict
        Every line of the file.

    Returns
    -------
    Standing
        A row on which nobody ever said anything keeps what its column says.
    """
    songs = {song_id: corpus.song(song_id) for song_id in corpus.songs()}
    unused: dict[str, list[Verdict]] = {}
    counting: dict[Key, Verdict] = {}
    for key, verdict in newest(verdicts, lambda verdict: why_not(verdict, songs) is None).items():
        why = why_not(verdict, songs)
        if why is None:
            counting[key] = verdict
        else:
            unused.setdefault(why, []).append(verdict)
    last = {(verdict.song_id, verdict.stem): verdict for verdict in verdicts}
    mentioned = {key for key, verdict in last.items() if why_not(verdict, songs) is None}
    audit: dict[tuple[str, str], Judgement] = {}
    said: dict[tuple[str, str], Verdict] = {}
    for song_id, rows in songs.items():
        for stem, row in rows.items():
            counted = counting.get((song_id, stem)) or counting.get((song_id, None))
            if counted is not None:
                audit[song_id, stem], said[song_id, stem] = counted.verdict, counted
            elif (song_id, stem) in mentioned or (song_id, None) in mentioned:
                audit[song_id, stem] = "unheard"
            else:
                audit[song_id, stem] = row["audit"]
    return Standing(audit, said, unused)


@dataclass(frozen=True)
class Applied:
    """What became of the column `audit`.

    Attributes
    ----------
    changed : bool
        Whether the stems table was rewritten.
    accepted, rejected, unheard : int
        Its rows now.
    notes : tuple of str
        Verdicts that do not count any more, in words.
    """

    changed: bool
    accepted: int
    rejected: int
    unheard: int
    notes: tuple[str, ...]


def apply_verdicts(build: Path, verdicts: Sequence[Verdict] | None = None) -> Applied:
    """Write what people said into the column `audit` of a build's stems table.

    Parameters
    ----------
    build : Path
        A finished build. Its lock is held meanwhile.
    verdicts : sequence of Verdict, optional
        Every line of its file, where that has been read before.

    Returns
    -------
    Applied

    Raises
    ------
    BuildError
        When a build is at work in the folder, or the disk refuses: the verdicts are kept, and can be applied later.
    TableError
        When there is no stems table, or it is damaged.
    """
    with BuildLock(build):
        corpus = Corpus.open(build)
        found = standing(corpus, read_verdicts(build) if verdicts is None else verdicts)
        names = zip(corpus.stems["song_id"], corpus.stems["stem"], strict=True)
        values = [found.audit[str(song_id), str(stem)] for song_id, stem in names]
        changed = write_audit(build, values)
    counts = {value: values.count(value) for value in ("accepted", "rejected", "unheard")}
    return Applied(changed=changed, notes=tuple(found.notes()), **counts)
