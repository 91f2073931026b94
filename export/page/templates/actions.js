// What a person does: each action is one or more commands, and ends with the page as the board is.

class Lesson {
  board = null;
  status = null;
  samples = [];      // {place, label, crc or null, thumbnail}
  lists = true;      // whether the board tells its samples, and takes single ones back
  scores = true;     // whether it tells scores
  losses = [];

  constructor(facts) {
    this.facts = facts;
    this.memory = new Memory(facts);
  }

  className(label) {
    if (label === UNKNOWN) return "I don't know";
    if (label === this.facts.training.num_classes) return "of no class";
    return this.memory.names[label] || this.#exportedName(label);
  }

  #exportedName(label) {
    return this.facts.class_names[label] || `class ${label}`;
  }

  // Gives a class a name; without one it has the bundle's. Two classes of one name could not be told apart.
  rename(label, name) {
    const given = name.trim().slice(0, 60), asked = given || this.#exportedName(label);
    const other = Array.from({ length: this.facts.training.num_classes }, (_, k) => k).find((k) => k !== label && this.className(k) === asked);
    if (other !== undefined) throw new Sentence(`Another class is called "${asked}": give this one a name of its own.`);
    this.memory.names[label] = given;
    this.memory.keep();
  }

  async connect(port, options) {
    const board = await Board.connect(port, options);
    const status = await board.status();
    try {
      this.#checkBundle(status);
    } catch (error) {
      await board.close();
      throw error;
    }
    Object.assign(this, { board, status, lists: true, scores: true, samples: [] });
    await this.refresh();
  }

  async disconnect() {
    const board = this.board;
    this.board = this.status = null;
    await board?.close();
  }

  // Reads what the board is and keeps.
  async refresh() {
    if (this.lists) await this.#list();
    this.status = await this.board.status();
    if (!this.lists) this.samples = this.samples.slice(0, this.status.samples);
  }

  async #list() {
    try {
      const found = await this.board.samples();
      this.samples = found.map((sample) => ({ ...sample, thumbnail: this.memory.thumbnails[sample.crc] ?? null }));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.lists = false;
    }
  }

  // Keeps images of a class; `heard(count)` after each. The board records the sample where an image is null.
  async teach(taught, heard = () => {}) {
    const shown = new Map();
    try {
      for (const { image, label } of taught) {
        const count = await this.board.teach(label, image);
        const picture = image === null ? null : thumbnail(image, this.facts);
        shown.set(count - 1, picture);
        if (!this.lists) this.samples.push({ place: count - 1, label, crc: null, thumbnail: picture });
        heard(shown.size);
      }
    } finally {
      if (shown.size > 0 && this.lists) await this.#showTaught(shown);
    }
    await this.refresh();
  }

  async #showTaught(shown) {
    const found = await this.board.samples();
    for (const { place, crc } of found) if (shown.get(place)) this.memory.thumbnails[crc] = shown.get(place);
    this.memory.keepOnly(new Set(found.map((sample) => sample.crc)));
  }

  async remove(sample) {
    await this.board.remove(sample.place);
    await this.refresh();
  }

  // {label, shares: a number for each class or null, familiarity or null}
  async predict(image) {
    const label = await this.board.predict(image), count = this.facts.training.num_classes;
    let shares = null;
    if (this.scores) {
      try {
        shares = softmax(await this.board.scores(count));
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        this.scores = false;
      }
    }
    const judged = this.facts.rejects && this.status.head === "ridge" ? await this.board.familiarity() : null;
    return { label, shares, judged };
  }

  async train(heard) {
    this.losses = [];
    const milliseconds = await this.board.train(({ loss }) => heard(this.losses.push(Number.isNaN(loss) ? 0 : loss)));
    await this.refresh();
    return milliseconds / 1000;
  }

  async solve() {
    const found = await this.board.solve();
    await this.refresh();
    return found;
  }

  // save, undo, revert, reset or factory
  async obey(command) {
    await this.board[command]();
    await this.refresh();
  }

  // Classes without a sample.
  missing() {
    const present = new Set(this.samples.map((sample) => sample.label));
    return Array.from({ length: this.facts.training.num_classes }, (_, label) => label).filter((label) => !present.has(label));
  }

  #checkBundle(status) {
    const { namespace, input } = this.facts;
    if (status.network !== namespace) {
      throw new Sentence(`The board runs "${String(status.network).slice(0, 60)}" and this page belongs to "${namespace}": open the teach.html of that bundle, or put this bundle's sketch on the board.`);
    }
    const same = ["height", "width", "channels", "zero_point"].every((name) => status[name] === input[name]);
    if (!same || Math.abs(status.scale - f32(input.scale)) > 1e-9 + 1e-6 * input.scale || status.classes !== this.facts.training.num_classes) {
      throw new Sentence(`The board runs another export of "${namespace}": put this bundle's sketch on it, or open the teach.html of the bundle that it runs.`);
    }
  }
}

function softmax(scores) {
  const top = Math.max(...scores), powers = scores.map((score) => Math.exp(score - top));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}
