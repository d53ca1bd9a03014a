"""Hosts of their own on one machine: each has its addresses, process numbers and boot clock, and all have one name.

    with Network.built(3) as network:      # 10.77.0.1, 10.77.0.2, 10.77.0.3, joined by a switch
        command = network.hosts[1].command("python", "worker.py")
        network.cut(1)                     # what is sent to and from it is lost, silently
        network.join(1)

The switch is a bridge in a namespace of its own: nothing is changed on the machine. Links are cut by disabling a port of the
bridge, which drops what comes without telling either end, as a broken switch does. Root is needed.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

PROGRAMS = ("unshare", "nsenter", "ip", "bridge", "setpriv", "env")
NETWORK = "10.77.0."
BOOTED_S = 600  # the boot clocks of all, before the machine's: none may be behind zero
DISABLED, FORWARDING = "0", "3"  # states of a port


def why_not() -> str:
    """Why this machine cannot play several hosts; nothing when it can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} is not installed"
    if os.geteuid() != 0:
        return "only root may make networks here"
    namespaces = ("unshare", "--net", "--pid", "--uts", "--time", "--boottime", "60", "--mount-proc", "--fork")
    program = (*namespaces, "ip", "link", "add", "switch", "type", "bridge")
    tried = subprocess.run(program, capture_output=True, text=True, check=False)
    return tried.stderr.strip() if tried.returncode else ""


@dataclass
class Host:
    """holder: keeps its namespaces; when it dies all processes of the host do. ahead_s: its clocks, before the others'."""

    number: int
    holder: "subprocess.Popen[bytes]"
    inside: int
    ahead_s: int = 0

    @property
    def address(self) -> str:
        return f"{NETWORK}{self.number + 1}"

    def command(self, *program: str) -> tuple[str, ...]:
        """Run the program on this host. It is told by CHAOS_AHEAD_MS what its calendar shall be ahead by."""
        entered = ("nsenter", "-t", str(self.inside), "--net", "--pid", "--uts", "--mount")
        clock = ("unshare", "--time", "--boottime", str(BOOTED_S + self.ahead_s), "--fork", "--kill-child")
        return (*entered, *clock, "env", f"CHAOS_AHEAD_MS={self.ahead_s * 1000}", *program)

    def run(self, *program: str) -> None:
        done = subprocess.run(
            ["nsenter", "-t", str(self.inside), "--net", *program], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(program)}: {done.stderr}"


@dataclass
class Network:
    switch: Host
    hosts: list[Host]

    @classmethod
    @contextmanager
    def built(cls, hosts: int, *, ahead_s: Sequence[int]) -> "Generator[Network]":
        """Errors: AssertionError with what the system says."""
        made = [started(number) for number in range(hosts + 1)]
        network = cls(made.pop(), made)
        try:
            network.switch.run("ip", "link", "add", "switch", "type", "bridge")
            network.switch.run("ip", "link", "set", "switch", "up")
            for host, seconds in zip(network.hosts, ahead_s, strict=True):
                host.ahead_s = seconds
                network._wire(host)
            yield network
        finally:
            for host in (*network.hosts, network.switch):
                host.holder.kill()
                host.holder.wait(20)

    def _wire(self, host: Host) -> None:
        port = f"port{host.number}"
        peer = ("peer", "name", "eth0", "netns", str(host.inside))
        self.switch.run("ip", "link", "add", port, "type", "veth", *peer)
        self.switch.run("ip", "link", "set", port, "master", "switch", "up")
        host.run("ip", "address", "add", f"{host.address}/24", "dev", "eth0")
        host.run("ip", "link", "set", "eth0", "up")
        host.run("ip", "link", "set", "lo", "up")

    def cut(self, number: int) -> None:
        self._set(number, DISABLED)

    def join(self, number: int) -> None:
        self._set(number, FORWARDING)

    def _set(self, number: int, state: str) -> None:
        self.switch.run("bridge", "link", "set", "dev", f"port{number}", "state", state)


def started(number: int) -> Host:
    command = ["unshare", "--net", "--pid", "--uts", "--mount-proc", "--fork", "--kill-child", "sh", "-c"]
    holder = subprocess.Popen([*command, "hostname shop && echo && exec sleep 86400"], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"\n", "no host could be made"
    holder.stdout.close()
    ends = time.monotonic() + 20
    while not (children := psutil.Process(holder.pid).children()):
        assert time.monotonic() < ends
        time.sleep(0.01)
    return Host(number, holder, children[0].pid)
