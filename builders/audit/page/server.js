// What the page asks the server, and the box of verdicts that are on their way to it.

export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status; // 0: no answer
  }
}

async function ask(url, options = {}) {
  let answer;
  try {
    answer = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("the server does not answer: is 'stemloom audit' still running?", 0);
  }
  if (answer.ok) return answer;
  const text = await answer.text().catch(() => "");
  let message = text;
  try {
    message = JSON.parse(text).error ?? text;
  } catch {
    // plain text
  }
  throw new ServerError(message || `the server says ${answer.status}`, answer.status);
}

const json = async (url, options) => (await ask(url, options)).json();
const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value != null)).toString();
const of = (song, what, track) => `songs/${encodeURIComponent(song)}/${what}/${encodeURIComponent(track)}`;

export const server = {
  queue: (order) => json(`queue?${query({ order })}`),
  song: (id) => json(`songs/${encodeURIComponent(id)}`),
  reasons: () => json("reasons"),
  verdicts: (since) => json(`verdicts?${query({ since })}`, { cache: "no-store" }),
  async peaks(song, track, bins) {
    return new Int8Array(await (await ask(`${of(song, "peaks", track)}?${query({ bins })}`)).arrayBuffer());
  },
  async spectrogram(song, track, range) {
    const blob = await (await ask(`${of(song, "spectrogram", track)}?${query(range)}`)).blob();
    return createImageBitmap(blob);
  },
  async clip(song, track, range) {
    return (await ask(`${of(song, "clip", track)}?${query(range)}`)).arrayBuffer();
  },
  verdict: (body) =>
    json("verdicts", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
};

const FINAL = [404, 413, 422]; // to ask again would change nothing
const FIRST_WAIT_MS = 500, LONGEST_WAIT_MS = 5000;

// Verdicts in the order in which they were given; each is sent, with one key, until the server has answered.
// `changed(error?)`, `answered(verdict, answer)` and `refused(verdict, error, before)` tell what happens.
export class Outbox {
  #box = []; // {verdict, before}: `before` is what held before
  #sending = false;

  constructor({ post, changed, answered, refused }) {
    Object.assign(this, { post, changed, answered, refused });
  }

  get verdicts() {
    return this.#box.map(({ verdict }) => verdict);
  }

  push(verdict, before) {
    this.#box.push({ verdict: { ...verdict, key: crypto.randomUUID() }, before });
    this.changed();
    if (!this.#sending) this.#send();
  }

  async #send() {
    this.#sending = true;
    for (let wait = FIRST_WAIT_MS; this.#box.length; this.changed()) {
      const { verdict, before } = this.#box[0];
      try {
        const answer = await this.post(verdict);
        this.#box.shift();
        this.answered(verdict, answer);
        wait = FIRST_WAIT_MS;
      } catch (error) {
        if (FINAL.includes(error.status)) {
          this.#box.shift();
          this.refused(verdict, error, before);
        } else {
          this.changed(error);
          await new Promise((done) => setTimeout(done, wait));
          wait = Math.min(2 * wait, LONGEST_WAIT_MS);
        }
      }
    }
    this.#sending = false;
  }
}
