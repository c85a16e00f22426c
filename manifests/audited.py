"""The column `audit` of the stems table, which changes as people listen, and makes no other corpus of it.

What was drawn from a corpus, packed or trained knows the stems table by its bytes (`Corpus.identity`,
`manifests.packed`), and would take one verdict for another corpus. So the table as it was built is kept in
`audit/stems.parquet` (or `.jsonl`) before the column is first rewritten, and `audit/stems.json` says which files
this module has made of it: for one of these, the kept file stands. A table that anything else has changed or
rebuilt stands for itself, as ever.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from manifests.audio import content_id
from manifests.errors import TableError
from manifests.files import replacing
from manifests.plain import json_of
from manifests.tables import find_table, read_table, write_table

__all__ = ["AUDIT", "stems_as_built", "write_audit"]

AUDIT = "audit"
"""The folder, inside a corpus', of what people said when they listened."""

_RECORD = "stems.json"


def stems_as_built(folder: Path) -> Path | None:
    """The file that stands for a corpus' stems table, whatever verdicts there are.

    Parameters
    ----------
    folder : Path
        The corpus' folder.

    Returns
    -------
    Path or None
        The table, or, where only its verdicts were written since, what it was before; None where there is no table.

    Raises
    ------
    TableError
        When the table is there in both formats.
    """
    path = find_table(folder, "stems")
    if path is None:
        return None
    record, kept = _record(folder), folder / AUDIT / path.name
    if not kept.exists() or content_id(path) not in record["audited"]:
        return path
    return kept if content_id(kept) == record["original"] else path


def write_audit(folder: Path, audit: Sequence[str]) -> bool:
    """Rewrite the column `audit` of a stems table, whole or not at all.

    Parameters
    ----------
    folder : Path
        The corpus' folder, whose `BuildLock` is held.
    audit : sequence of {'unheard', 'accepted', 'rejected'}
        For each row.

    Returns
    -------
    bool
        Whether anything has changed; if not, nothing is written.

    Raises
    ------
    TableError
        When there is no table, or a value is none of these.
    BuildError
        When the disk refuses.
    """
    path = find_table(folder, "stems")
    if path is None:
        raise TableError(f"{folder}: holds no stems.parquet or stems.jsonl; give the folder of a finished build")
    frame = read_table(folder, "stems")
    if frame["audit"].to_list() == list(audit):
        return False
    frame["audit"] = pd.Series(audit, frame.index, dtype="string")
    record, before, kept = _record(folder), content_id(path), folder / AUDIT / path.name
    is_known = before == record["original"] or before in record["audited"]
    if not (is_known and kept.exists()):
        _copy(path, kept)
        record["original"] = before
    waiting = folder / AUDIT / "next"
    made = write_table(waiting, "stems", frame, "parquet" if path.suffix == ".parquet" else "jsonl")
    # both, before the table is replaced: a crash in between leaves the one or the other
    record["audited"] = sorted({before, content_id(made)} - {record["original"]})
    with replacing(folder / AUDIT / _RECORD) as file:
        file.write(json.dumps(record, indent=2).encode() + b"\n")
    _copy(made, path)
    shutil.rmtree(waiting, ignore_errors=True)
    return True


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as file, source.open("rb") as opened:
        shutil.copyfileobj(opened, file)


def _record(folder: Path) -> dict[str, Any]:
    """Content ids of the table as it was built, and of those made of it; empty where there is no record."""
    try:
        found = json_of((folder / AUDIT / _RECORD).read_bytes())
        return {"original": str(found["original"]), "audited": [str(name) for name in found["audited"]]}
    except (OSError, ValueError, LookupError, TypeError):
        return {"original": "", "audited": []}
