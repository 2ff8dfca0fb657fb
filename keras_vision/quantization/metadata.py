"""TensorFlow Lite metadata: class names and input normalization inside the file, for phones' libraries.

Field numbers are those of the public schema, `metadata_schema.fbs`:
https://github.com/tensorflow/tflite-support/blob/master/tensorflow_lite_support/metadata/metadata_schema.fbs
The labels are a text file in a zip archive appended to the model, where readers of the format look for them.
"""

import io
import struct
import zipfile
from dataclasses import dataclass
from os import PathLike

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import encode, number_types, packer
from flatbuffers.table import Table

from keras_vision.files import archives, outside
from keras_vision.quantization.flatbuffer import pack
from keras_vision.quantization.verification import (
    BYTES,
    SHORT,
    DamagedError,
    Fields,
    Structure,
    text,
    unpack,
)
from keras_vision.recipe import InputError, first_line

BUFFER_NAME = "TFLITE_METADATA"
IDENTIFIER = b"M001"
PARSER_VERSION = "1.0.0"
LABELS_FILE = "labels.txt"
# Numbers in the schema's unions and enums.
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES = 1, 2
_NORMALIZATION_OPTIONS = 1
_TENSOR_AXIS_LABELS = 2
_RGB, _GRAYSCALE = 1, 2
# What is read of the schema's tables, as `verification` describes them.
_FILES: Fields = {0: BYTES}
_TENSOR: Fields = {4: [{1: {}}], 6: [_FILES]}
_MODEL: Fields = {0: BYTES, 1: BYTES, 2: BYTES, 3: [{2: [_TENSOR], 3: [_TENSOR]}], 5: BYTES}
_NORMALIZATION: Fields = {0: SHORT, 1: SHORT}


@dataclass(frozen=True)
class Metadata:
    """A file's description of itself.

    Attributes:
        name: Name of the model.
        description: A sentence or two.
        version: Version of the model.
        licence: Licence of the model.
        labels: Class names, in the order of the scores.
        mean, std: A float input takes `(pixel - mean) / std`, with pixels from 0 to 255. One number for all channels,
            or one per channel; None, both, if the file has no normalization.
    """

    name: str
    description: str
    version: str
    licence: str
    labels: tuple[str, ...]
    mean: float | tuple[float, ...] | None = 0.0
    std: float | tuple[float, ...] | None = 1.0


def input_range(metadata: Metadata) -> tuple[float, float] | tuple[np.ndarray, np.ndarray] | None:
    """The values of a float input for the pixel values 0 and 255: two numbers, or two arrays over the channels.

    None if the metadata has no normalization.
    """
    if metadata.mean is None or metadata.std is None:
        return None
    mean, std = np.asarray(metadata.mean, np.float64), np.asarray(metadata.std, np.float64)
    low, high = (0 - mean) / std, (255 - mean) / std
    return (float(low), float(high)) if low.ndim == 0 else (low, high)


def add_metadata(content: bytes, metadata: Metadata) -> bytes:
    """A file's bytes with metadata inside and the zipped labels appended.

    Args:
        content: Bytes of a .tflite file with one input and one output.

    Raises:
        InputError: If the bytes are no TensorFlow Lite file.
    """
    model = unpack(content)
    packed = np.frombuffer(_pack_metadata(metadata, model.subgraphs[0]), np.uint8)
    kept = [item for item in model.metadata or [] if text(item.name) != BUFFER_NAME]
    model.buffers.append(schema.BufferT(data=packed))
    model.metadata = [*kept, schema.MetadataT(name=BUFFER_NAME, buffer=len(model.buffers) - 1)]
    file = io.BytesIO(pack(model))
    with zipfile.ZipFile(file, "a") as archive:
        # A fixed date: the same model makes the same bytes.
        archive.writestr(zipfile.ZipInfo(LABELS_FILE), "\n".join(metadata.labels) + "\n")
    return file.getvalue()


def read_metadata(content: bytes, where: str | PathLike = "The file") -> Metadata | None:
    """The metadata of a file's bytes, or None if it has none.

    Args:
        where: Name of the file in error messages.

    Raises:
        InputError: If the bytes are no TensorFlow Lite file, or the metadata is damaged.
    """
    model = unpack(content, where)
    buffers = [item.buffer for item in model.metadata or [] if text(item.name) == BUFFER_NAME]
    if not buffers:
        return None
    data = model.buffers[buffers[0]].data
    try:
        return _read(b"" if data is None else bytes(data), content, where)
    except (DamagedError, struct.error) as error:
        raise InputError(f"{where} has damaged metadata: {first_line(error)}.") from error


def _read(packed, content, where):
    structure = Structure(packed)
    structure.check(_MODEL)
    root = _Reader(packed, encode.Get(packer.uoffset, packed, 0))
    # Other writers leave out what they do not know.
    graphs = root.tables(3)[:1]
    inputs = [tensor for graph in graphs for tensor in graph.tables(2)[:1]]
    outputs = [tensor for graph in graphs for tensor in graph.tables(3)]
    mean = std = None
    for unit in (unit for tensor in inputs for unit in tensor.tables(4)):
        if unit.byte(0) == _NORMALIZATION_OPTIONS and unit.has(1):
            options = unit.table(1)
            structure.check_table(options.Pos, _NORMALIZATION)
            mean, std = _normalization_of(options.floats(0), options.floats(1))
    labels = ()
    files = [file for tensor in outputs for file in tensor.tables(6) if file.byte(2) == _TENSOR_AXIS_LABELS]
    if files:
        lines = archives.read_appended(content, files[0].string(0), outside.MAX_NAMES_BYTES, where) or b""
        labels = tuple(lines.decode("utf-8", "replace").splitlines())
    return Metadata(root.string(0), root.string(1), root.string(2), root.string(5), labels, mean, std)


def _normalization_of(means, stds):
    """Mean and deviation as `Metadata` has them."""
    if not np.all(np.isfinite([*means, *stds])) or min(stds, default=1) <= 0:
        raise DamagedError("it divides pixels by a deviation that is no positive number")
    if len(means) > 1 and len(stds) > 1 and len(means) != len(stds):
        raise DamagedError(f"it has {len(means)} means and {len(stds)} deviations")
    return _one_or_each(means), _one_or_each(stds)


def _one_or_each(values):
    return values[0] if len(set(values)) == 1 else tuple(values) or None


def _pack_metadata(metadata, graph):
    builder = flatbuffers.Builder(1024)
    shape = graph.tensors[graph.inputs[0]].shape
    quantized = graph.tensors[graph.inputs[0]].type != schema.TensorType.FLOAT32
    image = _tensor(builder, "image", "The picture, pixels from 0 to 255.", _image(builder, shape))
    values = input_range(metadata)
    if values is not None:
        image["process_units"] = _vector(builder, [_normalization(builder, metadata)])
    # Bytes are pixel values; the bounds of a float input follow from its normalization.
    bounds = (0.0, 255.0) if quantized else values
    if bounds is not None:
        image["stats"] = _stats(builder, *bounds)
    labels = _table(
        builder,
        {
            0: _string(builder, LABELS_FILE),
            1: _string(builder, "Names of the classes, a line each, in the order of the scores."),
        },
        byte=(2, _TENSOR_AXIS_LABELS),
    )
    content = _table(builder, {1: _table(builder, {})}, byte=(0, _FEATURE_PROPERTIES))
    scores = _tensor(builder, "scores", "A score for each class.", content)
    scores["associated_files"] = _vector(builder, [labels])
    scores["stats"] = _stats(builder, 0.0, 1.0)
    order = {"name": 0, "description": 1, "content": 3, "process_units": 4, "stats": 5, "associated_files": 6}
    tensors = [_table(builder, {order[key]: place for key, place in part.items()}) for part in (image, scores)]
    subgraph = _table(builder, {2: _vector(builder, tensors[:1]), 3: _vector(builder, tensors[1:])})
    root = _table(
        builder,
        {
            0: _string(builder, metadata.name),
            1: _string(builder, metadata.description),
            2: _string(builder, metadata.version),
            3: _vector(builder, [subgraph]),
            5: _string(builder, metadata.licence),
            7: _string(builder, PARSER_VERSION),
        },
    )
    builder.Finish(root, file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _string(builder, text):
    return builder.CreateString(text)


def _vector(builder, places):
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return builder.EndVector()


def _floats(builder, values):
    return builder.CreateNumpyVector(np.atleast_1d(np.asarray(values, np.float32)))


def _table(builder, places, byte=None):
    """A table from the places of its fields by number; `byte` is `(field, value)` of a field of one byte."""
    builder.StartObject(10)
    for field, place in places.items():
        builder.PrependUOffsetTRelativeSlot(field, place, 0)
    if byte is not None:
        builder.PrependUint8Slot(*byte, 0)
    return builder.EndObject()


def _tensor(builder, name, description, content):
    return {"name": _string(builder, name), "description": _string(builder, description), "content": content}


def _image(builder, shape):
    """Content of an image tensor: its colours and its size; for a volume, those of a slice."""
    *_, height, width, channels = (int(side) for side in shape)
    builder.StartObject(2)
    builder.PrependUint32Slot(0, width, 0)
    builder.PrependUint32Slot(1, height, 0)
    size = builder.EndObject()
    properties = _table(builder, {1: size}, byte=(0, _RGB if channels == 3 else _GRAYSCALE))
    return _table(builder, {1: properties}, byte=(0, _IMAGE_PROPERTIES))


def _normalization(builder, metadata):
    options = _table(builder, {0: _floats(builder, metadata.mean), 1: _floats(builder, metadata.std)})
    return _table(builder, {1: options}, byte=(0, _NORMALIZATION_OPTIONS))


def _stats(builder, low, high):
    return _table(builder, {0: _floats(builder, high), 1: _floats(builder, low)})


class _Reader(Table):
    """A table of a flatbuffer, read by field number."""

    Pos: int
    Bytes: bytes

    def _place(self, field):
        return self.Offset(4 + 2 * field)

    def has(self, field: int) -> bool:
        return bool(self._place(field))

    def byte(self, field: int) -> int:
        place = self._place(field)
        return self.Get(number_types.Uint8Flags, self.Pos + place) if place else 0

    def string(self, field: int) -> str:
        place = self._place(field)
        return self.String(self.Pos + place).decode("utf-8", "replace") if place else ""

    def table(self, field: int) -> "_Reader":
        place = self._place(field)
        return _Reader(self.Bytes, self.Indirect(self.Pos + place))

    def tables(self, field: int) -> list["_Reader"]:
        place = self._place(field)
        if not place:
            return []
        start = self.Vector(place)
        return [_Reader(self.Bytes, self.Indirect(start + 4 * index)) for index in range(self.VectorLen(place))]

    def floats(self, field: int) -> list[float]:
        place = self._place(field)
        if not place:
            return []
        start = self.Vector(place)
        return [self.Get(number_types.Float32Flags, start + 4 * index) for index in range(self.VectorLen(place))]
