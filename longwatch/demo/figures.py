"""The figures of the demo's stage, that its programs know too: how fast services may be used, how long an edit may take.

Stripe's rate is the documented one; Anthropic's and GitHub's have the documented shape, scaled to the length of the demo so
that pacing is needed. Bursts are small, as services enforce a minute's quota by the second.
"""

LEASE_S = 5
LONGEST_EDIT_S = 5.0  # for the home-made lock: the five minutes of the evening's program, scaled as the lease is

REQUESTS_PER_MIN, REQUESTS_BURST = 1_500, 25
INPUT_TOKENS_PER_MIN, INPUT_TOKENS_BURST = 1_500_000, 60_000
OUTPUT_TOKENS_PER_MIN, OUTPUT_TOKENS_BURST = 400_000, 40_000
STRIPE_PER_S = 25
SEARCHES_PER_MIN = 600
CONTENT_PER_MIN, CONTENT_BURST = 300, 12
POINTS_PER_MIN = 5_400

PER_S = {
    "anthropic": REQUESTS_PER_MIN / 60,
    "stripe": float(STRIPE_PER_S),
    "github": SEARCHES_PER_MIN / 60,
    "github-content": CONTENT_PER_MIN / 60,
}

REVIEW_PRICE = (2_000, 10_000)  # nano-dollars a token in and out
FEE_MICROS = 250_000  # micro-dollars of a payment: 0.20 GBP at 1.25 dollars
FEE = "0.20 GBP"
