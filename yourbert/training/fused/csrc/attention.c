/* Self-attention over packed sequences, one head of one sequence at a time.
 *
 * Queries, keys and values lie side by side in rows of 3 E, as the product wrote them, without their bias, which is
 * added here. A block of queries meets all keys at once, so its probabilities are there as a whole; the backward
 * computes them again. Lengths are rounded up to whole vectors: L rows of D numbers, those beyond the sequence zero.
 */
#include <omp.h>

#include "common.h"

#define QUERIES 32

/* c[m][n] (+)= the sum over k of a[m * am + k * ak] * b[k * bn + n], for ROWS rows and V vectors of columns. */
#define TILE(ROWS, V)                                                                                             \
    INLINE void tile_##ROWS##_##V(const float *a, int64_t am, int64_t ak, const float *b, int64_t bn, float *c,       \
                                  int64_t cn, int64_t depth, int add) {                                           \
        vec total[ROWS][V];                                                                                       \
        for (int m = 0; m < ROWS; m++)                                                                            \
            for (int v = 0; v < V; v++) total[m][v] = add ? load(c + m * cn + v * LANES) : (vec){0};                \
        for (int64_t k = 0; k < depth; k++) {                                                                     \
            vec right[V];                                                                                         \
            for (int v = 0; v < V; v++) right[v] = load(b + k * bn + v * LANES);                                    \
            for (int m = 0; m < ROWS; m++) {                                                                      \
                vec left = all(a[m * am + k * ak]);                                                               \
                for (int v = 0; v < V; v++) total[m][v] += left * right[v];                                       \
            }                                                                                                     \
        }                                                                                                         \
        for (int m = 0; m < ROWS; m++)                                                                            \
            for (int v = 0; v < V; v++) store(c + m * cn + v * LANES, total[m][v]);                                 \
    }
/* As many sums as the processor has registers for. */
#if LANES > 8
#define TALL 8
TILE(8, 2)
TILE(8, 1)
#else
#define TALL 4
#endif
TILE(4, 2)
TILE(4, 1)

/* The same for `rows`, a multiple of 4, and `columns`, one of LANES. */
INLINE void product(const float *a, int64_t am, int64_t ak, const float *b, int64_t bn, float *c, int64_t cn,
                    int64_t rows, int64_t columns, int64_t depth, int add) {
    for (int64_t n = 0; n < columns; n += 2 * LANES) {
        int wide = columns - n >= 2 * LANES;
        int64_t m = 0;
#if TALL > 4
        for (; m + TALL <= rows; m += TALL) {
            if (wide) tile_8_2(a + m * am, am, ak, b + n, bn, c + m * cn + n, cn, depth, add);
            else tile_8_1(a + m * am, am, ak, b + n, bn, c + m * cn + n, cn, depth, add);
        }
#endif
        for (; m < rows; m += 4) {
            if (wide) tile_4_2(a + m * am, am, ak, b + n, bn, c + m * cn + n, cn, depth, add);
            else tile_4_1(a + m * am, am, ak, b + n, bn, c + m * cn + n, cn, depth, add);
        }
    }
}

static int64_t up(int64_t count, int64_t step) { return (count + step - 1) / step * step; }

/* Rows of one head out of rows of `stride`, with its bias if it has one; beyond the sequence zero. The next head, which
 * mostly comes next, is asked for ahead: no two rows lie side by side, so the processor would not guess it. */
INLINE void gather(const real *from, const float *bias, float *to, int64_t length, int64_t padded, int64_t stride,
                   int64_t D) {
    for (int64_t row = 0; row < length; row++) {
        __builtin_prefetch(from + row * stride + D);
        for (int64_t c = 0; c < D; c += LANES) {
            vec x = load_real(from + row * stride + c);
            store(to + row * D + c, bias ? x + load(bias + c) : x);
        }
    }
    memset(to + length * D, 0, (padded - length) * D * sizeof(float));
}

#define SWAP(DISTANCE)                                                                                            \
    for (int i = 0; i < LANES; i++)                                                                               \
        if (!(i & DISTANCE)) {                                                                                    \
            vec a = rows[i], b = rows[i + DISTANCE];                                                              \
            rows[i] = UPPER_##DISTANCE(a, b);                                                                     \
            rows[i + DISTANCE] = LOWER_##DISTANCE(a, b);                                                          \
        }

/* By squares of as many rows and columns as a vector has lanes, which change places at each distance in turn. */
INLINE void transpose(const float *from_LD, float *to_DL, int64_t L, int64_t D) {
    for (int64_t row = 0; row < L; row += LANES)
        for (int64_t c = 0; c < D; c += LANES) {
            vec rows[LANES];
            for (int i = 0; i < LANES; i++) rows[i] = load(from_LD + (row + i) * D + c);
            SWAP(1)
            SWAP(2)
            SWAP(4)
#if LANES > 8
            SWAP(8)
#endif
            for (int i = 0; i < LANES; i++) store(to_DL + (c + i) * L + row, rows[i]);
        }
}

/* Of the keys from `start`, the lanes of those that the sequence has. */
INLINE ints inside(int64_t start, int64_t length) {
    return (ints){NUMBERS} < (int32_t)(length - start);
}

/* The highest of a query's scores. */
INLINE float peak_of(const float *scores_L, int64_t length, int64_t L) {
    vec most = all(-INFINITY);
    for (int64_t j = 0; j < L; j += LANES)
        most = larger(most, choose(inside(j, length), load(scores_L + j), all(-INFINITY)));
    return highest(most);
}

/* Where the probabilities of a query begin among all: it has `span` of them, one for each key. */
INLINE uint32_t place_of(int64_t row, int64_t heads, int64_t head, int64_t span) {
    return (uint32_t)((row * heads + head) * span);
}

/* How many heads, side by side in memory, a thread takes at a time: all of a sequence's, unless threads are many. */
INLINE int64_t chunk_of(int64_t sequences, int64_t heads) {
    int64_t share = sequences * heads / (4 * omp_get_max_threads());
    return share < 1 ? 1 : share < heads ? share : heads;
}

/* out = dropout(softmax(q k' / sqrt(D))) v. stats: each query's highest score, and 1 / the sum of powers of e. asked: of
 * each sequence so many queries at most, from the first; rows of `out` beyond are not written. */
void attend(const real *qkv_T3E, const float *bias_3E, const int32_t *bounds_S1, real *out_TE, float *stats_HT2,
            int64_t tokens, int64_t sequences, int64_t heads, int64_t D, int64_t longest, int64_t asked, int64_t span,
            int64_t seed, int64_t threshold, float factor) {
    Draw draw = draw_of(seed, threshold, factor);
    int64_t E = heads * D, most = up(longest, LANES);
    float slope = 1 / sqrtf(D);
    int64_t chunk = chunk_of(sequences, heads);
#pragma omp parallel
    {
        float *q = aligned_alloc(64, (most * D * 3 + QUERIES * most + QUERIES * D) * sizeof(float));
        float *k_DL = q + most * D, *v = k_DL + most * D, *scores = v + most * D, *out = scores + QUERIES * most;
#pragma omp for schedule(dynamic, chunk)
        for (int64_t job = 0; job < sequences * heads; job++) {
            int64_t sequence = job / heads, head = job % heads, at = head * D;
            int64_t first = bounds_S1[sequence], length = bounds_S1[sequence + 1] - first, L = up(length, LANES);
            const real *rows = qkv_T3E + first * 3 * E;
            gather(rows + E + at, bias_3E + E + at, q, length, L, 3 * E, D);
            transpose(q, k_DL, L, D);
            gather(rows + at, bias_3E + at, q, length, L, 3 * E, D);
            gather(rows + 2 * E + at, bias_3E + 2 * E + at, v, length, L, 3 * E, D);
            int64_t end = length < asked ? length : asked;
            for (int64_t start = 0; start < end; start += QUERIES) {
                int64_t own = end - start < QUERIES ? end - start : QUERIES, padded = up(own, 4);
                for (int64_t c = 0; c < own * D; c += LANES) store(q + start * D + c, load(q + start * D + c) * slope);
                product(q + start * D, D, 1, k_DL, L, scores, L, padded, L, D, 0);
                for (int64_t i = 0; i < own; i++) {
                    float *row = scores + i * L, *stats = stats_HT2 + 2 * (head * tokens + first + start + i);
                    uint32_t place = place_of(first + start + i, heads, head, span);
                    float peak = peak_of(row, length, L);
                    vec total = {0};
                    for (int64_t j = 0; j < L; j += LANES) {
                        vec w = choose(inside(j, length), exponential(load(row + j) - peak), all(0));
                        store(row + j, drop(w, place + j, draw));
                        total += w;
                    }
                    stats[0] = peak, stats[1] = 1 / sum(total);
                }
                product(scores, L, 1, v, D, out, D, padded, D, length, 0);
                for (int64_t i = 0; i < own; i++) {
                    float share = stats_HT2[2 * (head * tokens + first + start + i) + 1];
                    for (int64_t c = 0; c < D; c += LANES)
                        store_real(out_TE + (first + start + i) * E + at + c, load(out + i * D + c) * share);
                }
            }
        }
        free(q);
    }
}

/* Writes a gradient's rows, times `slope`; and their sum, which is the bias's part. */
INLINE void give(const float *from_LD, real *to, float *part, int64_t length, int64_t stride, int64_t D, float slope) {
    for (int64_t c = 0; c < D; c += LANES) {
        vec total = {0};
        for (int64_t row = 0; row < length; row++) {
            vec x = load(from_LD + row * D + c) * slope;
            store_real(to + row * stride + c, x);
            total += x;
        }
        store(part + c, total);
    }
}

/* Gradients of queries, keys and values, without bias; and parts of the bias's, a row of 3 E for each sequence. */
void attention_backward(const real *dout_TE, const real *qkv_T3E, const float *bias_3E, const int32_t *bounds_S1,
                 const float *stats_HT2, real *dqkv_T3E, float *parts_S3E, int64_t tokens, int64_t sequences,
                 int64_t heads, int64_t D, int64_t longest, int64_t asked, int64_t span, int64_t seed,
                 int64_t threshold, float factor) {
    Draw draw = draw_of(seed, threshold, factor);
    int64_t E = heads * D, most = up(longest, LANES);
    float slope = 1 / sqrtf(D);
    int64_t chunk = chunk_of(sequences, heads);
#pragma omp parallel
    {
        float *q = aligned_alloc(64, (most * D * 10 + QUERIES * most * 2) * sizeof(float));
        float *k = q + most * D, *v = k + most * D, *dout = v + most * D, *k_DL = dout + most * D;
        float *v_DL = k_DL + most * D, *dq = v_DL + most * D, *dk = dq + most * D, *dv = dk + most * D;
        float *weights = dv + 2 * most * D, *dscores = weights + QUERIES * most;
#pragma omp for schedule(dynamic, chunk)
        for (int64_t job = 0; job < sequences * heads; job++) {
            int64_t sequence = job / heads, head = job % heads, at = head * D;
            int64_t first = bounds_S1[sequence], length = bounds_S1[sequence + 1] - first, L = up(length, LANES);
            const real *rows = qkv_T3E + first * 3 * E;
            gather(rows + at, bias_3E + at, q, length, L, 3 * E, D);
            gather(rows + E + at, bias_3E + E + at, k, length, L, 3 * E, D);
            gather(rows + 2 * E + at, bias_3E + 2 * E + at, v, length, L, 3 * E, D);
            gather(dout_TE + first * E + at, NULL, dout, length, L, E, D);
            transpose(k, k_DL, L, D);
            transpose(v, v_DL, L, D);
            int64_t end = length < asked ? length : asked;
            for (int64_t start = 0; start < end; start += QUERIES) {
                int64_t own = end - start < QUERIES ? end - start : QUERIES, padded = up(own, 4);
                product(q + start * D, D, 1, k_DL, L, weights, L, padded, L, D, 0);
                product(dout + start * D, D, 1, v_DL, L, dscores, L, padded, L, D, 0);
                for (int64_t i = 0; i < own; i++) {
                    const float *stats = stats_HT2 + 2 * (head * tokens + first + start + i);
                    float *p = weights + i * L, *ds = dscores + i * L;
                    uint32_t place = place_of(first + start + i, heads, head, span);
                    vec along = {0};
                    for (int64_t j = 0; j < L; j += LANES) {
                        vec w = choose(inside(j, length), exponential(load(p + j) * slope - stats[0]) * stats[1], all(0));
                        vec dp = drop(load(ds + j), place + j, draw);
                        store(p + j, w);
                        store(ds + j, dp);
                        along += w * dp;
                    }
                    float shared = sum(along);
                    for (int64_t j = 0; j < L; j += LANES) {
                        vec w = load(p + j);
                        store(ds + j, w * (load(ds + j) - shared));
                        store(p + j, drop(w, place + j, draw));
                    }
                }
                product(weights, 1, L, dout + start * D, D, dv, D, L, D, own, start > 0);
                product(dscores, 1, L, q + start * D, D, dk, D, L, D, own, start > 0);
                product(dscores, L, 1, k, D, dq + start * D, D, padded, D, length, 0);
            }
            memset(dq + end * D, 0, (length - end) * D * sizeof(float));
            real *to = dqkv_T3E + first * 3 * E + at;
            float *part = parts_S3E + sequence * 3 * E + at;
            give(dq, to, part, length, 3 * E, D, slope);
            give(dk, to + E, part + E, length, 3 * E, D, slope);
            give(dv, to + 2 * E, part + 2 * E, length, 3 * E, D, 1);
        }
        free(q);
    }
}
