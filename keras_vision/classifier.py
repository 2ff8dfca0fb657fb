"""A trained classifier from a run's folder, a .keras file or a .tflite file: its classes, its input, its probabilities.

`predict` and `explain` use it. A .tflite file is opened without importing a framework.
"""

import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_vision import backend
from keras_vision.files import image_files, outside
from keras_vision.pipeline import folder as run_folder
from keras_vision.pipeline import symmetries
from keras_vision.recipe import TTA, InputError, first_line, from_dict

DECODERS = 4
# Images at once, and values of images at once: feature maps of large images are what needs memory.
BATCH, BATCH_VALUES = 256, 2**21
MAX_VALUES = 2**28  # Of one image or of what a layer makes of it, a gigabyte as float32.
RESIZES = image_files.RESIZES
MAX_INTENSITY = 1e30  # Of a recorded range of intensities; float32 ends at 3e38.
PIXELS = (0.0, 255.0)
HALF = 0.5
USUAL_RANGES = (PIXELS, (0.0, 1.0), (-1.0, 1.0))


class Classifier:
    """A trained classifier.

    Attributes:
        path: Where it was opened.
        class_names: Names of the classes, in the order of the probabilities.
        has_names: Whether these names were found; else they are `class 0`, `class 1`, ...
        image_shape: Shape of one image, `(H, W, C)`, or `(D, H, W, C)` of one volume.
        input_range: What the model takes for the pixel values 0 and 255, such as `(0.0, 255.0)` or `(-1.0, 1.0)`.
        resize: How images are brought to `image_shape`: `crop`, `pad` or `stretch`.
        intensity_range: Values of image files that become the pixel values 0 and 255; None for the range of their bits.
        remarks: `{file: text}` of the image files read that are unusual, such as 12 bits in 16.
        thresholds: Where an image can have several labels, or none, the score from which on each is a yes, shape
            `(K,)`: those recorded beside the model, else one half. None where the classes exclude each other.
        unsure_below: The probability of the predicted class below which it is unsure, recorded beside the model; None
            where it answers every image, or where predictions are averaged, to whose scores it does not apply.
        versions: The flips and turns of an image over which predictions are averaged; the first changes nothing, and
            without averaging there is no other.
        model: The `keras.Model`, or the `quantization.Runner` of a .tflite file.
    """

    def __init__(
        self,
        path: Path,
        model: Any,
        image_shape: tuple[int, ...],
        num_outputs: int,
        class_names: Sequence[str] | None,
        input_range: tuple[float, float],
        resize: str,
    ):
        if math.prod(image_shape) > MAX_VALUES:
            raise InputError(f"{path} takes images of shape {image_shape}, which are more than {MAX_VALUES:,} values.")
        count = max(2, num_outputs)
        if class_names is not None and len(class_names) != count:
            raise InputError(f"{path} has {count} classes. Received: {len(class_names)} class names.")
        self.path, self.model, self.image_shape = path, model, image_shape
        self.has_names = class_names is not None
        self.class_names = tuple(class_names or (f"class {label}" for label in range(count)))
        self.input_range, self.resize = input_range, resize
        self.intensity_range: tuple[float, float] | None = None
        self.remarks: dict[Path, str] = {}
        self.thresholds: np.ndarray | None = None
        self.unsure_below: float | None = None
        self.versions = symmetries.plain(image_shape)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike,
        *,
        class_names: Sequence[str] | None = None,
        input_range: tuple[float, float] | None = None,
        resize: str | None = None,
        intensity_range: tuple[float, float] | None = None,
        size: Sequence[int] | None = None,
        output: str | None = None,
        threads: int = 1,
        keep_tensors: bool = False,
        tta: str = "none",
    ) -> "Classifier":
        """Opens a classifier.

            kv.Classifier.open("runs/first")                        # model.keras of a run
            kv.Classifier.open("runs/first/tflite/int8.tflite")
            kv.Classifier.open("my.keras", input_range=(0, 1))

        Args:
            path: A run's folder, a .keras file or a .tflite file.
            class_names: Names of the classes; by default those in the file or beside it.
            input_range: What the model takes for the pixel values 0 and 255; by default what the file says.
            resize: `crop`, `pad` or `stretch`; by default what the model was trained with, else `stretch`.
            intensity_range: Values of image files that become the pixel values 0 and 255; by default what the model was
                trained with, else the range of the files' bits.
            size: Side, or height and width, of the images of a .keras model that takes any.
            output: Which output of a .keras model with several, by the name of its layer or its key.
            threads: Threads of LiteRT, for a .tflite file.
            keep_tensors: Whether the feature maps of a .tflite file can be read, for Score-CAM; slower.
            tta: Averages the predictions over an image and its `flip` (left and right), `flips` (of every axis),
                `turns` (quarters) or `all` these; `auto` for those of the run's report, else of its augmentation.

        Raises:
            InputError: If there is no such model, it is damaged, it does not classify images, its input range is not
                known, or `auto` finds no flips or turns.
        """
        path = Path(os.path.expanduser(path))
        if resize not in (None, *RESIZES):
            raise InputError(f"resize is one of {', '.join(RESIZES)}. Received: {resize!r}.")
        if tta not in TTA:
            raise InputError(f"--tta takes one of {', '.join(TTA)}. Received: {tta!r}.")
        if intensity_range is not None and not _is_range(intensity_range):
            raise InputError(f"--intensity-range takes the lower value first. Received: {_words(intensity_range)}.")
        recorded = run_folder.data_of(path)
        if resize is None:
            resize = recorded["resize"] if recorded.get("resize") in RESIZES else "stretch"
        if intensity_range is None and _is_range(recorded.get("intensity_range")):
            intensity_range = tuple(recorded["intensity_range"])
        if path.suffix == ".tflite":
            found = _open_tflite(cls, path, class_names, input_range, resize, threads, keep_tensors)
        else:
            found = _open_keras(cls, path, class_names, input_range, resize, size, output)
        found.intensity_range = intensity_range
        if found._ends_in_several_sigmoids():
            recorded = list(run_folder.thresholds_of(path).values())  # By place: a user may give other names.
            count = len(found.class_names)
            found.thresholds = np.array(recorded if len(recorded) == count else [HALF] * count)
        elif tta == "none":
            found.unsure_below = run_folder.unsure_below(path)
        if tta != "none":
            found.versions = _versions(path, tta, found.image_shape)
        return found

    @property
    def is_tflite(self) -> bool:
        """Whether it is a .tflite file."""
        return self.path.suffix == ".tflite"

    def _ends_in_several_sigmoids(self):
        if self.is_tflite:
            return self.model.ends_in == "LOGISTIC" and self.model.num_classes > 1
        from keras_vision.keras_internals.graph import ends_in_sigmoids, is_graph, read_graph

        return is_graph(self.model) and ends_in_sigmoids(read_graph(self.model), self.model.output_shape[-1])

    def answers(self, probabilities: np.ndarray) -> np.ndarray:
        """The predicted class of each image, int array of shape `(N,)`.

        Of several labels a 1 for each that has at least its threshold, else 0, shape `(N, K)`.
        """
        if self.thresholds is None:
            return probabilities.argmax(axis=1).astype(np.int64)
        return (probabilities >= self.thresholds).astype(np.int64)

    def labels_of(self, probabilities: np.ndarray) -> list[str]:
        """Names of the predicted class, or of every label that an image has; the most probable first.

        Args:
            probabilities: Those of one image, shape `(K,)`.
        """
        order = np.argsort(-probabilities, kind="stable")
        if self.thresholds is None:
            return [self.class_names[order[0]]]
        return [self.class_names[label] for label in order if probabilities[label] >= self.thresholds[label]]

    def is_unsure(self, probabilities: np.ndarray) -> bool:
        """Whether the predicted class is too improbable to be an answer; False where there is no `unsure_below`.

        Args:
            probabilities: Those of one image, shape `(K,)`.
        """
        return self.unsure_below is not None and float(np.max(probabilities)) < self.unsure_below

    def probabilities(self, images: Any) -> np.ndarray:
        """Probabilities of images.

        Args:
            images: Pixel values from 0 to 255, shape `(N, *image_shape)`; `read` gives such images.

        Returns:
            Float array, shape `(N, K)`, whose rows sum to 1 unless there are `thresholds`; a model with one output has
            two classes, and its output is the second's.

        Raises:
            InputError: If the images have another shape.
        """
        images = np.asarray(images)
        if images.shape[1:] != self.image_shape:
            raise InputError(
                f"{self.path} takes images of shape {('N', *self.image_shape)}. Received: shape {images.shape}."
            )
        found = [self._averaged(images[start : start + self.batch]) for start in range(0, len(images), self.batch)]
        return np.concatenate(found) if found else np.zeros((0, len(self.class_names)))

    def _averaged(self, images):
        return (
            self._of_batch(images)
            if len(self.versions) == 1
            else symmetries.mean(self._of_batch, images, self.versions)
        )

    def milliseconds(self, images: np.ndarray) -> tuple[float, float]:
        """What a prediction costs per image on this machine, without and with averaging: the best of three.

        Args:
            images: A few images as `read` gives them, at most `batch`.
        """
        found = []
        for predict in (self._of_batch, self._averaged):
            predict(images)  # Compiled now, on some backends.
            seconds = []
            for _ in range(3):
                started = time.perf_counter()
                predict(images)
                seconds.append(time.perf_counter() - started)
            found.append(1000 * min(seconds) / len(images))
        return found[0], found[1]

    def _of_batch(self, images):
        if self.is_tflite:
            return self.model.probabilities(images)
        from keras_vision import explanation

        try:
            return explanation.probabilities(self.model, self.as_input(images), batch_size=self.batch)
        except InputError:
            raise
        except Exception as error:  # The layers of a damaged model can raise anything.
            raise InputError(f"{self.path} cannot be run: {first_line(error)}") from error

    @property
    def batch(self) -> int:
        """Images that the model is given at once."""
        return max(1, min(BATCH, BATCH_VALUES // int(np.prod(self.image_shape))))

    def as_input(self, images: np.ndarray) -> np.ndarray:
        """Images with pixel values from 0 to 255 in the range that the model takes."""
        low, high = self.input_range
        if _is_pixels(self.input_range):
            return images
        return np.asarray(low + np.asarray(images, np.float32) * np.float32((high - low) / 255))

    def read(self, path: str | os.PathLike) -> np.ndarray | None:
        """An image file at the model's size, uint8; None where the file is not an image that can be read."""
        try:
            image, remark = self.decode(image_files.read_bytes(path), name=os.fspath(path))
        except image_files.UnreadableError:
            return None
        if remark:
            self.remarks[Path(path)] = remark
        return image

    def decode(self, content: bytes, *, name: str = "") -> tuple[np.ndarray, str]:
        """An image at the model's size, uint8, from the bytes of a file, and what is unusual about it in a few words.

        Args:
            name: The file's name, which distinguishes some formats.

        Raises:
            UnreadableError: If it is not an image that can be read; the message is the reason in a few words.
        """
        return image_files.with_remarks(content, self.image_shape, self.resize, self.intensity_range, name=name)

    def complaint(self) -> str | None:
        """Why image files cannot be predicted with it, a sentence; None where they can."""
        if len(self.image_shape) != 3 or self.image_shape[2] not in (1, 3):
            return f"{self.path} takes inputs of shape {self.image_shape}; image files are (height, width, 1 or 3)."
        if self.is_tflite and not self.has_names:
            return f"{self.path} carries no labels. Pass --labels FILE, a text file with one name per line."
        return None

    def predict(
        self, paths: Iterable[str | os.PathLike] | str | os.PathLike
    ) -> Iterator[tuple[Path, np.ndarray | None]]:
        """Probabilities of image files, in order; None for a file that cannot be read. Files are decoded in threads."""
        paths = [Path(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
        size = 1 if self.is_tflite else self.batch
        with ThreadPoolExecutor(DECODERS) as pool:
            for start in range(0, len(paths), BATCH):
                part = paths[start : start + BATCH]
                images = list(pool.map(self.read, part))
                known = [image for image in images if image is not None]
                # A .tflite file answers image by image, so its progress can be shown.
                found = (
                    row
                    for first in range(0, len(known), size)
                    for row in self.probabilities(np.stack(known[first : first + size]))
                )
                for path, image in zip(part, images, strict=True):
                    yield path, None if image is None else next(found)


def _versions(path, tta, image_shape):
    """The flips and turns that `tta` names, for a model."""
    if tta != "auto":
        return symmetries.named(tta, image_shape)
    values = run_folder.recipe_of(path)
    if not values:
        raise InputError(
            f"--tta auto asks a run's recipe, and {path} has none beside it. Name the flips and turns that keep every "
            f"class: --tta {', '.join(symmetries.NAMED)}."
        )
    recipe = from_dict(values)
    recorded = recipe.evaluation.tta
    return symmetries.chosen("auto" if recorded == "none" else recorded, recipe.augmentation, image_shape)


def read_class_names(path: str | os.PathLike) -> tuple[str, ...]:
    """Class names from a text file, a line each.

    Raises:
        InputError: If it cannot be read, or is empty.
    """
    names = tuple(outside.read_text(path, "replace", limit=outside.MAX_NAMES_BYTES).rstrip().splitlines())
    if not names:
        raise InputError(f"{path} has no class names. It takes one name per line.")
    return names


def _open_tflite(cls, path, class_names, input_range, resize, threads, keep_tensors):
    from keras_vision.quantization.metadata import read_metadata
    from keras_vision.quantization.runtime import Runner

    content = outside.read_bytes(path)
    metadata = read_metadata(content, path)
    with backend.native_noise_held():
        runner = Runner(content, threads, keep_tensors=keep_tensors, where=path)
    if complaint := runner.complaint():
        raise InputError(f"{path} {complaint}, so it does not classify images of one size.")
    shape = runner.image_shape
    stated = _stated_range(runner, metadata)
    chosen = _chosen_range(
        path, stated, input_range, f"takes {runner.input_type} images, and no metadata says in which range"
    )
    # Bytes are handed over as they are.
    runner.input_range = None if stated is not None and stated.as_bytes else chosen
    names = class_names if class_names is not None else (metadata.labels if metadata else None) or None
    return cls(path, runner, shape, runner.num_classes, names, chosen, resize)


@dataclass(frozen=True)
class _StatedRange:
    """The input range that a model's file states.

    Attributes:
        low, high: What it takes for the pixel values 0 and 255, numbers or arrays over the channels.
        as_bytes: Whether it takes the pixels' bytes.
        also: Another range by which people may call the same.
        certain: Whether it follows from the model itself, and not from metadata, which may be wrong.
    """

    low: Any
    high: Any
    as_bytes: bool = False
    also: tuple[float, float] | None = None
    certain: bool = True


def _chosen_range(path, stated: Any, input_range: Any, unknown):
    """The input range to use, from what a file states and what the user says.

    Raises:
        InputError: If neither says it, or they contradict each other.
    """
    if input_range is None and stated is None:
        raise InputError(
            f"{path} {unknown}. Pass --input-range 0 1, --input-range -1 1 or --input-range 0 255, whichever it was "
            "trained with."
        )
    if input_range is None:
        return stated.low, stated.high
    if np.any(np.asarray(input_range[0]) >= np.asarray(input_range[1])):
        raise InputError(f"--input-range takes the lower value first. Received: {_words(input_range)}.")
    if (
        stated is not None
        and stated.certain
        and not any(
            _same_range(input_range, known) for known in ((stated.low, stated.high), stated.also) if known is not None
        )
    ):
        raise InputError(
            f"{path} takes images in the range {_words((stated.low, stated.high))}, which --input-range "
            f"{_words(input_range)} contradicts. Leave the flag out."
        )
    return input_range


def _is_range(values):
    """Whether a value, perhaps from a file, is two finite numbers, the lower one first."""
    numbers = (
        isinstance(values, list | tuple) and len(values) == 2 and all(isinstance(end, int | float) for end in values)
    )
    return numbers and all(abs(end) < MAX_INTENSITY for end in values) and values[0] < values[1]


def _words(input_range):
    return " ".join(" ".join(f"{value:g}" for value in np.ravel(end)) for end in input_range)


def _same_range(first, second):
    width = np.max(np.subtract(second[1], second[0]))
    return all(np.allclose(one, other, atol=0.02 * width) for one, other in zip(first, second, strict=True))


def _is_pixels(input_range):
    low, high = input_range
    return bool(np.all(np.asarray(low) == PIXELS[0]) and np.all(np.asarray(high) == PIXELS[1]))


def _stated_range(runner, metadata):
    """The input range of a .tflite file by its metadata or by the range of its 8-bit input; None if neither says it."""
    from keras_vision.quantization.metadata import input_range

    stated = None if metadata is None else input_range(metadata)
    eight_bit = runner.input_type in ("uint8", "int8")
    usual = [known for known in USUAL_RANGES if eight_bit and _same_range(runner.representable or PIXELS, known)]
    # Phones' libraries give a uint8 input the pixels' bytes, whatever its metadata says of normalization.
    bytes_by_metadata = stated is not None and (runner.input_type == "uint8" or (eight_bit and _is_pixels(stated)))
    if bytes_by_metadata or (stated is None and usual):
        return _StatedRange(*PIXELS, as_bytes=True, also=runner.representable)
    return None if stated is None else _StatedRange(*stated, certain=False)


def _open_keras(cls, path, class_names, input_range, resize, size, output):
    file = path / run_folder.MODEL if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{path} is not a run's folder with a {run_folder.MODEL}, a .keras or a .tflite file.")
    backend.choose_backend()
    # Keras and its backend first, with the noise held back.
    saved = backend.import_quietly("keras_vision.models.saved")
    with backend.native_noise_held():
        model = saved.read_model(file)
        model = _of_one_size(file, _of_one_output(file, model, output), size)
    shape, num_outputs = _ends(file, model)
    labels = run_folder.labels_beside(file)
    if class_names is None and labels is not None:
        class_names = read_class_names(labels)
    stated = _StatedRange(*PIXELS) if (file.parent / run_folder.RECIPE).is_file() else _own_range(model)
    unknown = "does not begin with a layer that scales pixels from 0..255, so its input range is not known"
    chosen = _chosen_range(file, stated, input_range, unknown)
    return cls(path, model, shape, num_outputs, class_names, chosen, resize)


def _of_one_output(file, model, name):
    """A model with one of its outputs."""
    outputs = getattr(model, "outputs", None)
    if not outputs or (len(outputs) == 1 and name is None):
        return model
    import keras

    structure = getattr(model, "output", None)
    keys = list(structure) if isinstance(structure, dict) else model.output_names
    flat = keras.tree.flatten(structure)
    if name is None:
        raise InputError(f"{file} has {len(outputs)} outputs: {', '.join(keys)}. Choose one with --output NAME.")
    known = dict(zip(sorted(keys) if isinstance(structure, dict) else keys, flat, strict=True))
    if name not in known:
        raise InputError(f"{file} has no output called {name!r}. Its outputs: {', '.join(keys)}.")
    return keras.Model(model.inputs, known[name], name=model.name)


def _of_one_size(file, model, size):
    """A model that takes any size as one that takes this size."""
    from keras_vision.keras_internals.graph import is_graph

    if size is None or not getattr(model, "inputs", None) or len(model.inputs) != 1:
        return model
    height, width = (*size, *size)[:2]
    taken = tuple(model.inputs[0].shape[1:])
    if len(taken) != 3 or any(side not in (None, given) for side, given in zip(taken, (height, width), strict=False)):
        raise InputError(f"{file} takes images of shape {taken}, which --size {height} {width} contradicts.")
    if not is_graph(model) or None not in taken:
        return model
    from keras_vision.quantization.plain_model import with_size

    return with_size(model, (height, width, taken[2] or 3))


def _ends(file, model):
    """Shape of one image, and the number of outputs."""
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        raise InputError(f"{file} is a model that was never built, so its input shape is not known.")
    if len(inputs) != 1 or len(outputs) != 1:
        raise InputError(f"{file} has {len(inputs)} inputs and {len(outputs)} outputs. One of each is needed.")
    shape, output = tuple(inputs[0].shape[1:]), tuple(outputs[0].shape[1:])
    if len(shape) not in (3, 4) or len(output) != 1:
        raise InputError(f"{file} does not classify images: its input has shape {shape} and its output {output}.")
    if None in shape:
        raise InputError(f"{file} takes images of any size, {shape}. Choose one with --size N.")
    if _largest_output(model) > MAX_VALUES:
        raise InputError(f"{file} has a layer whose output is more than {MAX_VALUES:,} values an image.")
    return shape, output[0]


def _largest_output(model):
    """Values of the largest output of a layer, for one image."""
    largest = 0
    for layer in model.layers:
        if hasattr(layer, "layers"):
            largest = max(largest, _largest_output(layer))
        try:
            outputs = layer.output if isinstance(layer.output, list | tuple) else [layer.output]
            sizes = [math.prod(side or 1 for side in output.shape[1:]) for output in outputs]
        except (AttributeError, ValueError, TypeError):  # A layer without an output, or with several.
            continue
        largest = max([largest, *sizes])
    return largest


def _own_range(model):
    """The input range of a model that scales pixels itself; None for another."""
    from keras_vision.quantization.plain_model import takes_pixels

    return _StatedRange(*PIXELS) if takes_pixels(model) else None
