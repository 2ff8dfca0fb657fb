"""Runs a finished file with LiteRT against the model that it was made from, before it is handed out.

An integer file is checked operator by operator: each must make of the file's own tensors what the fake-quantized model
makes of them, so that no mistake in rewriting, folding or writing can hide behind the errors of rounding.
"""

import collections
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_vision.keras_internals.graph import read_graph
from keras_vision.keras_internals.nodes import all_layers
from keras_vision.quantization.images import as_bytes, from_bytes
from keras_vision.quantization.integer import IntegerFile
from keras_vision.quantization.plain_model import traced_plain_model
from keras_vision.quantization.quantized_layers import FakeQuantize
from keras_vision.quantization.ranges import HIGHEST, LOWEST, SOFTMAX_RANGE, as_probabilities, parameters
from keras_vision.quantization.runtime import Runner, tensor_errors
from keras_vision.recipe import InputError, first_line

# A copy by other layers, without rounding: largest difference as a share of the largest value.
COPY_ERROR = 1e-3
HALF_PRECISION_ERROR = 0.05
# An operator of an integer file: largest and mean distance, in steps, from what rounding to the nearest step explains.
# Kernels of LiteRT that read tables or multiply by fractions in integers are off by up to two steps, seldom; rounding
# down instead would be off by .125 on average.
LARGEST_STEPS = 2.5
MEAN_STEPS = 0.05
# A whole file: root mean square of the difference of scores, as a share of their spread over images. A right 8-bit file
# has .01 to .2; one with a wrong range or a wrong operator more than 1.
FILE_ERROR = 0.5
FLOAT_ERROR = 1e-3
FAR = 0.25  # Error of a tensor, as a share of its values.
SCORE_STEP = float(parameters(*SOFTMAX_RANGE)[0])
TRACED_IMAGES, SCORED_IMAGES = 4, 32
REPORT = "This is a fault of keras_vision; please report it with the model"


def some(images: Any, count: int) -> np.ndarray:
    """At most `count` images, evenly spaced."""
    places = np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).astype(int))
    return np.asarray(images[places])


# The copy without rounding.


def check_copy(model: keras.Model, images: np.ndarray, found: np.ndarray) -> None:
    """Compares the outputs of a model with those of its copy by plain layers without rounding.

    Args:
        images: As the model takes them.
        found: The copy's outputs.

    Raises:
        InputError: With the first layer that differs.
    """
    expected = _outputs(model, images)
    if not np.isfinite(expected).all():
        raise InputError(f"The model {model.name!r} gives values that are not finite on the representative images.")
    half = any(layer.compute_dtype not in ("float32", "float64") for layer in all_layers(model))
    bound = HALF_PRECISION_ERROR if half else COPY_ERROR
    if _share(found, expected) > bound:
        where, error = _first_difference(model, images[:2], bound)
        raise InputError(
            f"The layer {where!r} was copied wrongly: its values differ by {error:.1%} of the largest. {REPORT}. The "
            "schemes float32 and dynamic can still express the model."
        )


def _outputs(model, images):
    try:
        return np.asarray(model.predict_on_batch(images), np.float64)
    except Exception as error:  # Whatever the layers of a model raise on this backend.
        raise InputError(f"The model {model.name!r} cannot be run on the images: {first_line(error)}") from error


def _share(found, expected):
    """Largest difference as a share of the largest value; 1 where the shapes differ."""
    found = np.asarray(found, np.float64)
    if found.shape != expected.shape:
        return 1.0
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-6))


def _first_difference(model, images, bound):
    """Path and error of the first step of which the plain model makes something else."""
    plain, made = traced_plain_model(model)
    expected = {}
    graph = read_graph(model)

    def note(step, value):
        expected[step.output] = np.asarray(keras.ops.convert_to_numpy(value), np.float64)
        return value

    graph.run(keras.ops.convert_to_tensor(images), note)
    found = keras.Model(plain.input, [tensor for _, _, tensor in made]).predict_on_batch(images)
    for (number, path, _), values in zip(made, found, strict=True):
        error = _share(values, expected[number])
        if error > bound:
            return path, error
    return made[-1][1], 1.0


# Integer files.


def check_integer_file(
    written: IntegerFile,
    quantized: keras.Model,
    images: np.ndarray,
    input_range: tuple[float, float],
    model: keras.Model | None = None,
) -> None:
    """Compares an integer file with the model that it was written from, and with the float model.

    Args:
        written: The file.
        quantized: The fake-quantized model.
        images: As the models take them.
        input_range: What the models take for black and white.
        model: The float model; None where it is not at hand.

    Raises:
        InputError: If LiteRT refuses the file, or it differs by more than the bounds; it names the first layer that
            does.
    """
    runner, traced = Runner(written.content), Runner(written.content, keep_tensors=True)
    if runner.input_type == "float32":
        runner.input_range = traced.input_range = input_range
    pixels = as_bytes(some(images, TRACED_IMAGES), input_range)
    last, step = _check_operators(traced, written, quantized, pixels, from_bytes(pixels, input_range))
    _check_end(runner, last, step, pixels, written.adds_scores)
    if model is not None:
        pixels = as_bytes(some(images, SCORED_IMAGES), input_range)
        _check_scores(runner, written, model, pixels, from_bytes(pixels, input_range), step)


def _check_operators(runner, written, quantized, pixels, images):
    """Checks each operator; returns the file's values of the last tensor, and its step."""
    expectation, keys, last = _expectation(quantized, written)
    found = collections.defaultdict(list)
    details = {item["index"]: item for item in runner.interpreter.get_tensor_details()}
    numbers = {last, *(number for _, number in keys)}
    for image in pixels:
        runner.set_image(image)
        runner.interpreter.invoke()
        for number in numbers:
            found[number].append(runner.values_of(details[number]))
    values = {number: np.concatenate(parts) for number, parts in found.items()}
    tensors = [values[number] for _, number in keys]
    for (name, _), tensor, shape in zip(keys, tensors, expectation.output_shape, strict=True):
        if tensor.shape[1:] != shape[1:]:
            raise InputError(f"The file's operator {name!r} makes {tensor.shape[1:]} instead of {shape[1:]}. {REPORT}.")
    expected = expectation.predict_on_batch([np.asarray(images, "float32"), *tensors])
    for (name, number), mine, theirs in zip(keys, expected, tensors, strict=True):
        step, zero_point = details[number]["quantization"]
        ends = ((end - zero_point) * step for end in (LOWEST, HIGHEST))
        exact = np.clip(np.asarray(mine, np.float64).reshape(theirs.shape), *ends)
        off = np.maximum(np.abs(exact - theirs) / step - 0.5, 0)
        # The mean of a few values says less.
        if not (off.max() <= LARGEST_STEPS and off.mean() <= MEAN_STEPS + 0.5 / np.sqrt(off.size)):
            raise InputError(
                f"The file's operator {name!r} computes something else than the model: its values are off by up to "
                f"{off.max():.1f} steps more than rounding explains, by {off.mean():.2f} on average. {REPORT}. The "
                "schemes float32 and dynamic can still express the model."
            )
    return values[last], float(details[last]["quantization"][0])


def _expectation(quantized, written):
    """A model from the images and the file's tensors to what each tensor should be before it is rounded.

    Returns:
        The model, `(name, index in the file)` of each tensor, and the index of the last one.
    """

    def copied(layer):
        config = layer.get_config()
        return type(layer).from_config({**config, "simulate": False} if isinstance(layer, FakeQuantize) else config)

    clone: Any = keras.models.clone_model(quantized, clone_function=copied)
    clone.set_weights(quantized.get_weights())
    graph = read_graph(clone)
    inputs = [keras.Input(graph.input_shape)]
    outputs, keys = [], []
    counts: collections.Counter = collections.Counter()
    numbers: dict[int, Any] = {}

    def take(step, value):
        name = step.layer.name
        number = written.tensors.get((name, counts[name]))
        counts[name] += 1
        before = numbers.get(step.inputs[0]) if step.inputs else None
        numbers[step.output] = number if number is not None else before
        # A layer without a tensor of its own is fused into the next operator; averages are rounded by the next layer.
        if number is None or isinstance(step.layer, (layers.AveragePooling2D, layers.Resizing)):
            return value
        if number == before and any(number == known for _, known in keys):
            return value
        outputs.append(value)
        keys.append((name.removesuffix("_range"), number))
        inputs.append(keras.Input(value.shape[1:]))
        return inputs[-1]

    graph.run(inputs[0], take)
    return keras.Model(inputs, outputs), keys, numbers[graph.output]


def _check_end(runner, last, step, pixels, adds_scores):
    """Compares the scores with the last tensor, and a run with all of LiteRT's shortcuts with one without."""
    scores = runner(pixels)
    expected = as_probabilities(last) if adds_scores else last
    if expected.shape != scores.shape:
        raise InputError(f"The file's scores have shape {scores.shape} instead of {expected.shape}. {REPORT}.")
    off = np.abs(scores - expected) / (SCORE_STEP if adds_scores else step)
    if not off.max() <= LARGEST_STEPS:
        raise InputError(
            f"The file's scores differ by {off.max():.1f} steps from those of its last layer. {REPORT}. The schemes "
            "float32 and dynamic can still express the model."
        )


def _check_scores(runner, written, model, pixels, images, step):
    scores, expected = runner(pixels), _model_scores(model, images, written.adds_scores)
    error, spread = _error(scores, expected), _spread(expected)
    step = SCORE_STEP if written.adds_scores else step
    if error > max(FILE_ERROR * spread, LARGEST_STEPS * step):
        layer, share = _first_far(written.content, runner.input_range, model, pixels[:TRACED_IMAGES], images)
        raise InputError(
            f"The integer file's scores are off by {error:.3g}, while the model's own vary by {spread:.3g} over the "
            f"representative images; at most {FILE_ERROR:.0%} of that is allowed, or {LARGEST_STEPS:g} steps of "
            f"{step:.3g}. The first layer that is far off is {layer!r}, by {share:.0%} of its values. Fine-tune the "
            "model for integers (scheme qat), use representative images like those of its training, or write a float32 "
            "or dynamic file."
        )


def _first_far(content, input_range, model, pixels, images):
    """The first tensor of an integer file that is far from the float model's, and its error; else the furthest."""
    from keras_vision.quantization.observed_ranges import float_tensors

    expected = float_tensors(model, images[: len(pixels)])  # In the order of execution.
    errors = tensor_errors(content, pixels, expected, input_range=input_range)
    shares = {error.tensor: error.relative_error for error in errors}
    far = (name for name in expected if shares.get(name, 0) > FAR)
    layer = next(far, next(iter(shares), "none"))
    return layer, shares.get(layer, 0.0)


# Float files.


def check_float_file(
    content: bytes, model: keras.Model, images: np.ndarray, *, dynamic: bool, adds_scores: bool
) -> None:
    """Compares a float32 or dynamic file with its model.

    Args:
        images: As the model takes them.
        adds_scores: Whether the file ends in an operator for probabilities that the model does not have.

    Raises:
        InputError: If LiteRT refuses the file, or its scores differ by more than the bounds.
    """
    runner = Runner(content)
    images = some(images, TRACED_IMAGES).astype("float32")
    scores, expected = runner(images), _model_scores(model, images, adds_scores)
    largest, bound = float(np.abs(expected).max()), FLOAT_ERROR
    if model.compute_dtype not in ("float32", "float64"):
        bound = HALF_PRECISION_ERROR
    error = _error(scores, expected) if dynamic else float(np.abs(scores - expected).max())
    allowed = max(FILE_ERROR * _spread(expected), 0.05 * largest) if dynamic else bound * max(largest, 1e-6)
    if not error <= allowed:
        raise InputError(
            f"The {'dynamic' if dynamic else 'float32'} file of {model.name!r} does not compute what the model does: "
            f"its scores differ by {error:.3g}, and the largest score is {largest:.3g}."
        )


def _model_scores(model, images, adds_scores):
    """What a file of a model shall give for images: shape `(N, K)`."""
    images = np.asarray(images, "float32")
    outputs = np.concatenate([_outputs(model, images[start : start + 32]) for start in range(0, len(images), 32)])
    return as_probabilities(outputs) if adds_scores else outputs


def _error(found, expected):
    return float(np.sqrt(np.mean((found - expected) ** 2)))


def _spread(scores: np.ndarray) -> float:
    """Standard deviation over images, all scores together."""
    return float(np.sqrt(np.mean((scores - scores.mean(axis=0)) ** 2)))
