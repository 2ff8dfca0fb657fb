"""A process that predicts shards, one after another. `processes` starts it.

Lines of JSON come and go: first the plan, then shards; for each the number of images that are done, and a receipt. It
is a process of its own because native code decodes the images: whatever one of them does to it, the others go on.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
from dataclasses import asdict

REPORT_SECONDS = 0.2


def main() -> None:
    """Serves until standard input ends."""
    # Ctrl-C goes to all processes of a terminal; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever native code writes to standard output must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    os.dup2(2, 1)
    orders, busy = queue.Queue(), threading.Event()
    threading.Thread(target=_listen, args=(orders, busy), daemon=True).start()
    try:
        _serve(orders, busy, lambda **message: answers.write(json.dumps(message) + "\n"))
    except BrokenPipeError:  # The parent has gone.
        os._exit(1)
    except Exception as error:
        import traceback

        from keras_vision.recipe import InputError

        text = str(error) if isinstance(error, InputError) else ""
        answers.write(json.dumps({"error": text, "traceback": traceback.format_exc()}) + "\n")
    answers.flush()
    os._exit(0)  # The listening thread may still wait.


def _listen(orders, busy):
    for line in sys.stdin.buffer:
        busy.set()
        orders.put(json.loads(line))
    if busy.is_set():  # The parent has ended in the midst of a shard: nobody waits for it.
        os._exit(1)
    orders.put(None)


def _serve(orders, busy, answer):
    from keras_vision.many_images.listing import Shard
    from keras_vision.many_images.plan import Plan
    from keras_vision.many_images.predictor import Predictor
    from keras_vision.many_images.shards import write_shard
    from keras_vision.quantization import runtime
    from keras_vision.recipe import InputError

    first = orders.get()
    plan = Plan(**first["plan"])
    runtime.trust(plan.identity["model"])
    predictor = Predictor(**plan.model, root=plan.root, decoders=first["decoders"])
    if not predictor.identity.items() <= plan.identity.items():
        raise InputError(f"{plan.model['model']} changed meanwhile. The shards that are there are of the file before.")
    while (order := orders.get()) is not None:
        last = 0.0

        def report(done):
            nonlocal last
            if time.monotonic() - last > REPORT_SECONDS:
                answer(done=done)
                last = time.monotonic()

        receipt = write_shard(plan, predictor, Shard(**order), report)
        busy.clear()
        answer(receipt=asdict(receipt))


if __name__ == "__main__":
    main()
