"""Logs become records, once, whatever is in them, whoever is killed; and records become lines again."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import warm

from longwatch import ConfigError, Longwatch, Memory

CLAUDE: list[dict[str, Any]] = [
    {"type": "summary", "summary": "Links for the shop", "leafUuid": "u9"},
    {"type": "file-history-snapshot", "messageId": "x"},
    {
        "type": "user",
        "uuid": "u1",
        "sessionId": "s1",
        "timestamp": "2026-03-01T10:00:00.000Z",
        "message": {"role": "user", "content": "Fix the links"},
    },
    {
        "type": "assistant",
        "uuid": "u2",
        "sessionId": "s1",
        "timestamp": "2026-03-01T10:00:05.000Z",
        "message": {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm"},
                {"type": "text", "text": "I will look."},
                {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}},
            ],
        },
    },
    {
        "type": "user",
        "uuid": "u3",
        "sessionId": "s1",
        "timestamp": "2026-03-01T10:00:06.000Z",
        "message": {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "a.md\nb.md"}]}
            ],
        },
    },
    {"type": "user", "uuid": "u4", "sessionId": "s1", "isMeta": True, "message": {"role": "user", "content": "meta"}},
]
BOOK = {"name": "book", "arguments": '{"flight":"HAT136"}'}
OPENAI = {
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "Book HAT136"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"function": {"name": "book", "arguments": '{"flight":"HAT136"}'}}],
        },
        {"role": "tool", "name": "book", "content": "booked XEHM4B"},
        {"role": "assistant", "content": "Done: XEHM4B"},
    ]
}


DEEP = b'{"a": ' + b"[" * 5000


def lines(path: Path, *values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def told(memory: Memory) -> list[tuple[str, str, str | None, str]]:
    return [(each.kind, each.text, each.author, each.trust) for each in reversed(memory.list(limit=100))]


def test_a_transcript_of_claude_code(memory: Memory, tmp_path: Path) -> None:
    lines(tmp_path / "projects" / "shop" / "s1.jsonl", *CLAUDE)
    made = memory.import_from(tmp_path / "projects", format="claude-code")
    assert (made.files, made.records, made.known, made.passed) == (1, 5, 0, 2)
    assert told(memory) == [
        ("fact", "Links for the shop", "summary", "tool"),
        ("message", "Fix the links", "user", "untrusted"),
        ("message", "I will look.", "assistant", "own"),
        ("call", 'Bash {"command":"ls"}', "assistant", "own"),
        ("tool_output", "a.md\nb.md", None, "tool"),
    ]
    found = memory.list(kind="tool_output")[0]
    assert (found.thread, f"{found.at:%Y-%m-%d %H:%M:%S}", found.source) == ("s1", "2026-03-01 10:00:06", "import")


@pytest.mark.parametrize("form", ["openai", None])
def test_messages_of_an_api(memory: Memory, tmp_path: Path, form: str | None) -> None:
    made = memory.import_from(lines(tmp_path / "log.jsonl", OPENAI, {"role": "user", "content": "thanks"}), format=form)
    assert made.records == 5
    assert [(kind, text) for kind, text, _, _ in told(memory)] == [
        ("message", "Book HAT136"),
        ("call", 'book {"flight":"HAT136"}'),
        ("tool_output", "booked XEHM4B"),
        ("message", "Done: XEHM4B"),
        ("message", "thanks"),
    ]


def test_importing_twice_adds_nothing_and_a_log_that_grew_adds_what_is_new(memory: Memory, tmp_path: Path) -> None:
    log = lines(tmp_path / "log.jsonl", *({"text": f"line {n}", "kind": "fact"} for n in range(1200)))
    assert memory.import_from(log).records == 1200
    assert memory.import_from(log).records == 0
    with log.open("a") as file:
        file.write(json.dumps({"text": "one more"}) + "\n" + '{"text": "torn')
    assert memory.import_from(log).records == 1
    copied = tmp_path / "copy" / "log.jsonl"
    copied.parent.mkdir()
    copied.write_bytes(log.read_bytes())
    again = memory.import_from(copied)
    assert (again.records, again.known) == (0, 1201), "the same log from another folder is the same log"


def test_what_is_no_line_is_passed_over_and_counted(memory: Memory, tmp_path: Path) -> None:
    log = tmp_path / "odd.jsonl"
    odd = [
        b"not json",
        b"\xff\xfe\x00binary",
        b"[1, 2]",
        b"",
        b'{"text": 7}',
        b'{"text": "x", "kind": "wish"}',
        b'{"a": ' + b"[" * 5000,
    ]
    log.write_bytes(b"\n".join([*odd, b'{"text": "half \\ud800 pair \\u0000"}', b'{"text": "fine \xff"}', b""]))
    made = memory.import_from(log, format="jsonl")
    assert (made.records, made.passed) == (2, 7)
    assert [text for _, text, _, _ in told(memory)] == ["half ? pair \ufffd", "fine \ufffd"]


def test_what_is_too_long_is_cut_and_says_so(memory: Memory, tmp_path: Path) -> None:
    memory.import_from(lines(tmp_path / "long.jsonl", {"text": "x" * (3 << 20)}))
    text = memory.list()[0].text
    assert len(text) < 1 << 20
    assert text.endswith("more bytes]")


def test_a_folder_without_logs_and_a_form_that_does_not_exist_are_refused(memory: Memory, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no log is below"):
        memory.import_from(tmp_path)
    with pytest.raises(ConfigError, match="there is no log at"):
        memory.import_from(tmp_path / "none.jsonl")
    with pytest.raises(ConfigError, match="did you mean claude-code"):
        memory.import_from(lines(tmp_path / "a.jsonl", {}), format="claudecode")


KILLED = """
import os, signal, sys
import longwatch
from longwatch.store.memory import MemoryStore
take, left = MemoryStore.take_import, [int(sys.argv[3])]
def counted(*given, **named):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return take(*given, **named)
MemoryStore.take_import = counted
with longwatch.open(sys.argv[1]) as lw:
    print(lw.memory("seo").import_from(sys.argv[2]).records)
"""


def test_whoever_is_killed_goes_on_where_he_was(place: str, tmp_path: Path) -> None:
    log = lines(tmp_path / "log.jsonl", *({"text": f"line {n}", "kind": "fact"} for n in range(2100)))
    script = tmp_path / "importing.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), place, str(log)]
    killed = [warm.run([*command, str(n)], timeout=60).returncode for n in (0, 1, 2)]
    assert killed == [-signal.SIGKILL] * 3
    ended = warm.run([*command, "99"], check=True, timeout=60)
    assert ended.stdout.strip() == "600", "500 of them by the second, 1,000 by the third"
    ended = warm.run([*command, "99"], check=True, timeout=60)
    assert ended.stdout.strip() == "0"


def test_what_was_exported_can_be_imported_by_another_agent(lw: Longwatch, memory: Memory, tmp_path: Path) -> None:
    memory.record("decision", "no paid links", data={"why": "honest"}, author="ada", key="links")
    memory.record("message", "hello\nworld 😀", trust="untrusted", thread="t1")
    out = tmp_path / "out.jsonl"
    with out.open("w") as file:
        assert memory.export(file.write) == 2
    other = lw.memory("other")
    assert other.import_from(out, format="jsonl").records == 2
    assert told(other) == told(memory)
    assert [(each.data, each.at, each.thread) for each in other.list()] == [
        (each.data, each.at, each.thread) for each in memory.list()
    ]
    assert os.path.exists(out)
