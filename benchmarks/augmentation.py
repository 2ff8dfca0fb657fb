"""Augmented images per CPU second: ours, ImageDataGenerator, a loop of cv2.warpAffine, keras.layers.Random*.

Run:     python benchmarks/augmentation.py [--quick]
Measures one process with one thread, on 28 x 28 colour images, with the augmentation of the DermaMNIST notebook
(rotation 15 degrees, zoom .2, shifts .1, horizontal flip), batches of 64; CPU seconds, because machines are shared. The
contenders take turns; each number is the median over the turns.
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ[name] = "1"
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import time
import warnings

import cv2
import keras
import numpy as np
import record
from keras.src.legacy.preprocessing.image import ImageDataGenerator

from keras_vision.data import synthetic
from keras_vision.data.augmentation import augment, parameters
from keras_vision.data.draws import uniforms
from keras_vision.derma import AUGMENTATION

BATCH = 64


def ours(images, epoch):
    draws = uniforms(0, epoch, len(images))
    for start in range(0, len(images), BATCH):
        augment(images[start : start + BATCH], AUGMENTATION, draws[start : start + BATCH])


def image_data_generator(images, epoch):
    generator = ImageDataGenerator(
        rotation_range=15, zoom_range=0.2, width_shift_range=0.1, height_shift_range=0.1, horizontal_flip=True
    )
    flow = generator.flow(images, batch_size=BATCH, seed=epoch)
    for _ in range(len(flow)):
        next(flow)


def warp_affine_loop(images, epoch):
    """A hand-written loop: OpenCV on one image after the other, with random parameters computed beforehand."""
    values = parameters(AUGMENTATION, uniforms(0, epoch, len(images)), images.shape[1:3])
    changed = np.empty_like(images)
    for index, image in enumerate(images):
        scale = 1 / values["zx"][index]
        matrix = cv2.getRotationMatrix2D((13.5, 13.5), values["theta"][index], scale)
        matrix[:, 2] += values["tx"][index], values["ty"][index]
        warped = cv2.warpAffine(image, matrix, (28, 28), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        changed[index] = warped[:, ::-1] if values["flip_horizontal"][index] else warped


def keras_layers():
    """Keras's own layers, traced and compiled once, as in a tf.data pipeline."""
    import tensorflow as tf

    layers = keras.Sequential(
        [
            keras.layers.RandomRotation(15 / 360, fill_mode="nearest"),
            keras.layers.RandomZoom(0.2, 0.2, fill_mode="nearest"),
            keras.layers.RandomTranslation(0.1, 0.1, fill_mode="nearest"),
            keras.layers.RandomFlip("horizontal"),
        ]
    )
    function = tf.function(lambda batch: layers(batch, training=True))
    function(np.zeros((BATCH, 28, 28, 3), np.float32))

    def run(images, epoch):
        del epoch
        for start in range(0, len(images) - BATCH + 1, BATCH):
            function(images[start : start + BATCH].astype(np.float32))

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute")
    quick = parser.parse_args().quick
    rounds = 3 if quick else 15
    cv2.setNumThreads(1)
    # The legacy generator calls SciPy by an old name, which warns for every image.
    warnings.simplefilter("ignore", DeprecationWarning)
    images = np.concatenate([synthetic.lesions(seed=seed).train.images for seed in range(3)])[: 64 * BATCH]
    contenders = {
        "ours": (ours, 1.0),
        "imagedatagenerator": (image_data_generator, 0.1),
        "warpaffine_loop": (warp_affine_loop, 1.0),
        "keras_layers": (keras_layers(), 1.0),
    }
    speeds = {name: [] for name in contenders}
    for epoch in range(rounds + 1):
        for name, (run, share) in contenders.items():
            some = images[: int(len(images) * share)]
            started = time.process_time()
            run(some, epoch)
            if epoch:  # The first turn is a warm-up.
                speeds[name].append(len(some) / (time.process_time() - started))
    table = {name: record.median_and_spread(values) for name, values in speeds.items()}
    print(f"Images per CPU second, median of {rounds} turns (slowest to fastest):")
    for name, (median, low, high) in table.items():
        print(f"  {name:<20} {median:>10,.0f}  ({low:,.0f} to {high:,.0f})")
    fastest = table["ours"][0]
    headline = {
        "ours_images_per_cpu_second": round(fastest),
        "ratio_to_imagedatagenerator": round(fastest / table["imagedatagenerator"][0], 1),
        "ratio_to_warpaffine_loop": round(fastest / table["warpaffine_loop"][0], 2),
        "ratio_to_keras_layers": round(fastest / table["keras_layers"][0], 1),
    }
    record.finish(
        "augmentation" + ("_quick" if quick else ""), headline, {"images_per_cpu_second": table, "rounds": rounds}
    )


if __name__ == "__main__":
    main()
