"""The C++ sources by themselves: warnings, the board's compiler, and functions that they must not call."""

import os
import pathlib
import shutil
import subprocess

import pytest

from tests.runtime.paths import ROOT, SOURCES

CXX = os.environ.get("CXX", "c++")
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Wshadow", "-Werror"]
EMBEDDED = ["-fno-exceptions", "-fno-rtti"]
NANO_33_BLE = [
    "-mcpu=cortex-m4",
    "-mthumb",
    "-mfpu=fpv4-sp-d16",
    "-mfloat-abi=softfp",
    "-std=gnu++14",
    "-Os",
    "-funsigned-char",
]
FILES = sorted(SOURCES.rglob("*.cpp"))
# These two need TensorFlow Lite Micro and a board's flash driver: programs of bundles include them (test_sketch, test_projects).
OF_PROGRAMS = {"tinytrain_with_tflm.h", "tinytrain_board_flash.h"}
HEADERS = sorted(file for file in SOURCES.rglob("*.h") if file.name not in OF_PROGRAMS)
ALLOWED = {"memcpy", "memset", "memcmp", "memmove", "strlen", "sqrtf", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}

needs_arm = pytest.mark.skipif(
    shutil.which("arm-none-eabi-g++") is None,
    reason="needs apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi libstdc++-arm-none-eabi-newlib",
)


CLOSED_FORM = ("closed_form.o", "closed_form_commands.o", "answers.o", "ridge.o")
# Of the same head: where its solutions lie, its records, its samples, whether it answers, and what tells samples of no class.
BESIDE_CLOSED_FORM = {
    "familiarity.o",
    *(f"closed_form_{part}.o" for part in ("memory", "records", "samples", "choice", "known")),
}
TEACHING = ("teaching_commands.o", "removal.o")  # for a page that shows what a board was taught
# Of the closed form: double, and sums of 64 bits that become float.
DOUBLES = {f"__aeabi_{name}" for name in ("dadd", "dsub", "dmul", "ddiv", "dcmpgt", "i2d", "l2d", "f2d", "d2f", "l2f")}


def size_of(sizes, *names):
    """Bytes of code of some objects."""
    return sum(int(line.split()[0]) for line in sizes if line.split()[-1].rpartition("/")[2] in names)


def compile_all(compiler, flags, folder):
    objects = []
    for source in FILES:
        objects.append(folder / f"{source.stem}.o")
        subprocess.run([compiler, *flags, f"-I{SOURCES}", "-c", source, "-o", objects[-1]], check=True)
    return objects


def undefined(nm, objects):
    """Functions that the objects call and none of them defines."""

    def names(flag):
        text = subprocess.run([nm, flag, *objects], check=True, capture_output=True, text=True).stdout
        return {line.split()[-1] for line in text.splitlines() if line and not line.endswith(":")}

    return names("-u") - names("--defined-only")


def test_sources_compile_without_warnings(tmp_path):
    objects = compile_all(CXX, ["-std=gnu++14", "-O2", *WARNINGS, *EMBEDDED], tmp_path)
    assert undefined("nm", objects) <= ALLOWED
    subprocess.run([CXX, "-std=c++17", "-fsyntax-only", f"-I{SOURCES}", *WARNINGS, *EMBEDDED, *FILES], check=True)


@pytest.mark.parametrize("header", HEADERS, ids=lambda h: h.name)
def test_headers_stand_alone(header):
    subprocess.run(
        [CXX, "-std=gnu++14", "-fsyntax-only", f"-I{SOURCES}", *WARNINGS, *EMBEDDED, "-x", "c++", "-"],
        check=True,
        text=True,
        input=f'#include "{header}"\n#include "{header}"\n',
    )


@needs_arm
def test_sources_compile_for_a_nano_33_ble(tmp_path):
    objects = compile_all("arm-none-eabi-g++", [*NANO_33_BLE, *WARNINGS, *EMBEDDED], tmp_path)
    assert undefined("arm-none-eabi-nm", objects) <= ALLOWED | {"__errno"} | DOUBLES
    others = [each for each in objects if each.name not in {*CLOSED_FORM, *BESIDE_CLOSED_FORM}]
    assert not undefined("arm-none-eabi-nm", others) & DOUBLES
    code = subprocess.run(["arm-none-eabi-objdump", "-d", *objects], check=True, capture_output=True, text=True).stdout
    assert "vfma" not in code and "vfms" not in code  # fused: another rounding than the host's
    sizes = subprocess.run(["arm-none-eabi-size", *objects], check=True, capture_output=True, text=True).stdout.splitlines()[1:]
    text, data, bss = (sum(int(line.split()[i]) for line in sizes) for i in range(3))
    assert data == bss == 0  # no globals
    kernels = size_of(sizes, "convolution.o", "pointwise.o", "depthwise.o", "squares.o")
    closed_form, beside = size_of(sizes, *CLOSED_FORM), size_of(sizes, *BESIDE_CLOSED_FORM)
    teaching = size_of(sizes, *TEACHING)
    # 2 KB decide what to train; the merging of deltas (1.5 KB), the serial port (2.6 KB) and the slots of deltas (1.2 KB, a third
    # of it to take back what was saved) are linked only where they are called.
    # Multiply, Concatenate and the activations after LeakyReLU take 1.5 KB in all, whether a bundle has them or not.
    left_out = sum(text_of_trainer(tmp_path, *flags) * sign for flags, sign in (((), 1), (("-DTINYTRAIN_EXACT",), -1)))
    assert text - kernels - closed_form - beside - teaching - left_out < 30 * 1024
    assert 0 < left_out < 320  # late prototypes, learned samples and iterations that are left out
    # Linked only where a program names the class; 0.9 KB leave each sample out of the means too, in float: a Cholesky factor of each
    # kind.
    assert closed_form < 7.7 * 1024
    assert teaching < 1.25 * 1024  # linked only where a program passes kTeaching on
    assert kernels < 27 * 1024  # unrolled: flash for speed


def text_of_trainer(folder, *flags):
    """Bytes of code of the sources that TINYTRAIN_EXACT changes."""
    names = ("trainer.cpp", "plan.cpp", "samples.cpp", "memory.cpp", "check.cpp")
    objects = []
    for source in (each for each in FILES if each.name in names):
        objects.append(folder / f"{source.stem}{len(flags)}.o")
        command = ["arm-none-eabi-g++", *NANO_33_BLE, *WARNINGS, *EMBEDDED, *flags, f"-I{SOURCES}"]
        subprocess.run([*command, "-c", source, "-o", objects[-1]], check=True)
    sizes = subprocess.run(["arm-none-eabi-size", *objects], check=True, capture_output=True, text=True).stdout.splitlines()
    return sum(int(line.split()[0]) for line in sizes[1:])


FAKE_TFLM = r"""
#include "tinytrain_tflm.h"
namespace somewhere {  // as much of an interpreter as the adapter touches, in a namespace that it cannot know
struct Dims { int size; int data[2]; };
struct Tensor { union { std::int8_t* int8; void* data; } data; Dims* dims; };
struct Indices { int index; int Get(unsigned int) const { return index; } };
struct Context { Tensor* (*GetEvalTensor)(const Context*, int); Tensor* tensors; };
enum Code { kFine = 0, kBroken = 1 };
class Interpreter {
 public:
  Interpreter(Tensor* tensors, int sign) : context_{&Get, tensors}, sign_(sign) {}
  const Indices& inputs() const { return inputs_; }
  const Indices& outputs() const { return outputs_; }
  std::size_t outputs_size() const { return 1; }
  Code Invoke() {  // output = sign * input + weights
    for (std::size_t i = 0; i < 4; ++i) {
      const int sum = sign_ * context_.tensors[0].data.int8[i] + context_.tensors[2].data.int8[i];
      context_.tensors[1].data.int8[i] = static_cast<std::int8_t>(sum);
    }
    return sign_ == 0 ? kBroken : kFine;
  }
 protected:
  const Context& context() const { return context_; }
 private:
  static Tensor* Get(const Context* context, int index) { return index < 3 ? &context->tensors[index] : nullptr; }
  Context context_;
  Indices inputs_{0}, outputs_{1};
  int sign_;
};
}  // namespace somewhere
int main() {
  using Bindable = tinytrain::BindableInterpreter<somewhere::Interpreter>;
  std::int8_t in[4], out[4], in2[4], out2[4], flash[4] = {0, 0, 0, 0}, ram[4] = {10, 20, 30, 40};
  somewhere::Dims four = {2, {2, 2}};
  somewhere::Tensor first[] = {{{in}, &four}, {{out}, &four}, {{flash}, &four}};
  somewhere::Tensor second[] = {{{in2}, &four}, {{out2}, &four}, {{flash}, &four}};
  Bindable frozen(first, -1), trainable(second, 1);
  tinytrain::InterpreterModel<somewhere::Interpreter> interpreters(&frozen, &trainable);
  const tinytrain::Model model = interpreters.model();
  const std::int8_t image[4] = {1, 2, 3, 4};
  std::int8_t features[4];
  const std::int8_t* outputs[tinytrain::kMaxOutputs];
  if (!model.run_frozen(model.context, image, features) || features[3] != -4) return 1;
  if (!model.run_trainable(model.context, features, outputs) || outputs[0][3] != -4) return 2;
  if (!model.bind(model.context, 2, ram, 4) || model.bind(model.context, 3, ram, 4)) return 3;
  ram[3] = 50;
  if (!model.run_trainable(model.context, features, outputs) || outputs[0][3] != 46) return 4;
  Bindable broken(second, 0);
  const tinytrain::Model failing = tinytrain::InterpreterModel<somewhere::Interpreter>(nullptr, &broken).model();
  return failing.run_frozen == nullptr ? 0 : 5;
}
"""


def test_adapter_names_nothing_of_tflm(tmp_path):
    """A stand-in interpreter with weights in 'flash' that are bound to RAM."""
    (tmp_path / "adapter.cpp").write_text(FAKE_TFLM)
    program = tmp_path / "adapter"
    subprocess.run(
        [
            CXX,
            "-std=gnu++14",
            "-Wall",
            "-Wextra",
            "-Werror",
            *EMBEDDED,
            f"-I{SOURCES}",
            tmp_path / "adapter.cpp",
            "-o",
            program,
        ],
        check=True,
    )
    assert subprocess.run([program]).returncode == 0


def test_ctest_passes(tmp_path):
    """CMake builds the library, and the kernels' tests without Python: every kernel, operator, optimizer and head."""
    if shutil.which("cmake") is None:
        pytest.skip("needs apt-get install cmake")
    options = ["-DTINYTRAIN_TESTS=ON", "-DTINYTRAIN_WARNINGS=ON", "-DCMAKE_BUILD_TYPE=Release"]
    for command in (
        ["cmake", "-S", ROOT / "tflm_runtime", "-B", tmp_path, *options],
        ["cmake", "--build", tmp_path],
        ["ctest", "--test-dir", tmp_path, "--output-on-failure"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "tests passed, 0 tests failed out of 6" in done.stdout and (tmp_path / "libtinytrain.a").is_file()


def test_arduino_library_manifest_is_complete():
    folder = pathlib.Path(SOURCES).parent
    lines = dict(line.split("=", 1) for line in (folder / "library.properties").read_text().splitlines())
    assert {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url"} <= lines.keys()
    assert not lines["name"].startswith("Arduino")
    for line in (folder / "keywords.txt").read_text().splitlines():
        assert line.count("\t") == 1 and line.split("\t")[1] in {"KEYWORD1", "KEYWORD2", "LITERAL1"}
