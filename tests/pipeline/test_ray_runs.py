"""Jobs over a local Ray, in a process of its own, because Ray leaves threads and files open."""

import importlib.util
import json
import subprocess
import sys

import pytest

from keras_vision.pipeline import ray_runs
from keras_vision.recipe import InputError

# A training that is killed in its first session.
TRAINING = """
import os, signal, sys
from pathlib import Path
folder = Path(sys.argv[1])
with open(folder / "sessions", "a") as file:
    print(os.getpid(), os.environ["KERAS_BACKEND"], file=file)
if folder.name == "killed" and len((folder / "sessions").read_text().splitlines()) == 1:
    os.kill(os.getpid(), signal.SIGKILL)
if folder.name == "failed":
    sys.exit("error: no such data.")
(folder / "report.json").write_text("{}")
"""
DRIVER = """
import json, sys
from pathlib import Path
from keras_vision.pipeline import claimed_runs, ray_runs
root, code = Path(sys.argv[1]), sys.argv[2]
jobs = [
    claimed_runs.Job(name, root / name / "report.json", ("-S", "-c", code, str(root / name)), root / "claims" / name,
                     root / "logs" / name)
    for name in ("killed", "failed", "fine")
]
with ray_runs.Ray("local") as workers:
    outcomes, _ = claimed_runs.work(jobs, workers, lambda job, outcome: None)
print(json.dumps({name: [outcome.state.value, outcome.reason] for name, outcome in outcomes.items()}))
"""


@pytest.mark.slow
def test_ray_tries_a_killed_training_again_and_reports_a_failed_one(tmp_path, monkeypatch):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs the package ray: pip install 'keras-vision[ray]'")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    for name in ("killed", "failed", "fine"):
        (tmp_path / name).mkdir()
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tmp_path), TRAINING], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert outcomes == {"killed": ["done", ""], "failed": ["failed", "no such data"], "fine": ["done", ""]}
    sessions = {name: (tmp_path / name / "sessions").read_text().split() for name in outcomes}
    assert {name: len(words) // 2 for name, words in sessions.items()} == {"killed": 2, "failed": 1, "fine": 1}
    assert sessions["fine"][1] == "torch"


def test_without_ray_there_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'keras-vision\[ray\]'"):
        ray_runs.Ray("local")


def test_what_no_machine_has_is_said(monkeypatch, capsys):
    class Small:
        init = shutdown = staticmethod(lambda **options: None)
        nodes = staticmethod(lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {}}])
        remote = staticmethod(lambda **options: lambda function: function)

    monkeypatch.setitem(sys.modules, "ray", Small)
    with pytest.raises(InputError, match="no machine has the 4 cores and 0 GPUs that each job asks for: 2 and 0."):
        ray_runs.Ray("local", cpus=4)
    ray_runs.Ray("auto", gpus=1)
    assert "It waits for one." in capsys.readouterr().out
    ray_runs.Ray("auto", cpus=2)
    assert not capsys.readouterr().out


def test_without_a_cluster_there_is_one_sentence(monkeypatch):
    class NoCluster:
        @staticmethod
        def init(**options):
            raise ConnectionError("Could not find any running Ray instance.\nPlease specify the one to connect to.")

    monkeypatch.setitem(sys.modules, "ray", NoCluster)
    with pytest.raises(InputError, match="--ray auto: no Ray cluster was reached: Could not find any running Ray"):
        ray_runs.Ray("auto")
