# %% [markdown]
# # When does a network learn too little, and when too much?
#
# A network has *parameters*, which training changes, and a training has *hyperparameters*, which
# you choose before it. This notebook counts both, and then changes two of the choices: how wide
# the network is, and how many images it sees.

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
)
everything = kv.data.load_splits(recipe.data)
splits = dataclasses.replace(everything, train=everything.limited(100).train)
plots.gallery(
    splits.train.images[:8], [splits.class_names[label] for label in splits.train.labels[:8]]
)

# %% [markdown]
# ## Parameters and hyperparameters
# The parameters are the numbers in the layers. The recipe holds the hyperparameters, and
# `kv.override` changes them.

# %%
model = track.network(recipe, splits)
rows = [[layer.name, layer.output.shape[1:], layer.count_params()] for layer in model.layers]
print(tables.text_table(["layer", "output", "parameters"], rows))
print(f"{model.count_params():,} parameters")

# %%
print(tables.text_table(["hyperparameter", "value"], dataclasses.asdict(recipe.training).items()))

# %% [markdown]
# ## Epochs, batches, iterations
# The training images are cut into batches. One iteration is one step of the optimizer on one
# batch; one epoch is all batches once.

# %%
batches = track.train_batches(recipe, splits)
images, labels = batches[0]
print(f"{len(splits.train)} images in batches of {recipe.training.batch_size}:", end=" ")
print(f"{len(batches)} iterations per epoch, {80 * len(batches)} in 80 epochs.")
print(f"One batch: images {images.shape}, labels {labels.shape}.")

# %% [markdown]
# ## Width
# The same images, about 100, and 80 epochs, with networks of 1, 4 and 16 filters in the first
# layer. Dashed lines are the training images, solid lines the validation images, which the
# network never trains on.

# %%
# %%capture
widths = {}
for width in (1, 4, 16):
    model, history = track.train(kv.override(recipe, width=width, epochs=80), splits)
    widths[width] = history.epochs

# %%
plots.learning_curves({f"width {width}": epochs for width, epochs in widths.items()})

# %%
plots.last_epochs(widths, "width")

# %% [markdown]
# The narrowest network **underfits**: even on the images it trains on, its loss stays high. The
# widest one **overfits**: it fits its images better and better, while the validation loss, after
# a minimum, rises.

# %% [markdown]
# ## Number of images
# Now the width is 16 throughout, and the number of images changes. All three trainings have about
# 400 iterations, so fewer images are seen more often.

# %%
# %%capture
counts = {100: widths[16]}
for count, epochs in ((400, 20), (1400, 6)):
    fewer = dataclasses.replace(everything, train=everything.limited(count).train)
    counts[count] = track.train(kv.override(recipe, epochs=epochs), fewer)[1].epochs

# %%
plots.last_epochs(dict(sorted(counts.items())), "training images")

# %% [markdown]
# ## Answer
# Too little, when the network is too narrow for the data: training and validation loss are both
# high. Too much, when it is wide and the images are few: the training loss goes to zero and the
# validation loss grows. With 1,400 images in place of 100, the same network with the same number
# of iterations has nearly the same loss on both, so more images cure overfitting without touching
# the network.
