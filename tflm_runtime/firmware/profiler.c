// Counts instructions of a firmware, one by one, inside QEMU: a TCG plugin for version 1 of QEMU's plugin interface.
//
// The firmware says from where to where by the hints `dbg #1` and `dbg #0` (board::Profile), which do nothing else and are not
// counted. Arguments: counts=FILE, begin=ADDRESS, end=ADDRESS. FILE holds (end - begin) / 2 numbers of 64 bits, one for each
// halfword of code: how often the instruction that begins there was executed. They are right while counting is off.
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
struct qemu_plugin_tb;    // a run of instructions that is being translated
struct qemu_plugin_insn;  // one of them
enum { kAddToUint64 = 0, kNoRegisters = 0 };

EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(uint64_t id, const void* info, int num_arguments, char** arguments);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*translated)(uint64_t, struct qemu_plugin_tb*));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb*);
struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb*, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn*);
const void* qemu_plugin_insn_data(const struct qemu_plugin_insn*);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn*);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn*, void (*executed)(unsigned, void*), int flags, void*);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn*, int operation, void* number, uint64_t operand);

// ---- counting -----------------------------------------------------------------------------------------------------------

static uint64_t begin, end;
static uint64_t* executed;  // since reset
static uint64_t* counts;    // instructions executed while counting was on: those at each `dbg #0` less those at each `dbg #1`
static bool counting;

static size_t NumCounts(void) { return (size_t)(end - begin) / 2; }

static void Start(unsigned core, void* unused) {
  (void)core, (void)unused;
  for (size_t i = 0; !counting && i < NumCounts(); ++i) counts[i] -= executed[i];
  counting = true;
}

static void Stop(unsigned core, void* unused) {
  (void)core, (void)unused;
  for (size_t i = 0; counting && i < NumCounts(); ++i) counts[i] += executed[i];
  counting = false;
}

static bool IsHint(const struct qemu_plugin_insn* instruction, uint8_t option) {
  const uint8_t code[4] = {0xAF, 0xF3, (uint8_t)(0xF0 | option), 0x80};
  return qemu_plugin_insn_size(instruction) == 4 && memcmp(qemu_plugin_insn_data(instruction), code, 4) == 0;
}

static void Translated(uint64_t id, struct qemu_plugin_tb* block) {
  (void)id;
  for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); ++i) {
    struct qemu_plugin_insn* instruction = qemu_plugin_tb_get_insn(block, i);
    const uint64_t address = qemu_plugin_insn_vaddr(instruction);
    if (IsHint(instruction, 1)) {
      qemu_plugin_register_vcpu_insn_exec_cb(instruction, &Start, kNoRegisters, NULL);
    } else if (IsHint(instruction, 0)) {
      qemu_plugin_register_vcpu_insn_exec_cb(instruction, &Stop, kNoRegisters, NULL);
    } else if (begin <= address && address < end) {
      qemu_plugin_register_vcpu_insn_exec_inline(instruction, kAddToUint64, &executed[(address - begin) / 2], 1);
    }
  }
}

// The file's numbers; NULL where it is too short or cannot be mapped.
static uint64_t* Map(const char* path) {
  const size_t num_bytes = NumCounts() * sizeof(uint64_t);
  const int file = open(path, O_RDWR);
  if (file < 0 || lseek(file, 0, SEEK_END) < (off_t)num_bytes) return NULL;
  void* data = mmap(NULL, num_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  return data == MAP_FAILED ? NULL : data;
}

int qemu_plugin_install(uint64_t id, const void* info, int num_arguments, char** arguments) {
  (void)info;
  const char* path = "";
  for (int i = 0; i < num_arguments; ++i) {
    if (strncmp(arguments[i], "counts=", 7) == 0) path = arguments[i] + 7;
    sscanf(arguments[i], "begin=%" SCNu64, &begin);
    sscanf(arguments[i], "end=%" SCNu64, &end);
  }
  counts = begin < end ? Map(path) : NULL;
  executed = calloc(NumCounts(), sizeof(uint64_t));
  if (counts == NULL || executed == NULL) {
    fprintf(stderr, "profiler: counts=%s begin=%" PRIu64 " end=%" PRIu64 " cannot be used\n", path, begin, end);
    return 1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, &Translated);
  return 0;
}
