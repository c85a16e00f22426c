"""Tables are validated, read back equal in both formats, and written the same way each time."""

import json
import math

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manifests.errors import TableError
from manifests.schemas import SCHEMAS
from manifests.tables import empty_table, find_table, frame_of, read_table, table_path, write_table

FORMATS = ("parquet", "jsonl")

ROWS = {
    "tracks": {
        "track_id": "0f", "root": "catalog", "path": "a/b.mp3", "codec": "mp3", "num_frames": 44100,
        "sample_rate": 44100, "channels": 2, "version": "original",
    },
    "pairs": {
        "pair_id": "p", "mixture_id": "m", "instrumental_id": "i", "mixture_path": "m.mp3",
        "instrumental_path": "i.mp3", "evidence": "isrc;title+artist", "status": "chosen",
    },
    "stems": {
        "song_id": "s", "stem": "vocals", "root": ".", "path": "s/vocals.flac", "num_frames": 10,
        "sample_rate": 44100, "channels": 2, "provenance": "derived", "audit": "unheard",
    },
    "clips": {"clip_id": "c", "song_id": "s", "start_frame": 0, "num_frames": 10},
    "mixtures": {
        "mixture_id": "m", "seed": 0, "epoch": 0, "index": 0, "attempt": 0, "mixture_rate": 8000,
        "mixture_channels": 2, "mixture_frames": 20, "mixture_transforms": "[]",
        "target": "dialogue", "path": "a.wav",
        "source_start_frame": 0, "num_frames": 10, "offset_frame": 0,
    },
    "rejected": {"path": "a.mp3", "stage": "scan", "reason": "cut short", "detail": ""},
    "cleaned": {"song_id": "a", "stem": "music", "verdict": "kept", "cleaned": "[]", "damaged": "[]"},
}  # fmt: skip


def row(name="tracks", **changes):
    return {**ROWS[name], **changes}


# Any text that UTF-8 can hold, line separators, quotes and NUL included.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
integers = st.integers(0, 2**63 - 1)
numbers = st.none() | st.just(math.nan) | st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def track_rows(draw):
    optional = {
        "title": st.none() | texts,
        "year": st.none() | st.integers(-(2**63), 2**63 - 1),
        "loudness_lufs": numbers,
        "peak_db": numbers,
        "music_start_frame": st.none() | integers,
    }
    changes = {key: draw(values) for key, values in optional.items() if draw(st.booleans())}
    return row(
        track_id=draw(texts.filter(bool)),
        num_frames=draw(integers.filter(bool)),
        codec=draw(texts),
        **changes,
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(track_rows(), max_size=6))
def test_both_formats_read_back_equal(tmp_path, rows):
    rows = [{**values, "path": f"{number}.mp3"} for number, values in enumerate(rows)]
    frame = frame_of("tracks", rows)
    for format in FORMATS:
        write_table(tmp_path, "tracks", frame, format)
        back = read_table(tmp_path, "tracks")
        pd.testing.assert_frame_equal(back, frame, check_exact=True)
    for number, values in enumerate(rows):
        for key, value in values.items():
            found = frame[key][number]
            null = value is None or (isinstance(value, float) and math.isnan(value))
            assert pd.isna(found) if null else found == value


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("format", FORMATS)
def test_every_table_reads_back_equal_with_and_without_rows(tmp_path, name, format):
    for frame in (frame_of(name, [row(name)]), empty_table(name)):
        path = write_table(tmp_path, name, frame, format)
        assert path == table_path(tmp_path, name, format) == find_table(tmp_path, name)
        pd.testing.assert_frame_equal(read_table(tmp_path, name), frame)


def test_types_are_nullable_and_the_same_everywhere():
    kinds = {
        "path": "string",
        "title": "string",
        "num_frames": "Int64",
        "year": "Int64",
        "peak_db": "float64",
    }
    for frame in (empty_table("tracks"), frame_of("tracks", [row()])):
        assert {key: str(frame[key].dtype) for key in kinds} == kinds
        assert list(frame.columns) == list(SCHEMAS["tracks"].columns)


def test_columns_left_out_of_rows_are_null():
    frame = frame_of("pairs", [row("pairs"), row("pairs", pair_id="q", lag_frames=1.5, polarity=-1)])
    assert frame["lag_frames"].isna().tolist() == [True, False]
    assert frame["polarity"].isna().tolist() == [True, False]


def test_numpy_values_are_taken():
    frame = frame_of("stems", [row("stems", num_frames=np.int64(5), rms=np.float32(0.5), channels=2.0)])
    assert (frame["num_frames"][0], frame["rms"][0], frame["channels"][0]) == (5, 0.5, 2)


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_rows_give_the_same_bytes(tmp_path, format):
    rows = [row(path="a.mp3", title="x", peak_db=None), row(path="b.mp3", year=2001)]
    frame = frame_of("tracks", rows)
    # Other order of columns, other index, other types, other way of being null, and a frame that was cut and
    # joined.
    other = frame.astype({"num_frames": "int64", "title": object, "year": "float64"})
    other.loc[1, "title"] = None
    other = pd.concat([other.iloc[:1], other.iloc[1:]])[sorted(frame.columns)].set_axis([7, 3])
    first = write_table(tmp_path / "a", "tracks", frame, format).read_bytes()
    second = write_table(tmp_path / "b", "tracks", other, format).read_bytes()
    assert first == second
    again = write_table(tmp_path / "a", "tracks", read_table(tmp_path / "a", "tracks"), format).read_bytes()
    assert again == first


def test_a_frame_joined_from_pieces_gives_the_same_bytes(tmp_path):
    # pyarrow lays a column of many chunks out differently, once its values no longer fit a dictionary of 1
    # MB.
    rows = [row("rejected", path=f"{number}.mp3", detail=f"{number:0>200}") for number in range(10_000)]
    whole = frame_of("rejected", rows)
    pieces = pd.concat([whole.iloc[start : start + 77] for start in range(0, len(whole), 77)])
    first = write_table(tmp_path / "a", "rejected", whole).read_bytes()
    assert write_table(tmp_path / "b", "rejected", pieces).read_bytes() == first


def test_jsonl_is_one_plain_object_a_line(tmp_path):
    path = write_table(tmp_path, "rejected", frame_of("rejected", [row("rejected", detail="\u2028 é\n")]), "jsonl")
    assert path.read_bytes().count(b"\n") == 1
    expected = {"id": None, "path": "a.mp3", "stage": "scan", "reason": "cut short", "detail": "\u2028 é\n"}
    assert json.loads(path.read_text("utf-8")) == expected


def test_jsonl_written_by_hand_may_leave_nulls_out(tmp_path):
    (tmp_path / "rejected.jsonl").write_text(json.dumps(row("rejected")) + "\n\n", "utf-8")
    assert read_table(tmp_path, "rejected")["id"].isna().all()


@pytest.mark.parametrize("index", [[0, 1], [5, 3], ["x", "y"]])
def test_parquet_that_pandas_wrote_is_read_whatever_its_index(tmp_path, index):
    frame = pd.DataFrame([row(), row(path="b.mp3")]).reindex(columns=list(SCHEMAS["tracks"].columns))
    frame.set_axis(index).to_parquet(tmp_path / "tracks.parquet")
    expected = frame_of("tracks", [row(), row(path="b.mp3")])
    pd.testing.assert_frame_equal(read_table(tmp_path, "tracks"), expected)
    frame.set_index("path").to_parquet(tmp_path / "tracks.parquet")
    pd.testing.assert_frame_equal(read_table(tmp_path, "tracks"), expected)


def test_nan_is_null_in_the_file_too(tmp_path):
    path = write_table(tmp_path, "tracks", frame_of("tracks", [row(peak_db=math.nan), row(path="b", peak_db=-1.0)]))
    column = pyarrow.parquet.read_table(path)["peak_db"]
    assert column.null_count == 1
    assert column.to_pylist() == [None, -1.0]


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path):
    folder = tmp_path / "genre=rock"
    write_table(folder, "tracks", frame_of("tracks", [row()]))
    assert read_table(folder, "tracks")["genre"].isna().all()


def test_clips_hold_one_rms_column_for_each_stem_in_order(tmp_path):
    frame = frame_of("clips", [row("clips", rms_vocals=0.5, rms_drums=None)])
    assert list(frame.columns[-2:]) == ["rms_drums", "rms_vocals"]
    write_table(tmp_path, "clips", frame)
    pd.testing.assert_frame_equal(read_table(tmp_path, "clips"), frame)
    with pytest.raises(TableError, match=r"column 'rms_vocals' has 1 value that is not at least 0 \(first: -1\.0"):
        frame_of("clips", [row("clips", rms_vocals=-1.0)])


def test_writing_one_format_removes_the_other(tmp_path):
    frame = frame_of("tracks", [row()])
    write_table(tmp_path, "tracks", frame, "jsonl")
    write_table(tmp_path, "tracks", frame, "parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["tracks.parquet"]


class TestMessages:
    def test_nulls_are_counted_and_placed_and_the_fix_is_named(self, tmp_path):
        rows = [row(path=f"a/{number}.mp3") for number in range(30)]
        frame = frame_of("tracks", rows)
        frame.loc[[17, 20, 29], "sample_rate"] = pd.NA
        frame.to_parquet(tmp_path / "tracks.parquet")
        with pytest.raises(TableError) as caught:
            read_table(tmp_path, "tracks")
        assert str(caught.value) == (
            f"{tmp_path}/tracks.parquet: column 'sample_rate' has 3 nulls (first: row 17, path 'a/17.mp3'); "
            "run 'stemloom scan' again"
        )
        with pytest.raises(TableError, match=r"has 3 nulls .*; correct the rows before writing them"):
            write_table(tmp_path, "tracks", frame)

    @pytest.mark.parametrize(
        ("name", "changes", "message"),
        [
            (
                "tracks",
                {"num_frames": 0},
                "column 'num_frames' has 1 value that is not at least 1 (first: 0 at row 0, path",
            ),
            (
                "tracks",
                {"num_frames": 1.5},
                "column 'num_frames' has 1 value that is not a whole number (first: 1.5 at",
            ),
            (
                "tracks",
                {"num_frames": "7"},
                "column 'num_frames' has 1 value that is not a whole number (first: '7' at",
            ),
            (
                "tracks",
                {"num_frames": True},
                "column 'num_frames' has 1 value that is not a whole number (first: True at",
            ),
            ("tracks", {"year": 2**63}, "column 'year' has 1 value that is not a whole number"),
            ("tracks", {"title": 7}, "column 'title' has 1 value that is not text (first: 7 at"),
            (
                "tracks",
                {"title": "a\udce9"},
                "column 'title' has 1 value that is not text (first: 'a\\udce9' at",
            ),
            ("tracks", {"title": b"x"}, "column 'title' has 1 value that is not text (first: b'x' at"),
            (
                "tracks",
                {"peak_db": "loud"},
                "column 'peak_db' has 1 value that is not a number (first: 'loud' at",
            ),
            (
                "tracks",
                {"peak_db": False},
                "column 'peak_db' has 1 value that is not a number (first: False at",
            ),
            (
                "tracks",
                {"peak_db": -math.inf},
                "column 'peak_db' has 1 value that is not finite (first: -inf at",
            ),
            (
                "tracks",
                {"path": "../b.mp3"},
                "that stays under its root (first: row 0, path '../b.mp3')",
            ),
            ("tracks", {"path": "/b.mp3"}, "column 'path' has 1 value that is not a relative POSIX path"),
            (
                "tracks",
                {"track_id": ""},
                "column 'track_id' has 1 value that is not at least one character long",
            ),
            (
                "pairs",
                {"polarity": 0},
                "column 'polarity' has 1 value that is not -1 or 1 (first: 0 at row 0, pair_id 'p')",
            ),
            (
                "pairs",
                {"status": "maybe"},
                "that is not one of chosen, alternative, refused (first: 'maybe' at",
            ),
            (
                "pairs",
                {"confidence": 1.5},
                "column 'confidence' has 1 value that is not between 0 and 1 (first: 1.5 at",
            ),
            (
                "pairs",
                {"segments": "[1,"},
                "column 'segments' has 1 value that is not a JSON list of [start_frame, end_frame, lag_frames]",
            ),
            ("stems", {"provenance": "x"}, "that is not one of recorded, derived, cleaned, separated"),
            ("stems", {"audit": None}, "column 'audit' has 1 null (first: row 0, path 's/vocals.flac')"),
            (
                "mixtures",
                {"transforms": "swap"},
                "column 'transforms' has 1 value that is not a JSON list of objects",
            ),
            ("rejected", {"reason": None}, "column 'reason' has 1 null (first: row 0, path 'a.mp3')"),
            ("tracks", {"tile": "x"}, "column 'tile' is not known (did you mean 'title'?)"),
        ],
    )
    def test_a_bad_value_is_named_with_its_column_row_and_rule(self, name, changes, message):
        with pytest.raises(TableError) as caught:
            frame_of(name, [row(name, **changes)])
        assert str(caught.value).startswith(f"table '{name}': ")
        assert message in str(caught.value)
        assert str(caught.value).endswith("; correct the rows before writing them")

    def test_all_that_is_wrong_is_told_at_once(self):
        with pytest.raises(
            TableError, match=r"'sample_rate' has 1 null .*'channels' has 2 values that are not at least 1"
        ):
            frame_of("tracks", [row(channels=0, sample_rate=None), row(path="b.mp3", channels=-1)])

    def test_a_long_value_is_shortened(self):
        with pytest.raises(TableError) as caught:
            frame_of("pairs", [row("pairs", segments="x" * 100_000)])
        assert len(str(caught.value)) < 400

    @pytest.mark.parametrize(
        ("name", "other", "what"),
        [
            ("tracks", {"track_id": "other"}, "root and path"),
            ("pairs", {"status": "refused"}, "pair_id"),
            ("stems", {"path": "other.flac"}, "song_id and stem"),
            ("clips", {"start_frame": 5}, "clip_id"),
        ],
    )
    def test_rows_that_repeat_an_identity_are_refused(self, name, other, what):
        with pytest.raises(TableError, match=f"1 row repeats the {what} of an earlier one .first: row 1, "):
            frame_of(name, [row(name), row(name, **other)])

    @pytest.mark.parametrize("drop", ["sample_rate", "title"])
    def test_a_missing_column_is_refused_nullable_or_not(self, tmp_path, drop):
        frame = frame_of("tracks", [row()]).drop(columns=drop)
        with pytest.raises(TableError, match=f"column '{drop}' is missing; correct the rows"):
            write_table(tmp_path, "tracks", frame)
        assert not list(tmp_path.iterdir())
        pyarrow.parquet.write_table(pyarrow.Table.from_pandas(frame), tmp_path / "tracks.parquet")
        with pytest.raises(
            TableError, match=rf"tracks\.parquet: column '{drop}' is missing; run 'stemloom scan' again"
        ):
            read_table(tmp_path, "tracks")

    def test_an_unknown_table_and_format_are_refused(self, tmp_path):
        with pytest.raises(
            TableError, match=r"no table 'track' \(did you mean 'tracks'\?\); tables are tracks, pairs"
        ):
            read_table(tmp_path, "track")
        with pytest.raises(TableError, match="table format 'csv' is not known; use 'parquet' or 'jsonl'"):
            write_table(tmp_path, "tracks", empty_table("tracks"), "csv")

    def test_a_missing_table_names_the_command_that_makes_it(self, tmp_path):
        assert find_table(tmp_path, "pairs") is None
        with pytest.raises(
            TableError, match=r"pairs\.parquet: no such table .*; run 'stemloom build catalog' again"
        ):
            read_table(tmp_path, "pairs")

    def test_a_table_in_both_formats_is_refused(self, tmp_path):
        for format in FORMATS:
            table_path(tmp_path, "tracks", format).touch()
        with pytest.raises(TableError, match=r"holds both tracks\.parquet and tracks\.jsonl; remove"):
            read_table(tmp_path, "tracks")

    def test_bytes_that_are_not_parquet_are_refused(self, tmp_path):
        path = write_table(tmp_path, "tracks", frame_of("tracks", [row()]))
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(
            TableError, match=r"tracks\.parquet: cannot be read as Parquet .*; run 'stemloom scan' again"
        ):
            read_table(tmp_path, "tracks")

    def test_a_name_that_is_not_text_is_refused(self, tmp_path):
        path = write_table(tmp_path, "tracks", frame_of("tracks", [row()]))
        path.write_bytes(path.read_bytes().replace(b"track_id", b"\xfftrack_i"))
        with pytest.raises(TableError, match=r"tracks\.parquet: cannot be read as Parquet .*; run 'stemloom scan'"):
            read_table(tmp_path, "tracks")

    def test_a_value_that_is_not_text_is_refused_in_a_file_of_another_writer(self, tmp_path):
        path = tmp_path / "tracks.parquet"
        table = pyarrow.Table.from_pandas(frame_of("tracks", [row()]))
        pyarrow.parquet.write_table(table, path, compression="none", write_statistics=False)
        path.write_bytes(path.read_bytes().replace(b"a/b.mp3", b"\xff/b.mp3"))
        with pytest.raises(TableError, match=r"tracks\.parquet: cannot be read as Parquet .*; run 'stemloom scan'"):
            read_table(tmp_path, "tracks")

    def test_a_damaged_byte_is_refused_or_does_no_harm(self, tmp_path):
        frame = frame_of("tracks", [row(path=f"{number}.mp3", title=f"é {number}") for number in range(50)])
        path = write_table(tmp_path, "tracks", frame)
        data = path.read_bytes()
        refusals = []
        for position in range(0, len(data), 31):
            damaged = bytearray(data)
            damaged[position] ^= 0x41
            path.write_bytes(damaged)
            try:
                pd.testing.assert_frame_equal(read_table(tmp_path, "tracks"), frame)
            except TableError as error:
                refusals.append(str(error))
        assert len(refusals) > 50
        for message in refusals:
            assert message.startswith(f"{path}: ")
            assert message.endswith("; run 'stemloom scan' again")

    @pytest.mark.parametrize("line", [b"{", b"[1]", b'{"path": NaN}', b"\xff"])
    def test_a_bad_line_is_refused_with_its_number(self, tmp_path, line):
        good = json.dumps(row("rejected")).encode()
        (tmp_path / "rejected.jsonl").write_bytes(good + b"\n" + line + b"\n" + good + b"\n")
        with pytest.raises(
            TableError, match=r"rejected\.jsonl: line 2 is not a JSON object \(.*\); run the command that built"
        ):
            read_table(tmp_path, "rejected")
