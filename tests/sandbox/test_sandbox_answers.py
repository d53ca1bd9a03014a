"""Answers, token counts and prices are functions of the prompt."""

import hashlib

import pytest

from longwatch.sandbox import Price, expected_answer, prompt_digest
from longwatch.sandbox.prices import ANTHROPIC, OPENAI, Usage, cost_micros, find

MODULE = '''"""Keep the ledger.

More words."""

import os


class Ledger:
    def add(self) -> None: ...

    async def sum(self) -> int: ...


def main() -> None: ...
'''


def test_python_source_is_summarized_by_its_docstring_and_counts() -> None:
    messages = [{"role": "user", "content": f"Summarize:\n\n{MODULE}"}]
    digest = hashlib.sha256(f"user: Summarize:\n\n{MODULE}".encode()).hexdigest()
    lines = MODULE.count("\n") + 3
    assert expected_answer(messages) == f"Keep the ledger. (1 classes, 3 functions, {lines} lines) [{digest[:12]}]"


def test_other_text_is_repeated_with_its_digest() -> None:
    messages = [{"role": "user", "content": "Good   morning"}]
    assert expected_answer(messages) == f"You said: Good morning (2 words) [{prompt_digest(messages)[:12]}]"


def test_the_system_text_changes_the_answer_and_blocks_say_what_text_says() -> None:
    plain = [{"role": "user", "content": "hi"}]
    blocks = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    assert expected_answer(plain) == expected_answer(blocks)
    assert prompt_digest(plain, system="Be brief.") != prompt_digest(plain)
    assert prompt_digest([{"role": "system", "content": "Be brief."}, *plain]) == prompt_digest(
        plain, system="Be brief."
    )


def test_an_answer_ends_at_max_tokens_or_a_stop_sequence() -> None:
    messages = [{"role": "user", "content": "one two three"}]
    assert expected_answer(messages, max_tokens=3) == "You said: on"
    assert expected_answer(messages, stop_sequences=["three", "two"]) == "You said: one "


@pytest.mark.parametrize(
    ("model", "usage", "micros"),
    [
        ("claude-opus-5-5", Usage(1_000_000, 0, 0, 0, 1_000_000), 24_000_000),
        ("claude-sonnet-5-5", Usage(0, 1_000_000, 1_000_000, 1_000_000, 0), 2_500_000 + 4_000_000 + 100_000),
        ("claude-haiku-5-5", Usage(100_000, 0, 0, 0, 0), 10_000),
        ("claude-haiku-5-5", Usage(100_001, 0, 0, 0, 0), 50_001),
        ("claude-haiku-4-5-20251001", Usage(1, 0, 0, 0, 1), 6),
        ("claude-haiku-5-5", Usage(1, 0, 0, 0, 0), 1),
    ],
)
def test_a_call_costs_what_the_list_says_rounded_up(model: str, usage: Usage, micros: int) -> None:
    price = find(model, ANTHROPIC)
    assert price is not None
    assert cost_micros(price, usage) == micros


def test_the_longest_name_and_the_first_table_win() -> None:
    own = {"gpt-4o-mini": Price(1, 2, 3)}
    assert find("gpt-4o-mini-2024", OPENAI) == OPENAI["gpt-4o-mini"]
    assert find("gpt-4o-mini-2024", own, OPENAI) == own["gpt-4o-mini"]
    assert find("gpt-4", own, OPENAI) is None
