"""GitHub's issues: made, changed, listed and found. The shape that is shown has every field its schema asks for."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

ISSUES_MAX = 200_000

TERM = re.compile(r'([\w-]+:)?(?:"([^"]*)"|(\S+))')


class Comment:
    """A comment on an issue."""

    def __init__(self, identity: int, issue: "Issue", body: str, now_ms: int) -> None:
        self.identity = identity
        self.issue = issue
        self.body = body
        self.at_ms = now_ms

    def audited(self) -> dict[str, Any]:
        return {
            "id": self.identity,
            "repository": self.issue.repository,
            "number": self.issue.number,
            "body": self.body,
        }

    def shown(self, root: str) -> dict[str, Any]:
        issue_url = f"{root}/repos/{self.issue.repository}/issues/{self.issue.number}"
        url = f"{root}/repos/{self.issue.repository}/issues/comments/{self.identity}"
        return {
            "id": self.identity,
            "node_id": f"IC_{self.identity}",
            "url": url,
            "html_url": url,
            "issue_url": issue_url,
            "body": self.body,
            "user": _user(root),
            "created_at": _instant(self.at_ms),
            "updated_at": _instant(self.at_ms),
            "author_association": "OWNER",
            "performed_via_github_app": None,
        }


class Issue:
    """One issue and its comments."""

    def __init__(self, identity: int, repository: str, number: int, body: Mapping[str, Any], now_ms: int) -> None:
        self.identity = identity
        self.repository = repository
        self.number = number
        self.title = str(body["title"])
        self.body: str | None = body.get("body")
        self.labels = _labels(body.get("labels"))
        self.state = "open"
        self.state_reason: str | None = None
        self.created_ms = self.updated_ms = now_ms
        self.closed_ms: int | None = None
        self.comments: list[Comment] = []

    def update(self, body: Mapping[str, Any], now_ms: int) -> None:
        self.title = str(body.get("title", self.title))
        self.body = body.get("body", self.body)
        self.labels = _labels(body["labels"]) if "labels" in body else self.labels
        self.state_reason = body.get("state_reason", self.state_reason)
        self.updated_ms = now_ms
        if body.get("state") in ("open", "closed"):
            self.state = body["state"]
            self.closed_ms = now_ms if self.state == "closed" else None

    def text(self) -> str:
        return "\n".join([self.title, self.body or "", *(comment.body for comment in self.comments)]).lower()

    def audited(self) -> dict[str, Any]:
        return {
            "id": self.identity,
            "repository": self.repository,
            "number": self.number,
            "title": self.title,
            "body": self.body,
            "labels": self.labels,
        }

    def shown(self, root: str) -> dict[str, Any]:
        repository_url = f"{root}/repos/{self.repository}"
        url = f"{repository_url}/issues/{self.number}"
        return {
            "id": self.identity,
            "node_id": f"I_{self.identity}",
            "number": self.number,
            "url": url,
            "html_url": url,
            "repository_url": repository_url,
            "labels_url": f"{url}/labels{{/name}}",
            "comments_url": f"{url}/comments",
            "events_url": f"{url}/events",
            "title": self.title,
            "body": self.body,
            "state": self.state,
            "state_reason": self.state_reason,
            "labels": [_label(name, repository_url) for name in self.labels],
            "user": _user(root),
            "assignee": None,
            "assignees": [],
            "milestone": None,
            "locked": False,
            "active_lock_reason": None,
            "comments": len(self.comments),
            "created_at": _instant(self.created_ms),
            "updated_at": _instant(self.updated_ms),
            "closed_at": None if self.closed_ms is None else _instant(self.closed_ms),
            "author_association": "OWNER",
            "performed_via_github_app": None,
        }


class Issues:
    """The issues of all repositories. Beyond ISSUES_MAX a repository forgets its oldest."""

    def __init__(self) -> None:
        self._repositories: dict[str, dict[int, Issue]] = {}
        self._numbers: dict[str, int] = {}
        self._identities = 0

    def create(self, owner: str, name: str, body: Mapping[str, Any], now_ms: int) -> Issue:
        repository = f"{owner}/{name}"
        number = self._numbers[repository] = self._numbers.get(repository, 0) + 1
        issues = self._repositories.setdefault(repository, {})
        issues[number] = Issue(self._identity(), repository, number, body, now_ms)
        if len(issues) > ISSUES_MAX:
            del issues[next(iter(issues))]
        return issues[number]

    def comment(self, issue: Issue, body: str, now_ms: int) -> Comment:
        made = Comment(self._identity(), issue, body, now_ms)
        issue.comments.append(made)
        issue.updated_ms = now_ms
        return made

    def get(self, owner: str, name: str, number: int) -> Issue | None:
        return self._repositories.get(f"{owner}/{name}", {}).get(number)

    def listed(self, owner: str, name: str, query: Mapping[str, str]) -> list[Issue]:
        """Newest first, open ones unless `state` says otherwise, with all of `labels`."""
        state = query.get("state", "open")
        labels = {label for label in query.get("labels", "").split(",") if label}
        issues = reversed(list(self._repositories.get(f"{owner}/{name}", {}).values()))
        return [issue for issue in issues if state in ("all", issue.state) and labels <= set(issue.labels)]

    def search(self, query: str, *, before_ms: int) -> list[Issue]:
        """Newest first: issues that were there at `before_ms`, hold every word or phrase and pass every qualifier."""
        wanted = [_condition(match) for match in TERM.finditer(query)]
        return [
            issue for issue in self._all() if issue.created_ms <= before_ms and all(holds(issue) for holds in wanted)
        ]

    def _all(self) -> Iterator[Issue]:
        for issues in self._repositories.values():
            yield from reversed(issues.values())

    def _identity(self) -> int:
        self._identities += 1
        return self._identities


def _condition(match: re.Match[str]) -> Callable[[Issue], bool]:
    """What one term of a search asks of an issue. A qualifier that is not known here holds for all."""
    qualifier = (match[1] or "").rstrip(":").lower()
    value = match[2] if match[2] is not None else match[3]
    match qualifier:
        case "":
            return lambda issue: value.lower() in issue.text()
        case "repo":
            return lambda issue: issue.repository.lower() == value.lower()
        case "state" | "is" if value in ("open", "closed"):
            return lambda issue: issue.state == value
        case "label":
            return lambda issue: value in issue.labels
        case "is" | "in" | "type" | "author" | "sort" | "state":
            return lambda _: True
        case _:
            return lambda issue: match[0].lower() in issue.text()


def _labels(given: Iterable[str | dict[str, Any]] | None) -> list[str]:
    return [label if isinstance(label, str) else str(label["name"]) for label in given or []]


def _label(name: str, repository_url: str) -> dict[str, Any]:
    identity = sum(name.encode())
    return {
        "id": identity,
        "node_id": f"LA_{identity}",
        "url": f"{repository_url}/labels/{name}",
        "name": name,
        "description": None,
        "color": "ededed",
        "default": False,
    }


def _instant(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms // 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_USER_PATHS = {
    "followers_url": "/followers",
    "following_url": "/following{/other_user}",
    "gists_url": "/gists{/gist_id}",
    "starred_url": "/starred{/owner}{/repo}",
    "subscriptions_url": "/subscriptions",
    "organizations_url": "/orgs",
    "repos_url": "/repos",
    "events_url": "/events{/privacy}",
    "received_events_url": "/received_events",
}


def _user(root: str) -> dict[str, Any]:
    url = f"{root}/users/sandbox"
    return {
        "login": "sandbox",
        "id": 1,
        "node_id": "U_1",
        "avatar_url": f"{url}/avatar",
        "gravatar_id": "",
        "url": url,
        "html_url": url,
        **{name: url + path for name, path in _USER_PATHS.items()},
        "type": "User",
        "site_admin": False,
    }
