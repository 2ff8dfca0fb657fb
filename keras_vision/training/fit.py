"""One fit for every track: compile, callbacks, `model.fit`, the best weights back in the model."""

import importlib.util
import math
import sys
import time
from typing import Any

import keras
import numpy as np

from keras_vision.recipe import InputError
from keras_vision.training.class_weights import class_weights
from keras_vision.training.direct_batches import direct_batches
from keras_vision.training.history import History
from keras_vision.training.native_operations import native_operations


def fit(model, train, val, spec, *, log_dir=None, callbacks=()):
    """Trains a model in place and leaves its best weights in it.

    The best epoch is the one with the lowest validation loss when early stopping is on; else it is the last.

    Args:
        model: A `keras.Model` that returns logits.
        train: Batches of `(images, one-hot labels)`, a `keras.utils.PyDataset` with `start_epoch(epoch)` and
            `split.labels`.
        val: The same for the validation split.
        spec: A `recipe.TrainingSpec`.
        log_dir: Folder for TensorBoard, when the spec asks for it.
        callbacks: More `keras.callbacks.Callback`s, called after the spec's own.

    Returns:
        A `History`.
    """
    labels, num_classes = train.split.labels, model.output_shape[-1]
    compile_model(model, spec, steps_per_epoch=len(train))
    if spec.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise InputError("--tensorboard needs the package tensorboard: pip install tensorboard.")
    log = _EpochLog()
    started = time.perf_counter()
    # After mixup, Keras weighs an image by the class with the larger share, see `data/mixup.py`.
    weights = class_weights(labels, num_classes, spec.class_weight)
    native = spec.native_operations
    with native_operations(model, enabled=native), direct_batches(model, train, weights, enabled=native):
        model.fit(
            train,
            validation_data=val,
            epochs=spec.epochs,
            class_weight=weights,
            callbacks=[_StartEpoch(train), log, *_callbacks(spec, log_dir), *callbacks],
            # A bar on a terminal; elsewhere one line an epoch.
            verbose=1 if sys.stdout.isatty() else 2,
            shuffle=False,
        )
    seconds = time.perf_counter() - started
    losses = [figures["val_loss"] for figures in log.epochs]
    best = len(losses)
    if spec.patience and np.isfinite(losses).any():
        best = int(np.nanargmin(losses)) + 1
    if not losses or not math.isfinite(log.epochs[-1]["loss"]) or not math.isfinite(losses[best - 1]):
        raise InputError(
            f"The loss is no longer a number after epoch {len(log.epochs)}: the steps are too long. "
            f"Lower --learning-rate. Received: {spec.learning_rate}."
        )
    _adjust_logits(model, np.bincount(labels, minlength=num_classes), spec.logit_adjustment)
    return History(tuple(log.epochs), best, seconds)


def compile_model(model, spec, *, steps_per_epoch):
    """Gives a model the optimizer, loss and metrics of a recipe.

    Args:
        model: A `keras.Model` that returns logits.
        spec: A `recipe.TrainingSpec`.
        steps_per_epoch: Batches an epoch, by which schedules count.

    Raises:
        InputError: If the schedule does not fit into the epochs.
    """
    model.compile(
        optimizer=_optimizer(spec, steps_per_epoch),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=spec.label_smoothing),
        metrics=["accuracy"],
    )


def _optimizer(spec, steps_per_epoch):
    rate: Any = spec.learning_rate
    warmup, steps = round(spec.warmup_epochs * steps_per_epoch), spec.epochs * steps_per_epoch
    if spec.schedule in ("cosine", "linear") and warmup >= steps:
        raise InputError(f"--warmup-epochs must be less than --epochs. Received: {spec.warmup_epochs}.")
    if spec.schedule == "linear":
        rate = RiseAndFall(rate, warmup, steps)
    if spec.schedule == "step":
        rate = keras.optimizers.schedules.ExponentialDecay(
            rate, spec.step_epochs * steps_per_epoch, spec.cut_factor, staircase=True
        )
    if spec.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(
            rate if not warmup else rate / warmup,
            steps - warmup,
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    average = {"use_ema": True, "ema_momentum": spec.ema_momentum} if spec.ema_momentum else {}
    if spec.optimizer == "adam":
        return keras.optimizers.Adam(rate, **average)
    if spec.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(
            rate, spec.momentum, nesterov=spec.nesterov, weight_decay=spec.weight_decay, **average
        )
    else:
        optimizer = keras.optimizers.AdamW(rate, weight_decay=spec.weight_decay, **average)
    # Scales and shifts of a normalization are not what weight decay is for (He et al. 2019, arxiv.org/abs/1812.01187).
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


@keras.saving.register_keras_serializable("keras_vision")
class RiseAndFall(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises from nothing to its peak in a straight line, and falls back in another.

    Args:
        peak: The highest rate.
        warmup_steps: Steps until it is reached.
        steps: Steps until it is 0 again.
    """

    def __init__(self, peak, warmup_steps, steps):
        super().__init__()
        self.peak, self.warmup_steps, self.steps = peak, warmup_steps, steps

    def __call__(self, step):
        # The first step counts as one, so that none is taken at no rate.
        count: Any = keras.ops.add(keras.ops.cast(step, "float32"), 1)
        rise = count / max(1, self.warmup_steps)
        fall = (self.steps + 1 - count) / (self.steps + 1 - self.warmup_steps)
        return self.peak * keras.ops.clip(keras.ops.minimum(rise, fall), 0.0, 1.0)

    def get_config(self):
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "steps": self.steps}


def _adjust_logits(model, counts, strength):
    """Takes the classes' log frequencies, times the strength, off the last layer's bias.

    What the network learnt of the classes' frequencies is partly taken back, which helps the rare ones and costs no
    retraining: Menon et al. 2021, https://arxiv.org/abs/2007.07314, section 4.1.
    """
    if strength:
        bias = model.layers[-1].bias
        bias.assign(keras.ops.convert_to_numpy(bias) - strength * np.log(counts / counts.sum()))


def _callbacks(spec, log_dir):
    callbacks = []
    if spec.ema_momentum:
        callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    if spec.schedule == "plateau":
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                factor=spec.cut_factor, patience=spec.plateau_patience, min_lr=spec.learning_rate / 1000
            )
        )
    if spec.patience:
        callbacks.append(keras.callbacks.EarlyStopping(patience=spec.patience, restore_best_weights=True))
    if spec.tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(log_dir=str(log_dir)))
    return callbacks


class _StartEpoch(keras.callbacks.Callback):
    """Tells the training batches which epoch it is: their order and augmentation depend on its number alone."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.start_epoch(epoch)


class _EpochLog(keras.callbacks.Callback):
    """Keeps each epoch's figures, with the learning rate whichever schedule set it, and the time since the start."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_train_begin(self, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        model: Any = self.model
        rate = float(np.asarray(keras.ops.convert_to_numpy(model.optimizer.learning_rate)))
        figures = {name: float(value) for name, value in (logs or {}).items() if name != "learning_rate"}
        self.epochs.append({**figures, "learning_rate": rate, "seconds": time.perf_counter() - self.started})
        # At the end of an epoch, not of each step as TerminateOnNaN does: reading the loss makes the steps wait.
        if not math.isfinite(figures["loss"]):
            model.stop_training = True
