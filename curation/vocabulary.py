"""Words and phrases that titles, albums and artists use for versions, in the languages of the world.

Data for `curation.versions`, which says how it is applied. Everything is matched on folded text: lower case,
no Latin, Greek or Cyrillic diacritics, single spaces for punctuation. Alternatives are separated by `` | ``;
a line break counts as a space.
"""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Phrases by kind. Kinds that are no versions: `style` was recorded by somebody else, `backing` keeps backing
# vocals, `guided` has a lead voice.
PHRASES = {
    "instrumental": r"""
        instrumenta(?!tion|list)\w* | strumental\w* | intrumental | instumental | instrumetal
        | instrumentin\w+ | enstrumantal\w* | inst | instr | off ?vocals? | vocals? off
        | no (?:lead )?vocals? | without (?:the )?vocals?
        | (?:no|without) (?:backing|background) vocals? | non vocal | vocal ?less | less vocals?
        | minus vocals? | vocals? removed | back(?:ing)? ?tracks? | accompaniment(?: tracks?)?
        | accompagnement | acompanamiento | acompanhamento | (?:music )?minus one | minus 1
        | hal[fb] ?playback | pista musical | base musicale | sin voz | sin voces | sem voz | sem vocais
        | sans voix | sans paroles | senza voce | ohne gesang | zonder zang | bez wokalu | bez vokalu
        | uden vokal | uten vokal | utan sang | ilman laulua | sozsuz | altyapi | podklad(?: muzyczny)?
        | zenei alap | nhac nen | khong loi | beat goc | music only | solo musica | tanpa vokal
        | минусовка | минус один | инструментал\w* | інструментал\w* | мінусівка | без слов | без вокала
        | ορχηστρικ\w+ | موسيقى فقط | بدون غناء | بدون كلمات | نسخة موسيقية | انسترومنتال | إنسترومنتال
        | بی کلام | بیکلام | אינסטרומנטלי | אינסטרומנטלית | פלייבק | इंस्ट्रुमेंटल | इंस्ट्रूमेंटल | इन्स्ट्रुमेंटल
        | ইন্সট্রুমেন্টাল | インストゥルメンタル | インストルメンタル | インストゥメンタル | インスト
        | オフボーカル | オフヴォーカル | オフ ボーカル | オフ ヴォーカル | ボーカルレス | ボーカルなし
        | 歌なし | 伴奏 | 纯音乐 | 純音樂 | 纯伴奏 | 純伴奏 | 无人声 | 無人聲 | 消音 | 演奏版
        | 인스트루멘탈 | 인스트루멘털 | 인스트 | 반주 | 반주곡 | 연주곡 | 경음악 | บรรเลง | ดนตรีบรรเลง""",
    "karaoke": r"""
        karaok\w* | sing ?a ?long | singback | performance tracks? | караоке | καραοκε | كاريوكي
        | کارائوکه | קריוקי | कराओके | কারাওকে | கரோக்கி | カラオケ | 卡拉ok | 가라오케 | 노래방
        | คาราโอเกะ""",
    "tv_track": r"""
        tv tracks? | tv mix | tv instrumental | television (?:track|mix) | lead vocals? (?:off|removed)
        | (?:no|minus|without|less) (?:the )?lead(?: vocals?)?""",
    "backing": r"""
        (?:with|w|incl|including|plus|mit|con|com|avec|och|med|met) (?:\w+ )?(?:back(?:ing|ground|up)(?: \w+)?
        | bgvs?|bvs?|choir|chorus|choeurs?|coros?|cori|chor|koor) | с бэк вокалом | с бэками
        | コーラス入り | コーラス付き | 带和声 | 帶和聲 | 和声伴奏 | 和聲伴奏 | 带和音 | 코러스 포함""",
    "guided": r"""
        (?:with|w) (?:lead |guide )?vocals? | vocal guide | guide vocals?""",
    "acapella": r"""
        a ?cc?app?ell?as? | akapell?a | vocals? only | only vocals? | isolated vocals? | vocal stems?
        | vox only | solo voz | solo voce | voix seule | nur gesang | акапелл?а | а капелл?а | ακαπελ\w*
        | アカペラ | 아카펠라 | 清唱 | 无伴奏 | 無伴奏 | 人声版 | 人聲版""",
    "style": r"""
        (?:in )?(?:the )?style of | (?:as )?(?:originally )?made (?:famous|popular) by | popularized by
        | (?:as )?originally (?:performed |recorded |sung )?by | as (?:performed|recorded|sung) by
        | (?:al|en el|no|ao|a) estilo d[eo] | dans le style de | a la maniere de | im stil von
        | nello stile di | in de stijl van | в стиле | w stylu | i stil med
        | (?:a )?(?:tribute|salute|homage|hommage) (?:to|a)""",
    "cover": r"""
        cover version | covers? | (?:glee )?cast version | кавер\w* | カバー | カヴァー | 歌ってみた
        | 커버 | 翻唱 | 翻自""",
    "live": r"""
        live (?:[a-z]+ ){1,4}\d{4}(?= $) | live | en vivo | en directo | ao vivo | en concierto
        | en concert | en public | dal vivo | in concerto? | in diretta | na zywo | na ?zivo | uzivo
        | eloben | canli(?: performansi?)? | konzert\w* | concert version
        | (?:live|bbc|peel|spotify|radio|kexp|aol|deezer|sirius\w*|maida vale|acoustic) sessions?
        | live lounge | tiny desk | концерт\w* | вживую | живьем | лайв | ζωντανα | ζωντανη | مباشر
        | حفلة | ライブ | ライヴ | 라이브 | 现场 | 演唱会 | 演唱會 | 現場版""",
    "remix": r"""
        remix\w* | rmx | ремикс\w* | remezcla | bootleg | mash ?up | re ?work\w* | re ?fix | re ?edit
        | remode | flip | dub | dub mix | vip | vip mix | club mix | dance mix | リミックス | 리믹스
        | 混音""",
    "demo": r"""
        demos? | rough mix | maqueta | maquette | демо\w* | デモ | 데모 | 小样 | 小樣""",
    "acoustic": r"""
        acoustic\w* | acustic[oa] | acoustique | akustik\w* | akustisch\w* | akustyczn\w* | акустик\w*
        | акустическ\w* | unplugged | stripped(?: down)? | (?:piano|guitar) (?:version|ver|mix)
        | アコースティック | 어쿠스틱 | 不插电 | 不插電""",
    "altered": r"""
        sped ?up | speed up | slowed(?: down)?(?: (?:and )?reverb)? | nightcore | 8d(?: audio)?
        | bass boosted | chopped and screwed""",
    "alternate": r"""
        (?:alternat\w+|alt|early) (?:mix|version|take|edit|cut|ending|lyrics?|vocals?) | outtakes?
        | rehearsal | take \d+ | re ?recorded | re ?recording | remake
        | (?:symphonic|orchestral|orchestra|strings?) (?:version|ver|mix)""",
    "extended": r"""
        extended\w* | 12 inch | 12 (?:mix|version|single) | maxi(?: version)? | long version
        | version (?:larga|longue|extendida) | удлиненн\w+ | ロングバージョン""",
    "radio_edit": r"""
        radio ?(?:edit|version|mix|cut|date) | (?:single|album|video|short|tv) edit | edit
        | edited version | short (?:version|ver|cut) | tv (?:size|version|ver)
        | (?:version|versao|edicion)(?: de)? radio | радио ?верс\w+ | tvサイズ | ショートバージョン""",
    "remaster": r"""
        (?:digital(?:ly)? )?remast\w* | rimasterizzat\w+ | ремастер\w* | リマスター | リマスタリング
        | 리마스터 | 重制版""",
}
# Too short or too common to stand after other words: (Mr), but not (Hello Mr).
PHRASES_ALONE = {
    "instrumental": r"""
        mr | bgm | minus | pista | playback | минус | мінус | фонограмма | instrum""",
    "acapella": r"""
        vocals | vox""",
    "original": r"""
        (?:original |official )?(?:motion picture )?soundtrack(?: version)? | ost
        | официальн\w+ (?:клип|видео|аудио)
        | official (?:music |lyric |live )?(?:video|audio|clip|visuali[sz]er) | clip officiel
        | (?:video|audio) oficial | (?:lyric|lyrics|music) video | (?:with |con )?(?:lyrics|letra)
        | free download | out now | m v | 公式 | 官方 | 官方版 | 歌词版 | 歌詞付き | 가사 | 뮤직비디오
        | 完整版 | フル | フルバージョン | 원곡""",
}
# Phrases after which any text may follow, and those of them that name guests.
OPENERS = r"""
    (?:feat|ft|featuring|starring) | (?:re)?mixed by | (?:remix|edit|cover|version) (?:by|of|feat|ft)
    | covered by | prod(?:uced)?(?: by)?
    | from the (?:original |netflix )?(?:motion picture|film|movie|series|musical|tv|album|game)
    | (?:recorded|captured|taped) live
    | (?:acoustic|unplugged|demo|sessions?|instrumental|karaoke|acapella|acappella|a cappella|rehearsal
    | backing track|(?:accompaniment|performance)(?: track)?|remast\w*
    | (?:instrumental|karaoke|acoustic|demo) version) (?:at|from|in|for|of|with|w|without|by|de|en|feat|ft)
    | live (?:at|from|en|au|aux|im|aus|dal|pa|desde|sessions?|acoustic|version|performance|recording|lounge)
    | live (?:for (?:radio|bbc)|with (?:the )?(?:orchestra|band|symphony|choir))
    | live (?:in|on|a)(?! (?:the |my |your |our |a |an |this )?(?:moment|love|peace|fear|sin|harmony|colou?r
    | me|you|it|us|little|lie|life|lot|bit|dreams?|day|now|hearts?|light|sun|shadows?|past|lies|night)\b)
    | (?:en vivo|en directo|ao vivo|dal vivo|en concert|en public|in concert|na zywo)
    (?:desde|en|em|no|na|a|au|at|in|z|w|from|al|alla)"""
GUESTS = _set("feat ft featuring starring")
# Words that say that a part is about the release; alone, that it is the song as first sold.
DESCRIPTORS = _set(
    """official explicit clean dirty uncensored censored amended mono stereo bonus hidden album single lp
    original lyric audio video videoclip clip mv pv hd hq 4k uhd deluxe vocal master atmos main full
    digital"""
)
# Of these and of the phrases, those too common to be a label after a dash without a bracket around them.
BRACKET_ONLY = _set(
    """album single original audio video clip vocal master main full digital clean dirty lyric lyrics letra
    hidden bonus dub flip vip mr bgm minus pista playback vocals vox edit demos covers cover inst instr
    soundtrack"""
)
# What may stand beside a phrase in a label.
FILLERS = DESCRIPTORS | _set(
    """version versions versione versionen versao versie versio versiyon versiyonu versja verze verzia
    verzio wersja ver vers v ve versi fassung edition edicion mix mixes edit track tracks cut take
    recording release the a an and of music lyrics new studio radio complete theme film movie tv cd ep
    vinyl dvd inch session sessions final unreleased originale style type with in jan january feb
    february mar march apr april may jun june jul july aug august sep sept september oct october nov
    november dec december 版 バージョン ヴァージョン 버전 入り 付き オリジナル 完整 версия версіа
    вариант трек เวอร์ชั่น نسخة"""
)
# What may also stand beside a phrase of a version without lead voice: (Karaoke Piano, Higher Key).
BACKING_FILLERS = _set("piano guitar key higher lower high low female male duet demo for video hits")
# Before a phrase, these make it a part of a sentence: (Run for Cover), (Where I Live).
NOT_BEFORE_PHRASE = _set("the my your his her our their a an this that to no some for under run and")
NOT_BEFORE_LIVE = NOT_BEFORE_PHRASE | _set(
    """i we you they he she it long who how where what why when let people still never always only just
    dont cant not will shall must could would should gotta wanna gonna or if men man love"""
)
# After names, these make an alternate version: (Spanish Version), (Taylor's Version).
VERSION_WORDS = _set(
    """version versione versionen versao versie versio versiyon versiyonu versja verze verzia verzio wersja
    ver vers fassung 版 バージョン ヴァージョン 버전 версия версіа"""
)
# These do not name a guest after *with*: (With You).
NOT_WITH = _set("you me him her them us it the a an my your his our their love or out no all this that")
# Kinds that no song title names by chance after a slash or a colon.
STRONG = _set("instrumental karaoke tv_track acapella")
# Before a title's last word, these make it a part of the title: The Instrumental.
NOT_BEFORE_LAST = _set("the a an this my your our no pure another some of is in like")
# Searched for in folded albums and artists.
ALBUM_KINDS = (
    (
        "instrumental",
        r"^(?:the )?instrumentals?$| instrumentals$| instrumental (?:album|versions?|edition|tracks|mixes)\b",
    ),
    (
        "karaoke",
        r"\bkaraoke (?:hits|vol|volume|versions?|classics|collection|party|favou?rites|songs|box|tracks)\b",
    ),
    ("karaoke", r"\b(?:backing|accompaniment|performance) tracks\b|\bin the style of\b|\bsing ?along\b"),
    (
        "live",
        r"^live$|^live (?:at|from|on|\d{4})\b|^live in (?!the moment)|\b(?:in concert|unplugged|live album)$",
    ),
    ("live", r"\blive (?:at|from) (?:the )?\w|\b(?:en vivo|en directo|ao vivo|dal vivo|na zywo)\b"),
    ("cover", r"(?:^| )covers$|\btribute to\b|\btribute$|\bcover (?:songs|album|versions)\b"),
)
ARTIST_KINDS = (
    (
        "karaoke",
        r"\b(?:karaoke|sing ?along|backing tracks?|minus one|accompaniment)\b|カラオケ|караоке|노래방",
    ),
    ("instrumental", r"\binstrumentals?$"),
    ("cover", r"\b(?:tribute|cover band|covers)\b"),
)
