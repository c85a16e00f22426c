// Numbers and times as the page writes them.

export const number = (value, places = 1) => {
  if (typeof value !== "number" || !Number.isFinite(value)) return "–";
  const text = value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });
  return (/[1-9]/.test(text) ? text : text.replace("-", "")).replace("-", "−");
};

export const signed = (value, places = 1) => (value > 0 ? "+" : "") + number(value, places);

// A position in a song: 1:05, or 1:05.3 with a place.
export const clock = (seconds, places = 0) => {
  const scale = 10 ** places;
  const whole = Math.floor(Math.max(0, seconds) * scale + 1e-6);
  const rest = ((whole % (60 * scale)) / scale).toFixed(places).padStart(places ? 3 + places : 2, "0");
  return `${Math.floor(whole / (60 * scale))}:${rest}`;
};

// Without case and accents, so that a search finds what is meant.
export const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

// An element with a class and text. Text is never markup.
export const element = (tag, className = "", text = "") => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
};
