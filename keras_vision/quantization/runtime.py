"""Runs finished files with LiteRT: scores, feature maps, latency, and the error of each tensor."""

import contextlib
import functools
import hashlib
import statistics
import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from keras_vision.files import trial
from keras_vision.quantization.ranges import as_probabilities
from keras_vision.quantization.tflite_trial import KEEP_TENSORS
from keras_vision.quantization.verification import operator_name, unpack
from keras_vision.recipe import InputError, first_line

_TRIAL = trial.started("keras_vision.quantization.tflite_trial")
# By a file's SHA-256 and whether tensors are kept: why it cannot be run, or None.
_tried: dict[tuple[str, bool], str | None] = {}


class Runner:
    """A file that is ready to run, one image at a time.

    Args:
        content: Bytes of a .tflite file with one input and one output.
        threads: Threads of the interpreter.
        keep_tensors: Whether the tensors between the operators can be read after a run; slower.
        input_range: The input's values for the pixel values 0 and 255, numbers or arrays over the channels. None passes
            pixel values on unscaled: as floats, or as the bytes of an 8-bit input.
        where: Name of the file in error messages.

    Raises:
        InputError: If it is no TensorFlow Lite file, it is damaged, or LiteRT cannot run it.
    """

    def __init__(
        self,
        content: bytes,
        threads: int = 1,
        *,
        keep_tensors: bool = False,
        input_range: tuple[Any, Any] | None = None,
        where: str | PathLike = "The file",
    ):
        content = bytes(content)
        model = unpack(content, where)
        if len(model.subgraphs) != 1:
            raise InputError(f"{where} has {len(model.subgraphs)} subgraphs. Only files with one are supported.")
        if not len(model.subgraphs[0].inputs) or not len(model.subgraphs[0].outputs):
            raise InputError(f"{where} has no input or no output.")
        _try(content, where, keep_tensors)
        self.where, self._model = where, model
        self.input_range, self._keeps_tensors = input_range, keep_tensors
        self._lock = threading.Lock()  # An interpreter serves one thread at a time.
        with warnings.catch_warnings(), self._complaining():
            # LiteRT warns that keeping tensors is for debugging, which is its use here.
            warnings.filterwarnings("ignore", "Warning: Enabling `experimental_preserve", UserWarning)
            self.interpreter = Interpreter(
                model_content=content, num_threads=threads, experimental_preserve_all_tensors=keep_tensors
            )
            self.interpreter.allocate_tensors()
        self._input, self._output = self.interpreter.get_input_details()[0], self.interpreter.get_output_details()[0]

    @contextlib.contextmanager
    def _complaining(self):
        """Turns LiteRT's errors inside into a sentence."""
        try:
            yield
        except InputError:
            raise
        except (ValueError, RuntimeError, TypeError, MemoryError) as error:
            raise InputError(f"{self.where} cannot be run: {first_line(error)}") from error

    def complaint(self) -> str | None:
        """Why the file does not classify images one by one, a few words; None where it does."""
        inputs, outputs = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            return f"has {len(inputs)} inputs and {len(outputs)} outputs"
        shape, stated = tuple(map(int, inputs[0]["shape"])), tuple(map(int, inputs[0]["shape_signature"]))
        if len(shape) not in (4, 5) or shape[0] != 1 or -1 in stated[1:]:
            return f"takes inputs of shape {stated or shape}"
        scores = tuple(map(int, outputs[0]["shape"]))
        return None if len(scores) == 2 else f"has outputs of shape {scores}"

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of the images that the file takes, `(H, W, C)`."""
        return tuple(int(side) for side in self._input["shape"][1:])

    @property
    def num_classes(self) -> int:
        """Number of scores; a file with one score has two classes."""
        return int(self._output["shape"][-1])

    @property
    def input_type(self) -> str:
        """Type of the input, such as `uint8`."""
        return np.dtype(self._input["dtype"]).name

    @property
    def representable(self) -> tuple[float, float] | None:
        """The lowest and the highest real value of a quantized input; None for a float input."""
        scale, zero_point = self._input["quantization"]
        if not scale:
            return None
        limits = np.iinfo(self._input["dtype"])
        return float((limits.min - zero_point) * scale), float((limits.max - zero_point) * scale)

    @functools.cached_property
    def ends_in(self) -> str | None:
        """`SOFTMAX` or `LOGISTIC` if the scores are probabilities; None if they are logits."""
        names = [operator_name(self._model, item) for item in self._model.subgraphs[0].operators]
        last = next((name for name in reversed(names) if name not in ("QUANTIZE", "DEQUANTIZE", "RESHAPE")), None)
        return last if last in ("SOFTMAX", "LOGISTIC") else None

    def __call__(self, images: Any) -> np.ndarray:
        """Scores of images: probabilities or logits, whichever the file ends in.

        Args:
            images: In `[0, 255]`, shape `(N, H, W, C)`.

        Returns:
            Float32 array, shape `(N, K)`.
        """
        with self._lock:
            return np.array([self._run(image, self._output) for image in images])

    def probabilities(self, images: Any) -> np.ndarray:
        """Class probabilities of images, from a file that ends in probabilities or in logits.

        Args:
            images: In `[0, 255]`, shape `(N, H, W, C)`.

        Returns:
            Float64 array, shape `(N, K)`. A file with one score has two classes, and its score is the second's.
        """
        scores = np.asarray(self(images), np.float64)
        if self.ends_in is None:
            scores = as_probabilities(scores)
        return scores if self.num_classes > 1 else np.concatenate([1 - scores, scores], axis=-1)

    def set_image(self, image: Any) -> None:
        """Sets the input to an image with pixel values from 0 to 255, in the type and range that the file takes."""
        self.interpreter.set_tensor(self._input["index"], self.as_input(image)[np.newaxis])

    def as_input(self, pixels: Any) -> np.ndarray:
        """Pixel values from 0 to 255, shape `(..., C)`, in the type and range that the file takes."""
        kind = self._input["dtype"]
        if self.input_range is not None:
            low, high = (np.float32(end) for end in self.input_range)
            pixels = self._stored(low + np.asarray(pixels, np.float32) * ((high - low) / 255))
        elif kind == np.int8:
            pixels = np.asarray(pixels, np.int16) - 128
        return np.asarray(pixels, kind)

    @property
    def output_type(self) -> str:
        """Type of the output, such as `uint8`."""
        return np.dtype(self._output["dtype"]).name

    def byte_scores(self) -> np.ndarray | None:
        """The score of each value of an 8-bit output, the lowest first, shape `(256,)`; None for a float output."""
        scale, zero_point = self._output["quantization"]
        if not scale or np.dtype(self._output["dtype"]).itemsize != 1:
            return None
        lowest = np.iinfo(self._output["dtype"]).min
        return (np.arange(lowest, lowest + 256, dtype=np.float32) - zero_point) * np.float32(scale)

    def scores(self) -> np.ndarray:
        """The last run's scores, float32, shape `(K,)`."""
        return self.values_of(self._output)[0]

    def tensors(self) -> dict[str, np.ndarray]:
        """Every 8-bit tensor of the last run, dequantized: `{name: array}`; needs `keep_tensors`."""
        items = (item for item in self.interpreter.get_tensor_details() if item["dtype"] == np.int8)
        return {item["name"]: self.values_of(item) for item in items if item["quantization"][0]}

    def feature_shapes(self) -> list[tuple[str, tuple[int, ...], bool]]:
        """`(name, shape without the batch, whether a convolution makes it)` of each operator's output, in order."""
        return [
            (item["name"], tuple(int(side) for side in item["shape"][1:]), operator.endswith("CONV_2D"))
            for operator, item in self._operators()
        ]

    def feature_maps(self, images: Any, layer: str) -> np.ndarray:
        """Feature maps of images.

        Args:
            images: In `[0, 255]`, shape `(N, H, W, C)`.
            layer: Name of a tensor in `feature_shapes`.

        Returns:
            Float32 array, shape `(N, height, width, channels)`.

        Raises:
            InputError: If there are no such feature maps.
            ValueError: If the runner does not keep tensors.
        """
        maps = {item["name"]: item for _, item in self._operators() if len(item["shape"]) == 4}
        if layer not in maps:
            names = ", ".join(list(maps)[-5:]) or "none"
            raise InputError(f"The file has no feature maps called {layer!r}. Its last ones: {names}.")
        if not self._keeps_tensors:
            raise ValueError("Feature maps can be read only with keep_tensors=True. Received: keep_tensors=False.")
        return np.array([self._run(image, maps[layer]) for image in images])

    def _run(self, image, item):
        """The values of one tensor for one image."""
        with self._complaining():
            self.set_image(image)
            self.interpreter.invoke()
            return self.values_of(item)[0]

    def _stored(self, values):
        """Real values as the input stores them."""
        scale, zero_point = self._input["quantization"]
        if not scale:
            return values
        limits = np.iinfo(self._input["dtype"])
        return np.clip(np.round(values / scale) + zero_point, limits.min, limits.max)

    def values_of(self, item: dict[str, Any]) -> np.ndarray:
        """The last run's values of a tensor, given an item of LiteRT's tensor details: float32, dequantized."""
        values = self.interpreter.get_tensor(item["index"]).astype(np.float32)
        scale, zero_point = item["quantization"]
        return (values - zero_point) * np.float32(scale) if scale else values

    def _operators(self):
        """Name and first output of each operator of the file."""
        details = {item["index"]: item for item in self.interpreter.get_tensor_details()}
        # LiteRT has no public way to list the operators. Delegates repeat those of the file that they run.
        operators = (item for item in self.interpreter._get_ops_details() if item["op_name"] != "DELEGATE")
        return [(item["op_name"], details[item["outputs"][0]]) for item in operators]


def _try(content, where, keep_tensors):
    """Has a file read and run in a child process, once.

    Raises:
        InputError: If the child crashes, or LiteRT refuses it.
    """
    known = hashlib.sha256(content).hexdigest(), keep_tensors
    if known not in _tried:
        try:
            _TRIAL.result(content, KEEP_TENSORS if keep_tensors else 0)
            _tried[known] = None
        except trial.TrialError as error:
            _tried[known] = str(error).rstrip(".")
    if reason := _tried[known]:
        raise InputError(f"{where} cannot be run: {reason}.")


def trust(sha256: str) -> None:
    """Leaves out the child process for a file of this hash: a process that is a child itself need not have one."""
    _tried[sha256, False] = None


def latencies(
    contents: Mapping[str, bytes], image: Any, *, threads: int = 1, rounds: int = 15, calls: int = 20
) -> dict[str, float]:
    """Milliseconds per image of each file, measured in turns so that other load on the machine affects all alike.

    Args:
        contents: `{name: bytes of a file}`.

    Returns:
        `{name: median over the rounds of the mean of their calls}`.
    """
    runners = {name: Runner(content, threads) for name, content in contents.items()}
    seconds = {name: [] for name in contents}
    for runner in runners.values():
        runner.set_image(image)
    for _ in range(rounds + 1):
        for name, runner in runners.items():
            started = time.perf_counter()
            for _ in range(calls):
                runner.interpreter.invoke()
            seconds[name].append((time.perf_counter() - started) / calls)
    return {name: 1000 * statistics.median(values[1:]) for name, values in seconds.items()}


@dataclass(frozen=True)
class TensorError:
    """Error of one tensor of an integer file.

    Attributes:
        tensor: Its name.
        relative_error: Root mean square of the difference from the float values, divided by that of the float values.
    """

    tensor: str
    relative_error: float


def tensor_errors(
    content: bytes,
    images: Any,
    float_tensors: Mapping[str, np.ndarray],
    *,
    input_range: tuple[Any, Any] | None = None,
) -> list[TensorError]:
    """Error of each tensor of an integer file, relative to the float model.

    Args:
        content: Bytes of the file.
        images: In `[0, 255]`, shape `(N, H, W, C)`.
        float_tensors: `{name: float values, shape (N, ...)}`.
        input_range: As for `Runner`.

    Returns:
        A `TensorError` per tensor, largest first.
    """
    runner = Runner(content, keep_tensors=True, input_range=input_range)
    squares = {}
    for row, image in enumerate(images):
        runner.set_image(image)
        runner.interpreter.invoke()
        for name, values in runner.tensors().items():
            if name in float_tensors:
                expected = float_tensors[name][row]
                difference = np.sum((values[0] - expected) ** 2)
                squares.setdefault(name, []).append((difference, np.sum(expected**2)))
    errors = []
    for name, pairs in squares.items():
        difference, size = np.sum(pairs, axis=0)
        errors.append(TensorError(name, float(np.sqrt(difference / size)) if size else 0.0))
    return sorted(errors, key=lambda error: -error.relative_error)
