// Where samples come from: a drawing, the camera, files. Each gives the board's images.

const PEN_BOX = 8;  // drawn pixels a side for each of the network's

// A pad to draw on, by pointer or by arrow keys and the space bar. Ink is light on dark, as networks for glyphs see it.
class Pad {
  #pen = { x: 0.5, y: 0.5, down: false };
  isEmpty = true;

  constructor(canvas, input, changed) {
    this.canvas = canvas;
    this.factor = Math.max(1, Math.min(PEN_BOX, Math.floor(1024 / Math.max(input.height, input.width))));
    canvas.width = input.width * this.factor;
    canvas.height = input.height * this.factor;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.clear();
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.#move(this.#place(event));
      this.#line(this.#place(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) for (const each of event.getCoalescedEvents?.() ?? [event]) this.#line(this.#place(each));
    });
    canvas.addEventListener("pointerup", () => changed());
    canvas.addEventListener("keydown", (event) => this.#key(event, changed));
  }

  clear() {
    this.context.fillStyle = "#000";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.isEmpty = true;
  }

  picture() {
    const { width, height } = this.canvas;
    return averaged(this.context.getImageData(0, 0, width, height), this.factor);
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  }

  #move(to) {
    Object.assign(this.#pen, to);
  }

  #line(to) {
    const { width, height } = this.canvas, context = this.context;
    context.strokeStyle = "#fff";
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = Math.max(2, Math.min(width, height) * 0.09);
    context.beginPath();
    context.moveTo(this.#pen.x * width, this.#pen.y * height);
    context.lineTo(to.x * width, to.y * height);
    context.stroke();
    this.#move(to);
    this.isEmpty = false;
  }

  #key(event, changed) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === " ") {
      this.#pen.down = !this.#pen.down;
      say(this.#pen.down ? "Pen down" : "Pen up");
      if (!this.#pen.down) changed();
    } else if (step) {
      const clamp = (value) => Math.max(0.05, Math.min(0.95, value));
      const to = { x: clamp(this.#pen.x + step[0] * 0.05), y: clamp(this.#pen.y + step[1] * 0.05) };
      if (this.#pen.down) this.#line(to);
      else this.#move(to);
    } else return;
    event.preventDefault();
  }
}

// The middle of the camera's picture, in the network's shape.
class Camera {
  #stream = null;

  constructor(video, input) {
    this.video = video;
    this.input = input;
  }

  async open() {
    if (this.#stream) return;
    if (!navigator.mediaDevices) throw new Sentence("This browser offers no camera here: open the page as a file, or over 127.0.0.1.");
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      throw new Sentence(`The camera cannot be used (${error.message}): allow it for this page, or teach from files.`);
    }
    this.video.srcObject = this.#stream;
    await this.video.play();
  }

  close() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = this.video.srcObject = null;
  }

  picture() {
    if (!this.#stream) throw new Sentence("The camera is not on yet: wait until its picture is seen.");
    const { height, width } = this.input, { videoHeight, videoWidth } = this.video;
    const factor = Math.max(1, Math.min(PEN_BOX, Math.floor(512 / Math.max(height, width))));
    const share = Math.min(videoWidth / width, videoHeight / height), cut = { width: share * width, height: share * height };
    const canvas = new OffscreenCanvas(width * factor, height * factor), context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(this.video, (videoWidth - cut.width) / 2, (videoHeight - cut.height) / 2, cut.width, cut.height, 0, 0, canvas.width, canvas.height);
    return averaged(context.getImageData(0, 0, canvas.width, canvas.height), factor);
  }
}

// The pixels of a picture's file as they are stored: without colour profiles, and with transparency apart.
async function decoded(file) {
  if (file.size > MAX_FILE_BYTES) throw new Error(`it is larger than ${MAX_FILE_BYTES >> 20} MB`);
  if (file.type !== "image/jpeg" && "ImageDecoder" in self && (await ImageDecoder.isTypeSupported(file.type))) {
    const decoder = new ImageDecoder({ data: await file.arrayBuffer(), type: file.type, colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const frame = (await decoder.decode()).image;
    const { width, height } = frame.visibleRect, kind = frame.format;
    if (/^(RGB|BGR)[AX]$/.test(kind)) {
      const data = new Uint8ClampedArray(4 * width * height);
      await frame.copyTo(data);
      frame.close();
      for (let i = 0; i < data.length; i += 4) {
        if (kind.startsWith("B")) [data[i], data[i + 2]] = [data[i + 2], data[i]];
        if (kind.endsWith("X")) data[i + 3] = 255;
      }
      return { data, width, height };
    }
    frame.close();
  }
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "none" });
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

// [{image, label}] of a file; the label is undefined where the file has none.
async function samplesOfFile(file, facts) {
  const isArrays = file.name.endsWith(".npz"), takesPictures = isPicture(facts.input);
  try {
    if (!isArrays && !takesPictures) throw new Error("this network takes no pictures");
    const found = isArrays ? await samplesOfNpz(new Uint8Array(await file.arrayBuffer()), facts) : [{ image: imageOfPicture(await decoded(file), facts) }];
    if (found.length === 0) throw new Error("it holds no samples");
    return found;
  } catch (error) {
    const told = error.constructor === Error ? error.message : isArrays ? "it is damaged" : "it is no picture, or a damaged one"; // else the browser's words
    throw new Sentence(`${file.name} cannot be read: ${told}. Choose ${takesPictures ? "PNG, JPEG, BMP or GIF, or an .npz" : "an .npz with arrays x and y"}.`);
  }
}

function swapped(picture) {
  const data = picture.data.map((value, i) => (i % 4 === 3 ? value : 255 - value));
  return { ...picture, data };
}
