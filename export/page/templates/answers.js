// A board's answers: what is taken for one, and the sentence about everything else (as run/_board_answers.py).

const MAX_LINE_BYTES = 2048, MAX_HELD_BYTES = 1 << 20, MAX_IMAGE_BYTES = 1 << 24;
const BOUNDS = {
  height: [1, MAX_IMAGE_BYTES], width: [1, MAX_IMAGE_BYTES], channels: [1, MAX_IMAGE_BYTES], zero_point: [-128, 127],
  classes: [1, 255], max_samples: [1, 65535], samples: [0, 65535], iterations: [0, 2 ** 31 - 1], records: [0, 1],
  protocol: [1, 2 ** 31 - 1], saves: [0, 2], lasting: [0, 1],
};

// What a person is told: one sentence that says what to do.
class Sentence extends Error {}

// The board's own words for "no"; it goes on as before.
class Refusal extends Sentence {}

// Nobody knows what the port sends next: it must be connected anew.
class Lost extends Sentence {}

function noBoard(received, expected) {
  const shown = JSON.stringify(received.slice(0, 80));
  return new Lost(`There is no such board at this port: it sent ${shown}, ${expected} was expected. Is the bundle's sketch on the board?`);
}

// The lines and bytes that a port sends. What nobody reads is bounded: the oldest is dropped.
class Incoming {
  #held = new Uint8Array(0);
  #wake = () => {};
  #ended = null;
  last = "";
  onEnd = () => {};

  constructor(port) {
    port.onBytes = (bytes) => {
      this.#held = joined([this.#held, bytes]).slice(-MAX_HELD_BYTES);
      this.#wake();
    };
    port.onEnd = (reason) => {
      this.#ended = reason;
      this.#wake();
      this.onEnd();
    };
  }

  // The next line without its end; null: it was not complete at the deadline (of performance.now).
  async line(deadline) {
    let searched = 0;
    for (;;) {
      const end = this.#held.indexOf(10, searched);
      if (end >= 0 && end <= MAX_LINE_BYTES) {
        this.last = this.#text(end);
        this.#held = this.#held.slice(end + 1);
        return this.last;
      }
      if (this.#held.length > MAX_LINE_BYTES) throw noBoard(this.#text(MAX_LINE_BYTES), `a line of at most ${MAX_LINE_BYTES} bytes`);
      searched = this.#held.length;
      if (!(await this.#more(deadline))) {
        this.last = this.#text(searched) || this.last;
        return null;
      }
    }
  }

  // The next `count` bytes; null: they did not come in time.
  async bytes(count, deadline) {
    while (this.#held.length < count) {
      if (!(await this.#more(deadline))) return null;
    }
    const taken = this.#held.slice(0, count);
    this.#held = this.#held.slice(count);
    return taken;
  }

  lost() {
    return new Lost(`The connection ended (${this.#ended}): plug the board in again and connect.`);
  }

  #text(end) {
    return String.fromCharCode(...this.#held.subarray(0, end)).trim();
  }

  // Whether something came. A port that has ended is an error.
  async #more(deadline) {
    if (this.#ended !== null) throw this.lost();
    const left = deadline - performance.now();
    if (left <= 0) return false;
    let timer;
    await new Promise((done) => {
      this.#wake = done;
      timer = setTimeout(done, Math.min(left, 2 ** 31 - 1));
    });
    clearTimeout(timer);
    return this.#ended !== null || performance.now() < deadline;
  }
}

function wholeNumber(word) {
  return /^-?\d{1,10}$/.test(word) ? Number(word) : NaN;
}

// {name: number} of "name number name number ...", of these names in this order.
function numbersOf(answer, ...names) {
  const words = answer.split(" "), expected = names.map((name) => `${name} <number>`).join(" ");
  const found = {};
  names.forEach((name, i) => (found[name] = words[2 * i] === name ? wholeNumber(words[2 * i + 1] ?? "") : NaN));
  if (words.length !== 2 * names.length || Object.values(found).some(Number.isNaN)) throw noBoard(answer, `OK ${expected}`);
  return found;
}

// The values in an answer to STATUS: lines "HEAD <head>" and "PLAN <layer> <channels>", then names and values by turns.
function statusOf(lines) {
  const last = lines[lines.length - 1], words = last.split(" "), status = { plan: {}, head: null };
  for (const line of lines.slice(0, -1)) {
    if (line.startsWith("HEAD ")) status.head = line.slice(5);
    else {
      const { layer, channels } = planOf(line);
      status.plan[layer] = channels;
    }
  }
  if (words.length % 2) throw noBoard(last, "a value for each name");
  for (let i = 0; i < words.length; i += 2) status[words[i]] = statusValue(words[i], words[i + 1], last);
  const lacking = ["network", "scale", ...Object.keys(BOUNDS).slice(0, 9)].filter((name) => !(name in status));
  if (lacking.length) throw noBoard(last, lacking.join(", "));
  if (status.height * status.width * status.channels > MAX_IMAGE_BYTES) throw noBoard(last, `an image of at most ${MAX_IMAGE_BYTES} B`);
  return status;
}

function statusValue(name, word, line) {
  if (name === "scale") {
    const scale = /^\d[\d.e+-]{0,38}$/.test(word) ? Number(word) : NaN;
    if (!(scale > 0 && scale < Infinity)) throw noBoard(line, "a positive scale");
    return scale;
  }
  if (!Object.hasOwn(BOUNDS, name)) return word;
  const [least, largest] = BOUNDS[name], value = wholeNumber(word);
  if (!(value >= least && value <= largest)) throw noBoard(line, `${name} from ${least} to ${largest}`);
  return value;
}

function planOf(line) {
  const found = /^PLAN (.+) (\d{1,9})$/.exec(line);
  if (!found) throw noBoard(line, "PLAN <layer> <number of channels>");
  return { layer: found[1], channels: Number(found[2]) };
}

function lossOf(line) {
  const found = /^LOSS (\d{1,9}) (\d{1,10}\.\d{1,12}|nan)$/.exec(line);
  if (!found) throw noBoard(line, "LOSS <iteration> <loss>");
  return { iteration: Number(found[1]), loss: Number(found[2]) };
}

function familiarityOf(answer) {
  const found = /^familiarity (-?\d{1,4}\.\d{6}) threshold (-?\d{1,4}\.\d{6})$/.exec(answer);
  if (!found) throw noBoard(answer, "OK familiarity <number> threshold <number>");
  return { familiarity: Number(found[1]), threshold: Number(found[2]) };
}
