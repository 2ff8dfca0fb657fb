"""The files of `hostile.py`: valid ones of every kind, how a seed damages them, and the readers they go through."""

import contextlib
import copy
import io
import json
import os
import pickle
import random
import shutil
import struct
import zipfile
from pathlib import Path

import cv2
import flatbuffers
import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from keras import layers

from keras_vision import audit, compare, data, models, quantization
from keras_vision.classifier import Classifier, read_class_names
from keras_vision.files import image_files, trial
from keras_vision.files.outside import read_bytes
from keras_vision.models.saved import load_weights
from keras_vision.pipeline import folder as run_folder
from keras_vision.quantization.flatbuffer import FlatModel, pack
from keras_vision.quantization.verification import unpack
from keras_vision.recipe import DataSpec, InputError, ModelSpec

# How often each kind is drawn.
SHARES = {
    "tflite": 40,
    "npz": 14,
    "keras": 10,
    "h5": 7,
    "pth": 8,
    "image": 12,
    "card": 3,
    "labels": 2,
    "run": 4,
}
KINDS = list(SHARES)
trial.SECONDS = 20.0  # Not 60: some of the files compute without end.
CLASSES = ("ant", "bee", "cat", "dog")
SHAPE = (12, 12, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (8, *SHAPE), dtype=np.uint8)


# Valid files.


def write_seeds(folder):
    """Writes the valid files, `KIND/NAME` each."""
    for kind in KINDS:
        (folder / kind).mkdir()
    model = _model()
    for name, content in _tflite_files(model).items():
        (folder / "tflite" / name).write_bytes(content)
    _write_npz(folder / "npz")
    model.save(folder / "keras" / "a.keras")
    images = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, name="conv")(layers.Concatenate()([layers.Rescaling(1 / 255)(images)] * 3))
    small = keras.Model(images, layers.Dense(2, name="out")(layers.Flatten()(x)))
    small.save(folder / "keras" / "b.keras")
    model.save_weights(folder / "h5" / "a.weights.h5")
    model.save_weights(folder / "h5" / "b.weights.h5")
    models.save_state_dict(_torch_network(), folder / "pth" / "a.pth")
    _write_pth(folder / "pth" / "b.pth")
    for suffix in (".png", ".jpg", ".bmp", ".webp", ".tif", ".gif", ".jp2", ".avif"):
        try:
            written, content = cv2.imencode(suffix, np.kron(IMAGES[0], np.ones((3, 3, 1), np.uint8)))
        except cv2.error:
            continue
        if written:
            (folder / "image" / f"a{suffix}").write_bytes(content.tobytes())
    _write_optional_images(folder / "image")
    shutil.copy(folder / "tflite" / "int8.tflite", folder / "card" / "a.tflite")
    _write_card(folder / "card" / "a.tflite")
    (folder / "labels" / "labels.txt").write_text("\n".join(CLASSES) + "\n")
    _write_run(folder / "run")


def _write_optional_images(folder):
    """HEIC and DICOM files, where something is installed that reads them."""
    if {"pi_heif", "pillow_heif"} & set(image_files.decoders()):
        for file in (Path(__file__).parents[1] / "tests" / "files").glob("*.heic"):
            shutil.copy(file, folder)
    if "pydicom" not in image_files.decoders():
        return
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.NumberOfFrames = 24, 36, 1, 2
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME1", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.WindowCenter, dataset.WindowWidth, dataset.RescaleSlope, dataset.RescaleIntercept = 100, 200, 2, -50
    # Runs, so that the compressed one is small.
    pixels = np.repeat(np.random.default_rng(3).integers(0, 4096, (2, 24, 4), dtype=np.uint16), 9, axis=-1)
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [4, 0, 12], [0, 100, 2000, 4095]
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    dataset.save_as(folder / "a.dcm", enforce_file_format=True)
    dataset.VOILUTSequence = [item]
    dataset.save_as(folder / "b.dcm", enforce_file_format=True)
    dataset.compress(RLELossless)
    dataset.save_as(folder / "c.dcm", enforce_file_format=True)


def _model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="conv"),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.MaxPooling2D(2, name="pool"),
            layers.GlobalAveragePooling2D(name="mean"),
            layers.Dense(len(CLASSES), name="logits"),
        ]
    )


def _torch_network():
    return models.build(ModelSpec(architecture="cifar_resnet", width=2), (16, 16, 3), 2)


def _write_pth(path):
    """torch's format from before 1.6, which is no archive."""
    import torch

    torch.save(torch.load(path.with_name("a.pth"), weights_only=True), path, _use_new_zipfile_serialization=False)


def _tflite_files(model):
    metadata = quantization.Metadata("tiny", "", "1", "CC0", CLASSES, 127.5, 127.5)
    files = {
        "int8.tflite": quantization.convert(model, "int8", IMAGES),
        "float_input.tflite": quantization.convert(model, "int8", IMAGES, "float32"),
        "float.tflite": _float_file(),
    }
    return {name: quantization.add_metadata(content, metadata) for name, content in files.items()}


def _float_file():
    """A float32 file, written without TensorFlow's converter."""
    rng, file = np.random.default_rng(1), FlatModel("float")
    start = file.tensor("images", (1, *SHAPE), np.float32)
    kernel = file.tensor("kernel", (4, 3, 3, 3), np.float32, data=rng.normal(size=(4, 3, 3, 3)))
    bias = file.tensor("bias", (4,), np.float32, data=np.zeros(4))
    options = schema.Conv2DOptionsT(padding=1, strideW=1, strideH=1)
    x = file.operator("CONV_2D", [start, kernel, bias], file.tensor("conv", (1, 10, 10, 4), np.float32), options)
    axes = file.tensor("axes", (2,), np.int32, data=np.array([1, 2]))
    x = file.operator("MEAN", [x, axes], file.tensor("mean", (1, 4), np.float32), schema.ReducerOptionsT())
    weights = file.tensor("weights", (4, 4), np.float32, data=rng.normal(size=(4, 4)))
    x = file.operator(
        "FULLY_CONNECTED",
        [x, weights, bias],
        file.tensor("logits", (1, 4), np.float32),
        schema.FullyConnectedOptionsT(),
    )
    end = file.operator("SOFTMAX", [x], file.tensor("scores", (1, 4), np.float32), schema.SoftmaxOptionsT(beta=1.0))
    return file.finish(start, end)


def _arrays(count=12):
    rng = np.random.default_rng(2)
    found = {}
    for split in ("train", "val", "test"):
        found[f"{split}_images"] = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
        found[f"{split}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, np.newaxis]
    return found


def _write_npz(folder):
    arrays = _arrays()
    np.savez(folder / "a.npz", allow_pickle=False, **arrays)
    np.savez_compressed(folder / "b.npz", allow_pickle=False, **arrays)
    renamed = {name: arrays[f"{split}_{part}"] for split in ("train", "test") for name, part in _keras_names(split)}
    np.savez(folder / "c.npz", allow_pickle=False, **renamed)


def _keras_names(split):
    return ((f"x_{split}", "images"), (f"y_{split}", "labels"))


def _write_card(path):
    content = path.read_bytes()
    contents = quantization.audit(content)
    card = {
        "sha256": "0" * 64,
        "bytes": len(content),
        "kind": contents.kind,
        "input": contents.input,
        "output": contents.output,
        "labels": list(CLASSES),
        "data": {"resize": "crop", "name": "x"},
        "metrics": {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}},
    }
    path.with_suffix(".json").write_text(json.dumps(card))


def _write_run(folder):
    value = {"value": 0.5, "low": 0.4, "high": 0.6}
    report = {
        "data": {"name": "tiny"},
        "split": "test",
        "images": 2,
        "metrics": {"accuracy": value},
        "training": {"epochs": 2, "seconds": 9.0, "best_epoch": 1, "accuracy": 0.7},
        "validation_metrics": {"accuracy": value},
    }
    (folder / run_folder.REPORT).write_text(json.dumps(report))
    names = ["epoch", "accuracy", "val_accuracy", "loss", "val_loss", "learning_rate"]
    (folder / run_folder.HISTORY).write_text(f"{','.join(names)}\n1,.5,.5,1,1,.1\n2,.6,.5,1,1,.1\n")
    (folder / run_folder.PREDICTIONS).write_text("image_sha256,label,predicted\naa,ant,ant\nbb,ant,bee\n")


# Readers: each raises an `InputError`, or nothing.


def _read_tflite(path):
    try:
        content = read_bytes(path)
    except InputError:
        content = None
    reasons = []
    # Each of them, whatever the others say.
    for read in (
        lambda: _run_command(audit, [str(path)]),
        lambda: content is not None and quantization.audit(content),
        lambda: content is not None and quantization.read_metadata(content),
        lambda: content is not None and quantization.Runner(content)(_images_for(content)),
        lambda: _classify(path),
        lambda: _classify(path, keep_tensors=True),
    ):
        try:
            read()
        except InputError as error:
            reasons.append(error)
    if reasons:
        raise reasons[-1]


def _images_for(content):
    graph = unpack(content).subgraphs[0]
    shape = [int(side) for side in graph.tensors[graph.inputs[0]].shape[1:]]
    return np.full((1, *shape), 100, np.uint8) if np.prod(shape, dtype=float) < 1e8 else []


def _classify(path, **options):
    classifier = Classifier.open(path, **options)
    if np.prod(classifier.image_shape) < 1e7:
        classifier.probabilities(np.full((1, *classifier.image_shape), 100, np.uint8))


def _run_command(command, arguments):
    """A command line: exit status 0 or 1, or 2 with one sentence."""
    output = io.StringIO()
    with contextlib.redirect_stderr(output):
        status = command.main(arguments)
    text = output.getvalue()
    if status == 2:
        if not text.startswith("error: ") or text.strip().count("\n"):
            raise AssertionError(f"not one sentence: {text[:300]!r}")
        raise InputError(text.removeprefix("error: ").strip())
    if status not in (0, 1):
        raise AssertionError(f"exit status {status}: {text[:300]!r}")


def _read_npz(path):
    splits = data.load_splits(DataSpec(data=str(path)))
    assert len(splits.train.images) == len(splits.train.labels)


def _read_keras(path):
    reasons = []
    for read in (lambda: _classify(path), lambda: models.init_from(_model(), path)):
        try:
            read()
        except InputError as error:
            reasons.append(error)
    if reasons:
        raise reasons[-1]


def _read_image(path):
    reasons = []
    for intensity_range in (None, (0, 100)) if path.suffix in (".dcm", ".tif") else (None,):
        try:
            assert image_files.read(path, SHAPE, "crop", intensity_range).shape == SHAPE
        except image_files.UnreadableError as error:
            reasons.append(error)
    if reasons:
        raise InputError(str(reasons[0])) from reasons[0]


def _read_run(path):
    folder = path if path.is_dir() else path.parent
    _run_command(compare, [str(folder), str(folder), "--out", str(folder.parent / "page.html"), "--overwrite"])


READERS = {
    "tflite": _read_tflite,
    "npz": _read_npz,
    "keras": _read_keras,
    "h5": lambda path: load_weights(_model(), path, "tiny"),
    "pth": lambda path: models.load_state_dict(_torch_network(), path),
    "image": _read_image,
    "card": lambda path: _read_tflite(path.with_suffix(".tflite")),
    "labels": read_class_names,
    "run": _read_run,
}


def require_valid(seeds):
    """Reads the valid files: a check that refuses everything would pass every other test."""
    with contextlib.redirect_stdout(io.StringIO()):
        for kind in KINDS:
            for file in sorted((seeds / kind).iterdir()):
                READERS[kind](file)


# Damage.


def plan(seed, kinds):
    """Kind and mutation of a seed."""
    rng = random.Random(seed)
    kind = rng.choices(kinds, [SHARES[name] for name in kinds])[0]
    own = OWN.get(kind, ())
    mutation = rng.choice(own) if own and rng.random() < 0.5 else rng.choice([*BYTES, links])
    return kind, mutation.__name__.strip("_")


def make(seed, kinds, seeds, folder, canary):
    """Writes a seed's file into a folder: `(kind, mutation, path)`."""
    rng = random.Random(seed)
    kind = rng.choices(kinds, [SHARES[name] for name in kinds])[0]
    own = OWN.get(kind, ())
    mutation = rng.choice(own) if own and rng.random() < 0.5 else rng.choice([*BYTES, links])
    place = folder / "in"
    shutil.copytree(seeds / kind, place)
    files = sorted(place.iterdir())
    path = rng.choice([file for file in files if kind != "card" or file.suffix == ".json"])
    if mutation is links:
        links(path, rng)
    elif mutation in BYTES:
        other = rng.choice(files)
        path.write_bytes(mutation(bytearray(path.read_bytes()), bytearray(other.read_bytes()), rng))
    else:
        mutation(path, rng, canary)
    return kind, mutation.__name__.strip("_"), path


def flips(content, other, rng):
    for _ in range(rng.choice((1, 2, 5, 30))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def head_flips(content, other, rng):
    for _ in range(rng.choice((1, 3, 8))):
        content[rng.randrange(min(len(content), 256))] = rng.randrange(256)
    return content


def tail_flips(content, other, rng):
    for _ in range(rng.choice((1, 3, 8))):
        content[-1 - rng.randrange(min(len(content), 256))] = rng.randrange(256)
    return content


def cut(content, other, rng):
    return content[: rng.randrange(len(content))]


def zeros(content, other, rng):
    start = rng.randrange(len(content))
    end = min(len(content), start + rng.choice((4, 64, 1024)))
    content[start:end] = bytes(end - start)
    return content


def lengths(content, other, rng):
    for _ in range(rng.choice((1, 2, 4))):
        width, code = rng.choice(((2, "<H"), (4, "<I"), (8, "<Q"), (4, ">I")))
        value = rng.choice((0, 1, 2, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1))
        place = rng.randrange(max(1, len(content) - width))
        content[place : place + width] = struct.pack(code, value % 256**width)
    return content


def splice(content, other, rng):
    return content[: rng.randrange(len(content))] + other[rng.randrange(len(other)) :]


def moved(content, other, rng):
    size = rng.randrange(1, 64)
    start, target = rng.randrange(len(content)), rng.randrange(len(content))
    part = content[start : start + size]
    content[target : target + len(part)] = part
    return content


def noise(content, other, rng):
    return bytearray(rng.randbytes(rng.randrange(2000)))


def known_head(content, other, rng):
    return content[:16] + rng.randbytes(rng.randrange(500))


BYTES = (flips, head_flips, tail_flips, cut, zeros, lengths, splice, moved, noise, known_head)


def links(path, rng):
    """A link, a pipe, a device or a folder in place of the file."""
    path.unlink()
    kind = rng.choice(("nowhere", "loop", "zero", "null", "pipe", "folder", "memory", "link to pipe"))
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to pipe":
        os.mkfifo(path.with_name("pipe"))
        path.symlink_to("pipe")
    else:
        targets = {"nowhere": "none", "zero": "/dev/zero", "null": "/dev/null", "memory": "/proc/self/mem"}
        path.symlink_to(targets.get(kind, path.name))


# Contradictions inside a valid .tflite file.


def _number(rng):
    return rng.choice((-1, 0, 1, 2, 3, 4, 7, 127, 255, 1000, 2**16, 2**20, 2**31 - 1, -(2**31)))


def tflite_graph(path, rng, canary):
    model = unpack(path.read_bytes())
    for _ in range(rng.choice((1, 1, 2, 3))):
        _change_graph(model, model.subgraphs[0], rng)
    path.write_bytes(_packed(model, path.read_bytes()))


def _packed(model, before):
    try:
        return pack(model)
    except Exception:  # Numbers that do not fit their field.
        return before


def _change_graph(model, graph, rng):
    tensor, item = rng.choice(graph.tensors), rng.choice(graph.operators)
    change = rng.randrange(12)
    if change == 0:
        tensor.shape = np.array([_number(rng) for _ in range(rng.randrange(7))], np.int32)
    elif change == 1:
        tensor.shape = tensor.shape.copy()
        if len(tensor.shape):
            tensor.shape[rng.randrange(len(tensor.shape))] = _number(rng)
    elif change == 2:
        tensor.type = rng.randrange(-1, 22)
    elif change == 3:
        tensor.buffer = rng.randrange(len(model.buffers) + 2)
    elif change == 4:
        part = rng.choice(("inputs", "outputs"))
        values = np.array(getattr(item, part), np.int32)
        if len(values):
            values[rng.randrange(len(values))] = rng.choice((rng.randrange(len(graph.tensors)), _number(rng)))
            setattr(item, part, values)
    elif change == 5:
        part = rng.choice(("inputs", "outputs"))
        values = list(getattr(item, part))
        values = values[:-1] if rng.random() < 0.5 else [*values, rng.randrange(len(graph.tensors))]
        setattr(item, part, np.array(values, np.int32))
    elif change == 6:
        item.opcodeIndex = rng.randrange(len(model.operatorCodes) + 1)
    elif change == 7:
        code = rng.choice(model.operatorCodes)
        code.builtinCode = rng.randrange(210)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    elif change == 8:
        _change_options(item.builtinOptions, rng)
    elif change == 9 and tensor.quantization is not None:
        _change_quantization(tensor.quantization, rng)
    elif change == 10:
        _change_constant(model, graph, rng)
    elif change == 11:
        graph.operators.insert(rng.randrange(len(graph.operators)), copy.deepcopy(item))


def _change_options(options, rng):
    names = [name for name, value in vars(options).items() if isinstance(value, int | float)] if options else []
    if names:
        setattr(options, rng.choice(names), rng.choice((0, 1, 2, -1, 3, 127, 2**31 - 1, 10**6)))


def _change_quantization(quantization, rng):
    change = rng.randrange(4)
    if change == 0:
        quantization.scale = np.array(
            [rng.choice((0.0, 1e-30, 1e30, -1.0, np.nan, np.inf, 0.1)) for _ in range(rng.randrange(6))], np.float32
        )
    elif change == 1:
        quantization.zeroPoint = np.array([_number(rng) for _ in range(rng.randrange(6))], np.int64)
    elif change == 2:
        quantization.quantizedDimension = _number(rng)
    else:
        quantization.scale = None


def _change_constant(model, graph, rng):
    """Other values of a constant, or another constant with a shape that fits it: axes, paddings, weights."""
    places = [tensor for tensor in graph.tensors if 0 <= tensor.buffer < len(model.buffers)]
    found = [tensor for tensor in places if model.buffers[tensor.buffer].data is not None]
    if not found:
        return
    tensor = rng.choice(found)
    values = np.array(model.buffers[tensor.buffer].data)
    if rng.random() < 0.6 and len(values) % 4 == 0 and len(values):
        numbers = values.view(np.int32)
        numbers[rng.randrange(len(numbers))] = _number(rng)
    else:
        side = rng.randrange(1, 9)
        values = np.resize(values, len(values) // max(1, int(tensor.shape[0] if len(tensor.shape) else 1)) * side)
        if len(tensor.shape):
            tensor.shape = tensor.shape.copy()
            tensor.shape[0] = side
    model.buffers[tensor.buffer].data = values


def tflite_behind(path, rng, canary):
    """Weights at some place of the file, as if behind its flatbuffer."""
    content = path.read_bytes()
    model = unpack(content)
    for _ in range(rng.choice((1, 1, 3))):
        buffer = rng.choice(model.buffers)
        kept = len(buffer.data) if buffer.data is not None else 0
        buffer.offset = rng.choice((0, 1, 2, rng.randrange(len(content)), len(content), 2**31, 2**63, 2**64 - kept - 1))
        buffer.size = rng.choice((0, 1, kept, kept, kept, len(content), 2**64 - 1))
        if rng.random() < 0.9:
            buffer.data = None
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()) + content[content.rfind(b"PK\x03\x04") :])


def tflite_amplified(path, rng, canary):
    """Many tables that are one and the same."""
    content = bytearray(path.read_bytes())
    model = schema.Model.GetRootAs(content, 0)
    tables = model._tab
    field = rng.choice((6, 8, 12, 16))
    place = tables.Offset(field)
    if place:
        start = tables.Vector(place)
        count = rng.choice((10**3, 10**5, 10**7, 2**30))
        struct.pack_into("<I", content, start - 4, count)
        if count <= 10**5:
            content += struct.pack("<I", 0) * count
    path.write_bytes(content)


def tflite_archive(path, rng, canary):
    """Another archive of labels."""
    content = path.read_bytes()
    end = content.rfind(b"PK\x03\x04")
    file = io.BytesIO()
    file.write(content[:end])
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        _write_hostile_members(archive, ["labels.txt"], rng)
    path.write_bytes(file.getvalue())


def tflite_metadata(path, rng, canary):
    """Damaged metadata in a valid file."""
    model = unpack(path.read_bytes())
    buffer = model.buffers[model.metadata[0].buffer]
    other = bytearray(bytes(buffer.data))
    buffer.data = np.frombuffer(bytes(rng.choice(BYTES)(bytearray(other), other, rng)), np.uint8)
    archive = path.read_bytes()
    path.write_bytes(pack(model) + archive[archive.rfind(b"PK\x03\x04") :])


def tflite_normalization(path, rng, canary):
    values = [rng.choice((0.0, -1.0, 1e-40, np.nan, np.inf, 127.5)) for _ in range(rng.randrange(1, 5))]
    metadata = quantization.Metadata("x", "", "1", "", CLASSES[: rng.randrange(6)], tuple(values), tuple(values[::-1]))
    with np.errstate(all="ignore"):
        path.write_bytes(quantization.add_metadata(path.read_bytes(), metadata))


# Archives.


def _write_hostile_members(archive, names, rng):
    name = rng.choice(names)
    change = rng.randrange(7)
    if change == 0:
        archive.writestr(name, bytes(rng.choice((10**6, 4 * 10**8))))
    elif change == 1:
        for index in range(rng.choice((100, 20_000))):
            archive.writestr(f"{name}{index}", b"")
    elif change == 2:
        archive.writestr(rng.choice(("../../x", "/etc/x", "C:\\x", "a/../../x")), b"x")
        archive.writestr(name, b"x")
    elif change == 3:
        info = zipfile.ZipInfo(name)
        info.external_attr = rng.choice((0o120777, 0o010666, 0o020666)) << 16
        archive.writestr(info, b"/etc/passwd")
    elif change == 4:
        archive.writestr(name, rng.randbytes(100))
        archive.writestr("b" + name, b"x")
    elif change == 5:
        archive.writestr(zipfile.ZipInfo(name), b"\n" * rng.choice((10, 10**5, 10**7)))
    else:
        archive.writestr(name, b"")


def _members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _write_members(path, members, rng, extra=None):
    with zipfile.ZipFile(path, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        if extra is not None:
            extra(archive)


def member_bytes(path, rng, canary):
    """Damage inside one member of a valid archive."""
    if not zipfile.is_zipfile(path):
        return
    members = _members(path)
    name = rng.choice(list(members))
    if members[name]:
        content = bytearray(members[name])
        members[name] = bytes(rng.choice(BYTES)(content, bytearray(content), rng))
    _write_members(path, members, rng)


def archive_members(path, rng, canary):
    if not zipfile.is_zipfile(path):
        return
    members = _members(path)
    names = list(members)
    del members[rng.choice(names)]
    _write_members(path, members, rng, lambda archive: _write_hostile_members(archive, names, rng))


def stated_sizes(path, rng, canary):
    """Other sizes and offsets in an archive's directory."""
    content = bytearray(path.read_bytes())
    places = [place for place in range(len(content) - 4) if content[place : place + 4] in (b"PK\1\2", b"PK\3\4")]
    for place in rng.sample(places, min(len(places), rng.choice((1, 3)))):
        field = place + rng.choice((6, 8, 18, 20, 22, 24, 26, 28, 38, 42))
        if field + 4 <= len(content):
            struct.pack_into("<I", content, field, rng.choice((0, 1, 10, 10**6, 2**31, 2**32 - 1)))
    path.write_bytes(content)


class _Payload:
    """A pickle of it creates a file when it is read."""

    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return open, (self.canary, "w")


def npz_pickle(path, rng, canary):
    arrays = _arrays()
    objects = np.empty(12, object)
    objects[:] = [_Payload(canary)] * 12
    arrays[rng.choice(list(arrays))] = objects
    np.savez(path, **arrays)


def npz_header(path, rng, canary):
    """A header that claims something else."""
    shape = rng.choice(
        ((10**12,), (2**40, 8, 8, 3), (-1, 8), (12, 2**62), (2**31, 2**31, 2**31), (0,), (0, 2**60), (12, 8, 8, 3))
    )
    kinds = ("|u1", "<f8", "|O", "|V1000000000", "<U999999999", "|S0", "|V0", "[('a','<f4',(100000,100000))]", "junk")
    kind = rng.choice(kinds)
    kind = kind if kind.startswith("[") else repr(kind)
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}"
    if rng.random() < 0.2:
        text = rng.choice(("(" * 5000, "[" * 9000, "{" * 200, "__import__('os')", "'" + "x" * 9000, "1+" * 4000 + "1"))
    text = text.encode() + b"\n"
    header = b"\x93NUMPY" + bytes([rng.choice((1, 2, 3, 9)), 0])
    header += struct.pack("<H" if header[6] == 1 else "<I", rng.choice((len(text), len(text), 0, 65535))) + text
    members = _members(path)
    members[rng.choice(list(members))] = header + bytes(rng.choice((0, 12, 2304)))
    _write_members(path, members, rng)


def npz_arrays(path, rng, canary):
    """Valid arrays of the wrong kind."""
    arrays = _arrays()
    name = rng.choice(list(arrays))
    arrays[name] = rng.choice(
        [
            *(
                np.zeros(shape, np.uint8)
                for shape in ((), (0,), (12,), (0, 8, 8, 3), (12, 0, 8, 3), (12, 1), (5, 8, 8))
            ),
            *(arrays[name].astype(kind) for kind in (np.float32, np.int64, bool, complex, "S3", "U2", np.float16)),
            np.full((12, 1), 2**63 - 1),
            np.full((12, 1), 2**64 - 1, np.uint64),
            np.full((12, 1), -1),
            np.zeros(12, [("a", np.uint8), ("b", np.int32)]),
            np.zeros((12, 8, 8, 8, 8, 3), np.uint8)[:, :, :, :, 0, :],
            np.zeros((12, *[1] * 20), np.uint8),
            np.array(["2020-01-01"] * 12, "datetime64[D]"),
        ]
    )
    np.savez_compressed(path, **arrays)


def npz_bomb(path, rng, canary):
    """Gigabytes of zeros in a small file."""
    count = rng.choice((10**6, 3 * 10**8))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (count // 192, 8, 8, 3)}
    )
    members = _members(path)
    members[rng.choice(list(members))] = header.getvalue() + bytes(count // 192 * 192)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


# Keras's files.


def _leaves(item, path=()):
    if isinstance(item, dict):
        for key, value in item.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(item, list):
        for index, value in enumerate(item):
            yield from _leaves(value, (*path, index))
    else:
        yield path


def _set(item, path, value):
    for key in path[:-1]:
        item = item[key]
    item[path[-1]] = value


HOSTILE_VALUES = (
    *(None, True, 0, -1, 1, 10**9, 2**31, 10**30, 1e308, -0.5, "", "x", "/etc/passwd", "../x", [], {}, [[]], [1, 2]),
    *("float16", "int8", "linear", "valid", [None, 100_000, 100_000, 3], [10**9], {"class_name": "Dense"}, 10**6),
)


def keras_values(path, rng, canary):
    members = _members(path)
    config = json.loads(members["config.json"])
    leaves = list(_leaves(config))
    for _ in range(rng.choice((1, 1, 2, 5))):
        with_value = rng.choice(HOSTILE_VALUES)
        leaf = rng.choice(leaves)
        try:
            _set(config, leaf, with_value)
        except (KeyError, TypeError, IndexError):
            continue
    members["config.json"] = json.dumps(config)
    _write_members(path, members, rng)


def keras_code(path, rng, canary):
    """Layers and functions that would run code."""
    members = _members(path)
    config = json.loads(members["config.json"])
    payload = keras.saving.serialize_keras_object(keras.layers.Lambda(_lambda(str(canary))))
    payload["config"]["name"] = "payload"
    anything = {
        "module": rng.choice(("os", "builtins", "subprocess", "keras.utils", "keras.src.utils.file_utils", "posix")),
        "class_name": rng.choice(("system", "open", "exec", "eval", "get_file", "function", "run")),
        "config": rng.choice((f"touch {canary}", {"name": f"open({str(canary)!r}, 'w')"}, {"fname": str(canary)})),
        "registered_name": rng.choice((None, "system", "open", "function")),
    }
    unsafe = {
        "module": "keras.config",
        "class_name": "function",
        "registered_name": "function",
        "config": "enable_unsafe_deserialization",
    }
    chosen = rng.choice((payload, anything, unsafe))
    found = [leaf for leaf in _leaves(config) if "config" in leaf]
    if rng.random() < 0.5 and "layers" in config.get("config", {}):
        config["config"]["layers"].insert(1, chosen)
        if rng.random() < 0.3:
            config["config"]["layers"].insert(1, unsafe)
    else:
        _set(config, rng.choice(found), chosen)
    members["config.json"] = json.dumps(config)
    _write_members(path, members, rng)


def _lambda(canary):
    def write(x, canary=canary):
        open(canary, "w").close()
        return x

    return write


def keras_deep(path, rng, canary):
    members = _members(path)
    depth = rng.choice((100, 900, 5000, 10**5, 2 * 10**6))
    kind = rng.choice((0, 1, 2))
    if kind == 0:
        members["config.json"] = "[" * depth + "]" * depth
    elif kind == 1:
        members["config.json"] = '{"config":' * depth + "1" + "}" * depth
    else:
        layer = '{"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": ['
        depth = min(depth, 2000)
        members["config.json"] = layer * depth + "]}}" * depth
    _write_members(path, members, rng)


def h5_content(path, rng, canary):
    """Valid HDF5 that is not what weights are."""
    import h5py

    content = io.BytesIO()
    change = rng.randrange(8)
    with h5py.File(content, "w") as file:
        group = file.create_group("layers/conv/vars")
        if change == 0:
            group["0"] = h5py.ExternalLink("/etc/passwd", "/")
        elif change == 1:
            group["0"] = h5py.SoftLink("/layers/conv")
            file["layers/again"] = file["layers"]
        elif change == 2:
            group.create_dataset("0", (10**6, 10**6), "f4", chunks=(1000, 1000), compression="gzip")
        elif change == 3:
            group.create_dataset("0", data=["a", "b"], dtype=h5py.string_dtype())
        elif change == 4:
            group.create_dataset("0", (3, 3, 3, 4), "f4", external=[("/etc/passwd", 0, 432)])
        elif change == 5:
            for depth in range(rng.choice((50, 2000))):
                group = group.create_group("g") if depth % 2 else group.create_group("layers")
        elif change == 6:
            group.create_dataset(
                "0", data=np.zeros(rng.choice(((3,), (), (3, 3, 3, 4), (0, 5))), rng.choice(("f4", "i1")))
            )
        else:
            layout = h5py.VirtualLayout((4,), "f4")
            layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
            group.create_virtual_dataset("0", layout)
    if path.suffix == ".keras":
        members = _members(path)
        members["model.weights.h5"] = content.getvalue()
        _write_members(path, members, rng)
    else:
        path.write_bytes(content.getvalue())


# torch's files.


def pth_pickle(path, rng, canary):
    """A pickle that would create a file, alone or in torch's archive."""
    payload = pickle.dumps({"state_dict": _Payload(canary)}, rng.choice((0, 2, 4)))
    if rng.random() < 0.5 or not zipfile.is_zipfile(path):
        path.write_bytes(payload)
        return
    members = _members(path)
    name = next(name for name in members if name.endswith("data.pkl"))
    members[name] = payload
    _write_members(path, members, rng)


def pth_tensors(path, rng, canary):
    """Valid tensors that are not a network's weights."""
    import torch

    state = torch.load(path, weights_only=True) if zipfile.is_zipfile(path) else {"a": torch.zeros(2)}
    name = rng.choice(list(state))
    kinds = (
        lambda: torch.zeros(1).expand(10**6, 10**6),
        lambda: torch.zeros(1, dtype=torch.float16).expand(10**7, 10**5),
        lambda: torch.zeros(2, 2).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.zeros(4), 0.1, 0, torch.qint8),
        lambda: torch.zeros(4, device="meta"),
        lambda: torch.zeros(4, dtype=torch.complex64),
        lambda: torch.zeros(0),
        lambda: torch.zeros(()),
        lambda: torch.zeros([1] * 30),
        lambda: torch.full((4,), torch.nan),
        lambda: torch.zeros(4, dtype=torch.bool),
        lambda: torch.zeros(4, dtype=torch.bfloat16),
        lambda: {"a": torch.zeros(2)},
        lambda: "text",
        lambda: 10**100,
        list,
    )
    state[name if rng.random() < 0.8 else rng.choice(("", "x" * 10**5, 5, ("a", "b"), None, "module."))] = rng.choice(
        kinds
    )()
    torch.save(state if rng.random() < 0.7 else {"state_dict": state}, path)


# Images.


def image_size(path, rng, canary):
    """A header that claims a huge picture."""
    content = bytearray(path.read_bytes())
    value = rng.choice((0, 1, 65535, 40_000, 2**20, 2**31 - 1, 2**32 - 1))
    place, code = {
        ".png": (rng.choice((16, 20)), ">I"),
        ".bmp": (rng.choice((18, 22)), "<I"),
        ".gif": (rng.choice((6, 8)), "<H"),
        ".webp": (rng.choice((24, 26)), "<H"),
    }.get(path.suffix, (None, ">H"))
    if place is None:
        marker = content.find(b"\xff\xc0")
        place = marker + rng.choice((5, 7)) if marker > 0 else rng.randrange(min(200, len(content) - 2))
    struct.pack_into(code, content, place, value % 256 ** struct.calcsize(code))
    if path.suffix == ".png" and rng.random() < 0.7:  # With a sum that agrees.
        import zlib

        struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    path.write_bytes(content)


def image_elements(path, rng, canary):
    """A DICOM file whose elements contradict each other; for other images a header that claims a huge picture."""
    if path.suffix != ".dcm":
        return image_size(path, rng, canary)
    from pydicom import dcmread

    dataset = dcmread(path)
    numbers = (0, 1, 2, 3, 7, 8, 12, 16, 24, 32, 40_000, 65_535)
    for _ in range(rng.choice((1, 2, 3))):
        name = rng.choice(
            ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
        )
        setattr(dataset, name, rng.choice(numbers))
    if rng.random() < 0.5:
        name = rng.choice(("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "NumberOfFrames"))
        setattr(dataset, name, rng.choice((0, 1, -1, 2**31 - 1)))
    if rng.random() < 0.3:
        dataset.PhotometricInterpretation = rng.choice(("RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR", "", "X"))
    if "VOILUTSequence" in dataset and rng.random() < 0.5:
        dataset.VOILUTSequence[0].LUTDescriptor = [rng.choice(numbers) for _ in range(3)]
    dataset.save_as(path, enforce_file_format=True)
    return None


def image_bomb(path, rng, canary):
    """A PNG of one colour that decompresses to a thousand times its size."""
    import zlib

    width, height = rng.choice(((12_000, 12_000), (11_000, 12_000), (2**20, 100), (2**27, 1), (1, 2**20)))

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, rng.choice((1, 8)), 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 1) * height if head[8] == 8 else (width // 8 + 2) * height), 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


# Text.


def json_values(path, rng, canary):
    if path.suffix != ".json":
        content = path.read_text().split(",")
        content[rng.randrange(len(content))] = rng.choice(
            ("", "nan", "1e999", "x" * 200_000, '"', "\n", "9" * 5000, "\0")
        )
        path.write_text(",".join(content))
        return
    content = json.loads(path.read_text())
    for _ in range(rng.choice((1, 2, 4))):
        leaf = rng.choice(list(_leaves(content)))
        leaf = leaf[: rng.randrange(1, len(leaf) + 1)]
        try:
            _set(content, leaf, rng.choice((*HOSTILE_VALUES, float("nan"), float("inf"), "\x1b[2J", "x" * 10**5)))
        except (KeyError, TypeError, IndexError):
            continue
    path.write_text(json.dumps(content))


def json_deep(path, rng, canary):
    if path.suffix != ".json":
        return
    depth = rng.choice((900, 10**4, 10**6))
    inside = rng.choice(("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, "[" * depth, "9" * depth))
    path.write_text(rng.choice((inside, '{"sha256": ' + inside + "}", '{"sha256": 1, "data": ' + inside + "}")))


def long_text(path, rng, canary):
    path.write_bytes(
        rng.choice((b"\n", b"a\n", b"x", b"\xff\xfe", b"\0", "é\n".encode(), b"\r")) * rng.choice((1, 10**4, 10**7))
    )


OWN = {
    "tflite": (
        *[tflite_graph] * 6,
        tflite_amplified,
        tflite_archive,
        tflite_behind,
        tflite_metadata,
        tflite_normalization,
    ),
    "npz": (npz_pickle, npz_header, npz_arrays, npz_bomb, member_bytes, archive_members, stated_sizes),
    "keras": (
        keras_values,
        keras_values,
        keras_code,
        keras_deep,
        h5_content,
        member_bytes,
        archive_members,
        stated_sizes,
    ),
    "h5": (h5_content,),
    "pth": (pth_pickle, pth_tensors, member_bytes, archive_members, stated_sizes),
    "image": (image_size, image_elements, image_bomb),
    "card": (json_values, json_values, json_deep, long_text),
    "labels": (long_text,),
    "run": (json_values, json_values, json_deep, long_text),
}
