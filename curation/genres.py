"""Genre tags, as people write them, to one small vocabulary.

Tags say ``Hip-Hop/Rap``, ``(17)``, ``Rock; Pop``, ``Música Clásica``, ``Deep House`` or ``ロック``.
`normalise_genre` gives one of `GENRES` for each of them, so that shares of genres (`curation.balance`) and strata
(`curation.splits`) mean something.

The vocabulary
--------------
==============  ==================================================================================
alternative     indie, grunge, shoegaze, emo, goth
ambient         new age, meditation, drone
blues
children        nursery rhymes, lullabies
classical       from early music to contemporary, opera, choirs
country         bluegrass, americana
electronic      house, techno, trance, drum and bass, dance, trip hop
experimental    noise, avant-garde, field recordings
folk            singer-songwriters, traditional music of Europe and North America
gospel          Christian music that names no other genre
hip-hop         rap, trap, grime
jazz            swing, big bands, fusion
latin           Latin America and the Caribbean in Spanish and Portuguese: salsa, samba, reggaeton, tango
metal
pop             schlager, chanson, variété, oldies, easy listening
punk            hardcore, post-punk
r&b             contemporary R&B, urban
reggae          ska, dub, dancehall
rock
soul            funk, disco, motown
soundtrack      films, games, musicals, anime
spoken          speech, comedy, audio books
world           Africa, Asia, the Middle East, and what shops call world music
other           a genre that this table does not know
unknown         no genre at all
==============  ==================================================================================

How a tag is read
-----------------
Case, accents and punctuation do not count (`curation.versions.title_key`), and numbers of ID3 are replaced by
their names. A tag that the table has as a whole is done (``Pop/Rock``). Otherwise it is taken apart at
separators, then at *and*, and the first part of which anything is known decides, since the main genre is named
first: ``Electronic, Folk`` is electronic. Within a part the longest known phrase decides, of equals the last one,
since what stands before a genre describes it: ``Latin Jazz`` is jazz, ``Swedish Death Metal`` metal; exceptions are
in the table (``Latin Pop``, ``Rock Clásico``). A word may end with a genre, as in German: ``Deutschrock``.

References
----------
ID3v1 genres 0 to 79 (id3.org, "ID3 tag version 2.3.0", appendix A) and Winamp's extensions 80 to 191. Parents of
sub-genres follow the trees of Discogs, iTunes and AllMusic; where they disagree, the last word decides.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from curation.versions import title_key
from manifests.errors import TableError

__all__ = ["GENRES", "OTHER", "UNKNOWN", "normalise_genre", "normalise_genres"]

OTHER = "other"
"""The genre of a tag that names none that is known."""

UNKNOWN = "unknown"
"""The genre of a song without a tag."""

# Alternatives are separated by `|`; a line break counts as a space. Spelling, case and accents are folded.
_PHRASES = {
    "alternative": """
        alternatif | alternativa | alternativo | alternativ | alternatief | alt | altrock | alternrock
        | alternative rock | alt rock | indie | independent | indie rock | indie pop | alternative pop
        | alt pop | grunge | shoegaze | shoegazing | emo | goth | gothic | gothique | darkwave | dark wave
        | coldwave | lo fi | lofi | slowcore | college rock | modern rock | альтернатива | альтернативная
        | альтернативный рок | инди | オルタナティブ | オルタナティヴ | オルタナ | インディー | インディーズ
        | 인디 | 인디음악 | 얼터너티브 | 另类 | 另類 | 另类摇滚 | 独立 | 獨立 | 独立音乐""",
    "ambient": """
        ambiente | ambience | ambiant | new age | newage | nueva era | meditation | meditative | meditacion
        | meditacao | relaxation | relaxing | relax | entspannung | healing | spa | yoga | sleep | space
        | dream | drone | nature sounds | эмбиент | нью эйдж | アンビエント | ヒーリング | ニューエイジ
        | 뉴에이지 | 명상 | 氛围 | 氛圍 | 新世纪 | 轻音乐 | 輕音樂""",
    "blues": "блюз | ブルース | 블루스 | 蓝调 | 藍調 | 布鲁斯 | μπλουζ | بلوز",
    "children": """
        childrens | child | kids | kid | kiddie | baby | babies | toddler | nursery | lullaby | lullabies
        | kinder | kindermusik | kinderlieder | kinderlied | enfants | enfant | enfance | jeunesse | comptines
        | infantil | infantiles | ninos | criancas | bambini | infanzia | kinderen | kinderliedjes | barn
        | barnmusik | barnsanger | lasten | lastenmusiikki | dzieci | dzieciece | detske | pro deti | gyerek
        | gyerekdal | cocuk | anak anak | lagu anak | детская | детские | детям | для детей | дитячі | παιδικα
        | اطفال | أطفال | ילדים | キッズ | 童謡 | こども | 子供 | 동요 | 어린이 | 키즈 | 儿童 | 兒童 | 儿歌
        | 兒歌 | 少儿""",
    "classical": """
        classic | klassik | klassisch | klassische | klassisk | klassiek | klassieke | klassinen | clasica
        | clasico | classica | classico | classique | classiques | klasyka | klasyczna | klasik | klasicka
        | komolyzene | neoclassical | neoklassik | baroque | barock | barroco | barocco | renaissance
        | medieval | early music | romantic | opera | oper | operetta | zarzuela | symphony | symphonic
        | symphonie | orchestral | concerto | chamber | kammermusik | sonata | choral | choir | chorus
        | lieder | art song | solo piano | string quartet | minimalism | классика | классическая
        | академическая | опера | κλασικη | كلاسيك | كلاسيكي | كلاسيكية | קלאסית | クラシック | クラッシック
        | オペラ | 클래식 | 오페라 | 古典 | 古典音乐 | 古典音樂 | 歌剧 | classics""",
    "country": """
        western | bluegrass | americana | honky tonk | outlaw | nashville | countrymusik | кантри | カントリー
        | 컨트리 | 컨츄리 | 乡村 | 鄉村 | 乡村音乐 | western swing | country pop""",
    "electronic": """
        electronica | electro | elektro | elektronik | elektronisch | elektronische | elektronisk
        | elektroniczna | elektronika | elektronicka | electronique | electronico | eletronica | eletronico
        | elettronica | elettronico | edm | idm | dance | danse | club | clubbing | house | techno | tekno
        | trance | goa | psybient | hardstyle | happy hardcore | gabber | terror | rave | breakbeat
        | breakbeats | breaks | breakcore | nu breakz | big beat | jungle | drumandbass | drumstep | dubstep
        | brostep | bass | garage | ukg | 2 step | trip hop | triphop | illbient | downtempo | downbeat
        | chill | chillout | chillwave | lounge | leftfield | glitch | minimal | acid | eurodance
        | italo disco | italo | eurodisco | euro disco | nu disco | hi nrg | electroclash | ebm | industrial
        | industro goth | aggrotech | futurepop | vaporwave | synthwave | retrowave | footwork | juke
        | moombahton | amapiano | gqom | kuduro | chiptune | 8 bit | bitpop | dj | disc jockey | turntablism
        | электроника | электронная | танцевальная | хаус | техно | транс | клубная | ηλεκτρονικη | الكترونية
        | إلكترونية | אלקטרונית | エレクトロニック | エレクトロニカ | エレクトロ | 電子音楽 | テクノ
        | トランス | ハウス | ダンス | 일렉트로닉 | 일렉트로니카 | 일렉 | 테크노 | 하우스 | 트랜스 | 댄스
        | 电子 | 電子 | 电子音乐 | 電子音樂 | 舞曲""",
    "experimental": """
        experimentell | experimentale | experimentales | noise | avantgarde | avant garde | abstract
        | musique concrete | electroacoustic | electro acoustic | sound art | field recording
        | field recordings | improvisation | plunderphonics | sound collage | outsider | экспериментальная
        | авангард | 実験音楽 | ノイズ | 실험음악 | 实验 | 實驗""",
    "folk": """
        folklore | folklor | folklorico | folclore | folcloristico | folkmusik | singer songwriters
        | songwriter | liedermacher | cantautor | cantautores | cantautore | cantautori | celtic | celtique
        | celta | keltisch | irish | scottish | traditional | traditionnel | traditionnelle | tradicional
        | tradizionale | trad | polka | cajun | zydeco | sea shanties | shanty | klezmer | balkan | volksmusik
        | volkstumlich | volkstumliche musik | visa | viser | folkemusikk | folkemusik | kansanmusiikki
        | folkova | lidova | ludowa | ludowe | poezja spiewana | nepzene | turku | halk | old time
        | appalachian | nueva cancion | фолк | народная | народные | бард | барды | бардовская песня
        | авторская песня | этно | δημοτικα | έντεχνο | λαϊκά | שירה עברית | フォーク | 民謡 | 포크 | 민요
        | 民谣 | 民謠 | 民歌""",
    "gospel": """
        christian | ccm | worship | praise | spiritual | spirituals | religious | religieux | religiosa
        | religiosas | sacra | cristiana | cristiano | catolica | evangelica | louvor | adoracion | louange
        | sacred | inspirational | hymns | lobpreis | geistlich | lovsang | христианская | духовная | ゴスペル
        | 가스펠 | 찬송가 | 福音 | gospel choir""",
    "hip-hop": """
        hiphop | rap | drill | grime | crunk | gangsta | g funk | boom bap | horrorcore | phonk | beats
        | beat tape | lo fi beats | хип хоп | рэп | реп | хіп хоп | χιπ χοπ | راب | هيب هوب | היפ הופ | ראפ
        | ヒップホップ | ラップ | 힙합 | 랩 | 랩힙합 | 嘻哈 | 说唱 | 說唱 | 饶舌 | 饒舌""",
    "jazz": """
        jazz funk | bebop | bebob | bop | swing | big band | bigband | fusion | dixieland | ragtime
        | jazz rock | jazz latino | manouche | stride | third stream | jazzowa | джаз | τζαζ | جاز | ג'אז
        | ジャズ | 재즈 | 爵士 | 爵士乐 | 爵士樂""",
    "latin": """
        latina | latino | latinas | latin pop | rock en espanol | latin urban | urbano | musica urbana
        | latin rap | salsa | tropical | tropicalia | merengue | bachata | cumbia | vallenato | reggaeton
        | regueton | dembow | mambo | cha cha | rumba | bolero | boleros | son cubano | timba | cuban | tango
        | milonga | samba | pagode | bossa | bossanova | mpb | brazilian | brasileira | brasil | brazil
        | choro | forro | sertanejo | sertaneja | axe | baile funk | funk carioca | brega | mariachi
        | ranchera | rancheras | regional mexicano | regional mexican | musica mexicana | musica tejana
        | tejano | norteno | nortena | banda | corrido | corridos | grupera | duranguense | boogaloo
        | latinska | латино | латина | латинская | сальса | бачата | ラテン | ボサノヴァ | ボサノバ | サルサ
        | タンゴ | 라틴 | 보사노바 | 拉丁""",
    "metal": """
        metall | heavy | thrash | metalcore | deathcore | grindcore | grind | djent | doom | sludge
        | metal alternativo | metalowa | метал | металл | μεταλ | ميتال | מטאל | メタル | ヘヴィメタル
        | ヘビーメタル | 메탈 | 헤비메탈 | 金属 | 金屬 | 重金属 | 重金屬""",
    "pop": """
        pops | popular | top 40 | charts | oldies | oldie | retro | easy listening | standards | ballad
        | ballads | balada | baladas | pop dance | bubblegum | boy band | pop rock | new romantic | schlager
        | chanson | variete | varietes | variety | cabaret | leggera | canzone | nederlandstalig | levenslied
        | dansband | dansktop | iskelma | disco polo | piosenka | estrada | поп | популярная | эстрада | попса
        | шансон | ποπ | بوب | פופ | ポップ | ポップス | 歌謡曲 | 歌謡 | 演歌 | アイドル | ニューミュージック
        | 팝 | 팝송 | 가요 | 대중가요 | 발라드 | 케이팝 | 아이돌 | 트로트 | 流行 | 流行音乐 | 流行音樂
        | 华语流行 | 國語 | 国语 | 粤语 | 粵語 | adult contemporary | vocaloid | ボーカロイド | enka | Jポップ""",
    "punk": """
        punk rock | hardcore | punk pop | oi | riot grrrl | screamo | queercore | crust | psychobilly | панк
        | панк рок | хардкор | パンク | ハードコア | 펑크락 | 펑크록 | 朋克 | 龐克""",
    "r&b": """
        urban | neo soul | slow jam | slow jams | new jack swing | quiet storm | doo wop | pbrnb | rnb soul
        | р н б | рнб | 알앤비 | 알앤비 소울 | 节奏布鲁斯 | 節奏藍調""",
    "reggae": """
        ragga | raggamuffin | dub | dancehall | dance hall | ska | rocksteady | rock steady | roots
        | lovers rock | регги | рэгги | регі | ρεγκε | ريغي | レゲエ | スカ | 레게 | 雷鬼 | 雷鬼乐""",
    "rock": """
        roc | rocknroll | rockabilly | rock clasico | rock classico | rock classique | prog | psychedelic
        | psychadelic | psychedelia | jam | stoner | surf | glam | aor | new wave | no wave
        | neue deutsche welle | ndw | merseybeat | british invasion | beat | rock electronico | visual kei
        | acid punk | рок | ροκ | روك | רוק | ロック | ロックンロール | 락 | 록 | 락메탈 | 록메탈 | 로큰롤
        | 摇滚 | 搖滾 | 摇滚乐 | 搖滾樂""",
    "soul": """
        funk | funky | disco | motown | boogie | porn groove | go go | соул | фанк | диско | ソウル | ファンク
        | ディスコ | 소울 | 디스코 | 灵魂乐 | 靈魂樂 | 放克 | 迪斯科""",
    "soundtrack": """
        soundtracks | sound track | ost | score | scores | film | films | movie | movies | cinema | cinematic
        | filmmusik | filmmusikk | bande originale | bandes originales | bof | banda sonora | bandas sonoras
        | bso | trilha sonora | trilhas sonoras | colonna sonora | colonne sonore | filmzene | filmowa
        | filmova | stage and screen | tv | television | trailer | theme | themes | game | games | videogame
        | vgm | musical | musicals | musiktheater | broadway | showtunes | show tunes | theatre | theater
        | anime | animation | disney | саундтрек | саундтреки | музыка из фильмов | из кинофильмов | мюзикл
        | サウンドトラック | サントラ | アニメ | アニソン | ゲーム | ゲーム音楽 | 映画音楽 | ミュージカル
        | 사운드트랙 | 영화음악 | 드라마 | 뮤지컬 | 게임음악 | 애니메이션 | 原声 | 原声带 | 原聲帶 | 影视
        | 影视原声 | 电影原声 | 动漫""",
    "spoken": """
        speech | speeches | talk | comedy | humour | humor | satire | stand up | parody | pranks | podcast
        | podcasts | audiobook | audiobooks | audio book | audio theatre | audio drama | horspiel | horbuch
        | horspiele | kabarett | livre audio | audiolibro | audiolivro | poetry | poesie | poesia
        | radio drama | interview | lecture | sound clip | non music | аудиокнига | аудиокниги | юмор
        | разговорное | ドラマcd | 朗読 | 落語 | 有声书 | 相声""",
    "world": """
        worldbeat | monde | musica del mundo | musicas do mundo | musica dal mondo | weltmusik | wereldmuziek
        | varldsmusik | verdensmusikk | maailmanmusiikki | international | ethnic | ethnique | ethno | etnica
        | etnik | tribal | native american | african | africa | africaine | afro | afrobeat | afrobeats
        | afro beat | afropop | afro pop | highlife | soukous | mbalax | juju | asian | asia | indian
        | indian classical | hindustani | carnatic | filmi | hindi | tamil | telugu | punjabi | bhangra
        | ghazal | qawwali | devotional | arabic | arab | arabe | rai | turkish | turk sanat muzigi | arabesk
        | ozgun | middle eastern | oriental | persian | iranian | jewish | israeli | mizrahi | greek
        | rebetiko | flamenco | fado | gypsy | caribbean | calypso | soca | zouk | kompa | hawaiian
        | polynesian | dangdut | keroncong | gamelan | chinese | 국악 | 월드뮤직 | 월드 | ワールド
        | ワールドミュージック | 世界音乐 | 世界音樂 | 民族 | 民乐 | мировая | музыка мира | этническая
        | восточная | عربي | شعبي | טורקי | מזרחית | bollywood""",
}
# What says that a song has no genre.
_NOTHING = """
    unknown | unknown genre | none | no genre | not set | undefined | unclassified | untagged | na | n a
    | null | genre | genres | music | musik | musique | musica | muziek | muzyka | desconocido
    | desconhecido | inconnu | unbekannt | неизвестно | неизвестный | музыка | 不明 | 未知"""
# The numbers of ID3v1 and of Winamp's extensions, 0 to 191.
_ID3 = """
    Blues|Classic Rock|Country|Dance|Disco|Funk|Grunge|Hip-Hop|Jazz|Metal|New Age|Oldies|Other|Pop|R&B|Rap
    |Reggae|Rock|Techno|Industrial|Alternative|Ska|Death Metal|Pranks|Soundtrack|Euro-Techno|Ambient
    |Trip-Hop|Vocal|Jazz & Funk|Fusion|Trance|Classical|Instrumental|Acid|House|Game|Sound Clip|Gospel
    |Noise|AlternRock|Bass|Soul|Punk|Space|Meditative|Instrumental Pop|Instrumental Rock|Ethnic|Gothic
    |Darkwave|Techno-Industrial|Electronic|Pop-Folk|Eurodance|Dream|Southern Rock|Comedy|Cult|Gangsta
    |Top 40|Christian Rap|Pop/Funk|Jungle|Native American|Cabaret|New Wave|Psychedelic|Rave|Showtunes
    |Trailer|Lo-Fi|Tribal|Acid Punk|Acid Jazz|Polka|Retro|Musical|Rock & Roll|Hard Rock|Folk|Folk-Rock
    |National Folk|Swing|Fast Fusion|Bebop|Latin|Revival|Celtic|Bluegrass|Avantgarde|Gothic Rock
    |Progressive Rock|Psychedelic Rock|Symphonic Rock|Slow Rock|Big Band|Chorus|Easy Listening|Acoustic
    |Humour|Speech|Chanson|Opera|Chamber Music|Sonata|Symphony|Booty Bass|Primus|Porn Groove|Satire
    |Slow Jam|Club|Tango|Samba|Folklore|Ballad|Power Ballad|Rhythmic Soul|Freestyle|Duet|Punk Rock
    |Drum Solo|A Capella|Euro-House|Dance Hall|Goa|Drum & Bass|Club-House|Hardcore Techno|Terror|Indie
    |BritPop|Afro-Punk|Polsk Punk|Beat|Christian Gangsta Rap|Heavy Metal|Black Metal|Crossover
    |Contemporary Christian|Christian Rock|Merengue|Salsa|Thrash Metal|Anime|JPop|Synthpop|Abstract
    |Art Rock|Baroque|Bhangra|Big Beat|Breakbeat|Chillout|Downtempo|Dub|EBM|Eclectic|Electro|Electroclash
    |Emo|Experimental|Garage|Global|IDM|Illbient|Industro-Goth|Jam Band|Krautrock|Leftfield|Lounge
    |Math Rock|New Romantic|Nu-Breakz|Post-Punk|Post-Rock|Psytrance|Shoegaze|Space Rock|Trop Rock
    |World Music|Neoclassical|Audiobook|Audio Theatre|Neue Deutsche Welle|Podcast|Indie Rock|G-Funk|Dubstep
    |Garage Rock|Psybient"""

GENRES = (*_PHRASES, OTHER, UNKNOWN)
"""Every genre: the named ones in alphabetical order, then `OTHER` and `UNKNOWN`."""

# Genres with an "and" of their own, so that any other "and" parts two genres.
_JOINED = (
    (re.compile(r"\brh?ythm (?:and |n )?blues\b|\br ?(?:and|n) ?b\b"), "rnb"),
    (re.compile(r"\bdrums? ?(?:and|n) ?bass\b|\bd ?(?:and|n) ?b\b"), "drumandbass"),
    (re.compile(r"\brock (?:and|n) roll\b"), "rocknroll"),
)
_SEPARATOR = re.compile(r"[;,|/\\•>+\n\0，、；／]|\s[-–—]\s|:")
_NUMBER = re.compile(r"\((\d{1,3})\)|^\s*(\d{1,3})\s*$")
_ENDING = re.compile(r"\w(pop|rock|metal|punk|house|jazz|folk|blues|rap|techno|trance|reggae|country)$")


def normalise_genre(text: str | None) -> str:
    """Genre of a song, from what its tag says.

    Parameters
    ----------
    text : str, optional
        A genre tag in any language, or several in one. One of `GENRES` stays as it is.

    Returns
    -------
    str
        One of `GENRES`: ``'unknown'`` when the tag is empty or says that it is, ``'other'`` when it names
        nothing that is known.

    Examples
    --------
    >>> [normalise_genre(tag) for tag in ("Hip-Hop & Rap", "(17)", "R&B/Soul", "Deep House", "Música Clásica")]
    ['hip-hop', 'rock', 'r&b', 'electronic', 'classical']
    >>> normalise_genre("Zorblax"), normalise_genre(None)
    ('other', 'unknown')
    """
    named = _NUMBER.sub(_number_name, text or "")
    whole = _GENRE_OF.get(_key(named))
    if whole is not None:
        return whole
    parts = [key for key in map(_key, _SEPARATOR.split(named)) if any(map(str.isalnum, key))]
    found = [_GENRE_OF.get(part) or _longest_phrase(part) for part in parts]
    for genre in found:
        if genre is not None and genre != UNKNOWN:
            return genre
    return OTHER if None in found else UNKNOWN


def normalise_genres(genres: pd.Series[Any]) -> pd.Series[str]:
    """Genres of many songs; each distinct tag is read once.

    Parameters
    ----------
    genres : pd.Series of str
        Tags; nulls are songs without.

    Returns
    -------
    pd.Series of str
        With the index and name of `genres`; each value one of `GENRES`.

    Raises
    ------
    TableError
        If a value is neither text nor null.
    """
    codes, tags = pd.factorize(genres)
    for code, tag in enumerate(tags):
        if not isinstance(tag, str):
            row = int(np.flatnonzero(codes == code)[0])
            raise TableError(f"column '{genres.name}' has {tag} at row {row}; write genres as text, or null")
    # A null has the code -1, which takes the last.
    names = np.array([*map(normalise_genre, tags), UNKNOWN], dtype=object)
    return pd.Series(names[codes], index=genres.index, name=genres.name, dtype="str")


def _key(text: str) -> str:
    key = title_key(text)
    for pattern, joined in _JOINED:
        key = pattern.sub(joined, key)
    return key


def _phrases(listed: str) -> list[str]:
    return [" ".join(phrase.split()) for phrase in listed.split("|")]


_NUMBERED = _phrases(_ID3)
_GENRE_OF = {
    _key(phrase): genre
    for genre, listed in {UNKNOWN: _NOTHING, **_PHRASES}.items()
    for phrase in (genre, *_phrases(listed))
}
_MAX_WORDS = max(len(phrase.split()) for phrase in _GENRE_OF)


def _number_name(number: re.Match[str]) -> str:
    index = int(number[1] or number[2])
    return f";{_NUMBERED[index]};" if index < len(_NUMBERED) else ";"


def _longest_phrase(part: str) -> str | None:
    """Genre of the longest known phrase in a part, the first that has one of those that *and* joins."""
    for words in map(str.split, part.split(" and ")):
        runs = [
            words[start : start + length]
            for length in range(min(len(words), _MAX_WORDS), 0, -1)
            for start in range(len(words) - length, -1, -1)
        ]
        found = [genre for run in runs if (genre := _GENRE_OF.get(" ".join(run))) not in (None, UNKNOWN)]
        found += [_GENRE_OF[ending[1]] for word in reversed(words) if (ending := _ENDING.search(word))]
        if found:
            return found[0]
    return None
