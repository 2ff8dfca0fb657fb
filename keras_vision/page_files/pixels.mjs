// Pixel values as `files/image_files.py` makes them of a decoded file: 8 bits, transparent parts white, gray or RGB,
// turned upright.

import { roundHalfEven } from "./resize.mjs";

// A file's values as bytes. `range` is [low, high], the values that become 0 and 255, or null for the range of the bits.
export function toBytes(data, depth, range) {
  if (range === null) return depth === 8 ? data : Uint8Array.from(data, (value) => value >> 8);
  const [low, high] = range;
  const table = Uint8Array.from({ length: 2 ** depth }, (_, value) =>
    roundHalfEven(Math.min(Math.max((value - low) * (255 / (high - low)), 0), 255)),
  );
  return Uint8Array.from(data, (value) => table[value]);
}

// An image of 1 to 4 channels as one of 3 or, if `gray`, 1; the alpha channel blended over white.
export function upright(image, { gray = false, range = null } = {}) {
  const { width, height, channels, depth } = image;
  const hasAlpha = channels === 2 || channels === 4;
  const colors = hasAlpha ? channels - 1 : channels;
  const pixels = width * height;
  // Of 8 bits without alpha the decoder makes gray, before anything else; of others OpenCV's cvtColor does.
  const plain = depth === 8 && !(hasAlpha && hasTransparency(image.data, channels));
  if (gray && plain) return turned(grayFile(image, colors, range), image.orientation ?? 1);
  const values = toBytes(image.data, depth, range);
  const alpha = hasAlpha ? toBytes(image.data, depth, null) : null;
  const seen = hasAlpha && hasTransparency(alpha, channels);
  const wanted = gray ? 1 : 3;
  const data = new Uint8Array(pixels * wanted);
  for (let pixel = 0; pixel < pixels; pixel++) {
    const place = pixel * channels;
    let [red, green, blue] =
      colors === 1
        ? [values[place], values[place], values[place]]
        : [values[place], values[place + 1], values[place + 2]];
    if (seen) {
      const opacity = alpha[place + channels - 1];
      [red, green, blue] = [red, green, blue].map((value) => overWhite(value, opacity));
    }
    if (gray) {
      data[pixel] = grayOf(red, green, blue);
    } else {
      data[3 * pixel] = red;
      data[3 * pixel + 1] = green;
      data[3 * pixel + 2] = blue;
    }
  }
  return turned({ width, height, channels: wanted, data }, image.orientation ?? 1);
}

function grayFile({ width, height, channels, data, decoder }, colors, range) {
  const shade = decoder === "png" ? grayOfPng : grayOf;
  const made = new Uint8Array(width * height);
  for (let pixel = 0; pixel < made.length; pixel++) {
    const place = pixel * channels;
    made[pixel] = colors === 1 ? data[place] : shade(data[place], data[place + 1], data[place + 2]);
  }
  return { width, height, channels: 1, data: toBytes(made, 8, range) };
}

function hasTransparency(alpha, channels) {
  for (let place = channels - 1; place < alpha.length; place += channels) if (alpha[place] < 255) return true;
  return false;
}

function overWhite(value, opacity) {
  return Math.floor((value * opacity + 255 * (255 - opacity) + 127) / 255);
}

// As OpenCV's cvtColor: ITU-R BT.601 in 32,768ths.
export function grayOf(red, green, blue) {
  return (9798 * red + 19235 * green + 3735 * blue + 16384) >> 15;
}

// As libpng does it, by which OpenCV reads: .299 and .587 cut to 32,768ths, and the sum cut as well.
export function grayOfPng(red, green, blue) {
  if (red === green && green === blue) return red;
  return (9797 * red + 19234 * green + 3737 * blue) >> 15;
}

// An image in one of EXIF's eight orientations turned upright.
export function turned(image, orientation) {
  if (orientation === 1) return image;
  const { width, height, channels } = image;
  const swaps = orientation >= 5;
  const [wide, high] = swaps ? [height, width] : [width, height];
  const mirrorsX = [2, 3, 7, 8].includes(orientation);
  const mirrorsY = [3, 4, 6, 7].includes(orientation);
  const data = new Uint8Array(image.data.length);
  let to = 0;
  for (let y = 0; y < high; y++) {
    for (let x = 0; x < wide; x++) {
      const [column, row] = swaps ? [y, x] : [x, y];
      const from = (mirrorsY ? height - 1 - row : row) * width + (mirrorsX ? width - 1 - column : column);
      for (let channel = 0; channel < channels; channel++) data[to++] = image.data[from * channels + channel];
    }
  }
  return { width: wide, height: high, channels, data };
}
