"""An archive in S3, or in a store that speaks its language, through obstore (the extra `s3`).

Segments are objects under `segments/`. A manifest cannot be appended to there: each move is an object of its own, made only
if there is none of its number, so that of two writers on two hosts one is refused, and none is ever half there. Keys and
addresses come from the environment, as everywhere with S3 (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and the like), never from here.

Beside it a local folder is needed: for the draft before it is sent, for the side index, and for copies of the moves, which
never change.
"""

import contextlib
import os
import re
from collections.abc import Generator
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from longwatch.errors import ConfigError, NotFound, StoreUnavailable
from longwatch.store.archive.manifest import NAME
from longwatch.store.archive.places import Desk, OutOfReach
from longwatch.store.archive.refused import understood

SEGMENTS, MOVES = "segments", "manifest"
MOVE = re.compile(r"\d{8}\.json")
ANSWERS, RETRIES = timedelta(seconds=60), timedelta(seconds=30)  # of one request; of all its repetitions
PAST_END = "InvalidRange"


class Bucket(Desk):
    """url: s3://bucket/prefix. cache: a local folder of this archive alone, which may be lost at any time."""

    def __init__(self, url: str, cache: Path) -> None:
        """Errors: ConfigError without the extra `s3`; StoreUnavailable."""
        super().__init__(cache, url)
        self._bucket = url.removeprefix("s3://").partition("/")[0]
        try:
            self._obstore: Any = import_module("obstore")
            stores: Any = import_module("obstore.store")
        except ImportError as error:
            hint = 'Install the extra: pip install "longwatch[s3]".'
            raise ConfigError(f"an archive in {url} needs obstore, which is not installed", hint=hint) from error
        plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith(
            "http://"
        )  # the operator's own server, by his own word
        with self._asked():
            self._store: Any = stores.from_url(
                url,
                client_options={"timeout": ANSWERS, "allow_http": plain},
                retry_config={"max_retries": 5, "retry_timeout": RETRIES},
            )

    def sizes(self) -> dict[str, int]:
        with self._asked():
            found = {str(meta["path"]): int(meta["size"]) for meta in self._listed(SEGMENTS)}
        names = {path.removeprefix(f"{SEGMENTS}/"): size for path, size in found.items()}
        return {name: size for name, size in names.items() if NAME.fullmatch(name)}

    def read(self, name: str, start: int, size: int) -> bytes:
        if size <= 0:
            return b""
        try:
            with self._asked():
                return self._range(name, start, size)
        except StoreUnavailable as error:
            if PAST_END in str(error.__cause__):
                return b""
            raise

    def _range(self, name: str, start: int, size: int) -> bytes:
        try:
            return bytes(self._obstore.get_range(self._store, _key(name), start=start, length=size))
        except FileNotFoundError as error:
            raise NotFound(f"there is no segment {name} in {self.title}") from error

    def publish(self, draft: Path, name: str) -> None:
        """What is there under this name is the same: it is named after its hash."""
        with self._asked():
            self._obstore.put(self._store, _key(name), draft)

    def remove(self, name: str) -> None:
        with self._asked(), contextlib.suppress(FileNotFoundError):
            self._obstore.delete(self._store, _key(name))

    def moves(self) -> bytes:
        """In the order of their numbers; one that is missing is told by the chain."""
        with self._asked():
            listed = sorted((str(meta["path"]), str(meta["e_tag"])) for meta in self._listed(MOVES))
            return b"".join(
                self._move(path, tag) for path, tag in listed if MOVE.fullmatch(path.removeprefix(f"{MOVES}/"))
            )

    def append(self, line: bytes, *, n: int, good_bytes: int) -> None:
        path = f"{MOVES}/{n:08}.json"
        try:
            with self._asked():
                self._obstore.put(self._store, path, line, mode="create")
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, self._obstore.exceptions.AlreadyExistsError):
                raise
            if self._get(path) != line:  # else it is ours: the reply to it was lost, and it was sent again
                raise OutOfReach(
                    f"somebody else wrote the archive {self.title} at the same time: its move {n} already exists",
                    hint="Do it again: what was written is taken up. Nothing was taken out of the state.",
                    retry_after=1,
                ) from error

    def _move(self, path: str, tag: str) -> bytes:
        """From the copy, if it is one of this very object."""
        copies = self.path / MOVES
        copy = copies / f"{path.removeprefix(f'{MOVES}/')}-{re.sub('[^0-9A-Za-z]', '', tag)}"
        with contextlib.suppress(FileNotFoundError):
            return copy.read_bytes()
        text = self._get(path)
        with self.reachable():
            copies.mkdir(mode=0o700, exist_ok=True)
            draft = copies / f"draft-{os.getpid()}"
            draft.write_bytes(text)
            os.replace(draft, copy)
        return text

    def _get(self, path: str) -> bytes:
        with self._asked():
            return bytes(self._obstore.get(self._store, path).bytes())

    def _listed(self, folder: str) -> Generator[Any]:
        for page in self._obstore.list(self._store, folder):
            yield from page

    @contextlib.contextmanager
    def _asked(self) -> Generator[None]:
        """The store's refusals as StoreUnavailable."""
        try:
            yield
        except StoreUnavailable:
            raise
        except (self._obstore.exceptions.BaseError, OSError) as error:
            address = os.environ.get("AWS_ENDPOINT_URL", "").rpartition("@")[2]
            why, hint = understood(str(error), bucket=self._bucket, address=address)
            raise OutOfReach(f"the archive {self.title} cannot be used: {why}", hint=hint, retry_after=5) from error


def _key(name: str) -> str:
    assert NAME.fullmatch(name), name
    return f"{SEGMENTS}/{name}"
