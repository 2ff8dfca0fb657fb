import assert from "node:assert/strict";
import { test } from "node:test";

import { fit, roundHalfEven } from "../../keras_vision/page_files/resize.mjs";

const image = (width, height, data) => ({ width, height, channels: data.length / width / height, data: Uint8Array.from(data) });

test("halves round to the even number, as in Python and OpenCV", () => {
  assert.deepEqual([0.5, 1.5, 2.5, 2.6].map(roundHalfEven), [0, 2, 2, 3]);
});

test("an image of the wanted size stays as it is", () => {
  assert.deepEqual([...fit(image(2, 1, [3, 200]), 1, 2, "stretch").data], [3, 200]);
});

test("a block of three pixels becomes its mean", () => {
  assert.deepEqual([...fit(image(6, 1, [0, 3, 9, 90, 90, 93]), 1, 2, "stretch").data], [4, 91]);
});

test("a pixel that two results share is divided between them", () => {
  // (10 + 20 + 30 / 2) / 2.5 and (30 / 2 + 40 + 50) / 2.5.
  assert.deepEqual([...fit(image(5, 1, [10, 20, 30, 40, 50]), 1, 2, "stretch").data], [18, 42]);
});

test("cropping keeps the middle, padding adds black bars", () => {
  const wide = image(4, 2, [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.deepEqual([...fit(wide, 2, 2, "crop").data], [2, 3, 6, 7]);
  const padded = fit(wide, 4, 4, "pad").data;
  assert.deepEqual([...padded], [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0]);
});
