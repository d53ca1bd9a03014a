"""Why a store did not do what it was asked: what its library says of it, as a person reads it, and what there is to do."""

import re
from typing import NamedTuple

STATUS = re.compile(r"status code: (\d{3}) ?([\w ]*)")
TRIED = re.compile(r" in ([\d.]+m?s), after (\d+) retries")
FIELD = r"<{0}>\s*(.*?)\s*</{0}>"
MACHINE = "169.254.169.254"  # where a machine of Amazon's is asked for a key when the environment has none
LONGEST = 300  # characters of what is not understood

KEYS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a key that may list, read, write and delete there, and start again"
HOT = "Nothing was taken out of the state that is not in a verified segment."


class Refused(NamedTuple):
    why: str
    hint: str


def understood(said: str, *, bucket: str, address: str) -> Refused:
    """said: all of the library's error. address: of the server; empty: Amazon's."""
    at = address or "Amazon S3"
    if MACHINE in said:
        return Refused(
            f"there is no key for {at} in the environment, and this machine has none of its own", f"{KEYS}. {HOT}"
        )
    status = STATUS.search(said)
    if status is None:
        return Refused(*_unanswered(said, at))
    number, reason = int(status[1]), status[2].strip()
    code, message = _field(said, "Code"), _field(said, "Message")
    answer = f"{at} answers {number} {reason}".rstrip() + (f" ({code}: {message})" if code else "")
    if number in (401, 403):
        return Refused(f"{answer}: it does not take the key", f"{KEYS}. {HOT}")
    if number == 404 and code in ("", "NoSuchBucket"):
        return Refused(f"there is no bucket {bucket} at {at}", f"Make the bucket, or correct [archive] to. {HOT}")
    if number == 429 or number >= 500:
        return Refused(
            f"{answer}{_tries(said)}", f"Wait until the store is well: workers try again by themselves. {HOT}"
        )
    return Refused(answer, f"Check the bucket, its region and its address (AWS_ENDPOINT_URL). {HOT}")


def _unanswered(said: str, at: str) -> tuple[str, str]:
    lower = said.lower()
    if "timed out" in lower or "timeout" in lower.replace("retry_timeout", ""):
        return (
            f"{at} does not answer{_tries(said)}",
            f"Wait until the store is well: workers try again by themselves. {HOT}",
        )
    if "error sending request" in lower or "connect" in lower:
        hint = f"Check that it is up, and that AWS_ENDPOINT_URL leads to it; workers try again by themselves. {HOT}"
        return f"{at} cannot be reached{_tries(said)}", hint
    first = said.partition("\n")[0][:LONGEST]
    return first, f"Check the bucket, its address and the keys in the environment. {HOT}"


def _tries(said: str) -> str:
    found = TRIED.search(said)
    return f", asked {int(found[2]) + 1} times in {_seconds(found[1])}" if found else ""


def _seconds(text: str) -> str:
    amount = float(text.rstrip("ms"))
    return f"{amount / 1000 if text.endswith('ms') else amount:.1f} s"


def _field(said: str, name: str) -> str:
    found = re.search(FIELD.format(name), said, re.DOTALL)
    return found[1] if found else ""
