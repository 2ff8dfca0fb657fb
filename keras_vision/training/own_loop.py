"""A training loop of your own: what `fit` does with one batch, written out for each backend.

    step = training.STEPS[keras.backend.backend()](model)
    for images, labels in batches:
        loss = step(images, labels)

The numbers are those of `fit` without class weights. Made to be read: `fit` also reports metrics, calls callbacks and
uses native operations. The model must be compiled (`compile_model`).
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

Step = Callable[[np.ndarray, np.ndarray], float]
Predict = Callable[[np.ndarray], np.ndarray]


def jax_step(model: keras.Model) -> Step:
    """JAX differentiates pure functions: all variables go in as arguments and come out as results."""
    import jax

    optimizer: Any = model.optimizer
    groups = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)

    def loss_of(trainable, others, images, labels):
        made: Any = model.stateless_call(trainable, others, images, training=True)
        logits, others = made
        return model.compute_loss(y=labels, y_pred=logits), others

    @jax.jit
    def compiled(trainable, others, slots, images, labels):
        (loss, others), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable, others, images, labels)
        trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
        return loss, (trainable, others, slots)

    def step(images, labels):
        loss, values = compiled(*([variable.value for variable in group] for group in groups), images, labels)
        for variables, news in zip(groups, values, strict=True):
            for variable, value in zip(variables, news, strict=True):
                variable.assign(value)
        return float(loss)

    return step


def tensorflow_step(model: keras.Model) -> Step:
    """TensorFlow records on a tape what happens between the variables and the loss, and differentiates the record."""
    import tensorflow as tf

    optimizer: Any = model.optimizer

    @tf.function(jit_compile=model.jit_compile)
    def compiled(images, labels):
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss: Any = model.compute_loss(y=labels, y_pred=logits)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    def step(images, labels):
        loss: Any = compiled(tf.convert_to_tensor(images), tf.convert_to_tensor(labels))
        return float(loss)

    return step


def torch_step(model: keras.Model) -> Step:
    """torch keeps each tensor's origin; `backward` follows it and leaves each variable's gradient in the variable."""
    import torch

    optimizer: Any = model.optimizer
    variables = model.trainable_variables

    def step(images, labels):
        for variable in variables:
            variable.value.grad = None  # `backward` adds to it.
        logits = model(images, training=True)
        loss: Any = model.compute_loss(y=keras.ops.convert_to_tensor(labels), y_pred=logits)
        loss.backward()
        with torch.no_grad():
            optimizer.apply([variable.value.grad for variable in variables], variables)
        return loss.item()

    return step


def jax_predict(model: keras.Model) -> Predict:
    """JAX computes a gradient only where one is asked for."""
    import jax

    @jax.jit
    def compiled(trainable, others, images):
        return model.stateless_call(trainable, others, images, training=False)[0]

    def predict(images):
        groups = (model.trainable_variables, model.non_trainable_variables)
        return np.asarray(compiled(*([variable.value for variable in group] for group in groups), images))

    return predict


def tensorflow_predict(model: keras.Model) -> Predict:
    """TensorFlow records nothing where there is no tape."""
    import tensorflow as tf

    compiled: Any = tf.function(lambda images: model(images, training=False))

    def predict(images):
        return compiled(tf.convert_to_tensor(images)).numpy()

    return predict


def torch_predict(model: keras.Model) -> Predict:
    """torch keeps every layer's output for a later `backward`, unless it is told that there will be none."""
    import torch

    def predict(images) -> Any:
        with torch.no_grad():
            return keras.ops.convert_to_numpy(model(images, training=False))

    return predict


# By the name of the backend. A step is made from a model and is `step(images, labels) -> loss`.
STEPS = {"jax": jax_step, "tensorflow": tensorflow_step, "torch": torch_step}
# The same for `predict(images) -> logits`, without dropout, with the statistics of the training, and without gradients.
PREDICTIONS = {"jax": jax_predict, "tensorflow": tensorflow_predict, "torch": torch_predict}
