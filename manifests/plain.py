"""YAML and JSON that strangers wrote: plain values, in bounded time and memory, or one kind of error.

Both formats can be small and mean much. YAML's aliases and merges say a thing again and again (ten lines of ten
aliases each are 10^10 values), brackets nest deeper than a parser can, and some numbers and dates break the parser
with an error of its own. `yaml_of` weighs a document before it makes values of it; whatever is wrong is a
`yaml.YAMLError`, as whatever is wrong with JSON is a `ValueError`.

Sources: YAML 1.1, sections 3.2.2.2 (aliases) and the merge type; "billion laughs" as in CVE-2003-1564.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import yaml

__all__ = ["MAX_CHARACTERS", "json_of", "yaml_of"]

MAX_CHARACTERS = 1 << 20
"""Longest YAML that is read; a recipe of a person is a thousandth of it."""

# of all keys and values, with those that aliases say again
_MAX_WEIGHT = 10 * MAX_CHARACTERS


def yaml_of(
    text: str,
    loader: type[yaml.SafeLoader] = yaml.SafeLoader,
    look: Callable[[yaml.Node], object] = lambda node: None,
) -> Any:
    """Parse one YAML document.

    Parameters
    ----------
    text : str
    loader : type
        A safe one: it makes plain values, and those that it was taught to.
    look : callable, optional
        Gets the document as it is written, before its merges are carried out.

    Returns
    -------
    Any
        None where nothing is written.

    Raises
    ------
    yaml.YAMLError
        It is no YAML, has a tag that the loader does not know, a value that its tag does not allow or that is
        no Unicode, is longer than `MAX_CHARACTERS`, nests too deep, holds itself, or comes to far more than is
        written.
    """
    if len(text) > MAX_CHARACTERS:
        raise yaml.YAMLError(f"{len(text)} characters, at most {MAX_CHARACTERS} are read")
    try:
        parser = loader(text)
        try:
            node = parser.get_single_node()
            if node is None:
                return None
            if _weight(node, {}) > _MAX_WEIGHT:
                raise yaml.YAMLError("its aliases and merges come to far more than is written")
            look(node)
            return parser.construct_document(node)
        finally:
            parser.dispose()
    except RecursionError as error:
        raise yaml.YAMLError("it nests too deep") from error
    # numbers, dates and the like that their tag does not allow: PyYAML lets Python say so
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise yaml.YAMLError(f"a value is not what its tag says: {error}") from error


def _weight(node: yaml.Node, known: dict[int, int]) -> int:
    """Characters and values that a node comes to, each alias counted as what it stands for."""
    weight = known.get(id(node))
    if weight is not None:
        if weight == 0:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1} holds itself")
        return weight
    known[id(node)] = 0
    if isinstance(node, yaml.MappingNode):
        weight = 1 + sum(_weight(key, known) + _weight(value, known) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        weight = 1 + sum(_weight(item, known) for item in node.value)
    else:
        weight = 1 + len(node.value.encode())  # which refuses half of a surrogate pair
    known[id(node)] = weight
    return weight


def json_of(text: str | bytes) -> Any:
    """Parse JSON.

    Parameters
    ----------
    text : str or bytes

    Returns
    -------
    Any

    Raises
    ------
    ValueError
        It is no JSON (UTF-8, where it is bytes), has NaN or infinity, or nests too deep.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("it nests too deep") from error


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON; write null")
