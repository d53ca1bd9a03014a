"""Lines as a list of places; the meters that send newcomers to them are those of the model's limiter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from longwatch.admission.calls import CallRequest
from longwatch.admission.lines import LineState, Standing
from longwatch.policy import lane as policy
from longwatch.policy.admission import HORIZON_US
from longwatch.policy.lane import Queue
from longwatch.policy.meter import NEW, Meter
from longwatch.policy.scope import line_gauge


@dataclass(frozen=True)
class Ticket:
    line: str
    lane: str
    owner: str
    since_ms: int


@dataclass
class Lines:
    now_ms: Callable[[], int]
    meters: dict[str, Meter]
    tickets: dict[str, Ticket] = field(default_factory=dict[str, Ticket])  # by call, the first to come first
    seen: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    given: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])

    def stand(self, line: str, requests: Sequence[CallRequest], *, most: int) -> Standing:
        self._clear(line)
        owner = requests[0].owner
        waiting = {lane for lane in policy.SHARES if self._places(line, lane)}
        for request in requests:
            given = self._given(line)
            begins = policy.begins_at(request.lane, given, waiting)
            if begins != given.get(request.lane):
                self.given[line, request.lane] = begins
            waiting.add(request.lane)
            self.tickets.setdefault(request.id, Ticket(line, request.lane, owner, self.now_ms()))
        here = [request.id for request in requests if self.tickets[request.id].line == line]
        return Standing(self.look(line, owner, most=most), {call: self._ahead(call) for call in here})

    def look(self, line: str, owner: str, *, most: int) -> list[str]:
        self.seen[owner, line] = self.now_ms()
        return policy.turns(self._queues(line), most)

    def busy(self, line: str) -> None:
        meter = line_gauge(line).meter
        free_us = (self.now_ms() + policy.BUSY_MS) * 1000 + HORIZON_US
        before = self.meters.get(meter, NEW)
        self.meters[meter] = before._replace(free_us=max(before.free_us, free_us))

    def leave(self, line: str, request: CallRequest, *, served: bool) -> None:
        stood = self.tickets.pop(request.id, None)
        if stood is not None and served and (line, request.lane) in self.given:
            self.given[line, request.lane] += policy.stride(request.lane)

    def bury(self, owner: str) -> int:
        gone = [call for call, ticket in self.tickets.items() if ticket.owner == owner]
        for call in gone:
            del self.tickets[call]
        return len(gone)

    def before(self, call: str) -> int | None:
        if call not in self.tickets:
            return None
        ticket = self.tickets[call]
        standing = {lane: len(self._standing(ticket.line, lane)) for lane in policy.SHARES}
        return policy.before(self._given(ticket.line), standing, ticket.lane, self._ahead(call))

    def all(self) -> list[LineState]:
        found: list[LineState] = []
        for line, lane in sorted({(ticket.line, ticket.lane) for ticket in self.tickets.values()}):
            places = self._places(line, lane)
            found.append(LineState(line, lane, len(places), min(self.tickets[call].since_ms for call in places)))
        return found

    def _queues(self, line: str) -> list[Queue]:
        standing = {lane: self._standing(line, lane) for lane in policy.SHARES}
        given = self._given(line)
        return [Queue(lane, given.get(lane, 0), calls) for lane, calls in standing.items() if calls]

    def _given(self, line: str) -> dict[str, int]:
        return {lane: passed for (at, lane), passed in self.given.items() if at == line}

    def _ahead(self, call: str) -> int:
        ticket = self.tickets[call]
        return self._places(ticket.line, ticket.lane).index(call)

    def _places(self, line: str, lane: str) -> list[str]:
        return [call for call, ticket in self.tickets.items() if (ticket.line, ticket.lane) == (line, lane)]

    def _standing(self, line: str, lane: str) -> list[str]:
        """Those whose owner has looked lately."""
        late_ms = self.now_ms() - policy.SILENT_MS
        places = self._places(line, lane)
        return [call for call in places if self.seen.get((self.tickets[call].owner, line), late_ms) > late_ms]

    def _clear(self, line: str) -> None:
        late_ms = self.now_ms() - policy.GONE_MS
        self.seen = {place: at for place, at in self.seen.items() if place[1] != line or at > late_ms}
        self.tickets = {
            call: ticket
            for call, ticket in self.tickets.items()
            if ticket.line != line or (ticket.owner, line) in self.seen
        }
