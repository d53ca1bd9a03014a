"""Edits on real files: all or none, one writer, nothing outside the root, nothing half."""

# ruff: noqa: PT012 - an edit fails where its block ends

import json
import os
import stat
import subprocess
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import pytest
from edit_fleet import ME, OTHER, Hand, Opened, VirtualSleeper, open_fleet

from longwatch.db.connection import Transaction
from longwatch.errors import ConfigError, EditConflict, LeaseBusy, LeaseLost, NotFound, NotStorable, StoreUnavailable
from longwatch.policy.lease import Holder
from longwatch.runtime.files import Edit, Staged
from longwatch.runtime.loop import Retry

TTL = 10_000


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def lw(tmp_path: Path, hand: Hand) -> Generator[Opened]:
    opened = open_fleet(tmp_path, world=hand, sleeper=VirtualSleeper(hand))
    yield opened
    opened.edits.close()
    opened.database.close()


def edit(lw: Opened, *names: str, holder: Holder = ME, wait_ms: int | None = 0, inside: str = ".") -> Edit:
    return lw.edits.edit(names, holder=holder, ttl_ms=TTL, wait_ms=wait_ms, inside=inside)


def leftovers(root: Path) -> list[str]:
    return [str(path) for kind in ("staging", "commits", "gone") for path in (root / ".longwatch" / kind).iterdir()]


# -- what a block does -------------------------------------------------------------------------------------------------


def test_several_files_appear_together_and_only_when_the_block_ends(lw: Opened, tmp_path: Path) -> None:
    with edit(lw, "ledger.json", "sub/index.json", "log.txt") as one:
        one.write_json("ledger.json", {"b": 1, "a": [1, "ü"]})
        one.write_text("sub/index.json", "x\r\n")
        one.append("log.txt", "1\n")
        one.append("log.txt", "2\n")
        assert not (tmp_path / "ledger.json").exists()
        assert lw.edits.read(["log.txt"]).read_text("log.txt", default="") == ""
        assert one.read_text("log.txt") == "1\n2\n"
    assert (tmp_path / "ledger.json").read_text("utf-8") == '{\n  "b": 1,\n  "a": [\n    1,\n    "ü"\n  ]\n}\n'
    assert (tmp_path / "sub/index.json").read_bytes() == b"x\r\n"
    assert (tmp_path / "log.txt").read_text() == "1\n2\n"
    assert lw.kinds() == ["lease.taken", "edit.committed", "edit.applied", "lease.released"]
    assert leftovers(tmp_path) == []
    assert lw.leases.live() == []


def test_reads_see_the_edit_and_defaults_stand_for_missing_files(lw: Opened) -> None:
    with edit(lw, "a.json") as one:
        assert one.read_json("a.json", default={}) == {}
        assert one.read_text("a.json", default=None) is None
        with pytest.raises(NotFound):
            one.read_bytes("a.json")
        one.write_json("a.json", {"n": 1})
        assert one.read_json("a.json") == {"n": 1}
        with pytest.raises(NotStorable):
            one.write_json("a.json", {"n": {1}})
        with pytest.raises(NotStorable):
            one.write_json("a.json", float("nan"))
        one.write_bytes("a.json", b"\xff{")
        with pytest.raises(ConfigError):
            one.read_json("a.json")


def test_an_exception_in_the_block_publishes_nothing(lw: Opened, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(ZeroDivisionError), edit(lw, "a", "b") as one:
        one.write_text("a", "new")
        one.append("b", "new")
        raise ZeroDivisionError
    assert (tmp_path / "a").read_text() == "old"
    assert not (tmp_path / "b").exists()
    assert leftovers(tmp_path) == []
    assert lw.leases.live() == []


def test_a_file_that_was_not_named_cannot_be_written_but_read(lw: Opened, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("1")
    with edit(lw, "ledger.json") as one:
        assert one.read_json("other.json") == 1
        with pytest.raises(ConfigError, match=r"did you mean ledger\.json"):
            one.write_json("leger.json", 1)
        with pytest.raises(ConfigError, match="was not named"):
            one.path("other.json")


def test_a_deletion_is_part_of_the_commit(lw: Opened, tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("x")
    with edit(lw, "old.txt", "new.txt") as one:
        one.write_text("new.txt", one.read_text("old.txt"))
        one.delete("old.txt")
        assert one.read_text("old.txt", default=None) is None
        with pytest.raises(NotFound):
            one.delete("old.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".longwatch", "new.txt"]


def test_the_staged_path_is_for_other_programs(lw: Opened, tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("echo 1\n")
    (tmp_path / "run.sh").chmod(0o750)
    with edit(lw, "run.sh", "made.txt", "untouched.txt", "removed.txt") as one:
        with open(one.path("run.sh"), "a") as file:
            file.write("echo 2\n")
        subprocess.run(["sh", "-c", f"echo made > {one.path('made.txt')}"], check=True)
        one.path("made.txt").chmod(0o600)
        assert not one.path("untouched.txt").exists()
    assert (tmp_path / "run.sh").read_text() == "echo 1\necho 2\n"
    assert stat.S_IMODE((tmp_path / "run.sh").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "made.txt").stat().st_mode) == 0o600
    assert not (tmp_path / "untouched.txt").exists()
    with edit(lw, "run.sh") as one:
        one.write_text("run.sh", "echo 3\n")
    assert stat.S_IMODE((tmp_path / "run.sh").stat().st_mode) == 0o750, "permission bits stay"
    with edit(lw, "run.sh") as one:
        one.path("run.sh").unlink()
    assert not (tmp_path / "run.sh").exists()


def test_a_new_file_gets_the_permission_bits_of_any_new_file(lw: Opened, tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with edit(lw, "a", "b") as one:
            one.write_text("a", "x")
            one.append("b", "x")
    finally:
        os.umask(old)
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"} == {0o640}
    assert stat.S_IMODE((tmp_path / ".longwatch/staging").stat().st_mode) == 0o700


def test_what_does_not_change_is_not_written(lw: Opened, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("same")
    before = (tmp_path / "a").stat()
    with edit(lw, "a") as one:
        one.write_text("a", "same")
    assert (tmp_path / "a").stat().st_ino == before.st_ino
    assert lw.kinds("edit.") == ["edit.committed"]


def test_a_writer_that_keeps_its_descriptor_cannot_change_what_was_published(lw: Opened, tmp_path: Path) -> None:
    with edit(lw, "a") as one:
        late = open(one.path("a"), "w")  # noqa: SIM115
        late.write("published")
        late.flush()
    late.write(" and changed")
    late.close()
    assert (tmp_path / "a").read_text() == "published"


def test_names_start_from_the_given_folder(lw: Opened, tmp_path: Path) -> None:
    with edit(lw, "a.json", "../b.json", inside="workspace") as one:
        one.write_json("a.json", 1)
        one.write_json("../b.json", 2)
        with pytest.raises(LeaseBusy):
            edit(lw, "workspace/a.json", holder=OTHER).__enter__()
    assert json.loads((tmp_path / "workspace/a.json").read_text()) == 1
    assert json.loads((tmp_path / "b.json").read_text()) == 2
    assert lw.edits.read(["a.json"], inside="workspace").read_json("a.json") == 1


def test_an_edit_is_used_inside_its_block_only(lw: Opened) -> None:
    one = edit(lw, "a")
    with pytest.raises(ConfigError, match="has not begun"):
        one.write_text("a", "x")
    with one:
        pass
    with pytest.raises(ConfigError, match="has ended"):
        one.read_text("a", default="")


# -- where it may not go -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "reports/**", "longwatch.toml", ".longwatch/root", ".longwatch/longwatch.db", ""]
)
def test_what_is_outside_or_a_rule_or_a_pattern_is_refused(lw: Opened, name: str) -> None:
    with pytest.raises(ConfigError):
        edit(lw, name)


def test_the_state_is_refused_wherever_it_is(tmp_path: Path, hand: Hand) -> None:
    lw = open_fleet(tmp_path, world=hand, sleeper=VirtualSleeper(hand), state="state/fleet.db")
    for name in ("state/fleet.db", "state/fleet.db-wal"):
        with pytest.raises(ConfigError):
            edit(lw, name)
        with pytest.raises(ConfigError):
            lw.edits.read([name])
    lw.database.close()


def test_a_symbolic_link_is_refused_wherever_it_stands(lw: Opened, tmp_path: Path) -> None:
    outside = tmp_path.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    (tmp_path / "folder").symlink_to(outside)
    (tmp_path / "file").symlink_to(outside / "secret")
    for name in ("folder/secret", "file", "folder/new"):
        with pytest.raises(ConfigError, match="symbolic link"):
            lw.edits.read([name])
        with pytest.raises(ConfigError, match="symbolic link"), edit(lw, name) as one:
            one.write_text(name, "stolen")
    with pytest.raises(ConfigError, match="symbolic link"), edit(lw, "later/x") as one:
        one.write_text("later/x", "stolen")
        (tmp_path / "later").symlink_to(outside)
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    assert (outside / "secret").read_text() == "s"
    assert leftovers(tmp_path) == []


def test_a_link_in_the_staging_folder_is_not_followed(lw: Opened, tmp_path: Path) -> None:
    (tmp_path / "real").write_text("r")
    with pytest.raises(ConfigError, match="symbolic link"), edit(lw, "a") as one:
        one.path("a").symlink_to(tmp_path / "real")
    assert not (tmp_path / "a").exists()


def test_folders_and_pipes_and_files_as_folders_are_refused(lw: Opened, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("x")
    for name in ("folder", "pipe", "file/below"):
        with pytest.raises(ConfigError), edit(lw, name) as one:
            one.write_text(name, "x")
    with pytest.raises(ConfigError, match="folder of"):
        edit(lw, "a", "a/b")
    assert (tmp_path / "file").read_text() == "x"


# -- conflicts and lost leases -----------------------------------------------------------------------------------------


def test_a_file_changed_by_somebody_else_is_a_conflict_before_anything_is_written(lw: Opened, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(EditConflict, match="a changed"), edit(lw, "a", "b") as one:
        one.write_text("b", one.read_text("a"))
        (tmp_path / "a").write_text("vim was here")
    assert not (tmp_path / "b").exists()
    with pytest.raises(EditConflict, match="new/c changed"), edit(lw, "new/c", "new/d") as one:
        one.write_text("new/c", "ours")
        one.write_text("new/d", "ours")
        (tmp_path / "new").mkdir()
        (tmp_path / "new/c").write_text("theirs")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["c"]
    assert leftovers(tmp_path) == []
    assert lw.leases.live() == []


def test_a_stale_owner_cannot_publish(lw: Opened, tmp_path: Path, hand: Hand) -> None:
    (tmp_path / "a").write_text("0")
    with pytest.raises(LeaseLost):
        with edit(lw, "a") as stale:
            stale.write_text("a", stale.read_text("a") + "stale")
            hand.advance(TTL)
            with edit(lw, "a", holder=OTHER) as fresh:
                fresh.write_text("a", fresh.read_text("a") + "1")
            with pytest.raises(LeaseLost):
                stale.check()
    assert (tmp_path / "a").read_text() == "01"
    assert leftovers(tmp_path) == []


def test_a_lease_that_runs_out_between_the_check_and_the_commit_is_noticed(
    lw: Opened, tmp_path: Path, hand: Hand
) -> None:
    class Slow(Hand):
        def reach(self, mark: str) -> None:
            if mark == "edit.checked":
                hand.advance(TTL)

    lw.edits.committer.world = Slow()
    with pytest.raises(LeaseLost), edit(lw, "new/a") as one:
        one.write_text("new/a", "x")
    assert not (tmp_path / "new").exists(), "folders made for the commit go again"
    assert leftovers(tmp_path) == []


def test_the_fence_grows_with_every_edit(lw: Opened) -> None:
    fences = list[int]()
    for _ in range(3):
        with edit(lw, "a") as one:
            fences.append(one.fence)
    assert fences == sorted(set(fences))


# -- steps: staged first, published with the result --------------------------------------------------------------------


def test_edits_of_a_step_are_published_in_the_transaction_of_its_result(lw: Opened, tmp_path: Path) -> None:
    staged = list[Staged]()
    with lw.edits.edit(["a"], holder=ME, ttl_ms=TTL, wait_ms=0, then=staged.append) as one:
        one.write_text("a", "1")
    with lw.edits.edit(["b"], holder=ME, ttl_ms=TTL, wait_ms=0, then=staged.append) as two:
        two.write_text("b", "2")
    assert not (tmp_path / "a").exists()
    with pytest.raises(LeaseBusy):
        edit(lw, "a", holder=OTHER).__enter__()

    def refuse(tx: Transaction) -> None:
        raise LeaseLost("the run has lost its task")

    with pytest.raises(LeaseLost):
        lw.edits.publish(staged, refuse)
    assert not (tmp_path / "a").exists()
    assert lw.kinds("edit.") == []
    lw.edits.publish(staged, lambda tx: lw.journal.append(tx, "step.stored", "step_1"))
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("1", "2")
    assert [kind for kind in lw.kinds() if not kind.startswith("lease.")] == [
        "step.stored",
        "edit.committed",
        "edit.applied",
    ]
    assert lw.leases.live() == []
    assert leftovers(tmp_path) == []


def test_publishing_again_after_it_has_landed_does_nothing(lw: Opened, tmp_path: Path) -> None:
    staged, results = list[Staged](), list[int]()
    with lw.edits.edit(["a"], holder=ME, ttl_ms=TTL, wait_ms=0, then=staged.append) as one:
        one.append("a", "x")
    for _ in range(2):
        lw.edits.publish(staged, lambda tx: results.append(1))
    assert (tmp_path / "a").read_text() == "x"
    assert results == [1]


def test_publishing_again_after_a_lost_reply_gives_the_leases_back(lw: Opened, tmp_path: Path) -> None:
    staged = list[Staged]()
    with lw.edits.edit(["a"], holder=ME, ttl_ms=TTL, wait_ms=0, then=staged.append) as one:
        one.append("a", "x")
    lw.database.losing = 100
    with pytest.raises(StoreUnavailable):
        lw.edits.publish(staged, lambda tx: None)
    lw.database.losing = 0
    lw.edits.publish(staged, lambda tx: None)
    assert (tmp_path / "a").read_text() == "x"
    assert lw.leases.live() == []
    assert leftovers(tmp_path) == []


def test_a_later_edit_of_a_step_reads_what_an_earlier_one_staged(lw: Opened, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("0")
    (tmp_path / "gone").write_text("x")
    staged = list[Staged]()
    for n in range(1, 4):
        with lw.edits.edit(["a", "gone"], holder=ME, ttl_ms=TTL, wait_ms=0, then=staged.append, after=staged) as one:
            one.append("a", str(n))
            if n == 2:
                one.delete("gone")
            assert one.read_text("a") == "0123"[: n + 1]
            assert one.read_text("gone", default="deleted") == ("x" if n == 1 else "deleted")
    assert (tmp_path / "a").read_text() == "0"
    lw.edits.publish(staged, lambda tx: None)
    assert (tmp_path / "a").read_text() == "0123"
    assert not (tmp_path / "gone").exists()
    assert lw.kinds("edit.committed") == ["edit.committed"]
    assert lw.leases.live() == []
    assert leftovers(tmp_path) == []


def test_abandoned_edits_leave_nothing(lw: Opened, tmp_path: Path) -> None:
    staged = list[Staged]()
    with lw.edits.edit(["a"], holder=ME, ttl_ms=TTL, wait_ms=0, then=staged.append) as one:
        one.write_text("a", "x")
    lw.edits.abandon(staged)
    with edit(lw, "a", holder=OTHER) as two:
        assert two.read_text("a", default="nothing") == "nothing"
    assert leftovers(tmp_path) == []


def test_a_replayed_edit_reads_what_is_there_and_drops_its_writes(lw: Opened, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    with lw.edits.replay(["a"], holder=ME, ttl_ms=TTL) as again:
        assert again.replayed
        assert again.read_text("a") == "1"
        again.append("a", "2")
        assert again.read_text("a") == "12"
    assert (tmp_path / "a").read_text() == "1"
    assert leftovers(tmp_path) == []


# -- lost replies, full disks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_lost_reply_anywhere_changes_nothing(lw: Opened, tmp_path: Path, place: int, before: bool) -> None:
    """The transactions of an edit: the lease is taken, the commit, the applied mark; each landed, or not."""
    lw.database.passing, lw.database.losing, lw.database.before = place, 1, before
    for n in range(2):
        with edit(lw, "a", "b", holder=(ME, OTHER)[n], wait_ms=2 * TTL) as one:
            assert one.read_text("a", default="") == "x" * n
            one.append("a", "x")
            one.append("b", "x")
    assert lw.database.losing == 0
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("xx", "xx")
    assert lw.kinds("edit.") == ["edit.committed", "edit.applied"] * 2


def test_a_commit_whose_reply_stays_lost_is_known_to_be_unknown(lw: Opened, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable) as caught, edit(lw, "a", "b") as one:
        one.append("a", "x")
        one.append("b", "x")
        lw.database.losing = 100
    assert caught.value.maybe_committed
    lw.database.losing = 0
    assert lw.edits.read(["a", "b"]).read_text("a") == "x", "it had landed: the next comer puts it in place"
    assert (tmp_path / "b").read_text() == "x"
    lw.edits.sweep()
    assert leftovers(tmp_path) == []


def test_a_commit_that_did_not_land_leaves_nothing_after_the_sweep(lw: Opened, tmp_path: Path, hand: Hand) -> None:
    with pytest.raises(StoreUnavailable), edit(lw, "a") as one:
        one.append("a", "x")
        lw.database.losing, lw.database.before = 100, True
    lw.database.losing = 0
    hand.advance(TTL)
    lw.edits.sweep()
    assert lw.edits.read(["a"]).read_text("a", default="nothing") == "nothing"
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_disk_is_told_and_nothing_is_half_written(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False, capture_output=True
    ).returncode:
        pytest.skip("may not mount")
    try:
        lw = open_fleet(disk, state=str(tmp_path / "state" / "fleet.db"))
        with edit(lw, "a", "b") as one:
            one.write_text("a", "old")
            one.write_text("b", "old")
        for size in (2 << 20, 600_000):  # no room to stage; room to stage, not to copy
            with pytest.raises(StoreUnavailable, match="disk is full"), edit(lw, "a", "b") as one:
                one.write_text("a", "new")
                one.write_bytes("b", b"x" * size)
            assert ((disk / "a").read_text(), (disk / "b").read_text()) == ("old", "old")
            assert leftovers(disk) == []
            assert lw.leases.live() == []
        with edit(lw, "a", "b") as one:
            one.write_text("a", "new")
            one.write_text("b", "new")
        lw.edits.close()
        lw.database.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_read_only_folder_and_another_file_system_are_refused_before_anything_is_written(
    lw: Opened, tmp_path: Path
) -> None:
    for options, error in (("ro", StoreUnavailable), ("rw", ConfigError)):
        folder = tmp_path / "mounted"
        folder.mkdir(exist_ok=True)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=False).returncode:
            pytest.skip("may not mount")
        try:
            with pytest.raises(error), edit(lw, "a", "mounted/b") as one:
                one.write_text("a", "x")
                one.write_text("mounted/b", "x")
            assert not (tmp_path / "a").exists()
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=False)
    assert leftovers(tmp_path) == []


# -- readers, sweeps, async --------------------------------------------------------------------------------------------


def test_readers_never_see_half_of_a_commit(tmp_path: Path) -> None:
    lw = open_fleet(tmp_path)
    over, torn = threading.Event(), list[object]()
    reader = open_fleet(tmp_path)

    def look() -> None:
        while not over.is_set():
            seen = reader.edits.read(["a", "b", "c"])
            numbers = {seen.read_text(name, default="") for name in ("a", "b", "c")}
            if len(numbers) != 1:
                torn.append(numbers)

    thread = threading.Thread(target=look)
    thread.start()
    for n in range(40):
        with edit(lw, "a", "b", "c") as one:
            for name in ("a", "b", "c"):
                one.write_text(name, str(n))
    over.set()
    thread.join(30)
    assert torn == []


def test_the_sweep_removes_what_the_dead_left_and_never_what_is_in_use(lw: Opened, tmp_path: Path, hand: Hand) -> None:
    dead = edit(lw, "dead")
    dead.__enter__()
    dead.write_text("dead", "x")
    hand.advance(TTL - 1)
    with edit(lw, "live") as live:
        live.write_text("live", "x")
        assert lw.edits.sweep() == 0
        hand.advance(1)
        assert lw.edits.sweep() == 1
        assert len(leftovers(tmp_path)) == 1
    assert (tmp_path / "live").read_text() == "x"
    assert not (tmp_path / "dead").exists()


def test_a_second_state_over_the_same_root_does_not_sweep_the_first_ones_edits(
    lw: Opened, tmp_path: Path, hand: Hand
) -> None:
    other = open_fleet(
        tmp_path, world=hand, sleeper=VirtualSleeper(hand), state=str(tmp_path.parent / f"{tmp_path.name}.db")
    )
    cast("Any", other.database.connection).execute("update fleet set redaction_key = 'another'")
    with edit(lw, "a") as one:
        one.write_text("a", "x")
        assert other.edits.sweep() == 0
    assert (tmp_path / "a").read_text() == "x"
    other.edits.close()
    other.database.close()


def test_an_error_in_the_block_is_told_even_if_the_copies_are_spoiled(lw: Opened, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), edit(lw, "a") as one:
        one.path("a").symlink_to(tmp_path)
        raise ZeroDivisionError
    assert leftovers(tmp_path) == []
    assert lw.leases.live() == []


def test_a_sweep_is_bounded(lw: Opened, tmp_path: Path, hand: Hand) -> None:
    for n in range(5):
        dead = edit(lw, f"f{n}")
        dead.__enter__()
        dead.write_text(f"f{n}", "x")
    hand.advance(TTL)
    assert [lw.edits.sweep(limit=2) for _ in range(4)] == [2, 2, 1, 0]
    assert leftovers(tmp_path) == []


def test_records_of_finished_commits_are_forgotten_but_for_the_newest(lw: Opened, hand: Hand) -> None:
    for n in range(5):
        with edit(lw, "a") as one:
            one.write_text("a", str(n))
    before = lw.edits.store.position(lw.edits.root.id)
    hand.advance(700_000)
    lw.edits.sweep()
    assert lw.edits.store.forget(limit=100) == 0
    assert lw.edits.store.position(lw.edits.root.id) == before


def test_nothing_is_made_in_the_root_before_it_is_needed(tmp_path: Path, hand: Hand) -> None:
    state = tmp_path.parent / f"{tmp_path.name}-state"
    lw = open_fleet(tmp_path, world=hand, sleeper=VirtualSleeper(hand), state=str(state / "fleet.db"))
    assert (lw.edits.recover(), lw.edits.sweep()) == (0, 0)
    assert list(tmp_path.iterdir()) == []
    assert lw.edits.read(["a"]).read_text("a", default="") == ""
    assert (tmp_path / ".longwatch/.gitignore").read_text() == "*\n"
    lw.database.close()


def test_another_root_of_the_same_state_leaves_commits_alone(lw: Opened, tmp_path: Path, hand: Hand) -> None:
    with pytest.raises(StoreUnavailable), edit(lw, "a") as one:
        one.append("a", "x")
        lw.database.losing = 100
    lw.database.losing = 0
    other_root = tmp_path.parent / f"{tmp_path.name}-other"
    other_root.mkdir()
    other = open_fleet(other_root, world=hand, sleeper=VirtualSleeper(hand), state=str(lw.database.path))
    assert other.edits.read(["a"]).read_text("a", default="nothing") == "nothing"
    assert lw.edits.recover() == 1
    assert (tmp_path / "a").read_text() == "x"
    other.edits.close()
    other.database.close()


def test_an_edit_can_be_entered_without_blocking(lw: Opened, hand: Hand) -> None:
    with edit(lw, "a") as one:
        two = edit(lw, "a", holder=OTHER, wait_ms=None)
        answer = two.attempt()
        assert isinstance(answer, Retry)
        assert hand.steady < answer.at_ms <= hand.steady + 20
        one.write_text("a", "1")
    assert two.attempt() is two
    two.append("a", "2")
    two.leave()
    assert lw.edits.read(["a"]).read_text("a") == "12"


def test_the_rare_places_are_reached_in_the_order_that_survives_a_crash(lw: Opened, hand: Hand) -> None:
    with edit(lw, "a", "b") as one:
        one.write_text("a", "x")
        one.write_text("b", "x")
    marks = [mark for mark in hand.marks if mark.startswith("edit.")]
    assert list(dict.fromkeys(marks)) == [
        "edit.copied",
        "edit.prepared",
        "edit.locked",
        "edit.checked",
        "edit.committed",
        "edit.moving",
        "edit.moved",
        "edit.synced",
        "edit.put_away",
        "edit.applied",
    ]
