// What the page shows, made of elements whose texts are set as text: class names, file names and cards come from
// strangers' files, so nothing here ever reads text as HTML.

import { difference, isUnsure, labelsOf, order } from "./scores.mjs";

const FEW = 8;

export function element(name, { text, ...attributes } = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

export function percent(value) {
  // The spaces keep a number and its sign on one line.
  if (value > 0 && value < 0.001) return "<\u00a00.1\u00a0%";
  if (value < 1 && value > 0.999) return ">\u00a099.9\u00a0%";
  return `${(100 * value).toFixed(1)}\u00a0%`;
}

export function milliseconds(value) {
  if (value < 0.1) return "under 0.1 ms";
  return value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}

export function draw(canvas, image) {
  [canvas.width, canvas.height] = [image.width, image.height];
  const data = new ImageData(image.width, image.height);
  for (let pixel = 0; pixel < image.width * image.height; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      data.data[4 * pixel + channel] = image.data[pixel * image.channels + (image.channels === 1 ? 0 : channel)];
    }
    data.data[4 * pixel + 3] = 255;
  }
  canvas.getContext("2d").putImageData(data, 0, 0);
}

// Blue to red, for heat from 0 to 1: dark where nothing raises the class.
export function heatColor(heat) {
  const stops = [
    [40, 30, 90],
    [40, 110, 200],
    [60, 200, 120],
    [245, 200, 50],
    [215, 40, 30],
  ];
  const place = Math.min(Math.max(heat, 0), 1) * (stops.length - 1);
  const below = Math.min(Math.floor(place), stops.length - 2);
  return stops[below].map((value, channel) => value + (place - below) * (stops[below + 1][channel] - value));
}

export function withHeat(image, heatmap) {
  const data = new Uint8Array(image.width * image.height * 3);
  for (let pixel = 0; pixel < heatmap.length; pixel++) {
    const color = heatColor(heatmap[pixel]);
    for (let channel = 0; channel < 3; channel++) {
      const value = image.data[pixel * image.channels + (image.channels === 1 ? 0 : channel)];
      data[3 * pixel + channel] = Math.round((value + color[channel]) / 2);
    }
  }
  return { ...image, channels: 3, data };
}

// The names of an answer: one class, or every label that the image has; "unsure" before a class that is too improbable.
export function answerText(probabilities, model, page) {
  const labels = labelsOf(probabilities, page.thresholds);
  const names = labels.length ? labels.map((label) => page.classNames[label]).join(", ") : "no label";
  return isUnsure(probabilities, model) ? `unsure, perhaps ${names}` : names;
}

// What the line over the bars is, and the class of that sentence; it is for screen readers where there is no line.
function captionOf(model, page) {
  if (page.thresholds !== null) return ["The line is a label's threshold.", "soft small"];
  if (!model.unsureBelow) return ["Probabilities", "unseen"];
  return [`The line: unsure where no class reaches ${percent(model.unsureBelow)}.`, "soft small"];
}

// A model's answer for one image: name, bars, time.
export function answerView(answer, model, page) {
  const chosen = new Set(labelsOf(answer.probabilities, page.thresholds));
  const ranked = order(answer.probabilities);
  const line = (label) => (page.thresholds === null ? model.unsureBelow || null : page.thresholds[label]);
  const rows = (labels) =>
    labels.map((label) => barRow(page.classNames[label], answer.probabilities[label], chosen.has(label), line(label)));
  const body = element("tbody", {}, ...rows(ranked.slice(0, FEW)));
  const [caption, kind] = captionOf(model, page);
  const table = element("table", { class: "bars" }, element("caption", { class: kind, text: caption }), body);
  const parts = [
    element("p", { class: "soft small", text: `${model.name}, ${milliseconds(answer.milliseconds)}` }),
    element("p", { class: "answer", text: answerText(answer.probabilities, model, page) }),
    table,
  ];
  if (ranked.length > FEW) {
    const more = element("button", { type: "button", text: `Show all ${ranked.length} classes` });
    more.addEventListener("click", () => {
      body.append(...rows(ranked.slice(FEW)));
      more.remove();
    });
    parts.push(more);
  }
  return element("div", {}, ...parts);
}

function barRow(name, probability, chosen, line) {
  const bar = element("div", { class: "bar" });
  bar.style.width = `${100 * probability}%`;
  const track = element("div", { class: "track", "aria-hidden": "true" }, bar);
  if (line !== null) {
    const mark = element("div", { class: "mark" });
    mark.style.left = `${100 * line}%`;
    track.append(mark);
  }
  return element(
    "tr",
    { class: chosen ? "yes" : null },
    element("th", { scope: "row", text: name }),
    element("td", {}, track),
    element("td", { text: percent(probability) }),
  );
}

// A sentence on where two models differ over all images.
export function differencesText(results, one, other, page) {
  const pairs = results.filter((result) => result.answers[one] && result.answers[other]);
  const found = pairs.map((result) =>
    difference(result.answers[one].probabilities, result.answers[other].probabilities, page.thresholds),
  );
  const changed = found.filter((item) => item.labels).length;
  const largest = Math.max(0, ...found.map((item) => item.largest));
  const what = page.thresholds === null ? "class" : "labels";
  const count = `${changed} of ${pairs.length} picture${pairs.length === 1 ? "" : "s"}`;
  const gap = largest.toFixed(largest < 0.001 ? 6 : 3);
  return `${page.models[one].name} and ${page.models[other].name}: another ${what} on ${count}; the largest difference of a probability is ${gap}.`;
}

export function aboutView(model, open) {
  const list = element("dl");
  for (const [name, value] of model.facts) list.append(element("dt", { text: name }), element("dd", { text: value }));
  const parts = [element("summary", { text: model.name }), list];
  if (model.card !== null) {
    parts.push(
      element(
        "details",
        {},
        element("summary", { text: "The card, without recipe and environment" }),
        element("pre", { class: "small", tabindex: "0", "aria-label": "The card", text: JSON.stringify(model.card, null, 2) }),
      ),
    );
  }
  return element("details", { open }, ...parts);
}

// A table of all answers as CSV text. A cell that a spreadsheet would take for a formula gets an apostrophe.
export function csv(results, page) {
  const cell = (value) => {
    const text = /^[=+\-@\t\r]/.test(value) && Number.isNaN(Number(value)) ? `'${value}` : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const marked = page.models.some((model) => model.unsureBelow !== null);
  const lines = [["file", "model", "label", ...(marked ? ["unsure"] : []), ...page.classNames]];
  for (const result of results) {
    for (const [place, answer] of result.answers.entries()) {
      if (!answer) continue;
      const labels = labelsOf(answer.probabilities, page.thresholds).map((label) => page.classNames[label]);
      const mark = marked ? [isUnsure(answer.probabilities, page.models[place]) ? "yes" : "no"] : [];
      lines.push([result.name, page.models[place].name, labels.join("|"), ...mark, ...answer.probabilities]);
    }
  }
  return lines.map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}
