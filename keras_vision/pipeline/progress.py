"""What of an unfinished run is done: checkpoints, results of finished stages, and a record of its interruptions."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_vision.files import state_file
from keras_vision.files.cores import cores
from keras_vision.pipeline import unfinished
from keras_vision.pipeline.plain import from_plain, to_plain
from keras_vision.training.checkpoint import Checkpoints
from keras_vision.training.interrupt import Interrupt

SECONDS = 30.0
HEARTBEAT = 1.0  # Seconds between two notes that the process is alive.


@dataclass(frozen=True)
class Interruption:
    """One end of a run before it was finished.

    Attributes:
        stage: What was running, such as "training".
        saved: What had been saved last, such as "epoch 3 of 20"; empty if nothing had.
        lost_seconds: Work after that, which was done again; to within a second where the process was killed.
    """

    stage: str
    saved: str
    lost_seconds: float


class Progress:
    """The `resume` folder of an unfinished run; a context manager that listens to signals and notes the time.

    Args:
        folder: The unfinished run's folder.
        seconds: Least time between two checkpoints.

    Attributes:
        interruptions: Those of earlier sessions.
        earlier_seconds: Time that earlier sessions took.
    """

    def __init__(self, folder: Path, seconds: float = SECONDS) -> None:
        self.folder, self.seconds = folder / unfinished.RESUME, seconds
        self.interrupt = Interrupt()
        self._checkpoints: list[Checkpoints] = []
        sessions = self.folder / unfinished.SESSIONS
        sessions.mkdir(exist_ok=True)
        earlier = sorted(sessions.glob("*.json"))
        notes = list(filter(None, map(_read_note, earlier)))
        self.interruptions = tuple(map(_interruption, notes))
        self.earlier_seconds = sum(note["alive_at"] for note in notes)
        self._file = sessions / f"{len(earlier):04}.json"
        self._started = time.monotonic()
        self._note = {"stage": "reading the data", "saved": "", "saved_at": 0.0, "alive_at": 0.0}
        self._ended = threading.Event()

    def __enter__(self) -> "Progress":
        self._write_note()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()
        self.interrupt.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.interrupt.__exit__(*error)
        self._ended.set()
        self._heart.join()

    def _beat(self):
        while not self._ended.wait(HEARTBEAT):
            self._write_note()
        self._write_note()

    def _write_note(self):
        self._note["alive_at"] = time.monotonic() - self._started
        temporary = self._file.with_suffix(".writing")
        with contextlib.suppress(OSError):  # A full disk must not end a training.
            temporary.write_text(json.dumps(self._note), "utf-8")
            os.replace(temporary, self._file)

    def _saved(self, what):
        self._note |= {"saved": what, "saved_at": time.monotonic() - self._started}
        self._write_note()

    def checkpoints(self, name: str) -> Checkpoints:
        """Those of one training of the run, which begins now.

        Args:
            name: The training's name, which becomes a folder's.
        """
        self._note["stage"] = name
        found = Checkpoints(self.folder / name, self.seconds, self.interrupt, lambda: self._saved(found.last))
        self._checkpoints.append(found)
        return found

    def cost(self) -> tuple[int, float]:
        """How many checkpoints this session wrote, and the seconds that this took."""
        return sum(one.written for one in self._checkpoints), sum(one.spent for one in self._checkpoints)

    def once(self, name: str, kind: Any, make: Callable[[], Any]) -> Any:
        """A result, from an earlier session or from `make`, which is then called once in all sessions together.

        Args:
            name: Name of the result, which becomes a file's.
            kind: Its type, see `plain.from_plain`.
            make: Function that computes it.
        """
        path = self.folder / f"{name}.state"
        with contextlib.suppress(FileNotFoundError, state_file.DamagedError):
            return from_plain(kind, state_file.read(path)[1])
        self._note["stage"] = name
        result = make()
        state_file.write(path, {}, to_plain(result))
        self._saved(name)
        return result


def is_exact(model: Any) -> bool:
    """Whether a resumed training has the numbers of an uninterrupted one here, bit by bit.

    JAX on CPU does not promise the same sums with several threads (https://github.com/jax-ml/jax/issues/39741), and
    kernels on a GPU may add in any order.
    """
    value = model.trainable_variables[0].value if model.trainable_variables else None
    if "cpu" not in str(getattr(value, "device", "cpu")).lower():
        return False
    return keras.backend.backend() != "jax" or cores() == 1


def _read_note(file):
    """The last note of an earlier session; None if it cannot be read."""
    try:
        note = json.loads(file.read_text("utf-8"))
        texts, times = (note["stage"], note["saved"]), (note["alive_at"], note["saved_at"])
        return note if all(isinstance(text, str) for text in texts) and all(time >= 0 for time in times) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _interruption(note):
    return Interruption(note["stage"], note["saved"], max(0.0, note["alive_at"] - note["saved_at"]))
