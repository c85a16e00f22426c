"""Writes the manual's reference out of the code: tables, recipes, commands, ready recipes, Python, errors.

`conf.py` calls `write` before Sphinx reads its sources. Pages are Markdown (MyST) in `docs/_generated`, which git
ignores; what they say stands in the code: `description` of a column, the docstring below a key, the help of a flag.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import BaseModel
from settings import PACKAGES, ROOTS, Setting, columns, commands, flags, heading_of, keys, places
from sphinx.pycode import ModuleAnalyzer

import stemloom
from builders.recipe import RECIPES, MixedRecipe, MixtureRecipe
from manifests.schemas import SCHEMAS

READY = {
    "Mixing": "mix",
    "Training": "train",
    "Curating": "curate",
    "Importing": "import",
    "Studies": "studies",
    "Libraries": "",
}
"""Folders of `recipes/` that hold recipes with a name."""

TABLES = {
    "tracks": "The audio files of a catalogue: what they are, and what they say about themselves.",
    "pairs": "What may be a mixture and its instrumental: how they align, and what became of them.",
    "stems": "The audio of a corpus, a row for each stem of each song. A folder with this table is a corpus.",
    "clips": "Parts of songs that are worth training with.",
    "mixtures": "Plans of mixtures, a row for each source: enough to render them again.",
    "cleaned": "What a cleaning found in each stem, and did to it.",
    "rejected": "All that was left out, and why.",
}

HOW_TO = {
    "build catalog": "catalog",
    "build cinematic": "mixing",
    "build universal": "mixing",
    "build libraries": "libraries",
    "scan": "catalog",
    "curate": "curate",
    "import": "exports",
    "export": "exports",
    "listen": "mixing",
    "pack": "pack",
    "train": "training",
    "separate": "separators",
    "clean": "cleaning",
    "anchor": "anchors",
    "evaluate": "evaluation",
    "mushra": "evaluation",
    "check": "curate",
    "report": "report",
    "card": "report",
    "audit": "audit",
    "ablate": "ablations",
    "demo": "tutorial",
}
"""The page about a command."""


def prose(text: str) -> str:
    """A docstring as Markdown: one line, code as it is, nothing else special."""
    text = " ".join(text.replace("``", "`").split())
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(
        piece if number % 2 else re.sub(r"([<*|\[\]])", r"\\\1", piece) for number, piece in enumerate(pieces)
    )


def cells(*texts: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in texts)} |"


def definitions(settings: Iterable[Setting], prefix: str) -> list[str]:
    """A definition list: name, kind and default, meaning."""
    lines: list[str] = []
    for setting in settings:
        name = setting.name if setting.name.startswith("`") else f"`{setting.name}`"
        anchor = re.sub(r"[^\w]+", "-", f"{prefix}-{setting.name}".lower()).strip("-")
        facts = [setting.kind, "**needed**" if setting.default is None else f"default {setting.default}"]
        facts = facts[:1] if (setting.kind, setting.default) == ("switch", "`false`") else facts
        lines += [f"[{name}]{{#{anchor}}} \u2002 {' · '.join(facts)}", f": {prose(setting.meaning)}", ""]
    return lines


def table_pages() -> dict[str, str]:
    """A page for each table, and one that lists them."""
    pages = {}
    for table in SCHEMAS:
        lines = [f"# `{table}`", "", TABLES.get(table, ""), ""]
        lines += ["| column | holds | null | meaning |", "|---|---|---|---|"]
        for name, kind, null, meaning in columns(table):
            lines.append(cells(f"`{name}`", prose(kind), null, prose(meaning)))
        unique = SCHEMAS[table].unique
        if unique:
            lines += ["", f"No two rows have the same {' and '.join(f'`{name}`' for name in unique)}."]
        pages[f"tables/{table}.md"] = "\n".join(lines)
    pages["tables/index.md"] = _index(
        "Tables",
        "What a build knows stands in tables: Parquet, or JSON lines with `--format jsonl`. `manifests.read_table` "
        "and `Corpus` read them; they are checked when they are written and when they are read. Positions and "
        "lengths are in frames of the file beside them unless it says otherwise; what cannot be measured is null.",
        ("table", "holds"),
        {table: cells(f"[`{table}`]({table}.md)", TABLES.get(table, "")) for table in SCHEMAS},
    )
    return pages


def recipe_pages() -> dict[str, str]:
    """A page for each recipe, with all groups of keys that it holds, and one that lists them."""
    held: dict[str, list[type[BaseModel]]] = {}
    for model, (page, _) in places().items():
        if model is not MixedRecipe:  # what `recipe.json` keeps, which nobody writes
            held.setdefault(page, []).append(model)
    titles = {page: title for page, title, _ in ROOTS}
    pages, listed = {}, {}
    for page, found in held.items():
        title = titles.get(page, page.capitalize())
        lines = [f"# {title}", ""]
        for model in found:
            doc = inspect.getdoc(model) or ""
            lines += [
                f"({page}-{heading_of(model)})=",
                f"## {heading_of(model)}",
                "",
                prose(doc.split("\n\n")[0]),
                "",
            ]
            lines += definitions(keys(model), heading_of(model))
        pages[f"recipes/{page}.md"] = "\n".join(lines)
        about = prose((inspect.getdoc(found[0]) or "").split("\n\n")[0])
        about = "What can happen to sources and mixtures." if page == "transforms" else about
        listed[page] = cells(f"[{title}]({page}.md)", about)
    pages["recipes/index.md"] = _index(
        "Recipes",
        "A recipe is YAML: `key: value` lines. A key that is not known, or a value out of its range, is an error "
        "that names the file, the key, the value and the fix. Keys of commands are flags too: `max_song_s` is "
        "`--max-song-s`, and flags win over the file that `--config` names.",
        ("recipe", "says"),
        listed,
    )
    return pages


def command_pages() -> dict[str, str]:
    """A page for each command, and one that lists them."""
    pages, listed = {}, {}
    for command in commands():
        file = command.name.replace(" ", "-")
        summary, _, rest = inspect.cleandoc(command.app.help or "").partition("\n\n")
        rest = rest.partition("Parameters\n---")[0]
        found = flags(command)
        lines = [f"# `stemloom {command.name}`", "", prose(summary), "", prose(rest), ""]
        lines += ["```text", _usage(command.name, found), "```", ""]
        page = HOW_TO.get(command.name)
        if page and (Path(__file__).parent / f"{page}.md").is_file():
            lines += [f"How to use it: [{page}](../../{page}.md).", ""]
        groups = {
            "Arguments": [setting for argument, setting in found if not argument.names[0].startswith("-")],
            "Flags": [
                setting
                for argument, setting in found
                if _is_flag(argument) and not _key(argument) and not _of_separators(argument)
            ],
            "Flags of separators": [setting for argument, setting in found if _of_separators(argument)],
            "Recipe": [setting for argument, setting in found if _key(argument)],
        }
        for title, settings in groups.items():
            if settings:
                lines += [f"## {title}", ""]
                if title == "Recipe":
                    recipe = MixtureRecipe if RECIPES[file.rpartition("-")[2]] is MixedRecipe else None
                    place, _ = places()[recipe or RECIPES[file.rpartition("-")[2]]]
                    lines += [f"These are keys of the [recipe](../recipes/{place}.md) too.", ""]
                linked = (s._replace(kind=re.sub(r"\]\((\w+\.md)", r"](../recipes/\1", s.kind)) for s in settings)
                lines += definitions(linked, file)
        pages[f"commands/{file}.md"] = "\n".join(lines)
        listed[file] = cells(f"[`{command.name}`]({file}.md)", prose(summary))
    codes = prose((stemloom.__doc__ or "").partition("Exit codes:")[2])
    about = f"`stemloom COMMAND --help` says the same. Exit codes: {codes}"
    pages["commands/index.md"] = _index("Commands", about, ("command", "does"), listed)
    return pages


def _is_flag(argument: Any) -> bool:
    return bool(argument.names[0].startswith("-"))


def _of_separators(argument: Any) -> bool:
    known = {field.name for field in dataclasses.fields(stemloom._Separating)}
    return bool(argument.keys) and argument.keys[0] in known


def _key(argument: Any) -> bool:
    """Whether a flag is a key of a recipe: other groups of flags are dataclasses."""
    known = {name for recipe in RECIPES.values() for name in recipe.model_fields}
    return bool(argument.keys) and argument.keys[0] in known


def _usage(name: str, found: Sequence[tuple[Any, Setting]]) -> str:
    places = [argument.names[0] for argument, _ in found if not _is_flag(argument)]
    needed = [f"{argument.names[0]} ..." for argument, _ in found if _is_flag(argument) and argument.required]
    return " ".join(["stemloom", name, *places, *needed, "[flags]"])


def ready_page() -> str:
    """The recipes that come with stemloom."""
    lines = [
        "# Ready recipes",
        "",
        "A recipe for mixing, for training or of libraries goes by its name; the others are files for `--config`. "
        "Copy one to change it.",
        "",
    ]
    home = Path(stemloom.__file__).parent / "recipes"
    for title, folder in READY.items():
        paths = sorted((home / folder).glob("*.yaml"))
        if paths:
            lines += [f"## {title}", ""]
        for path in paths:
            text = path.read_text(encoding="utf-8")
            head = re.match(r"(?:#.*\n)*", text)
            assert head is not None
            about = " ".join(line.lstrip("# ") for line in head[0].splitlines())
            about = about or str((yaml.safe_load(text) or {}).get("about", ""))
            shown = str(path.relative_to(home.parent))
            lines += [f"### {path.stem}{'' if folder else ' (libraries)'}", "", prose(about), ""]
            lines += [f"`{shown}`", "", "```yaml", text[head.end() :].strip(), "```", ""]
    return "\n".join(lines)


def package_pages() -> dict[str, str]:
    """A page for each package, with its public names by module."""
    pages, listed = {}, {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        summary, _, rooms = inspect.cleandoc(module.__doc__ or "").partition("\n\n")
        purposes = dict(re.findall(r"^([\w, ]+?)  +(.*(?:\n  .*)*)", rooms, re.MULTILINE))
        purposes = {name.strip(): text for names, text in purposes.items() for name in names.split(",")}
        homes = dict(_homes(package))
        lines = [f"# {package}", "", prose(summary), ""]
        for home in dict.fromkeys(homes.values()):
            lines += [f"## {package}.{home}", ""]
            if home.partition(".")[0] in purposes:
                lines += [f"*{prose(purposes[home.partition('.')[0]]).capitalize()}*", ""]
            lines += ["```{eval-rst}"]
            for name in (name for name, found in homes.items() if found == home):
                lines += [*_directive(package, name), ""]
            lines += ["```", ""]
        pages[f"python/{package}.md"] = "\n".join(lines)
        listed[package] = cells(f"[`{package}`]({package}.md)", prose(summary))
    pages["python/index.md"] = _index(
        "Python",
        "The public names of each package: `from manifests import Corpus`. Audio is float32, `(channels, frames)`, "
        "full scale ±1; positions are frames; names carry units.",
        ("package", "holds"),
        listed,
    )
    return pages


def _homes(package: str) -> Iterator[tuple[str, str]]:
    """Public names and the modules that they are defined in, as the stub says."""
    stub = Path(importlib.import_module(package).__path__[0]) / "__init__.pyi"
    for home, names in re.findall(r"^from \.([\w.]+) import (\([^)]*\)|.*)", stub.read_text(), re.MULTILINE):
        for name in re.findall(r"\w+", names):
            yield name, home


def _directive(package: str, name: str) -> list[str]:
    value = getattr(importlib.import_module(package), name)
    full = f"{package}.{name}"
    if isinstance(value, type) and value in places():
        page, anchor = places()[value]
        return [f".. py:class:: {full}", "", f"   Its keys: `{page} <../recipes/{page}.html#{anchor}>`__."]
    if isinstance(value, type):
        members = [] if issubclass(value, (BaseException, BaseModel)) else ["   :members:"]
        return [f".. autoclass:: {full}", *members]
    if callable(value) and get_origin(value) is None:
        return [f".. autofunction:: {full}"]
    return [f".. py:data:: {full}", "", *(f"   {line}" for line in _doc_of_value(package, name))]


def _doc_of_value(package: str, name: str) -> list[str]:
    """The docstring below a constant or a type, which Python forgets, from the module that defines it."""
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not module.ispkg:
            analyzer = ModuleAnalyzer.for_module(module.name)
            analyzer.analyze()
            if ("", name) in analyzer.attr_docs:
                return list(analyzer.attr_docs["", name])
    raise LookupError(f"{package}.{name} has no docstring below it: add one")


def error_page() -> str:
    """The errors that are raised on purpose."""
    module = importlib.import_module("manifests.errors")
    summary, _, rest = inspect.cleandoc(module.__doc__ or "").partition("\n\n")
    about, _, tree = rest.partition("\n\n")
    names = [name for name, value in vars(module).items() if isinstance(value, type)]
    return "\n".join(
        [
            "# Errors",
            "",
            prose(summary),
            "",
            prose(about),
            "",
            "```text",
            inspect.cleandoc(tree),
            "```",
            "",
            "The command line prints the message and ends with exit code 2 for a `RecipeError`, 1 for the others. "
            "What happens to one file of many is no error of a build: it is a row of the table "
            "[rejected](tables/rejected.md).",
            "",
            "```{eval-rst}",
            *(f".. autoclass:: manifests.errors.{name}\n   :no-index:\n" for name in names),
            "```",
        ]
    )


def _index(title: str, about: str, header: Sequence[str], rows: Mapping[str, str]) -> str:
    """A page that lists others, by their names."""
    lines = [f"# {title}", "", about, "", cells(*header), "|---" * len(header) + "|", *rows.values()]
    return "\n".join([*lines, "", "```{toctree}", ":hidden:", "", *rows, "```"])


def pages() -> dict[str, str]:
    """Every page, by its path."""
    holds = {
        "commands/index": cells("[Commands](commands/index.md)", "every command and its flags"),
        "recipes/index": cells(
            "[Recipes](recipes/index.md)", "every key: what it takes, its default, what it does"
        ),
        "ready": cells("[Ready recipes](ready.md)", "the recipes that come with stemloom"),
        "tables/index": cells("[Tables](tables/index.md)", "every column of every table"),
        "python/index": cells("[Python](python/index.md)", "the public names of the packages"),
        "errors": cells("[Errors](errors.md)", "what is raised, and when"),
    }
    about = "Made from the code of this version, so that it cannot be out of date."
    return {
        "index.md": _index("Reference", about, ("page", "holds"), holds),
        **command_pages(),
        **recipe_pages(),
        "ready.md": ready_page(),
        **table_pages(),
        **package_pages(),
        "errors.md": error_page(),
    }


def write(folder: Path) -> None:
    """Write every page; what is as it was keeps its time, so that Sphinx reads only what changed.

    Parameters
    ----------
    folder : Path
        Pages that are no longer made are removed from it.
    """
    made = {folder / name: text.rstrip() + "\n" for name, text in pages().items()}
    for path in folder.rglob("*.md") if folder.is_dir() else ():
        if path not in made:
            path.unlink()
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
