"""Versions and titles as people write them; every case is a title that was met or could be."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import vocabulary
from curation.versions import (
    SAME_TAKE,
    VERSIONS,
    WITHOUT_LEAD,
    Label,
    artist_key,
    artist_names,
    fold,
    label,
    title_key,
)

LABELLED = [
    ("Song (Instrumental)", "Song", "instrumental"),
    ("Song [Instrumental]", "Song", "instrumental"),
    ("Song - Instrumental", "Song", "instrumental"),
    ("Song {Inst.}", "Song", "instrumental"),
    ("Song（Instrumental）", "Song", "instrumental"),
    ("Song【Instrumental】", "Song", "instrumental"),
    ("曲名【カラオケ】", "曲名", "karaoke"),
    ("【off vocal】曲名", "曲名", "instrumental"),
    ("曲名 -off vocal ver.-", "曲名", "instrumental"),
    ("曲名 ~instrumental~", "曲名", "instrumental"),
    ("曲名～Inst～", "曲名", "instrumental"),
    ("曲名(インストゥルメンタル)", "曲名", "instrumental"),
    ("曲名 (Off Vocal Version)", "曲名", "instrumental"),
    ("曲名(オリジナル・カラオケ)", "曲名", "karaoke"),
    ("曲名 (オリジナルカラオケ)", "曲名", "karaoke"),
    ("曲名 (カラオケ コーラス入り)", "曲名", "tv_track"),
    ("歌名 (伴奏)", "歌名", "instrumental"),
    ("歌名(伴奏版)", "歌名", "instrumental"),
    ("歌名 伴奏", "歌名", "instrumental"),
    ("歌名（国语伴奏）", "歌名", "instrumental"),
    ("歌名 (纯音乐)", "歌名", "instrumental"),
    ("歌名 (Live)", "歌名", "live"),
    ("歌名 (现场版)", "歌名", "live"),
    ("歌名 (国语版)", "歌名", "alternate"),
    ("제목 (Inst.)", "제목", "instrumental"),
    ("제목 (MR)", "제목", "instrumental"),
    ("제목 (라이브)", "제목", "live"),
    ("제목 (노래방 버전)", "제목", "karaoke"),
    ("제목 (반주)", "제목", "instrumental"),
    ("제목 (Feat. 누구)", "제목", "original"),
    ("Песня (Минус)", "Песня", "instrumental"),
    ("Песня (минусовка)", "Песня", "instrumental"),
    ("Песня (Караоке версия)", "Песня", "karaoke"),
    ("Песня (Инструментал)", "Песня", "instrumental"),
    ("Песня (Инструментальная версия)", "Песня", "instrumental"),
    ("Песня (Ремикс)", "Песня", "remix"),
    ("Песня (DJ Кто Ремикс)", "Песня", "remix"),
    ("Canción (Versión Instrumental)", "Canción", "instrumental"),
    ("Canción (Pista Musical)", "Canción", "instrumental"),
    ("Canción (En Vivo)", "Canción", "live"),
    ("Canción - En Vivo Desde Madrid", "Canción", "live"),
    ("Canción (Versión Karaoke)", "Canción", "karaoke"),
    ("Canción (Acústico)", "Canción", "acoustic"),
    ("Canción - Remasterizado 2010", "Canción", "remaster"),
    ("Chanson (Version instrumentale)", "Chanson", "instrumental"),
    ("Chanson (Karaoké)", "Chanson", "karaoke"),
    ("Chanson (Live à Bercy)", "Chanson", "live"),
    ("Chanson - Remasterisé en 2006", "Chanson", "remaster"),
    ("Lied (Instrumentalversion)", "Lied", "instrumental"),
    ("Lied (Karaoke-Version)", "Lied", "karaoke"),
    ("Lied (Halbplayback)", "Lied", "instrumental"),
    ("Lied (Ohne Gesang)", "Lied", "instrumental"),
    ("Lied (Akustik Version)", "Lied", "acoustic"),
    ("Lied - Live in Berlin", "Lied", "live"),
    ("Canzone (Versione Strumentale)", "Canzone", "instrumental"),
    ("Canzone (Strumentale)", "Canzone", "instrumental"),
    ("Canzone (Base Musicale)", "Canzone", "instrumental"),
    ("Canzone (Dal Vivo)", "Canzone", "live"),
    ("Canzone - Remastered 2008", "Canzone", "remaster"),
    ("Canção (Playback)", "Canção", "instrumental"),
    ("Canção (Ao Vivo)", "Canção", "live"),
    ("Canção (Ao Vivo em São Paulo)", "Canção", "live"),
    ("Canção (Versão Instrumental)", "Canção", "instrumental"),
    ("Liedje (Instrumentale Versie)", "Liedje", "instrumental"),
    ("Liedje (Instrumentaal)", "Liedje", "instrumental"),
    ("Låt (Instrumental)", "Låt", "instrumental"),
    ("Låt (Singback)", "Låt", "karaoke"),
    ("Piosenka (Wersja instrumentalna)", "Piosenka", "instrumental"),
    ("Piosenka (Podkład muzyczny)", "Piosenka", "instrumental"),
    ("Piosenka (Na żywo)", "Piosenka", "live"),
    ("Şarkı (Enstrümantal)", "Şarkı", "instrumental"),
    ("Şarkı (Karaoke)", "Şarkı", "karaoke"),
    ("Şarkı (Altyapı)", "Şarkı", "instrumental"),
    ("Şarkı (Akustik)", "Şarkı", "acoustic"),
    ("Laulu (Instrumentaali)", "Laulu", "instrumental"),
    ("أغنية (موسيقى فقط)", "أغنية", "instrumental"),
    ("أغنية (كاريوكي)", "أغنية", "karaoke"),
    ("गाना (इंस्ट्रूमेंटल)", "गाना", "instrumental"),
    ("गाना (कराओके)", "गाना", "karaoke"),
    ("Τραγούδι (Ορχηστρικό)", "Τραγούδι", "instrumental"),
    ("Τραγούδι (Instrumental)", "Τραγούδι", "instrumental"),
    ("שיר (קריוקי)", "שיר", "karaoke"),
    ("שיר (אינסטרומנטלי)", "שיר", "instrumental"),
    ("เพลง (คาราโอเกะ)", "เพลง", "karaoke"),
    ("Bài hát (Nhạc Nền)", "Bài hát", "instrumental"),
    ("Lagu (Minus One)", "Lagu", "instrumental"),
    ("Song (TV Track)", "Song", "tv_track"),
    ("Song (Instrumental with Backing Vocals)", "Song", "tv_track"),
    ("Song (Instrumental w/ Background Vocals)", "Song", "tv_track"),
    ("Song (Karaoke Version with Backing Vocals)", "Song", "tv_track"),
    ("Song (Minus Lead Vocal)", "Song", "tv_track"),
    ("Song (TV Mix)", "Song", "tv_track"),
    ("Song (Instrumental without Backing Vocals)", "Song", "instrumental"),
    ("Song (Inst. w/o Backing Vocals)", "Song", "instrumental"),
    ("Song (No Vocals)", "Song", "instrumental"),
    ("Song (Off-Vocal)", "Song", "instrumental"),
    ("Song (w/o Vocals)", "Song", "instrumental"),
    ("Song (Backing Track)", "Song", "instrumental"),
    ("Song (Minus One)", "Song", "instrumental"),
    ("Song (Instrumental Mix)", "Song", "instrumental"),
    ("Song (Extended Instrumental)", "Song", "instrumental"),
    ("Song (Accompaniment Track)", "Song", "instrumental"),
    ("Song (Performance Track)", "Song", "karaoke"),
    ("Song (Sing-Along Version)", "Song", "karaoke"),
    ("Song (In the Style of Adele) [Karaoke Version]", "Song", "karaoke"),
    ("Song [In the Style of Adele] (Instrumental)", "Song", "karaoke"),
    ("Song (Karaoke Version) [Originally Performed By Adele]", "Song", "karaoke"),
    ("Song (As Made Famous by Adele)", "Song", "cover"),
    ("Song (Originally by Adele)", "Song", "cover"),
    ("Song (Tribute to Adele)", "Song", "cover"),
    ("Song [Karaoke Version (In the Style of Adele)]", "Song", "karaoke"),
    ("Song - Karaoke Version Originally Performed by Adele", "Song", "karaoke"),
    ("Song (Al Estilo de Shakira) [Karaoke Version]", "Song", "karaoke"),
    ("Song (Karaoke with Lead Vocals)", "Song", "cover"),
    ("Song (Acapella)", "Song", "acapella"),
    ("Song (A Cappella)", "Song", "acapella"),
    ("Song (Acappella Version)", "Song", "acapella"),
    ("Song (Vocals Only)", "Song", "acapella"),
    ("Song (Studio Acapella)", "Song", "acapella"),
    ("Song (DIY Acapella)", "Song", "acapella"),
    ("Song (Live)", "Song", "live"),
    ("Song - Live", "Song", "live"),
    ("Song (Live at Vale Hall)", "Song", "live"),
    ("SONG (LIVE AT STONE HALL)", "SONG", "live"),
    ("Song - Live at Wembley - July 1986", "Song", "live"),
    ("Song - Live / Remastered", "Song", "live"),
    ("Song (Live Session)", "Song", "live"),
    ("Song (Recorded Live at X)", "Song", "live"),
    ("Song (Live 1995)", "Song", "live"),
    ("Song (Wembley Live)", "Song", "live"),
    ("Song (Live Version) [2011 Remaster]", "Song", "live"),
    ("Song (Live from the Royal Albert Hall, London / 2011)", "Song", "live"),
    ("Song - BBC Session", "Song", "live"),
    ("Song (MTV Unplugged)", "Song", "acoustic"),
    ("Song (Live in Tokyo)", "Song", "live"),
    ("Song (Live Tokyo 2004)", "Song", "live"),
    ("Song - Live in Paris, 1999", "Song", "live"),
    ("Song (Live Acoustic)", "Song", "live"),
    ("Song (Theo Moreau Remix)", "Song", "remix"),
    ("song (theo moreau remix)", "song", "remix"),
    ("Song - Theo Moreau Remix", "Song", "remix"),
    ("Song (Remix)", "Song", "remix"),
    ("Song (Remix) [feat. Jay]", "Song", "remix"),
    ("Song (Theo Moreau Mix)", "Song", "remix"),
    ("Song (Tiësto Edit)", "Song", "remix"),
    ("Song (Club Mix)", "Song", "remix"),
    ("Song (Theo Moreau Remix) [Instrumental]", "Song", "instrumental"),
    ("Song (Theo Moreau Instrumental Remix)", "Song", "instrumental"),
    ("Song (Theo Moreau Rework)", "Song", "remix"),
    ("Song (Mad Professor Dub)", "Song", "remix"),
    ("Song (Remix feat. X)", "Song", "remix"),
    ("Song (Remixed by X)", "Song", "remix"),
    ("Song (Cover)", "Song", "cover"),
    ("Song (Taylor Swift Cover)", "Song", "cover"),
    ("Song (Instrumental Cover)", "Song", "cover"),
    ("Song (Cover Version)", "Song", "cover"),
    ("Song (Glee Cast Version)", "Song", "cover"),
    ("Song (Cover by X)", "Song", "cover"),
    ("Song (Radio Edit)", "Song", "radio_edit"),
    ("Song - Radio Edit", "Song", "radio_edit"),
    ("Song (Single Edit)", "Song", "radio_edit"),
    ("Song (Edit)", "Song", "radio_edit"),
    ("Song (Radio Version)", "Song", "radio_edit"),
    ("曲名 (TVサイズ)", "曲名", "radio_edit"),
    ("曲名 (TV Size)", "曲名", "radio_edit"),
    ("Song (Radio Mix)", "Song", "radio_edit"),
    ("Song (Remastered)", "Song", "remaster"),
    ("Song - Remaster", "Song", "remaster"),
    ("Song (2038 Remaster)", "Song", "remaster"),
    ("Song - Remastered 2011", "Song", "remaster"),
    ("Song - 2011 Remastered Version", "Song", "remaster"),
    ("Song - 2015 Digital Remaster", "Song", "remaster"),
    ("Song - 2019 Mix", "Song", "remaster"),
    ("Song - Mono / Remastered", "Song", "remaster"),
    ("Song Remastered 2009", "Song", "remaster"),
    ("Song (Demo)", "Song", "demo"),
    ("Song - Demo", "Song", "demo"),
    ("Song (Demo Version)", "Song", "demo"),
    ("Song (Early Demo)", "Song", "demo"),
    ("Song (1998 Demo)", "Song", "demo"),
    ("Song (Home Demo)", "Song", "demo"),
    ("Song (Acoustic)", "Song", "acoustic"),
    ("Song - Acoustic Version", "Song", "acoustic"),
    ("Song (Piano Version)", "Song", "acoustic"),
    ("Song (Acoustic at the BBC)", "Song", "acoustic"),
    ("Song (Stripped)", "Song", "acoustic"),
    ("Song (Extended Mix)", "Song", "extended"),
    ("Song - Extended Version", "Song", "extended"),
    ('Song (12" Mix)', "Song", "extended"),
    ('Song - 12" Version', "Song", "extended"),
    ("Song (Sped Up)", "Song", "altered"),
    ("Song - Sped Up Version", "Song", "altered"),
    ("Song (Slowed + Reverb)", "Song", "altered"),
    ("Song (Nightcore)", "Song", "altered"),
    ("Song (Alternate Take)", "Song", "alternate"),
    ("Song (Take 3)", "Song", "alternate"),
    ("Song (Spanish Version)", "Song", "alternate"),
    ("Song (Taylor's Version)", "Song", "alternate"),
    ("Song - Spanish Version", "Song", "alternate"),
    ("Song (Album Version)", "Song", "original"),
    ("Song - Single Version", "Song", "original"),
    ("Song (Original Mix)", "Song", "original"),
    ("Song (Original Master)", "Song", "original"),
    ("Song (Explicit)", "Song", "original"),
    ("Song (Official Video)", "Song", "original"),
    ("Song (Official Music Video)", "Song", "original"),
    ("Song [Official Audio]", "Song", "original"),
    ("Song (Lyric Video)", "Song", "original"),
    ("Song [HD]", "Song", "original"),
    ("Song (Bonus Track)", "Song", "original"),
    ("Song - Bonus Track", "Song", "original"),
    ("Song (Mono)", "Song", "original"),
    ('Song (From "Frozen")', "Song", "original"),
    ('Song - From "Frozen"', "Song", "original"),
    ("Song (From the Motion Picture Frozen)", "Song", "original"),
    ("Song (Vocal Mix)", "Song", "original"),
    ('Song (7" Version)', "Song", "original"),
    ("Song [MV]", "Song", "original"),
    ("Song | Official Video", "Song", "original"),
    ("Song (prod. by X)", "Song", "original"),
    ("Song (feat. Iris Duarte)", "Song", "original"),
    ("Song feat. Iris Duarte", "Song", "original"),
    ("Song ft. Iris (Instrumental)", "Song", "instrumental"),
    ("Song (feat. X) [Instrumental]", "Song", "instrumental"),
    ("Song (feat. X) - Radio Edit", "Song", "radio_edit"),
    ("Song (with Iris Duarte)", "Song", "original"),
    ("Song feat. X - Instrumental", "Song", "instrumental"),
    ("Song (feat. The Covers)", "Song", "original"),
    ("Song (Instrumental) feat. X", "Song", "instrumental"),
    ("Summer Instrumental", "Summer", "instrumental"),
    ("Summer Karaoke Version", "Summer", "karaoke"),
    ("Breathe Forever (Instrumental V", "Breathe Forever", "instrumental"),
    ("Title-Instrumental", "Title", "instrumental"),
    ("Karaoke: Song", "Song", "karaoke"),
    ("[Karaoke] Song", "Song", "karaoke"),
    ("Song: Instrumental", "Song", "instrumental"),
    ("Song / Instrumental", "Song", "instrumental"),
    ("曲名 / off vocal", "曲名", "instrumental"),
    ("曲名 off vocal ver.", "曲名", "instrumental"),
    ("Song (Karaoke Piano, Higher Key)", "Song", "karaoke"),
    ("Song (Piano Karaoke)", "Song", "karaoke"),
    ("Song (Live (Instrumental))", "Song", "instrumental"),
    ("Song (Instrumental) (2011 Remaster)", "Song", "instrumental"),
    ("Song(Instrumental)", "Song", "instrumental"),
    ("Here Comes the Sun (Remastered 2009)", "Here Comes the Sun", "remaster"),
    ("Ignition (Remix)", "Ignition", "remix"),
    ("Instrumental (Live)", "Instrumental", "live"),
    ("Karaoke Queen (Karaoke Version)", "Karaoke Queen", "karaoke"),
    ("Live Forever (Live)", "Live Forever", "live"),
    ("Long Live (Taylor's Version)", "Long Live", "alternate"),
    ("Live Your Life (feat. Rihanna)", "Live Your Life", "original"),
    ("Karaoke - Live", "Karaoke", "live"),
    ("Instrumental - Remastered 2011", "Instrumental", "remaster"),
    ("Song (The Remix)", "Song", "remix"),
    ("Halo (iTunes Live from London)", "Halo", "live"),
    ("Amazing Grace (Accompaniment Track in C)", "Amazing Grace", "instrumental"),
    ("Oceans (Performance Track in Key of D with Background Vocals)", "Oceans", "tv_track"),
    ("Sucker (Backing Track Without Lead Vocal)", "Sucker", "tv_track"),
    ('Let It Go - From "Frozen" / Karaoke Version', "Let It Go", "karaoke"),
    ("Layla - Live at MTV Unplugged, Bray, England, UK, 1/16/1992", "Layla", "live"),
    ("Strawberry Fields Forever - Stereo Mix 2015 / Remastered", "Strawberry Fields Forever", "remaster"),
    ("All of Me (Tiësto's Birthday Treatment Remix) [Radio Edit]", "All of Me", "remix"),
    ("Yesterday (In The Style Of The Beatles - Karaoke Version)", "Yesterday", "karaoke"),
    ("Song (String Quartet Tribute to Coldplay)", "Song", "cover"),
    ("song_instrumental", "song", "instrumental"),
    ("Song *instrumental*", "Song", "instrumental"),
]
KEPT = [
    "드라이브 (드라이브)",
    "Bohemian Rhapsody - Live Aid",
    "Instrumental",
    "Karaoke Queen",
    "Live Forever",
    "Karaoke",
    "Live",
    "Cover Me",
    "The Remix",
    "Remix",
    "Demo",
    "Long Live",
    "Live and Let Die",
    "Live Wire",
    "Where I Live",
    "Song (Where I Live)",
    "Song (Live Forever)",
    "Song (Long Live)",
    "(I Can't Get No) Satisfaction",
    "The Instrumental",
    "Song (Karaoke Queen)",
    "Anna - Karaoke Queen",
    "Minus One",
    "In the Mix",
    "Song (In the Mix)",
    "Song (Run for Cover)",
    "Song (With You)",
    "Wait With Me",
    "Don't Stop (Live a Little)",
    "Song (Live in the Moment)",
    "Acoustic",
    "Radio",
    "Radio Ga Ga",
    "Original Sin",
    "Video Killed the Radio Star",
    "Another Brick in the Wall, Pt. 2",
    "Song (Part II)",
    "Song (Reprise)",
    "1999",
    "Song (1999)",
    "Sing",
    "伴奏",
    "カラオケ",
    "ライブラリ (ライブラリ)",
    "Минус",
    "Master of Puppets",
]


@pytest.mark.parametrize(("title", "song_title", "version"), LABELLED)
def test_label_is_read_and_taken_off(title: str, song_title: str, version: str) -> None:
    found = label(title)
    assert (found.song_title, found.version) == (song_title, version)
    assert found.qualifiers


@pytest.mark.parametrize("title", KEPT)
def test_a_song_keeps_a_name_that_only_looks_like_a_label(title: str) -> None:
    assert label(title) == Label(title, "original", ())


def test_a_bracket_that_is_the_whole_title_is_kept_and_labelled() -> None:
    assert label("[Instrumental]") == Label("[Instrumental]", "instrumental", ())


@pytest.mark.parametrize("brackets", ["()", "[]", "{}", "【】", "（）", "［］", "『』", "〔〕"])
@pytest.mark.parametrize(
    "word", ["Instrumental", "INSTRUMENTAL VERSION", "off vocal", "カラオケ", "伴奏", "минусовка"]
)
def test_any_bracket_will_do(brackets: str, word: str) -> None:
    for title in (f"Song {brackets[0]}{word}{brackets[1]}", f"{brackets[0]}{word}{brackets[1]}Song"):
        assert label(title).song_title == "Song"
        assert label(title).version in WITHOUT_LEAD


@pytest.mark.parametrize("dash", [" - ", " – ", " — ", "—", " | ", " / ", ": "])
def test_any_dash_will_do(dash: str) -> None:
    assert label(f"Song{dash}Karaoke Version") == Label("Song", "karaoke", ("Karaoke Version",))


def test_qualifiers_are_the_parts_as_written() -> None:
    title = "Song (feat. Iris Duarte) [Theo Moreau Remix] - Instrumental"
    assert label(title) == Label("Song", "instrumental", ("feat. Iris Duarte", "Theo Moreau Remix", "Instrumental"))


@pytest.mark.parametrize(
    ("title", "album", "version"),
    [
        ("Train", "Garden (Instrumentals)", "instrumental"),
        ("Train", "Garden [Instrumental Version]", "instrumental"),
        ("Train", "Garden Instrumentals", "instrumental"),
        ("Train", "Karaoke Hits Vol. 25", "karaoke"),
        ("Train", "River Covers", "cover"),
        ("Train", "A Tribute to The Roads", "cover"),
        ("Train", "Live 1995", "live"),
        ("Train", "Live at Vale Hall", "live"),
        ("Train", "Garden (Live)", "live"),
        ("Train", "Garden (2011 Remaster)", "remaster"),
        ("Train - Remastered", "Garden (Instrumentals)", "instrumental"),
        ("Train (feat. Iris)", "Garden (Instrumentals)", "instrumental"),
        ("Train (Acapella)", "Garden (Instrumentals)", "acapella"),
        ("Train (Vocal Version)", "Garden (Instrumentals)", "original"),
        ("Train (Theo Moreau Remix)", "Live 1995", "remix"),
        ("Train", "Train (Remixes)", "original"),
        ("Train", "Garden (Deluxe)", "original"),
        ("Train", "Train - Single", "original"),
        ("Karaoke Queen", "Karaoke Queen", "original"),
        ("Train", "Live Forever", "original"),
        ("Train", "Live Through This", "original"),
        ("Train", "Undercovers", "original"),
    ],
)
def test_the_album_speaks_where_the_title_is_silent(title: str, album: str, version: str) -> None:
    assert label(title, album=album).version == version


def test_the_artist_speaks_last() -> None:
    assert label("Train", artist="The Karaoke Crew").version == "karaoke"
    assert label("Train (Live)", artist="The Karaoke Crew").version == "live"
    assert label("Train", artist="Piano Tribute Players").version == "cover"
    assert label("Train", artist="Queen").version == "original"


def test_an_artist_before_the_title_is_taken_off() -> None:
    assert label("The Roads - Train (Official Video)", artist="The Roads").song_title == "Train"
    assert label("Live - Live", artist="Live") == Label("Live", "original", ())
    assert label("Other Band - Train", artist="The Roads").song_title == "Other Band - Train"


def test_versions_are_named_once_and_families_are_among_them() -> None:
    assert len(set(VERSIONS)) == len(VERSIONS)
    assert set(VERSIONS) > WITHOUT_LEAD | SAME_TAKE
    assert not WITHOUT_LEAD & SAME_TAKE


def test_vocabulary_is_folded() -> None:
    for words in (vocabulary.FILLERS, vocabulary.BRACKET_ONLY, vocabulary.VERSION_WORDS, vocabulary.STRONG):
        assert {fold(word) for word in words} == words


PIECES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            "Song",
            "(",
            ")",
            "[",
            "]",
            " - ",
            "Live",
            "Instrumental",
            "feat. X",
            "at",
            "伴奏",
            "~",
            "Remix",
            "the",
            "_",
        ]
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=8).map(" ".join))
def test_no_title_loses_everything(title: str) -> None:
    found = label(title)
    assert found.version in VERSIONS
    assert bool(found.song_title) == bool(title)
    if any(c.isalnum() for c in title):
        assert any(c.isalnum() for c in fold(found.song_title))


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=8).map(" ".join))
def test_labels_are_taken_off_at_once(title: str) -> None:
    once = label(title.replace("_", " ")).song_title
    assert label(once).song_title == once


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_keys_are_their_own_keys_and_never_vanish(text: str) -> None:
    for key in (title_key, artist_key):
        assert key(key(text)) == key(text)
        assert bool(key(text)) == bool(text)


@pytest.mark.parametrize(
    ("title", "same"),
    [
        ("Don’t Stop!", "dont stop"),
        ("Él & Ella", "el and ella"),
        ("ＦＵＬＬ Width", "full width"),
        ("Straße", "STRASSE"),
        ("Ёлка", "елка"),
        ("İstanbul", "istanbul"),
        ("Cafe\u0301", "Café"),
        ("Łódź", "lodz"),
        ("Song, Pt. 2", "song pt 2"),
    ],
)
def test_spellings_of_a_title_share_a_key(title: str, same: str) -> None:
    assert title_key(title) == title_key(same)


@pytest.mark.parametrize(
    ("one", "other"), [("がく", "かく"), ("हिन्दी", "हन्द"), ("Song Pt. 1", "Song Pt. 2"), ("!!!", "???")]
)
def test_different_titles_keep_different_keys(one: str, other: str) -> None:
    assert title_key(one) != title_key(other)


@pytest.mark.parametrize(
    ("artist", "names"),
    [
        ("AC/DC", ("AC/DC",)),
        ("M/A/R/R/S", ("M/A/R/R/S",)),
        ("Jay-Z/Linkin Park", ("Jay-Z/Linkin Park", "Jay-Z", "Linkin Park")),
        ("Simon & Garfunkel", ("Simon & Garfunkel", "Simon", "Garfunkel")),
        ("Earth, Wind & Fire", ("Earth, Wind & Fire", "Earth", "Wind", "Fire")),
        ("Lil Nas X feat. Billy Ray Cyrus", ("Lil Nas X", "Billy Ray Cyrus")),
        ("Ruby Hale (feat. Iris Duarte & Leo)", ("Ruby Hale", "Iris Duarte", "Leo")),
        ("RUBY HALE ft. Leo", ("RUBY HALE", "Leo")),
        ("A x B", ("A x B", "A", "B")),
        ("Queen; David Bowie", ("Queen; David Bowie", "Queen", "David Bowie")),
        ("BTS (방탄소년단)", ("BTS (방탄소년단)", "BTS", "방탄소년단")),
        ("初音ミク（CV:藤田咲）", ("初音ミク（CV:藤田咲）", "初音ミク", "藤田咲")),
        ("Beatles, The", ("Beatles, The",)),
        ("X", ("X",)),
        ("", ()),
        ("  ", ()),
    ],
)
def test_artist_credits_are_split_with_the_whole_first(artist: str, names: tuple[str, ...]) -> None:
    assert artist_names(artist) == names


def test_spellings_of_an_artist_share_a_key() -> None:
    assert artist_key("The Beatles") == artist_key("Beatles, The") == artist_key("BEATLES")
    assert artist_key("Ocean & the Broken Ones") == artist_key("Ocean and The Broken Ones")
    assert artist_key("Beyoncé") == artist_key("Beyonce")
    assert artist_key("The The") == "the"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_credit_gives_different_names_of_its_own(artist: str) -> None:
    names = artist_names(artist)
    assert not names or names[0] in artist
    assert len({artist_key(name) for name in names}) == len(names)
    assert all(name.strip() for name in names)
