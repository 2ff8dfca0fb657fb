"""Scales and zero points of real ranges for LiteRT's 8-bit integers: `real = scale * (integer - zero_point)`.

Source: https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec
"""

import numpy as np

LOWEST, HIGHEST = -128, 127
NARROW = 127  # Weights are symmetric and leave -128 out.
# LiteRT fixes the steps of SOFTMAX and LOGISTIC outputs at 1/256 and those of TANH and L2_NORMALIZATION at 1/128.
SOFTMAX_RANGE = (0.0, 255 / 256)
TANH_RANGE = (-1.0, 127 / 128)


def parameters(low: float, high: float) -> tuple[np.float32, int]:
    """Scale and zero point of a range, which is widened to include zero.

    Returns:
        `(scale, zero_point)`.
    """
    lowest, highest = np.float32(min(low, 0.0)), np.float32(max(high, 0.0))
    scale = np.maximum((highest - lowest) / np.float32(HIGHEST - LOWEST), np.float32(1e-8))
    return scale, int(np.clip(np.round(LOWEST - lowest / scale), LOWEST, HIGHEST))


def as_probabilities(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits, shape `(N, K)`; one logit is that of one class against its absence."""
    # Without SciPy, which is larger than all that predicts with a .tflite file.
    if logits.shape[-1] == 1:
        return 0.5 * (1 + np.tanh(0.5 * logits))
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def logits_range(logits: np.ndarray) -> tuple[float, float]:
    """The range of 8-bit logits whose probabilities differ least from the float ones.

    Most of the range of logits is far below the largest of an image, where probabilities are almost 0: cutting it off
    makes the steps finer where they matter.

    Args:
        logits: Shape `(N, K)`.

    Returns:
        `(low, high)`.
    """
    expected = as_probabilities(logits)
    low, high = min(float(np.min(logits)), 0.0), max(float(np.max(logits)), 0.0)
    best = (np.inf, low, high)
    for cut_low in np.linspace(1.0, 0.2, 33):
        for cut_high in np.linspace(1.0, 0.2, 33):
            scale, zero_point = parameters(cut_low * low, cut_high * high)
            integers = np.clip(np.round(logits / scale) + zero_point, LOWEST, HIGHEST)
            error = np.mean(np.abs(as_probabilities((integers - zero_point) * scale) - expected))
            best = min(best, (float(error), cut_low * low, cut_high * high))
    return best[1:]


def weight_scales(kernel: np.ndarray, bias: np.ndarray, input_scale: float) -> np.ndarray:
    """Scale of each output channel, the last axis of a kernel: its largest weight becomes 127.

    A channel whose weights are tiny compared with its bias has a larger scale: the bias is stored in 32 bits, in steps
    of input scale times weight scale.

    Returns:
        Float32, shape `(channels,)`.
    """
    largest = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)))
    return np.maximum(np.maximum(largest, 1e-8) / NARROW, np.abs(bias) * 2.0**-30 / input_scale).astype(np.float32)
