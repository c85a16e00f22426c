"""Numbers, times and reasons as a page writes them."""

from __future__ import annotations

import re

import numpy as np

_NUMBERS = re.compile(r"\b[0-9a-f]{32}\b|[-−]?\d+(?:\.\d+)?")


def number(value: object, places: int = 1) -> str:
    """A number with a true minus sign and commas between thousands, or a dash for what is none."""
    if not isinstance(value, (int, float)) or not np.isfinite(value):
        return "–"
    text = f"{value:,.{places}f}"
    return (text if float(text.replace(",", "")) != 0 else text.lstrip("-")).replace("-", "−")


def time(seconds: float | None) -> str:
    """Seconds as '1 h 02 min', '3:05 min' or '0.4 s'."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def clock(seconds: float) -> str:
    """A position in a song, as '1:05'."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def setting(value: object) -> str:
    """A value of a recipe: 'none', '1, 2', 'train: 3, test: 1', or as it is."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {setting(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(setting, value)) or "none"
    return str(value)


def kind_of(reason: str) -> str:
    """A reason without its numbers and ids, so that the same fault of two songs is one kind."""
    return _NUMBERS.sub("…", reason)
