"""What dividing a training would give on machines that were not measured: a model of step, sums and input.

Run:     python benchmarks/scaling.py [--quick]
Measured here: how many images of 224 x 224 a core makes ready a second, as `Batches` does, with the augmentation of
         `plants` and without
Published: ResNet-50 in mixed precision, 256 images a GPU: 2,470 images a second on one A100, 16,621 on eight.
         https://github.com/NVIDIA/DeepLearningExamples/tree/master/PyTorch/Classification/ConvNets/resnet50v1.5
         Links of a DGX A100: 300 GB/s each way between GPUs, 25 GB/s for each GPU between hosts.
         https://docs.nvidia.com/dgx/dgxa100-user-guide/introduction-to-dgxa100.html
Model:   a step is the step of one GPU and a ring of sums, 2 (n - 1) / n times the gradients' bytes through the slowest
         link, which is not hidden behind it; the cores that a host needs make its batches ready in that time
"""

import argparse
import sys
import time

import numpy as np
import record

from keras_vision import data
from keras_vision import recipe as recipe_of

SIDE, BATCH = 224, 256
GPU_IMAGES, EIGHT_GPUS = 2470.0, 16621.0
PARAMETERS = 25_557_032
INSIDE, BETWEEN = 300e9, 25e9  # Bytes a second.
LATENCY = 2e-5  # Seconds of a message, an assumption.
IMAGENET = 1_281_167
PLACES = {"1 GPU": (1, 1), "8 GPUs of a host": (8, 1), "8 hosts": (64, 8), "64 hosts": (512, 64)}


def input_rate(augmentation, batches):
    """Images that are made ready in a CPU second, the median of several batches."""
    images = np.random.default_rng(0).integers(0, 256, (2 * BATCH, SIDE, SIDE, 3), dtype=np.uint8)
    split = data.Split(images, np.arange(2 * BATCH) % 1000)
    made = data.Batches(split, 1000, BATCH, augmentation=augmentation, shuffle=True)
    seconds = []
    for number in range(batches + 1):
        started = time.process_time()
        made[number % 2]
        seconds.append(time.process_time() - started)
    return BATCH / record.median_and_spread(seconds[1:])[0]


def images_a_second(gpus, hosts, rates):
    """What a place makes of a network's training, and how many cores of each host its input needs."""
    link = INSIDE if hosts == 1 else BETWEEN
    sums = 0.0 if gpus == 1 else 2 * (gpus - 1) / gpus * 4 * PARAMETERS / link + 2 * LATENCY * np.log2(gpus)
    made = BATCH * gpus / (BATCH / GPU_IMAGES + sums)
    return {
        "images_a_second": made,
        "of_ideal": made / (gpus * GPU_IMAGES),
        "minutes_an_epoch": IMAGENET / made / 60,
        **{f"cores_of_a_host, {name}": made / hosts / rate for name, rate in rates.items()},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three batches instead of twenty")
    options = parser.parse_args()
    batches = 3 if options.quick else 20
    augmentation = recipe_of("plants").augmentation
    rates = {"augmented": input_rate(augmentation, batches), "as they are": input_rate(None, batches)}
    print({name: f"{rate:,.0f} images a CPU second" for name, rate in rates.items()})
    table = {place: images_a_second(gpus, hosts, rates) for place, (gpus, hosts) in PLACES.items()}
    for name, values in table.items():
        cores = ", ".join(f"{rate_name} {values[f'cores_of_a_host, {rate_name}']:.1f}" for rate_name in rates)
        print(
            f"{name}: {values['images_a_second']:,.0f} images a second, {values['of_ideal']:.0%} of ideal, "
            f"{values['minutes_an_epoch']:.2g} minutes an epoch of ImageNet; cores of a host for its input: {cores}"
        )
    check = table["8 GPUs of a host"]["images_a_second"] / EIGHT_GPUS
    headline = {"images_a_core_second": rates, "model_to_published_8_gpus": check}
    record.finish("scaling", headline, {"table": table, "published": {"1": GPU_IMAGES, "8": EIGHT_GPUS}})
    return 0


if __name__ == "__main__":
    sys.exit(main())
