"""Recall: by words and their forms, with what stands beside, of whom and when it is asked for; whatever is typed."""

import random
from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

import longwatch
from longwatch import ConfigError, Longwatch, Memory
from longwatch.policy.tokens import most_tokens
from longwatch.runtime import recollect
from longwatch.store import search
from longwatch.testing.postgres import shared

TALK = (
    ("ada", "Hello bob, how was your weekend?"),
    ("bob", "I went to the harbour and painted two boats."),
    ("ada", "Nice. Which colours did you use?"),
    ("bob", "Mostly green, with a little white."),
    ("ada", "My sister bought a violin yesterday."),
    ("bob", "Does she play well?"),
    ("ada", "Not yet, she takes lessons on Tuesdays."),
)

ODD = ("", "   ", '"', "' OR 1=1 --", "a AND (b OR", "NEAR(x y)", "body:x", "*", "😀", "\0", "\ud800", "of the", "^-:")


def talk(memory: Memory, *, thread: str = "talk", at: datetime = datetime(2026, 3, 1, tzinfo=UTC)) -> None:
    memory.record_many(
        {"kind": "message", "text": text, "author": author, "thread": thread, "at": at} for author, text in TALK
    )


def noise(memory: Memory, number: int) -> None:
    dice = random.Random(3)
    said = "order customer parcel letter price week month bank report card".split()  # noqa: SIM905
    memory.record_many(
        {"kind": "result", "text": f"task {n}: {' '.join(dice.choices(said, k=7))}", "task": f"t{n}"}
        for n in range(number)
    )


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Longwatch]:
    """A fleet whose memories are asked by many tests; none of them takes anything away."""
    if request.param == "sqlite":
        with longwatch.open(tmp_path_factory.mktemp("kept") / "state.db") as lw:
            yield lw
        return
    url = shared().new_database()
    with longwatch.open(url) as lw:
        yield lw
    shared().drop(url)


@pytest.fixture(scope="module", params=["a small memory", "a large one"])
def filled(request: pytest.FixtureRequest, kept: Longwatch) -> Memory:
    memory = kept.memory(f"seo-{request.param.split()[1]}")
    noise(memory, 20 if request.param == "a small memory" else 2 * recollect.SMALL)
    talk(memory)
    return memory


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What did bob paint?", "I went to the harbour and painted two boats."),
        ("which instrument did ada's sister buy, a violin?", "My sister bought a violin yesterday."),
        ("when are the LESSONS", "Not yet, she takes lessons on Tuesdays."),
        ("harbor or harbour painting", "I went to the harbour and painted two boats."),
    ],
)
def test_words_are_found_in_their_other_forms(filled: Memory, question: str, answer: str) -> None:
    assert filled.recall(question, limit=3)[0].text == answer


def test_what_stands_beside_it_is_found_and_shown(filled: Memory) -> None:
    hits = filled.recall("which colours", limit=3)
    assert hits[0].text == "Mostly green, with a little white.", "the reply says none of the words"
    asked = hits[1]
    assert asked.text == "Nice. Which colours did you use?"
    assert asked.context[1:3] == (
        "bob: I went to the harbour and painted two boats.",
        "bob: Mostly green, with a little white.",
    )


def test_identifiers_are_found_whole_and_by_their_parts(filled: Memory) -> None:
    made = filled.record("fact", "reservation XEHM4B of mia_li_3668 goes to SeaTac")
    for question in ("XEHM4B", "mia_li_3668", "what of mia li", "xehm4b?"):
        assert filled.recall(question, limit=1)[0].id == made.id, question


def test_only_the_kinds_and_the_time_asked_for(memory: Memory) -> None:
    for year in (2024, 2025, 2026):
        memory.record("decision", f"refund acme, decided in {year}", at=datetime(year, 5, 1, tzinfo=UTC))
    memory.record("fact", "acme got a refund", at=datetime(2026, 6, 1, tzinfo=UTC))
    assert {hit.kind for hit in memory.recall("refund acme", kinds=["decision"])} == {"decision"}
    found = memory.recall("refund acme", since="2025-05-01", until="2025-05-01")
    assert [hit.text for hit in found] == ["refund acme, decided in 2025"]
    assert memory.recall("refund acme in 2024", limit=1)[0].text.endswith("2024")
    with pytest.raises(ConfigError):
        memory.recall("x", since="yesterday")
    with pytest.raises(ConfigError, match="did you mean decision"):
        memory.recall("x", kinds=["decison"])


def test_in_a_large_memory_too_only_the_time_asked_for(memory: Memory) -> None:
    noise(memory, 2 * recollect.SMALL)
    for year in (2024, 2025):
        memory.record("decision", f"refund acme, decided in {year}", at=datetime(year, 5, 1, tzinfo=UTC))
    found = memory.recall("refund acme", since="2024-05-01", until="2024-05-01", kinds=["decision", "fact"])
    assert [hit.text for hit in found] == ["refund acme, decided in 2024"]


@pytest.mark.parametrize("asked", [{}, {"since": "2020-01-01"}])
def test_in_a_large_memory_who_says_most_is_found_however_many_say_a_part(
    memory: Memory, asked: dict[str, Any]
) -> None:
    noise(memory, recollect.SMALL)
    answer = "the lantern of the harbour was mended"
    for number in range(2 * recollect.CANDIDATES):
        memory.record("fact", f"the harbour was quiet on day {number}")
        memory.record("fact", f"a lantern was lit on day {number}")
        if number == recollect.CANDIDATES:
            memory.record("fact", answer)
    assert memory.recall("harbour lantern", **asked)[0].text == answer
    assert memory.recall("day 110", limit=1, **asked)[0].text.endswith(" day 110")


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize("records", [60, 2 * recollect.SMALL])
def test_as_many_as_fit_into_so_many_tokens(memory: Memory, records: int) -> None:
    for number in range(records):
        memory.record("fact", f"the lantern {number} " + "was lit again " * (1 if number % 2 else 40))
    found = memory.recall("lantern", tokens=400, count=words)
    assert sum(words(hit.text) + recollect.NAMED for hit in found) <= 400
    assert len(found) > 10
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    by_the_bound = memory.recall("lantern", tokens=400)
    assert 0 < len(by_the_bound) < len(found)
    assert sum(most_tokens(hit.text.encode()) + recollect.NAMED for hit in by_the_bound) <= 400


def test_what_is_longer_than_what_is_left_is_passed_over(memory: Memory) -> None:
    memory.record("fact", "lantern " * 500)
    memory.record("fact", "the lantern is at the harbour")
    assert [hit.ref for hit in memory.recall("lantern", tokens=100)] == ["r2"]
    assert memory.recall("lantern", tokens=1) == []


def test_an_agents_memory_is_its_own(lw: Longwatch, memory: Memory) -> None:
    lw.memory("biller").record("fact", "acme pays late")
    noise(lw.memory("other"), 2 * recollect.SMALL)
    assert memory.recall("acme pays") == []
    assert [hit.text for hit in lw.memory("biller").recall("acme pays")] == ["acme pays late"]


@pytest.mark.parametrize("own", [3, 6, 9])
@pytest.mark.parametrize("part", [2, 0])
def test_among_records_of_others_an_agent_finds_its_own(
    lw: Longwatch, memory: Memory, own: int, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten records so many are its own. part: 0, it asks for its own alone."""
    monkeypatch.setattr(search, "PART", part)
    dice, rare = random.Random(own), [f"word{number}" for number in range(40)]
    answers = {" ".join(dice.sample(rare, k=5)): "" for _ in range(6)}
    for question in answers:
        answers[question] = memory.record("fact", f"{question}, and no others", thread="t").id
        lw.memory("other").record("fact", f"{question}, and others", thread="t")
    for theirs, number in ((memory, 250 * own), (lw.memory("other"), 250 * (10 - own))):
        said = (" ".join(dice.choices(rare, k=3)) for _ in range(number))
        theirs.record_many({"kind": "result", "text": text, "thread": "t"} for text in said)
    noise(memory, recollect.SMALL)
    lw.memory("other").record("fact", "the harbour is quiet")
    for question, answer in answers.items():
        found = memory.recall(question)
        assert (found[0].id, len(found)) == (answer, 10)
        assert {memory.show(hit.id).agent for hit in found} == {"seo"}
    assert memory.recall("harbour") == []


def test_what_others_say_everywhere_may_be_rare_with_the_agent(lw: Longwatch, memory: Memory) -> None:
    memory.record("fact", "the invoice goes to Harlow street", thread="t")
    for theirs, said in ((memory, "the website changed"), (lw.memory("biller"), "an invoice was sent")):
        theirs.record_many(
            {"kind": "result", "text": f"{said}, {n}", "thread": "u"} for n in range(recollect.SMALL + 50)
        )
    assert memory.recall("website invoice")[0].text == "the invoice goes to Harlow street"


def test_calls_are_found_only_when_they_are_asked_for(memory: Memory) -> None:
    memory.record("call", "stripe settled")
    assert memory.recall("stripe") == []
    assert [hit.kind for hit in memory.recall("stripe", kinds=["call"])] == ["call"]


def test_what_was_superseded_says_so(memory: Memory) -> None:
    old = memory.record("decision", "pay for links")
    memory.record("decision", "no paid links", supersedes=old.id)
    assert {hit.text: hit.state for hit in memory.recall("links")} == {
        "pay for links": "superseded",
        "no paid links": "live",
    }


@pytest.mark.parametrize(
    "question",
    [
        "",
        "   ",
        '"',
        "' OR 1=1 --",
        "a AND (b OR",
        "NEAR(x y)",
        "body:x",
        "*",
        "😀",
        "\0",
        "\ud800",
        "x" * 100_000,
        "the of and",
        "^-:",
    ],
)
def test_whatever_is_typed_is_a_question(filled: Memory, question: str) -> None:
    assert isinstance(filled.recall(question), list)
    assert isinstance(filled.recall(question * (10_000 if len(question) < 100 else 10)), list)


def test_words_that_are_everywhere_find_something_in_a_large_memory(memory: Memory) -> None:
    noise(memory, 12_000)
    hits = memory.recall("order customer parcel", limit=5)
    assert len(hits) == 5
    assert all({"order", "customer", "parcel"} & set(hit.text.split()) for hit in hits)
    assert len(memory.recall("order", limit=5)) == 5


def test_a_record_is_found_as_soon_as_it_was_written_and_from_every_process_handle(
    lw: Longwatch, memory: Memory
) -> None:
    noise(memory, 30)
    assert memory.recall("zebra") == []
    memory.record("fact", "a zebra crossed the road")
    assert lw.memory("seo").recall("zebras")[0].text == "a zebra crossed the road"


def test_a_snippet_shows_where_it_is_said(memory: Memory) -> None:
    memory.record("tool_output", "nothing here. " * 200 + "The zebra crossed the road. " + "nothing there. " * 200)
    (hit,) = memory.recall("zebra")
    assert "The zebra crossed the road." in hit.snippet
    assert len(hit.snippet) <= 162


def test_an_embedding_has_its_say(memory: Memory) -> None:
    """One that knows that a tadpole is an amphibian, which no word says."""
    memory.record("fact", "a shop sells food for tadpoles")
    for number in range(5):
        memory.record("fact", f"the corner shop number {number} sells things of all sorts and bread", thread="shops")
    asked: list[str] = []

    def embed(texts: Sequence[str]) -> list[list[float]]:
        asked.extend(texts)
        return [[1.0, 0.0] if "tadpole" in text or "amphibian" in text else [0.0, 1.0] for text in texts]

    question = "amphibian things that a shop sells"

    def place(**given: Any) -> int:
        return [hit.ref for hit in memory.recall(question, **given)].index("r1")

    assert place() == 5
    assert place(embed=embed) < 5
    before = len(asked)
    memory.recall(question, embed=embed)
    assert len(asked) == before, "what was embedded is kept"


def test_an_embedding_is_asked_what_a_record_means_after_what_was_said_before(memory: Memory) -> None:
    memory.record("message", "Which pet do you want?", author="Ann", thread="one")
    memory.record("message", "A pet that is green.", author="Ben", thread="one")
    memory.record("message", "Another pet thread.", thread="two")
    asked: list[str] = []

    def embed(texts: Sequence[str]) -> list[list[float]]:
        asked.extend(texts)
        return [[float(text == "Ann: Which pet do you want? Ben: A pet that is green."), 1.0] for text in texts]

    (_, *others) = memory.recall("pet", embed=embed)
    assert len(others) == 2
    assert {"Ann: Which pet do you want? Ben: A pet that is green.", "Another pet thread."} < set(asked)


def test_any_text_at_all_is_a_question_to_an_index(memory: Memory) -> None:
    noise(memory, 2 * recollect.SMALL)
    dice = random.Random(11)
    for _ in range(60):
        memory.recall("".join(chr(dice.randrange(32, 0x3000)) for _ in range(40)))
        memory.recall("".join(dice.choice("ab1²½ªᵃ ・_-'.@/\"*():^{}") for _ in range(30)))
