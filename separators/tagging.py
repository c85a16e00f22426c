"""Taggers: sound event detectors with the names of their classes, over audio of any length.

One line of text names one::

    onnx:yamnet.onnx                                        a `separators.embedder.OnnxEmbedder`
    onnx:yamnet.onnx?hop_s=0.48&window_s=0.96               with settings: `SETTINGS`
    python:package.module:detector                          an `Embedder`, or a class or function that gives one
    python:detectors/mine.py:make

with a list of its classes: YAMNet's ``yamnet_class_map.csv`` (index, mid, display_name), or a text file with a name
a line. An object of Python's may say them itself, in ``class_names``. Naming a module runs its code.

Audio is heard in chunks with what is before and behind them, so that memory does not grow with its length, and no
column hears an edge that is none.
"""

from __future__ import annotations

import csv
import hashlib
import inspect
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import soxr

from manifests.audio import Audio, content_id
from manifests.errors import AudioError, RecipeError, StemloomError
from separators.pretrained.objects import imported
from separators.pretrained.references import split_settings
from separators.streams import cut

if TYPE_CHECKING:
    from separators.embedder import Embedder

__all__ = ["COLUMN_S", "SETTINGS", "ClassList", "Tagger", "load_tagger", "read_classes", "tag"]

Floats: TypeAlias = npt.NDArray[np.float32]

COLUMN_S = 0.1
"""Seconds from one probability to the next, whatever the detector's own columns are."""

SETTINGS = ("sample_rate", "output", "scores", "least_frames", "hop_s", "window_s")
"""Of ``onnx:``: those of `OnnxEmbedder`, and where its columns are, as for `Tagger`."""

_CHUNK_S, _MARGIN_S = 30.0, 2.0
_VERSION = 1


@dataclass(frozen=True)
class ClassList:
    """Names of classes, in the detector's order.

    Attributes
    ----------
    names : tuple of str
        Distinct.
    ids : tuple of str
        As many other names (AudioSet's), or none.
    """

    names: tuple[str, ...]
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tagger:
    """A sound event detector.

    Attributes
    ----------
    name : str
        What a person calls it.
    identity : str
        What it computes: a hash of its weights or code, settings and classes.
    embedder : Embedder
        From audio to logits.
    classes : ClassList
    hop_s : float or None
        From one column's middle to the next. None: columns cover the audio evenly.
    window_s : float
        With `hop_s`: what a column hears. The middle of the first is half of it.
    """

    name: str
    identity: str
    embedder: Embedder
    classes: ClassList
    hop_s: float | None = None
    window_s: float = 0.0


def load_tagger(
    text: str, classes: Path | None = None, *, device: str = "cpu", folder: Path | None = None
) -> Tagger:
    """A tagger out of a line of text.

    Parameters
    ----------
    text : str
        As this module's docstring says.
    classes : Path, optional
        The list of classes; needed where the detector does not say them itself.
    device : str
        As torch names it; for those of Python's that are torch modules, or have a parameter of that name.
    folder : Path, optional
        That relative paths in `text` are relative to.

    Returns
    -------
    Tagger

    Raises
    ------
    RecipeError
        A file or module is missing or cannot be used, or the list of classes is not the detector's.

    Examples
    --------
    >>> load_tagger("onnx:yamnet.onnx?hop_s=0.48&window_s=0.96", Path("yamnet_class_map.csv"))  # doctest: +SKIP
    """
    kind, _, rest = text.partition(":")
    listed = None if classes is None else read_classes(classes)
    if kind == "onnx" and rest:
        return _of_onnx(text, rest, listed, folder or Path())
    if kind == "python" and rest:
        return _of_python(text, rest, listed, device, folder or Path())
    raise RecipeError(f"there is no tagger '{text}': write onnx:PATH, python:MODULE:NAME or python:FILE.py:NAME")


def read_classes(path: Path) -> ClassList:
    """The classes that a file lists.

    Parameters
    ----------
    path : Path
        A table (.csv) with the columns ``index`` (from 0 on, in order), ``display_name`` and maybe ``mid``; or a
        text file with a name a line.

    Returns
    -------
    ClassList

    Raises
    ------
    RecipeError
        The file cannot be read, lists nothing, or a name twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() != ".csv":
                return _class_list([line.strip() for line in file if line.strip()], [], path)
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecipeError(f"{path}: cannot be read as a list of classes ({error}); correct the file") from error
    columns = set(rows[0]) if rows else set()
    if not {"index", "display_name"} <= columns:
        raise RecipeError(
            f"{path}: needs the columns index and display_name, as yamnet_class_map.csv has them; or write a text "
            "file with a name a line"
        )
    for number, row in enumerate(rows):
        if row["index"] != str(number):
            raise RecipeError(
                f"{path}: index {row['index']!r} stands where {number} is due; sort the rows from 0 on"
            )
    return _class_list([row["display_name"] or "" for row in rows], [row.get("mid") or "" for row in rows], path)


def tag(
    tagger: Tagger, blocks: Iterable[Audio], sample_rate: int, column_frames: int, *, chunk_s: float = _CHUNK_S
) -> Floats:
    """Probabilities of a tagger's classes over time.

    Parameters
    ----------
    tagger : Tagger
    blocks : iterable of np.ndarray of float32 [shape=(channels, frames)]
        Blocks of any lengths; the mean of the channels is heard.
    sample_rate : int
        In Hz, of the blocks.
    column_frames : int
        Of a column, at that rate.
    chunk_s : float
        What is heard at once, besides 2 s on both sides: at least those.

    Returns
    -------
    np.ndarray of float32 [shape=(classes, columns)]
        Column `k` is of the frames from ``k * column_frames`` on; the last may be shorter. All that memory holds
        besides a chunk: 75 MB for an hour of 521 classes every 0.1 s.

    Raises
    ------
    AudioError
        There are no frames, or the tagger raises something, or gives NaN or another shape.
    """
    rate = tagger.embedder.sample_rate
    counted = _Counted(blocks)
    pieces = cut(_mono(counted, sample_rate, rate), round(chunk_s * rate))
    margin = round(_MARGIN_S * rate)
    step = column_frames * rate / sample_rate
    nothing = np.zeros(0, np.float32)
    # a frame of a higher rate is less than one of the detector's
    before, piece = nothing, next(pieces, np.zeros(1, np.float32))
    found: list[Floats] = []
    start = done = 0
    for behind in chain(pieces, [nothing]):
        end = start + len(piece)
        # columns that end in the piece; in the last, all that are left
        due = int(end / step) if len(behind) else -(-counted.frames // column_frames)
        if due > done:
            left = before[-margin:]
            heard = _heard(tagger, np.concatenate([left, piece, behind[:margin]]))
            middles = (np.arange(done, due) + 0.5) * step - (start - len(left))
            own = _middles(tagger, heard.shape[1], len(left) + len(piece) + len(behind[:margin]))
            found.append(heard[:, np.searchsorted((own[1:] + own[:-1]) / 2, middles)])
        before, piece, start, done = piece, behind, end, max(done, due)
    if not found:
        raise AudioError(f"{tagger.name}: the audio has 0 frames; give it at least one")
    return np.concatenate(found, axis=1)


class _Counted:
    """Blocks, and how many frames they were."""

    def __init__(self, blocks: Iterable[Audio]) -> None:
        self._blocks = blocks
        self.frames = 0

    def __iter__(self) -> Iterator[Audio]:
        for block in self._blocks:
            self.frames += block.shape[1]
            yield block


def _mono(blocks: Iterable[Audio], sample_rate: int, rate: int) -> Iterator[Floats]:
    means = (block.mean(axis=0, dtype=np.float32) for block in blocks)
    if sample_rate == rate:
        yield from means
        return
    resampler = soxr.ResampleStream(sample_rate, rate, 1, dtype="float32")
    for block in means:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def _heard(tagger: Tagger, audio: Floats) -> Floats:
    import torch

    try:
        with torch.no_grad():
            logits = tagger.embedder(torch.from_numpy(audio)[None])
            found = torch.as_tensor(logits).float().sigmoid().cpu().numpy()
    except StemloomError:
        raise
    except Exception as error:
        raise AudioError(f"{tagger.name}: raises {type(error).__name__}: {error}") from error
    classes = len(tagger.classes.names)
    if found.ndim != 3 or found.shape[:2] != (1, classes) or not found.shape[2]:
        raise AudioError(f"{tagger.name}: gives logits of the shape {found.shape}, not (1, {classes}, columns)")
    if np.isnan(found).any():
        raise AudioError(f"{tagger.name}: gives NaN; look at the audio, or at the weights")
    return np.asarray(found[0], np.float32)


def _middles(tagger: Tagger, columns: int, frames: int) -> npt.NDArray[np.float64]:
    """Where the detector's columns are, in frames of its rate."""
    if tagger.hop_s is None:
        return np.asarray((np.arange(columns) + 0.5) * (frames / columns))
    return np.asarray((np.arange(columns) * tagger.hop_s + tagger.window_s / 2) * tagger.embedder.sample_rate)


def _of_onnx(text: str, rest: str, listed: ClassList | None, folder: Path) -> Tagger:
    from separators.embedder import OnnxEmbedder

    name, settings = split_settings(rest, SETTINGS)
    path = folder / Path(name).expanduser()
    if not path.is_file():
        raise RecipeError(f"{path}: there is no such file; give the path of an ONNX file")
    numbers: dict[str, Any] = {key: _number(text, key, settings.pop(key, None)) for key in ("hop_s", "window_s")}
    for key in ("sample_rate", "least_frames"):
        if key in settings:
            numbers[key] = int(_number(text, key, settings.pop(key)) or 0)
    hop_s, window_s = numbers.pop("hop_s"), numbers.pop("window_s")
    if (window_s is None) != (hop_s is None):
        raise RecipeError(f"{text}: hop_s and window_s say together where columns are; give both, or none")
    embedder = OnnxEmbedder(path, **numbers, **settings)  # type: ignore[arg-type]
    facts = [content_id(path), sorted(numbers.items()), sorted(settings.items()), hop_s, window_s]
    return _tagger(text, facts, embedder, listed, hop_s, window_s or 0.0)


def _number(text: str, key: str, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise RecipeError(f"{text}: {key} is {value!r}: it must be a number above 0")
    return number


def _of_python(text: str, rest: str, listed: ClassList | None, device: str, folder: Path) -> Tagger:
    import torch

    place, colon, name = rest.rpartition(":")
    if not (colon and place and name):
        raise RecipeError(f"{text}: write python:MODULE:NAME, or python:FILE.py:NAME")
    module = imported(place, folder)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise RecipeError(f"{text}: there is no '{part}'; correct the name")
        found = getattr(found, part)
    # a class has the members of its instances, and is none; a torch module can be called too
    if inspect.isclass(found) or not _is_embedder(found):
        try:
            takes_device = "device" in inspect.signature(found).parameters
            found = found(device=device) if takes_device else found()
        except Exception as error:
            raise RecipeError(
                f"{text}: fails when it is called ({type(error).__name__}: {error}); let it need nothing but device"
            ) from error
    if not _is_embedder(found):
        raise RecipeError(
            f"{text}: {type(found).__name__} is no detector: it must have sample_rate and classes, whole numbers "
            "above 0, and be called with audio (separators.Embedder says more)"
        )
    facts: list[Any] = [rest, str(getattr(found, "identity", ""))]
    source = getattr(module, "__file__", None)
    if source is not None:
        facts.append(content_id(Path(source)))
    if isinstance(found, torch.nn.Module):
        found = found.to(device).eval()
        facts += [[key, _digest(tensor)] for key, tensor in sorted(found.state_dict().items())]
        found = _OnDevice(found, device)
    if listed is None:
        said = getattr(getattr(found, "module", found), "class_names", None)
        if said is None:
            raise RecipeError(f"{text}: does not say its class_names; give a list of classes")
        listed = _class_list(list(said), [], text)
    return _tagger(text, facts, found, listed)


class _OnDevice:
    """A torch module, called with audio of the CPU's."""

    def __init__(self, module: Any, device: str) -> None:
        self.module, self._device = module, device
        self.sample_rate, self.classes = module.sample_rate, module.classes

    def __call__(self, audio: Any) -> Any:
        return self.module(audio.to(self._device))


def _is_embedder(found: Any) -> bool:
    numbers = (getattr(found, name, None) for name in ("sample_rate", "classes"))
    return callable(found) and all(type(number) is int and number > 0 for number in numbers)


def _digest(tensor: Any) -> str:
    import torch

    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.blake2b(values, digest_size=16).hexdigest()


def _tagger(
    text: str,
    facts: Sequence[Any],
    embedder: Embedder,
    listed: ClassList | None,
    hop_s: float | None = None,
    window_s: float = 0.0,
) -> Tagger:
    if listed is None:
        raise RecipeError(f"{text}: does not say its classes; give a list of them, such as yamnet_class_map.csv")
    if len(listed.names) != embedder.classes:
        raise RecipeError(
            f"{text}: has {embedder.classes} classes, and the list {len(listed.names)}; give the list of its own"
        )
    about = json.dumps([_VERSION, list(facts), listed.names, listed.ids], sort_keys=True)
    identity = hashlib.blake2b(about.encode(), digest_size=16).hexdigest()
    return Tagger(text, identity, embedder, listed, hop_s, window_s)


def _class_list(names: Sequence[object], ids: Sequence[str], origin: object) -> ClassList:
    texts = [str(name).strip() for name in names]
    if not texts:
        raise RecipeError(f"{origin}: lists no class; write a name a line")
    for kind, found in (("name", texts), ("id", [text for text in ids if text])):
        twice = sorted({text for text in found if found.count(text) > 1})
        if twice or "" in found:
            raise RecipeError(
                f"{origin}: {kind} '{twice[0] if twice else ''}' stands twice or is empty; correct the list"
            )
    return ClassList(tuple(texts), tuple(ids) if ids and all(ids) else ())
