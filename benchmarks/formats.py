"""Files for other runtimes beside the models that they were written from: differences, sizes, times.

Run:     python benchmarks/formats.py [--backends jax torch] [--networks "derma best" ...] [--quick]
Needs:   pip install 'keras-vision[onnx,openvino]', TensorFlow and torch
The networks of `derma best`, `cifar fast` and `fracture3d best` at their full width, after one epoch on drawn images,
and EfficientNet-Lite0 at 224 pixels with its ImageNet weights and a new head: what their weights are good for does not
matter here. Each is saved once and exported on JAX, whose models Keras writes on TensorFlow and torch, and on torch,
where that differs. Each file is run by its own program on 32 drawn images that the network has not seen,
beside the model on that backend; a file whose scores differ by more than 0.0001 would not be kept. Milliseconds are the
fastest of 20 calls with one image on one thread.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import record

NETWORKS = ("derma best", "cifar fast", "fracture3d best", "efficientnet_lite0")
FORMATS = ("onnx", "openvino", "torch", "saved_model")
# From JAX, TensorFlow writes the first two; torch's own files of them differ. On TensorFlow all are as from JAX.
MEASURED = {"jax": FORMATS, "torch": ("onnx", "openvino")}
IMAGES = 32
CLASSES = 10


def recipe_of(network, quick):
    """The recipe of a network, and the drawn images that it gets."""
    from keras_vision import cifar, derma, fracture3d
    from keras_vision.recipe import ModelSpec, Recipe, override

    if network == "efficientnet_lite0":
        spec = ModelSpec(architecture="efficientnet_lite0", weights="imagenet")
        return override(Recipe(model=spec), data="synthetic", size=224, limit=64)
    track, name = network.split()
    found = {"derma": derma, "cifar": cifar, "fracture3d": fracture3d}[track].RECIPES[name]
    data = "synthetic3d" if track == "fracture3d" else "synthetic"
    size = {"cifar": 32}.get(track, 28)
    return override(found, data=data, size=size, limit=64 if quick else 256, epochs=1, warmup_epochs=0.0, batch_size=32)


def make(network, folder, quick):
    """Saves a network and images to run it on; returns what is known of it."""
    import numpy as np

    from keras_vision import data
    from keras_vision.pipeline import track

    recipe = recipe_of(network, quick)
    splits = data.load_splits(recipe.data, 0)
    model = track.network(recipe, splits) if network == "efficientnet_lite0" else track.train(recipe, splits)[0]
    path = folder / f"{network.replace(' ', '-')}.keras"
    model.save(path)
    images = np.concatenate([splits.test.images, splits.val.images])[:IMAGES]
    np.save(path.with_suffix(".npy"), images)
    return {"parameters": model.count_params(), "shape": list(splits.image_shape), "keras_bytes": path.stat().st_size}


def export(path):
    """Exports a saved network on this process's backend: a row for each format."""
    import keras
    import numpy as np

    from keras_vision import quantization
    from keras_vision.recipe import InputError

    model = keras.saving.load_model(path, compile=False)
    images = np.load(path.with_suffix(".npy"))
    labels = tuple(f"class {number}" for number in range(model.output_shape[-1]))
    metadata = quantization.Metadata(path.stem, "A benchmark.", "1", "unknown", labels)
    rows = {}
    with tempfile.TemporaryDirectory() as place:
        for name in MEASURED[keras.backend.backend()]:
            start = time.perf_counter()
            try:
                row = quantization.export(model, name, place, images, metadata).to_dict()
            except InputError as error:
                row = {"refusal": str(error)}
            rows[name] = row | {"seconds": time.perf_counter() - start}
            print(path.stem, keras.backend.backend(), name, row, file=sys.stderr, flush=True)
    return rows


def child(backend, *arguments):
    """A part of this script in a process of its own on a backend; returns the JSON of its last line."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    found = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(found.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", nargs="+", default=list(MEASURED), choices=MEASURED)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--export", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        print(json.dumps(make(options.make[0], Path(options.make[1]), options.quick)))
        return
    if options.export:
        print(json.dumps(export(options.export)))
        return
    networks, rows = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for network in options.networks:
            quick = ["--quick"] if options.quick else []
            networks[network] = child("jax", "--make", network, folder, *quick)
            path = Path(folder) / f"{network.replace(' ', '-')}.keras"
            rows[network] = {backend: child(backend, "--export", path) for backend in options.backends}
    print(f"{'network':<20}{'backend':<12}{'format':<13}{'writer':<21}{'difference':>11}{'bytes':>13}{'ms':>9}")
    for network, backends in rows.items():
        for backend, formats in backends.items():
            for name, row in formats.items():
                start = f"{network:<20}{backend:<12}{name:<13}"
                if row.get("refusal"):
                    print(f"{start}refused: {row['refusal']}")
                    continue
                print(
                    f"{start}{row['writer']:<21}{row['largest_difference']:>11.1e}{row['bytes']:>13,}{row['milliseconds']:>9.2f}"
                )
    largest = {
        name: max(
            (
                row[name]["largest_difference"]
                for network in rows.values()
                for row in network.values()
                if name in row and not row[name].get("refusal")
            ),
            default=None,
        )
        for name in FORMATS
    }
    refused = [
        f"{network}, {backend}, {name}"
        for network, backends in rows.items()
        for backend, formats in backends.items()
        for name, row in formats.items()
        if row.get("refusal")
    ]
    headline = {"largest_difference": largest, "refused": refused}
    name = "formats_quick" if options.quick else "formats"
    record.finish(name, headline, {"networks": networks, "files": rows})


if __name__ == "__main__":
    main()
