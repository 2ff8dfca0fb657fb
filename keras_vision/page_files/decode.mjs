// Files that somebody drops, pastes or chooses, as images: PNG by `png.mjs`, everything else by the browser.
// Whatever cannot be read is an Error whose message is a sentence for the page.

import { decodePng, isPng } from "./png.mjs";
import { upright } from "./pixels.mjs";

// As in files/pixel_values.py and files/image_files.py.
export const MAX_PIXELS = 2 ** 27;
export const MAX_BYTES = 2 ** 29;
// Phones refuse canvases of more than about 16 million pixels, so a picture is read in strips.
const STRIP_PIXELS = 2 ** 22;

function startsWith(bytes, text, place = 0) {
  return [...text].every((letter, index) => bytes[place + index] === letter.charCodeAt(0));
}

// Width and height as a file's first bytes state them; null where they do not.
export function statedSize(bytes) {
  if (bytes.length < 30) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (isPng(bytes)) return [view.getUint32(16), view.getUint32(20)];
  if (startsWith(bytes, "GIF8")) return [view.getUint16(6, true), view.getUint16(8, true)];
  if (startsWith(bytes, "BM")) return [Math.abs(view.getInt32(18, true)), Math.abs(view.getInt32(22, true))];
  if (startsWith(bytes, "RIFF") && startsWith(bytes, "WEBP", 8)) return webpSize(bytes, view);
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return null;
  let place = 2;
  while (place + 9 < bytes.length && bytes[place] === 0xff) {
    const marker = bytes[place + 1];
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return [view.getUint16(place + 7), view.getUint16(place + 5)];
    }
    place += 2 + view.getUint16(place + 2);
  }
  return null;
}

function webpSize(bytes, view) {
  if (startsWith(bytes, "VP8X", 12)) return [24, 27].map((place) => 1 + (view.getUint32(place, true) & 0xffffff));
  if (startsWith(bytes, "VP8 ", 12)) return [26, 28].map((place) => view.getUint16(place, true) & 0x3fff);
  if (!startsWith(bytes, "VP8L", 12)) return null;
  const bits = view.getUint32(21, true);
  return [1 + (bits & 0x3fff), 1 + ((bits >>> 14) & 0x3fff)];
}

// What a file that is no picture is, where its first bytes tell, with the way out.
function otherKind(bytes) {
  if (startsWith(bytes, "\x93NUMPY")) return "a NumPy array; save its slices as PNG";
  if (startsWith(bytes, "PK")) return "an archive; unpack it first";
  if (startsWith(bytes, "DICM", 128)) return "a DICOM file; export it as PNG";
  if (startsWith(bytes, "II*\0") || startsWith(bytes, "MM\0*")) return "a TIFF or a camera's raw file; export it as PNG";
  if (startsWith(bytes, "ftyp", 4)) return "a picture or film of a kind that this browser does not read; save it as JPEG";
  return null;
}

// A file as an upright image of one channel or three.
export async function decodeFile(file, { gray, range }) {
  if (!file.size) throw new Error(`${file.name} is empty.`);
  if (file.size > MAX_BYTES) throw new Error(`${file.name} is larger than ${MAX_BYTES >> 20} MB.`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  const size = statedSize(bytes);
  refuseHuge(file.name, size);
  if (isPng(bytes)) {
    try {
      return upright(await decodePng(bytes), { gray, range });
    } catch (error) {
      throw new Error(`${file.name} is a damaged PNG file: ${error.message ?? "its data cannot be unpacked"}.`);
    }
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    const kind = otherKind(bytes);
    throw new Error(kind ? `${file.name} is ${kind}.` : `${file.name} is no picture that this browser can read.`);
  }
  try {
    refuseHuge(file.name, [bitmap.width, bitmap.height]);
    return upright(readBitmap(bitmap), { gray, range });
  } finally {
    bitmap.close();
  }
}

function refuseHuge(name, size) {
  if (size === null || size[0] * size[1] <= MAX_PIXELS) return;
  const [most, found] = [MAX_PIXELS, size[0] * size[1]].map((count) => Math.round(count / 1e6));
  throw new Error(`${name} has ${found} megapixels; at most ${most} are read. Make it smaller first.`);
}

// Anything that can be drawn, such as a bitmap or a frame of a video, as RGBA.
export function readBitmap(source, width = source.width, height = source.height) {
  const rows = Math.max(1, Math.min(height, Math.floor(STRIP_PIXELS / width)));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, rows];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const data = new Uint8Array(width * height * 4);
  for (let top = 0; top < height; top += rows) {
    const count = Math.min(rows, height - top);
    context.clearRect(0, 0, width, rows);
    context.drawImage(source, 0, -top);
    data.set(context.getImageData(0, 0, width, count).data, top * width * 4);
  }
  return { width, height, depth: 8, channels: 4, data };
}
