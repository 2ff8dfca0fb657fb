"""From a Keras model to verified .tflite files: conversion, quantization-aware training, audit, metadata.

Names are resolved at their first use, so that reading a finished file imports no framework.
"""

import importlib
from typing import Any

_PLACES = {
    "INTEGER_SCHEMES": "conversion",
    "IO_TYPES": "conversion",
    "SCHEMES": "conversion",
    "convert": "conversion",
    "representative": "conversion",
    "up_to_logits": "conversion",
    "SimulationAgreement": "conversion",
    "simulation_agreement": "conversion",
    "Exported": "exporting",
    "export": "exporting",
    "audit": "auditing",
    "card_differences": "auditing",
    "fold": "folding",
    "float_tensors": "observed_ranges",
    "freeze": "observed_ranges",
    "set_ranges": "observed_ranges",
    "with_fake_quantization": "rewriting",
    "without_last_rounding": "rewriting",
    "lower_3d": "lowering",
    "Metadata": "metadata",
    "add_metadata": "metadata",
    "read_metadata": "metadata",
    "Runner": "runtime",
    "latencies": "runtime",
    "TensorError": "runtime",
    "tensor_errors": "runtime",
}
__all__ = sorted(_PLACES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
