"""Claude's memory tool over memory's store: its documented answers, versions that are kept, and paths that lead nowhere."""

import json
import subprocess
import sys
import threading
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from anthropic import Anthropic
from anthropic.lib.tools import BetaAbstractMemoryTool, ToolError
from anthropic.tools import BetaLocalFilesystemMemoryTool
from hypothesis import given, settings
from hypothesis import strategies as st

import longwatch
from longwatch import Longwatch, Memory, NotFound, Refused, Run
from longwatch.policy import memory_files as policy
from longwatch.policy.memory_paths import Declined, below
from longwatch.sandbox import Sandbox

KEY = "sk-ant-api03-abcdefghijklmnop"
HEAD = "Here're the files and directories up to 2 levels deep in {}, excluding hidden items and node_modules:\n"


def done(memory: Memory, command: str, **given: Any) -> str:
    answer = memory.files.answer({"command": command, **given})
    assert not answer.declined, answer.text
    return answer.text


def declined(memory: Memory, command: str, **given: Any) -> str:
    answer = memory.files.answer({"command": command, **given})
    assert answer.declined, answer.text
    return answer.text


def create(memory: Memory, path: str, text: str) -> None:
    assert done(memory, "create", path=path, file_text=text) == f"File created successfully at: {path}"


# -- what Anthropic documents for each command --------------------------------------------------------------------------


def test_view_lists_two_levels_with_sizes(memory: Memory) -> None:
    assert done(memory, "view", path="/memories") == HEAD.format("/memories") + "0B\t/memories", "empty is no error"
    create(memory, "/memories/b.txt", "x" * 1536)
    create(memory, "/memories/a/two/three/four.md", "x" * 2048)
    create(memory, "/memories/a/.hidden", "x" * 7)
    create(memory, "/memories/node_modules/x.js", "x" * 7)
    assert done(memory, "view", path="/memories/") == HEAD.format("/memories") + (
        "3.5K\t/memories\n2.0K\t/memories/a/\n2.0K\t/memories/a/two/\n1.5K\t/memories/b.txt"
    )
    assert done(memory, "view", path="/memories/a") == HEAD.format("/memories/a") + (
        "2.0K\t/memories/a\n2.0K\t/memories/a/two/\n2.0K\t/memories/a/two/three/"
    )
    told = declined(memory, "view", path="/memories/none")
    assert told == "The path /memories/none does not exist. Please provide a valid path."


def test_view_numbers_lines_and_takes_a_range(memory: Memory) -> None:
    create(memory, "/memories/n.md", "one\ntwo\nthree")
    head = "Here's the content of /memories/n.md with line numbers:\n"
    assert done(memory, "view", path="/memories/n.md") == head + "     1\tone\n     2\ttwo\n     3\tthree"
    assert done(memory, "view", path="/memories/n.md", view_range=[2, -1]) == head + "     2\ttwo\n     3\tthree"
    assert done(memory, "view", path="/memories/n.md", view_range=[1, 99]).endswith("     3\tthree")
    for wrong in ([0, 1], [3, 2], [4, -1], [1]):
        assert "Invalid `view_range` parameter" in declined(memory, "view", path="/memories/n.md", view_range=wrong)


def test_a_long_file_is_viewed_in_parts(memory: Memory) -> None:
    create(memory, "/memories/n.md", "".join(f"line {n:>4}\n" for n in range(1, 3001)))
    seen, first = list[str](), 1
    for _ in range(10):
        text = done(memory, "view", path="/memories/n.md", view_range=[first, -1])
        lines = text.splitlines()[1:]
        seen += [line.partition("\t")[2] for line in lines if "\t" in line]
        if not lines[-1].startswith("[Lines "):
            break
        assert len(text) < 30_000
        first = int(lines[-1].split()[1])
    assert seen == [f"line {n:>4}" for n in range(1, 3001)] + [""]


def test_a_line_that_is_too_long_says_so(memory: Memory) -> None:
    most = policy.VIEW_MAX
    for size, shown in ((most, "x" * most), (most + 1, "x" * most + "…")):
        path = f"/memories/{size}.md"
        memory.files.answer({"command": "create", "path": path, "file_text": "x" * size})
        told = memory.files.answer({"command": "view", "path": path}).text.split("\n")[1:]
        more = (
            []
            if size == policy.VIEW_MAX
            else [f"[Line 1 has {size:,} characters; the first {policy.VIEW_MAX:,} are shown.]"]
        )
        assert told == [f"     1\t{shown}", *more]


def test_create_does_not_overwrite(memory: Memory) -> None:
    create(memory, "/memories/a/n.md", "one")
    for path in ("/memories/a/n.md", "/memories/a", "/memories"):
        assert declined(memory, "create", path=path, file_text="x") == f"Error: File {path} already exists"
    assert "is a file" in declined(memory, "create", path="/memories/a/n.md/x", file_text="x")
    assert memory.files.show("/memories/a/n.md").text == "one"


def test_str_replace_wants_the_text_once(memory: Memory) -> None:
    create(memory, "/memories/n.md", "a\nb\nc\nd\ne\nb again\n")
    told = declined(memory, "str_replace", path="/memories/n.md", old_str="b", new_str="x")
    assert told == (
        "No replacement was performed. Multiple occurrences of old_str `b` in lines: 2, 6. Please ensure it is unique"
    )
    told = declined(memory, "str_replace", path="/memories/n.md", old_str="z", new_str="x")
    assert told == "No replacement was performed, old_str `z` did not appear verbatim in /memories/n.md."
    assert "did not appear" in declined(memory, "str_replace", path="/memories/n.md", old_str="", new_str="x")
    for path in ("/memories/none", "/memories"):
        told = declined(memory, "str_replace", path=path, old_str="a", new_str="x")
        assert told == f"Error: The path {path} does not exist. Please provide a valid path."
    told = done(memory, "str_replace", path="/memories/n.md", old_str="d\n", new_str="D\n")
    assert told == (
        "The memory file has been edited. Here is the snippet showing the change (with line numbers):\n"
        "     2\tb\n     3\tc\n     4\tD\n     5\te\n     6\tb again"
    )
    done(memory, "str_replace", path="/memories/n.md", old_str="D\n")
    assert memory.files.show("/memories/n.md").text == "a\nb\nc\ne\nb again\n", "new_str left out deletes"


def test_insert_is_behind_a_line(memory: Memory) -> None:
    create(memory, "/memories/n.md", "a\nb\n")
    assert done(memory, "insert", path="/memories/n.md", insert_line=1, insert_text="new\n") == (
        "The file /memories/n.md has been edited."
    )
    done(memory, "insert", path="/memories/n.md", insert_line=0, insert_text="first")
    assert memory.files.show("/memories/n.md").text == "first\na\nnew\nb\n"
    told = declined(memory, "insert", path="/memories/n.md", insert_line=5, insert_text="x")
    assert told == (
        "Error: Invalid `insert_line` parameter: 5. It should be within the range of lines of the file: [0, 4]"
    )
    told = declined(memory, "insert", path="/memories/none", insert_line=0, insert_text="x")
    assert told == "Error: The path /memories/none does not exist"


def test_delete_and_rename_take_folders(memory: Memory) -> None:
    create(memory, "/memories/a/one.md", "1")
    create(memory, "/memories/a/b/two.md", "2")
    create(memory, "/memories/ab.md", "beside")
    told = done(memory, "rename", old_path="/memories/a", new_path="/memories/z/a")
    assert told == "Successfully renamed /memories/a to /memories/z/a"
    there = {each.path: memory.files.show(each.path).text for each in memory.files.list()}
    assert there == {"/memories/ab.md": "beside", "/memories/z/a/b/two.md": "2", "/memories/z/a/one.md": "1"}
    told = declined(memory, "rename", old_path="/memories/ab.md", new_path="/memories/z")
    assert told == "Error: The destination /memories/z already exists"
    told = declined(memory, "rename", old_path="/memories/a", new_path="/memories/y")
    assert told == "Error: The path /memories/a does not exist"
    assert "inside" in declined(memory, "rename", old_path="/memories/z", new_path="/memories/z/deeper")
    assert "is a file" in declined(memory, "rename", old_path="/memories/z", new_path="/memories/ab.md/z")
    assert len(memory.files.list()) == 3, "nothing was half renamed"
    assert done(memory, "delete", path="/memories/z") == "Successfully deleted /memories/z"
    assert declined(memory, "delete", path="/memories/z") == "Error: The path /memories/z does not exist"
    for command in ({"command": "delete", "path": "/memories"}, {"command": "rename", "old_path": "/memories/"}):
        assert memory.files.answer({"new_path": "/memories/x", **command}).declined
    assert [each.path for each in memory.files.list()] == ["/memories/ab.md"]
    assert memory.verify() == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"command": "format"},
        {"command": "view"},
        {"command": "view", "path": 7},
        {"command": "create", "path": "/memories/a"},
        {"command": "insert", "path": "/memories/a", "insert_line": "1", "insert_text": "x"},
        {"command": "insert", "path": "/memories/a", "insert_line": True, "insert_text": "x"},
        "view",
        None,
        ["view"],
    ],
)
def test_what_is_no_command_is_said_to_the_model(wrong: object, memory: Memory) -> None:
    answer = memory.files.answer(wrong)
    assert answer.declined
    assert answer.text.startswith("Error: ")
    assert "str_replace" in answer.text, "what there is"


def test_what_a_model_does_outside_of_a_run_is_the_agents_and_what_a_person_does_the_operators(memory: Memory) -> None:
    create(memory, "/memories/a.md", "one\n")
    done(memory, "insert", path="/memories/a.md", insert_line=1, insert_text="two")
    memory.files.restore("/memories/a.md", 1)
    found = memory.files.versions("/memories/a.md")
    assert [(each.action, each.who) for each in found] == [
        ("restore", "operator"),
        ("insert", "seo"),
        ("create", "seo"),
    ]


# -- the SDK's own tool for a folder does the same ----------------------------------------------------------------------

PATHS = st.sampled_from([f"/memories/{name}" for name in ("a.md", "b.md", "d/a.md", "d/b.md", "d", "e/f/a.md")])
TEXTS = st.text("ab\n", max_size=12)
COMMANDS = st.one_of(
    st.fixed_dictionaries({"command": st.just("view"), "path": PATHS}),
    st.fixed_dictionaries({"command": st.just("create"), "path": PATHS, "file_text": TEXTS}),
    st.fixed_dictionaries({"command": st.just("create"), "path": PATHS, "file_text": TEXTS}),
    st.fixed_dictionaries(
        {
            "command": st.just("str_replace"),
            "path": PATHS,
            "old_str": st.text("ab\n", min_size=1, max_size=3),
            "new_str": TEXTS,
        }
    ),
    st.fixed_dictionaries(
        {"command": st.just("insert"), "path": PATHS, "insert_line": st.integers(-1, 6), "insert_text": TEXTS}
    ),
    st.fixed_dictionaries({"command": st.just("delete"), "path": PATHS}),
    st.fixed_dictionaries({"command": st.just("rename"), "old_path": PATHS, "new_path": PATHS}),
)


def carried_out(tool: BetaAbstractMemoryTool, command: dict[str, Any]) -> str | None:
    """The answer; None for any error."""
    try:
        return str(tool.call(command))
    except (ToolError, OSError):
        return None


@settings(max_examples=150, deadline=None)
@given(commands=st.lists(COMMANDS, max_size=14))
def test_it_does_what_the_tool_of_the_library_does(
    commands: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """But for folders that have become empty, which the library keeps, and its listings' sizes."""
    folder = tmp_path_factory.mktemp("folder")
    theirs = BetaLocalFilesystemMemoryTool(str(folder))
    with longwatch.open(":memory:") as lw:
        ours = lw.memory("seo").tool()
        for command in commands:
            expected, found = carried_out(theirs, command), carried_out(ours, command)
            if not (command["command"] == "view" and (folder / command["path"][1:]).is_dir()):
                assert found == expected, command
            for empty in sorted((each for each in folder.glob("memories/**") if each.is_dir()), reverse=True):
                if empty != folder / "memories" and not any(empty.iterdir()):
                    empty.rmdir()
        kept = {each.path: lw.memory("seo").files.show(each.path).text for each in lw.memory("seo").files.list()}
        there = {
            f"/{each.relative_to(folder)}": each.read_bytes().decode() for each in folder.rglob("*") if each.is_file()
        }
        assert kept == there
        assert lw.memory("seo").verify() == ()


# -- paths --------------------------------------------------------------------------------------------------------------

NOWHERE = [
    "",
    "/",
    "memories/a",
    "/etc/passwd",
    "/memoriesx/a",
    "/Memories/a",
    "//memories/a",
    "/memories/../etc/passwd",
    "/memories/a/../../b",
    "/memories/./a",
    "/memories/.../a",
    "/memories/. ./a",
    "/memories//etc/passwd",
    "/memories/a//b",
    "/memories/%2e%2e/a",
    "/memories/%2E%2E%2Fa",
    "/memories/..%2fa",
    "/memories/%252e%252e/a",
    "/memories/..%c0%af",
    "/memories\\..\\a",
    "/memories/..\\a",
    "/memories/a\0.md",
    "/memories/a\n.md",
    "/memories/a\u202etxt.exe",
    "/memories/a\u200b.md",
    "/memories/a\ufeff.md",
    "/memories/\ud800.md",
    "/memories/\u2024\u2024/a",
    "/memories/\uff0e\uff0e/a",
    "/memories/\u2025/a",
    "/memories/..\uff0fa",
    "/memories/..\u2215a",
    "/memories/..\u2044a",
    "/memories/\u00a0a",
    "/memories/ a",
    "/memories/a ",
    "/memories/ /a",
    "/memories/" + "a" * 256,
    "/memories/" + "ä" * 128,
    "/memories/" + "/".join("a" * 100 for _ in range(11)),
    "/memories/" + "/".join("a" * 17),
]


@pytest.mark.parametrize("path", NOWHERE, ids=ascii)
def test_a_path_that_leaves_the_folder_is_refused_by_every_command(path: str) -> None:
    with longwatch.open(":memory:") as lw:
        memory = lw.memory("seo")
        create(memory, "/memories/n.md", "x")
        texts: dict[str, Any] = {"file_text": "x", "old_str": "x", "new_str": "y", "insert_line": 0, "insert_text": "x"}
        for command in ("view", "create", "str_replace", "insert", "delete"):
            assert memory.files.answer({"command": command, "path": path, **texts}).declined, command
        assert memory.files.answer({"command": "rename", "old_path": path, "new_path": "/memories/y"}).declined
        assert memory.files.answer({"command": "rename", "old_path": "/memories/n.md", "new_path": path}).declined
        with pytest.raises(NotFound):
            memory.files.show(path)
        assert [each.path for each in memory.files.list()] == ["/memories/n.md"]
        answer = memory.files.answer({"command": "view", "path": path})
        assert json.dumps(answer.text, ensure_ascii=False).encode(), "can be sent"


@pytest.mark.parametrize(
    "name", ["100%.md", "a..b", "..a.md", ".hidden", "Straße…", "日本.md", "a b.md", "x" * 255, "😀"]
)
def test_an_unusual_name_is_a_name(name: str, memory: Memory) -> None:
    create(memory, f"/memories/{name}", "x")
    assert [each.path for each in memory.files.list()] == [f"/memories/{name}"]


def test_one_name_in_two_normal_forms_is_one_file(memory: Memory) -> None:
    create(memory, "/memories/\u00e4.md", "composed")
    assert memory.files.answer({"command": "create", "path": "/memories/a\u0308.md", "file_text": "x"}).declined
    assert memory.files.show("/memories/a\u0308.md").text == "composed"


@given(st.text(max_size=40))
def test_whatever_the_path_it_is_kept_below_the_folder_or_refused(tail: str) -> None:
    try:
        kept = below(f"/memories/{tail}")
    except Declined:
        return
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        names = unicodedata.normalize(form, kept).split("/")
        assert not {"..", "."} & set(names)
        assert "\\" not in unicodedata.normalize(form, kept)
    assert below(f"/memories/{kept}") == kept


# -- versions -----------------------------------------------------------------------------------------------------------


def test_every_change_is_a_version_that_can_be_put_back(memory: Memory) -> None:
    create(memory, "/memories/n.md", "one\n")
    done(memory, "insert", path="/memories/n.md", insert_line=1, insert_text="two")
    done(memory, "str_replace", path="/memories/n.md", old_str="one", new_str="1")
    done(memory, "rename", old_path="/memories/n.md", new_path="/memories/m.md")
    done(memory, "delete", path="/memories/m.md")
    found = [(each.version, each.action, each.exists, each.other) for each in memory.files.versions("/memories/n.md")]
    assert found == [
        (4, "rename", False, "/memories/m.md"),
        (3, "str_replace", True, None),
        (2, "insert", True, None),
        (1, "create", True, None),
    ]
    texts = [memory.files.version("/memories/n.md", number).text for number in (1, 2, 3, 4)]
    assert texts == ["one\n", "one\ntwo\n", "1\ntwo\n", None]
    assert [each.action for each in memory.files.versions("/memories/m.md")] == ["delete", "rename"]
    made = memory.files.restore("/memories/n.md", 2)
    assert (made.version, made.text) == (5, "one\ntwo\n")
    with pytest.raises(Refused, match="no such file"):
        memory.files.restore("/memories/n.md", 4)
    with pytest.raises(NotFound):
        memory.files.restore("/memories/n.md", 6)
    assert memory.verify() == ()


def test_in_a_run_the_version_names_it_and_the_journal_and_the_brief_tell_of_it(lw: Longwatch) -> None:
    @lw.task()
    def note(run: Run) -> None:
        memory = lw.memory()
        done(memory, "create", path="/memories/n.md", file_text="Prices are net.")

    task = lw.agent("seo").submit(note.bind())
    lw.work(until_idle=True)
    assert lw.get(task.id).state == "done"
    (version,) = lw.memory("seo").files.versions("/memories/n.md")
    assert version.run is not None
    assert (version.run.startswith("run_"), version.who) == (True, f"seo {version.run}")
    (entry,) = lw.opened.parts.journal.latest(kind="file.changed")
    assert (entry.task, entry.agent) == (task.id, "seo")
    assert (entry.data["path"], entry.data["action"], entry.data["run"]) == ("/memories/n.md", "create", version.run)
    brief = lw.memory("seo").brief()
    assert "## Files that you keep, last changed first" in brief.text
    assert f"- /memories/n.md (15B, {version.at:%Y-%m-%d}, {version.run})" in brief.text
    assert brief.left_out["files"] == 0
    assert "Files that you keep" not in lw.memory("other").brief().text


def test_a_run_that_was_overtaken_changes_no_file(lw: Longwatch) -> None:
    raised = list[str]()

    @lw.task()
    def note(run: Run) -> None:
        memory = lw.memory()
        create(memory, "/memories/n.md", "before")
        with lw.opened.parts.database.transaction() as tx:
            tx.count("tasks.end_run", fence=run.claimed.fence, outcome="crash", error="planted")
            tx.count("tasks.end_all_leases")
        lw.opened.parts.database.offset_ms += 1
        try:
            create(memory, "/memories/late.md", "after")
        except longwatch.LeaseLost as error:
            raised.append(error.code)
            raise

    lw.agent("seo").submit(note.bind())
    lw.work(until_idle=True)
    assert raised[:1] == ["lease_lost"]
    assert [each.path for each in lw.memory("seo").files.list()] == ["/memories/n.md"]


def test_agents_do_not_see_each_others_files(lw: Longwatch) -> None:
    create(lw.memory("seo"), "/memories/n.md", "seo")
    create(lw.memory("biller"), "/memories/n.md", "biller")
    done(lw.memory("seo"), "delete", path="/memories/n.md")
    assert lw.memory("biller").files.show("/memories/n.md").text == "biller"


# -- bounds -------------------------------------------------------------------------------------------------------------


def test_a_file_and_all_of_them_are_bounded(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    told = declined(memory, "create", path="/memories/n.md", file_text="x" * (policy.FILE_MAX + 1))
    assert told == (
        "Error: File /memories/n.md would have 262,145 bytes, and a file may have at most 262,144. Split it, or shorten it."
    )
    create(memory, "/memories/n.md", "x" * policy.FILE_MAX)
    assert "262,144" in declined(memory, "insert", path="/memories/n.md", insert_line=0, insert_text="more")
    monkeypatch.setattr(policy, "ALL_MAX", policy.FILE_MAX + 10)
    assert "of 262,144 bytes (at most 262,154 in all)" in declined(
        memory, "create", path="/memories/b", file_text="x" * 11
    )
    create(memory, "/memories/b", "x" * 10)
    done(memory, "str_replace", path="/memories/b", old_str="x" * 10, new_str="y" * 10)
    monkeypatch.setattr(policy, "FILES_MAX", 2)
    assert "2 other files (at most 2 in all)" in declined(memory, "create", path="/memories/c", file_text="")
    done(memory, "rename", old_path="/memories/b", new_path="/memories/c")


def test_the_texts_of_the_oldest_versions_make_room(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longwatch.store.memory_files.KEPT_MAX", 1_000)
    create(memory, "/memories/stays.md", "s" * 300)
    create(memory, "/memories/n.md", "0" * 100)
    for number in range(1, 30):
        done(memory, "str_replace", path="/memories/n.md", old_str=str(number - 1) * 100, new_str=str(number) * 100)
    found = memory.files.versions("/memories/n.md")
    kept = [each for each in found if each.state == "kept"]
    assert len(found) == 30
    assert sum(each.bytes for each in kept) <= 700
    assert kept == list(found[: len(kept)]), "the newest"
    assert all(len(each.sha256) == 64 and each.who for each in found), "who and what is known for ever"
    assert memory.files.show("/memories/stays.md").text == "s" * 300, "a file as it is never goes"
    with pytest.raises(Refused, match="dropped"):
        memory.files.restore("/memories/n.md", 1)
    assert memory.verify() == ()


# -- secrets ------------------------------------------------------------------------------------------------------------


def test_a_secret_is_taken_out_before_it_is_written(memory: Memory) -> None:
    create(memory, "/memories/n.md", f"the key is {KEY}, use it")
    text = memory.files.show("/memories/n.md").text
    assert text is not None
    assert (KEY in text, "[redacted:anthropic-key:" in text) == (False, True)
    done(memory, "str_replace", path="/memories/n.md", old_str=f"the key is {KEY},", new_str="no key,")
    assert memory.files.show("/memories/n.md").text == "no key, use it", "the model may name what it believes is there"
    done(memory, "insert", path="/memories/n.md", insert_line=1, insert_text=KEY[:14])
    done(memory, "str_replace", path="/memories/n.md", old_str=KEY[:14], new_str=KEY)
    assert KEY not in (memory.files.show("/memories/n.md").text or "")
    assert "secret" in declined(memory, "create", path=f"/memories/{KEY}.md", file_text="x")


# -- the real library against the sandbox ---------------------------------------------------------------------------------


def test_the_tool_runner_of_the_library_takes_it(memory: Memory, sandbox: Sandbox) -> None:
    commands = [
        {"command": "view", "path": "/memories"},
        {"command": "create", "path": "/memories/acme.md", "file_text": "Acme wants e-mail.\n"},
        {"command": "insert", "path": "/memories/acme.md", "insert_line": 1, "insert_text": "Never on Mondays."},
        {"command": "create", "path": "/memories/acme.md", "file_text": "again"},
        {"command": "view", "path": "/memories/acme.md"},
    ]
    script = ", then ".join(f"use tool memory with {json.dumps(command)}" for command in commands)
    client = Anthropic(base_url=sandbox.base_urls["anthropic"], api_key="key", max_retries=0)
    tool = memory.tool()
    assert isinstance(tool, BetaAbstractMemoryTool)
    runner = client.beta.messages.tool_runner(
        model="claude-haiku-4-5",
        max_tokens=1024,
        messages=[{"role": "user", "content": script}],
        tools=[tool],
        betas=["context-management-2025-06-27"],
    )
    results = list[Any]()
    for message in runner:
        response = runner.generate_tool_call_response()
        results += response["content"] if response is not None else [message.stop_reason]
    assert [each if isinstance(each, str) else each.get("is_error", False) for each in results] == [
        False,
        False,
        False,
        True,
        False,
        "end_turn",
    ]
    assert results[3]["content"] == "Error: File /memories/acme.md already exists"
    assert results[4]["content"] == (
        "Here's the content of /memories/acme.md with line numbers:\n"
        "     1\tAcme wants e-mail.\n     2\tNever on Mondays.\n     3\t"
    )
    assert memory.files.show("/memories/acme.md").version == 2


def test_execute_takes_the_input_of_a_tool_use_block(memory: Memory) -> None:
    tool = memory.tool()
    assert tool.execute({"command": "create", "path": "/memories/n.md", "file_text": "x"}).endswith("n.md")
    with pytest.raises(ToolError, match="already exists"):
        tool.execute({"command": "create", "path": "/memories/n.md", "file_text": "x"})
    assert tool.to_dict() == {"type": "memory_20250818", "name": "memory"}


def test_longwatch_needs_no_library_for_it() -> None:
    """Nor loads it, where it is there, before the tool is asked for."""
    program = (
        "import sys, longwatch\n"
        "memory = longwatch.open(':memory:').memory('seo')\n"
        "assert not memory.files.answer({'command': 'view', 'path': '/memories'}).declined\n"
        "assert 'anthropic' not in sys.modules\n"
        "sys.modules['anthropic'] = None\n"
        "try: memory.tool()\n"
        "except longwatch.ConfigError as error: print(error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 'pip install "longwatch[claude]"' in done.stdout


# -- several at once, and behind our back ----------------------------------------------------------------------------------


def test_threads_that_edit_one_file_lose_nothing(memory: Memory) -> None:
    create(memory, "/memories/n.md", "top\n")

    def edit(who: int) -> None:
        for number in range(20):
            done(memory, "insert", path="/memories/n.md", insert_line=1, insert_text=f"{who}-{number}")

    threads = [threading.Thread(target=edit, args=(who,)) for who in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    lines = (memory.files.show("/memories/n.md").text or "").split()
    assert sorted(lines) == sorted(["top", *(f"{who}-{number}" for who in range(4) for number in range(20))])
    assert memory.files.show("/memories/n.md").version == 81


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("update memory_version set body = 'forged' where version = 1", "its digest differs"),
        ("delete from memory_version where version = 1", "is missing"),
        ("update memory_file set version = 1", "is at version 1, and should be at 2"),
        ("delete from memory_file", "is at version None, and should be at 2"),
    ],
)
def test_damage_behind_our_back_is_found(damage: str, told: str, tmp_path: Path) -> None:
    with longwatch.open(tmp_path / "state.db") as lw:
        memory = lw.memory("seo")
        create(memory, "/memories/n.md", "one")
        done(memory, "insert", path="/memories/n.md", insert_line=0, insert_text="two")
        assert memory.verify() == ()
        database: Any = lw.opened.parts.memories.store.database
        with database.transaction():
            database.connection.execute(damage)
        assert any(told in problem for problem in memory.verify()), memory.verify()
