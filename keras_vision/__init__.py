"""Small image classifiers from data to a phone, on TensorFlow, JAX and torch.

data -> models -> training -> evaluation -> explanation -> quantization

Each stage is a subpackage and is imported when it is first named, so that importing `keras_vision` imports no
framework: the Keras backend can still be chosen through `KERAS_BACKEND` afterwards.
"""

import importlib

import keras_vision.pictures  # noqa: F401  (sets OpenCV's limit of pixels before anything imports OpenCV)

__version__ = "0.1.0"
_STAGES = ("data", "models", "training", "evaluation", "explanation", "quantization")
__all__ = ["__version__", "data", "evaluation", "explanation", "models", "quantization", "training"]


def __getattr__(name):
    if name in _STAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
