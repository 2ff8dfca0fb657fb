// LiteRT in this page: unpacks it and the models, runs them one image at a time.

import { asInput, asProbabilities, probe } from "./scores.mjs";

// The smallest module with SIMD, (module (func (result v128) i32.const 0 i8x16.splat i8x16.popcnt)):
// https://webassembly.github.io/spec/core/binary/
const SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
];
// Of a probability of a float file: processors add in different orders. With weights of 8 bits only, a value that is
// rounded the other way was measured to change a probability by up to .00023.
const FLOAT_TOLERANCE = 2e-3;

// Why this browser cannot run the page, a sentence; null where it can.
export function missing(scope = globalThis) {
  const wasm = scope.WebAssembly;
  if (typeof wasm !== "object" || !wasm.validate(new Uint8Array(SIMD))) {
    return "This browser has no WebAssembly with SIMD, which the classifier needs. Try a current Chrome, Edge, Firefox or Safari.";
  }
  if (typeof scope.DecompressionStream !== "function") {
    return "This browser cannot unpack the classifier. Try a current Chrome, Edge, Firefox or Safari.";
  }
  return null;
}

// The bytes of a gzip file in base64 text.
export async function unpacked(text) {
  const binary = atob(text.trim());
  const bytes = new Uint8Array(binary.length);
  for (let place = 0; place < bytes.length; place++) bytes[place] = binary.charCodeAt(place);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// A function from an image of the model's size to its probabilities.
export async function runnerOf(lite, content, model) {
  const compiled = await lite.loadAndCompile(content, { accelerator: "wasm" });
  const shape = [1, model.height, model.width, model.channels];
  return async (image) => {
    const input = new lite.Tensor(asInput(image, model), shape);
    try {
      const outputs = await compiled.run([input]);
      const probabilities = asProbabilities(await outputs[0].data(), model);
      outputs.forEach((output) => output.delete());
      return probabilities;
    } finally {
      input.delete();
    }
  };
}

// How the scores of drawn images differ from those that LiteRT gave in Python, a sentence; null where they do not.
export async function disagreement(run, model) {
  let largest = 0;
  for (const [number, expected] of model.probes.entries()) {
    const found = await run(probe(number, model));
    found.forEach((value, label) => (largest = Math.max(largest, Math.abs(value - expected[label]))));
  }
  const exact = model.outputTable !== null && model.endsIn !== null;
  if (largest <= (exact ? 0 : FLOAT_TOLERANCE)) return null;
  return `${model.name}: this browser's scores differ from LiteRT's by up to ${largest.toPrecision(2)}. Do not rely on them.`;
}
