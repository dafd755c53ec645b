// Everything together: what is picked in one place shows in all.
const panel = byId("panel");
let before = null;

function open(title, tags, tools, content) {
  if (panel.hidden) before = document.activeElement;
  panel.hidden = false;
  panel.replaceChildren(h("header", {}, h("div", {}, h("h2", {}, title), tags.filter(Boolean).map((text) => [h("span", { class: "tag" }, text), " "])),
    h("button", { type: "button", class: "button square", "aria-label": "Close details", click: close }, "\u00d7")),
  tools.length ? h("div", { class: "tools" }, tools) : null, ...content.flat(Infinity).filter(Boolean));
  panel.scrollTop = 0;
  panel.focus({ preventScroll: true });
}
function close() {
  panel.hidden = true;
  graph.mark(-1);
  table.choose(-1);
  if (before && before.isConnected) before.focus({ preventScroll: true });
}
const toGraph = (index) => h("button", { type: "button", class: "button", click: () => { byId("graph").scrollIntoView(); graph.reveal(index, 1); } }, "Show in the graph");

function openTensor(index) {
  const row = DATA.tensors[index], box = PLACE[index];
  table.choose(index);
  graph.mark(box);
  open(row.name, [row.kind, row.op_type, row.dtype], [toGraph(box), h("button", { type: "button", class: "button", click: () => openNode(box) }, "Its node")], tensorDetail(index));
}
function openNode(index) {
  const box = BOXES[index];
  graph.mark(index);
  table.choose(-1);
  open(box.name, [box.op], [toGraph(index)], nodeDetail(index, openTensor));
}

byId("title").textContent = DATA.title;
verdict();
summary(openTensor);
const graph = graphView(openNode);
const table = tensorTable(openTensor);
depthSection(openTensor);
sourcesSection(openTensor);
section("graph", "The graph, coloured by damage", "The worst tensor that a node makes gives it its colour and its figure in dB.", graph.element);
section("tensors", "Tensors", "Accumulated SQNR compares the two networks; local SQNR is what one grid does to the float network's values. 6 dB more is half the error.", table.element);
keptSection(openNode);
madeSection();
graph.colour();
graph.begin();
const titles = { depth: "Error by depth", sources: "What to change", graph: "Graph", tensors: "Tensors", kept: "Left in float", made: "How it was made" };
byId("nav").append(...Object.entries(titles).filter(([id]) => byId(id)).map(([id, text]) => h("a", { href: `#${id}` }, text)));
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && !panel.hidden) close(); });
document.documentElement.dataset.ready = "yes";
