"""Runs that several processes share: each is claimed by a lock and trained in a process of its own, once.

The claim of a run is held by the process that claims it and by the training that it starts: if the claimer is killed,
its training goes on and nobody begins the run anew; when both have ended, whoever comes next goes on with the run.

Standard library only: a machine of a cluster that only claims runs imports no framework.
"""

import contextlib
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from keras_vision.files.lock import Lock
from keras_vision.recipe import MAX_LINE, printable

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TICK = 0.2  # Seconds after which a signal is noticed.
WAIT = 0.05  # Seconds between two looks at whether a training has ended.
POLL = 5.0  # Seconds between two looks at runs that others have claimed.
STOPPED = "interrupted; the same command goes on with it"
LOG_TAIL = 20_000  # Bytes of a log in which a reason is looked for.


@dataclass(frozen=True)
class Job:
    """Something that is done once, by a process of its own.

    Attributes:
        name: Its name, which no other job of the folder has.
        finished: The file whose presence says that it is done.
        command: Arguments of Python.
        claim: File of the lock.
        log: File to which the output is appended.
        cwd: Folder to start in.
        environment: Variables that differ from those of the claimer.
    """

    name: str
    finished: Path
    command: tuple[str, ...]
    claim: Path
    log: Path
    cwd: str = "."
    environment: Mapping[str, str] = field(default_factory=dict)

    def is_finished(self) -> bool:
        """Whether it is done."""
        # Over a network, the absence of a name may be remembered; reading a folder asks the server.
        for folder in (self.finished.parent.parent, self.finished.parent):
            with contextlib.suppress(OSError):
                os.listdir(folder)
        return self.finished.is_file()


class State(Enum):
    """How a job went: done now, done before, claimed by another process, failed, killed by a signal, or stopped."""

    DONE = "done"
    FINISHED = "finished before"
    BUSY = "claimed by another process"
    FAILED = "failed"
    KILLED = "killed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a job ended.

    Attributes:
        state: How.
        reason: Of a failure, in a sentence without its dot; of a busy one, who has claimed it.
        seconds: How long it took.
    """

    state: State
    reason: str = ""
    seconds: float = 0.0


def attempt(job: Job, started: Callable[[subprocess.Popen], None] = lambda process: None) -> Outcome:
    """Does a job unless it is done or claimed.

    Args:
        job: The job.
        started: Called with its process.
    """
    claim = Lock(job.claim)
    try:
        for file in (job.claim, job.log):
            file.parent.mkdir(parents=True, exist_ok=True)
        if job.is_finished():
            return Outcome(State.FINISHED)
        if not claim.acquire():
            return Outcome(State.BUSY, _claimer(job.claim))
    except OSError as error:
        return Outcome(State.FAILED, f"cannot write to {job.claim.parent}: {error.strerror or error}")
    try:
        if job.is_finished():  # By whoever had the claim until now.
            return Outcome(State.FINISHED)
        return _run(job, claim, started)
    except OSError as error:
        return Outcome(State.FAILED, f"cannot be started: {error}")
    finally:
        claim.release()


def _claimer(claim):
    try:
        return printable(claim.read_text("utf-8", errors="replace").strip())[:MAX_LINE]
    except OSError:  # Windows keeps a locked file from its readers.
        return ""


def _run(job, claim, started):
    begun = time.monotonic()
    with job.log.open("ab") as log:
        here = f"--- {platform.node()}, {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime())}\n"
        log.write(here.encode())
        log.flush()
        offset = log.tell()
        process = subprocess.Popen(
            [sys.executable, *job.command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=job.cwd,
            env={**os.environ, **job.environment},
            pass_fds=claim.inherited(),
            # A Ctrl-C comes to it once, from here. A second one would keep it from saving its last step.
            start_new_session=True,
        )
    try:
        with contextlib.suppress(OSError):  # Windows.
            who = f"{platform.node()}, process {os.getpid()}, its training {process.pid}\n"
            job.claim.write_text(who, "utf-8")
        started(process)
        while (status := process.poll()) is None:
            time.sleep(WAIT)  # Not in one wait, which Ray's interrupts would not reach.
    except BaseException:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    return Outcome(*_ending(job, status, offset), time.monotonic() - begun)


def _ending(job, status, offset):
    if status == 0 and job.is_finished():
        return State.DONE, ""
    if status in [128 + number for number in SIGNALS] or -status in SIGNALS:
        return State.STOPPED, STOPPED
    if status < 0:
        return State.KILLED, f"killed by {signal.Signals(-status).name}; the same command goes on with it"
    if status == 0:
        return State.FAILED, f"ended without {job.finished}"
    return State.FAILED, _reason(job.log, offset) or f"exit status {status}"


def _reason(log, offset):
    """The sentence after `error:`, or the last line, of what a session has written to its log."""
    with log.open("rb") as file:
        file.seek(max(offset, log.stat().st_size - LOG_TAIL))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return printable((errors or lines or [""])[-1])[:MAX_LINE].rstrip(".")


class Workers(Protocol):
    """Who does jobs: threads of this machine, or Ray."""

    def submit(self, job: Job) -> "futures.Future[Outcome]":
        """Begins with a job when there is a free place."""
        ...

    def stop(self, number: int) -> None:
        """Passes a signal on to what is being done, and begins nothing more."""
        ...


class Threads:
    """Does jobs on this machine.

    Args:
        at_once: How many at the same time.
        tell: Called with a line of progress.
    """

    def __init__(self, at_once: int, tell: Callable[[str], None] = print) -> None:
        self._pool = futures.ThreadPoolExecutor(at_once)
        self._tell = tell
        self._processes: set[subprocess.Popen] = set()
        self._stopping: int | None = None

    def submit(self, job: Job) -> "futures.Future[Outcome]":
        return self._pool.submit(self._attempt, job)

    def _attempt(self, job):
        if self._stopping is not None:
            return Outcome(State.STOPPED, "not begun")
        return attempt(job, lambda process: self._started(job, process))

    def _started(self, job, process):
        self._processes.add(process)
        self._tell(f"started {job.name}; its output is in {job.log}")
        if self._stopping is not None:  # While it was started.
            process.send_signal(self._stopping)

    def stop(self, number: int) -> None:
        self._stopping = number
        for process in list(self._processes):
            process.send_signal(number)  # Nothing happens to one that has ended.


def work(
    jobs: Sequence[Job],
    workers: Workers,
    told: Callable[[Job, Outcome], None],
    *,
    wait: bool = True,
    tell: Callable[[str], None] = print,
) -> tuple[dict[str, Outcome], int | None]:
    """Does jobs, leaving those that others have claimed to them.

    Each job is tried until it is done or has failed once.

    Args:
        jobs: The jobs, in the order in which they are begun.
        workers: Who does them.
        told: Called with each job that has ended here.
        wait: Whether to wait for jobs that others have claimed, and to do those that they leave undone.
        tell: Called with a line of progress.

    Returns:
        The outcome of each job by its name, and the number of the signal by which the work was stopped, if it was.
    """
    outcomes: dict[str, Outcome] = {}
    waiting: set[str] = set()
    with _signals() as received:
        left = list(jobs)
        while left:
            try:
                for job, outcome in _ended({workers.submit(job): job for job in left}, workers, received):
                    outcomes[job.name] = outcome
                    if outcome.state is not State.BUSY:
                        told(job, outcome)
            except BaseException:  # Such as a closed terminal: nothing goes on unseen.
                workers.stop(signal.SIGTERM)
                raise
            others = [job for job in left if outcomes[job.name].state is State.BUSY]
            if not wait or received:
                break
            if others and {job.name for job in others} != waiting:
                waiting = {job.name for job in others}
                who = "; ".join(f"{job.name} ({outcomes[job.name].reason})" for job in others)
                tell(f"waiting for what others have claimed: {who}")
            if len(others) == len(left):
                _pause(received)
            left = others
    return outcomes, received[0] if received else None


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects the signals that come in the block."""
    received: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ended(running, workers, received):
    """Jobs and outcomes as they end; passes signals on."""
    passed_on = 0
    while running:
        done, _ = futures.wait(running, timeout=TICK, return_when=futures.FIRST_COMPLETED)
        for number in received[passed_on:]:
            workers.stop(number)
            passed_on += 1
        for future in done:
            yield running.pop(future), _outcome(future)


def _outcome(future):
    try:
        return future.result()
    except (Exception, futures.CancelledError) as error:  # Of Ray, whose workers can be lost.
        name = type(error).__name__
        if "Cancelled" in name or "KeyboardInterrupt" in str(error):
            return Outcome(State.STOPPED, STOPPED)
        text = printable(str(error).strip().rpartition("\n")[2])[:MAX_LINE]
        return Outcome(State.FAILED, f"{name}: {text}".rstrip("."))


def _pause(received):
    ends = time.monotonic() + POLL
    while time.monotonic() < ends and not received:
        time.sleep(TICK)
