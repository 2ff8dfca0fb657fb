"""The same shards on Ray Data: a process of a cluster for each, written into a folder that all machines see."""

import logging
import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from keras_vision.many_images.listing import Shard
from keras_vision.many_images.plan import Plan
from keras_vision.many_images.predictor import Predictor
from keras_vision.many_images.processes import ATTEMPTS
from keras_vision.many_images.progress import Progress
from keras_vision.many_images.shards import write_shard
from keras_vision.recipe import InputError, first_line, printable

LOCAL = "local"


class ShardWriter:
    """A stage of Ray Data: rows that describe shards become rows that describe what was written.

    Args:
        plan: A `Plan` as a dictionary.
    """

    def __init__(self, plan: dict[str, Any]):
        self._plan = Plan(**plan)
        self._predictor = Predictor(**self._plan.model, root=self._plan.root)
        if not self._predictor.identity.items() <= self._plan.identity.items():
            raise InputError(
                f"{self._plan.model['model']} is another file, or runs with other libraries, on this machine."
            )

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        shard = Shard(int(row["index"]), int(row["start"]), int(row["count"]))
        self._count_attempt(shard)
        receipt = write_shard(self._plan, self._predictor, shard, lambda done: None)
        return {"index": shard.index, "images": receipt.images}

    def _count_attempt(self, shard):
        """Gives up on a shard whose process always ends; Ray would begin it again for ever."""
        with (self._plan.unfinished / f"{self._plan.name(shard.index)}-attempts").open("ab") as file:
            file.write(b".")
            attempt = file.tell()
        if attempt > ATTEMPTS:
            raise InputError(
                f"{self._plan.part(shard.index).name} is not written: its process ended {ATTEMPTS} times, perhaps at "
                "one of the images"
            )


def predict(plan: Plan, shards: Iterable[Shard], address: str, processes: int | None, progress: Progress) -> None:
    """Predicts shards on Ray.

    Args:
        address: Ray's, such as `auto` or `ray://host:10001`; `local` starts one on this machine.
        processes: How many at once; by default as many as the cluster has cores.

    Raises:
        InputError: If Ray is not installed, does not answer, or gives up on a shard.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.data  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise InputError("--ray needs Ray: pip install 'keras-vision[ray]'.") from error
    own = not ray.is_initialized()
    try:
        if own:
            local = {"num_cpus": processes, "include_dashboard": False} if address == LOCAL else {}
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **local)
        _run(ray, plan, list(shards), processes, progress)
    except Exception as error:  # What Ray raises depends on where it fails.
        raise InputError(
            f"Ray at {address} did not finish: {_reason(error)}. "
            "Finished shards are kept; the same command goes on with the others."
        ) from error
    finally:
        if own:
            ray.shutdown()


def _run(ray, plan, shards, processes, progress):
    # Ray writes plans, progress and tracebacks to standard error; ours is there, and a sentence.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    ray.data.DataContext.get_current().enable_progress_bars = False
    size = min(len(shards), processes or max(1, int(ray.cluster_resources().get("CPU", 1))))
    dataset = ray.data.from_items([asdict(shard) for shard in shards], override_num_blocks=len(shards))
    pool = ray.data.ActorPoolStrategy(size=size)
    written = dataset.map(ShardWriter, fn_constructor_args=[asdict(plan)], compute=pool, num_cpus=1)
    for row in written.iter_rows():
        progress.finish(row["index"], row["images"])
        progress.show()


def _reason(error):
    """Why Ray gives up: the sentence of our own error, which Ray wraps and prints into its messages, else its own."""
    chain = [error]
    while (inner := getattr(chain[-1], "cause", None) or chain[-1].__cause__) is not None:
        chain.append(inner)
    own = re.findall(r"InputError: (.+)", "\n".join(map(str, chain)))
    return (printable(own[-1]) if own else first_line(chain[-1])).rstrip(".")
