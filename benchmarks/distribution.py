"""One training on one device, on two devices of one process, and on two processes of this machine, with JAX.

Run:     python benchmarks/distribution.py [--images 1500] [--epochs 3] [--quick]
Recipes: derma baseline and best (normalization), fracture3d (volumes), and a network without normalization, on drawn
         images; the last batch of an epoch is one that two devices do not divide
Weights: the largest difference of any weight, as a share of the largest weight, from the training on one device
Changed: the same training on one device, of which every first weight was multiplied by 1 + 1e-7: what rounding alone
         becomes in these epochs, with which the other differences are to be compared
Metrics: the largest difference of a loss or an accuracy of any epoch
float64: the network without normalization once more, without rounding to float32, which shows whether its difference is
         more than rounding (Keras computes normalizations in float32 in any case)
Communication: seconds of the sums over devices of arrays with the shapes of the weights, by themselves, as a share of a
         step's; those of normalizations come on top. All trainings have the same two cores, so the figures of speed
         show what dividing costs, not what it gains.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CHANGED, DOUBLE = "one device, weights changed by 1e-7", ", float64"
# Devices of each process, and processes.
WAYS = {
    "one device": (1, 1),
    CHANGED: (1, 1),
    "two devices": (2, 1),
    "two processes": (1, 2),
    "one device" + DOUBLE: (1, 1),
    "two devices" + DOUBLE: (2, 1),
    "two processes" + DOUBLE: (1, 2),
}
PLAIN = "no normalization"
CASES = {
    "derma baseline": ("derma", "baseline", {}),
    "derma best": ("derma", "best", {}),
    "fracture3d": ("fracture3d", None, {"data": "synthetic3d"}),
    PLAIN: ("cifar", None, {"architecture": "basic_cnn"}),
}
FEWER = {"fracture3d": 6}  # One of so many images, since a step with volumes takes seconds.
QUICK = ("derma baseline",)


def train(case, options):
    """Trains in this process, or as one of two, and writes weights, metrics and times."""
    import keras

    import keras_vision as kv
    from keras_vision import data, training
    from keras_vision.pipeline import track

    name, which, changes = CASES[case]
    devices, processes = WAYS[options.way]
    place = {"processes": processes, "process": options.process, "coordinator": options.coordinator}
    with training.devices.using(devices, **place if processes > 1 else {}):
        changes = {"data": "synthetic", "epochs": options.epochs, "batch_size": 32, "patience": 0, **changes}
        made = kv.override(kv.recipe(name, which), **changes)
        splits = data.load_splits(made.data, made.seed)
        uneven = 32 * (options.images // FEWER.get(case, 1) // 32) + 15
        rows = np.arange(uneven) % len(splits.train)
        part = data.Split(np.asarray(splits.train.images[rows]), splits.train.labels[rows])
        val = data.Split(np.asarray(splits.val.images[:75]), splits.val.labels[:75])
        batches = data.Batches(part, splits.num_classes, 32, shuffle=True, seed=0)
        track.seed_everything(0)
        model = track.network(made, splits)
        if options.way.endswith(DOUBLE):
            model = _double(model)
        if options.way == CHANGED:
            model.set_weights([weight * np.float32(1 + 1e-7) for weight in model.get_weights()])
        times = _Times()
        spec = made.training
        history = training.fit(model, batches, data.Batches(val, splits.num_classes, 32), spec, callbacks=[times])
        seconds = min(times.seconds[1:] or times.seconds)
        exchange = _exchange(model) if devices * processes > 1 else 0.0
    if options.process == 0:
        values = {str(number): keras.ops.convert_to_numpy(one) for number, one in enumerate(model.variables)}
        np.savez(options.out, allow_pickle=False, **{name: np.asarray(one) for name, one in values.items()})
        rows = [{k: v for k, v in one.items() if k != "seconds"} for one in history.epochs]
        facts = {"epochs": rows, "images": uneven, "images_a_second": uneven / seconds, "step": seconds / len(batches)}
        print(json.dumps({**facts, "exchange": exchange, "parameters": model.count_params()}))


def _double(model):
    """The same network and weights, computing in float64."""
    import jax
    import keras

    jax.config.update("jax_enable_x64", True)
    keras.config.set_floatx("float64")
    made = keras.models.model_from_json(model.to_json().replace('"float32"', '"float64"'))
    made.set_weights(model.get_weights())
    return made


def _exchange(model):
    """Seconds of the sums over all devices of arrays with the shapes of a network's weights."""
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("all",))
    own = len(jax.local_devices())
    sharding = NamedSharding(mesh, PartitionSpec("all"))
    values = [
        jax.make_array_from_process_local_data(sharding, np.zeros((own, *weight.shape), np.float32))
        for weight in model.weights
    ]
    totals = [NamedSharding(mesh, PartitionSpec())] * len(values)
    total = jax.jit(lambda values: [value.sum(axis=0) for value in values], out_shardings=totals)
    jax.block_until_ready(total(values))
    started = time.perf_counter()
    for _ in range(10):
        jax.block_until_ready(total(values))
    return (time.perf_counter() - started) / 10


def _Times():
    import keras

    class Times(keras.callbacks.Callback):
        """Seconds of each epoch's steps, without its validation."""

        def on_train_begin(self, logs=None):
            self.seconds, self.last = [], 0.0

        def on_epoch_begin(self, epoch, logs=None):
            self.started = time.perf_counter()
            self.seconds.append(0.0)

        def on_train_batch_end(self, batch, logs=None):
            self.seconds[-1] = time.perf_counter() - self.started

    return Times()


def run(case, way, folder, options):
    """What a training in one way gives, from its processes."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        coordinator = f"localhost:{found.getsockname()[1]}"
    out = Path(folder) / f"{case}-{way}.npz".replace(" ", "_")
    command = [sys.executable, __file__, "--child", case, "--way", way, "--out", str(out)]
    command += ["--coordinator", coordinator, "--images", str(options.images), "--epochs", str(options.epochs)]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    processes = [
        subprocess.Popen([*command, "--process", str(number)], stdout=subprocess.PIPE, text=True, env=environment)
        for number in range(WAYS[way][1])
    ]
    printed = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"The training of {case}, {way}, failed.")
    with np.load(out) as values:
        weights = [values[name] for name in values.files]
    return {**json.loads(printed[0].strip().splitlines()[-1]), "weights": weights}


def compare(found, alone):
    """A training beside the one on one device."""
    largest = max(float(np.abs(one).max()) for one in alone["weights"] if one.dtype.kind == "f")
    pairs = zip(found["weights"], alone["weights"], strict=True)
    weights = max(float(np.abs(a - b).max()) for a, b in pairs if a.dtype.kind == "f")
    metrics = max(abs(a[name] - b[name]) for a, b in zip(found["epochs"], alone["epochs"], strict=True) for name in a)
    return {
        "weights": weights / largest,
        "metrics": metrics,
        "images": found["images"],
        "images_a_second": found["images_a_second"],
        "communication": found["exchange"] / found["step"],
        "parameters": found["parameters"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1500, help="training images (default: 1500)")
    parser.add_argument("--epochs", type=int, default=3, help="passes over them (default: 3)")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=None, help="only these; others' results are kept")
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}, on 100 images, 2 epochs")
    parser.add_argument("--child", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--way", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--out", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--process", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--coordinator", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        train(options.child, options)
        return 0
    import record

    if options.quick:
        options.images, options.epochs = 100, 2
    place = record.RESULTS / "distribution.json"
    results = json.loads(place.read_text("utf-8"))["results"] if options.cases and place.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        for case in QUICK if options.quick else options.cases or CASES:
            ways = [way for way in WAYS if case == PLAIN or not way.endswith(DOUBLE)]
            made = {way: run(case, way, folder, options) for way in ways}
            alone = {way: made["one device" + DOUBLE * way.endswith(DOUBLE)] for way in made}
            results[case] = {way: compare(found, alone[way]) for way, found in made.items()}
            for way, values in results[case].items():
                shown = ", ".join(f"{name} {value:.2g}" for name, value in values.items())
                print(f"{case}, {way}: {shown}", flush=True)
            record.finish("distribution", results, {"epochs": options.epochs})
    return 0


if __name__ == "__main__":
    sys.exit(main())
