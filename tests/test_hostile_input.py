"""What a stranger may have put into a corpus: none of it is run, none of it leaves its folder or fills the memory.

`tests/builders/test_bad_input.py` has what breaks by accident. `benchmarks/fuzz.py` looks for what nobody thought
of; what it found has a test here.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
import yaml

from augment.jams import jams_roots, plan_of_jams
from augment.plan import plans_of
from augment.recipe import load_mix
from benchmarks.fuzz import fuzz
from benchmarks.fuzz_targets import TARGETS, film, jams, plan_rows, sound
from benchmarks.fuzz_targets import corpus as packed_corpus
from builders.curate import CurateBuilder
from builders.engine import LocalEngine
from builders.recipe import CurateRecipe
from builders.report.curves import read_curves
from builders.scan import FoundFile, survey_file
from manifests.audio import content_id
from manifests.corpus import Corpus
from manifests.crops import CropReader
from manifests.errors import AudioError, RecipeError, StemloomError, TableError
from manifests.packed import PackedReader
from manifests.paths import LINKS, resolve
from manifests.plain import MAX_CHARACTERS, json_of, yaml_of
from manifests.tables import frame_of, read_table
from separators.loading import load_separator
from separators.pretrained.roformer import read_recipe
from tests.builders.small_catalog import build, chosen_paths, write_pair
from tests.manifests.exports.small_corpus import FRAMES, sounds, write_song, write_tables
from training.study import load_study


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    write_tables(folder, write_song(folder, "song", sounds(1, ("vocals", "bass"))))
    return folder


def changed_rows(folder: Path, **changes: Any) -> None:
    """Write a stems table as a stranger would: nothing looks whether it is right."""
    rows = [
        json.loads(line) | changes
        for line in read_table(folder, "stems").to_json(orient="records", lines=True).split()
    ]
    (folder / "stems.parquet").unlink(missing_ok=True)
    (folder / "stems.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


class Payload:
    """A pickle that creates a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self.path), "w")


class TestLinks:
    def moved(self, corpus: Path, tmp_path: Path) -> Path:
        elsewhere = tmp_path / "elsewhere"
        (corpus / "audio").rename(elsewhere)
        (corpus / "audio").symlink_to(elsewhere)
        return elsewhere

    def test_a_link_out_of_the_corpus_is_refused_by_all_who_read_audio(self, corpus: Path, tmp_path: Path) -> None:
        elsewhere = self.moved(corpus, tmp_path)
        opened = Corpus.open(corpus)
        with pytest.raises(TableError, match=rf"leads out of .*symbolic link, to {elsewhere}.*{LINKS}="):
            opened.load(("song", "vocals"))
        with pytest.raises(TableError, match=LINKS), CropReader({".": corpus}) as crops:
            crops.read(".", "audio/song/vocals.flac", 0, 10)
        with pytest.raises(StemloomError):
            CurateBuilder(tmp_path / "curated", CurateRecipe(), jobs=0).build(corpus)
        assert not list((tmp_path / "curated").rglob("*.flac"))

    def test_a_link_to_a_file_is_as_one_to_a_folder(self, corpus: Path, tmp_path: Path) -> None:
        (tmp_path / "secret.flac").write_bytes(b"secret")
        path = corpus / "audio/song/vocals.flac"
        path.unlink()
        path.symlink_to("../../../secret.flac")
        with pytest.raises(TableError, match="symbolic link"):
            Corpus.open(corpus).path_of(Corpus.open(corpus).song("song")["vocals"])

    def test_whoever_trusts_a_link_names_its_folder(
        self, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        elsewhere = self.moved(corpus, tmp_path)
        monkeypatch.setenv(LINKS, os.pathsep.join(["/nowhere", str(elsewhere)]))
        assert Corpus.open(corpus).load(("song", "vocals")).shape == (2, FRAMES)
        monkeypatch.setenv(LINKS, str(tmp_path / "else"))  # a name that starts so is another folder
        with pytest.raises(TableError, match="symbolic link"):
            Corpus.open(corpus).load(("song", "vocals"))

    def test_links_within_a_corpus_and_to_it_are_followed(self, corpus: Path, tmp_path: Path) -> None:
        (corpus / "audio").rename(corpus / "sounds")
        (corpus / "audio").symlink_to("sounds")
        (tmp_path / "link").symlink_to(corpus)
        for folder in (corpus, tmp_path / "link"):
            assert Corpus.open(folder).load(("song", "vocals")).shape == (2, FRAMES)

    def test_a_link_that_leads_round_is_refused(self, corpus: Path) -> None:
        (corpus / "loop").symlink_to("loop")
        assert resolve(corpus, "loop") == corpus / "loop"  # where nothing is, the reader says so
        with pytest.raises(AudioError):
            CropReader({".": corpus}).read(".", "loop/a.mp3", 0, 1)

    def test_a_catalogue_of_links_to_other_disks_is_still_built(self, tmp_path: Path) -> None:
        write_pair(tmp_path / "disk", 0)
        (tmp_path / "music").mkdir()
        (tmp_path / "music" / "more").symlink_to(tmp_path / "disk")
        made = build(tmp_path / "music", tmp_path / "out")
        assert chosen_paths(made) == {("more/Song 0.flac", "more/Song 0 (Instrumental).flac")}


@pytest.mark.parametrize("name", ["../../outside", "/outside", "a/../../outside", "a\0b", "x" * 300, ""])
@pytest.mark.parametrize("column", ["song_id", "stem"])
def test_names_that_would_lead_out_of_the_folders_that_are_named_by_them_are_refused(
    corpus: Path, column: str, name: str
) -> None:
    changed_rows(corpus, **{column: name})
    with pytest.raises(TableError, match=f"column '{column}' has .* not a name that can stand in a path"):
        Corpus.open(corpus).songs()


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{','.join([f'*{old}'] * 10)}]}}\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML = {
    LAUGHS: "far more than is written",
    MERGES: "far more than is written",
    "a: &a [*a]": "holds itself",
    "[" * 100_000: "nests too deep",
    "a: " + "- " * 5000: "not allowed here|nests too deep",
    "x" * (MAX_CHARACTERS + 1): "characters, at most",
    "a: !!python/object/apply:os.system [touch owned]": "constructor",
    "a: !!python/name:os.system": "constructor",
    "a: 2001-99-99": "not what its tag says",
    "a: " + "9" * 5000: "not what its tag says",
    "a: !!int ''": "not what its tag says",
    "a: !!timestamp x": "not what its tag says",
    'a: "\\ud800"': "surrogates not allowed",
    "? [a]\n: b": "unhashable",
}


@pytest.mark.parametrize("text", YAML, ids=lambda text: text[:20])
@pytest.mark.parametrize("load", [load_mix, load_study, read_recipe, load_separator])
def test_yaml_that_is_more_than_it_seems_is_refused(tmp_path: Path, text: str, load: Callable[[Any], Any]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=rf"(?s)recipe\.yaml: cannot be read as YAML.*({YAML[text]})"):
        load(path)
    assert not Path("owned").exists()


def test_yaml_that_is_meant_is_read() -> None:
    text = "a: &a {x: 1, y: [1, .inf]}\nb: {<<: *a, x: 2}\n"
    assert yaml_of(text) == yaml.safe_load(text)
    assert yaml_of("") is None


def test_an_error_shows_a_little_of_a_long_value(tmp_path: Path) -> None:
    path = tmp_path / "mix.yaml"
    path.write_text(f"sample_rate: {'x' * 100_000}\n{'y' * 900}: 1\n")
    with pytest.raises(RecipeError) as caught:
        load_mix(path)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("seeds", ["9999999999", "1" + "0" * 30])
def test_a_number_of_seeds_that_fills_the_memory_is_refused(tmp_path: Path, seeds: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(f"seeds: {seeds}\n")
    with pytest.raises(RecipeError, match=r"seeds.*at most 1000"):
        load_study(path)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_base_whose_name_no_file_can_have_is_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps({"base": name, "corpora": {"a": name}}))
    with pytest.raises(RecipeError):
        load_study(path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "NaN", '{"a": Infinity}', "\ud800", "1" * 5000])
def test_json_that_breaks_its_parser_is_an_error_of_values(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        json_of(text.encode("utf-8", "surrogatepass"))
    assert not isinstance(caught.value, RecursionError)


class TestPickles:
    @pytest.mark.parametrize(
        "what", ["checkpoint:{}.safetensors", "checkpoint:{}.th", "roformer:{}.ckpt", "demucs:{}.th"]
    )
    def test_weights_run_nothing(self, tmp_path: Path, what: str) -> None:
        owned, path = tmp_path / "owned", tmp_path / "a"
        place = Path(what.format(path).partition(":")[2])
        torch.save({"state": Payload(owned)}, place)
        (tmp_path / "a.yaml").write_text("audio: {}\nmodel: {}\ntraining: {}\n")
        with pytest.raises(RecipeError):
            load_separator(f"{what.format(path)}{'?config=' + str(path) + '.yaml' if 'roformer' in what else ''}")
        place.write_bytes(pickle.dumps(Payload(owned)))
        with pytest.raises(RecipeError):
            load_separator(what.format(path))
        assert not owned.exists()

    def test_curves_run_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "curves").mkdir()
        np.savez(tmp_path / "curves/song.npz", grade=np.array([Payload(tmp_path / "owned")], dtype=object))
        with pytest.raises(TableError, match="cannot be read"):
            read_curves(tmp_path, "song")
        assert not (tmp_path / "owned").exists()

    def test_what_a_table_says_of_pandas_is_not_believed(self, corpus: Path, tmp_path: Path) -> None:
        table = pq.read_table(corpus / "stems.parquet")
        blob = pickle.dumps(Payload(tmp_path / "owned"))
        facts = {"numpy_type": "object", "pandas_type": "pickle", "name": "method", "field_name": "method"}
        about = {b"pandas": json.dumps({"columns": [facts], "index_columns": ["method"]}).encode(), b"blob": blob}
        pq.write_table(table.replace_schema_metadata(about), corpus / "stems.parquet")
        assert Corpus.open(corpus).songs() == ["song"]
        at = table.column_names.index("method")
        spoilt = table.set_column(at, "method", pa.array([blob] * len(table), pa.binary()))
        pq.write_table(spoilt.replace_schema_metadata(about), corpus / "stems.parquet")
        with pytest.raises(TableError, match=r"column 'method' has .* not text"):
            Corpus.open(corpus).songs()
        assert not (tmp_path / "owned").exists()

    @pytest.mark.parametrize("size", [0, 1 << 40, (1 << 64) - 1, 9])
    def test_safetensors_with_an_absurd_header_are_refused(self, tmp_path: Path, size: int) -> None:
        path = tmp_path / "a.safetensors"
        path.write_bytes(
            struct.pack("<Q", size) + b'{"a":{"dtype":"F32","shape":[99999999999],"data_offsets":[0,4]}}'
        )
        with pytest.raises(RecipeError):
            load_separator(f"checkpoint:{path}")


def spoilt_wav(at: int, form: str, value: int) -> Callable[[], bytes]:
    def make() -> bytes:
        data = bytearray(sound("WAV", "PCM_16"))
        struct.pack_into(form, data, at, value)
        return bytes(data)

    return make


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body


def wav(*chunks: bytes, form: bytes = b"") -> Callable[[], bytes]:
    head = chunk(b"fmt ", form or struct.pack("<HHIIHH", 1, 2, 8000, 32_000, 4, 16))
    body = b"WAVE" + head + b"".join(chunks)
    return lambda: chunk(b"RIFF", body)


def claiming_flac(frames: int, channels: int = 2) -> Callable[[], bytes]:
    """A FLAC whose header claims more than there is: 36 bits of frames, 3 of channels."""

    def make() -> bytes:
        data = bytearray(sound("FLAC", "PCM_16"))
        (word,) = struct.unpack_from(">Q", data, 18)
        word = word & ~((1 << 36) - 1) & ~(7 << 41) | frames | (channels - 1) << 41
        struct.pack_into(">Q", data, 18, word)
        return bytes(data)

    return make


def tagged_mp3(size: int, body: bytes) -> Callable[[], bytes]:
    sizes = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return lambda: b"ID3\x03\0\0" + sizes + body + sound("MP3", "MPEG_LAYER_III")


PCM = bytes(8000)
# file name: its bytes, and what is said of it; None where it is a file as any
HEADERS: dict[str, tuple[Callable[[], bytes], str | None]] = {
    "10,000 channels.wav": (spoilt_wav(22, "<H", 10_000), "channels|not audio"),
    "65,535 channels of a byte.wav": (
        wav(chunk(b"data", PCM), form=struct.pack("<HHIIHH", 1, 65_535, 8000, 65_535 * 8000 % 2**32, 65_535, 8)),
        "channels|not audio",
    ),
    "no channels.wav": (spoilt_wav(22, "<H", 0), "channels|not audio"),
    "0 Hz.wav": (spoilt_wav(24, "<I", 0), "sample rate|not audio"),
    "4 GHz.wav": (spoilt_wav(24, "<I", 0xFFFFFFF0), "sample_rate|sample rate|not audio"),
    "2^40 frames.wav": (
        lambda: (
            b"RF64\xff\xff\xff\xffWAVE"
            + chunk(b"ds64", struct.pack("<QQQI", 1 << 42, 1 << 42, 1 << 40, 0))
            + chunk(b"fmt ", struct.pack("<HHIIHH", 1, 2, 8000, 32_000, 4, 16))
            + chunk(b"data", PCM, 0xFFFFFFFF)
        ),
        "cut short",
    ),
    "2^36 frames.flac": (claiming_flac((1 << 36) - 1), "promise|decoding failed|ends at|not audio"),
    "eight channels of two.flac": (claiming_flac(3000, 8), "."),
    "a huge chunk.wav": (wav(chunk(b"LIST", b"INFO", 0xFFFFFFF0), chunk(b"data", PCM)), "."),
    "lists in lists.wav": (wav(b"LIST\xff\xff\0\0INFO" * 5000, chunk(b"data", PCM)), "."),
    "overlapping data.wav": (wav(chunk(b"data", chunk(b"data", PCM, 0x7FFFFFF0), 0x7FFFFFF0)), None),
    "a tag that claims 250 MB.mp3": (tagged_mp3(250_000_000, b"TIT2" + bytes(100)), "."),
    "a tag in a tag.mp3": (tagged_mp3(60, b"TIT2\x7f\xff\xff\xff\0\0" + bytes(50)), None),
    "a movie of boxes.m4a": (lambda: struct.pack(">I4s", 8, b"moov") * 20_000, "not audio|no audio"),
    "a box of 2^63.m4a": (lambda: struct.pack(">I4sQ", 1, b"ftyp", (1 << 63) - 1) + PCM, "not audio|no audio"),
    "endless pages.ogg": (lambda: b"OggS\0\2" + bytes(20) + b"\xff" * 256 + bytes(9000), "cut short"),
    "2^31 channels.aiff": (
        lambda: b"FORM\0\0\x20\0AIFFCOMM\0\0\0\x12\x7f\xff\xff\xff\xff\xff\0\x10\x40\x0b\xfa" + bytes(7) + PCM,
        "channels|not audio",
    ),
}


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a worker with little memory says of each file."""
    folder = tmp_path_factory.mktemp("headers")
    files = []
    for name, (make, _) in HEADERS.items():
        (folder / name).write_bytes(make())
        files.append((name, FoundFile(str(folder), name, content_id(folder / name))))
    with soundfile.SoundFile(folder / "hours.flac", "w", 8000, 1, format="FLAC") as file:
        for _ in range(120):
            file.write(np.zeros(8000 * 60))
    assert (folder / "hours.flac").stat().st_size < 500_000
    files.append(("hours.flac", FoundFile(str(folder), "hours.flac", content_id(folder / "hours.flac"))))
    return {outcome.key: outcome for outcome in LocalEngine(1, 60.0, 700_000_000).run(survey_file, files)}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_claims_too_much_costs_its_file(surveyed: dict[str, Any], name: str) -> None:
    outcome, said = surveyed[name], HEADERS[name][1]
    if said is None:
        assert outcome.error is None
        return
    assert outcome.error is not None
    assert outcome.error.kind == "rejected"
    assert pd.Series([outcome.error.detail]).str.contains(said).all(), outcome.error.detail


def test_a_codec_that_nobody_knows_costs_its_file(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV reads m4a; it is in the extra 'av'")
    (tmp_path / "a.m4a").write_bytes(film("m4a")[0].replace(b"mp4a", b"zzzz").replace(b"esds", b"zzzz"))
    with pytest.raises(AudioError, match="its codec is none that FFmpeg knows"):
        survey_file(FoundFile(str(tmp_path), "a.m4a", content_id(tmp_path / "a.m4a")))


def test_hours_of_silence_in_kilobytes_are_surveyed_in_little_memory(surveyed: dict[str, Any]) -> None:
    assert surveyed["hours.flac"].error is None
    assert surveyed["hours.flac"].result.value["num_frames"] == 120 * 60 * 8000


class TestTables:
    def bomb(self, corpus: Path, rows: int, **values: str) -> None:
        table = pq.read_table(corpus / "stems.parquet")
        index, columns = pa.array(np.zeros(rows, np.int32)), {}
        for field in table.schema:
            value = pa.array([values.get(field.name, table.column(field.name)[0].as_py())], field.type)
            is_null = bool(value.null_count)
            columns[field.name] = (
                pa.nulls(rows, field.type) if is_null else pa.DictionaryArray.from_arrays(index, value)
            )
        pq.write_table(pa.table(columns), corpus / "stems.parquet", compression="zstd")

    def test_a_table_of_kilobytes_with_millions_of_rows_is_refused(self, corpus: Path) -> None:
        self.bomb(corpus, 3_000_000)
        with pytest.raises(TableError, match=r"claims 3000000 rows of \d+ bytes in a file of \d+ bytes"):
            Corpus.open(corpus).songs()

    def test_a_text_that_is_said_too_often_is_refused(self, corpus: Path) -> None:
        self.bomb(corpus, 50_000, method="x" * 1_000_000)
        with pytest.raises(TableError, match="column 'method' comes to 50000000000 bytes of text"):
            Corpus.open(corpus).songs()

    def test_a_line_without_an_end_is_refused(self, corpus: Path) -> None:
        (corpus / "stems.parquet").unlink()
        with (corpus / "stems.jsonl").open("wb") as file:
            file.write(b'{"song_id": "')
            file.truncate(1 << 30)  # a hole: nothing is on the disk
        with pytest.raises(TableError, match=r"line 1 is not a JSON object .*longer than"):
            Corpus.open(corpus).songs()

    @pytest.mark.parametrize("value", ["5", "{}", "[5]", "[[1]]", '[["a", 2, 3]]', "[" * 5000, "[[true, 1, 1]]"])
    def test_json_of_another_shape_is_refused_where_it_is_read(self, value: str) -> None:
        pair = {
            "pair_id": "p",
            "mixture_id": "m",
            "instrumental_id": "i",
            "mixture_path": "a",
            "instrumental_path": "b",
        }
        pair |= {"evidence": "", "status": "chosen", "segments": value}
        with pytest.raises(TableError, match="'segments' has 1 value that is not a JSON list"):
            frame_of("pairs", [pair])
        with pytest.raises(TableError, match="'transforms' has 1 value that is not a JSON list"):
            frame_of("mixtures", [plan_rows()[0] | {"transforms": value if value != "{}" else "5"}])

    @pytest.mark.parametrize(
        "change",
        [
            {"num_frames": None},
            {"gain_db": None},
            {"mixture_frames": 2**40},
            {"mixture_channels": 10**6},
            {"mixture_rate": 2**62},
        ],
    )
    def test_a_plan_that_cannot_be_made_is_refused(self, change: dict[str, Any]) -> None:
        with pytest.raises(TableError, match="mixtures: "):
            plans_of(frame_of("mixtures", [row | change for row in plan_rows()]))

    def test_an_index_of_a_packed_store_that_leads_elsewhere_is_refused(self, tmp_path: Path) -> None:
        folder = packed_corpus(tmp_path)
        index = pq.read_table(folder / "packed/index.parquet")
        for name, value in (("offset_bytes", -64), ("num_frames", 0), ("channels", -1), ("shard", -1)):
            at = index.column_names.index(name)
            values = [value, *index.column(name).to_pylist()[1:]]
            wrong = index.set_column(at, index.schema.field(name), pa.array(values))
            pq.write_table(wrong, folder / "packed/index.parquet")
            with pytest.raises(TableError, match=f"column '{name}'"):
                PackedReader(folder)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("annotations", True),
        ("annotations", ["x"]),
        ("annotations.0.data", 5),
        ("annotations.0.data", ["x"]),
        ("annotations.0.sandbox", "x"),
        ("annotations.0.sandbox.scaper.sr", 1e308),
        ("annotations.0.sandbox.scaper.n_channels", 10**9),
        ("annotations.0.sandbox.scaper.original_duration", 1e12),
        ("annotations.0.sandbox.scaper.fg_path", [1]),
        ("annotations.0.sandbox.scaper.fg_labels", 7),
        ("annotations.0.data.0.value.source_file", "/sounds/a\0.wav"),
        ("annotations.0.data.0.value.source_time", 1e300),
        ("annotations.0.data.0.value.event_time", True),
        ("annotations.0.data.0.value.time_stretch", 0),
        ("sandbox.stemloom", {}),
        ("sandbox.stemloom", {"mixtures": ["x"], "roots": {}}),
        ("sandbox.stemloom", {"mixtures": [], "roots": {}}),
    ],
)
def test_a_soundscape_that_is_none_is_refused(tmp_path: Path, place: str, value: Any) -> None:
    content: Any = json.loads(jams()[0])
    *way, last = place.split(".")
    inner = content
    for name in way:
        inner = inner[int(name) if name.isdigit() else name]
    inner[int(last) if last.isdigit() else last] = value
    path = tmp_path / "a.jams"
    path.write_text(json.dumps(content))
    with pytest.raises(TableError, match=r"a\.jams|mixtures"):
        plan_of_jams(path, {"foreground": tmp_path, "background": tmp_path})


def test_a_packed_soundscape_that_unpacks_without_end_or_not_at_all_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(jams()[0])
    bomb = gzip.compress(bytes(1 << 27))
    for data in (bomb, whole[:-9], whole[:20] + b"\xff" * 30, b"\x1f\x8b"):
        (tmp_path / "a.jamz").write_bytes(data)
        with pytest.raises(TableError, match="cannot be read as JAMS"):
            jams_roots(tmp_path / "a.jamz")


def test_a_short_fuzz_finds_nothing() -> None:
    names = [name for name in TARGETS if name not in ("run.json", "recipe.yaml", "net.th", "net.ckpt")]
    found = fuzz(names, 7, inputs=6, jobs=1)
    wrong = {name: findings.first for name, findings in found.items() if findings.first}
    assert wrong == {}
    assert {findings.inputs for findings in found.values()} == {6}
