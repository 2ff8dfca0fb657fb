# %% [markdown]
# # Can the same recipe classify volumes?
#
# A CT scan is a stack of slices. A 3D network looks at all of them at once, with kernels that
# reach across slices. Its files for phones are all 2D operators, since phones have no 3D ones.

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

recipe = kv.override(
    kv.recipe("fracture3d"),
    data="synthetic3d",  # For real data: "fracturemnist3d" or another 3D set of MedMNIST.
    size=16,
    width=4,
    dropout_scale=0.2,
    learning_rate=0.004,
    class_weight="none",
    epochs=9,
    bootstrap=200,
    faithfulness_images=0,
    explained_per_class=1,
    misclassified=0,
    tflite=True,
)

# %% [markdown]
# ## The volumes
# Three slices of each, at a quarter, half and three quarters of the depth: a rib with one of
# three kinds of break.

# %%
splits = kv.data.load_splits(recipe.data, recipe.seed)
plots.gallery(
    splits.train.images[:8], [splits.class_names[label] for label in splits.train.labels[:8]]
)

# %% [markdown]
# ## The run

# %%
# %%capture
result = kv.run(recipe, "runs/volumes", overwrite=True)
report = result.report

# %%
plots.learning_curves({"": report.epochs})

# %%
print(f"Accuracy {tables.shown(report.judgement.metrics['accuracy'])}, by chance 0.333")
plots.confusion(report.judgement.confusion, report.class_names)

# %% [markdown]
# ## Heatmaps, slice by slice
# The heatmap of a volume is a volume. Upper rows are slices, lower rows the same with the heatmap
# over them.

# %%
Image(report.heatmap_plots["heatmaps"])

# %% [markdown]
# ## The integer file
# Each 3D convolution became 2D convolutions of the slices and sums of them, which give the same
# numbers.

# %%
head, rows = tflite_files.files_table(report.files)
# The last two columns are milliseconds, which differ from machine to machine.
print(tables.text_table(*tables.transposed(head[:-2], [row[:-2] for row in rows])))

# %%
audit = report.files[-1].audit
print(audit.kind, "from", audit.input, "to", audit.output)
print("Operators:", ", ".join(sorted({operator.name for operator in audit.operators})))

# %% [markdown]
# ## Answer
# Yes: the recipe names a 3D network and 3D data, and the stages are the same. On these volumes
# the network is clearly better than chance, and its all-integer file has only operators that
# phones run, with few predictions changed.
