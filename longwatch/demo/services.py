"""The three services as both programs use them: one HTTP request each, no retry, no pacing, nothing remembered.

Where they are and with which keys comes from the environment, in the variables that their SDKs read.
"""

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx

from longwatch.demo.material import Module

SUMMARY_MODEL, REVIEW_MODEL = "claude-haiku-5-5", "claude-sonnet-5-5"
ANSWER_TOKENS = 200
PENCE = 1200
REPOSITORY = "atlas/library"
TIMEOUT_S = 30.0
LIVE = "LONGWATCH_DEMO_LIVE"
LIVE_CHARACTERS = 6_000


@dataclass
class Services:
    """live: Claude is the real one: less of each module is sent, and its tokens are estimated for certain.

    A stand-in counts four characters a token; no tokenizer at hand tells for the real one, but code has more than three.
    """

    live: bool = False

    @cached_property
    def http(self) -> httpx.Client:
        """Certificates are loaded only where there is a service to check: that takes longer than a call."""
        return httpx.Client(timeout=TIMEOUT_S, trust_env=False, verify=_claude().startswith("https:"))

    def prompt(self, module: Module, ask: str) -> str:
        source = module.source[:LIVE_CHARACTERS] if self.live else module.source
        return f"{ask} the Python module {module.name} in one sentence.\n\n{source}"

    def tokens(self, prompt: str) -> int:
        """Surely as many as the prompt has."""
        return len(prompt) // (3 if self.live else 4) + 50

    def message(self, model: str, prompt: str) -> httpx.Response:
        headers = {"x-api-key": os.environ["ANTHROPIC_API_KEY"], "anthropic-version": "2023-06-01"}
        body = {"model": model, "max_tokens": ANSWER_TOKENS, "messages": [{"role": "user", "content": prompt}]}
        return self.http.post(f"{_claude()}/v1/messages", headers=headers, json=body)

    def pay(self, module: str, key: str) -> httpx.Response:
        """Charge for the module. key: the same key charges once."""
        headers = {"authorization": f"Bearer {os.environ['STRIPE_API_KEY']}", "idempotency-key": key}
        form = {
            "amount": str(PENCE),
            "currency": "gbp",
            "confirm": "true",
            "payment_method": "pm_card_visa",
            "description": module,
        }
        return self.http.post(f"{os.environ['STRIPE_API_BASE']}/v1/payment_intents", headers=headers, data=form)

    def find_issue(self, module: str) -> httpx.Response:
        """Issues that carry the marker of this module."""
        query = {"q": f'repo:{REPOSITORY} "{marker(module)}"'}
        return self.http.get(f"{_github()}/search/issues", headers=_github_headers(), params=query)

    def open_issue(self, module: Module) -> httpx.Response:
        names = ", ".join(module.undocumented[:20])
        body = {
            "title": f"{module.name}: {len(module.undocumented)} undocumented names",
            "body": f"Without a docstring: {names}.\n\n{marker(module.name)}",
        }
        return self.http.post(f"{_github()}/repos/{REPOSITORY}/issues", headers=_github_headers(), json=body)


def marker(module: str) -> str:
    """How an issue of ours is known again: GitHub has no idempotency keys."""
    return f"<!-- catalogue:{module} -->"


def said(message: Any) -> str:
    """The text of an answer of Claude."""
    return "".join(block.get("text", "") for block in message["content"])


def _claude() -> str:
    return os.environ.get("ANTHROPIC_BASE_URL") or "https://api.anthropic.com"


def _github() -> str:
    return os.environ["GITHUB_API_URL"]


def _github_headers() -> dict[str, str]:
    return {"authorization": f"Bearer {os.environ['GITHUB_TOKEN']}", "accept": "application/vnd.github+json"}
