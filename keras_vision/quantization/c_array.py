"""An integer .tflite file as C source, for TensorFlow Lite Micro: the bytes, and what is needed to use them.

The array is aligned to 16 bytes, because the interpreter reads the file's tensors in place.
Source: https://github.com/tensorflow/tflite-micro/blob/main/tensorflow/lite/micro/docs/memory_management.md
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from keras_vision.quantization.auditing import audit
from keras_vision.quantization.verification import TYPE_NAMES, unpack
from keras_vision.recipe import InputError

PER_LINE = 16
C_TYPES = {"uint8": "uint8_t", "int8": "int8_t", "float32": "float"}

HEADER = """/* An image classifier for TensorFlow Lite Micro. {summary}
 *
 * Operators: {operators}.
 * Input:     {input}; value = pixel + MODEL_INPUT_PIXEL_OFFSET, with pixels from 0 to 255, not normalized.
 * Output:    {output}; score = MODEL_OUTPUT_SCALE * (value - MODEL_OUTPUT_ZERO_POINT), in the order of
 *            model_class_names.
 */
#ifndef KERAS_VISION_MODEL_H_
#define KERAS_VISION_MODEL_H_

{constants}

#ifdef __cplusplus
extern "C" {{
#endif

/* Aligned to 16 bytes. */
extern const unsigned char model_data[MODEL_LENGTH];
extern const char *const model_class_names[MODEL_NUM_CLASSES];

#ifdef __cplusplus
}}
#endif

#endif
"""
SOURCE = """#include "model.h"

#ifndef __cplusplus
#include <stdalign.h>
#endif

alignas(16) const unsigned char model_data[MODEL_LENGTH] = {{
{data}
}};

const char *const model_class_names[MODEL_NUM_CLASSES] = {{
{names}
}};
"""


def write_c_array(content: bytes, folder: Path, class_names: Sequence[str]) -> None:
    """Writes `model.h` and `model.c`, and reads the bytes back from the source.

    Args:
        content: Bytes of a full-integer .tflite file with one input and one output.
        folder: Where both go.
        class_names: In the order of the scores.

    Raises:
        InputError: If the file is not full-integer.
    """
    found = audit(content)
    found.require_full_integer()
    graph = unpack(content).subgraphs[0]
    image, scores = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    shape = [int(side) for side in image.shape[1:]]
    constants = {
        "MODEL_LENGTH": len(content),
        "MODEL_INPUT_HEIGHT": shape[-3],
        "MODEL_INPUT_WIDTH": shape[-2],
        "MODEL_INPUT_CHANNELS": shape[-1],
        **_quantization("INPUT", image),
        "MODEL_INPUT_PIXEL_OFFSET": -128 if TYPE_NAMES[image.type] == "int8" else 0,
        "MODEL_NUM_CLASSES": len(class_names),
        **_quantization("OUTPUT", scores),
    }
    width = max(map(len, constants))
    header = HEADER.format(
        summary=f"{len(content):,} bytes.",
        operators=", ".join(sorted({item.name for item in found.operators})),
        input=found.input,
        output=found.output,
        constants="\n".join(f"#define {name:<{width}} {value}" for name, value in constants.items()),
    )
    source = SOURCE.format(
        data="\n".join(_lines(content)), names=",\n".join(f"    {c_string(name)}" for name in class_names)
    )
    if bytes_of(source) != content:
        raise InputError("The C array has other bytes than the .tflite file. This is a fault of keras_vision.")
    (folder / "model.h").write_text(header, "ascii")
    (folder / "model.c").write_text(source, "ascii")


def _quantization(name, tensor):
    kind = TYPE_NAMES[tensor.type]
    # Only floats, with --tflite-io float32, have none.
    scale, zero_point = (
        (1.0, 0) if kind == "float32" else (tensor.quantization.scale[0], tensor.quantization.zeroPoint[0])
    )
    return {
        f"MODEL_{name}_TYPE": C_TYPES[kind],
        # The shortest text that gives the same float.
        f"MODEL_{name}_SCALE": f"{np.float32(scale)!s}f",
        f"MODEL_{name}_ZERO_POINT": int(zero_point),
    }


def _lines(content) -> Iterator[str]:
    for start in range(0, len(content), PER_LINE):
        yield "    " + " ".join(f"0x{byte:02x}," for byte in content[start : start + PER_LINE])


def bytes_of(source: str) -> bytes:
    """The bytes of the array in a C source of `write_c_array`."""
    body = source.partition("model_data[MODEL_LENGTH] = {")[2].partition("}")[0]
    return bytes(int(text, 16) for text in re.findall(r"0x([0-9a-f]{2}),", body))


def c_string(text: str) -> str:
    """A text as a C string literal of its UTF-8 bytes; every byte that is not a plain character is octal.

    A question mark is one that is not: two before some characters would be a trigraph.
    """
    plain = {ord(character) for character in map(chr, range(0x20, 0x7F)) if character not in '"\\?'}
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode("utf-8")) + '"'
