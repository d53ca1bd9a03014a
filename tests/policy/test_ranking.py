"""What ranks before what: replies, what questions are about, words that stand for others, times."""

from collections import Counter
from collections.abc import Sequence

import pytest

from longwatch.policy.kindred import ALIKE_TEXT, KINDRED, KINDS_TEXT
from longwatch.policy.recall import (
    SHORT,
    Corpus,
    Scored,
    Text,
    fitting,
    heads_of,
    may_say,
    query_of,
    rank,
    said_of,
    tells_when,
)
from longwatch.policy.words import IRREGULAR, STOP, stem, terms

ENDINGS = (
    "",
    "s",
    "es",
    "ed",
    "ing",
    "ly",
    "ness",
    "ies",
    "ization",
    "ations",
    "ational",
    "ably",
    "ities",
    "fulness",
    "'s",
    "’s",
)
WORDS = (
    "run",
    "city",
    "relat",
    "organ",
    "pass",
    "date",
    "use",
    "happi",
    "stud",
    "orderId",
    "ORDER_4711",
    "Straße",
    "ΟΔΟΣ",
    "don’t",
)
BODIES = [
    *IRREGULAR,
    *(f"{word}{ending}" for word in WORDS for ending in ENDINGS),
    *(word.title() for word in IRREGULAR),
]
IDLE = (
    "The bakery was closed on the corner again.",
    "My neighbour keeps bees behind the shed.",
    "We ran out of printer paper at noon.",
    "The tram came late because of the snow.",
    "Somebody left an umbrella in the hall.",
    "The kettle whistles like an old engine.",
)


def told(*said: str | tuple[str, str]) -> list[Text]:
    """A conversation of two who take turns, after enough that is beside the point. A pair names another conversation."""
    texts = [Text(place, "idle", "cleo", body, "message", 0) for place, body in enumerate(IDLE * 4, 1)]
    for number, each in enumerate(said):
        body, thread = (each, "talk") if isinstance(each, str) else each
        texts.append(Text(len(texts) + 1, thread, ("ada", "bob")[number % 2], body, "message", 0))
    return texts


def scored(question: str, texts: Sequence[Text]) -> dict[str, float]:
    """Scores by what is said, the best first."""
    having: Counter[str] = Counter()
    for text in texts:
        having.update(said_of(text.body).counts.keys())
    bodies = {text.place: text.body for text in texts}
    corpus = Corpus(len(texts), having)
    found = rank(query_of(question), texts, bodies.keys(), corpus, now_ms=0, limit=len(texts))
    return {bodies[each.place]: each.score for each in found}


def ranked(question: str, texts: Sequence[Text]) -> list[str]:
    return list(scored(question, texts))


def score(question: str, texts: Sequence[Text], body: str) -> float:
    return scored(question, texts).get(body, 0.0)


REPLY = "Heavy, but wonderfully sharp."


def test_a_reply_is_about_what_the_question_was_about() -> None:
    texts = told(
        "The keeper showed me his brass telescope.",
        "What did you make of it?",
        REPLY,
        ("A telescope would look good up there.", "other"),
        ("The keeper of the park was in a mood.", "other"),
    )
    assert REPLY in ranked("Was the keeper's brass telescope any good?", texts)[:3]


def test_a_long_question_says_itself_what_it_is_about() -> None:
    question = "What did you make of it?"
    telescope = "The keeper showed me his brass telescope."
    short = score("brass telescope", told(telescope, question, REPLY), REPLY)
    drawn_out = " ".join(["So there are some forms here that nobody signed."] * 8) + " " + question
    assert len(drawn_out) > SHORT
    assert score("brass telescope", told(telescope, drawn_out, REPLY), REPLY) < short


def test_what_stands_before_a_question_is_about_what_is_replied() -> None:
    before, reply = "I got something for the boat at last.", "A sextant, and a chart of the strait."
    asked = told(before, "Oh, what is it?", reply)
    not_asked = told(before, "Oh, good for you.", reply)
    assert score("sextant and chart", asked, before) > score("sextant and chart", not_asked, before)


def test_a_question_with_something_attached_is_a_question() -> None:
    reply = "Mostly green, with a little white."
    bare = told("Which colours are the rowing boats?", reply)
    attached = told("Which colours are the rowing boats? [a photo of a slipway]", reply)
    assert score("rowing boats", attached, reply) == pytest.approx(score("rowing boats", bare, reply), rel=0.05)
    assert said_of("Is it (see below)? (1) [2]").asks
    assert not said_of("It is. (is it?)").asks
    assert not said_of("]").asks
    assert not said_of("").asks


def test_a_question_of_another_conversation_is_not_replied_to() -> None:
    telescope = "The keeper showed me his brass telescope."
    one = score("brass telescope", told(telescope, "He talks a lot.", REPLY), REPLY)
    other = score("brass telescope", told(telescope, ("Shall we go?", "other"), REPLY), REPLY)
    assert other == pytest.approx(one, rel=0.05)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Where did they go on vacation?", "The trip to the dunes was windy."),
        ("Which instruments does he play?", "He practises the cello on the roof."),
        ("What did the physician advise?", "The doctor said to rest for a fortnight."),
        ("Why did the deployment break?", "The release had an empty migration."),
        ("How was the invoice handled?", "We settled the bill by wire."),
    ],
)
def test_a_word_that_stands_for_another_is_found(question: str, answer: str) -> None:
    texts = told("The pond froze over, and ducks walked on it.", answer)
    assert ranked(question, texts)[0] == answer


def test_the_word_itself_ranks_before_what_stands_for_it() -> None:
    itself, other = "The journey was long and wet.", ("The trip was long and wet.", "other")
    assert ranked("journey", told(itself, other))[0] == itself
    assert ranked("trip", told(itself, other))[0] == other[0]


def test_one_of_a_kind_does_not_stand_for_another() -> None:
    texts = told("He practises the cello on the roof.")
    assert ranked("violin", texts) == []
    assert ranked("instrument", texts) != []


def test_who_asks_when_is_answered_by_who_tells_a_time() -> None:
    timeless = "The roof of the barn was mended by the twins."
    timely = ("Two days ago the twins mended the roof of the barn.", "other")
    assert ranked("When was the roof of the barn mended?", told(timely, timeless))[0] == timely[0]
    assert ranked("Who mended the roof of the barn?", told(timely, timeless))[0] == timeless


@pytest.mark.parametrize("body", ["on Friday", "three weeks ago", "last winter", "in 2019", "the 4th", "since then"])
def test_a_time_is_told(body: str) -> None:
    assert tells_when(body)


@pytest.mark.parametrize("body", ["it may be", "the last piece", "march", "four horses", "the weekly"])
def test_no_time_is_told(body: str) -> None:
    assert tells_when(body) == (body == "march"), "a month is one, whatever else it may mean"


def test_who_tells_ranks_before_who_asks() -> None:
    tells, asks = "The hinge of the gate is rusty.", ("Is the hinge of the gate rusty?", "other")
    assert ranked("rusty hinge of the gate", told(tells, asks))[0] == tells


def test_the_list_of_kindred_words_is_in_order() -> None:
    groups = [line.split() for line in ALIKE_TEXT.strip().splitlines()]
    assert all(len(group) > 1 for group in groups)
    kinds = [line.partition(":") for line in KINDS_TEXT.strip().splitlines()]
    written = [word for group in groups for word in group]
    written += [word for kind, _, members in kinds for word in (kind, *members.split())]
    assert not STOP.intersection(written), "a stop word is never asked for"
    assert all(terms(word) == [stem(word)] for word in written), "words that are found by their stems"
    assert all(term not in others for term, others in KINDRED.items())
    assert max(map(len, KINDRED.values())) <= 16, "the cost of a question is bounded"


def test_behind_the_first_ten_several_short_ones_go_before_a_long_one() -> None:
    scored = [Scored(place, 100.0 - place) for place in range(20)]
    sizes = dict.fromkeys(range(20), 1) | {3: 20, 10: 80, 12: 80}
    assert [each.place for each in fitting(scored, sizes, 114)] == [*range(10), 11, *range(13, 20)]
    assert [each.place for each in fitting(scored, sizes, 21)] == [0, 1, 2, *range(4, 10), 11, *range(13, 20)]


@pytest.mark.parametrize(
    "question", ["Where did the surveyors find the ruined cities?", "What was bought in Q3?", "qzxj flurb"]
)
def test_texts_that_are_seen_once_rank_as_those_that_are_kept(question: str) -> None:
    said = [
        "A surveyor found the city.",
        "RuinedCities are listed in city_ruins.txt",
        "She buys it.",
        "Don’t you? I didn't buy q3",
    ]
    texts = told(*said)
    having = Counter(term for text in texts for term in said_of(text.body).counts)
    asked = query_of(question), texts, range(1, len(texts) + 1), Corpus(len(texts), having)
    once = rank(*asked, now_ms=0, limit=50, again=False)
    assert once == rank(*asked, now_ms=0, limit=50)


def test_whatever_says_a_term_has_a_word_that_begins_like_it() -> None:
    said = {body: said_of(body).counts.keys() for body in BODIES}
    for term in {term for found in said.values() for term in found}:
        heads = heads_of([term])
        assert [body for body, found in said.items() if term in found and not may_say(body, heads)] == []
