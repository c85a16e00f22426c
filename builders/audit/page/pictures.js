// What is drawn: waveforms, spectrograms and the ruler, and where their data come from.

import { chunkFrames, span2 } from "./chunks.js";
import { clock } from "./words.js";

export const BINS = 4000;
const TILE_WIDTH = 512, TILE_HEIGHT = 128;
const MOST_TILES = 400, MOST_AT_ONCE = 2;

// Peaks and pieces of spectrograms, fetched once each.
export class Pictures {
  #peaks = new Map();
  #tiles = new Map();
  #scales = new Map();
  #running = 0;
  #waiting = [];

  constructor(server, arrived, failed) {
    Object.assign(this, { server, arrived, failed });
  }

  // Minima and maxima of a whole track as BINS pairs of -127 .. 127; undefined until they are there.
  peaks(song, track) {
    return this.#fetched(this.#peaks, `${song.song_id}/${track}`, () =>
      this.server.peaks(song.song_id, track, Math.min(BINS, lengthOf(song, track))),
    )?.value;
  }

  async peaksOf(song, track) {
    this.peaks(song, track);
    return this.#peaks.get(`${song.song_id}/${track}`)?.promise;
  }

  // A piece of a spectrogram, from the start of the track to its end where no piece is asked for.
  tile(song, track, start = 0, frames = null) {
    const width = TILE_WIDTH * (frames ? 1 : 2);
    const range = { start_frame: start, num_frames: frames, width, height: TILE_HEIGHT };
    return this.#fetched(this.#tiles, `${song.song_id}/${track}/${start}/${frames}`, () =>
      this.#inTurn(() => this.server.spectrogram(song.song_id, track, range)),
    )?.value;
  }

  // Whether there is no picture of a track to be had.
  isBroken(song, track) {
    return Boolean(this.#tiles.get(`${song.song_id}/${track}/0/null`)?.isBroken);
  }

  // Few at once, the last asked for first: audio must never queue behind pictures.
  async #inTurn(fetch) {
    if (this.#running === MOST_AT_ONCE) await new Promise((turn) => this.#waiting.push(turn));
    else this.#running++;
    try {
      return await fetch();
    } finally {
      const next = this.#waiting.pop();
      if (next) next();
      else this.#running--;
    }
  }

  // The loudest peak of a song's tracks: all are drawn on one scale.
  scale(song) {
    const known = this.#scales.get(song.song_id);
    if (known) return known;
    const all = song.tracks.map(({ name }) => this.#peaks.get(`${song.song_id}/${name}`));
    const top = Math.max(8, ...all.map((entry) => entry?.value?.reduce((most, v) => Math.max(most, Math.abs(v)), 0) ?? 0));
    if (all.every((entry) => entry?.value)) this.#scales.set(song.song_id, 120 / top);
    return 120 / top;
  }

  #fetched(store, key, fetch) {
    let entry = store.get(key);
    if (entry) return entry;
    entry = { value: undefined };
    entry.promise = fetch().then(
      (value) => {
        entry.value = value;
        this.arrived();
        return value;
      },
      (error) => {
        entry.isBroken = true;
        if (error.status === 0) store.delete(key);
        else this.arrived();
        this.failed(key.split("/", 2), error);
        return undefined;
      },
    );
    store.set(key, entry);
    if (store.size > MOST_TILES) {
      const [[oldest, { value }]] = store;
      value?.close?.();
      store.delete(oldest);
    }
    return entry;
  }
}

// Tracks may be shorter than their song.
const lengthOf = (song, track) => song.tracks.find(({ name }) => name === track).num_frames;

// A canvas as many pixels large as the screen shows of it, cleared; null where it is not to be seen.
export function cleared(canvas) {
  const ratio = devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (!width || !height) return null;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, width, height);
  return pen;
}

// A strip of a whole track, which is a share of its song, between `top` and `top + height`.
export function drawStrip(pen, peaks, { share, top, height, colour, scale }) {
  if (!peaks) return;
  const width = pen.canvas.width * share, middle = top + height / 2, bins = peaks.length / 2;
  pen.fillStyle = colour;
  for (let x = 0; x < width; x++) {
    const [low, high] = span2(peaks, Math.floor((x * bins) / width), Math.ceil(((x + 1) * bins) / width));
    bar(pen, x, middle, (height / 2 / 127) * scale, low, high);
  }
}

const bar = (pen, x, middle, unit, low, high) => {
  const most = pen.canvas.height;
  const up = Math.min(high * unit, most), down = Math.min(-low * unit, most);
  pen.fillRect(x, middle - up, 1, Math.max(1, up + down));
};

// A stretch of a track: from the audio where it is there already, else from the peaks.
export function drawWave(canvas, { song, track, view, chunks, nudge, peaks, colour, scale }) {
  const pen = cleared(canvas);
  if (!pen) return;
  const { width, height } = canvas, step = view.frames / width, middle = height / 2, unit = (height / 2) * scale;
  const length = chunkFrames(song), bins = peaks ? peaks.length / 2 : 0;
  pen.fillStyle = pen.strokeStyle = colour;
  if (step < 2) {
    drawLine(pen, song, track, view, chunks, nudge, unit);
    return;
  }
  for (let x = 0; x < width; x++) {
    const first = Math.floor(view.start + x * step), last = Math.ceil(view.start + (x + 1) * step);
    if (first >= song.num_frames) break;
    const index = Math.floor(first / length), chunk = chunks.peek(song, track, index, nudge);
    let low = 0, high = 0;
    if (chunk) {
      [low, high] = chunk.extremes(first - index * length, Math.max(last, first + 1) - index * length);
    } else if (bins) {
      [low, high] = span2(
        peaks,
        Math.floor((first / lengthOf(song, track)) * bins),
        Math.ceil((last / lengthOf(song, track)) * bins),
      ).map((value) => value / 127);
    }
    bar(pen, x, middle, unit, low, high);
  }
}

// So near that frames are to be told apart.
function drawLine(pen, song, track, view, chunks, nudge, unit) {
  const { width, height } = pen.canvas, length = chunkFrames(song);
  const near = width / view.frames > 6;
  let joined = false;
  pen.lineWidth = devicePixelRatio || 1;
  pen.beginPath();
  for (let frame = Math.floor(view.start); frame <= view.start + view.frames + 1; frame++) {
    const index = Math.floor(frame / length);
    const chunk = frame < song.num_frames ? chunks.peek(song, track, index, nudge) : undefined;
    if (!chunk) {
      joined = false;
      continue;
    }
    const x = ((frame - view.start) / view.frames) * width, y = height / 2 - chunk.value(frame - index * length) * unit;
    if (joined) pen.lineTo(x, y);
    else pen.moveTo(x, y);
    joined = true;
    if (near) pen.fillRect(x - 2, y - 2, 4, 4);
  }
  pen.stroke();
}

// A stretch of a track's spectrogram: the whole song's, coarse, until the pieces are there. Returns what is said in
// its place where there is none.
export function drawSpectrogram(canvas, { song, track, view, pictures, shade, soft }) {
  const pen = cleared(canvas);
  if (!pen) return null;
  const { width, height } = canvas;
  const put = (image, start, frames) => {
    const x = ((start - view.start) / view.frames) * width;
    pen.drawImage(image, x, 0, (frames / view.frames) * width, height);
  };
  const length = lengthOf(song, track), frames = tileFrames(song, view), whole = pictures.tile(song, track);
  const isBroken = pictures.isBroken(song, track), missing = isBroken ? "cannot be shown" : whole ? null : "loading";
  if (missing) drawMissing(pen, { words: missing, crossed: isBroken, shade, soft });
  else put(whole, 0, length);
  // as fine as it can be shown
  const isFine = frames >= length || 2 * TILE_WIDTH * view.frames > 1.2 * canvas.clientWidth * length;
  for (let start = Math.floor(view.start / frames) * frames; start < view.start + view.frames; start += frames) {
    if (start >= length || isFine) break;
    const image = pictures.tile(song, track, start, frames);
    if (image) put(image, start, frames);
  }
  if (!missing) drawFrequencies(pen, song.sample_rate);
  return missing;
}

function drawMissing(pen, { words, crossed, shade, soft }) {
  const { width, height } = pen.canvas, ratio = devicePixelRatio || 1;
  pen.fillStyle = shade;
  pen.fillRect(0, 0, width, height);
  pen.font = `${12 * ratio}px system-ui, sans-serif`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  if (crossed) {
    pen.strokeStyle = soft;
    pen.lineWidth = ratio;
    pen.beginPath();
    for (const [from, to] of [[0, height], [height, 0]]) {
      pen.moveTo(0, from);
      pen.lineTo(width, to);
    }
    pen.stroke();
    const wide = pen.measureText(words).width + 16 * ratio;
    pen.fillRect((width - wide) / 2, height / 2 - 10 * ratio, wide, 20 * ratio);
  }
  pen.fillStyle = soft;
  pen.fillText(words, width / 2, height / 2);
}

const mel = (hertz) => Math.log10(1 + hertz / 700);
const LOWEST_HZ = 30; // of the server's pictures, which are even on the mel scale

function drawFrequencies(pen, sampleRate) {
  const { width, height } = pen.canvas, ratio = devicePixelRatio || 1;
  if (height < 60 * ratio) return;
  pen.font = `${10 * ratio}px system-ui, sans-serif`;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const [hertz, words] of [[250, "250 Hz"], [1000, "1 kHz"], [4000, "4"], [10000, "10"]]) {
    if (hertz > 0.45 * sampleRate || (height < 150 * ratio && hertz === 250)) continue;
    const y = height * (1 - (mel(hertz) - mel(LOWEST_HZ)) / (mel(sampleRate / 2) - mel(LOWEST_HZ)));
    pen.fillStyle = "rgba(255, 255, 255, 0.75)";
    pen.fillRect(width - 4 * ratio, Math.round(y), 4 * ratio, ratio);
    pen.fillText(words, width - 7 * ratio, y);
  }
}

// Pieces of a power of two of 1/8 s, two or three of them in view.
export function tileFrames(song, view) {
  const seconds = view.frames / song.sample_rate;
  return Math.max(2048, Math.round(2 ** Math.ceil(Math.log2((seconds / 3) * 8)) / 8 * song.sample_rate));
}

const STEPS_S = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800];

export function drawRuler(canvas, { song, view, colour, rule }) {
  const pen = cleared(canvas);
  if (!pen) return;
  const ratio = devicePixelRatio || 1, seconds = view.frames / song.sample_rate, start = view.start / song.sample_rate;
  const step = STEPS_S.find((each) => (each / seconds) * canvas.width > 70 * ratio) ?? 3600;
  const places = step < 0.01 ? 3 : step < 0.1 ? 2 : step < 1 ? 1 : 0;
  pen.font = `${11 * ratio}px system-ui, sans-serif`;
  for (let i = Math.ceil(start / step); i * step < start + seconds; i++) {
    const x = Math.round(((i * step - start) / seconds) * canvas.width);
    pen.fillStyle = rule;
    pen.fillRect(x, 0, ratio, 5 * ratio);
    pen.fillStyle = colour;
    if (x < canvas.width - 40 * ratio) pen.fillText(clock(i * step + 1e-9, places), x + 4 * ratio, canvas.height - 4 * ratio);
  }
}
