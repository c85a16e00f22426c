"""A program that reads the mixture from a file and writes its sources into files, as a separator.

::

    command:sources=vocals,accompaniment spleeter separate -o {output} {input}
    command:sources=drums,bass,other,vocals timeout_s=600 ./separate.sh {input} {output}
    command:separate.yaml                       a YAML file of the fields of `ProgramRecipe`

Settings stand before the program, as variables do in a shell; there is no shell, though: the rest is cut into words
and run as it is, in the recipe's folder. ``{input}`` becomes the path of the mixture, a WAV of floats with the
recipe's rate and channels (4 GiB at most, 3 hours of stereo at 44.1 kHz), ``{output}`` that of an empty folder.

Afterwards each source must be in one file below that folder: ``vocals.wav``, ``mixture_vocals.wav`` or
``mixture_(Vocals)_model.flac``, but not ``no_vocals.wav``, are of `vocals`. Rate, channels and length are those of
the mixture; a few frames more or less, `tolerance_frames`, are cut off or filled with zeros at the end.

A program that takes longer than `timeout_s` is killed, with all that it has started. What makes its result is
unknown here; its identity is of the command, of every file that a word of it names, and of `version`, which a
person raises when something else of it changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, field_validator

from manifests.audio import AUDIO_SUFFIXES, Audio, blocks, probe
from manifests.encoding import encoding
from manifests.errors import AudioError, RecipeError
from manifests.recipes import Settings, make_recipe, read_mapping
from separators.pretrained.checked import Checked
from separators.separator import Separator
from separators.streams import checked, in_step

if TYPE_CHECKING:
    from separators.loading import LoadOptions

__all__ = ["Program", "ProgramRecipe", "load"]

_VERSION = 1
_WAV_BYTES = (1 << 32) - (1 << 16)
_LAST_BYTES = 2000
_SETTING = re.compile(r"([a-z_]+)=(.*)", re.DOTALL)
_NOT = re.compile(r"(^|[^a-z])(no|non|minus|without)[^a-z0-9]*$")


class ProgramRecipe(Settings):
    """A program, and what it gives."""

    program: tuple[str, ...] = Field(min_length=1)
    """The words of the command, or all of it as a text; `{input}` and `{output}` are in them."""

    sources: tuple[str, ...] = Field(min_length=1)
    """Names, or one text with commas between them."""

    sample_rate: int = Field(44100, ge=1)
    """In Hz, that it takes and gives."""

    channels: int = Field(2, ge=1)
    """That it takes and gives."""

    timeout_s: float = Field(3600.0, gt=0)
    """Seconds that it may take for a mixture."""

    tolerance_frames: int = Field(1, ge=0)
    """By how much the length of a source may differ from the mixture's."""

    version: str = ""
    """To be changed when the program comes to give other audio."""

    @field_validator("program", mode="before")
    @classmethod
    def _cut_into_words(cls, value: Any) -> Any:
        return shlex.split(value) if isinstance(value, str) else value

    @field_validator("sources", mode="before")
    @classmethod
    def _cut_at_commas(cls, value: Any) -> Any:
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value

    @field_validator("program")
    @classmethod
    def _require_places(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        for place in ("{input}", "{output}"):
            if not any(place in word for word in words[1:]):
                raise ValueError(f"{place} is in no word behind the program: say where its path belongs")
        return words


@dataclass(frozen=True)
class Program:
    """A program as a `separators.separator.Separator`.

    Parameters
    ----------
    recipe : ProgramRecipe
    folder : Path
        That it runs in.

    Raises
    ------
    RecipeError
        There is no such program.
    """

    recipe: ProgramRecipe
    folder: Path = Path()

    def __post_init__(self) -> None:
        if self._executable is None:
            raise RecipeError(
                f"{self.name}: there is no program '{self.recipe.program[0]}'; install it, or give its path"
            )

    @property
    def name(self) -> str:
        """The program's."""
        return f"command:{self.recipe.program[0]}"

    @cached_property
    def identity(self) -> str:
        """A hash of the command, of the files that its words name, and of the settings."""
        digest = hashlib.blake2b(f"{_VERSION} {self.recipe.model_dump_json()}".encode(), digest_size=16)
        for path in [Path(str(self._executable)), *(self.folder / word for word in self.recipe.program[1:])]:
            if path.is_file():
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "blake2b").digest())
        return digest.hexdigest()

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.recipe.sample_rate

    @property
    def channels(self) -> int:
        """Of the mixture and of each source."""
        return self.recipe.channels

    @property
    def sources(self) -> tuple[str, ...]:
        """In the order that they come out."""
        return self.recipe.sources

    @property
    def _executable(self) -> str | None:
        program = self.recipe.program[0]
        return shutil.which(self.folder.resolve() / program if os.path.dirname(program) else program)

    def stream(self, blocks: Iterable[Audio]) -> Iterator[Audio]:
        """See `separators.separator.Separator.stream`.

        Raises
        ------
        AudioError
            The mixture has other channels, no frames or too many; the program fails, takes too long, or gives not
            what it should.
        BuildError
            The disk refuses; ``TMPDIR`` names another.
        """
        with tempfile.TemporaryDirectory(prefix="stemloom-") as name:
            mixture, output, log = (Path(name) / part for part in ("mixture.wav", "sources", "log.txt"))
            output.mkdir()
            num_frames = self._write(mixture, checked(blocks, self.channels, self.name))
            self._run(mixture, output, log)
            mixture.unlink(missing_ok=True)
            paths = self._found(output)
            for parts in in_step([self._read(paths[source], num_frames) for source in self.sources]):
                yield np.stack(parts)

    def _write(self, path: Path, mixture: Iterator[Audio]) -> int:
        num_frames = 0
        with encoding(path, 0, self.sample_rate, self.channels, 32) as put:
            for block in mixture:
                num_frames += block.shape[1]
                if 4 * self.channels * num_frames > _WAV_BYTES:
                    raise AudioError(
                        f"{self.name}: the mixture is too long for a WAV file; cut it into parts first"
                    )
                put(block)
        return num_frames

    def _run(self, mixture: Path, output: Path, log: Path) -> None:
        places = {"{input}": str(mixture), "{output}": str(output)}
        words = [str(self._executable), *(_filled(word, places) for word in self.recipe.program[1:])]
        with log.open("wb") as file:
            try:
                # A group of its own, so that what it starts can be ended with it.
                process = subprocess.Popen(
                    words,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise AudioError(
                    f"{self.name}: cannot be started ({error.strerror}); look at the program"
                ) from error
            try:
                code = process.wait(self.recipe.timeout_s)
            except subprocess.TimeoutExpired as error:
                raise AudioError(
                    f"{self.name}: takes longer than {self.recipe.timeout_s:g} s and was ended; raise timeout_s, "
                    f"or look why it hangs{_last_words(log)}"
                ) from error
            finally:
                _end(process)
        if code:
            raise AudioError(f"{self.name}: fails with exit status {code}{_last_words(log)}")

    def _found(self, output: Path) -> dict[str, Path]:
        """The file of each source."""
        left = sorted(path for path in output.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
        listed = ", ".join(str(path.relative_to(output)) for path in left) or "no audio"
        found = {}
        # The longer name first: no_vocals is not vocals.
        for source in sorted(self.sources, key=len, reverse=True):
            exact = [path for path in left if path.stem.casefold() == source.casefold()]
            paths = exact or [path for path in left if _names(path.stem.casefold(), source.casefold())]
            if len(paths) != 1:
                found_of = "several files" if paths else "no file"
                raise AudioError(
                    f"{self.name}: gives {found_of} of '{source}': there is {listed}; let names end in those of "
                    "the sources"
                )
            found[source] = paths[0]
            left.remove(paths[0])
        return found

    def _read(self, path: Path, num_frames: int) -> Iterator[Audio]:
        """A source, as long as the mixture."""
        try:
            info = probe(path)
            if (info.sample_rate, info.channels) != (self.sample_rate, self.channels):
                raise AudioError(
                    f"has {info.sample_rate} Hz and {info.channels} channels, not {self.sample_rate} and "
                    f"{self.channels}; set sample_rate and channels to what the program takes and gives"
                )
            if abs(info.num_frames - num_frames) > self.recipe.tolerance_frames:
                raise AudioError(
                    f"has {info.num_frames} frames, and the mixture {num_frames}; raise tolerance_frames if only "
                    "its end is another"
                )
            missing = num_frames
            for block in blocks(path):
                yield block[:, :missing]
                missing -= min(missing, block.shape[1])
        except AudioError as error:
            raise AudioError(f"{self.name}: its {path.name}: {error}") from error
        yield np.zeros((self.channels, missing), np.float32)


def load(rest: str, options: LoadOptions) -> Separator:
    """The separator that ``command:`` names.

    Parameters
    ----------
    rest : str
        Settings and a command, or the path of a YAML file of both.
    options : LoadOptions

    Returns
    -------
    Separator
        Checked, since nobody knows what a program gives.

    Raises
    ------
    RecipeError
        A setting is missing, unknown or wrong, or there is no such program.
    """
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise RecipeError(f"command:{rest}: cannot be cut into words ({error}); close the quotation") from error
    if len(words) == 1 and words[0].endswith((".yaml", ".yml")):
        path = options.folder / Path(words[0]).expanduser()
        return Checked(Program(make_recipe(read_mapping(path), str(path), ProgramRecipe), path.parent))
    values: dict[str, object] = {}
    while words and (setting := _SETTING.fullmatch(words[0])):
        values[setting[1]] = setting[2]
        del words[0]
    recipe = make_recipe({**values, "program": words}, f"command:{rest}", ProgramRecipe)
    return Checked(Program(recipe, options.folder))


def _filled(word: str, places: Mapping[str, str]) -> str:
    return re.sub(r"\{(?:in|out)put\}", lambda match: places[match[0]], word)


def _names(stem: str, source: str) -> bool:
    """Whether a file's name ends in a source's, or has it in brackets, and does not deny it."""
    match = re.search(rf"(?<![a-z0-9]){re.escape(source)}$|\({re.escape(source)}\)", stem)
    return match is not None and not _NOT.search(stem[: match.start()])


def _last_words(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(-min(_LAST_BYTES, log.stat().st_size), os.SEEK_END)
        text = file.read().decode(errors="replace").strip()
    return f"; it says at last: {text}" if text else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all of its group; those that have ended already do not mind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
