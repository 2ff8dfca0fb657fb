// PNG files decoded here and not by the browser, so that every value is the file's own: a browser may apply a colour
// profile, multiplies by the alpha channel, drops the low byte of 16 bits its own way, and some add noise on purpose.
//
// Source: Portable Network Graphics, third edition, https://www.w3.org/TR/png-3/, sections 7 to 11.

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const SAMPLES = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
// Of Adam7: first column and row, and steps between them.
const PASSES = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
];

export function isPng(bytes) {
  return SIGNATURE.every((value, place) => bytes[place] === value);
}

function* chunksOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let place = 8;
  while (place + 12 <= bytes.length) {
    const size = view.getUint32(place);
    const name = String.fromCharCode(...bytes.subarray(place + 4, place + 8));
    if (place + 12 + size > bytes.length) throw new Error("the file ends too early");
    yield [name, bytes.subarray(place + 8, place + 8 + size)];
    if (name === "IEND") return;
    place += 12 + size;
  }
  throw new Error("the file ends too early");
}

async function inflate(parts, size) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  const reader = stream.getReader();
  const whole = new Uint8Array(size);
  let filled = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    // More than the image needs is a bomb or nonsense; neither is unpacked.
    if (filled + value.length > size) {
      whole.set(value.subarray(0, size - filled), filled);
      filled = size;
      await reader.cancel();
      break;
    }
    whole.set(value, filled);
    filled += value.length;
  }
  if (filled < size) throw new Error("the file ends too early");
  return whole;
}

function paeth(left, above, corner) {
  const guess = left + above - corner;
  const [toLeft, toAbove, toCorner] = [left, above, corner].map((value) => Math.abs(guess - value));
  if (toLeft <= toAbove && toLeft <= toCorner) return left;
  return toAbove <= toCorner ? above : corner;
}

// Rows of bytes with their filters undone.
function unfiltered(data, start, rows, rowBytes, step) {
  const out = new Uint8Array(rows * rowBytes);
  for (let row = 0; row < rows; row++) {
    const filter = data[start++];
    const place = row * rowBytes;
    if (filter > 4) throw new Error("it has a filter that does not exist");
    for (let index = 0; index < rowBytes; index++) {
      const left = index >= step ? out[place + index - step] : 0;
      const above = row ? out[place + index - rowBytes] : 0;
      let guess = 0;
      if (filter === 1) guess = left;
      else if (filter === 2) guess = above;
      else if (filter === 3) guess = (left + above) >> 1;
      else if (filter === 4) guess = paeth(left, above, row && index >= step ? out[place + index - rowBytes - step] : 0);
      out[place + index] = data[start++] + guess;
    }
  }
  return out;
}

// The samples of one pass, each as a number of the file's depth.
function samplesOf(bytes, rows, columns, rowBytes, count, depth) {
  const found = depth === 16 ? new Uint16Array(rows * columns * count) : new Uint8Array(rows * columns * count);
  const perRow = columns * count;
  for (let row = 0; row < rows; row++) {
    for (let index = 0; index < perRow; index++) {
      const start = row * rowBytes;
      let value;
      if (depth === 16) value = (bytes[start + 2 * index] << 8) | bytes[start + 2 * index + 1];
      else if (depth === 8) value = bytes[start + index];
      else {
        const bit = index * depth;
        value = (bytes[start + (bit >> 3)] >> (8 - depth - (bit & 7))) & ((1 << depth) - 1);
      }
      found[row * perRow + index] = value;
    }
  }
  return found;
}

// Returns {width, height, depth (8 or 16), channels (1 to 4), data, orientation}: gray, gray and alpha, RGB or RGBA.
export async function decodePng(bytes) {
  const parts = [];
  let header = null;
  let palette = null;
  let transparent = null;
  let orientation = 1;
  for (const [name, content] of chunksOf(bytes)) {
    if (name === "IHDR") header = content;
    else if (name === "PLTE") palette = content;
    else if (name === "tRNS") transparent = content;
    else if (name === "eXIf") orientation = orientationOf(content);
    else if (name === "IDAT") parts.push(content);
  }
  if (header === null || header.length !== 13 || !parts.length) throw new Error("it has no header or no pixels");
  const view = new DataView(header.buffer, header.byteOffset, 13);
  const [width, height, depth, kind, interlaced] = [view.getUint32(0), view.getUint32(4), header[8], header[9], header[12]];
  const count = SAMPLES[kind];
  if (!width || !height || count === undefined || ![1, 2, 4, 8, 16].includes(depth) || interlaced > 1) {
    throw new Error("its header is damaged");
  }
  if (kind === 3 && palette === null) throw new Error("it has no palette");
  const passes = (interlaced ? PASSES : [[0, 0, 1, 1]])
    .map(([left, top, right, down]) => ({
      ...{ left, top, right, down },
      columns: Math.ceil((width - left) / right),
      rows: Math.ceil((height - top) / down),
    }))
    .filter((pass) => pass.columns > 0 && pass.rows > 0)
    .map((pass) => ({ ...pass, rowBytes: Math.ceil((pass.columns * count * depth) / 8) }));
  const data = await inflate(parts, passes.reduce((sum, pass) => sum + pass.rows * (pass.rowBytes + 1), 0));
  let samples = null;
  let start = 0;
  for (const pass of passes) {
    const rows = unfiltered(data, start, pass.rows, pass.rowBytes, Math.max(1, (count * depth) >> 3));
    start += pass.rows * (pass.rowBytes + 1);
    const found = samplesOf(rows, pass.rows, pass.columns, pass.rowBytes, count, depth);
    if (!interlaced) {
      samples = found;
      break;
    }
    samples ??= depth === 16 ? new Uint16Array(width * height * count) : new Uint8Array(width * height * count);
    for (let row = 0; row < pass.rows; row++) {
      for (let column = 0; column < pass.columns; column++) {
        const to = ((pass.top + row * pass.down) * width + pass.left + column * pass.right) * count;
        const from = (row * pass.columns + column) * count;
        for (let channel = 0; channel < count; channel++) samples[to + channel] = found[from + channel];
      }
    }
  }
  return { width, height, orientation, decoder: "png", ...expanded(samples, kind, depth, count, palette, transparent) };
}

// Palettes, low depths and the one transparent colour made plain.
function expanded(samples, kind, depth, count, palette, transparent) {
  const pixels = samples.length / count;
  if (kind === 3) {
    const channels = transparent === null ? 3 : 4;
    const data = new Uint8Array(pixels * channels);
    for (let pixel = 0; pixel < pixels; pixel++) {
      const entry = samples[pixel];
      for (let channel = 0; channel < 3; channel++) data[pixel * channels + channel] = palette[entry * 3 + channel] ?? 0;
      if (channels === 4) data[pixel * 4 + 3] = transparent[entry] ?? 255;
    }
    return { depth: 8, channels, data };
  }
  const stretchBy = depth < 8 ? 255 / ((1 << depth) - 1) : 1;
  const wide = depth === 16;
  // OpenCV does not read the transparent shade of gray files either.
  if (transparent === null || kind !== 2) {
    if (stretchBy !== 1) for (let place = 0; place < samples.length; place++) samples[place] *= stretchBy;
    return { depth: wide ? 16 : 8, channels: count, data: samples };
  }
  const view = new DataView(transparent.buffer, transparent.byteOffset, transparent.byteLength);
  const clear = Array.from({ length: count }, (_, channel) => view.getUint16(2 * channel));
  const data = wide ? new Uint16Array(pixels * (count + 1)) : new Uint8Array(pixels * (count + 1));
  for (let pixel = 0; pixel < pixels; pixel++) {
    let matches = true;
    for (let channel = 0; channel < count; channel++) {
      const value = samples[pixel * count + channel];
      matches &&= value === clear[channel];
      data[pixel * (count + 1) + channel] = value * stretchBy;
    }
    data[pixel * (count + 1) + count] = matches ? 0 : wide ? 65535 : 255;
  }
  return { depth: wide ? 16 : 8, channels: count + 1, data };
}

// The orientation, 1 to 8, in the TIFF header of EXIF data; 1 where there is none.
export function orientationOf(exif) {
  const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength);
  if (exif.length < 8) return 1;
  const little = exif[0] === 0x49;
  const first = view.getUint32(4, little);
  if (first + 2 > exif.length) return 1;
  const entries = view.getUint16(first, little);
  for (let entry = 0; entry < entries; entry++) {
    const place = first + 2 + 12 * entry;
    if (place + 12 > exif.length) return 1;
    if (view.getUint16(place, little) === 0x0112) {
      const value = view.getUint16(place + 8, little);
      return value >= 1 && value <= 8 ? value : 1;
    }
  }
  return 1;
}
