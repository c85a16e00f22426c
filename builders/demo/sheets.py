"""The demo's song sheets: who plays what, in which style, over which chords.

A pattern is a string with one character per sixteenth note of a bar: ``.`` rests, ``-`` lets the note before
ring, ``X`` strikes the whole chord, ``0`` to ``9`` strike one note of the chord, counted upwards and on
through the octaves. Drum patterns use ``o`` (soft), ``x`` (normal) and ``X`` (accent). Chords are Roman
numerals relative to the song's tonic; a comma splits a bar between two chords.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from builders.demo.voice import Voice


@dataclass(frozen=True)
class Part:
    """One player.

    Attributes
    ----------
    instrument : str
        A name in `builders.demo.instruments.INSTRUMENTS`.
    verse, chorus : str
        Patterns; an empty one is silence.
    register : int
        MIDI number around which chords are voiced.
    level_db : float
        Level in the mix.
    pan : float
        -1 (left) to 1 (right).
    send_db : float
        Level sent to the room.
    strum_ms : float
        Time between two strings of a chord.
    """

    instrument: str
    verse: str
    chorus: str
    register: int
    level_db: float
    pan: float = 0.0
    send_db: float = -14.0
    strum_ms: float = 0.0


@dataclass(frozen=True)
class Style:
    """A band and how it plays: players, drums, swing (0 to 1), loose timing, drive of the guitars, room."""

    parts: tuple[Part, ...]
    kit: str
    drums: Mapping[str, str]
    swing: float = 0.0
    loose_ms: float = 5.0
    steps: int = 16
    drive: float = 0.0
    drums_db: float = -2.0
    room_seconds: float = 1.2


@dataclass(frozen=True)
class Sheet:
    """A song: its tags, its composition in outline, its band and its singer."""

    title: str
    artist: str
    album: str
    genre: str
    year: int
    tempo: float
    tonic: int
    mode: str
    verse: str
    chorus: str
    style: str
    voice: Voice
    harmony: bool = False
    vocals_db: float = -2.5


STYLES: dict[str, Style] = {
    "pop": Style(
        parts=(
            Part("pad", "X---------------", "X---------------", 60, -13, 0.0, -8),
            Part("synth pluck", "0.2.1.2.0.2.1.3.", "0.2.1.2.3.2.1.2.", 69, -13, 0.4, -9),
            Part("piano", "X---..X-....X---", "X-..X-..X-..X-X-", 62, -9, -0.35, -12),
            Part("synth bass", "0---..0-0-....0-", "0-0-..0-0-0-..0-", 38, -5),
        ),
        kit="electronic",
        drums={
            "kick": "X.....x.x.......",
            "clap": "....X.......X...",
            "hat": "x.o.x.o.x.o.x.oo",
            "open": "..............x.",
        },
    ),
    "rock": Style(
        parts=(
            Part("electric guitar", "X-X-X-X-X-X-X-X-", "X-----X-X---X-X-", 50, -7, -0.6, -16, 4),
            Part("electric guitar", "", "X-------X---X---", 57, -8, 0.6, -14, 6),
            Part("organ", "", "X---------------", 62, -17, 0.2, -12),
            Part("electric bass", "0-0-0-0-0-0-0-0-", "0-0-0-0-0-0-2-0-", 36, -4),
        ),
        kit="acoustic",
        drums={
            "kick": "X.......x.x.....",
            "snare": "....X.......X..o",
            "hat": "x.x.x.x.x.x.x.x.",
        },
        loose_ms=7.0,
        drive=6.0,
        drums_db=-1.0,
    ),
    "house": Style(
        parts=(
            Part("synth stab", "..X-..X-..X-...X", "..X-..X-..X-.X.X", 62, -9, 0.0, -8),
            Part("pad", "X---------------", "X---------------", 57, -15, 0.0, -8),
            Part("fm bell", "", "0..2..4..2..1..3", 76, -17, 0.5, -6),
            Part("fm bass", "..0-..0-..0-..0-", "..0-..0-..0-.20-", 37, -5),
        ),
        kit="electronic",
        drums={
            "kick": "X...X...X...X...",
            "clap": "....x.......x...",
            "hat": "..x...x...x...x.",
            "shaker": "oxoxoxoxoxoxoxox",
        },
        loose_ms=1.0,
    ),
    "folk": Style(
        parts=(
            Part("steel guitar", "0-X-X-2-X-X-", "0-X-X-0-XXX-", 52, -5, -0.3, -14, 14),
            Part("flute", "", "2-----1---0-", 76, -16, 0.35, -8),
            Part("accordion", "X-----------", "X-----X-----", 62, -17, 0.3, -10),
            Part("upright bass", "0---....2---", "0-----2-2---", 38, -4),
        ),
        kit="latin",
        drums={"kick": "x.....o.....", "snare": "....o...o...", "shaker": "o.o.o.o.o.o."},
        loose_ms=11.0,
        steps=12,
        drums_db=-8.0,
    ),
    "jazz": Style(
        parts=(
            Part("piano", "X-....X-....X-..", "X---..X-..X-..X-", 60, -8, -0.3, -12),
            Part("brass", "", "......X-......XX", 65, -15, 0.4, -9),
            Part("upright bass", "0---1---2---3---", "0---2---1---3-2-", 40, -3),
        ),
        kit="acoustic",
        drums={
            "ride": "x...x.x.x...x.x.",
            "hat": "....x.......x...",
            "kick": "o.......o.....o.",
            "rim": "......o.........",
        },
        swing=0.9,
        loose_ms=9.0,
        drums_db=-6.0,
    ),
    "soul": Style(
        parts=(
            Part("electric piano", "X-----X-..X-----", "X---..X---X-..X-", 60, -7, -0.25, -10),
            Part("clavinet", "", "..0...2..0..1..2", 64, -16, 0.5, -12),
            Part("strings", "", "X---------------", 69, -17, 0.0, -7),
            Part("sub bass", "0-----..0--.2-..", "0---..0-0--.2-0-", 35, -2),
        ),
        kit="boom",
        drums={
            "kick": "X..x......x.....",
            "snare": "....X.......X...",
            "hat": "x.xxx.x.x.xxx.xx",
            "rim": ".......o.......o",
        },
        swing=0.35,
        loose_ms=9.0,
    ),
    "reggae": Style(
        parts=(
            Part("organ", "..X...X...X...X.", "..XX..X...XX..X.", 62, -10, 0.4, -12),
            Part("electric guitar", "....X.......X...", "....X.......X.X.", 60, -8, -0.4, -14, 5),
            Part("electric bass", "0---..2-..0-1---", "0-..0-2---0-1-2-", 36, -2),
        ),
        kit="acoustic",
        drums={
            "kick": "........X.......",
            "rim": "........X.......",
            "hat": "x.o.x.o.x.o.x.o.",
            "tom": "..............o.",
        },
        swing=0.3,
        loose_ms=8.0,
        drums_db=-3.0,
    ),
    "bossa": Style(
        parts=(
            Part("nylon guitar", "0-X-.X-.2-X-.X-.", "0-X-.X-X2-X-.X-.", 55, -4, -0.2, -12, 6),
            Part("flute", "", "4---3---2-----1-", 74, -16, 0.4, -7),
            Part("strings", "", "X---------------", 69, -19, 0.0, -7),
            Part("upright bass", "0-----2-2-----0-", "0-----2-2-----0-", 38, -4),
        ),
        kit="latin",
        drums={"rim": "x..x..x...x..x..", "shaker": "xoxoxoxoxoxoxoxo", "kick": "x.....oxx.....ox"},
        loose_ms=8.0,
        drums_db=-8.0,
    ),
    "country": Style(
        parts=(
            Part("steel guitar", "0-X-2-X-0-X-2-X-", "0-XX2-XX0-XX2-XX", 55, -5, 0.35, -15, 9),
            Part("banjo", "0.1.2.1.0.1.2.3.", "0123210301232103", 62, -11, -0.5, -14),
            Part("electric bass", "0-------2-------", "0---..0-2---..2-", 38, -3),
        ),
        kit="acoustic",
        drums={"kick": "x.......x.......", "snare": "ooxoooxoooxoooXo", "hat": "....o.......o..."},
        loose_ms=7.0,
        drums_db=-9.0,
    ),
    "synthwave": Style(
        parts=(
            Part("synth pluck", "0121212101212123", "0123432101234321", 64, -11, 0.3, -9),
            Part("strings", "X---------------", "X---------------", 60, -13, 0.0, -8),
            Part("square lead", "", "4-----2-3---1---", 74, -17, -0.3, -7),
            Part("synth bass", "0.00.00.0.00.00.", "0000000000000000", 33, -5),
        ),
        kit="electronic",
        drums={
            "kick": "X...x...X...x...",
            "snare": "....X.......X...",
            "hat": "x.x.x.x.x.x.x.x.",
            "tom": "..............xx",
        },
        loose_ms=1.5,
        room_seconds=1.8,
    ),
    "ballad": Style(
        parts=(
            Part("piano", "0-1-2-3-2-1-2-1-", "X-1-2-3-X-3-2-1-", 57, -4, 0.0, -9),
            Part("strings", "", "X---------------", 64, -11, 0.0, -7),
            Part("glockenspiel", "", "........4.......", 84, -22, 0.5, -6),
            Part("upright bass", "0---------------", "0-------2-------", 36, -6),
        ),
        kit="latin",
        drums={"kick": "x.......o.......", "snare": "....o.......o...", "shaker": "o...o...o...o..."},
        loose_ms=10.0,
        drums_db=-11.0,
        room_seconds=2.2,
    ),
    "jungle": Style(
        parts=(
            Part("pad", "X---------------", "X---------------", 62, -11, 0.0, -7),
            Part("marimba", "0..3..2..1..3..2", "0..3..2.4..3..21", 69, -12, 0.4, -8),
            Part("reese bass", "0-----0---..2---", "0-----0-..0-2---", 33, -3),
        ),
        kit="electronic",
        drums={
            "kick": "X.........x.....",
            "snare": "....X..o.o..X..o",
            "hat": "x.x.x.x.x.x.x.x.",
            "shaker": ".o.o.o.o.o.o.o.o",
        },
        loose_ms=2.0,
    ),
    "jpop": Style(
        parts=(
            Part("piano", "X-X-..X-X-..X-X-", "X-X-X-X-X-X-X-X-", 62, -8, -0.3, -12),
            Part("electric guitar", "", "X---X-X---X-X---", 52, -9, 0.55, -15, 4),
            Part("koto", "4...2...3...1...", "4.3.2.3.4.3.2.1.", 72, -13, 0.4, -8),
            Part("strings", "", "X---------------", 69, -15, 0.0, -8),
            Part("electric bass", "0-0-0-0-0-0-2-2-", "0-0-2-0-0-0-2-0-", 36, -5),
        ),
        kit="acoustic",
        drums={
            "kick": "X.....x.x.......",
            "snare": "....X.......X...",
            "hat": "x.x.x.x.x.x.x.x.",
            "shaker": "oooooooooooooooo",
        },
        drive=3.0,
    ),
    "funk": Style(
        parts=(
            Part("clavinet", "X..X..X...X..X..", "X.XX..X.X.X..XX.", 60, -8, -0.5, -15),
            Part("brass", "", "X...........X.X-", 65, -9, 0.35, -10),
            Part("electric guitar", "..X.X..X..X.X..X", "..X.X..X..X.X..X", 67, -13, 0.6, -14, 2),
            Part("fm bass", "0-.0..0..0-.2.3.", "0-.00.0..0-.2.3.", 36, -3),
        ),
        kit="acoustic",
        drums={
            "kick": "X..x..x...x.....",
            "snare": "....X..o.o..X..o",
            "hat": "xoxoxoxoxoxoxo..",
            "open": "..............x.",
        },
        swing=0.2,
        loose_ms=5.0,
    ),
    "blues": Style(
        parts=(
            Part("electric guitar", "X---X-..X---X-..", "X---X-X-X---X-X-", 52, -6, -0.4, -13, 10),
            Part("organ", "X---------------", "X-------X-------", 62, -15, 0.4, -10),
            Part("electric bass", "0---1---2---1---", "0---1---2---3---", 38, -3),
        ),
        kit="acoustic",
        drums={"kick": "X.......x.......", "snare": "....X.......X...", "ride": "x...x.x.x...x.x."},
        swing=1.0,
        loose_ms=9.0,
        drive=2.0,
    ),
    "ambient": Style(
        parts=(
            Part("pad", "X---------------", "X---------------", 55, -6, 0.0, -5),
            Part("glockenspiel", "4.....2.....3...", "4..3..2..4..3...", 81, -16, 0.5, -5),
            Part("electric piano", "0-----2-----1---", "0---2---1---3---", 64, -10, -0.4, -7),
            Part("sub bass", "0---------------", "0-------0-------", 36, -5),
        ),
        kit="boom",
        drums={"kick": "x...............", "rim": "......o.....o...", "shaker": "..o...o...o...o."},
        loose_ms=6.0,
        drums_db=-8.0,
        room_seconds=2.8,
    ),
}
"""Bands by name."""

_SOPRANO = Voice(centre=69, tract=1.18, vibrato_cents=50, vibrato_hz=5.8)
_ALTO = Voice(centre=64, tract=1.13, vibrato_cents=38, vibrato_hz=5.4)
_BREATHY = Voice(centre=66, tract=1.15, vibrato_cents=22, vibrato_hz=5.1, breathiness=0.9)
_TENOR = Voice(centre=60, tract=1.02, vibrato_cents=42, vibrato_hz=5.6, breathiness=0.2)
_BARITONE = Voice(centre=54, tract=0.95, vibrato_cents=40, vibrato_hz=5.2)
_CHILD = Voice(centre=70, tract=1.27, vibrato_cents=18, vibrato_hz=5.9, breathiness=0.5)

SHEETS: tuple[Sheet, ...] = (
    Sheet(
        "Paper Lanterns", "Mara Velle", "Small Hours", "Pop", 2016, 116, 57, "major",
        "I V vi IV", "IV I V vi", "pop", _ALTO, harmony=True, vocals_db=-2.0,
    ),
    Sheet(
        "Static on the Line", "The Hollow Pines", "Telegraph", "Rock", 2009, 138, 52, "minor",
        "i VI III VII", "VI VII i i", "rock", _TENOR, vocals_db=-3.0,
    ),
    Sheet(
        "Glass Horizon", "Neon Arcade", "Afterimage", "Electronic", 2019, 124, 57, "minor",
        "i i VI VII", "VI III VII i", "house", _SOPRANO, vocals_db=-3.0,
    ),
    Sheet(
        "Harbour Song", "Ellen Thorsby", "Tidewater", "Folk", 2012, 104, 55, "major",
        "I IV I V", "IV I vi V", "folk", _ALTO, harmony=True, vocals_db=-0.5,
    ),
    Sheet(
        "Blue Lamplight", "Otis Fairweather Trio", "After Closing", "Jazz", 1998, 132, 58, "major",
        "ii7 V7 Imaj7 vi7", "IVmaj7 iii7 ii7 V7", "jazz", _BARITONE, vocals_db=-1.0,
    ),
    Sheet(
        "星の手紙", "森ハナ", "夜の水族館", "J-Pop", 2020, 148, 57, "major",
        "IV V iii vi", "IV V I vi", "jpop", _CHILD, vocals_db=-2.5,
    ),
    Sheet(
        "Slow Orbit", "Kaya Noor", "Gravity", "R&B", 2021, 84, 56, "minor",
        "i7 iv7 VImaj7 v7", "VImaj7 v7 i7 iv7", "soul", _BREATHY, harmony=True, vocals_db=-2.0,
    ),
    Sheet(
        "Sunday Ferry", "Palm & Anchor", "Low Tide Dub", "Reggae", 2005, 78, 57, "major",
        "I IV I V", "vi IV I V", "reggae", _TENOR, vocals_db=-1.5,
    ),
    Sheet(
        "Mar de Prata", "Lúcia Tavares", "Maré", "Bossa Nova", 2007, 128, 60, "major",
        "Imaj7 vi7 ii7 V7", "IVmaj7 iv7 iii7 VI7,V7", "bossa", _BREATHY, vocals_db=-0.5,
    ),
    Sheet(
        "Gravel and Gold", "Wade Holloway", "County Lines", "Country", 2014, 108, 55, "major",
        "I I IV I", "IV I V I", "country", _BARITONE, harmony=True, vocals_db=-1.0,
    ),
    Sheet(
        "Midnight Arcade", "Neon Arcade", "Afterimage", "Synthwave", 2019, 100, 54, "minor",
        "i VI III VII", "iv VI i VII", "synthwave", _TENOR, harmony=True, vocals_db=-3.0,
    ),
    Sheet(
        "Winter Windows", "Mara Velle", "Small Hours", "Ballad", 2016, 72, 60, "major",
        "I iii IV V", "vi IV I V", "ballad", _SOPRANO, vocals_db=0.0,
    ),
    Sheet(
        "Undertow", "Kilo Drift", "Pressure", "Drum & Bass", 2018, 172, 53, "minor",
        "i i VI VI", "VI VII i v", "jungle", _BREATHY, vocals_db=-3.5,
    ),
    Sheet(
        "Copper Wire", "The Brass Committee", "Live Current", "Funk", 2003, 106, 52, "dorian",
        "i7 i7 IV7 i7", "IV7 IV7 i7 VII", "funk", _TENOR, harmony=True, vocals_db=-2.5,
    ),
    Sheet(
        "Blues for the 9:15", "Otis Fairweather Trio", "After Closing", "Blues", 1998, 96, 52, "mixolydian",
        "I7 IV7 I7 I7", "IV7 I7 V7,IV7 I7", "blues", _BARITONE, vocals_db=-1.5,
    ),
    Sheet(
        "Slack Water", "Ellen Thorsby", "Tidewater", "Ambient", 2012, 66, 57, "dorian",
        "i7 IV i7 VII", "VII IV i7 i7", "ambient", _ALTO, vocals_db=-1.0,
    ),
)  # fmt: skip
"""The songs, in the order in which a catalogue takes them."""

COVER_ARTIST = "The Velvet Copyists"
COVER_ALBUM = "Other People's Songs"
COVER_STYLE = "blues"
COVER_VOICE = _TENOR
