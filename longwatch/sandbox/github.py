"""GitHub: issues, comments and the search for issues, with its primary and secondary limits.

The primary limit is a window of an hour (`x-ratelimit-*`, used up: 403 with remaining 0); search has a window of its own. The
secondary limits are requests in flight, points a minute (a read 1, a write 5) and content created a minute: 403 with
retry-after. There are no idempotency keys: a client that must not create twice puts a marker of its own into the body and
searches for it first. Any repository exists.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from longwatch.sandbox.effects import Effects
from longwatch.sandbox.exchange import Headers, Instant, Reply, Request, Work, json_reply
from longwatch.sandbox.github_issues import Issues
from longwatch.sandbox.quota import Need, Rate, Window, admit, buckets, seconds, windows
from longwatch.sandbox.settings import GitHub as Settings

DOCS = "https://docs.github.com/rest"
PRIMARY_DOCS = f"{DOCS}/overview/rate-limits-for-the-rest-api"
SECONDARY_DOCS = f"{PRIMARY_DOCS}#about-secondary-rate-limits"
PRIMARY = "API rate limit exceeded for user ID 1."
SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
MESSAGES = {500: "Server Error", 502: "Server Error", 503: "Service unavailable"}

Act = Callable[["Asked", Instant], Reply]


class Asked(NamedTuple):
    """A routed request: the parts of its path, its query and its JSON body."""

    request: Request
    owner: str
    repository: str
    number: int
    body: dict[str, Any]


class Route(NamedTuple):
    """A path that is served. creates: it counts against the limit of content."""

    method: str
    pattern: re.Pattern[str]
    label: str
    creates: bool


def _routed(method: str, label: str, *, creates: bool) -> Route:
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", label)
    return Route(method, re.compile(pattern.replace("(?P<number>[^/]+)", r"(?P<number>\d+)")), label, creates)


ISSUES = "/repos/{owner}/{repository}/issues"
ISSUE = ISSUES + "/{number}"
COMMENTS = ISSUE + "/comments"
SEARCH = "/search/issues"
LIMITS = "/rate_limit"

ROUTES = (
    _routed("GET", ISSUES, creates=False),
    _routed("POST", ISSUES, creates=True),
    _routed("GET", ISSUE, creates=False),
    _routed("PATCH", ISSUE, creates=False),
    _routed("GET", COMMENTS, creates=False),
    _routed("POST", COMMENTS, creates=True),
    _routed("GET", SEARCH, creates=False),
    _routed("GET", LIMITS, creates=False),
)


class GitHub:
    """All repositories, seen by one user."""

    def __init__(self, settings: Settings, effects: Effects, now: Instant) -> None:
        self.settings = settings
        self._effects = effects
        self._issues = Issues()
        self._numbered = 0
        self._windows = windows(_hourly(settings), {}, now.ns)
        self._buckets = buckets(_secondary_rates(settings), {}, now.ns)
        self._acts: dict[tuple[str, str], Act] = {
            ("GET", ISSUES): self._list,
            ("POST", ISSUES): self._create,
            ("GET", ISSUE): self._get,
            ("PATCH", ISSUE): self._update,
            ("GET", COMMENTS): self._comments,
            ("POST", COMMENTS): self._comment,
            ("GET", SEARCH): self._search,
        }

    def change(self, settings: Settings, now: Instant) -> None:
        self.settings = settings
        self._windows = windows(_hourly(settings), self._windows, now.ns)
        self._buckets = buckets(_secondary_rates(settings), self._buckets, now.ns)

    def endpoint(self, method: str, path: str) -> str:
        route = _find(method, path)
        return f"{method} {route.label if route else path}"

    def error(self, status: int, *, retry_after_s: int) -> Reply:
        if status in (403, 429):
            return self._error(status, SECONDARY, SECONDARY_DOCS, [(b"retry-after", b"%d" % retry_after_s)])
        return self._error(status, MESSAGES.get(status, "Server Error"))

    def admit(self, request: Request, now: Instant) -> Reply | Work:
        route = _find(request.method, request.path)
        if request.method != "GET" and not request.header(b"authorization"):
            return self._error(401, "Requires authentication")
        if route is None:
            return self._error(404, "Not Found")
        if route.label == LIMITS:
            return self._reply(200, {"resources": self._resources(now), "rate": self._resources(now).get("core")}, now)
        refusal = self._refusal(route, request, now)
        if refusal is not None:
            return refusal
        return self._work(route, request, now)

    def _work(self, route: Route, request: Request, now: Instant) -> Reply | Work:
        parts = route.pattern.fullmatch(request.path)
        found = parts.groupdict() if parts else {}
        try:
            body = msgspec.json.decode(request.body, type=dict[str, Any]) if request.body else {}
        except msgspec.DecodeError:
            return self._error(400, "Problems parsing JSON")
        asked = Asked(request, found.get("owner", ""), found.get("repository", ""), int(found.get("number", 0)), body)
        act = self._acts[route.method, route.label]
        if request.method == "GET":
            return act(asked, now)
        return lambda at, instead: _after(act(asked, at), instead)

    def _refusal(self, route: Route, request: Request, now: Instant) -> Reply | None:
        """The first limit that is hit. Nothing is taken from any of them then, except that the hour's count never rests."""
        settings = self.settings
        if settings.concurrency is not None and request.others >= settings.concurrency:
            return self._secondary(1, now)
        window = self._windows.get("search" if route.label == SEARCH else "core")
        if window is not None and window.remaining(now.ns) < 1:
            return self._error(403, PRIMARY, PRIMARY_DOCS, self._limits(now, route.label))
        points = settings.read_points if request.method == "GET" else settings.write_points
        takes = {"points": points, **({"content": 1} if route.creates else {})}
        needs = [Need(name, bucket, takes[name]) for name, bucket in self._buckets.items() if name in takes]
        short = admit(needs, now.ns)
        if window is not None:
            window.take(1, now.ns)
        return self._secondary(seconds(short.wait_ns), now) if short else None

    def _secondary(self, after_s: int, now: Instant) -> Reply:
        headers = [(b"retry-after", b"%d" % after_s), *self._limits(now, "")]
        return self._error(403, SECONDARY, SECONDARY_DOCS, headers)

    def _list(self, asked: Asked, now: Instant) -> Reply:
        query = asked.request.parameters()
        issues = self._issues.listed(asked.owner, asked.repository, query)
        return self._page(asked.request, [issue.shown(_root(asked.request)) for issue in issues], now)

    def _create(self, asked: Asked, now: Instant) -> Reply:
        if not isinstance(asked.body.get("title"), str) or not asked.body["title"]:
            return self._error(422, "Validation Failed")
        issue = self._issues.create(asked.owner, asked.repository, asked.body, now.epoch_ms)
        self._effects.add("issues", issue.audited())
        return self._reply(201, issue.shown(_root(asked.request)), now)

    def _get(self, asked: Asked, now: Instant) -> Reply:
        issue = self._issues.get(asked.owner, asked.repository, asked.number)
        return self._reply(200, issue.shown(_root(asked.request)), now) if issue else self._error(404, "Not Found")

    def _update(self, asked: Asked, now: Instant) -> Reply:
        issue = self._issues.get(asked.owner, asked.repository, asked.number)
        if issue is None:
            return self._error(404, "Not Found")
        issue.update(asked.body, now.epoch_ms)
        return self._reply(200, issue.shown(_root(asked.request)), now)

    def _comments(self, asked: Asked, now: Instant) -> Reply:
        issue = self._issues.get(asked.owner, asked.repository, asked.number)
        if issue is None:
            return self._error(404, "Not Found")
        shown = [comment.shown(_root(asked.request)) for comment in issue.comments]
        return self._page(asked.request, shown, now)

    def _comment(self, asked: Asked, now: Instant) -> Reply:
        issue = self._issues.get(asked.owner, asked.repository, asked.number)
        if issue is None:
            return self._error(404, "Not Found")
        comment = self._issues.comment(issue, str(asked.body.get("body", "")), now.epoch_ms)
        self._effects.add("comments", comment.audited())
        return self._reply(201, comment.shown(_root(asked.request)), now)

    def _search(self, asked: Asked, now: Instant) -> Reply:
        query = asked.request.parameters()
        before_ms = now.epoch_ms - self.settings.search_lag_ms
        found = self._issues.search(query.get("q", ""), before_ms=before_ms)
        items = [{**issue.shown(_root(asked.request)), "score": 1.0} for issue in found]
        page, headers = paged(asked.request, items)
        value = {"total_count": len(items), "incomplete_results": False, "search_type": "lexical", "items": page}
        return self._reply(200, value, now, headers, label=SEARCH)

    def _page(self, request: Request, items: list[dict[str, Any]], now: Instant) -> Reply:
        page, headers = paged(request, items)
        return self._reply(200, page, now, headers)

    def _resources(self, now: Instant) -> dict[str, dict[str, int]]:
        return {name: _window_state(window, now) for name, window in self._windows.items()}

    def _limits(self, now: Instant, label: str) -> Headers:
        name = "search" if label == SEARCH else "core"
        window = self._windows.get(name)
        if window is None:
            return []
        state = _window_state(window, now)
        headers = [(f"x-ratelimit-{field}".encode(), b"%d" % value) for field, value in state.items()]
        return [*headers, (b"x-ratelimit-resource", name.encode())]

    def _reply(
        self, status: int, value: Any, now: Instant, headers: Headers | None = None, *, label: str = ""
    ) -> Reply:
        return json_reply(status, value, [self._request_id(), *self._limits(now, label), *(headers or [])])

    def _error(self, status: int, message: str, docs: str = DOCS, headers: Headers | None = None) -> Reply:
        body = {"message": message, "documentation_url": docs, "status": str(status)}
        return json_reply(status, body, [self._request_id(), *(headers or [])])

    def _request_id(self) -> tuple[bytes, bytes]:
        self._numbered += 1
        return (b"x-github-request-id", b"%04X:%06X" % (self._numbered >> 24, self._numbered & 0xFFFFFF))


def paged(request: Request, items: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], Headers]:
    """One page of `per_page` (30, at most 100) and the Link header to the others."""
    query = request.parameters()
    size = min(100, _number(query.get("per_page"), default=30))
    page = _number(query.get("page"), default=1)
    last = max(1, -(-len(items) // size))
    ends = {"prev": page - 1, "next": page + 1, "first": 1, "last": last}
    wanted = (["prev", "first"] if page > 1 else []) + (["next", "last"] if page < last else [])
    links = ", ".join(f'<{_link(request, query, ends[name])}>; rel="{name}"' for name in wanted)
    return items[(page - 1) * size : page * size], [(b"link", links.encode())] if links else []


def _link(request: Request, query: dict[str, str], page: int) -> str:
    return f"{_root(request)}{request.path}?{urlencode({**query, 'page': str(page)})}"


def _root(request: Request) -> str:
    return f"http://{request.header(b'host') or '127.0.0.1'}/github"


def _number(text: str | None, *, default: int) -> int:
    return max(1, int(text)) if text and text.isdecimal() else default


def _after(done: Reply, instead: Reply | None) -> Reply:
    return done if instead is None else instead


def _find(method: str, path: str) -> Route | None:
    return next((route for route in ROUTES if route.method == method and route.pattern.fullmatch(path)), None)


def _window_state(window: Window, now: Instant) -> dict[str, int]:
    """The four numbers of the x-ratelimit headers; reset in epoch seconds."""
    remaining = window.remaining(now.ns)
    reset_ms = now.epoch_ms + window.ends_ns(now.ns) // 1_000_000
    return {
        "limit": window.rate.amount,
        "remaining": remaining,
        "used": window.rate.amount - remaining,
        "reset": -(-reset_ms // 1_000),
    }


def _hourly(settings: Settings) -> dict[str, Rate | None]:
    return {"core": settings.primary, "search": settings.search}


def _secondary_rates(settings: Settings) -> dict[str, Rate | None]:
    return {"points": settings.points, "content": settings.content}
