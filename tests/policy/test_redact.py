"""Secrets do not survive cleaning, and cleaning twice changes nothing."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longwatch.policy.redact import Redactor, secret_kind

KEY = b"the fleet's own"
# put together here, so that no scanner takes this file for a leak
SECRETS = {
    "anthropic-key": "sk-" + "ant-api03-abcdefghijklmnop",
    "openai-key": "sk-" + "proj-abcdefghijklmnop1234",
    "stripe-key": "sk_" + "live_abcdefghijklmnop",
    "stripe-webhook": "whsec_" + "abcdefghijklmnop1234",
    "github-token": "ghp_" + "abcdefghijklmnopqrst1234",
    "slack-token": "xoxb-" + "123456789012-abcdef",
    "aws-key": "AKIA" + "ABCDEFGHIJKLMNOP",
    "private-key": "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEabc+/=\n-----END RSA " + "PRIVATE KEY-----",
}


@pytest.mark.parametrize(("kind", "secret"), SECRETS.items())
def test_a_well_known_secret_is_replaced_by_its_kind(kind: str, secret: str) -> None:
    cleaned = Redactor(KEY).clean(f"before {secret} after")
    assert cleaned.startswith(f"before [redacted:{kind}:")
    assert cleaned.endswith("] after")
    assert secret_kind(secret) == kind


@pytest.mark.parametrize(
    "url", ["postgresql://me:hunter2pass@db/x", "redis://:hunter2pass@db", "https://me:hunter2pass@h"]
)
def test_the_password_of_an_address_is_replaced(url: str) -> None:
    assert "hunter2pass" not in Redactor(KEY).clean(f"connecting to {url} failed")


def test_a_private_key_whose_end_was_cut_off_is_replaced() -> None:
    cut = "-----BEGIN " + "PRIVATE KEY-----\nMIIEabc+/=\nMIIEdef"
    assert "MIIE" not in Redactor(KEY).clean(cut)
    assert json.loads(Redactor(KEY).clean(json.dumps({"out": cut + '"'})))["out"].endswith('"')


def test_a_known_secret_inside_a_longer_one_leaves_nothing_of_either() -> None:
    redactor = Redactor(KEY, known=("hunter2hunter2", "hunter2hunter2-and-more"))
    assert redactor.clean("hunter2hunter2-and-more").count("[") == 1
    assert "more" not in redactor.clean("hunter2hunter2-and-more")


def test_a_known_secret_is_found_inside_json() -> None:
    secret = 'a "quoted"\nsecret'
    cleaned = Redactor(KEY, known=(secret,)).clean(json.dumps({"token": secret}))
    assert "quoted" not in cleaned
    assert json.loads(cleaned)["token"] == Redactor(KEY, known=(secret,)).clean(secret)


def test_equal_secrets_stay_joinable_and_other_fleets_mark_them_otherwise() -> None:
    secret = SECRETS["stripe-key"]
    first, second = Redactor(KEY).clean(f"{secret} and {secret}").split(" and ")
    assert first == second
    assert Redactor(b"another").clean(secret) != first


PIECES = st.sampled_from(
    [
        *SECRETS.values(),
        "://",
        "me:hunter2pass@",
        "Bearer ",
        "redacted",
        "[redacted:",
        "secret",
        "password",
        " ",
        "\n",
        ":",
        "x" * 20,
    ]
)


@given(st.lists(PIECES, max_size=8), st.lists(st.sampled_from(["redacted", "password", "hunter2pass", "sk-ant-api03"])))
def test_cleaning_twice_changes_nothing(pieces: list[str], known: list[str]) -> None:
    redactor = Redactor(KEY, known=tuple(known))
    once = redactor.clean("".join(pieces))
    assert redactor.clean(once) == once


@given(st.text(max_size=60), st.text(max_size=60), st.text(min_size=8, max_size=30))
def test_no_known_secret_survives(before: str, after: str, secret: str) -> None:
    marks = "[redacted:secret:0123456789abcdef]"
    cleaned = Redactor(KEY, known=(secret,)).clean(before + secret + after)
    assert secret not in cleaned or secret in marks
