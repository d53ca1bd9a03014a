"""What answers may teach: limits that headers publish, refusals without one, calls that waited and were answered."""

from longwatch.policy.learning import rates_of
from longwatch.policy.limits import Rate
from longwatch.policy.told import QUOTA, Told
from longwatch.testing.acts import Act
from longwatch.testing.acts_limiter import API
from longwatch.testing.play import Numbers, Play, Side, differ

PLACES = (("api", ""), ("api", "big-1"), ("free", ""))
RATES = (Rate(3, 1_000, 2), Rate(30, 60_000, 1), Rate(100, 1_000, 100), Rate(4, 1_000, 4))
TOKENS = (Rate(600, 60_000, 600), Rate(9_000, 60_000, 9_000))
METERS = ("api/requests", "api/big-*/requests", "free/requests", "free/quota", "api/input_tokens")


def publish(play: Play, numbers: Numbers) -> None:
    """What is said is heeded at once, mostly."""
    service, model = numbers.pick(PLACES)
    told = [Told("requests", numbers.pick(RATES))]
    if numbers.chance(3):
        told.append(Told("input_tokens", numbers.pick(TOKENS)))
    if numbers.chance(3):
        told = [Told(QUOTA, Rate(numbers.pick((5, 20)), 3_600_000, 20))]
    if numbers.chance(12):
        told = [Told("requests", None, 0, 5_000, whole=True)]
    play.both(
        f"{service} publishes {told} for {model or 'all'}",
        lambda side: side.limiter.learned.published(service, model, told, call="call_1", evidence="it said so"),
    )
    _heed(play, numbers)


def refuse(play: Play, numbers: Numbers) -> None:
    service, model = numbers.pick(PLACES)
    left_ms = play.now_ms() - numbers.pick((0, 0, 400, 5_000))
    most = numbers.pick((None, API.rates["requests"]))
    for _ in range(numbers.pick((1, 1, 3))):  # others that left together
        play.both(
            f"{service} refuses a call of {model or 'no model'} that left {play.now_ms() - left_ms} ms ago",
            lambda side: side.limiter.learned.lowered(
                service, model, left_ms=left_ms, most=most, call="call_1", evidence="429"
            ),
        )
    _heed(play, numbers)


def rise(play: Play, numbers: Numbers) -> None:
    service, model = numbers.pick(PLACES)
    left_ms = play.now_ms() - numbers.pick((0, 0, 400, 5_000))
    most = numbers.pick((None, API.rates["requests"]))
    play.both(
        f"{service} answers a call of {model or 'no model'} that had to wait",
        lambda side: side.limiter.learned.raised(service, model, left_ms=left_ms, most=most, call="call_1"),
    )
    _heed(play, numbers)


def hold_back(play: Play, numbers: Numbers) -> None:
    floors = {numbers.pick(METERS): (play.now_ms() + numbers.pick((-500, 300, 4_000, 3_000_000))) * 1000}
    play.both(f"no more than remains: {floors}", lambda side: side.limiter.hold_back(floors))


def _heed(play: Play, numbers: Numbers) -> None:
    """Errors: Disagreement."""

    def heed(side: Side) -> None:
        side.limiter.heed(rates_of(side.limiter.learned.all()))

    if not numbers.chance(4):
        play.both("heed what was learned", heed)
    model, engine = ({each.key: each for each in side.limiter.learned.all()} for side in (play.model, play.engine))
    differ("what was learned", model, engine)


ACTS: dict[Act, int] = {publish: 2, refuse: 3, rise: 3, hold_back: 1}
