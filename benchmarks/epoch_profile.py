"""Does `training.profile` find where the time goes? An artificial delay of 20 ms a batch, on the current backend.

Run:     KERAS_BACKEND=jax python benchmarks/epoch_profile.py [--quick]
Measures the first network of derma on batches as they are and on the same batches with a delay, in pairs, and compares
the difference of the waiting times with the delay that a clock around each sleep measured. Beside it stand the training
step of the profile and that of Keras's `fit` on one batch in memory, and what the profile calls the bottleneck. Figures
are medians over the pairs; the delay must be found to within 20 %.

The file is not called profile.py: beside the other benchmarks that would hide the standard library's module, which
torch imports.
"""

import argparse
import json
import time

import record

DELAY = 0.02
TOLERANCE = 0.2


def measure(pairs, steps):
    import keras
    import numpy as np

    from keras_vision import data, derma, models, training
    from keras_vision.data.splits import Split
    from keras_vision.training.native_operations import native_operations

    class Delayed(data.Batches):
        """Batches that take longer, and how long that was."""

        def __init__(self, *arguments, **settings):
            super().__init__(*arguments, **settings)
            self.delays = []

        def __getitem__(self, index):
            started = time.perf_counter()
            time.sleep(DELAY)
            self.delays.append(time.perf_counter() - started)
            return super().__getitem__(index)

    class Same(keras.utils.PyDataset):
        """One batch in memory."""

        def __init__(self, batch):
            super().__init__()
            self.batch = batch

        def __len__(self):
            return steps

        def __getitem__(self, index):
            return self.batch

    class EpochSeconds(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seconds = []

        def on_epoch_begin(self, epoch, logs=None):
            self.started = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds.append(time.perf_counter() - self.started)

    recipe = derma.RECIPES["baseline"]
    size = recipe.training.batch_size
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (steps * size, 28, 28, 3), dtype=np.uint8)
    split = Split(images, rng.integers(0, 7, len(images)))
    plain, delayed = (
        kind(split, 7, size, augmentation=recipe.augmentation, shuffle=True) for kind in (data.Batches, Delayed)
    )
    model = models.build(recipe.model, (28, 28, 3), 7)
    training.compile_model(model, recipe.training, steps_per_epoch=steps)
    rows = []
    for _ in range(pairs):
        delayed.delays.clear()
        before, after = (training.profile(model, batches) for batches in (plain, delayed))
        with native_operations(model):
            seconds = EpochSeconds()
            model.fit(Same(plain[0]), epochs=3, callbacks=[seconds], verbose=0)
        rows.append(
            {
                "delay_found": after.milliseconds["waiting for data"] - before.milliseconds["waiting for data"],
                "delay_true": 1000 * float(np.median(delayed.delays)),
                "step": before.milliseconds["training step"],
                "step_of_fit": 1000 * min(seconds.seconds[1:]) / steps,
                "plain": before.to_dict(),
                "delayed": after.to_dict(),
            }
        )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="in under a minute")
    options = parser.parse_args()
    rows = measure(*((1, 20) if options.quick else (3, 60)))
    ratios = [row["delay_found"] / row["delay_true"] for row in rows]
    for row, ratio in zip(rows, ratios, strict=True):
        print(f"delay {row['delay_true']:.2f} ms, found {row['delay_found']:.2f} ms ({ratio:.3f}); ", end="")
        print(f"step {row['step']:.2f} ms, in a fit on one batch {row['step_of_fit']:.2f} ms")
    ratio = record.median_and_spread(ratios)[0]
    import keras

    headline = {
        "backend": keras.backend.backend(),
        "delay_found_over_true": round(ratio, 3),
        "within_20_percent": abs(ratio - 1) <= TOLERANCE,
        "step_over_fit_step": round(record.median_and_spread([row["step"] / row["step_of_fit"] for row in rows])[0], 3),
        "bottleneck_plain": rows[-1]["plain"]["input_is_bottleneck"],
        "bottleneck_delayed": rows[-1]["delayed"]["input_is_bottleneck"],
    }
    if options.quick:
        print(json.dumps(headline))
    else:
        record.finish(f"epoch_profile_{headline['backend']}", headline, {"pairs": rows})


if __name__ == "__main__":
    main()
