"""Heatmaps that explain a classifier's predictions on images and volumes, for any functional model and backend."""

from collections.abc import Callable
from typing import Any

from keras_vision.explanation.faithfulness import (
    Faithfulness,
    Similarity,
    judge_heatmaps,
    random_heatmaps,
    similarity,
    weights_shuffled,
)
from keras_vision.explanation.grad_cam import grad_cam
from keras_vision.explanation.grad_cam_plus_plus import grad_cam_plus_plus
from keras_vision.explanation.heatmap import resize
from keras_vision.explanation.hires_cam import hires_cam
from keras_vision.explanation.integrated_gradients import attributions, integrated_gradients
from keras_vision.explanation.layer_cam import layer_cam
from keras_vision.explanation.network import feature_layer
from keras_vision.explanation.overlay import caption, montage, overlay, panels
from keras_vision.explanation.score_cam import Classifier, probabilities, score_cam

# Called as `METHODS[name](model, images, target_classes, layers=...)`.
METHODS: dict[str, Callable[..., Any]] = {
    "grad-cam": grad_cam,
    "grad-cam++": grad_cam_plus_plus,
    "hires-cam": hires_cam,
    "layer-cam": layer_cam,
    "score-cam": score_cam,
    "integrated-gradients": integrated_gradients,
}
__all__ = [
    "METHODS",
    "Classifier",
    "Faithfulness",
    "Similarity",
    "attributions",
    "caption",
    "feature_layer",
    "grad_cam",
    "grad_cam_plus_plus",
    "hires_cam",
    "integrated_gradients",
    "judge_heatmaps",
    "layer_cam",
    "montage",
    "overlay",
    "panels",
    "probabilities",
    "random_heatmaps",
    "resize",
    "score_cam",
    "similarity",
    "weights_shuffled",
]
