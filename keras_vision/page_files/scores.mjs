// Between an image and a model's bytes: what goes in, what comes out, and what that says.
//
// A model is what `pipeline/browser_page.py` writes of it. Its tables, made by the package itself, hold the input's value
// for each of the 256 pixel values, and the score of each byte of an 8-bit output.

const ARRAYS = { float32: Float32Array, uint8: Uint8Array, int8: Int8Array };

// An image of the model's size as the values that the model takes.
export function asInput(image, model) {
  const values = new ARRAYS[model.inputType](image.data.length);
  const tables = model.inputTables;
  for (let place = 0; place < values.length; place++) {
    values[place] = tables[tables.length === 1 ? 0 : place % image.channels][image.data[place]];
  }
  return values;
}

// A model's output as probabilities: as many as there are class names.
export function asProbabilities(output, model) {
  const lowest = model.outputType === "int8" ? -128 : 0;
  let scores = Array.from(output, (value) => (model.outputTable === null ? value : model.outputTable[value - lowest]));
  if (model.endsIn === null) scores = scores.length > 1 ? softmax(scores) : scores.map((value) => 1 / (1 + Math.exp(-value)));
  return scores.length > 1 ? scores : [1 - scores[0], scores[0]];
}

function softmax(scores) {
  const most = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - most));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

// Classes from the most to the least probable; of equals the first comes first.
export function order(probabilities) {
  return probabilities.map((_, label) => label).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
}

// The predicted class, or every label that reaches its threshold.
export function labelsOf(probabilities, thresholds) {
  const ranked = order(probabilities);
  return thresholds === null ? [ranked[0]] : ranked.filter((label) => probabilities[label] >= thresholds[label]);
}

// Whether the predicted class is too improbable for this model to be an answer.
export function isUnsure(probabilities, model) {
  return model.unsureBelow !== null && Math.max(...probabilities) < model.unsureBelow;
}

// Where the answers of two models differ: whether in their labels, and the largest difference of a probability.
export function difference(one, other, thresholds) {
  const [mine, yours] = [one, other].map((values) => [...labelsOf(values, thresholds)].sort().join());
  const gaps = one.map((value, label) => Math.abs(value - other[label]));
  return { labels: mine !== yours, largest: Math.max(...gaps), where: gaps.indexOf(Math.max(...gaps)) };
}

// Images that both this page and the package can draw, on which they must agree: noise from a linear congruential
// generator (Numerical Recipes, 3rd edition, 7.1), and ramps.
export function probe(number, { height, width, channels }) {
  const data = new Uint8Array(height * width * channels);
  let state = number;
  for (let place = 0; place < data.length; place++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const pixel = Math.floor(place / channels);
    const ramp = Math.floor(((pixel % width) * 255) / width) + (place % channels) * 40 * number;
    data[place] = number % 2 ? state >>> 24 : ramp & 255;
  }
  return { height, width, channels, data };
}
