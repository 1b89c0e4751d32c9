/* Panes that show the same part of images of one size. */

const LARGEST_PIXEL = 48; // of the stored image, on the screen

/**
 * Move and zoom the panes of the lightbox together, by mouse, wheel, fingers and buttons.
 *
 * width, height: of the stored image. point(x, y): called with the point under the mouse, in 0..1.
 */
function makeZoom(width, height, point) {
  let panes = [], room = [1, 1], fitted = [1, 1];
  let scale = 1, left = 0, top = 0; // of the image in its pane, in pixels of the screen
  const fingers = new Map();

  function reset(shown = panes) {
    panes = shown;
    room = [panes[0].clientWidth, panes[0].clientHeight];
    const fit = Math.min(room[0] / width, room[1] / height);
    fitted = [width * fit, height * fit];
    scale = 1;
    [left, top] = [0, 0];
    apply();
  }

  /** Keep an image that is larger than its pane filling it, and a smaller one in the middle. */
  function inside(place, axis) {
    const free = room[axis] - fitted[axis] * scale;
    return free > 0 ? free / 2 : Math.min(0, Math.max(free, place));
  }

  function apply() {
    left = inside(left, 0);
    top = inside(top, 1);
    for (const pane of panes) {
      const stage = pane.querySelector(".stage");
      stage.style.width = `${fitted[0] * scale}px`;
      stage.style.height = `${fitted[1] * scale}px`;
      stage.style.transform = `translate(${left}px, ${top}px)`;
      const image = stage.querySelector("img:last-of-type");
      const photo = pane.dataset.kind === "image";
      // Enlarged masks keep hard edges; a photograph does so only when its pixels are looked at.
      stage.classList.toggle("large", fitted[0] * scale > image.naturalWidth * (photo ? 6 : 1));
    }
  }

  function by(factor, x = room[0] / 2, y = room[1] / 2) {
    const most = Math.max(1, LARGEST_PIXEL * width / fitted[0]);
    const next = Math.min(most, Math.max(1, scale * factor));
    left = x - (x - left) * next / scale;
    top = y - (y - top) * next / scale;
    scale = next;
    apply();
  }

  function placeIn(pane, event) {
    const edge = pane.getBoundingClientRect();
    return [event.clientX - edge.left, event.clientY - edge.top];
  }

  function show(x, y) {
    const u = (x - left) / (fitted[0] * scale), v = (y - top) / (fitted[1] * scale);
    const outside = u < 0 || v < 0 || u >= 1 || v >= 1;
    for (const pane of panes) {
      const cross = pane.querySelector(".cross");
      cross.hidden = outside;
      cross.style.left = `${x}px`;
      cross.style.top = `${y}px`;
    }
    if (!outside) point(u, v);
  }

  function move(pane, event) {
    const place = placeIn(pane, event);
    const before = fingers.get(event.pointerId);
    if (before) {
      const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
      if (other) {
        const distance = from => Math.hypot(from[0] - other[0], from[1] - other[1]);
        by(distance(place) / Math.max(1, distance(before)), other[0], other[1]);
      } else {
        left += place[0] - before[0];
        top += place[1] - before[1];
        apply();
      }
      fingers.set(event.pointerId, place);
    }
    if (fingers.size < 2) show(...place);
  }

  function listen(pane) {
    pane.addEventListener("pointerdown", event => {
      pane.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, placeIn(pane, event));
      show(...placeIn(pane, event));
    });
    pane.addEventListener("pointermove", event => move(pane, event));
    for (const end of ["pointerup", "pointercancel"]) {
      pane.addEventListener(end, event => fingers.delete(event.pointerId));
    }
    pane.addEventListener("wheel", event => {
      event.preventDefault();
      const lines = event.deltaMode ? 30 : 1;
      by(Math.exp(-event.deltaY * lines / 400), ...placeIn(pane, event));
    }, { passive: false });
    pane.addEventListener("dblclick", event => by(2, ...placeIn(pane, event)));
  }

  for (const pane of document.querySelectorAll(".pane")) listen(pane);
  return { reset, by };
}
