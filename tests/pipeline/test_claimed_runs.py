"""Work that several processes share: claimed, done once, taken over from the killed. Stand-ins train nothing."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

from keras_vision.pipeline import claimed_runs
from keras_vision.pipeline.claimed_runs import Job, State, Threads, attempt, work

# A training by its folder: notes each session, and finishes. Where there is a pipe `begun`, its first session says that
# it has begun, and waits for a word from the pipe `go`.
TRAINING = """
import os, sys
from pathlib import Path
folder = Path(sys.argv[1])
with open(folder / "sessions", "a") as file:
    print(os.getpid(), file=file)
first = len((folder / "sessions").read_text().split()) == 1
if first and (folder / "begun").exists():
    (folder / "begun").write_text(str(os.getpid()))
    (folder / "go").read_text()
(folder / "report.json").write_text("{}")
"""
CLAIMER = """
import json, sys
from pathlib import Path
from keras_vision.pipeline import claimed_runs
claimed_runs.POLL = claimed_runs.TICK = 0.02
jobs = [claimed_runs.Job(name, Path(finished), tuple(command), Path(claim), Path(log))
        for name, finished, command, claim, log in json.loads(sys.argv[1])]
outcomes, _ = claimed_runs.work(jobs, claimed_runs.Threads(1), lambda job, outcome: None)
print(json.dumps({name: outcome.state.value for name, outcome in outcomes.items()}))
"""


def make_job(folder, name="a", *command):
    (folder / name).mkdir()
    command = command or ("-S", "-c", TRAINING, str(folder / name))
    return Job(name, folder / name / "report.json", command, folder / "claims" / name, folder / "logs" / f"{name}.log")


def blocked_job(folder, name="a"):
    """A job whose first session waits."""
    job = make_job(folder, name)
    for pipe in ("begun", "go"):
        os.mkfifo(folder / name / pipe)
    return job


def claimer(jobs):
    listed = [(job.name, str(job.finished), job.command, str(job.claim), str(job.log)) for job in jobs]
    return subprocess.Popen([sys.executable, "-c", CLAIMER, json.dumps(listed)], stdout=subprocess.PIPE, text=True)


def answer(process):
    """How each job ended for a claimer, its last line."""
    return json.loads(process.communicate()[0].splitlines()[-1])


def sessions(folder, name):
    return len((folder / name / "sessions").read_text().split())


def test_two_claimers_share_the_work_and_what_a_killed_machine_leaves_is_done(tmp_path):
    jobs = [blocked_job(tmp_path, "a"), *(make_job(tmp_path, name) for name in "bcdef")]
    first = claimer(jobs)
    training = int((tmp_path / "a" / "begun").read_text())  # Blocks until it has begun.
    second = claimer(jobs)
    while not (tmp_path / "f" / "report.json").exists():  # All others are done by the second.
        assert second.poll() is None
    assert sessions(tmp_path, "a") == 1
    for pid in (first.pid, training):
        os.kill(pid, signal.SIGKILL)
    assert answer(second) == dict.fromkeys("abcdef", "done")
    first.communicate()
    assert {name: sessions(tmp_path, name) for name in "abcdef"} == {"a": 2, **dict.fromkeys("bcdef", 1)}


def test_the_training_of_a_killed_claimer_keeps_its_claim(tmp_path):
    job = blocked_job(tmp_path)
    first = claimer([job])
    (tmp_path / "a" / "begun").read_text()
    first.kill()
    first.communicate()
    outcome = attempt(job)
    assert outcome.state is State.BUSY
    assert f"process {first.pid}" in outcome.reason
    second = claimer([job])
    (tmp_path / "a" / "go").write_text("on")
    assert answer(second) == {"a": "finished before"}
    assert sessions(tmp_path, "a") == 1


def test_a_claim_that_is_free_again_is_not_done_again(tmp_path, monkeypatch):
    """Another process ends between the first look and the claim."""
    job = make_job(tmp_path)
    answers = iter([False, True])
    monkeypatch.setattr(Job, "is_finished", lambda self: next(answers))
    assert attempt(job).state is State.FINISHED
    assert not (tmp_path / "a" / "sessions").exists()


@pytest.mark.parametrize(
    ("code", "state", "reason"),
    [
        ("import sys; print('error: no such data.', file=sys.stderr); sys.exit(2)", State.FAILED, "no such data"),
        ("raise ValueError('too large')", State.FAILED, "ValueError: too large"),
        ("raise SystemExit(3)", State.FAILED, "exit status 3"),
        ("pass", State.FAILED, "ended without"),
        ("import os; os.kill(os.getpid(), 9)", State.KILLED, "killed by SIGKILL"),
        ("raise SystemExit(143)", State.STOPPED, "the same command goes on"),
    ],
)
def test_a_failure_has_its_reason_and_the_others_go_on(code, state, reason, tmp_path):
    jobs = [make_job(tmp_path, "a", "-S", "-c", code), make_job(tmp_path, "b")]
    told = []
    outcomes, stopped = work(
        jobs, Threads(1, told.append), lambda job, outcome: told.append(job.name), tell=told.append
    )
    assert outcomes["a"].state is state
    assert reason in outcomes["a"].reason
    assert outcomes["b"].state is State.DONE
    assert stopped is None
    assert {"a", "b"} <= set(told)


def test_a_reason_is_of_the_last_session(tmp_path):
    job = make_job(tmp_path, "a", "-S", "-c", "raise SystemExit(3)")
    job.log.parent.mkdir()
    job.log.write_text("error: of before\n")
    assert attempt(job).reason == "exit status 3"


def test_a_signal_reaches_what_is_trained_and_nothing_more_is_begun(tmp_path):
    jobs = [make_job(tmp_path, "a"), blocked_job(tmp_path, "b"), make_job(tmp_path, "c")]

    def told(job, outcome):
        if job.name == "a":
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    outcomes, stopped = work(jobs, Threads(1, lambda text: None), told, tell=lambda text: None)
    assert stopped == signal.SIGTERM
    assert [outcomes[name].state for name in "abc"] == [State.DONE, State.STOPPED, State.STOPPED]
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_is_trained_ends_with_an_error_of_the_claimer(tmp_path):
    """As when its terminal is gone, to which it writes."""

    def told(job, outcome):
        if job.name == "a":
            raise BrokenPipeError

    workers = Threads(1, lambda text: None)
    with pytest.raises(BrokenPipeError):
        work([make_job(tmp_path, "a"), blocked_job(tmp_path, "b"), make_job(tmp_path, "c")], workers, told)
    assert workers.submit(make_job(tmp_path, "d")).result().state is State.STOPPED


def test_without_waiting_claimed_jobs_are_left_to_others(tmp_path):
    from keras_vision.files.lock import Lock

    job = make_job(tmp_path)
    (tmp_path / "claims").mkdir()
    lock = Lock(job.claim)
    assert lock.acquire()
    outcomes, _ = work([job], Threads(1), lambda job, outcome: pytest.fail("not ours"), wait=False)
    lock.release()
    assert outcomes["a"].state is State.BUSY


def test_a_lost_worker_is_a_failure_with_its_words():
    class Lost:
        def submit(self, job):
            future = Future()
            future.set_exception(RuntimeError("Traceback\nthe node died"))
            return future

    told = []
    outcomes, _ = work(
        [Job("a", Path("x"), (), Path("x"), Path("x"))], Lost(), lambda job, outcome: told.append(job.name)
    )
    assert outcomes["a"] == claimed_runs.Outcome(State.FAILED, "RuntimeError: the node died")
    assert told == ["a"]


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "claims").write_text("a file")
    assert "cannot write to" in attempt(make_job(tmp_path)).reason


def test_a_file_system_without_locks_is_no_claim_of_others(tmp_path, monkeypatch):
    import errno

    from keras_vision.files import lock

    def refuse(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with pytest.raises(OSError, match=os.strerror(errno.ENOLCK)):
        lock.Lock(tmp_path / "lock").acquire()
