// Numbers in words, and decibels in five classes of damage. A noise of 1 % of the signal's amplitude is 40 dB.
const CLASSES = [
  [40, "40 dB or more", "noise below 1 % of the signal"], [30, "30 to 40", "1 to 3 %"], [20, "20 to 30", "3 to 10 %"],
  [10, "10 to 20", "10 to 32 %"], [-Infinity, "below 10 dB", "more than 32 %"],
];
const damage = (db) => (db === null ? 0 : CLASSES.findIndex(([least]) => db >= least));

function number(value) {
  if (value === null || value === undefined) return "\u2013";
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size >= 1e5 || size < 1e-3) return value.toExponential(2).replace("e+", "e").replace("-", "\u2212").replace("e-", "e\u2212");
  return String(Number(value.toPrecision(4))).replace("-", "\u2212");
}
const thousands = new Intl.NumberFormat("en");
const whole = (value) => thousands.format(value);
const decibels = (db) => (db === null ? "exact" : db.toFixed(1).replace("-", "\u2212"));
function percent(share) {
  if (share === null || share === undefined) return "\u2013";
  if (share === 0 || share === 1) return share ? "100 %" : "0 %";
  const text = Math.abs(share) < 0.0001 ? "< 0.01" : (share * 100).toFixed(Math.abs(share) < 0.1 ? 2 : 1);
  return text.replace("-", "\u2212") + " %";
}
function bytes(size) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let step = 0;
  while (size >= 1024 && step < 3) { size /= 1024; step += 1; }
  return [step ? size.toFixed(size < 10 ? 2 : 1) : String(size), units[step]];
}
const plural = (count, word) => `${whole(count)} ${word}${count === 1 ? "" : "s"}`;
const shorter = (text, most) => (text.length > most ? `${text.slice(0, most / 2 - 1)}\u2026${text.slice(1 - most / 2)}` : text);

const chip = (db) => h("span", { class: `chip d${damage(db)}` }, decibels(db));
const legend = (...more) => h("ul", { class: "legend", "aria-label": "Colours" },
  CLASSES.map(([, text, meaning], index) => h("li", { title: meaning }, h("span", { class: `swatch d${index}` }), text)),
  more.map(([kind, text]) => h("li", {}, h("span", { class: `swatch ${kind}` }), text)));
