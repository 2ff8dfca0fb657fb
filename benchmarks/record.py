"""How every benchmark records its results: a file with versions, machine and date, and one JSON line at the end."""

import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "scipy", "opencv-python-headless")


def machine():
    """The processor's name and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line.partition(":") for line in info.read_text().splitlines()]
        values = {key.strip(): value.strip() for key, _, value in lines}
        wide = [flag for flag in ("avx2", "avx512f", "amx_bf16") if flag in values.get("flags", "").split()]
        name = f"{values.get('model name', name)} ({', '.join(wide)})"
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def finish(name, headline, details):
    """Writes `results/NAME.json` and prints the headline as the last line.

    Args:
        headline: The results of the last line.
        details: Everything else worth keeping.
    """
    RESULTS.mkdir(exist_ok=True)
    content = {
        "benchmark": name,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "results": headline,
        "details": details,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    print(json.dumps(headline))


def median_and_spread(values):
    """The median, with the smallest and the largest: `(median, low, high)`."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return median, ordered[0], ordered[-1]
