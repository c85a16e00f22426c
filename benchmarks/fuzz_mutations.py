"""How `benchmarks/fuzz.py` damages a file: a few mutations of its bytes, or values exchanged where it is text."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SIZES = [
    0,
    1,
    2,
    255,
    0x7FFF,
    0xFFFF,
    10_000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
    (1 << 64) - 1,
]
WORDS = [b"\0", b"-1", b"1e999", b"NaN", b".nan", b".inf", b"null", b"~", b"{}", b"[]", b"../../x", b"/etc/passwd"]
WORDS += [
    b"!!python/object/apply:os.system [x]",
    b"&a [*a]",
    b"<<: *a",
    b"'",
    b'"',
    b"<script>",
    b"{{7*7}}",
    b"9" * 5000,
]
WORDS += [
    b"\xed\xa0\x80",
    "\u202e".encode(),
    b"[" * 3000,
    b"x" * 9999,
    b"2001-99-99",
    b"1:60:60",
    b"0x",
    b"true",
    b": ",
]
WORDS += [
    b"RIFF",
    b"LIST",
    b"data",
    b"fmt ",
    b"ds64",
    b"SSND",
    b"COMM",
    b"fLaC",
    b"OggS\0",
    b"ID3\4",
    b"Xing",
    b"moov",
]
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    10**30,
    1e308,
    -0.5,
    "",
    "x",
    "../../x",
    "/x",
    "\0",
    "\ud800",
    [],
]
VALUES += [
    {},
    [[]],
    [None],
    {"a": {}},
    "9" * 5000,
    "[" * 9999,
    "x" * 99_999,
    "<script>alert(1)</script>",
    [1, [2]],
    "nan",
]


def mutated(seeds: Sequence[bytes], rng: np.random.Generator) -> bytes:
    """One input: a seed with one to eight things done to it."""
    data = bytearray(seeds[int(rng.integers(len(seeds)))])
    if rng.random() < 0.5 and (changed := _exchanged(bytes(data), rng)) is not None:
        return changed
    for _ in range(int(rng.integers(1, 9))):
        # headers are where it hurts: half of the places are in the first bytes
        span = min(len(data), 256) if rng.random() < 0.5 else len(data)
        at = int(rng.integers(span)) if span else 0
        data = _MUTATIONS[int(rng.integers(len(_MUTATIONS)))](data, at, seeds, rng)
    return bytes(data)


def _flip(data: bytearray, at: int, seeds: Sequence[bytes], rng: np.random.Generator) -> bytearray:
    data[at : at + 1] = bytes(byte ^ 1 << int(rng.integers(8)) for byte in data[at : at + 1])
    return data


def _cut(data: bytearray, at: int, seeds: Sequence[bytes], rng: np.random.Generator) -> bytearray:
    return data[:at] if rng.random() < 0.3 else data[:at] + data[at + int(rng.integers(1, 65)) :]


def _repeat(data: bytearray, at: int, seeds: Sequence[bytes], rng: np.random.Generator) -> bytearray:
    return data[:at] + data[at : at + int(rng.integers(1, 65))] * int(rng.integers(2, 5)) + data[at:]


def _splice(data: bytearray, at: int, seeds: Sequence[bytes], rng: np.random.Generator) -> bytearray:
    other = seeds[int(rng.integers(len(seeds)))]
    return data[:at] + other[int(rng.integers(len(other))) :]


def _size(data: bytearray, at: int, seeds: Sequence[bytes], rng: np.random.Generator) -> bytearray:
    width, order = int(rng.choice([1, 2, 4, 8])), ("little", "big")[int(rng.integers(2))]
    value = SIZES[int(rng.integers(len(SIZES)))] % (1 << 8 * width)
    data[at : at + width] = value.to_bytes(width, order)  # type: ignore[arg-type]
    return data


def _word(data: bytearray, at: int, seeds: Sequence[bytes], rng: np.random.Generator) -> bytearray:
    word = WORDS[int(rng.integers(len(WORDS)))]
    return data[:at] + word + data[at + (len(word) if rng.random() < 0.5 else 0) :]


_MUTATIONS = [_flip, _flip, _cut, _repeat, _splice, _size, _size, _word]


def _exchanged(data: bytes, rng: np.random.Generator) -> bytes | None:
    """A value of a text exchanged for another: it stays JSON, or YAML; None where it is neither."""
    if data[8:9] == b"{" and (size := int.from_bytes(data[:8], "little")) < len(data):  # safetensors
        header = _exchanged(data[8 : 8 + size], rng)
        return header and len(header).to_bytes(8, "little") + header + data[8 + size :]
    try:
        if data[:1] == b"{":
            lines = [json.loads(line) for line in data.splitlines()]
            for _ in range(int(rng.integers(1, 4))):
                _exchange(lines, rng)
            return "\n".join(json.dumps(line) for line in lines).encode("utf-8", "surrogatepass")
        if data[:4] == b"PAR1":
            return _exchanged_column(data, rng)
        lines = data.decode().splitlines()
    except ValueError:
        return None
    if not lines or not any(":" in line for line in lines):
        return None
    at = int(rng.choice([number for number, line in enumerate(lines) if ":" in line]))
    value = VALUES[int(rng.integers(len(VALUES)))]
    word = WORDS[int(rng.integers(len(WORDS)))].decode(errors="replace")
    lines[at] = f"{lines[at].partition(':')[0]}: {json.dumps(value) if rng.random() < 0.5 else word}"
    return "\n".join(lines).encode("utf-8", "replace")


def _exchanged_column(data: bytes, rng: np.random.Generator) -> bytes:
    """A table with values of one column exchanged, or all of it, or its type; or with rows that are said twice."""
    table = pq.read_table(io.BytesIO(data))
    at = int(rng.integers(table.num_columns))
    name, values = table.column_names[at], table.column(at).to_pylist()
    # pyarrow itself crashes when it writes an object without fields
    plain = [value for value in VALUES if value is None or isinstance(value, (bool, int, float, str))]
    value: Any = plain[int(rng.integers(len(plain)))]
    values[int(rng.integers(len(values)))] = value
    with contextlib.suppress(pa.ArrowException, OverflowError, UnicodeEncodeError):
        table = table.set_column(at, name, pa.array(values, table.column(at).type))
        return _parquet(table)
    with contextlib.suppress(pa.ArrowException, OverflowError, UnicodeEncodeError):
        return _parquet(table.set_column(at, name, pa.array([value] * len(values))))
    return _parquet(pa.concat_tables([table, table]))


def _parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def _exchange(value: Any, rng: np.random.Generator) -> None:
    """Exchange something in nested lists and objects; a text that is JSON itself is entered too."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = keys[int(rng.integers(len(keys)))]
        inner = value[key]
        if isinstance(inner, (dict, list)) and inner and rng.random() < 0.85:
            value = inner
            continue
        if isinstance(inner, str) and inner[:1] in ("{", "[") and len(inner) < 5000 and rng.random() < 0.8:
            held = [json.loads(inner)]
            _exchange(held, rng)
            value[key] = json.dumps(held[0])
        elif isinstance(value, dict) and rng.random() < 0.1:
            del value[key]
        else:
            value[key] = copy.deepcopy(VALUES[int(rng.integers(len(VALUES)))])
        return
