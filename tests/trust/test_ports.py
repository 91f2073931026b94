"""Ports at which no board sits, or one that lies, dies or chatters: each ends in one sentence, within its deadlines."""

import contextlib
import socket
import threading
import time
import zlib

import numpy as np
import pytest

from keras_tinytrain.cli import main
from keras_tinytrain.run import serial_port
from keras_tinytrain.run.serial_port import Device

pytestmark = pytest.mark.trust
STATUS = (
    "OK network net scale 0.5 runs learned height 2 width 2 channels 1 zero_point 0 classes 3 max_samples 9 samples 4 "
    "iterations 2 records 0 protocol 2 saves 1 lasting 1\r\n"
)
IMAGE = np.array([[[[1], [2]], [[3], [4]]]], np.float32) / 2
LINES = {  # of a board that answers well
    "STATUS": "PLAN conv 2\r\n" + STATUS,
    "TEACH": "OK samples 5\r\n",
    "PREDICT": "OK label 2\r\n",
    "TRAIN": "LOSS 0 1.5\r\nLOSS 1 0.5\r\nPLAN conv 2\r\nOK milliseconds 12\r\n",
    "SAVE": "OK\r\n",
}


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(serial_port, "_QUIET_SECONDS", 0.15)


@contextlib.contextmanager
def port(serve):
    """A port at which `serve(connection)` sits, in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections = []

        def run():
            with contextlib.suppress(OSError):
                connections.append(server.accept()[0])
                serve(connections[0])

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield "socket://{}:{}".format(*server.getsockname())
        finally:
            for connection in connections:
                connection.close()
            thread.join(5)


def board(heard=None, **answers):
    """Serves as a board that answers as LINES and `answers` say; None: it says no more. TEACH and PREDICT take an image of 4 B."""
    answers = {**LINES, **answers}

    def serve(connection):
        with connection.makefile("rb") as lines:
            for line in lines:
                words = line.decode("latin-1").split()
                if not words:
                    continue
                image = lines.read(4) if words[0] in ("TEACH", "PREDICT") else b""
                if heard is not None:
                    heard.append((*words, image))
                answer = answers.get(words[0], "ERROR commands are TEACH ...\r\n")
                if answer is None:
                    return
                connection.sendall(answer.encode())

    return serve


def chatter(data, pause=0.01):
    def serve(connection):
        while True:
            connection.sendall(data)
            time.sleep(pause)

    return serve


def after_status(data):
    """A board that cannot stop talking once it was asked."""

    def serve(connection):
        connection.recv(100)
        connection.sendall(STATUS.encode())
        chatter(data)(connection)

    return serve


def with_status(old, new):
    assert old in STATUS
    return board(STATUS=STATUS.replace(old, new))


NO_BOARDS = {
    "silent": lambda connection: time.sleep(3),
    "closes": lambda connection: None,
    "binary": chatter(b"\x55\xaa\x00"),
    "binary_in_bulk": chatter(b"\x55\xaa\x00" * 1000),
    "empty_lines": chatter(b"\r\n"),
    "gps": chatter(b"$GPGGA,092750.000,5321.6802,N\r\n"),
    "echo": lambda connection: connection.sendall(connection.recv(100)) or time.sleep(3),
    "modem": board(STATUS="ERROR\r\n"),
    "plans_for_ever": chatter(b"PLAN conv 2\r\n"),
    "half_a_status": board(STATUS=STATUS[:40]),
    "talks_on": after_status(b"hello\r\n"),
    "talks_on_in_statuses": after_status(STATUS.encode()),
    "without_records": with_status(" records 0", ""),
    "without_height": with_status(" height 2", ""),
    "a_name_too_many": with_status(" lasting 1", " lasting"),
    "scale_0": with_status("scale 0.5", "scale 0"),
    "scale_nan": with_status("scale 0.5", "scale nan"),
    "scale_in_words": with_status("scale 0.5", "scale half"),
    "height_negative": with_status("height 2", "height -2"),
    "height_huge": with_status("height 2 width 2", "height 99999 width 99999"),
    "samples_in_words": with_status("samples 4", "samples four"),
    "plan_without_number": board(STATUS="PLAN conv\r\n" + STATUS),
    "plan_of_one_word": board(STATUS="PLAN\r\n" + STATUS),
    "not_ascii": with_status("height 2", "height ²"),
}


@pytest.mark.parametrize("kind", NO_BOARDS)
def test_no_board_is_said_within_the_deadline(kind, tried):
    with port(NO_BOARDS[kind]) as name, pytest.raises((RuntimeError, OSError)) as caught:
        Device(name, patience=0.7, answer_seconds=0.4)
    assert str(caught.value)
    tried("port without a board, or with one that lies", 1, 1)


LIES = {
    "teach_ok_alone": (lambda device: device.teach(IMAGE, [1]), {"TEACH": "OK\r\n"}),
    "teach_label": (lambda device: device.teach(IMAGE, [1]), {"TEACH": "OK label 1\r\n"}),
    "teach_no_number": (lambda device: device.teach(IMAGE, [1]), {"TEACH": "OK samples -\r\n"}),
    "teach_dies": (lambda device: device.teach(IMAGE, [1]), {"TEACH": ""}),
    "teach_halfway": (lambda device: device.teach(IMAGE, [1]), {"TEACH": "OK samp"}),
    "predict_ok_alone": (lambda device: device.predict(IMAGE), {"PREDICT": "OK\r\n"}),
    "predict_chatter": (lambda device: device.predict(IMAGE), {"PREDICT": "hello\r\n"}),
    "train_ok_alone": (lambda device: device.train(), {"TRAIN": "OK\r\n"}),
    "train_loss_in_words": (lambda device: device.train(), {"TRAIN": "LOSS 0 much\r\nOK milliseconds 1\r\n"}),
    "train_chatter": (lambda device: device.train(), {"TRAIN": "hello\r\n"}),
    "train_long_line": (lambda device: device.train(), {"TRAIN": "LOSS " + "0" * 4000}),
    "save_dies": (lambda device: device.save(), {"SAVE": ""}),
    "samples_in_words": (lambda device: device.samples(), {"SAMPLES": "SAMPLE one 2 3\r\nOK samples 1\r\n"}),
    "samples_chatter": (lambda device: device.samples(), {"SAMPLES": "hello\r\n"}),
    "delta_too_long": (lambda device: device.saved_delta(), {"DELTA": "OK bytes 9999999\r\n"}),
    "save_plans": (lambda device: device.save(), {"SAVE": "PLAN conv 2\r\n"}),
}


@pytest.mark.parametrize("kind", LIES)
def test_an_answer_that_no_board_gives_is_refused(kind, tried):
    use, answers = LIES[kind]
    refused = pytest.raises(RuntimeError, match="no such board|did not answer")
    with port(board(**answers)) as name, Device(name, patience=2, answer_seconds=0.4) as device, refused:
        use(device)
    tried("port without a board, or with one that lies", 1, 1)


@pytest.mark.parametrize("kind, answer", [("halfway", "OK bytes 60\r\nTTDL"), ("altered", "OK bytes 60\r\n" + "TTDL" * 15)])
def test_a_delta_that_did_not_come_whole_is_refused(kind, answer):
    refused = pytest.raises(RuntimeError, match="did not come whole")
    with port(board(DELTA=answer)) as name, Device(name, patience=2, answer_seconds=0.4) as device, refused:
        device.saved_delta()


def test_a_board_s_answers_are_taken_and_images_carry_a_crc():
    heard = []
    with port(board(heard)) as name, Device(name, patience=2) as device:
        status = device.status()
        assert (status["plan"], status["runs"], status["saves"], status["scale"]) == ({"conv": 2}, "learned", 1, 0.5)
        assert device.teach(IMAGE, [1]) == 5 and device.predict(IMAGE).tolist() == [2]
        assert device.train() == [1.5, 0.5]
        device.save()
    image = bytes([1, 2, 3, 4])
    assert ("TEACH", "1", str(zlib.crc32(image)), image) in heard and ("PREDICT", str(zlib.crc32(image)), image) in heard


def test_a_board_of_the_first_protocol_gets_no_crc():
    heard, status = [], STATUS[: STATUS.index(" protocol")].replace(" runs learned", "") + "\r\n"
    with port(board(heard, STATUS=status)) as name, Device(name, patience=2) as device:
        device.teach(IMAGE, [1])
    assert ("TEACH", "1", bytes([1, 2, 3, 4])) in heard


def test_a_board_that_is_in_the_middle_of_an_image_comes_back():
    """As after a client that was cut off: the rest of the image is filled up, and refused."""

    def serve(connection):
        missing = 5000
        while missing > 0:
            missing -= len(connection.recv(missing))
        connection.sendall(b"ERROR the image was altered on its way\r\n")
        board()(connection)

    with port(serve) as name, Device(name, patience=5) as device:
        assert device.status()["samples"] == 4


def test_the_command_says_so_in_one_sentence(capsys, monkeypatch):
    monkeypatch.setattr(Device.__init__, "__kwdefaults__", {"baudrate": 115200, "patience": 0.5, "answer_seconds": 0.4})
    with port(NO_BOARDS["binary"]) as name:
        assert main(["device", "--port", name, "status"]) == 2
    said = capsys.readouterr().err
    assert "no such board" in said and "Traceback" not in said
    with port(board(TRAIN="OK milliseconds 1\r\n")) as name:
        assert main(["device", "--port", name, "train"]) == 0
    assert "0 iterations\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "port, reason", [("/dev/nowhere", "No such file or directory"), ("no://port", "protocol 'no' not known")]
)
def test_a_port_that_cannot_be_opened_is_told_with_those_that_are_there(port, reason, capsys):
    assert main(["device", "--port", port, "status"]) == 2
    told = capsys.readouterr().err
    assert f"The port {port} cannot be opened: " in told and reason in told and "USB ports of this computer: " in told
