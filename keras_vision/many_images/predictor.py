"""Rows of image files: what a .tflite file answers, or why a file cannot be read. The same wherever it runs."""

import collections
import hashlib
import importlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import keras_vision
from keras_vision.classifier import Classifier
from keras_vision.files import addresses, image_files, outside
from keras_vision.recipe import InputError

CHUNK = 16  # Files that a thread decodes at a time.
# What decides the bits of a score besides the file and the flags: packages by their module, whatever their name.
LIBRARIES = {"LiteRT": "ai_edge_litert", "OpenCV": "cv2", "NumPy": "numpy"}

FIXED = ("path", "answer", "score", "unsure", "error")  # The columns before those of the classes.


class Row(NamedTuple):
    """One image file.

    Attributes:
        path: As it was listed.
        answer: The class; of several labels those that the image has, joined by `|`. None for a file that is not read.
        score: The highest score.
        unsure: Whether that is too low to be an answer; None where the model has no such confidence.
        error: Why the file is not read.
        scores: Of all classes, float64, shape `(K,)`.
        remark: What is unusual about the file; no column.
    """

    path: str
    answer: str | None
    score: float | None
    unsure: bool | None
    error: str | None
    scores: np.ndarray | None
    remark: str


class Predictor:
    """A .tflite file that makes rows of image files.

        predictor = Predictor("int8.tflite")
        predictor.columns(["a.jpg", "s3://photos/b.jpg"])

    It is also a stage of Ray Data, which makes one for each process:

        dataset.map_batches(Predictor, fn_constructor_args=["int8.tflite"], batch_format="pyarrow",
                            compute=ray.data.ActorPoolStrategy(size=8))

    Args:
        model: A .tflite file.
        class_names, input_range, resize, intensity_range, threads: See `Classifier.open`.
        all_scores: Whether there is a column for the score of each class.
        root: Folder that relative paths of images are relative to; by default the working directory.
        decoders: Threads that decode the next files meanwhile.

    Raises:
        InputError: If the file cannot be opened, carries no class names, or two of them are the same.
    """

    def __init__(
        self,
        model: str | os.PathLike,
        *,
        class_names: Sequence[str] | None = None,
        input_range: Sequence[float] | None = None,
        resize: str | None = None,
        intensity_range: Sequence[float] | None = None,
        threads: int = 1,
        all_scores: bool = True,
        root: str | os.PathLike | None = None,
        decoders: int = 1,
    ):
        if Path(model).suffix != ".tflite":
            raise InputError(f"Shards are predicted with a .tflite file. Received: {model}.")
        self.classifier = Classifier.open(
            model,
            class_names=class_names,
            input_range=_pair(input_range),
            resize=resize,
            intensity_range=_pair(intensity_range),
            threads=threads,
        )
        _check(self.classifier)
        # After opening: a file that is replaced meanwhile is noticed.
        self.sha256 = hashlib.sha256(outside.read_bytes(self.classifier.path)).hexdigest()
        self._all_scores, self._root, self._decoders = all_scores, os.fspath(root or ""), decoders

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the rows of an image, as JSON."""
        found = self.classifier
        return {
            "model": self.sha256,
            "classes": list(found.class_names),
            "unsure below": found.unsure_below,
            "thresholds": None if found.thresholds is None else found.thresholds.tolist(),
            "input range": [np.asarray(end).tolist() for end in found.input_range],
            "resize": found.resize,
            "intensity range": None if found.intensity_range is None else list(found.intensity_range),
            "all scores": self._all_scores,
            "keras-vision": keras_vision.__version__,
            **{name: str(importlib.import_module(module).__version__) for name, module in LIBRARIES.items()},
        }

    @property
    def score_names(self) -> list[str]:
        """Names of the columns with a score for each class."""
        return [f"score_{name}" for name in self.classifier.class_names] if self._all_scores else []

    def rows(self, paths: Iterable[str]) -> Iterator[Row]:
        """A row for each file, in order. Some files are decoded in advance, whatever their number."""
        files = map(str, paths)
        chunks = iter(lambda: list(itertools.islice(files, CHUNK)), [])
        with image_files.one_thread_each(), ThreadPoolExecutor(self._decoders) as pool:
            first = itertools.islice(chunks, 1 + self._decoders)
            ahead = collections.deque(pool.submit(self._decode, chunk) for chunk in first)
            while ahead:
                decoded = ahead.popleft().result()
                ahead.extend(pool.submit(self._decode, chunk) for chunk in itertools.islice(chunks, 1))
                for path, image, note in decoded:
                    yield Row(path, None, None, None, note, None, "") if image is None else self._row(path, image, note)

    def _decode(self, paths):
        """`(path, image, remark)`, or `(path, None, reason)`, of each file."""
        return [(path, *self._read(path)) for path in paths]

    def _read(self, path) -> tuple[Any, str]:
        try:
            if addresses.is_address(path):
                content = addresses.read_bytes(path, image_files.MAX_BYTES)
            else:
                content = image_files.read_bytes(os.path.join(self._root, path))
            return self.classifier.decode(content, name=path)
        except image_files.UnreadableError as error:
            return None, str(error)

    def _row(self, path, image, remark):
        # One by one, as `Classifier.predict` does, so that not even a last bit can differ.
        scores = self.classifier.probabilities(image[np.newaxis])[0]
        answer = "|".join(self.classifier.labels_of(scores))
        unsure = None if self.classifier.unsure_below is None else self.classifier.is_unsure(scores)
        return Row(path, answer, float(scores.max()), unsure, None, scores, remark)

    def columns(self, paths: Iterable[str]) -> dict[str, list]:
        """The rows of some files as columns: those of `FIXED`, and `score_CLASS` for each class."""
        return as_columns(list(self.rows(paths)), self.score_names)

    def __call__(self, batch: Any) -> Any:
        """The rows of a batch of Ray Data or Spark: a `pyarrow.Table` from one with a column `path`."""
        return as_table(list(self.rows(batch["path"].to_pylist())), self.score_names)


def as_columns(rows: Sequence[Row], score_names: Sequence[str]) -> dict[str, list]:
    """Rows as columns by name."""
    fixed = {name: [getattr(row, name) for row in rows] for name in FIXED}
    scores = {
        name: [None if row.scores is None else float(row.scores[place]) for row in rows]
        for place, name in enumerate(score_names)
    }
    return fixed | scores


def as_table(rows: Sequence[Row], score_names: Sequence[str]) -> Any:
    """Rows as a `pyarrow.Table`, which has the same types even if no file is read."""
    import pyarrow  # pyright: ignore[reportMissingImports]

    kinds = {**dict.fromkeys(("path", "answer", "error"), pyarrow.string()), "unsure": pyarrow.bool_()}
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.float64())) for name in (*FIXED, *score_names)])
    columns = as_columns(rows, score_names)
    # The bytes of a name need not be UTF-8; Parquet's texts are.
    columns["path"] = [
        path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for path in columns["path"]
    ]
    return pyarrow.table(columns, schema=schema)


def _pair(values):
    return None if values is None else (values[0], values[1])


def _check(classifier):
    """Refuses a model that `predict` refuses, too, and class names that columns cannot have."""
    path, names = classifier.path, classifier.class_names
    if complaint := classifier.complaint():
        raise InputError(complaint)
    twice = next((name for name, count in collections.Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{path} has two classes called {twice!r}. Pass --labels FILE with different names.")
