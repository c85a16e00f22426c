"""Whom to cite for what a build did, as BibTeX."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

PRETET = """@inproceedings{pretet2019singing,
  title = {Singing voice separation: a study on training data},
  author = {Pr{\\'e}tet, Laure and Hennequin, Romain and Royo-Letelier, Jimena and Vaglio, Andrea},
  booktitle = {IEEE International Conference on Acoustics, Speech and Signal Processing (ICASSP)},
  year = {2019}
}"""
UHLICH = """@article{uhlich2024sound,
  title = {The Sound Demixing Challenge 2023 -- Cinematic Demixing Track},
  author = {Uhlich, Stefan and Fabbro, Giorgio and Hirano, Masato and others},
  journal = {Transactions of the International Society for Music Information Retrieval},
  volume = {7},
  number = {1},
  year = {2024}
}"""
LUO = """@article{luo2023music,
  title = {Music Source Separation with Band-Split RNN},
  author = {Luo, Yi and Yu, Jianwei},
  journal = {IEEE/ACM Transactions on Audio, Speech, and Language Processing},
  volume = {31},
  year = {2023}
}"""
MUSDB = """@misc{rafii2019musdb18hq,
  title = {{MUSDB18-HQ} - an uncompressed version of {MUSDB18}},
  author = {Rafii, Zafar and Liutkus, Antoine and St{\\"o}ter, Fabian-Robert and Mimilakis, Stylianos Ioannis
            and Bittner, Rachel},
  year = {2019},
  doi = {10.5281/zenodo.3338373}
}"""
MOISES = """@inproceedings{pereira2023moisesdb,
  title = {Moisesdb: A dataset for source separation beyond 4-stems},
  author = {Pereira, Igor and Ara{\\'u}jo, Felipe and Korzeniowski, Filip and Vogl, Richard},
  booktitle = {International Society for Music Information Retrieval Conference (ISMIR)},
  year = {2023}
}"""

_OF_GATES = {"cdxdb23": UHLICH, "bsrnn": LUO}
_OF_LAYOUTS = {"musdb18": MUSDB, "moisesdb": MOISES}


def citations(run: Mapping[str, Any]) -> list[str]:
    """What a build's methods and sources ask to be cited.

    Parameters
    ----------
    run : mapping
        `run.json`; of a curated corpus also what it says about its source.

    Returns
    -------
    list of str
        BibTeX entries, without repetition; empty when the methods are the house's own.
    """
    found: dict[str, None] = {}
    recipe = run.get("recipe") if isinstance(run.get("recipe"), Mapping) else {}
    assert isinstance(recipe, Mapping)
    if run.get("builder") in ("catalog", "curate"):
        found[PRETET] = None
    text = json.dumps([recipe.get("gates"), recipe.get("clip_gates"), run.get("gates")])
    found.update({entry: None for name, entry in _OF_GATES.items() if f'"{name}' in text})
    layout = str(recipe.get("layout"))
    if run.get("builder") == "import" and layout in _OF_LAYOUTS:
        found[_OF_LAYOUTS[layout]] = None
    source = run.get("source")
    if isinstance(source, Mapping):
        found.update(dict.fromkeys(citations(source)))
    return list(found)
