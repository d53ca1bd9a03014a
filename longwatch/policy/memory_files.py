"""Claude's memory tool (memory_20250818) as text: its commands, what each does to a file, and the words it answers with.

The words are those that Anthropic documents for the tool; where it leaves them open, those of its SDK's tool for a folder. A
file is a text; a folder is there as long as a file is in it. Lines end with a line feed.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from longwatch.policy.memory_paths import Declined, shown

FILE_MAX = 256 * 1024  # bytes of one file
ALL_MAX = 16 * 1024 * 1024  # bytes of all files of an agent
FILES_MAX = 1_000  # of an agent
KEPT_MAX = 64 * 1024 * 1024  # bytes of all texts of an agent that are kept, with those of earlier versions

VIEW_MAX = 16_000  # characters of a text that is viewed at once
NUMBER = 6  # characters of a line's number
NEAR = 2  # lines before and behind a change that are shown with it
LEVELS = 2  # of folders in a listing
LINES_NAMED = 50
UNITS = "BKMG"


# -- commands --------------------------------------------------------------------------------------------------------------


class View(msgspec.Struct, frozen=True, tag_field="command", tag="view"):
    path: str
    view_range: list[int] | None = None


class Create(msgspec.Struct, frozen=True, tag_field="command", tag="create"):
    path: str
    file_text: str


class StrReplace(msgspec.Struct, frozen=True, tag_field="command", tag="str_replace"):
    path: str
    old_str: str
    new_str: str | None = None


class Insert(msgspec.Struct, frozen=True, tag_field="command", tag="insert"):
    path: str
    insert_line: int
    insert_text: str


class Delete(msgspec.Struct, frozen=True, tag_field="command", tag="delete"):
    path: str


class Rename(msgspec.Struct, frozen=True, tag_field="command", tag="rename"):
    old_path: str
    new_path: str


Command: TypeAlias = View | Create | StrReplace | Insert | Delete | Rename


def command_of(given: object) -> Command:
    """What a model asks for, as its tool_use block holds it. Errors: Declined."""
    try:
        found: Command = msgspec.convert(given, Command)
    except msgspec.ValidationError as error:
        raise Declined(
            f"Error: {error}. The commands are view, create, str_replace, insert, delete and rename."
        ) from error
    return found


# -- what a command does to a text -------------------------------------------------------------------------------------------


class Edited(NamedTuple):
    """line: the first that was changed, from 0."""

    text: str
    line: int


def replaced(text: str | None, *, old: str, new: str, path: str) -> Edited:
    """text: None where there is no such file. Errors: Declined unless the old text is there once."""
    if text is None:
        raise Declined(f"Error: {unknown(path)}")
    found = text.count(old) if old else 0
    if not found:
        raise Declined(f"No replacement was performed, old_str `{old}` did not appear verbatim in {path}.")
    if found > 1:
        listed = ", ".join(map(str, _lines_of(text, old)))
        raise Declined(
            f"No replacement was performed. Multiple occurrences of old_str `{old}` in lines: {listed}. "
            "Please ensure it is unique"
        )
    return Edited(text.replace(old, new), text[: text.index(old)].count("\n"))


def _lines_of(text: str, wanted: str) -> list[int]:
    """Numbers of the lines in which it begins; the first LINES_NAMED."""
    lines: list[int] = []
    at = text.find(wanted)
    while at >= 0 and len(lines) < LINES_NAMED:
        lines.append(text.count("\n", 0, at) + 1)
        at = text.find(wanted, at + 1)
    return lines


def inserted(text: str | None, *, line: int, new: str, path: str) -> Edited:
    """The new text behind so many lines. text: None where there is no such file. Errors: Declined."""
    if text is None:
        raise missing(path)
    lines = text.removesuffix("\n").split("\n") if text else []
    if not 0 <= line <= len(lines):
        raise Declined(
            f"Error: Invalid `insert_line` parameter: {line}. It should be within the range of lines of the file: "
            f"[0, {len(lines)}]"
        )
    made = "\n".join([*lines[:line], new.rstrip("\n"), *lines[line:]])
    return Edited(made if made.endswith("\n") else made + "\n", line)


# -- what it answers ---------------------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """A file of a listing. path: as it is kept. size: bytes."""

    path: str
    size: int


def missing(path: str) -> Declined:
    return Declined(f"Error: The path {path} does not exist")


def unknown(path: str) -> Declined:
    return Declined(f"The path {path} does not exist. Please provide a valid path.")


def numbered(lines: Sequence[str], first: int) -> list[str]:
    """first: the number of the first of them."""
    return [f"{number:>{NUMBER}}\t{line}" for number, line in enumerate(lines, first)]


def viewed(path: str, text: str, view_range: Sequence[int] | None) -> str:
    """The lines asked for, up to VIEW_MAX characters of them. Errors: Declined."""
    lines = text.split("\n")
    first, last = _checked(view_range, len(lines))
    chosen = _fitting(lines[first - 1 : last])
    told = numbered(chosen, first)
    if chosen and len(lines[first - 1]) > VIEW_MAX:
        told.append(f"[Line {first} has {len(lines[first - 1]):,} characters; the first {VIEW_MAX:,} are shown.]")
    if len(chosen) < last - first + 1:
        after = first + len(chosen)
        told.append(f"[Lines {after} to {last} were left out: view them with view_range [{after}, {last}].]")
    return f"Here's the content of {path} with line numbers:\n" + "\n".join(told)


def _checked(view_range: Sequence[int] | None, count: int) -> tuple[int, int]:
    """The first line and the last one. Errors: Declined."""
    if not view_range:
        return 1, count
    first, last = view_range if len(view_range) == 2 else (0, 0)
    if not 1 <= first <= count or (last != -1 and last < first):
        raise Declined(
            f"Error: Invalid `view_range` parameter: {list(view_range)}. It should be two lines of the file, of [1, {count}], "
            "the second not before the first, or -1 for the last one"
        )
    return first, count if last == -1 else min(last, count)


def _fitting(lines: Sequence[str]) -> list[str]:
    """As many as VIEW_MAX characters hold; the first one at least, cut off if it has to be."""
    room, chosen = VIEW_MAX, list[str]()
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        chosen.append(line)
    return chosen or [_short(line) for line in lines[:1]]


def _short(line: str) -> str:
    return line if len(line) <= VIEW_MAX else line[:VIEW_MAX] + "…"


def listed(folder: str, entries: Iterable[Entry]) -> str:
    """folder: as it is kept. entries: every file below it, however deep, in the order of their paths."""
    sizes: dict[str, int] = {}
    total = 0
    for path, size in entries:
        names = (path[len(folder) :].lstrip("/") if folder else path).split("/")
        if any(name.startswith(".") or name == "node_modules" for name in names):
            continue
        total += size
        for depth in range(1, min(len(names), LEVELS) + 1):
            name = "/".join(names[:depth]) + ("" if depth == len(names) else "/")
            sizes[name] = sizes.get(name, 0) + size
    root = shown(folder)
    lines = [
        f"{sized(total)}\t{root}",
        *(f"{sized(sizes[name])}\t{root}/{name}" for name in sorted(sizes, key=_by_name)),
    ]
    told = _fitting(lines)
    if len(told) < len(lines):
        told.append(f"[{len(lines) - len(told)} more were left out: view one of the folders.]")
    return (
        f"Here're the files and directories up to {LEVELS} levels deep in {root}, excluding hidden items and node_modules:\n"
        + "\n".join(told)
    )


def _by_name(name: str) -> list[str]:
    return name.rstrip("/").split("/")


def sized(amount: int) -> str:
    """Bytes as a listing tells them: 0B, 1.5K, 2.0M."""
    unit = min((max(amount, 1).bit_length() - 1) // 10, len(UNITS) - 1)
    return f"{amount / 1024**unit:.1f}{UNITS[unit]}" if unit else f"{amount}B"


def created(path: str) -> str:
    return f"File created successfully at: {path}"


def replacement(edited: Edited) -> str:
    lines = edited.text.split("\n")
    first = max(0, edited.line - NEAR)
    told = "\n".join(numbered(list(map(_short, lines[first : edited.line + NEAR + 1])), first + 1))
    return f"The memory file has been edited. Here is the snippet showing the change (with line numbers):\n{told}"


def insertion(path: str) -> str:
    return f"The file {path} has been edited."


def deletion(path: str) -> str:
    return f"Successfully deleted {path}"


def renaming(old: str, new: str) -> str:
    return f"Successfully renamed {old} to {new}"


# -- how large it may be -------------------------------------------------------------------------------------------------------


def refuse_size(path: str, size: int, *, files: int, others: int) -> None:
    """files, others: how many there are besides this one, and their bytes together. Errors: Declined."""
    if size > FILE_MAX:
        raise Declined(
            f"Error: File {path} would have {size:,} bytes, and a file may have at most {FILE_MAX:,}. Split it, or shorten it."
        )
    if others + size > ALL_MAX or files >= FILES_MAX:
        raise Declined(
            f"Error: File {path} with {size:,} bytes does not fit: there are {files:,} other files (at most {FILES_MAX:,} in "
            f"all) of {others:,} bytes (at most {ALL_MAX:,} in all). Delete what is no longer needed."
        )
