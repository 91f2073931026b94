// The page as the lesson is: everything shown is made anew from it.

function say(text) {
  byId("said").textContent = text;
}

function fail(text) {
  byId("alert").hidden = false;
  byId("alert").firstElementChild.textContent = text;
}

function showConnected(lesson) {
  const connected = lesson.board !== null;
  byId("disconnect").hidden = !connected;
  byId("connect-usb").hidden = connected || (EmulatedPort.isThere() && !UsbPort.isThere());
  byId("connect-emulated").hidden = connected || !EmulatedPort.isThere();
  byId("connect-emulated").classList.toggle("first", EmulatedPort.isThere());
  byId("connect-usb").classList.toggle("first", !EmulatedPort.isThere());
  for (const button of document.querySelectorAll("main section:not([aria-labelledby=h-connect]) button")) {
    if (button.id !== "clear" && button.id !== "export-names") button.disabled = !connected;
  }
}

function showSources(lesson) {
  const records = lesson.status?.records === 1, pictures = isPicture(lesson.facts.input);
  const possible = records ? ["sensor"] : pictures ? ["draw", "camera", "files"] : ["files"];
  const radios = [...document.querySelectorAll("[name=source]")];
  for (const radio of radios) radio.parentElement.hidden = !possible.includes(radio.value);
  if (!possible.includes(source())) radios.find((radio) => radio.value === possible[0]).checked = true;
  for (const { value } of radios) byId(`source-${value}`).hidden = value !== source();
  byId("swap-row").hidden = records || !pictures;
  byId("live-row").hidden = source() === "files" || source() === "sensor";
}

function source() {
  return document.querySelector("[name=source]:checked")?.value ?? "";
}

const ADD = { draw: "Add the drawing", camera: "Take a picture", files: "Choose files", sensor: "Record a sample" };

function showClasses(lesson, { add, remove, rename, answered }) {
  const labels = Array.from({ length: lesson.facts.training.num_classes + (lesson.facts.rejects ? 1 : 0) }, (_, label) => label);
  const focused = document.activeElement?.id;
  byId("classes").replaceChildren(...labels.map((label) => classCard(lesson, label, { add, remove, rename, answered })));
  if (focused) byId(focused)?.focus();
  const { samples = 0, max_samples = lesson.facts.training.max_samples } = lesson.status ?? {};
  const unseen = samples - lesson.samples.length;
  byId("room").textContent = `${samples} of ${max_samples} places for samples are taken.` + (unseen > 0 ? ` ${unseen} of them this page cannot show: "Forget samples too" clears them.` : "");
}

function classCard(lesson, label, { add, remove, rename, answered }) {
  const isClass = label < lesson.facts.training.num_classes, samples = lesson.samples.filter((sample) => sample.label === label);
  const name = lesson.className(label), id = `name-${label}`;
  const title = isClass
    ? element("input", { type: "text", id, value: name, maxLength: 60, ariaLabel: `Name of class ${label}`, onchange: (event) => rename(label, event.target.value) })
    : element("h3", {}, "Of no class");
  const button = element("button", { type: "button", id: `add-${label}`, disabled: lesson.board === null, ariaLabel: `${ADD[source()]}: ${name}`, onclick: () => add(label) }, ADD[source()]);
  return element("li", { className: `class ${label === answered ? "answered" : ""}` },
    element("div", { className: "top" }, title, element("span", {}, `${samples.length} sample${samples.length === 1 ? "" : "s"}`)),
    ...(samples.length ? [element("ul", { className: "samples" }, ...samples.map((sample, i) => sampleItem(lesson, sample, `sample ${i + 1} of ${name}`, remove)))] : []),
    button);
}

function sampleItem(lesson, sample, name, remove) {
  const shown = sample.thumbnail ? element("img", { src: sample.thumbnail, alt: name }) : element("span", { className: "blank", title: name }, "kept");
  if (!lesson.lists) return element("li", {}, shown);
  return element("li", {}, shown, element("button", { type: "button", ariaLabel: `Take back ${name}`, title: "Take it back", onclick: () => remove(sample) }, "×"));
}

function showLearned(lesson) {
  byId("solve").hidden = !lesson.facts.closed_form;
  byId("train").classList.toggle("first", !lesson.facts.closed_form);
  const { runs, lasting, saves, head } = lesson.status ?? {};
  const learned = runs === "learned";
  byId("kept").textContent = !lesson.board ? "" : !learned ? (lasting ? "The board runs the network as exported." : "The board runs the network as exported, but a power cycle brings back what was saved.")
    : lasting ? "What the board knows is saved: it stays after a power cycle." : "What the board knows is not saved yet: a power cycle forgets it.";
  byId("undo").disabled = !lesson.board || !(saves > 1);
  byId("download").disabled = !lesson.board || !(saves > 0);
  byId("predict").disabled = !lesson.board || !(learned || lesson.facts.head === "softmax" || head === "prototypes");
}

function showAnswer(lesson, found) {
  const { label, shares, judged } = found;
  byId("answer").textContent = label === UNKNOWN ? "I don't know: it is like none of the classes." : lesson.className(label);
  const rows = (shares ?? []).map((share, k) => barRow(lesson.className(k), share, `${Math.round(100 * share)} %`));
  if (judged) rows.push(barRow("familiarity", 0.5 + (judged.familiarity - judged.threshold) / (2 * Math.max(1, Math.abs(judged.threshold))), `${judged.familiarity.toFixed(2)}, known from ${judged.threshold.toFixed(2)}`));
  byId("bars").replaceChildren(...rows);
}

function showLosses(lesson, began) {
  const done = lesson.losses.length, total = lesson.facts.training.iterations;
  const left = ((performance.now() - began) / 1000 / Math.max(1, done)) * Math.max(0, total - done);
  byId("learned").textContent = `Iteration ${done} of ${total}, loss ${lesson.losses.at(-1).toFixed(4)}, about ${duration(left)} left.`;
  byId("losses").removeAttribute("hidden"); // an SVG element has no property of that name
  drawCurve(byId("losses"), lesson.losses, total);
}

function showMemory({ facts, status }) {
  const places = facts.training.max_samples, taken = status?.samples ?? 0;
  const row = (name, used, available) => barRow(name, used / available, `${kilobytes(used)} of ${kilobytes(available)} KB`);
  byId("memory").replaceChildren(
    row("SRAM", facts.sram.total, facts.board.sram_bytes),
    row("flash", facts.flash.total, facts.board.flash_bytes),
    barRow("samples", taken / places, `${taken} of ${places}`),
  );
}
