"""Which pair makes a song's triplet, when a song has several mixtures and instrumentals.

Input are compared pairs: what `curation.evidence` found two tracks to be to each other. The mixture of a pair
contains the instrumental, so tracks of one song are ordered by what they contain (instrumental, instrumental with
backing vocals, full mixture). Only a track that nothing else contains is a mixture: the difference between an
instrumental with backing vocals and one without is no lead voice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from curation.versions import SAME_TAKE, WITHOUT_LEAD

Status = Literal["chosen", "alternative", "refused"]


@dataclass(frozen=True)
class Compared:
    """Two tracks whose waveforms were compared.

    Attributes
    ----------
    pair_id : str
    mixture_id, instrumental_id : str
        In their order when `is_pair`, else in any.
    is_pair : bool
        The instrumental is contained in the mixture.
    is_same : bool
        One recording twice.
    confidence : float [0, 1]
    residual_db : float
        What the instrumental leaves in vocal-free frames.
    mixture_version, instrumental_version : str
        Version labels of `curation.versions`.
    """

    pair_id: str
    mixture_id: str
    instrumental_id: str
    is_pair: bool
    is_same: bool
    confidence: float
    residual_db: float
    mixture_version: str
    instrumental_version: str


@dataclass(frozen=True)
class Verdict:
    """What becomes of a pair: its status, the song it belongs to (the chosen mixture's id), the reason against."""

    status: Status
    song_id: str | None
    reason: str | None


def choose_pairs(compared: Sequence[Compared]) -> dict[str, Verdict]:
    """Choose one pair for every song.

    Parameters
    ----------
    compared : sequence of Compared
        In any order; the result does not depend on it.

    Returns
    -------
    dict of str to Verdict
        One for each compared pair, by pair id. Pairs that the waveforms refused stay refused without a reason
        here (the evidence has it).
    """
    pairs = sorted((pair for pair in compared if pair.is_pair), key=lambda pair: pair.pair_id)
    verdicts = {pair.pair_id: Verdict("refused", None, None) for pair in compared if not pair.is_pair}
    containers: dict[str, Compared] = {}
    for pair in pairs:
        known = containers.get(pair.instrumental_id)
        if known is None or pair.confidence > known.confidence:
            containers[pair.instrumental_id] = pair
    true_pairs = []
    for pair in pairs:
        container = containers.get(pair.mixture_id)
        if container is None:
            true_pairs.append(pair)
            continue
        verdicts[pair.pair_id] = Verdict(
            "refused",
            None,
            f"the mixture is itself contained in {container.mixture_id}: both are instrumentals, one with backing "
            "vocals",
        )
    links = [(p.mixture_id, p.instrumental_id) for p in true_pairs]
    links += [(p.mixture_id, p.instrumental_id) for p in compared if p.is_same]
    song_of = _components(links)
    by_song: dict[str, list[Compared]] = {}
    for pair in true_pairs:
        by_song.setdefault(song_of[pair.mixture_id], []).append(pair)
    for same_song in by_song.values():
        best = max(same_song, key=_merit)
        for pair in same_song:
            status: Status = "chosen" if pair is best else "alternative"
            verdicts[pair.pair_id] = Verdict(status, best.mixture_id, None)
    return verdicts


def _merit(pair: Compared) -> tuple[bool, bool, float, float, str]:
    """What makes a pair the better one of a song; the id makes it unambiguous."""
    clean = pair.instrumental_version in WITHOUT_LEAD - {"tv_track"}
    same_take = pair.mixture_version in SAME_TAKE
    return (clean, same_take, round(pair.confidence, 1), -pair.residual_db, pair.pair_id)


def _components(links: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Connected components: every node to its component's smallest node."""
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in links:
        first, second = sorted((root(a), root(b)))
        parent[second] = first
    return {node: root(node) for node in parent}
