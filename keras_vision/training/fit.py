"""The training of every track: compile, callbacks, `model.fit`, best weights restored."""

import importlib.util
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_vision.recipe import InputError, TrainingSpec
from keras_vision.training import devices
from keras_vision.training.checkpoint import Checkpoints
from keras_vision.training.class_weights import class_weights
from keras_vision.training.direct_batches import direct_batches
from keras_vision.training.epoch_log import EpochLog
from keras_vision.training.history import History
from keras_vision.training.joint_checkpoints import joint, telling_of_lost_processes
from keras_vision.training.native_operations import native_operations
from keras_vision.training.resuming import FromStep, resumed
from keras_vision.training.several_labels import LabelsCrossentropy, label_weights
from keras_vision.training.statistics import TrueStatistics, reestimates_statistics
from keras_vision.training.torch_state import flush_denormals


def fit(
    model: keras.Model,
    train: Any,
    val: Any,
    spec: TrainingSpec,
    *,
    log_dir: Path | str | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoints: Checkpoints | None = None,
) -> History:
    """Trains a model in place and keeps the weights of its best epoch.

    The best epoch is the one with the lowest validation loss if early stopping is on, else the last. With checkpoints,
    a training that was interrupted goes on where it was, and one that was finished is not repeated. Inside
    `devices.using` it is divided among devices; the size of the batches is that of all devices together.

    Args:
        model: A `keras.Model` that returns logits.
        train: Batches of `(images, one-hot labels)`, or where an image can have several labels a 0 or 1 for each; a
            `keras.utils.PyDataset` with `start_epoch(epoch)` and
            `split.labels`.
        val: The same for the validation split.
        spec: A `recipe.TrainingSpec`.
        log_dir: TensorBoard's folder, if the spec has TensorBoard on.
        callbacks: More callbacks, called after the spec's own. What they remember is part of a checkpoint if JSON can
            hold it.
        checkpoints: Where checkpoints are; by default there are none.

    Raises:
        Interrupted: If the program was told to stop, the last step is saved; or if another process of it has ended.
        InputError: If the loss is no longer finite, the schedule does not fit into the epochs, the devices do not
            divide the batches, or TensorBoard is on and not installed.
    """
    with joint(checkpoints) as shared, telling_of_lost_processes(shared):
        return _fit(model, train, val, spec, log_dir, callbacks, shared)


def _fit(model, train, val, spec, log_dir, callbacks, checkpoints):
    flush_denormals()
    labels, num_classes = train.split.labels, model.output_shape[-1]
    several = labels.ndim == 2
    compile_model(model, spec, steps_per_epoch=len(train), labels=labels if several else None)
    if spec.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise InputError("--tensorboard needs the package tensorboard: pip install tensorboard.")
    if checkpoints is not None and (history := checkpoints.finished(model)) is not None:
        print(f"The training is finished: {len(history.epochs)} epochs.", flush=True)
        return history
    # After mixup, Keras uses the weight of the class with the larger share, see `data/mixup.py`.
    weights = None if several else class_weights(labels, num_classes, spec.class_weight)
    log, feed = EpochLog(), FromStep(devices.shares(train, weights))
    if devices.current().count > 1:
        weights, val = None, devices.shares(devices.divisible(val))
    # A progress bar on a terminal, elsewhere one line per epoch. Keras's annotation has only "auto".
    verbose: Any = 0 if not devices.current().leads else 1 if sys.stdout.isatty() else 2
    native = spec.native_operations
    looked_at = train.split if reestimates_statistics(model, spec) else None
    remembering = [log, *_callbacks(spec, log_dir, looked_at), *callbacks]

    def train_from(epoch, *keepers):
        model.fit(
            feed,
            validation_data=val,
            epochs=spec.epochs,
            initial_epoch=epoch,
            class_weight=weights,
            callbacks=[_StartEpoch(train), *remembering, *keepers],
            verbose=verbose,
            shuffle=False,
        )

    with (
        devices.divided(model),
        native_operations(model, enabled=native),
        direct_batches(model, feed, weights, enabled=native),
    ):
        if checkpoints is None:
            train_from(0)
        else:
            resumed(train_from, feed, remembering, log, checkpoints, spec.epochs)
    losses = [metrics["val_loss"] for metrics in log.epochs]
    best = len(losses)
    if spec.patience and np.isfinite(losses).any():
        best = int(np.nanargmin(losses)) + 1
    if not losses or not math.isfinite(log.epochs[-1]["loss"]) or not math.isfinite(losses[best - 1]):
        if checkpoints is not None:
            checkpoints.discard()
        raise InputError(
            f"The loss is no longer a finite number after epoch {len(log.epochs)}: the learning rate is too high. "
            f"Lower --learning-rate. Received: {spec.learning_rate}."
        )
    if not several:
        _adjust_logits(model, np.bincount(labels, minlength=num_classes), spec.logit_adjustment)
    history = History(tuple(log.epochs), best, log.elapsed)
    if checkpoints is not None:
        checkpoints.finish(model, history)
    return history


def compile_model(
    model: keras.Model, spec: TrainingSpec, *, steps_per_epoch: int, labels: np.ndarray | None = None
) -> None:
    """Compiles a model with the optimizer, loss and metrics of a recipe.

    Args:
        model: A `keras.Model` that returns logits.
        spec: A `recipe.TrainingSpec`.
        steps_per_epoch: Batches per epoch, for the schedule.
        labels: Where images can have several labels those of the training split, zeros and ones, shape `(N, K)`; they
            give the class weights, which are then part of the loss.

    Raises:
        InputError: If the schedule does not fit into the epochs, or the logits shall be adjusted to classes that do not
            exclude each other.
    """
    if labels is None:
        loss: Any = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=spec.label_smoothing)
        accuracy: Any = "accuracy"
    elif spec.logit_adjustment:
        raise InputError(
            "--logit-adjustment is for one class an image; here images can have several labels. "
            f"Received: {spec.logit_adjustment}."
        )
    else:
        loss = LabelsCrossentropy(label_weights(labels, spec.class_weight), spec.label_smoothing)
        # Of logits; Keras takes "accuracy" of several numbers for the one of classes.
        accuracy = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
    model.compile(optimizer=_optimizer(spec, steps_per_epoch), loss=loss, metrics=[accuracy])


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
    # No weight decay for biases and normalizations: He et al. 2019, https://arxiv.org/abs/1812.01187, section 3.1.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


@keras.saving.register_keras_serializable("keras_vision")
class RiseAndFall(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly from 0 to its peak, then falls linearly to 0.

    Args:
        peak: The highest rate.
        warmup_steps: Steps until the peak.
        steps: Steps until the rate is 0 again.
    """

    def __init__(self, peak: float, warmup_steps: int, steps: int):
        super().__init__()
        self.peak, self.warmup_steps, self.steps = peak, warmup_steps, steps

    def __call__(self, step: Any) -> Any:
        # The first step counts as 1, so that its rate is not 0.
        count: Any = keras.ops.add(keras.ops.cast(step, "float32"), 1)
        rise = count / max(1, self.warmup_steps)
        fall = (self.steps + 1 - count) / (self.steps + 1 - self.warmup_steps)
        share: Any = keras.ops.clip(keras.ops.minimum(rise, fall), 0.0, 1.0)
        return self.peak * share

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "steps": self.steps}


def _adjust_logits(model, counts, strength):
    """Subtracts the classes' log frequencies, times the strength, from the last layer's bias.

    This removes part of the learnt class frequencies and helps rare classes without retraining: Menon et al. 2021,
    https://arxiv.org/abs/2007.07314, section 4.1.
    """
    if strength:
        bias = model.layers[-1].bias
        bias.assign(keras.ops.convert_to_numpy(bias) - strength * np.log(counts / counts.sum()))


def _callbacks(spec, log_dir, split):
    """The spec's callbacks; with the training split also the one that re-estimates the statistics."""
    callbacks = []
    if spec.ema_momentum:
        callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    if split is not None:  # Of the averaged weights, if there are any.
        callbacks.append(TrueStatistics(split))
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
    """Sets the epoch of the training batches; their order and augmentation depend only on its number."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.start_epoch(epoch)
