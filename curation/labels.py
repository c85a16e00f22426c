"""Labels of whole sounds, and the classes of a tagger that they mean.

Libraries name classes as taggers do, or nearly: letters of another case, underscores for spaces and 'and' for
commas (FSD50K's ``Walk_and_footsteps``), ids (AudioSet's ``/m/0bt9lr``). Commas or semicolons part several, and
a name may itself hold commas ("Vehicle horn, car horn, honking"): the longest name that fits is taken.

A mapping says which classes are one label, or none::

    Bark: Dog
    Bow-wow: Dog
    Animal: null          # says too little: no label, and no other sound either
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manifests.errors import RecipeError, did_you_mean

__all__ = ["LabelSet", "label_set"]


@dataclass(frozen=True)
class LabelSet:
    """The labels that a tagger's classes stand for.

    Attributes
    ----------
    labels : tuple of str
        In the order of their first classes.
    label_of : np.ndarray [shape=(classes,)]
        The number of each class' label; -1 for none.
    """

    labels: tuple[str, ...]
    label_of: npt.NDArray[np.int64]
    _known: Mapping[str, int]

    def grouped(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Probabilities of labels: of each the highest of its classes.

        Parameters
        ----------
        probabilities : np.ndarray [shape=(classes, columns)]

        Returns
        -------
        np.ndarray [shape=(labels, columns)]
        """
        if np.array_equal(self.label_of, np.arange(len(probabilities))):
            return probabilities
        used = np.flatnonzero(self.label_of >= 0)
        order = used[np.argsort(self.label_of[used], kind="stable")]
        firsts = np.flatnonzero(np.diff(self.label_of[order], prepend=-1))
        return np.asarray(np.maximum.reduceat(probabilities[order], firsts, axis=0))

    def read(self, tags: str | None) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """What the tags of a sound say.

        Parameters
        ----------
        tags : str or None
            Names of labels or classes, or ids, parted by commas or semicolons.

        Returns
        -------
        numbers : tuple of int
            Labels, each once, in order.
        unknown : tuple of str
            What is no class. Classes that the mapping gives no label are in neither.
        """
        numbers: dict[int, None] = {}
        unknown = []
        for group in re.split(r"[;\n]", tags or ""):
            parts = [part.strip() for part in group.split(",") if part.strip()]
            while parts:
                for count in range(len(parts), 0, -1):
                    number = self._known.get(_folded(", ".join(parts[:count])))
                    if number is not None:
                        break
                if number is None:
                    unknown.append(parts[0])
                elif number >= 0:
                    numbers[number] = None
                del parts[:count]
        return tuple(numbers), tuple(unknown)

    def nearest(self, name: str) -> str:
        """A hint for a message about a name that is no class."""
        return did_you_mean(_folded(name), self._known)


def label_set(
    names: Sequence[str], *, ids: Sequence[str] = (), mapping: Mapping[str, str | None] | None = None
) -> LabelSet:
    """The labels of a tagger's classes.

    Parameters
    ----------
    names : sequence of str
        Of the classes, in their order.
    ids : sequence of str
        Other names of the classes, as many, or none.
    mapping : mapping of str to str or None, optional
        Class to label; None: no label. A class that it does not name is a label of its own.

    Returns
    -------
    LabelSet

    Raises
    ------
    RecipeError
        The mapping names no class, leaves no label, or two labels would go by one name.

    Examples
    --------
    >>> labels = label_set(["Dog", "Bark", "Animal"], mapping={"bark": "Dog", "Animal": None})
    >>> labels.labels, labels.read("bark, animal; Cow")
    (('Dog',), ((0,), ('Cow',)))
    """
    classes = {_folded(name): name for name in names}
    renamed: dict[str, str | None] = {}
    for name, label in (mapping or {}).items():
        if _folded(name) not in classes:
            raise RecipeError(
                f"mapping of classes: there is no class '{name}'{did_you_mean(name, names)}; correct the name, or "
                "take it out"
            )
        renamed[_folded(name)] = label
    numbers: dict[str, int] = {}
    labels: list[str] = []
    label_of = np.full(len(names), -1, np.int64)
    for place, name in enumerate(names):
        label = renamed.get(_folded(name), name)
        if label is None:
            continue
        if _folded(label) not in numbers:
            numbers[_folded(label)] = len(labels)
            labels.append(label)
        label_of[place] = numbers[_folded(label)]
    if not labels:
        raise RecipeError("mapping of classes: gives no class a label; let it name one at least")
    known = dict(numbers)
    for place, named in enumerate(zip(names, ids or names, strict=True)):
        for name in (*named, re.sub(r", (and )?", " and ", _folded(names[place]))):
            if known.setdefault(_folded(name), int(label_of[place])) != label_of[place]:
                raise RecipeError(
                    f"'{name}' is the name of a class and of another label; give one of them another name"
                )
    return LabelSet(tuple(labels), label_of, known)


def _folded(name: str) -> str:
    parts = (" ".join(part.split()) for part in name.replace("_", " ").casefold().split(","))
    return ", ".join(parts)
