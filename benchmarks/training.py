"""Does training wait for data? Its speed with augmentation, compared with steps on one batch in memory.

Run:     python benchmarks/training.py [--network fracture3d|cifar] [--quick] [--backends tensorflow jax torch]
Measures, in a process for each backend, images per second of `training.fit` on a track's first network with
augmentation on (off for `cifar`, as its recipe and its peer have it), and of the same network stepping on one batch
kept in memory, in turns; by wall clock, and by processor time (`cpu`), which other processes hardly change. A step is
the faster of `model.train_on_batch` and Keras's own `fit` on that batch over and over: on JAX the first copies the
whole state in and out at each step. Also reported: the share of the fit's time spent making batches (all of it is
waiting, unless TensorFlow makes them in another thread, see `training/direct_batches.py`), and by how much a fit on
arrays of the real training split's size raises the highest memory of the process, before anything else is run. All
numbers are medians over the turns, without the epochs that warm up. For `cifar` a plain torch script of the same
network is timed right before and after torch.
"""

import argparse
import dataclasses
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import record


@dataclasses.dataclass(frozen=True)
class Network:
    """A track's first recipe, on images like those of its data set.

    Attributes:
        train_images: Size of the real training split.
        rounds: Number of turns.
        batches: Batches per turn.
        augment: Whether augmentation is on; off where the peer has none.
        peer: Script in this folder that trains the same network, such as `torch_cifar.py`.
    """

    image_shape: tuple
    num_classes: int
    train_images: int
    rounds: int
    batches: int
    augment: bool = True
    peer: str | None = None


NETWORKS = {
    "derma": Network((28, 28, 3), 7, 7007, rounds=5, batches=110),
    "fracture3d": Network((28, 28, 28, 1), 3, 1027, rounds=3, batches=6),
    "cifar": Network((32, 32, 3), 10, 45_000, rounds=3, batches=21, augment=False, peer="torch_cifar.py"),
}


def measure(name, rounds, batches_a_round):
    """Measurements of a network on the backend of this process."""
    import keras
    import numpy as np

    from keras_vision import data, models, training
    from keras_vision.data.splits import Split
    from keras_vision.recipe import TrainingSpec
    from keras_vision.training.native_operations import native_operations

    class Timed(data.Batches):
        """Batches that count the seconds spent making them."""

        seconds = 0.0

        def start_epoch(self, epoch):
            super().start_epoch(epoch)
            self.seconds = 0.0

        def __getitem__(self, index):
            started = time.perf_counter()
            batch = super().__getitem__(index)
            self.seconds += time.perf_counter() - started
            return batch

    network = NETWORKS[name]
    recipe = next(iter(importlib.import_module(f"keras_vision.{name}").RECIPES.values()))
    classes, batch_size = network.num_classes, recipe.training.batch_size
    augmentation = recipe.augmentation if network.augment else None
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (network.train_images, *network.image_shape), dtype=np.uint8)
    labels = rng.integers(0, classes, network.train_images)
    some = Split(images[: batches_a_round * batch_size], labels[: batches_a_round * batch_size])
    count = len(some)
    val = data.Batches(Split(images[:batch_size], labels[:batch_size]), classes, batch_size)

    keras.utils.set_random_seed(0)
    model = models.build(recipe.model, network.image_shape, classes)

    def epoch(batches):
        """Seconds and processor seconds of one epoch without its first: compiling is not what this measures."""
        history = _EpochSeconds()
        spec = TrainingSpec(epochs=2, batch_size=batch_size, patience=0, schedule="constant")
        training.fit(model, batches, val, spec, callbacks=[history])
        return history.seconds[-1], history.cpu[-1]

    def step_speed(batch):
        """Images per second and per processor second on one batch in memory, in the operations of `training.fit`."""
        with native_operations(model):
            model.train_on_batch(*batch)
            started, cpu = time.perf_counter(), time.process_time()
            for _ in range(batches_a_round):
                model.train_on_batch(*batch)
            by_step, cpu = time.perf_counter() - started, time.process_time() - cpu
            history = _EpochSeconds()
            model.fit(_Same(batch, batches_a_round), validation_data=val, epochs=2, callbacks=[history], verbose=0)
        seen = batches_a_round * batch_size
        return seen / min(by_step, history.seconds[-1]), seen / min(cpu, history.cpu[-1])

    class _Same(keras.utils.PyDataset):
        def __init__(self, batch, length):
            super().__init__()
            self.batch, self.length = batch, length

        def __len__(self):
            return self.length

        def __getitem__(self, index):
            return self.batch

    class _Short(data.Batches):
        """All images, with only the first batches of each epoch's order."""

        def __len__(self):
            return min(super().__len__(), batches_a_round)

    class _EpochSeconds(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seconds, self.cpu = [], []

        def on_epoch_begin(self, epoch, logs=None):
            self.started, self.cpu_started = time.perf_counter(), time.process_time()

        def on_train_batch_end(self, batch, logs=None):
            self.loss = (logs or {})["loss"]

        def on_test_begin(self, logs=None):
            float(np.asarray(self.loss))  # JAX runs steps asynchronously: wait for the last one.
            self.seconds.append(time.perf_counter() - self.started)
            self.cpu.append(time.process_time() - self.cpu_started)

    before = _peak_megabytes()
    epoch(_Short(Split(images, labels), classes, batch_size, augmentation=augmentation, shuffle=True))
    memory = _peak_megabytes() - before
    figures = {"fit": [], "step": [], "cpu_fit": [], "cpu_step": [], "waiting": []}
    for _ in range(rounds):
        batches = Timed(some, classes, batch_size, augmentation=augmentation, shuffle=True)
        seconds, cpu = epoch(batches)
        figures["fit"].append(count / seconds)
        figures["cpu_fit"].append(count / cpu)
        figures["waiting"].append(batches.seconds / seconds)
        for figure, speed in zip(("step", "cpu_step"), step_speed(batches[0]), strict=True):
            figures[figure].append(speed)
    return {
        **{name: record.median_and_spread(values) for name, values in figures.items()},
        **{
            f"{kind}fit_over_step": record.median_and_spread(
                [fit / step for fit, step in zip(figures[f"{kind}fit"], figures[f"{kind}step"], strict=True)]
            )
            for kind in ("", "cpu_")
        },
        "peak_megabytes_above_start": memory,
        "array_megabytes": images.nbytes / 2**20,
    }


def peer(network, rounds):
    """Images per second of a network's peer on 1,400 synthetic images, for each epoch after the first."""
    script = Path(__file__).with_name(network.peer)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(script), "--data", "synthetic", "--size", str(network.image_shape[0])]
        command += ["--limit", str(64 * network.batches), "--epochs", str(rounds + 1), "--out", folder]
        subprocess.run(command, env={**os.environ, "KERAS_BACKEND": "torch"}, check=True, stdout=subprocess.DEVNULL)
        return json.loads((Path(folder) / "report.json").read_text("utf-8"))["images_per_second"][1:]


def _peak_megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=tuple(NETWORKS), default="derma")
    parser.add_argument("--quick", action="store_true", help="under a minute for derma")
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax", "torch"])
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    network = NETWORKS[options.network]
    rounds, batches_a_round = (1, 8) if options.quick else (network.rounds, network.batches)
    if options.measure:
        print(json.dumps(measure(options.network, rounds, batches_a_round)))
        return
    results, peer_speeds = {}, []
    for backend in options.backends:
        beside = network.peer and backend == "torch"
        peer_speeds += peer(network, rounds) if beside else []
        command = [sys.executable, __file__, "--measure", "--network", options.network]
        command += ["--quick"] if options.quick else []
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"}
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        results[backend] = json.loads(done.stdout.splitlines()[-1])
        peer_speeds += peer(network, rounds) if beside else []
    print(
        f"{'backend':<12}{'fit':>8}{'step':>8}  images/s{'fit/step':>10}{'cpu':>7}{'making batches':>16}{'memory':>10}"
    )
    for backend, row in results.items():
        print(
            f"{backend:<12}{row['fit'][0]:>8.0f}{row['step'][0]:>8.0f}{'':<10}{row['fit_over_step'][0]:>10.3f}"
            f"{row['cpu_fit_over_step'][0]:>7.3f}{100 * row['waiting'][0]:>14.2f} %"
            f"{row['peak_megabytes_above_start']:>7.0f} MB"
        )
    headline = {
        "fit_over_step": {name: round(row["fit_over_step"][0], 3) for name, row in results.items()},
        "cpu_fit_over_step": {name: round(row["cpu_fit_over_step"][0], 3) for name, row in results.items()},
        "waiting_share": {name: round(row["waiting"][0], 4) for name, row in results.items()},
    }
    details = {"backends": results, "rounds": rounds, "batches": batches_a_round}
    if peer_speeds:
        details["peer"] = record.median_and_spread(peer_speeds)
        print(f"{network.peer:<12}{details['peer'][0]:>8.0f}")
        headline["peer_images_per_second"] = round(details["peer"][0], 1)
    headline["images_per_second"] = {name: round(row["fit"][0], 1) for name, row in results.items()}
    name = "training" if options.network == "derma" else f"training_{options.network}"
    name += "_quick" if options.quick else ""
    record.finish(name, headline, details)


if __name__ == "__main__":
    main()
