/* An image goes to one model or two; masks are drawn here, so that switching asks nobody. */

"use strict";

const MAX_VIEWS = 2;
const DOWNLOADS = [
  ["Mask", "ids", "png"], ["Colours", "colour", "png"], ["Overlay", "overlay", "png"],
  ["Confidence", "confidence", "png"], ["Polygons", "polygons", "geojson"], ["Table", "table", "json"],
];
const find = id => document.getElementById(id);
const status = find("status");

let models = [];
let image = null; // what was chosen: { blob, name }
let turn = 0; // of the last request: answers to earlier ones are dropped
let views = []; // of each model: { model, ids, confidence, rows, element, ... }
const hidden = new Set(); // names of classes that are switched off

function say(text, kind = "") {
  status.textContent = text;
  status.dataset.kind = kind;
}

// The server

async function ask(path, settings = {}) {
  const token = sessionStorage.getItem("token");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let answer;
  try {
    answer = await fetch(path, { ...settings, headers });
  } catch {
    throw new Error("the server does not answer");
  }
  if (answer.status === 401) find("ask").hidden = false;
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.error || `the server answers ${answer.status}`);
  }
  return answer;
}

function predict(model, products, format) {
  const form = new FormData();
  form.append("model", model);
  form.append("products", products);
  form.append("format", format);
  form.append("image", image.blob, "image");
  return ask("/v1/predict", { method: "POST", body: form });
}

async function start() {
  try {
    models = (await (await ask("/v1/models")).json()).models;
  } catch (error) {
    say(error.message, "error");
    return;
  }
  find("ask").hidden = true;
  say("");
  for (const number of [0, 1]) {
    const select = find(`model-${number}`);
    select.replaceChildren(...(number ? [new Option("nothing", "")] : []),
      ...models.map(model => new Option(model.name, model.name)));
    select.closest("label").hidden = models.length < 2;
  }
}

// PNG (https://www.w3.org/TR/png-3), to numbers: a canvas would give colours instead of ids

async function readPng(base64) {
  const bytes = Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
  const numbers = new DataView(bytes.buffer);
  const parts = [];
  let width, height, size;
  for (let at = 8; at < bytes.length;) {
    const length = numbers.getUint32(at);
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (type === "IHDR") {
      [width, height] = [numbers.getUint32(at + 8), numbers.getUint32(at + 12)];
      size = bytes[at + 16] / 8; // bytes of a pixel: 8 or 16 bits, one channel
    } else if (type === "IDAT") parts.push(bytes.subarray(at + 8, at + 8 + length));
    at += length + 12;
  }
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  const rows = new Uint8Array(await new Response(stream).arrayBuffer());
  const values = new Uint8Array(width * height * size);
  const span = width * size;
  for (let row = 0; row < height; row++) unfilter(rows, values, row, span, size);
  if (size === 1) return { width, height, values };
  const wide = new Uint16Array(width * height);
  for (let i = 0; i < wide.length; i++) wide[i] = values[2 * i] * 256 + values[2 * i + 1];
  return { width, height, values: wide };
}

function unfilter(rows, values, row, span, size) {
  const from = row * (span + 1) + 1, to = row * span, kind = rows[from - 1];
  for (let i = 0; i < span; i++) {
    const left = i >= size ? values[to + i - size] : 0;
    const up = row ? values[to + i - span] : 0;
    const corner = row && i >= size ? values[to + i - span - size] : 0;
    let guess = [0, left, up, (left + up) >> 1][kind];
    if (kind === 4) {
      const p = left + up - corner;
      const [a, b, c] = [Math.abs(p - left), Math.abs(p - up), Math.abs(p - corner)];
      guess = a <= b && a <= c ? left : b <= c ? up : corner;
    }
    values[to + i] = rows[from + i] + guess;
  }
}

// An image

function choose(blob, name = "image") {
  if (!blob) return;
  image = { blob, name: name.replace(/\.[^.]*$/, "") || "image" };
  segment();
}

async function segment() {
  if (!image || !models.length) return;
  const own = ++turn;
  const names = [find("model-0").value, find("model-1").value].filter(Boolean).slice(0, MAX_VIEWS);
  say(`Segmenting with ${names.join(" and ")} …`, "busy");
  for (const view of views) view.stage.dataset.busy = "";
  const began = performance.now();
  try {
    const made = await Promise.all(names.map(read));
    if (own !== turn) return;
    show(made);
    const { width, height } = made[0].ids;
    say(`${width} × ${height} pixels in ${((performance.now() - began) / 1000).toFixed(2)} s`);
  } catch (error) {
    if (own !== turn) return;
    say(error.message, "error");
    for (const view of views) delete view.stage.dataset.busy;
  }
}

async function read(name) {
  const model = models.find(each => each.name === name);
  const words = ["ids", "image", ...(model.has_confidence ? ["confidence", "table"] : [])];
  const { products } = await (await predict(name, words.join(), "json")).json();
  const ids = await readPng(products.ids.base64);
  const counts = new Float64Array(65536);
  for (const id of ids.values) counts[id]++;
  return {
    model, ids, counts, products, confidence: products.confidence
      ? (await readPng(products.confidence.base64)).values : null,
  };
}

// Views

function show(made) {
  find("empty").hidden = true;
  find("work").hidden = false;
  const at = views[0]?.slider.value ?? 30;
  views = made.map(view => {
    const element = find("view").content.cloneNode(true).firstElementChild;
    const part = selector => element.querySelector(selector);
    Object.assign(view, { element, stage: part(".stage"), canvas: part("canvas"),
      slider: part("input"), under: part(".under"), probe: part(".probe") });
    part(".name").textContent = view.model.name;
    part("img").src = `data:${view.products.image.type};base64,${view.products.image.base64}`;
    part("img").alt = "The image";
    view.slider.setAttribute("aria-label", `Border between image and mask of ${view.model.name}; `
      + "with Shift, the arrow keys move the point that is read");
    const { width, height } = view.ids;
    view.stage.style.setProperty("--ratio", width / height);
    if (Math.max(width, height) < 256) view.stage.dataset.small = "";
    [view.canvas.width, view.canvas.height] = [width, height];
    view.point = [0.5, 0.5];
    listen(view);
    addDownloads(view, part(".downloads"));
    draw(view);
    return view;
  });
  find("views").replaceChildren(...views.map(view => view.element));
  moveTo(at);
  listClasses();
  for (const view of views) under(view, null);
}

function draw(view) {
  const context = view.canvas.getContext("2d");
  const picture = context.createImageData(view.ids.width, view.ids.height);
  const pixels = new Uint32Array(picture.data.buffer);
  const colours = new Uint32Array(65536).fill(0xff808080); // the ignored id is grey
  for (const { id, name, colour } of view.model.classes) {
    const [red, green, blue] = rgb(colour);
    colours[id] = hidden.has(name) ? 0 : (255 << 24 | blue << 16 | green << 8 | red) >>> 0;
  }
  const { values } = view.ids;
  for (let i = 0; i < values.length; i++) pixels[i] = colours[values[i]];
  context.putImageData(picture, 0, 0);
}

const rgb = colour => [1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16));

function moveTo(value) {
  for (const view of views) {
    view.slider.value = value;
    view.stage.style.setProperty("--at", `${view.slider.value}%`);
    view.slider.setAttribute("aria-valuetext", `${Math.round(view.slider.value)} % image`);
  }
}

function listen(view) {
  const { slider } = view;
  const place = event => {
    const box = view.stage.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  slider.addEventListener("input", () => moveTo(slider.value));
  slider.addEventListener("pointerdown", event => {
    if (event.button) return;
    event.preventDefault(); // the browser's own rule would move it by another measure
    slider.focus({ preventScroll: true, focusVisible: false });
    slider.setPointerCapture(event.pointerId);
    moveTo(100 * place(event)[0]);
    readAt(place(event));
  });
  slider.addEventListener("pointermove", event => {
    if (slider.hasPointerCapture(event.pointerId)) moveTo(100 * place(event)[0]);
    readAt(place(event));
  });
  slider.addEventListener("pointerleave", event => {
    if (event.pointerType === "mouse") for (const each of views) under(each, null);
  });
  slider.addEventListener("keydown", event => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!event.shiftKey || !step[event.key]) return;
    event.preventDefault();
    readAt(view.point.map((at, i) => Math.min(0.999, Math.max(0, at + 0.02 * step[event.key][i]))));
  });
}

/** Say what is at a point, in fractions of the image, in all views. */
function readAt(point) {
  for (const view of views) under(view, point);
}

function under(view, point) {
  const { width, height, values } = view.ids;
  const [x, y] = point ? [Math.floor(point[0] * width), Math.floor(point[1] * height)] : [-1, -1];
  const inside = x >= 0 && y >= 0 && x < width && y < height;
  view.probe.hidden = !inside;
  view.under.replaceChildren();
  if (!inside) {
    view.under.append(text("span", "faint", "Point at the image to read its classes"));
    return;
  }
  view.point = point;
  view.probe.style.left = `${100 * point[0]}%`;
  view.probe.style.top = `${100 * point[1]}%`;
  const id = values[y * width + x];
  const kind = view.model.classes.find(each => each.id === id);
  const sure = view.confidence ? `, ${(view.confidence[y * width + x] / 2.55).toFixed(0)} % sure` : "";
  view.under.append(swatch(kind ? kind.colour : "#808080"),
    text("bdi", "", kind ? kind.name : "ignored"), text("span", "faint", `${sure} at ${x}, ${y}`));
}

function text(tag, name, content) {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = content;
  return element;
}

function swatch(colour) {
  const element = text("span", "swatch", "");
  element.style.background = colour;
  return element;
}

// Classes

const percent = share => share && share < 0.001 ? "<0.1 %" : `${(100 * share).toFixed(1)} %`;

function listClasses() {
  const rows = new Map(); // name -> { colour, shares }
  views.forEach((view, number) => {
    for (const { id, name, colour } of view.model.classes) {
      if (!rows.has(name)) rows.set(name, { name, colour, shares: views.map(() => null) });
      const share = view.counts[id] / view.ids.values.length;
      rows.get(name).shares[number] = (rows.get(name).shares[number] ?? 0) + share;
    }
  });
  const largest = row => Math.max(...row.shares);
  const sorted = [...rows.values()].sort((one, other) => largest(other) - largest(one));
  find("classes").replaceChildren(...sorted.map(row => {
    const item = document.createElement("li"), label = document.createElement("label");
    const box = document.createElement("input");
    Object.assign(box, { type: "checkbox", checked: !hidden.has(row.name) });
    box.dataset.name = row.name;
    box.addEventListener("change", () => switchClasses([row.name], box.checked));
    const shares = row.shares.map(share => share === null ? "–" : percent(share)).join(" | ");
    const bar = text("span", "bar", ""), fill = document.createElement("i");
    fill.style.width = `${100 * largest(row)}%`;
    fill.style.background = row.colour;
    bar.append(fill);
    label.append(box, swatch(row.colour), text("bdi", "", row.name), text("span", "shares", shares), bar);
    if (!largest(row)) item.dataset.absent = "";
    item.append(label);
    return item;
  }));
}

function switchClasses(names, on) {
  for (const name of names) on ? hidden.delete(name) : hidden.add(name);
  for (const box of document.querySelectorAll("#classes input")) {
    box.checked = !hidden.has(box.dataset.name);
  }
  views.forEach(draw);
}

const allNames = () => views.flatMap(view => view.model.classes.map(each => each.name));
find("all").addEventListener("click", () => switchClasses(allNames(), true));
find("none").addEventListener("click", () => switchClasses(allNames(), false));
find("opacity").addEventListener("input", event => {
  document.documentElement.style.setProperty("--opacity", event.target.value / 100);
  find("opacity-text").textContent = `${event.target.value} %`;
});

// Downloads

function addDownloads(view, row) {
  for (const [label, product, ending] of DOWNLOADS) {
    if (!view.model.has_confidence && ["confidence", "table", "polygons"].includes(product)) continue;
    const button = text("button", "", label);
    button.type = "button";
    button.dataset.product = product;
    button.addEventListener("click", () => download(view, product, ending, button));
    row.append(button);
  }
}

async function download(view, product, ending, button) {
  button.disabled = true;
  try {
    const there = view.products[product];
    let blob;
    if (product === "table") blob = new Blob([JSON.stringify(there, null, 1)]);
    else if (there) blob = await (await fetchBase64(there)).blob();
    else blob = await (await predict(view.model.name, product, "auto")).blob();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${image.name}_${view.model.name}_${product}.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    say(`${link.download} is downloaded`);
  } catch (error) {
    say(error.message, "error");
  } finally {
    button.disabled = false;
  }
}

function fetchBase64({ type, base64 }) {
  const bytes = Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
  return new Response(bytes, { headers: { "content-type": type } });
}

// Ways to choose an image

const file = find("file"), shot = find("shot"), finder = find("finder");
find("choose").addEventListener("click", () => file.click());
find("empty").addEventListener("click", () => file.click());
for (const input of [file, shot]) {
  input.addEventListener("change", () => {
    choose(input.files[0], input.files[0]?.name);
    input.value = ""; // so that the same file can be chosen again
  });
}
for (const select of document.querySelectorAll("select")) select.addEventListener("change", segment);
addEventListener("dragover", event => {
  event.preventDefault();
  document.body.dataset.over = "";
});
addEventListener("dragleave", event => {
  if (!event.relatedTarget) delete document.body.dataset.over;
});
addEventListener("drop", event => {
  event.preventDefault();
  delete document.body.dataset.over;
  choose(event.dataTransfer.files[0], event.dataTransfer.files[0]?.name);
});
addEventListener("paste", event => choose(event.clipboardData.files[0], "pasted"));
find("ask").addEventListener("submit", event => {
  event.preventDefault();
  sessionStorage.setItem("token", find("token").value.trim());
  start();
});

find("camera").addEventListener("click", async () => {
  const video = finder.querySelector("video");
  if (!navigator.mediaDevices) {
    shot.click(); // without https, browsers give the camera to a file's input only
    return;
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    finder.showModal();
  } catch (error) {
    say(`the camera cannot be used: ${error.message}`, "error");
  }
});
find("take").addEventListener("click", () => {
  const video = finder.querySelector("video"), canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob(blob => choose(blob, "camera"), "image/jpeg", 0.95);
  finder.close();
});
find("cancel").addEventListener("click", () => finder.close());
finder.addEventListener("close", () => {
  const video = finder.querySelector("video");
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
});

start();
