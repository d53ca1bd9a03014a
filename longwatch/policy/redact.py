"""Takes secrets out of text before it is written: exact known values first, then the well-known prefixes of keys.

A secret becomes `[redacted:anthropic-key:9f2c1a7b]`: its kind, and a short hash keyed by the fleet, so that the same
secret can be recognised in two places and still not be guessed. A text without any of the literal prefixes costs one
substring search per prefix.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass

PATTERNS: tuple[tuple[str, str, str], ...] = (  # kind, literal that must occur, pattern
    ("anthropic-key", "sk-ant-", r"sk-ant-[A-Za-z0-9_-]{8,}"),
    ("openai-key", "sk-", r"\bsk-(?!ant-)(?:proj-)?[A-Za-z0-9_-]{16,}"),
    ("stripe-key", "k_live_", r"\b[sr]k_live_[A-Za-z0-9]{8,}"),
    ("stripe-key", "k_test_", r"\b[sr]k_test_[A-Za-z0-9]{8,}"),
    ("stripe-webhook", "whsec_", r"\bwhsec_[A-Za-z0-9+/=]{16,}"),
    ("github-token", "gh", r"\bgh[pousr]_[A-Za-z0-9]{20,}"),
    ("github-token", "github_pat_", r"\bgithub_pat_[A-Za-z0-9_]{20,}"),
    ("gitlab-token", "glpat-", r"\bglpat-[A-Za-z0-9_-]{16,}"),
    ("slack-token", "xox", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    ("aws-key", "AKIA", r"\bAKIA[A-Z0-9]{16}\b"),
    ("google-key", "AIza", r"\bAIza[A-Za-z0-9_-]{30,}"),
    ("huggingface-token", "hf_", r"\bhf_[A-Za-z0-9]{20,}"),
    ("bearer", "earer ", r"(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{12,}"),
    ("password", "://", r"(?<=://)[^\s:/@\"]{1,64}:[^\s/@\"]{1,128}(?=@)"),
    ("private-key", "PRIVATE KEY-----", r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----"),
)
COMPILED = tuple((kind, literal, re.compile(pattern, re.DOTALL)) for kind, literal, pattern in PATTERNS)
SHORTEST = 8  # a known value shorter than this is too likely to be an ordinary word


@dataclass(frozen=True)
class Redactor:
    """key: the fleet's own, for the hashes. known: exact secrets of this process."""

    key: bytes
    known: tuple[str, ...] = ()

    def clean(self, text: str) -> str:
        """The text with every secret replaced. Idempotent."""
        for secret in self.known:
            if len(secret) >= SHORTEST and secret in text:
                text = text.replace(secret, self._mark("secret", secret))
        for kind, literal, pattern in COMPILED:
            if literal in text:
                text = pattern.sub(lambda found, kind=kind: self._mark(kind, found[0]), text)  # type: ignore[misc]
        return text

    def _mark(self, kind: str, secret: str) -> str:
        short = hmac.new(self.key, secret.encode(), hashlib.sha256).hexdigest()[:8]
        return f"[redacted:{kind}:{short}]"
