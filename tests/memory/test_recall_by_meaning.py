"""Recall by meaning: with a real model, which a wheel brings, and with models that fail; the words are there in any case."""

import json
import logging
import math
import struct
import threading
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from longwatch import BudgetExceeded, GiveUp, LeaseLost, Memory
from longwatch.policy.kindred import KINDRED
from longwatch.policy.recall import query_of
from longwatch.policy.words import terms
from longwatch.runtime import embedding, recollect

TOLD = (
    "The paediatrician prescribed antibiotics for an ear infection.",
    "She adopted a spaniel from the shelter.",
    "The landlord raised the rent by ten percent.",
    "The invoice for Acme was settled twice, so its amount went back.",
    "Our supplier shipped the cartons late because of snow.",
    "The web server ran out of memory and crashed at midnight.",
    "He proposed to his girlfriend on a beach in Portugal.",
    "The bakery on the corner sells rye bread on Fridays.",
    "My neighbour keeps bees behind the shed.",
    "The choir sang in the old church until nine.",
    "A customer asked for a copy of the contract in French.",
    "The lawn was mown and the hedge was cut.",
    "Somebody got a new printer for the second floor.",
    "The doctor was on the train with us, by chance.",
    "Housing of the pump was cleaned and greased.",
    "The delivery of the piano took four men.",
    "Payment of members' fees begins in March.",
    "We watched the couple's film at the festival.",
    "The meeting was moved to the large room.",
    "Which computer goes to the museum was never said.",
)
ASKED = (
    ("Which medicine did a doctor give?", 0),
    ("Has somebody got a new dog?", 1),
    ("Is housing becoming more expensive?", 2),
    ("Was a customer's payment refunded?", 3),
    ("Why did boxes arrive after schedule?", 4),
    ("What made that computer fail?", 5),
    ("Did a couple get engaged?", 6),
)

Embed = Callable[[Sequence[str]], list[list[float]]]


@cache
def table() -> tuple[Tokenizer, bytes]:
    """Of WordLlama: words of a language model, each with 256 numbers of two bytes; nothing is fetched."""
    spec = find_spec("wordllama")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    held = (folder / "weights" / "l2_supercat_256.safetensors").read_bytes()
    head = int.from_bytes(held[:8], "little")
    (about,) = (each for name, each in json.loads(held[8 : 8 + head]).items() if name != "__metadata__")
    assert (about["dtype"], about["shape"][1]) == ("F16", 256)
    return Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json")), held[8 + head :]


def real(texts: Sequence[str]) -> list[list[float]]:
    """The mean of a text's words."""
    words, numbers = table()
    found: list[list[float]] = []
    for text in texts:
        rows = [struct.unpack_from("<256e", numbers, 512 * each) for each in words.encode(text).ids]
        found.append([sum(column) / len(rows) for column in zip(*rows, strict=True)])
    return found


@pytest.fixture
def told(memory: Memory) -> Memory:
    memory.record_many({"kind": "fact", "text": text, "thread": f"t{n}"} for n, text in enumerate(TOLD))
    return memory


def texts(memory: Memory, question: str, **given: Any) -> list[str]:
    return [hit.text for hit in memory.recall(question, **given)]


@pytest.mark.parametrize(("question", "answer"), ASKED)
def test_what_is_asked_in_other_words_is_found_by_a_real_model_and_missed_by_words(
    told: Memory, question: str, answer: int
) -> None:
    asked = query_of(question).terms
    kin = {other for term in asked for other in KINDRED.get(term, ())}
    assert not {*asked, *kin} & set(terms(TOLD[answer])), "they share no word"
    assert TOLD[answer] not in texts(told, question, limit=20)
    assert TOLD[answer] in texts(told, question, limit=3, embed=real)


def test_a_real_model_changes_nothing_of_what_the_words_find_whole(told: Memory) -> None:
    told.record("fact", "reservation XEHM4B of mia_li_3668 goes to SeaTac")
    for question in ("XEHM4B", "mia_li_3668", "reservation xehm4b", "bees behind the shed", "rye bread on Fridays"):
        assert texts(told, question, limit=1, embed=real) == texts(told, question, limit=1), question


def test_by_meaning_too_only_the_kinds_that_are_asked_for(told: Memory) -> None:
    told.record("decision", "The veterinarian looks after the hound.")
    found = told.recall("Has somebody got a new dog?", kinds=["decision"], embed=real)
    assert [hit.kind for hit in found] == ["decision"]


def test_of_a_large_memory_an_embedding_is_asked_about_what_the_words_have_found(told: Memory) -> None:
    told.record_many({"kind": "result", "text": f"parcel {n} was weighed"} for n in range(recollect.SMALL))
    asked: list[str] = []

    def embed(given: Sequence[str]) -> list[list[float]]:
        asked.extend(given)
        return real(given)

    assert texts(told, "which parcel did the paediatrician weigh", limit=3, embed=embed)[0] == TOLD[0]
    assert len(asked) <= 1 + recollect.POOL


def test_embeddings_are_asked_for_in_batches_cut_and_kept(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "BATCH", 7)
    memory.record("tool_output", "lantern " * 10_000)
    memory.record_many({"kind": "fact", "text": f"lantern {n}"} for n in range(30))
    sizes: list[int] = []
    longest: list[int] = []

    def embed(given: Sequence[str]) -> list[list[float]]:
        sizes.append(len(given))
        longest.append(max(len(text) for text in given))
        return [[1.0, float(len(text) % 5)] for text in given]

    memory.recall("which lantern", embed=embed)
    assert sizes == [7, 7, 7, 7, 4]
    assert max(longest) <= embedding.LONGEST
    memory.record("fact", "one more")
    memory.recall("which lantern", embed=embed)
    assert sizes[5:] == [1]


def empty(given: Sequence[str]) -> list[list[float]]:
    return [[] for _ in given]


def alike(given: Sequence[str]) -> list[list[float]]:
    return [[1.0, 0.0] for _ in given]


def raises(_: Sequence[str]) -> list[list[float]]:
    raise ConnectionError("the model is away")


def refused(_: Sequence[str]) -> list[list[float]]:
    raise BudgetExceeded("spent", budget="b", dimension="money", cap=1, spent=1, held=0, resets_at=None)


WRONG: dict[str, Callable[[Sequence[str]], Any]] = {
    "it raises": raises,
    "its call is refused": refused,
    "too few": lambda given: real(given)[:-1],
    "too many": lambda given: [*real(given), [1.0] * 256],
    "none": lambda given: [],
    "nothing": lambda given: None,
    "of several lengths": lambda given: [each[: 256 - n % 2] for n, each in enumerate(real(given))],
    "empty": empty,
    "not a number": lambda given: [[math.nan] * 256 for _ in given],
    "infinite": lambda given: [[math.inf] * 256 for _ in given],
    "too large": lambda given: [[1e200] * 256 for _ in given],
    "words": lambda given: [["a", "b"] for _ in given],
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_model_that_fails_leaves_it_to_the_words_and_says_so(
    told: Memory, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    question = "which doctor keeps bees behind the shed"
    by_words = told.recall(question)
    assert by_words[0].text == TOLD[8]
    with caplog.at_level(logging.WARNING, "longwatch"):
        assert told.recall(question, embed=WRONG[wrong]) == by_words
    assert [each.getMessage() for each in caplog.records] == ["recall goes by words alone: its embedding failed"]
    assert TOLD[0] in texts(told, ASKED[0][0], limit=3, embed=real), "nothing of it is kept"


def test_zeros_say_nothing(told: Memory, caplog: pytest.LogCaptureFixture) -> None:
    question = "which doctor keeps bees behind the shed"
    assert told.recall(question, embed=lambda given: [[0.0] * 3 for _ in given]) == told.recall(question)
    assert not caplog.records


@pytest.mark.parametrize("error", [GiveUp("no"), LeaseLost("gone"), KeyboardInterrupt()])
def test_what_tells_the_caller_to_stop_reaches_him(told: Memory, error: BaseException) -> None:
    def embed(_: Sequence[str]) -> list[list[float]]:
        raise error

    with pytest.raises(type(error)):
        told.recall("bees", embed=embed)


def test_while_a_model_is_slow_others_recall_by_words_and_what_is_redacted_meanwhile_is_not_kept(told: Memory) -> None:
    begun, go_on = threading.Event(), threading.Event()
    asked: list[str] = []

    def slow(given: Sequence[str]) -> list[list[float]]:
        begun.set()
        assert go_on.wait(30)
        asked.extend(given)
        return real(given)

    found: list[list[str]] = []
    thread = threading.Thread(target=lambda: found.append(texts(told, ASKED[0][0], limit=3, embed=slow)))
    thread.start()
    try:
        assert begun.wait(30)
        assert texts(told, "bees behind the shed", limit=1) == [TOLD[8]]
        told.redact("r3", "a secret")
    finally:
        go_on.set()
        thread.join(30)
    assert TOLD[0] in found[0]
    before = len(asked)
    texts(told, ASKED[0][0], embed=slow)
    assert len(asked) > before + 1, "it was embedded before the redaction"


def test_another_model_is_asked_anew(told: Memory) -> None:
    assert texts(told, ASKED[0][0], limit=3, embed=alike) != []
    assert TOLD[0] in texts(told, ASKED[0][0], limit=3, embed=real)


@pytest.mark.parametrize("made", ["closure", "default", "partial", "method"])
def test_functions_that_are_made_for_each_question_are_told_apart_by_their_models(told: Memory, made: str) -> None:
    class Model:
        def __init__(self) -> None:
            self.asked = 0

        def embed(self, given: Sequence[str]) -> list[list[float]]:
            self.asked += len(given)
            return real(given)

        def __eq__(self, _: object) -> bool:
            raise AssertionError("models need not be comparable")

        __hash__ = None  # type: ignore[assignment]

    def by(model: Model) -> Embed:
        def closed(given: Sequence[str]) -> list[list[float]]:
            return model.embed(given)

        def by_default(given: Sequence[str], model: Model = model) -> list[list[float]]:
            return model.embed(given)

        functions: dict[str, Embed] = {
            "closure": closed,
            "default": by_default,
            "partial": partial(Model.embed, model),
            "method": model.embed,
        }
        return functions[made]

    one, other = Model(), Model()
    for model in (one, one, other, other):
        told.recall(ASKED[0][0], embed=by(model))
    assert one.asked == other.asked == len(TOLD) + 1


def test_a_function_that_has_another_model_behind_it_is_asked_anew(told: Memory) -> None:
    numbers = 2

    def changing(given: Sequence[str]) -> list[list[float]]:
        return [[1.0] * numbers for _ in given] if numbers < 256 else real(given)

    told.recall(ASKED[0][0], embed=changing)
    numbers = 256
    told.recall(ASKED[1][0], embed=changing)
    assert TOLD[0] in texts(told, ASKED[0][0], limit=3, embed=changing)


class Apart:
    """Reads questions in another way than records, and counts both."""

    def __init__(self, numbers: int = 256) -> None:
        self.queries: list[str] = []
        self.documents: list[str] = []
        self.numbers = numbers

    def embed_query(self, text: str) -> list[float]:
        self.queries.append(text)
        return real([text])[0][: self.numbers]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        assert isinstance(texts, list)
        self.documents += texts
        return real(texts)


@pytest.mark.parametrize(("question", "answer"), ASKED)
def test_a_model_that_reads_questions_in_its_own_way_is_asked_so(told: Memory, question: str, answer: int) -> None:
    model = Apart()
    assert TOLD[answer] in texts(told, question, limit=3, embed=model)
    assert texts(told, question, limit=3, embed=model) == texts(told, question, limit=3, embed=real)
    assert model.queries == [question]
    assert len(model.documents) == len(TOLD)
    assert question not in model.documents


def test_a_question_that_is_a_record_too_is_read_both_ways(told: Memory) -> None:
    model = Apart()
    told.recall(TOLD[0], embed=model)
    assert model.queries == [TOLD[0]]
    assert TOLD[0] in model.documents


def test_a_model_whose_question_is_of_another_length_leaves_it_to_the_words(
    told: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    question = "which doctor keeps bees behind the shed"
    assert told.recall(question, embed=Apart(7)) == told.recall(question)
    assert [each.getMessage() for each in caplog.records] == ["recall goes by words alone: its embedding failed"]


def test_what_can_be_called_is_called(told: Memory) -> None:
    class Both(Apart):
        def __call__(self, given: Sequence[str]) -> list[list[float]]:
            return real(given)

    model = Both()
    assert TOLD[0] in texts(told, ASKED[0][0], limit=3, embed=model)
    assert not model.queries + model.documents
