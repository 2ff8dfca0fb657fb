"""Batches that go straight into TensorFlow's training step, without `tf.data` in between.

Keras wraps a `PyDataset` in a `tf.data` generator. For each batch that is a Python call from a thread of TensorFlow,
two copies, and a thread that competes with the step for the processor: 5 % of the processor time of derma's first
network, where making a batch takes 1 %. JAX and torch take batches from NumPy in any case.
"""

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import keras

from keras_vision.training.class_weights import weighed

# Handing a batch over from another thread costs 4 % of a step of 17 ms, so it has to save more.
WORTH_A_THREAD = 0.1


@contextlib.contextmanager
def direct_batches(
    model: keras.Model, batches: Any, class_weight: dict[int, float] | None, *, enabled: bool = True
) -> Iterator[None]:
    """Lets `model.fit(batches, class_weight=class_weight)` take its batches directly until the block ends.

    On TensorFlow only; on the other backends it does nothing. The steps are the same operations on the same numbers.

    Args:
        model: A compiled model.
        batches: A `keras.utils.PyDataset` of `(images, labels)`. It may be asked for the next batch of an epoch in
            another thread while a step runs.
        class_weight: As `fit` gets it.
        enabled: Whether to do anything.
    """
    if not enabled or keras.backend.backend() != "tensorflow":
        yield
        return
    trained: Any = model
    trained.make_train_function()
    original = trained.train_function
    with _Feed(batches, class_weight) as feed:
        trained.train_function = _fed(original, feed)
        try:
            yield
        finally:
            trained.train_function = original


def _fed(train_function, feed):
    """A training step that takes its batch from a feed and ignores the iterator that Keras passes."""
    import tensorflow as tf

    step: Any = None

    def fed(iterator):
        nonlocal step
        batch = feed.next()
        if step is None:
            # Any batch size, as in Keras's iterator, so that the same graph is compiled, and once.
            specs = [tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in batch]
            step = tf.function(lambda *data: train_function(iter([data])), input_signature=specs, autograph=False)
        return step(*batch)

    return fed


class _Feed:
    """The batches of epoch after epoch, each made when it is asked for, or in a thread where that takes long."""

    def __init__(self, batches, class_weight):
        self.batches, self.class_weight = batches, class_weight
        self.index = 0
        self.ahead: Future | None = None
        self.making = self.elapsed = 0.0

    def __enter__(self):
        self.thread = ThreadPoolExecutor(1)
        return self

    def __exit__(self, *error):
        self.thread.shutdown(cancel_futures=True)

    def next(self):
        """The next batch. The first of an epoch is never made ahead: its order may not be known before."""
        self._note_time()
        batch = self._make(self.index) if self.ahead is None else self.ahead.result()
        self.index = (self.index + 1) % len(self.batches)
        slow = self.making > WORTH_A_THREAD * self.elapsed
        self.ahead = self.thread.submit(self._make, self.index) if slow and self.index else None
        return batch

    def _note_time(self):
        """Counts the time between two batches of an epoch, without the first step: that is compiled."""
        now = time.perf_counter()
        if self.index > 1:
            self.elapsed += now - self.called
        else:
            self.making = self.elapsed = 0.0
        self.called = now

    def _make(self, index):
        started = time.perf_counter()
        batch = weighed(self.batches[index], self.class_weight)
        self.making += time.perf_counter() - started
        return batch
