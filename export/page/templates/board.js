// The serial commands (tinytrain_serial.h, tinytrain_teaching.h): one at a time, each with a deadline, as run/serial_port.py.

const FILLERS = [0, 0, 64, 1024, 8192, 65536];  // empty lines that end an image which another program began
const LINES_OF = { TRAIN: ["LOSS ", "PLAN "], STATUS: ["HEAD ", "PLAN "], SAMPLES: ["SAMPLE "] };  // before an answer's last line
const STOP = "\x03", BLOCK_BYTES = 256, MAX_DELTA_BYTES = 1 << 20;
const UNKNOWN = -1;

class Board {
  #port;
  #incoming;
  #patience;
  #quiet;
  #seconds;
  #checksImages;
  #turn = Promise.resolve();
  onLost = () => {};  // gets the error where the port ends between two commands

  // Waits until a board answers. Lines that it sent before, and answers to others, are dropped.
  static async connect(port, { patience = 15, quiet = 1, seconds = 60 } = {}) {
    const board = new Board();
    board.#port = port;
    board.#incoming = new Incoming(port);
    [board.#patience, board.#quiet, board.#seconds] = [patience, quiet, seconds];
    try {
      await board.#await();
      const status = await board.status();
      board.#incoming.onEnd = () => board.onLost(board.#incoming.lost());
      board.#checksImages = (status.protocol ?? 1) > 1;
    } catch (error) {
      await port.close();
      throw error;
    }
    return board;
  }

  close() {
    return this.#port.close();
  }

  async status() {
    return statusOf(await this.#ask("STATUS"));
  }

  // Keeps a sample; the board records it itself where there is no image. Returns how many it has.
  async teach(label, image = null) {
    return numbersOf((await this.#ask(`TEACH ${label}`, { image })).at(-1), "samples").samples;
  }

  // The class, or UNKNOWN.
  async predict(image = null) {
    const answer = (await this.#ask("PREDICT", { image })).at(-1);
    return answer === `label ${UNKNOWN}` ? UNKNOWN : numbersOf(answer, "label").label;
  }

  // A score of each class for the last image.
  async scores(count) {
    const answer = (await this.#ask("SCORES")).at(-1), words = answer.split(" ").slice(1), scores = words.map(wholeNumber);
    if (!answer.startsWith("thousandths ") || scores.length !== count || scores.some(Number.isNaN)) {
      throw noBoard(answer, `OK thousandths and ${count} numbers`);
    }
    return scores.map((score) => score / 1000);
  }

  async familiarity() {
    return familiarityOf((await this.#ask("FAMILIARITY")).at(-1));
  }

  // `heard` gets {iteration, loss} after each iteration. Returns milliseconds by the board's clock.
  async train(heard) {
    const each = (line) => (line.startsWith("LOSS ") ? heard(lossOf(line)) : planOf(line));
    return numbersOf((await this.#ask("TRAIN", { each, seconds: 7 * 24 * 3600 })).at(-1), "milliseconds").milliseconds;
  }

  // Ends a training after its iteration; what it learned so far stays.
  stop() {
    return this.#port.write(new TextEncoder().encode(STOP));
  }

  // {right, samples} of the samples, by the solution without each.
  async solve() {
    const answer = (await this.#ask("SOLVE")).at(-1), found = numbersOf(answer, "milliseconds", "right", "samples");
    if (!(found.right >= 0 && found.right <= found.samples && found.samples > 0)) throw noBoard(answer, "no more right samples than samples");
    return found;
  }

  // [{place, label, crc}]; `crc` names what the board keeps of a sample.
  async samples() {
    const found = [];
    const each = (line) => {
      const words = line.split(" "), [place, label, crc] = words.slice(1).map(wholeNumber);
      if (words.length !== 4 || !(place >= 0 && label >= 0 && label < 256 && crc >= 0)) throw noBoard(line, "SAMPLE <place> <label> <crc>");
      if (found.push({ place, label, crc }) > BOUNDS.samples[1]) throw noBoard(line, "no more samples");
    };
    await this.#ask("SAMPLES", { each });
    return found;
  }

  async remove(place) {
    return numbersOf((await this.#ask(`REMOVE ${place}`)).at(-1), "samples").samples;
  }

  save() { return this.#ask("SAVE"); }
  undo() { return this.#ask("UNDO"); }
  revert() { return this.#ask("REVERT"); }
  reset() { return this.#ask("RESET"); }
  factory() { return this.#ask("FACTORY"); }

  // The saved delta, as keras_tinytrain.Delta reads it.
  async delta() {
    let delta = null;
    await this.#ask("DELTA", {
      after: async (answer, deadline) => {
        const count = numbersOf(answer, "bytes").bytes;
        if (!(count >= 52 && count <= MAX_DELTA_BYTES)) throw noBoard(answer, `a delta of 52 to ${MAX_DELTA_BYTES} bytes`);
        delta = await this.#incoming.bytes(count, deadline);
      },
    });
    if (delta === null || !isDelta(delta)) throw new Sentence("The delta was cut off or altered on its way: download it again.");
    return delta;
  }

  // Puts a delta on the board, as a newer one than those that it has, and runs it.
  async load(delta, saves) {
    const sequence = saves > 0 ? (sequenceOf(await this.delta()) + 1) >>> 0 : 1, renewed = withSequence(delta, sequence);
    for (let at = 0; at < renewed.length; at += BLOCK_BYTES) {
      const image = new Uint8Array(BLOCK_BYTES).fill(255);
      image.set(renewed.subarray(at, at + BLOCK_BYTES));
      await this.#ask(`BLOCK ${at}`, { image });
    }
    await this.#ask(`ADOPT ${sequence}`);
  }

  // Lines of an answer, the last without its "OK ". Commands wait for each other.
  #ask(command, options = {}) {
    const answer = this.#turn.then(() => this.#askNow(command, options));
    this.#turn = answer.catch(() => {});
    return answer;
  }

  async #askNow(command, { image = null, each = null, after = null, seconds = this.#seconds }) {
    const data = image === null ? new Uint8Array(0) : unsignedBytes(image), word = command.split(" ")[0];
    const check = image !== null && this.#checksImages ? ` ${crc32(data)}` : "";
    await this.#send(joined([new TextEncoder().encode(`${command}${check}\n`), data]));
    const deadline = performance.now() + 1000 * seconds, lines = [];
    for (;;) {
      const line = await this.#incoming.line(deadline);
      if (line === null) {
        throw new Lost(`The board did not answer to ${word} within ${seconds} s: look at its cable, then connect again.`);
      }
      if (line.startsWith("ERROR")) throw new Refusal(`The board answered to ${word}: ${line.slice(6)}.`);
      if (line === "OK" || line.startsWith("OK ")) {
        lines.push(line.slice(3));
        if (after) await after(lines.at(-1), deadline);
        return lines;
      }
      if (!(LINES_OF[word] ?? []).some((start) => line.startsWith(start))) throw noBoard(line, "OK or ERROR");
      if (each) each(line);
      else if (lines.push(line) > 1000) throw noBoard(line, "the end of an answer");
    }
  }

  async #send(bytes) {
    try {
      await this.#port.write(bytes);
    } catch (error) {
      throw new Lost(`The board cannot be written to (${error.message}): plug it in again and connect.`);
    }
  }

  async #await() {
    const deadline = performance.now() + 1000 * this.#patience;
    for (let trial = 0; ; ++trial) {
      const filler = "\n".repeat(FILLERS[Math.min(trial, FILLERS.length - 1)]);
      await this.#send(new TextEncoder().encode(`${filler}STATUS\n`));
      if (await this.#hears(deadline, (line) => line.startsWith("OK network "))) break;
      if (performance.now() >= deadline) throw this.#nobody();
    }
    while (await this.#hears(Infinity, () => true)) {
      if (performance.now() >= deadline) throw noBoard(this.#incoming.last, "silence after the answer to STATUS");
    }
  }

  // Whether such a line comes soon.
  async #hears(deadline, wanted) {
    const until = Math.min(deadline, performance.now() + 1000 * this.#quiet);
    for (let line; (line = await this.#incoming.line(until)) !== null; ) {
      if (wanted(line)) return true;
      if (performance.now() >= until) return false;
    }
    return false;
  }

  #nobody() {
    const last = this.#incoming.last;
    if (last) return noBoard(last, `an answer to STATUS within ${this.#patience} s`);
    return new Lost(`Nobody answers at this port within ${this.#patience} s. Is the bundle's sketch on the board, and its serial monitor closed?`);
  }
}

// ---- deltas (tinytrain_delta.h): "TTDL", version, records, sequence at 8, length at 12, ..., CRC-32 at the end

function dataView(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function isDelta(bytes) {
  if (bytes.length < 52 || String.fromCharCode(...bytes.subarray(0, 4)) !== "TTDL") return false;
  const view = dataView(bytes), end = bytes.length - 4;
  return view.getUint32(12, true) === bytes.length && view.getUint32(end, true) === crc32(bytes.subarray(0, end));
}

function sequenceOf(delta) {
  return dataView(delta).getUint32(8, true);
}

function withSequence(delta, sequence) {
  const copy = delta.slice(), view = dataView(copy), end = copy.length - 4;
  view.setUint32(8, sequence, true);
  view.setUint32(end, crc32(copy.subarray(0, end)), true);
  return copy;
}
