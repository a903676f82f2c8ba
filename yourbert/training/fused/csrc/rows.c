/* Over the rows of a packed batch: add and normalise, GELU.
 *
 * Sums over rows have a fixed number of parts, each over rows of its own, so they do not depend on who computes them.
 */
#include "common.h"

/* out = norm(x + dropout(y + bias)); the sum and stats (mean, 1 / deviation of each row) are for the backward. */
void add_norm(const real *x_TE, const real *y_TE, const float *bias_E, const float *weight_E, const float *shift_E,
              real *out_TE, real *sum_TE, float *stats_T2, int64_t rows, int64_t width, float eps, int64_t seed,
              int64_t threshold, float factor) {
    Draw draw = draw_of(seed, threshold, factor);
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        int64_t at = row * width;
        vec total = {0};
        for (int64_t c = 0; c < width; c += LANES) {
            vec y = drop(load_real(y_TE + at + c) + load(bias_E + c), (uint32_t)(at + c), draw);
            vec s = as_kept(load_real(x_TE + at + c) + y);
            store_real(sum_TE + at + c, s);
            total += s;
        }
        float mean = sum(total) / width;
        vec squares = {0};
        for (int64_t c = 0; c < width; c += LANES) {
            vec centred = load_real(sum_TE + at + c) - mean;
            squares += centred * centred;
        }
        float scale = 1 / sqrtf(sum(squares) / width + eps);
        stats_T2[2 * row] = mean, stats_T2[2 * row + 1] = scale;
        for (int64_t c = 0; c < width; c += LANES) {
            vec normal = (load_real(sum_TE + at + c) - mean) * scale;
            store_real(out_TE + at + c, normal * load(weight_E + c) + load(shift_E + c));
        }
    }
}

/* Gradients of x and y; and parts of those of weight, shift and bias, one after the other in a row of 3 E. */
void add_norm_backward(const real *dout_TE, const real *sum_TE, const float *stats_T2, const float *weight_E, real *dx_TE,
                   real *dy_TE, float *parts_P3E, int64_t rows, int64_t width, int64_t parts, int64_t seed,
                   int64_t threshold, float factor) {
    Draw draw = draw_of(seed, threshold, factor);
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < parts; part++) {
        float *dweight = parts_P3E + part * 3 * width, *dshift = dweight + width, *dbias = dshift + width;
        memset(dweight, 0, 3 * width * sizeof(float));
        for (int64_t row = rows * part / parts; row < rows * (part + 1) / parts; row++) {
            int64_t at = row * width;
            float mean = stats_T2[2 * row], scale = stats_T2[2 * row + 1];
            vec plain = {0}, along = {0};
            for (int64_t c = 0; c < width; c += LANES) {
                vec normal = (load_real(sum_TE + at + c) - mean) * scale;
                norm_backward(load_real(dout_TE + at + c), normal, weight_E + c, dweight + c, dshift + c, &plain, &along);
            }
            float first = sum(plain) / width, second = sum(along) / width;
            for (int64_t c = 0; c < width; c += LANES) {
                vec normal = (load_real(sum_TE + at + c) - mean) * scale;
                vec dnormal = load_real(dout_TE + at + c) * load(weight_E + c);
                vec dx = (dnormal - first - normal * second) * scale;
                store_real(dx_TE + at + c, dx);
                vec dy = drop(dx, (uint32_t)(at + c), draw);
                store_real(dy_TE + at + c, dy);
                store(dbias + c, load(dbias + c) + dy);
            }
        }
    }
}

/* The share of a normal distribution below x, and its density there. erf by formula 7.1.26 of Abramowitz and Stegun,
 * to 1.5e-7. */
INLINE vec below(vec x, vec *density) {
    vec e = exponential(x * x * -0.5f);
    vec size = choose(x < 0, -x, x);
    vec t = 1.0f / (size * (0.3275911f * 0.70710678f) + 1.0f);
    vec tail = ((((t * 1.061405429f - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
    tail *= e * 0.5f;
    *density = e * 0.39894228f;
    return choose(x < 0, tail, 1.0f - tail);
}

/* gelu(x + bias), and its slope there, by which the backward multiplies. */
void gelu(const real *x_TF, const float *bias_F, real *out_TF, real *slope_TF, int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t c = 0; c < width; c += LANES) {
            int64_t at = row * width + c;
            vec x = load_real(x_TF + at) + load(bias_F + c), density;
            vec share = below(x, &density);
            store_real(out_TF + at, x * share);
            store_real(slope_TF + at, share + x * density);
        }
    }
}

/* The gradient of x, and parts of that of bias. */
void gelu_backward(const real *dout_TF, const real *slope_TF, real *dx_TF, float *parts_PF, int64_t rows, int64_t width,
               int64_t parts) {
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < parts; part++) {
        float *dbias = parts_PF + part * width;
        memset(dbias, 0, width * sizeof(float));
        for (int64_t row = rows * part / parts; row < rows * (part + 1) / parts; row++) {
            for (int64_t c = 0; c < width; c += LANES) {
                int64_t at = row * width + c;
                vec dx = load_real(dout_TF + at) * load_real(slope_TF + at);
                store_real(dx_TF + at, dx);
                store(dbias + c, load(dbias + c) + dx);
            }
        }
    }
}

/* The sums of the rows of four tables that lie one after the other, of 3 E, F, 3 E and 3 E columns: parts that others
 * left. */
void sum_parts(const float *parts, float *out, int64_t count_0, int64_t count_1, int64_t count_2, int64_t count_3,
               int64_t width, int64_t wide) {
    const int64_t counts[] = {count_0, count_1, count_2, count_3}, widths[] = {3 * width, wide, 3 * width, 3 * width};
    for (int table = 0; table < 4; table++) {
        int64_t columns = widths[table];
#pragma omp parallel for schedule(static)
        for (int64_t c = 0; c < columns; c += LANES) {
            vec total = {0};
            for (int64_t part = 0; part < counts[table]; part++) total += load(parts + part * columns + c);
            store(out + c, total);
        }
        parts += counts[table] * columns, out += columns;
    }
}
