# %% [markdown]
# # What does augmentation change: in the images, and in the training?
#
# Augmentation shows the network a random version of each image in each epoch. First every change
# as a picture, then what some of them do to the validation curve.

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
    epochs=80,
)
shown = kv.data.load_splits(kv.override(recipe, size=24, limit=8).data)
five = shown.train.spread(5)

# %% [markdown]
# ## Changes that move pixels
# The first row is unchanged. Each other row has one change at a strength that is easy to see;
# trainings use less.

# %%
moves = {
    "rotation_range": {"rotation_range": 45},
    "width_shift_range": {"width_shift_range": 0.3},
    "height_shift_range": {"height_shift_range": 0.3},
    "shear_range": {"shear_range": 30},
    "zoom_range": {"zoom_range": 0.4},
    "isotropic_zoom": {"zoom_range": 0.4, "isotropic_zoom": True},
    "random_crop": {"random_crop": 6},
    "random_resized_crop": {"random_resized_crop": 0.3},
    "horizontal_flip": {"horizontal_flip": True},
    "vertical_flip": {"vertical_flip": True},
    "rotate90": {"rotate90": True},
    "fill_mode constant": {"rotation_range": 45, "fill_mode": "constant"},
    "fill_mode reflect": {"rotation_range": 45, "fill_mode": "reflect"},
    "fill_mode wrap": {"rotation_range": 45, "fill_mode": "wrap"},
}
specs = {name: kv.AugmentationSpec(**values) for name, values in moves.items()}
plots.augmentations(five, shown.num_classes, specs)

# %% [markdown]
# ## Changes of colour, and images that lose a part
# `mixup` mixes each image with another one, and their labels in the same proportion.

# %%
colours = {
    "brightness_range": {"brightness_range": (0.5, 1.5)},
    "channel_shift_range": {"channel_shift_range": 60},
    "contrast": {"contrast": 0.8},
    "saturation": {"saturation": 0.9},
    "hue": {"hue": 0.3},
    "noise": {"noise": 25},
    "random_erasing": {"random_erasing": 1.0},
    "cutout": {"cutout": 0.4},
    "mixup": {"mixup": 1.0},
}
specs = {name: kv.AugmentationSpec(**values) for name, values in colours.items()}
plots.augmentations(five, shown.num_classes, specs)

# %% [markdown]
# ## What it does to a validation curve
# Few images, about 100, so that there is something to memorize. A lesion has no up and no left,
# and may be anywhere in its image: flips, rotations and shifts keep its class. Its colour tells
# the class, so the third training, which changes the hue at random, takes information away.

# %%
# %%capture
everything = kv.data.load_splits(recipe.data)
splits = dataclasses.replace(everything, train=everything.limited(100).train)
places = kv.AugmentationSpec(
    horizontal_flip=True, vertical_flip=True, rotation_range=180, width_shift_range=0.1
)
choices = {
    "none": {},
    "flips, rotation, shifts": {"augment": True, "augmentation": places},
    "hue": {"augment": True, "augmentation": kv.AugmentationSpec(hue=0.5)},
}
curves = {}
for name, changes in choices.items():
    curves[name] = track.train(kv.override(recipe, **changes), splits)[1].epochs

# %%
plots.learning_curves(curves)

# %%
head = ["", "loss", "val_loss"]
rows = [[name, *(f"{run[-1][key]:.2f}" for key in head[1:])] for name, run in curves.items()]
print(tables.text_table(head, rows))

# %% [markdown]
# ## Answer
# Without augmentation the validation loss falls and turns while the training loss goes on
# falling. With flips, rotations and shifts the training images are harder, and the two losses
# stay close together: the validation loss ends far lower. Changes must keep the class: random
# hues take away what the classes differ in, and that validation loss is no lower than without
# augmentation.
