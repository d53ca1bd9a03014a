"""How the demo speaks of what happens: one sentence for each event, in the fleet's and everybody's terms."""

from longwatch.demo.trace import Event

WHERE = {
    "waiting": "waiting for its turn",
    "claude": "asking Claude",
    "claude-answered": "inside a call of Claude",
    "stripe": "paying",
    "stripe-answered": "inside a payment",
    "github": "asking GitHub",
    "github-answered": "inside a call of GitHub",
    "editing": "inside an edit",
    "booked": "after an edit",
    "idle": "between two tasks",
}

SERVICES = {"anthropic": "Anthropic", "stripe": "Stripe", "github": "GitHub"}


def sentence(event: Event) -> str:
    where = WHERE.get(event.place, event.place)
    match event.kind:
        case "killed":
            return f"killed worker {event.pid} {where} ({event.module})"
        case "frozen":
            return f"froze worker {event.pid} {where} ({event.module}) for {event.until_s - event.at_s:.0f} s"
        case "thawed":
            return f"woke worker {event.pid}"
        case "outage":
            return f"{SERVICES[event.place]} is down for {event.until_s - event.at_s:.0f} s"
        case "died":
            return f"worker {event.pid} died {where} ({event.module})"
        case "torn" | "sound":
            return ""
