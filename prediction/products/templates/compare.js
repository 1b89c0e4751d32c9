/* The border between image and mask follows the slider that lies over both. */

const sliders = [...document.querySelectorAll(".compare input")];
const allAt = document.getElementById("all-at");

function show(slider) {
  slider.parentElement.style.setProperty("--at", `${slider.value}%`);
  slider.setAttribute("aria-valuetext", `${slider.value} % image`);
}

/** Move the border to where the pointer is: not every browser does so beside the thumb. */
function follow(event) {
  const { left, width } = event.target.getBoundingClientRect();
  event.target.value = (100 * (event.clientX - left)) / width;
  show(event.target);
}

for (const slider of sliders) {
  show(slider);
  slider.addEventListener("input", () => show(slider));
  slider.addEventListener("pointerdown", event => {
    if (event.pointerType === "mouse" && event.button) return;
    event.preventDefault(); // the browser's own rule would move it again, by another measure
    slider.focus({ preventScroll: true, focusVisible: false });
    slider.setPointerCapture(event.pointerId);
    if (event.pointerType === "mouse") follow(event);
  });
  for (const kind of ["pointermove", "pointerup"]) {
    slider.addEventListener(kind, event => {
      if (slider.hasPointerCapture(event.pointerId)) follow(event);
    });
  }
}

allAt?.addEventListener("input", () => {
  for (const slider of sliders) {
    slider.value = allAt.value;
    show(slider);
  }
});
