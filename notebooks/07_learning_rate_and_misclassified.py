# %% [markdown]
# # Which learning rate, and what does the network still get wrong?
#
# A range test tries rising learning rates for a few steps and shows where the loss falls. We
# train with what it suggests, and look at 25 images that the trained network misclassifies, with
# heatmaps from three of its layers.

# %%
# Not installed? Remove "# " before %pip. This is for a clone of the repository; elsewhere, as in
# Colab, "git+" and the address of the repository take the place of the two dots.
# # %pip install --quiet ..
# %matplotlib inline
import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # Or "torch" or "tensorflow".

import numpy as np

import keras_vision as kv
from keras_vision.pipeline import plots, track

recipe = kv.override(
    kv.recipe("plants"),
    data="synthetic",  # For real data: a folder with one folder of images per class.
    size=28,
    limit=700,
    width=8,
    epochs=25,
    batch_size=32,
    schedule="cosine",
)
splits = kv.data.load_splits(recipe.data)

# %% [markdown]
# ## The range test
# Each point is the loss of one batch after a step at that rate. Afterwards the model has its
# first weights again.

# %%
track.seed_everything(recipe.seed)
batches, model = track.train_batches(recipe, splits), track.network(recipe, splits)
kv.training.compile_model(model, recipe.training, steps_per_epoch=len(batches))
curve = kv.training.range_test(model, batches, low=1e-5, high=0.3, verbose=False)
print(curve.summary())
curve.plot()

# %% [markdown]
# ## Training with it
# The test suggests two rates: where the loss falls steepest, and a later one, from the whole of its
# fall. We take the middle between them (on the logarithmic axis), and compare it with both ends of
# the test, where the loss did not fall yet, and where it no longer does.

# %%
# %%capture
middle = float(np.sqrt(curve.steepest * curve.valley))
trained = {}
for rate in (curve.rates[0], middle, curve.rates[-1]):
    chosen = kv.override(recipe, learning_rate=rate)
    trained[f"rate {rate:.1g}"] = track.train(chosen, splits)

# %%
figure = plots.learning_curves({name: history.epochs for name, (_, history) in trained.items()})
figure.axes[0].set_ylim(0.5, 2)  # The first losses at the highest rate are far above.
figure

# %% [markdown]
# ## 25 misclassified images
# The most confident mistakes on the test images come first. Next to each image are its Grad-CAM
# heatmaps at the first, second and third convolution. Grad-CAM has one weight for a whole
# channel, and early channels respond everywhere, so little is left of them; the last convolution,
# coarse as it is, is the one to read.

# %%
model, _ = trained[f"rate {middle:.1g}"]
images, labels = splits.test.images, splits.test.labels
probabilities = kv.explanation.probabilities(model, images)
wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
surest = wrong[np.argsort(-probabilities[wrong].max(axis=1))][:25]
print(f"{len(wrong)} of {len(images)} test images are misclassified.")

# %%
layers = ("relu1", "relu2", "relu3")
heatmaps = kv.explanation.grad_cam(model, images[surest], layers=layers)
captions = [
    kv.explanation.caption(probabilities[row], splits.class_names, labels[row]) for row in surest
]
kv.explanation.panels(images[surest], heatmaps, captions, layers=layers)

# %% [markdown]
# ## Which classes are missed?

# %%
matrix = kv.evaluation.confusion_matrix(labels, probabilities.argmax(axis=1), splits.num_classes)
plots.confusion(matrix.astype(int), splits.class_names)

# %% [markdown]
# ## Answer
# A rate in the range that the test suggests: of the three it ends with the lowest validation loss.
# At the lowest rate the same epochs are far too few; at the highest the network learns nothing but
# which class is frequent. What is still wrong are mostly images of the rarer classes, which the
# network takes for the frequent one or for each other.
