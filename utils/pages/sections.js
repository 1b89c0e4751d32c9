/* The section in view is marked in the navigation. */

const bar = document.querySelector("nav");
const sections = [...document.querySelectorAll("section")];

function markSection() {
  const rest = document.documentElement.scrollHeight - innerHeight - scrollY;
  // The end of the page cannot be scrolled further up: there the line goes down to meet it.
  const line = Math.max(0.3 * innerHeight, innerHeight - rest);
  const current = sections.findLast(section => section.getBoundingClientRect().top < line);
  for (const link of bar.children) {
    const marked = link.hash === `#${current?.id}`;
    if (!marked) {
      link.removeAttribute("aria-current");
    } else if (!link.hasAttribute("aria-current")) {
      link.setAttribute("aria-current", "true");
      bar.scrollTo({ left: link.offsetLeft - (bar.clientWidth - link.offsetWidth) / 2 });
    }
  }
}
addEventListener("scroll", markSection, { passive: true });
addEventListener("resize", markSection);
markSection();
