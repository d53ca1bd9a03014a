"""What a program may do to leases, to the line before them, and to commits of files under their fences."""

from longwatch.db.connection import Transaction
from longwatch.errors import StepReused
from longwatch.policy.edit import Item
from longwatch.policy.lease import Holder
from longwatch.store.leases import Busy, Listed, Taken
from longwatch.testing.acts import Act
from longwatch.testing.play import OWNERS, Numbers, Play, Side

PATHS = ("a", "b", "c")
TTLS_MS = (60_000, 60_000, 1_500)


def take(play: Play, numbers: Numbers) -> None:
    lease, names = _lease(play, numbers, "lease"), _names(numbers)
    holder, ttl_ms = Holder(numbers.pick(OWNERS), "main", None), numbers.pick(TTLS_MS)
    edit = f"edit_of_{lease}" if numbers.chance(3) else None
    known = play.asked.setdefault(lease, (names, holder))
    if not numbers.chance(10):
        names, holder = known
    answers = play.both(
        f"take {lease} on {names} for {holder.owner}, {ttl_ms} ms",
        lambda side: side.leases.take(lease, names, holder=holder, ttl_ms=ttl_ms, edit=edit),
        _seen,
    )
    if answers and isinstance(answers[0], Taken) and isinstance(answers[1], Taken):
        play.fences.append((lease, answers[0].fence, answers[1].fence))
    _live(play)


def _seen(answer: Taken | Busy | None, side: Side) -> object:
    """Without fences, and of who is in the way the id alone."""
    if isinstance(answer, Busy):
        return ("busy", answer.by.id, answer.by.until_ms, answer.place)
    return answer and (answer.id, answer.until_ms)


def _lease(play: Play, numbers: Numbers, sort: str) -> str:
    """Mostly one that was asked for before."""
    return numbers.recent([*play.asked]) if play.asked and not numbers.chance(3) else play.new_id(sort)


def _names(numbers: Numbers) -> tuple[str, ...]:
    return tuple(dict.fromkeys(numbers.pick(PATHS) for _ in range(numbers.pick((1, 1, 2)))))


def _live(play: Play) -> None:
    play.both("live leases", lambda side: side.leases.live(), _listed)


def _listed(answer: list[Listed], side: Side) -> object:
    return [(one.id, one.owner, one.edit, one.names, one.until_ms) for one in answer]


def look(play: Play, numbers: Numbers) -> None:
    lease, names = _lease(play, numbers, "lease"), _names(numbers)
    play.both(f"who blocks {lease} on {names}", lambda side: side.leases.blocked(lease, names), _seen)


def renew(play: Play, numbers: Numbers) -> None:
    some = [_lease(play, numbers, "lease") for _ in range(numbers.pick((1, 3)))]
    known = play.asked.get(some[0])
    owner = known[1].owner if known and not numbers.chance(4) else numbers.pick(OWNERS)
    play.both(f"renew {some} of {owner}", lambda side: side.leases.renew(some, owner=owner))


def release(play: Play, numbers: Numbers) -> None:
    lease = _lease(play, numbers, "lease")
    play.both(f"release {lease}", lambda side: side.leases.release(lease))
    _live(play)


def until(play: Play, numbers: Numbers) -> None:
    if play.fences:
        lease, by_model, by_engine = numbers.recent(play.fences)
        other = _lease(play, numbers, "lease") if numbers.chance(4) else lease

        def ask(side: Side) -> int | None:
            return side.leases.until(other, fence=by_model if side is play.model else by_engine)

        play.both(f"how long {other} lasts under fence {by_model}", ask)


def expire(play: Play, numbers: Numbers) -> None:
    limit = numbers.pick((100, 1))
    play.both(f"expire {limit} leases", lambda side: side.leases.expire(limit=limit))


def bury(play: Play, numbers: Numbers) -> None:
    owner = numbers.pick(OWNERS)
    play.both(f"bury {owner} as a holder", lambda side: side.leases.bury(owner))
    _live(play)


def commit(play: Play, numbers: Numbers) -> None:
    """Files under one or two leases, and now and then something else that refuses to be written with them."""
    if not play.fences:
        return
    edit = f"edit_{numbers.pick(range(6))}"
    under = [numbers.recent(play.fences) for _ in range(numbers.pick((1, 2)))]
    root, refuses = numbers.pick(("root", "other")), numbers.chance(5)
    items = tuple(Item(place, name, "0" * 64, 0o644) for place, name in enumerate(_names(numbers)))
    items = () if numbers.chance(6) else items

    def refuse(tx: Transaction | None) -> None:
        if refuses:
            raise StepReused("the step was stored before")

    def ask(side: Side) -> None:
        fences = [(lease, one if side is play.model else other) for lease, one, other in under]
        side.edits.commit(edit, items, root=root, holder=Holder("ann", "main"), fences=fences, also=refuse)

    said = f"commit {edit} of {len(items)} files under {[lease for lease, *_ in under]}"
    play.both(said + (", refused by what goes with it" if refuses else ""), ask)
    _pending(play, edit)


def apply(play: Play, numbers: Numbers) -> None:
    edit, lease = f"edit_{numbers.pick(range(6))}", _lease(play, numbers, "lease")
    play.both(
        f"apply {edit}, releasing {lease}",
        lambda side: side.edits.apply(edit, agent="main", task=None, release=[lease]),
    )
    _pending(play, edit)
    _live(play)


def _pending(play: Play, edit: str) -> None:
    play.both(f"whether {edit} has landed", lambda side: side.edits.landed(edit))
    for root in ("root", "other"):
        play.both(f"what is pending in {root}", lambda side, root=root: side.edits.pending(root))  # type: ignore[misc]
    play.both("live edits", lambda side: side.edits.live())


def moment(play: Play, numbers: Numbers) -> None:
    """As long as a place in line is kept, or not."""
    pause_ms = numbers.pick((200, 500, 999, 1_000, 1_500))
    play.clock.steady += pause_ms
    play.clock.wall += pause_ms
    play.said.append(f"{pause_ms} ms pass")


ACTS: dict[Act, int] = {
    take: 16,
    look: 2,
    renew: 4,
    release: 4,
    until: 3,
    expire: 2,
    bury: 1,
    commit: 5,
    apply: 3,
    moment: 6,
}
