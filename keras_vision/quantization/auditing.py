"""The contents of a finished .tflite file, read from the file itself: operators, types, bytes of weights."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

import numpy as np

from keras_vision.quantization.metadata import read_metadata
from keras_vision.quantization.verification import TYPE_NAMES, operator_name, text, unpack
from keras_vision.recipe import InputError

FLOATS = {"float16", "float32", "float64", "bfloat16"}
MAX_SHOWN = 2000  # Characters of a value in a card, which may hold anything.
KINDS = ("full-integer", "dynamic range", "float", "mixed")


@dataclass(frozen=True)
class Operator:
    """One operator of a file.

    Attributes:
        name: Such as `CONV_2D`; a custom operator's own name.
        output: Name of its first output tensor.
        inputs: Types of its inputs without constants.
        outputs: Types of its outputs.
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
    """The contents of a file.

    Attributes:
        kind: `full-integer`, `dynamic range` (float operators with 8-bit weights), `float`, or `mixed`.
        input, output: Type and shape, such as `uint8 (1, 28, 28, 3)`.
        operators: In the order in which they run.
        floats: Each tensor that keeps the file from being full-integer, as a phrase; empty for a full-integer file.
        bytes: Size of the file.
    """

    kind: str
    input: str
    output: str
    operators: tuple[Operator, ...]
    floats: tuple[str, ...]
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The audit as a dict for JSON."""
        return asdict(self)

    def require_full_integer(self) -> None:
        """Raises an `InputError` that names the float tensors, unless the file is full-integer."""
        if self.kind != "full-integer":
            raise InputError(f"The file is not full-integer but {self.kind}: {'; '.join(self.floats[:5])}.")


def audit(content: bytes, where: str | PathLike = "The file") -> Audit:
    """Reads a file's bytes.

    Args:
        where: Name of the file in error messages.

    Raises:
        InputError: If they are no TensorFlow Lite file, or one with several subgraphs.
    """
    model = unpack(content, where)
    if len(model.subgraphs) != 1:
        raise InputError(f"{where} has {len(model.subgraphs)} subgraphs. Only files with one are supported.")
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


def _operator(model, graph, item):
    inputs = [graph.tensors[number] for number in item.inputs if number >= 0]
    outputs = [graph.tensors[number] for number in item.outputs]
    constants = [tensor for tensor in inputs if _bytes(model, tensor)]
    largest = max(constants, key=lambda tensor: _bytes(model, tensor), default=None)
    scales = None
    if largest is not None and largest.quantization is not None and largest.quantization.scale is not None:
        scales = "per channel" if len(largest.quantization.scale) > 1 else "per tensor"
    return Operator(
        name=operator_name(model, item),
        output=text(outputs[0].name) if outputs else "",
        inputs=tuple(TYPE_NAMES[tensor.type] for tensor in inputs if not _bytes(model, tensor)),
        outputs=tuple(TYPE_NAMES[tensor.type] for tensor in outputs),
        weights=None if largest is None else TYPE_NAMES[largest.type],
        scales=scales,
        bytes=sum(_bytes(model, tensor) for tensor in constants),
    )


def _bytes(model, tensor):
    data = model.buffers[tensor.buffer].data
    return 0 if data is None else len(data)


def _floats(model, graph):
    """Every float inside the file, without the input of a first QUANTIZE and the output of a last DEQUANTIZE."""
    starts, ends = set(np.atleast_1d(graph.inputs).tolist()), set(np.atleast_1d(graph.outputs).tolist())
    for item in graph.operators:
        name = operator_name(model, item)
        allowed = set()
        if name == "QUANTIZE":
            allowed = set(item.inputs) & starts
        elif name == "DEQUANTIZE":
            allowed = set(item.outputs) & ends
        for number in [*item.inputs, *item.outputs]:
            if number < 0 or number in allowed:
                continue
            tensor = graph.tensors[number]
            kind = TYPE_NAMES[tensor.type]
            if kind in FLOATS:
                yield f"{name} has the {kind} tensor {text(tensor.name)!r}"
            elif kind in ("int8", "uint8", "int16") and (
                tensor.quantization is None or tensor.quantization.scale is None
            ):
                yield f"{name} has the {kind} tensor {text(tensor.name)!r} without a scale"


def _kind(operators, floats):
    if not floats:
        return "full-integer"
    computing = [item for item in operators if item.name not in ("QUANTIZE", "DEQUANTIZE", "RESHAPE")]
    if any(kind not in FLOATS for item in computing for kind in (*item.inputs, *item.outputs)):
        return "mixed"
    return "dynamic range" if any(item.weights == "int8" for item in operators) else "float"


def _shown(tensor):
    return f"{TYPE_NAMES[tensor.type]} {tuple(int(side) for side in tensor.shape)}"


def table(audit: Audit) -> Iterator[str]:
    """The audit as lines of text."""
    yield f"{audit.kind}, {audit.bytes:,} bytes, {len(audit.operators)} operators"
    yield f"input {audit.input}, output {audit.output}"
    yield f"{'operator':<20}{'inputs':<18}{'outputs':<12}{'weights':<22}{'bytes':>10}  tensor"
    for item in audit.operators:
        weights = " ".join(part for part in (item.weights, item.scales) if part)
        inputs, outputs = ", ".join(item.inputs), ", ".join(item.outputs)
        yield f"{item.name:<20}{inputs:<18}{outputs:<12}{weights:<22}{item.bytes:>10,}  {item.output}"
    for phrase in audit.floats if audit.kind == "mixed" else ():
        yield f"float inside: {phrase}"


def card_differences(content: bytes, card: Mapping[str, Any], where: str | PathLike = "The file") -> list[str]:
    """Differences between a file and its card.

    Args:
        content: Bytes of the file.
        card: The dict of `SCHEME.json`.
        where: Name of the file in error messages.

    Returns:
        A phrase per difference; empty when they agree.
    """
    contents, metadata = audit(content, where), read_metadata(content, where)
    facts = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": contents.bytes,
        "kind": contents.kind,
        "input": contents.input,
        "output": contents.output,
        "labels": list(metadata.labels) if metadata else [],
    }
    return [
        f"{name} is {value!r}, but its card says {repr(card.get(name))[:MAX_SHOWN]}"
        for name, value in facts.items()
        if card.get(name) != value
    ]
