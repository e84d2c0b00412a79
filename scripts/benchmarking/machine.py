"""Where the figures come from, and whether the machine was quiet meanwhile."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
QUIET_SHARE = 0.05  # of all cores' time: above it others disturbed the run


def machine_info() -> dict:
    """The fields of Reverie's own reports, and the vector instructions that matter here."""
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    wanted = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16")
    return {
        "cpu": name.group(1) if name else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "instructions": [f for f in wanted if flags and f in flags.group(1).split()],
        "libc": " ".join(platform.libc_ver()),
        "load_average_at_start": list(os.getloadavg()),
    }


def available_bytes(meminfo: str) -> int:
    found = re.search(r"^MemAvailable:\s*(\d+) kB$", meminfo, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def busy_seconds(stat: str) -> float:
    """CPU time of all processes since boot, in /proc/stat, what other guests stole included."""
    fields = [int(x) for x in stat.split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _waiting, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq + steal) / TICKS


def process_seconds(stat: str) -> float:
    """CPU time of one process and its finished children, in /proc/PID/stat."""
    fields = stat.rsplit(")", 1)[1].split()
    return sum(int(x) for x in fields[11:15]) / TICKS


def cpu_seconds_of(pid: int) -> float:
    """0 for one that has ended and been waited for: os.times() counts it."""
    try:
        return process_seconds(Path(f"/proc/{pid}/stat").read_text())
    except OSError:
        return 0.0


class Neighbours:
    """Measures how much of the machine others used while a piece of work ran."""

    def __init__(self, children: Callable[[], Iterable[int]]) -> None:
        self.children = children  # live processes of ours, besides this one
        self.shares: list[float] = []
        self.start()

    def totals(self) -> tuple[float, float, float]:
        ours = sum(os.times()[:4]) + sum(cpu_seconds_of(pid) for pid in self.children())
        return time.monotonic(), busy_seconds(Path("/proc/stat").read_text()), ours

    def start(self) -> None:
        self.begun = self.totals()

    def stop(self) -> float:
        """The share of all cores' time that was neither idle nor ours since start()."""
        wall, busy, ours = (now - then for now, then in zip(self.totals(), self.begun))
        share = min(1.0, max(0.0, busy - ours) / max(wall * (os.cpu_count() or 1), 1e-9))
        self.shares.append(share)
        return share

    def summary(self) -> dict:
        shares = sorted(self.shares) or [0.0]
        return {
            "others_cpu_share_median": shares[len(shares) // 2],
            "others_cpu_share_max": shares[-1],
            "quiet": shares[len(shares) // 2] <= QUIET_SHARE,
        }
