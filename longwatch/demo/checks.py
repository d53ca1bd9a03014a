"""For each promise the command that checks it without Longwatch: with curl or cat, and jq or, where it is not there, Python."""

import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from longwatch.demo.audit import Outcome
from longwatch.demo.column import Column
from longwatch.demo.services import REVIEW_MODEL


@dataclass(frozen=True)
class Filter:
    """One question to a JSON document, or with `lines` to one document a line, in both languages."""

    jq: str
    python: str
    lines: bool = False

    def command(self, *, has_jq: bool) -> str:
        if has_jq:
            return f"jq -c{'s' if self.lines else ''} {shlex.quote(self.jq)}"
        load = "[json.loads(line) for line in sys.stdin]" if self.lines else "json.load(sys.stdin)"
        return f"python3 -c {shlex.quote(f'import collections, json, sys; d = {load}; {self.python}')}"


PAYMENTS = Filter(
    "[.payment_intents | group_by(.description)[] | length] | {modules: length, payments: add, most_for_one: max}",
    'c = collections.Counter(p["description"] for p in d["payment_intents"]).values(); '
    'print({"modules": len(c), "payments": sum(c), "most_for_one": max(c, default=0)})',
)
LEDGER = Filter(
    "reduce .[] as $l ({n: 0, sum: 0, wrong: 0}; .n += 1 | .sum += $l.pence"
    " | if $l.n != .n or $l.sum != .sum then .wrong += 1 else . end)",
    'sums = [sum(l["pence"] for l in d[:n + 1]) for n in range(len(d))]; '
    'print({"n": len(d), "sum": sums[-1] if d else 0, '
    '"wrong": sum((l["n"], l["sum"]) != (n + 1, sums[n]) for n, l in enumerate(d))})',
    lines=True,
)
INDEX = Filter("{count, pence}", 'print({"count": d["count"], "pence": d["pence"]})')
REFUSED = Filter(
    '[.[].statuses["429"], .github.statuses["403"]] | map(. // 0) | add',
    'print(sum(s["statuses"].get("429", 0) for s in d.values()) + d["github"]["statuses"].get("403", 0))',
)
BILL = Filter(f'.anthropic.models["{REVIEW_MODEL}"] // 0', f'print(d["anthropic"]["models"].get("{REVIEW_MODEL}", 0))')


def commands(column: Column, outcome: Outcome, *, url: str | None) -> dict[str, str]:
    """By promise, what to type. url: of the stand-ins while they are up; else the files they left are read."""
    has_jq, has_curl = shutil.which("jq") is not None, shutil.which("curl") is not None
    ledger, index = (
        shown(column.folder / "catalogue" / "ledger.jsonl"),
        shown(column.folder / "catalogue" / "index.json"),
    )

    def ask(what: str, question: Filter) -> str:
        asked = f"curl -s {url}/_sandbox/{what}" if url and has_curl else f"cat {shown(column.folder / f'{what}.json')}"
        return f"{asked} | {question.command(has_jq=has_jq)}"

    modules = sorted({struck.event.module for struck in outcome.struck})
    who = " ".join(f"-e {shlex.quote(json_string(module))}" for module in modules) or "-c ''"
    return {
        "P1": ask("effects", PAYMENTS),
        "P2": f"{LEDGER.command(has_jq=has_jq)} < {ledger}; {INDEX.command(has_jq=has_jq)} < {index}",
        "P3": ask("counts", REFUSED),
        "P4": ask("bill", BILL),
        "P7": f"grep -F {who} {ledger}",
    }


def shown(path: Path) -> str:
    """As short as it can be said from here."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)


def json_string(module: str) -> str:
    return f'"module": "{module}"'
