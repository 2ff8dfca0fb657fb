"""The child process in which Keras writes a file of `--export`, on a backend that can, with metadata inside."""

import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import keras

from keras_vision.quantization import export_judge, tflite

# Names of input and output in the files; the writers number theirs.
IMAGES, SCORES = "images", "scores"
# The newest of ONNX that tf2onnx 1.16 writes with scales for each channel.
OPSET = 15


def main() -> int:
    """The child process."""
    warnings.simplefilter("ignore")
    return tflite.serve(_write)


def _write(source, target, format, metadata):
    """Writes a saved model; returns the reason where that fails, else None."""
    try:
        if format == "onnx_int8":
            _integers(source, target, metadata)
            return None
        model: Any = keras.saving.load_model(source, compile=False)
        # Keras's writer of ONNX wants a model that was called.
        model(keras.ops.zeros((1, *model.input_shape[1:])), training=False)
        WRITERS[format](model, Path(target), metadata)
    except Exception as error:  # Whatever Keras, a backend or a converter raises.
        return tflite.reason_of(error.__cause__ or error)
    finally:
        keras.backend.clear_session()
    return None


def _onnx(model, path, metadata):
    import onnx

    model.export(path, format="onnx", verbose=False)
    made = onnx.load(path)
    _rename(made.graph, made.graph.input[0], IMAGES)
    _rename(made.graph, made.graph.output[0], SCORES)
    onnx.helper.set_model_props(made, export_judge.to_texts(metadata))
    onnx.checker.check_model(made)
    onnx.save(made, path)


def _integers(source, target, metadata):
    """Writes an integer .tflite file as ONNX, whose float operators are between QuantizeLinear and DequantizeLinear."""
    import onnx
    import tf2onnx.convert

    made, _ = tf2onnx.convert.from_tflite(source, opset=OPSET)
    onnx.helper.set_model_props(made, export_judge.to_texts(metadata))
    onnx.checker.check_model(made)
    onnx.save(made, target)


def _rename(graph, place, name):
    """Renames an input or output of an ONNX graph, and calls its first side `batch`."""
    old, place.name = place.name, name
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [name if one == old else one for one in names]
    place.type.tensor_type.shape.dim[0].dim_param = "batch"


def _openvino(model, path, metadata):
    export_judge.without_telemetry()
    import openvino

    raw = path.with_name("raw.xml")
    model.export(str(raw), format="openvino", verbose=False)
    made = openvino.Core().read_model(raw)
    # Keras's writer on torch forgets the images' shape.
    made.reshape({made.inputs[0]: openvino.PartialShape([-1, *model.input_shape[1:]])})
    made.inputs[0].get_node().set_friendly_name(IMAGES)
    made.inputs[0].tensor.set_names({IMAGES})
    made.outputs[0].tensor.set_names({SCORES})
    for name, text in export_judge.to_texts(metadata).items():
        made.set_rt_info(text, [export_judge.OPENVINO_KEY, name])
    openvino.save_model(made, path, compress_to_fp16=False)


def _torch(model, path, metadata):
    import torch

    raw = path.with_name("raw.pt2")
    model.export(raw, format="torch", verbose=False, dynamic_shapes={0: torch.export.Dim("batch")})
    extra: Any = {export_judge.TORCH_METADATA: json.dumps(metadata)}
    torch.export.save(torch.export.load(raw), path, extra_files=extra)


def _saved_model(model, path, metadata):
    model.export(path, format="tf_saved_model", verbose=False)
    file = path / export_judge.SAVED_MODEL_METADATA
    file.parent.mkdir()
    file.write_text(json.dumps(metadata, indent=2, ensure_ascii=False) + "\n", "utf-8")
    shutil.rmtree(path / "assets", ignore_errors=True)


WRITERS = {"onnx": _onnx, "openvino": _openvino, "torch": _torch, "saved_model": _saved_model}


if __name__ == "__main__":
    sys.exit(main())
