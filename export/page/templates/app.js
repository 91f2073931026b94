// The page: buttons to actions. One action at a time; whatever goes wrong is told in one sentence.

const facts = JSON.parse(byId("facts").textContent);
const lesson = new Lesson(facts);
const pad = new Pad(byId("pad"), facts.input, () => live());
const camera = new Camera(byId("camera"), facts.input);
let busy = false, answered = null, chosen = null;  // chosen: what to do with the files that a person picks

function show() {
  showConnected(lesson);
  showSources(lesson);
  showClasses(lesson, { add, remove, rename, answered });
  showLearned(lesson);
  showMemory(lesson);
}

async function act(text, action) {
  if (busy) return;
  busy = true;
  byId("alert").hidden = true;
  document.querySelector("main").ariaBusy = "true";
  if (text) say(text);
  try {
    await action();
  } catch (error) {
    await failed(error);
  }
  busy = false;
  document.querySelector("main").ariaBusy = "false";
  show();
}

async function failed(error) {
  fail(error instanceof Sentence ? remedied(error.message) : `This page failed (${error.message}): load it again, the board keeps what it was taught.`);
  byId("live").checked = false;
  if (error instanceof Refusal && lesson.board) await lesson.refresh().catch(() => lesson.disconnect());
  if (error instanceof Lost || !(error instanceof Sentence)) await lesson.disconnect();
  say(lesson.board ? "Connected." : "Not connected.");
}

const REMEDIES = {
  "max_samples are stored": "it has no place for another sample. Take samples back, or forget them all.",
  "every class needs a stored sample": "it needs samples of two classes at least, and to train one of every class.",
  "flash could not be": "its flash could not be written. Forget the samples and try again.",
  "nothing is learned yet": "it has learned nothing yet. Teach it and let it learn first.",
  "there are no prototypes": "it has learned nothing yet. Teach it and let it learn first.",  // of earlier firmware
  "nothing was recorded": "its sensor recorded nothing. Make the motion again, or look at the sensor.",
  "of another base model": "this delta is of another bundle. Load one that was downloaded from this page.",
  "delta is cut short": "this is no whole delta. Download it again.",
};

function remedied(text) {
  const [, remedy] = Object.entries(REMEDIES).find(([words]) => text.includes(words)) ?? [];
  return remedy ? `The board says no: ${remedy}` : text;
}

function connect(Kind) {
  return act("Connecting …", async () => {
    let port;
    try {
      port = await Kind.open();
    } catch (error) {
      if (error.name === "NotFoundError") return say("Not connected: no port was chosen.");
      throw new Sentence(`The port cannot be opened (${error.message}): close whatever else uses it, and connect again.`);
    }
    await connectTo(port);
  });
}

async function connectTo(port, options) {
  await lesson.connect(port, options);
  lesson.board.onLost = (error) => !busy && act("", () => Promise.reject(error));
  say(`Connected to ${lesson.facts.name}.`);
}

function picture() {
  const taken = source() === "draw" ? pad.picture() : camera.picture();
  return imageOfPicture(byId("swap").checked ? swapped(taken) : taken, facts);
}

// The board's image from where samples come from; null where it records itself.
function sample() {
  if (source() === "sensor") return null;
  if (source() === "draw" && pad.isEmpty) throw new Sentence("The pad is empty: draw something on it first.");
  return picture();
}

function add(label) {
  if (source() === "files") return pickFiles((files) => addFiles(label, files));
  return act(source() === "sensor" ? "The board records: make the motion now." : "Sending the sample …", async () => {
    await lesson.teach([{ image: sample(), label }]);
    if (source() === "draw") pad.clear();
    answered = null;
    say(`Added to ${lesson.className(label)}.`);
  });
}

function addFiles(label, files) {
  return act("Reading files …", async () => {
    const taught = await samplesOf(files, label);
    await lesson.teach(taught, (count) => say(`Sent ${count} of ${taught.length} samples.`));
    say(`Added ${taught.length} sample${taught.length === 1 ? "" : "s"}.`);
  });
}

// The samples of files, all read before one is sent; so that either all have a place or none is sent.
async function samplesOf(files, label) {
  const taught = [], last = facts.training.num_classes - 1, room = lesson.status.max_samples - lesson.status.samples;
  checkRoom(room, files.length);  // each holds one at least
  for (const file of files) {
    for (const found of await samplesOfFile(file, facts)) taught.push({ image: found.image, label: found.label ?? label });
  }
  const wrong = taught.find(({ label: each }) => !(Number.isInteger(each) && each >= 0 && each <= last + (facts.rejects ? 1 : 0)));
  if (wrong) throw new Sentence(`The files hold a label ${wrong.label}, and the board has classes 0 to ${last}: leave those samples out.`);
  checkRoom(room, taught.length);
  return taught;
}

function checkRoom(room, count) {
  if (count > room) throw new Sentence(`The board has room for ${room} more sample${room === 1 ? "" : "s"} and ${count} were chosen: choose fewer, or take samples back.`);
}

function remove(taken) {
  return act("Taking the sample back …", async () => {
    await lesson.remove(taken);
    say(`Taken back from ${lesson.className(taken.label)}. Let the board learn again.`);
  });
}

function rename(label, name) {
  byId("alert").hidden = true;
  try {
    lesson.rename(label, name);
  } catch (error) {
    fail(error.message);
  }
  show();
}

function pickFiles(then, several = true) {
  chosen = then;
  byId("pictures").multiple = several;
  byId("pictures").value = "";
  byId("pictures").click();
}

const NOTHING_TAUGHT = "There is nothing to learn from yet: add samples to the classes first.";

function train() {
  if (lesson.status.samples === 0) return fail(NOTHING_TAUGHT);
  const missing = lesson.missing();
  if (lesson.lists && facts.head === "prototypes" && missing.length) {
    return fail(`Training needs a sample of every class, and ${missing.map((label) => lesson.className(label)).join(", ")} ha${missing.length > 1 ? "ve" : "s"} none: add one${facts.closed_form ? ", or solve at once" : ""}.`);
  }
  return act("Training …", async () => {
    byId("stop").hidden = false;
    const began = performance.now();
    try {
      const seconds = await lesson.train(() => showLosses(lesson, began));
      byId("learned").textContent = `Trained ${lesson.losses.length} iterations in ${duration(seconds)}, loss ${lesson.losses[0]?.toFixed(4) ?? "none"} to ${lesson.losses.at(-1)?.toFixed(4) ?? "none"}.`;
    } finally {
      byId("stop").hidden = true;
    }
    const unseen = lesson.lists ? lesson.missing().map((label) => lesson.className(label)).join(", ") : "";
    say(unseen ? `Trained without a sample of ${unseen}: the board may forget what it knew of them. Add some, and train again.` : "Trained. Try it, then save it.");
  });
}

function solve() {
  if (lesson.status.samples === 0) return fail(NOTHING_TAUGHT);
  return act("Solving …", async () => {
    const { right, samples } = await lesson.solve();
    byId("learned").textContent = `Solved: ${right} of ${samples} samples are right by the solution without them.`;
    say("Solved. Try it, then save it.");
  });
}

function predict() {
  if (source() === "files") return pickFiles(([file]) => predictFile(file), false);
  return predictImage(sample);
}

function predictFile(file) {
  let found;
  const image = async () => (found = await samplesOfFile(file, facts))[0].image;
  return predictImage(image, { done: () => (found.length > 1 ? `Answered the first of the ${found.length} samples in ${file.name}.` : "Answered.") });
}

function predictImage(image, { quietly = false, done = () => "Answered." } = {}) {
  return act(quietly ? "" : source() === "sensor" ? "The board records: make the motion now." : "Asking …", async () => {
    const found = await lesson.predict(await image());
    answered = found.label;
    showAnswer(lesson, found);
    if (!quietly) say(done());
  });
}

// While "keep asking" is on: after each stroke, or picture after picture.
async function live() {
  if (!byId("live").checked || !lesson.board || byId("predict").disabled) return;
  if (source() === "draw") return pad.isEmpty ? undefined : predictImage(sample, { quietly: true });
  while (byId("live").checked && source() === "camera") {
    await predictImage(sample, { quietly: true });
    await wait(200);
  }
}

const DONE = {
  save: "Saved on the board.",
  undo: "The save before runs again.",
  revert: "Forgotten what was learned; the samples stay.",
  reset: "Forgotten what was learned, and the samples. What was saved stays in flash.",
  factory: "As exported for good: samples, learning and saves are gone.",
};

async function obey(command) {
  if (command === "factory" && !(await sure("Forget all samples, all that was learned, and all that was saved, for good?"))) return;
  if (command === "reset" && !(await sure("Forget all samples and what was learned? What was saved stays in flash."))) return;
  await act("", async () => {
    await lesson.obey(command);
    [answered, byId("answer").textContent, byId("learned").textContent] = [null, "", ""];
    byId("bars").replaceChildren();
    say(DONE[command]);
  });
}

function sure(text) {
  byId("sure-text").textContent = text;
  byId("sure").showModal();
  return new Promise((done) => byId("sure").addEventListener("close", () => done(byId("sure").returnValue === "yes"), { once: true }));
}

function uploadDelta(file) {
  return act("Loading …", async () => {
    const delta = new Uint8Array(await file.slice(0, MAX_DELTA_BYTES).arrayBuffer());
    if (!isDelta(delta)) throw new Refusal(`${file.name} is no whole delta: choose a .delta file that was downloaded here or written by keras-tinytrain.`);
    await lesson.board.load(delta, lesson.status.saves);
    await lesson.refresh();
    say("Loaded and saved. Try it.");
  });
}

const CLICKS = {
  "connect-usb": () => (UsbPort.isThere() ? connect(UsbPort) : fail("This browser cannot talk to a serial port: open this page in Chrome or Edge on a computer.")),
  "connect-emulated": () => connect(EmulatedPort),
  disconnect: () => act("", async () => { await lesson.disconnect(); say("Not connected. What was taught is on the board."); }),
  dismiss: () => (byId("alert").hidden = true),
  clear: () => pad.clear(),
  train, solve, predict,
  stop: () => lesson.board?.stop(),
  ...Object.fromEntries(Object.keys(DONE).map((command) => [command, () => obey(command)])),
  download: () => act("Downloading …", async () => { download(`${facts.name}.delta`, await lesson.board.delta()); say("Downloaded what was saved last."); }),
  upload: () => byId("delta-file").click(),
  "export-names": () => download(`${facts.name}-classes.json`, JSON.stringify(Array.from({ length: facts.training.num_classes }, (_, k) => lesson.className(k)), null, 1)),
};

for (const [id, click] of Object.entries(CLICKS)) byId(id).addEventListener("click", click);
for (const radio of document.querySelectorAll("[name=source]")) {
  radio.addEventListener("change", () => {
    byId("live").checked = false;
    camera.close();
    show();
    if (source() === "camera") act("", () => camera.open());
  });
}
byId("live").addEventListener("change", live);
byId("pictures").addEventListener("change", (event) => event.target.files.length && chosen([...event.target.files]));
byId("delta-file").addEventListener("change", (event) => event.target.files.length && uploadDelta(event.target.files[0]));
show();
