"""Stand-ins for real APIs, with the quotas, prices, streams and faults of the real ones, on one loopback port.

    with started(Settings(stripe=Stripe(requests=Rate(25, per_ms=1000, burst=5)))) as sandbox:
        client = anthropic.Anthropic(base_url=sandbox.base_urls["anthropic"], api_key="any")

or `python -m longwatch.sandbox --port 8400 --settings '{"stripe": {"latency_ms": 40}}'`. The official SDKs of Anthropic,
OpenAI and Stripe and githubkit run against it unchanged; they need a base URL and any key.

/anthropic   POST /v1/messages (also streamed), POST /v1/messages/count_tokens, /v1/messages/batches
/openai      POST /v1/chat/completions (also streamed)
/stripe      charges, customers, payment_intents: create, retrieve, update, list, confirm; idempotency keys
/github      issues and comments: create, retrieve, update, list; search/issues; rate_limit
/_sandbox    counts, bill, effects, events, faults, limits, reset (control.py)

What a model says is a function of its prompt (answers.py): `expected_answer` tells it, `prompt_digest` names the prompt in the
effects. What may be set is in settings.py, what can go wrong in faults.py, what things cost in prices.py. Requests are never
authenticated beyond the presence of a key, nothing is stored, and only loopback addresses are served.
"""

from longwatch.sandbox.answers import expected_answer, prompt_digest
from longwatch.sandbox.client import Sandbox, SandboxDied, started
from longwatch.sandbox.faults import Fault
from longwatch.sandbox.prices import Price
from longwatch.sandbox.quota import Rate
from longwatch.sandbox.server import serve
from longwatch.sandbox.settings import Anthropic, GitHub, OpenAI, Settings, SettingsError, Stripe
from longwatch.sandbox.tally import Event

__all__ = [
    "Anthropic",
    "Event",
    "Fault",
    "GitHub",
    "OpenAI",
    "Price",
    "Rate",
    "Sandbox",
    "SandboxDied",
    "Settings",
    "SettingsError",
    "Stripe",
    "expected_answer",
    "prompt_digest",
    "serve",
    "started",
]
