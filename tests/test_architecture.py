"""The house's rules, asserted from the code: which room may import which, and what no room may do."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOOR = "stemloom"
FLOOR_2 = {"manifests", "curation", "separators", "augment"}
MAY_IMPORT = {
    "manifests": set[str](),
    "curation": {"manifests"},
    "separators": {"manifests"},
    "augment": {"manifests"},
    "builders": FLOOR_2,
    "training": FLOOR_2,
    DOOR: {*FLOOR_2, "builders", "training"},
}
NO_ROOMS = {"tests", "notebooks", "benchmarks", "docs", "recipes"}
CATCH_ALLS = {"utils.py", "util.py", "helpers.py", "helper.py", "common.py", "misc.py"}
READY = {"augment": "umx", "training": "umx", "builders": "dnr-v2"}
ROOMS = sorted(room for room in MAY_IMPORT if (ROOT / room).is_dir())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def modules(room: str) -> list[Path]:
    if room == DOOR:
        return [path for path in [ROOT / f"{DOOR}.py"] if path.exists()]
    return sorted((ROOT / room).rglob("*.py"))


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and top-level name of every absolute import, wherever it stands, and of `import_module("...")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.partition(".")[0]
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).rpartition(".")[2] in {"import_module", "__import__"}
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.lineno, str(node.args[0].value).partition(".")[0]


def forbidden_imports(room: str, source: str) -> list[str]:
    """Imports against the arrows, as 'line N: name'."""
    ours = MAY_IMPORT.keys() | NO_ROOMS
    allowed = MAY_IMPORT[room] | ({room} - {DOOR})
    found = imported(ast.parse(source))
    return [f"line {line}: {name}" for line, name in found if name in ours - allowed]


def prints(source: str) -> list[int]:
    """Lines that print, or write to the terminal's streams past the logger."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    names = {"print", "sys.stdout.write", "sys.stderr.write"}
    return [call.lineno for call in calls if ast.unparse(call.func) in names]


@pytest.mark.parametrize("room", [*ROOMS, DOOR])
def test_imports_point_down_only(room: str) -> None:
    wrong = {
        str(path.relative_to(ROOT)): found
        for path in modules(room)
        if (found := forbidden_imports(room, path.read_text()))
    }
    assert wrong == {}, f"{room} may import {sorted(MAY_IMPORT[room]) or 'nothing of ours'}"


@pytest.mark.parametrize(
    ("room", "source", "wrong"),
    [
        ("manifests", "import curation", ["line 1: curation"]),
        ("manifests", "from manifests.errors import TableError", []),
        ("curation", "import numpy\nfrom manifests import read_table", []),
        ("curation", "from separators.demucs import load", ["line 1: separators"]),
        ("augment", "def f():\n    import curation.matching as m", ["line 2: curation"]),
        ("separators", "if TYPE_CHECKING:\n    from builders import Build", ["line 2: builders"]),
        ("builders", "from augment import plan\nimport curation, training", ["line 2: training"]),
        ("training", "from builders import engine", ["line 1: builders"]),
        ("builders", "import stemloom", ["line 1: stemloom"]),
        ("training", "from tests.synthesis import tone", ["line 1: tests"]),
        ("curation", "import_module('builders.engine')", ["line 1: builders"]),
        ("curation", "importlib.import_module('manifests')", []),
        (DOOR, "from builders import engine\nimport training", []),
    ],
)
def test_the_check_of_the_arrows_sees_what_it_should(room: str, source: str, wrong: list[str]) -> None:
    assert forbidden_imports(room, source) == wrong


@pytest.mark.parametrize("room", ROOMS)
def test_the_library_never_prints(room: str) -> None:
    found = {str(path.relative_to(ROOT)): prints(path.read_text()) for path in modules(room)}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_the_check_of_prints_sees_what_it_should() -> None:
    assert prints("x = 1\nprint(x)\nlog.info('print(x)')\nsys.stderr.write('x')\n") == [2, 4]


def test_there_is_no_umbrella_package_and_no_catch_all_module() -> None:
    assert not (ROOT / DOOR).exists()
    assert not (ROOT / "src").exists()
    assert [path for room in ROOMS for path in modules(room) if path.name in CATCH_ALLS] == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_package_re_exports_its_public_names_once(room: str) -> None:
    package = importlib.import_module(room)
    names = package.__all__
    assert names
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(package, name)] == []
    assert [name for name in names if name.startswith("_")] == []
    tree = ast.parse((ROOT / room / "__init__.pyi").read_text())
    froms = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    exported = {alias.asname or alias.name for node in froms for alias in node.names}
    assert exported == set(names), "what __init__.pyi imports is what __all__ says"
    listed = [ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)]
    assert [sorted(found) for found in listed] == [sorted(names)]


def test_a_package_loads_only_what_is_used() -> None:
    script = "import sys, manifests, curation, augment, builders\nsys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_torch_is_not_imported_before_it_is_needed() -> None:
    rooms = [room for room in ("manifests", "curation", "builders") if room in ROOMS]
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for room in rooms
        for path in modules(room)
    ]
    assert names
    script = f"import sys, {', '.join(names)}\nsys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or "something imports torch at import time"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_typed_packaged_and_checked(room: str) -> None:
    assert (ROOT / room / "py.typed").exists()
    assert room in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    assert room in PROJECT["tool"]["mypy"]["files"]


def test_the_wheel_holds_the_packages_their_types_and_the_command(tmp_path: Path) -> None:
    script = "import sys, hatchling.build; hatchling.build.build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("stemloom-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        entry_points = archive.read(f"{wheel.name.rsplit('-', 3)[0]}.dist-info/entry_points.txt").decode()
    assert {name.partition("/")[0] for name in names} == {*ROOMS, f"{DOOR}.py"}
    assert {f"{room}/{file}" for room in ROOMS for file in ("__init__.py", "py.typed")} <= names
    data = {path.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("*.[njc]*[z2s]")}
    assert {"curation/voice.npz", "builders/report/templates/page.html.j2"} <= data <= names
    assert {f"{room}/recipes/{name}.yaml" for room, name in READY.items()} <= names
    assert [name for name in names if "__pycache__" in name] == []
    assert "stemloom = stemloom:main" in entry_points


def test_every_dependency_of_the_tests_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin)] == []
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *(name for extra in extras.values() for name in extra)]
    pinned = {canonical(pin) for pin in pins}
    assert {canonical(requirement) for requirement in wanted} - pinned == set()
    torch = next(pin for pin in pins if canonical(pin) == "torch")
    assert f"TORCH := {torch}\n" in (ROOT / "Makefile").read_text()


def canonical(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()
