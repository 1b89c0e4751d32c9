/* The confusion matrix: the read-out, and the table of a few classes; heat.js has that of many. */

const matrixRows = report.rows.map(flat => {
  const cells = new Map();
  for (let i = 0; i < flat.length; i += 2) cells.set(flat[i], flat[i + 1]);
  return { cells, total: [...cells.values()].reduce((sum, count) => sum + Number(count), 0) };
});
const numClasses = matrixRows.length;
const matrixReadout = document.getElementById("confusion-readout");
let chosen = null;

function shareOf(row, column) {
  const { cells, total } = matrixRows[row];
  return total ? Number(cells.get(column) ?? 0) / total : 0;
}

function named(number) {
  return [swatch(number), make("bdi", "", report.classes[number])];
}

function readOut(row, column) {
  const { cells, total } = matrixRows[row];
  if (!total) {
    matrixReadout.replaceChildren(make("span", "", "no pixel is labelled "), ...named(row));
    return;
  }
  // Counts may be larger than a number holds: those come as text.
  const count = BigInt(cells.get(column) ?? 0).toLocaleString("en");
  const end = row === column ? ", correct" : "";
  matrixReadout.replaceChildren(
    make("span", "", "label "), ...named(row), make("span", "", " predicted as "),
    ...named(column),
    make("span", "", `: ${percent(shareOf(row, column))} of `),
    make("bdi", "", report.classes[row]), make("span", "", ` (${count} pixels)${end}`));
}

/** Where an arrow key leads from the chosen cell, or null. */
function step(key) {
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  if (!moves[key]) return null;
  if (!chosen) return [0, 0];
  return chosen.map((place, axis) =>
    Math.min(numClasses - 1, Math.max(0, place + moves[key][axis])));
}

function setUpTable(box) {
  const table = box.querySelector("table");
  const cellAt = (row, column) => table.tBodies[0].rows[row].cells[column + 1];

  function choose(row, column) {
    for (const old of table.querySelectorAll(".chosen")) old.classList.remove("chosen");
    chosen = [row, column];
    cellAt(row, column).classList.add("chosen");
    table.tBodies[0].rows[row].cells[0].classList.add("chosen");
    table.tHead.rows[0].cells[column + 1].classList.add("chosen");
    readOut(row, column);
  }

  function point(event) {
    const cell = event.target.closest("tbody td");
    if (cell && !cell.classList.contains("chosen")) {
      choose(cell.parentElement.sectionRowIndex, cell.cellIndex - 1);
    }
  }
  // A page that scrolls under a resting mouse enters other cells ("mouseover"), but nobody has
  // pointed at them: the cell that was reached by the keyboard stays chosen.
  table.addEventListener("pointermove", event => {
    if (event.pointerType === "mouse") point(event);
  });
  table.addEventListener("click", point);
  box.addEventListener("keydown", event => {
    const next = step(event.key);
    if (!next) return;
    event.preventDefault();
    choose(...next);
    cellAt(...next).scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}

if (document.getElementById("matrix")) setUpTable(document.getElementById("matrix"));
