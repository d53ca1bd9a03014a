"""Logs as a fleet of agents leaves them, made by a seed: journal, tasks, calls, records of memory, what was printed.

Nothing repeats that would not in life: ids and hashes are random, words follow Zipf's law, figures differ.
"""

import json
import random
from collections.abc import Iterator

from longwatch.store.archive import Entry

DAY_MS = 86_400_000
AGENTS = [f"{what}-{n}" for what in ("seo", "biller", "support", "research") for n in range(1, 6)]
MODELS = ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5")
FILES = [
    f"src/{room}/{name}.py"
    for room in ("shop", "mail", "tax")
    for name in ("orders", "views", "store", "rates", "text")
]
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
SYLLABLES = [consonant + vowel for consonant in "bcdfghklmnprst" for vowel in "aeiou"]


class AgentLogs:
    """seed: which. Entries of one week after another, each task's together as they happen."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.words = ["".join(self.dice.choices(SYLLABLES, k=self.dice.choice((1, 2, 2, 3, 4)))) for _ in range(12_000)]
        self.weights: list[float] = []
        total = 0.0
        for place in range(len(self.words)):
            total += 1 / (place + 2)
            self.weights.append(total)
        self.seq = 0

    def said(self, number: int) -> str:
        return " ".join(self.dice.choices(self.words, cum_weights=self.weights, k=number))

    def new_id(self, sort: str, at_ms: int) -> str:
        number = (at_ms << 80) | self.dice.getrandbits(80)
        return f"{sort}_" + "".join(ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))

    def entries(self, from_ms: int, *, raw_bytes: int, days: int = 7) -> Iterator[Entry]:
        """About so many bytes of bodies, spread over the days."""
        made, at_ms = 0, from_ms
        while made < raw_bytes:
            at_ms = from_ms + days * DAY_MS * made // raw_bytes
            for entry in self.task(at_ms):
                made += len(entry.body)
                yield entry

    def task(self, at_ms: int) -> Iterator[Entry]:
        dice, agent = self.dice, self.dice.choice(AGENTS)
        task, run, owner = self.new_id("task", at_ms), self.new_id("run", at_ms), f"{dice.getrandbits(64):016x}"
        kind = dice.choice(("invoice", "write_page", "answer_mail", "crawl", "report"))
        failed = dice.random() < 0.04
        customer = f"c{dice.randrange(9000)}"
        yield self.journal(
            at_ms,
            "task.submitted",
            task,
            agent,
            task,
            {"kind": kind, "args": {"customer": customer, "pence": dice.randrange(90000)}},
        )
        yield self.journal(
            at_ms + 3, "task.running", task, agent, task, {"run": run, "fence": self.seq, "owner": owner}
        )
        lines = [self.shown(at_ms, agent, kind, customer)]
        for turn in range(dice.randint(1, 6)):
            at_ms += dice.randrange(400, 9000)
            yield from self.call(at_ms, agent, task, failed and turn == 0)
            lines += [self.turn(at_ms, run) for _ in range(dice.randint(1, 4))]
        if failed:
            place = f'File "{dice.choice(FILES)}", line {dice.randrange(400)}, in {dice.choice(self.words)}'
            lines.append(f"Traceback (most recent call last):\n  {place}")
        for number, line in enumerate(lines):
            yield Entry("log", f"{run}/{number}", at_ms, agent, task, dumps({"stream": "stdout", "line": line}))
        result = {"text": self.said(dice.randint(8, 60)), "charge": f"ch_{dice.getrandbits(96):024x}"}
        for _ in range(dice.randint(0, 2)):
            sort = dice.choice(("decision", "fact", "tool output", "lesson"))
            body = {
                "kind": sort,
                "text": self.said(dice.randint(10, 120)),
                "trust": "own",
                "source": f"{run}/{dice.choice(FILES)}",
            }
            yield Entry("record", self.new_id("rec", at_ms), at_ms, agent, task, dumps(body))
        yield self.journal(
            at_ms + 9, "task.failed" if failed else "task.done", task, agent, task, {"run": run, "result": result}
        )
        row = {
            "id": task,
            "kind": kind,
            "state": "failed" if failed else "done",
            "agent": agent,
            "attempts": 1,
            "result": result,
            "runs": [
                {
                    "id": run,
                    "owner": owner,
                    "steps": [{"name": f"page-{n}", "result": self.said(6)} for n in range(dice.randint(0, 4))],
                }
            ],
        }
        yield Entry("task", task, at_ms + 9, agent, task, dumps(row), error=failed)

    def journal(self, at_ms: int, kind: str, subject: str, agent: str, task: str, data: dict[str, object]) -> Entry:
        self.seq += 1
        body = {
            "seq": self.seq,
            "at_ms": at_ms,
            "kind": kind,
            "subject": subject,
            "agent": agent,
            "task": task,
            "data": data,
        }
        return Entry("journal", str(self.seq), at_ms, agent, task, dumps(body))

    def call(self, at_ms: int, agent: str, task: str, failed: bool) -> Iterator[Entry]:
        dice = self.dice
        call, micros = self.new_id("call", at_ms), dice.randrange(300, 90_000)
        usage = {"input_tokens": dice.randrange(200, 30_000), "output_tokens": dice.randrange(20, 3000)}
        yield self.journal(
            at_ms,
            "call.admitted",
            call,
            agent,
            task,
            {"service": "anthropic", "hold": 2 * micros, "slot_ms": at_ms + dice.randrange(900)},
        )
        yield self.journal(at_ms + 700, "call.settled", call, agent, task, {"money": micros, **usage})
        body = {
            "id": call,
            "service": "anthropic",
            "model": dice.choice(MODELS),
            "key": f"{dice.getrandbits(128):032x}",
            "money": micros,
            "currency": "USD",
            **usage,
            "outcome": "error" if failed else "ok",
        }
        yield Entry("call", call, at_ms + 700, agent, task, dumps(body), micros, "USD", failed)

    def shown(self, at_ms: int, agent: str, kind: str, customer: str) -> str:
        return f"{at_ms} INFO {agent} starting {kind} for {customer}"

    def turn(self, at_ms: int, run: str) -> str:
        """A line of a client's stream: a message, a use of a tool, what it answered."""
        dice = self.dice
        place = {"run": run, "uuid": f"{dice.getrandbits(128):032x}", "timestamp": at_ms}
        sort = dice.randrange(3)
        if sort == 0:
            return json.dumps(
                {
                    "type": "assistant",
                    **place,
                    "message": {
                        "role": "assistant",
                        "content": [{"type": "text", "text": self.said(dice.randint(20, 160))}],
                    },
                }
            )
        if sort == 1:
            return json.dumps(
                {
                    "type": "assistant",
                    **place,
                    "message": {
                        "role": "assistant",
                        "content": [
                            {
                                "type": "tool_use",
                                "id": f"toolu_{dice.getrandbits(96):024x}",
                                "name": dice.choice(("Read", "Edit", "Bash", "Grep")),
                                "input": {"file_path": dice.choice(FILES), "offset": dice.randrange(2000)},
                            }
                        ],
                    },
                }
            )
        code = "\n".join(
            f"{n:>5}\tdef {dice.choice(self.words[:400])}(order, rates): return {self.said(3)}"
            for n in range(dice.randint(3, 40))
        )
        return json.dumps(
            {
                "type": "user",
                **place,
                "message": {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": f"toolu_{dice.getrandbits(96):024x}", "content": code}
                    ],
                },
            }
        )


def dumps(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
