import assert from "node:assert/strict";
import { test } from "node:test";

import { asInput, asProbabilities, difference, labelsOf, order } from "../../keras_vision/page_files/scores.mjs";

const model = { inputType: "float32", inputTables: [], outputType: "uint8", outputTable: null, endsIn: "SOFTMAX" };
const ramp = (scale) => Array.from({ length: 256 }, (_, value) => value * scale);

test("pixels go through the table of their channel", () => {
  const image = { width: 1, height: 1, channels: 3, data: Uint8Array.of(10, 20, 30) };
  const tables = [ramp(1), ramp(2), ramp(0.5)];
  assert.deepEqual([...asInput(image, { ...model, inputTables: tables })], [10, 40, 15]);
  assert.deepEqual([...asInput(image, { ...model, inputTables: [ramp(2)] })], [20, 40, 60]);
});

test("bytes become the scores of their table, signed ones too", () => {
  const table = ramp(1 / 256);
  assert.deepEqual(asProbabilities(Uint8Array.of(64, 192), { ...model, outputTable: table }), [0.25, 0.75]);
  const signed = { ...model, outputType: "int8", outputTable: table };
  assert.deepEqual(asProbabilities(Int8Array.of(-128, 127), signed), [0, 255 / 256]);
});

test("logits become probabilities, and one score is the second class's", () => {
  assert.deepEqual(asProbabilities(Float32Array.of(1000, 1000), { ...model, endsIn: null }), [0.5, 0.5]);
  assert.deepEqual(asProbabilities(Float32Array.of(0), { ...model, endsIn: null }), [0.5, 0.5]);
  assert.deepEqual(asProbabilities(Float32Array.of(0.25), { ...model, endsIn: "LOGISTIC" }), [0.75, 0.25]);
});

test("of equal probabilities the first class is predicted", () => {
  assert.deepEqual(order([0.2, 0.4, 0.4]), [1, 2, 0]);
  assert.deepEqual(labelsOf([0.2, 0.4, 0.4], null), [1]);
});

test("a label is given from its own threshold on, and an image can have none", () => {
  assert.deepEqual(labelsOf([0.3, 0.9, 0.3], [0.3, 0.5, 0.4]), [1, 0]);
  assert.deepEqual(labelsOf([0.1, 0.1, 0.1], [0.3, 0.5, 0.4]), []);
});

test("two answers differ in their labels or only in numbers", () => {
  assert.deepEqual(difference([0.5, 0.5], [0.25, 0.75], null), { labels: true, largest: 0.25, where: 0 });
  assert.equal(difference([0.5, 0.5], [0.625, 0.375], null).labels, false);
});
