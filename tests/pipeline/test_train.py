import pytest

from keras_vision import data
from keras_vision.pipeline import track


@pytest.mark.backend
@pytest.mark.slow
def test_the_training_alone_is_that_of_a_run(smoke_recipe, tmp_path):
    result = track.run(smoke_recipe, tmp_path / "run")
    model, history = track.train(smoke_recipe, data.load_splits(smoke_recipe.data, smoke_recipe.seed))
    for mine, theirs in zip(history.epochs, result.history.epochs, strict=True):
        assert {**mine, "seconds": 0} == pytest.approx({**theirs, "seconds": 0}, abs=1e-5)
    assert model.count_params() == result.model.count_params()
