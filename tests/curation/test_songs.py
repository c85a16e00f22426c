import random

from hypothesis import given
from hypothesis import strategies as st

from curation.songs import Compared, choose_pairs


def _pair(
    mixture: str,
    instrumental: str,
    *,
    confidence: float = 1.0,
    residual_db: float = -30.0,
    version: str = "instrumental",
) -> Compared:
    return Compared(
        f"{mixture}-{instrumental}",
        mixture,
        instrumental,
        is_pair=True,
        is_same=False,
        confidence=confidence,
        residual_db=residual_db,
        mixture_version="original",
        instrumental_version=version,
    )


def _same(a: str, b: str) -> Compared:
    return Compared(f"{a}={b}", a, b, False, True, 0.0, -30.0, "original", "original")


def test_the_pair_with_the_smaller_residual_is_chosen_and_the_other_listed() -> None:
    verdicts = choose_pairs([_pair("m", "lossy", residual_db=-18), _pair("m", "lossless", residual_db=-45)])
    assert verdicts["m-lossless"].status == "chosen"
    assert verdicts["m-lossy"].status == "alternative"
    assert verdicts["m-lossy"].song_id == verdicts["m-lossless"].song_id == "m"


def test_an_instrumental_with_backing_vocals_is_no_mixture() -> None:
    verdicts = choose_pairs([_pair("mix", "tv", version="tv_track"), _pair("mix", "inst"), _pair("tv", "inst")])
    assert verdicts["mix-inst"].status == "chosen"
    assert verdicts["mix-tv"].status == "alternative"
    assert verdicts["tv-inst"].status == "refused"
    assert "both are instrumentals" in str(verdicts["tv-inst"].reason)


def test_two_masters_of_one_mixture_make_one_song() -> None:
    verdicts = choose_pairs([_pair("m1", "i1"), _pair("m2", "i2"), _same("m1", "m2")])
    assert sorted(v.status for k, v in verdicts.items() if "-" in k) == ["alternative", "chosen"]
    assert verdicts["m1=m2"].status == "refused"


@st.composite
def _compared(draw: st.DrawFn) -> list[Compared]:
    tracks = [f"t{i}" for i in range(draw(st.integers(2, 7)))]
    found: dict[str, Compared] = {}
    for _ in range(draw(st.integers(0, 12))):
        a, b = draw(st.permutations(tracks))[:2]
        if f"{b}-{a}" in found:
            continue
        pair = _pair(a, b, confidence=draw(st.floats(0, 1)), residual_db=draw(st.floats(-60, 0)))
        found[pair.pair_id] = pair
    return list(found.values())


@given(_compared(), st.randoms())
def test_the_choice_does_not_depend_on_the_order(compared: list[Compared], chance: random.Random) -> None:
    shuffled = list(compared)
    chance.shuffle(shuffled)
    assert choose_pairs(shuffled) == choose_pairs(compared)


@given(_compared())
def test_every_song_has_one_chosen_pair_and_no_track_is_both(compared: list[Compared]) -> None:
    verdicts = choose_pairs(compared)
    assert set(verdicts) == {pair.pair_id for pair in compared}
    chosen = [pair for pair in compared if verdicts[pair.pair_id].status == "chosen"]
    songs = [verdicts[pair.pair_id].song_id for pair in chosen]
    assert len(songs) == len(set(songs))
    assert {verdicts[p.pair_id].song_id for p in compared if verdicts[p.pair_id].status == "alternative"} <= set(
        songs
    )
    assert not {pair.mixture_id for pair in chosen} & {pair.instrumental_id for pair in chosen}
