// The tracks of a song, one below the other: the whole song, a stretch of it, one playhead through all.

import { cleared, drawRuler, drawSpectrogram, drawStrip, drawWave } from "./pictures.js";
import { clock, element, number } from "./words.js";

const VIEW_S = 20, SHORTEST_VIEW_S = 0.002;
const OWN_COLOURS = { mixture: "--mixture", vocals: "--vocals" };
const COLOURS = ["--one", "--two", "--three", "--four", "--five", "--six"];
const DRAG_PIXELS = 4;

export class Stack {
  song = null;
  view = { start: 0, frames: 1 };
  #tracks = [];
  #isDue = false;
  #wasInView = true;

  constructor({ player, chunks, pictures, solo, chosen }) {
    Object.assign(this, { player, chunks, pictures, solo, chosen });
    const find = (id) => document.getElementById(id);
    this.parts = Object.fromEntries(
      ["tracks", "overview", "ruler", "duration", "clock", "zoom"].map((id) => [id, find(id)]),
    );
    this.whole = find("over-whole");
    this.window = find("over-window");
    const all = () => ({ start: 0, frames: this.song.num_frames });
    this.#listen(this.whole, all);
    this.#listen(this.window, () => this.view);
    this.window.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    const again = () => this.draw();
    const resized = new ResizeObserver(again);
    for (const each of [this.parts.tracks, this.parts.overview]) resized.observe(each);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  }

  open(song) {
    this.song = song;
    this.parts.tracks.replaceChildren();
    this.#tracks = [];
    this.parts.duration.textContent = "";
    if (song) {
      this.view.frames = Math.min(song.num_frames, VIEW_S * song.sample_rate);
      this.#reveal(this.player.position() + 0.3 * this.view.frames);
      this.#tracks = song.tracks.map((track, place) => this.#row(track, place));
      this.parts.duration.append("whole song", element("br"), clock(song.duration_s));
    }
    this.draw();
  }

  // Draw at the next frame of the screen, however often it is asked for.
  draw() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.#draw();
    });
  }

  zoom(factor, around = this.player.position()) {
    const { song, view } = this;
    if (!song) return;
    const frames = Math.max(SHORTEST_VIEW_S * song.sample_rate, Math.min(song.num_frames, view.frames * factor));
    const held = around >= view.start && around <= view.start + view.frames ? around : view.start + view.frames / 2;
    const start = held - ((held - view.start) * frames) / view.frames;
    view.frames = frames;
    this.#move(start);
  }

  // Move the playhead and what belongs to it; called for each frame of the screen.
  tick() {
    const { song, view, player } = this;
    if (!song) return;
    const at = player.position(), isInView = at >= view.start && at < view.start + view.frames;
    if (!isInView && player.playing && this.#wasInView) this.#reveal(at + 0.45 * view.frames);
    this.#wasInView = at >= view.start && at < view.start + view.frames;
    place(this.window.querySelector(".playhead"), (at - view.start) / view.frames);
    place(this.whole.querySelector(".playhead"), at / song.num_frames);
    this.parts.clock.textContent = clock(at / song.sample_rate, 1);
  }

  // Bring a frame into the middle.
  show(frame) {
    if (frame < this.view.start || frame >= this.view.start + this.view.frames) this.#reveal(frame + 0.3 * this.view.frames);
  }

  #reveal(frame) {
    this.#move(frame - this.view.frames / 2);
  }

  #move(start) {
    this.view.start = Math.max(0, Math.min(start, this.song.num_frames - this.view.frames));
    this.#wasInView = true;
    this.draw();
  }

  #row(track, place) {
    const row = element("div", "track");
    const gutter = element("button", "gutter");
    gutter.type = "button";
    const isMixture = track.kind === "mixture";
    const digit = isMixture ? "0" : String(place + (this.song.tracks[0].kind === "mixture" ? 0 : 1));
    const name = element("span", "name");
    if (digit.length === 1) name.append(element("kbd", "", digit));
    name.append(element("span", "", track.name));
    const loud = Number.isFinite(track.loudness_lufs) ? `${number(track.loudness_lufs)} LUFS` : "";
    gutter.append(name, element("small", "", [track.provenance, loud].filter(Boolean).join("\n")), element("small", "broken"));
    gutter.title = [`hear ${track.name} alone`, ...(track.reasons ?? []).map((reason) => reason.text ?? reason)].join("\n");
    gutter.addEventListener("click", () => this.solo(track.name));
    const colour = OWN_COLOURS[track.name] ?? (isMixture ? "--mixture" : COLOURS[(place + 5) % COLOURS.length]);
    row.style.setProperty("--tone", `var(${colour})`);
    const [wave, spectrogram] = ["wave", "spectrogram"].map((kind) => element("canvas", kind));
    wave.setAttribute("role", "img");
    wave.setAttribute("aria-label", `waveform of ${track.name}`);
    spectrogram.setAttribute("role", "img");
    const field = element("div", "field");
    field.append(wave, spectrogram);
    row.append(gutter, field);
    this.parts.tracks.append(row);
    return { name: track.name, length: track.num_frames, row, gutter, wave, spectrogram, colour };
  }

  #draw() {
    const { song, view, player, chunks, pictures, parts } = this;
    if (!song) {
      for (const canvas of [parts.overview, parts.ruler]) cleared(canvas);
      return;
    }
    const style = getComputedStyle(document.documentElement);
    const tone = (name) => style.getPropertyValue(name).trim();
    const scale = pictures.scale(song), overview = cleared(parts.overview);
    this.#tracks.forEach(({ name, length, row, gutter, wave, spectrogram, colour }, i) => {
      const peaks = pictures.peaks(song, name), isSolo = player.soloed === name;
      row.classList.toggle("solo", isSolo);
      gutter.setAttribute("aria-pressed", isSolo);
      gutter.querySelector(".broken").textContent = player.broken.has(name) ? "cannot be read" : "";
      drawWave(wave, { song, track: name, view, chunks, nudge: player.nudge, peaks, colour: tone(colour), scale });
      const missing = drawSpectrogram(spectrogram, { song, track: name, view, pictures, shade: tone("--shade"), soft: tone("--soft") });
      spectrogram.setAttribute("aria-label", [`spectrogram of ${name}`, missing].filter(Boolean).join(": "));
      const height = overview ? overview.canvas.height / this.#tracks.length : 0;
      if (overview) drawStrip(overview, peaks, { share: length / song.num_frames, top: i * height, height, colour: tone(colour), scale });
    });
    drawRuler(parts.ruler, { song, view, colour: tone("--soft"), rule: tone("--rule-strong") });
    place(this.whole.querySelector(".window"), view.start / song.num_frames, view.frames / song.num_frames);
    for (const [over, range] of [[this.whole, { start: 0, frames: song.num_frames }], [this.window, view]]) {
      const mark = over.querySelector(".region"), { region } = player;
      mark.hidden = !region;
      mark.classList.toggle("looping", player.looping);
      if (region) place(mark, (region.start - range.start) / range.frames, (region.end - region.start) / range.frames);
    }
    const seconds = view.frames / song.sample_rate;
    parts.zoom.textContent = seconds < 1 ? `${number(seconds * 1000, seconds < 0.01 ? 1 : 0)} ms` : `${number(seconds, seconds < 10 ? 1 : 0)} s`;
    this.tick();
  }

  // A click seeks, a drag chooses a region.
  #listen(over, range) {
    let from = null, dragged = false;
    const frameAt = (event) => {
      const box = over.getBoundingClientRect(), { start, frames } = range();
      return start + (Math.max(0, Math.min(event.clientX - box.left, box.width)) / box.width) * frames;
    };
    over.addEventListener("pointerdown", (event) => {
      if (!this.song || event.button !== 0) return;
      document.activeElement?.blur();
      over.setPointerCapture(event.pointerId);
      [from, dragged] = [{ x: event.clientX, frame: frameAt(event) }, false];
    });
    over.addEventListener("pointermove", (event) => {
      if (from === null) return;
      dragged ||= Math.abs(event.clientX - from.x) > DRAG_PIXELS;
      if (dragged) this.#preview(from.frame, frameAt(event));
    });
    over.addEventListener("pointerup", (event) => {
      if (from === null) return;
      const to = frameAt(event);
      if (dragged) this.chosen({ start: Math.round(Math.min(from.frame, to)), end: Math.round(Math.max(from.frame, to)) });
      else this.player.seek(to);
      from = null;
      this.draw();
    });
    over.addEventListener("pointercancel", () => {
      from = null;
      this.draw();
    });
  }

  #preview(a, b) {
    const start = Math.min(a, b), frames = Math.abs(a - b), { song, view } = this;
    for (const [over, from, all] of [[this.whole, 0, song.num_frames], [this.window, view.start, view.frames]]) {
      const mark = over.querySelector(".region");
      mark.hidden = false;
      place(mark, (start - from) / all, frames / all);
    }
  }

  #wheel(event) {
    if (!this.song) return;
    event.preventDefault();
    const box = this.window.getBoundingClientRect(), { view } = this;
    const sideways = event.shiftKey ? event.deltaY : event.deltaX;
    if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
      this.#move(view.start + (sideways / box.width) * view.frames);
    } else {
      this.zoom(1.2 ** Math.sign(event.deltaY), view.start + ((event.clientX - box.left) / box.width) * view.frames);
    }
  }
}

const place = (mark, left, width) => {
  mark.style.left = `${100 * left}%`;
  if (width !== undefined) mark.style.width = `${100 * width}%`;
};
