"""Imports in this process, as tests want them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from builders.imports import ImportBuilder
from builders.recipe import ImportRecipe
from builders.stage import Progress, silent
from manifests.corpus import Corpus
from manifests.tables import TableFormat


def import_corpus(
    layout: Literal["musdb18", "moisesdb", "folders", "loose", "librispeech", "fma", "fsd50k"],
    folder: Path,
    out: Path,
    *,
    table_format: TableFormat = "parquet",
    progress: Progress = silent,
    **fields: Any,
) -> Corpus:
    """Import a folder with one worker, which is this process."""
    recipe = ImportRecipe(layout=layout, **fields)
    return ImportBuilder(out, recipe, jobs=0, table_format=table_format, progress=progress).build(folder)
