// SQNR against depth: one dot a tensor in the order in which the model computes them. A fall is where error enters.
function depthPlot(measure, width, onPick) {
  const dots = DATA.tensors.map((row, index) => ({ row, index, x: PLACE[index], y: row[measure] }))
    .filter(({ row }) => measure === "local_db" ? row.kind !== "output" : ["activation", "output"].includes(row.kind))
    .sort((a, b) => a.x - b.x);
  if (!dots.length) return h("p", { class: "soft" }, "There is no activation to show.");
  const height = 250, left = 44, right = 14, top = 14, bottom = 30;
  const finite = dots.filter((dot) => dot.y !== null).map((dot) => dot.y);
  const high = Math.min(100, Math.ceil(Math.max(20, ...finite) / 10) * 10 + 5);
  const low = Math.max(-20, Math.floor((Math.min(25, ...finite) - 5) / 10) * 10);
  const most = Math.max(1, ...PLACE);
  const px = (dot) => left + 8 + (dot.x / most) * (width - left - right - 16);
  const py = (db) => top + (1 - ((db === null ? high : Math.min(high, Math.max(low, db))) - low) / (high - low)) * (height - top - bottom);
  const at = (some) => some.map((dot) => `M${px(dot).toFixed(1)} ${py(dot.y).toFixed(1)}h0`).join("");
  const main = dots.filter((dot) => !["weight", "bias"].includes(dot.row.kind));
  const lines = [];
  for (let db = Math.ceil(low / 10) * 10; db <= high; db += 10) lines.push(db);
  const marker = s("circle", { class: "marker", r: 8, cx: -50, cy: -50 });
  const tip = h("div", { class: "tip", hidden: true });
  const svg = s("svg", {
    class: "plot", viewBox: `0 0 ${width} ${height}`, width: "100%", tabindex: 0, role: "application",
    "aria-label": `SQNR of ${dots.length} tensors in the order of the model. Arrow keys move, Enter opens.`,
  },
  lines.map((db) => [s("line", { class: "rule", x1: left, x2: width - right, y1: py(db), y2: py(db) }),
    s("text", { x: left - 8, y: py(db) + 4, "text-anchor": "end" }, String(db).replace("-", "\u2212"))]),
  s("text", { x: left, y: height - 6 }, "input"), s("text", { x: width - right, y: height - 6, "text-anchor": "end" }, "output"),
  s("text", { x: 0, y: 10 }, "dB"),
  s("path", { class: "weights", d: at(dots.filter((dot) => ["weight", "bias"].includes(dot.row.kind))) }),
  s("path", { class: "trend", d: "M" + main.map((dot) => `${px(dot).toFixed(1)} ${py(dot.y).toFixed(1)}`).join("L") }),
  s("path", { class: "rims", d: at(main) }),
  CLASSES.map((_, index) => s("path", { class: `dots p${index}`, d: at(main.filter((dot) => damage(dot.y) === index)) })),
  marker);
  let current = -1;
  const show = (index) => {
    current = index;
    const dot = dots[index];
    marker.setAttribute("cx", px(dot));
    marker.setAttribute("cy", py(dot.y));
    tip.replaceChildren(h("b", {}, `${decibels(dot.y)} dB`), ` ${shorter(dot.row.name, 60)} (${dot.row.kind})`);
    tip.hidden = false;
    const scale = svg.getBoundingClientRect().width / width, across = px(dot) * scale;
    tip.style.left = `${Math.max(0, Math.min(across - tip.offsetWidth / 2, svg.getBoundingClientRect().width - tip.offsetWidth))}px`;
    tip.style.top = `${py(dot.y) * scale + (py(dot.y) < height / 2 ? 14 : -14 - tip.offsetHeight)}px`;
  };
  const hide = () => { tip.hidden = true; marker.setAttribute("cx", -50); };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), scale = width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    const far = (dot) => (px(dot) - x) ** 2 + (py(dot.y) - y) ** 2;
    let best = 0;
    dots.forEach((dot, index) => { if (far(dot) < far(dots[best])) best = index; });
    show(best);
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("click", () => { if (current >= 0) onPick(dots[current].index); });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) { show(Math.min(dots.length - 1, Math.max(0, current + step))); event.preventDefault(); }
    if (event.key === "Enter" && current >= 0) onPick(dots[current].index);
  });
  return h("div", { class: "holder" }, svg, tip);
}
