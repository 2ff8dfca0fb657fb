"""Damaged and hostile .tflite files: refused in one sentence before LiteRT sees them, or read."""

import io
import struct
import zipfile

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_vision import quantization
from keras_vision.files import trial
from keras_vision.quantization import runtime, verification
from keras_vision.quantization.flatbuffer import FlatModel, pack
from keras_vision.quantization.verification import unpack
from keras_vision.recipe import InputError

LABELS = ("ant", "bee")


def flat_file():
    """A convolution and a mean, with labels and normalization."""
    file = FlatModel("tiny")
    start = file.tensor("images", (1, 6, 6, 3), np.float32)
    kernel = file.tensor("kernel", (2, 3, 3, 3), np.float32, data=np.ones((2, 3, 3, 3)))
    bias = file.tensor("bias", (2,), np.float32, data=np.zeros(2))
    options = schema.Conv2DOptionsT(padding=schema.Padding.VALID, strideW=1, strideH=1)
    maps = file.operator("CONV_2D", [start, kernel, bias], file.tensor("maps", (1, 4, 4, 2), np.float32), options)
    axes = file.tensor("axes", (2,), np.int32, data=np.array([1, 2]))
    end = file.operator("MEAN", [maps, axes], file.tensor("scores", (1, 2), np.float32), schema.ReducerOptionsT())
    metadata = quantization.Metadata("tiny", "", "1", "CC0", LABELS, 127.5, 127.5)
    return quantization.add_metadata(file.finish(start, end), metadata)


VALID = flat_file()


def changed(change):
    """The valid file with a change of its model object."""
    model = unpack(VALID)
    change(model, model.subgraphs[0])
    return pack(model) + VALID[VALID.rindex(b"PK\x03\x04") :]


def behind(content, change=None):
    """The same file with its weights behind the flatbuffer, as ai-edge-quantizer writes them.

    Args:
        change: Changes the list of `[offset, size, data]` of the weights.
    """
    model = unpack(content)
    moved = [part for part in model.buffers if part.data is not None and len(part.data)]
    weights = [part.data.tobytes() for part in moved]

    def build(places):
        for part, place in zip(moved, places, strict=True):
            part.offset, part.size, part.data = place
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    lengths = [len(data) for data in weights]
    start = len(build([[2, length, None] for length in lengths]))
    starts = (start + np.cumsum([0, *lengths[:-1]])).tolist()
    places = [[start, length, None] for start, length in zip(starts, lengths, strict=True)]
    if change:
        change(places)
    return build(places) + b"".join(weights)


def test_weights_behind_the_flatbuffer_are_read_and_run():
    content = behind(VALID)
    assert quantization.audit(content).operators == quantization.audit(VALID).operators
    images = np.random.default_rng(0).uniform(0, 255, (4, 6, 6, 3))
    np.testing.assert_array_equal(quantization.Runner(content)(images), quantization.Runner(VALID)(images))
    again = quantization.add_metadata(content, quantization.Metadata("tiny", "", "1", "CC0", LABELS, 127.5, 127.5))
    assert quantization.read_metadata(again).labels == LABELS
    np.testing.assert_array_equal(quantization.Runner(again)(np.ones((1, 6, 6, 3))), [[27, 27]])


def set_place(index, **values):
    def change(places):
        for name, value in values.items():
            places[index][("offset", "size", "data").index(name)] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_place(0, offset=2**40), "its weights end at byte [0-9]+ of"),
        (set_place(0, offset=2**64 - 200), "its weights end at byte [0-9]+ of"),
        (set_place(-1, size=10**4), "are larger than the file"),
        (set_place(0, size=2**64 - 1), "are larger than the file"),
        (set_place(0, size=4), "needs [0-9]+ bytes and has 4"),
        (set_place(0, data=np.zeros(216, np.uint8)), "a buffer has its weights twice"),
    ],
)
def test_weights_behind_the_flatbuffer_are_inside_the_file(change, message):
    with pytest.raises(InputError, match=f"damaged TensorFlow Lite file: .*{message}"):
        quantization.audit(behind(VALID, change))


def test_the_valid_file_is_read_and_run():
    assert quantization.audit(VALID).kind == "float"
    assert quantization.read_metadata(VALID).labels == LABELS
    scores = quantization.Runner(VALID)(np.ones((1, 6, 6, 3)))
    np.testing.assert_allclose(scores, [[27, 27]])


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_bytes_are_refused_in_one_sentence_or_read(data):
    content = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        value = data.draw(
            st.sampled_from([0, 1, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1]) | st.integers(0, 2**32 - 1)
        )
        struct.pack_into("<I", content, data.draw(st.integers(0, len(content) - 4)), value)
    content = bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    for read in (quantization.audit, quantization.read_metadata):
        sentence = refusal(read, content)
        assert sentence is None or (sentence.startswith("x.tflite ") and "\n" not in sentence)


def refusal(read, content):
    try:
        read(content, "x.tflite")
    except InputError as error:
        return str(error)


def set_shape(shape):
    def change(model, graph):
        graph.tensors[3].shape = np.array(shape, np.int32)

    return change


def set_inputs(index, values):
    def change(model, graph):
        graph.operators[index].inputs = np.array(values, np.int32)

    return change


def set_of(part, **values):
    def change(model, graph):
        for name, value in values.items():
            setattr(part(model, graph), name, value)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_inputs(0, [0, 99, 2]), "refers to tensor 99 of 6"),
        (set_inputs(0, [0, -5, 2]), "refers to tensor -5 of 6"),
        (set_inputs(0, [5, 1, 2]), "CONV_2D reads the tensor 'scores' before it has a value"),
        (set_inputs(1, [3]), "MEAN has 1 inputs"),
        (
            set_of(lambda model, graph: graph.operators[0], outputs=np.array([1], np.int32)),
            "writes to a tensor that is not its own",
        ),
        (set_of(lambda model, graph: graph.operators[0], opcodeIndex=7), "an operator has the code 7 of 2"),
        (set_of(lambda model, graph: graph.tensors[1], buffer=50), "in buffer 50 of"),
        (set_of(lambda model, graph: graph.tensors[1], type=77), "unknown type 77"),
        (set_of(lambda model, graph: model.operatorCodes[0], builtinCode=999), "unknown number 999"),
        (
            set_of(lambda model, graph: graph.tensors[1], shape=np.array([2, 3, 3, 4], np.int32)),
            "needs 288 bytes and has 216",
        ),
        (set_shape([1, -4, 4, 2]), "has the shape"),
        (set_shape([30000, 30000, 30000]), "more than 2 GB"),
        (set_of(lambda model, graph: graph, outputs=np.array([77], np.int32)), "refers to tensor 77"),
        (set_of(lambda model, graph: model.metadata[0], buffer=60), "metadata is in buffer 60"),
        (set_of(lambda model, graph: model.signatureDefs[0].inputs[0], tensorIndex=60), "names tensor 60 of 6"),
        (
            set_of(
                lambda model, graph: graph.tensors[1],
                quantization=schema.QuantizationParametersT(scale=np.ones(3), zeroPoint=np.zeros(3, np.int64)),
            ),
            "has 3 scales along axis 0",
        ),
    ],
)
def test_a_contradiction_is_named(change, message):
    content = changed(change)
    for read in (quantization.audit, quantization.read_metadata, quantization.Runner):
        with pytest.raises(InputError, match=f"damaged TensorFlow Lite file: .*{message}"):
            read(content)


def test_a_table_that_is_repeated_without_end_takes_no_time():
    content = bytearray(VALID) + bytes(4 * 300_000)
    root = schema.Model.GetRootAs(content, 0)
    start = root._tab.Vector(root._tab.Offset(6))
    table = root._tab.Indirect(start)
    place = len(VALID)
    # The vector of operator codes is moved to the end, where every entry is the first code.
    struct.pack_into("<I", content, root._tab.Pos + root._tab.Offset(6), place - root._tab.Pos - root._tab.Offset(6))
    struct.pack_into("<I", content, place, 250_000)
    for index in range(250_000):
        struct.pack_into("<I", content, place + 4 + 4 * index, (table - place - 4 - 4 * index) % 2**32)
    with pytest.raises(InputError, match="damaged TensorFlow Lite file"):
        quantization.audit(bytes(content))


def test_many_tables_are_refused(monkeypatch):
    monkeypatch.setattr(verification, "MAX_TABLES", 10)
    with pytest.raises(InputError, match="more than 10 tables"):
        quantization.audit(VALID)


def test_what_litert_refuses_or_does_not_survive_is_one_sentence():
    content = changed(set_of(lambda model, graph: graph.operators[0].builtinOptions, strideW=0, strideH=0))
    assert quantization.audit(content).kind == "float"
    with pytest.raises(InputError, match="x.tflite cannot be run: "):
        quantization.Runner(content, where="x.tflite")


@pytest.mark.parametrize("error", [trial.TrialError("it crashes"), trial.RaisedError("it crashes.")])
def test_a_file_is_not_run_here_unless_the_child_has_run_it(monkeypatch, error):
    def fail(content, mode):
        raise error

    monkeypatch.setattr(runtime, "_tried", {})
    monkeypatch.setattr(runtime._TRIAL, "result", fail)
    monkeypatch.setattr(runtime, "Interpreter", None)
    with pytest.raises(InputError, match="The file cannot be run: it crashes.$"):
        quantization.Runner(VALID)


@pytest.mark.parametrize(("mean", "std"), [(127.5, 0.0), (127.5, -1.0), (np.nan, 1.0), (1.0, np.inf)])
def test_a_normalization_that_makes_no_numbers_is_refused(mean, std):
    content = bytearray(quantization.add_metadata(VALID, quantization.Metadata("t", "", "", "", LABELS, 3.5, 77.25)))
    for old, new in ((3.5, mean), (77.25, std)):
        struct.pack_into("<f", content, content.rindex(struct.pack("<f", old)), new)
    with pytest.raises(InputError, match="damaged metadata: it divides"):
        quantization.read_metadata(bytes(content))


def test_a_normalization_of_two_lengths_is_refused():
    written = quantization.Metadata("t", "", "", "", LABELS, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    content = bytearray(quantization.add_metadata(VALID, written))
    struct.pack_into("<I", content, content.rindex(struct.pack("<Ifff", 3, 4, 5, 6)), 2)
    with pytest.raises(InputError, match="damaged metadata: it has 3 means and 2 deviations"):
        quantization.read_metadata(bytes(content))


def with_archive(*members):
    """The valid file with another archive of labels."""
    file = io.BytesIO()
    file.write(VALID[: VALID.rindex(b"PK\x03\x04")])
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def test_labels_are_read_from_an_archive_of_a_sensible_size():
    assert quantization.read_metadata(with_archive(("labels.txt", "x\ny\n"))).labels == ("x", "y")
    assert quantization.read_metadata(with_archive(("other.txt", "x\ny\n"))).labels == ()
    with pytest.raises(InputError, match="'labels.txt' of more than 4 MB"):
        quantization.read_metadata(with_archive(("labels.txt", bytes(5 * 2**20))))
    with pytest.raises(InputError, match="member outside of it"):
        quantization.read_metadata(with_archive(("labels.txt", "x"), ("../../x", "y")))
