"""Speed of heatmaps: Grad-CAM of the predicted class, ours on each backend and three alternatives.

Run:     python benchmarks/explanation.py [--quick] [--backends tensorflow jax torch]
Peers:   one GradientTape per image, as tutorials write it (Keras's own:
         https://keras.io/examples/vision/grad_cam/); tf-keras-vis on the same Keras model: pip install tf-keras-vis;
         grad-cam on the same network in torch: pip install --no-deps grad-cam ttach
The networks of the skin-lesion track at 28 x 28 and that of the CIFAR track at 32 x 32, with weights from a seed,
untrained: speed does not depend on them. 256 images of `data.synthetic`, in batches of 32 except for the loop; all
contenders start from the same uint8 array, explain the same layer and return one array of heatmaps of the images' size.
One process for each network and backend, on the CPU, with as many threads as each framework chooses; ours and the peers
are timed in turn, after one untimed call of each. Before that, the peers' weighted sums of feature maps must give our
heatmaps. Numbers are medians over the turns; the ratio to a peer is the median of the turns' ratios. Ours compiles in
its first call on TensorFlow and JAX, which has a column of its own. Peak memory is read before any peer is imported,
after 256 and after 2,048 images.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from importlib.metadata import version

import record

BATCH, IMAGES, MANY_IMAGES, TURNS = 32, 256, 2048, 5
# Architecture: side of its images, and knobs.
NETWORKS = {"plain_cnn": (28, {}), "small_resnet": (28, {"width": 24}), "cifar_resnet": (32, {})}
LOOP, TF_KERAS_VIS, GRAD_CAM = "GradientTape loop", "tf-keras-vis", "grad-cam"
INSTALL = {TF_KERAS_VIS: "pip install tf-keras-vis", GRAD_CAM: "pip install --no-deps grad-cam ttach"}
# A larger difference means another network or layer.
TOLERANCE = 1e-3


def gradient_tape_loop(model, layer):
    """One image at a time, eagerly, through a model with two outputs that is built once."""
    import cv2
    import keras
    import numpy as np
    import tensorflow as tf

    grad_model = keras.Model(model.input, [model.get_layer(layer).output, model.output])

    def weighted(image):
        with tf.GradientTape() as tape:
            feature_maps, scores = grad_model(tf.cast(image[np.newaxis], tf.float32))
            score = scores[:, tf.argmax(scores[0])]
        gradients = tape.gradient(score, feature_maps)
        weights = tf.reduce_mean(gradients, axis=(0, 1, 2))
        return tf.squeeze(feature_maps[0] @ weights[:, tf.newaxis])

    def explain(images):
        heatmaps = []
        for image in images:
            heatmap = tf.maximum(weighted(image), 0)
            heatmap = heatmap / (tf.reduce_max(heatmap) + 1e-8)
            heatmaps.append(cv2.resize(heatmap.numpy(), images.shape[2:0:-1]))
        return np.stack(heatmaps)

    return explain, lambda images: np.stack([weighted(image) for image in images])


def tf_keras_vis(model, layer):
    """Its `Gradcam`, with the largest logit as score, which saves the pass that finds the predicted class."""
    import numpy as np
    import tensorflow as tf
    from tf_keras_vis.gradcam import Gradcam

    gradcam = Gradcam(model)

    def score(logits):
        return tf.reduce_max(logits, axis=-1)

    def run(images, **options):
        options |= {"penultimate_layer": layer, "seek_penultimate_conv_layer": False}
        return gradcam(score, np.float32(images), **options)

    return in_batches(run), lambda images: run(images, expand_cam=False, normalize_cam=False)


def pytorch_grad_cam(model, layer):
    """Its `GradCAM`, unchanged, on the torch twin of the network."""
    import contextlib

    import numpy as np
    import torch

    for operator in ("nms", "qnms"):
        # torchvision, which it imports, lacks these operators next to a torch of another build.
        with contextlib.suppress(RuntimeError):
            torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
    import pytorch_grad_cam
    from torch_twins import torch_twin

    twin, feature_maps = torch_twin(model)
    gradcam = pytorch_grad_cam.GradCAM(model=twin, target_layers=[feature_maps])

    def run(images):
        batch = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
        return gradcam(input_tensor=torch.from_numpy(batch), targets=None)

    def weighted(images):
        run(images)
        kept = gradcam.activations_and_grads
        maps, gradients = kept.activations[0].numpy(), kept.gradients[0].numpy()
        return gradcam.get_cam_image(None, None, None, maps, gradients)

    return in_batches(run), weighted


PEERS = {
    "tensorflow": {LOOP: gradient_tape_loop, TF_KERAS_VIS: tf_keras_vis},
    "jax": {},
    "torch": {GRAD_CAM: pytorch_grad_cam},
}


def in_batches(run):
    import numpy as np

    def explain(images):
        return np.concatenate([run(images[start : start + BATCH]) for start in range(0, len(images), BATCH)])

    return explain


def measure(network, count, turns):
    """Measurements of one network on the backend of this process."""
    import keras
    import numpy as np

    from keras_vision import explanation, models
    from keras_vision.data import synthetic
    from keras_vision.explanation.heatmap import heatmaps
    from keras_vision.recipe import ModelSpec

    size, knobs = NETWORKS[network]
    images = synthetic.lesions(size=size).train.images[:count]
    keras.utils.set_random_seed(0)
    model = models.build(ModelSpec(architecture=network, **knobs), images.shape[1:], 7)

    def ours(images):
        return explanation.grad_cam(model, images, batch_size=BATCH)

    results = {"first_call_seconds": _seconds(ours, images), "peak_megabytes": {count: _peak_megabytes()}}
    many = np.tile(images, (MANY_IMAGES // IMAGES, 1, 1, 1))
    ours(many)
    results["peak_megabytes"][len(many)] = _peak_megabytes()
    results["array_megabytes"] = {
        len(part): len(part) * (images[0].nbytes + 4 * images[0, ..., 0].size) / 2**20 for part in (images, many)
    }
    del many

    contenders, results["differences"], results["versions"], results["missing"] = {"ours": ours}, {}, {}, []
    expected = ours(images[:BATCH])
    if expected.any(axis=(1, 2)).sum() < BATCH / 2:
        raise RuntimeError("Most heatmaps are blank, so the comparison is meaningless.")
    for name, make in PEERS[keras.backend.backend()].items():
        try:
            contenders[name], weighted = make(model, explanation.feature_layer(model))
        except ImportError as error:
            results["missing"].append(f"{name} is left out ({error}). To install it: {INSTALL[name]}")
            continue
        theirs = heatmaps(np.asarray(weighted(images[:BATCH])), images.shape[1:-1])
        results["differences"][name] = float(np.abs(theirs - expected).max())
        if results["differences"][name] > TOLERANCE:
            raise RuntimeError(f"{name} gives other heatmaps: {results['differences'][name]}")
        if name in INSTALL:
            results["versions"][name] = version(name)

    for explain in contenders.values():
        explain(images)
    speeds = {name: [] for name in contenders}
    for turn in range(turns):
        for name in list(contenders)[:: -1 if turn % 2 else 1]:
            speeds[name].append(count / _seconds(contenders[name], images))
    results["images_per_second"] = {name: record.median_and_spread(values) for name, values in speeds.items()}
    results["ours_over"] = {
        name: record.median_and_spread([our / its for our, its in zip(speeds["ours"], values, strict=True)])
        for name, values in speeds.items()
        if name != "ours"
    }
    return results


def _seconds(explain, images):
    started = time.perf_counter()
    explain(images)
    return time.perf_counter() - started


def _peak_megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(network, backend, quick):
    """Measurements of one network on one backend, from a process of its own."""
    command = [sys.executable, __file__, "--measure", network, *(["--quick"] if quick else [])]
    environment = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    # On shared cores torch's threads spin while they wait for each other: of seven turns of the same call the slowest
    # took 15 times as long as the fastest (grad-cam: 25 times).
    environment["OMP_WAIT_POLICY"] = "PASSIVE"
    done = subprocess.run(command, env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def print_table(results):
    print("| network | backend | what | images/s (range) | ours over it | first call, s | peak MB at images |")
    print("|---|---|---|---|---|---|---|")
    for network, backends in results.items():
        for backend, row in backends.items():
            for name, (median, low, high) in row["images_per_second"].items():
                ratio, first, peaks = "", f"{row['first_call_seconds']:.2f}", row["peak_megabytes"].items()
                peak = ", ".join(f"{megabytes:.0f} at {count}" for count, megabytes in peaks)
                if name != "ours":
                    ratio, first, peak = f"{row['ours_over'][name][0]:.2f}", "", ""
                speed = f"{median:.0f} ({low:.0f} to {high:.0f})"
                print(f"| {network} | {backend} | {name} | {speed} | {ratio} | {first} | {peak} |")
    for line in dict.fromkeys(line for row in results.values() for part in row.values() for line in part["missing"]):
        print(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one turn over 64 images, to check that it runs")
    parser.add_argument("--backends", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--measure", choices=NETWORKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    count, turns = (64, 1) if options.quick else (IMAGES, TURNS)
    if options.measure:
        print(json.dumps(measure(options.measure, count, turns)))
        return
    results = {
        network: {backend: measured(network, backend, options.quick) for backend in options.backends}
        for network in NETWORKS
    }
    print_table(results)

    def ratio(peer):
        # The smallest ratio over the networks.
        ratios = {
            network: row["ours_over"][peer][0]
            for network, backends in results.items()
            for row in backends.values()
            if peer in row["ours_over"]
        }
        return round(min(ratios.values()), 2) if ratios else None

    headline = {
        "ratio_to_gradienttape_loop": ratio(LOOP),
        "ratio_to_tf_keras_vis": ratio(TF_KERAS_VIS),
        "ratio_to_pytorch_grad_cam": ratio(GRAD_CAM),
    }
    name = "explanation_quick" if options.quick else "explanation"
    record.finish(name, headline, {"networks": results, "turns": turns, "batch_size": BATCH, "images": count})


if __name__ == "__main__":
    main()
