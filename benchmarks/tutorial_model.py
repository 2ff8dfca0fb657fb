"""A transfer model as tutorials build it, from training to four files with one command.

Run:     KERAS_BACKEND=jax python benchmarks/tutorial_model.py [--data FOLDER] [--classes roses sunflowers]
Augmentation layers inside the model, a MobileNetV2 nested in it with its preprocessing as operators, one sigmoid
neuron, trained on two classes of flower_photos for about a minute and saved; nothing of keras_vision until then. The
weights are random, since ImageNet's cannot be had here, so the whole network trains, on TensorFlow as in the tutorials.
Then, on the backend of KERAS_BACKEND, `keras-vision convert --qat` on the same folder. Recorded: what its cards say of
the four files, and how often MediaPipe, where it is installed, gives the model's class with the uint8 file. Exit status
1 if a file is missing or is not what its scheme says.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
import record
from keras import layers

SIZE = 96
SHOWN = 100  # Photos that MediaPipe classifies.
KINDS = {"float32": "float", "dynamic": "dynamic range", "int8": "full-integer", "qat": "full-integer"}


def tutorial_model():
    """As in Keras's guide on transfer learning."""
    images = keras.Input((SIZE, SIZE, 3))
    x = layers.RandomRotation(0.1)(layers.RandomFlip("horizontal")(images))
    x = x / 127.5 - 1.0
    backbone = keras.applications.MobileNetV2(input_shape=(SIZE, SIZE, 3), alpha=0.35, include_top=False, weights=None)
    for layer in backbone.layers:  # A minute of training is too short for statistics that were not trained before.
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(backbone(x)))
    return keras.Model(images, layers.Dense(1, activation="sigmoid")(x))


def trained(folder, minutes):
    """The model after so many minutes, and its accuracy on images that it was not trained on."""
    keras.utils.set_random_seed(0)
    common = {"image_size": (SIZE, SIZE), "batch_size": 32, "label_mode": "binary", "validation_split": 0.2, "seed": 0}
    train, val = keras.utils.image_dataset_from_directory(folder, subset="both", verbose=False, **common)
    model = tutorial_model()
    model.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy", metrics=["accuracy"])
    started = time.perf_counter()
    while time.perf_counter() - started < 60 * minutes:
        model.fit(train, epochs=1, verbose=0)
    return model, model.evaluate(val, verbose=0)[1]


def phone_answers(path, photos):
    """MediaPipe's class of each photo; None where it is not installed."""
    try:
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision
    except ImportError:
        return None
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=str(path)), max_results=1)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        found = [classifier.classify(mediapipe.Image.create_from_file(str(photo))) for photo in photos]
    return [one.classifications[0].categories[0].category_name for one in found]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=None, help="folder with class folders (default: flower_photos on disk)")
    parser.add_argument("--classes", nargs=2, default=["roses", "sunflowers"])
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--train", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        model, accuracy = trained(options.data, options.minutes)
        model.save(options.train)
        print(accuracy)
        return 0
    data = Path(options.data or Path(os.environ.get("KERAS_VISION_DATA", ".data")) / "flower_photos")
    data = data / "train" if (data / "train").is_dir() else data
    with tempfile.TemporaryDirectory() as place:
        photos = Path(place) / "photos"
        for name in options.classes:
            shutil.copytree(data / name, photos / name)
        file = Path(place) / "tutorial.keras"
        command = [
            sys.executable,
            __file__,
            "--data",
            str(photos),
            "--minutes",
            str(options.minutes),
            "--train",
            str(file),
        ]
        tensorflow = {**os.environ, "KERAS_BACKEND": "tensorflow"}
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, env=tensorflow, check=True)
        accuracy, model = float(done.stdout.split()[-1]), keras.saving.load_model(file)
        command = [sys.executable, "-m", "keras_vision.convert", str(file)]
        out = Path(place) / "files"
        started = time.perf_counter()
        done = subprocess.run([*command, "--images", str(photos), "--qat", "--out", str(out)], text=True, check=False)
        seconds = time.perf_counter() - started
        files = {name: read(out, name) for name in KINDS}
        shown = sorted(photos.rglob("*.jpg"))
        shown = shown[:: max(1, len(shown) // SHOWN)]
        answers = phone_answers(out / "int8.tflite", shown) if files["int8"] else None
        pixels = [keras.utils.img_to_array(keras.utils.load_img(path, target_size=(SIZE, SIZE))) for path in shown]
        expected = model.predict(np.array(pixels), verbose=0)[:, 0] > 0.5
    same = None
    if answers is not None:
        same = float(
            np.mean([(name == options.classes[1]) == two for name, two in zip(answers, expected, strict=True)])
        )
    right = done.returncode == 0 and all(files[name] and files[name]["kind"] == kind for name, kind in KINDS.items())
    headline = {
        "files": sum(file is not None for file in files.values()),
        "right": right,
        "validation_accuracy": accuracy,
        "seconds": round(seconds),
        "mediapipe_agrees": same,
    }
    record.finish("tutorial_model", headline, {"backend": keras.backend.backend(), "files": files})
    return 0 if right else 1


def read(out, name):
    """What a file's card says; None where there is no file."""
    card = out / f"{name}.json"
    return json.loads(card.read_text("utf-8")) if card.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
