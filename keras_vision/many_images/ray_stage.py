"""The same shards on Ray Data: a process of a cluster for each, written into a folder that all machines see."""

import logging
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from keras_vision.many_images.listing import Shard
from keras_vision.many_images.plan import Plan
from keras_vision.many_images.predictor import Predictor
from keras_vision.many_images.progress import Progress
from keras_vision.many_images.shards import write_shard
from keras_vision.recipe import InputError, first_line

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
        receipt = write_shard(self._plan, self._predictor, shard, lambda done: None)
        return {"index": shard.index, "images": receipt.images}


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
        raise InputError(f"Ray at {address} did not finish: {first_line(_cause(error))}") from error
    finally:
        if own:
            ray.shutdown()


def _run(ray, plan, shards, processes, progress):
    # Ray writes its plans and its progress to standard error; ours is there.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    size = min(len(shards), processes or max(1, int(ray.cluster_resources().get("CPU", 1))))
    dataset = ray.data.from_items([asdict(shard) for shard in shards], override_num_blocks=len(shards))
    pool = ray.data.ActorPoolStrategy(size=size)
    written = dataset.map(ShardWriter, fn_constructor_args=[asdict(plan)], compute=pool, num_cpus=1)
    for row in written.iter_rows():
        progress.finish(row["index"], row["images"])
        progress.show()


def _cause(error):
    """The first error of a chain: Ray wraps it several times."""
    while (inner := getattr(error, "cause", None) or error.__cause__) is not None:
        error = inner
    return error
