import assert from "node:assert/strict";
import { test } from "node:test";

import { answerText, csv, differencesText, heatColor, milliseconds, percent } from "../../keras_vision/page_files/view.mjs";

const models = [{ name: "float32", unsureBelow: null }, { name: "int8", unsureBelow: null }];
const page = { classNames: ["cat", 'big "dog"'], thresholds: null, models };
const results = [
  { name: "=1+2.png", answers: [{ probabilities: [0.25, 0.75] }, { probabilities: [0.75, 0.25] }] },
  { name: "b.png", answers: [{ probabilities: [0.5, 0.5] }, null] },
];

test("a probability is never rounded to impossible or certain", () => {
  const plain = (value) => percent(value).replaceAll("\u00a0", " ");
  assert.deepEqual([0, 0.0004, 0.5, 0.9999, 1].map(plain), ["0.0 %", "< 0.1 %", "50.0 %", "> 99.9 %", "100.0 %"]);
  assert.deepEqual([0.01, 1.26, 31.4].map(milliseconds), ["under 0.1 ms", "1.3 ms", "31 ms"]);
});

test("answers become CSV that a spreadsheet does not run", () => {
  assert.deepEqual(csv(results, page).split("\r\n"), [
    'file,model,label,cat,"big ""dog"""',
    `'=1+2.png,float32,"big ""dog""",0.25,0.75`,
    "'=1+2.png,int8,cat,0.75,0.25",
    "b.png,float32,cat,0.5,0.5",
    "",
  ]);
});

test("a class below its file's own threshold is unsure, at it not", () => {
  const careful = { name: "int8", unsureBelow: 0.75 };
  const both = { ...page, models: [models[0], careful] };
  assert.equal(answerText([0.7, 0.3], models[0], both), "cat");
  assert.equal(answerText([0.7, 0.3], careful, both), "unsure, perhaps cat");
  assert.equal(answerText([0.25, 0.75], careful, both), 'big "dog"');
  const answers = [{ probabilities: [0.7, 0.3] }, { probabilities: [0.7, 0.3] }];
  assert.deepEqual(csv([{ name: "a.png", answers }], both).split("\r\n").slice(0, 3), [
    'file,model,label,unsure,cat,"big ""dog"""',
    "a.png,float32,cat,no,0.7,0.3",
    "a.png,int8,cat,yes,0.7,0.3",
  ]);
});

test("where two files differ is counted on the pictures that both answered", () => {
  const text = "float32 and int8: another class on 1 of 1 picture; the largest difference of a probability is 0.500.";
  assert.equal(differencesText(results, 0, 1, page), text);
});

test("heat goes from blue to red", () => {
  assert.deepEqual(heatColor(0), [40, 30, 90]);
  assert.deepEqual(heatColor(1), [215, 40, 30]);
  assert.deepEqual(heatColor(7), heatColor(1));
});
