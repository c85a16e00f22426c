// Decoded audio of songs, in chunks on a fixed grid: the player schedules them, the waveforms are drawn from them.

import { parseWav } from "./wav.js";

export const CHUNK_S = 4;
const MOST_BYTES = 400e6;
const STEP = 64; // frames for which a chunk keeps minimum and maximum

export const chunkFrames = (song) => CHUNK_S * song.sample_rate;
export const DIFFERENCE = "difference";
export const INSTRUMENTALS = ["instrumental", "accompaniment"];
const isNudged = (track) => track === DIFFERENCE || INSTRUMENTALS.includes(track);

export class Chunks {
  #kept = new Map(); // key: {promise, chunk, bytes}, the least recently used first
  #bytes = 0;

  constructor(clip) {
    this.clip = clip;
  }

  // A chunk that is there already, or undefined.
  peek(song, track, index, nudge) {
    return this.#kept.get(keyOf(song, track, index, nudge))?.chunk;
  }

  // The promise of a chunk. A failure is not kept: the next call asks again.
  get(song, track, index, nudge) {
    const key = keyOf(song, track, index, nudge);
    const known = this.#kept.get(key);
    if (known) {
      this.#kept.delete(key);
      this.#kept.set(key, known);
      return known.promise;
    }
    const entry = { chunk: undefined, bytes: 0 };
    entry.promise = this.#load(song, track, index, nudge).then(
      (chunk) => {
        entry.chunk = chunk;
        entry.bytes = chunk.bytes;
        this.#bytes += entry.bytes;
        this.#shrink();
        return chunk;
      },
      (error) => {
        this.#kept.delete(key);
        throw error;
      },
    );
    this.#kept.set(key, entry);
    return entry.promise;
  }

  async #load(song, track, index, nudge) {
    const start = index * chunkFrames(song), frames = Math.min(chunkFrames(song), song.num_frames - start);
    const { num_frames: length, sample_rate: rate } = song.tracks.find(({ name }) => name === track) ?? song;
    if (rate !== song.sample_rate) throw new Error(`its sample rate is ${rate} Hz, the song's is ${song.sample_rate} Hz`);
    if (start >= length) return new Chunk([new Float32Array(frames)]);
    const range = { start_frame: start, num_frames: frames };
    if (isNudged(track) && nudge !== 0) range.nudge_frames = nudge;
    return new Chunk(parseWav(await this.clip(song.song_id, track, range)));
  }

  #shrink() {
    for (const [key, entry] of this.#kept) {
      if (this.#bytes <= MOST_BYTES) return;
      if (!entry.chunk) continue;
      this.#kept.delete(key);
      this.#bytes -= entry.bytes;
    }
  }
}

const keyOf = (song, track, index, nudge) => `${song.song_id}/${track}/${index}/${isNudged(track) ? nudge : 0}`;

export class Chunk {
  #coarse = null;

  constructor(channels) {
    this.channels = channels;
    this.frames = channels[0].length;
    this.bytes = channels.length * this.frames * 4;
  }

  // Minimum and maximum over the channels, of frames first <= frame < last.
  extremes(first, last) {
    if (last - first < 2 * STEP) return span(this.channels, first, Math.min(last, this.frames));
    this.#coarse ??= this.#steps();
    return span2(this.#coarse, Math.floor(first / STEP), Math.ceil(last / STEP));
  }

  // The mean of the channels at a frame.
  value(frame) {
    return this.channels.reduce((sum, channel) => sum + channel[frame], 0) / this.channels.length;
  }

  #steps() {
    const count = Math.ceil(this.frames / STEP);
    const steps = new Float32Array(2 * count);
    for (let i = 0; i < count; i++) {
      const [low, high] = span(this.channels, i * STEP, Math.min((i + 1) * STEP, this.frames));
      steps[2 * i] = low;
      steps[2 * i + 1] = high;
    }
    return steps;
  }
}

function span(channels, first, last) {
  let low = Infinity, high = -Infinity;
  for (const channel of channels) {
    for (let i = first; i < last; i++) {
      if (channel[i] < low) low = channel[i];
      if (channel[i] > high) high = channel[i];
    }
  }
  return low > high ? [0, 0] : [low, high];
}

// The same of pairs of minima and maxima.
export function span2(pairs, first, last) {
  let low = Infinity, high = -Infinity;
  for (let i = 2 * Math.max(0, first); i < Math.min(2 * last, pairs.length); i += 2) {
    if (pairs[i] < low) low = pairs[i];
    if (pairs[i + 1] > high) high = pairs[i + 1];
  }
  return low > high ? [0, 0] : [low, high];
}
