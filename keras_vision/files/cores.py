"""How many processor cores there are for this process."""

import os


def cores() -> int:
    """How many processor cores this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
