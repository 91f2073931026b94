"""Fuzzers on the runtime's inputs: deltas, tables, serial commands. A crash, a read outside or undefined behaviour fails.

libFuzzer follows the branches of the 64-bit code; the 32-bit code, for which there is none, gets mutations of the same seeds.
"""

import os
import shutil
import subprocess

import pytest
from trust.trials import trials

from keras_tinytrain import _runtime
from tests.runtime.net_tables import load_tables
from tests.runtime.paths import ROOT, SOURCES
from tests.runtime.sanitized import FLAGS, compile_sources, link
from tests.runtime.small_net import samples, small_net

HOSTILE = ROOT / "tests" / "runtime" / "hostile"
# Whose branches guide the fuzzer; kernels would only slow it down.
FOLLOWED = ("fuzz_", "check", "delta", "format", "merge", "serial", "saving", "teaching")
SECONDS = int(os.environ.get("TINYTRAIN_FUZZ_SECONDS", "5"))  # of each target


@pytest.fixture(scope="module")
def compiler(tmp_path_factory):
    """clang++ with libFuzzer, which is a package of its own."""
    probe = tmp_path_factory.mktemp("probe") / "probe.cpp"
    probe.write_text('extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }\n')
    command = ["clang++", "-fsanitize=fuzzer,address", probe, "-o", probe.with_suffix("")]
    if shutil.which("clang++") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs apt-get install clang libclang-rt-14-dev")
    return "clang++"


@pytest.fixture(scope="module")
def runtime(compiler, tmp_path_factory):
    """The runtime, compiled once for all targets."""
    return compile_followed(compiler, sorted(SOURCES.rglob("*.cpp")), tmp_path_factory.mktemp("runtime"))


def compile_followed(compiler, sources, folder):
    """Object files of these sources."""
    follow = ("-fsanitize=fuzzer-no-link",)
    return compile_sources(
        sources, folder, (compiler, *FLAGS), lambda source: follow if source.stem.startswith(FOLLOWED) else ()
    )


def learned_delta(net, folder):
    """The delta of a short training, for the fuzzer to begin with."""
    tables, library = load_tables(net, folder)
    room = {"arena_bytes": 4096, "scratch_bytes": 8192} if net.candidates else {}
    trainer = _runtime.Trainer(tables, net.run_trainable, net.run_frozen, net.bind, owner=library, **room)
    for image, label in zip(*samples()):
        trainer.add_sample(image, int(label))
    trainer.train()
    return trainer.save_delta(1)


# Letters are commands of fuzz_serial.cpp: each of four images taught, then what its words say.
SERIAL = {"train": 0, "status": 1, "revert": 2, "reset": 3, "save": 4, "undo": 5, "factory": 6, "predict": 7, "teach": 8}
SERIAL |= {"show": 10, "load": 11, "block": 12, "as_it_is": 13, "cut": 14, "off": 15}
LIVES = (
    "teach teach teach train save predict revert save undo off status predict",
    "teach teach teach train save train save undo save factory status off teach train save cut save off undo",
    "teach teach teach train save cut factory off status cut undo off reset as_it_is predict",
    "teach teach teach train save show show show load load undo show block load cut load off show load load predict show",
)
TARGETS = pytest.mark.parametrize(
    "target, candidates",
    [("fuzz_delta", ()), ("fuzz_delta", ("kPerWeight", 10**6)), ("fuzz_tables", ()), ("fuzz_serial", ())],
    ids=["delta", "delta_with_its_plan", "tables", "serial"],
)


def corpus_of(target, candidates, folder):
    """The files to begin with, and the length of the longest input; tables.cpp of the net that they are for is written, too."""
    corpus = folder / "corpus"
    corpus.mkdir()
    net = small_net(by_channel=3 if target == "fuzz_tables" else 0, candidates=candidates)
    net.split = (1, 3, 10) if target == "fuzz_tables" else ()
    net.settings.update(average=0.5, leave_one_out=True)  # so that a delta holds original prototypes, too
    delta = learned_delta(net, folder)  # writes tables.cpp, too
    seeds = {
        "fuzz_delta": [b"\0" + delta, b"\1" + delta, bytes([2, 0, 1, 3, 36, 1, 1, 0])],  # the first byte says how it is read
        "fuzz_tables": [bytes(6 * kind) for kind in range(3)],
        "fuzz_serial": [
            bytes(byte for n, word in enumerate(life.split(), start=1) for byte in (SERIAL[word], n)) for life in LIVES
        ],
    }[target]
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)
    return corpus, {"fuzz_delta": 2 * len(delta), "fuzz_tables": 60, "fuzz_serial": 80}[target]


@TARGETS
def test_fuzzer_finds_no_crash(target, candidates, compiler, runtime, tmp_path):
    corpus, longest = corpus_of(target, candidates, tmp_path)
    program = tmp_path / target
    objects = compile_followed(compiler, [HOSTILE / f"{target}.cpp", tmp_path / "tables.cpp"], tmp_path)
    subprocess.run([compiler, "-fsanitize=fuzzer,address,undefined", *objects, *runtime, "-o", program], check=True)
    # The peak of resident memory would include that of the process which started this one: one allocation is limited instead.
    memory = ["-rss_limit_mb=0", "-malloc_limit_mb=256"]
    options = [f"-max_total_time={SECONDS}", "-seed=1", f"-max_len={longest}", "-timeout=20", f"-artifact_prefix={tmp_path}/"]
    run = subprocess.run([program, *options, *memory, corpus], capture_output=True, text=True, errors="replace")
    assert run.returncode == 0, run.stderr[-4000:]


@pytest.fixture(scope="module")
def mutator(tmp_path_factory):
    """The maker of mutations, compiled once for all targets."""
    return compile_sources([HOSTILE / "mutate.cpp"], tmp_path_factory.mktemp("mutator"))


@TARGETS
def test_mutations_cause_no_crash_with_32_bits(target, candidates, runtime_of_32_bits, mutator, tmp_path, tried):
    corpus, longest = corpus_of(target, candidates, tmp_path)
    link(tmp_path / target, HOSTILE / f"{target}.cpp", tmp_path / "tables.cpp", *mutator, *runtime_of_32_bits)
    command = [tmp_path / target, str(trials(2000)), str(longest), *sorted(corpus.iterdir())]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace")
    assert run.returncode == 0, run.stderr[-4000:]
    tried(f"damaged {target.removeprefix('fuzz_')}, read by the 32-bit C++", int(run.stdout))
