"""Batch normalization as one operation while a network is trained.

Keras computes mean, variance and normalized values one after the other, and on TensorFlow and torch each of these is a
way through memory, there and back. Both have one operation for all of it; JAX's compiler makes one of them by itself.
"""

import contextlib
import functools
from typing import Any

import keras
from keras import ops


@contextlib.contextmanager
def fused_normalization(model):
    """Lets a network's batch normalizations take their backend's own operation in training, until the block ends.

    Outputs, gradients and moving statistics are Keras's but for rounding, and the layers stay Keras's: what is saved
    needs nothing of this. What is compiled inside the block keeps the operation.

    Args:
        model: A flat `keras.Model`, built, on any backend.
    """
    operation = OPERATIONS.get(keras.backend.backend())
    chosen: list[Any] = [layer for layer in model.layers if operation and _is_plain(layer)]
    for layer in chosen:
        vars(layer)["call"] = functools.partial(_call, layer, operation)
    try:
        yield
    finally:
        for layer in chosen:
            del vars(layer)["call"]


def _is_plain(layer):
    """Whether it is Keras's own, over the channels of pictures or volumes, with float32 weights, on one device."""
    if type(layer) is not keras.layers.BatchNormalization or layer.renorm or layer.synchronized:
        return False
    if layer.variable_dtype != "float32" or "call" in vars(layer):  # The latter inside another such block.
        return False
    rank: Any = layer.input_spec and layer.input_spec.ndim
    return rank in (4, 5) and layer.axis in (-1, rank - 1)


def _call(layer, operation, inputs, training=None, mask=None):
    if not (training and layer.trainable) or mask is not None:
        return type(layer).call(layer, inputs, training=training, mask=mask)
    channels = inputs.shape[-1]
    gamma: Any = ops.cast(layer.gamma, "float32") if layer.scale else ops.ones(channels)
    beta: Any = ops.cast(layer.beta, "float32") if layer.center else ops.zeros(channels)
    outputs, mean, variance = operation(inputs, gamma, beta, layer.epsilon)
    for moving, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        moving.assign(moving * layer.momentum + ops.cast(value, moving.dtype) * (1 - layer.momentum))
    return outputs


def _on_tensorflow(inputs, gamma, beta, epsilon):
    import tensorflow as tf

    shape = tf.shape(inputs)
    pictures = inputs if len(inputs.shape) == 4 else tf.reshape(inputs, [shape[0], -1, *inputs.shape[3:]])
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=pictures, scale=gamma, offset=beta, mean=[], variance=[], epsilon=epsilon, is_training=True
    )
    # It gives the variance that is to be expected of all pixels there are; Keras keeps that of these.
    count = tf.cast(tf.size(inputs) // inputs.shape[-1], "float32")
    return tf.reshape(outputs, shape), mean, variance * (count - 1) / count


def _on_torch(inputs, gamma, beta, epsilon):
    import torch

    outputs, mean, inverse_deviation = torch.native_batch_norm(
        inputs.movedim(-1, 1), gamma, beta, None, None, True, 0.0, epsilon
    )
    return outputs.movedim(1, -1), mean, inverse_deviation.pow(-2) - epsilon


OPERATIONS = {"tensorflow": _on_tensorflow, "torch": _on_torch}
