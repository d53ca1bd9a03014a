"""A power cut takes nothing that was acknowledged.

A real file system (ext4 on a loop device) is shut down under four writing processes, as at a power cut: what was not
synced is gone, the journal's unflushed part too. Then it is mounted again and looked at. The state commits with
synchronous=NORMAL and syncs the WAL itself, after the lock is let go: the control, without that sync, must lose.
"""

import contextlib
import fcntl
import json
import os
import random
import selectors
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN: _IOR('X', 125, __u32)
NO_LOG_FLUSH = 2
WRITER = Path(__file__).parent / "power_writer.py"
WRITERS = 4
CHECKPOINTS = (8, 40, 400, 4000)  # pages of WAL between checkpoints, by cut: some cuts fall into one


@dataclass
class Disk:
    """An ext4 file system in a file."""

    image: Path
    folder: Path

    def mount(self) -> None:
        run("mount", "-o", "loop", str(self.image), str(self.folder))

    def unmount(self) -> None:
        run("umount", str(self.folder))

    def cut(self) -> None:
        """The power is gone: every later access fails, and what was not synced is lost."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture
def disk(tmp_path: Path) -> Generator[Disk]:
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None or not Path("/dev/loop-control").exists():
        pytest.skip("needs root, mkfs.ext4 and loop devices")
    made = Disk(tmp_path / "disk.img", tmp_path / "disk")
    made.folder.mkdir()
    with made.image.open("wb") as file:
        file.truncate(192 << 20)
    run("mkfs.ext4", "-q", "-F", str(made.image))
    try:
        made.mount()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"cannot mount a loop device here: {error.stderr}")
    yield made
    with contextlib.suppress(subprocess.CalledProcessError):
        made.unmount()


def start(state: Path, durability: str, pages: int, cut: int) -> list[subprocess.Popen[bytes]]:
    command = [sys.executable, str(WRITER), "submit", str(state), durability, str(pages)]
    return [
        subprocess.Popen([*command, f"{cut}-{place}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for place in range(WRITERS)
    ]


def listen(writers: Sequence[subprocess.Popen[bytes]], *, seconds: float, then: Disk) -> list[str]:
    """Everything acknowledged up to the cut, which comes `seconds` after every writer has had its first answer.

    Acknowledged is what was in the pipe before the cut: what is printed after it is not counted.
    """
    heard = dict.fromkeys(writers, b"")
    with selectors.DefaultSelector() as selector:
        for writer in writers:
            assert writer.stdout is not None
            os.set_blocking(writer.stdout.fileno(), False)
            selector.register(writer.stdout, selectors.EVENT_READ, writer)
        patience, ends = time.monotonic() + 60, None
        while ends is None or time.monotonic() < ends:
            assert time.monotonic() < patience, "the writers did not begin"
            dead = [writer for writer in writers if not heard[writer] and writer.poll() is not None]
            assert not dead, [writer.stderr and writer.stderr.read()[-2000:].decode() for writer in dead]
            for key, _ in selector.select(0.01):
                heard[key.data] += os.read(key.fd, 1 << 16)
            if ends is None and all(heard.values()):
                ends = time.monotonic() + seconds
        for key, _ in selector.select(0):
            with contextlib.suppress(BlockingIOError):
                heard[key.data] += os.read(key.fd, 1 << 20)
        then.cut()
    return [line for text in heard.values() for line in text.decode().splitlines(keepends=True) if line.endswith("\n")]


def end(writers: Sequence[subprocess.Popen[bytes]]) -> None:
    for writer in writers:
        writer.kill()
    for writer in writers:
        writer.wait(30)
        for pipe in (writer.stdout, writer.stderr):
            assert pipe is not None
            pipe.close()


def cut_and_look(disk: Disk, durability: str, *, cuts: int, seed: int) -> tuple[int, set[str]]:
    """(How many were acknowledged over all cuts, which of them the state has forgotten.)"""
    chance = random.Random(seed)
    state, acknowledged, lost = disk.folder / "fleet" / "longwatch.db", set[str](), set[str]()
    for cut in range(cuts):
        writers = start(state, durability, CHECKPOINTS[cut % len(CHECKPOINTS)], cut)
        try:
            lines = listen(writers, seconds=chance.uniform(0.05, 0.5), then=disk)
        finally:
            end(writers)
        acknowledged |= {line.strip() for line in lines}
        disk.unmount()
        disk.mount()
        seen = json.loads(run(sys.executable, str(WRITER), "audit", str(state)))
        assert seen["checked"] == ["ok"], f"seed {seed}, cut {cut}"
        assert sorted(seen["keys"]) == sorted(seen["told"]), f"seed {seed}, cut {cut}: the journal tells another story"
        lost |= acknowledged - set(seen["keys"])
    return len(acknowledged), lost


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_acknowledged_commit_is_lost_to_a_power_cut(disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    acknowledged, lost = cut_and_look(disk, "full", cuts=24, seed=seed)
    with capsys.disabled():
        sys.stdout.write(
            f"\n24 power cuts, {WRITERS} writers, seed {seed}: {acknowledged} acknowledged, {len(lost)} lost\n"
        )
    assert not lost, f"seed {seed}: {sorted(lost)[:10]}"
    assert acknowledged > 24 * WRITERS, f"seed {seed}: too few to prove anything"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_without_the_sync_a_power_cut_takes_the_newest(disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    """The control: the cut is one, and the test above can fail. The state is whole all the same."""
    acknowledged, lost = cut_and_look(disk, "normal", cuts=4, seed=1)
    with capsys.disabled():
        sys.stdout.write(f"\n4 power cuts without the sync: {acknowledged} acknowledged, {len(lost)} lost\n")
    assert lost
