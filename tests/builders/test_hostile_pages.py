"""Pages of a corpus whose every name is an attack, in a real browser: nothing runs or is fetched, all is text.

Our pages forbid scripts by their own policy. That nothing runs must not hang on it, so a copy without it is opened
too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builders.card import write_card
from builders.listen import write_examples
from builders.report import write_report
from builders.report.evaluation import write_evaluation_page
from manifests.tables import frame_of, read_table, write_table
from tests.builders.browser import CHROMIUM, Browser
from tests.builders.small_build import edit, make_build
from tests.builders.small_curated import make_curated
from tests.builders.small_mixtures import mix_recipe, sound_corpus
from tests.manifests.exports.small_corpus import sounds, write_song, write_tables
from tests.training.small_separators import Gains
from training.evaluation import EvaluationSettings, evaluate

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

RUN = "window.ran=1;document.title=`ran`"
HOSTILE = (
    f"\"'--></b></title></style></textarea></svg><script>{RUN}</script><img src=http://192.0.2.1/x onerror={RUN}>"
    f"<svg/onload={RUN}><a href=javascript:{RUN}>a</a><iframe srcdoc='<script>parent.ran=1</script>'></iframe>"
    "<style>*{background:url(http://192.0.2.1/y)}</style>{{7*7}}{%raw%}${7*7}&amp;\u202egnp.exe\u2066\x7f"
)
LONG = "<b>" * 5000
LINK = f"javascript:{RUN}"
FOUND = """({
  ran: window.ran ?? null, title: document.title,
  foreign: performance.getEntriesByType("resource").map((e) => e.name)
    .filter((name) => !/^(data|file|blob):/.test(name)),
  scripts: document.scripts.length, frames: document.querySelectorAll("iframe, object, embed").length,
  handlers: [...document.querySelectorAll("*")]
    .filter((e) => [...e.attributes].some((a) => /^on/i.test(a.name))).length,
  links: [...document.querySelectorAll("[href], [src]")].map((e) => e.href?.baseVal ?? e.href ?? e.src)
    .filter((link) => !/^(data|file|blob):/.test(link)),
  shown: document.documentElement.textContent.split("</textarea></svg><script>").length - 1,
})"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


def spoil(build: Path) -> None:
    """Every text of a build's tables and records becomes an attack, where the schema takes it."""
    texts = ["artist", "genre", "split", "license", "method", "language", "tags", "transcript"]
    edit(build, "stems", lambda rows: [row.update(dict.fromkeys(texts, HOSTILE)) for row in rows])
    reasons = json.dumps([HOSTILE, LONG])
    edit(
        build,
        "stems",
        lambda rows: [row.update(grade="D", reasons=reasons, stem=f"{row['stem']}{HOSTILE[:40]}") for row in rows],
    )
    for name, texts in {
        "tracks": ["title", "song_title", "version", "artist", "album", "genre", "license", "codec"],
        "pairs": ["reason", "evidence"],
        "rejected": ["id", "path", "stage", "reason", "detail"],
    }.items():
        if (build / f"{name}.parquet").exists():
            table = read_table(build, name)
            write_table(build, name, table.assign(**{text: HOSTILE for text in texts if text in table}))
    if (build / "pairs.parquet").exists():
        edit(build, "pairs", lambda rows: [row.update(mixture_path=LINK) for row in rows])
    run = json.loads((build / "run.json").read_text())
    run |= {
        "catalog": HOSTILE,
        "corpus": LINK,
        "builder": HOSTILE,
        "versions": {HOSTILE: HOSTILE},
        "leaks": {HOSTILE: 1},
    }
    run |= {"recipe": {HOSTILE: [HOSTILE, LONG]}, "counts": {HOSTILE: {HOSTILE: 1}}, "wall_s": {HOSTILE: 1}}
    run |= {
        "genres": {"before": {HOSTILE: 1}, "after": {HOSTILE: 1}, "reference": {HOSTILE: 1}},
        "grades": {HOSTILE: 1},
    }
    gate = {"name": HOSTILE, "measure": HOSTILE, "stem": HOSTILE, "edges": [0, 1], "counts": [1], "minimum": 0.5}
    run |= {"gates": [gate], "splits": {HOSTILE: {"songs": 1, "hours": 1, "artists": 1}}}
    (build / "run.json").write_text(json.dumps(run))


def catalogue(folder: Path) -> Path:
    build = make_build(folder / "<img src=x onerror=1>", songs=2)
    spoil(build)
    edit(build, "stems", lambda rows: rows[0].update(path=LINK))
    return write_report(build)


def curated(folder: Path) -> Path:
    build = make_curated(folder / "curated")
    spoil(build)
    return write_report(build)


def examples(folder: Path) -> Path:
    corpus = sound_corpus(folder / "sounds", {"speech": 2}).folder
    sources = {"speech": {"stems": "speech", "weights": {"genre": {HOSTILE: 2.0}}}}
    tracks = {
        "root": "music",
        "codec": "x",
        "version": HOSTILE,
        "sample_rate": 8000,
        "channels": 2,
        "num_frames": 1,
    }
    ids = read_table(corpus, "stems")["song_id"].unique()
    rows = [
        {**tracks, "track_id": i, "path": f"{n}", "title": HOSTILE, "artist": HOSTILE} for n, i in enumerate(ids)
    ]
    write_table(corpus, "tracks", frame_of("tracks", rows))
    return write_examples(
        mix_recipe(sources=sources, about=HOSTILE), [corpus], folder / "out", name=HOSTILE, num=1, jobs=0
    )


def evaluation(folder: Path) -> Path:
    rows = write_song(folder / "in", "plain", sounds(1, ("vocals", "bass")), artist=HOSTILE, genre=HOSTILE)
    corpus = write_tables(folder / "in", [{**row, "song_id": HOSTILE[:200]} for row in rows])
    settings = EvaluationSettings(targets={HOSTILE: "vocals"}, sweep_lufs=(-30.0, -20.0))
    evaluate(Gains(HOSTILE, {HOSTILE: 0.5}), corpus, folder / "out", settings)
    return write_evaluation_page(folder / "out")


@pytest.mark.parametrize("make", [catalogue, curated, examples, evaluation])
def test_a_page_of_attacks_shows_them_and_runs_nothing(tmp_path: Path, browser: Browser, make: Any) -> None:
    path = make(tmp_path)
    text = path.read_text(encoding="utf-8")
    bare = path.with_name("bare.html")
    bare.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text), encoding="utf-8")
    assert bare.read_text(encoding="utf-8") != text
    for page in (path, bare):
        browser.open(page)
        found = browser.run(FOUND)
        assert found.pop("shown") > 0
        assert "ran" not in found.pop("title").split()
        assert found == {"ran": None, "foreign": [], "scripts": 0, "frames": 0, "handlers": 0, "links": []}


def test_the_card_of_attacks_is_text(tmp_path: Path) -> None:
    build = make_curated(tmp_path / "curated")
    spoil(build)
    card = write_card(build)
    text = (build / "README.md").read_text(encoding="utf-8")
    header, body = text.split("\n---\n", 1)
    assert card is not None
    assert "\nlicense: [" not in header
    for tag in ("script", "img", "iframe", "svg", "style"):
        assert not re.search(rf"(?<!\\)<{tag}\b", body)
    assert not re.search(r"(?<!\\)\]\(javascript:", body)


def test_the_audit_page_of_attacks_shows_them_and_runs_nothing(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    driver = pytest.importorskip("playwright.sync_api")
    from tests.builders.audit.test_page import opened, served

    build = make_build(tmp_path / "build", songs=2)
    spoil(build)
    edit(build, "stems", lambda rows: [row.update(song_id=f"{HOSTILE[:120]}{row['song_id']}") for row in rows])
    songs = set(read_table(build, "stems")["song_id"])
    with served(build) as address, driver.sync_playwright() as chromium:
        found = chromium.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = found.new_context()
        context.set_default_timeout(15_000)
        asked: list[str] = []
        context.on("request", lambda request: asked.append(request.url))
        page = opened(context, address, song=None)
        page.locator("#about", has_text="<script>").wait_for()
        assert page.evaluate("stemloomAudit.state.id") in songs
        assert page.evaluate("window.ran") is None
        assert page.evaluate("document.querySelectorAll('iframe, object, embed').length") == 0
        assert page.evaluate("document.body.textContent.includes('</textarea></svg><script>')")
        assert {
            url for url in asked if not url.startswith((address.rpartition("/to")[0], "data:", "blob:"))
        } == set()
        found.close()
