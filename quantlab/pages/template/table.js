// The table of tensors: sorted by any column, filtered by text, kind and type, shown in parts.
const PART = window.innerWidth < 720 ? 25 : 60;
const COLUMNS = [
  { key: "name", head: "tensor", text: true }, { key: "kind", head: "kind", text: true, wide: true },
  { key: "op_type", head: "operator", text: true, wide: true }, { key: "dtype", head: "type", text: true, wide: true },
  { key: "sqnr_db", head: "accumulated dB", db: true, about: "SQNR between the two networks, all error before the tensor included" },
  { key: "local_db", head: "local dB", db: true, about: "SQNR of this tensor's own grid" },
  { key: "clipped", head: "clipped", show: percent, about: "share of values outside the grid", wide: true },
  { key: "max_error", head: "largest error", show: number, wide: true },
  { key: "cosine", head: "cosine", show: (value) => (value === null ? "\u2013" : value.toFixed(5)), wide: true },
];

function tensorTable(onPick) {
  const rows = DATA.tensors.map((row, index) => ({ ...row, index, clipped: row.below + row.above }));
  const wanted = { text: "", kind: "", dtype: "" };
  let sort = { key: "sqnr_db", down: false }, shown = PART, chosen = -1;
  const body = h("tbody"), count = h("span"), more = h("button", { type: "button", class: "button", click: () => { shown += 10 * PART; draw(); } });
  const heads = COLUMNS.map((column) => h("th", { scope: "col", class: `${column.text ? "" : "r"} ${column.wide ? "wide" : ""}`, title: column.about },
    h("button", { type: "button", click: () => { sort = { key: column.key, down: sort.key === column.key && !sort.down }; shown = PART; draw(); } }, column.head)));
  const value = (row) => (row[sort.key] === null && sort.key.endsWith("_db") ? Infinity : row[sort.key]);
  const order = (a, b) => {
    const [x, y] = [value(a), value(b)];
    const sign = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : (x > y) - (x < y);
    return (sort.down ? -sign : sign) || a.index - b.index;
  };
  const fits = (row) => (!wanted.kind || row.kind === wanted.kind) && (!wanted.dtype || row.dtype === wanted.dtype)
    && (!wanted.text || `${row.name} ${row.node} ${row.op_type}`.toLowerCase().includes(wanted.text));
  const cell = (row, column) => {
    const content = column.db ? (column.key === "local_db" && row.kind === "output" ? h("span", { class: "chip none" }, "\u2013") : chip(row[column.key]))
      : column.key === "name" ? h("button", { type: "button", class: "plain" }, row.name) : (column.show || String)(row[column.key]);
    return h("td", { class: `${column.text ? "" : "r"} ${column.wide ? "wide soft" : ""}` }, content);
  };
  const line = (row) => h("tr", { class: row.index === chosen ? "pick chosen" : "pick", "data-tensor": row.index, click: () => onPick(row.index) },
    COLUMNS.map((column) => cell(row, column)));
  function draw() {
    const found = rows.filter(fits).sort(order);
    heads.forEach((head, index) => {
      if (COLUMNS[index].key !== sort.key) head.removeAttribute("aria-sort");
      else head.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
    });
    body.replaceChildren(...found.slice(0, shown).map(line));
    count.textContent = found.length ? `${whole(Math.min(shown, found.length))} of ${plural(found.length, "tensor")}${found.length < rows.length ? `, ${whole(rows.length)} in all` : ""}` : "Nothing matches.";
    more.hidden = found.length <= shown;
    more.textContent = `Show ${whole(Math.min(10 * PART, found.length - shown))} more`;
    say(count.textContent);
  }
  const filtered = (change) => (event) => { change(event.target.value); shown = PART; draw(); };
  const options = (key, all) => h("select", { "aria-label": `Filter by ${key === "dtype" ? "type" : key}`, change: filtered((text) => { wanted[key] = text; }) },
    h("option", { value: "" }, all), [...new Set(rows.map((row) => row[key]))].sort().map((text) => h("option", { value: text }, text)));
  const search = h("input", { type: "search", class: "grow", placeholder: "Filter by tensor, node or operator", "aria-label": "Filter by text", input: filtered((text) => { wanted.text = text.trim().toLowerCase(); }) });
  const element = h("div", { class: "card" },
    h("div", { class: "tools pad" }, search, options("kind", "every kind"), options("dtype", "every type")),
    h("div", { class: "scroll" }, h("table", {}, h("caption", { class: "hidden" }, "Tensors and their errors"), h("thead", {}, h("tr", {}, heads)), body)),
    h("div", { class: "foot" }, count, more));
  draw();
  const choose = (index) => {
    chosen = index;
    body.querySelectorAll("tr").forEach((each) => each.classList.toggle("chosen", Number(each.dataset.tensor) === index));
  };
  return { element, choose };
}
