"""Writes a shard: its rows as CSV or Parquet, the list of what is not read, a receipt; each whole or not at all."""

import csv
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keras_vision.many_images import listing
from keras_vision.many_images.plan import Plan, Receipt
from keras_vision.many_images.predictor import FIXED, Predictor, Row, as_table
from keras_vision.recipe import InputError

# Rows that are written at once, and scores: a row group of Parquet is in memory.
ROWS, SCORES = 8192, 2**20
REMARKS = 3  # Kept of each shard.


def write_shard(plan: Plan, predictor: Predictor, shard: listing.Shard, report: Callable[[int], None]) -> Receipt:
    """Predicts the images of a shard and writes its files.

    Args:
        report: Called with the number of its images that are done.

    Raises:
        InputError: If it cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=plan.unfinished) as name:
            return _write(plan, predictor, shard, report, Path(name))
    except OSError as error:
        raise InputError(f"{plan.part(shard.index)} cannot be written: {error.strerror or error}.") from error


def _write(plan, predictor, shard, report, folder):
    images = unread = unusual = 0
    remarks = []
    rows_file, unread_file = folder / "rows", folder / "unread"
    with (
        _WRITERS[plan.format](rows_file, predictor.score_names) as rows,
        unread_file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        for row in predictor.rows(listing.paths_of(plan.paths, shard)):
            rows.write(row)
            images += 1
            if row.error is not None:
                unread += 1
                writer.writerow([row.path, row.error])
            elif row.remark:
                unusual += 1
                remarks += [[row.path, row.remark]] if len(remarks) < REMARKS else []
            report(images)
    if images != shard.count:
        raise RuntimeError(f"{images} rows of {shard.count} images.")
    for path in (rows_file, unread_file):
        _flush(path)
    receipt = Receipt(plan.sha256, images, unread, unusual, remarks, rows_file.stat().st_size)
    os.replace(unread_file, plan.unread(shard.index))
    os.replace(rows_file, plan.part(shard.index))
    plan.sign(shard.index, receipt)
    return receipt


def _flush(path):
    """Has a file's bytes written to the disk, so that a power cut cannot leave the name without them."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


class _Csv:
    """Rows as lines of text; numbers so that reading them gives the same bits."""

    def __init__(self, path: Path, score_names: Sequence[str]):
        self._blank = [""] * len(score_names)
        self._file = path.open("w", encoding="utf-8", errors="surrogateescape", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow([*FIXED, *score_names])

    def __enter__(self):
        return self

    def write(self, row: Row) -> None:
        scores = row.scores.tolist() if row.scores is not None and self._blank else self._blank
        unsure = "" if row.unsure is None else "yes" if row.unsure else "no"
        self._writer.writerow([row.path, row.answer, row.score, unsure, row.error, *scores])

    def __exit__(self, *args):
        self._file.close()


class _Parquet:
    """Rows in groups, compressed."""

    def __init__(self, path: Path, score_names: Sequence[str]):
        import pyarrow.parquet  # pyright: ignore[reportMissingImports]

        self._names, self._rows = score_names, []
        self._most = max(1, min(ROWS, SCORES // max(1, len(score_names))))
        self._writer: Any = pyarrow.parquet.ParquetWriter(path, as_table([], score_names).schema)

    def __enter__(self):
        return self

    def write(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) >= self._most:
            self._flush()

    def _flush(self):
        if self._rows:
            self._writer.write_table(as_table(self._rows, self._names))
            self._rows = []

    def __exit__(self, kind, *args):
        if kind is None:
            self._flush()
        self._writer.close()


_WRITERS = {"csv": _Csv, "parquet": _Parquet}
