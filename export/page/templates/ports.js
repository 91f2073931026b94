// Where a board is reached: each port has write(bytes), close(), and calls onBytes(bytes) and onEnd(reason).

const BAUD_RATE = 115200, WRITE_SECONDS = 20;

class Port {
  onBytes = () => {};
  onEnd = () => {};
}

// A board at a USB port, by Web Serial.
class UsbPort extends Port {
  static isThere() {
    return "serial" in navigator;
  }

  static async open() {
    const port = new UsbPort();
    port.device = await navigator.serial.requestPort();
    await port.device.open({ baudRate: BAUD_RATE, bufferSize: 65536 });
    port.writer = port.device.writable.getWriter();
    port.reader = port.device.readable.getReader();
    port.hear();
    return port;
  }

  async hear() {
    let reason = "it was unplugged";
    try {
      for (let next; !(next = await this.reader.read()).done; ) this.onBytes(next.value);
    } catch (error) {
      reason = error.message;
    }
    this.onEnd(reason);
  }

  async write(bytes) {
    const late = wait(1000 * WRITE_SECONDS).then(() => Promise.reject(new Error("it takes no bytes")));
    await Promise.race([this.writer.write(bytes), late]);
  }

  async close() {
    try {
      await this.reader.cancel();
      this.reader.releaseLock();
      this.writer.releaseLock();
      await this.device.close();
    } catch {
      // it has gone already
    }
  }
}

// The emulated board of `keras-tinytrain emulate --page`, over the socket from which this page came.
class EmulatedPort extends Port {
  static isThere() {
    return location.protocol === "http:" && location.hostname === "127.0.0.1";
  }

  static open() {
    const port = new EmulatedPort(), socket = new WebSocket(`ws://${location.host}${location.pathname}serial`);
    port.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onmessage = (event) => port.onBytes(new Uint8Array(event.data));
    return new Promise((done, fail) => {
      socket.onopen = () => done(port);
      socket.onclose = (event) => {
        fail(new Error(event.reason || "keras-tinytrain emulate does not answer"));
        port.onEnd(event.reason || "keras-tinytrain emulate has ended");
      };
    });
  }

  async write(bytes) {
    this.socket.send(bytes);
  }

  async close() {
    this.socket.close();
  }
}
