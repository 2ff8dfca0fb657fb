"""Do the wheel and the sdist work outside the checkout, and what does each list in requirements/ cost?

Run:     python benchmarks/install.py [--quick]
Builds both, the wheel from the sdist. Then, for each list: a fresh environment in a temporary folder, `pip install
--no-deps WHEEL -r requirements/NAME.txt` without pip's cache, and a command in it from another folder: `derma --augment
--data synthetic --tflite --smoke`, or `predict` with a .tflite file. `full` is `pip install WHEEL`. Seconds of an
install are mostly the network's; CPU seconds, of all threads together, depend less on what else runs. Megabytes are
those of the environment, pip among them. --quick: only `predict`, from the wheel and then from the sdist. Needs an
index of packages. Writes results/install.json.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import record

ROOT = Path(__file__).parents[1]
TRAIN = ("derma", "--augment", "--data", "synthetic", "--tflite", "--smoke", "--overwrite", "--out", "run")
PREDICT = ("predict", "int8.tflite", "picture.png", "--json")
NAMES = ("predict", "jax", "torch", "tensorflow", "full")
BINARIES = "Scripts" if os.name == "nt" else "bin"


def call(*command, cwd):
    """Seconds of a command, its CPU seconds, and what it printed; ends this program with its output if it fails."""
    hidden = ("PYTHONPATH", "KERAS_BACKEND", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    started, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env={**environment, "KERAS_HOME": str(cwd)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}\n{done.stderr}")
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, used, done.stdout


def environment(folder):
    """A fresh environment; the folder of its programs."""
    call(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    return folder / BINARIES


def build(work):
    """The sdist, and the wheel that is built from it."""
    programs = environment(work / "builder")
    call(programs / "python", "-m", "pip", "install", "--quiet", "build", cwd=work)
    call(programs / "python", "-m", "build", "--outdir", work / "dist", ROOT, cwd=work)
    shutil.rmtree(work / "builder")
    (sdist,), (wheel,) = (list((work / "dist").glob(pattern)) for pattern in ("*.tar.gz", "*.whl"))
    return sdist, wheel


def install(programs, package, name, work, *more):
    """Seconds of installing a wheel or an sdist with what a list says, or with all that it declares."""
    pip = (programs / "python", "-m", "pip", "install", "--quiet", "--no-cache-dir", *more)
    if name == "full":
        return call(*pip, "-c", ROOT / "constraints.txt", package, cwd=work)[0]
    return call(*pip, "--no-deps", package, "-r", ROOT / "requirements" / f"{name}.txt", cwd=work)[0]


def use(programs, name, work):
    """Seconds and CPU seconds of the command that the environment is for, and what it left."""
    code = "import keras_vision; print(keras_vision.__file__)"
    place = Path(call(programs / "python", "-c", code, cwd=work)[2].strip())
    if ROOT in place.parents:
        sys.exit(f"{place} is the checkout's.")
    command = (programs / "keras-vision", *(PREDICT if name == "predict" else TRAIN))
    seconds, used, output = call(*command, cwd=work)
    if name == "predict":
        return seconds, used, json.loads(output)[0]["label"]
    record_of_run = json.loads((work / "run" / "report.json").read_text("utf-8"))
    files = ", ".join(row["scheme"] for row in record_of_run["tflite"])
    return seconds, used, f"{record_of_run['environment']['backend']}: {files}"


def megabytes(folder):
    """Size of a folder's files; a link counts nothing."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_symlink()) / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="only the environment of `predict`")
    options = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shutil.copy(ROOT / "tflite_exports" / "derma-best" / "int8.tflite", work)
        shutil.copy(ROOT / "docs" / "report.png", work / "picture.png")
        sdist, wheel = build(work)
        sizes = {"wheel": wheel.stat().st_size, "sdist": sdist.stat().st_size}
        print(f"wheel {sizes['wheel'] / 1e6:.2f} MB, sdist {sizes['sdist'] / 1e6:.2f} MB", flush=True)
        print(f"{'list':<12}{'install, s':>12}{'MB':>8}{'run, s':>8}{'CPU, s':>8}  result", flush=True)
        for name in NAMES[:1] if options.quick else NAMES:
            programs = environment(work / name)
            seconds = install(programs, wheel, name, work)
            ran, used, result = use(programs, name, work)
            if name == "predict":
                install(programs, sdist, name, work, "--force-reinstall")
                if use(programs, name, work)[2] != result:
                    sys.exit("The sdist and the wheel predict different classes.")
            size = megabytes(work / name)
            print(f"{name:<12}{seconds:>12.0f}{size:>8.0f}{ran:>8.1f}{used:>8.1f}  {result}", flush=True)
            rows[name] = {"install_seconds": round(seconds, 1), "megabytes": round(size)}
            rows[name] |= {"run_seconds": round(ran, 1), "run_cpu_seconds": round(used, 1), "result": result}
            shutil.rmtree(work / name)
    record.finish("install_quick" if options.quick else "install", rows, sizes)


if __name__ == "__main__":
    main()
