"""The processes of a service, and what they take of the machine."""

import contextlib
import os
import pathlib
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager

from conftest import Server

ADDRESSES_BYTES = 6 << 30  # a service that reads a file without end must not stop the machine


def children(pid: int) -> list[int]:
    found = []
    for file in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, file.read_text().split())
    return found


def family(pid: int) -> list[int]:
    """A process and all below it."""
    return [pid, *(each for child in children(pid) for each in family(child))]


def processes(server: Server) -> set[int]:
    return server.workers() | {server.process.pid}


def processor_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(pid: int) -> tuple[int, int]:
    """What a process has, and the most that it ever had; 0 if it has ended."""
    found = dict[str, str]()
    with contextlib.suppress(OSError):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        found = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", status))
    return int(found.get("VmRSS", 0)) << 10, int(found.get("VmHWM", 0)) << 10


@contextmanager
def limited(server: Server, memory: int) -> Iterator[None]:
    """In the end, no process of the service may have taken more memory."""
    for pid in processes(server):
        resource.prlimit(pid, resource.RLIMIT_AS, (ADDRESSES_BYTES, ADDRESSES_BYTES))
    yield
    taken = {pid: memory_bytes(pid)[1] >> 20 for pid in processes(server)}
    assert max(taken.values()) < memory >> 20, taken
