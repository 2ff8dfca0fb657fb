import assert from "node:assert/strict";
import { test } from "node:test";

import { covered, meanColor, occlusion, places } from "../../keras_vision/page_files/occlusion.mjs";

const white = (size) => ({ width: size, height: size, channels: 1, data: new Uint8Array(size * size) });

test("squares cover every pixel, even of one pixel", () => {
  for (const [height, width] of [[1, 1], [28, 28], [5, 64], [300, 200]]) {
    const seen = new Set();
    for (const { top, left, side } of places(height, width)) {
      for (let y = top; y < Math.min(top + side, height); y++) {
        for (let x = left; x < Math.min(left + side, width); x++) seen.add(y * width + x);
      }
    }
    assert.equal(seen.size, height * width);
  }
});

test("a square gets the image's mean colour, and the image stays as it was", () => {
  const image = { width: 2, height: 1, channels: 3, data: Uint8Array.of(0, 10, 20, 100, 30, 40) };
  assert.deepEqual(meanColor(image), [50, 20, 30]);
  assert.deepEqual([...covered(image, { top: 0, left: 1, side: 1 }, [50, 20, 30]).data], [0, 10, 20, 50, 20, 30]);
  assert.equal(image.data[3], 100);
});

test("the heat is where the class is", async () => {
  const image = white(20);
  image.data[4 * 20 + 15] = 255;
  // A class that is one bright pixel.
  const run = async ({ data }) => [1, data[4 * 20 + 15] / 255];
  const { before, lowest, heatmap } = await occlusion(image, 1, run);
  assert.equal(before, 1);
  assert.ok(lowest < 0.1);
  assert.equal(heatmap[4 * 20 + 15], 1);
  assert.equal(heatmap[19 * 20], 0);
});

test("where nothing lowers the class, the heatmap is zero", async () => {
  const { heatmap } = await occlusion(white(8), 0, async () => [0.5]);
  assert.ok(heatmap.every((value) => value === 0));
});
