"""Takes secrets out of text before it is written: exact known values first, then the well-known prefixes of keys.

A secret becomes `[redacted:anthropic-key:9f2c1a7b]`: its kind, and a short hash keyed by the fleet, so that the same
secret can be recognised in two places and still not be guessed. A text without any of the literal prefixes costs one
substring search per prefix.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

PATTERNS: tuple[tuple[str, str, str], ...] = (  # kind, literal that must occur, pattern
    ("anthropic-key", "sk-ant-", r"sk-ant-[A-Za-z0-9_-]{8,}"),
    ("openai-key", "sk-", r"\bsk-(?!ant-)(?:proj-)?[A-Za-z0-9_-]{16,}"),
    ("stripe-key", "k_live_", r"\b[sr]k_live_[A-Za-z0-9]{8,}"),
    ("stripe-key", "k_test_", r"\b[sr]k_test_[A-Za-z0-9]{8,}"),
    ("stripe-webhook", "whsec_", r"\bwhsec_[A-Za-z0-9+/=]{16,}"),
    *(("github-token", f"gh{sort}_", rf"\bgh{sort}_[A-Za-z0-9]{{20,}}") for sort in "pousr"),  # "gh" is in many an id
    ("github-token", "github_pat_", r"\bgithub_pat_[A-Za-z0-9_]{20,}"),
    ("gitlab-token", "glpat-", r"\bglpat-[A-Za-z0-9_-]{16,}"),
    ("slack-token", "xox", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    ("aws-key", "AKIA", r"\bAKIA[A-Z0-9]{16}\b"),
    ("google-key", "AIza", r"\bAIza[A-Za-z0-9_-]{30,}"),
    ("huggingface-token", "hf_", r"\bhf_[A-Za-z0-9]{20,}"),
    ("bearer", "earer ", r"(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{12,}"),
    ("password", "://", r"(?<=://)[^\s:/@\"]{0,128}:[^\s/@\"]{1,512}(?=@)"),
    (  # a key whose end was cut off goes as far as its base 64 does
        "private-key",
        "PRIVATE KEY",
        r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:.{0,20000}?-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----|(?:[A-Za-z0-9+/=\s]|\\[nr])*)",
    ),
)
COMPILED = tuple((kind, literal, re.compile(pattern, re.DOTALL)) for kind, literal, pattern in PATTERNS)
MARK = re.compile(r"\[redacted:[a-z-]{1,20}:[0-9a-f]{8}\]")
SHORT, CACHED = 80, 1_000  # characters of a text whose cleaned form is kept, and how many are
SHORTEST = 8  # a known value shorter than this is too likely to be an ordinary word


def secret_kind(text: str) -> str | None:
    """What sort of well-known secret the text holds, such as "stripe-key"; None when it holds none."""
    return next((kind for kind, literal, pattern in COMPILED if literal in text and pattern.search(text)), None)


@dataclass(frozen=True)
class Redactor:
    """key: the fleet's own, for the hashes. known: exact secrets of this process."""

    key: bytes
    known: tuple[str, ...] = ()

    def clean(self, text: str) -> str:
        """The text, or JSON, with every secret replaced. Idempotent."""
        return self._cached(text) if len(text) <= SHORT else self._clean(text)

    @cached_property
    def _cached(self) -> Callable[[str], str]:
        """Most entries of a journal say one of a few things: these are looked through once."""
        return lru_cache(CACHED)(self._clean)

    def _clean(self, text: str) -> str:
        for written, secret in self._known:
            if written in text:
                text = _replace(re.compile(re.escape(written)), partial(self._mark, "secret", secret), text)
        for kind, literal, pattern in COMPILED:
            if literal in text:
                text = _replace(pattern, partial(self._mark, kind, None), text)
        return text

    @cached_property
    def _known(self) -> list[tuple[str, str]]:
        """As it may be written, plain or inside JSON, and the secret itself. Longest first: a secret that is part of
        another one must not leave the rest of it standing."""
        forms = {
            written: secret
            for secret in self.known
            if len(secret) >= SHORTEST
            for written in (secret, json.dumps(secret, ensure_ascii=False)[1:-1])
        }
        return sorted(forms.items(), key=lambda form: -len(form[0]))

    def _mark(self, kind: str, secret: str | None, found: re.Match[str]) -> str:
        secret = found[0] if secret is None else secret
        short = hmac.new(self.key, secret.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:8]
        return f"[redacted:{kind}:{short}]"


def _replace(pattern: re.Pattern[str], mark: Callable[[re.Match[str]], str], text: str) -> str:
    """Replace every match, stepping over what was redacted before, so that cleaning twice changes nothing."""
    if "[redacted:" not in text:
        return pattern.sub(mark, text)
    either = re.compile(f"(?P<earlier>{MARK.pattern})|{pattern.pattern}", pattern.flags)
    return either.sub(lambda found: found[0] if found["earlier"] else mark(found), text)
