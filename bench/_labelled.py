"""Logs with questions whose answers are known: conversations, and runs of an agent that uses tools.

Conversations are a list of {"conversation": {"session_1": [{"speaker", "dia_id", "text"}, ...], "session_1_date_time", ...},
"qa": [{"question", "evidence": [dia_id, ...], "category"}, ...]}, as LoCoMo has them. Runs are a list of
{"traj": [message, ...]}, as tau-bench has them; their questions are made here, from what was called and what came back.
"""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open", 4: "single-hop", 5: "adversarial"}
TURN = re.compile(r"D(\d+):(\d+)")
CHANGES = ("book_reservation", "cancel_reservation", "update_reservation_")
RUNS = 25  # to a memory


class Question(NamedTuple):
    """evidence: numbers, from 0, of the records that answer it."""

    text: str
    evidence: frozenset[int]
    category: str


class Labelled(NamedTuple):
    """One memory. records: what `Memory.record_many` takes."""

    records: list[dict[str, Any]]
    questions: list[Question]


def conversations(path: Path) -> Iterator[Labelled]:
    for sample in json.loads(path.read_bytes()):
        talk, records, numbers = sample["conversation"], list[dict[str, Any]](), dict[str, int]()
        for session in range(1, 1 + max(int(name.split("_")[1]) for name in talk if name.startswith("session_"))):
            turns: Sequence[dict[str, Any]] = talk.get(f"session_{session}", [])
            at = talk.get(f"session_{session}_date_time", "")
            for turn in turns:
                numbers[turn["dia_id"]] = len(records)
                records.append(_said(turn, f"session {session}", at))
        yield Labelled(records, list(_asked(sample["qa"], numbers)))


def _said(turn: dict[str, Any], thread: str, when: str) -> dict[str, Any]:
    at = datetime.strptime(f"{when} +0000", "%I:%M %p on %d %B, %Y %z")
    shown = f" [{turn['blip_caption']}]" if turn.get("blip_caption") else ""
    text = turn["text"] + shown
    return {"kind": "message", "text": text, "author": turn["speaker"], "thread": thread, "at": at}


def _asked(listed: Sequence[dict[str, Any]], numbers: dict[str, int]) -> Iterator[Question]:
    """Some entries hold several ids, or none that there is."""
    for each in listed:
        turns = [f"D{int(one)}:{int(two)}" for entry in each.get("evidence") or () for one, two in TURN.findall(entry)]
        evidence = frozenset(numbers[turn] for turn in turns if turn in numbers)
        if evidence:
            yield Question(each["question"], evidence, CATEGORIES[each["category"]])


def runs(path: Path) -> Iterator[Labelled]:
    """In memories of a few hundred records each, with three kinds of questions."""
    every = json.loads(path.read_bytes())
    for first in range(0, len(every), RUNS):
        records, questions = list[dict[str, Any]](), list[Question]()
        for number, run in enumerate(every[first : first + RUNS], first):
            _take(run["traj"], f"run {number}", records, questions)
        yield Labelled(records, _once(questions))


def _take(
    messages: Sequence[dict[str, Any]], thread: str, records: list[dict[str, Any]], questions: list[Question]
) -> None:
    name, first, changed = "", -1, set[int]()
    for message in messages:
        if message["role"] == "system":
            continue
        if message["role"] == "tool":
            records.append(
                {"kind": "tool_output", "text": message["content"], "author": message["name"], "thread": thread}
            )
            name = name or _name_in(message)
            continue
        if message.get("content"):
            first = len(records) if first < 0 else first
            records.append({"kind": "message", "text": message["content"], "author": message["role"], "thread": thread})
        for call in message.get("tool_calls") or ():
            tool, given = call["function"]["name"], call["function"]["arguments"]
            said = f"{tool} {given}"
            if tool.startswith(CHANGES):
                changed.add(len(records))
            about = _about(tool, given)
            if about:
                questions.append(Question(about, frozenset((len(records), len(records) + 1)), "call and answer"))
            records.append({"kind": "message", "text": said, "author": "assistant", "thread": thread})
    if name and first >= 0:
        questions.append(Question(f"What did {name} ask for first?", frozenset((first,)), "what was asked for"))
    if name and changed:
        questions.append(Question(f"What was changed for {name}?", frozenset(changed), "what was changed"))


def _name_in(message: dict[str, Any]) -> str:
    if message["name"] != "get_user_details" or not message["content"].startswith("{"):
        return ""
    name = json.loads(message["content"])["name"]
    return f"{name['first_name']} {name['last_name']}"


def _about(tool: str, given: str) -> str:
    """The question that this call and its answer are the answer to, if there is one."""
    arguments = json.loads(given)
    if tool == "get_reservation_details":
        return f"What are the details of reservation {arguments.get('reservation_id')}?"
    if tool == "search_direct_flight":
        where = f"from {arguments.get('origin')} to {arguments.get('destination')}"
        return f"Which direct flights are there {where} on {arguments.get('date')}?"
    return ""


def _once(questions: Sequence[Question]) -> list[Question]:
    """Those whose words name one run only: of the same question in several, no answer is the one."""
    asked = [each.text for each in questions]
    return [each for each in questions if asked.count(each.text) == 1]
