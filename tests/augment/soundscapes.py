"""Folders of sounds for scaper, a scaper object on them, and scaper's own audio: what the tests compare with."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from tests.synthesis import pink_noise, tone

RATE = 16_000

Audio = npt.NDArray[np.float64]


def need_scaper() -> Any:
    """scaper, working; or the test is skipped."""
    scaper = pytest.importorskip("scaper", reason="the extra 'scaper' is not installed")
    try:
        importlib.import_module("soxbindings._soxbindings")
    except ImportError as error:
        pytest.skip(f"scaper cannot render without soxbindings and libsox ({error})")
    # it warns of each time that it had to adjust; pytest forgets the filter after the test
    warnings.filterwarnings("ignore", category=scaper.scaper_warnings.ScaperWarning)
    return scaper


def sound_folders(folder: Path, rate: int = RATE) -> dict[str, Path]:
    """Foreground and background: mono and stereo files, one of them shorter than 0.5 s, of 16 bit."""
    rng = np.random.default_rng(5)
    sounds = {
        "foreground/siren/long.wav": tone(700.0, 3 * rate, rate, channels=1) + pink_noise(rng, 1, 3 * rate),
        "foreground/siren/wide.wav": pink_noise(rng, 2, 2 * rate + 17),
        "foreground/dog/short.wav": pink_noise(rng, 1, rate * 2 // 7, rms=0.02),
        "foreground/dog/growl.wav": pink_noise(rng, 2, rate * 3 // 2, rms=0.2),
        "background/park/long.wav": pink_noise(rng, 2, 7 * rate, rms=0.03),
        "background/street/short.wav": pink_noise(rng, 1, rate * 11 // 7, rms=0.05),
    }
    for path, audio in sounds.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / path, np.clip(audio.T, -0.99, 0.99), rate, subtype="PCM_16")
    return {"background": folder / "background", "foreground": folder / "foreground"}


def scape(
    roots: dict[str, Path],
    state: Any = 0,
    *,
    rate: int = RATE,
    channels: int = 1,
    ref_db: float = -25.0,
    fade_s: float = 0.0,
    background: str | None = "park",
    num_events: int = 4,
    pitch_shift: Any = None,
    time_stretch: Any = None,
) -> Any:
    """A scaper object of 4 s with every kind of distribution in its events."""
    made = need_scaper().Scaper(4.0, str(roots["foreground"]), str(roots["background"]), random_state=state)
    made.sr, made.n_channels, made.ref_db = rate, channels, ref_db
    made.fade_in_len = made.fade_out_len = fade_s
    if background is not None:
        made.add_background(("const", background), ("choose", []), ("uniform", 0, 2))
    for _ in range(num_events):
        made.add_event(
            ("choose_weighted", ["siren", "dog"], [0.7, 0.3]),
            ("choose", []),
            ("choose", [0.0, 0.31, 2.9]),
            ("normal", 2, 1),
            ("truncnorm", 0.8, 0.5, 0.1, 2.5),
            ("uniform", -5, 12),
            pitch_shift,
            time_stretch,
        )
    return made


@pytest.fixture
def numpy_1_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """`scaper.generate` 1.6.5 says np.Inf, which numpy 2 took away."""
    monkeypatch.setattr(np, "Inf", np.inf, raising=False)
