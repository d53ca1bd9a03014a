"""A TCP proxy that can fail as networks do. It runs in a thread of its own, from `start` until `stop`.

    proxy = Proxy.start("/run/postgresql/.s.PGSQL.5432")
    proxy.port                     # on the loopback address
    proxy.stall(); proxy.flow()    # nothing passes; then all of it, late
    proxy.deafen(); proxy.flow()   # what is sent is lost, and connections of that time stay half open for ever
    proxy.lose_commits(3)          # the server commits three times, and the client's connection breaks instead of a reply
    proxy.refuse(); proxy.flow()   # connections break, and new ones are refused

As a program it is a delay: `proxy.py HOST PORT TARGET_HOST TARGET_PORT MILLISECONDS`, each way, until its input ends.
"""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"
"""PostgreSQL's CommandComplete of a commit: its letter, the length of 11, the tag."""

Mode = Literal["flowing", "stalled", "deaf", "refusing"]


@dataclass
class Pair:
    """A client's connection and the one made for it. dead: half open, nothing will ever pass."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    dead: bool = False

    def abort(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


@dataclass
class Proxy:
    """target: the path of a socket, or (host, port)."""

    target: str | tuple[str, int]
    host: str = "127.0.0.1"
    port: int = 0
    path: str = ""
    delay_s: float = 0.0
    mode: Mode = "flowing"
    commits_to_lose: int = 0
    commits_lost: int = 0
    _pairs: list[Pair] = field(default_factory=list[Pair])
    _flows: asyncio.Event = field(default_factory=asyncio.Event)
    _up: threading.Event = field(default_factory=threading.Event)
    _loop: asyncio.AbstractEventLoop | None = None
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def start(cls, target: str | tuple[str, int], *, path: str = "") -> "Proxy":
        """path: of a socket to listen on instead of a port."""
        proxy = cls(target, path=path)
        threading.Thread(target=lambda: asyncio.run(proxy.serve()), daemon=True).start()
        assert proxy._up.wait(20), "the proxy did not start"
        return proxy

    # -- faults, from any thread ---------------------------------------------------------------------------------------

    def stall(self) -> None:
        self._call(lambda: self._enter("stalled"))

    def deafen(self) -> None:
        self._call(lambda: self._enter("deaf"))

    def refuse(self) -> None:
        self._call(lambda: self._enter("refusing"))

    def flow(self) -> None:
        self._call(lambda: self._enter("flowing"))

    def lose_commits(self, commits: int) -> None:
        self.commits_to_lose = commits

    def stop(self) -> None:
        self._call(self._over.set)

    def _call(self, act: Callable[[], None]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(act)

    def _enter(self, mode: Mode) -> None:
        self.mode = mode
        (self._flows.clear if mode == "stalled" else self._flows.set)()
        for pair in self._pairs:
            pair.dead = pair.dead or mode == "deaf"
            if mode == "refusing":
                pair.abort()

    # -- in the loop ---------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._flows.set()
        if self.path:
            server = await asyncio.start_unix_server(self._serve_one, self.path)
        else:
            server = await asyncio.start_server(self._serve_one, self.host, self.port)
            self.port = server.sockets[0].getsockname()[1]
        self._up.set()
        await self._over.wait()
        server.close()
        self._flows.set()
        while self._pairs:  # what is aborted takes itself off
            for pair in self._pairs:
                pair.abort()
            await asyncio.sleep(0.01)

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "refusing":
            return writer.transport.abort()
        try:
            answers, there = await self._reached()
        except OSError:
            return writer.transport.abort()
        pair = Pair(writer, there, dead=self.mode == "deaf")
        self._pairs.append(pair)
        try:
            await asyncio.gather(self._pump(reader, there, pair), self._pump(answers, writer, pair, of_server=True))
        finally:
            self._pairs.remove(pair)
            pair.abort()
        return None

    async def _reached(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.target, str):
            return await asyncio.open_unix_connection(self.target)
        return await asyncio.open_connection(*self.target)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: Pair, *, of_server: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._flows.wait()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if pair.dead:
                    continue
                if of_server and self.commits_to_lose > 0 and COMMITTED in data:
                    self.commits_to_lose -= 1
                    self.commits_lost += 1
                    break
                writer.write(data)
                await writer.drain()
        if pair.dead:
            await self._over.wait()  # the other end hears nothing of it either
        pair.abort()


async def delay(host: str, port: str, target: str, target_port: str, milliseconds: str) -> None:
    proxy = Proxy((target, int(target_port)), host, int(port), delay_s=int(milliseconds) / 1000)
    serving = asyncio.create_task(proxy.serve())
    await asyncio.to_thread(proxy._up.wait)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    proxy._over.set()
    await serving


if __name__ == "__main__":
    asyncio.run(delay(*sys.argv[1:]))
