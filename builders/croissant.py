"""`croissant.json`: what a corpus holds, as Croissant metadata (JSON-LD) that other tools read.

The tables are files with a record set each, whose fields are the table's columns. The audio, which the stems'
`path` names, is a set of files without a record set: the reference implementation (mlcroissant 1.1) decodes MP3
only, and fails on the rest. Fields of Croissant that nobody stated (where the corpus is published, who made it,
when) are left out, and readers say so: they are for whoever publishes it to give.

References
----------
Croissant format specification 1.0, https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet

from manifests.errors import BuildError
from manifests.schemas import columns_of, dtype_of
from manifests.tables import find_table

SPECIFICATION = "http://mlcommons.org/croissant/1.0"

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_FORMATS = {".parquet": "application/x-parquet", ".jsonl": "application/jsonlines"}
_WHAT = {
    "stems": "A row for each audio file: its song, what it is, how good it is, where it comes from.",
    "clips": "A row for each excerpt to train or test with.",
    "tracks": "A row for each recording that songs were made of.",
    "pairs": "A row for each pair of recordings that were compared.",
    "mixtures": "A row for each source of each mixture.",
    "rejected": "A row for everything that was left out, with the reason.",
}


def croissant(build: Path, tables: Mapping[str, pd.DataFrame], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a corpus.

    Parameters
    ----------
    build : Path
        Its folder.
    tables : mapping of str to pd.DataFrame
        Its tables by name.
    facts : mapping
        ``name``, ``description``, ``license`` (addresses or names), ``citeAs``, ``keywords`` and, where they are
        known, ``url``, ``creator``, ``datePublished``, ``version``; those that are None are left out.

    Returns
    -------
    dict
        A JSON-LD document of `SPECIFICATION`.
    """
    patterns = sorted({f"audio/**/*{Path(path).suffix}" for path in tables["stems"]["path"]})
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": SPECIFICATION,
        **{key: value for key, value in facts.items() if value is not None},
        "isLiveDataset": False,
        "distribution": [_file(build, name) for name in tables],
        "recordSet": [_records(build, name, table) for name, table in tables.items()],
    }
    if patterns:
        document["distribution"].append(_audio_files(patterns))
    return document


def _file(build: Path, name: str) -> dict[str, Any]:
    path = _path(build, name)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "description": _WHAT[name],
        "contentUrl": path.name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": _FORMATS[path.suffix],
        "sha256": digest,
    }


def _records(build: Path, name: str, table: pd.DataFrame) -> dict[str, Any]:
    path = _path(build, name)
    stored = _columns(path)
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": _WHAT[name],
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column}",
                "name": column,
                "dataType": _data_type(dtype_of(schema)),
                "source": {
                    "fileObject": {"@id": path.name},
                    # of JSON lines too: the reference implementation makes a table of them
                    "extract": {"column": column},
                },
            }
            for column, schema in columns_of(name, table.columns).items()
            if column in stored
        ],
    }


def _audio_files(patterns: Sequence[str]) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": "audio-files",
        "name": "audio-files",
        "description": "The stems; the stems table has a row for each.",
        "encodingFormat": [f"audio/{pattern.rpartition('.')[2]}" for pattern in patterns],
        "includes": patterns,
    }


def _columns(path: Path) -> set[str]:
    """The columns that are in a table's file: one of an earlier version has not all."""
    if path.suffix == ".parquet":
        return set(pyarrow.parquet.read_schema(path).names)
    with path.open("rb") as file:
        return set(json.loads(file.readline() or "{}"))


def _path(build: Path, name: str) -> Path:
    path = find_table(build, name)
    if path is None:
        raise BuildError(f"{build}: table '{name}' is gone; run the same build command again")
    return path


def _data_type(dtype: Any) -> str:
    return "sc:Text" if isinstance(dtype, pd.StringDtype) else "sc:Float" if dtype == np.float64 else "sc:Integer"
