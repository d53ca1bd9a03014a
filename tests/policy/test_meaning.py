"""What an embedding has to say: above what is usual, of replies, and the less the more the words have found."""

import pytest

from longwatch.policy.meaning import AGREED, BEHIND, MOST, SAY, SURE, blend, in_context, meant
from longwatch.policy.recall import Scored, Text


def said(*bodies: str, thread: str = "talk") -> dict[int, Text]:
    return {place: Text(place, thread, "ada", body, "message", 0) for place, body in enumerate(bodies, 1)}


def likenesses(texts: dict[int, Text], *alike: float) -> dict[int, float]:
    """Of texts whose vectors are as like the question as is given."""
    return meant((1.0, 0.0), {place: (value, 0.0) for place, value in zip(texts, alike, strict=True)}, texts)


def test_a_model_that_calls_everything_alike_is_taken_by_what_stands_out() -> None:
    apart = {place: Text(place, f"t{place}", "", "x", "fact", 0) for place in range(1, 5)}
    low, high = likenesses(apart, 0.0, 0.1, 0.0, 0.4), likenesses(apart, 0.8, 0.82, 0.8, 0.88)
    assert low == pytest.approx(high)
    assert low[4] > 1.5, "standard deviations"
    assert low[1] == low[3] == 0.0, "what is less like it than others is no worse than nothing"
    assert likenesses(apart, 0.5, 0.5, 0.5, 0.5) == {}
    assert likenesses(apart, 0.5, 0.5 + 1e-6, 0.5 - 1e-6, 0.5) == {}, "nothing but rounding"
    assert meant((1.0,), {}, {}) == {}


def test_a_reply_takes_more_from_its_question_than_a_record_from_the_one_before_and_the_question_nothing() -> None:
    def second(first: str, other: float = 0.0) -> tuple[float, float]:
        found = likenesses(said(first, "Mostly green.", "", "", "", "", "", ""), 1.0, other, 0, 0, 0, 0, 0, 0)
        return found[1], found[2]

    assert second("Which colours?")[1] > second("I painted it.")[1] > 0
    asking = likenesses(said("Which?", "Green.", "a", "b", "c", "d"), 0.4, 1.0, 0, 0, 0, 0)[1]
    telling = likenesses(said("I did.", "Green.", "a", "b", "c", "d"), 0.4, 1.0, 0, 0, 0, 0)[1]
    assert asking < telling


def test_another_conversation_has_nothing_to_say_for_a_record() -> None:
    texts = said("Which colours?", "Green.", "a", "b", "c", "d")
    apart = {**texts, 1: texts[1]._replace(thread="other")}
    assert likenesses(apart, 1.0, 0.1, 0, 0, 0, 0)[2] < likenesses(texts, 1.0, 0.1, 0, 0, 0, 0)[2]


def scores(words: list[Scored], meaning: dict[int, float], *chosen: int) -> dict[int, float]:
    return {each.place: each.score for each in blend(words, meaning, chosen or (1, 2, 3, 4))}


def test_the_more_the_words_have_found_the_less_a_likeness_says() -> None:
    def of_meaning(best: float) -> float:
        return scores([Scored(1, best)], {2: 3.0}).get(2, 0.0)

    assert of_meaning(0.1) == of_meaning(SURE - 1) == SAY
    assert 0 < of_meaning(SURE - 0.5) < SAY
    assert of_meaning(SURE) == of_meaning(9.0) == 0.0
    assert blend([], {2: 3.0, 3: 1.5, 4: 0.0}, [2, 3, 4]) == [Scored(2, SAY), Scored(3, SAY / 2)]


def test_a_model_that_picks_out_what_the_words_have_found_says_more() -> None:
    words = [Scored(2, 0.2), Scored(1, 0.5)]
    agreed = scores(words, {1: 3.0, 2: 0.0, 3: 6.0})
    assert agreed == pytest.approx({1: 0.5 + (SAY + 3 * AGREED) / 2, 2: 0.2, 3: SAY + 3 * AGREED})
    assert scores(words, {1: 30.0})[1] == pytest.approx(0.5 + SAY + MOST * AGREED)
    assert scores(words, {1: 0.0, 2: 3.0, 3: 6.0})[3] == pytest.approx(SAY), "the second by words is not asked"


def test_what_may_not_be_found_says_how_like_the_others_are() -> None:
    assert scores([], {1: 4.0, 2: 1.0}, 2) == {2: SAY / 4}


def test_a_record_is_read_behind_the_end_of_what_was_said_before_it() -> None:
    one, two = said("long " * 1_000 + "end", "Yes.").values()
    read = in_context(two, one)
    assert read.endswith("end ada: Yes.")
    assert len(read) < BEHIND + 20
    assert in_context(two._replace(thread="other"), one) == in_context(two, None) == "ada: Yes."
    assert in_context(two._replace(author=""), None) == "Yes."
