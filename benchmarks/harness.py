"""Timing that survives a noisy machine, the description of that machine, and result files.

The cases of a comparison run in turn, round after round, so that whatever else the machine does hits all of them;
the median over the rounds is reported, with the fastest and slowest beside it.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from fieldstone.core.files import atomic_write_json

__all__ = ["Timing", "interleaved", "machine", "peak_memory_mb", "print_table", "threads", "write_result"]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"

_PACKAGES = (
    "fieldstone",
    "torch",
    "numpy",
    "numba",
    "llvmlite",
    "nerfstudio",
    "drjit",
    "lpips",
    "pycolmap",
    "trimesh",
    "triton",
    "tinycudann",
)
_CPU_FEATURES = ("avx", "avx2", "fma", "f16c", "avx512f", "avx512_bf16", "amx_bf16", "neon", "asimd", "bf16")


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds of one case over the rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        ordered = sorted(self.seconds)
        middle = len(ordered) // 2
        return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2

    def to_json(self) -> dict[str, object]:
        """Milliseconds: median, fastest, slowest, and how many rounds."""
        return {
            "median_ms": round(self.median * 1e3, 4),
            "fastest_ms": round(min(self.seconds) * 1e3, 4),
            "slowest_ms": round(max(self.seconds) * 1e3, 4),
            "rounds": len(self.seconds),
        }


def interleaved(
    cases: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 11,
    warmup: int = 2,
    seconds: float = float("inf"),
) -> dict[str, Timing]:
    """Times every case once per round, round after round, after `warmup` untimed rounds.

    Stops early, but not before three rounds, once `seconds` are spent. A case must wait for its own work:
    what it leaves running would be counted against the next one.
    """
    for _ in range(warmup):
        for case in cases.values():
            case()
    taken: dict[str, list[float]] = {name: [] for name in cases}
    started = time.perf_counter()
    for done in range(rounds):
        if done >= 3 and time.perf_counter() - started > seconds:
            break
        for name, case in cases.items():
            begin = time.perf_counter()
            case()
            taken[name].append(time.perf_counter() - begin)
    return {name: Timing(tuple(values)) for name, values in taken.items()}


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch, Numba and, where it is loaded, Dr.Jit use `count` threads inside the block."""
    import numba
    import torch

    drjit = sys.modules.get("drjit")
    before = torch.get_num_threads(), numba.get_num_threads(), drjit and drjit.thread_count()

    def use(torch_count: int, numba_count: int, drjit_count: int | None) -> None:
        torch.set_num_threads(torch_count)
        numba.set_num_threads(numba_count)
        if drjit:
            drjit.set_thread_count(drjit_count)

    use(count, count, count)
    try:
        yield
    finally:
        use(*before)


def peak_memory_mb() -> float:
    """The most resident memory this process has had, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def machine() -> dict[str, object]:
    """What a reader must know to judge a figure: processor, memory, system, versions, and how busy it was."""
    cpu, features = platform.processor() or platform.machine(), set()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                cpu = value.strip()
            elif key.strip() in ("flags", "Features"):
                features |= set(value.split())
    caches = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        with contextlib.suppress(OSError):
            kind = (index / "type").read_text().strip().lower()
            caches[f"L{(index / 'level').read_text().strip()} {kind}"] = (index / "size").read_text().strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu_features": [name for name in _CPU_FEATURES if name in features],
        "caches_of_core_0": caches,
        "memory_gb": round(memory / 1e9, 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": versions,
        "gpu": _gpu(),
        "load_average_1_min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _gpu() -> dict[str, object] | None:
    """Name, memory, caches and software of the GPU a process computes on; None for one that loaded no torch, or has none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    card = torch.cuda.get_device_properties(torch.cuda.current_device())
    driver = None
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = (
            subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")[0].strip()
        )
    return {
        "name": card.name,
        "memory_gb": round(card.total_memory / 1e9, 1),
        "compute_capability": f"{card.major}.{card.minor}",
        "multiprocessors": card.multi_processor_count,
        "l2_mb": round(card.L2_cache_size / 1e6, 1),
        "driver": driver,
        "cuda": torch.version.cuda,
    }


def _commit() -> str | None:
    """The commit measured, with a "+" where the working tree differs from it.

    On a machine that has the files but not their history, the environment variable FIELDSTONE_COMMIT names it.
    """
    if named := os.environ.get("FIELDSTONE_COMMIT"):
        return named

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def write_result(
    name: str,  # the benchmark's module, e.g. "encode"
    results: dict[str, object],
    *,
    arguments: Sequence[str] | None = None,  # the command's arguments; None: this process's
    out: Path | None = None,
) -> Path:
    """Writes results/NAME.json (or `out`): command, date, machine and results, and says where."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    document = {
        "benchmark": name,
        "command": " ".join(["python -m", f"benchmarks.{name}", *arguments]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": machine(),
        "results": results,
    }
    path = out or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_json(path, document)
    print(f"written: {os.path.relpath(path)}")
    return path


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints aligned columns: the first to the left, the others to the right, floats with three digits."""
    text = [list(header)] + [[f"{c:.3g}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    widths = [max(len(row[column]) for row in text) for column in range(len(header))]
    print(f"\n{title}")
    for row in text:
        first, *others = [
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))
        ]
        print("  " + "  ".join([first, *others]).rstrip())
    print(flush=True)
