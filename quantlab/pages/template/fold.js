// A deep graph folded into strips that stand side by side, as newspapers set columns: most models are long chains, which
// fit no screen unfolded. Rows are cut where few edges cross.
const CELL = [168, 74], SIZE = [148, 42], GUTTER = 56, MOST_STRIPS = 40;

function foldedGraph(aspect) {
  const { edges, rows } = DATA.graph;
  const crossing = new Array(rows + 1).fill(0);
  for (const [from, to] of edges) { crossing[BOXES[from].y + 1] += 1; crossing[BOXES[to].y + 1] -= 1; }
  for (let row = 1; row <= rows; row += 1) crossing[row] += crossing[row - 1];
  const least = new Array(rows).fill(Infinity), most = new Array(rows).fill(0);
  const cover = (x, row) => { least[row] = Math.min(least[row], x); most[row] = Math.max(most[row], x); };
  BOXES.forEach((box) => cover(box.x, box.y));
  edges.forEach(([, , ...bends]) => { for (let i = 0; i < bends.length; i += 2) cover(bends[i], bends[i + 1]); });

  function cuts(count) {
    const found = [0], long = rows / count;
    for (let strip = 1; strip < count; strip += 1) {
      const target = Math.round(strip * long), slack = Math.floor(0.16 * long);
      let best = target;
      for (let row = target - slack; row <= target + slack; row += 1) {
        const better = crossing[row] - crossing[best];
        if (better < 0 || (better === 0 && Math.abs(row - target) < Math.abs(best - target))) best = row;
      }
      found.push(best);
    }
    return [...found, rows];
  }
  function strips(count) {
    const ends = cuts(count), found = [];
    let left = 0;
    for (let strip = 0; strip < count; strip += 1) {
      const [first, last] = [ends[strip], ends[strip + 1]];
      const low = Math.min(...least.slice(first, last)), high = Math.max(...most.slice(first, last));
      found.push({ first, last, low, left });
      left += (high - low) * CELL[0] + SIZE[0] + GUTTER;
    }
    return { found, size: [left - GUTTER, Math.max(...found.map(({ first, last }) => last - first)) * CELL[1] - (CELL[1] - SIZE[1])] };
  }
  const off = ({ size }) => Math.abs(Math.log(size[0] / size[1] / aspect));
  let best = strips(1);
  for (let count = 2; count <= Math.min(MOST_STRIPS, rows / 6); count += 1) {
    const next = strips(count);
    if (off(next) < off(best)) best = next;
  }
  const stripOf = best.found.flatMap(({ first, last }, strip) => new Array(last - first).fill(strip));
  return {
    size: best.size, stripOf, strips: best.found,
    at: (x, row) => {
      const { first, low, left } = best.found[stripOf[row]];
      return [left + (x - low) * CELL[0] + SIZE[0] / 2, (row - first) * CELL[1] + SIZE[1] / 2];
    },
  };
}
