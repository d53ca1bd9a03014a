"""`lw.aio.memory`: everything that `lw.memory` has, awaited, without holding up the loop, in the run of who awaits it."""

import asyncio
import inspect
import json
import threading
import time
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from anthropic.lib.tools import ToolError

import longwatch
from longwatch import AsyncRun, Longwatch, Memory
from longwatch.sandbox import Sandbox
from longwatch.surface.awaitable_memory import AsyncMemory, AsyncMemoryFiles
from longwatch.surface.memory_files import MemoryFiles


@pytest.mark.parametrize(("plain", "awaited"), [(Memory, AsyncMemory), (MemoryFiles, AsyncMemoryFiles)])
def test_every_method_is_there_with_the_same_arguments(plain: type, awaited: type) -> None:
    names = [name for name in vars(plain) if not name.startswith("_")]
    assert [name for name in names if not hasattr(awaited, name)] == []
    for name in names:
        one, other = getattr(plain, name), getattr(awaited, name)
        if inspect.isfunction(one):
            assert inspect.iscoroutinefunction(other) or name == "tool", name
            parameters = [inspect.signature(each).parameters.values() for each in (one, other)]
            shapes = [[(each.name, each.kind, _plain(each.default)) for each in listed] for listed in parameters]
            assert shapes[0] == shapes[1], name


def _plain(default: object) -> object:
    return "a function" if callable(default) and default is not inspect.Parameter.empty else default


def test_it_does_what_memory_does(lw: Longwatch) -> None:
    async def talk() -> None:
        memory = lw.aio.memory("seo")
        await memory.charter("Bring readers to the shop.")
        old = await memory.record("decision", "pay for links", data={"why": "fast"})
        await memory.record("decision", "no paid links", supersedes=old.id)
        promise = await memory.record("commitment", "report on Friday", key="report")
        await memory.record_many([{"kind": "fact", "text": f"fact {n}"} for n in range(3)])
        assert (await memory.close(promise, "sent")).state == "closed"
        assert (await memory.pin(old)).pinned
        assert not (await memory.unpin(old)).pinned
        assert (await memory.correct("r4", "fact nought")).text == "fact nought"
        assert (await memory.brief(2000)).text.startswith("Bring readers")
        assert [hit.text for hit in await memory.recall("paid links", kinds=["decision"], limit=1)] == ["no paid links"]
        assert (await memory.show(old)).state == "superseded"
        assert [each.text for each in await memory.list(kind="decision")] == ["no paid links"]
        assert (await memory.redact("r5", "asked for")).state == "redacted"
        lines = list[str]()
        assert await memory.export(lines.append) == len(lines) == 7
        assert await memory.compact() == 0
        assert await memory.verify() == ()
        assert await memory.compact(everything=True) == 1
        (made,) = await memory.snapshots()
        assert (await memory.show(made.id)) == (await memory.show(made))
        assert [each.text for each in (await memory.show(made)).sections["decisions"]] == ["no paid links"]
        assert await memory.charter() == "Bring readers to the shop."

    asyncio.run(talk())
    assert lw.memory("seo").show("r3").state == "closed"


def test_files_too(lw: Longwatch) -> None:
    async def talk() -> None:
        files = lw.aio.memory("seo").files
        command = {"command": "insert", "path": "/memories/n.md", "insert_line": 0}
        await files.answer({"command": "create", "path": "/memories/n.md", "file_text": ""})
        answers = [files.answer({**command, "insert_text": f"line {n}"}) for n in range(20)]
        assert not any(answer.declined for answer in await asyncio.gather(*answers))
        assert sorted(((await files.show("/memories/n.md")).text or "").splitlines()) == sorted(
            f"line {n}" for n in range(20)
        )
        assert (await files.restore("/memories/n.md", 1)).text == ""
        assert len(await files.versions("/memories/n.md")) == 22
        assert (await files.version("/memories/n.md", 1)).action == "create"
        assert [each.path for each in await files.list()] == ["/memories/n.md"]
        assert await files.redact("/memories/n.md") == 22
        assert len(await files.receipts("/memories/n.md")) == 1

    asyncio.run(talk())


def test_in_an_async_handler_it_belongs_to_the_run(lw: Longwatch) -> None:
    @lw.task()
    async def note(run: AsyncRun) -> str:
        memory = lw.aio.memory()
        with pytest.raises(longwatch.Refused):
            await memory.charter("Do as I please.")
        await memory.files.answer({"command": "create", "path": "/memories/n.md", "file_text": "x"})
        made = await memory.record("lesson", "a charter is not mine")
        return made.id

    task = lw.agent("seo").submit(note.bind())
    lw.work(until_idle=True)
    memory = lw.memory("seo")
    (record,) = memory.list(kind="lesson")
    assert (record.id, record.task, record.source) == (lw.get(task.id).result, task.id, "run")
    (version,) = memory.files.versions("/memories/n.md")
    assert version.who == f"seo {version.run}"


def test_the_loop_goes_on_while_memory_waits(lw: Longwatch) -> None:
    """A writer holds memory for half a second; what else runs in the loop does not wait for it."""
    memory, held, done = lw.memory("seo"), threading.Event(), threading.Event()
    memory.record("fact", "there is a memory")
    database: Any = lw.opened.parts.memories.store.database

    def hold() -> None:
        with database.transaction(part="memory") as tx:
            tx.one("memory.feed")  # on a server it begins with what is first asked
            held.set()
            done.wait(10)

    async def talk() -> int:
        ticks, writing = 0, asyncio.create_task(lw.aio.memory("seo").record("fact", "at last"))
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            await asyncio.sleep(0.01)
            ticks += 1
        assert not writing.done()
        done.set()
        await writing
        return ticks

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    try:
        assert asyncio.run(talk()) > 5
    finally:
        done.set()
        holder.join()


def test_the_async_tool_runner_takes_its_tool(lw: Longwatch, sandbox: Sandbox) -> None:
    commands = [
        {"command": "create", "path": "/memories/acme.md", "file_text": "Acme wants e-mail.\n"},
        {"command": "view", "path": "/memories"},
    ]
    script = ", then ".join(f"use tool memory with {json.dumps(command)}" for command in commands)

    async def talk() -> None:
        async with AsyncAnthropic(base_url=sandbox.base_urls["anthropic"], api_key="key") as plain:
            claude = lw.wrap(plain)
            tool = lw.aio.memory("seo").tool()
            runner = claude.beta.messages.tool_runner(
                model="claude-haiku-4-5", max_tokens=500, messages=[{"role": "user", "content": script}], tools=[tool]
            )
            assert (await runner.until_done()).stop_reason == "end_turn"
            assert "acme.md" in await tool.execute({"command": "view", "path": "/memories"})
            with pytest.raises(ToolError):
                await tool.execute(commands[0])

    asyncio.run(talk())
    assert lw.memory("seo").files.show("/memories/acme.md").text == "Acme wants e-mail.\n"
