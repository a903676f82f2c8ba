/* What the kernels share: vectors of numbers, the numbers that rows are kept in, dropout's draws.
 *
 * GCC's and Clang's vector types, as wide as the processor's: 16 numbers with AVX-512, else 8. Rows are kept in bf16
 * (BF16=1) or fp32; everything is computed in fp32. Widths are multiples of 16.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if __AVX512BF16__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

/* Lanes of two vectors, numbered one after the other. */
#if defined(__clang__) || __GNUC__ >= 12
#define LANES_OF(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define LANES_OF(a, b, ...) __builtin_shuffle(a, b, (ints){__VA_ARGS__})
#endif

/* For each distance: a lane's partner there; and of two rows, lanes that change places between them. */
#if __AVX512F__
#define LANES 16
#define NUMBERS 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#define PARTNER_1(a) LANES_OF(a, a, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
#define UPPER_1(a, b) LANES_OF(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30)
#define LOWER_1(a, b) LANES_OF(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31)
#define PARTNER_2(a) LANES_OF(a, a, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)
#define UPPER_2(a, b) LANES_OF(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define LOWER_2(a, b) LANES_OF(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#define PARTNER_4(a) LANES_OF(a, a, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)
#define UPPER_4(a, b) LANES_OF(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27)
#define LOWER_4(a, b) LANES_OF(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31)
#define PARTNER_8(a) LANES_OF(a, a, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
#define UPPER_8(a, b) LANES_OF(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)
#define LOWER_8(a, b) LANES_OF(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31)
#else
#define LANES 8
#define NUMBERS 0, 1, 2, 3, 4, 5, 6, 7
#define PARTNER_1(a) LANES_OF(a, a, 1, 0, 3, 2, 5, 4, 7, 6)
#define UPPER_1(a, b) LANES_OF(a, b, 0, 8, 2, 10, 4, 12, 6, 14)
#define LOWER_1(a, b) LANES_OF(a, b, 1, 9, 3, 11, 5, 13, 7, 15)
#define PARTNER_2(a) LANES_OF(a, a, 2, 3, 0, 1, 6, 7, 4, 5)
#define UPPER_2(a, b) LANES_OF(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define LOWER_2(a, b) LANES_OF(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#define PARTNER_4(a) LANES_OF(a, a, 4, 5, 6, 7, 0, 1, 2, 3)
#define UPPER_4(a, b) LANES_OF(a, b, 0, 1, 2, 3, 8, 9, 10, 11)
#define LOWER_4(a, b) LANES_OF(a, b, 4, 5, 6, 7, 12, 13, 14, 15)
#endif

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef uint32_t bits __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));

#if BF16
typedef uint16_t real;
#else
typedef float real;
#endif

INLINE vec load(const float *at) {
    vec x;
    memcpy(&x, at, sizeof x);
    return x;
}

INLINE void store(float *at, vec x) { memcpy(at, &x, sizeof x); }

/* Rounded to the nearest, ties to even. Where there is an instruction, compilers do not find it by themselves. */
#if __AVX512BF16__
INLINE vec load_bf16(const uint16_t *at) {
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)at)), 16);
}

INLINE void store_bf16(uint16_t *at, vec x) {
    _mm256_storeu_si256((__m256i *)at, (__m256i)_mm512_cvtneps_pbh((__m512)x));
}

INLINE vec rounded(vec x) {
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)x)), 16);
}
#else
INLINE vec load_bf16(const uint16_t *at) {
    halves h;
    memcpy(&h, at, sizeof h);
    return (vec)(__builtin_convertvector(h, bits) << 16);
}

INLINE bits rounded_bits(vec x) {
    bits b = (bits)x;
    return b + 0x7fff + ((b >> 16) & 1);
}

INLINE void store_bf16(uint16_t *at, vec x) {
    halves h = __builtin_convertvector(rounded_bits(x) >> 16, halves);
    memcpy(at, &h, sizeof h);
}

INLINE vec rounded(vec x) { return (vec)(rounded_bits(x) & 0xffff0000); }
#endif

#if BF16
INLINE vec load_real(const real *at) { return load_bf16(at); }
INLINE void store_real(real *at, vec x) { store_bf16(at, x); }
INLINE vec as_kept(vec x) { return rounded(x); }
#else
INLINE vec load_real(const real *at) { return load(at); }
INLINE void store_real(real *at, vec x) { store(at, x); }
INLINE vec as_kept(vec x) { return x; }
#endif

INLINE vec all(float x) { return (vec){0} + x; }

/* `yes` in the lanes that a comparison marks, `no` in the others. */
INLINE vec choose(ints marked, vec yes, vec no) { return (vec)((marked & (ints)yes) | (~marked & (ints)no)); }

INLINE float sum(vec x) {
#if LANES > 8
    x += PARTNER_8(x);
#endif
    x += PARTNER_4(x);
    x += PARTNER_2(x);
    x += PARTNER_1(x);
    return x[0];
}

INLINE vec larger(vec a, vec b) { return choose(a > b, a, b); }

INLINE float highest(vec x) {
#if LANES > 8
    x = larger(x, PARTNER_8(x));
#endif
    x = larger(x, PARTNER_4(x));
    x = larger(x, PARTNER_2(x));
    x = larger(x, PARTNER_1(x));
    return x[0];
}

/* e to the x, to 2 units in the last place (Cephes' polynomial); below -87 it is as at -87. */
INLINE vec exponential(vec x) {
    x = choose(x < -87.0f, all(-87.0f), x);
    x = choose(x > 88.0f, all(88.0f), x);
    vec shifted = x * 1.44269504f + 12582912.0f;
    vec n = shifted - 12582912.0f;
    vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return (vec)((bits)p + ((bits)shifted << 23));
}

/* What dropout does: `threshold` of 65536 elements become 0 by a hash of their place, the others times `factor`
 * (`yourbert/training/fused/rows.py`, whose draws these are). */
typedef struct {
    uint32_t low, high;
    int32_t threshold;
    float factor;
} Draw;

INLINE Draw draw_of(int64_t seed, int64_t threshold, float factor) {
    return (Draw){(uint32_t)seed, (uint32_t)((uint64_t)seed >> 32), (int32_t)threshold, factor};
}

INLINE vec drop(vec x, uint32_t place, Draw draw) {
    if (!draw.threshold) return x;
    bits b = (bits){NUMBERS} + (place + draw.low);
    b = (b ^ (b >> 17)) * 0xED5AD4BBu;
    b = (b ^ (b >> 11)) * 0xAC4C1B51u;
    b ^= draw.high;
    b = (b ^ (b >> 15)) * 0x31848BABu;
    b = (b ^ (b >> 14)) >> 16;
    return choose((ints)b >= draw.threshold, x * draw.factor, all(0));
}

/* Of y = normal * weight + shift: adds to the gradients of both and to the two sums over a row that the gradient of
 * what was normalised takes, and gives that of `normal`. */
INLINE vec norm_backward(vec dy, vec normal, const float *weight, float *dweight, float *dshift, vec *plain, vec *along) {
    vec dnormal = dy * load(weight);
    *plain += dnormal;
    *along += dnormal * normal;
    store(dweight, load(dweight) + dy * normal);
    store(dshift, load(dshift) + dy);
    return dnormal;
}
