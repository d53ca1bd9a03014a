"""Which line of a TOML file each key stands on, so that an error can point at it.

Values come from tomllib; this only walks over the same text, which tomllib has accepted before.
"""

import re
import tomllib
from dataclasses import dataclass

KeyPath = tuple[str, ...]
"""("service", "stripe", "rate"); an element of an array is named "[0]"."""

TOKEN = re.compile(
    r"""
      (?P<newline>\n)
    | (?P<space>[\ \t\r]+|\#[^\n]*)
    | (?P<text>\"\"\"(?:\\.|[^\\])*?\"\"\"\"{0,2} | '''.*?''''{0,2} | "(?:\\.|[^"\\\n])*" | '[^'\n]*')
    | (?P<mark>[\[\]{}=,.])
    | (?P<word>[^\s\[\]{}=,."'\#]+)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    line: int


def index_lines(text: str) -> dict[KeyPath, int]:
    """The line, from 1, on which every table, key and element of an array begins. text: valid TOML."""
    return _Walk(_tokens(text)).document()


def dotted(path: KeyPath) -> str:
    """As it is written: service.anthropic.model."claude-haiku-*".rate, alerts.to[0]."""
    parts = [part if re.fullmatch(r"[A-Za-z0-9_-]+|\[\d+\]", part) else f'"{part}"' for part in path]
    return ".".join(parts).replace(".[", "[")


def _tokens(text: str) -> list[Token]:
    tokens: list[Token] = []
    line = 1
    for found in TOKEN.finditer(text):
        if found.lastgroup != "space":
            tokens.append(Token(str(found.lastgroup), found[0], line))
        line += found[0].count("\n")
    return [*tokens, Token("newline", "\n", line)]


class _Walk:
    """One pass over the tokens, in the order of TOML's grammar."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.place = 0
        self.lines: dict[KeyPath, int] = {}

    def document(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._skip("\n"):
            if self._now().text == "[":
                line = self._now().line
                self._skip("[")
                table = self._name()
                self._skip("]")
                self._note(table, line)
            else:
                self._pair(table)
        return self.lines

    def _pair(self, table: KeyPath) -> None:
        line = self._now().line
        path = table + self._name()
        self._note(path, line)
        self.place += 1  # the equals sign
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        opening = self._now().text
        if opening == "{":
            self.place += 1
            while self._skip("\n", ",") and self._now().text != "}":
                self._pair(path)
            self.place += 1
        elif opening == "[":
            self._array(path)
        else:
            while self._now().text not in ("\n", ",", "]", "}"):
                self.place += 1

    def _array(self, path: KeyPath) -> None:
        self.place += 1
        number = 0
        while self._skip("\n", ",") and self._now().text != "]":
            element = (*path, f"[{number}]")
            self._note(element, self._now().line)
            self._value(element)
            number += 1
        self.place += 1

    def _name(self) -> KeyPath:
        parts = [_plain(self._take())]
        while self._now().text == ".":
            self.place += 1
            parts.append(_plain(self._take()))
        return tuple(parts)

    def _note(self, path: KeyPath, line: int) -> None:
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], line)

    def _now(self) -> Token:
        return self.tokens[self.place]

    def _take(self) -> Token:
        self.place += 1
        return self.tokens[self.place - 1]

    def _skip(self, *texts: str) -> bool:
        """Step over these; False at the end of the text."""
        while self.place < len(self.tokens) and self.tokens[self.place].text in texts:
            self.place += 1
        return self.place < len(self.tokens)


def _plain(token: Token) -> str:
    if token.kind != "text":
        return token.text
    (value,) = tomllib.loads(f"key = {token.text}").values()
    return str(value)
