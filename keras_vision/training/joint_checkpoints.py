"""Checkpoints of a training of several processes: process 0 reads and writes them, and all begin and end together."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_vision.files import state_file
from keras_vision.training import devices
from keras_vision.training.checkpoint import Checkpoints, without_arrays
from keras_vision.training.history import History
from keras_vision.training.interrupt import Interrupt, Interrupted
from keras_vision.training.state import State

# To ask the others whether to stop takes about a millisecond.
STEPS_BETWEEN_QUESTIONS = 16
# What errors of a collective operation, or of the service that watches the processes, contain.
LOST = ("Gloo", "NCCL", "oordination", "heartbeat", "Connection reset", "Connection closed")


class JointCheckpoints(Checkpoints):
    """Checkpoints that one process has and all go on from.

    Args:
        own: Those of process 0; None where nothing is saved, and in the other processes.
        interrupt: Who listens to signals of this process.
    """

    def __init__(self, own: Checkpoints | None, interrupt: Interrupt) -> None:
        super().__init__(Path(), interrupt=interrupt)
        self.own = own
        self.seconds = float("inf") if own is None else own.seconds

    def told_to_stop(self, step: int | None = None) -> int | None:
        """Number of a signal that any of the processes got; all get the same answer, after the same step."""
        if step is None or step % STEPS_BETWEEN_QUESTIONS == 0:
            self.stopped_by = devices.largest(self.interrupt.requested or 0) or None
            return self.stopped_by
        return None

    def save(self, state: State, elapsed: float, epochs: int) -> None:
        """Writes a checkpoint in process 0."""
        if self.own is not None:
            self.own.save(state, elapsed, epochs)
            self.last = self.own.last

    def load(self) -> tuple[State, float] | None:
        """What process 0 has, in every process."""
        loaded = self.own.load() if self.own is not None else None
        content = b""
        with tempfile.TemporaryDirectory() as folder:
            arrays, best = Path(folder) / "arrays", Path(folder) / "best"
            if loaded is not None:
                state_file.write(arrays, loaded[0].arrays, {**without_arrays(loaded[0]), "elapsed": loaded[1]})
                state_file.write(best, loaded[0].best, {})
                content = arrays.read_bytes()
            content = devices.from_leader(content)
            if not content:
                return None
            arrays.write_bytes(content)
            best.write_bytes(devices.from_leader(best.read_bytes() if loaded is not None else b""))
            values, facts = state_file.read(arrays)
            elapsed = facts.pop("elapsed")
            return State(arrays=values, best=state_file.read(best)[0], **facts), elapsed

    def finished(self, model: Any) -> History | None:
        """The history of a training that process 0 has finished; the weights are put into its model alone."""
        history = self.own.finished(model) if self.own is not None else None
        if devices.largest(int(history is not None)):
            return history or History((), 0, 0.0)
        return None

    def finish(self, model: Any, history: History) -> None:
        """Replaces the checkpoints of process 0 by the finished training."""
        if self.own is not None:
            self.own.finish(model, history)

    def discard(self) -> None:
        """Removes the checkpoints of process 0."""
        if self.own is not None:
            self.own.discard()


@contextlib.contextmanager
def joint(checkpoints: Checkpoints | None) -> Iterator[Checkpoints | None]:
    """The checkpoints for `fit`: as they are in one process, else those of process 0 for all."""
    if devices.current().processes == 1:
        yield checkpoints
        return
    if checkpoints is not None:
        yield JointCheckpoints(checkpoints, checkpoints.interrupt)
        return
    with Interrupt() as interrupt:
        yield JointCheckpoints(None, interrupt)


class ProcessLost(Interrupted):
    """Another process of the training has ended, so this one cannot go on."""


@contextlib.contextmanager
def telling_of_lost_processes(checkpoints: Checkpoints | None) -> Iterator[None]:
    """Raises ProcessLost where an operation of all processes fails because one of them is gone."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if devices.current().processes == 1 or not any(word in str(error) for word in LOST):
            raise
        saved = None if checkpoints is None else checkpoints.last
        raise ProcessLost(15, saved or None) from error
