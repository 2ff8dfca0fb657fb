"""The child process that runs a file of `--export`: without Keras, so that the file is all that it has.

It writes the file's scores, and prints what the file says of itself, which program ran it, and how long an image took.
"""

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 32
CALLS = 20
# Where a SavedModel's folder has files that are not the graph's.
# Source: https://github.com/tensorflow/tensorflow/tree/master/tensorflow/python/saved_model
SAVED_MODEL_METADATA = Path("assets.extra") / "metadata.json"
TORCH_METADATA = "metadata.json"
OPENVINO_KEY = "keras_vision"
LISTS = ("class_names", "input_shape", "input_range")


def main() -> int:
    """Runs a file on images: format, file, images, scores to be written, as arguments."""
    name, file, images, scores = sys.argv[1:]
    stack = np.load(images, mmap_mode="r")
    run, judge, metadata = JUDGES[name](file)
    parts = [run(np.asarray(stack[start : start + BATCH], np.float32)) for start in range(0, len(stack), BATCH)]
    np.save(scores, np.concatenate(parts))
    image = np.asarray(stack[:1], np.float32)
    # The fastest: other work on the machine only adds to a call, and some of these programs wait for threads.
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        run(image)
        times.append(1000 * (time.perf_counter() - start))
    print(json.dumps({"judge": judge, "metadata": metadata, "milliseconds": min(times)}))
    return 0


def without_telemetry() -> None:
    """Has OpenVINO take its own stand-in for the package that sends data about its use, also when it is imported."""
    sys.modules["openvino_telemetry"] = None  # pyright: ignore[reportArgumentType]


def from_texts(values: dict[str, str]) -> dict[str, Any]:
    """Metadata from a format whose values are texts; lists are JSON there."""
    return {name: json.loads(text) if name in LISTS else text for name, text in values.items()}


def to_texts(metadata: dict[str, Any]) -> dict[str, str]:
    """Metadata for a format whose values are texts."""
    return {name: json.dumps(value) if name in LISTS else value for name, value in metadata.items()}


def _onnx(file):
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (item,) = session.get_inputs()

    def run(images):
        if item.type == "tensor(int8)":
            images = images - 128
        if item.type != "tensor(float)":
            images = images.astype(item.type.removeprefix("tensor(").removesuffix(")"))
        parts = np.split(images, len(images)) if item.shape[0] == 1 else [images]
        found: list[Any] = [session.run(None, {item.name: part})[0] for part in parts]
        return np.concatenate(found)

    metadata = from_texts(session.get_modelmeta().custom_metadata_map)
    return run, f"onnxruntime {onnxruntime.__version__}", metadata


def _openvino(file):
    without_telemetry()
    import openvino

    core = openvino.Core()
    model = core.read_model(file)
    metadata = {name: value.astype(str) for name, value in model.rt_info[OPENVINO_KEY].items()}
    # By default the processor may compute in half precision.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(model, "CPU", settings)
    version = openvino.get_version().partition("-")[0]
    return lambda images: compiled(images)[0], f"OpenVINO {version}", from_texts(metadata)


def _torch(file):
    import torch

    torch.set_num_threads(1)
    extra = {TORCH_METADATA: ""}
    module = torch.export.load(file, extra_files=extra).module()

    def run(images):
        with torch.no_grad():
            return module(torch.from_numpy(images)).numpy()

    return run, f"torch {torch.__version__}", json.loads(extra[TORCH_METADATA])


def _saved_model(folder):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    model: Any = tf.saved_model.load(folder)
    metadata = json.loads((Path(folder) / SAVED_MODEL_METADATA).read_text("utf-8"))
    return lambda images: model.serve(images).numpy(), f"TensorFlow {tf.__version__}", metadata


JUDGES = {"onnx": _onnx, "onnx_int8": _onnx, "openvino": _openvino, "torch": _torch, "saved_model": _saved_model}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
