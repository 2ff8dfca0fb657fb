// Decodes and resizes as the page does, for tests/page/test_same_pixels.py: a list of tasks on standard input as JSON,
// pixels in base64 on standard output.

import { readFileSync } from "node:fs";

import { decodePng } from "../keras_vision/page_files/png.mjs";
import { upright } from "../keras_vision/page_files/pixels.mjs";
import { fit } from "../keras_vision/page_files/resize.mjs";

const answers = [];
for (const { png, gray, range, height, width, resize } of JSON.parse(readFileSync(0, "utf8"))) {
  const image = upright(await decodePng(new Uint8Array(Buffer.from(png, "base64"))), { gray, range });
  answers.push(Buffer.from(fit(image, height, width, resize).data).toString("base64"));
}
console.log(JSON.stringify(answers));
