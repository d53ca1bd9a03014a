"""Which paths a model may name by its memory tool: all below /memories, each file by one name only.

Nothing is ever opened by such a path, it is a key of a table. It is looked at as if it were opened all the same: what is kept
may be written to a disk one day, and a name that is not what it seems deceives the person who reads it. Refused is what
leaves the folder or would once it is decoded or normalised, what cannot be seen, and what is longer than a file system takes.
"""

import re
import unicodedata

ROOT = "/memories"
NAME_MAX, PATH_MAX = 255, 1_024  # bytes
DEPTH_MAX = 16
SHOWN = 200  # characters of a refused path in a message

ENCODED = re.compile(r"%[0-9a-fA-F]{2}")
UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
"""Categories of Unicode: controls, formats (among them what turns the direction of text), halves, unassigned, spaces."""
SLASHES = re.compile("[\\\\\u2044\u2215\u2216\u29f5\u29f8\u29f9\ufe68\uff0f\uff3c]")
"""A backslash, and what looks like a slash of either kind."""


class Declined(Exception):
    """What the model is told instead of an answer: nothing was done."""


def below(path: str) -> str:
    """The path as it is kept, without /memories; "" for that folder itself. Errors: Declined."""
    if not path.startswith(ROOT) or path[len(ROOT) :][:1] not in ("", "/"):
        raise Declined(f"Path must start with {ROOT}, got: {_shown(path)}")
    if any(sign != " " and unicodedata.category(sign) in UNSEEN for sign in path):
        raise Declined(f"Path {_shown(path)} holds characters that cannot be seen")
    found = unicodedata.normalize("NFC", path)
    names = found[len(ROOT) + 1 :].removesuffix("/").split("/") if len(found) > len(ROOT) + 1 else []
    if _escapes(found) or any(map(_is_dots, names)):
        raise Declined(f"Path {_shown(path)} would escape {ROOT} directory")
    _refuse_form(names, path)
    return "/".join(names)


def shown(kept: str) -> str:
    """As the model names it."""
    return f"{ROOT}/{kept}" if kept else ROOT


def folders_of(kept: str) -> list[str]:
    """Every folder that the file is in, but for /memories itself."""
    names = kept.split("/")
    return ["/".join(names[:count]) for count in range(1, len(names))]


def around(folder: str) -> tuple[str, str]:
    """The first path that can be below a folder, and the first that cannot be any more, in the order of their bytes."""
    return (f"{folder}/", f"{folder}0") if folder else ("", "\U0010ffff")


def _escapes(path: str) -> bool:
    """As it stands, or as somebody who decodes or normalises it would read it."""
    read = unicodedata.normalize("NFKC", path)
    different = read.count("/") != path.count("/") or any(map(_is_dots, read.split("/")))
    return different or SLASHES.search(path + read) is not None or ENCODED.search(path + read) is not None


def _is_dots(name: str) -> bool:
    return bool(name) and not name.strip(". ")


def _refuse_form(names: list[str], path: str) -> None:
    if any(not name or name != name.strip() for name in names):
        raise Declined(f"Path {_shown(path)} holds an empty name, or one with a space at its beginning or end")
    longest = max((len(name.encode()) for name in names), default=0)
    whole = len("/".join(names).encode())
    if longest > NAME_MAX or whole > PATH_MAX or len(names) > DEPTH_MAX:
        raise Declined(
            f"Path {_shown(path)} is too long: its longest name has {longest:,} bytes (at most {NAME_MAX}), all of it "
            f"{whole:,} (at most {PATH_MAX:,}), in {len(names)} levels (at most {DEPTH_MAX})"
        )


def _shown(path: str) -> str:
    """Of a path that may hold anything."""
    plain = path if path.isprintable() else ascii(path)[1:-1]
    return plain if len(plain) <= SHOWN else plain[:SHOWN] + "…"
