"""Checks a .tflite file's bytes completely before anything else reads them.

First the structure: each table, vector and string of the flatbuffer is inside the file, and there are not so many that
reading them takes long. Then the meaning: each index names something, constants are as large as their shapes say, and
every tensor is written once, before it is read. LiteRT checks what operators do with their inputs; `tflite_trial`
guards that.

Field numbers are those of the public schema:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs
"""

import math
import struct
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_vision.recipe import InputError, first_line

IDENTIFIER = b"TFL3"
# The largest networks have some ten thousand tensors and operators, of up to three tables each.
MAX_TABLES = 200_000
# Bytes of one tensor; `files.trial` limits those of all together.
MAX_TENSOR_BYTES = 2**31
MAX_RANK = 8
OPERATOR_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
TYPE_NAMES = {value: name.lower() for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
# Bits of a value, for types of a fixed size.
BITS = {
    "float64": 64,
    "float32": 32,
    "float16": 16,
    "bfloat16": 16,
    "bool": 8,
    "complex64": 64,
    "complex128": 128,
    "int64": 64,
    "int32": 32,
    "int16": 16,
    "int8": 8,
    "int4": 4,
    "int2": 2,
    "uint64": 64,
    "uint32": 32,
    "uint16": 16,
    "uint8": 8,
    "uint4": 4,
}
# Inputs that LiteRT's delegate XNNPACK reads without counting them. A bias may be missing.
INPUTS = {
    "CONV_2D": 2,
    "DEPTHWISE_CONV_2D": 2,
    "FULLY_CONNECTED": 2,
    "TRANSPOSE_CONV": 3,
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV", "MINIMUM", "MAXIMUM", "SQUARED_DIFFERENCE", "PRELU", "POW"), 2),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "PAD", "TRANSPOSE", "EXPAND_DIMS", "SPLIT"), 2),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "BATCH_MATMUL", "TILE", "GATHER"), 2),
    **dict.fromkeys(("PADV2", "SLICE"), 3),
    "STRIDED_SLICE": 4,
}

# The kinds of a table's fields by number: a vector's bytes per element, a table, or a list of one table, which is a
# vector of tables. Numbers in the table itself need no entry.
Fields = Mapping[int, Any]
BYTES, SHORT, LONG = 1, 4, 8
_ANY: Fields = {}
_VECTOR: Fields = {0: BYTES}
_QUANTIZATION: Fields = {0: SHORT, 1: SHORT, 2: SHORT, 3: LONG, 5: _VECTOR}
_SPARSITY: Fields = {0: SHORT, 1: SHORT, 2: [{3: _VECTOR, 5: _VECTOR}]}
_TENSOR: Fields = {0: SHORT, 3: BYTES, 4: _QUANTIZATION, 6: _SPARSITY, 7: SHORT, 9: [{0: SHORT}]}
_OPERATOR: Fields = {1: SHORT, 2: SHORT, 4: _ANY, 5: BYTES, 7: BYTES, 8: SHORT, 12: _ANY}
_SUBGRAPH: Fields = {0: [_TENSOR], 1: SHORT, 2: SHORT, 3: [_OPERATOR], 4: BYTES}
_NAMED: Fields = {0: BYTES}
_SIGNATURE: Fields = {0: [_NAMED], 1: [_NAMED], 2: BYTES}
_MODEL: Fields = {
    1: [{1: BYTES}],
    2: [_SUBGRAPH],
    3: BYTES,
    4: [_VECTOR],
    5: SHORT,
    6: [_NAMED],
    7: [_SIGNATURE],
    8: [_NAMED],
    9: [_NAMED],
}


class DamagedError(ValueError):
    """A flatbuffer that is not what its schema says; the message is the reason in a few words."""


class Structure:
    """A walk over a flatbuffer that checks that everything in it is inside the file.

    Args:
        content: Bytes of the flatbuffer.
    """

    def __init__(self, content: bytes) -> None:
        self.content, self.size, self.tables = content, len(content), 0

    def check(self, table: Fields) -> None:
        """Checks the root, which is such a table, and everything that it refers to.

        Raises:
            DamagedError: If something is outside the file, or there is too much of it.
        """
        self.check_table(self._target(0), table)

    def _number(self, code, width, place):
        if not 0 <= place <= self.size - width:
            raise DamagedError(f"it refers to byte {place} of {self.size}")
        return struct.unpack_from(code, self.content, place)[0]

    def _target(self, place):
        return place + self._number("<I", 4, place)

    def check_table(self, place: int, table: Fields) -> None:
        """The same for the table at a place."""
        self.tables += 1
        if self.tables > MAX_TABLES:
            raise DamagedError(f"it has more than {MAX_TABLES} tables")
        fields = place - self._number("<i", 4, place)
        width, extent = self._number("<H", 2, fields), self._number("<H", 2, fields + 2)
        if width < 4 or width % 2 or fields + width > self.size or place + extent > self.size:
            raise DamagedError(f"the table at byte {place} exceeds the file")
        for field, offset in enumerate(struct.unpack_from(f"<{width // 2 - 2}H", self.content, fields + 4)):
            if offset == 0:
                continue
            if not 4 <= offset < extent:
                raise DamagedError(f"the table at byte {place} has a field outside of it")
            if field in table:
                self._field(place + offset, table[field])

    def _field(self, place, kind):
        target = self._target(place)
        if isinstance(kind, dict):
            self.check_table(target, kind)
            return
        length, width = self._number("<I", 4, target), kind if isinstance(kind, int) else 4
        if target + 4 + length * width > self.size:
            raise DamagedError(f"the vector at byte {target} exceeds the file")
        if isinstance(kind, list):
            for index in range(length):
                self.check_table(self._target(target + 4 + 4 * index), kind[0])


def require_identifier(content: bytes, where: str | PathLike) -> None:
    """Raises an `InputError` unless a file's bytes have the identifier of TensorFlow Lite."""
    if content[4:8] != IDENTIFIER:
        raise InputError(f"{where} is not a TensorFlow Lite file: it lacks the identifier {IDENTIFIER.decode()}.")


def unpack(content: bytes, where: str | PathLike = "The file") -> Any:
    """The schema model object of a file's bytes, checked.

    Args:
        where: Name of the file in error messages.

    Raises:
        InputError: If they are no TensorFlow Lite file, or one that contradicts itself.
    """
    require_identifier(content, where)
    try:
        Structure(content).check(_MODEL)
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
        _fill(model)
        _bring_in(model, content)
        for complaint in _complaints(model):
            raise DamagedError(complaint)
    except (struct.error, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, MemoryError) as error:
        raise InputError(f"{where} is a damaged TensorFlow Lite file: {first_line(error)}.") from error
    return model


def text(name: Any) -> str:
    """A name in the schema's objects as a string."""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name or ""


def operator_name(model: Any, item: Any) -> str:
    """Name of an operator, such as `CONV_2D`, or a custom operator's own name.

    Args:
        model: The schema model object.
        item: One of its graph's operators.
    """
    code = model.operatorCodes[item.opcodeIndex]
    return text(code.customCode) or OPERATOR_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]


def _fill(model):
    """Empty lists for vectors that the file leaves out."""
    for name in ("operatorCodes", "subgraphs", "buffers"):
        setattr(model, name, getattr(model, name) or [])
    none = np.zeros(0, np.int32)
    for graph in model.subgraphs:
        graph.tensors, graph.operators = graph.tensors or [], graph.operators or []
        parts = [(graph, ("inputs", "outputs")), *((item, ("inputs", "outputs")) for item in graph.operators)]
        parts += [(tensor, ("shape",)) for tensor in graph.tensors]
        for part, names in parts:
            for name in names:
                if getattr(part, name) is None:
                    setattr(part, name, none)


def _bring_in(model, content):
    """Gives buffers the bytes that the file keeps behind its flatbuffer, as ai-edge-quantizer writes them."""
    outside = [buffer for buffer in model.buffers if buffer.offset > 1 or buffer.size > 1]
    # Also a bound: many buffers of the same bytes would become a large file when the model is written again.
    if sum(buffer.size for buffer in outside) > len(content):
        raise DamagedError("its weights behind the flatbuffer are larger than the file")
    for buffer in outside:
        if buffer.data is not None and len(buffer.data):
            raise DamagedError("a buffer has its weights twice")
        if buffer.offset + buffer.size > len(content):
            raise DamagedError(f"its weights end at byte {buffer.offset + buffer.size} of {len(content)}")
        buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
        buffer.offset = buffer.size = 0


def _complaints(model) -> Iterator[str]:
    """What is wrong with a model, most fundamental first."""
    if model.externalBuffers or model.externalBufferGroups:
        yield "its weights are in another file"
    for code in model.operatorCodes:
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        if not code.customCode and number not in OPERATOR_NAMES:
            yield f"it has an operator of the unknown number {number}"
    for item in model.metadata or []:
        if not _within(item.buffer, model.buffers):
            yield f"its metadata is in buffer {item.buffer} of {len(model.buffers)}"
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            yield from _tensor_complaints(model, tensor)
        yield from _graph_complaints(model, graph)
    for item in model.signatureDefs or []:
        if not _within(item.subgraphIndex, model.subgraphs):
            yield f"a signature names subgraph {item.subgraphIndex} of {len(model.subgraphs)}"
        tensors = model.subgraphs[item.subgraphIndex].tensors
        for part in (*(item.inputs or []), *(item.outputs or [])):
            if not _within(part.tensorIndex, tensors):
                yield f"a signature names tensor {part.tensorIndex} of {len(tensors)}"


def _within(index, items):
    return 0 <= index < len(items)


def _tensor_complaints(model, tensor):
    name = repr(text(tensor.name)[:80])
    if not _within(tensor.buffer, model.buffers):
        yield f"the tensor {name} is in buffer {tensor.buffer} of {len(model.buffers)}"
    if tensor.type not in TYPE_NAMES:
        yield f"the tensor {name} is of the unknown type {tensor.type}"
    shape = [int(side) for side in tensor.shape]
    if len(shape) > MAX_RANK or min(shape, default=0) < 0:
        yield f"the tensor {name} has the shape {tuple(shape[: MAX_RANK + 1])}"
    bits = BITS.get(TYPE_NAMES[tensor.type])
    expected = math.ceil(math.prod(shape) * (bits or 8) / 8)
    if expected > MAX_TENSOR_BYTES:
        yield f"the tensor {name} of shape {tuple(shape)} has more than {MAX_TENSOR_BYTES >> 30} GB"
    data = model.buffers[tensor.buffer].data
    if data is not None and len(data) and bits and tensor.sparsity is None and len(data) != expected:
        yield f"the tensor {name} of shape {tuple(shape)} needs {expected} bytes and has {len(data)}"
    yield from _quantization_complaints(name, shape, tensor.quantization)


def _quantization_complaints(name, shape, quantization):
    if quantization is None or quantization.scale is None or not len(quantization.scale):
        return
    count, axis = len(quantization.scale), quantization.quantizedDimension
    zeros = 0 if quantization.zeroPoint is None else len(quantization.zeroPoint)
    if not np.all(np.isfinite(quantization.scale)) or np.any(np.asarray(quantization.scale) < 0):
        yield f"the tensor {name} has a scale that is no positive number"
    if zeros not in (0, 1, count):
        yield f"the tensor {name} has {count} scales and {zeros} zero points"
    if count > 1 and not (_within(axis, shape) and shape[axis] == count):
        yield f"the tensor {name} of shape {tuple(shape)} has {count} scales along axis {axis}"


def _graph_complaints(model, graph):
    """Every index names a tensor, and every tensor has a value when it is read and is written once."""
    number = len(graph.tensors)
    indices = [*graph.inputs, *graph.outputs]
    indices += [index for item in graph.operators for index in (*item.inputs, *item.outputs)]
    if indices and not -1 <= min(indices) <= max(indices) < number:
        yield f"it refers to tensor {min(indices) if min(indices) < -1 else max(indices)} of {number}"
    if -1 in graph.inputs or -1 in graph.outputs:
        yield "an input or output of it is no tensor"
    constants = {
        index
        for index, tensor in enumerate(graph.tensors)
        if (data := model.buffers[tensor.buffer].data) is not None and len(data)
    }
    known = {-1, *constants, *(index for index, tensor in enumerate(graph.tensors) if tensor.isVariable)}
    # An empty constant has no bytes either.
    known |= {index for index, tensor in enumerate(graph.tensors) if 0 in tensor.shape}
    written = {*constants, *map(int, graph.inputs)}
    known |= written
    for item in graph.operators:
        if not _within(item.opcodeIndex, model.operatorCodes):
            yield f"an operator has the code {item.opcodeIndex} of {len(model.operatorCodes)}"
        name = operator_name(model, item)
        if item.largeCustomOptionsOffset or item.largeCustomOptionsSize:
            yield f"{name} keeps its options outside of its flatbuffer"
        if len(item.inputs) < INPUTS.get(name, 0) or not len(item.outputs):
            yield f"{name} has {len(item.inputs)} inputs and {len(item.outputs)} outputs"
        for index in map(int, item.inputs):
            if index not in known:
                yield f"{name} reads the tensor {text(graph.tensors[index].name)[:80]!r} before it has a value"
        for index in map(int, item.outputs):
            if index in written or index < 0:
                yield f"{name} writes to a tensor that is not its own"
            written.add(index)
        known |= written
    if not {int(index) for index in graph.outputs} <= known:
        yield "an output of it is never computed"
