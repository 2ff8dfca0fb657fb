import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateSync } from "node:zlib";

import { statedSize } from "../../keras_vision/page_files/decode.mjs";
import { turned, upright } from "../../keras_vision/page_files/pixels.mjs";
import { decodePng, orientationOf } from "../../keras_vision/page_files/png.mjs";

function chunk(name, content) {
  const size = Buffer.alloc(4);
  size.writeUInt32BE(content.length);
  return Buffer.concat([size, Buffer.from(name), content, Buffer.alloc(4)]);
}

function png(width, height, depth, kind, rows, ...more) {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([depth, kind, 0, 0, 0], 8);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]);
  const data = chunk("IDAT", deflateSync(Buffer.from(rows)));
  return new Uint8Array(Buffer.concat([signature, chunk("IHDR", header), ...more, data, chunk("IEND", Buffer.alloc(0))]));
}

test("a row is the difference from the pixel on its left", async () => {
  const { data, channels } = await decodePng(png(3, 1, 8, 0, [1, 10, 1, 255]));
  assert.equal(channels, 1);
  assert.deepEqual([...data], [10, 11, 10]);
});

test("transparent parts become white", async () => {
  const image = await decodePng(png(2, 1, 8, 6, [0, 10, 20, 30, 255, 0, 0, 0, 0]));
  assert.deepEqual([...upright(image).data], [10, 20, 30, 255, 255, 255]);
});

test("16 bits lose their low byte, or are scaled from their range", async () => {
  const file = png(2, 1, 16, 0, [0, 0x12, 0x34, 0x0f, 0xff]);
  assert.deepEqual([...upright(await decodePng(file), { gray: true }).data], [0x12, 0x0f]);
  assert.deepEqual([...upright(await decodePng(file), { gray: true, range: [0, 4095] }).data], [255, 255]);
});

test("a file that ends too early is refused, and so is one without a palette", async () => {
  await assert.rejects(decodePng(png(3, 1, 8, 0, [1, 10, 1, 255]).subarray(0, 50)), /ends too early/);
  await assert.rejects(decodePng(png(9, 9, 8, 0, [0, 1])), /ends too early/);
  await assert.rejects(decodePng(png(1, 1, 8, 3, [0, 0])), /no palette/);
});

test("EXIF's eight orientations", () => {
  const image = { width: 2, height: 1, channels: 1, data: Uint8Array.of(1, 2) };
  const ways = [1, 2, 3, 4, 5, 6, 7, 8].map((orientation) => turned(image, orientation));
  assert.deepEqual(ways.map(({ data }) => [...data].join("")), ["12", "21", "21", "12", "12", "12", "21", "21"]);
  assert.deepEqual(ways.map(({ width }) => width), [2, 2, 2, 2, 1, 1, 1, 1]);
  assert.equal(orientationOf(Uint8Array.of(0x49, 0x49, 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0)), 6);
  assert.equal(orientationOf(Uint8Array.of(1, 2)), 1);
});

test("sizes are read from the first bytes", () => {
  const jpeg = Uint8Array.of(0xff, 0xd8, 0xff, 0xe0, 0, 4, 0, 0, 0xff, 0xc0, 0, 17, 8, 1, 0, 2, 0, ...new Array(20).fill(0));
  assert.deepEqual(statedSize(jpeg), [512, 256]);
  assert.deepEqual(statedSize(png(20000, 10000, 8, 0, [0])), [20000, 10000]);
  assert.equal(statedSize(new Uint8Array(40)), null);
});
