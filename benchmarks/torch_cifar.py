"""A peer: the reference notebook's CIFAR network and training, in ordinary plain torch.

Run:     python benchmarks/torch_cifar.py --data cifar10.npz --epochs 6 --out FOLDER [--seed 0] [--limit 4096]
         python benchmarks/torch_cifar.py --data synthetic --size 32 --epochs 2 --limit 2000 --out FOLDER    speed only
The network, optimizer, schedule, batches and validation split of `python -m keras_vision.cifar --recipe custom`, which
augments nothing; initial weights are torch's own. Images keep their order of axes in memory, so torch computes with
channels last; accuracy and loss on the training images are not recorded.
Writes `report.json` with the same keys as a run of ours has.
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

BATCH = 64
RATE = 0.001


class Block(nn.Module):
    def __init__(self, channels, filters, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.downsample = nn.Identity()
        if stride > 1 or channels != filters:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters)
            )

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.downsample(x))


def network(width=32, classes=10):
    parts = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    channels = width
    for section in range(3):
        for block in range(3):
            filters = width * 2**section
            parts.append(Block(channels, filters, 2 if section and not block else 1))
            channels = filters
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def to_batch(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def evaluate(model, split):
    """Accuracy and loss."""
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(to_batch(split.images[i : i + 256])) for i in range(0, len(split), 256)])
    labels = torch.from_numpy(split.labels)
    return float((logits.argmax(1) == labels).float().mean()), float(functional.cross_entropy(logits, labels))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help=".npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--size", type=int, default=32, help="side of synthetic images")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="use only N images of each split")
    parser.add_argument("--judge-on", choices=("test", "val"), default="test")
    options = parser.parse_args()
    torch.manual_seed(options.seed)

    os.environ["KERAS_BACKEND"] = "torch"
    from keras_vision import data  # Only the splits are ours: they must be the same.
    from keras_vision.recipe import DataSpec

    splits = data.load_splits(DataSpec(data=options.data, size=options.size, limit=options.limit), options.seed)
    train, val = splits.train, splits.val
    model = network(classes=splits.num_classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    # Keras reduces the rate in the epoch that reaches the patience, torch in the one after it.
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=4, threshold_mode="abs")
    rng = np.random.default_rng(options.seed)
    started, speeds = time.perf_counter(), []
    for epoch in range(options.epochs):
        model.train()
        epoch_started = time.perf_counter()
        order = rng.permutation(len(train))
        for first in range(0, len(order), BATCH):
            rows = order[first : first + BATCH]
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(to_batch(train.images[rows])), torch.from_numpy(train.labels[rows]))
            loss.backward()
            optimizer.step()
        speeds.append(len(train) / (time.perf_counter() - epoch_started))
        seconds = time.perf_counter() - started
        accuracy, loss = evaluate(model, val)
        schedule.step(loss)
        print(f"epoch {epoch + 1}: {seconds:.0f} s, validation {accuracy:.4f}, loss {loss:.4f}", flush=True)
    seconds = time.perf_counter() - started
    report = {
        "split": options.judge_on,
        "metrics": {"accuracy": {"value": evaluate(model, splits.named()[options.judge_on])[0]}},
        "validation_metrics": {"accuracy": {"value": evaluate(model, val)[0]}},
        "training": {"epochs": options.epochs, "seconds": seconds},
        "images_per_second": speeds,  # Of each epoch.
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "report.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
