"""Splits from the value of `--data`."""

import dataclasses
from pathlib import Path

import numpy as np

from keras_vision.data import (
    cifar10,
    folders,
    folds,
    known_folders,
    label_table,
    medmnist,
    npz,
    synthetic,
    synthetic_folders,
)
from keras_vision.data.leak_audit import audited
from keras_vision.data.splits import Splits, check_splits
from keras_vision.recipe import DataSpec


def load_splits(spec: DataSpec, seed: int = 0) -> Splits:
    """The splits that a `DataSpec` names.

    Args:
        spec: Name or path of the data, image size, limit, fold, audit.
        seed: Seed of synthetic data, and of the choice of images for a split that a file or folder does not have.

    Raises:
        InputError: If there is no such data, or it has the wrong content.
    """
    spec = _without_download(spec) if spec.trial else spec
    splits = _read(spec, seed)
    check_splits(splits, spec.data)
    if spec.ordered_classes is not None:
        splits = splits.in_order(spec.ordered_classes)
    elif spec.kind in ("medmnist", "npz") and medmnist.is_ordered(Path(spec.data)):
        splits = dataclasses.replace(splits, ordered=True)
    is_folder = splits.report is not None
    limit = spec.images_at_most(int(np.prod(splits.image_shape)))
    splits = splits if is_folder else splits.limited(limit)
    stated = {"description": spec.data_description, "licence": spec.data_licence}
    source = dataclasses.replace(splits.source, **{name: text for name, text in stated.items() if text})
    splits = dataclasses.replace(splits, source=source)
    if spec.fold_of is not None:
        splits = folds.held_out(splits, *spec.fold_of, share=spec.val_share, seed=seed, where=spec.data)
        check_splits(splits, f"{spec.data}, fold {spec.fold}")
    # Duplicates across splits are common in folders that were filled by hand.
    wanted = (is_folder and splits.train.images.ndim == 4) if spec.audit_leaks is None else spec.audit_leaks
    return audited(splits, drop=spec.drop_leaks, where=spec.data) if wanted or spec.drop_leaks else splits


def _without_download(spec):
    """The same spec, or synthetic images in place of a named data set that is not on disk."""
    if spec.path is not None or Path(spec.data).is_dir():
        return spec
    substitute = None
    if spec.data == "cifar10" and not cifar10.on_disk():
        substitute = "synthetic"
    elif spec.data in known_folders.KNOWN and not known_folders.on_disk(spec.data):
        substitute = synthetic_folders.NAME
    elif spec.data in medmnist.info() and not medmnist.on_disk(spec.data, spec.size):
        substitute = "synthetic3d" if spec.data.endswith("3d") else "synthetic"
    if substitute is None:
        return spec
    print(f"{spec.data} is not on disk and a smoke run downloads nothing, so this run uses {substitute} images.")
    return dataclasses.replace(spec, data=substitute, ordered_classes=None)


def _read(spec, seed):
    """The splits of one kind of source; a folder's are already limited, before decoding."""
    path = spec.path or Path(spec.data)
    if spec.data in synthetic.KINDS:
        return synthetic.KINDS[spec.data](seed=seed, size=spec.size)
    if spec.data == synthetic_folders.NAME:
        return synthetic_folders.load(spec, seed)
    if spec.data == "cifar10":
        return cifar10.load(spec.val_share, seed)
    if label_table.is_table(path):
        return folders.load(path, spec, seed)
    if path.is_dir() and (spec.path is not None or spec.data not in medmnist.info()):
        return folders.load(path, spec, seed)
    if spec.data in known_folders.KNOWN:
        return known_folders.load(spec.data, spec, seed)
    if spec.path is not None:
        return npz.read(
            spec.path, names=_class_names, official=medmnist.is_official, val_share=spec.val_share, seed=seed
        )
    return medmnist.load(spec.data, spec.size)


def _class_names(path):
    return cifar10.class_names(path) or medmnist.class_names(path)
