"""The wire to Redis: one script, sent by its digest; connections that are checked before they are used.

Nothing is tried again behind the caller's back, except once on a new connection when an old one turns out to be dead:
every operation of the script may be repeated. A connection that was never used tells which run of the server it leads to,
so that a server that was started anew is noticed before it is asked to decide.

In a cluster all keys of a fleet are on one node. Any node says which; that node is then spoken to, until it is away or
says that the keys have moved on.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
import hashlib
import socket
import struct
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import msgspec
from redis import exceptions
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, SSLConnection
from redis.retry import Retry

from longwatch.errors import ConfigError, StoreUnavailable

TIMEOUT_S = 2.0  # to connect, and for an answer: half of what it may take to be told that nobody is there
SHORT_S = 0.4  # the same where calls need not wait for it
OLDEST = (6, 2)
KEYS = ("book", "calls", "due", "loose", "asides")
SCRIPT = files("longwatch.admission.redis").joinpath("script.lua").read_bytes()
IDLE = 64  # connections kept
GONE = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
UNWRITABLE = (exceptions.ReadOnlyError, exceptions.NoPermissionError)
ELSEWHERE = (exceptions.MovedError, exceptions.AskError, exceptions.TryAgainError, exceptions.ClusterDownError)
RECEIVED, WORDS, LINE = 256, 4_096, b"\r\n"  # bytes that are read at once of numbers, of an answer in words
ONE = struct.Struct(">5xddxd2x")  # the answer of a call that weighs on one meter, as nearly all do
ONE_BEGINS = b"$25\r\n"
MOVES = 4  # how often one is sent on before it is told that nobody knows
encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(dict[str, Any]).decode


class EngineAway(StoreUnavailable):
    """It does not answer, or may not decide yet. It may soon."""

    waits = True


class Link:
    """To the keys of one fleet. Safe in threads. greet: is told the run of the server before a new connection is used."""

    def __init__(self, url: str, tag: str, *, script: bytes = SCRIPT, timeout_s: float = TIMEOUT_S) -> None:
        """tag: of the fleet, in its keys' names. Errors: ConfigError for an address that is none."""
        try:
            self._named = self._pool = ConnectionPool.from_url(
                _driven(url),
                retry=Retry(NoBackoff(), 0),
                socket_connect_timeout=timeout_s,
                socket_timeout=timeout_s,
                protocol=2,
            )
        except ValueError as error:
            hint = "Write redis://:PASSWORD@HOST:PORT/NUMBER, rediss://... or redis:///path/to/socket."
            raise ConfigError(f"the address of the admission engine cannot be read: {error}", hint=hint) from error
        self._timeout_s = timeout_s
        self.place = _place(self._pool.connection_kwargs)
        self.greet: Callable[[str], None] = lambda run: None
        self.script = script
        digest = hashlib.sha1(script, usedforsecurity=False).hexdigest()
        self._names = [f"{{longwatch:{tag}}}:{name}" for name in KEYS]
        self._head = packed("EVALSHA", digest, str(len(self._names)), *self._names)
        book, calls, *_, asides = self._names
        self._rates = tuple(
            b"*%d\r\n" % (4 + len(names)) + packed("EVALSHA", digest, str(len(names)), *names)
            for names in ([book, calls], [book, calls, asides])
        )
        self._idle: list[Any] = []  # taken and put back in one step each, so that threads need no lock
        self._local = threading.local()
        self.version = ""

    def run(self, operation: str, arguments: Mapping[str, object]) -> dict[str, Any]:
        """One operation of the script. Errors: StoreUnavailable, of which `waits` says that it may soon be back."""
        words = b"*%d\r\n" % (len(KEYS) + 5) + self._head + packed(operation, encode(arguments))
        pinned = self._pinned()
        if pinned is not None:
            return self._run_on(pinned, words)
        connection = self._idle_one()
        if connection is not None:
            try:
                return self._used(connection, decode(self._ask(connection, words)))
            except (*GONE, *ELSEWHERE):
                self._drop_all()  # an old connection has died, or its node lost the keys: ask again on a new one
            except exceptions.RedisError as error:
                raise self.away(error) from error
        connection = self.connected()
        return self._used(connection, self._run_on(connection, words))

    def state(self) -> bytes:
        """The state, packed as it is kept. Errors: StoreUnavailable."""
        with self.pin():
            connection = self._pinned()
            try:
                connection.send_command("HGET", self._names[0], "")
                return connection.read_response(disable_decoding=True) or b""
            except (*GONE, exceptions.RedisError) as error:
                connection.disconnect()
                raise self.away(error) from error

    def numbers(self, said: bytes, *, aside: bool) -> Sequence[float] | None:
        """What `rates` answers; None: `run` may be told why not. aside: whether it looks at what is set aside.

        Asked on the bare socket of a connection that was used before: no driver reads the answer.
        """
        connection = self._idle_one()
        if connection is None:
            return None
        try:
            wire = connection._sock
            wire.sendall(b"%b$%d\r\n%b\r\n" % (self._rates[aside], len(said), said))
            answer = wire.recv(RECEIVED)
            usual = len(answer) == ONE.size and answer.startswith(ONE_BEGINS)
            found: Sequence[float] | None = ONE.unpack(answer) if usual else _read(answer)
            while found is None:
                answer += _more(wire)
                found = _read(answer)
        except GONE:
            connection.disconnect()
            self._drop_all()
            return None
        except BaseException:
            connection.disconnect()
            raise
        self._used(connection, {})
        return found or None

    def _run_on(self, connection: Any, words: bytes) -> dict[str, Any]:
        try:
            return decode(self._ask(connection, words))
        except (*GONE, exceptions.RedisError) as error:
            raise self.away(error) from error

    # -- connections -----------------------------------------------------------------------------------------------------

    def _used(self, connection: Any, answer: dict[str, Any]) -> dict[str, Any]:
        if connection._sock is not None and len(self._idle) < IDLE:
            self._idle.append(connection)
        else:
            connection.disconnect()
        return answer

    def _idle_one(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _pinned(self) -> Any:
        return getattr(self._local, "connection", None)

    @contextmanager
    def pin(self, connection: Any = None) -> Generator[None]:
        """In the block this thread uses one connection, which is there already: nothing is waited for but an answer."""
        if self._pinned() is not None:
            yield
            return
        self._local.connection = connection or self._idle_one() or self.connected()
        try:
            yield
        finally:
            used, self._local.connection = self._local.connection, None
            if connection is None:
                self._used(used, {})

    def connected(self) -> Any:
        """A new connection to a server that may decide. Errors: StoreUnavailable."""
        for _ in range(MOVES - 1):
            try:
                return self._connected()
            except exceptions.MovedError as moved:
                self._follow(moved)
            except StoreUnavailable as error:
                if self._pool is self._named or not error.waits:
                    raise
                self._pool = self._named  # the node is away, and another one may have its keys by now
        try:
            return self._connected()
        except exceptions.MovedError as moved:
            raise self.away(moved) from moved

    def _connected(self) -> Any:
        """Errors: StoreUnavailable; MovedError, where another node of the cluster has the keys."""
        connection: Any = self._pool.make_connection()
        try:
            connection.connect()
            _bare(connection._sock, self._timeout_s)
            run = self._check(connection)
            with self.pin(connection):
                self.greet(run)
        except BaseException as error:
            connection.disconnect()
            if isinstance(error, exceptions.MovedError) or not isinstance(error, (*GONE, exceptions.RedisError)):
                raise
            raise self.away(error) from error
        return connection

    def _follow(self, moved: exceptions.MovedError) -> None:
        """From here on speak to the node of the cluster that has the keys."""
        known = self._pool.connection_kwargs
        address = {name: value for name, value in known.items() if name not in ("host", "port", "path")}
        host = moved.host or known.get("host", "localhost")
        secure = issubclass(self._named.connection_class, SSLConnection)
        self._pool = ConnectionPool(
            connection_class=SSLConnection if secure else Connection, host=host, port=moved.port, **address
        )
        self._drop_all()

    def _check(self, connection: Any) -> str:
        connection.send_command("INFO")
        facts = _facts(connection.read_response(disable_decoding=True))
        if facts.get("cluster_enabled") == "1":
            connection.send_command("EXISTS", self._names[0])  # answered by the node that has it, and by no other
            connection.read_response()
        self.version = facts.get("redis_version", "0")
        if tuple(int(part) for part in self.version.split(".")[:2]) < OLDEST:
            raise self.unfit(f"it is version {self.version}", "Use Redis 6.2 or newer, or Valkey.")
        if facts.get("role") != "master":
            hint = f"Give the address of its primary: {facts.get('master_host')}:{facts.get('master_port')}."
            raise self.unfit("it is a replica, which cannot be written to", hint)
        if (policy := facts.get("maxmemory_policy")) != "noeviction":
            raise self.unfit(
                f"it throws keys away when its memory is full (maxmemory-policy {policy}), and limits with them",
                "CONFIG SET maxmemory-policy noeviction; or give limits a server of their own.",
            )
        return facts["run_id"]

    def _ask(self, connection: Any, words: bytes) -> bytes:
        """On its bare socket: no driver sends the words or reads the answer."""
        if connection._sock is None:
            raise exceptions.ConnectionError("the connection was closed")  # in the same block, by what failed before
        try:
            connection._sock.sendall(words)
            try:
                return self._answer(connection)
            except exceptions.NoScriptError:
                connection.send_command("SCRIPT", "LOAD", self.script)
                connection.read_response()
                connection._sock.sendall(words)
                return self._answer(connection)
        except BaseException:
            connection.disconnect()
            raise

    def _answer(self, connection: Any) -> bytes:
        """The one word of an answer. Errors: what the server refuses, as the driver raises it."""
        wire = connection._sock
        answer = bytearray(_more(wire, WORDS))
        while LINE not in answer:
            answer += _more(wire, WORDS)
        head, _, word = answer.partition(LINE)
        if head.startswith(b"-"):
            raise connection._parser.parse_error(head[1:].decode(errors="replace"))
        if not head.startswith(b"$"):
            raise exceptions.InvalidResponse(f"it answered {bytes(head[:40])!r}")
        size = int(head[1:])
        while len(word) < size + len(LINE):
            word += _more(wire, WORDS)
        return bytes(word[:size])

    def _drop_all(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.disconnect()

    def renew(self) -> None:
        """Use new connections from here on: with the first of them it is found out what the server remembers."""
        self._drop_all()
        with self.pin():
            pass

    def forget(self) -> None:
        """Delete the fleet's keys: the fleet is over. Errors: StoreUnavailable."""
        with self.pin():
            connection = self._pinned()
            try:
                connection.send_command("DEL", *self._names)
                connection.read_response()
            except (*GONE, exceptions.RedisError) as error:
                connection.disconnect()
                raise self.away(error) from error

    def close(self) -> None:
        self._drop_all()

    # -- errors --------------------------------------------------------------------------------------------------------

    def unfit(self, why: str, hint: str) -> StoreUnavailable:
        return StoreUnavailable(f"the admission engine at {self.place} cannot be used: {why}", hint=hint)

    def away(self, error: BaseException) -> StoreUnavailable:
        """What redis raised, in our words."""
        said = str(error).strip() or type(error).__name__
        if isinstance(error, exceptions.AuthenticationError) or said.startswith(("NOAUTH", "WRONGPASS")):
            hint = 'Check user and password in [fleet] admission; better { env = "REDIS_URL" }.'
            return self.unfit(f"it refuses this user or password ({said})", hint)
        if isinstance(error, UNWRITABLE) or said.startswith(("NOPERM", "NOREPLICAS")):
            return self.unfit(
                f"it may not be written to ({said})", "Give the address of its primary, as a user who may."
            )
        if isinstance(error, exceptions.OutOfMemoryError):
            return self.unfit("its memory is full", "Give it more memory, or a server of its own.")
        waits = isinstance(error, (*GONE, *ELSEWHERE, exceptions.BusyLoadingError))
        return (EngineAway if waits else StoreUnavailable)(
            f"the admission engine at {self.place} is away: {said}",
            hint="Start it, or check [fleet] admission. Calls wait for it as long as they may; nothing is lost.",
        )


def _driven(url: str) -> str:
    """As the driver wants it: a path without a host is a socket of this machine."""
    parts = urlsplit(url)
    path = parts.path.strip("/")
    if parts.hostname is None and path and not path.isdigit():
        return "unix" + url.removeprefix(parts.scheme)
    return url


def _place(address: Mapping[str, Any]) -> str:
    """As it may be shown: no password."""
    if "path" in address:
        return str(address["path"])
    return f"{address.get('host', 'localhost')}:{address.get('port', 6379)}"


def packed(*words: str | bytes) -> bytes:
    said = [word.encode() if isinstance(word, str) else word for word in words]
    return b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in said])


def _read(answer: bytes) -> Sequence[float] | None:
    """The number, or the numbers in one word, of a whole answer; nothing of an error. None: it is not whole yet."""
    head, line, word = answer.partition(LINE)
    if not line:
        return None
    if head.startswith(b"$"):
        size = int(head[1:])
        return struct.unpack_from(f">dd{(size - 16) // 9 * 'xd'}", word) if len(word) == size + 2 else None
    return [int(head[1:])] if head.startswith(b":") else []


def _more(wire: socket.socket, most: int = RECEIVED) -> bytes:
    """Errors: ConnectionError at its end."""
    if said := wire.recv(most):
        return said
    raise ConnectionError("the connection was closed")


def _bare(wire: socket.socket, timeout_s: float) -> None:
    """The kernel keeps the time of a plain socket, and nothing has to be asked before every send and receive."""
    if type(wire) is socket.socket:
        parts = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1_000_000))
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, parts)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, parts)
        wire.settimeout(None)


def _facts(info: bytes) -> dict[str, str]:
    lines = [line.partition(":") for line in info.decode("utf-8", "replace").splitlines()]
    return {name: value for name, colon, value in lines if colon}


def unless_away(look: Callable[[], int]) -> int:
    """While the engine is away nobody's calls are looked after: their deadlines stay, and the next look finds them."""
    try:
        return look()
    except StoreUnavailable as error:
        if error.waits:
            return 0
        raise
