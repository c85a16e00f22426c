"""docs/transforms.md is about every transform and every setting, as they are, and what it shows is valid."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from augment.recipe import MixRecipe
from augment.transforms.rule import Rule
from augment.transforms.rules import COMBINED, RULES, name_of

PAGE = (Path(__file__).parents[3] / "docs" / "transforms.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE))


def short(value: Any) -> Any:
    """A setting as a person writes it: no tuples, no needless decimals, distributions in their short form."""
    if isinstance(value, dict):
        values = {name: short(inner) for name, inner in value.items()}
        return values["uniform"] if list(values) == ["uniform"] else values
    if isinstance(value, (list, tuple)):
        return [short(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def default_of(rule: type[Rule], name: str) -> str:
    """The default of a setting, in the YAML of the page."""
    field = rule.model_fields[name]
    if field.is_required():
        return "needed"
    if field.default is None:
        return "none"
    plain = TypeAdapter(Any).dump_python(field.default, mode="json")
    written = yaml.safe_dump(short(plain), default_flow_style=True, sort_keys=False, width=1000)
    return f"`{written.removesuffix(chr(10)).removesuffix('...').strip()}`"


def row_of(rule: type[Rule], name: str) -> str:
    """The line of a setting in its transform's table."""
    meaning = " ".join((rule.model_fields[name].description or "").replace("``", "`").split())
    return f"| `{name}` | {default_of(rule, name)} | {meaning} |"


def test_every_transform_has_a_section_and_no_other() -> None:
    assert set(SECTIONS) == {*RULES, "combined"}
    assert len(re.findall(r"^### ", PAGE, re.MULTILINE)) == len(SECTIONS)


@pytest.mark.parametrize("name", RULES)
def test_a_section_says_what_its_transform_does(name: str) -> None:
    said = " ".join((RULES[name].__doc__ or "").split("\n\n")[0].split())
    assert said
    assert SECTIONS[name].strip().startswith(said)


@pytest.mark.parametrize("name", RULES)
def test_a_section_has_every_setting_with_its_default_and_meaning(name: str) -> None:
    rule = RULES[name]
    rows = [line for line in SECTIONS[name].splitlines() if line.startswith("| `")]
    settings = [setting for setting in rule.model_fields if setting != "p"]
    assert all(rule.model_fields[setting].description for setting in settings)
    probability = f"| `p` | {default_of(rule, 'p')} | Probability that it is applied. |"
    assert rows == [*(row_of(rule, setting) for setting in settings), probability]


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_has_an_example_that_is_valid(name: str) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", SECTIONS[name], re.DOTALL)
    if name == "audiomentations":
        pytest.importorskip("audiomentations")
    recipe = {"sample_rate": 44100, "length_s": 3.0, "sources": {"music": {"stems": "music"}}}
    found = MixRecipe.model_validate({**recipe, "transforms": yaml.safe_load(text)}).transforms
    if name == "combined":
        assert [name_of(rule) for rule in found] == [step for step, _ in COMBINED]
    else:
        assert {name_of(rule) for rule in found} == {name}
