"""From what the user typed after `--data` to splits."""

import dataclasses
from pathlib import Path

from keras_vision.data import cifar10, folders, known_folders, medmnist, npz, synthetic, synthetic_folders
from keras_vision.data.data_report import audited
from keras_vision.data.splits import check_splits


def load_splits(spec, seed=0):
    """The splits that a `DataSpec` names.

    Args:
        spec: A `recipe.DataSpec`.
        seed: Seed of synthetic data, and of the choice of images for a split that a file or folder does not have.

    Returns:
        Checked `Splits`.

    Raises:
        InputError: If there is no such data, or the file is not what it should be.
    """
    splits = _read(spec, seed)
    check_splits(splits, spec.data)
    is_folder = splits.report is not None
    splits = splits if is_folder else splits.limited(spec.limit)
    told = {"description": spec.data_description, "licence": spec.data_licence}
    source = dataclasses.replace(splits.source, **{name: text for name, text in told.items() if text})
    splits = dataclasses.replace(splits, source=source)
    # Folders that people fill are where copies get into two splits.
    wanted = is_folder if spec.audit_leaks is None else spec.audit_leaks
    return audited(splits, drop=spec.drop_leaks, where=spec.data) if wanted or spec.drop_leaks else splits


def _read(spec, seed):
    """The splits of one kind of source; a folder's are limited already, before they are decoded."""
    path = spec.path or Path(spec.data)
    if spec.data in synthetic.KINDS:
        splits = synthetic.KINDS[spec.data](seed=seed, size=spec.size)
    elif spec.data == synthetic_folders.NAME:
        splits = synthetic_folders.load(spec, seed)
    elif spec.data == "cifar10":
        splits = cifar10.load(spec.val_share, seed)
    elif path.is_dir() and (spec.path is not None or spec.data not in medmnist.info()):
        splits = folders.load(path, spec, seed)
    elif spec.data in known_folders.KNOWN:
        splits = known_folders.load(spec.data, spec, seed)
    elif spec.path is not None:
        splits = npz.read(spec.path, names=_class_names, val_share=spec.val_share, seed=seed)
    else:
        splits = medmnist.load(spec.data, spec.size)
    return splits


def _class_names(path):
    return cifar10.class_names(path) or medmnist.class_names(path)
