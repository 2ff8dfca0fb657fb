"""Jobs on the machines of a Ray cluster, which all see one folder: Ray schedules them and tries lost ones again."""

import concurrent.futures
import os
import signal
from typing import Any

from keras_vision.pipeline.claimed_runs import Job, Outcome, State, attempt
from keras_vision.recipe import InputError, first_line

RETRIES = 3  # After a worker, its machine or its training was killed. The run then goes on from its checkpoint.
LOCAL = "local"
# What a training reads of its environment, besides what differs from machine to machine.
PASSED_ON = ("PYTHONPATH", "KERAS_BACKEND", "KERAS_HOME", "KERAS_VISION_DATA", "XLA_FLAGS")


class KilledError(Exception):
    """A training was killed by a signal."""


class Ray:
    """Does jobs over Ray. A context manager.

    Args:
        address: Of a running cluster, `auto` for that of this machine, or `local` to start one here.
        cpus: Cores that each job asks for.
        gpus: Accelerators that each job asks for.

    Raises:
        InputError: If Ray is not installed or there is no cluster.
    """

    def __init__(self, address: str, *, cpus: float = 1, gpus: float = 0) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # It would report its use to its makers.
        try:
            import ray  # pyright: ignore[reportMissingImports]
        except ModuleNotFoundError as error:
            raise InputError("--ray needs the package ray: pip install 'keras-vision[ray]'.") from error
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        own = {"include_dashboard": False} if address == LOCAL else {}
        try:
            ray.init(
                address=address,
                runtime_env={"env_vars": passed_on},
                log_to_driver=False,
                logging_level="ERROR",
                **own,
            )
        except Exception as error:  # Ray raises what its parts raise.
            raise InputError(
                f"--ray {address}: no Ray cluster was reached: {first_line(error).rstrip('.')}."
            ) from error
        self._ray: Any = ray
        self._require(address, {"CPU": cpus, "GPU": gpus})
        self._references: list[Any] = []
        self._task = ray.remote(
            num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES, retry_exceptions=[KilledError], max_calls=1
        )(_attempt)

    def _require(self, address, needs):
        """Says that no machine has what a job asks for: Ray would wait for one without a word."""
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if any(all(machine.get(name, 0) >= need for name, need in needs.items()) for machine in machines):
            return
        found = "; ".join(f"{machine.get('CPU', 0):g} and {machine.get('GPU', 0):g}" for machine in machines)
        text = f"no machine has the {needs['CPU']:g} cores and {needs['GPU']:g} GPUs that each job asks for: {found}"
        if address == LOCAL:
            self._ray.shutdown()
            raise InputError(f"--ray local: {text}. Pass other --cpus and --gpus.")
        print(f"Ray: {text}. It waits for one.", flush=True)

    def __enter__(self) -> "Ray":
        return self

    def __exit__(self, *error: object) -> None:
        self._ray.shutdown()

    def submit(self, job: Job) -> "concurrent.futures.Future[Outcome]":
        """Hands a job to Ray's scheduler."""
        reference = self._task.options(name=job.name).remote(job)
        self._references.append(reference)
        return reference.future()

    def stop(self, number: int) -> None:
        """Cancels what waits, and interrupts what is being done, which saves its last step."""
        for reference in self._references:
            self._ray.cancel(reference)


def _attempt(job):
    # Ray interrupts a cancelled task by SIGINT, which a shell has ignored by what it starts in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    outcome = attempt(job)
    if outcome.state is State.KILLED:
        raise KilledError(outcome.reason)
    return outcome
