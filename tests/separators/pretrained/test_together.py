"""Other people's separators in one line: an ensemble of two MDX-Nets and a Demucs, and one before another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from separators import load_separator, separate
from tests.separators.pretrained.test_demucs import hybrid_transformer, saved
from tests.separators.pretrained.test_mdx import TEXT, graph
from tests.separators.small_separators import noise


@pytest.fixture
def parts(tmp_path: Path) -> list[str]:
    louder = graph(tmp_path / "louder.onnx", ("Mul",), constant=0.75)
    same = graph(tmp_path / "same.onnx")
    demucs = saved(tmp_path, hybrid_transformer(samplerate=44_100))
    return [f"mdx-onnx:{louder}{TEXT}", f"mdx-onnx:{same}{TEXT}", f"demucs:{demucs}"]


def test_a_weighted_mean_in_one_line(parts: list[str], caplog: pytest.LogCaptureFixture) -> None:
    together = load_separator(f"10*{parts[0]} + 4*{parts[1]} + 2*{parts[2]}")
    assert together.sources == ("vocals",)
    assert "only some of the parts give accompaniment, drums, which is left out" in caplog.text
    mixture = noise(3000)
    vocals = []
    for part in parts:
        separator = load_separator(part)
        vocals.append(separate(separator, mixture)[separator.sources.index("vocals")])
    wanted = (10 * vocals[0] + 4 * vocals[1] + 2 * vocals[2]) / 16
    np.testing.assert_allclose(separate(together, mixture)[0], wanted, atol=1e-5)


def test_its_remainder_and_a_cascade_behind_it(parts: list[str], tmp_path: Path) -> None:
    path = tmp_path / "film.yaml"
    path.write_text(
        f"""
        cascade:
          first:
            ensemble:
              - {{separator: "{parts[0]}", weight: 10}}
              - {{separator: "{parts[2]}", weight: {{vocals: 2}}}}
            remainder: rest
          take: vocals
          name_taken: dialogue
          second: {{separator: "{parts[1]}", remainder: effects}}
        """
    )
    cascade = load_separator(path)
    assert cascade.sources == ("dialogue", "vocals", "accompaniment", "effects")
    mixture = noise(2000)
    dialogue, *others = separate(cascade, mixture)
    np.testing.assert_allclose(dialogue + sum(others), mixture, atol=1e-4)
