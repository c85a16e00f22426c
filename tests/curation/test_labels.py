"""What labels of whole sounds mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from curation.labels import LabelSet, label_set
from manifests.errors import RecipeError

PANS, HORN = "Dishes, pots, and pans", "Vehicle horn, car horn, honking"
NAMES = ("Animal", "Dog", "Bark", HORN, "Vehicle", "Whimper", "Whimper (dog)", PANS)
IDS = ("/m/0jbk", "/m/0bt9lr", "/m/05tny_", "/m/0912c9", "/m/07yv9", "/m/07qz6j3", "/t/dd00136", "/m/04brg2")


def said(labels: LabelSet, tags: str | None) -> tuple[list[str], list[str]]:
    numbers, unknown = labels.read(tags)
    return [labels.labels[number] for number in numbers], list(unknown)


@pytest.mark.parametrize(
    ("tags", "found", "unknown"),
    [
        ("Dog", ["Dog"], []),
        ("dog,VEHICLE", ["Dog", "Vehicle"], []),
        ("Vehicle_horn, car_horn,  honking;Dog", [HORN, "Dog"], []),
        ("Vehicle, Dog, dog", ["Vehicle", "Dog"], []),
        ("Dishes_and_pots_and_pans;Vehicle_horn_and_car_horn_and_honking", [PANS, HORN], []),
        ("/m/05tny_,/m/0bt9lr", ["Bark", "Dog"], []),
        ("whimper, dog", ["Whimper", "Dog"], []),
        ("Whimper (dog)", ["Whimper (dog)"], []),
        ("car horn, Dog, Unicorn", ["Dog"], ["car horn", "Unicorn"]),
        (" , ;", [], []),
        (None, [], []),
    ],
)
def test_tags_are_read_whatever_their_case_and_commas(
    tags: str | None, found: list[str], unknown: list[str]
) -> None:
    assert said(label_set(NAMES, ids=IDS), tags) == (found, unknown)


def test_a_mapping_joins_classes_and_silences_some() -> None:
    labels = label_set(NAMES, mapping={"bark": "Dog", "Whimper (dog)": "dog", "Animal": None, "Vehicle": "Traffic"})
    assert labels.labels == ("Dog", HORN, "Traffic", "Whimper", PANS)
    assert said(labels, "Bark, Animal, Traffic, vehicle") == (["Dog", "Traffic"], [])
    probabilities = np.arange(1, 17, dtype=np.float32).reshape(8, 2)
    assert labels.grouped(probabilities).tolist() == [[13, 14], [7, 8], [9, 10], [11, 12], [15, 16]]


def test_without_a_mapping_every_class_is_a_label() -> None:
    probabilities = np.random.default_rng(0).random((8, 3)).astype(np.float32)
    np.testing.assert_array_equal(label_set(NAMES).grouped(probabilities), probabilities)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mapping": {"Bakr": "Dog"}}, r"no class 'Bakr' \(did you mean 'Bark'\?\)"),
        ({"mapping": dict.fromkeys(NAMES)}, "gives no class a label"),
        ({"mapping": {"Bark": "Vehicle", "Vehicle": "Bark"}}, "the name of a class and of another label"),
        ({"ids": (*IDS[:-1], "Dog")}, "'Dog' is the name of a class and of another label"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        label_set(NAMES, **settings)


def test_a_name_that_is_no_class_is_answered_with_the_nearest() -> None:
    assert label_set(NAMES).nearest("Dogg") == " (did you mean 'dog'?)"
