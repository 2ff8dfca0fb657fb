"""The C array of an integer file: a C compiler reads the same bytes, names and numbers from it."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from keras_vision import quantization
from keras_vision.quantization import c_array, exporting
from keras_vision.recipe import InputError

FILES = Path(__file__).parents[2] / "tflite_exports" / "derma-best"
NAMES = ("plain", 'quote " and \\', "what??/", "grün 叶", "two\nlines */", "12", "\x01f")
PROGRAM = """
#include <stdint.h>
#include <stdio.h>
#include "model.h"
int main(void) {
  fprintf(stderr, "%d %d %d %d %.9g %d %.9g %d\\n", (int)((uintptr_t)model_data % 16), MODEL_INPUT_HEIGHT,
          MODEL_INPUT_CHANNELS, (int)sizeof(MODEL_INPUT_TYPE), MODEL_INPUT_SCALE, MODEL_INPUT_ZERO_POINT,
          MODEL_OUTPUT_SCALE, MODEL_INPUT_PIXEL_OFFSET);
  for (int k = 0; k < MODEL_NUM_CLASSES; k++) { fputs(model_class_names[k], stderr); fputc(0, stderr); }
  fwrite(model_data, 1, MODEL_LENGTH, stdout);
  return 0;
}
"""


def written(folder, content):
    metadata = quantization.Metadata("it", "", "1", "unknown", NAMES)
    return exporting.export_c_array(content, folder, metadata)


@pytest.mark.parametrize("language", ["c11", "c++17"])
def test_a_compiler_reads_the_same_bytes_and_names(tmp_path, language):
    compiler = shutil.which("cc" if language == "c11" else "c++")
    if compiler is None:
        pytest.skip("needs a C compiler")
    content = (FILES / "int8.tflite").read_bytes()
    found = written(tmp_path, content)
    assert found.bytes == sum((tmp_path / name).stat().st_size for name in ("model.c", "model.h"))
    (tmp_path / "main.c").write_text(PROGRAM)
    kind = "c" if language == "c11" else "c++"
    flags = [f"-std={language}", "-Wall", "-Wextra", "-Werror", "-x", kind, "main.c", "model.c", "-o", "program"]
    subprocess.run([compiler, *flags], cwd=tmp_path, check=True)
    run = subprocess.run([tmp_path / "program"], capture_output=True, check=True)
    assert run.stdout == content
    numbers, _, names = run.stderr.partition(b"\n")
    assert tuple(name.decode() for name in names.split(b"\0")[:-1]) == NAMES
    aligned, height, channels, size, scale, zero_point, step, offset = map(float, numbers.split())
    details = quantization.Runner(content).interpreter.get_input_details()[0]
    assert (aligned, height, channels, size, offset) == (0, 28, 3, 1, 0)
    np.testing.assert_allclose((scale, zero_point), details["quantization"], rtol=1e-7)
    assert step == 1 / 256


def test_a_float_file_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="not full-integer"):
        written(tmp_path, (FILES / "float32.tflite").read_bytes())
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_a_source_lost_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(c_array, "PER_LINE", 16)
    content = bytes(range(256))
    source = c_array.SOURCE.format(data="\n".join(c_array._lines(content)), names="")
    assert c_array.bytes_of(source) == content
    assert c_array.bytes_of(source.replace("0x07, ", "")) != content
