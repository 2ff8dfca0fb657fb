"""What a finished .tflite file is, read from the file itself: every operator, every type, every byte of weights."""

import hashlib
from dataclasses import asdict, dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_vision.quantization.flatbuffer import operator_name, unpack
from keras_vision.quantization.metadata import read_metadata
from keras_vision.recipe import InputError

TYPE_NAMES = {value: name.lower() for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
FLOATS = {"float16", "float32", "float64", "bfloat16"}
KINDS = ("full-integer", "dynamic range", "float", "mixed")


@dataclass(frozen=True)
class Operator:
    """One operator of a file.

    Attributes:
        name: Such as `CONV_2D`; a custom operator's own name.
        output: Name of the tensor that it makes.
        inputs: Types of what it takes from other operators.
        outputs: Types of what it makes.
        weights: Type of its largest constant, or None.
        scales: "per channel" or "per tensor", for quantized weights.
        bytes: Size of its constants.
    """

    name: str
    output: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: str | None
    scales: str | None
    bytes: int


@dataclass(frozen=True)
class Audit:
    """What was found in a file.

    Attributes:
        kind: `full-integer`, `dynamic range` (float operators with 8-bit weights), `float`, or `mixed`.
        input, output: Type and shape, such as `uint8 (1, 28, 28, 3)`.
        operators: In the order in which they run.
        floats: What keeps the file from being full-integer, a phrase each; empty for a full-integer file.
        bytes: Size of the file.
    """

    kind: str
    input: str
    output: str
    operators: tuple[Operator, ...]
    floats: tuple[str, ...]
    bytes: int

    def to_dict(self):
        return asdict(self)

    def require_full_integer(self):
        """Raises InputError, naming what is float, unless the file is full-integer."""
        if self.kind != "full-integer":
            raise InputError(f"The file is not full-integer but {self.kind}: {'; '.join(self.floats[:5])}.")


def audit(content, where="The file"):
    """Reads a file's bytes.

    Returns:
        An `Audit`.

    Raises:
        InputError: If they are no TensorFlow Lite file.
    """
    model = unpack(content, where)
    if len(model.subgraphs) != 1:
        raise InputError(f"{where} has {len(model.subgraphs)} subgraphs; this reads files with one.")
    graph = model.subgraphs[0]
    operators = tuple(_operator(model, graph, item) for item in graph.operators)
    floats = tuple(_floats(model, graph))
    return Audit(
        kind=_kind(operators, floats),
        input=", ".join(_shown(graph.tensors[number]) for number in graph.inputs),
        output=", ".join(_shown(graph.tensors[number]) for number in graph.outputs),
        operators=operators,
        floats=floats,
        bytes=len(content),
    )


def _text(name):
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name or ""


def _operator(model, graph, item):
    taken = [graph.tensors[number] for number in item.inputs if number >= 0]
    made = [graph.tensors[number] for number in item.outputs]
    constants = [tensor for tensor in taken if _bytes(model, tensor)]
    largest = max(constants, key=lambda tensor: _bytes(model, tensor), default=None)
    scales = None
    if largest is not None and largest.quantization is not None and largest.quantization.scale is not None:
        scales = "per channel" if len(largest.quantization.scale) > 1 else "per tensor"
    return Operator(
        name=operator_name(model, item),
        output=_text(made[0].name),
        inputs=tuple(TYPE_NAMES[tensor.type] for tensor in taken if not _bytes(model, tensor)),
        outputs=tuple(TYPE_NAMES[tensor.type] for tensor in made),
        weights=None if largest is None else TYPE_NAMES[largest.type],
        scales=scales,
        bytes=sum(_bytes(model, tensor) for tensor in constants),
    )


def _bytes(model, tensor):
    data = model.buffers[tensor.buffer].data
    return 0 if data is None else len(data)


def _floats(model, graph):
    """Every float inside the file; a QUANTIZE at its beginning and a DEQUANTIZE at its end are its rim."""
    begins, ends = set(np.atleast_1d(graph.inputs).tolist()), set(np.atleast_1d(graph.outputs).tolist())
    for item in graph.operators:
        name = operator_name(model, item)
        rim = set()
        if name == "QUANTIZE":
            rim = set(item.inputs) & begins
        elif name == "DEQUANTIZE":
            rim = set(item.outputs) & ends
        for number in [*item.inputs, *item.outputs]:
            if number < 0 or number in rim:
                continue
            tensor = graph.tensors[number]
            kind = TYPE_NAMES[tensor.type]
            if kind in FLOATS:
                yield f"{name} has the {kind} tensor {_text(tensor.name)!r}"
            elif kind in ("int8", "uint8", "int16") and (
                tensor.quantization is None or tensor.quantization.scale is None
            ):
                yield f"{name} has the {kind} tensor {_text(tensor.name)!r} without a scale"


def _kind(operators, floats):
    if not floats:
        return "full-integer"
    computing = [item for item in operators if item.name not in ("QUANTIZE", "DEQUANTIZE", "RESHAPE")]
    if any(kind not in FLOATS for item in computing for kind in (*item.inputs, *item.outputs)):
        return "mixed"
    return "dynamic range" if any(item.weights == "int8" for item in operators) else "float"


def _shown(tensor):
    return f"{TYPE_NAMES[tensor.type]} {tuple(int(side) for side in tensor.shape)}"


def table(found):
    """The audit as lines of text."""
    yield f"{found.kind}, {found.bytes:,} bytes, {len(found.operators)} operators"
    yield f"input {found.input}, output {found.output}"
    yield f"{'operator':<20}{'takes':<18}{'makes':<12}{'weights':<22}{'bytes':>10}  output"
    for item in found.operators:
        weights = " ".join(part for part in (item.weights, item.scales) if part)
        takes, makes = ", ".join(item.inputs), ", ".join(item.outputs)
        yield f"{item.name:<20}{takes:<18}{makes:<12}{weights:<22}{item.bytes:>10,}  {item.output}"
    for phrase in found.floats if found.kind == "mixed" else ():
        yield f"float inside: {phrase}"


def card_differences(content, card):
    """What a file's card says that the file does not.

    Args:
        content: Bytes of the file.
        card: The dict of `SCHEME.json`.

    Returns:
        A list of phrases; empty when they agree.
    """
    found, metadata = audit(content), read_metadata(content)
    facts = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": found.bytes,
        "kind": found.kind,
        "input": found.input,
        "output": found.output,
        "labels": list(metadata.labels) if metadata else [],
    }
    return [
        f"{name} is {value!r}, but its card says {card.get(name)!r}"
        for name, value in facts.items()
        if card.get(name) != value
    ]
