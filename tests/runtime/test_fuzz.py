"""libFuzzer on the runtime's inputs: deltas and tables. A crash, a read outside or undefined behaviour fails."""

import os
import shutil
import subprocess

import pytest

from keras_tinytrain import _runtime
from tests.runtime.net_tables import load_tables
from tests.runtime.paths import ROOT, SOURCES
from tests.runtime.small_net import samples, small_net

HOSTILE = ROOT / "tests" / "runtime" / "hostile"
FLAGS = ["-std=c++17", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1", f"-I{SOURCES}"]
# Whose branches guide the fuzzer; kernels would only slow it down.
FOLLOWED = ("fuzz_", "check", "delta", "format", "merge")
SECONDS = int(os.environ.get("TINYTRAIN_FUZZ_SECONDS", "30" if os.environ.get("CI") == "true" else "5"))  # of each target


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
    return compile_sources(compiler, sorted(SOURCES.rglob("*.cpp")), tmp_path_factory.mktemp("runtime"))


def compile_sources(compiler, sources, folder):
    """Object files of these sources."""
    objects = [folder / f"{source.stem}.o" for source in sources]
    for source, target in zip(sources, objects):
        follow = ["-fsanitize=fuzzer-no-link"] if source.stem.startswith(FOLLOWED) else []
        subprocess.run([compiler, *FLAGS, *follow, "-c", source, "-o", target], check=True)
    return objects


def learned_delta(net, folder):
    """The delta of a short training, for the fuzzer to begin with."""
    tables, library = load_tables(net, folder)
    room = {"arena_bytes": 4096, "scratch_bytes": 8192} if net.candidates else {}
    trainer = _runtime.Trainer(tables, net.run_trainable, net.run_frozen, net.bind, owner=library, **room)
    for image, label in zip(*samples()):
        trainer.add_sample(image, int(label))
    trainer.train()
    return trainer.save_delta(1)


@pytest.mark.parametrize(
    "target, candidates",
    [("fuzz_delta", ()), ("fuzz_delta", ("kPerWeight", 10**6)), ("fuzz_tables", ())],
    ids=["delta", "delta_with_its_plan", "tables"],
)
def test_fuzzer_finds_no_crash(target, candidates, compiler, runtime, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    net = small_net(by_channel=3 if target == "fuzz_tables" else 0, candidates=candidates)
    net.split = (1, 3, 10) if target == "fuzz_tables" else ()
    net.settings.update(average=0.5, leave_one_out=True)  # so that a delta holds original prototypes, too
    delta = learned_delta(net, tmp_path)  # writes tables.cpp, too
    for kind, seed in enumerate((delta, delta, bytes([0, 1, 3, 36, 1, 1, 0]))):  # the first byte says how it is read
        (corpus / str(kind)).write_bytes(bytes([kind]) + seed if target == "fuzz_delta" else bytes(6 * kind))
    program = tmp_path / target
    objects = compile_sources(compiler, [HOSTILE / f"{target}.cpp", tmp_path / "tables.cpp"], tmp_path)
    subprocess.run([compiler, "-fsanitize=fuzzer,address,undefined", *objects, *runtime, "-o", program], check=True)
    longest = 2 * len(delta) if target == "fuzz_delta" else 60
    # The peak of resident memory would include that of the process which started this one: one allocation is limited instead.
    memory = ["-rss_limit_mb=0", "-malloc_limit_mb=256"]
    options = [f"-max_total_time={SECONDS}", "-seed=1", f"-max_len={longest}", "-timeout=20", f"-artifact_prefix={tmp_path}/"]
    run = subprocess.run([program, *options, *memory, corpus], capture_output=True, text=True, errors="replace")
    assert run.returncode == 0, run.stderr[-4000:]
