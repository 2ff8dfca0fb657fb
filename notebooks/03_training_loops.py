# %% [markdown]
# # What does `fit` do?
#
# The same training three ways: with `fit`, batch by batch with `train_on_batch`, and with a loop
# of your own on the backend, where you compute the loss, its gradient and the step. All three end
# with the same weights.

# %%
# Not installed? Remove "# " before %pip. This is for a clone of the repository; elsewhere, as in
# Colab, "git+" and the address of the repository take the place of the two dots.
# # %pip install --quiet ..
# %matplotlib inline
import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # Or "torch" or "tensorflow".

import inspect

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_vision as kv
from keras_vision.pipeline import track

recipe = kv.override(
    kv.recipe("plants"),
    data="synthetic",  # For real data: a folder with one folder of images per class.
    size=20,
    limit=200,
    width=8,
    dropout_scale=0.0,  # Without randomness inside the network, the three can agree.
    batch_size=20,
    learning_rate=0.003,
    epochs=30,
)
splits = kv.data.load_splits(recipe.data)
train, val = (
    track.train_batches(recipe, splits),
    kv.data.Batches(splits.val, splits.num_classes, 200),
)

# %% [markdown]
# ## One: `fit`
# `training.fit` compiles the model with the recipe's optimizer and loss, calls Keras's `fit`, and
# keeps a log of the epochs. A copy of the first weights lets the other two begin at the same
# point.

# %%
# %%capture
track.seed_everything(recipe.seed)
models = {name: track.network(recipe, splits) for name in ("fit", "train_on_batch", "own loop")}
for model in models.values():
    model.set_weights(models["fit"].get_weights())
history = kv.training.fit(models["fit"], train, val, recipe.training)

# %% [markdown]
# ## Two: `train_on_batch`
# Here the loop over epochs and batches is ours, and Keras makes the step. `start_epoch` decides
# the order of the images from the seed and the number of the epoch, so that it is the order that
# `fit` had.

# %%
model = models["train_on_batch"]
kv.training.compile_model(model, recipe.training, steps_per_epoch=len(train))
for epoch in range(recipe.training.epochs):
    train.start_epoch(epoch)
    last = [model.train_on_batch(*train[index], return_dict=True) for index in range(len(train))]

# %% [markdown]
# ## Three: a loop of your own
# Each backend has its way to a gradient. This is the step on the backend that runs now; the
# package has one for each.

# %%
make_step = kv.training.STEPS[keras.backend.backend()]
print(inspect.getsource(make_step))

# %%
model = models["own loop"]
kv.training.compile_model(model, recipe.training, steps_per_epoch=len(train))
model.optimizer.build(model.trainable_variables)
step, batch_log = make_step(model), []
for epoch in range(recipe.training.epochs):
    train.start_epoch(epoch)
    batch_log += [step(*train[index]) for index in range(len(train))]

# %% [markdown]
# ## The same weights?

# %%
for name in ("train_on_batch", "own loop"):
    pairs = zip(models[name].get_weights(), models["fit"].get_weights(), strict=True)
    assert all(np.allclose(own, fitted, rtol=0, atol=1e-6) for own, fitted in pairs), name
print("The weights of all three differ by less than 0.000001.")

# %% [markdown]
# ## Batch log and epoch log
# The loop of our own kept the loss of every batch. The mean over an epoch's batches is what `fit`
# reports as `loss`.

# %%
per_epoch = np.reshape(batch_log, (recipe.training.epochs, len(train))).mean(axis=1)
ends = len(train) * np.arange(1, recipe.training.epochs + 1)
figure, axes = plt.subplots(figsize=(8, 3.2))
axes.plot(np.arange(1, len(batch_log) + 1), batch_log, ".", alpha=0.5, label="each batch, own loop")
axes.plot(ends, per_epoch, "o", markersize=9, fillstyle="none", label="mean of an epoch, own loop")
axes.plot(ends, [epoch["loss"] for epoch in history.epochs], "x", label="loss in fit's log")
axes.plot(ends, [epoch["val_loss"] for epoch in history.epochs], label="validation loss, fit's log")
axes.set(xlabel="iteration", ylabel="loss")
axes.legend(loc="upper right", fontsize=8)
plt.show()

# %% [markdown]
# ## Evaluation without gradients
# Evaluating needs no gradients, and on torch they would cost memory. Dropout and batch
# normalization must be in their evaluation mode, too: `training=False`.

# %%
make_predict = kv.training.PREDICTIONS[keras.backend.backend()]
print(inspect.getsource(make_predict))
images, labels = val[0]
logits = make_predict(models["own loop"])(images)
assert np.allclose(logits, models["own loop"].predict(images, verbose=0), atol=1e-4)
accuracy = np.mean(logits.argmax(axis=1) == labels.argmax(axis=1))
print("The logits are those of model.predict.")
print(f"Accuracy {accuracy:.3f}, in fit's log {history.epochs[-1]['val_accuracy']:.3f}.")

# %% [markdown]
# ## Where the device is chosen
# Keras uses the first accelerator that the backend finds. To choose, set an environment variable
# before the import (`CUDA_VISIBLE_DEVICES`, or `JAX_PLATFORMS=cpu`), or name the device for a
# block of code. The loops stay the same.

# %%
with keras.device("cpu:0"):
    tensor = keras.ops.convert_to_tensor(images[:1])
print(keras.backend.backend(), "tensor on", str(tensor.device).lower().rpartition("device:")[2])

# %% [markdown]
# ## Answer
# For every batch, `fit` computes the loss, its gradient with respect to the parameters, and a
# step of the optimizer; the rest is loops and logs. Written out, with the same first weights and
# the same order, the three trainings end with the same weights to a millionth.
