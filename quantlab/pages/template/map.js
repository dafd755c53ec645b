// The small map: the whole graph as coloured marks, with a frame around what is in sight. Hidden while all of it is.
function graphMap(full, places, view, extent, onPoint) {
  const phone = window.innerWidth < 720, wide = phone ? 96 : 176;
  const size = [wide, Math.round(Math.min(phone ? 140 : 300, Math.max(36, (wide * full[1]) / full[0])))];
  const scale = Math.min((size[0] - 10) / full[0], (size[1] - 10) / full[1]);
  const canvas = h("canvas", { class: "map", "aria-hidden": "true" });
  [canvas.style.width, canvas.style.height] = size.map((pixels) => `${pixels}px`);

  function draw(harm) {
    const seen = extent(), ratio = window.devicePixelRatio || 1;
    canvas.hidden = [view.x, view.y].every((from, axis) => from >= 0 && from + full[axis] * view.k <= seen[axis]);
    if (canvas.hidden) return;
    [canvas.width, canvas.height] = size.map((pixels) => pixels * ratio);
    const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    const colours = CLASSES.map((_, index) => style.getPropertyValue(`--d${index}`)), none = style.getPropertyValue("--line");
    pen.scale(ratio, ratio);
    places.forEach(([x, y], index) => {
      const across = harm[index] === undefined ? SIZE[0] / 2 : SIZE[0];
      pen.fillStyle = harm[index] === undefined ? none : colours[damage(harm[index])];
      pen.fillRect(5 + (x - across / 2) * scale, 5 + (y - SIZE[1] / 2) * scale, Math.max(2, across * scale), Math.max(1, SIZE[1] * scale));
    });
    const corner = (pixels, axis) => Math.min(size[axis] - 2, Math.max(2, 5 + ((pixels - [view.x, view.y][axis]) / view.k) * scale));
    const [left, top, right, bottom] = [corner(0, 0), corner(0, 1), corner(seen[0], 0), corner(seen[1], 1)];
    pen.strokeStyle = style.getPropertyValue("--accent");
    pen.lineWidth = 1.5;
    pen.strokeRect(left, top, right - left, bottom - top);
  }
  const jump = (event) => {
    if (!(event.buttons & 1)) return;
    const box = canvas.getBoundingClientRect();
    onPoint((event.clientX - box.left - 5) / scale, (event.clientY - box.top - 5) / scale);
  };
  canvas.addEventListener("pointerdown", jump);
  canvas.addEventListener("pointermove", jump);
  return { element: canvas, draw };
}
