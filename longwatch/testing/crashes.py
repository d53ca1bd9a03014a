"""Kills the run of a task at every place it comes to, once each, and looks whether it ends as if nothing had happened.

    def test_an_invoice_survives_crashes(lw, sandbox):
        survives_crashes(lw, invoice.bind("acme"), check=lambda lw, task: task.result["charge"])

The task runs to its end twice, undisturbed, to learn its places and what it leaves behind: its result, the files below
the root, and what it did outside (the fixtures `effects` and `sandbox`). What differs between these two is its own
accident, and not compared. Then, place by place, state and files are put back as they were, a forked process runs the
task and kills itself there with SIGKILL, and another one starts and works on to the end.

Why real processes: to a simulated death, an exception, the handler's own `finally` and `except` would answer, buffers would
be flushed and memory would go on living. A killed process does none of this. The price is that what handlers do to the
memory of the test is lost with them: effects have to be outside, and are.

A `once` that dies under way leaves its task `unknown`, as it promises: that passes, if nothing was done twice.
"""

import gc
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from longwatch.errors import ConfigError, TaskFailed
from longwatch.runtime.handler import Bound
from longwatch.store.look import Look
from longwatch.surface.api import Longwatch
from longwatch.surface.handles import Task
from longwatch.testing.endings import Ending, files_below, in_short, report
from longwatch.testing.fleet import VirtualFleet, drain, virtual, wired
from longwatch.testing.places import Place, Watch

R = TypeVar("R")
PLACES_MOST = 1_000
PATIENCE_S = 60  # of real time, for a process that runs the task to its end

MEMORY = (
    "handlers run in processes of their own, and what they do to the memory of the test is lost with them: "
    "let them write files, or use the fixture effects"
)
UNKNOWN = " (the task is unknown, as a `once` that was killed leaves it: check has to expect that)"

Check = Callable[[Longwatch, Task[R]], object]


@dataclass(frozen=True)
class Survived:
    """What `survives_crashes` did. places: where the run was killed, in words. unknown: how many tasks ended so."""

    places: tuple[str, ...]
    unknown: int


def survives_crashes(lw: Longwatch, task: Bound[R], *, check: Check[R] | None = None) -> Survived:
    """Run the task once for every place in it, killed there and started again; each has to end as the undisturbed one.

    lw: of the fixture. check: called with the fleet and the ended task after every one, and after the undisturbed run;
    it raises, or answers False, when something is wrong. Afterwards everything is as the undisturbed run left it.
    Errors: AssertionError that names the places and what differed; ConfigError.
    """
    __tracebackhide__ = True
    return Trials(virtual(lw, "survives_crashes"), task, check).run()


class Trials(Generic[R]):
    """One task, again and again from the same beginning. Its folder is the fleet's root, which holds its state too."""

    def __init__(self, lw: VirtualFleet, task: Bound[R], check: Check[R] | None) -> None:
        self.lw, self.check = lw, check
        self.kind, self.clock = task.kind, lw.bench.clock
        if self.kind not in lw.opened.registry.handlers:
            raise ConfigError(f"nobody runs {self.kind} here", hint="Add its handler first: lw.include(handler).")
        self.id = lw.submit(task).id
        self.root = Path(lw.opened.settings.root)

    def run(self) -> Survived:
        __tracebackhide__ = True
        with tempfile.TemporaryDirectory(prefix="longwatch-crashes-") as folder:
            self.kept = Path(folder)
            self._close()
            shutil.copytree(self.root, self.kept / "before", symlinks=True)
            began_ms = self.clock.now_ms
            try:
                return self._run(began_ms)
            finally:
                self._open()

    def _run(self, began_ms: int) -> Survived:
        __tracebackhide__ = True
        places, first = self._undisturbed(began_ms)
        _, again = self._undisturbed(began_ms)
        usual = first.what_is_steady(again)
        ended = [(place, *self._killed(place, usual, began_ms)) for place in places]
        self._put_back(began_ms)
        self._live(None)
        wrong = [(str(place), differences) for place, _, differences in ended if differences]
        if wrong:
            raise AssertionError(report(self.kind, wrong, of=len(places)))
        return Survived(tuple(map(str, places)), sum(state == "unknown" for _, state, _ in ended))

    def _undisturbed(self, began_ms: int) -> tuple[list[Place], Ending]:
        __tracebackhide__ = True
        self._put_back(began_ms)
        said = self._live(None)
        if "error" in said:
            raise AssertionError(f"{self.kind} cannot be run, even undisturbed: {said['error']}")
        ending, problem = self._look(said)
        if ending.state != "done":
            hint = "Test what fails without crashes."
            raise AssertionError(f"{self.kind} ends {ending.state}, even undisturbed: {ending.error}\n{hint}")
        if problem is not None:
            problem.add_note(f"check says so of {self.kind} even undisturbed; {MEMORY}")
            raise problem
        places = [Place(**place) for place in said["places"]]
        if len(places) > PLACES_MOST:
            raise ConfigError(f"{self.kind} comes to {len(places)} places", hint="Give it less to do in this test.")
        return places, ending

    def _killed(self, place: Place, usual: Ending, began_ms: int) -> tuple[str, list[str]]:
        """Kill it there, start again, look: how the task ended, and what differs."""
        self._put_back(began_ms)
        first = self._live(place)
        if first.get("killed") != int(signal.SIGKILL):
            return "", ["it did not come here again, so that nothing was tried"]
        said = self._live(None)
        if "error" in said:
            return "", [f"it could not go on: {said['error']}"]
        ending, problem = self._look(said)
        differences = usual.compared_with(ending)
        if problem is not None and not (differences and isinstance(problem, TaskFailed)):
            differences.append(f"check: {in_short(problem)}{UNKNOWN if ending.state == 'unknown' else ''}")
        return "unknown" if ending.unknown > usual.unknown else ending.state, differences

    # -- looking, in this process --------------------------------------------------------------------------------------

    def _look(self, said: dict[str, Any]) -> tuple[Ending, BaseException | None]:
        self._open()
        try:
            task: Task[Any] = self.lw.get(self.id)
            result = task._result if task.state == "done" else None
            outside = {what: n for each in self.lw.bench.outside for what, n in each.made().items()}
            unknown = Look(self.lw.opened.parts.database).counts().get("unknown", 0)
            ending = Ending(task.state, result, task.error, files_below(self.root), outside, said["once"], unknown)
            return ending, self._checked(task)
        finally:
            self._close()

    def _checked(self, task: Task[Any]) -> BaseException | None:
        if self.check is None:
            return None
        try:
            answer = self.check(self.lw, task)
        except Exception as error:  # noqa: BLE001 - whatever it raises is what it has to say
            return error
        return AssertionError("it answered False") if answer is False else None

    # -- living, in a process of its own ---------------------------------------------------------------------------------

    def _live(self, deadly: Place | None) -> dict[str, Any]:
        """Work to the end, or to the deadly place, in a forked process; what it said, or {"killed": the signal}."""
        told = self.kept / "told"
        told.unlink(missing_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside other threads: none is ours
            pid = os.fork()
        if pid == 0:
            self._child(told, deadly)
        status = _waited(pid)
        if status is None:
            return {"error": f"it had not come to an end after {PATIENCE_S} s"}
        if os.WIFSIGNALED(status):
            return {"killed": os.WTERMSIG(status), "error": f"its process died of signal {os.WTERMSIG(status)}"}
        if not told.exists():
            return {"error": f"its process ended with {os.waitstatus_to_exitcode(status)}"}
        return dict(json.loads(told.read_text("utf-8")))

    def _child(self, told: Path, deadly: Place | None) -> NoReturn:
        code = 1
        try:
            gc.freeze()  # what the test has in memory is not looked through, and so not copied
            self.clock.forked()
            for sync in ("fsync", "fdatasync"):  # a killed process takes nothing with it: only power cuts need the disk
                setattr(os, sync, _at_once)
            watch = Watch(self.clock, deadly)
            said = self._worked(watch)
            told.write_text(json.dumps(said), "utf-8")
            code = 0
        except BaseException:  # noqa: BLE001 - it must not return into the test, whatever happens
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _worked(self, watch: Watch) -> dict[str, Any]:
        for each in self.lw.bench.outside:
            each.tell(watch.reach)
        try:
            self._open(watch)
            drain(self.lw)
        except Exception as error:  # noqa: BLE001 - the parent reports it
            return {"error": f"{type(error).__name__}: {error}"}
        once = any(place.what == "once.begun" for place in watch.places)
        return {"places": [vars(place) for place in watch.places], "once": once}

    # -- the state and the files -----------------------------------------------------------------------------------------

    def _open(self, watch: Watch | None = None) -> None:
        """The handles of the test speak to the state as it is now. watch: who follows the runs."""
        opened = self.lw._opened
        if watch is None:
            fresh = wired(opened.settings, self.clock)
        else:
            fresh = wired(opened.settings, self.clock, on_reach=watch.mark, wrap=watch.around)
        opened.parts, opened.asleep = fresh.parts, fresh.asleep
        opened.learned.clear()

    def _close(self) -> None:
        self.lw._opened.close()
        self.clock.end_beside()

    def _put_back(self, now_ms: int) -> None:
        """Everything below the root is as it was before, and nothing has been done outside."""
        for entry in self.root.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        shutil.copytree(self.kept / "before", self.root, symlinks=True, dirs_exist_ok=True)
        self.clock.put(now_ms)
        for each in self.lw.bench.outside:
            each.reset()


def _waited(pid: int) -> int | None:
    """Its exit status; None: it did not end within PATIENCE_S, and was ended."""
    descriptor = os.pidfd_open(pid)
    try:
        late = not select.select([descriptor], [], [], PATIENCE_S)[0]
        if late:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
    finally:
        os.close(descriptor)
    return None if late else status


def _at_once(descriptor: int) -> None:
    """As os.fsync, for those who will not lose their power."""
