"""The folder of the shards: what was planned, which shards are there, and which files could not be read.

    predictions/
      part-00000-of-00016.csv      rows, written whole and renamed
      _unreadable.csv              part, path and reason of each file that is not read
      _plan/                       what must not change when the work goes on; a receipt for each shard

Spark, Arrow and others leave out names that begin with an underscore when they read a folder.
"""

import contextlib
import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from keras_vision.files import outside, state_file
from keras_vision.files.lock import Lock
from keras_vision.many_images import listing
from keras_vision.recipe import InputError

FORMATS = ("csv", "parquet")
UNREADABLE = "_unreadable.csv"


@dataclass(frozen=True)
class Receipt:
    """What is known of a finished shard.

    Attributes:
        plan: The plan's hash.
        images: Number of its rows.
        unread: Number of its files that are not read.
        unusual: Number of its files with a remark.
        remarks: Some of them: `[path, remark]`.
        bytes: Size of the file of rows.
    """

    plan: str
    images: int
    unread: int
    unusual: int
    remarks: list
    bytes: int


@dataclass(frozen=True)
class Plan:
    """What all processes of one prediction know; `asdict` makes it JSON.

    Attributes:
        out: The folder, absolute.
        root: The working directory, which relative paths are relative to.
        model: Arguments of the `Predictor`.
        format: `csv` or `parquet`.
        shards: How many.
        identity: What decides the rows: the predictor's `identity`, format, shards and the listing.
    """

    out: str
    root: str
    model: dict[str, Any]
    format: str
    shards: int
    identity: dict[str, Any] = field(repr=False)

    @property
    def sha256(self) -> str:
        """A hash of the identity."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()

    @property
    def inside(self) -> Path:
        """The folder of what is not rows."""
        return Path(self.out) / "_plan"

    @property
    def paths(self) -> Path:
        """The file with the images' paths."""
        return self.inside / "paths.jsonl"

    @property
    def unfinished(self) -> Path:
        """The folder in which files are written before they are renamed."""
        return self.inside / "unfinished"

    def name(self, index: int) -> str:
        """A shard's name without its ending."""
        return f"part-{index:05}-of-{self.shards:05}"

    def part(self, index: int) -> Path:
        """The file of a shard's rows."""
        return Path(self.out) / f"{self.name(index)}.{self.format}"

    def unread(self, index: int) -> Path:
        """The file with a shard's unreadable files."""
        return self.inside / f"{self.name(index)}-unread.csv"

    def receipt(self, index: int) -> Receipt | None:
        """The receipt of a finished shard; None where there is none, or its rows are gone or have another size."""
        try:
            found = Receipt(**json.loads(self._receipt(index).read_text("utf-8")))
            complete = found.bytes == self.part(index).stat().st_size and self.unread(index).is_file()
        except (OSError, ValueError, TypeError):
            return None
        return found if complete and found.plan == self.sha256 else None

    def sign(self, index: int, receipt: Receipt) -> None:
        """Writes the receipt, the last file of a shard."""
        state_file.write_bytes(self._receipt(index), json.dumps(asdict(receipt)).encode())

    def _receipt(self, index):
        return self.inside / f"{self.name(index)}.json"

    def collect_unread(self) -> None:
        """Writes `_unreadable.csv` from what the shards left, or removes it where all files are read."""
        place, writing = Path(self.out) / UNREADABLE, self.unfinished / UNREADABLE
        found = 0
        with writing.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["part", "path", "reason"])
            for index in range(self.shards):
                with self.unread(index).open(encoding="utf-8", errors="surrogateescape", newline="") as rows:
                    for row in csv.reader(rows):
                        writer.writerow([self.part(index).name, *row])
                        found += 1
        if found:
            os.replace(writing, place)
        else:
            place.unlink(missing_ok=True)


@contextlib.contextmanager
def held(plan: Plan) -> Iterator[None]:
    """Makes the folder, and keeps other commands out of it; removes what an interruption left half written.

    Raises:
        InputError: If another command writes into it, it holds something else, or it cannot be written.
    """
    out = Path(plan.out)
    try:
        if out.exists() and (not out.is_dir() or (not plan.inside.is_dir() and any(out.iterdir()))):
            raise InputError(f"{out} exists and is no folder of shards. Choose another --out.")
        plan.inside.mkdir(parents=True, exist_ok=True)
        lock = Lock(plan.inside / "lock")
        if not lock.acquire():
            raise InputError(f"{out} is being written by another command.")
        try:
            shutil.rmtree(plan.unfinished, ignore_errors=True)
            plan.unfinished.mkdir()
            yield
            shutil.rmtree(plan.unfinished, ignore_errors=True)
        finally:
            lock.release()
    except BrokenPipeError:  # Of standard output.
        raise
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}.") from error


def begin(source: str, plan: Plan) -> Plan:
    """The plan with its images, written down; of a folder that was begun before, the same plan.

    Raises:
        InputError: If the folder was begun with another model, other flags or other images, or there are fewer images
            than shards.
    """
    record = plan.inside / "plan.json"
    before = outside.read_json(record) if record.exists() else None
    if before is None:
        writing = plan.unfinished / "paths.jsonl"
        found = listing.scan(source, writing)
    else:
        _compare(plan, before, plan.identity)
        found = listing.scan(source)
    identity = {**plan.identity, "images": found.images, "their paths": found.sha256}
    if before is not None:
        _compare(plan, before, identity)
    elif plan.shards > found.images:
        raise InputError(f"--shards {plan.shards} is more than the {found.images:,} images of {source}.")
    else:
        os.replace(writing, plan.paths)
        # Written last: with it, the paths are complete.
        state_file.write_bytes(record, json.dumps(identity, indent=1).encode())
    return Plan(plan.out, plan.root, plan.model, plan.format, plan.shards, identity)


def _compare(plan, before, now):
    """Refuses to mix the rows of two models, or of two lists, in one folder."""
    for name, value in now.items():
        if not isinstance(before, dict) or before.get(name) != value:
            known = before.get(name) if isinstance(before, dict) else None
            short = isinstance(value, str | int | float | bool | None) and len(f"{value}{known}") < 40
            raise InputError(
                f"{plan.out} was begun with another value of {name!r}"
                + (f", {known}; now it is {value}" if short else "")
                + ". Choose another --out, or delete that folder."
            )
