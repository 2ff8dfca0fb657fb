"""`keras_vision.cifar --recipe fast` with one part of its network left out, for which the track has no flag.

Run:     python benchmarks/cifar_without.py whitening --recipe fast [flags of python -m keras_vision.cifar]
         `benchmarks/cifar.py --what ingredients` runs it for every part.
"""

import argparse
import importlib
import sys
from unittest import mock

from keras_vision import cifar


def learn_first_layer(model, images):
    """Replaces `whiten`: the first layer starts at random and is trained with the others."""
    model.get_layer("whitening").trainable = True


def leave_random(convolution):
    """Replaces the initialization by which convolutions start as the identity."""


PARTS = {
    "whitening": ("keras_vision.models", "whiten", learn_first_layer),
    "identity-start": ("keras_vision.models.whitened_cnn", "_start_as_identity", leave_random),
    "small-start": ("keras_vision.models.whitened_cnn", "LAST_GAMMA", 1.0),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("flags", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    module, name, substitute = PARTS[options.part]
    # Imported by name, because `models.whitened_cnn` is the function, not the module.
    with mock.patch.object(importlib.import_module(module), name, substitute):
        return cifar.main(options.flags)


if __name__ == "__main__":
    sys.exit(main())
