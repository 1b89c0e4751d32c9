"use strict";

/* Tables of the class "sortable" are sorted by the buttons in their headings. */

const byName = new Intl.Collator("en", { numeric: true });

/** Compare numbers by value, names as people sort them; missing values come last either way. */
function compare(a, b, down) {
  const missing = value => value === null || value === "";
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  const order = typeof a === "number" ? a - b : byName.compare(a, b);
  return down ? -order : order;
}

/** Mark a heading as the one that sorts; return whether the largest come first. */
function turn(heading) {
  const numbers = heading.classList.contains("num");
  const now = heading.getAttribute("aria-sort");
  const down = now ? now === "ascending" : numbers;
  for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  return down;
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const heading of table.tHead.rows[0].cells) {
    const button = heading.querySelector("button");
    if (!button) continue;
    button.addEventListener("click", () => {
      const down = turn(heading);
      const value = row => {
        const text = row.cells[heading.cellIndex].dataset.v;
        return heading.classList.contains("num") && text !== "" ? Number(text) : text;
      };
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => compare(value(a), value(b), down));
      table.tBodies[0].append(...rows);
    });
  }
}
