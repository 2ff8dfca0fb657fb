"""LiteRT for browsers: fetched with npm when it is first needed, checked, kept in Keras's home.

The build without relaxed SIMD is taken, since Safari refuses the other.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from keras_vision.files import outside
from keras_vision.files.download import keras_home
from keras_vision.recipe import InputError, first_line

PACKAGE, VERSION = "@litertjs/core", "2.5.3"
ARCHIVE = f"litertjs-core-{VERSION}.tgz"
# The `integrity` of the archive, as npm view states it.
SHA512 = "PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ=="
MAX_BYTES = 16 * 2**20  # The archive has 11.8 MB.
CORE = "package/dist/index.js"
GLUE, WASM = (f"package/wasm/litert_wasm_compat_internal.{ending}" for ending in ("js", "wasm"))
# Twice as much as each has.
LIMITS = {CORE: 2**17, GLUE: 2**19, WASM: 20 * 2**20}
SECONDS = 300


@dataclass(frozen=True)
class BrowserRuntime:
    """The parts of LiteRT for browsers.

    Attributes:
        core: Its JavaScript module.
        glue: The script that starts the WebAssembly file.
        wasm: The WebAssembly file.
    """

    core: str
    glue: str
    wasm: bytes


def load(folder: str | os.PathLike | None = None) -> BrowserRuntime:
    """The runtime: from a folder with its archive, from Keras's home, or else fetched with npm.

    Raises:
        InputError: If it is nowhere and cannot be fetched, or the archive is another.
    """
    home = keras_home("keras_vision") / "browser"
    places = [Path(os.path.expanduser(folder))] if folder is not None else [home]
    path = next((place / ARCHIVE for place in places if (place / ARCHIVE).exists()), None)
    if path is None and folder is not None:
        raise InputError(f"--runtime {folder} has no {ARCHIVE}, which npm pack {PACKAGE}@{VERSION} fetches.")
    return _read(path or _fetch(home))


def in_cache() -> bool:
    """Whether it needs no network."""
    return (keras_home("keras_vision") / "browser" / ARCHIVE).is_file()


def _read(path):
    content = outside.read_bytes(path, MAX_BYTES)
    actual = base64.b64encode(hashlib.sha512(content).digest()).decode("ascii")
    if actual != SHA512:
        raise InputError(f"{path} is not {PACKAGE} {VERSION}: its SHA-512 is {actual}. Delete it to fetch it again.")
    found = {}
    with tarfile.open(path, "r:gz") as archive:
        # Read, never unpacked: no member can leave the archive.
        for member in archive:
            if member.name in LIMITS and member.isfile() and member.size <= LIMITS[member.name]:
                file = archive.extractfile(member)
                found[member.name] = b"" if file is None else file.read()
    missing = LIMITS.keys() - found.keys()
    if missing:
        raise InputError(f"{path} has no {', '.join(sorted(missing))}.")
    return BrowserRuntime(found[CORE].decode(), found[GLUE].decode(), found[WASM])


def _fetch(home):
    """Has npm fetch the archive, from whichever registry it is set to, into Keras's home."""
    ways_out = (
        f"Either fetch it where there is a network, with npm pack {PACKAGE}@{VERSION}, and pass --runtime FOLDER with "
        f"the folder that {ARCHIVE} is in; or copy that file to {home}"
    )
    npm = shutil.which("npm")
    if npm is None:
        raise InputError(f"{PACKAGE} {VERSION}, which runs the classifier in a browser, needs npm once. {ways_out}.")
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as partial:
            print(f"Fetching {PACKAGE} {VERSION} with npm (12 MB, once)...", flush=True)
            command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--silent"]
            done = subprocess.run(
                command, cwd=partial, capture_output=True, text=True, timeout=SECONDS, check=False, errors="replace"
            )
            if done.returncode or not (Path(partial) / ARCHIVE).is_file():
                raise InputError(f"npm cannot fetch {PACKAGE} {VERSION} ({_reason(done)}). {ways_out}.")
            _read(Path(partial) / ARCHIVE)
            os.replace(Path(partial) / ARCHIVE, home / ARCHIVE)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"npm did not fetch {PACKAGE} {VERSION} in {SECONDS} seconds. {ways_out}.") from error
    except OSError as error:
        raise InputError(f"{PACKAGE} {VERSION} cannot be kept in {home}: {error.strerror or error}.") from error
    return home / ARCHIVE


def _reason(done):
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return first_line(lines[0]) if lines else f"exit status {done.returncode}"
