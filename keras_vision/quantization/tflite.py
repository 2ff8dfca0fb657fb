"""TensorFlow's converter, for float files of layers that `float_file` does not know.

On another backend it runs in a child process on a saved copy of the model, so the caller sees one function. The child
stays for a minute, because importing TensorFlow takes longer than most conversions.
"""

import atexit
import contextlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from keras_vision.keras_internals.graph import is_graph, read_graph, scoring_step
from keras_vision.keras_internals.nodes import all_layers
from keras_vision.quantization.plain_model import plain_model
from keras_vision.recipe import InputError, first_line

IDLE_SECONDS = 60
NEEDED = (
    "Only TensorFlow's converter knows how to write float32 and dynamic files of this model, and it is not installed: "
    "pip install tensorflow."
)


def is_installed() -> bool:
    """Whether TensorFlow's converter is installed."""
    return importlib.util.find_spec("tensorflow") is not None


def convert_float(model: keras.Model, *, dynamic: bool = False, adds_scores: bool = False) -> bytes:
    """A float32 or dynamic-range file of a model, on any backend.

    Args:
        model: A `keras.Model` with one input, from images to logits or probabilities.
        dynamic: Whether weights are stored in 8 bits and computed with in float.
        adds_scores: Whether the file ends in a softmax, or a sigmoid for one output, that the model does not have.

    Returns:
        The file's bytes: batch size 1, only built-in operators.

    Raises:
        InputError: If the converter is not installed or cannot express the model, with its reason.
    """
    if keras.backend.backend() == "tensorflow":
        return _convert(model, dynamic, adds_scores)
    if not is_installed():
        raise InputError(NEEDED)
    content, reason = _in_child(model, dynamic, adds_scores)
    if content is None:
        # Somebody's own layers and functions are not known there; what they compute may be.
        with contextlib.suppress(InputError):
            content, _ = _in_child(plain_model(model), dynamic, adds_scores)
    if content is None:
        raise InputError(f"TensorFlow's converter failed on {model.name!r}: {reason}{_advice(model)}")
    return content


def _in_child(model, dynamic, adds_scores):
    """`(bytes of the file, None)`, or `(None, reason)`."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.keras", Path(folder) / "target.tflite"
        try:
            model.save(source)
        except Exception as error:  # Layers of users raise anything where they cannot be saved.
            return None, f"it cannot be saved: {first_line(error)}"
        request = {"source": str(source), "target": str(target), "dynamic": dynamic, "adds_scores": adds_scores}
        reason = _CONVERTER.ask(request)
        if reason is not None or not target.exists():
            return None, reason or "it wrote nothing"
        return target.read_bytes(), None


def _advice(model):
    """What to do about layers of classes that only the caller's process knows."""
    own = {
        type(layer) for layer in all_layers(model) if not type(layer).__module__.startswith(("keras.", "keras_vision."))
    }
    if not own:
        return ""
    names = ", ".join(sorted(kind.__name__ for kind in own))
    return f" It runs in a process of its own, which does not know {names}: use KERAS_BACKEND=tensorflow for this file."


class Child:
    """A child process with a backend of its own, started when it is needed and again when it has ended.

    Args:
        module: What it runs; that calls `serve`.
        backend: Its Keras backend.
    """

    def __init__(self, module: str, backend: str) -> None:
        self.module, self.backend = module, backend
        self.lock = threading.Lock()
        self.process: Any = None
        self.errors: Any = None

    def ask(self, request: dict[str, Any]) -> str | None:
        """Has a model converted; returns the reason where that fails, else None."""
        with self.lock:
            try:
                for _ in range(2):  # It may end by itself between two requests.
                    process = self._running()
                    with contextlib.suppress(OSError):  # A broken pipe, by another name on Windows.
                        process.stdin.write(json.dumps(request) + "\n")
                        process.stdin.flush()
                        if answer := process.stdout.readline():
                            return json.loads(answer)["reason"]
                    reason = self.close()
                return reason or f"its process ended with status {process.returncode}"
            except BaseException:
                # An answer that comes later must not be taken for that of the next request.
                self.close(kill=True)
                raise

    def _running(self):
        if self.process is None or self.process.poll() is not None:
            self.close()
            environment = {
                **os.environ,
                "KERAS_BACKEND": self.backend,
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "CUDA_VISIBLE_DEVICES": "-1",  # TensorFlow would take all of an accelerator's memory.
            }
            self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the process)
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                text=True,
            )
        return self.process

    def close(self, *, kill: bool = False) -> str:
        """Ends the process; returns the last line that it wrote to standard error."""
        if self.process is None:
            return ""
        if kill:
            self.process.kill()
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
        self.process = None
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        self.errors.close()
        return lines[-1] if lines else ""


_CONVERTER: Any = Child("keras_vision.quantization.tflite", "tensorflow")
# Killed, because a forked process may hold its standard input open.
atexit.register(_CONVERTER.close, kill=True)


def ends_in_scores(model: keras.Model) -> bool:
    """Whether a model's outputs are probabilities: it ends in a softmax or a sigmoid, however that is written."""
    try:
        return scoring_step(read_graph(plain_model(model))) is not None
    except InputError:  # A layer without an 8-bit operator.
        return is_graph(model) and scoring_step(read_graph(model)) is not None


def _convert(model, dynamic, adds_scores):
    import tensorflow as tf

    # A batch of one: dynamic shapes would add SHAPE, STRIDED_SLICE and PACK, which phones' accelerators refuse.
    images = keras.Input(batch_shape=(1, *model.input_shape[1:]), name="images")
    scores: Any = model(images, training=False)
    if adds_scores:
        # A single logit is that of one class against its absence.
        scores = keras.layers.Activation("softmax" if scores.shape[-1] > 1 else "sigmoid", name="scores")(scores)
    converter: Any = tf.lite.TFLiteConverter.from_keras_model(keras.Model(images, scores, name=model.name))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if dynamic:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # Where it put a copy that it deletes afterwards.
            return converter.convert()
    except Exception as error:  # The converter raises what its parts raise: RuntimeError, ConverterError, ValueError.
        raise InputError(f"TensorFlow's converter failed on {model.name!r}: {first_line(error)}") from error


def main() -> int:
    """The child process."""
    return serve(_convert_file)


def serve(function: Callable[..., str | None]) -> int:
    """What a child process does: a request per line on standard input, the answer of each on standard output.

    Args:
        function: Takes a request's values by name, and returns the reason where it fails, else None.
    """
    # Their layers are registered when they are imported, and a saved model may have them.
    from keras_vision.quantization import lowering, plain_calls, quantized_layers  # noqa: F401

    # Whatever native code writes to standard output must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    idle = _after_idling()
    for line in sys.stdin:
        idle.cancel()
        print(json.dumps({"reason": function(**json.loads(line))}), file=answers, flush=True)
        idle = _after_idling()
    idle.cancel()
    return 0


def _after_idling():
    timer = threading.Timer(IDLE_SECONDS, os._exit, (0,))
    timer.daemon = True
    timer.start()
    return timer


def _convert_file(source, target, dynamic, adds_scores):
    """Converts a saved model; returns the reason where that fails, else None."""
    try:
        model: Any = keras.saving.load_model(source, compile=False)
        Path(target).write_bytes(_convert(model, dynamic, adds_scores))
    except Exception as error:  # Said by the parent; this process goes on.
        return reason_of(error.__cause__ or error)
    finally:
        keras.backend.clear_session()
    return None


def reason_of(error: BaseException) -> str:
    """An exception's message without the model's configuration, in which Keras wraps the real cause."""
    message = str(error).rpartition("Exception encountered: ")[2].partition(" Full object config")[0]
    return message.strip().partition("\n")[0] or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
