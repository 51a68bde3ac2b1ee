/* A plugin for qemu's user-mode emulation (plugin API 1, qemu 7.2): counts how often each block of ARM code runs, for
 * each operator of a model, and simulates the data caches of a Cortex-A53.
 *
 * The guest speaks to it by system call 155 (getpgid, harmless) with one of these first arguments:
 *   MARK + 0   second argument: the address of the function that runs an operator of the delegate; each call begins a
 *              new segment. Third: the address of the function that loops over the nodes of the graph, fourth: its end;
 *              each block of it begins a new segment, so that what a node runs by itself is in segments of its own
 *   MARK + 1   begin: all counters go to zero, the caches stay as they are
 *   MARK + 2   end: the file is written
 *   MARK + 3   second argument: a number, which the guest knows a stage of its work by; a new segment begins
 * Before the first MARK + 0 nothing is counted, nor slowed down.
 *
 * The file is text, one line each:
 *   g SEGMENT "operator", "node" or "stage NUMBER", which began it
 *   s SEGMENT BLOCK RUNS LOADS STORES L1_MISSES L2_MISSES FETCH_L1_MISSES FETCH_L2_MISSES MISPREDICTED
 *   b BLOCK PC INSTRUCTIONS OPCODES_IN_HEX
 *   o OPCODE DISASSEMBLY
 * Segment 0 is what ran before the first operator.
 *
 * Counts are exact for a guest of one thread. With whole=1 the main program (the Python interpreter) is looked at too, and
 * the fetching of instructions and the prediction of branches are simulated; without, their three counts are 0.
 * Arguments: out=FILE whole=1 l1=BYTES l1_ways=N l2=BYTES l2_ways=N
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is used of qemu-plugin.h, which Debian ships in qemu's source package only. */
typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
enum { CALLBACK_READS_NO_REGISTERS = 0, INLINE_ADD_U64 = 0, LOADS_AND_STORES = 3 };
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int, void *);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *,
                                      void (*)(unsigned, qemu_plugin_meminfo_t, uint64_t, void *), int, int, void *);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t,
                                          void (*)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                                                   uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
void qemu_plugin_reset(qemu_plugin_id_t, void (*)(qemu_plugin_id_t));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
char *qemu_plugin_insn_disas(const struct qemu_plugin_insn *);
unsigned qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t);
bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t);
uint64_t qemu_plugin_start_code(void);
uint64_t qemu_plugin_end_code(void);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

enum { GETPGID = 155, MARK = 0x0A530000, LINE_BITS = 6, BUCKETS = 1 << 17 };
enum { RUNS, LOADS, STORES, L1_MISSES, L2_MISSES, FETCH_L1_MISSES, FETCH_L2_MISSES, MISPREDICTED, COUNTERS };
enum { DATA, UNIFIED, INSTRUCTIONS, CACHES };
/* Of a block's last instruction. */
typedef enum { FALLS_THROUGH, CONDITIONAL, CALL, INDIRECT, INDIRECT_CALL, RETURN } Branch;
/* Arm DDI 0500, Cortex-A53 Technical Reference Manual: what the branch predictor remembers, and the instruction cache.
 * How the tables are looked up is not published: by address and the history of branches, here. */
enum { PATTERNS = 3072, TARGETS = 256, RETURNS = 8, HISTORY_BITS = 8 };
enum { INSTRUCTION_BYTES = 32 << 10, INSTRUCTION_WAYS = 2 };

typedef struct Block {
    uint64_t pc, counter[COUNTERS], seen[COUNTERS];
    unsigned id, size;
    Branch branch;
    uint32_t *opcodes;
    struct Block *next, *bucket;
} Block;

typedef struct Opcode {
    uint32_t code;
    char *text;
    struct Opcode *next, *bucket;
} Opcode;

/* Set-associative, least recently used line replaced, allocating on loads and stores, as the Cortex-A53's are. */
typedef struct {
    unsigned sets, ways;
    uint64_t now, *tags, *ages;
} Cache;

static Block *blocks, *block_buckets[BUCKETS];
static Opcode *opcodes, *opcode_buckets[BUCKETS];
static unsigned block_count, segment;
static uint64_t operator_entry, loop_start, loop_end;
static unsigned whole;
static bool watching, recording;
static const char *path = "blocks.txt";
static FILE *out;
static Cache caches[CACHES];
static Block *last_block;
static uint64_t last_line, history, targets[TARGETS], returns[RETURNS];
static unsigned depth;
static unsigned char patterns[PATTERNS];

static void fail(const char *what)
{
    fprintf(stderr, "profiler: %s\n", what);
    exit(1);
}

static void *zeros(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (!memory)
        fail("out of memory");
    return memory;
}

static bool hit(Cache *cache, uint64_t line)
{
    size_t first = line % cache->sets * cache->ways, oldest = first;
    cache->now++;
    for (size_t way = first; way < first + cache->ways; way++) {
        if (cache->tags[way] == line + 1) {
            cache->ages[way] = cache->now;
            return true;
        }
        if (cache->ages[way] < cache->ages[oldest])
            oldest = way;
    }
    cache->tags[oldest] = line + 1;
    cache->ages[oldest] = cache->now;
    return false;
}

static void touch(Block *block, uint64_t line, int first_level, int misses)
{
    if (hit(&caches[first_level], line))
        return;
    block->counter[misses]++;
    if (!hit(&caches[UNIFIED], line))
        block->counter[misses + 1]++;
}

static void on_access(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data)
{
    Block *block = data;
    uint64_t first = address >> LINE_BITS, last = (address + (1u << qemu_plugin_mem_size_shift(info)) - 1) >> LINE_BITS;
    (void)cpu;
    block->counter[qemu_plugin_mem_is_store(info) ? STORES : LOADS]++;
    touch(block, first, DATA, L1_MISSES);
    if (last != first)
        touch(block, last, DATA, L1_MISSES);
}

static Branch branch_of(uint32_t code)
{
    if ((code & 0xFF000010) == 0x54000000 || (code & 0x7C000000) == 0x34000000)
        return CONDITIONAL; /* b.cond; cbz, cbnz, tbz, tbnz */
    if ((code & 0xFC000000) == 0x94000000)
        return CALL;
    switch (code & 0xFFFFFC1F) {
    case 0xD61F0000: return INDIRECT;
    case 0xD63F0000: return INDIRECT_CALL;
    case 0xD65F0000: return RETURN;
    }
    return FALLS_THROUGH;
}

/* Whether the branch at the end of a block would have been expected to lead where it led. */
static bool predicted(const Block *block, uint64_t to)
{
    uint64_t from = block->pc + 4 * (block->size - 1), next = from + 4;
    bool right = true;
    if (block->branch == CONDITIONAL) {
        unsigned char *pattern = &patterns[(from >> 2 ^ history) % PATTERNS];
        bool taken = to != next;
        right = (*pattern >= 2) == taken;
        *pattern += taken ? *pattern < 3 : -(*pattern > 0);
        history = (history << 1 | taken) & ((1u << HISTORY_BITS) - 1);
    } else if (block->branch == INDIRECT || block->branch == INDIRECT_CALL) {
        uint64_t *target = &targets[(from >> 2 ^ history) % TARGETS];
        right = *target == to;
        *target = to;
    } else if (block->branch == RETURN)
        right = returns[--depth % RETURNS] == to;
    if (block->branch == CALL || block->branch == INDIRECT_CALL)
        returns[depth++ % RETURNS] = next;
    return right;
}

static void on_execution(unsigned cpu, void *data)
{
    Block *block = data;
    (void)cpu;
    if (last_block && !predicted(last_block, block->pc))
        last_block->counter[MISPREDICTED]++;
    last_block = block;
    for (uint64_t line = block->pc >> LINE_BITS; line <= (block->pc + 4 * block->size - 1) >> LINE_BITS; line++) {
        if (line != last_line)
            touch(block, line, INSTRUCTIONS, FETCH_L1_MISSES);
        last_line = line;
    }
}

static void close_segment(const char *next)
{
    for (Block *block = blocks; block; block = block->next) {
        if (block->counter[RUNS] == block->seen[RUNS])
            continue;
        fprintf(out, "s %u %u", segment, block->id);
        for (int i = 0; i < COUNTERS; i++)
            fprintf(out, " %" PRIu64, block->counter[i] - block->seen[i]);
        fputc('\n', out);
        memcpy(block->seen, block->counter, sizeof block->seen);
    }
    segment++;
    if (next)
        fprintf(out, "g %u %s\n", segment, next);
}

static void on_boundary(unsigned cpu, void *data)
{
    (void)cpu;
    if (recording)
        close_segment(data);
}

static void remember_opcode(const struct qemu_plugin_insn *instruction, uint32_t code)
{
    Opcode **bucket = &opcode_buckets[(code * 2654435761u) % BUCKETS], *opcode;
    for (opcode = *bucket; opcode; opcode = opcode->bucket)
        if (opcode->code == code)
            return;
    opcode = zeros(1, sizeof *opcode);
    *opcode = (Opcode){.code = code, .text = qemu_plugin_insn_disas(instruction), .next = opcodes, .bucket = *bucket};
    opcodes = *bucket = opcode;
}

static Block *find_block(uint64_t pc, unsigned size, const uint32_t *code)
{
    Block **bucket = &block_buckets[((uint32_t)(pc >> 2) * 2654435761u ^ size) % BUCKETS], *block;
    for (block = *bucket; block; block = block->bucket)
        if (block->pc == pc && block->size == size && !memcmp(block->opcodes, code, 4 * size))
            return block;
    block = zeros(1, sizeof *block);
    *block = (Block){.pc = pc, .id = block_count++, .size = size, .next = blocks, .bucket = *bucket};
    block->branch = branch_of(code[size - 1]);
    block->opcodes = zeros(size, 4);
    memcpy(block->opcodes, code, 4 * size);
    blocks = *bucket = block;
    return block;
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *translation)
{
    unsigned size = qemu_plugin_tb_n_insns(translation);
    uint64_t pc = qemu_plugin_tb_vaddr(translation);
    (void)id;
    if (!whole && pc >= qemu_plugin_start_code() && pc < qemu_plugin_end_code())
        return;
    uint32_t *code = zeros(size, 4);
    for (unsigned i = 0; i < size; i++) {
        const struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(translation, i);
        memcpy(&code[i], qemu_plugin_insn_data(instruction), 4);
        remember_opcode(instruction, code[i]);
    }
    Block *block = find_block(pc, size, code);
    free(code);
    const char *boundary = pc == operator_entry ? "operator" : pc >= loop_start && pc < loop_end ? "node" : NULL;
    if (boundary)
        qemu_plugin_register_vcpu_tb_exec_cb(translation, on_boundary, CALLBACK_READS_NO_REGISTERS, (void *)boundary);
    if (whole)
        qemu_plugin_register_vcpu_tb_exec_cb(translation, on_execution, CALLBACK_READS_NO_REGISTERS, block);
    qemu_plugin_register_vcpu_tb_exec_inline(translation, INLINE_ADD_U64, &block->counter[RUNS], 1);
    for (unsigned i = 0; i < size; i++)
        qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(translation, i), on_access, CALLBACK_READS_NO_REGISTERS,
                                         LOADS_AND_STORES, block);
}

static void begin(void)
{
    out = fopen(path, "w");
    if (!out)
        fail("the output file cannot be written");
    for (Block *block = blocks; block; block = block->next) {
        memset(block->counter, 0, sizeof block->counter);
        memset(block->seen, 0, sizeof block->seen);
    }
    segment = 0;
    recording = true;
}

static void end(void)
{
    recording = false;
    close_segment(NULL);
    for (Block *block = blocks; block; block = block->next) {
        if (!block->seen[RUNS])
            continue;
        fprintf(out, "b %u %" PRIx64 " %u ", block->id, block->pc, block->size);
        for (unsigned i = 0; i < block->size; i++)
            fprintf(out, "%08" PRIx32, block->opcodes[i]);
        fputc('\n', out);
    }
    for (Opcode *opcode = opcodes; opcode; opcode = opcode->next)
        fprintf(out, "o %08" PRIx32 " %s\n", opcode->code, opcode->text);
    if (fclose(out))
        fail("the output file cannot be written");
}

static void watch(qemu_plugin_id_t id);

static void on_system_call(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t first, uint64_t second, uint64_t third,
                           uint64_t fourth, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    (void)cpu, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != GETPGID)
        return;
    if (first == MARK) {
        operator_entry = second, loop_start = third, loop_end = fourth;
        // Drops what was translated without counters.
        if (!watching)
            qemu_plugin_reset(id, watch);
        watching = true;
    } else if (first == MARK + 1 && !recording)
        begin();
    else if (first == MARK + 2 && recording)
        end();
    else if (first == MARK + 3 && recording) {
        char stage[32];
        snprintf(stage, sizeof stage, "stage %" PRIu64, second);
        close_segment(stage);
    }
}

static void watch(qemu_plugin_id_t id)
{
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_system_call);
}

static void size_cache(Cache *cache, unsigned bytes, unsigned ways)
{
    cache->ways = ways;
    cache->sets = (bytes >> LINE_BITS) / ways;
    if (!cache->sets)
        fail("a cache needs one set or more");
    cache->tags = zeros(cache->sets * ways, sizeof *cache->tags);
    cache->ages = zeros(cache->sets * ways, sizeof *cache->ages);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info,
                                                               int argc, char **argv)
{
    unsigned l1 = 32 << 10, l1_ways = 4, l2 = 512 << 10, l2_ways = 16;
    struct { const char *name; unsigned *value; } numbers[] = {
        {"whole", &whole}, {"l1", &l1}, {"l1_ways", &l1_ways}, {"l2", &l2}, {"l2_ways", &l2_ways}};
    (void)info;
    for (int i = 0; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        bool known = false;
        if (!value)
            return -1;
        *value++ = 0;
        if (!strcmp(argv[i], "out")) {
            path = strdup(value);
            continue;
        }
        for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
            if (!strcmp(argv[i], numbers[k].name)) {
                *numbers[k].value = 0;
                for (; *value >= '0' && *value <= '9'; value++)
                    *numbers[k].value = 10 * *numbers[k].value + (unsigned)(*value - '0');
                known = !*value && *numbers[k].value;
            }
        if (!known)
            return -1;
    }
    size_cache(&caches[DATA], l1, l1_ways);
    size_cache(&caches[UNIFIED], l2, l2_ways);
    size_cache(&caches[INSTRUCTIONS], INSTRUCTION_BYTES, INSTRUCTION_WAYS);
    qemu_plugin_register_vcpu_syscall_cb(id, on_system_call);
    return 0;
}
