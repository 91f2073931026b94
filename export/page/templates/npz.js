// Samples of an .npz file: arrays x (or images) and y (or labels), as `keras_tinytrain.data.load_npz` reads them.

const MAX_FILE_BYTES = 64 << 20;
const KINDS = { "|u1": Uint8Array, "|b1": Uint8Array, "|i1": Int8Array, "<i2": Int16Array, "<i4": Int32Array, "<u2": Uint16Array,
  "<u4": Uint32Array, "<f4": Float32Array, "<f8": Float64Array, "<i8": BigInt64Array, "<u8": BigUint64Array };

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const parts = [], reader = stream.getReader();
  for (let size = 0, next; !(next = await reader.read()).done; parts.push(next.value)) {
    size += next.value.length;
    if (size > MAX_FILE_BYTES) throw new Error(`it holds more than ${MAX_FILE_BYTES >> 20} MB`);
  }
  return joined(parts);
}

// {name: bytes} of a ZIP file, by its directory at the end.
async function unzipped(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), files = {};
  let end = bytes.length - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) --end;
  if (end < 0) throw new Error("it is no .npz file");
  let at = view.getUint32(end + 16, true);
  for (let count = view.getUint16(end + 10, true); count > 0; --count) {
    const method = view.getUint16(at + 10, true), size = view.getUint32(at + 20, true), nameLength = view.getUint16(at + 28, true);
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength));
    const local = view.getUint32(at + 42, true);
    const begin = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const packed = bytes.subarray(begin, begin + size);
    files[name.replace(/\.npy$/, "")] = method === 0 ? packed : await inflated(packed);
    at += 46 + nameLength + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
  }
  return files;
}

// {kind, shape, data} of a .npy file.
function stored(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), long = bytes[6] > 1;
  const begin = long ? 12 : 10, length = long ? view.getUint32(8, true) : view.getUint16(8, true);
  const header = new TextDecoder("latin1").decode(bytes.subarray(begin, begin + length));
  const kind = /'descr': '([^']+)'/.exec(header)?.[1];
  const shape = /'shape': \(([^)]*)\)/.exec(header)?.[1].split(",").filter((size) => size.trim()).map(Number);
  if (!shape || header.includes("'fortran_order': True")) throw new Error(`it holds an array of kind ${kind}, which is not read`);
  return { kind, shape, data: bytes.slice(begin + length).buffer };
}

// {values, shape, kind} of a .npy file of numbers.
function array(bytes) {
  const { kind, shape, data } = stored(bytes), Values = KINDS[kind];
  if (/[USO]\d*$/.test(kind)) throw new Error("it holds words where numbers are expected: number the classes from 0");
  if (!Values) throw new Error(`it holds an array of kind ${kind}, which is not read`);
  const values = new Values(data);
  if (values.length !== shape.reduce((product, size) => product * size, 1)) throw new Error("one of its arrays is cut short");
  return { values: kind.endsWith("8") && kind !== "<f8" ? Float64Array.from(values, Number) : values, shape, kind };
}

// The words of a .npy file: four bytes a letter, filled up with zeros.
function wordsOf(bytes) {
  const { kind, shape, data } = stored(bytes), width = Number(/^<U(\d+)$/.exec(kind)?.[1]);
  if (!(width > 0)) throw new Error(`its class_names are of kind ${kind}, and words are expected`);
  const letters = new Uint32Array(data);
  return Array.from({ length: shape[0] ?? 1 }, (_, i) => String.fromCodePoint(...letters.subarray(i * width, (i + 1) * width)).replace(/\0+$/, ""));
}

// A file's labels as the board's, by the names of the classes; as they stand where one side has no names.
function labelsByName(labels, names, known) {
  if (known.length === 0 || names.length === 0) return labels;
  const unknown = names.filter((name) => !known.includes(name));
  if (unknown.length) throw new Error(`it holds classes ${unknown.join(", ")}, and the board has ${known.join(", ")}`);
  return Array.from(labels, (label) => (label in names ? known.indexOf(names[label]) : label));
}

// [{image, label}] of an .npz file's bytes.
async function samplesOfNpz(bytes, facts) {
  if (bytes.length > MAX_FILE_BYTES) throw new Error(`it is larger than ${MAX_FILE_BYTES >> 20} MB`);
  const files = await unzipped(bytes);
  if (!(files.x || files.images) || !(files.y || files.labels)) throw new Error("it needs arrays x (or images) and y (or labels)");
  if (files.meta_json) throw new Error("it holds recordings in units of its own: teach it by keras-tinytrain device");
  const x = array(files.x || files.images), y = array(files.y || files.labels);
  const { height, width, channels } = facts.input, size = height * width * channels;
  const squeezed = (shape) => shape.filter((length) => length !== 1).join(" x ");
  if (squeezed(x.shape.slice(1)) !== squeezed([height, width, channels]) || y.values.length !== x.shape[0]) {
    throw new Error(`it holds samples of ${x.shape.slice(1).join(" x ")}, the board takes ${height} x ${width} x ${channels}`);
  }
  if (!x.values.every(Number.isFinite)) throw new Error("some of its values are not finite");
  const labels = files.class_names ? labelsByName(y.values, wordsOf(files.class_names), facts.class_names) : y.values;
  const white = x.kind === "|u1" ? WHITE_PIXEL : 1;
  return Array.from(labels, (label, i) => ({
    image: quantise(x.values.subarray(i * size, (i + 1) * size), white, facts.sample_values, facts.input),
    label,
  }));
}
