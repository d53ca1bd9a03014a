"""One of many processes that call an API whose limit nobody has configured.

Run: learn_worker.py STATE ADMISSION SERVICE URL SECONDS.
Writes "ready", waits for a line, calls as often as it may for so long, and writes the instant and the status of each answer.
"""

import os
import sys
import time

import anthropic
import httpx

import longwatch
from longwatch import Longwatch

Answers = list[tuple[float, int]]


def main() -> None:
    state, admission, service, url, seconds = sys.argv[1:]
    answers: Answers = []
    with longwatch.open(state, admission=admission or None, config={"fleet": {"name": "learn"}}) as lw:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        ends = time.monotonic() + float(seconds)
        {"anthropic": models}.get(service, requests)(lw, service, url, ends, answers)
    sys.stdout.write(" ".join(f"{at}:{status}" for at, status in answers) + "\n")


def requests(lw: Longwatch, service: str, url: str, ends: float, answers: Answers) -> None:
    """By hand: what was answered is told to the call."""
    with httpx.Client(headers={"authorization": "Bearer sk_test_sandbox"}, trust_env=False) as http:
        while time.monotonic() < ends:
            with lw.call(service, money="0 USD") as call:
                answer = http.get(url)
                call.answered(answer.status_code, answer.headers)
                answers.append((time.monotonic(), answer.status_code))


def models(lw: Longwatch, service: str, url: str, ends: float, answers: Answers) -> None:
    """With a wrapped client: the program knows nothing of limits."""
    client = lw.wrap(anthropic.Anthropic(base_url=url, api_key="sk-ant-sandbox"), retries=0)
    while not answers or time.monotonic() < ends:
        status = 200
        try:
            message = {"role": "user", "content": f"process {os.getpid()}"}
            client.messages.create(model="claude-haiku-4-5", max_tokens=16, messages=[message])  # type: ignore[list-item]
        except anthropic.APIStatusError as error:
            status = error.status_code
        answers.append((time.monotonic(), status))


if __name__ == "__main__":
    main()
