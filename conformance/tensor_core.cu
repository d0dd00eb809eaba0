// Tiles through the tensor core of this GPU, one instruction each: d = a b + c.
//
//     tensor_core KIND COUNT < operands > results
//
// KIND is fp16_fp16, fp16_fp32, bf16_fp32, e4m3_fp16, e4m3_fp32, e5m2_fp16 or e5m2_fp32: operands
// and accumulator. A tile is a (16 x K, rows), b (8 x K, columns) and c (16 x 8, rows) one after the
// other, as bit patterns; a result is d (16 x 8, rows). K is 16, for operands of 8 bits 32. Layouts
// of registers: PTX ISA, "Matrix fragments for mma.m16n8k16" and "mma.m16n8k32".
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#define F16(ab, shape)                                                                             \
    asm volatile("mma.sync.aligned." shape ".row.col.f16." ab "." ab ".f16 "                       \
                 "{%0,%1}, {%2,%3,%4,%5}, {%6,%7}, {%8,%9};"                                       \
                 : "=r"(d[0]), "=r"(d[1])                                                          \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(c[0]),    \
                   "r"(c[1]))
#define F32(ab, shape)                                                                             \
    asm volatile("mma.sync.aligned." shape ".row.col.f32." ab "." ab ".f32 "                       \
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"                       \
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])                                  \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(c[0]),    \
                   "r"(c[1]), "r"(c[2]), "r"(c[3]))

// Bytes of a row of a or of a column of b: 16 x 2 or 32 x 1. Four bytes are one register.
constexpr int LINE = 32;

template <int KIND>
__global__ void multiply(const uint8_t* tiles, uint8_t* results, int wide) {
    const int bytes = wide ? 4 : 2;  // of an accumulator
    const uint8_t* tile = tiles + size_t(blockIdx.x) * (24 * LINE + 128 * bytes);
    uint8_t* result = results + size_t(blockIdx.x) * 128 * bytes;
    const int group = threadIdx.x / 4, own = threadIdx.x % 4;
    const auto word = [](const uint8_t* p) { return *reinterpret_cast<const uint32_t*>(p); };
    uint32_t a[4], b[2], c[4], d[4];
    for (int n = 0; n < 4; n++)
        a[n] = word(tile + (group + n % 2 * 8) * LINE + n / 2 * 16 + own * 4);
    for (int n = 0; n < 2; n++) b[n] = word(tile + 16 * LINE + group * LINE + n * 16 + own * 4);
    const uint8_t* first = tile + 24 * LINE;
    const auto at = [&](int n) {  // where register n of c and d lies
        const int row = group + (wide ? n / 2 : n) * 8, column = own * 2 + (wide ? n % 2 : 0);
        return (row * 8 + column) * bytes;
    };
    const int count = wide ? 4 : 2;
    for (int n = 0; n < count; n++) c[n] = word(first + at(n));
    if (KIND == 0) F16("f16", "m16n8k16");
    if (KIND == 1) F32("f16", "m16n8k16");
    if (KIND == 2) F32("bf16", "m16n8k16");
    if (KIND == 3) F16("e4m3", "m16n8k32");
    if (KIND == 4) F32("e4m3", "m16n8k32");
    if (KIND == 5) F16("e5m2", "m16n8k32");
    if (KIND == 6) F32("e5m2", "m16n8k32");
    for (int n = 0; n < count; n++) *reinterpret_cast<uint32_t*>(result + at(n)) = d[n];
}

int main(int argc, char** argv) {
    const char* kinds[] = {"fp16_fp16", "fp16_fp32", "bf16_fp32", "e4m3_fp16",
                           "e4m3_fp32", "e5m2_fp16", "e5m2_fp32"};
    int kind = -1, count = 0;
    for (int n = 0; n < 7; n++)
        if (argc == 3 && !strcmp(argv[1], kinds[n])) kind = n;
    if (kind < 0 || sscanf(argv[2], "%d", &count) != 1 || count < 1) {
        fprintf(stderr, "usage: tensor_core KIND COUNT\n");
        return 2;
    }
    const int wide = strstr(kinds[kind], "_fp32") != nullptr, bytes = wide ? 4 : 2;
    std::vector<uint8_t> in(size_t(count) * (24 * LINE + 128 * bytes));
    std::vector<uint8_t> out(size_t(count) * 128 * bytes);
    if (fread(in.data(), 1, in.size(), stdin) != in.size()) {
        fprintf(stderr, "operands end too early\n");
        return 2;
    }
    uint8_t *tiles, *results;
    cudaMalloc(&tiles, in.size());
    cudaMalloc(&results, out.size());
    cudaMemcpy(tiles, in.data(), in.size(), cudaMemcpyHostToDevice);
    void (*run[])(const uint8_t*, uint8_t*, int) = {multiply<0>, multiply<1>, multiply<2>, multiply<3>,
                                                    multiply<4>, multiply<5>, multiply<6>};
    run[kind]<<<count, 32>>>(tiles, results, wide);
    cudaMemcpy(out.data(), results, out.size(), cudaMemcpyDeviceToHost);
    if (cudaError_t error = cudaGetLastError()) {
        fprintf(stderr, "%s\n", cudaGetErrorString(error));
        return 1;
    }
    fwrite(out.data(), 1, out.size(), stdout);
    return 0;
}
