"""The demo's scores fit their song sheets, and the sheets are sound."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from builders.demo.instruments import INSTRUMENTS, KITS
from builders.demo.performance import PEAK, SAMPLE_RATE, perform
from builders.demo.score import MODES, compose
from builders.demo.sheets import SHEETS, STYLES


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.title)
@pytest.mark.parametrize("seconds", [5.0, 45.0])
def test_score_fits_the_sheet(sheet, seconds):
    score = compose(np.random.default_rng(0), sheet, seconds)
    steps = STYLES[sheet.style].steps
    bar_seconds = steps * 15 / sheet.tempo
    length = len(score.bars) * bar_seconds + 1.5
    assert len(score.bars) >= 4
    assert abs(length - seconds) <= bar_seconds / 2 + 1e-9 or len(score.bars) == 4
    assert {"verse", "chorus"} <= {bar.section for bar in score.bars}
    ends = 0
    for note in score.melody:
        assert note.start_step >= ends
        ends = note.start_step + note.num_steps
        assert score.bars[note.start_step // steps].section == note.section
        assert abs(note.semitone) <= 24
    assert ends <= len(score.bars) * steps
    # There is singing, and there are rests to breathe in.
    sung = sum(note.num_steps for note in score.melody) / (len(score.bars) * steps)
    assert 0.2 < sung < 0.9
    assert all(note.syllable is not None for note in score.melody if note.first)


def test_choruses_repeat_and_verses_have_new_words():
    score = compose(np.random.default_rng(1), SHEETS[0], 60.0)
    sections = {"verse": [], "chorus": []}
    starts = [
        number
        for number, bar in enumerate(score.bars)
        if bar.section in sections and (number == 0 or score.bars[number - 1].section != bar.section)
    ]
    for start in starts:
        notes = [note for note in score.melody if start <= note.start_step // score.steps < start + 4]
        sections[score.bars[start].section].append(
            [(note.start_step - start * score.steps, note.semitone, note.syllable) for note in notes]
        )
    verses, choruses = sections["verse"], sections["chorus"]
    assert len(verses) >= 2
    assert len(choruses) >= 2
    assert choruses[0] == choruses[1]
    assert [note[:2] for note in verses[0]] == [note[:2] for note in verses[1]]
    assert [note[2] for note in verses[0]] != [note[2] for note in verses[1]]


def test_sheets_name_only_what_exists():
    assert len({sheet.title for sheet in SHEETS}) == len(SHEETS) >= 14
    assert len({sheet.genre for sheet in SHEETS[:14]}) >= 12
    for sheet in SHEETS:
        assert sheet.mode in MODES
        style = STYLES[sheet.style]
        for part in style.parts:
            assert part.instrument in INSTRUMENTS
            for pattern in (part.verse, part.chorus):
                assert pattern == "" or re.fullmatch(rf"[X0-9.\-]{{{style.steps}}}", pattern), pattern
        for drum, pattern in style.drums.items():
            assert drum in KITS[style.kit]
            assert re.fullmatch(rf"[xXo.]{{{style.steps}}}", pattern), (sheet.style, drum)


def test_cover_is_the_same_score_in_another_key_and_tempo():
    original = SHEETS[0]
    score = compose(np.random.default_rng(2), original, 4.0)
    cover = replace(original, tempo=0.8 * original.tempo, tonic=original.tonic + 3, style="blues")
    stems = [perform(np.random.default_rng(3), score, sheet) for sheet in (original, cover)]
    lengths = [instrumental.shape[-1] / SAMPLE_RATE - 1.5 for instrumental, _ in stems]
    assert lengths[1] / lengths[0] == pytest.approx(1.25, rel=1e-3)
    for instrumental, vocals in stems:
        assert instrumental.shape == vocals.shape
        peaks = [np.abs(audio).max() for audio in (instrumental, vocals, instrumental + vocals)]
        assert max(peaks) == pytest.approx(PEAK, rel=1e-4)
    with pytest.raises(ValueError, match="steps a bar"):
        perform(np.random.default_rng(3), score, replace(original, style="folk"))
