"""What a test says of songs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from builders.audit.standing import content_ids_of
from builders.audit.verdicts import Verdict, VerdictLog
from manifests.corpus import Corpus


def say(build: Path, song_id: str, verdict: str, stem: str | None = None, **more: Any) -> Verdict:
    """Write a verdict on what is there now."""
    log = VerdictLog(build)
    rows = Corpus.open(build).song(song_id)
    said = {"reason": None, "note": "", "nudge_frames": 0.0, "order": "doubtful", "reviewer": "ann", **more}
    key = said.pop("key", f"{song_id}/{stem}/{verdict}/{log.seq}")
    try:
        return log.append(
            song_id=song_id,
            stem=stem,
            verdict=verdict,
            key=key,
            content_ids=content_ids_of(rows, stem),
            **said,
        )
    finally:
        log.close()
