"""Serving the sandbox on a loopback port, in the foreground, until a signal or the end of a guard descriptor."""

import ipaddress
import os
import socket
import sys
import threading
from typing import Any

import msgspec

from longwatch.sandbox.settings import Settings, SettingsError
from longwatch.sandbox.tally import SERVICES

BACKLOG = 2_048
KEEP_ALIVE_S = 600  # no client meets a connection that closes under its next request
SHUTDOWN_S = 1


def serve(
    host: str = "127.0.0.1", port: int = 0, settings: Settings | None = None, *, guard: int | None = None
) -> None:
    """Serve until SIGINT or SIGTERM; print one JSON line with url, pid and base_urls once connections are accepted.

    port: 0 takes a free one. guard: a descriptor, say of a pipe from the parent, whose end also ends the server.
    Raises SettingsError for a host that is not loopback and for a port that is taken.
    """
    server = _server(settings or Settings())
    if guard is not None:
        threading.Thread(target=_watch, args=(guard, server), daemon=True).start()
    with _listen(host, port) as listener:
        _announce(listener)
        server.run(sockets=[listener])


def base_urls(url: str) -> dict[str, str]:
    return {service: f"{url}/{service}" for service in SERVICES}


def _listen(host: str, port: int) -> socket.socket:
    address = _loopback("127.0.0.1" if host == "localhost" else host)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's algorithm off only for sockets that say they are TCP:
    # with it on, every reply waits 40 ms for the acknowledgement of its headers.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((str(address), port))
    except OSError as error:
        listener.close()
        raise SettingsError("port", f"cannot listen on {host}:{port}: {error.strerror}") from error
    listener.listen(BACKLOG)
    return listener


def _loopback(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    problem = SettingsError("host", f"{host} is not a loopback address; the sandbox serves this machine only")
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise problem from error
    if not address.is_loopback:
        raise problem
    return address


def _announce(listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    line = msgspec.json.encode({"url": url, "pid": os.getpid(), "base_urls": base_urls(url)})
    sys.stdout.write(line.decode() + "\n")
    sys.stdout.flush()


def _server(settings: Settings) -> Any:
    """A uvicorn server with the sandbox in it, which does not listen yet."""
    import uvicorn  # here: who only talks to a sandbox needs neither uvicorn nor starlette

    from longwatch.sandbox.app import App

    app = App(settings)
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        ws="none",
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    server = uvicorn.Server(config)
    app.hang_up = lambda client: _hang_up(server, client)
    return server


def _hang_up(server: Any, client: tuple[str, int]) -> None:
    """Close a client's connection: ASGI has no word for it."""
    for connection in list(server.server_state.connections):
        if connection.client == client:
            connection.transport.close()


def _watch(guard: int, server: Any) -> None:
    while os.read(guard, 4_096):
        pass
    server.should_exit = True
