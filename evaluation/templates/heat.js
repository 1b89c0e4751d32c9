/* The confusion matrix of many classes, drawn. The canvas is as large as its box; what lies in view is drawn, whatever the size of the whole. */

const MIN_CELL = 2, TOUCH_CELL = 24, MAX_CELL = 56, NUMBER_CELL = 34, LETTERS = 12;

function setUpHeat(box) {
  const canvas = document.getElementById("heat-canvas");
  const size = document.getElementById("heat-size");
  const context = canvas.getContext("2d");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const cut = new Map();
  let cell = 1, head = 0;

  const fitting = () => (box.clientWidth - head) / numClasses;

  function setCell(wanted) {
    const middle = chosen ?? [(box.scrollTop + box.clientHeight / 2) / cell,
                              (box.scrollLeft + box.clientWidth / 2) / cell];
    const before = cell;
    cell = Math.min(MAX_CELL, Math.max(wanted, Math.min(MIN_CELL, fitting())));
    if (cell > 6) cell = Math.floor(cell);
    size.style.width = size.style.height = `${head + numClasses * cell}px`;
    box.style.height = `${head + numClasses * cell + 2}px`; // with its border
    box.scrollTop += middle[0] * (cell - before);
    box.scrollLeft += middle[1] * (cell - before);
    draw();
  }

  function takeWidth() {
    head = box.clientWidth < 600 ? 96 : 150;
    cut.clear();
    setCell(cell);
  }

  /** The name of a class, as much of it as fits. */
  function short(number) {
    if (!cut.has(number)) {
      const letters = [...report.classes[number]];
      const room = head - 24;
      while (letters.length > 1 && context.measureText(letters.join("") + "…").width > room) {
        letters.length = Math.min(letters.length - 1, 60);
      }
      const text = letters.join("");
      cut.set(number, text === report.classes[number] ? text : `${text}…`);
    }
    return cut.get(number);
  }

  function drawGrid([firstRow, lastRow], [firstColumn, lastColumn]) {
    context.fillStyle = "#8883";
    const end = head + numClasses * cell;
    for (let row = firstRow; row <= lastRow; row++) {
      context.fillRect(head, head + row * cell - box.scrollTop - 1, end - box.scrollLeft - head, 1);
    }
    for (let column = firstColumn; column <= lastColumn; column++) {
      context.fillRect(head + column * cell - box.scrollLeft - 1, head, 1, end - box.scrollTop - head);
    }
  }

  function drawCells(levels, [firstRow, lastRow], [firstColumn, lastColumn]) {
    context.fillStyle = levels[0][0];
    context.fillRect(head - box.scrollLeft, head - box.scrollTop, numClasses * cell, numClasses * cell);
    const gap = cell >= 8 ? 1 : 0;
    if (cell >= 14) drawGrid([firstRow, lastRow], [firstColumn, lastColumn]);
    context.textAlign = "center";
    for (let row = firstRow; row < lastRow; row++) {
      for (const column of matrixRows[row].cells.keys()) {
        if (column < firstColumn || column >= lastColumn) continue;
        const share = shareOf(row, column);
        const [ground, ink] = levels[Math.max(1, Math.round(share ** 0.5 * (levels.length - 1)))];
        const x = head + column * cell - box.scrollLeft, y = head + row * cell - box.scrollTop;
        context.fillStyle = ground;
        context.fillRect(x, y, cell - gap, cell - gap);
        if (cell >= NUMBER_CELL) {
          context.fillStyle = ink;
          const value = 100 * share;
          const text = value < 0.05 ? "·" : value.toFixed(value < 9.95 ? 1 : 0);
          context.fillText(text, x + cell / 2, y + cell / 2);
        }
      }
    }
  }

  /** One heading, to the left of a row or above a column: a swatch, and the name if it has room. */
  function drawHeading(number, above, colours, marked) {
    const away = above ? 1 : -1; // where the name goes, in a frame that is turned for a column
    const place = head + number * cell + cell / 2;
    const height = Math.max(cell, LETTERS + 6), side = Math.min(10, Math.max(2, cell - 1));
    context.save();
    if (above) context.translate(place - box.scrollLeft, head - 4);
    else context.translate(head - 4, place - box.scrollTop);
    if (above) context.rotate(-Math.PI / 2);
    if (marked) {
      context.fillStyle = colours.soft;
      context.fillRect(above ? 0 : -head, -height / 2, head, height);
    }
    context.fillStyle = report.colours[number];
    context.fillRect(above ? 0 : -side, -side / 2, side, side);
    if (marked || number % Math.ceil((LETTERS + 1) / cell) === 0) {
      context.fillStyle = marked ? colours.ink : colours.faint;
      context.textAlign = above ? "left" : "right";
      context.fillText(short(number), 15 * away, 0);
    }
    context.restore();
  }

  function drawHeadings([first, last], above, mark, colours) {
    const numbers = [];
    for (let number = first; number < last; number++) if (number !== mark) numbers.push(number);
    if (mark >= first && mark < last) numbers.push(mark); // above its neighbours
    for (const number of numbers) drawHeading(number, above, colours, number === mark);
  }

  function inBox(x, y, width, height, paint) {
    context.save();
    context.beginPath();
    context.rect(x, y, width, height);
    context.clip();
    paint();
    context.restore();
  }

  /** Says which classes are in view, where not all of them are. */
  function tell(rows, columns) {
    const range = ([first, last]) => `${first + 1}–${last}`;
    const all = [rows, columns].every(([first, last]) => last - first === numClasses);
    document.getElementById("heat-part").textContent = all
      ? "All classes are in view; numbers appear in large cells."
      : `Columns ${range(columns)} and rows ${range(rows)} of ${numClasses} are in view: scroll for the others.`;
  }

  function draw() {
    const [width, height] = [box.clientWidth, box.clientHeight];
    const dots = devicePixelRatio;
    if (canvas.width !== Math.round(width * dots) || canvas.height !== Math.round(height * dots)) {
      canvas.width = Math.round(width * dots);
      canvas.height = Math.round(height * dots);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
    const style = getComputedStyle(document.documentElement);
    const colours = {};
    for (const name of ["ink", "faint", "soft", "card", "alarm"]) {
      colours[name] = style.getPropertyValue(`--${name}`);
    }
    context.setTransform(dots, 0, 0, dots, 0, 0);
    context.font = `${LETTERS}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    context.fillStyle = colours.card;
    context.fillRect(0, 0, width, height);
    const seen = (scroll, room) => [Math.max(0, Math.floor(scroll / cell)),
      Math.min(numClasses, Math.ceil((scroll + room - head) / cell))];
    const rows = seen(box.scrollTop, height), columns = seen(box.scrollLeft, width);
    tell(rows, columns);
    const levels = report.scale[dark.matches ? "dark" : "light"];
    inBox(head, head, width, height, () => {
      drawCells(levels, rows, columns);
      if (!chosen) return;
      context.strokeStyle = colours.alarm;
      context.lineWidth = 2;
      const x = head + chosen[1] * cell - box.scrollLeft;
      const y = head + chosen[0] * cell - box.scrollTop;
      context.strokeRect(x - 1, y - 1, cell + 1, cell + 1);
    });
    // The first name is higher than a small cell and may reach over its edge.
    const edge = head - LETTERS / 2;
    inBox(0, edge, head, height, () => drawHeadings(rows, false, chosen?.[0], colours));
    inBox(edge, 0, width, head, () => drawHeadings(columns, true, chosen?.[1], colours));
    context.fillStyle = colours.faint;
    context.textAlign = "left";
    context.fillText("label ↓", 6, head - 36);
    context.fillText("predicted →", 6, head - 20);
  }

  function cellUnder(event) {
    const edge = box.getBoundingClientRect();
    const x = event.clientX - edge.left - box.clientLeft, y = event.clientY - edge.top - box.clientTop;
    if (x < head || y < head) return null;
    const place = [Math.floor((y - head + box.scrollTop) / cell),
                   Math.floor((x - head + box.scrollLeft) / cell)];
    return place.every(number => number < numClasses) ? place : null;
  }

  function choose(place) {
    if (!place) return;
    chosen = place;
    readOut(...place);
    draw();
  }

  function bringIntoView([row, column]) {
    const clamp = (scroll, number, room) => Math.min(number * cell,
      Math.max(scroll, (number + 1) * cell - (room - head)));
    box.scrollTop = clamp(box.scrollTop, row, box.clientHeight);
    box.scrollLeft = clamp(box.scrollLeft, column, box.clientWidth);
  }

  box.addEventListener("pointermove", event => {
    if (event.pointerType === "mouse") choose(cellUnder(event));
  });
  box.addEventListener("click", event => choose(cellUnder(event)));
  box.addEventListener("keydown", event => {
    if (event.key === "+" || event.key === "=") setCell(cell * 1.4 + 1);
    else if (event.key === "-") setCell(cell / 1.4);
    const next = step(event.key);
    if (!next) return;
    event.preventDefault();
    bringIntoView(next);
    choose(next);
  });
  box.addEventListener("scroll", draw);
  document.getElementById("heat-in").addEventListener("click", () => setCell(cell * 1.4 + 1));
  document.getElementById("heat-out").addEventListener("click", () => setCell(cell / 1.4));
  document.getElementById("heat-fit").addEventListener("click", () => setCell(fitting()));
  dark.addEventListener("change", draw);
  new ResizeObserver(takeWidth).observe(box);
  takeWidth();
  // Cells too small for a finger are for those who ask for them.
  setCell(fitting() < 4 ? TOUCH_CELL : fitting());
  box.scrollTo(0, 0);
}

if (document.getElementById("heat")) setUpHeat(document.getElementById("heat"));
