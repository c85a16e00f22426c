"""What a release's title says about it: which song, which version, which artists.

Titles are written by people, in every language and with every bracket: ``Song (Instrumental)``,
``Song [Off Vocal]``, ``Song - 2011 Remaster``, ``曲名【カラオケ】``, ``Песня (Минус)``, ``Song ~inst.~``,
``Song (In the Style of X) [Karaoke Version]``. `label` reads the version from such parts before anything is
normalised away, and gives the song's title without them.

How a part is recognised
------------------------
Only a bracket, a part after a dash (or ``|``, ``:``, ``/``, ``~``) and a few unmistakable last words can be a
label, so that a song called *Instrumental* or *Live Forever* keeps its name. Such a part is a label when it
holds a phrase of the vocabulary (`curation.vocabulary`) and either

- nothing else than words that go with versions (``2011``, ``version``, ``mix``): ``(Instrumental Version)``,
- or names before the phrase: ``(Theo Moreau Remix)``,
- or a phrase that opens a free text: ``(Live at Vale Hall)``, ``(Originally Performed by X)``.

``(Karaoke Queen)`` is none of these. What is left of a title is never empty.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from curation.vocabulary import (
    ALBUM_KINDS,
    ARTIST_KINDS,
    BACKING_FILLERS,
    BRACKET_ONLY,
    DESCRIPTORS,
    FILLERS,
    GUESTS,
    NOT_BEFORE_LAST,
    NOT_BEFORE_LIVE,
    NOT_BEFORE_PHRASE,
    NOT_WITH,
    OPENERS,
    PHRASES,
    PHRASES_ALONE,
    STRONG,
    VERSION_WORDS,
)

__all__ = [
    "SAME_TAKE",
    "VERSIONS",
    "WITHOUT_LEAD",
    "Label",
    "artist_key",
    "artist_names",
    "fold",
    "label",
    "title_key",
]

VERSIONS = (
    "karaoke",
    "cover",
    "acapella",
    "tv_track",
    "instrumental",
    "remix",
    "live",
    "altered",
    "demo",
    "acoustic",
    "alternate",
    "extended",
    "radio_edit",
    "remaster",
    "original",
)
"""Every version, strongest first: ``Song (Live) [Instrumental]`` is an instrumental.

``karaoke`` is a backing track made for singing, often recorded anew; ``tv_track`` an instrumental that keeps
its backing vocals; ``altered`` sped up, slowed down and the like; ``alternate`` another take, language or
arrangement.
"""

WITHOUT_LEAD = frozenset({"karaoke", "tv_track", "instrumental"})
"""Versions without a lead voice."""

SAME_TAKE = frozenset({"original", "remaster", "radio_edit", "extended"})
"""Versions with a lead voice that usually hold the same performance as the instrumental."""


@dataclass(frozen=True)
class Label:
    """What a title says.

    Parameters
    ----------
    song_title : str
        The title without labels and guests, as written; empty only for an empty title.
    version : str
        One of `VERSIONS`; ``original`` when nothing says otherwise.
    qualifiers : tuple of str
        The parts that were taken off the title, as written (``2011 Remaster``, ``feat. Iris Duarte``).
    """

    song_title: str
    version: str
    qualifiers: tuple[str, ...] = ()


_SEPARATOR = re.compile(
    r"(?P<any>\s+[-‐‑‒–—―|｜]+\s+|\s*[—―|｜]\s*)|\s+[~～〜:/／]\s+|:\s+|／|\s+[-–~～〜](?=\S)|(?<=\w)-(?=\w+$)"
)
_PAIRED_DASHES = re.compile(r"(?<=\s)-\s*([^-]+?)\s*-\s*$|[~～〜*]([^~～〜*]+)[~～〜*]")
_LAST_WORDS = re.compile(
    r"""(?<=\S)\s+(?:
    (?P<bare>instrumentale?|remix|a[ ]cappella|acappella|acapella)
    |instrumentale?[ ](?:version|mix|ver\.?|track)|karaoke[ ](?:version|track|mix|video|instrumental)
    |off[ -]vocal(?:[ ]ver(?:sion|\.)?)?|backing[ ]track|tv[ ]track|radio[ ](?:edit|version)|inst\.
    |extended[ ](?:mix|version)|original[ ]mix|(?:album|single|acoustic|demo|live|cover)[ ]version
    |official[ ](?:music[ ]|lyric[ ])?(?:video|audio)|lyrics?[ ]video
    |(?:\d{4}[ ])?remaster(?:ed)?(?:[ ]version|[ ]\d{4})?
    |インストゥルメンタル|インスト|カラオケ|オフボーカル|伴奏|伴奏版|纯音乐|純音樂
    |минус|минусовка|караоке|инструментал|반주|노래방)$""",
    re.IGNORECASE | re.VERBOSE,
)
_GUEST = re.compile(
    r"\s+(?:feat\.?|featuring|Feat\.?|Featuring|FEAT\.?|FEATURING|(?<!\d )[Ff][Tt]\.|ft(?=\s+[A-Z]))\s+\S.*$"
)
_FROM_QUOTED = re.compile(r"^from\s+[\"“”„«'‘’]", re.IGNORECASE)
_WITH_NAMES = re.compile(r"^(?:with|w/)\s*((?:[A-Z][\w.'’-]*|&|and|,)(?:[\s,]+(?:[A-Z][\w.'’-]*|&|and))*)$")
_BRACKETS = dict(zip("([{<（［｛【〔〖「『〈《", ")]}>）］｝】〕〗」』〉》", strict=True))
_PLAIN_LETTERS = str.maketrans(
    {
        "ø": "o",
        "æ": "ae",
        "œ": "oe",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "ı": "i",
        "ħ": "h",
        "&": " and ",
    }
)
_APOSTROPHES = re.compile("['’‘`´]")
_ASCII_GAPS = re.compile("[^0-9a-z]+")
_GUEST_CREDIT = re.compile(r"[\s(\[]+(?:feat\.?|ft\.?|featuring|starring)\s+", re.IGNORECASE)
_CREDIT_BREAK = re.compile(
    r"\s*[;；、，\0]\s*|,\s+(?!the$)|\s+(?:&|＆|x|X|×|vs\.?|versus|\+|/|／)\s+|(?<=[^/]{3})/(?=[^/]{3})",
    re.IGNORECASE,
)
_ALIAS = re.compile(r"^(.*\S)\s*[(（\[](?:cv[:.：]?\s*)?(.+?)[)）\]]$", re.IGNORECASE)


def label(title: str, album: str | None = None, artist: str | None = None) -> Label:
    """Read version and song title from a release's title.

    The title speaks first; where it has no label, the album (``Album (Instrumentals)``) and then the artist
    (``The Karaoke Crew``) may.

    Parameters
    ----------
    title : str
        As tagged, or a cleaned file name.
    album, artist : str, optional
        As tagged. An artist before the title, with a dash, is taken off.

    Returns
    -------
    Label

    Examples
    --------
    >>> label("Fire (In the Style of The Roads) [Karaoke Version]")
    Label(song_title='Fire', version='karaoke', qualifiers=('In the Style of The Roads', 'Karaoke Version'))
    >>> label("Live Forever - 2011 Remaster").version
    'remaster'
    >>> label("Train", album="Garden (Instrumentals)").version
    'instrumental'
    """
    rest, kinds, qualifiers = _strip(_without_artist(title, artist))
    if not kinds - {"guest"} and album:
        kinds |= _album_kinds(album)
    elif album and not kinds & (STRONG | {"guided"}):
        kinds |= _album_kinds(album) & {"instrumental", "karaoke"}
    if not kinds - {"guest"} and artist:
        kinds |= {kind for kind, pattern in ARTIST_KINDS if re.search(pattern, _words(fold(artist)))}
    return Label(rest or title, _version(kinds), qualifiers)


def title_key(song_title: str) -> str:
    """Comparable form of a song title: folded words, without punctuation.

    Letters of scripts whose marks carry meaning (kana, Indic, Thai, Hebrew, Arabic) keep them. A title with
    no letter or digit is its own key, casefolded.

    Examples
    --------
    >>> title_key("Don’t Stop (Él & Ella)!")
    'dont stop el and ella'
    >>> title_key("!!!")
    '!!!'
    """
    return _words(fold(song_title)) or song_title.casefold()


def artist_names(artist: str) -> tuple[str, ...]:
    """Names behind an artist credit: the main credit as written, its parts, then the featured artists.

    The whole main credit always stays first, so that *Simon & Garfunkel* or *Earth, Wind & Fire* are found
    under their own name. Parts are told apart by ``&``, ``x``, ``vs.``, ``+``, commas, semicolons and slashes
    (not that of *AC/DC*); a bracket at the end is an alias.

    Examples
    --------
    >>> artist_names("Simon & Garfunkel feat. AC/DC")
    ('Simon & Garfunkel', 'Simon', 'Garfunkel', 'AC/DC')
    """
    main, *guests = _GUEST_CREDIT.split(artist)
    main = main.strip(" ([")
    names = [main, *_credits(main)]
    for guest in guests:
        names += _credits(guest.strip(" )]"))
    unique = {artist_key(name): name for name in reversed(names) if name.strip()}
    return tuple(dict.fromkeys(unique[artist_key(name)] for name in names if name.strip()))


def artist_key(name: str) -> str:
    """Comparable form of an artist's name: folded words, ``&`` as *and*, without a leading or trailing *the*.

    Examples
    --------
    >>> artist_key("The Beatles") == artist_key("Beatles, The")
    True
    """
    words = _words(fold(name))
    bare = words.removeprefix("the ").removesuffix(" the")
    return bare or words or name.casefold()


def fold(text: str) -> str:
    """Casefold, apply NFKC and take the diacritics off Latin, Greek and Cyrillic letters.

    Examples
    --------
    >>> fold("ＢＥＹＯＮＣÉ Sigur Rós Łódź")
    'beyonce sigur ros lodz'
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    if not text.isascii():
        letters = unicodedata.normalize("NFD", text)
        text = unicodedata.normalize("NFC", "".join(c for c in letters if not "\u0300" <= c <= "\u036f"))
    return text.translate(_PLAIN_LETTERS)


def _credits(credit: str) -> list[str]:
    alias = _ALIAS.match(credit)
    parts = list(alias.groups()) if alias else [credit]
    return [name.strip() for part in parts for name in _CREDIT_BREAK.split(part)]


def _words(folded: str) -> str:
    """Letters, digits and their marks; apostrophes join, everything else parts."""
    text = _APOSTROPHES.sub("", folded)
    if text.isascii():
        return " ".join(_ASCII_GAPS.sub(" ", text).split())
    kept: list[str] = []
    for c in text:
        if c.isalnum() or (kept and kept[-1] != " " and unicodedata.category(c).startswith("M")):
            kept.append(c)
        else:
            kept.append(" ")
    return " ".join("".join(kept).split())


def _glued(pattern: str) -> list[str]:
    """Phrases of a pattern in scripts that write words without spaces."""
    words = (word.strip() for word in pattern.split("|"))
    return [word for word in words if re.search(r"[\u0e00-\u0e7f\u3040-\ud7a3]", word)]


def _compiled(patterns: Iterable[str]) -> re.Pattern[str]:
    parts = [" ".join(fold(pattern).split()).replace(" | ", "|") for pattern in patterns]
    return re.compile(f"(?<= )(?:{'|'.join(parts)})(?= )")


_FREE = {kind: _compiled([pattern]) for kind, pattern in PHRASES.items()}
_ALONE = {kind: _compiled([pattern]) for kind, pattern in PHRASES_ALONE.items()}
_ANY_FREE = _compiled(PHRASES.values())
_ANY = _compiled([*PHRASES.values(), *PHRASES_ALONE.values()])
_OPENER = _compiled([OPENERS, PHRASES["style"]])
_GLUED_WORDS = sorted(
    {
        fold(word)
        for pattern in (*PHRASES.values(), *PHRASES_ALONE.values(), "|".join(FILLERS))
        for word in _glued(pattern)
    },
    key=len,
    reverse=True,
)
_GLUED_WORD = re.compile("|".join(_GLUED_WORDS))
# Katakana and hangul words must not be cut out of longer ones (ライブ in ライブラリ, 라이브 in 드라이브);
# a han word may end a longer one (国语伴奏).
_GLUED_RUN = re.compile(
    rf"(?:(?<![ァ-ヺー가-힣])|(?<=[가-힣ァ-ヺー])(?=[一-鿿]))(?:{'|'.join(_GLUED_WORDS)})+(?![ァ-ヺー가-힣一-鿿])"
)


def _strip(title: str) -> tuple[str, set[str], tuple[str, ...]]:
    """Take labels off until none is left: the rest, the kinds they name, and the labels as written."""
    # File names and some shops write underscores for spaces.
    title = title if " " in title.strip() else title.replace("_", " ")
    rest, kinds, taken = " ".join(title.split()), set[str](), list[str]()
    changed = True
    while changed:
        changed = False
        for step in (_strip_brackets, _strip_after_dash, _strip_guest, _strip_last_words):
            shorter, found, parts = step(rest)
            if parts:
                kinds |= found
            if parts and _words(fold(shorter)):
                changed, rest = True, _tidy(shorter)
                taken += parts
    return rest, kinds, tuple(taken)


Step = tuple[str, set[str], list[str]]


def _strip_brackets(text: str) -> Step:
    kinds, parts, kept = set[str](), list[str](), list[str]()
    for part, inside in _bracketed(_PAIRED_DASHES.sub(_as_bracket, text)):
        found = _kinds(part, True) if inside else frozenset()
        if found:
            kinds |= found
            parts.append(part.strip())
            kept.append(" ")
        else:
            kept.append(part if not inside else f"{inside}{part}{_BRACKETS[inside]}")
    return ("".join(kept), kinds, parts) if parts else (text, kinds, parts)


def _as_bracket(dashes: re.Match[str]) -> str:
    inside = dashes[1] or dashes[2]
    return f"({inside})" if _kinds(inside, True) else dashes[0]


def _bracketed(text: str) -> Iterator[tuple[str, str]]:
    """Parts of a text with the outermost bracket around them, or ''; an unclosed bracket runs to the end."""
    start, depth, opener = 0, 0, ""
    for i, c in enumerate(text):
        if not opener and c in _BRACKETS:
            yield text[start:i], ""
            start, depth, opener = i + 1, 1, c
        elif opener and c == opener:
            depth += 1
        elif opener and c == _BRACKETS[opener]:
            depth -= 1
            if not depth:
                yield text[start:i], opener
                start, opener = i + 1, ""
    yield text[start:], opener


def _strip_after_dash(text: str) -> Step:
    breaks = list(_SEPARATOR.finditer(text))
    for found in reversed(breaks):
        part = text[found.end() :]
        kinds = _kinds(part, False)
        if kinds and (found["any"] or kinds & STRONG) and text[: found.start()].strip():
            return text[: found.start()], set(kinds), [part.strip()]
    if breaks:
        part, rest = text[: breaks[0].start()], text[breaks[0].end() :]
        kinds = _kinds(part, False)
        if kinds & STRONG and kinds <= STRONG | {"style", "backing"}:
            return rest, set(kinds), [part.strip()]
    return text, set(), []


def _strip_guest(text: str) -> Step:
    found = _GUEST.search(text)
    return (text[: found.start()], {"guest"}, [found[0].strip()]) if found else (text, set(), [])


def _strip_last_words(text: str) -> Step:
    found = _LAST_WORDS.search(text)
    if not found or (found["bare"] and _words(fold(text[: found.start()])).split(" ")[-1] in NOT_BEFORE_LAST):
        return text, set(), []
    return text[: found.start()], set(_kinds(found[0], True)), [found[0].strip()]


def _tidy(text: str) -> str:
    return " ".join(text.split()).strip(" -‐–—―|/:~～,_") or text


def _without_artist(title: str, artist: str | None) -> str:
    head, dash, tail = title.partition(" - ")
    if artist and dash and tail.strip() and artist_key(head) in {artist_key(n) for n in artist_names(artist)}:
        return tail
    return title


@lru_cache(maxsize=1 << 16)
def _kinds(part: str, bracketed: bool) -> frozenset[str]:
    """Kinds that a part of a title names; empty if it is no label."""
    if _FROM_QUOTED.match(part):
        return frozenset({"original"})
    names = _WITH_NAMES.match(part.strip())
    if bracketed and names and fold(names[1]).split()[0] not in NOT_WITH:
        return frozenset({"guest"})
    text = _GLUED_RUN.sub(lambda run: f" {' '.join(_GLUED_WORD.findall(run[0]))} ", fold(part))
    text = f" {_words(text)} ".replace(" w o ", " without ")
    if not bracketed and text.strip() in BRACKET_ONLY:
        return frozenset()
    opener = _OPENER.search(text)
    if opener and opener.end() < len(text) - 1 and _may_open(text[: opener.start()], opener[0], bracketed):
        return _opened_kinds(text, opener[0])
    return _closed_kinds(text, bracketed)


def _may_open(head: str, opener: str, bracketed: bool) -> bool:
    """Whether nothing, a label, or in a bracket names (*iTunes Live from London*) stand before an opener."""
    words = head.split()
    if not words or _closed_kinds(head, bracketed):
        return True
    return bracketed and len(words) <= 4 and opener not in GUESTS and words[-1] not in NOT_BEFORE_LIVE


def _found(text: str, phrases: dict[str, re.Pattern[str]]) -> set[str]:
    return {kind for kind, pattern in phrases.items() if pattern.search(text)}


def _opened_kinds(text: str, opener: str) -> frozenset[str]:
    if opener in GUESTS and text.startswith(f" {opener} "):
        return frozenset({"guest"} | (_found(text, _FREE) & STRONG))
    return frozenset(_found(text, _FREE) or {"original"})


def _closed_kinds(text: str, bracketed: bool) -> frozenset[str]:
    """Kinds of a part that holds nothing but phrases, fillers, and names before the last phrase."""
    kinds = _found(text, _FREE)
    fillers = FILLERS | BACKING_FILLERS if kinds & STRONG else FILLERS
    others = [w for w in _ANY.sub("", text).split() if w not in fillers and not w.isdecimal()]
    if not others:
        kinds = kinds | _found(_ANY_FREE.sub("", text), _ALONE) or _filler_kinds(text.split())
        return frozenset(kinds) if kinds != {"backing"} else frozenset()
    return _named_kinds(text, kinds, bracketed)


def _filler_kinds(words: list[str]) -> set[str]:
    if not words or "vocal" in words:
        return {"guided"} if words else set()
    if DESCRIPTORS.intersection(words) or (words[-1] in VERSION_WORDS and len(words) > 1):
        return {"original"}
    if words[-1] == "mix" and NOT_BEFORE_PHRASE.isdisjoint(words[-2:-1]):
        return {"remix"} if len(words) == 1 else {"remaster"}
    return set()


def _named_kinds(text: str, kinds: set[str], bracketed: bool) -> frozenset[str]:
    """Kinds of a part that ends with a phrase after names: *Theo Moreau Remix*, *Piano Instrumental*."""
    last = max(_ANY_FREE.finditer(text), key=lambda phrase: phrase.end(), default=None)
    if last and all(w in FILLERS or w.isdecimal() for w in text[last.end() :].split()):
        kinds = {"remix"} if last[0] == "edit" else kinds
        before = text[: last.start()].split()[-1:]
        refused = NOT_BEFORE_LIVE if last[0] == "live" else NOT_BEFORE_PHRASE
        # After a dash, the names may be the song's ("Artist - Song Live"), but those of a remix are not.
        fits = refused.isdisjoint(before) and (bracketed or "remix" in kinds) and kinds != {"backing"}
        return frozenset(kinds if fits else ())
    *before, end = text.split()
    if kinds or not before or before[-1] in NOT_BEFORE_PHRASE:
        return frozenset()
    return frozenset({"remix"} if end == "mix" else {"alternate"} if end in VERSION_WORDS else ())


def _album_kinds(album: str) -> set[str]:
    _, kinds, _parts = _strip(album)
    words = _words(fold(album))
    kinds |= {kind for kind, pattern in ALBUM_KINDS if re.search(pattern, words)}
    if "remixes" in words.split():
        # The single's own mix is usually among its remixes.
        kinds.discard("remix")
    return kinds - {"guest", "original"}


def _version(kinds: set[str]) -> str:
    backing = kinds & WITHOUT_LEAD
    if "style" in kinds:
        return "karaoke" if backing else "cover"
    if "guided" in kinds and backing:
        return "cover"
    if "backing" in kinds and backing:
        return "tv_track"
    return next((version for version in VERSIONS if version in kinds), "original")
