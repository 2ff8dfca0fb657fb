"""From what the user typed after `--data` to splits."""

import dataclasses

from keras_vision.data import medmnist, synthetic
from keras_vision.data.splits import check_splits


def load_splits(spec, seed=0):
    """The splits that a `DataSpec` names.

    Args:
        spec: A `recipe.DataSpec`.
        seed: Seed of synthetic data; files do not depend on it.

    Returns:
        Checked `Splits`.

    Raises:
        InputError: If there is no such data, or the file is not what it should be.
    """
    if spec.data in synthetic.KINDS:
        splits = synthetic.KINDS[spec.data](seed=seed, size=spec.size)
    elif spec.path is not None:
        splits = medmnist.read_npz(spec.path)
    else:
        splits = medmnist.load(spec.data, spec.size)
    check_splits(splits, spec.data)
    told = {"description": spec.data_description, "licence": spec.data_licence}
    source = dataclasses.replace(splits.source, **{name: text for name, text in told.items() if text})
    return dataclasses.replace(splits.limited(spec.limit), source=source)
