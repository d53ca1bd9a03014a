"""What a program may do in the lines in front of services: stand, look, be served, give up, and die there."""

from functools import partial

from longwatch.admission.calls import CallRequest
from longwatch.admission.lines import Standing
from longwatch.policy import lane
from longwatch.testing.acts import Act
from longwatch.testing.play import OWNERS, Numbers, Play, Side

LINES = ("api", "api", "api", "api/big-*")
MOST = (1, 3, 64)


def stand(play: Play, numbers: Numbers) -> None:
    """A few calls come to one line; now and then one that stands in it already."""
    line, most = numbers.pick(LINES), numbers.pick(MOST)
    by_owner: dict[str, list[CallRequest]] = {}
    for _ in range(numbers.pick((1, 1, 2, 4, 8))):
        known = list(play.standing.values())
        request = numbers.recent(known) if known and numbers.chance(5) else _newcomer(play, numbers)
        play.standing[request.id] = request
        by_owner.setdefault(request.owner, []).append(request)
    for owner, requests in by_owner.items():
        who = ", ".join(f"{request.id} ({request.lane})" for request in requests)
        stands = partial(_stand, line=line, requests=requests, most=most)
        play.both(f"{who} of {owner} stand in line at {line}", stands)


def _stand(side: Side, *, line: str, requests: list[CallRequest], most: int) -> Standing:
    return side.limiter.lines.stand(line, requests, most=most)


def _newcomer(play: Play, numbers: Numbers) -> CallRequest:
    id = play.new_id("call")
    return CallRequest(
        id=id,
        key=id,
        service="api",
        agent="main",
        owner=numbers.pick(OWNERS),
        lane=numbers.pick(tuple(lane.SHARES)),
    )


def look(play: Play, numbers: Numbers) -> None:
    line, owner, most = numbers.pick(LINES), numbers.pick(OWNERS), numbers.pick(MOST)
    play.both(f"{owner} looks at {line}", lambda side: side.limiter.lines.look(line, owner, most=most))


def leave(play: Play, numbers: Numbers) -> None:
    if not play.standing:
        return
    request, line = numbers.pick(list(play.standing.values())), numbers.pick(LINES)
    served = not numbers.chance(3)
    how = "with a slot" if served else "without"
    play.both(f"{request.id} leaves {line} {how}", lambda side: side.limiter.lines.leave(line, request, served=served))


def busy(play: Play, numbers: Numbers) -> None:
    line = numbers.pick(LINES)
    play.both(f"{line} is busy", lambda side: side.limiter.lines.busy(line))


def bury(play: Play, numbers: Numbers) -> None:
    owner = numbers.pick(OWNERS)
    play.both(f"{owner}'s places are taken away", lambda side: side.limiter.lines.bury(owner))


def ask(play: Play, numbers: Numbers) -> None:
    """How far away somebody's slot is, and who stands where."""
    if play.standing:
        call = numbers.pick(list(play.standing))
        play.both(f"how many before {call}", lambda side: side.limiter.lines.before(call))
    play.both("who stands in line", lambda side: side.limiter.lines.all())


ACTS: dict[Act, int] = {stand: 5, look: 3, leave: 3, busy: 1, bury: 1, ask: 2}
