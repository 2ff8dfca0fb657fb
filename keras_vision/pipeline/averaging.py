"""A run's model with its probabilities averaged over flips and turns, beside the same model without: metrics, cost."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_vision import data
from keras_vision.evaluation import Agreement
from keras_vision.pipeline import symmetries
from keras_vision.pipeline.tables import Row, Table, shown, words


@dataclass(frozen=True)
class Averaged:
    """A model's averaged probabilities compared with its plain ones.

    Attributes:
        tta: The recipe's `tta`.
        versions: How many versions of an image there are.
        kinds: Which, in words.
        agreement: The metrics, and McNemar's p against the plain predictions.
        plain_milliseconds, milliseconds: Per image, without and with averaging, on this machine and in batches.
    """

    tta: str
    versions: int
    kinds: str
    agreement: Agreement
    plain_milliseconds: float
    milliseconds: float

    def to_dict(self, class_names: Sequence[str]) -> dict[str, Any]:
        """JSON-ready values."""
        own = {name: getattr(self, name) for name in ("tta", "versions", "plain_milliseconds", "milliseconds")}
        return own | self.agreement.to_dict(class_names)

    def table(self, plain: Any) -> Table:
        """Head and rows: the metrics without and with averaging, and the cost.

        Args:
            plain: The judgement of the plain predictions.
        """
        metrics = self.agreement.judgement.metrics
        rows: list[Row] = [(words(name), shown(plain.metrics[name]), shown(metrics[name])) for name in metrics]
        rows.append(("milliseconds per image", f"{self.plain_milliseconds:.3g}", f"{self.milliseconds:.3g}"))
        return ("", "the model (95 % interval)", f"averaged over {self.versions} (95 % interval)"), rows

    def sentence(self, split: str, main: str) -> str:
        """What averaging changes, and what it costs.

        Args:
            split: Name of the evaluated split.
            main: The metric that says how often the model is right.
        """
        found, value = self.agreement, " ".join(shown(self.agreement.judgement.metrics[main]).split())
        cost = f"{self.milliseconds:.3g} ms per image, without {self.plain_milliseconds:.3g}"
        return (
            f"Averaged over {self.kinds}: {words(main)} {value} on the {split} split, "
            f"another answer for {found.changed:.2%} of the images, McNemar's p {found.mcnemar_p:.2g}; {cost}."
        )


class _Versions(data.Batches):
    """Batches of a split, each image changed by the same symmetry."""

    def __init__(self, batches: data.Batches, num_classes: int, symmetry: symmetries.Symmetry):
        super().__init__(batches.split, num_classes, batches.batch_size)
        self.symmetry = symmetry

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        images, labels = super().__getitem__(index)
        return self.symmetry(images), labels


def probabilities(
    predict: Callable[[data.Batches], np.ndarray],
    batches: data.Batches,
    num_classes: int,
    every: Sequence[symmetries.Symmetry],
) -> tuple[np.ndarray, float, float]:
    """Mean probabilities of a split's images over versions of them, and what they cost.

    Args:
        predict: Function from batches to probabilities, shape `(N, K)`, that was called before: what is compiled at
            the first call is not part of the cost.
        batches: The split's images, in order.
        num_classes: Number of classes.
        every: Of `symmetries.chosen`, the one that changes nothing first.

    Returns:
        The probabilities, and the milliseconds per image without and with averaging.
    """
    total, seconds = 0.0, []
    for symmetry in every:
        started = time.perf_counter()
        total = total + predict(_Versions(batches, num_classes, symmetry)).astype(np.float64)
        seconds.append(time.perf_counter() - started)
    count = len(batches.split)
    return np.asarray(total / len(every)), 1000 * seconds[0] / count, 1000 * sum(seconds) / count
