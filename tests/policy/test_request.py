"""What a request needs is found in its body, and never too little of it."""

import json

from hypothesis import given
from hypothesis import strategies as st

from longwatch.policy.request import PICTURE_TOKENS, Needs, needs_of
from longwatch.policy.tokens import most_tokens

ASK = {
    "model": "claude-haiku-4-5",
    "max_tokens": 300,
    "messages": [{"role": "user", "content": "Why is the sky blue?"}],
}


def needs(body: object, path: str = "/v1/messages", service: str = "anthropic") -> Needs:
    return needs_of(service, "post", path, body)


def test_a_message_names_its_model_its_prompt_and_its_longest_answer() -> None:
    found = needs(ASK, "/v1/messages?beta=true")
    assert (found.model, found.longest, found.caching, found.free) == ("claude-haiku-4-5", 300, "none", False)
    assert 8 <= found.prompt <= 60


def test_all_that_is_sent_counts() -> None:
    tools = [{"name": "look", "description": "x " * 500, "input_schema": {"type": "object"}}]
    assert needs({**ASK, "tools": tools}).prompt > needs(ASK).prompt + 150
    assert needs({**ASK, "system": "y " * 500}).prompt > needs(ASK).prompt + 150


def test_a_picture_counts_by_the_piece_and_a_document_by_its_pages() -> None:
    picture = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0" + "A" * 900_000},
    }
    document = {"type": "document", "source": {"type": "base64", "data": "JVBERi0" + "A" * 900_000}}
    assert (
        PICTURE_TOKENS
        < needs({**ASK, "messages": [{"role": "user", "content": [picture]}]}).prompt
        < PICTURE_TOKENS + 99
    )
    assert needs({**ASK, "messages": [{"role": "user", "content": [document]}]}).prompt > 90_000


def test_what_only_looks_like_a_picture_counts_as_text() -> None:
    tool = {"type": "tool_use", "id": "t", "name": "look", "input": {"data": "\u4eba\u5de5\u667a\u80fd" * 5_000}}
    text = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "\u4eba" * 20_000}}
    for block in (tool, text):
        assert needs({**ASK, "messages": [{"role": "user", "content": [block]}]}).prompt > 20_000


def test_the_longest_time_in_the_cache_counts() -> None:
    short, long = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
    system = [
        {"type": "text", "text": "a", "cache_control": long},
        {"type": "text", "text": "b", "cache_control": short},
    ]
    assert needs({**ASK, "system": system}).caching == "1h"
    assert needs({**ASK, "cache_control": short}).caching == "5m"


def test_openai_counts_every_choice() -> None:
    body: dict[str, object] = {"model": "gpt-5", "messages": [], "n": 3, "max_completion_tokens": 50}
    found = needs(body, "/chat/completions", "openai")
    assert (found.longest, found.choices) == (50, 3)
    assert needs({"model": "gpt-5", "input": "a", "max_output_tokens": 7}, "/responses", "openai").longest == 7


def test_what_asks_no_model_is_free() -> None:
    assert needs_of("anthropic", "GET", "/v1/models", None) == Needs(free=True)
    assert needs(ASK, "/v1/messages/count_tokens").free
    assert not needs({"requests": []}, "/v1/messages/batches").free


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_body_is_read(body: object) -> None:
    found = needs({"model": "m", "messages": body, "max_tokens": body, "n": body})
    assert found.prompt > 0
    assert found.longest >= 0
    assert found.choices >= 1
    assert needs(body).prompt >= 0


@given(st.text())
def test_the_bound_is_never_below_a_letter_of_another_script_or_a_number(text: str) -> None:
    assert most_tokens(text.encode("utf-8", "replace")) >= len([letter for letter in text if letter > "\u07ff"])
    digits = "".join(letter for letter in text if letter in "0123456789")
    assert most_tokens(digits.encode()) >= len(digits) * 0.7


def test_the_bound_has_room_over_what_texts_were_measured_to_need() -> None:
    """Prose 3.2 characters a token, code 2.6, JSON 2.0."""
    prose = "The agent forgot why it had started, because its log had grown to fifty thousand tokens. " * 20
    code = (
        "def finish(tx: Transaction, run: Run) -> Task | None:\n    return None if tx.count('x', seq=run.seq) else run\n"
        * 20
    )
    table = json.dumps([{"id": number, "name": "agent", "state": "done", "money": "0.20 GBP"} for number in range(50)])
    for text, letters in ((prose, 3.2), (code, 2.6), (table, 2.0)):
        assert most_tokens(text.encode()) >= len(text) / letters
