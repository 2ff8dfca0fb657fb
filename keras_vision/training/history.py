"""What happened, epoch by epoch."""

import csv
import io
from dataclasses import dataclass


@dataclass(frozen=True)
class History:
    """Figures after each epoch.

    Attributes:
        epochs: One dict an epoch: `loss`, `accuracy`, `val_loss`, `val_accuracy`, `learning_rate`, and `seconds` since
            the start of the fit.
        best_epoch: Epoch, counted from 1, whose weights the model has.
        seconds: Wall-clock time of the whole fit.
    """

    epochs: tuple[dict[str, float], ...]
    best_epoch: int
    seconds: float

    def to_csv(self):
        """A table with a row an epoch, as CSV text."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=["epoch", *self.epochs[0]], lineterminator="\n")
        writer.writeheader()
        for number, figures in enumerate(self.epochs, 1):
            writer.writerow({"epoch": number, **figures})
        return text.getvalue()
