// The panel: one tensor with its histogram, grid and channels, or one node with its tensors.
const BOXES = DATA.graph.nodes;
const MAKER = new Map(BOXES.flatMap((box, index) => box.makes.map((name) => [name, index])));
const NAMED = new Map(BOXES.map((box, index) => [box.name, index]));
const PLACE = DATA.tensors.map((row) => (row.kind === "weight" || row.kind === "bias" ? NAMED.get(row.node) : MAKER.get(row.name) ?? NAMED.get(row.node)) ?? 0);
const TENSORS_OF = BOXES.map(() => []);
PLACE.forEach((box, index) => TENSORS_OF[box].push(index));
const RANK = { activation: 0, output: 1, weight: 2, bias: 3 };
TENSORS_OF.forEach((own) => own.sort((a, b) => RANK[DATA.tensors[a].kind] - RANK[DATA.tensors[b].kind]));
BOXES.forEach((box, index) => { if (box.op === "output") TENSORS_OF[index] = DATA.tensors.flatMap((row, at) => (row.name === box.name && row.kind === "output" ? [at] : [])); });

function histogram(row, logarithmic) {
  const { counts, start, step } = row.histogram, grid = row.grid;
  const width = 440, height = 190, top = 26, bottom = 34, base = height - bottom;
  const end = start + step * counts.length;
  const reach = end - start, ends = grid ? grid.span : [start, end];
  // A grid much wider than the values is cut off, and said to be: the picture is of the values.
  const lo = Math.max(Math.min(start, ends[0]), start - 0.6 * reach), hi = Math.min(Math.max(end, ends[1]), end + 0.6 * reach);
  const px = (value) => 8 + ((value - lo) / (hi - lo || 1)) * (width - 16);
  const tall = (count) => (logarithmic ? Math.log1p(count) : count), most = Math.max(...counts.map(tall)) || 1;
  const inside = (value) => value >= lo && value <= hi;
  const bar = (count, index) => {
    const x = start + index * step, size = count ? Math.max(1, (tall(count) / most) * (base - top)) : 0;
    const out = grid && (x + step <= ends[0] || x >= ends[1]);
    return count ? s("rect", { class: out ? "bars out" : "bars", x: px(x), width: Math.max(0.6, px(x + step) - px(x) - 0.5), y: base - size, height: size }) : null;
  };
  const parts = [];
  if (grid) {
    const left = px(Math.max(lo, ends[0])), right = px(Math.min(hi, ends[1]));
    parts.push(s("rect", { class: "span", x: left, width: Math.max(0, right - left), y: top, height: base - top }));
    parts.push(...levels(grid, lo, hi).map((value) => s("line", { class: "tick", x1: px(value), x2: px(value), y1: base, y2: base + 5 })));
    const label = (value, anchor) => s("text", { class: "line-label", x: px(value) + (anchor === "start" ? -2 : 2), y: top - 9, "text-anchor": anchor }, number(value));
    ends.forEach((value, side) => { if (inside(value)) parts.push(s("line", { class: "clip", x1: px(value), x2: px(value), y1: top - 5, y2: base + 5 }), label(value, side ? "end" : "start")); });
  }
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, width: "100%", role: "img", "aria-label": `Histogram of ${row.name}: values from ${number(row.lo)} to ${number(row.hi)}${grid ? `, grid from ${number(ends[0])} to ${number(ends[1])}` : ""}` },
    parts, counts.map(bar), s("line", { class: "axis", x1: 8, x2: width - 8, y1: base, y2: base }),
    lo !== ends[0] && s("text", { x: 8, y: height - 10 }, number(lo)), inside(0) && px(0) > 70 && px(0) < width - 70 && s("text", { x: px(0), y: height - 10, "text-anchor": "middle" }, "0"),
    hi !== ends[1] && s("text", { x: width - 8, y: height - 10, "text-anchor": "end" }, number(hi)));
  return svg;
}

// Levels of the grid, where there is room to tell them apart.
function levels(grid, lo, hi) {
  if (grid.scales !== 1 || (hi - lo) / grid.scale[0] > 150) return [];
  const found = [];
  for (let level = grid.qmin; level <= grid.qmax; level += 1) {
    const value = (level - grid.zero_point[0]) * grid.scale[0];
    if (value >= lo && value <= hi) found.push(value);
  }
  return found;
}

function histogramPart(row) {
  if (!row.histogram) return [];
  const holder = h("div", {}, histogram(row, false));
  const toggle = choice("Height of the bars", [[false, "linear"], [true, "log"]], false, (log) => holder.replaceChildren(histogram(row, log)));
  const grid = row.grid, used = grid && grid.span[1] > grid.span[0]
    ? (Math.min(row.hi, grid.span[1]) - Math.max(row.lo, grid.span[0])) / (grid.span[1] - grid.span[0]) : null;
  const text = grid ? ["Dashed: the ends of the grid", grid.scales > 1 ? " (the widest of its channels)" : "", ". Values beyond them are clipped.",
    used === null || used < 0 ? "" : used < 1 ? ` The values span ${percent(used)} of it.` : " The values span all of it."] : [];
  return [h("div", { class: "tools" }, h("h3", {}, "Values in the float model"), h("div", { class: "end" }, toggle)), holder, h("p", { class: "small soft" }, text)];
}

function channelPart(row) {
  const all = row.channels;
  if (!all) return [];
  const width = 440, height = 150, top = 8, base = 132, count = all.lo.length;
  const low = Math.min(0, ...all.lo), high = Math.max(0, ...all.hi), one = (width - 16) / count;
  const py = (value) => top + (1 - (value - low) / (high - low || 1)) * (base - top);
  const label = (index) => (all.each > 1 ? `channels ${index * all.each} to ${Math.min(all.count, (index + 1) * all.each) - 1}` : `channel ${index}`);
  const widths = all.hi.map((hi, index) => Math.max(hi, -all.lo[index])).filter((size) => size > 0).sort((a, b) => a - b);
  const ratio = widths.length ? widths[widths.length - 1] / widths[Math.floor(widths.length / 2)] : null;
  return [h("h3", {}, `${plural(all.count, "channel")} along axis ${all.axis}`),
    s("svg", { viewBox: `0 0 ${width} ${height}`, width: "100%", role: "img", "aria-label": `Least and largest value of ${all.count} channels` },
      all.lo.map((lo, index) => s("rect", { class: `f${damage(all.sqnr_db[index])}`, stroke: "var(--bars)", "stroke-width": one > 3 ? 0.7 : 0, x: 8 + index * one + 0.5, width: Math.max(0.6, one - 1), y: py(all.hi[index]), height: Math.max(1, py(lo) - py(all.hi[index])) },
        s("title", {}, `${label(index)}: ${number(lo)} to ${number(all.hi[index])}, ${decibels(all.sqnr_db[index])} dB`))),
      s("line", { class: "axis", x1: 8, x2: width - 8, y1: py(0), y2: py(0) }),
      s("text", { x: 8, y: height - 4 }, all.each > 1 ? `${all.each} channels a bar` : "channel 0"), s("text", { x: width - 8, y: height - 4, "text-anchor": "end" }, `${number(low)} to ${number(high)}`)),
    h("p", { class: "small soft" }, "From the least to the largest value of each channel, coloured by its SQNR",
      ratio ? `. The widest channel reaches ${number(ratio)} times as far as the one in the middle.` : ".")];
}

function noisePart(row) {
  const parts = [["rounding", row.rounding], ["clipped below", row.clipping_below], ["clipped above", row.clipping_above]];
  if (!row.grid || row.local_db === null || !(row.rounding + row.clipping_below + row.clipping_above > 0)) return [];
  const bar = h("div", { class: "split" }, parts.map(([name]) => h("span", { title: name })));
  parts.forEach(([, share], index) => { bar.children[index].style.width = `${share * 100}%`; });
  return [h("h3", {}, "Where the local noise comes from"), bar,
    h("p", { class: "small soft" }, parts.map(([name, share]) => `${name} ${percent(share)}`).join("  \u00b7  "))];
}

const between = ([low, high]) => (low === high ? number(low) : `${number(low)} to ${number(high)}`);
function gridPart(row) {
  const grid = row.grid;
  if (!grid) return [];
  return [h("h3", {}, "The grid"), facts([
    ["type", grid.spec], ["scale", between(grid.scale) + (grid.scales > 1 ? ` (${whole(grid.scales)} scales, axis ${grid.axis})` : "")],
    ["zero point", grid.zero_point[0] === grid.zero_point[1] ? String(grid.zero_point[0]) : `${grid.zero_point[0]} to ${grid.zero_point[1]}`],
    ["levels", `${whole(grid.qmax - grid.qmin + 1)}, from ${number(grid.span[0])} to ${number(grid.span[1])}`],
    ["shared with", row.like], ["why", row.why], ["range", row.source]])];
}

function tensorDetail(index) {
  const row = DATA.tensors[index], rounded = row.grid !== null;
  return [
    h("dl", { class: "pair" },
      h("div", {}, h("dt", {}, "accumulated SQNR"), h("dd", {}, chip(row.sqnr_db), h("small", {}, "dB, all error so far"))),
      h("div", {}, h("dt", {}, "local SQNR"), h("dd", {}, rounded ? chip(row.local_db) : "\u2013", h("small", {}, rounded ? "dB, its own grid" : "it has no grid of its own")))),
    histogramPart(row), noisePart(row), gridPart(row), channelPart(row),
    h("h3", {}, "In figures"), facts([
      ["values", `${whole(row.count)}, from ${number(row.lo)} to ${number(row.hi)}`],
      ["clipped", rounded ? `${percent(row.below)} below, ${percent(row.above)} above` : ""],
      ["cosine", row.cosine === null ? "" : row.cosine.toFixed(6)], ["mean squared error", number(row.mse)], ["largest error", number(row.max_error)]]),
  ];
}

function nodeDetail(index, onTensor) {
  const box = BOXES[index], own = TENSORS_OF[index];
  const words = { quantized: "quantized", absorbed: "absorbed by a neighbour", float: "left in float" };
  const item = (at) => h("li", {}, h("button", { type: "button", class: "plain", click: () => onTensor(at) }, DATA.tensors[at].name),
    h("span", { class: "tools" }, h("span", { class: "tag" }, DATA.tensors[at].kind), chip(DATA.tensors[at].sqnr_db)));
  return [facts([["status", words[box.status] || ""], ["reason", box.reason || ""]]),
    h("h3", {}, plural(own.length, "measured tensor")),
    own.length ? h("ul", { class: "list" }, own.map(item)) : h("p", { class: "small soft" }, "Nothing that this node makes or reads has a grid of its own."),
    own.length === 1 ? tensorDetail(own[0]) : []];
}
