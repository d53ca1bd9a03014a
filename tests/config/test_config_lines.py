"""Every key of a TOML file is found on its line, however the file is spaced and quoted."""

import tomllib
from collections.abc import Iterator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longwatch.config.lines import KeyPath, dotted, index_lines

ODD = '''\
# a comment with [brackets] and "quotes"
  [ service . anthropic . model . "claude-haiku-*" ]   # odd spacing
rate   =   { requests = "200/min" , "input_tokens"='4/min' }
[service.'stripe']
"burst" = 5
text = """
[not.a.table]
key = "no key" """
warn = [  # an array of several lines
  0.5,
  0.8,   # with a comment, ]

  { deep = [ 1,
             2 ] },
]
after = 1979-05-27 07:32:00
budget.growth.money = "50 GBP/month"
[[list]]
one = 1
[[list]]
one = 2
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("service", "anthropic", "model", "claude-haiku-*"), 2),
        (("service", "anthropic", "model", "claude-haiku-*", "rate"), 3),
        (("service", "anthropic", "model", "claude-haiku-*", "rate", "input_tokens"), 3),
        (("service", "stripe"), 4),
        (("service", "stripe", "burst"), 5),
        (("service", "stripe", "text"), 6),
        (("service", "stripe", "warn"), 9),
        (("service", "stripe", "warn", "[0]"), 10),
        (("service", "stripe", "warn", "[1]"), 11),
        (("service", "stripe", "warn", "[2]", "deep"), 13),
        (("service", "stripe", "warn", "[2]", "deep", "[1]"), 14),
        (("service", "stripe", "after"), 16),
        (("service", "stripe", "budget", "growth", "money"), 17),
        (("list",), 18),
    ],
)
def test_a_key_is_found_on_its_line(path: KeyPath, line: int) -> None:
    tomllib.loads(ODD)
    assert index_lines(ODD)[path] == line


def test_what_looks_like_a_key_inside_a_text_is_none() -> None:
    assert ("not", "a", "table") not in index_lines(ODD)
    assert ("service", "stripe", "key") not in index_lines(ODD)


def test_a_path_is_shown_as_it_is_written() -> None:
    assert dotted(("service", "anthropic", "model", "claude-haiku-*", "rate")) == (
        'service.anthropic.model."claude-haiku-*".rate'
    )
    assert dotted(("alerts", "to", "[0]", "env")) == "alerts.to[0].env"


def paths(value: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, each in cast("dict[str, object]", value).items():
            yield from paths(each, (*path, key))


PIECES = st.sampled_from(
    [
        "a",
        "b",
        "1",
        '"q.w"',
        "'l'",
        ".",
        "=",
        " = ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "\n",
        " ",
        "#x",
        '"""',
        "'''",
        '"\\""',
        "a = 1\n",
    ]
)
STATEMENTS = st.sampled_from(
    [
        "[a]",
        '[a."b c"]',
        "[[t]]",
        "k = 1",
        'x.y = "v" # c',
        "m = '''\n[no]\n'''",
        'm2 = """a\\\n  "" b"""""',
        "n = { p = [1, 2], q.r = 'x' }",
        "o = [\n 1, # ]\n { z = 1 },\n]",
        "d = 1979-05-27T07:32:00Z",
        "e = 1.5e3",
        "",
        "\t# only a comment",
    ]
)


@given(
    st.one_of(st.lists(PIECES, max_size=14).map("".join), st.lists(STATEMENTS, max_size=8, unique=True).map("\n".join))
)
def test_every_key_that_toml_knows_has_a_line(text: str) -> None:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = index_lines(text)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())
    assert [path for path in paths(document) if path not in lines] == []


@given(
    st.lists(st.tuples(STATEMENTS.filter(lambda text: text.startswith(("#", "\t", "m", "o")) or not text)), max_size=4)
)
def test_what_stands_before_a_key_only_moves_it_down(before: list[tuple[str]]) -> None:
    text = "\n".join(dict.fromkeys(each for (each,) in before))
    if text:
        text += "\n"
    assert index_lines(text + "last = 1\n")["last",] == text.count("\n") + 1
