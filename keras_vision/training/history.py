"""Metrics of a training, epoch by epoch."""

import csv
import io
from dataclasses import dataclass


@dataclass(frozen=True)
class History:
    """Metrics after each epoch.

    Attributes:
        epochs: One dict per epoch: `loss`, `accuracy`, `val_loss`, `val_accuracy`, `learning_rate`, and `seconds` since
            the start of the training.
        best_epoch: Epoch, counted from 1, whose weights the model has.
        seconds: Wall-clock time of the training.
    """

    epochs: tuple[dict[str, float], ...]
    best_epoch: int
    seconds: float

    def after(self, first: "History") -> "History":
        """The history of two trainings, one after the other."""
        later = ({**epoch, "seconds": epoch["seconds"] + first.seconds} for epoch in self.epochs)
        return History((*first.epochs, *later), len(first.epochs) + self.best_epoch, first.seconds + self.seconds)

    def to_csv(self) -> str:
        """CSV text with one row per epoch."""
        text = io.StringIO()
        writer = csv.DictWriter(
            text, fieldnames=["epoch", *(self.epochs[0] if self.epochs else ())], lineterminator="\n"
        )
        writer.writeheader()
        for number, metrics in enumerate(self.epochs, 1):
            writer.writerow({"epoch": number, **metrics})
        return text.getvalue()
