"""Running finished files with LiteRT: scores, speed, and where the integers leave the floats."""

import functools
import statistics
import time
import warnings
from dataclasses import dataclass

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from scipy.special import expit, softmax

from keras_vision.quantization.flatbuffer import operator_name, unpack
from keras_vision.recipe import InputError


class Runner:
    """A file ready to run, one image at a time.

    Args:
        content: Bytes of a .tflite file with one input and one output.
        threads: Threads of the interpreter.
        keep_tensors: Whether the tensors between the operators can be read afterwards; slower.
        input_range: What the file takes for the pixel values 0 and 255, numbers or arrays over the channels. None gives
            pixel values as they are: as floats, or as the bytes of an 8-bit input.
    """

    def __init__(self, content, threads=1, *, keep_tensors=False, input_range=None):
        self.input_range, self._content = input_range, content
        keep = {"experimental_preserve_all_tensors": True} if keep_tensors else {}
        with warnings.catch_warnings():
            # Keeping tensors is for debugging, LiteRT warns: so it is here.
            warnings.filterwarnings("ignore", "Warning: Enabling `experimental_preserve", UserWarning)
            self.interpreter = Interpreter(model_content=bytes(content), num_threads=threads, **keep)
        self.interpreter.allocate_tensors()
        self._input, self._output = self.interpreter.get_input_details()[0], self.interpreter.get_output_details()[0]

    @property
    def image_shape(self):
        """Shape of the images that the file takes, `(H, W, C)`."""
        return tuple(int(side) for side in self._input["shape"][1:])

    @property
    def num_classes(self):
        """Number of the scores."""
        return int(self._output["shape"][-1])

    def set_image(self, image):
        """Hands over an image with pixel values from 0 to 255, in the type and range that the file takes."""
        kind = self._input["dtype"]
        if self.input_range is not None:
            low, high = (np.float32(end) for end in self.input_range)
            image = self._stored(low + np.asarray(image, np.float32) * ((high - low) / 255))
        elif kind == np.int8:
            image = np.asarray(image, np.int16) - 128
        self.interpreter.set_tensor(self._input["index"], np.asarray(image, kind)[np.newaxis])

    def _stored(self, values):
        """Real values as the input stores them."""
        scale, zero_point = self._input["quantization"]
        if not scale:
            return values
        limits = np.iinfo(self._input["dtype"])
        return np.clip(np.round(values / scale) + zero_point, limits.min, limits.max)

    @property
    def input_type(self):
        """Type of the input, such as `uint8`."""
        return np.dtype(self._input["dtype"]).name

    @property
    def representable(self):
        """The lowest and the highest real value of a quantized input; None for a float input."""
        scale, zero_point = self._input["quantization"]
        if not scale:
            return None
        limits = np.iinfo(self._input["dtype"])
        return tuple(float((limit - zero_point) * scale) for limit in (limits.min, limits.max))

    @functools.cached_property
    def ends_in(self):
        """`SOFTMAX` or `LOGISTIC` where the outputs are probabilities; None where they are logits."""
        model = unpack(self._content)
        names = [operator_name(model, item) for item in model.subgraphs[0].operators]
        last = next((name for name in reversed(names) if name not in ("QUANTIZE", "DEQUANTIZE", "RESHAPE")), None)
        return last if last in ("SOFTMAX", "LOGISTIC") else None

    def scores(self):
        """The last invocation's scores as floats, shape `(K,)`."""
        return self._values(self._output)[0]

    def __call__(self, images):
        """Scores of images.

        Args:
            images: In `[0, 255]`, shape `(N, H, W, C)`.

        Returns:
            Float32 array, shape `(N, K)`.
        """
        rows = []
        for image in images:
            self.set_image(image)
            self.interpreter.invoke()
            rows.append(self.scores())
        return np.array(rows)

    def tensors(self):
        """Every 8-bit tensor of the last invocation, dequantized: `{name: array}`."""
        items = (item for item in self.interpreter.get_tensor_details() if item["dtype"] == np.int8)
        return {item["name"]: self._values(item) for item in items if item["quantization"][0]}

    def _values(self, item):
        values = self.interpreter.get_tensor(item["index"]).astype(np.float32)
        scale, zero_point = item["quantization"]
        return (values - zero_point) * np.float32(scale) if scale else values

    def feature_shapes(self):
        """`(name, shape, whether a convolution makes it)` of every tensor between the operators, as they run."""
        return [(item["name"], tuple(item["shape"][1:]), name.endswith("CONV_2D")) for name, item in self._made()]

    def feature_maps(self, images, layer):
        """Feature maps of images; needs `keep_tensors`.

        Args:
            images: In `[0, 255]`, shape `(N, H, W, C)`.
            layer: Name of a tensor, one of `feature_shapes`.

        Returns:
            Float32 array, shape `(N, height, width, channels)`.

        Raises:
            InputError: If there is no such tensor.
        """
        maps = [item for _, item in self._made() if len(item["shape"]) == 4]
        found = [item for item in maps if item["name"] == layer]
        if not found:
            names = ", ".join(item["name"] for item in maps[-5:]) or "none"
            raise InputError(f"The file has no feature maps called {layer!r}. Its last ones: {names}.")
        item, rows = found[-1], []
        for image in images:
            self.set_image(image)
            self.interpreter.invoke()
            rows.append(self._values(item)[0])
        return np.array(rows)

    def _made(self):
        """Name of each operator, and its first output."""
        details = {item["index"]: item for item in self.interpreter.get_tensor_details()}
        # LiteRT has no public way to list the operators; Keras's signature of a file names only its inputs and outputs.
        return [(item["op_name"], details[item["outputs"][0]]) for item in self.interpreter._get_ops_details()]

    def probabilities(self, images):
        """Class probabilities of images, whether the file returns them or logits; one output means two classes.

        Args:
            images: In `[0, 255]`, shape `(N, H, W, C)`.

        Returns:
            Float array, shape `(N, K)`.
        """
        scores = np.float64(self(images))
        if self.ends_in is None:
            scores = softmax(scores, axis=-1) if scores.shape[-1] > 1 else expit(scores)
        return np.concatenate([1 - scores, scores], axis=-1) if scores.shape[-1] == 1 else scores


def latencies(contents, image, *, threads=1, rounds=15, calls=20):
    """Milliseconds for one image, file by file, measured in turns so that a busy machine hurts all alike.

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
    """How far a tensor of an integer file is from the float model's.

    Attributes:
        tensor: Its name.
        relative_error: Root mean square of the difference, divided by that of the float values.
    """

    tensor: str
    relative_error: float


def tensor_errors(content, images, float_tensors):
    """How far each tensor of an integer file is from the float model's.

    Args:
        content: Bytes of the file.
        images: In `[0, 255]`, shape `(N, H, W, C)`.
        float_tensors: `{name: float values, shape (N, ...)}`.

    Returns:
        A `TensorError` per tensor, the worst first.
    """
    runner = Runner(content, keep_tensors=True)
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
