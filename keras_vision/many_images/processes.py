"""Divides shards among processes of this machine, and begins those again whose process ended."""

import collections
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from keras_vision.files.cores import cores
from keras_vision.many_images.listing import Shard
from keras_vision.many_images.plan import Plan
from keras_vision.many_images.progress import Progress
from keras_vision.recipe import InputError

ATTEMPTS = 3  # A shard whose process ends this often is left out, and the command fails.
TICK = 0.25
# A process that says nothing for so long hangs: it reports after every image or so.
SILENT_SECONDS = 600.0
_WORKER = "keras_vision.many_images.worker"


class _Worker:
    """A process, the shard that it has, and a thread that hears its answers."""

    def __init__(self, plan: Plan, decoders: int, messages: queue.Queue):
        # The same modules as in this process, and none from the working directory.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process: Any = subprocess.Popen(
            [sys.executable, "-P", "-m", _WORKER],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Decoders print about each damaged image; why it is not read is in the answers.
            stderr=subprocess.DEVNULL,
        )
        self.shard: Shard | None = None
        self.done, self.heard = 0, time.monotonic()
        threading.Thread(target=self._listen, args=(messages,), daemon=True).start()
        self._send({"plan": asdict(plan), "decoders": decoders})

    def _listen(self, messages):
        try:
            for line in self.process.stdout:
                messages.put((self, json.loads(line)))
        except ValueError:
            pass  # Half a line: it was killed while it wrote.
        finally:
            messages.put((self, None))

    def _send(self, message):
        with contextlib.suppress(OSError):  # A broken pipe: it has ended, which is heard, too.
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def give(self, shard: Shard) -> None:
        self.shard, self.done, self.heard = shard, 0, time.monotonic()
        self._send(asdict(shard))

    def dismiss(self) -> None:
        """Lets it end; it has no shard."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                stream.close()


def predict(plan: Plan, shards: Iterable[Shard], processes: int, progress: Progress) -> None:
    """Predicts shards in several processes.

    Raises:
        InputError: If a shard cannot be written, the model cannot be run, or a shard's process ended `ATTEMPTS` times.
            Other shards are finished in the last case.
    """
    waiting, messages, workers = collections.deque(shards), queue.Queue(), []
    ended, failed = collections.Counter(), []
    processes = max(1, min(processes, len(waiting)))
    decoders = max(1, cores() // processes)
    try:
        while waiting or any(worker.shard for worker in workers):
            while waiting and sum(worker.shard is not None for worker in workers) < processes:
                workers.append(_Worker(plan, decoders, messages))
                workers[-1].give(waiting.popleft())
            with contextlib.suppress(queue.Empty):
                worker, message = messages.get(timeout=TICK)
                if message is not None:
                    _hear(worker, message, waiting, progress)
                else:
                    worker.kill()
                    workers.remove(worker)
                    _begin_again(plan, worker, waiting, ended, failed, progress)
            _end_silent(workers, progress)
            progress.show()
    finally:
        for worker in workers:
            worker.kill()
    if failed:
        names = ", ".join(plan.part(shard.index).name for shard in failed)
        raise InputError(
            f"Not written: {names}. A process ended {ATTEMPTS} times there, perhaps at one of the images. "
            "The other shards are there; the same command tries again."
        )


def _hear(worker, message, waiting, progress):
    """Acts on what a process says."""
    worker.heard = time.monotonic()
    if "done" in message:
        worker.done = message["done"]
        progress.update(worker.shard.index, worker.done)
    elif "receipt" in message:
        progress.finish(worker.shard.index, message["receipt"]["images"])
        worker.shard = None
        if waiting:
            worker.give(waiting.popleft())
        else:
            worker.dismiss()
    elif message["error"]:
        raise InputError(message["error"])
    else:
        raise RuntimeError(f"A process failed:\n{message['traceback']}")


def _begin_again(plan, worker, waiting, ended, failed, progress):
    """Says that a process ended in the midst of a shard, and puts the shard back; a dismissed process has none."""
    if worker.shard is None:
        return
    shard, status = worker.shard, worker.process.returncode
    ended[shard.index] += 1
    again = ended[shard.index] < ATTEMPTS
    (waiting if again else failed).append(shard)
    progress.update(shard.index, 0)
    progress.say(
        f"A process {_cause(status)} after {worker.done:,} of the {shard.count:,} images of "
        f"{plan.part(shard.index).name}; {'the shard begins again' if again else 'the shard is left out'}."
    )


def _cause(status):
    if status >= 0:
        return f"ended with status {status}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-status).name}"
    return f"was ended by signal {-status}"


def _end_silent(workers, progress):
    """Ends processes that hang; their shards begin again as if they had ended by themselves."""
    for worker in workers:
        if worker.shard and time.monotonic() - worker.heard > SILENT_SECONDS:
            worker.heard = time.monotonic()
            progress.say(f"A process said nothing for {SILENT_SECONDS:g} s and is ended.")
            worker.process.kill()
