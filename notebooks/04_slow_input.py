# %% [markdown]
# # Is the network slow, or does it wait for its images?
#
# A training step can start when its batch is there. If making the batch takes longer than the
# step, a faster network or a faster device changes nothing. `kv.training.profile` measures where
# the time of an epoch goes.

# %%
# Not installed? Remove "# " before %pip. This is for a clone of the repository; elsewhere, as in
# Colab, "git+" and the address of the repository take the place of the two dots.
# # %pip install --quiet ..
# %matplotlib inline
import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # Or "torch" or "tensorflow".

import keras_vision as kv
from keras_vision.pipeline import tables, track

recipe = kv.override(
    kv.recipe("plants"),
    data="synthetic-folders",  # For real data: a folder with one folder of images per class.
    size=20,
    limit=320,
    width=8,
    batch_size=32,
)

# %%
# %%capture
splits = kv.data.load_splits(recipe.data)

# %%
model = track.network(recipe, splits)
val = kv.data.Batches(splits.val, splits.num_classes, 200)

# %% [markdown]
# ## A slow source
# These images arrive as from a slow network drive: each one takes 4 milliseconds, in every epoch
# again.

# %%
slow = kv.data.Split(kv.data.SlowImages(splits.train.images, seconds=0.004), splits.train.labels)
batches = kv.data.Batches(slow, splits.num_classes, recipe.training.batch_size, shuffle=True)
kv.training.compile_model(model, recipe.training, steps_per_epoch=len(batches))
before = kv.training.profile(model, batches, val=val)
before.plot()

# %%
print(tables.text_table(*before.table()))
print("The input pipeline is the bottleneck:", before.input_is_bottleneck)

# %% [markdown]
# Nearly all of the time is waiting, so this is the part to mend.

# %% [markdown]
# ## Mended
# The images fit into memory, so they are read once, before the training. (Folders of images need
# no such step here: they are decoded once, into a cache on the local disk.)

# %%
in_memory = kv.data.Split(slow.images[:], slow.labels)
batches = kv.data.Batches(in_memory, splits.num_classes, recipe.training.batch_size, shuffle=True)
after = kv.training.profile(model, batches, val=val)
after.plot()

# %%
print(tables.text_table(*after.table()))
print("The input pipeline is the bottleneck:", after.input_is_bottleneck)

# %% [markdown]
# ## Random changes cost time, too
# Augmentation happens in every epoch, so it cannot be read once. It is worth a look before a long
# training.

# %%
spec = kv.AugmentationSpec(
    rotation_range=20, zoom_range=0.2, horizontal_flip=True, saturation=0.3, noise=5
)
batches = kv.data.Batches(
    in_memory, splits.num_classes, recipe.training.batch_size, shuffle=True, augmentation=spec
)
augmented = kv.training.profile(model, batches, val=val)
augmented.plot()

# %% [markdown]
# ## Answer
# It waited for its images: with the slow source most of an epoch was waiting, and the profile
# called the input pipeline the bottleneck. With the images in memory waiting is a small share and
# the network's own step is what takes the time. The times are those of the machine that ran this
# notebook; `--profile` puts the same table into a run's report.
