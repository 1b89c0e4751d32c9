/* The images of a case, large, side by side. */

const lightbox = document.getElementById("lightbox");
const lightboxPanes = document.getElementById("lightbox-panes");
const lightboxView = document.getElementById("lightbox-view");
const lightboxOpacity = document.getElementById("lightbox-opacity");
const cases = [...document.querySelectorAll(".case")];
let shownCase = 0;
let zoom = null;

/** Errors are laid over the faint image, which is embedded only once. */
function underlay(figure) {
  const image = figure.querySelector("[data-kind=image] img").cloneNode();
  image.alt = "";
  image.className = "under";
  return image;
}

for (const figure of cases) {
  const frame = figure.querySelector("[data-kind=error] .frame");
  if (frame) frame.prepend(underlay(figure));
  figure.querySelector(".views").addEventListener("click", () => openCase(cases.indexOf(figure)));
}

/** Return a function that reads the colour of a mask at a point. */
function readMask(image) {
  const canvas = make("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return (x, y) => {
    const column = Math.min(canvas.width - 1, Math.floor(x * canvas.width));
    const row = Math.min(canvas.height - 1, Math.floor(y * canvas.height));
    const [red, green, blue] = context.getImageData(column, row, 1, 1).data;
    return "#" + [red, green, blue].map(v => v.toString(16).padStart(2, "0")).join("");
  };
}

/** Return the classes of a colour: several where the palette repeats itself. */
function classesOf(colour) {
  const found = [];
  report.colours.forEach((other, number) => { if (other === colour) found.push(number); });
  return found;
}

function describe(title, colour) {
  const found = classesOf(colour);
  const text = make("span", "", make("small", "faint", `${title}: `));
  found.slice(0, 3).forEach((number, i) => {
    text.append(i ? " or " : "", swatch(number), make("bdi", "", report.classes[number]));
  });
  if (!found.length) text.append("ignored");
  return text;
}

function makePane(view, figure) {
  const kind = view.dataset.kind;
  const stage = make("div", "stage");
  const image = view.querySelector("img:not(.under)").cloneNode();
  if (kind !== "image") stage.append(underlay(figure));
  stage.append(image);
  const outline = view.querySelector("svg");
  if (outline) stage.append(outline.cloneNode(true));
  const under = stage.querySelector(".under");
  // Below a transparent mask the image keeps its colours.
  if (under && kind !== "error") under.className = "";
  const cross = make("div", "cross");
  cross.hidden = true;
  const pane = make("div", "pane", stage, make("span", "tag", view.querySelector(".caption").textContent), cross);
  pane.dataset.kind = kind;
  return pane;
}

function openCase(number) {
  shownCase = (number + cases.length) % cases.length;
  const figure = cases[shownCase];
  const views = [...figure.querySelectorAll(".view")];
  lightboxPanes.replaceChildren(...views.map(view => makePane(view, figure)));
  document.getElementById("lightbox-name").replaceChildren(
    make("bdi", "", figure.querySelector(".name").textContent));
  document.getElementById("lightbox-facts").textContent =
    figure.querySelector(".facts-text").textContent;
  document.getElementById("lightbox-number").textContent = `${shownCase + 1} / ${cases.length}`;
  document.getElementById("lightbox-readout").textContent = "";
  const wanted = lightboxView.value;
  lightboxView.replaceChildren(new Option("all", ""), ...views.map(view =>
    new Option(view.querySelector(".caption").textContent.toLowerCase(), view.dataset.kind)));
  if ([...lightboxView.options].some(option => option.value === wanted)) lightboxView.value = wanted;
  if (!lightbox.open) lightbox.showModal();
  fade();
  const masks = views.filter(view => ["label", "prediction"].includes(view.dataset.kind))
    .map(view => [view.querySelector(".caption").textContent, readMask(view.querySelector("img"))]);
  zoom = makeZoom(figure.dataset.width, figure.dataset.height, (x, y) => {
    document.getElementById("lightbox-readout").replaceChildren(
      ...masks.map(([title, colourAt]) => describe(title, colourAt(x, y))));
  });
  arrange();
}

/**
 * Close the lightbox and move the focus to the case that was shown last.
 *
 * The browser returns the focus to the case that was opened first, and its "close" event comes a
 * task later: a key that is pressed in between would act on the wrong case.
 */
function closeCase() {
  lightbox.close();
  leaveCase();
}

/** The panes tell whether this was done already: the lightbox may be left, or open again. */
function leaveCase() {
  if (lightbox.open || !lightboxPanes.hasChildNodes()) return;
  lightboxPanes.replaceChildren();
  cases[shownCase].querySelector(".views").focus();
}

/** Choose the number of columns that makes the images largest. */
function arrange() {
  if (!lightbox.open) return;
  const panes = [...lightboxPanes.children];
  for (const pane of panes) pane.hidden = lightboxView.value && pane.dataset.kind !== lightboxView.value;
  const shown = panes.filter(pane => !pane.hidden);
  const figure = cases[shownCase];
  const { clientWidth: width, clientHeight: height } = lightboxPanes;
  let best = 0;
  for (let columns = 1; columns <= shown.length; columns++) {
    const rows = Math.ceil(shown.length / columns);
    const scale = Math.min(width / columns / figure.dataset.width, height / rows / figure.dataset.height);
    if (scale <= best * 1.001) continue;
    best = scale;
    lightboxPanes.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
    lightboxPanes.style.gridTemplateRows = `repeat(${rows}, minmax(0, 1fr))`;
  }
  zoom.reset(shown);
}

function fade() {
  for (const pane of lightboxPanes.children) {
    if (!["label", "prediction"].includes(pane.dataset.kind)) continue;
    pane.querySelector("img:last-of-type").style.opacity = lightboxOpacity.value / 100;
  }
}

lightbox.addEventListener("keydown", event => {
  if (event.target === lightboxOpacity || event.target === lightboxView) return;
  if (event.key === "ArrowLeft") openCase(shownCase - 1);
  else if (event.key === "ArrowRight") openCase(shownCase + 1);
  else if (event.key === "+" || event.key === "=") zoom.by(1.5);
  else if (event.key === "-") zoom.by(1 / 1.5);
  else if (event.key === "0") zoom.reset();
  else return;
  event.preventDefault();
});
lightbox.addEventListener("cancel", event => { // Escape, or the gesture that goes back
  event.preventDefault();
  closeCase();
});
lightbox.addEventListener("close", leaveCase);
lightboxView.addEventListener("change", arrange);
lightboxOpacity.addEventListener("input", fade);
addEventListener("resize", arrange);
const onClick = (name, act) =>
  document.getElementById(`lightbox-${name}`).addEventListener("click", act);
onClick("close", closeCase);
onClick("previous", () => openCase(shownCase - 1));
onClick("next", () => openCase(shownCase + 1));
onClick("in", () => zoom.by(1.5));
onClick("out", () => zoom.by(1 / 1.5));
onClick("fit", () => zoom.reset());
