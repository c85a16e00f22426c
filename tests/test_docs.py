"""The manual builds without a warning, says what the code is, and shows commands that exist."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("sphinx")
pytest.importorskip("myst_parser")

HOME = Path(__file__).parents[1]
DOCS = HOME / "docs"
PAGES = sorted([HOME / "README.md", *DOCS.glob("*.md"), *DOCS.glob("explanations/*.md")])
NAMES = [str(page.relative_to(HOME)) for page in PAGES]


@pytest.fixture(scope="module")
def settings() -> ModuleType:
    return module("settings")


def module(name: str) -> ModuleType:
    """A program of the manual, which is no package."""
    if str(DOCS) not in sys.path:
        sys.path.append(str(DOCS))
    return importlib.import_module(name)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> list[str]:
    """Of the headings of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)", without_code(text_of(page)), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Path and anchor of each link to another file."""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text_of(page))):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield path, anchor


def test_the_manual_builds_without_warnings(tmp_path: Path) -> None:
    source = tmp_path / "docs"
    shutil.copytree(DOCS, source, ignore=shutil.ignore_patterns("_generated", "_build", "__pycache__"))
    for beside in HOME.iterdir():  # what pages link to
        if beside != DOCS:
            (tmp_path / beside.name).symlink_to(beside)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", source, tmp_path / "out"]
    environment = os.environ | {"PYTHONPATH": str(HOME), "PYTHONDONTWRITEBYTECODE": "1"}
    built = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    # a page without a toctree, a link or an anchor that leads nowhere and a docstring that is no RST are warnings
    assert built.stderr == ""
    assert built.returncode == 0
    stems = (tmp_path / "out" / "_generated" / "tables" / "stems.html").read_text(encoding="utf-8")
    assert "provenance" in stems
    assert "derived" in stems


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere_on_github_too(page: Path) -> None:
    for path, anchor in links(page):
        target = (page.parent / path) if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target), f"{path}#{anchor}"


def test_every_picture_is_used() -> None:
    used = {(page.parent / path).resolve() for page in PAGES for path, _ in links(page)}
    assert {path for path in (DOCS / "images").iterdir() if path.resolve() not in used} == set()


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command of ours that a page shows, without those that stand for others."""
    text = text_of(page)
    shown = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)).replace("\\\n", " ")
    inline = [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", without_code(text))]
    for line in [*shown.splitlines(), *inline]:
        if line.startswith("stemloom "):
            words = shlex.split(re.sub(r"[\[\]]", " ", line), comments=True)
            words = words[: next((place for place, word in enumerate(words) if word in ("&&", ";", "|")), None)]
            yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_and_flags_exist(page: Path, settings: ModuleType) -> None:
    known = {command.name: command for command in settings.commands()}
    for words in commands(page):
        kinds = words[1].split("|") if words[0] == "build" and len(words) > 1 else [""]
        for kind in kinds:
            name = f"{words[0]} {kind}".strip()
            if name in ("build", "build ...") or words[0].startswith("-"):
                continue
            assert name in known, words
            arguments = known[name].app.assemble_argument_collection()
            for word in words:
                flag = word.partition("=")[0]
                if re.match(r"--?[a-z]", flag) and flag not in ("--help", "-h"):
                    assert is_known(flag, arguments), f"{name}: {flag}"


def is_known(flag: str, arguments: Any) -> bool:
    try:
        arguments.match(flag)
    except ValueError:
        return False
    return True


def test_every_column_has_a_meaning(settings: ModuleType) -> None:
    for table in settings.SCHEMAS:
        assert table in module("reference").TABLES
        assert [column.name for column in settings.columns(table) if not column.meaning] == []


def test_every_key_has_a_meaning(settings: ModuleType) -> None:
    found = settings.models()
    assert len(found) > 40
    bare = [f"{model.__name__}.{key.name}" for model in found for key in settings.keys(model) if not key.meaning]
    assert bare == []
    assert [model.__name__ for model in found if not model.__doc__] == []


def test_every_flag_has_a_meaning(settings: ModuleType) -> None:
    found = list(settings.commands())
    assert len(found) > 15
    bare = [
        f"{command.name} {flag.name}"
        for command in found
        for _, flag in settings.flags(command)
        if not flag.meaning
    ]
    assert bare == []


def test_the_reference_says_types_ranges_and_defaults(settings: ModuleType) -> None:
    catalog = {key.name: key for key in settings.keys(settings.RECIPES["catalog"])}
    assert catalog["max_bit_error_rate"][1:3] == ("number above 0 and at most 0.5", "`0.4`")
    assert catalog["loudness_lufs"][1:3] == ("number from -70 to 0 or none", "none")
    assert catalog["method"][1:3] == ("`transfer` or `half-wave`", "`transfer`")
    position = {key.name: key for key in settings.keys(settings.RULES["mono_to_stereo"])}["position"]
    assert position[1:3] == ("number, or two of them from -1 to 1", "`[-0.8, 0.8]`")
    stems = {column.name: column for column in settings.columns("stems")}
    assert stems["audit"][1:3] == ("text: `unheard`, `accepted` or `rejected`", "no")
    assert stems["num_frames"][1:3] == ("whole number: at least 1", "no")


def test_the_tables_of_the_explanations_are_those_that_are_computed() -> None:
    figures = module("figures")
    drawn = {path.name for path in (DOCS / "images").glob("*.svg") if not path.name.startswith("ablation-")}
    assert drawn == set(figures.PICTURES)
    for page, tables in figures.tables().items():
        text = text_of(DOCS / "explanations" / f"{page}.md")
        for table in tables:
            assert table in text
