"""The same work without Longwatch: what a careful person writes in an evening, and most fleets of agents run on.

    python -m longwatch.demo.homemade FOLDER PROCESSES CAP_MICROS

- The queue is a folder: a worker takes a task by renaming its file, so nobody takes it twice. What is done of a task is
  noted in its file, so that a repetition goes on from there. The supervisor starts dead workers again and puts back what
  they had in hand.
- The catalogue is guarded by a lock file with a process id in it. One that is older than the longest edit can take is left
  over from a crash, and is overridden. Files are written in place.
- Each process paces itself at its share of every documented limit, and repeats 429, 403 and 5xx with growing waits, or
  after `retry-after`, as the SDKs do.
- The budget of second opinions is a file: read before a call, and written with the cost added after it.
- A payment carries an idempotency key that is kept for repetitions of the request, as the SDK's own is.

It shares the requests, the catalogue's bookkeeping and the demo's hook with the other program, so that the two differ in
nothing but what holds them together.
"""

import json
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from longwatch.demo import catalogue, marks, material
from longwatch.demo.catalogue import Entry
from longwatch.demo.figures import LONGEST_EDIT_S, PER_S, REVIEW_PRICE
from longwatch.demo.services import PENCE, REVIEW_MODEL, SUMMARY_MODEL, Services, said

TRIES = 8
ATTEMPTS = 5  # at one task, before it is set aside
LOCK_POLL_S = 0.05
LONGEST_WAIT_S = 10.0


@dataclass
class Worker:
    """One process. cap_micros: what second opinions may cost in all, in micro-dollars."""

    folder: Path
    processes: int
    cap_micros: int
    api: Services = field(default_factory=Services)
    next_at: dict[str, float] = field(default_factory=dict[str, float])

    def work(self) -> None:
        while (task := self.take()) is not None:
            module = task.name.split("@")[0]
            notes: dict[str, Any] = json.loads(task.read_text())
            try:
                self._do(module, task, notes)
            except (httpx.HTTPError, ValueError, KeyError, OSError) as error:
                self._put_back(task, module, notes, error)
                continue
            os.rename(task, self.folder / "done" / module)
            marks.at("idle")

    def take(self) -> Path | None:
        for waiting in sorted((self.folder / "todo").iterdir()):
            mine = self.folder / "doing" / f"{waiting.name}@{os.getpid()}"
            try:
                os.rename(waiting, mine)
            except FileNotFoundError:
                continue  # somebody was faster
            return mine
        return None

    def _put_back(self, task: Path, module: str, notes: dict[str, Any], error: Exception) -> None:
        """Again later, unless it has failed too often."""
        notes["attempts"] = notes.get("attempts", 0) + 1
        sys.stderr.write(f"{module}: attempt {notes['attempts']}: {type(error).__name__}: {error}\n")
        task.write_text(json.dumps(notes))
        os.rename(task, self.folder / ("todo" if notes["attempts"] < ATTEMPTS else "failed") / module)
        marks.at("idle")

    def _do(self, name: str, task: Path, notes: dict[str, Any]) -> None:
        module = material.read(name)
        steps: dict[str, Callable[[], Any]] = {
            "summary": lambda: said(self._ask(SUMMARY_MODEL, module, "Summarise")),
            "payment": lambda: self._pay(name),
            "issue": lambda: self._report(module) if module.undocumented else None,
            "review": lambda: self._review(module),
        }
        for step, act in steps.items():
            if step not in notes:
                notes[step] = act()
                task.write_text(json.dumps(notes))
        entry = Entry(
            module=name,
            letter=module.letter,
            summary=notes["summary"],
            review=notes["review"],
            payment=notes["payment"],
            issue=notes["issue"],
            pence=PENCE,
            agent="home-made",
            pid=os.getpid(),
        )
        marks.at("waiting", name)
        with Lock(self.folder / "catalogue" / ".lock"):
            catalogue.book(InPlace(self.folder / "catalogue"), entry, lambda: marks.at("editing", name))
        marks.at("booked", name)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _ask(self, model: str, module: material.Module, what: str) -> Any:
        prompt = self.api.prompt(module, what)
        return self._call("claude", "anthropic", module.name, lambda: self.api.message(model, prompt)).json()

    def _pay(self, name: str) -> str:
        key = str(uuid.uuid4())
        return str(self._call("stripe", "stripe", name, lambda: self.api.pay(name, key)).json()["id"])

    def _report(self, module: material.Module) -> int:
        found = self._call("github", "github", module.name, lambda: self.api.find_issue(module.name)).json()["items"]
        if found:
            return int(found[0]["number"])
        return int(
            self._call("github", "github-content", module.name, lambda: self.api.open_issue(module)).json()["number"]
        )

    def _review(self, module: material.Module) -> str | None:
        purse = self.folder / "spent.json"
        spent = json.loads(purse.read_text())["micros"]
        if spent + review_micros(len(module.source) // 4, 60) > self.cap_micros:
            return None
        message = self._ask(REVIEW_MODEL, module, "Review")
        cost = review_micros(message["usage"]["input_tokens"], message["usage"]["output_tokens"])
        spent = json.loads(purse.read_text())["micros"]
        purse.write_text(json.dumps({"micros": spent + cost}))
        return said(message)

    def _call(self, place: marks.Called, limit: str, name: str, send: Callable[[], httpx.Response]) -> httpx.Response:
        """Send it at this process's share of the limit, and again when it is refused."""
        answer = self._send(place, limit, name, send)
        for attempt in range(TRIES - 1):
            if answer.status_code not in (403, 409, 429) and answer.status_code < 500:
                break
            time.sleep(_wait_s(answer, attempt))
            answer = self._send(place, limit, name, send)
        return answer.raise_for_status()

    def _send(self, place: marks.Called, limit: str, name: str, send: Callable[[], httpx.Response]) -> httpx.Response:
        marks.at("waiting", name)
        self._pace(limit)
        marks.at(place, name)
        answer = send()
        marks.at(marks.ANSWERED[place], name, answer.status_code)
        return answer

    def _pace(self, limit: str) -> None:
        spacing_s = self.processes / PER_S[limit]
        now = time.monotonic()
        at = max(now, self.next_at.get(limit, now))
        self.next_at[limit] = at + spacing_s
        time.sleep(at - now)


def _wait_s(answer: httpx.Response, attempt: int) -> float:
    told = answer.headers.get("retry-after", "")
    growing = 0.5 * 2**attempt * (0.75 + random.random() / 2)
    return min(LONGEST_WAIT_S, float(told) if told.isdigit() else growing)


def review_micros(input_tokens: int, output_tokens: int) -> int:
    """What a second opinion costs, in micro-dollars."""
    price_in, price_out = REVIEW_PRICE
    return -(-(input_tokens * price_in + output_tokens * price_out) // 1000)


@dataclass(frozen=True)
class Lock:
    """A lock file. One that is older than any edit takes belongs to a process that died."""

    path: Path

    def __enter__(self) -> None:
        while self.held():
            time.sleep(LOCK_POLL_S)
        self.path.write_text(str(os.getpid()))

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)

    def held(self) -> bool:
        try:
            return time.time() - self.path.stat().st_mtime < LONGEST_EDIT_S
        except FileNotFoundError:
            return False


@dataclass(frozen=True)
class InPlace:
    """The catalogue's files, as they are."""

    folder: Path

    def read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text("utf-8") if path.exists() else ""

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(text, "utf-8")

    def append(self, name: str, text: str) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(text)


# -- the supervisor ------------------------------------------------------------------------------------------------------


def supervise(folder: Path, tasks: list[str], command: list[str], processes: int) -> None:
    """Keep `processes` workers at work until nothing is left to do."""
    for name in ("todo", "doing", "done", "failed", "catalogue"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "spent.json").write_text('{"micros": 0}')
    for name in tasks:
        (folder / "todo" / name).write_text("{}")
    workers = [_start(command, folder) for _ in range(processes)]
    threading.Thread(target=_end_with_parent, args=(workers,), daemon=True).start()
    while any(worker.poll() is None for worker in workers) or any((folder / "todo").iterdir()):
        for place, worker in enumerate(workers):
            if worker.poll() is not None and worker.returncode != 0:
                put_back_of(folder, worker.pid)
                workers[place] = _start(command, folder)
            elif worker.poll() is not None and any((folder / "todo").iterdir()):
                workers[place] = _start(command, folder)
        time.sleep(0.25)


def _start(command: list[str], folder: Path) -> "subprocess.Popen[bytes]":
    """In a session of its own, as the other program's workers are: the kernel shares a busy machine by sessions."""
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, start_new_session=True)


def put_back_of(folder: Path, pid: int) -> None:
    for task in (folder / "doing").glob(f"*@{pid}"):
        os.rename(task, folder / "todo" / task.name.split("@")[0])


def _end_with_parent(workers: "list[subprocess.Popen[bytes]]") -> None:
    """Standard input is a pipe from whoever started this: when it closes, nobody is left to work for."""
    while os.read(0, 4096):
        pass
    for worker in list(workers):
        worker.kill()
    os._exit(1)


def main(arguments: list[str]) -> None:
    folder, processes, cap_micros = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    if arguments[3:] == ["worker"]:
        Worker(folder, processes, cap_micros).work()
        return
    tasks = json.loads((folder / "tasks.json").read_text())
    supervise(folder, tasks, [sys.executable, "-m", "longwatch.demo.homemade", *arguments, "worker"], processes)


if __name__ == "__main__":
    main(sys.argv[1:])
