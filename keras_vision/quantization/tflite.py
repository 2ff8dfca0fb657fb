"""TensorFlow's converter: float32 and dynamic-range files. The only file that imports TensorFlow.

On another backend it runs in a child process on a saved copy of the model, so the caller sees one function.
"""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import keras

from keras_vision.keras_internals.graph import read_graph, scoring_step
from keras_vision.recipe import InputError, first_line


def convert_float(model, *, dynamic=False, logits=False):
    """A float32 or dynamic-range file of a model, on any backend.

    Args:
        model: A `keras.Model` with one input, from images to logits or probabilities.
        dynamic: Whether weights are stored in 8 bits and computed with in float.
        logits: Whether to leave out the final softmax.

    Returns:
        The file's bytes: batch size 1, built-in operators alone.

    Raises:
        InputError: If the converter cannot express the model, with its reason.
    """
    if keras.backend.backend() == "tensorflow":
        return _convert(model, dynamic, logits)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.keras", Path(folder) / "target.tflite"
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
        # A single logit is that of one class against its absence.
        scores = keras.layers.Activation("softmax" if scores.shape[-1] > 1 else "sigmoid", name="scores")(scores)
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(images, scores, name=model.name))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if dynamic:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # Where it put a copy that it deletes afterwards.
            return converter.convert()
    except Exception as error:  # The converter raises what its parts raise: RuntimeError, ConverterError, ValueError.
        raise InputError(f"TensorFlow's converter failed on {model.name!r}: {first_line(error)}") from error


def main(argv=None):
    """The child process; its arguments are MODEL.keras FILE.tflite [--dynamic] [--logits]."""
    # Their layers are registered when they are imported, and a saved model may have them.
    from keras_vision.quantization import lowering, quantized_layers  # noqa: F401

    source, target, *flags = sys.argv[1:] if argv is None else argv
    model = keras.saving.load_model(source, compile=False)
    Path(target).write_bytes(_convert(model, "--dynamic" in flags, "--logits" in flags))
    return 0


if __name__ == "__main__":
    sys.exit(main())
