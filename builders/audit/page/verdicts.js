// What has been judged: the server's lines, and those that are on their way to it.

import { Outbox } from "./server.js";

const POLL_MS = 1000;

export class Verdicts {
  #lines = new Map(); // song: Map(stem or "": line)
  #since = 0;
  #done = [];

  constructor({ server, changed, progressed, failed, recovered }) {
    Object.assign(this, { server, changed, progressed, failed, recovered });
    this.outbox = new Outbox({
      post: server.verdict,
      changed: (error) => {
        this.changed();
        if (error) this.failed(`not sent yet: ${error.message}`);
      },
      answered: (verdict, answer) => this.progressed(answer.progress),
      refused: (verdict, error, before) => {
        this.#keep(before ?? { ...verdict, verdict: "unheard" });
        this.failed(`the verdict was refused: ${error.message}`);
      },
    });
  }

  // "rejected" (or a track of it is), "accepted", "part" (of its tracks accepted) or undefined.
  of(song) {
    const lines = this.lines(song);
    if (!lines) return undefined;
    if ([...lines.values()].some(({ verdict }) => verdict === "rejected")) return "rejected";
    return lines.has("") ? "accepted" : "part";
  }

  // What holds: a verdict on the whole song ends those that were given on its tracks before.
  lines(song) {
    const lines = [...(this.#lines.get(song) ?? [])];
    const whole = lines.findIndex(([stem]) => stem === "");
    return lines.length ? new Map(lines.slice(Math.max(0, whole))) : undefined;
  }

  // Give a verdict: it shows at once, and is sent until it is answered.
  give(verdict) {
    const before = this.#lines.get(verdict.song_id)?.get(verdict.stem ?? "");
    this.#done.push({ verdict, before });
    this.#put(verdict, before);
  }

  // Take the last verdict of this page back; returns its song.
  undo(order) {
    const last = this.#done.pop();
    if (!last) return null;
    const { verdict, before } = last;
    const none = { verdict: "unheard", reason: null, note: "", nudge_frames: 0 };
    const { song_id, stem } = verdict;
    const { verdict: said, reason, note, nudge_frames } = before ?? none;
    this.#put({ song_id, stem, verdict: said, reason, note, nudge_frames, order: before?.order ?? order }, verdict);
    return song_id;
  }

  #put(verdict, before) {
    this.#keep(verdict);
    this.outbox.push(verdict, before);
    this.changed();
  }

  #keep(line) {
    const lines = this.#lines.get(line.song_id) ?? new Map();
    lines.delete(line.stem ?? ""); // the map's order is that of giving
    if (line.verdict !== "unheard") lines.set(line.stem ?? "", line);
    if (lines.size) this.#lines.set(line.song_id, lines);
    else this.#lines.delete(line.song_id);
  }

  // What is new at the server, from this page and from others.
  async poll() {
    const { seq, verdicts, progress } = await this.server.verdicts(this.#since);
    this.#since = seq;
    for (const line of verdicts) this.#keep(line);
    for (const line of this.outbox.verdicts) this.#keep(line);
    this.progressed(progress);
    if (verdicts.length) this.changed();
  }

  async watch() {
    const wake = () => new Promise((done) => {
      const timer = setTimeout(done, POLL_MS);
      document.addEventListener("visibilitychange", () => (clearTimeout(timer), done()), { once: true });
    });
    for (let isLost = false; ; ) {
      await wake();
      try {
        await this.poll();
        if (isLost) this.recovered();
        isLost = false;
      } catch (error) {
        if (!isLost) this.failed(error.message);
        isLost = true;
      }
    }
  }
}
