"""How far the work is, on standard error: images, images per second, time left."""

import sys
import time

TERMINAL_SECONDS, LOG_SECONDS = 0.5, 30.0


class Progress:
    """Images that are done, shard by shard.

    Args:
        total: Number of images.
        before: Those of shards that were there already.
    """

    def __init__(self, total: int, before: int):
        self._total, self._finished, self._before = total, before, before
        self._running: dict[int, int] = {}
        self._started = self._shown = time.monotonic()

    def update(self, shard: int, done: int) -> None:
        """Notes how many images of a running shard are done; 0 where it begins again."""
        self._running[shard] = done

    def finish(self, shard: int, images: int) -> None:
        """Notes that a shard is finished."""
        self._running.pop(shard, None)
        self._finished += images

    def show(self, *, last: bool = False) -> None:
        """Prints it, if some time has passed: a line that changes on a terminal, else a line now and then."""
        terminal, now = sys.stderr.isatty(), time.monotonic()
        if not last and now - self._shown < (TERMINAL_SECONDS if terminal else LOG_SECONDS):
            return
        self._shown = now
        done = self._finished + sum(self._running.values())
        rate = (done - self._before) / max(1e-9, now - self._started)
        left = f", {_words((self._total - done) / rate)} left" if rate and done < self._total else ""
        text = f"{done:,} of {self._total:,} images, {rate:,.0f} a second{left}"
        if terminal:
            print(f"\r{text:<70}", end="\n" if last else "", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def say(self, sentence: str) -> None:
        """Prints a sentence, on a line of its own."""
        start = "\r" if sys.stderr.isatty() else ""
        print(f"{start}{sentence:<70}" if start else sentence, file=sys.stderr, flush=True)


def _words(seconds):
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
