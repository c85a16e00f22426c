"""The server of the audit: who may ask, what each route answers, what it refuses."""

from __future__ import annotations

import csv
import gzip
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

import soundfile
from starlette.testclient import TestClient

from builders.audit.app import Settings, make_app
from builders.audit.clips import clip
from builders.audit.songs import SongBook
from builders.audit.verdicts import read_verdicts
from curation.audit import REASONS, random_order, wilson_interval
from manifests.audio import read
from manifests.corpus import Corpus
from tests.builders.audit.said import say
from tests.builders.small_build import FRAMES, RATE, edit, make_build
from tests.builders.small_curated import make_curated

HOST = "http://127.0.0.1:1234"
TITLE = '<script>alert("x")</script> & \u2028'


class Client:
    """Asks with the token."""

    def __init__(self, build: Path, **settings: Any) -> None:
        self.app = make_app(build, "token", Settings(reviewer="ann", **settings))
        self.bare = TestClient(self.app, base_url=HOST, raise_server_exceptions=False)

    def get(self, path: str, **more: Any) -> Any:
        return self.bare.get(f"/token/{path}", **more)

    def judge(self, song_id: str = "song0", verdict: str = "rejected", **more: Any) -> Any:
        said = {
            "song_id": song_id,
            "verdict": verdict,
            "order": "random",
            "key": f"{song_id}{verdict}{more}",
            "reason": "residue" if verdict == "rejected" else None,
            **more,
        }
        return self.bare.post("/token/verdicts", json=said)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Of a build that no test changes."""
    build = make_curated(tmp_path_factory.mktemp("whole") / "build", songs=4)
    edit(build, "tracks", lambda rows: rows[0].update(title=TITLE, song_title=TITLE))
    client = Client(build)
    yield client
    client.app.state.log.close()


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(make_build(tmp_path / "build", songs=3))


def build_of(client: Client) -> Path:
    return client.app.state.log.path.parents[1]


class TestWhoMayAsk:
    @pytest.mark.parametrize(
        "path", ["/", "/queue", "/wrong/queue", "/toke/queue", "/tokenn/queue", "//token/queue"]
    )
    def test_nobody_without_the_token(self, whole: Client, path: str) -> None:
        answer = whole.bare.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (403, "text/plain; charset=utf-8")
        assert "the address lacks its token" in answer.text
        assert "token/" not in answer.text

    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:1234", "127.0.0.1.evil.example", "", "[::1]:80"]
    )
    def test_no_other_host(self, whole: Client, host: str) -> None:
        answer = whole.get("queue", headers={"host": host})
        assert (answer.status_code, answer.headers["content-type"]) == (400, "text/plain; charset=utf-8")

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost:99", "127.0.0.1:8000"])
    def test_this_machine(self, whole: Client, host: str) -> None:
        assert whole.get("queue", headers={"host": host}).status_code == 200

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
    def test_no_form_of_another_page(self, whole: Client, kind: str) -> None:
        body = json.dumps({"song_id": "song0", "verdict": "rejected", "order": "random", "key": "k"})
        answer = whole.bare.post("/token/verdicts", content=body, headers={"content-type": kind})
        assert answer.status_code == 400
        assert read_verdicts(build_of(whole)) == []

    @pytest.mark.parametrize(
        "origin", ["http://evil.example", "null", "", "http://127.0.0.1:99", "https://127.0.0.1:1234"]
    )
    def test_no_script_of_another_page(self, whole: Client, origin: str) -> None:
        answer = whole.bare.post("/token/verdicts", json={}, headers={"origin": origin})
        assert (answer.status_code, answer.headers["content-type"]) == (403, "text/plain; charset=utf-8")
        assert read_verdicts(build_of(whole)) == []

    def test_our_own_page_may_judge(self, whole: Client) -> None:
        for host in ("127.0.0.1:1234", "localhost:8000"):
            headers = {"host": host, "origin": f"http://{host}"}
            assert whole.bare.post("/token/verdicts", json={}, headers=headers).status_code == 422

    def test_headers_of_every_answer(self, whole: Client) -> None:
        for answer in (whole.get("queue"), whole.bare.get("/"), whole.get("songs/none"), whole.get("progress")):
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'self'; img-src 'self' blob:; media-src 'self' blob:")
            assert "unsafe" not in policy

    def test_the_slash_behind_the_token_is_put_there(self, whole: Client) -> None:
        answer = whole.bare.get("/token", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (307, "/token/")

    @pytest.mark.parametrize(
        "path", ["page/../app.py", "page/..%2fapp.py", "page/%2e%2e/app.py", "page//etc/passwd"]
    )
    def test_nothing_but_the_page_lies_in_the_pages_folder(self, whole: Client, path: str) -> None:
        answer = whole.get(path)
        assert answer.status_code == 404
        assert "starlette" not in answer.text


class TestLooking:
    def test_the_queue(self, whole: Client) -> None:
        for order in ("doubtful", "random", "title"):
            found = whole.get(f"queue?order={order}").json()
            assert found["build"] == "build"
            assert found["order"] == order
            assert sorted(row[0] for row in found["rows"]) == ["song0", "song1", "song2", "song3"]
        assert whole.get("queue").json()["order"] == "doubtful"
        assert whole.get("queue?order=best").status_code == 422

    def test_long_answers_are_packed_for_who_can_unpack_them(self, tmp_path: Path) -> None:
        client = Client(make_build(tmp_path / "build", songs=40), order="title")
        packed = client.get("queue", headers={"accept-encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.json()["order"] == "title"
        plain = client.get("queue", headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.content == packed.content
        assert len(gzip.compress(plain.content)) < len(plain.content)

    def test_a_title_of_a_stranger_is_json(self, whole: Client) -> None:
        answer = whole.get("songs/song0")
        assert answer.json()["title"] == TITLE
        assert answer.headers["content-type"] == "application/json"

    def test_a_song_that_is_not_there(self, whole: Client) -> None:
        for path in (
            "songs/none",
            "songs/none/clip/vocals",
            "songs/song0/clip/drums",
            "songs/..%2f..%2fetc/audio/x",
        ):
            answer = whole.get(path)
            assert answer.status_code == 404
            assert "error" in answer.json()

    def test_ids_may_hold_anything(self, tmp_path: Path) -> None:
        build, song_id = make_build(tmp_path / "build"), "a/b c?d#e&é"
        edit(
            build, "stems", lambda rows: [row.update(song_id=song_id) for row in rows if row["song_id"] == "song0"]
        )
        client = Client(build)
        name = "a%2Fb%20c%3Fd%23e%26%C3%A9"
        assert client.get(f"songs/{name}").json()["song_id"] == song_id
        assert client.get(f"songs/{name}/peaks/vocals?bins=10").status_code == 200
        assert client.judge(song_id).status_code == 200

    def test_reasons_have_the_digits(self, whole: Client) -> None:
        found = whole.get("reasons").json()
        assert [row["key"] for row in found] == [str(digit) for digit in range(1, 10)]
        assert {row["reason"]: row["text"] for row in found} == dict(REASONS)


class TestHearing:
    def test_a_clip_is_what_the_file_holds(self, whole: Client) -> None:
        answer = whole.get("songs/song1/clip/vocals?start_frame=1000&num_frames=2000")
        assert answer.headers["content-type"] == "audio/wav"
        assert answer.headers["cache-control"].startswith("private")
        found, rate = soundfile.read(io.BytesIO(answer.content), dtype="float32")
        held, _ = read(build_of(whole) / "audio/song1/vocals.flac", 1000, 2000)
        assert rate == RATE
        assert np.array_equal(found.T, held)

    def test_the_difference_is_nudged(self, whole: Client) -> None:
        book = SongBook(Corpus.open(build_of(whole)))
        for nudge in (0.0, 0.5, -12.25):
            answer = whole.get(f"songs/song1/clip/difference?start_frame=10&num_frames=500&nudge_frames={nudge}")
            found, _ = soundfile.read(io.BytesIO(answer.content), dtype="float32")
            assert np.array_equal(found.T, clip(book.track("song1", "difference"), 10, 500, nudge))

    def test_ranges(self, whole: Client) -> None:
        url = "songs/song1/clip/vocals?start_frame=0&num_frames=100"
        data = whole.get(url).content
        for span, wanted in (("0-9", data[:10]), ("50-", data[50:]), ("-7", data[-7:]), ("10-99999", data[10:])):
            answer = whole.get(url, headers={"range": f"bytes={span}"})
            assert (answer.status_code, answer.content) == (206, wanted)
            assert answer.headers["content-range"].endswith(f"/{len(data)}")
        assert whole.get(url, headers={"range": "bytes=99999-"}).status_code == 416
        for odd in ("bytes=a-b", "bytes=0-1,5-6", "bytes=-", "lines=0-1", "bytes=--5"):
            assert whole.get(url, headers={"range": odd}).content == data

    def test_the_file_itself(self, whole: Client) -> None:
        path = build_of(whole) / "audio/song1/vocals.flac"
        answer = whole.get("songs/song1/audio/vocals")
        assert (answer.headers["content-type"], answer.content) == ("audio/flac", path.read_bytes())
        part = whole.get("songs/song1/audio/vocals", headers={"range": "bytes=5-9"})
        assert (part.status_code, part.content) == (206, path.read_bytes()[5:10])
        assert whole.get("songs/song1/audio/difference").status_code == 404

    @pytest.mark.parametrize(
        "query",
        [
            "clip/vocals?start_frame=-1",
            "clip/vocals?start_frame=x",
            "clip/vocals?num_frames=0",
            "clip/vocals?num_frames=1.5",
            f"clip/vocals?num_frames={61 * RATE}",
            "clip/instrumental?nudge_frames=nan",
            f"clip/instrumental?nudge_frames={RATE + 1}",
            "clip/vocals?start_frame=inf",
            "peaks/vocals?bins=0",
            "peaks/vocals?bins=4001",
            "spectrogram/vocals?width=0",
            "spectrogram/vocals?height=1e9",
            "spectrogram/vocals?num_frames=-5",
        ],
    )
    def test_numbers_that_are_none(self, whole: Client, query: str) -> None:
        answer = whole.get(f"songs/song0/{query}")
        assert answer.status_code == 422
        assert "give a" in answer.json()["error"]

    @pytest.mark.parametrize("start", [FRAMES, FRAMES + 1, 10**9])
    def test_a_picture_beyond_the_end_is_told_how_long_the_song_is(self, whole: Client, start: int) -> None:
        answer = whole.get(f"songs/song0/spectrogram/vocals?start_frame={start}")
        assert answer.status_code == 422
        assert f"start_frame is {start}, and 'vocals' of song 'song0' has {FRAMES} frames" in answer.json()["error"]

    def test_pictures(self, whole: Client) -> None:
        peaks = whole.get("songs/song0/peaks/mixture?bins=64")
        assert len(np.frombuffer(peaks.content, np.int8)) == 128
        for query in ("", "?width=30&height=20", "?start_frame=100&num_frames=200&width=30&height=20"):
            picture = whole.get(f"songs/song0/spectrogram/vocals{query}")
            assert picture.headers["content-type"] == "image/png"
            assert picture.content.startswith(b"\x89PNG")

    def test_the_same_picture_is_kept(self, client: Client) -> None:
        url = "songs/song0/spectrogram/vocals?width=30&height=20"
        first = client.get(url).content
        (build_of(client) / "audio/song0/vocals.flac").unlink()
        assert client.get(url).content == first

    def test_audio_that_cannot_be_had_is_told_and_the_song_can_be_judged(self, client: Client) -> None:
        (build_of(client) / "audio/song0/vocals.flac").unlink()
        (build_of(client) / "audio/song0/instrumental.flac").write_bytes(b"torn")
        for what in (
            "clip/vocals?num_frames=9",
            "peaks/vocals",
            "spectrogram/vocals",
            "audio/vocals",
            "clip/instrumental",
        ):
            answer = client.get(f"songs/song0/{what}")
            assert answer.status_code == 404
            said = answer.json()["error"]
            assert "audio/song0/" in said
            assert "scan" not in said
            assert what == "clip/instrumental" or "is missing; restore it, or reject the song as damaged" in said
        tracks = {track["name"]: track["problem"] for track in client.get("songs/song0").json()["tracks"]}
        assert "vocals.flac: is missing" in tracks["vocals"]
        assert tracks["mixture"] is None
        assert client.judge("song0", reason="damaged").status_code == 200

    def test_a_file_outside_is_not_read(self, client: Client, tmp_path: Path) -> None:
        path = build_of(client) / "audio/song0/vocals.flac"
        path.rename(tmp_path / "secret.flac")
        path.symlink_to(tmp_path / "secret.flac")
        for what in ("clip", "peaks", "spectrogram", "audio"):
            answer = client.get(f"songs/song0/{what}/vocals")
            assert (answer.status_code, answer.headers["content-type"]) == (403, "text/plain; charset=utf-8")
            assert "fLaC" not in answer.text


class TestJudging:
    def test_a_verdict_is_on_the_disk_when_it_is_answered(self, client: Client) -> None:
        answer = client.judge("song1", reason="residue", note='hum, "left"', nudge_frames=0.5)
        assert answer.json()["seq"] == 1
        (verdict,) = read_verdicts(build_of(client))
        assert (verdict.song_id, verdict.verdict, verdict.reason, verdict.note) == (
            *("song1", "rejected", "residue"),
            'hum, "left"',
        )
        assert (verdict.reviewer, verdict.nudge_frames, verdict.order) == ("ann", 0.5, "random")
        rows = Corpus.open(build_of(client)).song("song1")
        assert verdict.content_ids == {stem: row["content_id"] for stem, row in rows.items()}

    def test_the_same_request_twice_is_one_verdict(self, client: Client) -> None:
        assert [client.judge(key="k").json()["seq"] for _ in range(2)] == [1, 1]
        assert len(read_verdicts(build_of(client))) == 1

    def test_a_song_shows_its_verdicts_and_takes_them_back(self, client: Client) -> None:
        client.judge("song0", "accepted")
        client.judge("song0", "rejected", stem="vocals", reason="noise")
        found = client.get("songs/song0").json()["verdicts"]
        assert {(verdict["stem"], verdict["verdict"]) for verdict in found} == {
            (None, "accepted"),
            ("vocals", "rejected"),
        }
        client.judge("song0", "unheard")
        assert [verdict["stem"] for verdict in client.get("songs/song0").json()["verdicts"]] == ["vocals"]

    def test_a_later_verdict_on_the_song_ends_those_on_its_tracks(self, client: Client) -> None:
        client.judge("song0", "rejected", stem="vocals")
        assert client.get("progress").json()["rejected"] == 1
        client.judge("song0", "accepted")
        assert [verdict["stem"] for verdict in client.get("songs/song0").json()["verdicts"]] == [None]
        found = client.get("progress").json()
        assert (found["accepted"], found["rejected"]) == (1, 0)
        assert client.get("export?format=jsonl").text.count("\n") == 1

    def test_another_tab_sees_what_is_new(self, client: Client) -> None:
        for number in range(3):
            client.judge(f"song{number}")
        found = client.get("verdicts?since=1").json()
        assert found["seq"] == 3
        assert [verdict["song_id"] for verdict in found["verdicts"]] == ["song1", "song2"]
        assert found["progress"]["rejected"] == 3
        assert client.get("verdicts?since=3").json()["verdicts"] == []
        assert client.get("verdicts?since=x").status_code == 422

    def test_what_does_not_count_any_more_is_not_shown(self, tmp_path: Path) -> None:
        build = make_build(tmp_path / "build")
        for song_id in ("song0", "song1"):
            say(build, song_id, "rejected")
        edit(build, "stems", lambda rows: rows[0].update(content_id="00"))
        client = Client(build)
        found = client.get("verdicts?since=0").json()
        assert (found["seq"], [verdict["song_id"] for verdict in found["verdicts"]]) == (2, ["song1"])
        assert client.get("songs/song0").json()["verdicts"] == []
        assert (found["progress"]["heard"], found["progress"]["rejected"]) == (1, 1)

    def test_many_at_once(self, client: Client) -> None:
        codes: list[int] = []

        def work(worker: int) -> None:
            codes.extend(client.judge("song0", key=f"{worker}/{n}").status_code for n in range(10))

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert codes == [200] * 50
        assert [verdict.seq for verdict in read_verdicts(build_of(client))] == list(range(1, 51))

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            ({"verdict": "perhaps"}, "field 'verdict' is 'perhaps'"),
            ({"reason": "taste"}, "give one of residue"),
            ({"reason": None}, "has no reason; give one of residue, no_singing, voice_in_instrumental, misal"),
            ({"stem": "drums"}, "has no stem 'drums'"),
            ({"order": "best"}, "field 'order'"),
            ({"nudge_frames": "1"}, "field 'nudge_frames'"),
            ({"nudge_frames": 1e5}, "at most 1 s"),
            ({"note": "x" * 10_001}, "field 'note'"),
            ({"key": ""}, "field 'key'"),
            ({"seq": 7}, "seq"),
            ({"reviewer": "bob"}, "reviewer"),
            ({"song_id": 7}, "field 'song_id'"),
        ],
    )
    def test_what_is_no_verdict_is_refused(self, whole: Client, more: dict[str, Any], said: str) -> None:
        answer = whole.judge(**{"key": "k", **more})
        assert answer.status_code == 422
        assert said in answer.json()["error"]
        assert read_verdicts(build_of(whole)) == []

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"note": "\\ud800"}', b"[" * 60_000, b"\xff"])
    def test_what_is_no_json_is_refused(self, whole: Client, body: bytes) -> None:
        answer = whole.bare.post("/token/verdicts", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 422
        assert "error" in answer.json()

    def test_a_flood_is_refused(self, whole: Client) -> None:
        assert whole.judge(note="x" * 100_000).status_code == 413

    def test_a_song_that_has_gone_is_not_judged(self, whole: Client) -> None:
        assert whole.judge("gone").status_code == 404

    def test_a_full_disk_is_told_and_the_next_try_is_written(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(handle: int, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("builders.audit.verdicts.os.write", full)
            answer = client.judge(key="k")
        assert answer.status_code == 507
        assert "No space left" in answer.json()["error"]
        assert client.judge(key="k").json()["seq"] == 1


class TestProgress:
    def test_counts_and_the_interval_of_the_sample(self, client: Client) -> None:
        first, second, third = random_order(["song0", "song1", "song2"])
        client.judge(first, "accepted")
        client.judge(third, "rejected", order="doubtful")
        found = client.get("progress").json()
        assert (found["songs"], found["heard"], found["accepted"], found["rejected"]) == (3, 2, 1, 1)
        sample = found["sample"]
        assert (sample["heard"], sample["rejected"]) == (1, 0)
        assert (sample["low"], sample["high"]) == wilson_interval(0, 1, population=3)
        client.judge(second, "accepted", stem="vocals")
        client.judge(second, "rejected", stem="instrumental")
        sample = client.get("progress").json()["sample"]
        assert (sample["heard"], sample["rejected"], sample["skipped"], sample["rate"]) == (3, 2, 0, 2 / 3)
        assert (sample["low"], sample["high"], sample["needed"]) == (2 / 3, 2 / 3, 0)

    def test_what_is_judged_beyond_a_song_without_a_verdict_is_not_in_the_sample(self, client: Client) -> None:
        first, _, third = random_order(["song0", "song1", "song2"])
        client.judge(first, "accepted")
        client.judge(third, "rejected")
        sample = client.get("progress").json()["sample"]
        assert (sample["heard"], sample["rejected"], sample["skipped"]) == (1, 0, 1)

    def test_what_was_asked_for(self, tmp_path: Path) -> None:
        client = Client(make_build(tmp_path / "build"), within=0.2, confidence=0.8)
        sample = client.get("progress").json()["sample"]
        assert (sample["within"], sample["confidence"]) == (0.2, 0.8)


class TestExport:
    def test_csv(self, client: Client) -> None:
        client.judge("song1", "rejected", note="=1+1", reason="other")
        client.judge("song0", "accepted", stem="vocals")
        client.judge("song2", "rejected")
        client.judge("song2", "unheard")
        answer = client.get("export?format=csv")
        assert "attachment" in answer.headers["content-disposition"]
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert [(row["song_id"], row["stem"], row["verdict"], row["counts"]) for row in rows] == [
            ("song0", "vocals", "accepted", "yes"),
            ("song1", "", "rejected", "yes"),
        ]
        assert rows[1]["note"] == "'=1+1"  # no formula
        assert rows[1]["title"] == "Title 1"

    def test_jsonl(self, client: Client) -> None:
        client.judge("song1", "rejected", note="=1+1", reason="other")
        (row,) = [json.loads(line) for line in client.get("export?format=jsonl").text.splitlines()]
        assert (row["song_id"], row["stem"], row["note"], row["reviewer"]) == ("song1", None, "=1+1", "ann")
        assert client.get("export?format=xml").status_code == 422
