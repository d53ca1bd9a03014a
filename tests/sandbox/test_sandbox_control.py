"""The control plane, the settings and the process."""

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from longwatch.sandbox import Anthropic, Rate, Sandbox, SandboxDied, Settings, SettingsError, Stripe, serve, started
from longwatch.sandbox.client import STOP_S
from longwatch.sandbox.settings import merged, parse
from longwatch.sandbox.tally import EVENTS_MAX, Tally

BODY = {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
CHARGE = {"amount": "1000", "currency": "gbp", "source": "tok_visa"}
PSUTIL: Any = importlib.import_module("psutil")  # it has no types
COMMAND = [sys.executable, "-m", "longwatch.sandbox"]


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether something becomes true within ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return False


def listening(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    return msgspec.json.decode(process.stdout.readline(), type=dict[str, Any])


def refused(url: str) -> bool:
    try:
        httpx.get(f"{url}/_sandbox/counts", trust_env=False)
    except httpx.ConnectError:
        return True
    return False


def test_counts_bill_and_events_agree_under_load(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.limits(stripe={"requests": {"amount": 40, "per_ms": 3_600_000}, "endpoint": None})

    def charge(_: int) -> int:
        return http.post("/stripe/v1/charges", data=CHARGE).status_code

    def message(_: int) -> int:
        return http.post("/anthropic/v1/messages", json=BODY).status_code

    with ThreadPoolExecutor(8) as threads:
        charges = list(threads.map(charge, range(100)))
        messages = list(threads.map(message, range(50)))
    assert (charges.count(200), charges.count(429), messages.count(200)) == (40, 60, 50)
    counts, bill, events = sandbox.counts(), sandbox.bill(), sandbox.events()
    assert counts["stripe"] == {
        "requests": 100,
        "statuses": {"200": 40, "429": 60},
        "endpoints": {"POST /v1/charges": {"200": 40, "429": 60}},
    }
    assert (bill["stripe"]["micros"], bill["anthropic"]["micros"]) == (40 * 200_000, 50 * 53)
    assert len(sandbox.effects()["charges"]) == 40
    assert [event.seq for event in events] == list(range(150))
    assert [event.t_ms for event in events] == sorted(event.t_ms for event in events)
    for service in ("stripe", "anthropic"):
        assert sum(event.cost_micros for event in events if event.service == service) == bill[service]["micros"]


def test_events_go_on_where_the_reader_left(sandbox: Sandbox, http: httpx.Client) -> None:
    for _ in range(3):
        http.get("/stripe/v1/charges")
    assert [event.seq for event in sandbox.events(since=2)] == [2]
    assert sandbox.events(since=3) == []
    assert abs(sandbox.events()[0].t_ms - time.time() * 1_000) < 60_000


def test_the_event_log_is_bounded_and_the_counts_are_not() -> None:
    tally = Tally({"stripe": "GBP"})
    for number in range(EVENTS_MAX + 5):
        tally.record("stripe", "GET /v1/charges", 200, t_ms=number, cost_micros=0)
    report = tally.events(0)
    assert (len(report["events"]), report["events"][0].seq, report["lost"]) == (EVENTS_MAX, 5, 5)
    assert tally.counts()["stripe"]["requests"] == EVENTS_MAX + 5


def test_a_real_key_is_shown_by_its_ends_only(sandbox: Sandbox, http: httpx.Client) -> None:
    key = "sk-ant-REALLY-SECRET-0123456789"
    http.post("/anthropic/v1/messages", json=BODY, headers={"x-api-key": key})
    assert sandbox.bill()["anthropic"]["keys"] == {"sk-ant-R...6789": 53}


def test_a_reset_forgets_everything_but_the_first_settings(sandbox: Sandbox, http: httpx.Client) -> None:
    before = sandbox.limits()
    http.post("/stripe/v1/charges", data=CHARGE, headers={"idempotency-key": "k"})
    sandbox.faults([{"service": "*", "kind": "status"}])
    sandbox.limits(stripe={"requests": {"amount": 1, "per_ms": 3_600_000}})
    sandbox.reset()
    assert sandbox.limits() == before
    assert (sandbox.counts()["stripe"]["requests"], sandbox.events(), sandbox.set_faults()) == (0, [], [])
    again = http.post("/stripe/v1/charges", data=CHARGE, headers={"idempotency-key": "k"})
    assert "idempotent-replayed" not in again.headers


def test_a_reset_is_not_disturbed_by_requests_in_flight(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.limits(stripe={"latency_ms": 800})
    status = list[int]()
    request = threading.Thread(target=lambda: status.append(http.post("/stripe/v1/charges", data=CHARGE).status_code))
    request.start()
    assert eventually(lambda: _in_flight(sandbox))
    sandbox.reset()
    request.join()
    assert status == [200]
    assert (sandbox.counts()["stripe"]["requests"], sandbox.effects()["charges"]) == (0, [])


def _in_flight(sandbox: Sandbox) -> bool:
    """A limit of one in flight tells, by its refusal, that the other request is there."""
    sandbox.limits(stripe={"concurrency": 1})
    probe = httpx.get(
        f"{sandbox.base_urls['stripe']}/v1/charges", headers={"authorization": "Bearer p"}, trust_env=False
    )
    return probe.status_code == 429


def test_the_work_is_done_though_its_client_has_left(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.limits(stripe={"latency_ms": 300})
    with pytest.raises(httpx.ReadTimeout):
        http.post("/stripe/v1/charges", data=CHARGE, timeout=0.1)
    assert eventually(lambda: len(sandbox.effects()["charges"]) == 1)


def test_an_open_stream_does_not_hold_up_the_end() -> None:
    with httpx.Client(trust_env=False, headers={"x-api-key": "k"}) as client:
        with started() as sandbox:
            sandbox.faults([{"service": "anthropic", "kind": "silent"}])
            url = f"{sandbox.base_urls['anthropic']}/v1/messages"
            request = client.build_request("POST", url, json={**BODY, "stream": True})
            stream = client.send(request, stream=True)
            assert stream.status_code == 200
            began = time.monotonic()
        assert time.monotonic() - began < STOP_S
        stream.close()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/limits", b'{"stripe": {"requests": {"amount": 0}}}'),
        ("POST", "/limits", b'{"paypal": {}}'),
        ("POST", "/limits", b"["),
        ("POST", "/faults", b"{}"),
        ("GET", "/events?since=x", b""),
    ],
)
def test_a_wrong_order_is_refused_and_changes_nothing(
    sandbox: Sandbox, http: httpx.Client, method: str, path: str, body: bytes
) -> None:
    before = sandbox.limits()
    reply = http.request(method, f"/_sandbox{path}", content=body)
    assert (reply.status_code, list(reply.json())) == (400, ["error"])
    assert sandbox.limits() == before


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "http://evil.example"}])
def test_a_web_page_cannot_reach_the_control_plane(
    sandbox: Sandbox, http: httpx.Client, headers: dict[str, str]
) -> None:
    assert http.post("/_sandbox/reset", headers=headers).status_code == 403


def test_the_environment_names_every_service(sandbox: Sandbox) -> None:
    env = sandbox.env()
    assert env["ANTHROPIC_BASE_URL"] == f"{sandbox.url}/anthropic"
    assert env["OPENAI_BASE_URL"] == f"{sandbox.url}/openai/v1"
    assert env["STRIPE_API_BASE"] == sandbox.base_urls["stripe"]
    assert env["GITHUB_API_URL"] == f"{sandbox.url}/github"
    assert all(env[name] for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "STRIPE_API_KEY", "GITHUB_TOKEN"))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"stripe": {"requests": {"amount": "many"}}}', "stripe.requests.amount"),
        ('{"stripe": {"speed": 1}}', "stripe.speed"),
        ('{"paypal": {}}', "paypal"),
        ('{"anthropic": {"latency_ms": -1}}', "anthropic.latency_ms"),
        ("{", "$"),
    ],
)
def test_a_wrong_setting_is_named(text: str, key: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse(text)
    assert error.value.key == key
    assert key in str(error.value)


def test_changes_replace_single_settings_only() -> None:
    settings = Settings(stripe=Stripe(fee_micros=7), anthropic=Anthropic(requests=Rate(1)))
    changed = merged(settings, {"stripe": {"requests": None}})
    assert (changed.stripe.fee_micros, changed.stripe.requests) == (7, None)
    assert changed.anthropic == settings.anthropic


def test_only_loopback_is_served() -> None:
    for host in ("0.0.0.0", "192.0.2.1", "example.com"):
        with pytest.raises(SettingsError, match="host"):
            serve(host)


def test_the_command_prints_one_line_and_ctrl_c_leaves_nothing_behind() -> None:
    settings = msgspec.json.encode(Settings(stripe=Stripe(fee_micros=5)))
    process = subprocess.Popen(
        [*COMMAND, "--settings", settings.decode()], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    line = listening(process)
    sandbox = Sandbox(line["url"])
    assert (line["pid"], line["base_urls"]) == (process.pid, sandbox.base_urls)
    assert sandbox.limits()["stripe"]["fee_micros"] == 5
    sandbox.close()
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=20)
    assert (process.returncode, rest, errors) == (130, b"", b"")
    assert refused(line["url"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--settings", '{"stripe": {"speed": 1}}'], b"stripe.speed"),
        (["--host", "0.0.0.0"], b"loopback"),
    ],
)
def test_a_command_with_wrong_options_says_why_and_exits_2(options: list[str], words: bytes) -> None:
    done = subprocess.run([*COMMAND, *options], capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, words in done.stderr) == (2, b"", True)
    assert done.stderr.count(b"\n") == 1


def test_a_port_that_is_taken_is_named(sandbox: Sandbox) -> None:
    port = sandbox.url.rsplit(":", 1)[1]
    done = subprocess.run([*COMMAND, "--port", port], capture_output=True, timeout=30, check=False)
    assert (done.returncode, port.encode() in done.stderr) == (2, True)


def test_a_child_that_cannot_start_is_an_error_with_its_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "starlette.py").write_text("raise ImportError('no starlette here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(SandboxDied, match="no starlette here"):
        with started():
            pass


def test_a_started_sandbox_is_gone_after_its_block(tmp_path: Path) -> None:
    with started(Settings(stripe=Stripe(requests=Rate(1))), log=tmp_path / "log") as sandbox:
        assert sandbox.limits()["stripe"]["requests"]["amount"] == 1
        children = PSUTIL.Process().children()
    assert refused(sandbox.url)
    assert any(not child.is_running() for child in children)


def test_a_sandbox_dies_with_its_parent() -> None:
    program = "from longwatch.sandbox import started\nwith started() as s:\n print(s.url, flush=True)\n input()\n"
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    url = parent.stdout.readline().decode().strip()
    child = PSUTIL.Process(parent.pid).children()[0]
    assert not refused(url)
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate(timeout=20)
    assert eventually(lambda: not child.is_running() or child.status() == PSUTIL.STATUS_ZOMBIE)
    assert refused(url)


def test_many_small_requests_are_served_in_a_second(sandbox: Sandbox, http: httpx.Client) -> None:
    """The floor that benches rely on is 400 a second of one core's time, whatever else the machine does."""
    sandbox.limits(stripe={"requests": None, "endpoint": None})
    server = next(child for child in PSUTIL.Process().children() if "longwatch.sandbox" in child.cmdline())
    before = sum(server.cpu_times()[:2])
    for _ in range(400):
        http.post("/stripe/v1/charges", data=CHARGE)
    assert sum(server.cpu_times()[:2]) - before < 1
