"""What a training run tells: `metrics.jsonl`, a line for each report, and TensorBoard's files if that is asked for.

A line has `step` (steps done), `epoch` and what is reported: of training the mean `loss` since the line before,
its terms, `learning_rate`, `gradient_norm`, `step_s` and `data_wait_s` (mean seconds of a step, and of those spent
waiting for mixtures); of a validation `validation`, a mapping. A resumed run continues the file at its step: lines
of steps that are done again are removed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from manifests.errors import RecipeError
from manifests.files import replacing
from manifests.plain import json_of
from separators.stft import stft
from training.validation import Validation, finite

__all__ = ["Journal", "read_journal"]

METRICS = "metrics.jsonl"

_FLOOR_DB = -80.0


class Journal:
    """Writes reports.

    Parameters
    ----------
    folder : Path, optional
        Of the run; None for those of several processes that report nothing.
    step : int
        Lines of later steps are removed.
    tensorboard : bool

    Raises
    ------
    RecipeError
        TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path | None, step: int, *, tensorboard: bool = False) -> None:
        self._file = None
        self._board = None
        if folder is None:
            return
        self._board = _summary_writer(folder / "tensorboard", step) if tensorboard else None
        lines = [line for line in read_journal(folder) if line["step"] <= step]
        with replacing(folder / METRICS) as file:
            file.writelines(f"{json.dumps(line)}\n".encode() for line in lines)
        self._file = (folder / METRICS).open("a", encoding="utf-8")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def report(self, values: Mapping[str, Any]) -> None:
        """Write a line.

        Parameters
        ----------
        values : mapping
            `step`, and JSON values; NaN and infinities become null.
        """
        if self._file is not None:
            self._file.write(json.dumps(finite(values)) + "\n")
            self._file.flush()
        if self._board is not None:
            for name, value in _scalars(values):
                self._board.add_scalar(name, value, values["step"])

    def show(self, step: int, targets: Sequence[str], validation: Validation, sample_rate: int) -> None:
        """Let TensorBoard, if it is asked for, play and picture an example of a validation.

        Parameters
        ----------
        step : int
        targets : sequence of str
        validation : Validation
        sample_rate : int
        """
        if self._board is None or validation.example is None:
            return
        names = ["mixture", *(f"{name}/target" for name in targets), *(f"{name}/estimate" for name in targets)]
        for name, sound in zip(names, validation.example, strict=True):
            mono = sound.mean(dim=0)
            self._board.add_audio(name, mono / max(1.0, float(mono.abs().max())), step, sample_rate)
            self._board.add_image(name, _picture(mono), step, dataformats="HW")


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's journal.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    list of dict
        In order; a line that was cut short by a crash, and what follows it, is left out.
    """
    path = folder / METRICS
    lines: list[dict[str, Any]] = []
    if path.is_file():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                lines.append(dict(json_of(text)))
            except (ValueError, TypeError):
                break
    return lines


def _scalars(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and name != "step":
            found.append((f"{prefix}{name}", float(value)))
    return found


def _picture(mono: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A spectrogram, low frequencies below, 80 dB from black to white."""
    level = 20.0 * stft(mono, 1024, 256).abs().clamp(min=1e-9).log10()
    shade = ((level - level.max()) / -_FLOOR_DB + 1.0).clamp(0.0, 1.0)
    return shade.flip(0).numpy()


def _summary_writer(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise RecipeError(
            "field 'tensorboard' is true, and TensorBoard is not installed: pip install 'stemloom[tensorboard]'"
        ) from error
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)
