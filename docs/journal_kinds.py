"""Which kinds of record the code can write, read off its calls of `Journal.append`, and what each of them means.

A kind is a literal, or made of a state (`task.{state}`), or handed down by a caller in the same module. Whatever the
reading cannot follow is an error here: a record that nobody documented shall not be possible.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from docs.sources import tree_of
from longwatch.policy import breaker, call, task

PACKAGE = Path(__file__).parents[1] / "longwatch"
ROOMS = ("store", "admission", "runtime", "surface")
STATES = {"task": task.STATES, "call": call.STATES, "service": breaker.STATES}  # whose states stand in a kind
NOT_FACTS = ("agent", "task")  # columns of every record

MEANINGS = {
    "archive.closed": "a segment was written, verified and listed; dropped: entries that then left the hot state",
    "archive.dropped": "a segment was dropped for good, by a person or because its time had come (why)",
    "archive.failed": "rounds of the archive fail, and rows stay hot (why, hint); once an hour as long as it lasts",
    "archive.restored": "a person has brought a task back out of the archive",
    "aside.kept": "a batch has set aside what it needs of a quota and of budgets; from_ms: in the windows that hold it",
    "aside.ended": "its batch has ended, or the admission engine lost its memory; what is left of it is given back",
    "batch.submitted": "a batch was opened; its tasks follow",
    "budget.broken": "ended calls cost more than the cap: a hold was too small. P4 is broken, and it is told, not hidden",
    "budget.cleared": "a cap that `budget set` had put in place of the config's counts no more",
    "budget.parked": "the admission engine lost its memory: what it had been allotted and nobody wrote down counts as spent",
    "budget.set": "a person put a cap on money in place of the config's, until it is cleared or its date has come",
    "budget.warned": "what was spent has reached a `warn` fraction of the cap, once per window",
    "call.admitted": "a call has its slot, its meters have advanced, its money is held",
    "call.degraded": "its budget had no room for the model `from`: it is made with `to`. Told of its run, else of the call",
    "call.late": "the caller woke too late for its slot and was given another one",
    "call.recharged": "another call with its key, at a service that remembers keys, bears its charge or gives it back",
    "call.reconciled": "a person (`by`) said what it cost; `money` null: it was never sent; `before`, `state`: how it stood",
    "call.released": "proven not to have been sent: it costs nothing",
    "call.settled": "the cost is known; a second one replaces the first",
    "call.unknown": "nobody knows whether it took place: it is charged at its hold",
    "config.changed": "other limits and budgets are in force from here on",
    "edit.applied": "every file of the commit is in its place",
    "edit.committed": "the instant at which the edit happened; the files follow, by this process or the next one",
    "engine.away": "a process cannot reach the admission engine, and goes by the share of every limit kept in the state",
    "engine.back": "the process can: the engine decides about its calls again",
    "engine.forgot": "the admission engine has lost its memory, and is filled again from the state",
    "file.changed": "a command of the memory tool, or a person's restore, changed files of an agent; `path`: the one it named",
    "fleet.overtaken": "the server has another history (from a dump, or of a standby): every fence given before is overtaken",
    "lease.expired": "it ran out, or its owner was confirmed dead (`reason`)",
    "lease.overtaken": "somebody (`by`) took what a run-out lease covered",
    "lease.released": "given back",
    "lease.taken": "the right to write these names, under a new fence",
    "money.earned": "a handler said what its task brought in",
    "note.*": "a handler's `run.record(kind, text)`; the kind follows the dot",
    "process.killed": "a process stood still inside a lock for a second, and was ended so that the others could go on",
    "run.started": "an attempt at a task began",
    "limit.learned": "answers have taught a rate of the service, or changed it: published, or found by what was refused",
    "service.closed": "calls to the service, or to one model of it, leave again: a probe was answered, or a person said so",
    "service.cooling": "it said that there were too many calls: none leaves before the instant, in no process",
    "service.open": "it cannot answer anybody: one call at a time finds out whether it can again (`failures` so far)",
    "service.parked": "it said that what may be spent there is spent: calls are refused until that has changed",
    "service.paused": "a person wants no call to leave",
    "state.backed_up": "a copy of the whole state was made while the fleet ran; `memory`: SHA-256 of the one copied with it",
    "state.copied": "this state was copied from another one: every fence given before is overtaken, every lease has ended",
    "state.restored": "a backup was put in place: every fence given before is overtaken, every lease has ended",
    "step.begun": "a `once` is about to take place; without `step.stored` behind it nobody knows whether it did",
    "step.stored": "a step's result is kept: no later attempt runs it again",
    "task.cancelled": "ended by a person, or because a task it needs did not succeed (`cause`)",
    "task.capped": "a person moved a cap that the task was submitted with; by: who; caps: of what, before, and the amount now",
    "task.claimed": "a worker has it, and has not started it",
    "task.done": "ended with a result",
    "task.failed": "ended without one; `cause` names the task whose end ended it",
    "task.ready": "it may be claimed again: handed back, or its worker died before it started",
    "task.scheduled": "it will be ready at its instant: after a need was met, a failure, a crash or a person's retry",
    "task.submitted": "a task was written down; caps: its own, by dimension, money in micro-units",
    "task.unknown": "an effect that must not be repeated lost its outcome: a person has to find out and resolve",
    "task.waiting": "revived, and waits again for what it needs",
    "worker.dismissed": "a worker ended in order, or was buried",
    "worker.enrolled": "a worker process began",
}
NEVER = {"task.running", "call.open"}  # told as run.started and call.admitted


@dataclass
class Kind:
    """facts: the names in `data`; where: modules that write it."""

    facts: set[str] = field(default_factory=set[str])
    where: set[str] = field(default_factory=set[str])


def kinds() -> dict[str, Kind]:
    """Every kind in the code, in order of name."""
    found: dict[str, Kind] = {}
    for room in ROOMS:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            for name, facts in _of_module(tree_of(path)):
                kind = found.setdefault(name, Kind())
                kind.facts |= facts
                kind.where.add(path.relative_to(PACKAGE).as_posix())
    return {name: found[name] for name in sorted(found) if name not in NEVER}


def _of_module(module: ast.Module) -> Iterator[tuple[str, set[str]]]:
    for function in ast.walk(module):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and _is_append(node):
                for name in _names(node.args[1], function, module):
                    yield name, _facts(node, function)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "NewEntry":
                for name in _names(node.args[0], function, module):
                    yield name, _told(node.args[4], function)


def _is_append(node: ast.Call) -> bool:
    called, arguments = node.func, node.args
    is_it = isinstance(called, ast.Attribute) and called.attr == "append" and len(arguments) >= 3
    return is_it and isinstance(arguments[0], ast.Name) and arguments[0].id == "tx"


def _names(node: ast.expr, function: ast.FunctionDef, module: ast.Module) -> list[str]:
    """What the second argument of an append can be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
        prefix = str(node.values[0].value).rstrip(".")
        return [f"{prefix}.{state}" for state in STATES.get(prefix, ("*",))]
    if isinstance(node, ast.Name):
        return _assigned(node.id, function) or _handed_down(node.id, function, module)
    raise ValueError(f"{function.name}, line {node.lineno}: which kind of record this writes cannot be read")


def _assigned(name: str, function: ast.FunctionDef) -> list[str]:
    """The texts that a local variable is set to."""
    return [
        text
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets)
        for text in _texts(node.value)
    ]


def _handed_down(name: str, function: ast.FunctionDef, module: ast.Module) -> list[str]:
    """The texts that callers in the same module give for a parameter."""
    place = [argument.arg for argument in function.args.args].index(name)
    calls = (node for node in ast.walk(module) if isinstance(node, ast.Call) and _called(node) == function.name)
    given = (node.args[place - _bound(node)] for node in calls if len(node.args) > place - _bound(node))
    return [text for node in given for text in _texts(node)]


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _bound(node: ast.Call) -> int:
    """How many parameters a call by attribute does not name: self."""
    return 1 if isinstance(node.func, ast.Attribute) else 0


def _texts(node: ast.expr) -> list[str]:
    return [each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)]


def _facts(node: ast.Call, function: ast.FunctionDef) -> set[str]:
    named = {keyword.arg for keyword in node.keywords if keyword.arg} - set(NOT_FACTS)
    spread = [keyword.value for keyword in node.keywords if keyword.arg is None]
    return named | {fact for each in spread if isinstance(each, ast.Name) for fact in _spread(each.id, function)}


def _told(facts: ast.expr, function: ast.FunctionDef) -> set[str]:
    """Of an entry that is written together with others."""
    return _spread(facts.id, function) if isinstance(facts, ast.Name) else set(_keys(facts))


def _spread(name: str, function: ast.FunctionDef) -> set[str]:
    """The names in a dictionary that is built in the function and spread into the call."""
    found: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets):
            found |= set(_keys(node.value))
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id == name
            and node.value
        ):
            found |= set(_keys(node.value))
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == name:
            found |= set(_texts(node.slice))
    return found


def _keys(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Dict):
        yield from (key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str))
    if isinstance(node, ast.DictComp):
        for pair in ast.walk(node.generators[0].iter):
            if isinstance(pair, ast.Tuple) and pair.elts and isinstance(pair.elts[0], ast.Constant):
                yield str(pair.elts[0].value)
