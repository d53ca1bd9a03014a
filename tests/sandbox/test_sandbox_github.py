"""githubkit, unmodified, and plain requests against the stand-in for GitHub."""

import importlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from longwatch.sandbox import Sandbox

ISSUES = "/github/repos/acme/shop/issues"


def githubkit() -> Any:
    """The githubkit package. Its HTTP cache is switched off below: some releases of the cache library that it allows
    lack names that it imports, so those that are missing get an empty class, which nothing here uses."""
    missing = {
        "hishel": ("CachePolicy", "SpecificationPolicy", "SyncBaseStorage", "SyncSqliteStorage"),
        "hishel.httpx": ("SyncCacheTransport",),
    }
    for name, classes in missing.items():
        module = importlib.import_module(name)
        for absent in (known for known in classes if not hasattr(module, known)):
            setattr(module, absent, type(absent, (), {}))
    return importlib.import_module("githubkit")


@pytest.fixture
def github(sandbox: Sandbox) -> Any:
    url = sandbox.base_urls["github"]
    return githubkit().GitHub("token", base_url=url, http_cache=False, auto_retry=False)


def test_an_issue_is_created_found_and_commented(github: Any, sandbox: Sandbox) -> None:
    made = github.rest.issues.create("acme", "shop", title="Broken", body="marker-41", labels=["bug"]).parsed_data
    assert (made.number, made.title, made.state, made.labels[0].name) == (1, "Broken", "open", "bug")
    assert github.rest.issues.get("acme", "shop", 1).parsed_data.body == "marker-41"
    comment = github.rest.issues.create_comment("acme", "shop", 1, body="Me too").parsed_data
    assert comment.body == "Me too"
    listed = github.rest.issues.list_comments("acme", "shop", 1).parsed_data
    assert [found.id for found in listed] == [comment.id]
    closed = github.rest.issues.update("acme", "shop", 1, state="closed").parsed_data
    assert closed.closed_at is not None
    effects = sandbox.effects()
    assert [(row["title"], row["body"], row["labels"]) for row in effects["issues"]] == [
        ("Broken", "marker-41", ["bug"])
    ]
    assert [row["body"] for row in effects["comments"]] == ["Me too"]


def test_a_marker_is_found_by_search(github: Any) -> None:
    for number in range(3):
        github.rest.issues.create("acme", "shop", title=f"Order {number}", body=f"<!-- longwatch:task-{number}: -->")
    github.rest.issues.create("acme", "other", title="Order", body="<!-- longwatch:task-1: -->")
    found = github.rest.search.issues_and_pull_requests(
        q='repo:acme/shop is:issue in:body "longwatch:task-1:"'
    ).parsed_data
    assert (found.total_count, found.items[0].number) == (1, 2)


def test_a_client_that_is_refused_knows_when_to_return(github: Any, sandbox: Sandbox) -> None:
    exception = importlib.import_module("githubkit.exception")
    sandbox.limits(github={"content": {"amount": 1, "per_ms": 40_000}})
    github.rest.issues.create("acme", "shop", title="one")
    with pytest.raises(exception.SecondaryRateLimitExceeded) as secondary:
        github.rest.issues.create("acme", "shop", title="two")
    assert 35 <= secondary.value.retry_after.total_seconds() <= 40
    sandbox.limits(github={"primary": {"amount": 1, "per_ms": 30_000}})
    github.rest.issues.get("acme", "shop", 1)
    with pytest.raises(exception.PrimaryRateLimitExceeded) as primary:
        github.rest.issues.get("acme", "shop", 1)
    assert 25 <= primary.value.retry_after.total_seconds() <= 31


def test_lists_are_filtered_and_paged_with_links(sandbox: Sandbox, http: httpx.Client) -> None:
    for number in range(1, 6):
        http.post(ISSUES, json={"title": f"T{number}", "labels": ["odd"] if number % 2 else [{"name": "even"}]})
    http.patch(f"{ISSUES}/5", json={"state": "closed"})
    page = http.get(ISSUES, params={"per_page": 2, "state": "all"})
    assert [issue["number"] for issue in page.json()] == [5, 4]
    assert set(page.links) == {"next", "last"}
    last = http.get(page.links["last"]["url"])
    assert ([issue["number"] for issue in last.json()], set(last.links)) == ([1], {"prev", "first"})
    assert [issue["number"] for issue in http.get(ISSUES, params={"labels": "odd"}).json()] == [3, 1]
    assert [issue["number"] for issue in http.get(ISSUES, params={"state": "closed"}).json()] == [5]


def test_search_knows_words_phrases_and_qualifiers(sandbox: Sandbox, http: httpx.Client) -> None:
    http.post(ISSUES, json={"title": "Disk full", "body": "on host a", "labels": ["ops"]})
    http.post(ISSUES, json={"title": "Full moon", "body": "disk of the sun"})
    http.post(f"{ISSUES}/2/comments", json={"body": "needle"})
    http.patch(f"{ISSUES}/2", json={"state": "closed"})

    def found(query: str) -> list[int]:
        return [item["number"] for item in http.get("/github/search/issues", params={"q": query}).json()["items"]]

    assert found("disk full") == [2, 1]
    assert found('"disk full"') == [1]
    assert found("disk is:open") == [1]
    assert found("full label:ops") == [1]
    assert found("needle repo:acme/shop") == [2]
    assert found("needle repo:acme/none") == []


def test_a_new_issue_can_be_hidden_from_search_for_a_while(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.limits(github={"search_lag_ms": 60_000})
    http.post(ISSUES, json={"title": "fresh"})
    assert http.get("/github/search/issues", params={"q": "fresh"}).json()["total_count"] == 0
    sandbox.limits(github={"search_lag_ms": 0})
    assert http.get("/github/search/issues", params={"q": "fresh"}).json()["total_count"] == 1


def test_the_primary_limit_is_told_and_enforced(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.limits(github={"primary": {"amount": 3, "per_ms": 3_600_000}})
    replies = [http.get(ISSUES) for _ in range(4)]
    headers = replies[0].headers
    assert [headers[f"x-ratelimit-{name}"] for name in ("limit", "remaining", "used", "resource")] == [
        "3",
        "2",
        "1",
        "core",
    ]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 403]
    assert replies[3].headers["x-ratelimit-remaining"] == "0"
    assert replies[3].json()["message"].startswith("API rate limit exceeded for user ID")
    assert "retry-after" not in replies[3].headers
    limits = http.get("/github/rate_limit").json()
    assert (limits["resources"]["core"]["remaining"], limits["rate"]["used"]) == (0, 3)


@pytest.mark.parametrize(
    ("limits", "admitted"),
    [
        ({"points": {"amount": 16, "per_ms": 3_600_000}}, 3),
        ({"content": {"amount": 2, "per_ms": 3_600_000}}, 2),
        ({"points": {"amount": 16, "per_ms": 3_600_000}, "write_points": 8}, 2),
    ],
)
def test_secondary_limits_count_points_and_content(
    sandbox: Sandbox, http: httpx.Client, limits: dict[str, Any], admitted: int
) -> None:
    sandbox.limits(github=limits)
    replies = [http.post(ISSUES, json={"title": "x"}) for _ in range(5)]
    assert [reply.status_code for reply in replies] == [201] * admitted + [403] * (5 - admitted)
    assert "secondary rate limit" in replies[4].json()["message"]
    assert int(replies[4].headers["retry-after"]) >= 1
    assert len(sandbox.effects()["issues"]) == admitted


def test_requests_in_flight_are_limited_by_github(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.limits(github={"concurrency": 2, "latency_ms": 500})

    def create(_: int) -> httpx.Response:
        return http.post(ISSUES, json={"title": "x"})

    with ThreadPoolExecutor(5) as threads:
        replies = list(threads.map(create, range(5)))
    assert sorted(reply.status_code for reply in replies) == [201, 201, 403, 403, 403]


def test_search_has_a_limit_of_its_own(sandbox: Sandbox, http: httpx.Client) -> None:
    sandbox.limits(github={"search": {"amount": 1, "per_ms": 60_000}})
    replies = [http.get("/github/search/issues", params={"q": "x"}) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [200, 403]
    assert replies[0].headers["x-ratelimit-resource"] == "search"
    assert http.get(ISSUES).status_code == 200


def test_wrong_requests_are_refused_by_github(sandbox: Sandbox, http: httpx.Client) -> None:
    assert http.get("/github/repos/acme/shop/issues/1").status_code == 404
    assert http.post(ISSUES, json={}).status_code == 422
    assert http.post(ISSUES, content=b"{").status_code == 400
    assert http.get("/github/nowhere").status_code == 404
    anonymous = httpx.post(f"{sandbox.url}{ISSUES}", json={"title": "x"}, trust_env=False)
    assert anonymous.status_code == 401
    assert sandbox.effects()["issues"] == []
