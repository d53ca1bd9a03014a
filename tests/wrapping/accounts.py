"""A fleet with limits and budgets, and what its calls were charged."""

from typing import Any

from longwatch import Longwatch

CONFIG: dict[str, Any] = {
    "fleet": {"currency": "USD", "exchange": {"GBP": "1.25 USD"}},
    "service": {
        "anthropic": {"rate": {"requests": "1000/s", "input_tokens": "1000000/s"}, "concurrency": 8},
        "openai": {"rate": {"requests": "1000/s"}},
        "stripe": {"rate": "1000/s", "price": "0.25 USD"},
        "github": {"rate": "1000/s"},
    },
    "budget": {"research": {"money": "5 USD/month"}, "tiny": {"money": "0.000010 USD/month"}},
}


def spent(lw: Longwatch) -> int:
    """Micro-units of all settled calls; fails while one is open or its end unknown."""
    entries = lw.opened.parts.journal.latest(kind="call.", limit=1_000)
    assert not [entry for entry in entries if entry.kind == "call.unknown"]
    assert lw.opened.parts.calls.limiter.open_calls() == []
    final = {entry.subject: entry.data["money"] for entry in entries if entry.kind in ("call.settled", "call.released")}
    return sum(int(str(money)) for money in final.values())


def ends(lw: Longwatch) -> list[str]:
    """How the calls ended, in order, with what each was charged."""
    entries = lw.opened.parts.journal.latest(kind="call.", limit=1_000)
    ended = [
        entry for entry in entries if entry.kind not in ("call.admitted", "call.late")
    ]  # late: on a loaded machine
    return [f"{entry.kind[5:]} {entry.data.get('money')}" for entry in ended]
