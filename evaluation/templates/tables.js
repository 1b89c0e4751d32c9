const report = JSON.parse(document.getElementById("report-data").textContent);

/** Return a fraction as text: 0.1234 is "12.3 %". */
function percent(fraction, digits = 1) {
  if (fraction === null || !Number.isFinite(fraction)) return "–";
  const least = 10 ** -digits;
  if (fraction > 0 && 100 * fraction < least) return `<${least.toFixed(digits)}\u00a0%`;
  return `${(100 * fraction).toFixed(digits)}\u00a0%`;
}

/** Make an element with a class and children; text is text, whatever it looks like. */
function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** Make a name that may be broken into lines behind its joints. */
function nameOf(text) {
  const name = make("bdi");
  for (const part of text.split(/(?<=[_\-/.])/)) name.append(part, make("wbr"));
  return name;
}

function swatch(number) {
  const element = make("i", "swatch");
  element.style.background = report.colours[number];
  return element;
}

/* All images: rows are [name, width, height, IoU, accuracy, labelled pixels, element id or null]. */

const FIRST_ROWS = 200;
const allTable = document.getElementById("all-table");
const allMore = document.getElementById("all-more");
const allFind = document.getElementById("all-find");
let allRows = report.images.slice();
let allShown = FIRST_ROWS;

function imageRow([name, width, height, iou, accuracy, labelled, id]) {
  const label = nameOf(name);
  const link = id ? make("a", "", label) : label;
  if (id) link.href = `#${id}`;
  const heading = make("th", "", link);
  heading.scope = "row";
  heading.title = name;
  const fill = make("i");
  fill.style.width = `${100 * (iou ?? 0)}%`;
  return make("tr", "", heading,
    make("td", "num", `${width} × ${height}`),
    make("td", "num", percent(iou), " ", make("span", "track", fill)),
    make("td", "num", percent(accuracy)),
    make("td", "num", labelled.toLocaleString("en")));
}

function showRows() {
  const wanted = allFind.value.toLowerCase();
  const found = allRows.filter(row => row[0].toLowerCase().includes(wanted));
  allTable.tBodies[0].replaceChildren(...found.slice(0, allShown).map(imageRow));
  allMore.hidden = found.length <= allShown;
  allMore.textContent = `Show all ${found.length.toLocaleString("en")}`;
  const number = Math.min(allShown, found.length).toLocaleString("en");
  document.getElementById("all-count").textContent =
    `${number} of ${report.images.length.toLocaleString("en")}`;
}

allTable.tHead.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (!button) return;
  const column = Number(button.dataset.column);
  const down = turn(button.closest("th"));
  const value = row => (column === 2 ? row[1] * row[2] : row[column]);
  allRows.sort((a, b) => compare(value(a), value(b), down));
  showRows();
});
allFind.addEventListener("input", showRows);
allMore.addEventListener("click", () => {
  allShown = Infinity;
  showRows();
});
showRows();
