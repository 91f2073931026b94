// What the browser remembers of a bundle: names of its classes and thumbnails of samples. What was taught is on the board.

class Memory {
  #key;
  names = {};
  thumbnails = {};  // by the CRC of what the board keeps of a sample

  constructor(facts) {
    this.#key = `tinytrain ${facts.namespace} ${facts.base_hash.slice(0, 16)}`;
    try {
      const { names, thumbnails } = JSON.parse(localStorage.getItem(this.#key) ?? "{}");
      this.names = textsOf(names);
      this.thumbnails = textsOf(thumbnails);
    } catch {
      // this browser keeps nothing, or something else
    }
  }

  keep() {
    const names = Object.keys(this.thumbnails);
    for (;;) {
      try {
        localStorage.setItem(this.#key, JSON.stringify({ names: this.names, thumbnails: this.thumbnails }));
        return;
      } catch {
        if (names.length === 0) return;  // it keeps nothing at all
        for (const oldest of names.splice(0, Math.ceil(names.length / 4))) delete this.thumbnails[oldest];
      }
    }
  }

  keepOnly(crcs) {
    for (const crc of Object.keys(this.thumbnails)) if (!crcs.has(Number(crc))) delete this.thumbnails[crc];
    this.keep();
  }
}

function textsOf(values) {
  return Object.fromEntries(Object.entries(values ?? {}).filter(([, text]) => typeof text === "string"));
}
