"""Finished files: their audit, their agreement with the simulation, their metadata, and damaged ones."""

import io
import json
import zipfile

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from keras_vision import audit as audit_command
from keras_vision import evaluation, predict, quantization
from keras_vision.files import image_files
from keras_vision.quantization import auditing
from keras_vision.quantization.flatbuffer import pack
from keras_vision.quantization.metadata import BUFFER_NAME, input_range
from keras_vision.quantization.verification import unpack
from keras_vision.recipe import InputError

pytestmark = pytest.mark.backend
LABELS = ("ant", "bee", "cat", "dog", "eel")


@pytest.fixture(scope="module")
def int8_file(zoo_model, zoo_images):
    content = quantization.convert(zoo_model, "int8", zoo_images)
    return quantization.add_metadata(content, quantization.Metadata("zoo", "Five beasts.", "1.0", "CC0", LABELS))


@pytest.mark.parametrize("io_type", ["uint8", "int8", "float32"])
def test_an_integer_file_computes_what_its_simulation_does(zoo_model, zoo_images, io_type):
    quantized = quantization.with_fake_quantization(zoo_model)
    quantization.set_ranges(quantized, zoo_model, zoo_images)
    content = quantization.convert(zoo_model, "int8", zoo_images, io_type)
    assert quantization.audit(content).input == f"{io_type} (1, 20, 20, 3)"
    found = quantization.Runner(content)(zoo_images)
    assert quantization.simulation_agreement(quantized, zoo_images, found).within_a_step >= 0.99
    assert np.abs(found - evaluation.softmax(zoo_model.predict(zoo_images, verbose=0))).max() < 0.03


def test_a_float_file_computes_what_the_model_does(zoo_model, zoo_images):
    content = quantization.convert(zoo_model, "float32")
    audit = quantization.audit(content)
    assert audit.kind == "float"
    assert {"FlexConv2D", "READ_VARIABLE"}.isdisjoint(item.name for item in audit.operators)
    expected = evaluation.softmax(zoo_model.predict(zoo_images, verbose=0))
    np.testing.assert_allclose(quantization.Runner(content)(zoo_images), expected, atol=1e-4)


def test_every_operator_of_an_integer_file_computes_in_integers(int8_file):
    audit = quantization.audit(int8_file)
    assert audit.kind == "full-integer"
    assert audit.floats == ()
    convolutions = [item for item in audit.operators if item.name == "CONV_2D"]
    assert {(item.weights, item.scales) for item in convolutions} == {("int8", "per channel")}


def test_a_float_left_inside_is_noticed(int8_file):
    model = unpack(int8_file)
    graph = model.subgraphs[0]
    graph.tensors[graph.operators[3].outputs[0]].type = 0  # FLOAT32
    audit = quantization.audit(pack(model))
    assert audit.kind == "mixed"
    with pytest.raises(InputError, match="not full-integer but mixed: .* has the float32 tensor"):
        audit.require_full_integer()


def test_constants_begin_at_multiples_of_16_bytes(int8_file):
    model = unpack(int8_file)
    buffers = [bytes(part.data) for part in model.buffers if part.data is not None and len(part.data) > 64]
    assert buffers
    assert all(int8_file.index(data) % 16 == 0 for data in buffers)


def test_metadata_is_read_back_and_the_labels_are_in_a_zip(int8_file):
    metadata = quantization.read_metadata(int8_file)
    assert (metadata.name, metadata.licence, metadata.labels) == ("zoo", "CC0", LABELS)
    assert (metadata.mean, metadata.std) == (0.0, 1.0)
    assert input_range(metadata) == (0.0, 255.0)
    with zipfile.ZipFile(io.BytesIO(int8_file)) as archive:
        assert archive.namelist() == ["labels.txt"]


@pytest.mark.parametrize(
    ("mean", "std", "low", "high"),
    [
        # ImageNet's mean and deviation in steps of 1/8, which float32 stores exactly.
        ((123.625, 116.25, 103.5), (58.375, 57.125, 57.375), (-2.1178, -2.0350, -1.8039), (2.2505, 2.4289, 2.6405)),
        (127.5, (127.5, 255.0, 51.0), (-1.0, -0.5, -2.5), (1.0, 0.5, 2.5)),
        ((0.0, 51.0, 102.0), 51.0, (0.0, -1.0, -2.0), (5.0, 4.0, 3.0)),
    ],
)
def test_a_normalization_per_channel_is_read_back_and_gives_a_range_per_channel(int8_file, mean, std, low, high):
    written = quantization.Metadata("zoo", "", "1.0", "CC0", LABELS, mean, std)
    metadata = quantization.read_metadata(quantization.add_metadata(int8_file, written))
    assert metadata == written
    for found, expected in zip(input_range(metadata), (low, high), strict=True):
        assert isinstance(found, np.ndarray)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_equal_values_per_channel_are_read_back_as_one(int8_file):
    written = quantization.Metadata("zoo", "", "1.0", "CC0", LABELS, (127.5,) * 3, (127.5,) * 3)
    metadata = quantization.read_metadata(quantization.add_metadata(int8_file, written))
    assert (metadata.mean, metadata.std) == (127.5, 127.5)
    assert input_range(metadata) == (-1.0, 1.0)


@pytest.mark.parametrize("io_type", ["uint8", "float32"])
def test_a_file_without_normalization_has_no_input_range(zoo_model, zoo_images, io_type):
    written = quantization.Metadata("zoo", "Five beasts.", "1.0", "CC0", LABELS, None, None)
    content = quantization.add_metadata(quantization.convert(zoo_model, "int8", zoo_images, io_type), written)
    metadata = quantization.read_metadata(content)
    assert metadata == written
    assert input_range(metadata) is None


def test_metadata_with_nothing_but_a_name_is_read(int8_file):
    """As another writer may leave it: no tensors, no labels."""
    builder = flatbuffers.Builder(64)
    name = builder.CreateString("bare")
    builder.StartObject(8)
    builder.PrependUOffsetTRelativeSlot(0, name, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"M001")
    model = unpack(int8_file)
    model.buffers.append(schema.BufferT(data=np.frombuffer(bytes(builder.Output()), np.uint8)))
    model.metadata = [schema.MetadataT(name=BUFFER_NAME, buffer=len(model.buffers) - 1)]
    metadata = quantization.read_metadata(pack(model))
    assert metadata == quantization.Metadata("bare", "", "", "", (), None, None)
    assert input_range(metadata) is None


def test_a_file_without_metadata_has_none(zoo_model):
    assert quantization.read_metadata(quantization.convert(zoo_model, "float32")) is None


def test_phones_read_the_file_with_our_labels(int8_file, zoo_images, phone_answers):
    answers = phone_answers(int8_file, zoo_images)
    scores = quantization.Runner(int8_file)(zoo_images)
    for answer, row in zip(answers, scores, strict=True):
        assert row[LABELS.index(answer)] == row.max()


def test_the_compiled_model_api_predicts_as_the_interpreter_does(int8_file, zoo_images):
    from ai_edge_litert.compiled_model import CompiledModel

    model = CompiledModel.from_buffer(int8_file)
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
    runner = quantization.Runner(int8_file)
    for image in zoo_images[:4]:
        inputs[0].write(image[np.newaxis])
        model.run_by_index(0, inputs, outputs)
        found = outputs[0].read(len(LABELS), np.uint8) / np.float32(256)
        np.testing.assert_array_equal(found, runner(image[np.newaxis])[0])


def test_the_audit_command_prints_what_a_file_contains(int8_file, tmp_path, capsys):
    path = tmp_path / "zoo.tflite"
    path.write_bytes(int8_file)
    assert audit_command.main([str(path), "--require", "full-integer"]) == 0
    assert "full-integer" in capsys.readouterr().out
    assert audit_command.main([str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["kind"] == "full-integer"
    path.write_bytes(b"no model at all")
    assert audit_command.main([str(path)]) == 2
    assert "is not a TensorFlow Lite file" in capsys.readouterr().err


def test_predict_classifies_readable_files_and_names_the_others(int8_file, zoo_images, tmp_path, capsys):
    import cv2

    model = tmp_path / "zoo.tflite"
    model.write_bytes(int8_file)
    images = tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "a.png"), zoo_images[0][..., ::-1])
    (images / "b.png").write_bytes(b"no image")
    assert predict.main([str(model), str(images), "--json"]) == 1
    caught = capsys.readouterr()
    (prediction,) = json.loads(caught.out)
    scores = quantization.Runner(int8_file)(zoo_images[:1])[0]
    assert prediction["scores"] == pytest.approx(dict(zip(LABELS, map(float, scores), strict=True)))
    assert "b.png was skipped: not an image format that OpenCV reads." in caught.err


def test_image_files_of_every_kind_are_read_as_they_are_displayed(zoo_images, tmp_path):
    from PIL import Image

    pixels = np.kron(zoo_images[0][:10, :20], np.ones((4, 4, 1), np.uint8))
    kinds = {
        "plain.png": Image.fromarray(pixels),
        "alpha.png": Image.fromarray(np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])),
        "sideways.tif": Image.fromarray(np.ascontiguousarray(np.rot90(pixels))),
    }
    turned = Image.Exif()
    turned[0x0112] = 6  # Orientation: displayed turned clockwise.
    for name, image in kinds.items():
        image.save(tmp_path / name, **({"exif": turned} if name == "sideways.tif" else {}))
    import cv2

    cv2.imwrite(str(tmp_path / "deep.png"), pixels[..., ::-1].astype(np.uint16) * 257)
    expected = image_files.read(tmp_path / "plain.png", (20, 20, 3), "stretch")
    assert np.ptp(expected) > 100
    for name in ("alpha.png", "deep.png", "sideways.tif"):
        found = image_files.read(tmp_path / name, (20, 20, 3), "stretch")
        np.testing.assert_array_equal(found, expected, err_msg=name)
    assert image_files.read(tmp_path / "plain.png", (20, 20, 1), "stretch").shape == (20, 20, 1)


def test_predict_without_labels_names_the_flag_for_them(zoo_model, zoo_images, tmp_path, capsys):
    model = tmp_path / "zoo.tflite"
    model.write_bytes(quantization.convert(zoo_model, "int8", zoo_images))
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), zoo_images[0])
    assert predict.main([str(model), str(tmp_path / "a.png")]) == 2
    assert "carries no labels. Pass --labels FILE" in capsys.readouterr().err
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    assert predict.main([str(model), str(tmp_path / "a.png"), "--labels", str(tmp_path / "labels.txt")]) == 0


def test_int8_without_images_is_refused(zoo_model):
    with pytest.raises(InputError, match="needs representative images"):
        quantization.convert(zoo_model, "int8")


def test_qat_of_a_plain_model_is_refused(zoo_model):
    with pytest.raises(InputError, match="needs a model from with_fake_quantization"):
        quantization.convert(zoo_model, "qat")


def test_the_audit_prints_a_line_per_operator(int8_file):
    audit = quantization.audit(int8_file)
    assert len(list(auditing.table(audit))) == 3 + len(audit.operators)
