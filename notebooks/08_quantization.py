# %% [markdown]
# # What does a network lose when it becomes integers?
#
# Four files of one network: float, dynamic (8-bit weights), int8 (all integers), and qat (all
# integers, after some training with simulated rounding). Each is compared with the network that
# it was made from.

# %%
# Not installed? Remove "# " before %pip. This is for a clone of the repository; elsewhere, as in
# Colab, "git+" and the address of the repository take the place of the two dots.
# # %pip install --quiet ..
# %matplotlib inline
import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # Or "torch" or "tensorflow".

import matplotlib.pyplot as plt
import numpy as np

import keras_vision as kv
from keras_vision.pipeline import plots, tables, tflite_files

recipe = kv.override(
    kv.recipe("plants"),
    data="synthetic",  # For real data: a folder with one folder of images per class.
    size=28,
    width=8,
    epochs=12,
    batch_size=32,
    learning_rate=0.003,
    bootstrap=200,
    explain="none",
    qat=True,
    qat_epochs=2,
)

# %%
# %%capture
result = kv.run(recipe, "runs/quantization", overwrite=True)
files = {file.scheme: file for file in result.report.files}

# %% [markdown]
# ## Side by side
# "Lost" is what the file loses in accuracy, "changed" the share of predictions that differ from
# the float network's.

# %%
head, rows = tflite_files.files_table(result.report.files)
# The last two columns are milliseconds, which differ from machine to machine.
print(tables.text_table(*tables.transposed(head[:-2], [row[:-2] for row in rows])))

# %% [markdown]
# ## Where is the error?
# Every integer tensor of the two integer files, from the first to the last, beside its float
# values. The last one, the logits, differs by far the most, on purpose: their range is the one
# that is best for the probabilities, so logits of classes that get next to no probability are
# cut. What matters follows below.

# %%
plots.tensor_errors({scheme: files[scheme] for scheme in ("int8", "qat")})

# %% [markdown]
# ## Why do integer scores tie?
# An 8-bit score has 256 values, from 0 to 255/256. Two images whose float scores differ by less
# than a step may get the same one.

# %%
splits = kv.data.load_splits(recipe.data, recipe.seed)
images = splits.test.images
nevus = splits.class_names.index("nevus")
scores = {}
for scheme in ("float32", "int8"):
    path = f"runs/quantization/tflite/{scheme}.tflite"
    scores[scheme] = kv.Classifier.open(path).probabilities(images)[:, nevus]
for scheme, values in scores.items():
    print(f"{scheme}: {len(values)} images, {len(np.unique(values))} different scores for 'nevus'")
steps = scores["int8"] * 256
print("int8 scores times 256 are whole numbers:", np.allclose(steps, np.rint(steps)))

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for place, limits in zip(axes, ((0, 1), (0.9, 1)), strict=True):
    place.plot(scores["float32"], scores["int8"], ".", markersize=4)
    place.set(xlabel="float32 score", ylabel="int8 score", xlim=limits, ylim=limits)
plt.show()

# %% [markdown]
# ## Answer
# Little: the integer files are a fraction of the float file's size, and few of their predictions
# differ. The error is rounding, about a per cent or two at each tensor before the logits.
# Confident scores tie because hundreds of different float scores share 256 steps, many of them
# the last one: ranking by an integer score needs a rule for ties.
