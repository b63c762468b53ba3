"use strict";
// All of the page can be read without this: it sorts tables, moves through the steps, chooses a seed.
document.documentElement.classList.add("js");

// A column's header sorts: upwards, downwards, as it was. Groups of rows stay apart; rows without a value come last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const groups = [...table.tBodies].map((body) => [body, [...body.rows].filter((row) => row.className !== "group")]);
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const order = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")];
      heads.forEach((other) => other.setAttribute("aria-sort", other === head ? order : "none"));
      const value = (row) => row.cells[column].dataset.value;
      const compared = (a, b) => (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
      const inOrder = (one, other) => {
        const a = value(one), b = value(other);
        if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
        return order === "ascending" ? compared(a, b) : compared(b, a);
      };
      for (const [body, rows] of groups) body.append(...(order === "none" ? rows : [...rows].sort(inOrder)));
    });
  });
}

for (const pictures of document.querySelectorAll(".pictures")) {
  const controls = pictures.querySelector(".controls");
  controls.hidden = false;

  // Every figure shows its own last picture up to the slider's step.
  const slider = controls.querySelector("input[type=range]");
  if (slider) {
    const steps = slider.dataset.steps.split(" ").map(Number);
    const show = () => {
      const step = steps[slider.value], words = step.toLocaleString("en");
      controls.querySelector("output").textContent = words;
      slider.setAttribute("aria-valuetext", `step ${words}`);
      for (const figure of pictures.querySelectorAll("figure.steps")) {
        const images = [...figure.querySelectorAll("img")];
        const shown = images.findLast((image) => Number(image.dataset.step) <= step) ?? images[0];
        for (const image of images) image.hidden = image !== shown;
        figure.querySelector(".step").textContent = Number(shown.dataset.step).toLocaleString("en");
      }
    };
    slider.addEventListener("input", show);
    show(); // a browser that comes back to the page keeps the slider where it was
  }

  const choose = () => {
    const seed = controls.querySelector("input[type=radio]:checked").value;
    for (const figure of pictures.querySelectorAll("figure[data-seed]"))
      figure.hidden = seed !== "all" && figure.dataset.seed !== seed;
  };
  controls.addEventListener("change", choose);
  choose();
}
