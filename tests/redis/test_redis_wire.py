"""What is asked on the bare socket of the driver's connection is told as the driver would tell it."""

import socket

import pytest

from longwatch.admission.redis.link import EngineAway, Link
from longwatch.errors import StoreUnavailable
from longwatch.testing.redis import Server


@pytest.fixture
def link(server: Server) -> Link:
    return Link(server.url, "wire")


def test_a_connection_that_failed_in_a_block_is_used_no_more(link: Link) -> None:
    with link.pin():
        link._pinned()._sock.shutdown(socket.SHUT_RDWR)
        for _ in range(2):
            with pytest.raises(EngineAway, match="is away"):
                link.run("state", {"steady": 0, "parted": 0})
    assert link.run("state", {"steady": 0, "parted": 0})["now"] > 0
    link.close()


def test_an_answer_that_comes_in_pieces_is_read_whole(link: Link) -> None:
    ours, theirs = socket.socketpair()

    class Connection:
        _sock = ours

    theirs.sendall(b"$10")
    theirs.sendall(b"000\r\n" + b"x" * 10_000 + b"\r\n")
    assert link._answer(Connection()) == b"x" * 10_000
    ours.close()
    theirs.close()


def test_what_the_server_refuses_is_told_in_our_words(server: Server) -> None:
    link = Link(server.url, "wire", script=b"return redis.error_reply('NOPERM no')")
    with pytest.raises(StoreUnavailable, match="may not be written to"):
        link.run("state", {})
    link.close()
