// Which parts of an image raise a class: each part is covered in turn, and the fall of the class's probability is its
// heat. The files have no gradients, so this takes one run for each place.
//
// Reference: Zeiler and Fergus 2014, https://arxiv.org/abs/1311.2901, section 4.2.

const PLACES = 12;

// Squares that cover the image, a quarter of its shorter side each: at least `count` in a row and in a column, where they
// are different, and as many as leave no pixel out.
export function places(height, width, count = PLACES) {
  const side = Math.max(1, Math.round(Math.min(height, width) / 4));
  const starts = (size) => {
    const number = Math.min(Math.max(count, Math.ceil(size / side)), size - side + 1);
    if (number <= 1) return [0];
    return Array.from({ length: number }, (_, index) => Math.round((index * (size - side)) / (number - 1)));
  };
  return starts(height).flatMap((top) => starts(width).map((left) => ({ top, left, side })));
}

// The image with a square in its own mean colour, which says least.
export function covered(image, { top, left, side }, mean) {
  const data = image.data.slice();
  for (let y = top; y < Math.min(top + side, image.height); y++) {
    for (let x = left; x < Math.min(left + side, image.width); x++) {
      for (let channel = 0; channel < image.channels; channel++) {
        data[(y * image.width + x) * image.channels + channel] = mean[channel];
      }
    }
  }
  return { ...image, data };
}

export function meanColor(image) {
  const sums = new Array(image.channels).fill(0);
  image.data.forEach((value, place) => (sums[place % image.channels] += value));
  return sums.map((sum) => Math.round((sum * image.channels) / image.data.length));
}

// `run` takes an image and gives its probabilities. Returns the mean fall of the class's probability over the squares
// that cover each pixel, in [0, 1] of the largest, and the lowest probability that was met.
export async function occlusion(image, label, run, progress = () => {}) {
  const before = (await run(image))[label];
  const [sums, counts] = [new Float64Array(image.height * image.width), new Float64Array(image.height * image.width)];
  const mean = meanColor(image);
  const squares = places(image.height, image.width);
  let lowest = before;
  for (const [number, square] of squares.entries()) {
    const after = (await run(covered(image, square, mean)))[label];
    lowest = Math.min(lowest, after);
    for (let y = square.top; y < Math.min(square.top + square.side, image.height); y++) {
      for (let x = square.left; x < Math.min(square.left + square.side, image.width); x++) {
        sums[y * image.width + x] += before - after;
        counts[y * image.width + x] += 1;
      }
    }
    await progress(number + 1, squares.length);
  }
  const falls = sums.map((sum, place) => Math.max(0, sum / Math.max(1, counts[place])));
  const most = falls.reduce((largest, fall) => Math.max(largest, fall), 0);
  return { before, lowest, heatmap: most > 0 ? falls.map((fall) => fall / most) : falls };
}
