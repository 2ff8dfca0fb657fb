"""Checkpoints of a training: written while it runs, read when the same training starts again."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_vision.files import state_file
from keras_vision.training.history import History
from keras_vision.training.interrupt import Interrupt
from keras_vision.training.state import State

NEWEST, BEFORE, FINISHED = "newest.state", "before.state", "finished.state"


@dataclasses.dataclass
class Checkpoints:
    """Where a training leaves its state, and how often.

    The newest checkpoint and the one before are kept. The best weights are a file of their own, written when they have
    improved.

    Args:
        folder: A folder of this training alone; it is made where it is missing.
        seconds: Least time between two checkpoints; the first epoch always ends with one.
        interrupt: Who listens to Ctrl-C and SIGTERM; by default they are not treated.
        on_save: Called after each checkpoint.

    Attributes:
        written: How many were written.
        spent: Seconds that this took.
        last: What the last one holds, such as "epoch 3 of 20".
        stopped_by: Number of the signal that ended the training; None where none did.
    """

    folder: Path  # A text is turned into one.
    seconds: float = 30.0
    interrupt: Interrupt = dataclasses.field(default_factory=Interrupt)
    on_save: Callable[[], None] = lambda: None
    written: int = 0
    spent: float = 0.0
    last: str = ""
    stopped_by: int | None = None
    _complained: bool = False
    _best_before: str | None = None

    def __post_init__(self) -> None:
        self.folder = Path(self.folder)

    def told_to_stop(self, step: int | None = None) -> int | None:
        """Number of the signal that asks the training to stop; None while it shall go on.

        Args:
            step: Completed steps of the epoch; None after its end.
        """
        self.stopped_by = self.interrupt.requested
        return self.stopped_by

    def save(self, state: State, elapsed: float, epochs: int) -> None:
        """Writes a checkpoint. Where that fails, it says so once, and the training goes on.

        Args:
            state: The training's state.
            elapsed: Seconds of training so far.
            epochs: Epochs of the whole training.
        """
        started = time.perf_counter()
        facts = {"elapsed": elapsed, "epochs": epochs, **without_arrays(state)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            facts["best_file"] = self._save_best(state)
            state_file.write(self.folder / NEWEST, state.arrays, facts, before=self.folder / BEFORE)
        except OSError as error:
            self._complain(error)
            return
        self._keep_best(facts["best_file"])
        self.written += 1
        self.spent += time.perf_counter() - started
        self.last = state.place(epochs)
        self.on_save()

    def _complain(self, error):
        if not self._complained:
            reason = f"No checkpoint can be written to {self.folder}: {error.strerror or error}"
            print(f"{reason}. The training goes on.", file=sys.stderr)
        self._complained = True

    def _save_best(self, state):
        """Name of the file with the best weights so far; None where there are none."""
        if not state.best:
            return None
        memories = [memory for memory in state.callbacks if "best_epoch" in memory]
        name = f"best-{memories[0]['best_epoch'] if memories else state.epoch}.state"
        if not (self.folder / name).exists():
            state_file.write(self.folder / name, state.best, {})
        return name

    def _keep_best(self, name):
        """Removes best weights that neither this checkpoint nor the one before needs."""
        kept, self._best_before = {name, self._best_before}, name
        for path in self.folder.glob("best-*.state"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def load(self) -> tuple[State, float] | None:
        """The newest state that is complete, and the seconds of training until then; None where there is none."""
        for name in (NEWEST, BEFORE):
            try:
                arrays, facts = state_file.read(self.folder / name)
                best = self._best_before = facts.pop("best_file")
                weights = {} if best is None else state_file.read(self.folder / best)[0]
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, state_file.DamagedError) as error:
                print(f"{error} Going on from the checkpoint before, if there is one.", file=sys.stderr)
                continue
            elapsed = facts.pop("elapsed")
            facts.pop("epochs")
            return State(arrays=arrays, best=weights, **facts), elapsed
        return None

    def finish(self, model: Any, history: History) -> None:
        """Replaces the checkpoints by the finished training's weights and history; where that fails, it says so."""
        arrays = {
            f"{number}": np.array(keras.ops.convert_to_numpy(variable))
            for number, variable in enumerate(model.variables)
        }

        def write():
            self.folder.mkdir(parents=True, exist_ok=True)
            state_file.write(self.folder / FINISHED, arrays, dataclasses.asdict(history))

        try:
            write()
        except OSError:
            self._remove_all_but(FINISHED)  # They are larger, with the optimizer's state.
            try:
                write()
            except OSError as error:
                self._complain(error)
                return
        self._remove_all_but(FINISHED)
        self.last = "the training"
        self.on_save()

    def _remove_all_but(self, name):
        for path in self.folder.glob("*.state"):
            if path.name != name:
                path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Removes all checkpoints of a training that came to nothing."""
        self._remove_all_but(None)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def finished(self, model: Any) -> History | None:
        """The history of a training that has finished, its weights put into the model; None if it has not."""
        try:
            arrays, facts = state_file.read(self.folder / FINISHED)
        except (OSError, state_file.DamagedError):
            return None
        for number, variable in enumerate(model.variables):
            variable.assign(arrays[f"{number}"])
        return History(tuple(facts["epochs"]), facts["best_epoch"], facts["seconds"])


def without_arrays(state: State) -> dict[str, Any]:
    """What JSON can hold of a state."""
    fields = dataclasses.fields(state)
    return {field.name: getattr(state, field.name) for field in fields if field.name not in ("arrays", "best")}
