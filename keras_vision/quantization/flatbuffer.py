"""Writing TensorFlow Lite models, tensor by tensor, with the schema in LiteRT's own package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_vision.quantization.verification import IDENTIFIER

ALIGNMENT = 16
TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.int32): schema.TensorType.INT32,
}
# First version of each operator that accepts 8-bit integers, with a scale per channel where it has weights: an older
# runtime then refuses the file instead of computing something else.
# Source: tensorflow/lite/tools/versioning/op_version.cc
INTEGER_VERSIONS = {
    "ADD": 2,
    "AVERAGE_POOL_2D": 2,
    "BATCH_MATMUL": 2,
    "CONCATENATION": 2,
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "DEQUANTIZE": 2,
    "ELU": 1,
    "FULLY_CONNECTED": 4,
    "GELU": 2,
    "HARD_SWISH": 1,
    "L2_NORMALIZATION": 2,
    "LEAKY_RELU": 2,
    "LOGISTIC": 2,
    "MAX_POOL_2D": 2,
    "MEAN": 2,
    "MUL": 2,
    "PAD": 2,
    "QUANTIZE": 2,
    "REDUCE_MAX": 2,
    "RELU": 2,
    "RELU6": 2,
    "RESHAPE": 1,
    "RESIZE_BILINEAR": 3,
    "RESIZE_NEAREST_NEIGHBOR": 2,
    "SLICE": 2,
    "SOFTMAX": 2,
    "STRIDED_SLICE": 2,
    "SUB": 2,
    "TANH": 2,
    "TRANSPOSE": 2,
    "TRANSPOSE_CONV": 4,
}

FLOAT_VERSIONS = dict.fromkeys(INTEGER_VERSIONS, 1) | {
    "DEPTHWISE_CONV_2D": 2,
    "RESIZE_BILINEAR": 3,
    "RSQRT": 1,
    "TRANSPOSE_CONV": 4,
}
# With floats, but 8-bit weights that have a scale for each output channel.
DYNAMIC_VERSIONS = FLOAT_VERSIONS | {"CONV_2D": 5, "DEPTHWISE_CONV_2D": 6, "FULLY_CONNECTED": 12}


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file.

    Attributes:
        number: Its index in the subgraph.
        scale, zero_point: `real = scale * (integer - zero_point)`; None for floats.
    """

    number: int
    shape: tuple[int, ...]
    dtype: np.dtype
    # Any, because operators on integers read them without a check for None.
    scale: Any = None
    zero_point: Any = None


class FlatModel:
    """A model under construction: one subgraph, batch size 1.

    Args:
        description: What the file says that it is.
        versions: Version of each operator, by its name.
    """

    def __init__(self, description: str, versions: Mapping[str, int] = INTEGER_VERSIONS):
        self.versions = versions
        # The schema declares nearly every field as optional.
        self.model: Any = schema.ModelT(
            version=3, description=description, operatorCodes=[], buffers=[schema.BufferT()]
        )
        self.graph: Any = schema.SubGraphT(name="main", tensors=[], operators=[], inputs=[], outputs=[])
        self.model.subgraphs = [self.graph]
        self._codes: dict[str, int] = {}

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: Any,
        scale: Any = None,
        zero_point: int | None = None,
        *,
        axis: int = 0,
        data: np.ndarray | None = None,
    ) -> Tensor:
        """Adds a tensor.

        Args:
            scale: One number, or one per channel along `axis`; None for floats.
            zero_point: Given with a scale.
            data: The values of a constant.
        """
        dtype = np.dtype(dtype)
        quantization = None
        if scale is not None:
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            zeros = np.full(scales.shape, zero_point, np.int64)
            quantization = schema.QuantizationParametersT(scale=scales, zeroPoint=zeros, quantizedDimension=axis)
        buffer = 0
        if data is not None:
            content = np.frombuffer(np.ascontiguousarray(data, dtype).tobytes(), np.uint8)
            self.model.buffers.append(schema.BufferT(data=content))
            buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(
            schema.TensorT(
                name=name,
                shape=np.asarray(shape, np.int32),
                type=TYPES[dtype],
                buffer=buffer,
                quantization=quantization,
                hasRank=True,
            )
        )
        return Tensor(len(self.graph.tensors) - 1, tuple(shape), dtype, scale, zero_point)

    def operator(self, name: str, inputs: Sequence[Tensor], output: Tensor, options: Any = None) -> Tensor:
        """Adds an operator and returns its output.

        Args:
            name: Name of a builtin operator, such as `CONV_2D`.
            options: The schema's options object, such as `Conv2DOptionsT`.
        """
        if name not in self._codes:
            code = getattr(schema.BuiltinOperator, name)
            self._codes[name] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(
                schema.OperatorCodeT(
                    # For readers from before there were more than 127 operators.
                    deprecatedBuiltinCode=min(code, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES),
                    builtinCode=code,
                    version=self.versions[name],
                )
            )
        kind = schema.BuiltinOptions.NONE
        if options is not None:
            kind = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.graph.operators.append(
            schema.OperatorT(
                opcodeIndex=self._codes[name],
                inputs=np.array([part.number for part in inputs], np.int32),
                outputs=np.array([output.number], np.int32),
                builtinOptionsType=kind,
                builtinOptions=options,
            )
        )
        return output

    def finish(self, start: Tensor, end: Tensor) -> bytes:
        """The file's bytes, for a model from tensor `start` to tensor `end`, with the signature `serving_default`."""
        self.graph.inputs, self.graph.outputs = np.array([start.number], np.int32), np.array([end.number], np.int32)
        names = [self.graph.tensors[part.number].name for part in (start, end)]
        self.model.signatureDefs = [
            schema.SignatureDefT(
                inputs=[schema.TensorMapT(name=names[0], tensorIndex=start.number)],
                outputs=[schema.TensorMapT(name=names[1], tensorIndex=end.number)],
                signatureKey="serving_default",
            )
        ]
        return pack(self.model)


class _AlignedBuffer(schema.BufferT):
    """A constant's bytes at a multiple of 16, as the schema demands; flatbuffers' Python code does not align them."""

    def Pack(self, builder: Any) -> int:
        place = None
        if self.data is not None:
            content = np.asarray(self.data, np.uint8).tobytes()
            builder.StartVector(1, len(content), ALIGNMENT)
            builder.head -= len(content)
            builder.Bytes[builder.head : builder.head + len(content)] = content
            place = builder.EndVector()
        schema.BufferStart(builder)
        if place is not None:
            schema.BufferAddData(builder, place)
        return schema.BufferEnd(builder)


def pack(model: Any) -> bytes:
    """Bytes of a schema model object."""
    model.buffers = [_AlignedBuffer(data=part.data) for part in model.buffers]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())
