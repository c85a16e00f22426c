// All tracks of a song on one clock. Each chunk of each track starts at the same frame of the audio clock, so tracks
// are in sync to the sample, and which of them is heard is a matter of gains.

import { chunkFrames, DIFFERENCE } from "./chunks.js";

const LEAD_S = 0.04; // from scheduling to sounding
const RAMP_S = 0.004; // of gains, against clicks
const AHEAD_S = 10; // how much is scheduled
const SHORTEST_LOOP_S = 0.05;

export class Player {
  song = null;
  playing = false;
  soloed = null;
  muted = false;
  region = null; // {start, end} in frames
  looping = false;
  nudge = 0;
  broken = new Map(); // track: why it cannot be heard
  #contexts = new Map();
  #gains = new Map();
  #pieces = []; // what is scheduled: {at, from, num, nodes}, `at` in frames of the context
  #cursor = 0;
  #run = 0; // a loop of scheduling ends when this changes

  constructor(chunks, changed = () => {}, makeContext = contextAt) {
    Object.assign(this, { chunks, changed, makeContext });
  }

  // Another song, paused at a frame. What was heard (the solo, mute) stays where the song has it.
  open(song, frame, nudge = 0) {
    this.#stop();
    for (const gain of this.#gains.values()) gain.disconnect();
    this.output?.disconnect();
    const names = song.tracks.map((track) => track.name);
    this.song = song;
    this.nudge = nudge;
    this.broken = new Map();
    this.region = null;
    this.looping = false;
    this.#cursor = this.#within(frame);
    this.context = this.#contextAt(song.sample_rate);
    this.output = new GainNode(this.context, { gain: 0 });
    this.output.connect(this.context.destination);
    if (song.pseudo.includes(DIFFERENCE)) names.push(DIFFERENCE);
    if (!names.includes(this.soloed)) this.soloed = names[0];
    this.#gains = new Map(names.map((name) => [name, new GainNode(this.context, { gain: this.#level(name) })]));
    for (const gain of this.#gains.values()) gain.connect(this.output);
    this.changed();
  }

  // The song is not there (any more): nothing to play.
  close() {
    this.#stop();
    this.song = null;
    this.changed();
  }

  async play() {
    if (!this.song || this.playing) return;
    this.playing = true;
    this.changed();
    const end = this.looping ? this.region.end : this.song.num_frames;
    this.#start(this.#cursor >= end ? (this.looping ? this.region.start : 0) : this.#cursor);
    if (this.context instanceof AudioContext) await this.context.resume();
  }

  pause() {
    if (!this.playing) return;
    this.#cursor = this.position();
    this.#stop();
    this.changed();
  }

  seek(frame) {
    if (!this.song) return;
    this.#cursor = this.#within(frame);
    if (this.playing) this.#start(this.#cursor);
    this.changed();
  }

  solo(track) {
    if (!this.#gains.has(track)) return;
    const was = this.soloed;
    this.soloed = track;
    this.#setLevels();
    // the difference is fetched only while it is heard
    if (this.playing && (track === DIFFERENCE) !== (was === DIFFERENCE)) this.#splice();
    this.changed();
  }

  mute(muted) {
    this.muted = muted;
    this.#setLevels();
    this.changed();
  }

  // Choose a region (or none), to be repeated or not.
  choose(region, looping) {
    if (!this.song) return;
    const shortest = SHORTEST_LOOP_S * this.song.sample_rate;
    this.region = region && region.end - region.start >= shortest ? region : null;
    this.looping = looping && this.region !== null;
    const at = this.position();
    if (this.looping && (at < this.region.start || at >= this.region.end)) this.seek(this.region.start);
    else if (this.playing) this.#splice();
    this.changed();
  }

  setNudge(frames) {
    this.nudge = frames;
    if (this.playing) this.#splice();
    this.changed();
  }

  // The frame of the song that is heard now.
  position() {
    if (!this.playing || !this.#pieces.length) return this.#cursor;
    const late = this.context.outputLatency || this.context.baseLatency || 0;
    return this.#frameAt(this.context.currentTime * this.song.sample_rate - late * this.song.sample_rate);
  }

  // Whether the sound has run out, and the next chunk is on its way.
  get waiting() {
    const last = this.#pieces.at(-1);
    if (!this.playing || !last) return this.playing;
    return last.at + last.num <= this.#now() && last.from + last.num < this.song.num_frames;
  }

  // How many frames are scheduled from here on.
  get scheduled() {
    const last = this.#pieces.at(-1);
    return last ? last.at + last.num - this.#now() : 0;
  }

  #contextAt(rate) {
    for (const [other, context] of this.#contexts) {
      if (other !== rate && context instanceof AudioContext) context.suspend();
    }
    if (!this.#contexts.has(rate)) this.#contexts.set(rate, this.makeContext(rate));
    return this.#contexts.get(rate);
  }

  #within(frame) {
    return Math.max(0, Math.min(Math.round(frame), this.song.num_frames));
  }

  #now() {
    return Math.round(this.context.currentTime * this.song.sample_rate);
  }

  #level(track) {
    return track === this.soloed && !this.muted ? 1 : 0;
  }

  #setLevels() {
    for (const [track, { gain }] of this.#gains) ramp(gain, this.#level(track), this.context.currentTime);
  }

  #frameAt(time) {
    const first = this.#pieces[0];
    if (!first) return this.#cursor;
    let piece = first;
    for (const next of this.#pieces) if (next.at <= time) piece = next;
    return Math.round(piece.from + Math.max(0, Math.min(time - piece.at, piece.num)));
  }

  // The piece of a chunk that begins at a frame; null at the song's end.
  #pieceAt(frame) {
    let from = frame;
    const end = this.looping ? this.region.end : this.song.num_frames;
    if (from >= end) {
      if (!this.looping) return null;
      from = this.region.start;
    }
    const length = chunkFrames(this.song), index = Math.floor(from / length);
    return { index, from, num: Math.min((index + 1) * length, end) - from };
  }

  #tracks() {
    const names = this.song.tracks.map((track) => track.name);
    if (this.soloed === DIFFERENCE) names.push(DIFFERENCE);
    return names.filter((name) => !this.broken.has(name));
  }

  #isReady({ index }) {
    return this.#tracks().every((track) => this.chunks.peek(this.song, track, index, this.nudge));
  }

  // Fetch one chunk of all tracks. A track that cannot be read is left out from then on.
  async #load({ index }) {
    const { song, nudge } = this;
    await Promise.all(
      this.#tracks().map((track) =>
        this.chunks.get(song, track, index, nudge).catch(async (error) => {
          if (error.status === 0) return new Promise((done) => setTimeout(done, 1000));
          if (song === this.song) this.broken.set(track, error.message);
          this.changed();
        }),
      ),
    );
  }

  #stop() {
    this.#run++;
    this.playing = false;
    this.#silence();
  }

  #silence() {
    if (!this.context || !this.#pieces.length) return;
    ramp(this.output.gain, 0, this.context.currentTime);
    this.#cut(this.#now() + Math.ceil(RAMP_S * this.song.sample_rate));
    this.#pieces = [];
  }

  // Nothing that is scheduled sounds from a frame of the context on.
  #cut(at) {
    for (const piece of this.#pieces) {
      if (piece.at + piece.num <= at) continue;
      for (const node of piece.nodes) node.stop(Math.max(piece.at, at) / this.song.sample_rate);
      piece.num = Math.max(0, at - piece.at);
    }
    this.#pieces = this.#pieces.filter((piece) => piece.num > 0);
  }

  #start(frame) {
    this.#silence();
    this.#schedule(++this.#run, frame, null);
  }

  // Go on without a gap, but with what has changed. What sounds goes on until all is there.
  async #splice() {
    const run = ++this.#run;
    while (run === this.#run) {
      const at = this.#now() + Math.ceil(LEAD_S * this.song.sample_rate);
      const last = this.#pieces.at(-1);
      if (!last || last.at + last.num <= at) return this.#schedule(run, this.#frameAt(at), null);
      const frame = this.#frameAt(at), piece = this.#pieceAt(frame);
      if (!piece || this.#isReady(piece)) {
        this.#cut(at);
        return this.#schedule(run, frame, at);
      }
      await this.#load(piece);
    }
  }

  // Schedule piece after piece, from a frame of the song, at a frame of the context or as soon as can be.
  async #schedule(run, frame, at) {
    const rate = this.song.sample_rate;
    for (let head = frame; ; ) {
      const piece = this.#pieceAt(head);
      if (!piece) break;
      while (run === this.#run && !this.#isReady(piece)) await this.#load(piece);
      if (run !== this.#run) return;
      if (!this.#tracks().length) return this.pause();
      const soonest = this.#now() + Math.ceil(LEAD_S * rate);
      if (at === null || at < this.#now()) {
        at = soonest;
        this.output.gain.setValueAtTime(0, at / rate);
        this.output.gain.linearRampToValueAtTime(1, at / rate + RAMP_S);
      }
      this.#pieces = this.#pieces.filter((old) => old.at + old.num > this.#now() - rate);
      this.#pieces.push({ ...piece, at, nodes: this.#nodes(piece, at) });
      this.changed();
      at += piece.num;
      head = piece.from + piece.num;
      while (at - this.#now() > AHEAD_S * rate) {
        await new Promise((done) => setTimeout(done, 200));
        if (run !== this.#run) return;
      }
    }
    while (at !== null && this.#now() < at) {
      await new Promise((done) => setTimeout(done, 100));
      if (run !== this.#run) return;
    }
    this.#cursor = this.song.num_frames;
    this.#stop();
    this.changed();
  }

  #nodes({ index, from, num }, at) {
    const { sample_rate: sampleRate } = this.song;
    const first = from - index * chunkFrames(this.song);
    return this.#tracks().map((track) => {
      const { channels } = this.chunks.peek(this.song, track, index, this.nudge);
      const buffer = new AudioBuffer({ length: num, numberOfChannels: channels.length, sampleRate });
      channels.forEach((channel, i) => buffer.copyToChannel(channel.subarray(first, first + num), i));
      const node = new AudioBufferSourceNode(this.context, { buffer });
      node.connect(this.#gains.get(track));
      node.start(at / sampleRate);
      return node;
    });
  }
}

function contextAt(sampleRate) {
  try {
    return new AudioContext({ sampleRate });
  } catch {
    return new AudioContext(); // a rate that the browser has not: it resamples
  }
}

function ramp(gain, level, now) {
  const value = gain.value;
  gain.cancelScheduledValues(now);
  gain.setValueAtTime(value, now);
  gain.linearRampToValueAtTime(level, now + RAMP_S);
}
