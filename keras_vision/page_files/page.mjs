// The page itself: takes pictures in, asks the models, shows their answers.

import { decodeFile, readBitmap } from "./decode.mjs";
import { occlusion } from "./occlusion.mjs";
import { upright } from "./pixels.mjs";
import { fit } from "./resize.mjs";
import { disagreement, missing, runnerOf, unpacked } from "./runtime.mjs";
import { difference, labelsOf } from "./scores.mjs";
import { aboutView, answerText, answerView, csv, differencesText, draw, element, percent, withHeat } from "./view.mjs";

const byId = (id) => document.getElementById(id);
const textOf = (id) => {
  const node = byId(id);
  const text = node.textContent;
  node.remove(); // Megabytes that nobody needs twice.
  return text;
};
const page = JSON.parse(textOf("page-data"));
const runs = new Array(page.models.length).fill(null);
const results = [];
let stream = null;
// Pictures are answered one after the other, whoever brought them.
let queue = Promise.resolve();

const chosen = () => Number(byId("model").value);
const beside = () => Number(byId("other").value);
const shown = () => (beside() >= 0 && beside() !== chosen() ? [chosen(), beside()] : [chosen()]);
// Lets the browser draw. A hidden page draws nothing, so a message and not a frame is waited for.
const pause = () =>
  new Promise((resolve) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      channel.port1.close();
      resolve();
    };
    channel.port2.postMessage(null);
  });

function status(text) {
  byId("status").textContent = text;
}

function problem(text) {
  byId("problems").append(element("li", { text }));
}

function progress(count, total) {
  const bar = byId("progress");
  bar.hidden = count >= total;
  [bar.max, bar.value] = [total, count];
}

async function runner(place) {
  if (runs[place] === null) {
    const model = page.models[place];
    const run = await runnerOf(globalThis.liteRt, await unpacked(textOf(`model-${place}`)), model);
    const warning = await disagreement(run, model);
    if (warning !== null) problem(warning);
    runs[place] = run;
  }
  return runs[place];
}

// A picture at each model's size; the picture itself, which may be large, is not kept.
function fitted(picture) {
  const known = new Map();
  return page.models.map(({ height, width, resize }) => {
    const key = `${height} ${width} ${resize}`;
    if (!known.has(key)) known.set(key, fit(picture, height, width, resize));
    return known.get(key);
  });
}

async function answer(result, place) {
  if (result.answers[place]) return;
  const run = await runner(place);
  const image = result.images[place];
  const start = performance.now();
  const probabilities = await run(image);
  result.answers[place] = { probabilities, milliseconds: performance.now() - start };
}

// Answers pictures in turn: `items` are [name, function that decodes it, extra].
function take(items) {
  queue = queue.then(() => takeNow(items)).catch((error) => problem(`This went wrong: ${error.message ?? error}.`));
  return queue;
}

async function takeNow(items) {
  byId("problems").replaceChildren();
  let taken = 0;
  let place = 0;
  for (const [name, decode, extra] of items) {
    if (items.length > 1) status(`Picture ${taken + 1} of ${items.length} ...`);
    progress(taken, items.length);
    await pause();
    try {
      const images = fitted(await decode());
      const result = { name, images, answers: page.models.map(() => null), view: null, truth: null, heat: null, ...extra };
      for (const place of shown()) await answer(result, place);
      // New pictures come on top, those of one choice in their order.
      results.splice(place, 0, result);
      show(result);
      byId("answers").insertBefore(result.view, byId("answers").children[place] ?? null);
      place += 1;
    } catch (error) {
      problem(error.message ?? String(error));
    }
    taken += 1;
  }
  progress(1, 1);
  const last = place > 0 ? results[0] : undefined;
  const said = last && items.length === 1 ? `${last.name}: ${answerText(last.answers[chosen()].probabilities, page.models[chosen()], page)}.` : "";
  status(said || `${results.length} picture${results.length === 1 ? "" : "s"} answered.`);
  summarize();
  last?.view.scrollIntoView({ block: "nearest" });
}

// A heatmap from 0 to 1 of a gray PNG file.
async function decodeHeat(file) {
  const { width, height, data } = await decodeFile(file, { gray: true, range: null });
  return { width, height, data: Array.from(data, (value) => value / 255) };
}

function takeFiles(files) {
  const list = [...files];
  if (list.length) take(list.map((file) => [file.name || "pasted picture", () => decodeFile(file, page), {}]));
}

// A picture over its caption.
function figure(image, label, caption) {
  const canvas = element("canvas", { role: "img", "aria-label": label });
  draw(canvas, image);
  return element("figure", {}, canvas, element("figcaption", { class: "soft", text: caption }));
}

// Makes or renews the view of one result.
function show(result) {
  const places = shown().filter((place) => result.answers[place]);
  const image = result.images[places[0]];
  const seen = element("div", { class: "seen" }, figure(image, `${result.name} as the classifier sees it`, "what it sees"));
  if (result.heat?.width === image.width && result.heat.height === image.height) {
    const caption = `${page.heatMethod} of the report: what raises ${result.heatOf}`;
    seen.append(figure(withHeat(image, result.heat.data), `${result.name}, ${caption}`, caption));
  }
  const note = element("p", { class: "soft" });
  const button = element("button", { type: "button", text: "Which parts matter?" });
  const ask = element("div", {}, button, note);
  seen.append(ask);
  button.addEventListener("click", () => heat(result, places[0], ask, note, button));
  const title = result.truth === null ? result.name : `${result.name}, in truth: ${result.truth}`;
  const view = element(
    "article",
    {},
    element("h3", { text: title }),
    seen,
    element("div", { class: "models" }, ...places.map((place) => answerView(result.answers[place], page.models[place], page))),
  );
  const [one, other] = places.map((place) => result.answers[place].probabilities);
  const gap = other ? difference(one, other, page.thresholds) : null;
  view.classList.toggle("differs", Boolean(gap?.labels));
  if (result.view) result.view.replaceWith(view);
  result.view = view;
}

function heat(result, place, ask, note, button) {
  button.disabled = true;
  queue = queue
    .then(async () => {
      const image = result.images[place];
      const label = labelsOf(result.answers[place].probabilities, null)[0];
      const name = page.classNames[label];
      const found = await occlusion(image, label, await runner(place), async (count, total) => {
        if (count % 8 && count < total) return;
        progress(count, total);
        status(`Covering part ${count} of ${total} ...`);
        await pause();
      });
      if (found.lowest < found.before) {
        const caption = `parts covered in turn: what raises ${name}`;
        ask.before(figure(withHeat(image, found.heatmap), `${result.name}, ${caption}`, caption));
      }
      note.textContent =
        found.lowest < found.before
          ? `Red: covering it lowers ${name} most, from ${percent(found.before)} to ${percent(found.lowest)}.`
          : `No single part lowers ${name} when it is covered.`;
      button.hidden = true;
      status(`Heatmap of ${result.name}: ${note.textContent}`);
    })
    .catch((error) => problem(`This went wrong: ${error.message ?? error}.`));
}

function summarize() {
  const places = shown();
  const both = places.length === 2;
  byId("answers-none").hidden = results.length > 0;
  byId("answer-tools").hidden = results.length === 0;
  byId("only-label").hidden = !both;
  byId("differences").hidden = !both || !results.length;
  if (both && results.length) byId("differences").textContent = differencesText(results, ...places, page);
  for (const result of results) result.view.hidden = both && byId("only").checked && !result.view.classList.contains("differs");
}

// Another file, or another to compare it with, was chosen.
function renew() {
  queue = queue.then(async () => {
    for (const [count, result] of results.entries()) {
      progress(count, results.length);
      await pause();
      for (const place of shown()) await answer(result, place);
      show(result);
    }
    progress(1, 1);
    summarize();
  });
}

async function openCamera() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
  } catch (error) {
    const why = error.name === "NotAllowedError" ? "this browser did not allow it" : "there is none that this page can use";
    problem(`No camera: ${why}.`);
    return;
  }
  byId("video").srcObject = stream;
  byId("camera").hidden = false;
  byId("camera-open").disabled = true;
  byId("camera-shot").focus();
}

function closeCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  byId("video").srcObject = null;
  byId("camera").hidden = true;
  byId("camera-open").disabled = false;
  byId("camera-open").focus();
}

function shoot() {
  const video = byId("video");
  if (!video.videoWidth) return;
  const frame = readBitmap(video, video.videoWidth, video.videoHeight);
  const time = new Date().toLocaleTimeString();
  take([[`camera, ${time}`, async () => upright(frame, page), {}]]);
}

function save() {
  const url = URL.createObjectURL(new Blob([csv(results, page)], { type: "text/csv" }));
  const link = element("a", { href: url, download: "answers.csv" });
  link.click();
  URL.revokeObjectURL(url);
}

function buildGallery() {
  byId("gallery").hidden = page.gallery.length === 0;
  byId("gallery-note").textContent = page.galleryNote;
  const pngFile = (content, name) =>
    new File([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))], name, { type: "image/png" });
  for (const item of page.gallery) {
    const file = pngFile(item.png, item.name);
    const canvas = element("canvas", { "aria-hidden": "true" });
    decodeFile(file, page).then((image) => draw(canvas, image));
    const button = element("button", { type: "button" }, canvas, element("span", { text: item.truth }));
    const extra = { truth: item.truth, heatOf: item.heatOf };
    button.addEventListener("click", () => {
      take([
        [
          item.name,
          async () => {
            if (item.heat) extra.heat = await decodeHeat(pngFile(item.heat, item.name));
            return decodeFile(file, page);
          },
          extra,
        ],
      ]);
    });
    byId("thumbs").append(button);
  }
}

function build() {
  byId("title").textContent = page.title;
  byId("lead").textContent = page.lead;
  byId("medical").textContent = page.medical ?? "";
  byId("medical").hidden = page.medical === null;
  for (const [place, model] of page.models.entries()) {
    byId("model").append(element("option", { value: place, text: model.name }));
    byId("other").append(element("option", { value: place, text: model.name }));
    byId("about").append(aboutView(model, place === 0));
  }
  byId("other").prepend(element("option", { value: -1, text: "none" }));
  byId("model").value = 0;
  byId("other").value = page.models.length > 1 ? 1 : -1;
  byId("choices").hidden = page.models.length === 1;
  if (page.reportImage !== null) {
    byId("report-image").src = `data:image/png;base64,${page.reportImage}`;
    byId("report-caption").textContent = page.reportCaption;
    byId("report-heatmaps").hidden = false;
  }
}

function listen() {
  const drop = byId("drop");
  byId("files").addEventListener("change", (event) => {
    takeFiles(event.target.files);
    event.target.value = "";
  });
  for (const [kind, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", over);
      if (kind === "drop") takeFiles(event.dataTransfer.files);
    });
  }
  document.addEventListener("paste", (event) => takeFiles(event.clipboardData.files));
  byId("camera-open").addEventListener("click", openCamera);
  byId("camera-close").addEventListener("click", closeCamera);
  byId("camera-shot").addEventListener("click", shoot);
  byId("save").addEventListener("click", save);
  byId("clear").addEventListener("click", () => {
    results.length = 0;
    byId("answers").replaceChildren();
    status("Ready.");
    summarize();
  });
  byId("only").addEventListener("change", summarize);
  byId("model").addEventListener("change", renew);
  byId("other").addEventListener("change", renew);
}

async function start() {
  build();
  const why = missing();
  if (why !== null) {
    status("");
    problem(why);
    for (const control of document.querySelectorAll("#files, #camera-open")) control.disabled = true;
    return;
  }
  listen();
  buildGallery();
  queue = (async () => {
    globalThis.liteRt.wasm = await unpacked(textOf("wasm"));
    await globalThis.liteRt.start();
    for (const place of shown()) await runner(place);
    status("Ready.");
  })();
  await queue.catch((error) => {
    status("");
    problem(`The classifier does not start: ${error.message ?? error}.`);
  });
  // For whoever tests or scripts this page.
  globalThis.kerasVisionPage = { results, page, idle: () => queue };
}

start();
