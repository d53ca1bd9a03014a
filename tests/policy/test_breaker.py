"""Gates: what pushes back, what only a probe closes, and what is old news."""

from longwatch.policy import breaker
from longwatch.policy.breaker import Gate, Kind, Report, after, gate_us, probing

NOW = 1_800_000_000_000
CLOSED = Gate("api")


def said(kind: Kind, *, call: str = "call_1", left_ms: int = NOW, again_ms: int | None = None) -> Report:
    return Report(call, kind, left_ms, again_ms, "it said so")


def test_too_many_calls_keep_everybody_back_until_the_instant_it_names() -> None:
    gate = after(CLOSED, said("limited", again_ms=7_000), now_ms=NOW)
    assert (gate.state, gate.until_ms) == ("cooling", NOW + 7_000)
    assert gate_us(gate) == (NOW + 7_000) * 1000


def test_a_service_that_names_no_instant_is_left_alone_ever_longer() -> None:
    gate, waits = CLOSED, list[int]()
    now_ms = NOW
    for _ in range(5):
        gate = after(gate, said("limited", left_ms=now_ms), now_ms=now_ms)
        assert gate.until_ms is not None
        waits.append(gate.until_ms - now_ms)
        now_ms = gate.until_ms
    assert waits == [1_000, 3_000, 8_000, 8_000, 8_000]
    later_ms = now_ms + breaker.FORGET_MS
    assert after(gate, said("limited", left_ms=later_ms), now_ms=later_ms).failures == 1, (
        "it is forgotten after a minute"
    )


def test_fifteen_answers_of_one_outage_are_one_failure() -> None:
    gate = after(CLOSED, said("overloaded"), now_ms=NOW + 20)
    for number in range(14):
        gate = after(gate, said("overloaded", call=f"call_{number}", left_ms=NOW + number), now_ms=NOW + 30 + number)
    assert (gate.state, gate.failures, gate.until_ms) == ("open", 1, NOW + 1_020)


def test_only_the_probe_closes_an_open_gate() -> None:
    gate = after(CLOSED, said("overloaded"), now_ms=NOW)
    assert after(gate, said("ok", call="call_9", left_ms=NOW + 500), now_ms=NOW + 600) == gate
    assert probing(gate, "call_2", now_ms=NOW + 999) == NOW + 1_000, "not before its instant"
    probed = probing(gate, "call_2", now_ms=NOW + 1_000)
    assert isinstance(probed, Gate)
    assert probing(probed, "call_3", now_ms=NOW + 1_001) == NOW + 1_251, "there is one already: look again soon"
    closed = after(probed, said("ok", call="call_2", left_ms=NOW + 1_000), now_ms=NOW + 1_200)
    assert (closed.state, gate_us(closed)) == ("closed", (NOW + 1_200) * 1000)
    assert probing(closed, "call_3", now_ms=NOW + 1_300) is None


def test_a_probe_that_fails_opens_it_for_longer() -> None:
    gate, now_ms, waits = after(CLOSED, said("overloaded"), now_ms=NOW), NOW, list[int]()
    while now_ms < NOW + 200_000:
        assert gate.until_ms is not None
        waits.append(gate.until_ms - now_ms)
        now_ms = gate.until_ms
        probed = probing(gate, "call_2", now_ms=now_ms)
        assert isinstance(probed, Gate)
        gate = after(probed, said("overloaded", call="call_2", left_ms=now_ms), now_ms=now_ms)
    assert waits[:5] == [1_000, 6_000, 10_000, 10_000, 10_000]
    assert waits[-1] == 30_000, "after two minutes it is asked twice a minute"


def test_a_probe_that_is_never_heard_of_again_is_followed_by_another_one() -> None:
    gate = after(CLOSED, said("overloaded"), now_ms=NOW)
    first = probing(gate, "call_2", now_ms=NOW + 1_000)
    assert isinstance(first, Gate)
    second = probing(first, "call_3", now_ms=NOW + 1_000 + breaker.PROBE_MS)
    assert isinstance(second, Gate)
    assert second.probe == "call_3"
    late = after(second, said("ok", call="call_2", left_ms=NOW + 1_000), now_ms=NOW + 40_000)
    assert late.state == "open", "the first one is the probe no more"


def test_a_probe_that_never_left_makes_room_at_once() -> None:
    gate = after(CLOSED, said("overloaded"), now_ms=NOW)
    first = probing(gate, "call_2", now_ms=NOW + 1_000)
    assert isinstance(first, Gate)
    assert isinstance(probing(breaker.unprobed(first, "call_2"), "call_3", now_ms=NOW + 1_001), Gate)
    assert breaker.unprobed(first, "call_9") == first


def test_an_error_that_may_be_the_requests_own_opens_nothing_by_itself() -> None:
    gate = after(CLOSED, said("failed"), now_ms=NOW)
    gate = after(gate, said("failed"), now_ms=NOW + 5_000)
    assert gate.state == "closed"
    assert after(gate, said("failed"), now_ms=NOW + 9_000).state == "open", (
        "three of them within ten seconds of each other do"
    )
    assert after(gate, said("failed"), now_ms=NOW + 15_000).state == "closed"


def test_what_is_spent_is_refused_and_asked_for_again_every_quarter_of_an_hour() -> None:
    gate = after(CLOSED, said("spent"), now_ms=NOW)
    assert gate.state == "parked"
    assert breaker.is_shut(gate_us(gate))
    assert probing(gate, "call_2", now_ms=NOW + 60_000) == NOW + breaker.PARK_MS
    probed = probing(gate, "call_2", now_ms=NOW + breaker.PARK_MS)
    assert isinstance(probed, Gate)
    still = after(probed, said("spent", call="call_2"), now_ms=NOW + breaker.PARK_MS)
    assert (still.state, still.until_ms) == ("parked", NOW + 2 * breaker.PARK_MS)
    assert after(probed, said("ok", call="call_2"), now_ms=NOW + breaker.PARK_MS).state == "closed"


def test_what_a_person_paused_only_a_person_resumes() -> None:
    gate = breaker.paused(CLOSED, "maintenance", now_ms=NOW)
    for kind in ("ok", "limited", "overloaded", "failed", "spent"):
        assert after(gate, said(kind, left_ms=NOW + 1), now_ms=NOW + 2) == gate
    assert probing(gate, "call_2", now_ms=NOW + 10**9) is None
    assert breaker.resumed(gate, now_ms=NOW + 5).state == "closed"


def test_no_header_keeps_a_service_back_for_longer_than_a_day() -> None:
    gate = after(CLOSED, said("limited", again_ms=10**12), now_ms=NOW)
    assert gate.until_ms == NOW + breaker.TOLD_MOST_MS
