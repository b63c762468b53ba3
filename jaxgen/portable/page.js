// The page of `jaxgen explore`: controls, a column for each seed, and what they show.
const content = JSON.parse(document.getElementById("content").textContent);
const [height, width, channels] = content.shape;
const by = (id) => document.getElementById(id);
const range = (count) => [...Array(count).keys()];

// Makes an element with properties and children.
function made(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// A canvas of so many images side by side, a pixel apart; one alone is enlarged by a whole number, so that its pixels stay square.
function canvasOf(columns, label) {
  const canvas = made("canvas", { width: columns * (width + 1) - 1, height });
  if (columns === 1) canvas.style.width = `${width * Math.max(1, Math.round(256 / width))}px`;
  else canvas.className = "strip";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  return canvas;
}

// Paints pixels [height, width, channels] in [0, 1].
function paint(canvas, pixels, column = 0) {
  const data = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) data.data[4 * i + c] = Math.round(255 * pixels[i * channels + (channels === 3 ? c : 0)]);
    data.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(data, column * (width + 1), 0);
}

// A column of the page for a seed.
function columnOf(seed, ...children) {
  const column = made("section", { className: content.seeds.length === 1 ? "seed only" : "seed" });
  column.append(made("div", {}, made("h2", { textContent: seed.name }), children[0]), made("div", {}, ...children.slice(1)));
  document.querySelector(".seeds").append(column);
}

function live() {
  const { program, latents } = content, conditional = content.conditions[0].length > 0;
  const constants = program.inputs + content.half.length;
  const codeShapes = program.shapes.slice(0, program.inputs - (conditional ? 1 : 0)), length = codeShapes.map(interpreter.size).reduce((a, b) => a + b);
  const state = { draw: 0, toward: 1, share: 0, condition: Float32Array.from(content.conditions[0]) };
  const seeds = content.seeds.map((seed) => {
    const weights = interpreter.unpack(seed.weights, program.shapes.slice(program.inputs, constants), content.half);
    const draws = new Float32Array(interpreter.bytes(seed.draws));
    return {
      ...seed,
      decoder: interpreter.compile(program, weights),
      draws: range(draws.length / length).map((n) => draws.subarray(n * length, (n + 1) * length)),
      images: new Uint16Array(interpreter.bytes(seed.images)),
    };
  });
  const numDraws = seeds[0].draws.length;

  // Pixels of a seed's codes, in [0, 1].
  function image(seed, codes, condition = state.condition) {
    let at = 0;
    const inputs = codeShapes.map((shape) => codes.subarray(at, (at += interpreter.size(shape))));
    const pixels = seed.decoder(...inputs, ...(conditional ? [condition] : []));
    return pixels.map((value) => Math.min(Math.max(value, 0), 1));
  }

  // Codes between two, as jaxgen.pictures.latents has them: an arc for a Gaussian prior, else a line. Categories and
  // codes of maps change one after the other.
  function between(a, b, share) {
    if (latents.kind === "discrete") return b.map((code, n) => (n < share * length ? code : a[n]));
    if (latents.kind === "gaussian") {
      const norm = (v) => Math.sqrt(v.reduce((sum, x) => sum + x * x, 0)), [p, q] = [norm(a), norm(b)];
      const [u, v] = [Float64Array.from(a, (x) => x / p), Float64Array.from(b, (x) => x / q)];
      const angle = 2 * Math.atan2(norm(u.map((x, i) => x - v[i])), norm(u.map((x, i) => x + v[i])));
      if (p > 0 && q > 0 && Math.sin(angle) > 1e-7) {
        const scale = ((1 - share) * p + share * q) / Math.sin(angle);
        return Float32Array.from(u, (x, i) => scale * (Math.sin((1 - share) * angle) * x + Math.sin(share * angle) * v[i]));
      }
    }
    const made = a.map((x, i) => (1 - share) * x + share * b[i]);
    let at = 0;
    for (const part of latents.parts) {
      if (part.kind === "categorical") made.set((share < 0.5 ? a : b).subarray(at, at + part.size), at);
      at += part.size;
    }
    return made;
  }

  // Images that differ in the class, the caption or the category alone.
  const category = document.querySelectorAll(".category").length === 1 && latents.parts.find((part) => part.kind === "categorical");
  const variants = category
    ? { count: category.size, words: `Every ${category.name}, from the same latents`, image: (seed, n) => image(seed, withCategory(seed.codes, category.name, n)) }
    : {
        count: content.conditions.length,
        words: content.labels ? `Every class, from the same latents: ${content.choices.join(", ")}` : "Captions, from the same latents",
        image: (seed, n) => image(seed, seed.codes, Float32Array.from(content.conditions[n])),
      };

  function withCategory(codes, name, n) {
    const [start, size] = placeOf(name);
    const changed = codes.slice().fill(0, start, start + size);
    changed[start + n] = 1;
    return changed;
  }

  // The page's columns.
  for (const seed of seeds) {
    seed.canvas = canvasOf(1, `image of ${seed.name}`);
    const controls = latents.kind === "discrete" ? latents.levels.map((level) => mapOf(seed, level)) : [slidersOf(seed)];
    seed.path = canvasOf(7, `images of ${seed.name} along the path`);
    seed.pathCaption = made("figcaption");
    const figures = [made("figure", {}, seed.pathCaption, seed.path)];
    if (variants.count > 1) {
      seed.variants = canvasOf(variants.count, `images of ${seed.name}: ${variants.words}`);
      figures.push(made("figure", {}, made("figcaption", { textContent: variants.words }), seed.variants));
    }
    columnOf(seed, seed.canvas, ...controls, ...figures);
  }

  function slidersOf(seed) {
    seed.sliders = seed.dimensions.map(({ dimension, name, range: reach }) => {
      const text = made("output"), slider = made("input", { type: "range", min: -reach, max: reach, step: 0.01 });
      slider.setAttribute("aria-label", `${name} of ${seed.name}`);
      slider.addEventListener("input", () => {
        seed.codes[dimension] = slider.value;
        redraw();
      });
      const update = () => {
        if (Math.abs(slider.value - seed.codes[dimension]) > 0.006) slider.value = seed.codes[dimension];
        text.textContent = seed.codes[dimension].toFixed(2);
      };
      return { label: made("label", {}, name, slider, text), update };
    });
    return made("div", { className: "sliders" }, ...seed.sliders.map(({ label }) => label));
  }

  // A map of codes: a button chooses a place, the slider below the code there.
  function mapOf(seed, level) {
    const offset = latents.levels.slice(0, latents.levels.indexOf(level)).reduce((sum, { shape }) => sum + interpreter.size(shape), 0);
    const [rows, columns] = level.shape, text = made("output");
    const slider = made("input", { type: "range", min: 0, max: level.codes - 1 });
    slider.setAttribute("aria-label", `code at the chosen place of ${seed.name}`);
    let chosen = 0;
    const buttons = range(rows * columns).map((place) => {
      const button = made("button", { type: "button" });
      button.addEventListener("click", () => {
        chosen = place;
        redraw();
      });
      return button;
    });
    slider.addEventListener("input", () => {
      seed.codes[offset + chosen] = slider.value;
      redraw();
    });
    const update = () => {
      buttons.forEach((button, place) => {
        const code = seed.codes[offset + place];
        button.textContent = code;
        button.style.backgroundColor = `hsl(${(360 * code) / level.codes} 55% 75%)`;
        button.setAttribute("aria-pressed", place === chosen);
        button.setAttribute("aria-label", `row ${Math.floor(place / columns) + 1}, column ${(place % columns) + 1}: code ${code}`);
      });
      slider.value = seed.codes[offset + chosen];
      text.textContent = seed.codes[offset + chosen];
    };
    const map = made("div", { className: "codes" }, ...buttons);
    map.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
    (seed.sliders ??= []).push({ update });
    const name = latents.levels.length > 1 ? `${level.name}, code` : "code";
    return made("div", { className: "sliders" }, map, made("label", {}, name, slider, text));
  }

  // Drawing: the large images in the next frame, and those of the strips when nothing has changed for a while.
  let asked = false, waiting = 0;

  function redraw() {
    clearTimeout(waiting);
    waiting = setTimeout(() => later(strips()), 150);
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      for (const seed of seeds) {
        paint(seed.canvas, image(seed, seed.codes));
        for (const { update } of seed.sliders) update();
      }
      showControls();
    });
  }

  function later(images) {
    if (!images.next().done) waiting = setTimeout(() => later(images));
  }

  function* strips() {
    for (const seed of seeds) {
      seed.pathCaption.textContent = `From draw ${state.draw + 1} to draw ${state.toward + 1}`;
      for (const n of range(7)) yield paint(seed.path, image(seed, between(seed.draws[state.draw], seed.draws[state.toward], n / 6)), n);
      if (seed.variants) for (const n of range(variants.count)) yield paint(seed.variants, variants.image(seed, n), n);
    }
  }

  function showControls() {
    by("draw").textContent = `draw ${state.draw + 1} of ${numDraws}`;
    by("toward").value = state.toward;
    by("share").value = state.share;
    by("share-text").textContent = `${Math.round(100 * state.share)}%`;
    for (const select of document.querySelectorAll(".category")) {
      const [start, size] = placeOf(select.dataset.part);
      select.value = seeds[0].codes.subarray(start, start + size).indexOf(1);
    }
  }

  function placeOf(name) {
    let start = 0;
    for (const part of latents.parts) {
      if (part.name === name) return [start, part.size];
      start += part.size;
    }
  }

  // Codes of all seeds at once.
  function follow() {
    for (const seed of seeds) seed.codes = Float32Array.from(between(seed.draws[state.draw], seed.draws[state.toward], state.share));
    redraw();
  }

  function toDraw(number) {
    Object.assign(state, { draw: (number + numDraws) % numDraws, toward: (number + 1 + numDraws) % numDraws, share: 0 });
    follow();
  }

  by("toward").append(...range(numDraws).map((n) => made("option", { value: n, textContent: n + 1 })));
  by("previous").addEventListener("click", () => toDraw(state.draw - 1));
  by("next").addEventListener("click", () => toDraw(state.draw + 1));
  by("mean")?.addEventListener("click", () => {
    for (const seed of seeds) seed.codes.fill(0);
    redraw();
  });
  by("toward").addEventListener("change", (event) => {
    state.toward = Number(event.target.value);
    follow();
  });
  by("share").addEventListener("input", (event) => {
    state.share = Number(event.target.value);
    follow();
  });
  by("choice")?.addEventListener("change", (event) => {
    state.condition = Float32Array.from(content.conditions[event.target.selectedIndex]);
    redraw();
  });
  for (const select of document.querySelectorAll(".category"))
    select.addEventListener("change", () => {
      for (const seed of seeds) seed.codes = withCategory(seed.codes, select.dataset.part, select.selectedIndex);
      redraw();
    });

  // Words as jaxgen.data.vocabulary has them: 0 pads, 1 is an unknown word.
  by("caption")?.addEventListener("input", (event) => {
    const { words, length: most } = content.caption;
    const tokens = event.target.value.toLowerCase().normalize("NFC").match(/[\p{L}\p{N}_]+|[^\p{L}\p{N}_\s]/gu) ?? [];
    const unknown = [...new Set(tokens.filter((word) => !words.includes(word)))];
    state.condition = Float32Array.from(range(most), (n) => (n < tokens.length ? Math.max(words.indexOf(tokens[n]) + 2, 1) : 0));
    const notes = unknown.length ? [`Read as unknown: ${unknown.join(", ")}.`] : [];
    if (tokens.length > most) notes.push(`Only the first ${most} words are read.`);
    by("unknown").textContent = notes.join(" ");
    redraw();
  });

  // The page's own images of the first draws, beside JAX's.
  function check() {
    const size = height * width * channels, start = performance.now();
    let worst = 0, count = 0;
    for (const seed of seeds)
      for (const n of range(seed.images.length / size)) {
        const condition = Float32Array.from(content.conditions[n % content.conditions.length]);
        const pixels = image(seed, seed.draws[n], condition);
        pixels.forEach((value, i) => (worst = Math.max(worst, Math.abs(value - seed.images[n * size + i] / 65535) || (value >= 0 ? 0 : Infinity))));
        count++;
      }
    const milliseconds = (performance.now() - start) / count;
    Object.assign(by("checked").dataset, { difference: worst, milliseconds });
    by("checked").textContent = `Checked when the page was opened: ${count} images differ from JAX’s by at most ${worst.toExponential(1)} of a range of 1; an image takes ${milliseconds.toFixed(0)} ms here.`;
  }

  toDraw(0);
  setTimeout(check, 300);
}

function walk() {
  const seeds = content.seeds.map((seed) => {
    const canvas = canvasOf(1, `image of ${seed.name}`), sprite = new Image();
    sprite.addEventListener("load", show);
    sprite.src = `data:image/png;base64,${seed.images}`;
    columnOf(seed, canvas);
    return { canvas, sprite };
  });

  function show() {
    const place = Number(by("place").value), row = by("choice")?.selectedIndex ?? 0;
    for (const { canvas, sprite } of seeds)
      if (sprite.complete) canvas.getContext("2d").drawImage(sprite, place * width, row * height, width, height, 0, 0, width, height);
    by("place-text").textContent = `${place + 1} of ${content.count}`;
  }

  function forward() {
    by("place").value = (Number(by("place").value) + 1) % content.count;
    show();
  }

  let playing = 0;
  by("place").addEventListener("input", show);
  by("choice")?.addEventListener("change", show);
  by("play").addEventListener("click", () => {
    clearInterval(playing);
    playing = playing ? 0 : setInterval(forward, content.continuous ? 120 : 800);
    by("play").setAttribute("aria-pressed", Boolean(playing));
    by("play").textContent = playing ? "Stop" : "Play";
  });
  show();
}

document.querySelector(".controls").hidden = false;
({ live, walk })[content.kind]();
