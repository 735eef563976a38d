// Shows /status.json, asked for once a second, and draws what has changed over the last minutes.
// Texts of the status may be hostile: they become text nodes and attributes only.
"use strict";

const POLL_MS = 1000;
const HIDDEN_POLL_MS = 10000;
const ANSWER_MS = 15000;
const KEPT_MS = 5 * 60 * 1000;
const SHOWN_MS = 60 * 1000; // at least, while the page has not been open for longer
const LINES = 6; // colours and dashes in page.css
const OPEN_HOSTS = 4; // more than that begin closed
const GRAPH = { width: 300, height: 100 };
const SVG = "http://www.w3.org/2000/svg";
const ESTABLISHED = 2;

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const byId = (id) => document.getElementById(id);
const list = (value) => (Array.isArray(value) ? value.filter((one) => one !== null) : []);
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

function ms(value) {
  if (!isNumber(value)) return "–";
  return `${value < 9.95 ? value.toFixed(1) : whole.format(value)} ms`;
}

function percent(share) {
  if (!isNumber(share)) return "–";
  const value = share * 100;
  return `${value > 0 && value < 9.95 ? value.toFixed(1) : whole.format(value)} %`;
}

function rate(kbit) {
  if (!isNumber(kbit)) return "–";
  if (kbit >= 9950) return `${whole.format(kbit / 1000)} Mbit/s`;
  return kbit >= 1000 ? `${(kbit / 1000).toFixed(1)} Mbit/s` : `${whole.format(kbit)} kbit/s`;
}

const count = (value) => (isNumber(value) ? whole.format(value) : "–");

function duration(seconds) {
  if (!isNumber(seconds)) return "–";
  if (seconds < 120) return `${whole.format(seconds)} s`;
  if (seconds < 7200) return `${whole.format(seconds / 60)} min`;
  return seconds < 172800 ? `${whole.format(seconds / 3600)} h` : `${whole.format(seconds / 86400)} days`;
}

// -> an element with classes, text and children
function make(tag, classes, ...children) {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  made.append(...children);
  return made;
}

function drawn(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// Writing only what differs keeps selected text and focus.
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function wear(element, classes) {
  if (element.className !== classes) element.className = classes;
}

// Have one child in `parent` for each of `items`, made once by `build` and kept by key.
function keep(parent, items, keyOf, build, update) {
  const known = parent.kept || (parent.kept = new Map());
  const wanted = new Map(items.map((item) => [keyOf(item), item]));
  for (const [key, part] of known) {
    if (!wanted.has(key)) {
      part.element.remove();
      known.delete(key);
    }
  }
  let position = 0;
  for (const [key, item] of wanted) {
    if (!known.has(key)) known.set(key, build(item));
    const part = known.get(key);
    if (parent.children[position] !== part.element) {
      parent.insertBefore(part.element, parent.children[position] || null);
    }
    update(part, item);
    position += 1;
  }
}

// The best connection for each link of a host: it carries, is established, answers soonest.
function paths(peer) {
  const best = new Map();
  const rank = (one) => [one.carries ? 0 : 1, -(one.state || 0), isNumber(one.rtt_ms) ? one.rtt_ms : Infinity];
  for (const one of list(peer.connections)) {
    const other = best.get(one.link);
    const [a, b] = [rank(one), other && rank(other)];
    const differs = b && a.findIndex((value, at) => value !== b[at]);
    if (!b || (differs >= 0 && a[differs] < b[differs])) best.set(one.link, one);
  }
  return best;
}

function sum(values) {
  return values.filter(isNumber).reduce((all, one) => all + one, 0);
}

// What an older agent does not measure of its links is worked out here, from counters between two answers.
class Rates {
  constructor() {
    this.before = null;
  }

  of(status, at) {
    const bytes = new Map();
    for (const peer of list(status.peers)) {
      for (const one of list(peer.connections)) {
        const [out, back] = bytes.get(one.link) || [0, 0];
        bytes.set(one.link, [out + (one.sent_bytes || 0), back + (one.received_bytes || 0)]);
      }
    }
    const [before, seconds] = [this.before, this.before && (at - this.before.at) / 1000];
    this.before = { at, bytes };
    return (link, direction) => {
      if (!before || !(seconds > 0) || !before.bytes.has(link) || !bytes.has(link)) return null;
      const more = bytes.get(link)[direction] - before.bytes.get(link)[direction];
      return more < 0 ? null : (more * 8) / 1000 / seconds;
    };
  }
}

const rates = new Rates();

// -> the links with what was measured of them
function measuredLinks(status, at) {
  const counted = rates.of(status, at);
  const peers = list(status.peers).map((peer) => paths(peer));
  const links = list(status.links).map((link) => {
    const there = peers.map((byLink) => byLink.get(link.index)).filter((one) => one && one.state === ESTABLISHED);
    there.sort((a, b) => (a.rtt_ms ?? Infinity) - (b.rtt_ms ?? Infinity));
    const best = there[0] || {};
    return {
      name: String(link.name),
      carries: link.carries === true,
      fault: link.carries === true ? null : link.fault || "it reaches no host",
      reach: there.filter((one) => one.carries).length,
      rtt_ms: link.rtt_ms ?? best.rtt_ms,
      loss: link.loss ?? best.loss,
      queue_ms: link.queue_ms,
      // A link that is down has no rate, rather than one of 0.
      metered: link.metered === true,
      budget: link.budget,
      out_kbit: link.up ? link.rate_kbit ?? counted(link.index, 0) : null,
      in_kbit: link.up ? link.rate_in_kbit ?? counted(link.index, 1) : null,
    };
  });
  for (const one of list(status.missing_links)) {
    links.push({ name: String(one.name), carries: false, fault: one.fault || "it is missing", reach: 0 });
  }
  return links;
}

const CURVES = [
  { title: "Round trip", unit: ms, least: 1, of: (link) => link.rtt_ms },
  { title: "Loss", unit: percent, least: 0.01, most: 1, of: (link) => link.loss },
  { title: "Rate sent", unit: rate, least: 100, of: (link) => link.out_kbit },
  { title: "Rate received", unit: rate, least: 100, of: (link) => link.in_kbit },
];

// Samples of the last minutes: {at, values by link name}, the oldest first.
const kept = [];
// A link keeps its colour for as long as the page is open.
const lineOf = new Map();

function remember(links, at) {
  kept.push({ at, links: new Map(links.map((link) => [link.name, CURVES.map((curve) => curve.of(link))])) });
  while (kept[0].at < at - KEPT_MS) kept.shift();
  for (const link of links) {
    if (!lineOf.has(link.name)) lineOf.set(link.name, lineOf.size % LINES);
  }
}

// The next of 1, 2, 5, 10, 20 ... above a value.
function roundUp(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * unit).find((step) => step >= value * 0.999);
}

// How far back the curves go.
function shown(now) {
  return Math.min(KEPT_MS, Math.max(SHOWN_MS, now - kept[0].at));
}

function pathOf(name, which, top, now) {
  const width = shown(now);
  let path = "";
  let pen = false;
  for (const { at, links } of kept) {
    const value = links.has(name) ? links.get(name)[which] : null;
    if (isNumber(value)) {
      const x = (GRAPH.width * (at - now + width)) / width;
      const y = GRAPH.height * (1 - Math.min(value / top, 1));
      path += `${pen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
      // A lone sample is a dot.
      if (!pen) path += "h0";
    }
    pen = isNumber(value);
  }
  return path;
}

function buildCurve(curve) {
  const graph = drawn("svg", {
    viewBox: `0 -2 ${GRAPH.width} ${GRAPH.height + 4}`,
    preserveAspectRatio: "none",
    role: "img",
  });
  graph.append(drawn("path", { class: "grid", d: `M0 0H${GRAPH.width}M0 50H${GRAPH.width}M0 100H${GRAPH.width}` }));
  const lines = graph.appendChild(drawn("g", {}));
  const top = make("span", "top");
  const since = make("span");
  const legend = make("ul", "legend");
  const element = make(
    "figure",
    "curve",
    make("figcaption", "", curve.title),
    make("div", "plot", graph, top),
    make("div", "scale", since, make("span", "", "now")),
    legend,
  );
  return { element, graph, lines, top, since, legend };
}

function drawCurves(links, now) {
  keep(byId("curves"), CURVES, (curve) => curve.title, buildCurve, (part, curve) => {
    const which = CURVES.indexOf(curve);
    const values = kept.flatMap((sample) => [...sample.links.values()].map((one) => one[which])).filter(isNumber);
    const most = Math.max(curve.least, ...values);
    const top = Math.min(roundUp(most), curve.most || Infinity);
    say(part.top, curve.unit(top));
    say(part.since, `${duration(shown(now) / 1000)} ago`);
    keep(
      part.lines,
      links,
      (link) => link.name,
      (link) => ({ element: drawn("path", { class: `line-${lineOf.get(link.name)}` }) }),
      (line, link) => line.element.setAttribute("d", pathOf(link.name, which, top, now)),
    );
    keep(
      part.legend,
      links,
      (link) => link.name,
      (link) => {
        const sample = drawn("svg", { viewBox: "0 0 26 8", "aria-hidden": "true" });
        sample.append(drawn("path", { class: `line-${lineOf.get(link.name)}`, d: "M1 4H25" }));
        const value = make("span");
        return { element: make("li", "", sample, `${link.name} `, value), value };
      },
      (entry, link) => say(entry.value, curve.unit(curve.of(link))),
    );
    const spoken = links.map((link) => `${link.name} ${curve.unit(curve.of(link))}`).join(", ");
    part.graph.setAttribute("aria-label", `${curve.title} lately. Now: ${spoken || "nothing"}`);
  });
}

// Pairs of a term and its value, in place.
function figures(parent, pairs) {
  keep(
    parent,
    pairs,
    ([term]) => term,
    ([term]) => {
      const value = make("dd");
      return { element: make("div", "", make("dt", "", term), value), value };
    },
    (part, [, value]) => say(part.value, value),
  );
}

function buildCard() {
  const parts = {
    title: make("h3"),
    badge: make("span", "badge"),
    why: make("p", "why"),
    figures: make("dl", "figures"),
  };
  parts.element = make("article", "card", make("header", "", parts.title, parts.badge), parts.why, parts.figures);
  return parts;
}

function showLinks(links) {
  keep(byId("links"), links, (link) => link.name, buildCard, (part, link) => {
    say(part.title, link.name);
    wear(part.badge, `badge ${link.carries ? "good" : "bad"}`);
    say(part.badge, link.carries ? "carries" : "carries nothing");
    say(part.why, link.carries ? `to ${link.reach} ${link.reach === 1 ? "host" : "hosts"}` : link.fault);
    figures(part.figures, [
      ["Round trip", ms(link.rtt_ms)],
      ["Loss", percent(link.loss)],
      ["Queue", ms(link.queue_ms)],
      ["Sent", rate(link.out_kbit)],
      ["Received", rate(link.in_kbit)],
      ...(link.metered ? [["Bytes", "cost money"]] : []),
      ...(link.budget ? [["Budget used", percent(link.budget.used_bytes / link.budget.bytes)]] : []),
    ]);
  });
}

const COLUMNS = [
  ["Link", "", (path, name) => name],
  ["Round trip", "", (path) => ms(path.rtt_ms)],
  ["Loss", "", (path) => percent(path.loss)],
  ["Queue", "roomy", (path) => ms((path.estimate || {}).queue_ms)],
  ["Sent", "roomy", (path) => count(path.sent)],
  ["Received", "roomy", (path) => count(path.received)],
  ["First here", "", (path) => percent(share(path.first, path.duplicates))],
];

function share(first, duplicates) {
  return isNumber(first) && first + duplicates > 0 ? first / (first + duplicates) : null;
}

function buildTable(caption, columns) {
  const body = make("tbody");
  const head = make("tr", "", ...columns.map(([title, classes]) => {
    const cell = make("th", classes, title);
    cell.scope = "col";
    return cell;
  }));
  const element = make("table", "", make("caption", "", caption), make("thead", "", head), body);
  return { element, body };
}

function fillTable(body, columns, rows) {
  keep(
    body,
    rows,
    (row) => row.key,
    () => {
      const cells = columns.map(([, classes], at) => make(at ? "td" : "th", classes));
      cells[0].scope = "row";
      return { element: make("tr", "", ...cells), cells };
    },
    (part, row) => columns.forEach(([, , of], at) => say(part.cells[at], of(row.value, row.key))),
  );
}

// -> whether and how a host is reached, as a badge and a sentence
function reach(peer, names) {
  const links = peer.links || {};
  const [reached, lacking] = [list(links.reached), list(links.lacking)];
  if (peer.best_state !== ESTABLISHED) {
    return ["bad", "not reached", peer.handshake ? String(peer.handshake) : "no link reaches it"];
  }
  const missing = lacking.map((one) => `${names.get(one.link) || "?"}: ${one.fault}`).join("; ");
  const total = reached.length + lacking.length;
  if (total === 0) return ["good", "reached", ""];
  return [
    lacking.length ? "warn" : "good",
    `${reached.length} of ${total} ${total === 1 ? "link" : "links"}`,
    missing && `Not over ${missing}`,
  ];
}

function buildHost(open) {
  const card = buildCard();
  const table = buildTable("The best connection over each link", COLUMNS);
  const details = make("details", "", make("summary", "", "Connections"), table.element);
  details.open = open;
  card.element.append(details);
  return { ...card, body: table.body };
}

function showHosts(peers, names) {
  const open = peers.length <= OPEN_HOSTS;
  keep(byId("hosts"), peers, (peer) => String(peer.host), () => buildHost(open), (part, peer) => {
    const [mood, badge, why] = reach(peer, names);
    const known = list(peer.names).map((one) => one.name).join(", ");
    say(part.title, known ? `${peer.host} (${known})` : String(peer.host));
    wear(part.badge, `badge ${mood}`);
    say(part.badge, badge);
    say(part.why, why || "");
    figures(part.figures, [
      ["Received", count(peer.delivered)],
      ["Spare copies", count(peer.duplicates)],
      ...(isNumber(peer.rescued) ? [["Rescued", count(peer.rescued)]] : []),
    ]);
    const rows = [...paths(peer)]
      .filter(([link, one]) => names.has(link) && (one.routed !== false || one.state > 0))
      .map(([link, one]) => ({ key: names.get(link), value: one }));
    fillTable(part.body, COLUMNS, rows);
  });
}

function showGains(peers) {
  const delivered = sum(peers.map((peer) => peer.delivered));
  const rescued = peers.map((peer) => peer.rescued).filter(isNumber);
  const spare = sum(peers.map((peer) => peer.duplicates));
  const tiles = [
    ["Packets received", count(delivered), "from all hosts, each counted once"],
    ["Spare copies", count(spare), "that came after the first one"],
  ];
  if (rescued.length) {
    tiles.unshift(["Rescued", count(sum(rescued)), "packets that the best link lost and another one brought"]);
  }
  keep(
    byId("gains"),
    tiles,
    ([term]) => term,
    ([term, , what]) => {
      const value = make("dd");
      return { element: make("div", "", make("dt", "", term), value, make("dd", "what", what)), value };
    },
    (part, [, value]) => say(part.value, value),
  );
}

const REST = "all else";
const MODES = {
  redundant: "a copy over several links",
  single: "one link, the next if it fails",
  adaptive: "as many copies as needed",
  spread: "shared out over the links",
};
const CLASS_COLUMNS = [
  ["Class", "text", (one, key) => key],
  ["Mode", "text", (one) => (MODES[one.mode] ? `${one.mode}: ${MODES[one.mode]}` : String(one.mode))],
  ["Over", "text", (one) => one.links],
  ["Packets", "", (one) => one.packets],
  ["By parity", "", (one) => one.repaired],
];

function showClasses(status, names) {
  const classes = list(status.classes);
  byId("classes-section").hidden = classes.length === 0;
  const parent = byId("classes");
  if (!parent.table) {
    parent.table = buildTable("Which links packets of a class go over now, to any host", CLASS_COLUMNS);
    parent.append(make("div", "table", parent.table.element));
  }
  // The agent counts packets of no class under no name.
  const rows = [...classes, { name: null, mode: "as without classes" }].map((one) => {
    const there = list(status.peers).flatMap((peer) => list(peer.classes)).filter((each) => each.name === one.name);
    const links = new Set(there.flatMap((each) => list(each.links)).map((link) => names.get(link) || "?"));
    const packets = there.map((each) => each.packets).filter(isNumber);
    const repaired = there.map((each) => each.repaired).filter(isNumber);
    return {
      key: one.name === null ? REST : String(one.name),
      value: { ...one, links: [...links].join(", ") || "–", packets: packets.length ? count(sum(packets)) : "–", repaired: repaired.length ? count(sum(repaired)) : "–" },
    };
  });
  fillTable(parent.table.body, CLASS_COLUMNS, rows);
}

function verdict(links, peers) {
  const silent = links.filter((link) => !link.carries);
  const lost = peers.filter((peer) => peer.best_state !== ESTABLISHED);
  if (!links.length) return ["bad", "No interface takes part, so no packet gets through."];
  if (peers.length && lost.length === peers.length) return ["bad", "No host is reached."];
  const parts = [];
  if (lost.length) parts.push(`${lost.length} of ${peers.length} hosts not reached`);
  if (silent.length) parts.push(`${silent.length} of ${links.length} links without traffic (${silent.map((one) => one.name).join(", ")})`);
  if (parts.length) return ["warn", `${parts.join(", ")}.`];
  if (!peers.length) return ["warn", "No other host is known."];
  return ["good", "All links carry, and all hosts are reached."];
}

function judge(mood, sentence) {
  const element = byId("verdict");
  wear(element, `note ${mood}`);
  say(element, sentence);
}

function show(status, at) {
  const links = measuredLinks(status, at);
  const peers = list(status.peers);
  const names = new Map(list(status.links).map((link) => [link.index, String(link.name)]));
  remember(links, at);
  document.title = `ropeway ${status.address || ""}`;
  say(byId("address"), String(status.address || ""));
  say(byId("where"), status.network ? `in the virtual network ${status.network}` : "");
  judge(...verdict(links, peers));
  keep(
    byId("warnings"),
    list(status.warnings).map(String),
    (sentence) => sentence,
    (sentence) => ({ element: make("li", "", sentence) }),
    () => {},
  );
  showLinks(links);
  drawCurves(links, at);
  showGains(peers);
  showHosts(peers, names);
  showClasses(status, names);
  say(byId("agent"), `Agent ${status.version || ""}, running for ${duration(status.uptime_s)}.`);
}

async function poll() {
  let answer = null;
  try {
    const options = { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) };
    answer = await (await fetch("/status.json", options)).json();
  } catch {
    judge("bad", "The exporter does not answer. Everything below is old.");
  }
  if (answer && answer.fault) judge("bad", `No status: ${answer.fault}. Everything below is old.`);
  else if (answer) show(answer.status, Date.now());
  document.body.dataset.polls = Number(document.body.dataset.polls || 0) + 1;
  setTimeout(poll, document.hidden ? HIDDEN_POLL_MS : POLL_MS);
}

poll();
