"use strict";
// The viewer: slices are PNGs whose greys are codes of Hounsfield units, drawn through a window.

const page = JSON.parse(document.getElementById("data").textContent);
const viewer = document.getElementById("viewer");
const STYLES = {
  truth: { colour: "#50a5ff", dash: [8, 6] },
  hit: { colour: "#46e15a", dash: [] },
  false: { colour: "#ff6b6b", dash: [3, 4] },
  found: { colour: "#ffcd32", dash: [] },
};
const WORDS = { truth: "ground truth", hit: "true positive", false: "false positive",
  found: "detection" };
const KEPT = 40; // decoded slices

const state = { slice: page.start, window: page.window, boxes: true, row: null };
const decoded = new Map(); // place of a slice to the promise of its codes

function codesOf(place) {
  if (!decoded.has(place)) {
    if (decoded.size >= KEPT) decoded.delete(decoded.keys().next().value);
    decoded.set(place, decode(page.slices[place]));
  }
  return decoded.get(place);
}

async function decode(slice) {
  const image = new Image();
  image.src = slice.image;
  await image.decode();
  const canvas = new OffscreenCanvas(...slice.stored);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, ...slice.stored);
}

function windowOf(slice) {
  const soft = page.windows[1].range; // for slices that have none of their own
  return page.windows[state.window].range || slice.window || soft;
}

function windowed(codes, [low, high]) {
  const greys = page.levels.map((hu) => (255 * (hu - low)) / (high - low)); // clamped when stored
  const picture = new ImageData(codes.width, codes.height);
  const to = picture.data;
  for (let i = 0; i < to.length; i += 4) {
    to[i] = to[i + 1] = to[i + 2] = greys[codes.data[i]];
    to[i + 3] = 255;
  }
  const canvas = new OffscreenCanvas(codes.width, codes.height);
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}

async function draw() {
  const place = state.slice;
  const slice = page.slices[place];
  describe(slice);
  const codes = await codesOf(place);
  if (place !== state.slice) return; // the next one is on its way
  const canvas = document.getElementById("picture");
  const [columns, rows] = slice.size;
  const ratio = window.devicePixelRatio || 1;
  const shape = (rows * slice.spacing[1]) / (columns * slice.spacing[0]);
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(canvas.width * shape);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(windowed(codes, windowOf(slice)), 0, 0, canvas.width, canvas.height);
  const scale = [canvas.width / columns, canvas.height / rows];
  if (state.boxes) drawBoxes(context, slice.boxes, scale, ratio);
  drawEdges(context, slice.edges, ratio);
  viewer.dataset.slice = place;
  viewer.dataset.window = state.window;
  viewer.dataset.boxes = state.boxes;
  for (const next of [place + 1, place - 1]) if (page.slices[next]) codesOf(next);
}

function drawBoxes(context, boxes, [sx, sy], ratio) {
  const chosen = state.row && +state.row.dataset.slice === state.slice && +state.row.dataset.box;
  context.font = `${13 * ratio}px system-ui, sans-serif`;
  const taken = []; // by scores
  boxes.forEach((box, number) => {
    const [x1, y1, x2, y2] = box.corners;
    const { colour, dash } = STYLES[box.kind];
    const frame = [x1 * sx, y1 * sy, (x2 - x1 + 1) * sx, (y2 - y1 + 1) * sy];
    const line = (number === chosen ? 4 : 2) * ratio;
    context.setLineDash([]);
    context.strokeStyle = "rgb(0 0 0 / 50%)"; // so that it is seen on bone
    context.lineWidth = line + 2 * ratio;
    context.strokeRect(...frame);
    context.setLineDash(dash.map((length) => length * ratio));
    context.strokeStyle = colour;
    context.lineWidth = line;
    context.strokeRect(...frame);
    if (box.score === null) return;
    const text = box.score.toFixed(2);
    const size = [context.measureText(text).width + 6 * ratio, 16 * ratio];
    const [x, y] = freePlace(context.canvas, frame, size, taken);
    taken.push([x, y, ...size]);
    context.fillStyle = "#000";
    context.fillRect(x, y, ...size);
    context.fillStyle = colour;
    context.fillText(text, x + 3 * ratio, y + 12.5 * ratio);
  });
}

// Where a label goes: above its frame, below it or beside it, where no other label is.
function freePlace(canvas, [x, y, width, height], [w, h], taken) {
  const places = [[x, y - h - 2], [x, y + height + 2], [x + width + 2, y], [x - w - 2, y],
    [x + width - w, y - h - 2], [x + width - w, y + height + 2]]
    .map(([left, top]) => [Math.min(Math.max(left, 0), canvas.width - w),
      Math.min(Math.max(top, 0), canvas.height - h)]);
  const isFree = ([left, top]) => taken.every(([a, b, c, d]) =>
    left >= a + c || a >= left + w || top >= b + d || b >= top + h);
  return places.find(isFree) || places[0];
}

function drawEdges(context, [left, top, right, bottom], ratio) {
  const { width, height } = context.canvas;
  context.font = `bold ${15 * ratio}px system-ui, sans-serif`;
  context.fillStyle = "#fff";
  context.strokeStyle = "#000";
  context.lineWidth = 3 * ratio;
  context.setLineDash([]);
  const places = [[left, 8 * ratio, height / 2], [top, width / 2, 18 * ratio],
    [right, width - 18 * ratio, height / 2], [bottom, width / 2, height - 8 * ratio]];
  for (const [letter, x, y] of places) {
    context.strokeText(letter, x, y);
    context.fillText(letter, x, y);
  }
}

function describe(slice) {
  const [low, high] = windowOf(slice);
  const counts = Object.keys(STYLES)
    .map((kind) => [slice.boxes.filter((box) => box.kind === kind).length, WORDS[kind]])
    .filter(([count]) => count)
    .map(([count, word]) => `${count} ${word}${count > 1 ? "s" : ""}`);
  const text = `${slice.name} (${state.slice + 1} of ${page.slices.length}), ` +
    `${low} to ${high} HU, ${counts.join(", ") || "no boxes"}`;
  document.getElementById("where").textContent = text;
  document.getElementById("picture").setAttribute("aria-label", `CT slice ${text}`);
  const slider = document.getElementById("slider");
  slider.value = state.slice;
  slider.setAttribute("aria-valuetext", slice.name);
  for (const button of viewer.querySelectorAll("[data-window]"))
    button.setAttribute("aria-pressed", +button.dataset.window === state.window);
  for (const row of rows()) {
    row.classList.toggle("here", +row.dataset.slice === state.slice);
    if (row === state.row) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
  }
}

function rows() {
  return [...document.querySelectorAll("tr[data-slice]")];
}

function go(place) {
  state.slice = Math.min(Math.max(place, 0), page.slices.length - 1);
  if (state.row && +state.row.dataset.slice !== state.slice) state.row = null;
  return draw();
}

function choose(row) {
  if (!row) return;
  state.row = row;
  row.scrollIntoView({ block: "nearest" });
  go(+row.dataset.slice);
}

function chooseNext(step) {
  const all = rows();
  const place = all.indexOf(state.row);
  choose(all[place < 0 ? (step > 0 ? 0 : all.length - 1) : place + step]);
}

function setWindow(number) {
  if (!page.windows[number]) return;
  state.window = number;
  draw();
}

function setBoxes(shown) {
  state.boxes = document.getElementById("boxes").checked = shown;
  draw();
}

const STEPS = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1, PageUp: -10, PageDown: 10,
  Home: -Infinity, End: Infinity };

function onKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const free = event.target === document.body && viewer.getBoundingClientRect().bottom > 100;
  if (event.key in STEPS) {
    if (!free && !viewer.contains(event.target)) return; // tables and the page scroll as usual
    go(state.slice + STEPS[event.key]);
  } else if (/^[1-9]$/.test(event.key)) setWindow(event.key - 1);
  else if (event.key === "b") setBoxes(!state.boxes);
  else if (event.key === "n") chooseNext(1);
  else if (event.key === "p") chooseNext(-1);
  else return;
  event.preventDefault();
}

if (viewer) {
  document.addEventListener("keydown", onKey);
  document.getElementById("slider").addEventListener("input", (event) => go(+event.target.value));
  document.getElementById("boxes").addEventListener("change", (event) =>
    setBoxes(event.target.checked));
  document.getElementById("picture").addEventListener("wheel", (event) => {
    event.preventDefault();
    go(state.slice + Math.sign(event.deltaY));
  }, { passive: false });
  for (const button of viewer.querySelectorAll("[data-window]"))
    button.addEventListener("click", () => setWindow(+button.dataset.window));
  for (const row of rows()) row.addEventListener("click", () => choose(row));
  window.addEventListener("resize", draw);
  draw();
}
