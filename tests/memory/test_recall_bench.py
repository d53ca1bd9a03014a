"""The bench of recall reads both forms of logs, finds what is there, and would notice if nothing were found."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import recall
from bench._labelled import conversations, runs

TALK: list[dict[str, Any]] = [
    {
        "conversation": {
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [
                {"speaker": "Ann", "dia_id": "D1:1", "text": "I planted a walnut tree.", "blip_caption": "a sapling"},
                {"speaker": "Ben", "dia_id": "D1:2", "text": "Lovely weather today."},
            ],
            "session_3_date_time": "9:00 am on 2 June, 2023",
            "session_3": [{"speaker": "Ben", "dia_id": "D3:1", "text": "My sister moved to Oslo."}],
        },
        "qa": [
            {"question": "Which tree did Ann plant?", "evidence": ["D1:1"], "category": 4},
            {"question": "Where does the sister of Ben live?", "evidence": ["D3:1; D9:7"], "category": 1},
            {"question": "What is not there?", "evidence": [], "category": 5},
        ],
    }
]
CANCELLED = {"function": {"name": "cancel_reservation", "arguments": "{}"}}
CALLED = {"function": {"name": "get_reservation_details", "arguments": '{"reservation_id":"ZFA04Y"}'}}
USER = json.dumps({"name": {"first_name": "Mia", "last_name": "Li"}})
RUN = [
    {
        "traj": [
            {"role": "system", "content": "rules"},
            {"role": "user", "content": "I want to cancel."},
            {"role": "tool", "name": "get_user_details", "content": USER},
            {"role": "assistant", "content": None, "tool_calls": [CALLED]},
            {"role": "tool", "name": "get_reservation_details", "content": '{"cabin": "economy", "id": "ZFA04Y"}'},
            {"role": "assistant", "content": None, "tool_calls": [CANCELLED]},
        ]
    }
]


def nothing(*_: object, **__: object) -> list[object]:
    return []


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    made = {"conversations": tmp_path / "talk.json", "runs": tmp_path / "runs.json"}
    made["conversations"].write_text(json.dumps(TALK))
    made["runs"].write_text(json.dumps(RUN))
    return made


def test_questions_of_conversations_know_their_answers(files: dict[str, Path]) -> None:
    (read,) = conversations(files["conversations"])
    assert read.records[0]["text"] == "I planted a walnut tree. [a sapling]"
    assert [(set(each.evidence), each.category) for each in read.questions] == [({0}, "single-hop"), ({2}, "multi-hop")]


def test_questions_of_runs_know_their_answers(files: dict[str, Path]) -> None:
    (read,) = runs(files["runs"])
    assert [each["kind"] for each in read.records] == ["message", "tool_output", "message", "tool_output", "message"]
    assert {each.text: set(each.evidence) for each in read.questions} == {
        "What are the details of reservation ZFA04Y?": {2, 3},
        "What did Mia Li ask for first?": {0},
        "What was changed for Mia Li?": {4},
    }


def test_the_figures_are_those_of_what_was_found(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = recall.summed(conversations(files["conversations"]), tmp_path, None)["all"]
    assert (figures["recall@10"], figures["FTS5 @10"], figures["in 2,000 tokens"]) == (1.0, 1.0, 1.0)
    monkeypatch.setattr("longwatch.Memory.recall", nothing)
    figures = recall.summed(conversations(files["conversations"]), tmp_path / "again", None)["all"]
    assert (figures["recall@10"], figures["FTS5 @10"], figures["in 2,000 tokens"]) == (0.0, 1.0, 0.0)
