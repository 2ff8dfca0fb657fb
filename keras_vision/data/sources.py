"""From what the user typed after `--data` to splits."""

import dataclasses

from keras_vision.data import cifar10, medmnist, npz, synthetic
from keras_vision.data.splits import check_splits


def load_splits(spec, seed=0):
    """The splits that a `DataSpec` names.

    Args:
        spec: A `recipe.DataSpec`.
        seed: Seed of synthetic data, and of the choice of validation images where a file has none.

    Returns:
        Checked `Splits`.

    Raises:
        InputError: If there is no such data, or the file is not what it should be.
    """
    if spec.data in synthetic.KINDS:
        splits = synthetic.KINDS[spec.data](seed=seed, size=spec.size)
    elif spec.path is not None:
        splits = npz.read(spec.path, names=_class_names, val_share=spec.val_share, seed=seed)
    elif spec.data == "cifar10":
        splits = cifar10.load(spec.val_share, seed)
    else:
        splits = medmnist.load(spec.data, spec.size)
    check_splits(splits, spec.data)
    told = {"description": spec.data_description, "licence": spec.data_licence}
    source = dataclasses.replace(splits.source, **{name: text for name, text in told.items() if text})
    return dataclasses.replace(splits.limited(spec.limit), source=source)


def _class_names(path):
    return cifar10.class_names(path) or medmnist.class_names(path)
