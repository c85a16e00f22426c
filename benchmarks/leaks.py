"""What the leak audit finds of what labelled catalogues hold, and of excerpts pasted into other songs.

    python benchmarks/leaks.py CATALOG [CATALOG ...]

CATALOG has `library/` and `truth/releases.csv` with the columns `path`, `song_id`, `composition_id` and `kind`.
Planted are the pairs of releases of one mixture, and excerpts: 10, 12 and 15 s of one release of a song, at 0.3 to
1 times its level, paste over a random place of a release of another song, and must be found against another release
of the first song (another codec, master, equaliser and clock). Unrelated are two releases of different compositions
of one catalogue. Prints Markdown.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from curation.chromaprint import SAMPLE_RATE, Fingerprint, fingerprint, to_pcm
from curation.leaks import find_duplicates, find_leaks
from manifests.audio import read

ONE_MIXTURE = ("mix", "mix_remaster", "radio_edit", "duplicate")
EXCERPTS_S = (10, 12, 15)
HOSTS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalogs", type=Path, nargs="+")
    rows: dict[str, list[tuple[int, int, int, int, int]]] = {}
    for number, folder in enumerate(parser.parse_args().catalogs):
        releases = pd.read_csv(folder / "truth/releases.csv")
        pcm = [to_pcm(*read(folder / path)) for path in releases["path"]]
        rows.setdefault("two releases of one mixture", []).append(whole(releases, pcm))
        for seconds in EXCERPTS_S:
            rng = np.random.default_rng((number, seconds))
            name = f"{seconds} s of another release, pasted into another song"
            rows.setdefault(name, []).append(excerpts(releases, pcm, seconds, rng))
    print(
        "| planted | pairs | found as duplicates | as leaks | unrelated pairs | reported as duplicates | as leaks |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, counts in rows.items():
        planted, duplicates, leaks, unrelated, *wrong = np.sum(counts, axis=0)
        found = f"{duplicates / planted:.1%} | {leaks / planted:.1%}"
        print(f"| {name} | {planted} | {found} | {unrelated:,} | {wrong[0]} | {wrong[1]} |")


def whole(releases: pd.DataFrame, pcm: list[np.ndarray]) -> tuple[int, ...]:
    """Pairs of one mixture: all, found as duplicates, as leaks; unrelated pairs: all, reported as either."""
    prints = {(str(at), "mixture"): fingerprint(audio) for at, audio in enumerate(pcm)}
    found = reported(prints, {name: name for name, _ in prints})
    pairs = list(itertools.combinations(releases.index, 2))
    song, composition = releases["song_id"], releases["composition_id"]
    mixed = releases["kind"].isin(ONE_MIXTURE)
    one = {
        frozenset(map(str, pair)) for pair in pairs if song[pair[0]] == song[pair[1]] and mixed[list(pair)].all()
    }
    apart = {frozenset(map(str, pair)) for pair in pairs if composition[pair[0]] != composition[pair[1]]}
    return (len(one), *(len(one & pairs) for pairs in found), len(apart), *(len(apart & pairs) for pairs in found))


def excerpts(
    releases: pd.DataFrame, pcm: list[np.ndarray], seconds: int, rng: np.random.Generator
) -> tuple[int, ...]:
    """The same of excerpts: each against another release, and against all that have nothing to do with it."""
    mixes = releases.index[releases["kind"].isin(ONE_MIXTURE)]
    length = seconds * SAMPLE_RATE
    prints = {(str(at), "mixture"): fingerprint(pcm[at]) for at in mixes}
    splits = {name: "train" for name, _ in prints}
    planted, allowed = set(), set()
    for one, other in itertools.permutations(mixes, 2):
        if releases["song_id"][one] != releases["song_id"][other]:
            continue
        for host in rng.choice(mixes[releases["composition_id"][mixes] != releases["composition_id"][one]], HOSTS):
            audio = pcm[host].copy()
            start = rng.integers(0, len(pcm[other]) - length)
            at = rng.integers(0, len(audio) - length)
            audio[at : at + length] = (rng.uniform(0.3, 1) * pcm[other][start : start + length]).astype(np.int16)
            name = f"pasted {len(splits)}"
            prints[name, "mixture"], splits[name] = fingerprint(audio), "test"
            planted.add(frozenset((str(one), name)))
            known = set(releases["composition_id"][[one, host]])
            allowed |= {frozenset((str(mix), name)) for mix in mixes if releases["composition_id"][mix] in known}
    apart = {
        frozenset(pair)
        for pair in itertools.product((n for n, s in splits.items() if s == "train"), splits)
        if splits[pair[1]] == "test"
    } - allowed
    found = reported(prints, splits)
    return (len(planted), *(len(planted & pairs) for pairs in found), len(apart), *(len(apart & p) for p in found))


def reported(prints: dict[tuple[str, str], Fingerprint], splits: dict[str, str]) -> tuple[set[frozenset[str]], ...]:
    """Pairs that are found as duplicates, and as leaks."""
    frames = find_duplicates(prints), find_leaks(prints, splits)
    return tuple({frozenset(pair) for pair in zip(f["song_a"], f["song_b"], strict=True)} for f in frames)


if __name__ == "__main__":
    main()
