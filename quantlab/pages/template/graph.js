// The graph: boxes where Python placed them, in strips; moved by drag, wheel, touch, keys and buttons.
const BAND = 16, READABLE = 0.42, COMFORTABLE = 0.62;

function graphView(onNode) {
  const phone = window.innerWidth < 720;
  const { at, size: full, stripOf, strips } = foldedGraph((Math.min(1240, window.innerWidth) - 60) / (phone ? 480 : 600));
  const places = BOXES.map((box) => at(box.x, box.y));
  const view = { x: 0, y: 0, k: 1 };
  let measure = "sqnr_db", chosen = -1, harm = [], waiting = false, dragged = false;

  // Boxes hang in bands of rows, made when they come into sight and hidden when they leave it: text is slow to lay out.
  const groups = {};
  BOXES.forEach((box, index) => (groups[`${stripOf[box.y]} ${Math.floor(places[index][1] / CELL[1] / BAND)}`] ||= []).push(index));
  const bands = Object.values(groups).map((members) => ({
    members, shape: s("g", { display: "none" }),
    reach: [0, 1].map((axis) => [Math.min(...members.map((one) => places[one][axis])) - SIZE[axis], Math.max(...members.map((one) => places[one][axis])) + SIZE[axis]]),
  }));
  const edges = DATA.graph.edges.map(edgeLine), shapes = BOXES.map(() => null);
  const scene = s("g", { id: "scene" }, s("g", { class: "edges" }, edges), bands.map((band) => band.shape));
  const svg = s("svg", { tabindex: 0, role: "application", "aria-label": `Graph of ${BOXES.length} nodes. Arrow keys walk along edges, Enter opens, plus and minus zoom.` }, scene);
  const extent = () => { const box = svg.getBoundingClientRect(); return [box.width || 800, box.height || 600]; };

  // The harmonic mean of two slopes of one sign: a curve through points that rise keeps rising.
  function together(a, b) { return a * b > 0 && Math.abs(a) < 2 * CELL[0] && Math.abs(b) < 2 * CELL[0] ? (2 * a * b) / (a + b) : 0; }
  function edgeLine([from, to, ...bends]) {
    const points = [[places[from][0], places[from][1] + SIZE[1] / 2, BOXES[from].y]];
    const bend = (i, beside) => { const [x, y] = at(bends[i], bends[i + 1]); points.push([x, y + (beside * SIZE[1]) / 2, bends[i + 1]]); };
    // An edge is at its first bend before the boxes of that row begin, and leaves the last where they have ended.
    if (bends.length) bend(0, -1);
    for (let i = 2; i < bends.length - 2; i += 2) bend(i, 0);
    if (bends.length) bend(bends.length - 2, 1);
    points.push([places[to][0], places[to][1] - SIZE[1] / 2, BOXES[to].y]);
    let path = `M${Math.round(points[0][0])},${Math.round(points[0][1])}`;
    // Edges leave and enter boxes upright; at bends they lean as both neighbours do, and not at all where those disagree.
    const lean = points.map((point, i) => (i && i < points.length - 1 ? together(point[0] - points[i - 1][0], points[i + 1][0] - point[0]) : null));
    for (let i = 1; i < points.length; i += 1) path += step(points[i - 1], points[i], lean[i - 1], lean[i]);
    return s("path", { d: path, class: !bends.length && BOXES[to].y - BOXES[from].y > 1 ? "far" : null });
  }
  function step(before, after, from, to) {
    const [x0, y0, x1, y1] = [before[0], before[1], after[0], after[1]].map(Math.round), high = y1 - y0;
    if (stripOf[before[2]] === stripOf[after[2]]) {
      const [a, b] = [from === null ? high / 2 : high / 3, to === null ? high / 2 : high / 3].map(Math.round);
      return `C${Math.round(x0 + (from || 0) / 3)},${y0 + a} ${Math.round(x1 - (to || 0) / 3)},${y1 - b} ${x1},${y1}`;
    }
    // Over a fold: down, up through the gutter, and down again.
    const gutter = Math.round(strips[stripOf[after[2]]].left - GUTTER / 2);
    return `C${x0},${y0 + 24} ${gutter},${y0 + 24} ${gutter},${y0 - 14}L${gutter},${y1 + 14}C${gutter},${y1 - 24} ${x1},${y1 - 24} ${x1},${y1}`;
  }
  function boxShape(index) {
    const box = BOXES[index], [x, y] = places[index], ends = box.op === "input" || box.op === "output", pad = ends ? 18 : 11;
    return s("g", { class: "box", "data-node": index, transform: `translate(${x - SIZE[0] / 2} ${y - SIZE[1] / 2})`, click: () => { if (!dragged) { mark(index); onNode(index); } } },
      s("title", {}, `${box.name} (${box.op})${box.status === "float" ? `: left in float, ${box.reason}` : ""}`),
      s("rect", { width: SIZE[0], height: SIZE[1], rx: ends ? 21 : 8 }), s("text", { class: "op", x: pad, y: 18 }, shorter(box.op, 12)),
      s("text", { class: "db", x: SIZE[0] - pad, y: 18, "text-anchor": "end" }), s("text", { class: "under", x: pad, y: 33 }, shorter(box.name, 20)));
  }

  // Damage of a node: the worst of what it makes; its constants count where local error is shown.
  function worst(index) {
    const found = TENSORS_OF[index].map((one) => DATA.tensors[one])
      .filter((row) => (measure === "local_db" ? row.grid : row.kind === "activation" || row.kind === "output"))
      .map((row) => row[measure]);
    return found.length ? found.reduce((a, b) => (a === null ? b : b === null ? a : Math.min(a, b))) : undefined;
  }
  function colour() {
    harm = BOXES.map((_, index) => worst(index));
    BOXES.forEach((_, index) => paint(index));
    redraw();
  }
  function paint(index) {
    const shape = shapes[index], db = harm[index], kind = BOXES[index].status === "float" ? " float" : "";
    if (!shape) return;
    shape.setAttribute("class", `box ${db === undefined ? "none" : `b${damage(db)}`}${kind}${index === chosen ? " chosen" : ""}`);
    shape.querySelector(".db").textContent = db === undefined ? (kind ? "float" : "") : decibels(db);
  }
  function showBand({ members, shape }, seen) {
    if (seen !== shape.hasAttribute("display")) return;
    if (!seen) { shape.setAttribute("display", "none"); return; }
    shape.removeAttribute("display");
    if (shape.childElementCount) return;
    members.forEach((index) => { shapes[index] = boxShape(index); paint(index); });
    shape.append(...members.map((index) => shapes[index]));
  }

  function move(x, y, k) {
    Object.assign(view, { x, y, k });
    scene.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)}) scale(${k.toFixed(4)})`);
    scene.classList.toggle("small-scale", k < READABLE);
    const ends = extent();
    bands.forEach((band) => showBand(band, k < READABLE || band.reach.every(([low, high], axis) => [x, y][axis] + high * k > 0 && [x, y][axis] + low * k < ends[axis])));
    redraw();
  }
  function zoom(factor, cx, cy) {
    const [width, height] = extent(), k = Math.min(3, Math.max(0.02, view.k * factor)), change = k / view.k;
    const [ax, ay] = [cx ?? width / 2, cy ?? height / 2];
    move(ax - (ax - view.x) * change, ay - (ay - view.y) * change, k);
  }
  const fitting = () => Math.min(1.15, (extent()[0] - 40) / full[0], (extent()[1] - 40) / full[1]);
  function fit() {
    const k = fitting(), [width, height] = extent();
    move((width - full[0] * k) / 2, (height - full[1] * k) / 2, k);
  }
  // The whole graph where it can be read, else its beginning at a size that can.
  function begin() {
    if (fitting() < COMFORTABLE) move(24, 24, 0.9);
    else fit();
  }
  function reveal(index, k) {
    const [width, height] = extent(), scale = k || Math.max(0.75, view.k);
    const covered = !byId("panel").hidden && width > 900 ? 240 : 0;
    move(width / 2 - covered - places[index][0] * scale, height / 2 - places[index][1] * scale, scale);
  }
  function mark(index) {
    const last = chosen;
    chosen = index;
    edges.forEach((line, number) => { const [from, to] = DATA.graph.edges[number]; line.classList.toggle("lit", index >= 0 && (from === index || to === index)); });
    for (const each of [last, index]) if (each >= 0) paint(each);
  }
  function walk(key) {
    if (chosen < 0) { mark(0); reveal(0); return; }
    const near = DATA.graph.edges.filter(([from, to]) => (key === "ArrowDown" ? from : to) === chosen).map(([from, to]) => (key === "ArrowDown" ? to : from));
    const beside = BOXES.map((_, index) => index).filter((index) => index !== chosen && BOXES[index].y === BOXES[chosen].y && (key === "ArrowRight") === (BOXES[index].x > BOXES[chosen].x));
    // Rows count more than columns: down goes into a block, not past it.
    const far = (index) => 1000 * Math.abs(BOXES[index].y - BOXES[chosen].y) + Math.abs(BOXES[index].x - BOXES[chosen].x);
    const found = (key === "ArrowDown" || key === "ArrowUp" ? near : beside).sort((a, b) => far(a) - far(b))[0];
    if (found !== undefined) { mark(found); reveal(found); say(`${BOXES[found].op} ${BOXES[found].name}`); }
  }

  const map = graphMap(full, places, view, extent, (x, y) => {
    const [width, height] = extent(), k = Math.max(view.k, 0.5);
    move(width / 2 - x * k, height / 2 - y * k, k);
  });
  function redraw() {
    if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; map.draw(harm); }); }
  }
  const pointed = (event) => { const box = svg.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  const touches = new Map();
  svg.addEventListener("pointerdown", (event) => { touches.set(event.pointerId, pointed(event)); dragged = false; });
  window.addEventListener("pointermove", (event) => {
    const before = touches.get(event.pointerId);
    if (!before) return;
    const now = pointed(event), other = [...touches].find(([id]) => id !== event.pointerId);
    if (other) {
      const [ox, oy] = other[1], gap = (point) => Math.hypot(point[0] - ox, point[1] - oy) || 1;
      zoom(gap(now) / gap(before), (now[0] + ox) / 2, (now[1] + oy) / 2);
    } else {
      if (!dragged && Math.hypot(now[0] - before[0], now[1] - before[1]) < 4) return;
      move(view.x + now[0] - before[0], view.y + now[1] - before[1], view.k);
    }
    dragged = true;
    touches.set(event.pointerId, now);
  });
  for (const kind of ["pointerup", "pointercancel"]) window.addEventListener(kind, (event) => { touches.delete(event.pointerId); });
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== svg) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.008 : 0.0016)), ...pointed(event));
  }, { passive: false });
  svg.addEventListener("keydown", (event) => {
    if (event.key.startsWith("Arrow")) walk(event.key);
    else if (event.key === "Enter" && chosen >= 0) onNode(chosen);
    else if (event.key === "+" || event.key === "=") zoom(1.3);
    else if (event.key === "-") zoom(1 / 1.3);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  });
  new ResizeObserver(redraw).observe(svg);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  const button = (text, label, click) => h("button", { type: "button", class: "button square", "aria-label": label, title: label, click }, text);
  const tools = h("div", { class: "tools pad" },
    choice("Colour by", [["sqnr_db", "accumulated"], ["local_db", "local"]], measure, (value) => { measure = value; colour(); }),
    legend(["none", "no grid of its own"], ["float", "left in float"]),
    h("div", { class: "tools end" }, button("+", "Zoom in", () => zoom(1.3)), button("\u2212", "Zoom out", () => zoom(1 / 1.3)), h("button", { type: "button", class: "button", click: fit }, "Whole graph")));
  const element = h("div", { class: "card" }, tools, h("div", { class: "frame" }, svg, map.element),
    h("div", { class: "hint" }, "Drag to move. Ctrl and wheel, or two fingers, to zoom. Click a node for its tensors; with the keyboard, arrows walk and Enter opens. A deep graph goes on at the top of the next strip."));
  return { element, colour, begin, mark, reveal };
}
