"""Files decoded into one cache by all processes that want it, on one machine or on several with a common folder.

    .partial-NAME-KEY/
      lock               held by the process that leads
      whole/             `Part` of the first files; becomes the cache
      shards/00012.lock  held by the process that decodes these files
      shards/00012/      their `Part`, if that process does not lead
      shards/00012.done  the shard needs no decoding any more

The leader decodes from the first file on, directly into the whole; the others decode shards, the last first. Where they
meet, the leader appends each of their shards to the whole and removes it. So a process that is alone writes everything
once, and the disk needs space for one shard beside the cache. The order of the files alone decides what is written.

A process that dies loses its locks. Whoever then gets `lock` leads, and a shard that was begun is continued.

A network file system may say for a moment that a file does not exist. That costs time only, because the content of a
part is compared with its journal.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_vision.data import picture_decoding
from keras_vision.data.picture_decoding import Decoded, How
from keras_vision.data.picture_part import JOURNAL, Part
from keras_vision.files import state_file
from keras_vision.files.lock import Lock
from keras_vision.files.new_folder import put_in_place
from keras_vision.recipe import InputError

CHUNK = 32  # Files that a thread decodes at a time.
CHUNKS = 32  # At most, in a shard: 1,024 files, since the disk needs space for one more.
SHARDS = 32  # At least, where there are enough files: a few hundred volumes take minutes and are worth sharing.
INDEX = "index.json"
POLL = 0.2  # Seconds between two looks at a lock.


@dataclass(frozen=True)
class Task:
    """Files to decode.

    Attributes:
        place: The cache's folder.
        root: The folder that the names are relative to.
        names: The files.
        how: How they become images.
        strict: Whether a file that cannot be decoded is an error.
    """

    place: Path
    root: Path
    names: list[str]
    how: How
    strict: bool

    def refuse_bad(self, files: list[list]) -> None:
        """Raises `InputError` for the first file that cannot be decoded, if the task is strict."""
        for name, _, reason, _ in files if self.strict else ():
            if reason is not None:
                refuse(name, reason)


def refuse(name: str, reason: str) -> None:
    """Raises `InputError` for a file that `--strict` does not allow."""
    raise InputError(f"--strict: {name}: {reason}. Repair or remove it, or omit --strict to set it aside.")


def decode(task: Task, is_there: Callable[[], bool]) -> None:
    """Puts the cache in place, together with all processes that decode the same files.

    Args:
        task: The files.
        is_there: Whether the cache is in place by now and can be used.

    Raises:
        InputError: If a file cannot be decoded and the task is strict.
        OSError: If the cache cannot be written.
    """
    partial = task.place.with_name(f".partial-{task.place.name}")
    lead, work = Lock(partial / "lock"), _Shared(task, partial)
    try:
        if not _taken(lead):
            print("Another process is decoding them; this one helps", flush=True)
            work.help_until(lead)
            print(f"{work.helped:,} of {len(task.names):,} files were decoded by this process", flush=True)
        try:
            if not is_there():
                work.lead()
                put_in_place(work.whole, task.place)  # It may replace a damaged cache, or one with unread files.
        except Exception:
            _clear(partial)
            raise
        _clear(partial)
    finally:
        lead.release()
        with contextlib.suppress(OSError):
            partial.rmdir()  # Unless it was not cleared, or a process waits for the lock.


def _taken(lock):
    """Whether a lock is ours, now or before."""
    if not lock.held:
        lock.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # Somebody has just removed the folder.
            lock.acquire()
    return lock.held


def _clear(partial):
    """Removes all but the folder itself; the lock last, so that nobody begins anew meanwhile."""
    # Renamed first, so that nobody who is still busy with a shard creates files in it meanwhile.
    with contextlib.suppress(OSError):
        (partial / "shards").rename(partial / "removed")
    with contextlib.suppress(OSError):
        for path in sorted(partial.iterdir(), key=lambda path: path.name == "lock"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


class _Shared:
    """The decoding of a task, in a folder that processes share."""

    def __init__(self, task: Task, partial: Path) -> None:
        self.task, self.names = task, task.names
        self.whole, self.shards = partial / "whole", partial / "shards"
        self.size = CHUNK * min(CHUNKS, -(-len(self.names) // (SHARDS * CHUNK)) or 1)
        self.count = -(-len(self.names) // self.size)
        self.helped = 0  # Files that this process decoded for another that leads.
        self.elsewhere = 0  # Files in the others' shards that are decoded.

    def _lock(self, number):
        return Lock(self.shards / f"{number:05}.lock")

    def _part(self, number):
        return self.shards / f"{number:05}"

    def _files(self, number):
        return self.names[number * self.size : (number + 1) * self.size]

    def _chunks(self, number, position):
        """`(number, names)` of a shard's chunks, from a position among all files on."""
        end = number * self.size + len(self._files(number))
        for start in range(max(number * self.size, position), end, CHUNK):
            yield number, self.names[start : min(start + CHUNK, end)]

    def _done(self):
        """Numbers of the shards that are decoded."""
        try:
            found = os.listdir(self.shards)  # Unlike a look at one name, it asks the server of a network file system.
        except FileNotFoundError:
            return set()
        return {int(name.partition(".")[0]) for name in found if name.endswith(".done")}

    def _mark(self, number):
        (self.shards / f"{number:05}.done").touch()

    # Helping.

    def help_until(self, wanted: Lock) -> None:
        """Takes a lock; as long as another process has it, decodes shards that nobody has claimed."""
        while not _taken(wanted):
            if not self._help(wanted):
                time.sleep(POLL)

    def _help(self, wanted):
        """Decodes unclaimed shards until the lock is ours; whether there were any."""
        helped = self.helped
        mine: dict[int, _Claim] = {}
        try:
            for number, decoded in picture_decoding.decode_all(
                self.task.root, self._claimed(wanted, mine), self.task.how
            ):
                self.task.refuse_bad(decoded.files)
                mine[number].part.append(decoded)
                mine[number].missing -= len(decoded.files)
                self.helped += len(decoded.files)
                if not mine[number].missing:
                    mine[number].part.close()
                    self._mark(number)
                    mine.pop(number).lock.release()
        except FileNotFoundError:  # The leader failed, and removed the shards.
            return False
        except Exception:
            for number in mine:
                shutil.rmtree(self._part(number), ignore_errors=True)
            raise
        finally:
            for claim in mine.values():
                with contextlib.suppress(OSError):  # The disk is full, perhaps.
                    claim.part.close()
                claim.lock.release()
        return self.helped > helped

    def _claimed(self, wanted, mine):
        """Chunks of shards that it claims, the last first."""
        done = self._done()
        for number in reversed([number for number in range(self.count) if number not in done]):
            if _taken(wanted):
                return
            lock = self._lock(number)
            if not self.shards.is_dir() or not lock.acquire():
                continue
            if number in self._done():  # Meanwhile.
                lock.release()
                continue
            mine[number] = claim = _Claim(lock, Part(self._part(number)))
            before = sum(len(decoded.files) for decoded in claim.part.intact(self._files(number)))
            claim.missing = len(self._files(number)) - before
            if claim.missing:
                yield from self._chunks(number, number * self.size + before)
            else:
                self._mark(number)
                mine.pop(number).close()

    # Leading.

    def lead(self) -> None:
        """Writes the whole; goes on with what another leader left."""
        self.shards.mkdir(exist_ok=True)
        if not (self.whole / INDEX).exists():
            state_file.write_bytes(self.whole / INDEX, json.dumps(self._write_whole()).encode())
        # With the index the whole is complete.
        (self.whole / JOURNAL).unlink(missing_ok=True)

    def _write_whole(self):
        """Images, fingerprints and journal; the content of the index."""
        index, started = _Index(), time.perf_counter()
        with Part(self.whole) as whole:
            for decoded in whole.intact(self.names):
                self.task.refuse_bad(decoded.files)
                index.add(decoded)
            shown = before = index.count
            if before:
                print(f"Going on after {before:,} files that were decoded before", flush=True)
            self._settle(before)
            with contextlib.closing(self._from(before)) as rest:
                for decoded in rest:
                    self.task.refuse_bad(decoded.files)
                    whole.append(decoded)
                    index.add(decoded)
                    done = index.count + self.elsewhere
                    if done > shown:  # Else it appends what is counted already.
                        _progress(done, len(self.names), started, before, shown)
                        shown = done
        return index.content()

    def _settle(self, position):
        """Makes the marks of shards agree with the whole."""
        for number in range(self.count):
            if number * self.size + len(self._files(number)) <= position:
                self._finish(number)
            elif not self._part(number).exists():  # Its files in the whole were lost, in a power cut say.
                (self.shards / f"{number:05}.done").unlink(missing_ok=True)

    def _finish(self, number):
        """Marks a shard whose files are in the whole."""
        self._mark(number)
        shutil.rmtree(self._part(number), ignore_errors=True)

    def _from(self, position) -> Generator[Decoded, None, None]:
        """All files from a position on, decoded here or elsewhere; each is in the whole when the next is asked for."""
        claims: dict[int, Lock] = {}

        def passed():
            for number in [number for number in claims if position >= number * self.size + len(self._files(number))]:
                self._finish(number)
                claims.pop(number).release()

        try:
            while position < len(self.names):
                number = position // self.size
                claims[number] = self._lock(number)
                self.help_until(claims[number])
                for decoded in self._decoded_elsewhere(number, position):
                    yield decoded
                    position += len(decoded.files)
                passed()
                chunks = self._ahead(position, claims)
                for _, decoded in picture_decoding.decode_all(self.task.root, chunks, self.task.how):
                    yield decoded
                    position += len(decoded.files)
                    passed()
        finally:
            for lock in claims.values():
                lock.release()

    def _decoded_elsewhere(self, number, position):
        """What the process that had a shard has decoded, from a position on."""
        if not self._part(number).exists():
            return
        self._count_elsewhere(number)
        start = number * self.size
        with Part(self._part(number)) as part:
            for decoded in part.intact(self._files(number)):
                if start == position:
                    yield decoded
                    position += len(decoded.files)
                start += len(decoded.files)

    def _ahead(self, position, claims):
        """Chunks from a position on, as far as nobody else has claimed them; claims them."""
        for number in range(position // self.size, self.count):
            self._count_elsewhere(number)
            if number not in claims:
                lock = self._lock(number)
                if not lock.acquire():
                    return
                if self._part(number).exists():
                    lock.release()
                    return
                claims[number] = lock
            yield from self._chunks(number, position)

    def _count_elsewhere(self, number):
        self.elsewhere = sum(len(self._files(other)) for other in self._done() if other > number)


@dataclass
class _Claim:
    """A shard that this process decodes for the leader."""

    lock: Lock
    part: Part
    missing: int = 0

    def close(self):
        self.part.close()
        self.lock.release()


@dataclass
class _Index:
    """The description of the files in the whole."""

    names: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    set_aside: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    not_read: list[str] = field(default_factory=list)
    count: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, decoded):
        self.count += len(decoded.files)
        self.not_read += decoded.not_read
        for name, content_digest, reason, remark in decoded.files:
            self.digest.update(json.dumps([name, content_digest]).encode())
            if reason is not None:
                self.set_aside[name] = reason
                continue
            self.names.append(name)
            self.digests.append(content_digest)
            if remark:
                self.remarks[name] = remark

    def content(self):
        names = ("names", "digests", "set_aside", "remarks", "not_read")
        return {**{name: getattr(self, name) for name in names}, "sha256": self.digest.hexdigest()}


def _progress(done, total, started, before, shown):
    """One line that is updated on a terminal; elsewhere a line per tenth of the files."""
    rate = f"{(done - before) / max(1e-9, time.perf_counter() - started):,.0f} a second"
    if sys.stdout.isatty():
        print(f"\r{done:,} of {total:,} files, {rate} ", end="\n" if done == total else "", flush=True)
    elif done == total or (10 * done // total > 10 * shown // total and total > 20 * CHUNK):
        print(f"{done:,} of {total:,} files, {rate}", flush=True)
