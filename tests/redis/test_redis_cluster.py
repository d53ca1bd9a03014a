"""A cluster of two nodes: the keys of a fleet are on one of them, whichever of them is named, and may move to the other."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.crc import key_slot

from longwatch.admission.calls import Admitted, CallRequest
from longwatch.admission.redis import Link, RedisLimiter
from longwatch.admission.redis.link import KEYS
from longwatch.db.migrate import migrate
from longwatch.db.sqlite import SqliteDatabase
from longwatch.errors import BudgetExceeded, StoreUnavailable
from longwatch.policy.admission import Later
from longwatch.policy.limits import Budget, Cap, Limits, Service
from longwatch.policy.redact import Redactor
from longwatch.runtime.world import Machine
from longwatch.store import fleet
from longwatch.store.journal import Journal
from longwatch.testing.redis import program

SLOTS = 16_384
BUS = 10_000  # the nodes talk to each other on the port that is so much higher
PATIENCE_S = 30


def slot_of(tag: str) -> int:
    return int(key_slot(f"{{longwatch:{tag}}}:{KEYS[0]}".encode()))


def tag_on(node: int) -> str:
    """A fleet whose keys are on the first node (0) or on the second (1)."""
    return next(tag for tag in (f"fleet-{n}" for n in range(1000)) if slot_of(tag) * 2 // SLOTS == node)


@dataclass
class Node:
    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def tell(self, *words: object) -> Any:
        with Redis(port=self.port) as client:
            untyped: Any = client
            return untyped.execute_command(*words)

    @property
    def id(self) -> str:
        return str(self.tell("CLUSTER MYID").decode())


def node(folder: Path) -> Node:
    port = free_port()
    folder.mkdir()
    options = [
        "--bind",
        "127.0.0.1",
        "--cluster-enabled",
        "yes",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(folder),
    ]
    process = subprocess.Popen([program(), "--port", str(port), *options], stdout=subprocess.DEVNULL)
    return Node(port, process)


def free_port() -> int:
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            if port + BUS < 65_536:
                try:
                    other.bind(("127.0.0.1", port + BUS))
                except OSError:
                    continue
                return port


def until(true: Any) -> None:
    ends = time.monotonic() + PATIENCE_S
    while True:
        try:
            if true():
                return
        except OSError:
            pass
        except Exception as error:
            if "ConnectionError" not in type(error).__name__:
                raise
        assert time.monotonic() < ends, "the cluster does not come up"
        time.sleep(0.05)


@pytest.fixture
def cluster() -> Iterator[list[Node]]:
    folder = Path(tempfile.mkdtemp(prefix="lw-cluster-"))
    nodes = [node(folder / name) for name in ("first", "second")]
    try:
        for each in nodes:
            until(lambda each=each: each.tell("PING"))
        nodes[0].tell("CLUSTER", "ADDSLOTS", *range(SLOTS // 2))
        nodes[1].tell("CLUSTER", "ADDSLOTS", *range(SLOTS // 2, SLOTS))
        nodes[0].tell("CLUSTER", "MEET", "127.0.0.1", nodes[1].port)
        for each in nodes:
            until(lambda each=each: each.tell("CLUSTER INFO")["cluster_state"] == "ok")
        yield nodes
    finally:
        for each in nodes:
            each.process.kill()
            each.process.wait(PATIENCE_S)
        shutil.rmtree(folder, ignore_errors=True)


def ask(link: Link) -> dict[str, Any]:
    return link.run("state", {"steady": 0, "parted": 0})


@pytest.mark.parametrize("owner", [0, 1])
@pytest.mark.parametrize("named", [0, 1])
def test_whichever_node_is_named_the_one_with_the_keys_is_asked(cluster: list[Node], named: int, owner: int) -> None:
    link = Link(cluster[named].url, tag_on(owner))
    assert ask(link)["k"] == "state"
    before = int(cluster[owner].tell("INFO", "stats")["total_commands_processed"])
    for _ in range(20):
        ask(link)
    assert int(cluster[owner].tell("INFO", "stats")["total_commands_processed"]) >= before + 20
    link.close()


def test_a_fleet_whose_keys_were_lost_on_the_way_goes_on_and_no_budget_opens(
    cluster: list[Node], tmp_path: Path
) -> None:
    machine = Machine()
    database = SqliteDatabase(str(tmp_path / "s.db"), machine)
    migrate(database)
    fleet.enter(database, machine, name="shop", redaction_key="00")
    tag = tag_on(0)
    limits = Limits(
        services={"free": Service("free")}, budgets={"small": Budget("small", {"money": (Cap(100_000, "total"),)})}
    )
    limiter = RedisLimiter(
        database,
        Journal(database, Redactor(b"key")),
        limits,
        link=Link(cluster[1].url, tag),
        clock=machine,
        new_token=lambda: machine.new_id("engine"),
    )
    for number in range(2):
        limiter.admit(CallRequest(f"call_{number}", f"call_{number}", "free", "ann", "me", budget="small", money=40))
    limiter.settle("call_0", owner="me", money=40)
    cluster[0].tell("FLUSHALL")
    for each in (cluster[1], cluster[0]):
        each.tell("CLUSTER", "SETSLOT", slot_of(tag), "NODE", cluster[1].id)
    with pytest.raises(BudgetExceeded):
        admitted(limiter, CallRequest("call_2", "call_2", "free", "ann", "me", budget="small", money=99_961))
    answer = admitted(limiter, CallRequest("call_3", "call_3", "free", "ann", "me", budget="small", money=20))
    assert isinstance(answer, Admitted)
    limiter.close()
    database.close()


def admitted(limiter: RedisLimiter, request: CallRequest) -> object:
    """The answer, once meters that begin spent have let it ask."""
    ends = time.monotonic() + PATIENCE_S
    while isinstance(answer := limiter.admit(request), Later) and time.monotonic() < ends:
        time.sleep(0.1)
    return answer


def test_keys_that_move_to_the_other_node_are_followed(cluster: list[Node]) -> None:
    tag = tag_on(0)
    link, runs = Link(cluster[0].url, tag), list[str]()
    link.greet = runs.append
    ask(link)
    for each in (cluster[1], cluster[0]):
        each.tell("CLUSTER", "SETSLOT", slot_of(tag), "NODE", cluster[1].id)
    assert ask(link)["k"] == "state"
    assert runs[0] != runs[-1], "whoever has the keys now is not known to have them all: it is greeted as another one"
    link.close()


def test_a_cluster_that_has_lost_a_node_is_waited_for(cluster: list[Node]) -> None:
    link = Link(cluster[0].url, tag_on(1), timeout_s=1.0)
    ask(link)
    cluster[1].process.kill()
    cluster[1].process.wait(PATIENCE_S)
    with pytest.raises(StoreUnavailable) as caught:
        ask(link)
    assert caught.value.waits
    link.close()
