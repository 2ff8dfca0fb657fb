"""One finished .tflite file over millions of images: in processes of this machine, on Ray, on Spark.

    images -> shards -> files of rows, each written whole

`Predictor` makes the rows of some files, wherever it runs; `predict` divides a folder or a list into shards, and called
again it goes on with those that are missing.
"""

from keras_vision.many_images.predictor import Predictor
from keras_vision.many_images.run import Summary, predict

__all__ = ["Predictor", "Summary", "predict"]
