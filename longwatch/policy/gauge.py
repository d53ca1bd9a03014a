"""One rate that decides about a call."""

from typing import NamedTuple

from longwatch.policy.limits import Rate


class Gauge(NamedTuple):
    """One rate of a call's service: the name its meter is kept under, and the dimension whose weight it counts."""

    meter: str
    dimension: str
    rate: Rate
