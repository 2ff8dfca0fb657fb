"""The metrics of a training as it goes, and its time."""

import math
import time
from typing import Any

import keras
import numpy as np


class EpochLog(keras.callbacks.Callback):
    """Records each epoch's metrics, the learning rate of any schedule, and the seconds of training until its end.

    Attributes:
        epochs: One dict per epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[dict[str, float]] = []
        self.start()

    def start(self, elapsed: float = 0.0) -> None:
        """Starts the clock, which then shows `elapsed`."""
        # In a tuple, which is no part of a checkpoint: another process has another clock.
        self._clock = (time.perf_counter() - elapsed,)

    @property
    def elapsed(self) -> float:
        """Seconds of training, of interrupted sessions too."""
        return time.perf_counter() - self._clock[0]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        model: Any = self.model
        rate = float(np.asarray(keras.ops.convert_to_numpy(model.optimizer.learning_rate)))
        metrics = {name: float(value) for name, value in (logs or {}).items() if name != "learning_rate"}
        self.epochs.append({**metrics, "learning_rate": rate, "seconds": self.elapsed})
        # Once per epoch, not per step as in TerminateOnNaN: reading the loss synchronizes with the device.
        if not math.isfinite(metrics["loss"]):
            model.stop_training = True
