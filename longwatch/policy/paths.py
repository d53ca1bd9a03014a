"""Names of what can be leased and edited: files under the fleet's root, and `name:deploy` for what is no file.

One file has one name: the path relative to the root, without `.`, `..`, or doubled slashes, however it was written and
whatever folder the process is in. This is a matter of words only; that no symbolic link leads elsewhere is checked
where files are opened. Patterns are not names: `*` and `?` are refused.
"""

import posixpath
import re
from functools import lru_cache

from longwatch.errors import ConfigError

NAME = re.compile(r"name:[A-Za-z0-9][A-Za-z0-9._/@-]{0,199}")
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
LONGEST = 1_000  # characters
OWN = ".longwatch"
RULES = ("longwatch.toml", ".claude/settings.json", ".claude/settings.local.json")


def resource(name: str, *, root: str, inside: str = ".") -> str:
    """What a lease is on: a file as `target` spells it, or `name:...` as it is. Errors: ConfigError."""
    if not name.startswith("name:"):
        return target(name, root=root, inside=inside)
    if NAME.fullmatch(name) is None:
        raise ConfigError(
            f"{name!r} is not a name", hint='Write "name:deploy": letters, digits, . _ / @ - after the colon.'
        )
    return name


@lru_cache(1024)  # an agent names the same files again and again
def target(name: str, *, root: str, inside: str = ".") -> str:
    """The one spelling of a file's path, relative to `root` (absolute, itself without links).

    inside: the folder that a relative name starts from, itself relative to the root.
    Errors: ConfigError for a path that leaves the root, a pattern, a folder (`reports/`), an empty or unprintable name.
    """
    _refuse_odd(name)
    absolute = posixpath.normpath(posixpath.join(root, inside, name))
    relative = posixpath.relpath(absolute, root)
    if relative == "." or relative.split("/")[0] == "..":
        hint = "Paths are relative to the fleet's root; name a file below it, or set [fleet] root in longwatch.toml."
        raise ConfigError(f"{name!r} is not a file under the root {root}", hint=hint)
    return relative


def refuse_private(path: str, *, state: str = "") -> None:
    """Refuse Longwatch's own files, even to readers: a second handle on the state would drop its locks.

    path, state: as `target` spells them.
    """
    is_state = bool(state) and (path == state or path.startswith((f"{state}-", f"{state}.")))
    if path.split("/")[0] == OWN or is_state:
        raise ConfigError(f"{path} is Longwatch's own", hint="Read the state with longwatch status, journal and show.")


def refuse_protected(path: str, *, state: str = "") -> None:
    """Refuse an edit of Longwatch's own files, and of the rules that it obeys. path, state: as `target` spells them."""
    refuse_private(path, state=state)
    if any(path == rule or path.endswith(f"/{rule}") for rule in RULES):
        hint = "The governed may not edit the rules: change it by hand, outside of an edit."
        raise ConfigError(f"{path} is what Longwatch obeys, and cannot be edited through it", hint=hint)


def _refuse_odd(name: str) -> None:
    if not name or len(name) > LONGEST or UNPRINTABLE.search(name):
        raise ConfigError(f"{name[:60]!r} is not a path", hint=f"A path has 1 to {LONGEST} printable characters.")
    if "*" in name or "?" in name:
        raise ConfigError(f"{name!r} is a pattern", hint='Name exact files, or use a name of your own: "name:reports".')
    if name.endswith("/") or name.startswith("name:"):
        hint = 'Name exact files: "reports/march.json". A lease on what is no file is "name:reports".'
        raise ConfigError(f"{name!r} is not a file", hint=hint)


def folders_above(target: str) -> list[str]:
    """The folders that a target is in, below the root: "a/b/c" is in "a/b" and in "a"."""
    parts = target.split("/")[:-1]
    return ["/".join(parts[:depth]) for depth in range(len(parts), 0, -1)]
