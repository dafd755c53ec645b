// The other sections: summary, sources of the error, nodes left in float, how it was made.
const section = (id, title, lead, ...content) => fill(byId(id), {}, [h("h2", {}, title), lead && h("p", { class: "lead" }, lead), ...content]);
const outputs = DATA.tensors.map((row, index) => ({ ...row, index })).filter((row) => row.kind === "output");
const least = outputs.length ? outputs.reduce((a, b) => ((b.sqnr_db ?? Infinity) < (a.sqnr_db ?? Infinity) ? b : a)) : null;

function verdict() {
  if (!least) return;
  const noise = least.sqnr_db === null ? 0 : 10 ** (-least.sqnr_db / 20);
  byId("verdict").append(...[
    noise ? ["At ", outputs.length > 1 ? "its worst output" : "its output", " the quantized model carries noise of ", h("b", {}, percent(noise)), " of the signal"] : ["The quantized model gives exactly the float model's output"],
    DATA.agreement === null ? "" : [", and prefers the same class as the float model in ", h("b", {}, percent(DATA.agreement)), " of rows"], ".",
  ].flat(2));
}

function summary(onTensor) {
  const { float: before, quantized: after } = DATA.models, [size, unit] = bytes(after.bytes), was = bytes(before.bytes).join(" ");
  const tile = (term, value, small, note) => h("div", { class: "card tile" }, h("dt", {}, term), h("dd", {}, value, small ? [" ", h("small", {}, small)] : null), note ? h("p", {}, note) : null);
  const nodes = DATA.plan && DATA.plan.nodes, all = nodes ? Object.values(nodes).reduce((a, b) => a + b, 0) : 0;
  byId("summary").append(h("dl", { class: "tiles" },
    least ? tile("SQNR at the output", decibels(least.sqnr_db), least.sqnr_db === null ? "" : "dB", h("button", { type: "button", class: "plain name", click: () => onTensor(least.index) }, least.name)) : null,
    DATA.agreement === null ? null : tile("Same class as float", percent(DATA.agreement), "", `over ${plural(DATA.samples, "batch").replace("batchs", "batches")}`),
    tile("Size", size, unit, before.bytes < after.bytes ? `larger than the float model's ${was}` : `${(before.bytes / after.bytes).toFixed(2)} times smaller than ${was}`),
    nodes ? tile("Nodes in integers", percent(((nodes.quantized || 0) + (nodes.absorbed || 0)) / all), "", `${nodes.float ? whole(nodes.float) : "none"} of ${whole(all)} left in float`) : tile("Nodes", whole(after.nodes), "", "in the quantized model"),
    tile("Tensors compared", whole(DATA.tensors.length - outputs.length), "", `over ${plural(DATA.samples, "batch").replace("batchs", "batches")}`),
    Object.entries(DATA.metrics).map(([name, value]) => tile(name, number(value)))));
  if (outputs.length > 1) byId("summary").append(h("h3", {}, "Outputs"), h("div", { class: "card pad" }, h("ul", { class: "list" }, outputs.map((row) => h("li", {}, h("button", { type: "button", class: "plain", click: () => onTensor(row.index) }, row.name), chip(row.sqnr_db))))));
}

function depthSection(onTensor) {
  const holder = h("div");
  let measure = "sqnr_db", drawn = 0;
  const draw = () => { drawn = Math.max(280, byId("depth").clientWidth - 38); holder.replaceChildren(depthPlot(measure, drawn, onTensor)); };
  section("depth", "Where the error enters", "Every dot is a tensor, in the order in which the model computes them; higher is better. A step down is where error enters. Local error is what a tensor's own grid does to exact values.",
    h("div", { class: "card pad" }, h("div", { class: "tools" }, choice("Error", [["sqnr_db", "accumulated"], ["local_db", "local"]], measure, (value) => { measure = value; draw(); }), h("div", { class: "end" }, legend())), holder));
  draw();
  window.addEventListener("resize", () => { if (Math.abs(byId("depth").clientWidth - 38 - drawn) > 4) draw(); });
}

function sourcesSection(onTensor) {
  const found = DATA.attribution;
  if (!found) { byId("sources").remove(); return; }
  const meter = (label, share) => { if (share === null) return null; const bar = h("i"); bar.style.setProperty("--share", `${Math.max(0, Math.min(1, share)) * 100}%`); return h("div", { class: "meter" }, label, bar, h("b", {}, percent(share))); };
  const item = (source) => {
    const index = DATA.tensors.findIndex((row) => row.name === source.tensor && row.kind !== "output");
    return h("div", { class: "source" }, h("div", {}, index < 0 ? h("span", { class: "name" }, source.tensor) : h("button", { type: "button", class: "plain name", click: () => onTensor(index) }, source.tensor), " ", h("span", { class: "tag" }, source.part), h("p", {}, source.advice)),
      h("div", {}, meter("estimate", source.estimate), meter("alone", source.alone), meter("relieved", source.relieved)));
  };
  const first = 8, list = h("div", {}, found.sources.slice(0, first).map(item));
  const more = found.sources.length > first ? h("div", { class: "foot" }, h("button", { type: "button", class: "button", click: () => { list.append(...found.sources.slice(first).map(item)); more.remove(); } }, `Show ${whole(found.sources.length - first)} more`)) : null;
  section("sources", "What to change first", `Shares of the noise at the outputs (${decibels(found.sqnr_db)} dB): estimated to first order, measured with this source alone turned on, and by how much the noise falls where it alone is turned off. Sources reinforce and cancel each other, so shares need not add up to one.`,
    h("div", { class: "card" }, list, more, h("div", { class: "foot" }, `Sources alone ${percent(found.alone)}, acting together ${percent(found.interaction)}, integer arithmetic between grids ${percent(found.requantization)}. ${plural(found.samples, "batch").replace("batchs", "batches")}; ${decibels(found.simulated_db)} dB when simulated in float.`)));
}

function keptSection(onNode) {
  const group = ({ reason, nodes }) => {
    const names = h("div", { class: "names" });
    // Names are made when they are asked for: a model can leave thousands of nodes in float.
    const open = (event) => { if (event.target.open && !names.childElementCount) names.append(...nodes.map(([name, op]) => NAMED.has(name) ? h("button", { type: "button", class: "plain name", click: () => onNode(NAMED.get(name)) }, `${name} (${op})`) : h("span", { class: "name" }, `${name} (${op})`))); };
    return h("details", { toggle: open }, h("summary", {}, h("span", { class: "count" }, plural(nodes.length, "node")), reason), names);
  };
  const none = DATA.plan ? "Every node runs on integers." : "This model carries no plan, so nothing is known of its reasons: it was not written by quantlab, or its metadata was taken out.";
  section("kept", "Left in float", DATA.kept.length ? "Why nodes were not quantized, the commonest reason first." : null,
    DATA.kept.length ? h("div", { class: "card" }, DATA.kept.map(group)) : h("div", { class: "card pad soft" }, none));
  if (DATA.unmatched.length) byId("kept").append(h("h3", {}, "Not compared"), h("div", { class: "card pad" }, h("ul", { class: "notes" }, DATA.unmatched.map(([name, reason]) => h("li", {}, h("span", { class: "name" }, name), `: ${reason}`)))));
}

function madeSection() {
  const { float: a, quantized: b } = DATA.models, plan = DATA.plan;
  const line = (term, x, y) => h("tr", {}, h("th", { scope: "row" }, term), h("td", { class: "r" }, x), h("td", { class: "r" }, y));
  const counted = (facts) => facts.operators.map(([op, count]) => `${op} ${count}`).join(", ");
  const models = h("div", { class: "card pad" }, h("h3", {}, "The models"), h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, ""), h("th", { class: "r", scope: "col" }, "float"), h("th", { class: "r", scope: "col" }, "quantized"))),
    h("tbody", {}, line("bytes", whole(a.bytes), whole(b.bytes)), line("nodes", whole(a.nodes), whole(b.nodes)), line("stored numbers", whole(a.parameters), whole(b.parameters)), line("opset", a.opset, b.opset), line("producer", a.producer || "\u2013", b.producer || "\u2013"))),
    h("p", { class: "small soft" }, "Quantized: ", counted(b), "."));
  const options = plan ? Object.entries(plan.options).map(([key, value]) => `${key} = ${value}`).join(", ") : "";
  const planned = h("div", { class: "card pad" }, h("h3", {}, "The plan"), plan ? [facts([["format", plan.format], ...Object.entries(plan.nodes).map(([status, count]) => [status, plural(count, "node")]), ["other options", options || "defaults"]]),
    h("table", {}, h("tbody", {}, plan.grids.map(([role, spec, count]) => h("tr", {}, h("td", {}, role), h("td", { class: "name" }, spec), h("td", { class: "r" }, whole(count)))))),
    plan.notes.length ? h("ul", { class: "notes" }, plan.notes.map((note) => h("li", {}, note))) : null] : h("p", { class: "soft" }, "The quantized model carries no plan."));
  const around = h("div", { class: "card pad" }, h("h3", {}, "Measured with"), facts([...Object.entries(DATA.surroundings), ["batches", whole(DATA.samples)], ["made", DATA.made]]));
  section("made", "How this was made", null, h("div", { class: "columns" }, models, planned, around));
}
