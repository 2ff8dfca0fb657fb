"""Running finished files with LiteRT: scores, speed, and where the integers leave the floats."""

import statistics
import time
import warnings

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from keras_vision.recipe import InputError


class Runner:
    """A file ready to run, one image at a time.

    Args:
        content: Bytes of a .tflite file with one input and one output.
        threads: Threads of the interpreter.
        keep_tensors: Whether the tensors between the operators can be read afterwards; slower.
    """

    def __init__(self, content, threads=1, *, keep_tensors=False):
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
        """Hands over a uint8 image, or one in `[0, 255]`, in the type that the file takes."""
        kind = self._input["dtype"]
        if kind == np.int8:
            image = np.asarray(image, np.int16) - 128
        self.interpreter.set_tensor(self._input["index"], np.asarray(image, kind)[np.newaxis])

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

    def feature_maps(self, images, layer=None):
        """Feature maps of images; needs `keep_tensors`.

        Args:
            images: In `[0, 255]`, shape `(N, H, W, C)`.
            layer: Name of a tensor, or None for the last one that is as large as what the last convolution makes.

        Returns:
            Float32 array, shape `(N, height, width, channels)`.

        Raises:
            InputError: If there is no such tensor.
        """
        item = self._feature_item(layer)
        rows = []
        for image in images:
            self.set_image(image)
            self.interpreter.invoke()
            rows.append(self._values(item)[0])
        return np.array(rows)

    def _feature_item(self, layer):
        details = {item["index"]: item for item in self.interpreter.get_tensor_details()}
        # LiteRT has no public way to ask for the operators; Keras's signature of a file names its ends only.
        made = [(item["op_name"], details[item["outputs"][0]]) for item in self.interpreter._get_ops_details()]
        maps = [(name, item) for name, item in made if len(item["shape"]) == 4 and np.prod(item["shape"][1:3]) > 1]
        convolutions = [item for name, item in maps if name.endswith("CONV_2D")]
        size = tuple((convolutions or [item for _, item in maps])[-1]["shape"][1:3]) if maps else None
        chosen = [
            item
            for _, item in maps
            if (item["name"] == layer if layer is not None else tuple(item["shape"][1:3]) == size)
        ]
        if not chosen:
            names = ", ".join(item["name"] for _, item in maps[-5:]) or "none"
            raise InputError(f"The file has no feature maps called {layer!r}. Its last ones: {names}.")
        return chosen[-1]

    def probabilities(self, images):
        """Scores of images, which are probabilities unless the file was written with logits."""
        return self(images)


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


def tensor_errors(content, images, float_tensors):
    """How far each tensor of an integer file is from the float model's.

    Args:
        content: Bytes of the file.
        images: In `[0, 255]`, shape `(N, H, W, C)`.
        float_tensors: `{name: float values, shape (N, ...)}`.

    Returns:
        `[(name, relative error)]`, the worst first: the root mean square of the difference over that of the values.
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
        errors.append((name, float(np.sqrt(difference / size)) if size else 0.0))
    return sorted(errors, key=lambda pair: -pair[1])
