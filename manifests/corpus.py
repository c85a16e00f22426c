"""A corpus as it lies in a folder: tables, read when first asked for, and the audio that their rows refer to.

    corpus = Corpus.open(Path("corpus"))
    for song_id in corpus.songs():
        vocals = corpus.load((song_id, "vocals"), start_frame=44100, num_frames=88200)

Loading a crop decodes that crop, not the file. A row's path is relative to its root: `.` is the corpus's own
folder, and any other name is looked up in the `roots` given to `Corpus.open`.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from manifests.audio import Audio, read
from manifests.audited import stems_as_built
from manifests.errors import RecipeError, TableError, did_you_mean
from manifests.paths import require_inside
from manifests.staging import as_addresses, fetched, located
from manifests.tables import find_table, read_table

CORPUS_ROOT = "."
"""The root of audio that lies in the corpus' own folder."""

Row: TypeAlias = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A folder of tables and audio.

    Attributes
    ----------
    folder : Path
        Where the tables are.
    roots : mapping of str to Path
        Folders that rows name in their `root`, besides `.`, which is `folder`.
    """

    folder: Path
    roots: Mapping[str, Path] = dataclasses.field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path | str, roots: Mapping[str, Path | str] | None = None) -> Corpus:
        """Open a corpus.

        Parameters
        ----------
        folder : Path or str
            A folder with a `stems` table; the other tables may be missing. It may be the URL of one in a bucket, of
            which the tables are brought now, and files when they are read (`manifests.staging`).
        roots : mapping of str to Path or str, optional
            Where audio outside the folder lies, by the names that rows use in `root`.

        Returns
        -------
        Corpus
            Nothing but the table's existence is checked yet.

        Raises
        ------
        TableError
            When there is no `stems` table.
        BuildError
            When a store refuses.
        """
        folder = fetched(folder)
        if find_table(folder, "stems") is None:
            raise TableError(
                f"{as_addresses(str(folder))}: holds no stems.parquet or stems.jsonl; give the folder of a "
                "finished build"
            )
        return cls(folder, {name: fetched(place) for name, place in (roots or {}).items()})

    @functools.cached_property
    def stems(self) -> pd.DataFrame:
        """The stems table, validated."""
        return read_table(self.folder, "stems")

    @functools.cached_property
    def pairs(self) -> pd.DataFrame | None:
        """The pairs table, validated; None when there is none."""
        return self._optional("pairs")

    @functools.cached_property
    def tracks(self) -> pd.DataFrame | None:
        """The tracks table, validated; None when there is none."""
        return self._optional("tracks")

    @functools.cached_property
    def clips(self) -> pd.DataFrame | None:
        """The clips table, validated; None when there is none."""
        return self._optional("clips")

    @functools.cached_property
    def cleaned(self) -> pd.DataFrame | None:
        """The table of what a cleaning found, validated; None when there is none."""
        return self._optional("cleaned")

    @functools.cached_property
    def rejected(self) -> pd.DataFrame | None:
        """The table of what was left out, validated; None when there is none."""
        return self._optional("rejected")

    def _optional(self, name: str) -> pd.DataFrame | None:
        return None if find_table(self.folder, name) is None else read_table(self.folder, name)

    @functools.cached_property
    def _songs(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Song to stem to row, with None for nulls, for look-ups that cost nothing."""
        columns = {str(key): column.astype(object) for key, column in self.stems.items()}
        values = [column.where(column.notna(), None).to_list() for column in columns.values()]
        songs: dict[str, dict[str, dict[str, Any]]] = {}
        for row in zip(*values, strict=True):
            record = dict(zip(columns, row, strict=True))
            songs.setdefault(record["song_id"], {})[record["stem"]] = record
        return songs

    @functools.cached_property
    def identity(self) -> str:
        """What of a corpus decides which mixtures are drawn: a hash of its stems and clips tables.

        Verdicts by ear are not part of it (`manifests.audited`).

        Raises
        ------
        TableError
            When the disk does not give one of them.
        """
        digest = hashlib.blake2b(digest_size=16)
        for path in (stems_as_built(self.folder), find_table(self.folder, "clips")):
            try:
                digest.update(b"" if path is None else path.read_bytes())
            except OSError as error:
                raise TableError(
                    f"{path}: cannot be read ({error.strerror or error}); check the disk, then run the same "
                    "command again"
                ) from error
        return digest.hexdigest()

    def songs(self) -> list[str]:
        """The ids of all songs, in the order of the stems table."""
        return list(self._songs)

    def song(self, song_id: str) -> dict[str, Row]:
        """The stems of a song.

        Parameters
        ----------
        song_id : str
            One of `songs()`.

        Returns
        -------
        dict of str to mapping
            Stem name to its row of the stems table; nulls are None.

        Raises
        ------
        TableError
            When there is no such song.
        """
        if song_id not in self._songs:
            raise TableError(
                f"{self.folder}: has no song '{song_id}'{did_you_mean(song_id, self._songs)}; "
                "songs() lists those it has"
            )
        return dict(self._songs[song_id])

    def path_of(self, row: Row | pd.Series[Any]) -> Path:
        """Where a row's audio lies.

        Parameters
        ----------
        row : mapping or pd.Series
            With `root` and `path`.

        Returns
        -------
        Path
            Under the folder that `root` names, or where it was staged.

        Raises
        ------
        TableError
            When the root is not known, or the path is absolute or leaves it.
        BuildError
            When a store refuses.
        """
        return located(self.folder_of(row), str(row["path"]))

    def folder_of(self, row: Row | pd.Series[Any]) -> Path:
        """The folder that a row's path is relative to.

        Parameters
        ----------
        row : mapping or pd.Series
            With `root` and `path`.

        Returns
        -------
        Path

        Raises
        ------
        TableError
            When the root is not known, or the path is absolute or leaves it.
        """
        name = str(row["root"])
        root = self.folder if name == CORPUS_ROOT else self.roots.get(name)
        if root is None:
            known = ", ".join(repr(known) for known in (CORPUS_ROOT, *self.roots))
            raise TableError(
                f"{self.folder}: root '{name}' of path {row['path']!r} is none of {known}; "
                f"put its files into the corpus, with root '{CORPUS_ROOT}', or name its folder in Python: "
                f"Corpus.open(folder, roots={{'{name}': ...}})"
            )
        require_inside(root, str(row["path"]))
        return root

    def load(
        self, row: Row | pd.Series[Any] | tuple[str, str], start_frame: int = 0, num_frames: int | None = None
    ) -> Audio:
        """Read a stem, or a crop of it.

        Parameters
        ----------
        row : mapping, pd.Series or (song_id, stem)
            A row of the stems table, or what finds it.
        start_frame : int
            First frame, at least 0.
        num_frames : int, optional
            How many frames; to the end by default.

        Returns
        -------
        np.ndarray [shape=(channels, num_frames)]
            float32, full scale +-1, at the row's sample rate.

        Raises
        ------
        AudioError
            When the file cannot be read or is shorter than its row says.
        TableError
            When there is no such stem, the crop leaves the stem, the path leaves its root, or the file's rate
            or channels are not the row's.
        """
        if isinstance(row, tuple):
            song_id, stem = row
            stems = self.song(song_id)
            if stem not in stems:
                raise TableError(f"{self.folder}: song '{song_id}' has no stem '{stem}'; it has {', '.join(stems)}")
            row = stems[stem]
        path = self.path_of(row)
        length = int(row["num_frames"])
        wanted = length - start_frame if num_frames is None else num_frames
        if start_frame < 0 or wanted < 1 or start_frame + wanted > length:
            raise TableError(
                f"{path}: frames {start_frame} to {start_frame + wanted} are not within its {length} frames; "
                "ask for at least one frame inside the stem"
            )
        audio, sample_rate = read(path, start_frame, wanted)
        for field, found in (("sample_rate", sample_rate), ("channels", len(audio))):
            if found != row[field]:
                raise TableError(
                    f"{path}: has {field} {found}, and its row in the stems table says {row[field]}; "
                    "run 'stemloom check', then build it again"
                )
        return audio


MIXTURE = "mixture"
"""The stem that the others of a song sum to."""


def whole_of(stems: Collection[str]) -> str | None:
    """The stem that is all of a song: its mixture, or its only stem; None where several stems have no mixture."""
    if MIXTURE in stems:
        return MIXTURE
    return next(iter(stems)) if len(stems) == 1 else None


def open_corpora(folders: Sequence[Path], opened: Callable[[Path], Corpus] = Corpus.open) -> dict[str, Corpus]:
    """Corpora by the names of their folders.

    Parameters
    ----------
    folders : sequence of Path
    opened : callable, optional
        From a folder to its corpus, `PackedCorpus.open` for example.

    Returns
    -------
    dict of str to Corpus
        Of two folders with one name, the second is `name-2`.

    Raises
    ------
    RecipeError
        When there is none.
    TableError
        When one is no corpus.
    """
    if not folders:
        raise RecipeError("there are no corpora to draw from; give the folder of a finished build ('--from')")
    corpora: dict[str, Corpus] = {}
    for folder in folders:
        name = folder.resolve().name or "corpus"
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        free = next(found for found in itertools.chain([name], numbered) if found not in corpora)
        corpora[free] = opened(folder)
    return corpora
