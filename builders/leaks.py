"""The leak audit: what is nearly the same in two splits of a corpus, or in a folder that must stay unseen.

`find_corpus_leaks` listens to the audio itself, and takes nothing from the tables but the splits. Mixtures of one
sound do not sound alike: what they were made of, `parents_of_mixtures` takes from the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from builders.scan import walk_folder
from curation.chromaprint import Fingerprint, PcmStream, open_stream
from curation.leaks import EXTERNAL, find_leaks
from manifests.audio import blocks, probe
from manifests.corpus import Corpus, Row, whole_of
from manifests.errors import AudioError, BuildError, StemloomError


def parents_of_mixtures(stems: pd.DataFrame) -> pd.DataFrame:
    """What mixtures were made of.

    Parameters
    ----------
    stems : pd.DataFrame
        The stems table.

    Returns
    -------
    pd.DataFrame
        `song_id`, `parent` and `split`: a row for each mixture and each song that it was made of, sorted by song.
    """
    mixed = stems.loc[(stems["provenance"] == "mixed") & stems["parents"].notna(), ["song_id", "parents", "split"]]
    mixed = mixed.assign(parent=mixed["parents"].str.split(";")).explode("parent")
    mixed = mixed.loc[mixed["parent"] != "", ["song_id", "parent", "split"]]
    return mixed.drop_duplicates().sort_values(["song_id", "parent"], kind="stable", ignore_index=True)


def find_corpus_leaks(
    corpus: Corpus,
    unseen: Sequence[Path] = (),
    progress: Callable[[str, int, int, int], None] = lambda stage, done, total, found: None,
) -> Iterator[str]:
    """Say what of a corpus is in two splits, or must stay unseen.

    Parameters
    ----------
    corpus : Corpus
        Mixtures are compared, and sounds that are alone in their song; their rows name their splits. A song
        without a split can leak into `unseen` only.
    unseen : sequence of Path
        Folders with audio files, such as a test set.
    progress : callable, optional
        Called with ``"leaks"``, files done, files in all, and unreadable ones so far.

    Yields
    ------
    str
        One line for each leak, and for each file that cannot be heard.

    Raises
    ------
    BuildError
        If an unseen folder is not there or has no audio file.
    """
    rows: dict[str, Row] = {}
    for song_id in corpus.songs():
        stems = corpus.song(song_id)
        if (whole := whole_of(stems)) is not None:
            rows[song_id] = stems[whole]
    splits: dict[str, str | None] = {song_id: row["split"] for song_id, row in rows.items()}
    outside = [path for folder in unseen for path in _audio_files(folder)]
    if len(set(splits.values()) - {None}) < 2 and not outside:
        return
    total, failed = len(splits) + len(outside), 0
    prints: dict[tuple[str, str], Fingerprint] = {}
    external: dict[str, Fingerprint] = {}
    for done, song_id in enumerate(rows):
        progress("leaks", done, total, failed)
        try:
            prints[song_id, rows[song_id]["stem"]] = _fingerprint(corpus.path_of(rows[song_id]))
        except StemloomError as error:
            failed += 1
            yield f"{error} (left out of the leak audit)"
    for done, path in enumerate(outside, len(rows)):
        progress("leaks", done, total, failed)
        try:
            external[str(path)] = _fingerprint(path)
        except StemloomError as error:
            failed += 1
            yield f"{error} (left out of the leak audit)"
    progress("leaks", total, total, failed)
    leaks = find_leaks(prints, {song_id: splits[song_id] for song_id, _ in prints}, external)
    for leak in leaks.to_dict("records"):
        other = f"song '{leak['song_b']}' of split '{leak['split_b']}'"
        fix = "leave one of them out, or put both in one split"
        if leak["split_b"] == EXTERNAL:
            other, fix = str(leak["song_b"]), "leave the song out: 'stemloom curate' does with --unseen"
        where = "no split" if splits[leak["song_a"]] is None else f"split '{leak['split_a']}'"
        yield (
            f"{corpus.folder}: song '{leak['song_a']}' of {where} is nearly the same as {other} "
            f"(bit error rate {leak['bit_error_rate']:.3f}); {fix}"
        )


def _audio_files(folder: Path) -> list[Path]:
    try:
        paths, _ = walk_folder(folder)
    except AudioError as error:
        raise BuildError(str(error)) from error
    if not paths:
        raise BuildError(f"{folder}: holds no audio file to compare with; correct the path")
    return [folder / path for path in paths]


def _fingerprint(path: Path) -> Fingerprint:
    pcm, prints = PcmStream(probe(path).sample_rate), open_stream()
    for block in blocks(path):
        prints.add(pcm.add(block))
    prints.add(pcm.finish())
    return prints.finish()
