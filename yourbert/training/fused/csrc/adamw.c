/* The optimizer's pass over what lies in one piece of memory: AdamW, and the sum of squares of its gradient. */
#include "common.h"

/* As many numbers as a part of a sum has. */
#define PART (1 << 16)
/* Numbers ahead. The processor's own guess keeps too few lines of memory on their way, a fifth less. */
#define AHEAD 256

/* What a step does to a vector of numbers. shrink: of the gradient; keep: what decay leaves of the masters. */
typedef struct {
    float shrink, keep, rate, deviation, beta1, beta2, eps;
} Step;

/* Moments below this move nothing, beside an eps of 1e-8. Left to shrink they would end as one of the smallest numbers that
 * there are, and stay it, and some processors compute with those a hundred times slower. */
INLINE vec or_zero(vec moment) { return choose((vec)((bits)moment & 0x7fffffff) < 1e-30f, all(0), moment); }

/* These lines are read once a step: what they take the place of in the cache is read sooner. */
INLINE void fetch(const float *at) { __builtin_prefetch(at + AHEAD, 0, 0); }

INLINE vec moved(float *master, float *mean, float *square, vec gradient, Step step) {
    fetch(master), fetch(mean), fetch(square);
    vec g = gradient * step.shrink, m = load(mean), s = load(square), root;
    m = or_zero(m + (1 - step.beta1) * (g - m));
    s = or_zero(step.beta2 * s + (1 - step.beta2) * g * g);
    for (int lane = 0; lane < LANES; lane++) root[lane] = sqrtf(s[lane]);
    vec x = load(master) * step.keep - step.rate * m / (root * step.deviation + step.eps);
    store(mean, m);
    store(square, s);
    store(master, x);
    return x;
}

/* One step; copy: the masters, rounded, where there is one. */
void adamw(float *master_N, const real *gradient_N, float *mean_N, float *square_N, real *copy_N, int64_t count,
           float shrink, float keep, float rate, float deviation, float beta1, float beta2, float eps) {
    Step step = {shrink, keep, rate, deviation, beta1, beta2, eps};
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < count; at += LANES) {
        vec x = moved(master_N + at, mean_N + at, square_N + at, load_real(gradient_N + at), step);
        if (copy_N) store_real(copy_N + at, x);
    }
}

/* One step of a table of which some rows have a gradient. place: of each row's among the gradients, or -1. met: whether
 * a row ever had one; before that its moments are zero, and decay alone moves it. */
void adamw_rows(float *master_UE, const float *gradient_RE, float *mean_UE, float *square_UE, const int32_t *place_U,
                uint8_t *met_U, int64_t rows, int64_t width, float shrink, float keep, float rate, float deviation,
                float beta1, float beta2, float eps) {
    Step step = {shrink, keep, rate, deviation, beta1, beta2, eps};
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        float *master = master_UE + row * width, *mean = mean_UE + row * width, *square = square_UE + row * width;
        const float *gradient = gradient_RE + place_U[row] * width;
        if (place_U[row] >= 0) met_U[row] = 1;
        for (int64_t c = 0; c < width; c += LANES) {
            if (place_U[row] >= 0) moved(master + c, mean + c, square + c, load(gradient + c), step);
            else if (met_U[row]) moved(master + c, mean + c, square + c, (vec){0}, step);
            else if (keep != 1) store(master + c, load(master + c) * keep);
        }
    }
}

/* The sum of squares. parts: room for one number for each 65,536 of them. */
double squares(const real *gradient_N, double *parts, int64_t count) {
    int64_t many = (count + PART - 1) / PART;
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < many; part++) {
        int64_t end = (part + 1) * PART < count ? (part + 1) * PART : count;
        vec total[4] = {{0}};
        int64_t at = part * PART;
        for (; at + 4 * LANES <= end; at += 4 * LANES)
            for (int v = 0; v < 4; v++) {
                vec g = load_real(gradient_N + at + v * LANES);
                total[v] += g * g;
            }
        for (; at < end; at += LANES) {
            vec g = load_real(gradient_N + at);
            total[0] += g * g;
        }
        parts[part] = sum(total[0] + total[1] + total[2] + total[3]);
    }
    double all_parts = 0;
    for (int64_t part = 0; part < many; part++) all_parts += parts[part];
    return all_parts;
}
