"""A model as a file for another runtime than LiteRT, which that runtime has run before the file gets its name.

Keras writes the file in a child process, on a backend that can; a second one without Keras runs it on images, and its
scores are compared with the model's.
"""

import atexit
import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_vision.files import export_packages
from keras_vision.quantization.c_array import write_c_array
from keras_vision.quantization.checking import LARGEST_STEPS, SCORE_STEP
from keras_vision.quantization.metadata import Metadata, input_range
from keras_vision.quantization.plain_model import plain_model
from keras_vision.quantization.runtime import Runner
from keras_vision.quantization.tflite import Child, ends_in_scores
from keras_vision.recipe import EXPORTS, INTEGER_EXPORTS, InputError, first_line

# Largest difference of a score; of logits, as a share of the largest where that is more than 1.
BOUND = 1e-4
BATCH = 32


@dataclass(frozen=True)
class Exported:
    """What is known of one exported file, or why there is none.

    Attributes:
        format: One of `EXPORTS`.
        file: Its name; None where it was refused.
        refusal: Why there is no file.
        writer: What wrote it.
        judge: What ran it.
        images: How many images both classified.
        same_answer: Share of them with the same answer as the model's.
        largest_difference: Between a score and the model's.
        bytes: Of everything that belongs to it.
        milliseconds: For one image on one thread, the fastest call.
    """

    format: str
    file: str | None
    refusal: str | None = None
    writer: str | None = None
    judge: str | None = None
    images: int = 0
    same_answer: float | None = None
    largest_difference: float | None = None
    bytes: int = 0
    milliseconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def export(
    model: keras.Model,
    format: str,
    folder: str | os.PathLike,
    images: Any,
    metadata: Metadata,
    *,
    logits: bool = False,
) -> Exported:
    """Writes a model for another runtime, runs it there, and keeps it if it computes what the model does.

    Args:
        model: From images, shape `(N, H, W, C)` or `(N, D, H, W, C)`, to logits or probabilities.
        format: `onnx`, `openvino`, `torch` or `saved_model`.
        folder: Where the file goes; a file that is there is replaced.
        images: Images to compare on, as the model takes them.
        metadata: What the file shall say of itself.
        logits: Whether the file ends in logits instead of probabilities.

    Returns:
        What was measured.

    Raises:
        InputError: If a package is missing, Keras cannot write the model so, or the file computes something else. The
            folder is then as before.
    """
    if format not in WRITTEN_BY_KERAS:
        raise InputError(f"A format is one of {', '.join(WRITTEN_BY_KERAS)}. Received: {format!r}.")
    backends = export_packages.writers(format, keras.backend.backend())
    whole = _with_scores(model, logits)
    about = _about(metadata, whole, logits)
    folder = Path(folder)
    with tempfile.TemporaryDirectory(prefix="unfinished-", dir=folder) as place:
        target = Path(place) / EXPORTS[format][0]
        backend, reason = _by_one_of(backends, whole, format, target, about)
        if reason is not None:
            # Somebody's own layers and functions are not known there; what they compute may be.
            with contextlib.suppress(InputError):
                plain = plain_model(whole)
                backend, other = _by_one_of(backends, plain, format, target, about)
                reason = other and reason
        if reason is not None:
            raise InputError(f"Keras cannot write {model.name!r} as {format} on {' or '.join(backends)}: {reason}")
        result = _judged(whole, format, target, about, images)
        size = keep(target.parent, format, folder)
    return Exported(format, EXPORTS[format][0], writer=f"Keras on {backend}", bytes=size, **result)


WRITTEN_BY_KERAS = tuple(name for name in EXPORTS if name not in INTEGER_EXPORTS)


def keep(place: Path, format: str, folder: Path) -> int:
    """Moves a format's finished files to their names; returns their bytes."""
    size = 0
    # The one that is opened comes last, when the others are there.
    for name in reversed(EXPORTS[format]):
        source, target = place / name, folder / name
        if source.is_dir():
            size += sum(file.stat().st_size for file in source.rglob("*") if file.is_file())
            shutil.rmtree(target, ignore_errors=True)
        else:
            size += source.stat().st_size
        os.replace(source, target)
    return size


def _with_scores(model, logits):
    """A model whose input has a plain name, and which ends in what the file shall give."""
    images = keras.Input(tuple(model.input_shape[1:]), name="images")
    scores: Any = model(images, training=False)
    if not logits and not ends_in_scores(model):
        scores = keras.layers.Activation("softmax" if scores.shape[-1] > 1 else "sigmoid", name="scores")(scores)
    return keras.Model(images, scores, name=model.name)


def _about(metadata, model, logits):
    """What a file says of itself: texts, and lists."""
    ends = input_range(metadata)
    channels = {1: "gray", 3: "RGB"}.get(model.input_shape[-1], f"{model.input_shape[-1]} channels")
    return {
        "name": metadata.name,
        "description": metadata.description,
        "version": metadata.version,
        "licence": metadata.licence,
        "class_names": list(metadata.labels),
        "input": f"{channels}, float32, channels last; input_range has the values of black and white",
        "input_shape": ["batch", *model.input_shape[1:]],
        "input_range": [] if ends is None else [np.asarray(end).tolist() for end in ends],
        "output": "logits" if logits and not ends_in_scores(model) else "a probability for each class",
    }


def _about_integers(metadata, runner):
    """What an integer file says of itself."""
    scale, zero_point = runner.interpreter.get_output_details()[0]["quantization"]
    kind = runner.input_type
    return {
        **{name: getattr(metadata, name) for name in ("name", "description", "version", "licence")},
        "class_names": list(metadata.labels),
        "input": f"{kind}, channels last; pixels from 0 to 255{', less 128' if kind == 'int8' else ''}",
        "input_shape": [1, *runner.image_shape],
        "output": f"score = {scale:.9g} * (value - {zero_point})" if scale else "a score for each class",
    }


def _by_one_of(backends, model, format, target, about):
    """The first backend that can write a model, and None; else the last one, and why the first cannot."""
    reasons = []
    for backend in backends:
        reason = _written(model, backend, format, target, about)
        if reason is None:
            return backend, None
        reasons.append(reason)
    return backends[-1], reasons[0]


def _written(model, backend, format, target, about):
    """Has a child process write a model; returns the reason where that fails, else None."""
    source = target.with_name("source.keras")
    try:
        model.save(source)
    except Exception as error:  # Layers of users raise anything where they cannot be saved.
        return f"it cannot be saved: {first_line(error)}"
    return _asked(backend, source, format, target, about)


def _asked(backend, source, format, target, about):
    request = {"source": str(source), "target": str(target), "format": format, "metadata": about}
    reason = _writer(backend).ask(request)
    return reason or (None if target.exists() else "it wrote nothing")


@functools.cache
def _writer(backend):
    writer = Child("keras_vision.quantization.export_writer", backend)
    atexit.register(writer.close, kill=True)
    return writer


def _judged(model, format, target, about, images):
    """What running the file on images shows; refuses one that computes something else than the model."""
    answer, computed = _run(model.name, format, target, about, images)
    expected = _scores(model, images)
    judge, count = answer["judge"], len(expected)
    if computed.shape != expected.shape:
        raise InputError(
            f"The {format} file of {model.name!r} gives scores of shape {computed.shape} instead of {expected.shape}."
        )
    difference = float(np.abs(computed - expected).max())
    allowed = BOUND * max(1.0, float(np.abs(expected).max()))
    if not difference <= allowed:
        raise InputError(
            f"The {format} file of {model.name!r} does not compute what the model does: run by {judge} on {count} "
            f"images, a score differs by {difference:.2g}, and {allowed:.2g} is allowed."
        )
    return {
        "judge": judge,
        "images": count,
        "same_answer": float(np.mean(_answers(computed, expected) == _answers(expected, expected))),
        "largest_difference": difference,
        "milliseconds": answer["milliseconds"],
    }


def _run(name, format, target, about, images):
    """What the judge says, and the file's own outputs; refuses a file that cannot be run, or has lost metadata."""
    pixels, scores = target.with_name("images.npy"), target.with_name("scores.npy")
    np.save(pixels, np.asarray(images))
    found = _judge(format, target, pixels, scores)
    if found.returncode != 0:
        raise InputError(f"The {format} file of {name!r} cannot be run: {_last_line(found)}")
    answer = json.loads(found.stdout.splitlines()[-1])
    if answer["metadata"] != about:
        raise InputError(f"The {format} file of {name!r} has lost metadata: {answer['metadata']}.")
    return answer, np.load(scores).astype(np.float64)


def _answers(scores, expected):
    """The class of each image, or a text of its labels where the model's scores are no shares of one whole."""
    if expected.min() < 0 or np.allclose(expected.sum(axis=-1), 1, atol=1e-3):
        return scores.argmax(axis=-1)
    return np.array(["".join(map(str, row)) for row in (scores >= 0.5).astype(int)])


def _scores(model, images):
    batches = (np.asarray(images[start : start + BATCH], np.float32) for start in range(0, len(images), BATCH))
    return np.concatenate([np.asarray(model.predict_on_batch(batch), np.float64) for batch in batches])


def _judge(*arguments):
    return subprocess.run(
        [sys.executable, "-P", "-m", "keras_vision.quantization.export_judge", *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "-1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def _last_line(found):
    lines = found.stderr.strip().splitlines()
    return lines[-1] if lines else f"its process ended with status {found.returncode}"


def export_c_array(content: bytes, folder: str | os.PathLike, metadata: Metadata) -> Exported:
    """Writes an integer .tflite file as C, for TensorFlow Lite Micro: `model.c` and `model.h`.

    Args:
        content: The file's bytes.
        folder: Where both go; files that are there are replaced.
        metadata: Has the class names.

    Raises:
        InputError: If the file is not full-integer.
    """
    folder = Path(folder)
    with tempfile.TemporaryDirectory(prefix="unfinished-", dir=folder) as place:
        write_c_array(content, Path(place), metadata.labels)
        size = keep(Path(place), "c_array", folder)
    return Exported("c_array", EXPORTS["c_array"][0], writer="keras-vision", judge="read back, every byte", bytes=size)


def export_integers(content: bytes, folder: str | os.PathLike, images: Any, metadata: Metadata) -> Exported:
    """Writes an integer .tflite file as ONNX with the same integers, and compares the two programs.

    Args:
        content: The file's bytes.
        folder: Where `model_int8.onnx` goes; a file that is there is replaced.
        images: Pixels from 0 to 255 to compare on, shape `(N, H, W, C)`.
        metadata: What the file shall say of itself.

    Raises:
        InputError: If a package is missing, tf2onnx cannot write the file, or its scores are further from the .tflite
            file's than rounding explains. The folder is then as before.
    """
    kind = "onnx_int8"
    (backend,) = export_packages.writers(kind, keras.backend.backend())
    runner, folder = Runner(content), Path(folder)
    about = _about_integers(metadata, runner)
    with tempfile.TemporaryDirectory(prefix="unfinished-", dir=folder) as place:
        target = Path(place) / EXPORTS[kind][0]
        source = target.with_name("source.tflite")
        source.write_bytes(content)
        if reason := _asked(backend, source, kind, target, about):
            raise InputError(f"tf2onnx cannot write {metadata.name!r} as {kind}: {reason}")
        answer, computed = _run(metadata.name, kind, target, about, images)
        scale, zero_point = runner.interpreter.get_output_details()[0]["quantization"]
        if scale:
            computed = (computed - zero_point) * scale
        expected = np.asarray(runner(np.asarray(images)), np.float64)
        if computed.shape != expected.shape:
            raise InputError(f"The {kind} file gives scores of shape {computed.shape}, not {expected.shape}.")
        error, allowed = float(np.sqrt(np.mean((computed - expected) ** 2))), LARGEST_STEPS * (scale or SCORE_STEP)
        if not error <= allowed:
            raise InputError(
                f"The {kind} file of {metadata.name!r} does not compute what the .tflite file does: run by "
                f"{answer['judge']}, its scores are off by {error:.2g} (root mean square); {allowed:.2g} is allowed."
            )
        size = keep(target.parent, kind, folder)
    return Exported(
        kind,
        EXPORTS[kind][0],
        writer="tf2onnx",
        judge=answer["judge"],
        images=len(expected),
        same_answer=float(np.mean(_answers(computed, expected) == _answers(expected, expected))),
        largest_difference=float(np.abs(computed - expected).max()),
        bytes=size,
        milliseconds=answer["milliseconds"],
    )
