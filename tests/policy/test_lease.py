"""Names, leases and commits as decisions: no clock, no files."""

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longwatch.errors import ConfigError, EditConflict
from longwatch.policy import lease, paths
from longwatch.policy.edit import Change, fold, refuse_conflicts
from longwatch.policy.lease import Claim

ROOT = "/srv/shop"
PARTS = st.text(alphabet="abcXYZ019._-é ", min_size=1, max_size=8).filter(lambda part: part not in (".", ".."))
FILES = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
NAMES = st.lists(st.sampled_from(["a", "b", "c", "d/e", "name:x"]), min_size=1, max_size=3, unique=True).map(tuple)


# -- one file has one name ---------------------------------------------------------------------------------------------


@given(FILES)
def test_every_spelling_of_a_path_is_one_name(path: str) -> None:
    spellings = [path, f"./{path}", f"x/../{path}", f"{ROOT}/{path}", path.replace("/", "//"), path.replace("/", "/./")]
    assert {paths.target(spelling, root=ROOT) for spelling in spellings} == {path}


@given(FILES, FILES)
def test_a_path_inside_a_folder_is_the_same_name_as_from_the_root(folder: str, path: str) -> None:
    assert paths.target(path, root=ROOT, inside=folder) == paths.target(f"{folder}/{path}", root=ROOT)


@given(st.text(alphabet="ab./", min_size=1, max_size=12))
def test_no_spelling_leaves_the_root(name: str) -> None:
    try:
        found = paths.target(name, root=ROOT)
    except ConfigError:
        return
    assert posixpath.normpath(f"{ROOT}/{found}").startswith(f"{ROOT}/")
    assert found == posixpath.normpath(found)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "/etc/passwd", "a/../../x", "/srv/shopping/x", "/srv/shop", "a\0b", "a\nb"]
)
def test_a_name_that_is_no_file_below_the_root_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        paths.target(name, root=ROOT)


@pytest.mark.parametrize("name", ["reports/**", "*.py", "a?.txt", "reports/"])
def test_a_pattern_or_a_folder_is_refused_and_the_error_says_what_works(name: str) -> None:
    for spell in (paths.target, paths.resource):
        with pytest.raises(ConfigError) as caught:
            spell(name, root=ROOT)
        assert "exact files" in caught.value.hint


def test_what_is_no_file_has_a_name_of_its_own() -> None:
    assert paths.resource("name:deploy", root=ROOT, inside="site") == "name:deploy"
    for wrong in ("name:", "name: x", "name:a b"):
        with pytest.raises(ConfigError):
            paths.resource(wrong, root=ROOT)
    with pytest.raises(ConfigError):
        paths.target("name:deploy", root=ROOT)


@pytest.mark.parametrize(
    "path", [".longwatch/root", ".longwatch", "longwatch.toml", "site/longwatch.toml", ".claude/settings.json"]
)
def test_the_rules_and_the_state_cannot_be_edited(path: str) -> None:
    with pytest.raises(ConfigError):
        paths.refuse_protected(path)


@pytest.mark.parametrize("path", ["state/fleet.db", "state/fleet.db-wal", "state/fleet.db.turn"])
def test_the_state_cannot_even_be_read_as_a_file(path: str) -> None:
    with pytest.raises(ConfigError):
        paths.refuse_private(path, state="state/fleet.db")
    paths.refuse_protected("state/fleet.dbx", state="state/fleet.db")
    paths.refuse_private("longwatch.toml", state="state/fleet.db")


# -- leases ------------------------------------------------------------------------------------------------------------


@given(NAMES, st.lists(NAMES, max_size=4))
def test_a_claim_blocks_exactly_when_it_shares_a_name(names: tuple[str, ...], others: list[tuple[str, ...]]) -> None:
    claims = [Claim(str(n), "seo", None, other, 0) for n, other in enumerate(others)]
    found = lease.blocking(names, claims)
    sharing = [claim for claim in claims if set(claim.names) & set(names)]
    assert found == (sharing[0] if sharing else None)


@given(st.integers(0, 1000), st.floats(0, 0.999))
def test_polling_is_bounded_and_the_next_in_line_asks_most_often(place: int, fraction: float) -> None:
    assert 0 < lease.poll_ms(0, fraction) <= lease.poll_ms(place, fraction) <= 1.5 * lease.POLL_MS_MAX
    assert lease.poll_ms(place, fraction) < lease.SILENT_MS - lease.ASK_MS, "or a place would be lost while waiting"


@given(st.integers(lease.SHORTEST_MS, lease.LONGEST_MS))
def test_a_lease_outlasts_two_failed_beats(ttl_ms: int) -> None:
    assert 3 * lease.beat_ms(ttl_ms) <= ttl_ms


@pytest.mark.parametrize(
    ("mode", "ttl_ms", "names"),
    [("shared", 1000, 1), ("exclusive", 0, 1), ("exclusive", 10**9, 1), ("exclusive", 1000, 1001)],
)
def test_an_odd_lease_is_refused(mode: str, ttl_ms: int, names: int) -> None:
    with pytest.raises(ConfigError):
        lease.refuse_odd(mode=mode, ttl_ms=ttl_ms, names=names)


# -- commits -----------------------------------------------------------------------------------------------------------

DIGESTS = st.sampled_from([None, "1", "2", "3"])


@given(st.lists(st.dictionaries(st.sampled_from("abc"), DIGESTS), min_size=1, max_size=4), st.data())
def test_folded_edits_do_what_they_do_one_after_the_other(
    steps: list[dict[str, str | None]], data: st.DataObject
) -> None:
    before = {path: data.draw(DIGESTS) for path in "abc"}
    now, edits = dict(before), list[tuple[dict[str, str | None], dict[str, Change]]]()
    for n, written in enumerate(steps):
        bases = {path: now[path] for path in written}
        edits.append((bases, {path: Change(f"edit{n}", sha256, 0o644) for path, sha256 in written.items()}))
        now |= written
    draft = fold(edits)
    assert {**before, **{path: change.sha256 for path, change in draft.changes.items()}} == now
    assert all(before[path] == sha256 for path, sha256 in draft.bases.items())
    assert all(change.sha256 != before[path] for path, change in draft.changes.items()), (
        "what ends as it began is no change"
    )


def test_an_edit_that_did_not_see_the_one_before_it_is_a_conflict() -> None:
    first = ({"a": None}, {"a": Change("edit1", "1", 0o644)})
    with pytest.raises(EditConflict):
        fold([first, ({"a": None}, {"a": Change("edit2", "2", 0o644)})])


@given(st.dictionaries(st.sampled_from("abcdefgh"), DIGESTS), st.dictionaries(st.sampled_from("abcdefgh"), DIGESTS))
def test_a_conflict_is_named_exactly_when_a_base_has_changed(
    bases: dict[str, str | None], found: dict[str, str | None]
) -> None:
    now = {path: found.get(path) for path in bases}
    if now == bases:
        refuse_conflicts(bases, now)
        return
    with pytest.raises(EditConflict) as caught:
        refuse_conflicts(bases, now)
    assert any(path in caught.value.message.split(" changed")[0] for path in bases if bases[path] != now[path])
