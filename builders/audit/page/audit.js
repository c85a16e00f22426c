// The page of `stemloom audit`: what is open, and what each action does to it.

import { Chunks, chunkFrames, DIFFERENCE } from "./chunks.js";
import { listen, writeHelp } from "./keys.js";
import { Pictures } from "./pictures.js";
import { Player } from "./player.js";
import { Queue } from "./queue.js";
import { server } from "./server.js";
import { writeFacts, writeProgress, writeReasons, writeVerdict } from "./side.js";
import { Stack } from "./stack.js";
import { Verdicts } from "./verdicts.js";
import { clock, signed } from "./words.js";

const MESSAGE_MS = 8000;
const AROUND_S = 2; // on both sides of the playhead, to loop without a region
const VOICE = /vocal|voice|vox|sing|speech|dialog/i;
const ORDERS = ["doubtful", "random", "title"];
const OTHER = "other";
const NOTHING = "No song is found: Esc gives the whole queue back.";

const find = (id) => document.getElementById(id);
const state = { id: null, song: null, order: null, before: null, goesOn: false, alone: false, rejecting: false, reasons: [] };

const chunks = new Chunks(server.clip);
const player = new Player(chunks, () => showPlayer());
const pictures = new Pictures(server, () => stack.draw(), ([id, track], error) => {
  if (id === state.id && !player.broken.size) trouble(`${track}: ${error.message}`); // the player says more
});
const stack = new Stack({ player, chunks, pictures, solo, chosen: (region) => player.choose(region, player.looping) });
const verdicts = new Verdicts({
  server,
  changed: () => showVerdicts(),
  progressed: writeProgress,
  failed: say,
  recovered() {
    const { id, song } = state;
    state.id = null;
    if (song) state.id = id;
    else open(id);
  },
});
const queue = new Queue({
  rows: find("rows"),
  spacer: find("spacer"),
  search: find("search"),
  found: find("found"),
  open,
  verdictOf: (id) => verdicts.of(id),
});

// A line that goes away by itself.
let silence;
function say(text) {
  find("message").textContent = text;
  find("message").hidden = false;
  clearTimeout(silence);
  silence = setTimeout(() => (find("message").hidden = true), MESSAGE_MS);
}

// What is wrong with this song stays as long as the song does.
function trouble(text) {
  find("trouble").textContent = text;
  find("trouble").hidden = !text;
}

function showPlayer() {
  const { playing, broken, song } = player;
  find("play").textContent = !playing ? "Play" : player.waiting ? "Loading" : "Pause";
  for (const [id, isOn] of [["play", playing], ["loop", player.looping], ["mute", player.muted], ["difference", player.soloed === DIFFERENCE]]) {
    find(id).setAttribute("aria-pressed", Boolean(song) && isOn);
  }
  find("difference").disabled = !song?.pseudo.includes(DIFFERENCE);
  find("nudge").textContent = signed(player.nudge);
  if (song) find("nudge").title = `${signed((1e6 * player.nudge) / song.sample_rate, 1)} µs`;
  if (broken.size) {
    const lost = [...song.tracks.map(({ name }) => name), DIFFERENCE].filter((name) => broken.has(name));
    const isAll = lost.length >= song.tracks.length;
    trouble(`${isAll ? "The audio" : lost.join(", ")} cannot be read: ${broken.get(lost[0])}`);
  }
  stack.draw();
}

function showVerdicts() {
  const { verdicts: unsent } = verdicts.outbox;
  find("unsent").hidden = !unsent.length;
  find("unsent").textContent = `${unsent.length} not sent yet`;
  queue.draw();
  writeVerdict(verdicts.lines(state.id), state.reasons, target());
  find("reject").setAttribute("aria-pressed", state.rejecting);
  document.body.classList.toggle("rejecting", state.rejecting);
}

// The track that a verdict is on; null is the song.
function target() {
  if (!state.alone || !state.song) return null;
  return state.song.tracks.find(({ name, kind }) => name === player.soloed && kind === "stem")?.name ?? null;
}

async function open(id) {
  if (!id || id === state.id) return;
  state.goesOn ||= player.playing;
  Object.assign(state, { id, song: null, alone: false, rejecting: false });
  player.close();
  trouble("");
  find("note").value = "";
  stack.open(null);
  const row = queue.row(id);
  show(row);
  queue.show(id);
  writeHash();
  try {
    const song = await server.song(id);
    const frame = await prepare(song);
    if (id !== state.id) return;
    state.song = song;
    player.open(song, frame, verdicts.lines(id)?.get("")?.nudge_frames ?? 0);
    stack.open(song);
    show(row);
    if (state.goesOn) player.play();
    state.goesOn = false;
    prefetch(queue.unjudged(id));
  } catch (error) {
    if (id === state.id) trouble(error.message);
  }
}

function show(row) {
  const { id, song } = state, shown = song ?? row ?? { song_id: id };
  find("title").textContent = shown.title || id;
  const duration = shown.duration_s ? clock(shown.duration_s) : null;
  find("about").textContent = [shown.artist || "unknown artist", shown.genre, duration].filter(Boolean).join("  ·  ");
  document.title = `${shown.title || id} · stemloom audit`;
  writeFacts(song, row);
  showVerdicts();
}

// Where to begin to listen, with the pictures on their way: the ten seconds in which the voice is strongest.
async function prepare(song) {
  for (const { name } of song.tracks) pictures.peaks(song, name);
  const voice = song.tracks.find(({ name, kind }) => kind === "stem" && VOICE.test(name)) ?? song.tracks[0];
  const peaks = await pictures.peaksOf(song, voice.name);
  const length = Math.round((10 / song.duration_s) * ((peaks?.length ?? 0) / 2));
  const sums = [0];
  for (let i = 0; i < (peaks?.length ?? 0); i += 2) sums.push(sums.at(-1) + (peaks[i + 1] - peaks[i]) ** 2);
  let best = 0;
  for (let i = 0; i + length < sums.length; i++) {
    if (sums[i + length] - sums[i] > sums[best + length] - sums[best]) best = i;
  }
  const frame = Math.round((best / (sums.length - 1 || 1)) * song.num_frames);
  for (const { name } of song.tracks) {
    chunks.get(song, name, Math.floor(Math.min(frame, song.num_frames - 1) / chunkFrames(song)), 0).catch(() => {});
    pictures.tile(song, name);
  }
  song.strongest = frame;
  return frame;
}

async function prefetch(id) {
  if (id) await server.song(id).then(prepare).catch(() => {});
}

function writeHash() {
  history.replaceState(null, "", `#${new URLSearchParams({ song: state.id ?? "", order: state.order })}`);
}

// Another order of the queue (null: as the server was told), at a song or else at the first without a verdict.
async function setOrder(order, id) {
  state.order = order;
  const found = await server.queue(order);
  if (state.order !== order) return;
  state.order = found.order;
  for (const button of find("orders").children) {
    button.setAttribute("aria-checked", button.dataset.order === found.order);
  }
  find("build").textContent = found.build;
  queue.fill(found);
  const first = id && queue.row(id) ? id : (queue.unjudged(null) ?? queue.rows[0]?.song_id);
  if (first === state.id) queue.show(first);
  else await open(first);
  writeHash();
}

function give(verdict, reason = null) {
  if (!state.id) return;
  const stem = target(), { id, order } = state;
  const note = find("note").value.trim();
  verdicts.give({ song_id: id, stem, verdict, reason, note, nudge_frames: player.nudge, order });
  state.rejecting = false;
  find("note").value = "";
  find("note").blur();
  if (stem) {
    showVerdicts();
    return;
  }
  const next = queue.unjudged(id);
  if (next) open(next);
  else say(find("search").value ? "Every song that is found is judged: Esc gives the whole queue back." : "Every song of this queue is judged.");
  showVerdicts();
}

function solo(track) {
  if (!player.song || track === player.soloed) return;
  state.before = player.soloed;
  player.solo(track);
  showVerdicts();
}

const at = (digit) => {
  const tracks = player.song?.tracks ?? [], stems = tracks.filter(({ kind }) => kind === "stem");
  return (digit === 0 ? tracks.find(({ kind }) => kind === "mixture") : stems[digit - 1])?.name;
};
const seekBy = (seconds) => () => {
  if (player.song) seek(player.position() + seconds * player.song.sample_rate);
};
const nudgeBy = (frames) => () => {
  if (player.song?.pseudo.length) {
    const most = player.song.sample_rate; // a second
    player.setNudge(Math.max(-most, Math.min(most, Math.round(10 * (player.nudge + frames)) / 10)));
  }
};

function seek(frame) {
  player.seek(frame);
  stack.show(player.position());
}

function step(by) {
  const id = queue.beside(state.id, by), which = by > 0 ? "last" : "first";
  if (id) open(id);
  else if (!queue.rows.length) say(NOTHING);
  else say(`This is the ${which} song ${find("search").value ? "that is found: Esc gives the whole queue back" : "of the queue"}.`);
}

const actions = {
  accept: () => give("accepted"),
  reject() {
    if (state.rejecting) {
      find("note").focus();
      return;
    }
    state.rejecting = true;
    showVerdicts();
  },
  next: () => step(1),
  before: () => step(-1),
  undo() {
    const id = verdicts.undo(state.order);
    if (id) open(id);
    else say("Nothing to take back.");
  },
  target() {
    state.alone = !state.alone;
    if (state.alone && !target()) {
      state.alone = false;
      say("Hear a track alone (1 to 9) to judge it alone.");
    }
    showVerdicts();
  },
  play() {
    if (!player.song) state.goesOn = !state.goesOn;
    else if (player.playing) player.pause();
    else player.play();
  },
  solo0: () => solo(at(0)),
  solo(key) {
    const reason = state.rejecting && state.reasons.find((each) => each.key === key);
    if (reason) give("rejected", reason.reason);
    else if (at(Number(key))) solo(at(Number(key)));
  },
  swap: () => solo(state.before ?? at(0)),
  difference() {
    if (player.song?.pseudo.includes(DIFFERENCE)) player.soloed === DIFFERENCE ? actions.swap() : solo(DIFFERENCE);
    else say("There is no difference to hear: the song has no mixture and instrumental.");
  },
  mute: () => player.mute(!player.muted),
  back1: seekBy(-1),
  forward1: seekBy(1),
  back5: seekBy(-5),
  forward5: seekBy(5),
  home: () => seek(0),
  strongest: () => state.song && seek(state.song.strongest),
  loop() {
    const { song, region, looping } = player;
    if (!song) return;
    if (looping) player.choose(region, false);
    else if (region) player.choose(region, true);
    else {
      const around = AROUND_S * song.sample_rate, middle = Math.round(player.position());
      player.choose({ start: Math.max(0, middle - around), end: Math.min(song.num_frames, middle + around) }, true);
    }
  },
  zoomIn: () => stack.zoom(0.5),
  zoomOut: () => stack.zoom(2),
  nudgeDown: nudgeBy(-0.1),
  nudgeUp: nudgeBy(0.1),
  nudgeDown1: nudgeBy(-1),
  nudgeUp1: nudgeBy(1),
  nudgeZero: () => player.song && player.setNudge(0),
  search() {
    find("search").focus();
    find("search").select();
  },
  order: () => setOrder(ORDERS[(ORDERS.indexOf(state.order) + 1) % ORDERS.length]).catch(failed),
  help: () => find("help").showModal(),
  enter() {
    const { activeElement: field } = document;
    field.blur();
    if (field === find("search")) open(queue.rows[0]?.song_id ?? (say(NOTHING), null));
    else if (state.rejecting) give("rejected", OTHER);
  },
  escape() {
    const { activeElement: focus } = document, search = find("search");
    const isFree = focus === document.body && !state.rejecting;
    if (search.value && (focus === search || isFree)) {
      search.value = "";
      search.dispatchEvent(new Event("input"));
      focus.blur();
    } else if (focus !== document.body) focus.blur();
    else if (state.rejecting) state.rejecting = false;
    else player.choose(null, false);
    showVerdicts();
  },
};

const failed = (error) => say(error.message);

async function start() {
  writeHelp(find("keys"));
  listen((action, key) => actions[action](key));
  for (const button of find("orders").children) {
    button.addEventListener("click", () => setOrder(button.dataset.order).catch(failed));
  }
  addEventListener("beforeunload", (event) => {
    if (verdicts.outbox.verdicts.length) event.preventDefault();
  });
  addEventListener("hashchange", () => open(new URLSearchParams(location.hash.slice(1)).get("song")));
  const asked = new URLSearchParams(location.hash.slice(1));
  state.reasons = await server.reasons();
  writeReasons(state.reasons, (reason) => give("rejected", reason));
  await verdicts.poll();
  await setOrder(ORDERS.includes(asked.get("order")) ? asked.get("order") : null, asked.get("song"));
  verdicts.watch();
  const tick = () => {
    if (player.playing) {
      stack.tick();
      if (player.waiting !== (find("play").textContent === "Loading")) showPlayer();
    }
    requestAnimationFrame(tick);
  };
  tick();
}

window.stemloomAudit = { state, player, chunks, queue, stack, verdicts };
start().catch(failed);
