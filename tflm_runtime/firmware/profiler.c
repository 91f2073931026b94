// Counts instructions and cycles of a firmware inside QEMU: a TCG plugin for version 1 of QEMU's plugin interface.
//
// The firmware says from where to where by the hints `dbg #1` and `dbg #0` (board::Profile). keras_tinytrain/run/profiler.py
// compiles this file and knows the program; the arguments are its numbers:
//   begin, end      addresses of the code; tables, tables_end, row: those of the table of layers, and the bytes of its rows
//   costs=FILE      a byte for each halfword of code: of the instruction that begins there, see kCycles; then as many that say
//                   which kind of work a function begins, see kStep
//   counts=FILE     filled here: for each halfword of code the instructions, then the cycles, of the blocks that begin there;
//                   then for each kind of work and each of its steps: instructions, cycles, stalls (cycles that waited for
//                   flash)
//   wait, line, cache, data_cache   flash: cycles to wait for it, bytes of a line, lines kept of code, lines kept of data
// Cycles of an instruction are the Cortex-M4's (keras_tinytrain/run/cortex_m4.py). Here are added those that are known only as
// it runs: to refill the pipeline after a branch that is taken, and to wait for flash.
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// ---- the part of QEMU's interface that is used; Debian's packages have no header for it -------------------------------------

#define EXPORT __attribute__((visibility("default")))
struct qemu_plugin_tb;                           // a block: instructions that run one after the other
struct qemu_plugin_insn;                         // one of them
enum { kNoRegisters = 0, kReadsAndWrites = 3 };  // QEMU 7.2 tells of writes where reads are asked for
typedef void (*BlockCallback)(unsigned core, void* data);
typedef void (*ReadCallback)(unsigned core, uint32_t access, uint64_t address, void* data);

EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(uint64_t id, const void* info, int num_arguments, char** arguments);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*translated)(uint64_t, struct qemu_plugin_tb*));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb*);
struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb*, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn*);
const void* qemu_plugin_insn_data(const struct qemu_plugin_insn*);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn*);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb*, BlockCallback, int flags, void* data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn*, BlockCallback, int flags, void* data);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn*, ReadCallback, int flags, int reads_or_writes, void* data);

// ---- the program
// --------------------------------------------------------------------------------------------------------------

// Of a byte of `costs`: cycles, and how the instruction goes on. 0: none begins there.
enum { kCycles = 0x1F, kLoads = 0x20, kIndirect = 0x40, kCall = 0x80 };
enum { kDevices = 0x40000000 };  // the first address of Arm's memory map that is no memory
enum { kNumKinds = 8, kNumSteps = 256, kDeepest = 512, kMostLines = 4096 };
// Of a byte of `kinds`, at the first halfword of a function: the kind of work that it begins, or kStep: it ends a step of its
// caller.
enum { kNoKind = 0, kStep = 0x80 };

typedef struct {
  uint64_t begin, end, tables, tables_end, row, wait, line, cache, data_cache;
} Program;
static Program program;
static uint8_t *costs, *kinds;

typedef struct {
  uint64_t instructions, cycles, stalls;
} Work;
static uint64_t *instructions_at, *cycles_at;  // [halfword]
static Work* work;                             // [kind][step]

static size_t NumHalfwords(void) { return (size_t)(program.end - program.begin) / 2; }
static bool IsCode(uint64_t address) { return program.begin <= address && address < program.end; }
static size_t HalfwordAt(uint64_t address) { return (size_t)(address - program.begin) / 2; }

// ---- what runs now
// --------------------------------------------------------------------------------------------------------------

typedef struct {
  uint64_t address, end;
  uint32_t instructions, cycles;
  uint8_t last;  // cost of the last instruction
  bool is_late;  // its first instruction takes a second fetch: it is 32 bits wide and not aligned to them
} Block;

typedef struct {
  uint64_t return_address;
  uint32_t kind, step;
} Call;

static bool counting;
static Call calls[kDeepest];
static int num_calls;
static uint32_t kind, step;
static const Block *previous, *before_previous;
static uint64_t lines[kMostLines], data_lines[kMostLines];  // addresses of the lines of flash that are kept, plus one

static void Add(const Block* block, uint64_t instructions, uint64_t cycles, uint64_t stalls) {
  Work* now = &work[kind * kNumSteps + step];
  now->instructions += instructions;
  now->cycles += cycles + stalls;
  now->stalls += stalls;
  if (!IsCode(block->address)) return;
  instructions_at[HalfwordAt(block->address)] += instructions;
  cycles_at[HalfwordAt(block->address)] += cycles + stalls;
}

// Cycles to wait for a line of flash: none where it is kept. Each line has one place (direct mapped).
static uint64_t Fetch(uint64_t* kept, uint64_t num_lines, uint64_t line) {
  if (num_lines == 0) return program.wait;
  uint64_t* place = &kept[line % num_lines];
  if (*place == line + 1) return 0;
  *place = line + 1;
  return program.wait;
}

static uint64_t FetchCode(const Block* block) {
  uint64_t stalls = 0;
  for (uint64_t line = block->address / program.line; line <= (block->end - 1) / program.line; ++line) {
    stalls += Fetch(lines, program.cache, line);
  }
  return stalls;
}

// TRM, table 3-1: 1 to 3 cycles, by the alignment and width of the target, and whether its address is known early.
static uint64_t Refill(const Block* from, const Block* to) {
  return 1 + (uint64_t)to->is_late + (uint64_t)((from->last & kIndirect) != 0);
}

static void Enter(const Block* block, uint64_t return_address) {
  if (num_calls == kDeepest) return;
  calls[num_calls++] = (Call){return_address, kind, step};
  const uint8_t begun = IsCode(block->address) ? kinds[HalfwordAt(block->address)] : kNoKind;
  if (begun == kStep) {
    if (step + 1 < kNumSteps) ++calls[num_calls - 1].step;  // of the caller, as soon as this returns
  } else if (begun != kNoKind) {
    kind = begun;
    step = 0;
  }
}

static void Return(uint64_t address) {
  for (int depth = num_calls; depth > 0; --depth) {
    if (calls[depth - 1].return_address != address) continue;
    kind = calls[depth - 1].kind;
    step = calls[depth - 1].step;
    num_calls = depth - 1;
    return;
  }
}

static void Executed(unsigned core, void* data) {
  (void)core;
  const Block* block = data;
  uint64_t refill = 0;
  if (previous != NULL && previous->end != block->address) {
    refill = Refill(previous, block);
    if ((previous->last & kCall) != 0) {
      Enter(block, previous->end);
    } else if ((previous->last & kIndirect) != 0) {
      Return(block->address);
    }
  }
  before_previous = previous;
  previous = block;
  if (counting) Add(block, block->instructions, block->cycles + refill, FetchCode(block));
}

// QEMU breaks a block off at an instruction that reads a device, and executes a new one from there: what was counted twice.
static void TakeBack(const Block* block, uint64_t from) {
  uint64_t instructions = 0, cycles = 0;
  for (uint64_t address = from; address < block->end && IsCode(address); address += 2) {
    const uint8_t cost = costs[HalfwordAt(address)];
    instructions += cost != 0;
    cycles += cost & kCycles;
  }
  Add(block, -instructions, -cycles, 0);
}

static void Read(unsigned core, uint32_t access, uint64_t address, void* data) {
  (void)core, (void)access;
  if (program.tables <= address && address < program.tables_end) {
    const uint64_t row = (address - program.tables) / program.row;
    step = row < kNumSteps ? (uint32_t)row : kNumSteps - 1;
  }
  if (!counting) return;
  const Block* block = data;
  const Block* broken = address >= kDevices ? before_previous : NULL;
  if (broken != NULL && broken->address < block->address && block->address < broken->end) TakeBack(broken, block->address);
  if (address >= program.end) return;
  const uint64_t stalls = Fetch(data_lines, program.data_cache, address / program.line);
  if (stalls > 0) Add(block, 0, 0, stalls);
}

// ---- on and off ----------------------------------------------------------------------------------------------------------

// A hint, and what its block counts after it.
typedef struct {
  Block* block;
  uint32_t instructions, cycles;
} Rest;

static void Start(unsigned core, void* data) {
  (void)core;
  const Rest* rest = data;
  if (!counting) Add(rest->block, rest->instructions, rest->cycles, 0);
  counting = true;
}

static void Stop(unsigned core, void* data) {
  (void)core;
  const Rest* rest = data;
  if (counting) Add(rest->block, -(uint64_t)rest->instructions, -(uint64_t)rest->cycles, 0);
  counting = false;
}

static bool IsHint(const struct qemu_plugin_insn* instruction, uint8_t option) {
  const uint8_t code[4] = {0xAF, 0xF3, (uint8_t)(0xF0 | option), 0x80};
  return qemu_plugin_insn_size(instruction) == 4 && memcmp(qemu_plugin_insn_data(instruction), code, 4) == 0;
}

// Counts an instruction to its block, and has it tell what it reads. Blocks live as long as the emulator.
static void Take(Block* block, struct qemu_plugin_insn* instruction) {
  const uint64_t address = qemu_plugin_insn_vaddr(instruction);
  block->end = address + qemu_plugin_insn_size(instruction);
  block->last = IsCode(address) ? costs[HalfwordAt(address)] : 1;
  if ((block->last & kLoads) != 0) qemu_plugin_register_vcpu_mem_cb(instruction, &Read, kNoRegisters, kReadsAndWrites, block);
  ++block->instructions;
  block->cycles += block->last & kCycles;
}

static void Translated(uint64_t id, struct qemu_plugin_tb* translated) {
  (void)id;
  Block* block = calloc(1, sizeof(Block));
  const size_t count = qemu_plugin_tb_n_insns(translated);
  struct qemu_plugin_insn* first = qemu_plugin_tb_get_insn(translated, 0);
  block->address = qemu_plugin_insn_vaddr(first);
  block->is_late = qemu_plugin_insn_size(first) == 4 && block->address % 4 != 0;
  Rest* rest = NULL;
  for (size_t i = 0; i < count; ++i) {
    struct qemu_plugin_insn* instruction = qemu_plugin_tb_get_insn(translated, i);
    const bool starts = IsHint(instruction, 1);
    if (starts || IsHint(instruction, 0)) {  // it is not counted itself
      rest = calloc(1, sizeof(Rest));
      *rest = (Rest){block, block->instructions, block->cycles};
      block->end = qemu_plugin_insn_vaddr(instruction) + 4;
      qemu_plugin_register_vcpu_insn_exec_cb(instruction, starts ? &Start : &Stop, kNoRegisters, rest);
    } else {
      Take(block, instruction);
    }
  }
  if (rest != NULL) {
    rest->instructions = block->instructions - rest->instructions;
    rest->cycles = block->cycles - rest->cycles;
  }
  qemu_plugin_register_vcpu_tb_exec_cb(translated, &Executed, kNoRegisters, block);
}

// ---- arguments -----------------------------------------------------------------------------------------------------------

// The bytes of a file; NULL where it is too short or cannot be mapped.
static void* Map(const char* path, size_t num_bytes) {
  const int file = open(path, O_RDWR);
  if (file < 0 || lseek(file, 0, SEEK_END) < (off_t)num_bytes) return NULL;
  void* data = mmap(NULL, num_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  return data == MAP_FAILED ? NULL : data;
}

static bool MapFiles(const char* counts, const char* costs_file) {
  if (program.begin >= program.end || program.line == 0 || program.row == 0) return false;
  if (program.cache > kMostLines || program.data_cache > kMostLines) return false;
  instructions_at = Map(counts, 2 * NumHalfwords() * sizeof(uint64_t) + kNumKinds * kNumSteps * sizeof(Work));
  costs = Map(costs_file, 2 * NumHalfwords());
  if (instructions_at == NULL || costs == NULL) return false;
  cycles_at = instructions_at + NumHalfwords();
  work = (Work*)(cycles_at + NumHalfwords());
  kinds = costs + NumHalfwords();
  return true;
}

int qemu_plugin_install(uint64_t id, const void* info, int num_arguments, char** arguments) {
  (void)info;
  const struct {
    const char* name;
    uint64_t* value;
  } numbers[] = {{"begin", &program.begin},
                 {"end", &program.end},
                 {"tables", &program.tables},
                 {"tables_end", &program.tables_end},
                 {"row", &program.row},
                 {"wait", &program.wait},
                 {"line", &program.line},
                 {"cache", &program.cache},
                 {"data_cache", &program.data_cache}};
  const char *counts = "", *costs_file = "";
  for (int i = 0; i < num_arguments; ++i) {
    const char* value = strchr(arguments[i], '=');
    const size_t length = value == NULL ? 0 : (size_t)(value - arguments[i]);
    if (length == 6 && strncmp(arguments[i], "counts", length) == 0) counts = value + 1;
    if (length == 5 && strncmp(arguments[i], "costs", length) == 0) costs_file = value + 1;
    for (size_t n = 0; value != NULL && n < sizeof(numbers) / sizeof(numbers[0]); ++n) {
      if (strlen(numbers[n].name) != length || strncmp(arguments[i], numbers[n].name, length) != 0) continue;
      *numbers[n].value = strtoull(value + 1, NULL, 10);
    }
  }
  if (!MapFiles(counts, costs_file)) {
    fprintf(stderr, "profiler: counts=%s costs=%s begin=%" PRIu64 " end=%" PRIu64 " cannot be used\n", counts, costs_file,
            program.begin, program.end);
    return 1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, &Translated);
  return 0;
}
