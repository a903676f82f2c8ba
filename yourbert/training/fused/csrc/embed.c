/* The embeddings of tokens: gathered, added, normalised; and what their gradients give to the tables. */
#include "common.h"

typedef struct {
    const float *word, *position, *segment;
    const int64_t *words, *positions, *segments;
    int64_t width;
} Sums;

INLINE vec total_at(Sums s, int64_t row, int64_t c) {
    return load(s.word + s.words[row] * s.width + c) + load(s.position + s.positions[row] * s.width + c) +
           load(s.segment + s.segments[row] * s.width + c);
}

/* out = dropout(norm(word + position + segment)); stats: mean and 1 / deviation of each row, for the backward. */
void embed(const float *word_UE, const float *position_E, const float *segment_2E, const float *weight_E,
           const float *shift_E, const int64_t *words_T, const int64_t *positions_T, const int64_t *segments_T,
           real *out_TE, float *stats_T2, int64_t rows, int64_t width, float eps, int64_t seed, int64_t threshold,
           float factor) {
    Sums s = {word_UE, position_E, segment_2E, words_T, positions_T, segments_T, width};
    Draw draw = draw_of(seed, threshold, factor);
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        vec total = {0}, squares = {0};
        for (int64_t c = 0; c < width; c += LANES) total += total_at(s, row, c);
        float mean = sum(total) / width;
        for (int64_t c = 0; c < width; c += LANES) {
            vec centred = total_at(s, row, c) - mean;
            squares += centred * centred;
        }
        float scale = 1 / sqrtf(sum(squares) / width + eps);
        stats_T2[2 * row] = mean, stats_T2[2 * row + 1] = scale;
        for (int64_t c = 0; c < width; c += LANES) {
            vec normal = (total_at(s, row, c) - mean) * scale;
            vec out = normal * load(weight_E + c) + load(shift_E + c);
            store_real(out_TE + row * width + c, drop(out, (uint32_t)(row * width + c), draw));
        }
    }
}

/* The gradient of the tokens' sums; and parts of those of weight, shift and both segments, in rows of 4 E. */
void embed_backward(const real *dout_TE, const float *word_UE, const float *position_E, const float *segment_2E,
                const float *weight_E, const int64_t *words_T, const int64_t *positions_T, const int64_t *segments_T,
                const float *stats_T2, float *dtotal_TE, float *parts_P4E, int64_t rows, int64_t width, int64_t parts,
                int64_t seed, int64_t threshold, float factor) {
    Sums s = {word_UE, position_E, segment_2E, words_T, positions_T, segments_T, width};
    Draw draw = draw_of(seed, threshold, factor);
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < parts; part++) {
        float *dweight = parts_P4E + part * 4 * width, *dshift = dweight + width;
        memset(dweight, 0, 4 * width * sizeof(float));
        for (int64_t row = rows * part / parts; row < rows * (part + 1) / parts; row++) {
            float mean = stats_T2[2 * row], scale = stats_T2[2 * row + 1];
            float *dsegment = dweight + (2 + segments_T[row]) * width, *dtotal = dtotal_TE + row * width;
            vec plain = {0}, along = {0};
            for (int64_t c = 0; c < width; c += LANES) {
                vec dout = drop(load_real(dout_TE + row * width + c), (uint32_t)(row * width + c), draw);
                vec normal = (total_at(s, row, c) - mean) * scale;
                store(dtotal + c, norm_backward(dout, normal, weight_E + c, dweight + c, dshift + c, &plain, &along));
            }
            float first = sum(plain) / width, second = sum(along) / width;
            for (int64_t c = 0; c < width; c += LANES) {
                vec normal = (total_at(s, row, c) - mean) * scale;
                vec dx = (load(dtotal + c) - first - normal * second) * scale;
                store(dtotal + c, dx);
                store(dsegment + c, load(dsegment + c) + dx);
            }
        }
    }
}

/* Of each position the gradients of its tokens, summed over the sequences that reach it. */
void position_sums(const float *dtotal_TE, const int32_t *bounds_S1, float *out_E, int64_t positions,
                   int64_t sequences, int64_t width) {
#pragma omp parallel for schedule(static)
    for (int64_t position = 0; position < positions; position++)
        for (int64_t c = 0; c < width; c += LANES) {
            vec total = {0};
            for (int64_t sequence = 0; sequence < sequences; sequence++) {
                int64_t row = bounds_S1[sequence] + position;
                if (row < bounds_S1[sequence + 1]) total += load(dtotal_TE + row * width + c);
            }
            store(out_E + position * width + c, total);
        }
}
