"""What may happen to a fleet as a whole: its machine starts anew, or its state was restored."""

from longwatch.store import fleet
from longwatch.store.backup import overtake
from longwatch.testing.acts import Act
from longwatch.testing.play import Numbers, Play


def reboot(play: Play, numbers: Numbers) -> None:
    """The boot clock begins again at zero; nothing that ran before can be running still."""
    play.clock.steady, play.clock.wall, play.clock.boot = (
        5_000,
        max(play.now_ms(), play.clock.wall),
        play.clock.boot + 1,
    )
    joined = fleet.enter(play.database, play.clock, name="conformance", redaction_key="key")
    play.said.append("reboot")
    if joined.rebooted:
        play.both("end all", lambda side: side.workers.end_all())


def restore(play: Play, numbers: Numbers) -> None:
    """Every fence given so far is overtaken, and what is older may have done more than the state remembers."""
    play.ledger.raise_epoch()
    play.model_leases.end_all()
    play.model_limiter.doubt_calls()
    overtake(play.database, play.journal, epoch=play.ledger.epoch, source="a copy")
    play.engine.workers.end_all()
    play.said.append("restore")
    play.last = None


ACTS: dict[Act, int] = {reboot: 1, restore: 1}
