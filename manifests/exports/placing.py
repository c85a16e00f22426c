"""The files of a song, put where a layout wants them: hard-linked or copied as they are, or else encoded.

A file is taken as it is, byte for byte, when it alone makes its target and the layout knows its format. All else
(a sum of stems, a format or a rate that the layout does not take, silence) is encoded: 16 bit when all sources are
16 bit at the same rate, else 24 bit, rounded without dither. Where a sum passes full scale, one gain brings all
files of the song within it, so that its mixture stays the sum of its stems.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from manifests.encoding import encoding
from manifests.errors import AudioError
from manifests.exports.mixing import Shape, Sound, side_by_side
from manifests.files import TEMPORARY_PREFIX, replacing

How: TypeAlias = Literal["linked", "copied", "encoded", "referred"]
"""What became of a file; `referred` is one that stayed where it was."""

_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Placed:
    """Where a file is, and how it came there."""

    path: Path
    how: How


def place(
    sounds: Mapping[Path, Sequence[Sound]],
    shape: Shape,
    *,
    take: Collection[str],
    encode: Literal[".flac", ".wav"],
    link: bool,
    gain: float = 1.0,
) -> dict[Path, Placed]:
    """Put the files of a song where they belong.

    Parameters
    ----------
    sounds : mapping of Path to sequence of Sound
        Target without its suffix, and the files whose sum it is; nothing gives silence.
    shape : Shape
        Of all targets; see `mixing.side_by_side`.
    take : collection of str
        Suffixes, lower case, that the layout takes as they are.
    encode : {'.flac', '.wav'}
        What the others become.
    link : bool
        Whether to hard-link what is taken as it is, where the file system can, instead of copying.
    gain : float (0, 1]
        Multiplies all files; other than 1, all are encoded.

    Returns
    -------
    dict of Path to Placed
        Of every target, in the order given: where it is, with its suffix.

    Raises
    ------
    AudioError
        When a source cannot be read, or a target would pass full scale.
    RecipeError
        When `encode` cannot hold the audio.
    BuildError
        When the disk is full or refuses.
    """
    placed: dict[Path, Placed] = {}
    encoded = {}
    for target, group in sounds.items():
        if gain == 1 and len(group) == 1 and group[0].is_target(shape, take):
            source = group[0].path
            placed[target] = take_file(source, with_suffix(target, source.suffix.lower()), link=link)
        else:
            placed[target] = Placed(with_suffix(target, encode), "encoded")
            encoded[target] = group
    if not encoded:
        return placed
    with contextlib.ExitStack() as stack:
        writers = {}
        for target, group in encoded.items():
            is_exact = gain == 1 and all(
                sound.info.sample_rate == shape.sample_rate and sound.is_whole for sound in group
            )
            bit_depth = 16 if is_exact and all(sound.is_shallow for sound in group) else 24
            writers[target] = stack.enter_context(
                encoding(placed[target].path, shape.num_frames, shape.sample_rate, shape.channels, bit_depth)
            )
        for chunks in side_by_side(encoded, shape):
            for target, chunk in chunks.items():
                writers[target](chunk * np.float32(gain))
    return placed


def with_suffix(path: Path, suffix: str) -> Path:
    """`path` and `suffix`, and unlike `Path.with_suffix` all of `path`: 'Op. 5' is not 'Op' with a suffix."""
    return path.with_name(path.name + suffix)


def take_file(source: Path, target: Path, *, link: bool) -> Placed:
    """Hard-link or copy a file.

    Parameters
    ----------
    source : Path
        An existing file.
    target : Path
        Missing parent folders are created, an existing file is replaced.
    link : bool
        Whether to hard-link, where the file system can; a copy is whole or not there.

    Returns
    -------
    Placed
        `linked` or `copied`.

    Raises
    ------
    AudioError
        When the source cannot be read.
    BuildError
        When the target cannot be written.
    """
    if link and _is_linked(source.resolve(), target):
        return Placed(target, "linked")
    with replacing(target) as file:
        for chunk in _bytes_of(source):
            file.write(chunk)
    return Placed(target, "copied")


def _is_linked(source: Path, target: Path) -> bool:
    """Try to hard-link; False where the file system cannot."""
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, temporary)
        os.replace(temporary, target)
    except OSError:
        return False
    finally:
        # a rename between two names of one file leaves both
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return True


def _bytes_of(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(_COPY_BYTES):
                yield chunk
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror}); check the disk it is on") from error
