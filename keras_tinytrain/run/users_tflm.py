"""The TensorFlow Lite Micro that a user has named: what it was built for, and how code that links with it is compiled."""

import dataclasses
import os
import pathlib
import re
import subprocess

_VARIABLES = ("TFLM_INCLUDE_DIRS", "TFLM_LIBRARY")
_READ_ELF = "arm-none-eabi-readelf"
_BUILT_FOR = re.compile(r"Tag_CPU_arch: (\S+)")  # each object of the library has one
_RUNS_ON_M4 = {"v6-M", "v6S-M", "v7", "v7E-M"}  # instruction sets that a Cortex-M4 executes
_FLAGS = (  # what an object of the library may say of itself, and the compiler's flags where one does and where none does
    ("Tag_ABI_VFP_args: VFP registers", "-mfloat-abi=hard", "-mfloat-abi=softfp"),
    ("Tag_ABI_enum_size: int", "-fno-short-enums", "-fshort-enums"),
)


@dataclasses.dataclass(frozen=True)
class UsersTflm:
    """A library of TensorFlow Lite Micro for a Cortex-M4F.

    Args:
        includes: folders of its headers.
        library: the built archive.
    """

    includes: tuple[str, ...]
    library: str

    def flags(self) -> list[str]:
        """The compiler's flags that make code pass values as the library's does.

        Raises:
            ValueError: the library is not for a processor whose code a Cortex-M4F runs.
        """
        done = subprocess.run([_READ_ELF, "-A", self.library], capture_output=True, text=True)
        built_for = set(_BUILT_FOR.findall(done.stdout))
        if not built_for or built_for - _RUNS_ON_M4:
            raise ValueError(
                f"TFLM_LIBRARY, {self.library}, was built for {' and '.join(sorted(built_for)) or 'no Arm processor'}; the "
                "emulated board is a Cortex-M4F (v7E-M): build TensorFlow Lite Micro for cortex-m4."
            )
        return [flag if text in done.stdout else other for text, flag, other in _FLAGS]

    def explain(self, errors: str) -> str | None:
        """What the compiler's or the linker's words mean, in one sentence; None where they are not about the library."""
        header = re.search(r"fatal error: (\S+): No such file", errors)
        if header:
            return (
                f"TFLM_INCLUDE_DIRS, {os.pathsep.join(self.includes)}, has no {header[1]}: name the folders of TensorFlow Lite "
                "Micro, of flatbuffers/include and of gemmlowp, with ':' between them."
            )
        method = re.search(r"has no member named .(Add\w+)", errors)
        if method:
            return f"The TensorFlow Lite Micro in TFLM_INCLUDE_DIRS has no operator {method[1][3:]}: take a newer one."
        missing = dict.fromkeys(re.findall(r"undefined reference to `(.*)'", errors))
        if missing:
            return (
                f"TFLM_LIBRARY, {self.library}, lacks {', '.join(list(missing)[:3])}: build all of it, from the sources whose "
                "headers are in TFLM_INCLUDE_DIRS."
            )
        return None


def users_tflm() -> UsersTflm | None:
    """The library that TFLM_INCLUDE_DIRS and TFLM_LIBRARY name; None: they name none.

    Raises:
        ValueError: only one of the two is set, or what they name does not exist.
    """
    includes, library = (os.environ.get(name, "") for name in _VARIABLES)
    if bool(includes) != bool(library):
        raise ValueError(
            "TFLM_INCLUDE_DIRS and TFLM_LIBRARY go together: name the include directories (with ':' between them) and the "
            "library of a TensorFlow Lite Micro built for Cortex-M4F, or neither."
        )
    if not library:
        return None
    folders = tuple(includes.split(os.pathsep))
    for name, paths, exists in (("INCLUDE_DIRS", folders, os.path.isdir), ("LIBRARY", [library], os.path.isfile)):
        missing = [path for path in paths if not exists(path)]
        if missing:
            raise ValueError(f"TFLM_{name} names {missing[0]!r}, which does not exist: give the path of what you built.")
    return UsersTflm(tuple(str(pathlib.Path(path).absolute()) for path in folders), str(pathlib.Path(library).absolute()))
