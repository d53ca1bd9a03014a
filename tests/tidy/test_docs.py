"""The pages tell the truth where a test can see it: links, generated pages, names, words, news fragments, decisions."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from pages import ROOT, blocks_of, name_of, pages, prose_of

import longwatch
from docs import generate
from docs.journal_kinds import MEANINGS, kinds

DOCS = ROOT / "docs"
LINK = re.compile(r"(?<!`)\[[^\]\n]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#{1,4} (?P<text>.+)$", re.MULTILINE)
EVERY_PAGE = pytest.mark.parametrize("page", pages(), ids=name_of)
LANGUAGES = {"sh", "python", "toml", "ini", "json", "text", "mermaid"}

ROOMS = {"longwatch", "tests", "docs", "bench", "changes", *(path.name for path in (ROOT / "longwatch").iterdir())}

FRAGMENT = re.compile(r"(?P<number>\d{4})\.(feature|fix|breaking|docs)\.md")
DECISION = re.compile(r"(?P<number>\d{4})-[a-z0-9-]+\.md")

# What is written instead of the glossary's word.
STRANGERS = {
    r"\bmutex(es)?\b": "lease, or the kernel's lock",
    r"\bsemaphores?\b": "concurrency",
    r"\bjobs?\b(?! queue)": "task",
    r"\brollbacks?\b": "an edit is dropped, a commit rolled forward",
    r"\bworkflows?\b(?! engine)": "task, batch",
    r"\bheartbeats\b": "beats",
    r"\bmicroservices?\b": "service",
    r"\bwallets?\b": "budget",
    r"\bthrottl\w+\b": "limit",
}
WHOSE_LOCK = re.compile(
    r"kernel|file|flock|sqlite|state|root|turnstile|redis|row|database|write lock|thread", re.IGNORECASE
)
# The project speaks of itself alone.
FOREIGN = {
    r"(?<![\w.~])/(work|root|tmp)/\w": "a path of one machine",
    r"\bpypi\.org|pythonhosted|://pypi\b|index-url": "a registry; the lock file alone names it",
}
PAGES_ONLY = {
    r"\bhelpers?\b": "who helped",
    r"\bsessions?\b": "how it was written",
    r"\bissues?\b(?!.*GitHub)": "a ticket",
}


# -- links ---------------------------------------------------------------------------------------------------------------


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """(file, anchor) of every link inside the repository."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for found in LINK.finditer(text):
        file, _, anchor = found["target"].partition("#")
        if "://" not in file:
            yield ((page.parent / file).resolve() if file else page), anchor


def anchors(page: Path) -> set[str]:
    """As the usual renderers make them: lower case, blanks to hyphens, the rest of the punctuation gone."""
    headings = (found["text"] for found in HEADING.finditer(page.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EVERY_PAGE
def test_every_link_leads_somewhere(page: Path) -> None:
    for file, anchor in links(page):
        assert file.exists(), f"{name_of(page)} links to {file}"
        assert not anchor or anchor in anchors(file), f"{name_of(page)}: {file.name} has no heading #{anchor}"


def test_every_page_can_be_reached_from_the_index() -> None:
    reached, ahead = set[Path](), [DOCS / "README.md"]
    while ahead:
        page = ahead.pop()
        if page not in reached:
            reached.add(page)
            ahead += [file for file, _ in links(page) if file.suffix == ".md" and file.exists()]
    orphans = [name_of(page) for page in pages() if page not in reached and FRAGMENT.fullmatch(page.name) is None]
    assert not orphans, f"not reached from docs/README.md: {', '.join(orphans)}"


# -- what is made from the code --------------------------------------------------------------------------------------------


def test_the_generated_pages_are_what_the_code_says() -> None:
    stale = generate.stale()
    assert not stale, f"stale: {', '.join(stale)}; run .venv/bin/python -m docs.generate"


def test_every_kind_of_record_is_explained_and_none_that_does_not_exist() -> None:
    assert set(kinds()) == set(MEANINGS)


@EVERY_PAGE
def test_every_command_that_the_page_names_exists(page: Path) -> None:
    for words in re.findall(r"(?:^|`|\(|\| |&& )longwatch((?: [a-z]+){1,2})", page.read_text("utf-8"), re.MULTILINE):
        assert _is_command(words.split()), f"{name_of(page)}: there is no command longwatch{words}"


def _is_command(words: list[str]) -> bool:
    """Whether the words lead to a command; what follows one are its arguments."""
    node: click.Command = generate.root()
    for word in words:
        if isinstance(node, click.Group):
            if word not in node.commands:
                return False
            node = node.commands[word]
    return True


@EVERY_PAGE
def test_every_file_of_the_project_that_the_page_names_is_there(page: Path) -> None:
    for name in re.findall(r"`((?:\w+/)+[\w.*-]*)`", page.read_text("utf-8")):
        if name.split("/")[0] in ROOMS:
            several = name.replace("NAME", "*")
            found = [*ROOT.glob(several), *(ROOT / "longwatch").glob(several)]
            assert found, f"{name_of(page)} names {name}, which is not there"


@pytest.mark.parametrize("number", range(1, 9))
def test_every_promise_has_a_page_that_says_what_is_and_is_not_kept(number: int) -> None:
    text = (DOCS / "explain" / f"p{number}.md").read_text("utf-8")
    assert text.startswith(f"# P{number}: ")
    for section in ("What breaks without it", "What Longwatch promises", "How it works here"):
        assert f"\n## {section}\n" in text, f"p{number}.md has no section {section}"
    assert "not promised" in text or "does not keep this promise" in text, f"p{number}.md does not say what is not kept"


@pytest.mark.parametrize("name", longwatch.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    page = DOCS / "reference" / "python.md"
    assert re.search(rf"\b{re.escape(name)}\b", page.read_text("utf-8")), f"{name_of(page)} does not name {name}"


def test_every_room_stands_in_the_house() -> None:
    text = (DOCS / "internals" / "house.md").read_text("utf-8")
    rooms = [path.name for path in (ROOT / "longwatch").iterdir() if (path / "__init__.py").exists()]
    missing = [room for room in rooms if f"`{room}/`" not in text]
    assert not missing, f"house.md does not name {', '.join(missing)}"


def test_every_decision_is_numbered_complete_and_listed() -> None:
    folder = DOCS / "internals" / "decisions"
    index = (folder / "README.md").read_text("utf-8")
    records = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    for place, record in enumerate(records, start=1):
        found = DECISION.fullmatch(record.name)
        assert found is not None, f"{record.name} is not named NNNN-what-was-decided.md"
        assert int(found["number"]) == place, f"{record.name} is number {place}"
        text = record.read_text("utf-8")
        title = text.splitlines()[0].removeprefix(f"# {place}. ")
        assert f"{place}. [{title}]({record.name})" in index, f"{record.name} is not listed under its title"
        for section in ("Context", "Decision", "Consequences", "What was measured"):
            assert f"\n## {section}\n" in text, f"{record.name} has no section {section}"


# -- words ---------------------------------------------------------------------------------------------------------------


@EVERY_PAGE
def test_the_pages_use_the_words_of_the_glossary(page: Path) -> None:
    if page.name == "glossary.md":
        return
    prose = prose_of(page)
    for stranger, word in STRANGERS.items():
        found = re.search(stranger, prose, re.IGNORECASE)
        assert found is None, f"{name_of(page)} says {found[0]!r}: the glossary has {word}"
    for paragraph in re.split(r"\n\s*\n", prose):
        if re.search(r"\block(s|ed)?\b", paragraph, re.IGNORECASE):
            assert WHOSE_LOCK.search(paragraph), (
                f"{name_of(page)}: whose lock? A right to write is a lease.\n{paragraph}"
            )


@EVERY_PAGE
def test_the_pages_speak_of_the_project_alone(page: Path) -> None:
    prose = prose_of(page)
    for pattern, what in PAGES_ONLY.items():
        found = re.search(f"(?i){pattern}", prose)
        assert found is None, f"{name_of(page)} says {found[0]!r}: {what}"


def test_no_file_names_the_machine_or_the_registry_it_was_made_with() -> None:
    endings = {".py", ".md", ".sql", ".toml", ".sh", ".svg"}
    rooms = [ROOT / name for name in ("longwatch", "tests", "bench", "docs", "changes", ".ci")]
    files = [path for room in rooms for path in room.rglob("*") if path.suffix in endings or path.parent.name == ".ci"]
    for path in [*files, ROOT / "Makefile", ROOT / "pyproject.toml", *ROOT.glob("*.md")]:
        text = path.read_text("utf-8") if path.is_file() and path != Path(__file__) else ""
        for pattern, what in FOREIGN.items():
            found = re.search(pattern, text)
            assert found is None, f"{path.relative_to(ROOT)} names {found[0]!r}: {what}"


@EVERY_PAGE
def test_every_fence_is_closed_and_says_its_language(page: Path) -> None:
    text = page.read_text("utf-8")
    fences = re.findall(r"^```", text, re.MULTILINE)
    blocks = blocks_of(page)
    assert len(fences) == 2 * len(blocks), f"{name_of(page)} has a fence without a language or without an end"
    odd = {block.language for block in blocks} - LANGUAGES
    assert not odd, f"{name_of(page)}: {odd or 'no'} language; known are {', '.join(sorted(LANGUAGES))}"


# -- news ------------------------------------------------------------------------------------------------------------------


def test_every_news_fragment_is_well_formed() -> None:
    numbers: dict[str, str] = {}
    for path in sorted((ROOT / "changes").iterdir()):
        if path.name == "README.md":
            continue
        found = FRAGMENT.fullmatch(path.name)
        assert found is not None, f"{path.name} is not named NNNN.feature.md, .fix.md, .breaking.md or .docs.md"
        other = numbers.setdefault(found["number"], path.name)
        assert other == path.name, f"{path.name} and {other} have one number: give one of them another"
        lines = path.read_text("utf-8").splitlines()
        assert lines, f"{path.name} is empty"
        assert lines[0].endswith("."), f"{path.name}: its first line is not a sentence"
        assert lines[0][0].isupper() or lines[0][0] == "`", (
            f"{path.name}: its first line does not begin like a sentence"
        )
