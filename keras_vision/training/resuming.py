"""A training that can be interrupted after any step and goes on, in another process, with the same numbers.

Order and augmentation of the batches are functions of (seed, epoch, index), so an epoch can go on in its middle.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_vision.training.checkpoint import Checkpoints
from keras_vision.training.epoch_log import EpochLog
from keras_vision.training.interrupt import Interrupted
from keras_vision.training.state import State, capture, restore, restore_within_epoch


class FromStep(keras.utils.PyDataset):
    """Batches without those of the steps that an interrupted epoch has behind it.

    Attributes:
        first: How many batches to leave out.
    """

    def __init__(self, batches: Any) -> None:
        super().__init__()
        self.batches, self.first = batches, 0

    def __len__(self) -> int:
        return len(self.batches) - self.first

    def __getitem__(self, index: int) -> Any:
        return self.batches[self.first + index]


def resumed(
    train_from: Callable[..., None],
    feed: FromStep,
    callbacks: Sequence[Any],
    log: EpochLog,
    checkpoints: Checkpoints,
    epochs: int,
) -> None:
    """Trains from the newest checkpoint, or from the beginning.

    Args:
        train_from: Function of an epoch and more callbacks that trains from this epoch on, with the callbacks last.
        feed: The batches that it trains on.
        callbacks: Those whose memory is saved.
        log: The one of them that measures time.
        checkpoints: Where checkpoints are.
        epochs: Epochs of the whole training.

    Raises:
        Interrupted: If the program was told to stop.
    """
    loaded = checkpoints.load()
    state, elapsed = loaded or (None, 0.0)
    log.start(elapsed)
    if state is not None:
        print(f"Resuming after {state.place(epochs)}.", flush=True)
    with checkpoints.interrupt.deferred():
        if state is not None and state.step:
            keeper = Keeper(checkpoints, callbacks, log, feed, epochs, state, one_epoch=True)
            feed.first = state.step
            train_from(state.epoch, keeper)
            feed.first, state = 0, keeper.state
        first = 0 if state is None else epochs if state.stopped else state.epoch
        train_from(first, Keeper(checkpoints, callbacks, log, feed, epochs, state))


class Keeper(keras.callbacks.Callback):
    """Restores a state when a training begins, and saves it as it goes. The last of all callbacks.

    Args:
        checkpoints: Where checkpoints are.
        callbacks: Those whose memory is saved.
        log: The one of them that measures time.
        feed: The batches.
        epochs: Epochs of the whole training.
        state: Where to begin; None for the beginning.
        one_epoch: Whether to stop after the epoch in whose middle the state is.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        callbacks: Sequence[Any],
        log: EpochLog,
        feed: FromStep,
        epochs: int,
        state: State | None,
        *,
        one_epoch: bool = False,
    ) -> None:
        super().__init__()
        self.checkpoints, self.callbacks, self.log, self.feed = checkpoints, callbacks, log, feed
        self.epochs, self.state, self.one_epoch = epochs, state, one_epoch
        self.epoch = 0
        self.saved_at: float | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        # The other callbacks have reset themselves by now.
        if self.state is not None:
            restore(self.model, self.callbacks, self.state)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.state is not None and self.one_epoch and not batch:
            restore_within_epoch(self.model, self.state)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # After the last step of an epoch there is nothing to go on with but the validation, so it is waited for.
        step = self.feed.first + batch + 1
        if batch + 1 < len(self.feed) and self.checkpoints.told_to_stop(step) is not None:
            self._save(capture(self.model, self.callbacks, epoch=self.epoch, step=step))
            self._stop()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        model: Any = self.model
        interrupted = self.checkpoints.told_to_stop() is not None
        due = interrupted or self._is_due()
        if due or self.one_epoch:
            self.state = capture(model, self.callbacks, epoch=epoch + 1)
        if due:
            self._save(self.state)
        if interrupted:
            self._stop()
        if self.one_epoch:
            model.stop_training = True

    def _is_due(self):
        return self.saved_at is None or self.log.elapsed - self.saved_at >= self.checkpoints.seconds

    def _save(self, state):
        self.checkpoints.save(state, self.log.elapsed, self.epochs)
        self.saved_at = self.log.elapsed

    def _stop(self):
        assert self.checkpoints.stopped_by is not None
        raise Interrupted(self.checkpoints.stopped_by, self.checkpoints.last)
