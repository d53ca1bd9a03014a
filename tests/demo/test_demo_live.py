"""--live: the real Claude, here played by a stand-in that the environment names as the real one is named."""

import os
from pathlib import Path

import pytest
from demo_player import play

from longwatch.sandbox import started

TINY = ["--tasks", "4", "--processes", "2", "--agents", "1"]

pytestmark = pytest.mark.timeout(200)


def test_live_sends_only_summaries_and_reviews_to_the_given_claude(tmp_path: Path) -> None:
    with started() as claude:
        environ = {"ANTHROPIC_BASE_URL": claude.base_urls["anthropic"], "ANTHROPIC_API_KEY": "sk-ant-of-mine"}
        live = play(tmp_path / "out", *TINY, "--live", "--money", "0.50 USD", environ=environ)
        billed, counts = claude.bill()["anthropic"], claude.counts()
    assert live.status == 0, live.said
    assert counts["anthropic"]["statuses"]["200"] >= 4
    assert counts["stripe"]["requests"] == counts["github"]["requests"] == 0
    assert list(billed["keys"]) == ["sk-ant-of-mine"]
    budgets = live.data["money"]["budgets"]
    assert 0 < billed["micros"] <= budgets["summaries"]["spent_micros"] + budgets["reviews"]["spent_micros"] <= 500_000
    assert live.data["home_made"] is None


@pytest.mark.slow
@pytest.mark.alone
def test_live_stays_within_a_budget_that_is_too_small_for_all(tmp_path: Path) -> None:
    with started() as claude:
        environ = {"ANTHROPIC_BASE_URL": claude.base_urls["anthropic"], "ANTHROPIC_API_KEY": "sk-ant-of-mine"}
        live = play(tmp_path / "out", *TINY, "--live", "--money", "0.0012 USD", environ=environ)
        billed = claude.bill()["anthropic"]["micros"]
    assert live.status == 0, live.said
    assert 0 < billed <= 1_200
    assert live.data["tasks"]["done"] == 4  # the docstring stands in where there was no money for a summary


def test_live_without_a_key_or_an_amount_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    refused = play(tmp_path / "out", "--live", "--money", "0.50 USD")
    assert refused.status == 2
    assert "ANTHROPIC_API_KEY" in refused.data["error"]["hint"]
    refused = play(tmp_path / "out", "--live", environ={"ANTHROPIC_API_KEY": "sk-ant-of-mine"})
    assert refused.status == 2
    assert "--money" in refused.data["error"]["hint"]
    assert not os.path.exists(tmp_path / "out")
