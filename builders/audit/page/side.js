// The right side: what is known about a song, its verdict, and the rate of defects so far.

import { element, number, signed } from "./words.js";

const find = (id) => document.getElementById(id);

export function writeFacts(song, row) {
  const grade = song?.grade ?? row?.grade;
  find("grade").className = `grade grade-${grade ?? "none"}`;
  find("grade").textContent = grade ?? "–";
  find("grade").title = grade ? `grade ${grade}` : "not graded";
  const doubt = song?.doubt ?? row?.doubt;
  const known = [Number.isFinite(doubt) && `doubt ${number(doubt, 2)}`, song?.split && `split ${song.split}`];
  const parts = Object.entries(song?.doubt_parts ?? {}).filter(([, value]) => value >= 0.005);
  parts.sort(([, a], [, b]) => b - a);
  const words = parts.map(([name, value]) => `${name.replaceAll("_", " ")} ${number(value, 2)}`).join(", ");
  find("doubt").replaceChildren(known.filter(Boolean).join("  ·  "), element("small", "", words));
  const reasons = (song?.reasons ?? []).map((reason) => reasonOf(reason));
  find("reasons").replaceChildren(...reasons);
  find("numbers").replaceChildren(...numbersOf(song).map(([name, text]) => {
    const cell = element("div");
    cell.append(element("dt", "", name), element("dd", "", text));
    return cell;
  }));
  find("nudging").hidden = !song?.pseudo?.length;
}

function reasonOf({ reason, text }) {
  const item = element("li");
  if (/^[A-D]$/.test(reason ?? "")) item.append(element("span", `grade grade-${reason}`, reason));
  item.append(element("span", "", text));
  return item;
}

function numbersOf(song) {
  const pair = song?.pair;
  if (!pair) return [];
  const edits = Array.isArray(pair.segments) ? pair.segments.length : pair.segments;
  return [
    ["residual", pair.residual_db, (v) => `${number(v)} dB`],
    ["confidence", pair.confidence, (v) => number(v, 3)],
    ["lag, frames", pair.lag_frames, (v) => number(v, 2)],
    ["drift, ppm", pair.drift_ppm, (v) => number(v, 2)],
    ["gain", pair.gain_db, (v) => `${signed(v)} dB${pair.polarity === -1 ? ", inverted" : ""}`],
    ["coherence", pair.coherence, (v) => number(v, 2)],
    ["bit errors", pair.bit_error_rate, (v) => `${number(100 * v)} %`],
    ["segments", edits, (v) => number(v, 0)],
  ]
    .filter(([, value]) => Number.isFinite(value))
    .map(([name, value, words]) => [name, words(value)]);
}

export function writeReasons(reasons, reject) {
  find("why").replaceChildren(
    ...reasons.map(({ key, reason, text }) => {
      const button = element("button");
      button.type = "button";
      button.dataset.reason = reason;
      button.append(element("kbd", "", key), element("span", "", text));
      button.addEventListener("click", () => reject(reason));
      return button;
    }),
  );
}

// `lines`: what holds of the song now, by stem ("" is the song itself).
export function writeVerdict(lines, reasons, target) {
  const own = lines?.get("");
  const words = [];
  const said = (line) => {
    const reason = reasons.find(({ reason }) => reason === line.reason);
    return [line.verdict, reason?.text ?? line.reason, line.note].filter(Boolean).join(": ");
  };
  const listed = [...(lines ?? [])].sort(([, a], [, b]) => (b.verdict === "rejected") - (a.verdict === "rejected"));
  for (const [stem, line] of listed) words.push(stem ? `${stem} ${said(line)}` : said(line));
  find("verdict").textContent = words.join("; ") || "none yet";
  find("verdict").title = words.join("\n");
  find("verdict").className = listed[0]?.[1].verdict === "rejected" ? "rejected" : own ? own.verdict : "soft";
  find("target").replaceChildren("of: ", element("b", "", target ?? "the song"), " ", element("kbd", "", "t"));
  for (const button of find("why").children) {
    const line = lines?.get(target ?? "");
    button.setAttribute("aria-pressed", line?.verdict === "rejected" && line.reason === button.dataset.reason);
  }
}

export function writeProgress(progress) {
  const { songs, heard, accepted, rejected, sample } = progress;
  const count = (value) => value.toLocaleString("en-US");
  find("heard").textContent = `${count(heard)} of ${count(songs)} judged: ${count(accepted)} accepted, ${count(rejected)} rejected`;
  find("heard").title = find("heard").textContent;
  const [mark, middle] = find("interval").children;
  const has = sample.heard > 0;
  find("interval").classList.toggle("empty", !has);
  mark.style.left = `${100 * (has ? sample.low : 0)}%`;
  mark.style.width = `${100 * (has ? sample.high - sample.low : 0)}%`;
  middle.style.left = `${100 * (has ? sample.rate : 0)}%`;
  find("interval").setAttribute("aria-label", rateWords(sample));
  find("rate").textContent = rateWords(sample);
}

export function rateWords({ heard, rejected, low, high, confidence, within, needed, skipped }) {
  if (!heard) return "Judge songs in the random order to learn how many of all are defective.";
  const percent = (value, places = 1) => number(100 * value, places);
  const within_ = `±${Number((100 * within).toFixed(2))} %`;
  const more = needed > 0 ? `about ${needed.toLocaleString("en-US")} more for ${within_}` : `within ${within_}`;
  const left = skipped ? `; ${skipped.toLocaleString("en-US")} skipped: what comes after the first of them does not count yet` : "";
  return `${rejected} of ${heard} rejected: ${percent(low)} to ${percent(high)} %, ${percent(confidence, 0)} %; ${more}${left}`;
}
