# %% [markdown]
# # How do you keep a network from overfitting?
#
# One small network that overfits 100 images; then the same network with dropout, weight decay and augmentation, one by
# one; then a network that uses all of them, and batch normalization.

# %%
# Not installed? Remove the "# " before %pip. In a clone of the repository ".." is right; elsewhere, as in Colab, put
# "git+" and the address of the repository in its place.
# # %pip install --quiet ..
# %matplotlib inline
import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # Or "torch" or "tensorflow".

import dataclasses

import keras_vision as kv
from keras_vision.pipeline import plots, track

recipe = kv.override(
    kv.recipe("plants"),
    data="synthetic",  # For real data: a folder with one folder of images per class.
    size=20,
    width=16,
    dropout_scale=0.0,
    batch_size=20,
    learning_rate=0.003,
    epochs=80,
    # Nothing here has an up or a left, and the class is in the colours, which stay.
    augmentation=kv.AugmentationSpec(
        horizontal_flip=True, rotation_range=180, width_shift_range=0.1, fill_mode="reflect"
    ),
)

# %%
everything = kv.data.load_splits(recipe.data)
splits = dataclasses.replace(everything, train=everything.limited(100).train)
plots.gallery(splits.train.images[:8], [splits.class_names[label] for label in splits.train.labels[:8]])

# %% [markdown]
# ## One ingredient at a time
# Everything else stays as it is: network, images, order, epochs.

# %%
# %%capture
ingredients = {
    "nothing": {},
    "dropout": {"dropout_scale": 1.5},
    "weight decay": {"optimizer": "adamw", "weight_decay": 1.0},
    "augmentation": {"augment": True},
}
curves = {}
for name, changes in ingredients.items():
    curves[name] = track.train(kv.override(recipe, **changes), splits)[1].epochs

# %%
plots.learning_curves(curves)

# %% [markdown]
# ## All together
# The recipe `robust` of the same track is a residual network with batch normalization, dropout, weight decay and strong
# augmentation.

# %%
# %%capture
robust = kv.override(
    kv.recipe("plants", "robust"), size=20, width=8, dropout_scale=0.3, batch_size=20, epochs=30, learning_rate=0.005
)
curves["robust"] = track.train(robust, splits)[1].epochs

# %%
plots.learning_curves({name: curves[name] for name in ("nothing", "robust")})

# %%
for name, epochs in curves.items():
    last = epochs[-1]
    print(f"{name:>13}: loss {last['loss']:.2f} on training, {last['val_loss']:.2f} on validation images")

# %% [markdown]
# ## Answer
# Left alone, the network ends with a training loss near zero and a validation loss far above its minimum. Weight decay
# lowers what it ends with, and augmentation lowers it most: images that never repeat cannot be memorized. Dropout
# before the last layer does little in so small a network, so try ingredients one by one. The robust network's losses
# are close to each other, and its validation loss ends far below the first network's.
