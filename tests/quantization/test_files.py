"""Finished files: they are what they claim, they agree with their simulation, and damage is noticed."""

import io
import json
import zipfile

import numpy as np
import pytest

from keras_vision import audit as audit_command
from keras_vision import evaluation, predict, quantization
from keras_vision.quantization import auditing
from keras_vision.quantization.flatbuffer import pack, unpack
from keras_vision.recipe import InputError

pytestmark = pytest.mark.backend
LABELS = ("ant", "bee", "cat", "dog", "eel")


@pytest.fixture(scope="module")
def int8_file(zoo_model, zoo_images):
    content = quantization.convert(zoo_model, "int8", zoo_images)
    return quantization.add_metadata(content, quantization.Metadata("zoo", "Five beasts.", "1.0", "CC0", LABELS))


@pytest.mark.parametrize("io_type", ["uint8", "int8", "float32"])
def test_an_integer_file_gives_what_its_simulation_says(zoo_model, zoo_images, io_type):
    quantized = quantization.with_fake_quantization(zoo_model)
    quantization.set_ranges(quantized, zoo_model, zoo_images)
    content = quantization.convert(zoo_model, "int8", zoo_images, io_type)
    assert quantization.audit(content).input == f"{io_type} (1, 20, 20, 3)"
    found = quantization.Runner(content)(zoo_images)
    assert quantization.simulation_agreement(quantized, zoo_images, found).within_a_step >= 0.99
    assert np.abs(found - evaluation.softmax(zoo_model.predict(zoo_images, verbose=0))).max() < 0.03


def test_a_float_file_gives_what_the_model_says(zoo_model, zoo_images):
    content = quantization.convert(zoo_model, "float32")
    found = quantization.audit(content)
    assert found.kind == "float"
    assert {"FlexConv2D", "READ_VARIABLE"}.isdisjoint(item.name for item in found.operators)
    expected = evaluation.softmax(zoo_model.predict(zoo_images, verbose=0))
    np.testing.assert_allclose(quantization.Runner(content)(zoo_images), expected, atol=1e-4)


def test_every_operator_of_an_integer_file_computes_in_integers(int8_file):
    found = quantization.audit(int8_file)
    assert found.kind == "full-integer"
    assert found.floats == ()
    convolutions = [item for item in found.operators if item.name == "CONV_2D"]
    assert {(item.weights, item.scales) for item in convolutions} == {("int8", "per channel")}


def test_a_float_left_inside_is_noticed(int8_file):
    model = unpack(int8_file)
    graph = model.subgraphs[0]
    graph.tensors[graph.operators[3].outputs[0]].type = 0  # FLOAT32
    found = quantization.audit(pack(model))
    assert found.kind == "mixed"
    with pytest.raises(InputError, match="not full-integer but mixed: .* has the float32 tensor"):
        found.require_full_integer()


def test_constants_begin_at_multiples_of_16_bytes(int8_file):
    model = unpack(int8_file)
    buffers = [bytes(part.data) for part in model.buffers if part.data is not None and len(part.data) > 64]
    assert buffers
    assert all(int8_file.index(data) % 16 == 0 for data in buffers)


def test_metadata_is_read_back_and_the_labels_are_in_a_zip(int8_file):
    found = quantization.read_metadata(int8_file)
    assert (found.name, found.licence, found.labels) == ("zoo", "CC0", LABELS)
    with zipfile.ZipFile(io.BytesIO(int8_file)) as archive:
        assert archive.namelist() == ["labels.txt"]


def test_phones_read_the_file_with_our_labels(int8_file, zoo_images, phone_answers):
    answers = phone_answers(int8_file, zoo_images)
    scores = quantization.Runner(int8_file)(zoo_images)
    for answer, row in zip(answers, scores, strict=True):
        assert row[LABELS.index(answer)] == row.max()


def test_the_compiled_model_api_answers_as_the_interpreter_does(int8_file, zoo_images):
    from ai_edge_litert.compiled_model import CompiledModel

    model = CompiledModel.from_buffer(int8_file)
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
    runner = quantization.Runner(int8_file)
    for image in zoo_images[:4]:
        inputs[0].write(image[np.newaxis])
        model.run_by_index(0, inputs, outputs)
        found = outputs[0].read(len(LABELS), np.uint8) / np.float32(256)
        np.testing.assert_array_equal(found, runner(image[np.newaxis])[0])


def test_the_audit_command_says_what_a_file_is(int8_file, tmp_path, capsys):
    path = tmp_path / "zoo.tflite"
    path.write_bytes(int8_file)
    assert audit_command.main([str(path), "--require", "full-integer"]) == 0
    assert "full-integer" in capsys.readouterr().out
    assert audit_command.main([str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["kind"] == "full-integer"
    path.write_bytes(b"no model at all")
    assert audit_command.main([str(path)]) == 2
    assert "is not a TensorFlow Lite file" in capsys.readouterr().err


def test_predict_answers_what_it_can_read_and_names_the_rest(int8_file, zoo_images, tmp_path, capsys):
    import cv2

    model = tmp_path / "zoo.tflite"
    model.write_bytes(int8_file)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "a.png"), zoo_images[0][..., ::-1])
    (pictures / "b.png").write_bytes(b"no picture")
    assert predict.main([str(model), str(pictures), "--json"]) == 1
    caught = capsys.readouterr()
    (answer,) = json.loads(caught.out)
    scores = quantization.Runner(int8_file)(zoo_images[:1])[0]
    assert answer["scores"] == pytest.approx(dict(zip(LABELS, map(float, scores), strict=True)))
    assert "b.png is not a picture that can be read" in caught.err


def test_pictures_of_every_kind_become_what_a_person_sees(zoo_images, tmp_path):
    from PIL import Image

    picture = np.kron(zoo_images[0][:10, :20], np.ones((4, 4, 1), np.uint8))
    kinds = {
        "plain.png": Image.fromarray(picture),
        "alpha.png": Image.fromarray(np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])),
        "sideways.tif": Image.fromarray(np.ascontiguousarray(np.rot90(picture))),
    }
    turned = Image.Exif()
    turned[0x0112] = 6  # Orientation: to be turned clockwise.
    for name, image in kinds.items():
        image.save(tmp_path / name, **({"exif": turned} if name == "sideways.tif" else {}))
    import cv2

    cv2.imwrite(str(tmp_path / "deep.png"), picture[..., ::-1].astype(np.uint16) * 257)
    expected = predict.read_image(tmp_path / "plain.png", (20, 20, 3))
    assert np.ptp(expected) > 100
    for name in ("alpha.png", "deep.png", "sideways.tif"):
        np.testing.assert_array_equal(predict.read_image(tmp_path / name, (20, 20, 3)), expected, err_msg=name)
    assert predict.read_image(tmp_path / "plain.png", (20, 20, 1)).shape == (20, 20, 1)


def test_predict_without_labels_says_how_to_give_them(zoo_model, zoo_images, tmp_path, capsys):
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


def test_the_audit_prints_a_line_an_operator(int8_file):
    found = quantization.audit(int8_file)
    assert len(list(auditing.table(found))) == 3 + len(found.operators)
