"""TensorFlow's converter: float32 and dynamic-range files. The only file of this stage that imports TensorFlow.

On another backend it runs in a child process on a saved copy of the model.
"""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_vision.keras_internals.graph import read_graph, scoring_step
from keras_vision.recipe import InputError, first_line


def convert_float(model: keras.Model, *, dynamic: bool = False, logits: bool = False) -> bytes:
    """A float32 or dynamic-range file of a model, on any backend.

    Args:
        model: A model with one input, from images to logits or probabilities.
        dynamic: Whether weights are stored in 8 bits; the arithmetic is float.
        logits: Whether to leave out the final softmax.

    Returns:
        The file's bytes: batch size 1, built-in operators only.

    Raises:
        InputError: If the converter cannot express the model; the message has its reason.
    """
    if keras.backend.backend() == "tensorflow":
        return _convert(model, dynamic, logits)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "model.keras", Path(folder) / "model.tflite"
        model.save(source)
        flags = [*(["--dynamic"] if dynamic else []), *(["--logits"] if logits else [])]
        command = [sys.executable, "-m", __name__, str(source), str(target), *flags]
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode or not target.exists():
            lines = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
            raise InputError(f"TensorFlow's converter failed on {model.name!r}: {lines[-1]}")
        return target.read_bytes()


def _convert(model, dynamic, logits):
    import tensorflow as tf

    # A batch of one: dynamic shapes would add SHAPE, STRIDED_SLICE and PACK, which phones' accelerators refuse.
    images = keras.Input(batch_shape=(1, *model.input_shape[1:]), name="images")
    scores = model(images, training=False)
    if not logits and scoring_step(read_graph(model)) is None:
        # A single logit is that of the second of two classes.
        scores = keras.layers.Activation("softmax" if scores.shape[-1] > 1 else "sigmoid", name="scores")(scores)
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(images, scores, name=model.name))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if dynamic:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # It prints the path of a temporary copy.
            return converter.convert()
    except Exception as error:  # RuntimeError, ConverterError, ValueError and others, by the part that fails.
        raise InputError(f"TensorFlow's converter failed on {model.name!r}: {first_line(error)}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """The child process; its arguments are MODEL.keras FILE.tflite [--dynamic] [--logits]."""
    # Imported to register layers that the saved model may have.
    from keras_vision.quantization import lowering, quantized_layers  # noqa: F401

    source, target, *flags = sys.argv[1:] if argv is None else argv
    model = keras.saving.load_model(source, compile=False)
    Path(target).write_bytes(_convert(model, "--dynamic" in flags, "--logits" in flags))
    return 0


if __name__ == "__main__":
    sys.exit(main())
