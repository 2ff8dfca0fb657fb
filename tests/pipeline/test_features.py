"""Heads that learn on features which are computed once."""

import keras
import numpy as np
import pytest

from keras_vision import data, models
from keras_vision.pipeline import features, track
from keras_vision.recipe import override


@pytest.fixture(scope="module")
def frozen(smoke_recipe):
    """A recipe whose backbone is frozen, at random weights."""
    return override(smoke_recipe, architecture="small_resnet", unfreeze="none", head_units=0, epochs=6, size=32)


@pytest.fixture(scope="module")
def splits(frozen):
    return data.load_splits(frozen.data, frozen.seed)


def weights_below_the_head(model):
    head = models.head_layers(model)
    return [weight for layer in model.layers if layer not in head for weight in layer.get_weights()]


@pytest.mark.backend
def test_only_the_head_learns_and_the_network_is_whole(frozen, splits):
    track.seed_everything(0)
    model = track.network(frozen, splits)
    before = [np.array(weight) for weight in weights_below_the_head(model)]
    start = models.head_layers(model)[-1].get_weights()[0]
    history = features.fit_head(frozen, splits, model, None, epochs=6, rate=0.01)
    assert len(history.epochs) == 6
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"]
    for one, other in zip(before, weights_below_the_head(model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(start, models.head_layers(model)[-1].get_weights()[0])
    # The last epoch's validation metric is that of the whole network.
    images = np.asarray(splits.val.images, np.float32)
    accuracy = np.mean(model.predict(images, verbose=0).argmax(axis=1) == splits.val.labels)
    assert accuracy == pytest.approx(history.epochs[-1]["val_accuracy"])


def test_a_frozen_recipe_uses_features_unless_every_epoch_has_its_own_images(frozen):
    assert features.are_enough(frozen)
    assert not features.are_enough(override(frozen, augment=True))
    assert features.are_enough(override(frozen, augment=True, feature_copies=3))
    assert not features.are_enough(override(frozen, unfreeze="all"))
    assert not features.are_enough(override(frozen, augment=True, feature_copies=3, mixup=0.4))


def test_copies_take_turns(frozen, splits, monkeypatch):
    recipe = override(frozen, augment=True, horizontal_flip=True, brightness_range=(0.5, 1.5), feature_copies=2)
    seen = []

    def fit(head, train, val, spec, **others):
        for epoch in range(3):
            train.start_epoch(epoch)
            order = np.argsort(train._order)
            batches = np.concatenate([train[number][0] for number in range(len(train))])
            seen.append(batches[order])
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_vision.training.fit", fit)
    model = track.network(recipe, splits)
    with pytest.raises(KeyboardInterrupt):
        features.fit_head(recipe, splits, model, None, epochs=3, rate=0.1)
    np.testing.assert_array_equal(seen[0], seen[2])
    assert not np.array_equal(seen[0], seen[1])
    backbone, _ = models.backbone_and_head(model)
    images = data.Batches(splits.train, splits.num_classes, 1000, augmentation=recipe.augmentation, seed=recipe.seed)
    images.start_epoch(1)
    np.testing.assert_allclose(seen[1], backbone.predict_on_batch(images[0][0]), rtol=1e-4, atol=1e-5)


def test_the_head_first_then_the_rest(frozen, tmp_path):
    start = override(frozen, unfreeze="all", head_epochs=2, epochs=3)
    track.seed_everything(3)
    track.network(start, data.load_splits(start.data, start.seed)).save(tmp_path / "start.keras")
    recipe = override(start, keep_statistics=True, init_from=str(tmp_path / "start.keras"))
    done = track.run(recipe, tmp_path / "run")
    assert len(done.history.epochs) == 5
    assert done.history.best_epoch in (3, 4, 5)
    seconds = [epoch["seconds"] for epoch in done.history.epochs]
    assert seconds == sorted(seconds)
    norms = [layer for layer in done.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    fresh = track.network(recipe, data.load_splits(recipe.data, recipe.seed))
    assert norms
    for norm in norms:
        for one, other in zip(norm.get_weights(), fresh.get_layer(norm.name).get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_features_are_kept_for_an_interrupted_run(frozen, tmp_path, monkeypatch):
    recipe = override(frozen, epochs=2)
    with monkeypatch.context() as patched:
        patched.setattr("keras_vision.training.fit", lambda *given, **named: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            track.run(recipe, tmp_path / "run")
    calls = []
    original = features._features

    def counted(recipe, splits, backbone, *given):
        class Refusing:
            output_shape = backbone.output_shape

            def predict_on_batch(self, images):
                calls.append(len(images))
                return backbone.predict_on_batch(images)

        return original(recipe, splits, Refusing(), *given)

    monkeypatch.setattr(features, "_features", counted)
    done = track.run(recipe, tmp_path / "run")
    assert not calls
    assert len(done.history.epochs) == 2
