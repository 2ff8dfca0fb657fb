"""One function from a Keras model to a .tflite file, on every backend and for every scheme."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_vision.keras_internals.graph import ends_in_sigmoids, is_graph, read_graph, scoring_step
from keras_vision.keras_internals.nodes import first_input
from keras_vision.quantization import tflite
from keras_vision.quantization.auditing import audit
from keras_vision.quantization.checking import check_float_file, check_integer_file
from keras_vision.quantization.float_file import write_float_file
from keras_vision.quantization.folding import fold
from keras_vision.quantization.images import as_images, example_images, from_bytes, input_range_of, require_shape
from keras_vision.quantization.integer import write_integer_file
from keras_vision.quantization.observed_ranges import output_range, set_ranges, taken_range
from keras_vision.quantization.plain_model import takes_pixels, with_size
from keras_vision.quantization.quantized_layers import is_unset, quantizers
from keras_vision.quantization.ranges import SOFTMAX_RANGE, as_probabilities, parameters
from keras_vision.quantization.rewriting import with_fake_quantization
from keras_vision.quantization.tflite import ends_in_scores
from keras_vision.recipe import IO_TYPES, SCHEMES, InputError

INTEGER_SCHEMES = ("int8", "qat")


def convert(
    model: keras.Model,
    scheme: str,
    representative_images: Any = None,
    io: str = "uint8",
    *,
    input_range: tuple[float, float] | None = None,
    logits: bool = False,
) -> bytes:
    """The .tflite file of a model, after it was run and compared with the model.

    Args:
        model: From images, shape `(N, H, W, C)`, to logits or probabilities; for `qat` a model from
            `with_fake_quantization` whose ranges are set.
        scheme: `float32`; `dynamic`, 8-bit weights and float activations; `int8`, all integers, from the float model;
            `qat`, all integers, from the fake-quantized model.
        representative_images: Training images as the model takes them, shape `(N, H, W, C)`, or a generator of them.
            `int8` needs them, to set its ranges; other files are checked with them, else with drawn patterns. For a
            model that takes any size, they give the file's size.
        io: Type of input and output of the two integer schemes: `uint8`, `int8` or `float32`.
        input_range: What the model takes for black and white. Needed for `int8` where neither the model, which may
            scale pixels itself, nor float images in `[0, 1]`, `[-1, 1]` or `[0, 255]` say it.
        logits: Whether the file ends in logits instead of probabilities.

    Returns:
        The file's bytes: batch size 1, built-in operators only; an integer file has passed its audit.

    Raises:
        InputError: If the scheme is unknown, cannot express a layer, lacks images, a range or a size, or if the
            finished file does not compute what the model does.
    """
    if scheme not in SCHEMES:
        raise InputError(f"A scheme is one of {', '.join(SCHEMES)}. Received: {scheme!r}.")
    if io not in IO_TYPES:
        raise InputError(f"io is one of {', '.join(IO_TYPES)}. Received: {io!r}.")
    images = None if representative_images is None else as_images(representative_images)
    if scheme == "qat":
        return _from_quantized(model, images, io, logits)
    if images is not None:
        model = with_size(model, images.shape[1:])
        require_shape(model, images)
    if scheme != "int8":
        return _float_file(model, images, scheme == "dynamic", logits)
    if images is None:
        raise InputError("The scheme int8 needs representative images from the training split. Received: none.")
    found = input_range_of(model, images, input_range)
    quantized = with_fake_quantization(model, input_range=found)
    set_ranges(quantized, model, images, logits=logits)
    return _integer_file(quantized, images, found, io, logits, model)


def _from_quantized(quantized, images, io, logits):
    if not quantizers(quantized):
        raise InputError("The scheme qat needs a model from with_fake_quantization. Received: one without ranges.")
    unset = [mark.name for mark in quantizers(quantized) if is_unset(mark)]
    if unset:
        raise InputError(f"The ranges of {', '.join(unset[:3])} are unset: call set_ranges or train the model first.")
    taken = taken_range(quantized)
    if images is None:
        images = from_bytes(example_images(quantized.input_shape[1:]), taken)
    require_shape(quantized, images)
    return _integer_file(quantized, images, taken, io, logits, None)


def _integer_file(quantized, images, input_range, io, logits, model):
    written = write_integer_file(quantized, io=io, logits=logits, description=quantized.name)
    audit(written.content).require_full_integer()
    check_integer_file(written, quantized, images, input_range, model)
    return written.content


def _float_file(model, images, dynamic, logits):
    if is_graph(model) and len(model.inputs) == 1 and None in model.input_shape[1:]:
        raise InputError(
            f"The model {model.name!r} takes images of any size, {model.input_shape[1:]}. Pass representative images "
            "of the size that the file shall take."
        )
    adds_scores = not logits and not ends_in_scores(model)
    if images is None:
        images = example_images(model.input_shape[1:])
        images = images if takes_pixels(model) else from_bytes(images, (0.0, 1.0))
    options = {"dynamic": dynamic, "adds_scores": adds_scores}
    content = None
    try:
        content = write_float_file(model, **options)
        check_float_file(content, model, images, **options)
    except InputError as error:
        # TensorFlow's converter knows more layers.
        if not tflite.is_installed():
            if content is not None:
                raise
            raise InputError(tflite.NEEDED) from error
        content = tflite.convert_float(model, **options)
        check_float_file(content, model, images, **options)
    return content


@dataclass(frozen=True)
class SimulationAgreement:
    """Agreement of an integer file with its fake-quantized model.

    Attributes:
        same_class: Share of the images with the same predicted class, or with the same labels where a model ends in
            several sigmoids.
        within_a_step: Share of all scores that differ by less than 1.5 steps.
    """

    same_class: float
    within_a_step: float


def simulation_agreement(
    quantized: keras.Model, images: Any, scores: np.ndarray, *, logits: bool = False
) -> SimulationAgreement:
    """Compares an integer file's scores with those of the fake-quantized model that it was written from.

    Args:
        quantized: The fake-quantized model.
        images: Shape `(N, H, W, C)`.
        scores: The file's scores, shape `(N, K)`.
        logits: Whether the file ends in logits.
    """
    folded: Any = fold(quantized)
    # Batch by batch: the images may not fit in memory.
    batches = (np.asarray(images[start : start + 256], "float32") for start in range(0, len(images), 256))
    simulated = np.concatenate([folded.predict(batch, batch_size=256, verbose=0) for batch in batches])
    step = float(output_range(quantized)[0])
    graph = read_graph(quantized)
    if not logits and scoring_step(graph) is None:
        simulated = as_probabilities(simulated)
        step = float(parameters(*SOFTMAX_RANGE)[0])
    # An 8-bit score ends at 255/256.
    rounded = np.minimum(np.round(simulated / step) * step, scores.max())
    if ends_in_sigmoids(graph, scores.shape[-1]):
        same = ((simulated >= 0.5) == (scores >= 0.5)).all(axis=-1)
    else:
        same = simulated.argmax(axis=-1) == scores.argmax(axis=-1)
    return SimulationAgreement(
        same_class=float(np.mean(same)),
        within_a_step=float(np.mean(np.abs(scores - rounded) < 1.5 * step)),
    )


def up_to_logits(model: keras.Model) -> keras.Model:
    """A model without the softmax or sigmoid at its end; its layers are the same.

    Args:
        model: A functional model, flat, whose last activation is a layer of its own.
    """
    step = scoring_step(read_graph(model))
    return model if step is None else keras.Model(model.input, first_input(step.layer), name=model.name)


def representative(images: Any, labels: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """A random sample of images to set ranges from: classes in proportion, at least one image of each.

    Args:
        images: Training images, shape `(N, ...)`.
        labels: Class of each image, int array, shape `(N,)`.
        count: Approximate number of images.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    chosen = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        chosen.append(rows[: max(1, round(count * len(rows) / len(labels)))])
    return images[np.sort(np.concatenate(chosen))]
