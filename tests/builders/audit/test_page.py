from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from manifests.audio import Audio, quantise
from manifests.tables import frame_of, read_table, write_table
from tests.builders.browser import CHROMIUM
from tests.builders.small_build import RATE, edit, make_build, replace_stem, track_row
from tests.synthesis import pink_noise

uvicorn = pytest.importorskip("uvicorn", reason="needs the extra 'audit'")
pytest.importorskip("starlette", reason="needs the extra 'audit'")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
if CHROMIUM is None:
    pytest.skip("needs Chromium", allow_module_level=True)

from builders.audit.app import make_app  # noqa: E402

SECONDS = 9  # beyond two chunks of the player
LEAD = 882  # frames from scheduling to sounding: 40 ms, rounded up
RAMP = 89  # frames of a gain's ramp: 4 ms, rounded up
TOKEN = "token"
LONG_S = 15_000


def sounds(number: int) -> dict[str, Audio]:
    rng = np.random.default_rng(number)
    vocals, instrumental = (quantise(pink_noise(rng, 2, SECONDS * RATE, rms=0.05)) for _ in range(2))
    vocals[:, : 2 * RATE] = quantise(vocals[:, : 2 * RATE] / 8)
    return {"mixture": vocals + instrumental, "instrumental": instrumental, "vocals": vocals}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = make_build(tmp_path_factory.mktemp("page") / "build", songs=3)
    for stem, audio in sounds(0).items():
        replace_stem(build, "song0", stem, audio)
    return build


@pytest.fixture
def build(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "build"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        )
        yield found
        found.close()


@contextmanager
def served(build: Path) -> Iterator[str]:
    """The address of the page of a build, from a server in a thread."""
    app = make_app(build, TOKEN)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/{TOKEN}/"
    finally:
        server.should_exit = True
        thread.join(20)
        app.state.log.close()


@pytest.fixture
def address(build: Path) -> Iterator[str]:
    with served(build) as address:
        yield address


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    found = browser.new_context(viewport={"width": 1280, "height": 800})
    found.set_default_timeout(LONG_S)
    yield found
    found.close()


def opened(context: Any, address: str, song: str | None = "song0", order: str = "title") -> Any:
    """A tab with the page, its song loaded."""
    page = context.new_page()
    page.faults = []
    page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.goto(address + (f"#song={song}&order={order}" if song else ""))
    until(page, "stemloomAudit.state.song?.song_id === stemloomAudit.state.id && stemloomAudit.state.id")
    return page


def until(page: Any, expression: str, argument: Any = None) -> None:
    """Wait until something holds. The page's own policy forbids playwright's way."""
    last = time.monotonic() + LONG_S / 1000
    while not page.evaluate(expression, argument):
        assert time.monotonic() < last, f"{expression} ({argument}) does not come true: {page.faults}"
        page.wait_for_timeout(20)


def ask(page: Any, expression: str) -> Any:
    return page.evaluate(f"stemloomAudit.{expression}")


def wait_song(page: Any, song: str) -> None:
    until(page, "id => stemloomAudit.state.song?.song_id === id", song)


def wait_sent(page: Any) -> None:
    until(page, "!stemloomAudit.verdicts.outbox.verdicts.length")


@pytest.fixture(scope="module")
def page(browser: Any, original: Path) -> Iterator[Any]:
    """A tab for tests that judge nothing."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    with served(original) as address:
        yield opened(context, address)
        context.close()


def lines(build: Path) -> list[dict[str, Any]]:
    text = (build / "audit" / "verdicts.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


RENDER = """async ({frames, from, solo, nudge, region, at, then}) => {
  const { song } = stemloomAudit.state, { chunks } = stemloomAudit;
  const { Player } = await import("./page/player.js");
  const offline = new OfflineAudioContext(2, frames, song.sample_rate);
  const player = new Player(chunks, () => {}, () => offline);
  player.open(song, from, nudge ?? 0);
  player.solo(solo);
  if (region) player.choose(region, true);
  player.play();
  while (player.scheduled < frames) await new Promise((done) => setTimeout(done, 10));
  if (then) offline.suspend(at / song.sample_rate).then(async () => {
    if (then.solo) player.solo(then.solo);
    if (then.nudge) {
      player.setNudge(then.nudge);
      for (let index = 0; index * 4 * song.sample_rate < song.num_frames; index++)
        for (const { name } of song.tracks) await chunks.get(song, name, index, then.nudge);
      while (player.scheduled < frames - at) await new Promise((done) => setTimeout(done, 10));
    }
    offline.resume();
  });
  const sound = await offline.startRendering();
  return Array.from(sound.getChannelData(1));
}"""


def rendered(page: Any, **settings: Any) -> np.ndarray:
    """What the player makes of song0, on its right channel, from where its sound is fully on."""
    return np.array(page.evaluate(RENDER, settings), np.float32)[LEAD + RAMP :]


def test_player_joins_chunks_to_what_the_file_holds(page: Any) -> None:
    start = 3 * RATE  # a chunk ends at 4 s
    sound = rendered(page, frames=3 * RATE, **{"from": start}, solo="vocals")
    np.testing.assert_array_equal(sound, sounds(0)["vocals"][1, start + RAMP :][: len(sound)])


def test_switching_tracks_keeps_the_place_to_the_sample(page: Any) -> None:
    switch = 128 * 300
    sound = rendered(page, frames=3 * RATE, **{"from": 0}, solo="mixture", at=switch, then={"solo": "instrumental"})
    before = switch - LEAD - RAMP
    mixture, instrumental = (sounds(0)[stem][1, RAMP:] for stem in ("mixture", "instrumental"))
    np.testing.assert_array_equal(sound[:before], mixture[:before])
    # the ramps of the two gains are done a little later, to the rounding of float32
    after = before + RAMP + 1
    np.testing.assert_allclose(sound[after:], instrumental[after : len(sound)], rtol=0, atol=1e-7)
    between = slice(before, after)
    assert np.all(np.abs(sound[between]) <= np.maximum(abs(mixture[between]), abs(instrumental[between])) + 1e-6)


def test_loop_repeats_its_region_without_a_gap(page: Any) -> None:
    region = {"start": 4 * RATE - 3001, "end": 4 * RATE + 5003}
    sound = rendered(page, frames=3 * RATE, **{"from": region["start"]}, solo="vocals", region=region)
    once = sounds(0)["vocals"][1, region["start"] : region["end"]]
    np.testing.assert_array_equal(sound, np.resize(np.roll(once, -RAMP), len(sound)))


def test_nudge_delays_the_instrumental_from_the_playhead_on(page: Any) -> None:
    instrumental = sounds(0)["instrumental"][1]
    switch = 128 * 200
    sound = rendered(page, frames=3 * RATE, **{"from": RATE}, solo="instrumental", at=switch, then={"nudge": 7})
    cut = switch - RAMP  # one lead after the switch, in what is returned
    whole = instrumental[RATE + RAMP :]
    np.testing.assert_array_equal(sound[:cut], whole[:cut])
    np.testing.assert_array_equal(sound[cut:], whole[cut - 7 : len(sound) - 7])


def test_difference_is_the_mixture_less_the_nudged_instrumental(page: Any) -> None:
    sound = rendered(page, frames=RATE, **{"from": RATE}, solo="difference", nudge=-3)
    stems = {name: audio[1] for name, audio in sounds(0).items()}
    first = RATE + RAMP
    expected = stems["mixture"][first:] - np.pad(stems["instrumental"][first + 3 :], (0, 3))
    np.testing.assert_array_equal(sound, expected[: len(sound)])


def test_what_is_heard_is_what_the_track_holds(page: Any) -> None:
    page.keyboard.press("2")
    page.keyboard.press("Space")
    page.evaluate("""() => {
      const { player } = stemloomAudit;
      window.ear = new AnalyserNode(player.context, { fftSize: 8192 });
      player.output.connect(window.ear);
    }""")
    start = ask(page, "player.position()")
    until(page, "at => stemloomAudit.player.position() > at + 22050", start)
    heard = np.array(
        page.evaluate("() => { const d = new Float32Array(8192); ear.getFloatTimeDomainData(d); return [...d]; }")
    )
    vocals = sounds(0)["vocals"].mean(axis=0)
    places = np.lib.stride_tricks.sliding_window_view(vocals, 64)
    place = int(np.argmin(np.abs(places - heard[:64]).max(axis=1)))
    np.testing.assert_allclose(heard, vocals[place : place + 8192], atol=1e-6)
    assert start < place


def test_playing_seeking_and_regions(context: Any, address: str) -> None:
    page = opened(context, address)
    rate, position = RATE, "player.position()"
    page.keyboard.press("Home")
    assert ask(page, position) == 0
    page.keyboard.press(".")
    assert ask(page, position) == 5 * rate
    page.keyboard.press("Shift+ArrowLeft")
    assert ask(page, position) == 4 * rate
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press(",")
    assert ask(page, position) == 0
    page.keyboard.press("v")
    assert ask(page, position) == ask(page, "state.song.strongest")
    box = page.locator("#over-whole").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.click(box["x"] + box["width"] / 3, middle)
    assert ask(page, position) == pytest.approx(3 * rate, abs=0.05 * rate)
    page.mouse.move(box["x"] + box["width"] / 9, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 2 / 9, middle, steps=4)
    page.mouse.up()
    region = ask(page, "player.region")
    assert (region["start"], region["end"]) == pytest.approx((rate, 2 * rate), abs=0.05 * rate)
    page.keyboard.press("l")
    assert ask(page, "player.looping")
    assert ask(page, position) == region["start"]
    page.keyboard.press("Space")
    until(page, "stemloomAudit.player.context.currentTime > 1.5")
    assert region["start"] <= ask(page, position) <= region["end"]
    page.keyboard.press("l")
    page.keyboard.press("Escape")
    assert ask(page, "player.region") is None
    page.keyboard.press("Space")
    assert not ask(page, "player.playing")
    page.keyboard.press("Home")
    page.keyboard.press("l")
    assert ask(page, "player.region") == {"start": 0, "end": 2 * rate}  # 2 s on both sides


def test_playing_ends_at_the_songs_end(context: Any, address: str) -> None:
    page = opened(context, address, "song1")
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    until(page, "!stemloomAudit.player.playing")
    assert ask(page, "player.position()") == ask(page, "state.song.num_frames")
    page.keyboard.press("Space")  # plays again, from the start
    assert ask(page, "player.playing")


def test_playing_goes_on_with_the_next_song(context: Any, address: str) -> None:
    page = opened(context, address, "song1")
    page.keyboard.press("l")
    page.keyboard.press("Space")
    page.keyboard.press("b")
    wait_song(page, "song0")
    assert ask(page, "player.playing")


def test_keys_choose_tracks_nudges_orders_and_help(context: Any, address: str) -> None:
    page = opened(context, address)
    soloed = "player.soloed"
    for key, track in (("1", "instrumental"), ("2", "vocals"), ("0", "mixture"), ("Tab", "vocals")):
        page.keyboard.press(key)
        assert ask(page, soloed) == track
    assert page.locator(".track.solo .name").inner_text().endswith("vocals")
    for key, track in (("x", "mixture"), ("d", "difference"), ("d", "mixture"), ("7", "mixture")):
        page.keyboard.press(key)
        assert ask(page, soloed) == track
    page.keyboard.press("m")
    assert ask(page, "player.muted")
    page.keyboard.press("m")
    assert not ask(page, "player.muted")
    for key, nudge in (("]", "+0.1"), ("}", "+1.1"), ("[", "+1.0"), ("{", "0.0"), ("[", "−0.1"), ("\\", "0.0")):
        page.keyboard.press(key)
        assert page.locator("#nudge").inner_text() == nudge
    frames = ask(page, "stack.view.frames")
    page.keyboard.press("+")
    assert ask(page, "stack.view.frames") == frames / 2
    page.keyboard.press("-")
    assert ask(page, "stack.view.frames") == frames
    for order in ("doubtful", "random", "title"):
        page.keyboard.press("o")
        until(page, "order => stemloomAudit.state.order === order", order)
    page.keyboard.press("?")
    keys = page.evaluate("import('./page/keys.js').then(({ KEYS }) => KEYS.flatMap(([, rows]) => rows.length))")
    assert page.locator("#help dd").count() == sum(keys)
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()
    assert page.faults == []


def test_keys_walk_the_queue_and_search_it(context: Any, address: str) -> None:
    page = opened(context, address)
    for key, number in (("s", 1), ("n", 2), ("b", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("p", 0)):
        page.keyboard.press(key)
        wait_song(page, f"song{number}")
    page.keyboard.press("p")
    assert "first song" in page.locator("#message").inner_text()
    page.keyboard.press("/")
    page.keyboard.type("títle 2")  # accents do not count; letters are no keys here
    assert page.locator(".row").count() == 1
    page.keyboard.press("Enter")
    wait_song(page, "song2")
    page.keyboard.press("/")
    page.keyboard.press("Escape")
    assert page.locator(".row").count() == 3


def test_verdicts_by_key_are_on_disk(build: Path, context: Any, address: str) -> None:
    page = opened(context, address)
    page.keyboard.press("]")
    page.keyboard.press("a")
    wait_song(page, "song1")
    page.keyboard.press("r")
    page.keyboard.press("4")
    wait_song(page, "song2")
    page.keyboard.press("r")
    page.keyboard.press("r")
    page.keyboard.type("a is not a key here")
    page.keyboard.press("Enter")
    wait_sent(page)
    told = [(line["song_id"], line["verdict"], line["reason"], line["note"]) for line in lines(build)]
    assert told == [
        ("song0", "accepted", None, ""),
        ("song1", "rejected", "misaligned", ""),
        ("song2", "rejected", "other", "a is not a key here"),
    ]
    assert [line["nudge_frames"] for line in lines(build)] == [0.1, 0, 0]
    assert {line["order"] for line in lines(build)} == {"title"}
    assert page.locator(".mark").all_inner_texts() == ["✓", "✕", "✕"]
    assert page.locator("#heard").inner_text() == "3 of 3 judged: 1 accepted, 2 rejected"
    page.keyboard.press("u")
    wait_sent(page)
    assert (lines(build)[-1]["song_id"], lines(build)[-1]["verdict"]) == ("song2", "unheard")
    page.locator(".row").first.click()
    wait_song(page, "song0")
    page.locator("[data-reason=noise]").click()
    wait_sent(page)
    assert (lines(build)[-1]["verdict"], lines(build)[-1]["reason"]) == ("rejected", "noise")
    page.keyboard.press("u")  # back to what was said before
    wait_song(page, "song0")
    wait_sent(page)
    last = lines(build)[-1]
    assert (last["song_id"], last["verdict"], last["nudge_frames"]) == ("song0", "accepted", 0.1)
    assert page.faults == []


def test_one_track_can_be_judged_alone(build: Path, context: Any, address: str) -> None:
    page = opened(context, address)
    page.keyboard.press("2")
    page.keyboard.press("t")
    assert page.locator("#target b").inner_text() == "vocals"
    page.keyboard.press("r")
    page.keyboard.press("1")
    wait_sent(page)
    assert [(line["stem"], line["reason"]) for line in lines(build)] == [("vocals", "residue")]
    assert ask(page, "state.id") == "song0"
    assert "vocals rejected: instrumental left in the vocals" in page.locator("#verdict").inner_text()


def test_reloading_comes_back_to_the_song_and_its_verdict(context: Any, address: str) -> None:
    page = opened(context, address, None)
    assert ask(page, "state.order") == "doubtful"
    page.keyboard.press("o")
    until(page, "stemloomAudit.state.order === 'random' && location.hash.includes('random')")
    song = ask(page, "state.id")
    page.keyboard.press("a")
    wait_sent(page)
    page.keyboard.press("b")
    wait_song(page, song)
    page.reload()
    wait_song(page, song)
    assert ask(page, "state.order") == "random"
    assert page.locator("#verdict").inner_text() == "accepted"
    assert page.locator(".row.current .mark").inner_text() == "✓"
    assert page.locator("#rate").inner_text().startswith("0 of 1 rejected: 0.0 to 79.3 %, 95 %; about ")


def test_two_tabs_see_each_others_verdicts(context: Any, address: str) -> None:
    first, second = opened(context, address), opened(context, address)
    second.bring_to_front()
    second.keyboard.press("r")
    second.keyboard.press("6")
    wait_sent(second)
    first.bring_to_front()
    until(first, "document.querySelector('#verdict').textContent === 'rejected: gaps, clicks or distortion'")
    assert first.locator(".mark").first.inner_text() == "✕"


def test_a_verdict_is_sent_with_its_key_until_it_is_answered(build: Path, context: Any, address: str) -> None:
    page = opened(context, address)
    sent: list[dict[str, Any]] = []

    def lose(route: Any) -> None:
        if route.request.method != "POST":
            route.continue_()
            return
        sent.append(route.request.post_data_json)
        if len(sent) == 1:
            route.fetch()  # the server has it, the page hears nothing
        if len(sent) < 3:
            route.abort()
        else:
            route.continue_()

    page.route("**/verdicts", lose)
    page.keyboard.press("a")
    page.locator("#unsent").wait_for()
    assert page.locator("#unsent").inner_text() == "1 not sent yet"
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.close(run_before_unload=True)
    page.wait_for_timeout(100)
    assert asked == ["beforeunload"]
    wait_sent(page)
    assert len(sent) == 3
    assert len({each["key"] for each in sent}) == 1
    assert [line["key"] for line in lines(build)] == [sent[0]["key"]]
    assert not page.locator("#unsent").is_visible()


def test_a_refused_verdict_is_told_and_not_kept(build: Path, context: Any, address: str) -> None:
    page = opened(context, address)
    refusal = json.dumps({"error": "the build has no song 'song0'"})

    def refuse(route: Any) -> None:
        if route.request.method == "POST":
            route.fulfill(status=404, content_type="application/json", body=refusal)
        else:
            route.continue_()

    page.route("**/verdicts", refuse)
    page.keyboard.press("a")
    page.get_by_text("the verdict was refused: the build has no song 'song0'").wait_for()
    assert page.locator(".mark").first.inner_text() == ""
    assert lines(build) == []


def test_a_server_that_does_not_answer_is_told(context: Any, address: str) -> None:
    page = opened(context, address)
    page.route("**/verdicts?*", lambda route: route.abort())
    page.route("**/songs/**", lambda route: route.abort())
    page.keyboard.press("s")
    page.locator("#trouble", has_text="the server does not answer").wait_for()
    page.locator("#message", has_text="the server does not answer").wait_for()
    page.unroute_all()
    wait_song(page, "song1")  # comes by itself when the server is back


def test_titles_are_text(build: Path, context: Any) -> None:
    title = "<script>window.broken = 1</script><img src=x onerror='window.broken = 1'>\"'&amp;"
    edit(build, "tracks", lambda rows: rows[0].update(title=title, song_title=title, artist="<b>bold</b>"))
    edit(build, "stems", lambda rows: [row.update(artist="<b>bold</b>") for row in rows])
    with served(build) as address:
        page = opened(context, address)
        assert page.locator("#title").inner_text() == title
        assert page.locator(".row.current b").inner_text() == title
        assert "<b>bold</b>" in page.locator("#about").inner_text()
        assert page.evaluate("window.broken") is None
        assert page.faults == []


def test_audio_that_cannot_be_read_is_told_and_can_be_judged(build: Path, context: Any) -> None:
    shutil.rmtree(build / "audit", ignore_errors=True)  # where clips are kept
    for stem in ("mixture", "instrumental"):
        (build / f"audio/song0/{stem}.flac").write_bytes(b"no audio")
    (build / "audio/song1/mixture.flac").unlink()
    with served(build) as address:
        page = opened(context, address)
        page.keyboard.press("Space")
        until(page, "stemloomAudit.player.broken.size === 2")
        assert "mixture, instrumental cannot be read" in page.locator("#trouble").inner_text()
        assert page.locator(".broken").all_inner_texts() == ["cannot be read", "cannot be read", ""]
        page.keyboard.press("2")  # the third plays
        until(page, "stemloomAudit.player.scheduled > 0")
        page.keyboard.press("r")
        page.keyboard.press("6")
        wait_sent(page)
        assert lines(build)[0]["reason"] == "damaged"


def test_nothing_is_asked_of_other_hosts(context: Any, address: str) -> None:
    urls: list[str] = []
    context.on("request", lambda request: urls.append(request.url))
    page = opened(context, address)
    page.keyboard.press("Space")
    page.keyboard.press("s")
    wait_song(page, "song1")
    page.wait_for_load_state("networkidle")
    heard = {url.split("/clip/")[0] for url in urls if "/clip/" in url}
    assert heard >= {f"{address}songs/song{number}" for number in (0, 1)}
    assert [url for url in urls if not url.startswith((address, f"blob:{address[:20]}"))] == []
    assert page.faults == []


@pytest.fixture(scope="module")
def large(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 songs that share three files."""
    build = Path(shutil.copytree(original, tmp_path_factory.mktemp("large") / "build"))
    rows = read_table(build, "stems").astype(object)
    three = [
        {key: None if pd.isna(value) else value for key, value in row.items()}
        for row in rows[rows["song_id"] == "song0"].to_dict("records")
    ]
    ids = [f"song{number:04}" for number in range(2000)]
    write_table(build, "stems", frame_of("stems", [row | {"song_id": song_id} for song_id in ids for row in three]))
    tracks = [track_row(song_id, f"Title {song_id[4:]}", "original", "Artist") for song_id in ids]
    write_table(build, "tracks", frame_of("tracks", tracks))
    (build / "pairs.parquet").unlink()
    return build


def test_a_long_queue_has_few_rows_in_the_document(large: Path, context: Any) -> None:
    with served(large) as address:
        page = opened(context, address, "song1500")
        rows = page.locator(".row")
        assert page.locator(".row.current b").inner_text() == "Title 1500"  # is brought into view
        assert rows.count() < 40
        page.locator("#rows").evaluate("list => list.scrollTop = list.scrollHeight")
        page.locator(".row", has_text="Title 1999").wait_for()
        assert rows.count() < 40
        page.locator(".row", has_text="Title 1999").click()
        wait_song(page, "song1999")
        page.keyboard.press("s")
        assert "last song" in page.locator("#message").inner_text()
        page.keyboard.press("/")
        page.keyboard.type("0777")
        assert rows.all_inner_texts()[0].split("\n")[1] == "Title 0777"
        assert page.locator("#found").inner_text() == "1 found"


def test_keys_work_after_a_click_and_a_search_is_left_by_escape(context: Any, address: str) -> None:
    page = opened(context, address)
    page.locator(".row", has_text="Title 1").first.click()
    wait_song(page, "song1")
    page.keyboard.press(" ")
    page.locator("#play", has_text="Pause").wait_for()
    page.keyboard.press(" ")
    page.locator("#play", has_text="Play").wait_for()
    page.keyboard.press("/")
    page.keyboard.type("zzzz")
    page.keyboard.press("Enter")
    assert "No song is found" in page.locator("#message").inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert page.locator("#search").input_value() == ""
    assert page.locator(".row").count() == 3


def test_a_rejected_track_is_told_first_and_ended_by_the_whole_songs_verdict(context: Any, address: str) -> None:
    page = opened(context, address)
    page.keyboard.press("a")
    wait_song(page, "song1")
    page.keyboard.press("b")
    wait_song(page, "song0")
    page.keyboard.press("2")
    page.keyboard.press("t")
    page.keyboard.press("r")
    page.keyboard.press("1")
    wait_sent(page)
    verdict = page.locator("#verdict")
    assert verdict.inner_text().startswith("vocals rejected")
    assert verdict.get_attribute("class") == "rejected"
    page.keyboard.press("t")
    assert page.locator("#target b").inner_text() == "the song"
    page.keyboard.press("a")
    wait_sent(page)
    page.locator(".row", has_text="Title 0").first.click()
    wait_song(page, "song0")
    page.locator("#verdict.accepted").wait_for()
    assert "vocals" not in verdict.inner_text()


def test_space_plays_after_a_click_on_any_button(context: Any, address: str) -> None:
    page = opened(context, address)
    page.locator("[data-order=random]").click()
    until(page, "stemloomAudit.state.order === 'random'")
    until(page, "stemloomAudit.state.song?.song_id === stemloomAudit.state.id")
    page.keyboard.press(" ")
    assert ask(page, "player.playing")
    page.locator("#play").focus()
    page.keyboard.press(" ")  # the button's own: once, not twice
    assert not ask(page, "player.playing")


def test_a_searched_queue_ends_with_what_is_found(context: Any, address: str) -> None:
    page = opened(context, address, "song1")
    page.keyboard.press("/")
    page.keyboard.type("title 1")
    page.keyboard.press("Enter")
    for key, which in (("s", "last"), ("b", "first")):
        page.keyboard.press(key)
        assert page.locator("#message").inner_text().startswith(f"This is the {which} song that is found")
    page.keyboard.press("Escape")
    assert page.locator(".row").count() == 3


def test_a_spectrogram_says_that_it_is_loading_or_cannot_be_shown(context: Any, address: str) -> None:
    page = context.new_page()
    page.faults = []
    held: list[Any] = []
    page.route("**/spectrogram/vocals?*", lambda route: held.append(route))
    page.route("**/spectrogram/mixture?*", lambda route: route.fulfill(status=404, json={"error": "gone"}))
    page.goto(f"{address}#song=song0&order=title")
    page.get_by_label("spectrogram of mixture: cannot be shown").wait_for()
    page.get_by_label("spectrogram of instrumental", exact=True).wait_for()
    loading = page.get_by_label("spectrogram of vocals: loading")
    loading.wait_for()
    corner = loading.evaluate("canvas => [...canvas.getContext('2d').getImageData(2, 2, 1, 1).data]")
    assert corner == [0xF2, 0xF0, 0xEA, 255]  # the shade
    page.unroute("**/spectrogram/vocals?*")
    for route in held:
        route.continue_()
    page.get_by_label("spectrogram of vocals", exact=True).wait_for()


WIDER_THAN_SHOWN = """() => [...document.querySelectorAll(
  "#numbers dt, #numbers dd, #why button, #why span, #verdict, #nudging button, #target")]
  .filter((each) => {
    const { left, right, top, bottom } = each.getBoundingClientRect();
    const isSeen = each.closest(".facts") || (top >= 0 && bottom <= innerHeight);
    return left < 0 || right > innerWidth || !isSeen || each.scrollWidth > each.clientWidth + 1 && each.clientWidth;
  }).map((each) => each.textContent)"""


@pytest.mark.parametrize(("width", "height"), [(1024, 700), (1280, 800), (1440, 900)])
def test_the_side_fits_its_window(width: int, height: int, context: Any, address: str) -> None:
    page = context.new_page()
    page.faults = []
    page.set_viewport_size({"width": width, "height": height})
    page.goto(f"{address}#song=song0&order=title")
    wait_song(page, "song0")
    page.evaluate("""async () => {
      const { writeFacts } = await import("./page/side.js"), { song } = stemloomAudit.state;
      const pair = { residual_db: -46.6, confidence: 0.999, lag_frames: -124682.72, drift_ppm: -29.86, gain_db: 2.4,
        polarity: -1, coherence: 0.56, bit_error_rate: 0.195, segments: 1 };
      writeFacts({ ...song, pair }, null);
    }""")
    assert page.evaluate(WIDER_THAN_SHOWN) == []
    assert page.locator("#heard").bounding_box()["width"] > 100
    page.keyboard.press("?")
    box = page.locator("#help").bounding_box()
    assert box["y"] >= 0
    assert box["y"] + box["height"] <= height
    for shown in ("#help-title", "#help button"):
        inside = page.locator(shown).bounding_box()
        assert box["y"] <= inside["y"]
        assert inside["y"] + inside["height"] <= box["y"] + box["height"]


def test_the_manual_names_every_key(page: Any) -> None:
    keys = page.evaluate(
        "import('./page/keys.js').then(({ KEYS }) => KEYS.flatMap(([, rows]) => rows.flatMap(([k]) => k)))"
    )
    names = {" ": "Space", "ArrowLeft": "←", "ArrowRight": "→", "ArrowUp": "↑", "ArrowDown": "↓"}
    text = (Path(__file__).parents[3] / "docs" / "audit.md").read_text()
    for key in set(keys) - set("2345678") - {"Escape"}:
        *shift, last = key.split("+") if key.startswith("Shift+") else [key]
        assert f"`{'+'.join([*shift, names.get(last, last)])}`" in text, key
