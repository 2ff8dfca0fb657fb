"""One function from a Keras model to a .tflite file, whatever the backend and the scheme."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, softmax

from keras_vision.keras_internals.graph import read_graph, scoring_step
from keras_vision.quantization.auditing import audit
from keras_vision.quantization.folding import fold
from keras_vision.quantization.integer import write_integer_file
from keras_vision.quantization.observed_ranges import output_range, set_ranges
from keras_vision.quantization.quantized_layers import is_unset, quantizers
from keras_vision.quantization.ranges import SOFTMAX_RANGE, parameters
from keras_vision.quantization.rewriting import with_fake_quantization
from keras_vision.quantization.tflite import convert_float
from keras_vision.recipe import InputError

SCHEMES = ("float32", "dynamic", "int8", "qat")
INTEGER_SCHEMES = ("int8", "qat")
IO_TYPES = ("uint8", "int8", "float32")


def convert(model, scheme, representative_images=None, io="uint8", *, logits=False):
    """The .tflite file of a model.

    Args:
        model: A `keras.Model` from images in `[0, 255]`, shape `(N, H, W, C)`, to logits or probabilities; for `qat`
            one from `with_fake_quantization`, trained.
        scheme: `float32`; `dynamic`, 8-bit weights and float activations; `int8`, all integers, from the model as it
            is; `qat`, all integers, from a model trained for it.
        representative_images: Training images that `int8` takes its ranges from, shape `(N, H, W, C)`.
        io: Type of input and output of the two integer schemes: `uint8`, `int8` or `float32`.
        logits: Whether the file ends in logits instead of probabilities.

    Returns:
        The file's bytes: batch size 1, built-in operators alone; an integer file has passed its audit.

    Raises:
        InputError: If the scheme is unknown, lacks what it needs, or cannot express a layer.
    """
    if scheme not in SCHEMES:
        raise InputError(f"A scheme is one of {', '.join(SCHEMES)}. Received: {scheme!r}.")
    if io not in IO_TYPES:
        raise InputError(f"io is one of {', '.join(IO_TYPES)}. Received: {io!r}.")
    if scheme not in INTEGER_SCHEMES:
        return convert_float(model, dynamic=scheme == "dynamic", logits=logits)
    if scheme == "int8":
        if representative_images is None or len(representative_images) == 0:
            raise InputError("The scheme int8 needs representative images from the training split. Received: none.")
        quantized = with_fake_quantization(model)
        set_ranges(quantized, model, representative_images, logits=logits)
    else:
        quantized = model
        if not quantizers(model):
            raise InputError("The scheme qat needs a model from with_fake_quantization. Received: one without ranges.")
        unset = [mark.name for mark in quantizers(model) if is_unset(mark)]
        if unset:
            raise InputError(
                f"The ranges of {', '.join(unset[:3])} are unset: call set_ranges or train the model first."
            )
    content = write_integer_file(quantized, io=io, logits=logits, description=model.name)
    audit(content).require_full_integer()
    return content


@dataclass(frozen=True)
class SimulationAgreement:
    """How far an integer file computes what its network with fake quantization does.

    Attributes:
        same_class: Share of the images with the same predicted class.
        within_a_step: Share of all scores that differ by less than one step and a half.
    """

    same_class: float
    within_a_step: float


def simulation_agreement(quantized, images, scores, *, logits=False):
    """Compares an integer file's scores with those of the fake-quantized model that it was written from.

    Args:
        quantized: The fake-quantized `keras.Model`.
        images: Shape `(N, H, W, C)`.
        scores: The file's scores, shape `(N, K)`.
        logits: Whether the file ends in logits.

    Returns:
        A `SimulationAgreement`.
    """
    folded = fold(quantized)
    # A batch at a time: the images may be more than memory holds.
    batches = (np.asarray(images[start : start + 256], "float32") for start in range(0, len(images), 256))
    simulated = np.concatenate([folded.predict(batch, batch_size=256, verbose=0) for batch in batches])
    step = float(output_range(quantized)[0])
    if not logits and scoring_step(read_graph(quantized)) is None:
        simulated = softmax(simulated, axis=-1) if simulated.shape[-1] > 1 else expit(simulated)
        step = float(parameters(*SOFTMAX_RANGE)[0])
    # An 8-bit score ends at 255/256.
    rounded = np.minimum(np.round(simulated / step) * step, scores.max())
    return SimulationAgreement(
        same_class=float(np.mean(simulated.argmax(axis=-1) == scores.argmax(axis=-1))),
        within_a_step=float(np.mean(np.abs(scores - rounded) < 1.5 * step)),
    )


def representative(images, labels, count, seed=0):
    """Images to take ranges from: classes in proportion, at least one of each, drawn from a seed.

    Args:
        images: Training images, shape `(N, ...)`.
        labels: Int array, shape `(N,)`.
        count: About how many.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    chosen = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        chosen.append(rows[: max(1, round(count * len(rows) / len(labels)))])
    return images[np.sort(np.concatenate(chosen))]
