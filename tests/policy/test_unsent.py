"""Which errors prove that nothing was sent: real errors of real clients against ports where nobody listens."""

import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable, Generator

import httpx
import pytest
import requests
import urllib3

from longwatch.policy.unsent import proves_unsent

Request = Callable[[str], object]

CLIENTS: dict[str, Request] = {
    "httpx": lambda url: httpx.get(url, timeout=5),
    "requests": lambda url: requests.get(url, timeout=5),
    "urllib3": lambda url: urllib3.PoolManager(retries=False, timeout=5).request("GET", url),
    "urllib": lambda url: urllib.request.urlopen(url, timeout=5),
}


def error_of(request: Request, url: str) -> BaseException:
    try:
        request(url)
    except Exception as error:  # noqa: BLE001 - whatever the client raises is what is looked at
        return error
    raise AssertionError("the request went through")


@pytest.fixture
def closed_port() -> Generator[int]:
    with socket.socket() as holder:  # bound and not listening: connections are refused
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
def hangs_up() -> Generator[int]:
    """A server that reads the request and closes without an answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_refused_connection_proves_that_nothing_was_sent(client: str, closed_port: int) -> None:
    assert proves_unsent(error_of(CLIENTS[client], f"http://127.0.0.1:{closed_port}/"))


@pytest.mark.parametrize("client", CLIENTS)
def test_a_server_that_hangs_up_proves_nothing(client: str, hangs_up: int) -> None:
    assert not proves_unsent(error_of(CLIENTS[client], f"http://127.0.0.1:{hangs_up}/"))


def test_an_sdk_error_that_wraps_a_refused_connection_is_a_proof(closed_port: int) -> None:
    import anthropic

    client = anthropic.Anthropic(base_url=f"http://127.0.0.1:{closed_port}", api_key="k", max_retries=0)

    def ask(_: str) -> object:
        return client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}])

    assert proves_unsent(error_of(ask, ""))


def test_an_error_after_a_failed_connection_is_no_proof_of_its_own() -> None:
    """The program could not connect, did something else instead, and that failed."""

    def fall_back() -> None:
        try:
            raise ConnectionRefusedError
        except ConnectionRefusedError:
            raise RuntimeError("the second provider answered 500")  # noqa: B904 - the context is the point

    assert not proves_unsent(error_of(lambda _: fall_back(), ""))


def test_a_read_that_failed_behind_a_proof_is_a_doubt() -> None:
    reading = type("ReadTimeout", (Exception,), {})()
    reading.__cause__ = ConnectionRefusedError()
    assert not proves_unsent(reading)


@pytest.mark.parametrize(
    ("error", "proof"),
    [
        (socket.gaierror(-2, "Name or service not known"), True),
        (ssl.SSLCertVerificationError("self-signed certificate"), True),
        (ConnectionResetError(), False),
        (TimeoutError(), False),
        (ValueError("no"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_the_systems_own_errors(error: BaseException, proof: bool) -> None:
    assert proves_unsent(error) is proof


def test_a_chain_that_bites_its_tail_ends() -> None:
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__cause__, other.__cause__ = other, one
    assert not proves_unsent(one)
