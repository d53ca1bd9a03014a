"""What a model says here: a function of the prompt alone, so that a test can know every answer beforehand.

A prompt is the system text and the messages, flattened to one text; its sha256 names it in the ledger of effects and its
first twelve digits end the answer. If the last thing a user said holds Python source, the answer is a summary of that module:
first line of its docstring, numbers of classes, functions and lines. Otherwise it repeats the beginning of what was said.
A token is four characters, rounded up, for prompts and answers alike.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple

import msgspec

PYTHON = re.compile(r"^\s*(?:async\s+def|def|class|import|from)\s+\w", re.MULTILINE)
FUNCTION = re.compile(r"^\s*(?:async\s+)?def\s+\w", re.MULTILINE)
CLASS = re.compile(r"^\s*class\s+\w", re.MULTILINE)
DOCSTRING = re.compile(r"(?:\"\"\"|''')\s*([^\n\"']+)")
USE_TOOL = re.compile(r"use tool ([\w-]+)(?: with (?=\{))?")

CHARACTERS_PER_TOKEN = 4
SAID_CHARACTERS = 80


class CacheControl(msgspec.Struct, frozen=True):
    type: Literal["ephemeral"] = "ephemeral"
    ttl: Literal["5m", "1h"] = "5m"


class Block(msgspec.Struct, frozen=True):
    """A content block. Only what it says counts: text, thinking, a tool's input or its result."""

    type: str
    text: str = ""
    thinking: str = ""
    input: msgspec.Raw = msgspec.Raw()
    content: msgspec.Raw = msgspec.Raw()
    cache_control: CacheControl | None = None

    def says(self) -> str:
        return self.text or self.thinking or (bytes(self.input) + bytes(self.content)).decode()


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str | list[Block] | None = None


class Part(NamedTuple):
    """A piece of the flattened prompt, and whether the prompt up to its end is to be cached."""

    text: str
    cache_control: CacheControl | None = None


class Prompt(NamedTuple):
    """parts: in the order in which they were sent. said: the text of the last user message.

    asked: of the last one that has a text; results of tools have none. results: how many messages of them came since.
    """

    parts: list[Part]
    said: str
    digest: str
    characters: int
    asked: str = ""
    results: int = 0


def tokens(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)


def flatten(messages: Sequence[Message], system: str | list[Block] | None = None) -> Prompt:
    """One prompt from its messages; a system text comes first, as if it were a message."""
    parts = _parts("system", system) if system else []
    for message in messages:
        parts += _parts(message.role, message.content or "")
    users = [_text(message) for message in messages if message.role == "user"]
    results = next((count for count, said in enumerate(reversed(users)) if said), 0)
    text = "\n".join(part.text for part in parts)
    digest, characters = hashlib.sha256(text.encode()).hexdigest(), sum(len(part.text) for part in parts)
    asked = users[-1 - results] if users else ""
    return Prompt(parts, users[-1] if users else "", digest, characters, asked, results)


def _parts(role: str, content: str | list[Block]) -> list[Part]:
    if isinstance(content, str):
        return [Part(f"{role}: {content}")]
    return [Part(f"{role}: {block.says()}", block.cache_control) for block in content]


def _text(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n".join(block.text for block in message.content or [] if block.type == "text")


def answer(prompt: Prompt) -> str:
    """The whole answer, before `max_tokens` or a stop sequence cuts it."""
    mark = f"[{prompt.digest[:12]}]"
    if PYTHON.search(prompt.said):
        return f"{_summary(prompt.said)} {mark}"
    words = prompt.said.split()
    return f"You said: {' '.join(words)[:SAID_CHARACTERS]} ({len(words)} words) {mark}"


def _summary(source: str) -> str:
    docstring = DOCSTRING.search(source)
    first = docstring[1].strip() if docstring else "No docstring."
    classes, functions = len(CLASS.findall(source)), len(FUNCTION.findall(source))
    return f"{first} ({classes} classes, {functions} functions, {source.count(chr(10)) + 1} lines)"


class Cut(NamedTuple):
    """What is left of an answer, and why it ended there."""

    text: str
    reason: Literal["end_turn", "max_tokens", "stop_sequence"]
    sequence: str | None


def cut(text: str, *, max_tokens: int | None, stops: Sequence[str]) -> Cut:
    """An answer ends at the first stop sequence or after `max_tokens`, whichever comes first."""
    ends = [(text.find(stop), stop) for stop in stops if stop and stop in text]
    end, stop = min(ends, default=(len(text), None))
    limit = len(text) if max_tokens is None else max_tokens * CHARACTERS_PER_TOKEN
    if limit < end:
        return Cut(text[:limit], "max_tokens", None)
    return Cut(text[:end], "stop_sequence" if stop else "end_turn", stop)


class ToolUse(NamedTuple):
    name: str
    input: dict[str, Any]


def tool_use(
    prompt: Prompt,
    schemas: Mapping[str, msgspec.Raw],
    forced: str | None,
    inputs: Mapping[str, dict[str, Any]] | None = None,
) -> ToolUse | None:
    """The tool that the user asks for ("use tool NAME", "use tool NAME with {...}") or that the caller forces.

    Asked for several, it uses one after the other: the next one when the result of the last one has come. schemas: the
    tools' names and the JSON schemas of their input. inputs: what a tool gets without an input in the prompt; else the
    smallest one that its schema asks for.
    """
    asked = next(islice(USE_TOOL.finditer(prompt.asked), prompt.results, None), None)
    name = forced or (asked[1] if asked else None)
    if name is None or name not in schemas:
        return None
    given = _object(prompt.asked[asked.end() :]) if asked and prompt.asked[asked.end() :].startswith("{") else None
    if given is not None:
        return ToolUse(name, given)
    if inputs and name in inputs:
        return ToolUse(name, inputs[name])
    return ToolUse(name, _example(msgspec.json.decode(schemas[name], type=dict[str, Any]), prompt.digest))


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object at the beginning of a text."""
    for end in (match.end() for match in re.finditer(r"\}", text)):
        try:
            return msgspec.json.decode(text[:end], type=dict[str, Any])
        except msgspec.DecodeError:
            continue
    return None


def _example(schema: Mapping[str, Any], digest: str) -> Any:
    """The smallest value of a JSON schema: required properties only; strings name the prompt."""
    if schema.get("enum"):
        return schema["enum"][0]
    match schema.get("type", "object"):
        case "object":
            properties: Mapping[str, Mapping[str, Any]] = schema.get("properties", {})
            required: list[str] = schema.get("required", [])
            return {name: _example(properties.get(name, {}), digest) for name in required}
        case "array":
            return []
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return False
        case _:
            return f"sandbox {digest[:12]}"


def expected_answer(
    messages: Sequence[Mapping[str, Any]],
    *,
    system: str | Sequence[Mapping[str, Any]] | None = None,
    max_tokens: int | None = None,
    stop_sequences: Sequence[str] = (),
) -> str:
    """The text that either model service answers to these messages, given as they would be sent."""
    return cut(answer(_sent(messages, system)), max_tokens=max_tokens, stops=stop_sequences).text


def prompt_digest(
    messages: Sequence[Mapping[str, Any]], *, system: str | Sequence[Mapping[str, Any]] | None = None
) -> str:
    """The sha256 under which `/_sandbox/effects` counts the answers to these messages."""
    return _sent(messages, system).digest


class _Sent(msgspec.Struct):
    messages: list[Message]
    system: str | list[Block] | None


def _sent(messages: Sequence[Mapping[str, Any]], system: str | Sequence[Mapping[str, Any]] | None) -> Prompt:
    sent = msgspec.json.decode(msgspec.json.encode({"messages": messages, "system": system}), type=_Sent)
    return flatten(sent.messages, sent.system)
