"""From a Keras model to .tflite files that are what they claim: conversion, training for it, audit, metadata.

Names are resolved when they are first used, so that reading a finished file imports no framework.
"""

import importlib

_PLACES = {
    "INTEGER_SCHEMES": "conversion",
    "IO_TYPES": "conversion",
    "SCHEMES": "conversion",
    "convert": "conversion",
    "representative": "conversion",
    "simulation_agreement": "conversion",
    "audit": "auditing",
    "card_differences": "auditing",
    "calibrate": "fake_quantization",
    "float_tensors": "fake_quantization",
    "fold": "fake_quantization",
    "freeze": "fake_quantization",
    "with_fake_quantization": "fake_quantization",
    "without_last_rounding": "fake_quantization",
    "lower_3d": "lowering",
    "Metadata": "metadata",
    "add_metadata": "metadata",
    "read_metadata": "metadata",
    "Runner": "runtime",
    "latencies": "runtime",
    "tensor_errors": "runtime",
}
__all__ = sorted(_PLACES)


def __getattr__(name):
    if name in _PLACES:
        return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
