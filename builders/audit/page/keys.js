// Which key does what. An action is a name that buttons carry too, as data-action.

import { element } from "./words.js";

// keys, action, words; "Shift+" only where the key itself does not say it
export const KEYS = [
  ["Judge", [
    [["a"], "accept", "accept, and on to the next song without a verdict"],
    [["r"], "reject", "reject: then a digit for the reason, or r again for another reason with a note"],
    [["s", "n", "ArrowRight", "ArrowDown"], "next", "skip: the next song"],
    [["b", "p", "ArrowLeft", "ArrowUp"], "before", "the song before"],
    [["u"], "undo", "take the last verdict back"],
    [["t"], "target", "judge the whole song, or the track that is heard alone"],
  ]],
  ["Hear", [
    [[" "], "play", "play, pause"],
    [["0"], "solo0", "hear the mixture"],
    [["1", "2", "3", "4", "5", "6", "7", "8", "9"], "solo", "hear a track alone"],
    [["Tab", "x"], "swap", "A/B: back to the track before"],
    [["d"], "difference", "hear the mixture less the instrumental"],
    [["m"], "mute", "silence"],
  ]],
  ["Move", [
    [["Shift+ArrowLeft"], "back1", "1 s back"],
    [["Shift+ArrowRight"], "forward1", "1 s on"],
    [[","], "back5", "5 s back"],
    [["."], "forward5", "5 s on"],
    [["Home"], "home", "to the start"],
    [["v"], "strongest", "to where the voice is strongest"],
    [["l"], "loop", "repeat the region (drag to choose one), or 4 s around the playhead"],
    [["+", "="], "zoomIn", "zoom in"],
    [["-"], "zoomOut", "zoom out"],
  ]],
  ["Align", [
    [["["], "nudgeDown", "instrumental 0.1 frame earlier"],
    [["]"], "nudgeUp", "0.1 frame later"],
    [["{"], "nudgeDown1", "1 frame earlier"],
    [["}"], "nudgeUp1", "1 frame later"],
    [["\\"], "nudgeZero", "back to 0"],
  ]],
  ["Find", [
    [["/"], "search", "search (Enter opens the first found)"],
    [["o"], "order", "the next order: doubtful first, random, by title"],
    [["?"], "help", "these keys"],
    [["Escape"], "escape", "out of a field, a search, a choice, a region"],
  ]],
];

const NAMES = { " ": "Space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc" };
const ACTIONS = new Map(KEYS.flatMap(([, rows]) => rows.flatMap(([keys, action]) => keys.map((key) => [key, action]))));

// Listen to the keys of the page: `act(action, key)` is called for each that is one of them.
export function listen(act) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const focus = document.activeElement;
    const isText = focus instanceof HTMLInputElement && focus.type !== "range";
    if (isText && event.key !== "Escape" && event.key !== "Enter") return;
    // to who walks the page by keyboard its buttons are buttons
    if (focus !== document.body && event.key === "Tab" && !isText) return;
    if (focus?.matches("button, a, input") && [" ", "Enter"].includes(event.key) && !isText) return;
    if (event.key === "Tab" && event.shiftKey) return;
    const key = event.shiftKey && event.key.startsWith("Arrow") ? `Shift+${event.key}` : event.key;
    const action = isText && key === "Enter" ? "enter" : ACTIONS.get(key.length === 1 ? lower(key) : key);
    if (!action) return;
    if (event.repeat && ["accept", "reject", "undo", "solo"].includes(action)) return;
    event.preventDefault();
    act(action, key);
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button, a");
    // a click by the mouse leaves the keys to the page
    if (event.detail > 0) button?.blur();
    if (button?.dataset.action) act(button.dataset.action, button.dataset.key);
  });
}

const lower = (key) => key.toLowerCase();

export function writeHelp(into) {
  for (const [title, rows] of KEYS) {
    const section = element("section");
    section.append(element("h3", "", title));
    const list = element("dl");
    for (const [keys, , words] of rows) {
      const term = element("dt");
      const shown = keys.length > 5 ? [keys[0], "…", keys.at(-1)] : keys;
      for (const key of shown) {
        const text = key.replace(/Arrow\w+| |Escape/g, (name) => NAMES[name] ?? name);
        term.append(key === "…" ? key : element("kbd", "", text), " ");
      }
      list.append(term, element("dd", "", words));
    }
    section.append(list);
    into.append(section);
  }
}
