# %% [markdown]
# # From images to a file for a phone: what does it take?
#
# A recipe says which data, which network and which training; one call runs it through all stages
# and leaves a folder with the model, a report and files for phones. This notebook looks at each
# stage of one small run.

# %%
# Not installed? Remove "# " before %pip. This is for a clone of the repository; elsewhere, as in
# Colab, "git+" and the address of the repository take the place of the two dots.
# # %pip install --quiet ..
# %matplotlib inline
import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # Or "torch" or "tensorflow".

from IPython.display import Image

import keras_vision as kv
from keras_vision.pipeline import plots, tables, tflite_files

# %% [markdown]
# ## The recipe
# The track `derma` is for skin lesions. Its baseline is overridden here: images that the package
# generates, a small network and few epochs, so that the run takes seconds.

# %%
recipe = kv.override(
    kv.recipe("derma"),
    data="synthetic",  # For real data: "dermamnist", or a folder with a folder per class.
    architecture="basic_cnn",
    width=8,
    epochs=15,
    batch_size=32,
    learning_rate=0.003,
    schedule="cosine",
    augment=True,
    bootstrap=200,
    faithfulness_images=0,
    tflite=True,
)

# %% [markdown]
# ## The data
# Three splits: the network learns from `train`, choices are made on `val`, and `test` is used
# once, at the end.

# %%
splits = kv.data.load_splits(recipe.data, recipe.seed)
plots.class_balance(splits.counts(), splits.class_names)

# %%
plots.gallery(
    splits.train.images[:16], [splits.class_names[label] for label in splits.train.labels[:16]]
)

# %% [markdown]
# ## The run
# All stages in one call: training, evaluation, heatmaps, and conversion to `.tflite` files.
# Without the first line of the cell you see its progress.

# %%
# %%capture
result = kv.run(recipe, "runs/data-to-phone", overwrite=True)
report = result.report

# %%
plots.learning_curves({"": report.epochs})

# %% [markdown]
# ## How good is it?
# Each metric has a 95 % interval, and the report says what the numbers mean.

# %%
print(*report.findings(), sep="\n")
plots.confusion(report.judgement.confusion, report.class_names)

# %% [markdown]
# ## Why this class?
# Warm colours mark the regions that raise the predicted class.

# %%
Image(report.heatmap_plots["heatmaps"])

# %% [markdown]
# ## The files for a phone
# Each file was run on the test images and compared with the model that it was made from.

# %%
head, rows = tflite_files.files_table(report.files)
# The last two columns are milliseconds, which differ from machine to machine.
print(tables.text_table(*tables.transposed(head[:-2], [row[:-2] for row in rows])))

# %%
phone = kv.Classifier.open("runs/data-to-phone/tflite/int8.tflite")
images = splits.test.images[:8]
captions = [kv.explanation.caption(row, phone.class_names) for row in phone.probabilities(images)]
plots.gallery(images, captions)

# %% [markdown]
# ## Answer
# One recipe and one call. The folder has the model, the report and the files, and the integer
# file predicts the same class as the float network for nearly every test image, at about a third
# of its size. What the network itself gets wrong, the phone gets wrong, too: see the classes with
# few images in the confusion matrix.
