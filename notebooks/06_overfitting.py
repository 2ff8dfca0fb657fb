# %% [markdown]
# # How do you keep a network from overfitting?
#
# One small network that overfits about 100 images; then the same network with dropout, weight
# decay and augmentation, one by one; then a network that uses all of them, and batch
# normalization.

# %%
# Not installed? Remove "# " before %pip. This is for a clone of the repository; elsewhere, as in
# Colab, "git+" and the address of the repository take the place of the two dots.
# # %pip install --quiet ..
# %matplotlib inline
import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # Or "torch" or "tensorflow".

import dataclasses

import keras_vision as kv
from keras_vision.pipeline import plots, tables, track

recipe = kv.override(
    kv.recipe("plants"),
    data="synthetic",  # For real data: a folder with one folder of images per class.
    size=20,
    width=16,
    dropout_scale=0.0,
    batch_size=20,
    learning_rate=0.003,
    epochs=70,
    # Nothing here has an up or a left, and the class is in the colours, which stay.
    augmentation=kv.AugmentationSpec(
        horizontal_flip=True, rotation_range=180, width_shift_range=0.1, fill_mode="reflect"
    ),
)

# %%
everything = kv.data.load_splits(recipe.data)
splits = dataclasses.replace(everything, train=everything.limited(100).train)
plots.gallery(
    splits.train.images[:8], [splits.class_names[label] for label in splits.train.labels[:8]]
)

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
# The recipe `robust` of the same track is a residual network with batch normalization, dropout,
# weight decay and strong augmentation.

# %%
# %%capture
robust = kv.override(
    kv.recipe("plants", "robust"),
    size=20,
    width=8,
    dropout_scale=0.3,
    batch_size=20,
    epochs=30,
    learning_rate=0.005,
)
curves["robust"] = track.train(robust, splits)[1].epochs

# %%
plots.learning_curves({name: curves[name] for name in ("nothing", "robust")})

# %%
head = ["", "loss", "val_loss"]
rows = [[name, *(f"{run[-1][key]:.2f}" for key in head[1:])] for name, run in curves.items()]
print(tables.text_table(head, rows))

# %% [markdown]
# ## Answer
# Left alone, the network ends with a training loss near zero and a validation loss far above its
# minimum. Dropout and weight decay slow the memorizing down: their training losses stay high,
# while the validation loss gains less. Images that never repeat cannot be memorized at all:
# augmentation keeps both losses together and ends with the lowest validation loss of the small
# networks. The robust network's losses are close, too, after fewer epochs, so try the ingredients
# one by one, on your own images, before you use all.
