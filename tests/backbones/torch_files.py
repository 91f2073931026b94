"""Files as torch.save writes them, in each of its formats, without PyTorch."""

import collections
import io
import pickle
import struct
import zipfile

import numpy as np


class Tensor:
    """Pickles as torch's tensors do: a storage by reference, offset, shape, strides."""

    def __init__(self, array, *, offset=0, strides=None):
        self.array, self.offset, self.strides = np.ascontiguousarray(array), offset, strides


class TorchPickler(pickle.Pickler):
    def __init__(self, file, torch):
        super().__init__(file, protocol=2)
        self.torch, self.storages = torch, []

    def persistent_id(self, value):
        if not isinstance(value, np.ndarray):
            return None
        self.storages.append(value)
        kind = self.torch.FloatStorage if value.dtype == np.float32 else self.torch.IntStorage
        return ("storage", kind, str(len(self.storages) - 1), "cpu", value.size)

    def reducer_override(self, value):
        if not isinstance(value, Tensor):
            return NotImplemented
        strides = value.strides or tuple(s // value.array.itemsize for s in value.array.strides)
        arguments = (value.array.ravel(), value.offset, value.array.shape, strides, False, collections.OrderedDict())
        return self.torch._utils._rebuild_tensor_v2, arguments


def save_zip(path, content, torch):
    buffer = io.BytesIO()
    pickler = TorchPickler(buffer, torch)
    pickler.dump(content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        for key, array in enumerate(pickler.storages):
            archive.writestr(f"archive/data/{key}", array.tobytes())


def save_legacy(path, content, torch):
    with open(path, "wb") as file:
        for head in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(head, file, protocol=2)
        pickler = TorchPickler(file, torch)
        pickler.dump(content)
        pickle.dump([str(key) for key in range(len(pickler.storages))], file, protocol=2)
        file.writelines(struct.pack("<q", array.size) + array.tobytes() for array in pickler.storages)


def save_plain(path, content, torch):
    path.write_bytes(pickle.dumps(content))


SAVERS = {"zip": save_zip, "legacy": save_legacy}
