// The queue: all songs in their order, of which only the rows in view are in the document.

import { element, plain } from "./words.js";

export const ROW = 46; // height in pixels, as in audit.css
const SPARE = 6; // rows above and below the view

export class Queue {
  rows = []; // what is shown: objects with song_id, title, artist, grade ...
  #all = [];
  #byId = new Map();
  #made = new Map();

  constructor({ rows, spacer, search, found, open, verdictOf }) {
    Object.assign(this, { list: rows, spacer, search, found, open, verdictOf });
    rows.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(rows);
    search.addEventListener("input", () => this.#find());
  }

  fill({ columns, rows }) {
    this.#all = rows.map((row) => Object.fromEntries(columns.map((column, i) => [column, row[i]])));
    for (const row of this.#all) row.words = plain([row.title, row.artist, row.genre].filter(Boolean).join(" "));
    this.#byId = new Map(this.#all.map((row) => [row.song_id, row]));
    this.#find();
  }

  row(id) {
    return this.#byId.get(id);
  }

  // The next song (or with -1 the one before) of those that are shown.
  beside(id, by) {
    const place = this.rows.findIndex((row) => row.song_id === id);
    return this.rows[place < 0 ? 0 : place + by]?.song_id;
  }

  // The next song without a verdict of those that are shown, after this one and then from the start.
  unjudged(id) {
    const from = this.rows.findIndex((row) => row.song_id === id) + 1;
    const isLeft = (row) => row.song_id !== id && !this.verdictOf(row.song_id);
    return (this.rows.slice(from).find(isLeft) ?? this.rows.slice(0, from).find(isLeft))?.song_id;
  }

  show(id) {
    this.current = id;
    const place = this.rows.findIndex((row) => row.song_id === id);
    if (place >= 0) {
      const top = place * ROW, { scrollTop, clientHeight } = this.list;
      if (top < scrollTop + ROW || top > scrollTop + clientHeight - 3 * ROW) this.list.scrollTop = top - clientHeight / 3;
    }
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW) - SPARE);
    const last = Math.min(this.rows.length, Math.ceil((this.list.scrollTop + this.list.clientHeight) / ROW) + SPARE);
    for (const [place, made] of this.#made) {
      if (place >= first && place < last) continue;
      made.remove();
      this.#made.delete(place);
    }
    for (let place = first; place < last; place++) this.#draw(place);
    const at = this.rows.findIndex((row) => row.song_id === this.current);
    if (this.#made.has(at)) this.list.setAttribute("aria-activedescendant", `row-${at}`);
    else this.list.removeAttribute("aria-activedescendant");
  }

  #draw(place) {
    const row = this.rows[place], verdict = this.verdictOf(row.song_id);
    let made = this.#made.get(place);
    if (!made) {
      made = element("div", "row");
      made.id = `row-${place}`;
      made.setAttribute("role", "option");
      made.append(element("span", `grade grade-${row.grade ?? "none"}`, row.grade ?? "–"), element("span", "names"), element("span", "mark"));
      const [title, artist] = [element("b", "", row.title || row.song_id), element("small", "", row.artist || "unknown artist")];
      title.dir = artist.dir = "auto";
      made.children[1].append(title, artist);
      made.style.transform = `translateY(${place * ROW}px)`;
      made.setAttribute("aria-posinset", place + 1);
      made.setAttribute("aria-setsize", this.rows.length);
      made.addEventListener("click", () => {
        this.list.blur(); // a click leaves the keys to the page
        this.open(row.song_id);
      });
      this.spacer.append(made);
      this.#made.set(place, made);
    }
    const isCurrent = row.song_id === this.current;
    made.classList.toggle("current", isCurrent);
    made.setAttribute("aria-selected", isCurrent);
    const mark = made.children[2];
    mark.className = `mark ${verdict ?? ""}`;
    mark.textContent = { accepted: "✓", rejected: "✕", part: "•" }[verdict] ?? "";
    mark.title = { part: "tracks judged alone" }[verdict] ?? verdict ?? "";
  }

  #find() {
    const words = plain(this.search.value).split(/\s+/).filter(Boolean);
    this.rows = words.length ? this.#all.filter((row) => words.every((word) => row.words.includes(word))) : this.#all;
    this.found.textContent = words.length ? `${this.rows.length.toLocaleString("en-US")} found` : "";
    for (const made of this.#made.values()) made.remove();
    this.#made.clear();
    this.spacer.style.height = `${this.rows.length * ROW}px`;
    if (words.length) this.list.scrollTop = 0;
    this.show(this.current);
  }
}
