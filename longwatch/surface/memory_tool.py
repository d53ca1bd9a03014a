"""Claude's memory tool as Anthropic's library takes it. Imported when it is asked for, so that Longwatch needs no library."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from anthropic.lib.tools import BetaAbstractMemoryTool, BetaAsyncAbstractMemoryTool, ToolError
from anthropic.types.beta import BetaMemoryTool20250818Command

from longwatch.surface.memory_files import MemoryFiles


class MemoryTool(BetaAbstractMemoryTool):
    """Of one agent. Made by `lw.memory(agent).tool()`."""

    def __init__(self, files: MemoryFiles) -> None:
        super().__init__()
        self._files = files

    def call(self, input: object) -> str:
        """As the tool runner calls it. Errors: ToolError."""
        return self.execute(input)

    def execute(self, command: object) -> str:
        """Carry out the input of a tool_use block, or one of the library's commands. Errors: ToolError, which the model is
        told; LeaseLost, StoreUnavailable."""
        return _answer(self._files, command)

    view = create = str_replace = insert = delete = rename = execute


class AsyncMemoryTool(BetaAsyncAbstractMemoryTool):
    """The same for `AsyncAnthropic`. Made by `lw.aio.memory(agent).tool()`."""

    def __init__(self, files: MemoryFiles) -> None:
        super().__init__()
        self._files = files

    async def call(self, input: object) -> str:
        """As the tool runner calls it. Errors: ToolError."""
        return await self.execute(input)

    async def execute(self, command: object) -> str:
        """As `MemoryTool.execute`."""
        return await asyncio.to_thread(_answer, self._files, command)

    view = create = str_replace = insert = delete = rename = execute


def _answer(files: MemoryFiles, command: object) -> str:
    """Errors: ToolError."""
    if not isinstance(command, Mapping):
        command = cast("BetaMemoryTool20250818Command", command).to_dict()
    answer = files.answer(cast("Mapping[str, Any]", command))
    if answer.declined:
        raise ToolError(answer.text)
    return answer.text
