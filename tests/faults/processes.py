"""The processes of a service, and what they may take of the machine."""

import os
import pathlib
import resource
from collections.abc import Iterator
from contextlib import contextmanager

from conftest import Server

ADDRESSES_BYTES = 6 << 30  # a service that reads a file without end must not stop the machine


def processes(server: Server) -> set[int]:
    return server.workers() | {server.process.pid}


def processor_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes(pid: int) -> int:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


@contextmanager
def limited(server: Server, memory_bytes: int) -> Iterator[None]:
    """In the end, no process of the service may have taken more memory."""
    for pid in processes(server):
        resource.prlimit(pid, resource.RLIMIT_AS, (ADDRESSES_BYTES, ADDRESSES_BYTES))
    yield
    taken = {pid: peak_bytes(pid) >> 20 for pid in processes(server)}
    assert max(taken.values()) < memory_bytes >> 20, taken
