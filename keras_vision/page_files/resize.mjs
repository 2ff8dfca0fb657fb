// Images brought to a model's size, to the bit as `files/image_files.py` does it with OpenCV: crop, pad or stretch; area
// averaging where a side shrinks by more than two, else bilinear interpolation in whole numbers.
//
// An image is {width, height, channels, data}, data a Uint8Array by rows, pixels, channels.

// Python's round: halves go to the even number.
export function roundHalfEven(value) {
  const below = Math.floor(value);
  const part = value - below;
  if (part !== 0.5) return part < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

export function fit(image, height, width, resize) {
  if (resize === "crop") {
    const scale = Math.min(image.height / height, image.width / width);
    image = middle(image, Math.max(1, roundHalfEven(scale * height)), Math.max(1, roundHalfEven(scale * width)));
  }
  if (resize !== "pad") return stretch(image, height, width);
  const scale = Math.min(height / image.height, width / image.width);
  const inside = stretch(
    image,
    Math.max(1, roundHalfEven(scale * image.height)),
    Math.max(1, roundHalfEven(scale * image.width)),
  );
  const padded = blank(height, width, image.channels);
  const top = Math.floor((height - inside.height) / 2);
  const left = Math.floor((width - inside.width) / 2);
  const row = inside.width * inside.channels;
  for (let y = 0; y < inside.height; y++) {
    padded.data.set(inside.data.subarray(y * row, (y + 1) * row), ((top + y) * width + left) * image.channels);
  }
  return padded;
}

function blank(height, width, channels) {
  return { height, width, channels, data: new Uint8Array(height * width * channels) };
}

function middle(image, height, width) {
  if (height === image.height && width === image.width) return image;
  const top = Math.floor((image.height - height) / 2);
  const left = Math.floor((image.width - width) / 2);
  const part = blank(height, width, image.channels);
  const row = width * image.channels;
  for (let y = 0; y < height; y++) {
    const start = ((top + y) * image.width + left) * image.channels;
    part.data.set(image.data.subarray(start, start + row), y * row);
  }
  return part;
}

export function stretch(image, height, width) {
  if (image.height === height && image.width === width) return image;
  // As OpenCV computes them, which is not always `image.width / width`.
  const scaleX = 1 / (width / image.width);
  const scaleY = 1 / (height / image.height);
  const wholeX = roundHalfEven(scaleX);
  const wholeY = roundHalfEven(scaleY);
  const whole = Math.abs(scaleX - wholeX) < Number.EPSILON && Math.abs(scaleY - wholeY) < Number.EPSILON;
  const result = blank(height, width, image.channels);
  if (Math.max(image.height / height, image.width / width) > 2) {
    if (scaleX < 1 || scaleY < 1) linear(image, result, scaleX, scaleY, true);
    else if (whole) wholeArea(image, result, wholeX, wholeY);
    else area(image, result, scaleX, scaleY);
  } else if (whole && wholeX === 2 && wholeY === 2) {
    wholeArea(image, result, 2, 2);
  } else {
    linear(image, result, scaleX, scaleY, false);
  }
  return result;
}

// The mean of blocks of whole pixels.
function wholeArea(image, result, wholeX, wholeY) {
  const { channels } = image;
  const share = Math.fround(1 / (wholeX * wholeY));
  const half = wholeX === 2 && wholeY === 2;
  const row = image.width * channels;
  let place = 0;
  for (let y = 0; y < result.height; y++) {
    for (let x = 0; x < result.width; x++) {
      for (let channel = 0; channel < channels; channel++) {
        let sum = 0;
        for (let down = 0; down < wholeY; down++) {
          let from = (y * wholeY + down) * row + x * wholeX * channels + channel;
          for (let right = 0; right < wholeX; right++, from += channels) sum += image.data[from];
        }
        // OpenCV's shortcut for blocks of four rounds halves up.
        result.data[place++] = half ? (sum + 2) >> 2 : roundHalfEven(Math.fround(Math.fround(sum) * share));
      }
    }
  }
}

// For each source pixel that a result pixel covers: which, by which, and with which weight.
function coverage(size, wanted, scale) {
  const found = [];
  for (let to = 0; to < wanted; to++) {
    const start = to * scale;
    const end = start + scale;
    const width = Math.min(scale, size - start);
    const last = Math.min(Math.floor(end), size - 1);
    const first = Math.min(Math.ceil(start), last);
    if (first - start > 1e-3) found.push([to, first - 1, Math.fround((first - start) / width)]);
    for (let from = first; from < last; from++) found.push([to, from, Math.fround(1 / width)]);
    if (end - last > 1e-3) found.push([to, last, Math.fround(Math.min(Math.min(end - last, 1), width) / width)]);
  }
  return found;
}

// The mean of blocks whose borders are inside pixels, in 32-bit floats.
function area(image, result, scaleX, scaleY) {
  const { channels } = image;
  const columns = coverage(image.width, result.width, scaleX);
  const line = new Float32Array(result.width * channels);
  const sums = new Float32Array(line.length);
  let current = 0;
  const finish = () => {
    for (let x = 0; x < sums.length; x++) {
      result.data[current * sums.length + x] = Math.min(255, Math.max(0, roundHalfEven(sums[x])));
    }
  };
  for (const [y, from, weight] of coverage(image.height, result.height, scaleY)) {
    line.fill(0);
    const row = from * image.width * channels;
    for (const [x, source, share] of columns) {
      for (let channel = 0; channel < channels; channel++) {
        line[x * channels + channel] += Math.fround(image.data[row + source * channels + channel] * share);
      }
    }
    if (y !== current) {
      finish();
      current = y;
      sums.fill(0);
    }
    for (let x = 0; x < sums.length; x++) sums[x] += Math.fround(weight * line[x]);
  }
  finish();
}

// Position and weights, in 2,048ths, of the two source pixels that a result pixel lies between.
function between(size, wanted, scale, asArea, clamps) {
  const found = [];
  for (let to = 0; to < wanted; to++) {
    let from;
    let part;
    if (asArea) {
      from = Math.floor(to * scale);
      part = Math.fround(to + 1 - (from + 1) * (wanted / size));
      part = part <= 0 ? 0 : Math.fround(part - Math.floor(part));
    } else {
      part = Math.fround((to + 0.5) * scale - 0.5);
      from = Math.floor(part);
      part = Math.fround(part - from);
    }
    if (clamps && from < 0) [from, part] = [0, 0];
    if (clamps && from >= size - 1) [from, part] = [size - 1, 0];
    const inside = (index) => Math.min(Math.max(index, 0), size - 1);
    const weights = [Math.fround(1 - part), part].map((weight) => roundHalfEven(Math.fround(weight * 2048)));
    found.push([inside(from), inside(from + 1), ...weights]);
  }
  return found;
}

function linear(image, result, scaleX, scaleY, asArea) {
  const { channels } = image;
  const columns = between(image.width, result.width, scaleX, asArea, true);
  const lines = new Map();
  const lineOf = (from) => {
    if (lines.has(from)) return lines.get(from);
    const line = new Int32Array(result.width * channels);
    const row = from * image.width * channels;
    let place = 0;
    for (const [left, right, near, far] of columns) {
      for (let channel = 0; channel < channels; channel++) {
        line[place++] =
          image.data[row + left * channels + channel] * near + image.data[row + right * channels + channel] * far;
      }
    }
    if (lines.size > 2) lines.delete(lines.keys().next().value);
    lines.set(from, line);
    return line;
  };
  let place = 0;
  for (const [above, below, near, far] of between(image.height, result.height, scaleY, asArea, false)) {
    const top = lineOf(above);
    const bottom = lineOf(below);
    for (let x = 0; x < top.length; x++) {
      result.data[place++] = (((near * (top[x] >> 4)) >> 16) + ((far * (bottom[x] >> 4)) >> 16) + 2) >> 2;
    }
  }
}
