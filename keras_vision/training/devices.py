"""One training divided among several devices, of one process or of several, with JAX.

Each batch is divided evenly; gradients, and the statistics of normalizations, are those of the whole batch. A batch
that the devices do not divide, such as the last of an epoch, is given to each of them whole. So a training has the same
steps as on one device, and the same numbers up to the order of sums.

Nothing but the training is divided: before and after it, each process uses one device of its own.
"""

import contextlib
import copy
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import keras
import numpy as np

from keras_vision.keras_internals import placement
from keras_vision.recipe import InputError
from keras_vision.training.class_weights import weighed

# A process that has not been heard of for so long is taken for dead.
SILENCE_SECONDS = 30
# The others' trainings end within a moment of each other.
END_SECONDS = 120


@dataclass(frozen=True)
class Devices:
    """What a training is divided among.

    Attributes:
        names: Keras's names of all devices, such as `gpu:0`; of one or none nothing is divided.
        processes: Number of processes.
        process: Which of them this is; 0 leads.
    """

    names: tuple[str, ...] = ()
    processes: int = 1
    process: int = 0

    @property
    def count(self) -> int:
        """Number of devices, at least 1."""
        return max(1, len(self.names))

    @property
    def leads(self) -> bool:
        """Whether this process writes what the training leaves."""
        return self.process == 0

    def __str__(self) -> str:
        return f"{self.count} devices" + (f" of {self.processes} processes" if self.processes > 1 else "")


_ALONE = Devices()
_current = _ALONE


def current() -> Devices:
    """What trainings are divided among now."""
    return _current


@contextlib.contextmanager
def using(
    devices: int | None = None, *, processes: int = 1, process: int = 0, coordinator: str | None = None
) -> Iterator[Devices]:
    """Divides the trainings inside among devices.

    Must be the first use of JAX in the process.

    Args:
        devices: How many of each process; None for all that it has. Where JAX finds no accelerator the processor counts
            as so many devices as are asked for, which is no faster, to try it out.
        processes: How many processes take part, each with the same call but for `process`.
        process: The number of this process, from 0.
        coordinator: `HOST:PORT` of process 0, free there and reachable from the others.

    Raises:
        InputError: If the backend is not JAX, there are fewer devices, or the processes do not find each other.
    """
    global _current
    if keras.backend.backend() != "jax":
        raise InputError(
            "A training is divided among devices on JAX only: add --backend jax. "
            f"Received: the backend {keras.backend.backend()}."
        )
    _current = _begin(devices, processes, process, coordinator)
    try:
        yield _current
    finally:
        end()


def end() -> None:
    """Ends the division: what follows is done by each process alone."""
    global _current
    if _current.processes > 1:
        import jax

        with contextlib.suppress(RuntimeError):  # Another process has ended without it.
            jax.distributed.shutdown()
    _current = _ALONE


def leave(status: int) -> NoReturn:
    """Ends this process after another one was lost, without waiting for it as JAX does."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _begin(devices, processes, process, coordinator):
    import jax

    if devices is not None:
        with contextlib.suppress(RuntimeError):  # JAX has been used, so there are as many as there are.
            jax.config.update("jax_num_cpu_devices", devices)
    if processes > 1:
        try:
            jax.distributed.initialize(
                coordinator,
                processes,
                process,
                heartbeat_timeout_seconds=SILENCE_SECONDS,
                shutdown_timeout_seconds=END_SECONDS,
            )
        except RuntimeError as error:
            raise InputError(
                f"The {processes} processes did not find each other through {coordinator}: each needs the same "
                f"--processes and --coordinator, and a --process-id of its own. {str(error).splitlines()[0]}"
            ) from error
    count = devices or jax.local_device_count()
    found = [[one for one in jax.devices() if one.process_index == number] for number in range(processes)]
    fewest = min(map(len, found))
    if fewest < count:
        raise InputError(
            f"--devices {count} needs so many devices in each process. JAX has {fewest}: {jax.local_devices()}."
        )
    names = [f"{one.platform}:{one.id}" for local in found for one in local[:count]]
    if processes > 1:
        _agree_that(count, "--devices")  # Also connects the processes, which JAX on CPU must do without delay.
    return Devices(tuple(names), processes, process)


def require_same(what: str, digest: bytes) -> None:
    """Checks that something is the same in all processes.

    Args:
        what: What it is, for the sentence.
        digest: A hash of it.

    Raises:
        InputError: In every process, if it is not.
    """
    if _current.processes > 1:
        _agree_that(int.from_bytes(digest[:4], "big") >> 1, what)


def _agree_that(value, what):
    values = _gather(value)
    if (values != values[0]).any():
        other = int(np.argmax(values != values[0]))
        raise InputError(f"Process {other} has another value than process 0: {what}. All processes need the same.")


def _gather(value):
    """A number below 2^31 of each process."""
    from jax.experimental import multihost_utils

    found: Any = multihost_utils.process_allgather(np.int32(value))
    return np.asarray(found).reshape(-1)


def largest(value: int) -> int:
    """The largest of all processes' values, each of at least 0 and below 2^31."""
    return value if _current.processes == 1 else int(_gather(value).max())


def from_leader(content: bytes) -> bytes:
    """The content that process 0 has, in every process; the others' is ignored."""
    if _current.processes == 1:
        return content
    from jax.experimental import multihost_utils

    size = largest(len(content) if _current.leads else 0)
    sent = np.zeros(size, np.uint8)
    if _current.leads:
        sent[:] = np.frombuffer(content, np.uint8)
    found: Any = multihost_utils.broadcast_one_to_all(sent)
    return np.asarray(found).astype(np.uint8).tobytes()


@contextlib.contextmanager
def divided(model: keras.Model) -> Iterator[None]:
    """Lets `fit` and `evaluate` of a compiled model inside take batches of `shares`, on all devices.

    Values of variables are those of process 0.
    """
    if _current.count == 1:
        yield
        return
    trained: Any = model
    with placement.divided(_current.names):
        placement.on_all(_variables(trained))
        try:
            yield
        finally:
            placement.on_one(_variables(trained))
            # They were compiled for all devices.
            trained.train_function = trained.test_function = trained.predict_function = None


def _variables(model):
    return [*model.variables, *model.optimizer.variables, *model.metrics_variables]


@contextlib.contextmanager
def on_one_device(model: keras.Model) -> Iterator[None]:
    """Lets each process compute with a divided model's variables by itself, and change them, in the same way."""
    if _current.count == 1:
        yield
        return
    placement.on_one(model.variables)
    try:
        yield
    finally:
        placement.on_all(model.variables)


def shares(batches: Any, class_weight: dict[int, float] | None = None) -> Any:
    """This process's part of each batch, or the batches as they are where nothing is divided.

    Args:
        batches: A `Batches`, or something like it.
        class_weight: As `fit` takes it; it must not get it again where there are several devices.

    Raises:
        InputError: If the devices do not divide the size of the batches.
    """
    if _current.count == 1:
        return batches
    if batches.batch_size % _current.count:
        raise InputError(
            f"--batch-size, of all devices together, must be a multiple of their number. Received: "
            f"{batches.batch_size} and {_current.count} devices."
        )
    return _Shares(batches, class_weight, _current)


def divisible(batches: Any) -> Any:
    """The same batches, of a size that the devices divide, for what needs no certain size."""
    count = _current.count
    batches = copy.copy(batches)
    batches.batch_size = max(count, batches.batch_size - batches.batch_size % count)
    return batches


class _Shares(keras.utils.PyDataset):
    """This process's part of each batch; of one that the devices do not divide all, marked to be given to each."""

    def __init__(self, batches, class_weight, devices):
        super().__init__()
        self.batches, self.class_weight, self.devices = batches, class_weight, devices

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        count = min(self.batches.batch_size, len(self.batches.split) - index * self.batches.batch_size)
        if count % self.devices.count:
            return tuple(placement.whole(part) for part in weighed(self.batches[index], self.class_weight))
        share = self.batches.share(index, self.devices.process, self.devices.processes)
        return weighed(share, self.class_weight)
