// What a step does with the whole catalogue, for processors with AVX-512 and bfloat16 products.
//
// All of it is one inner loop: the products of a few bfloat16 rows with 64 columns, kept in registers and used there.
// The plain PyTorch forms beside each call (ops/cross_entropy.py, ops/maximum.py) are the reference.
//
// Shapes: B batch, N items, K heads, D state width; "depth" is the length of a product, padded to an even number.
#include <immintrin.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <type_traits>
#include <vector>

namespace {

constexpr int kLanes = 16, kVectors = 4, kColumns = kLanes * kVectors, kRows = 4;
constexpr int kContrasts = 3, kSketch = 1 + kContrasts, kFirst = kContrasts;  // rows of the first look: all but one
constexpr int64_t kTileItems = 256, kMostHeads = 64;

using bf16 = uint16_t;

inline bf16 rounded(float x) {
  __m128bh y = _mm_cvtneps_pbh(_mm_set_ss(x));
  return static_cast<bf16>(_mm_extract_epi16(reinterpret_cast<__m128i&>(y), 0));
}

inline float widened(bf16 x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float y;
  std::memcpy(&y, &bits, 4);
  return y;
}

// Columns as the products want them: [group of 64][depth / 2][64][2], zero where there is no column or no depth.
// source(column, depth) gives a float.
template <class Source>
void pack(bf16* packed, int64_t columns, int64_t depth, Source source) {
  const int64_t pairs = (depth + 1) / 2, groups = (columns + kColumns - 1) / kColumns;
#pragma omp parallel for schedule(static)
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t p = 0; p < pairs; ++p)
      for (int64_t c = 0; c < kColumns; ++c)
        for (int64_t half = 0; half < 2; ++half) {
          const int64_t column = g * kColumns + c, at = 2 * p + half;
          const bool real = column < columns && at < depth;
          packed[((g * pairs + p) * kColumns + c) * 2 + half] = real ? rounded(source(column, at)) : bf16{0};
        }
}

// acc[i][v] += row i · column 16 v + lane, over `pairs` pairs of bfloat16; rows at rows[i], 64 packed columns.
// Only the first Vectors of the 4 vectors of columns are used. From pair to pair a row goes on by row_step pairs, and
// the columns by column_step.
template <int Vectors, int Rows>
[[gnu::always_inline]] inline void products(__m512 (&acc)[Rows][kVectors], const bf16* const (&rows)[Rows], const bf16* columns,
                     int64_t pairs, int64_t row_step = 1, int64_t column_step = kColumns) {
  for (int64_t p = 0; p < pairs; ++p) {
    __m512bh column[Vectors];
    for (int v = 0; v < Vectors; ++v)
      column[v] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(columns + (p * column_step + v * kLanes) * 2));
    for (int i = 0; i < Rows; ++i) {
      int32_t pair;
      std::memcpy(&pair, rows[i] + 2 * p * row_step, 4);
      const __m512bh spread = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
      for (int v = 0; v < Vectors; ++v) acc[i][v] = _mm512_dpbf16_ps(acc[i][v], spread, column[v]);
    }
  }
}

inline __mmask16 lanes_below(int64_t count) {
  return static_cast<__mmask16>((1u << std::clamp<int64_t>(count, 0, kLanes)) - 1);
}

// The sum over the lanes of each of 16 vectors, in one vector.
inline __m512 sums(const __m512 (&x)[kLanes]) {
  __m512 two[8], four[4];
  for (int i = 0; i < 8; ++i)
    two[i] = _mm512_add_ps(_mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]), _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]));
  for (int i = 0; i < 4; ++i) {
    const __m512d a = _mm512_castps_pd(two[2 * i]), b = _mm512_castps_pd(two[2 * i + 1]);
    four[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
  }
  const auto halves = [](__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  };
  return halves(halves(four[0], four[1]), halves(four[2], four[3]));
}

// e^x to about 2^-20; 0 below e^-87, infinity above e^88.7; NaN stays NaN.
inline __m512 exponential(__m512 x) {
  const __m512 t = _mm512_mul_ps(_mm512_max_ps(_mm512_set1_ps(-87.3f), x), _mm512_set1_ps(1.44269504088896341f));
  const __m512 n = _mm512_roundscale_ps(t, 8), r = _mm512_sub_ps(t, n);  // 2^t = 2^n 2^r, |r| <= 1/2
  __m512 y = _mm512_set1_ps(1.3333558e-3f);
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(9.6181291e-3f));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(5.5504109e-2f));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(2.4022651e-1f));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(6.9314718e-1f));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(y, n);
}

}  // namespace

extern "C" {

int64_t valuerec_most_heads() { return kMostHeads; }

int64_t valuerec_packed_size(int64_t columns, int64_t depth) {
  return (columns + kColumns - 1) / kColumns * kColumns * ((depth + 1) / 2) * 2;
}

// weight_NB = e^(item · state + bias − offset) in bfloat16, the sum of each state's over items in float64, and
// by_state_BD = Σ_n weight_NB item_ND of these rounded weights and items.
// item: float [N][D], rounded to bfloat16 on the way; state: float [B][D]; packed: workspace of
// valuerec_packed_size(B, D). weight has a row of `stride` >= B, rounded up to a multiple of 64 by the caller.
void valuerec_softmax_weights(int64_t N, int64_t B, int64_t D, const float* item, const float* bias, const float* state,
                              const float* offset, bf16* packed, bf16* weight, int64_t stride, double* total,
                              float* by_state) {
  pack(packed, B, D, [&](int64_t b, int64_t d) { return state[b * D + d]; });
  const int64_t groups = (B + kColumns - 1) / kColumns, tiles = (N + kTileItems - 1) / kTileItems;
  const int64_t pairs = (D + 1) / 2, wide = (D + kColumns - 1) / kColumns * kColumns;
  std::vector<float> partial(tiles * groups * kColumns);
  const auto low = [](__m512 x) {
    const __m256bh y = _mm512_cvtneps_pbh(x);
    return reinterpret_cast<const __m256i&>(y);
  };
  const auto woven = [](__m256i even, __m256i odd) {  // even and odd in turn
    return _mm512_or_si512(_mm512_cvtepu16_epi32(even), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
  };
  std::fill(by_state, by_state + B * D, 0.0f);
#pragma omp parallel
  {
    std::vector<bf16> rows_of(kTileItems * pairs * 2 + kLanes), items_of(kTileItems * wide), weights_of(kTileItems * kColumns);
    std::vector<float> own(groups * kColumns * wide);
#pragma omp for schedule(static)
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t first = tile * kTileItems, last = std::min(N, first + kTileItems);
      const int64_t tile_pairs = (last - first + 1) / 2;
      for (int64_t p = 0; p < tile_pairs; ++p)  // the tile's items, as rows and woven by pairs of items
        for (int64_t d = 0; d < wide; d += kLanes) {
          __m256i half[2];
          for (int64_t i = 0; i < 2; ++i) {
            const int64_t n = first + 2 * p + i;
            half[i] = low(_mm512_maskz_loadu_ps(n < last ? lanes_below(D - d) : 0, item + n * D + d));
            _mm256_mask_storeu_epi16(rows_of.data() + (2 * p + i) * pairs * 2 + d, lanes_below(2 * pairs - d), half[i]);
          }
          _mm512_storeu_si512(items_of.data() + (p * wide + d) * 2, woven(half[0], half[1]));
        }
      for (int64_t g = 0; g < groups; ++g) {
        const bf16* columns = packed + g * pairs * kColumns * 2;
        __m512 minus[kVectors], sum[kVectors];
        for (int v = 0; v < kVectors; ++v) {
          const int64_t b = g * kColumns + v * kLanes;
          // Beyond the batch: minus infinity, so that what is stored there is as good as zero.
          minus[v] = _mm512_mask_loadu_ps(_mm512_set1_ps(std::numeric_limits<float>::infinity()), lanes_below(B - b),
                                          offset + b);
          sum[v] = _mm512_setzero_ps();
        }
        for (int64_t n = first; n < last; n += kRows) {
          const bf16* rows[kRows];
          __m512 acc[kRows][kVectors];
          for (int i = 0; i < kRows; ++i) {
            const int64_t at = std::min(n + i, last - 1);
            rows[i] = rows_of.data() + (at - first) * pairs * 2;
            // Beyond the tile, once more the last item, made as good as zero.
            const __m512 start = _mm512_set1_ps(n + i < last ? bias[at] : -std::numeric_limits<float>::infinity());
            for (int v = 0; v < kVectors; ++v) acc[i][v] = _mm512_sub_ps(start, minus[v]);
          }
          products<kVectors>(acc, rows, columns, pairs);
          __m256i y[kRows][kVectors];
          for (int i = 0; i < kRows; ++i)
            for (int v = 0; v < kVectors; ++v) {
              const __m512 exact = exponential(acc[i][v]);
              sum[v] = _mm512_add_ps(sum[v], exact);
              y[i][v] = low(exact);
            }
          for (int i = 0; i < kRows && n + i < last; ++i)
            for (int v = 0; v < kVectors; ++v)
              _mm256_storeu_si256(reinterpret_cast<__m256i*>(weight + (n + i) * stride + g * kColumns + v * kLanes), y[i][v]);
          for (int i = 0; i < kRows; i += 2)
            for (int v = 0; v < kVectors; ++v)
              _mm512_storeu_si512(weights_of.data() + ((n + i - first) / 2 * kColumns + v * kLanes) * 2, woven(y[i][v], y[i + 1][v]));
        }
        for (int v = 0; v < kVectors; ++v)
          _mm512_storeu_ps(partial.data() + (tile * groups + g) * kColumns + v * kLanes, sum[v]);
        for (int64_t b = 0; b < kColumns; b += kRows)
          for (int64_t d = 0; d < wide; d += kColumns) {
            float* const out = own.data() + (g * kColumns + b) * wide + d;
            __m512 acc[kRows][kVectors];
            for (int i = 0; i < kRows; ++i)
              for (int v = 0; v < kVectors; ++v) acc[i][v] = _mm512_loadu_ps(out + i * wide + v * kLanes);
            const bf16* weights[kRows];
            for (int i = 0; i < kRows; ++i) weights[i] = weights_of.data() + (b + i) * 2;
            products<kVectors>(acc, weights, items_of.data() + d * 2, tile_pairs, kColumns, wide);
            for (int i = 0; i < kRows; ++i)
              for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(out + i * wide + v * kLanes, acc[i][v]);
          }
      }
    }
#pragma omp for schedule(static) ordered  // thread after thread: the same sum each time
    for (int64_t thread = 0; thread < omp_get_num_threads(); ++thread)
#pragma omp ordered
      for (int64_t b = 0; b < B; ++b)
        for (int64_t d = 0; d < D; ++d) by_state[b * D + d] += own[b * wide + d];
  }
  for (int64_t b = 0; b < B; ++b) {
    total[b] = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) total[b] += partial[tile * groups * kColumns + b];
  }
}

// gradient_ND (+)= Σ_b weight_NB scale_B state_BD and bias_gradient_N (+)= Σ_b weight_NB scale_B.
// packed: workspace of valuerec_packed_size(D, stride) + stride; stride is a multiple of 64, weight beyond B is ignored.
void valuerec_item_gradient(int64_t N, int64_t B, int64_t D, const bf16* weight, int64_t stride, const float* scale,
                            const float* state, bf16* packed, float* gradient, float* bias_gradient, int64_t add) {
  const int64_t pairs = stride / 2, groups = (D + kColumns - 1) / kColumns;
  pack(packed, D, stride, [&](int64_t d, int64_t b) { return b < B ? state[b * D + d] * scale[b] : 0.0f; });
  bf16* scales = packed + groups * pairs * kColumns * 2;
  for (int64_t b = 0; b < stride; ++b) scales[b] = b < B ? rounded(scale[b]) : bf16{0};
#pragma omp parallel for schedule(static)
  for (int64_t quad = 0; quad < (N + kRows - 1) / kRows; ++quad) {
    const int64_t n = quad * kRows;
    const int real = static_cast<int>(std::min<int64_t>(kRows, N - n));
    const bf16* rows[kRows];
    for (int i = 0; i < kRows; ++i) rows[i] = weight + std::min(n + i, N - 1) * stride;
    for (int64_t g = 0; g < groups; ++g) {
      __m512 acc[kRows][kVectors];
      for (int i = 0; i < kRows; ++i)
        for (int v = 0; v < kVectors; ++v) acc[i][v] = _mm512_setzero_ps();
      products<kVectors>(acc, rows, packed + g * pairs * kColumns * 2, pairs);
      for (int i = 0; i < real; ++i)
        for (int v = 0; v < kVectors; ++v) {
          const int64_t d = g * kColumns + v * kLanes;
          const __mmask16 mask = lanes_below(D - d);
          float* out = gradient + (n + i) * D + d;
          const __m512 before = add ? _mm512_maskz_loadu_ps(mask, out) : _mm512_setzero_ps();
          _mm512_mask_storeu_ps(out, mask, _mm512_add_ps(before, acc[i][v]));
        }
    }
    for (int i = 0; i < real; ++i) {
      __m512 sum = _mm512_setzero_ps();
      for (int64_t b = 0; b < stride; b += 2 * kLanes)
        sum = _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(_mm512_loadu_si512(rows[i] + b)),
                               reinterpret_cast<__m512bh>(_mm512_loadu_si512(scales + b)));
      bias_gradient[n + i] = _mm512_reduce_add_ps(sum) + (add ? bias_gradient[n + i] : 0.0f);
    }
  }
}

// What the mixture makes of each item's contrasts: along float [N][kContrasts] = √K (contrast · mixture) and
// rest float [N] = √K of what is left of `apart`, the squared distance of the mixture from the mean.
// contrast: float [N][kContrasts][K].
void valuerec_slopes(int64_t N, int64_t K, const float* contrast, const float* mixture, float apart, float* along,
                     float* rest) {
  const float root = std::sqrt(static_cast<float>(K));
#pragma omp parallel for schedule(static)
  for (int64_t n = 0; n < N; ++n) {
    float left = apart;
    for (int64_t j = 0; j < kContrasts; ++j) {
      const float* own = contrast + (n * kContrasts + j) * K;
      __m512 sum = _mm512_setzero_ps();
      for (int64_t k = 0; k < K; k += kLanes) {
        const __mmask16 mask = lanes_below(K - k);
        sum = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, own + k), _mm512_maskz_loadu_ps(mask, mixture + k), sum);
      }
      const float slope = _mm512_reduce_add_ps(sum);
      left -= slope * slope;
      along[n * kContrasts + j] = root * slope;
    }
    rest[n] = root * std::sqrt(std::max(left, 0.0f) + 4e-7f * apart);
  }
}

// The exact best penalised value of each state over all items, by branch and bound with the spread sketch.
//
// An item is scored by its K heads in float32 only if its sketch can't rule out that it reaches the best value found.
// See ops/sketch.py for the bound. Arguments:
//   rows       bfloat16 [N][kSketch][2 * pairs]: mean head and contrasts of each item; rows_bias float [N][kSketch]
//   rounding, norm   float [N][kSketch]: each of these products may be off by rounding + apart * norm, in units of
//              length[b], where apart bounds how far bfloat16 moves a state, in the same units
//   slope      float [N][kContrasts]: what each contrast adds to the mixture; rest float [N]: c, the mixture's share of the
//              residual; residual float [N][2]: P, the residual's norm, without the last contrast and with it, in units
//              of length[b]
//   heads      float [N][K][D], heads_bias float [N][K]; mixture float [K]
//   form       0: mixture / (1 + penalty spread); 1: mixture − penalty spread
//   length     float [B]: a bound on the norm of (state, 1)
//   most       items a state may cost; beyond it the state is given up (item −1)
// Out: value float [B], item int64 [B], scored int64 [B].
void valuerec_best(int64_t N, int64_t B, int64_t D, int64_t K, const bf16* rows, int64_t pairs, const float* rows_bias,
                   const float* rounding, const float* norm, float apart, const float* slope, const float* rest, const float* residual,
                   const float* heads, const float* heads_bias, const float* mixture, int64_t form, float penalty,
                   const float* state, const float* length, int64_t most, bf16* packed, int64_t parts,
                   float* value, int64_t* item, int64_t* scored) {
  pack(packed, B, D, [&](int64_t b, int64_t d) { return state[b * D + d]; });
  const int64_t groups = (B + kColumns - 1) / kColumns;
  struct Best {
    float value = -std::numeric_limits<float>::infinity();
    int64_t item = -1, scored = 0;
  };
  std::vector<Best> found(parts * B);
  const auto exact = [&](int64_t n, int64_t b) {
    alignas(64) float q[kMostHeads];
    const float* own = state + b * D;
    __m512 sum = _mm512_setzero_ps(), mixed = sum, square = sum;
    for (int64_t k = 0; k < K; k += kLanes) {
      const __mmask16 real = lanes_below(K - k);
      __m512 part[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) {
        part[i] = _mm512_setzero_ps();
        if (k + i >= K) continue;
        const float* head = heads + (n * K + k + i) * D;
        for (int64_t d = 0; d < D; d += kLanes) {
          const __mmask16 mask = lanes_below(D - d);
          part[i] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, head + d), _mm512_maskz_loadu_ps(mask, own + d), part[i]);
        }
      }
      const __m512 value = _mm512_maskz_add_ps(real, sums(part), _mm512_maskz_loadu_ps(real, heads_bias + n * K + k));
      _mm512_store_ps(q + k, value);
      sum = _mm512_add_ps(sum, value);
      mixed = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(real, mixture + k), value, mixed);
    }
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / static_cast<float>(K));
    for (int64_t k = 0; k < K; k += kLanes) {
      const __m512 apart = _mm512_maskz_sub_ps(lanes_below(K - k), _mm512_load_ps(q + k), mean);
      square = _mm512_fmadd_ps(apart, apart, square);
    }
    const float spread = std::sqrt(_mm512_reduce_add_ps(square) / static_cast<float>(K));
    const float mixture_value = _mm512_reduce_add_ps(mixed);
    return form == 0 ? mixture_value / (1 + penalty * spread) : mixture_value - penalty * spread;
  };
  const auto last_row = [&](const bf16* row, int64_t b) {
    __m512 sum = _mm512_setzero_ps();
    for (int64_t d = 0; d < D; d += kLanes) {
      const __m256i low = _mm256_maskz_loadu_epi16(lanes_below(D - d), row + d);
      const __m512 wide = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(low), 16));
      sum = _mm512_fmadd_ps(wide, _mm512_maskz_loadu_ps(lanes_below(D - d), state + b * D + d), sum);
    }
    return _mm512_reduce_add_ps(sum);
  };
#pragma omp parallel for schedule(dynamic, 1) collapse(2)
  for (int64_t part = 0; part < parts; ++part)
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t begin = g * kColumns, columns = std::min<int64_t>(kColumns, B - begin);
      const int vectors = static_cast<int>((columns + kLanes - 1) / kLanes);
      Best* best = found.data() + part * B + begin;
      // The test, for one state: x = (A + slack) scale − shift, y = c scale; scale 0 and shift 1 rule everything out.
      alignas(64) float scale[kColumns], shift[kColumns], far[kColumns];
      const auto settle = [&](int64_t c) {
        const float v = best[c].value;
        if (best[c].scored > most) {
          scale[c] = 0, shift[c] = std::numeric_limits<float>::infinity();
        } else if (form == 1) {
          scale[c] = 1, shift[c] = v - 4e-6f * std::fabs(v);
        } else if (v > 1e-12f) {
          scale[c] = (1 + 4e-6f) / v, shift[c] = 1;
        } else {  // the penalty raises negative values: nothing can be ruled out yet
          scale[c] = 0, shift[c] = -std::numeric_limits<float>::infinity();
        }
      };
      const auto attempt = [&](int64_t n, int64_t c) {
        const float v = exact(n, begin + c);
        Best& own = best[c];
        ++own.scored;
        if (std::isnan(v)) own.scored = most + 1;  // given up: the tiles have the plain way's answer
        if (v > own.value || (v == own.value && n < own.item)) own.value = v, own.item = n;
        settle(c);
      };
      for (int64_t c = 0; c < kColumns; ++c) {
        far[c] = c < columns ? length[begin + c] : 0.0f;
        scale[c] = 0, shift[c] = std::numeric_limits<float>::infinity();
        if (c < columns) settle(c);
      }
      const __m512 zero = _mm512_setzero_ps(), lambda = _mm512_set1_ps(penalty);
      const __m512 lambda2 = _mm512_mul_ps(lambda, lambda);
      const int64_t first = N * part / parts, last = N * (part + 1) / parts;
      for (int64_t n = first; n < last; ++n) {
        const bf16* own[kFirst];
        __m512 acc[kFirst][kVectors];
        for (int i = 0; i < kFirst; ++i) {
          own[i] = rows + (n * kSketch + i) * pairs * 2;
          for (int v = 0; v < kVectors; ++v) acc[i][v] = _mm512_set1_ps(rows_bias[n * kSketch + i]);
        }
        const bf16* group = packed + g * pairs * kColumns * 2;
        switch (vectors) {  // the last group may have fewer states
          case 1: products<1>(acc, own, group, pairs); break;
          case 2: products<2>(acc, own, group, pairs); break;
          case 3: products<3>(acc, own, group, pairs); break;
          default: products<kVectors>(acc, own, group, pairs);
        }
        const float* bend = slope + n * kContrasts;
        float slack[kSketch];
        for (int i = 0; i < kSketch; ++i) slack[i] = rounding[n * kSketch + i] + apart * norm[n * kSketch + i];
        float total_slack = slack[0];
        for (int i = 1; i < kFirst; ++i) total_slack += std::fabs(bend[i - 1]) * slack[i];
        const float last_bend = bend[kContrasts - 1];  // in the first look a part of the residual
        const float share = std::sqrt(rest[n] * rest[n] + last_bend * last_bend) * (1 + 1e-6f);
        for (int v = 0; v < vectors; ++v) {
          const __m512 h = _mm512_load_ps(far + v * kLanes), s = _mm512_load_ps(scale + v * kLanes);
          __m512 a = _mm512_fmadd_ps(_mm512_set1_ps(total_slack), h, acc[0][v]);
          for (int i = 1; i < kFirst; ++i) a = _mm512_fmadd_ps(_mm512_set1_ps(bend[i - 1]), acc[i][v], a);
          const __m512 x = _mm512_fmsub_ps(a, s, _mm512_load_ps(shift + v * kLanes));
          const __m512 y = _mm512_mul_ps(_mm512_set1_ps(share), s);
          const __m512 p = _mm512_mul_ps(_mm512_set1_ps(residual[2 * n]), h);
          const __m512 z = _mm512_fmadd_ps(y, p, x);
          __mmask16 open = _mm512_cmp_ps_mask(z, zero, _CMP_NLT_UQ);  // without any penalty; NaN rules nothing out
          if (!open) continue;
          __m512 l2 = zero;
          for (int i = 1; i < kFirst; ++i) {
            const __m512 sure = _mm512_max_ps(
                _mm512_fnmadd_ps(_mm512_set1_ps(slack[i]), h, _mm512_abs_ps(acc[i][v])), zero);
            l2 = _mm512_fmadd_ps(sure, sure, l2);
          }
          // y < λ: best at ρ* = l y / √(λ² − y²); else increasing in ρ, best at P.
          const __mmask16 flat = _mm512_cmp_ps_mask(y, lambda, _CMP_LT_OQ);
          const __m512 at_best = _mm512_mul_ps(l2, _mm512_fnmadd_ps(y, y, lambda2));
          const __m512 at_end = _mm512_mul_ps(lambda2, _mm512_fmadd_ps(p, p, l2));
          const __m512 need = _mm512_mask_mov_ps(at_end, flat, at_best), have = _mm512_mask_mov_ps(z, flat, x);
          open &= _mm512_cmp_ps_mask(have, zero, _CMP_NLT_UQ) &
                  _mm512_cmp_ps_mask(_mm512_mul_ps(have, have), _mm512_mul_ps(need, _mm512_set1_ps(1 - 4e-6f)),
                                     _CMP_NLT_UQ);
          if (!open) continue;
          alignas(64) float first_x[kLanes], first_l2[kLanes];
          _mm512_store_ps(first_x, x);
          _mm512_store_ps(first_l2, l2);
          while (open) {
            const int lane = __builtin_ctz(open);
            const int64_t c = v * kLanes + lane;
            open = static_cast<__mmask16>(open & (open - 1));
            if (c >= columns || best[c].scored > most) continue;
            // The second look, with the last contrast.
            const float t = last_row(rows + (n * kSketch + kFirst) * pairs * 2, begin + c) + rows_bias[n * kSketch + kFirst];
            const float off = slack[kFirst] * far[c], sure = std::max(std::fabs(t) - off, 0.0f);
            const float x2 = first_x[lane] + (last_bend * t + std::fabs(last_bend) * off) * scale[c];
            const float y2 = rest[n] * scale[c], p2 = residual[2 * n + 1] * far[c], l22 = first_l2[lane] + sure * sure;
            const bool level = y2 < penalty;
            const float have2 = level ? x2 : x2 + y2 * p2;
            const float need2 = level ? l22 * (penalty * penalty - y2 * y2) : penalty * penalty * (p2 * p2 + l22);
            if (!(have2 < 0) && !(have2 * have2 < need2 * (1 - 4e-6f))) attempt(n, c);
          }
        }
      }
    }
  for (int64_t b = 0; b < B; ++b) {
    Best best;
    bool given_up = false;
    for (int64_t part = 0; part < parts; ++part) {
      const Best& own = found[part * B + b];
      given_up |= own.scored > most;
      best.scored += own.scored;
      if (own.item >= 0 && (own.value > best.value || (own.value == best.value && own.item < best.item)))
        best.value = own.value, best.item = own.item;
    }
    value[b] = best.value, item[b] = given_up ? -1 : best.item, scored[b] = best.scored;
  }
}

// One step of Adam on the rows of a table that have a gradient; see ops/row_step.py.
// row: int64 [R], ascending; order: int64 [R], where the gradient of each lies in gradient: float [R][C].
// table, moment: float [rows][C]; last: int32 [rows], the step at which each row last moved.
void valuerec_row_step(int64_t R, int64_t C, const int64_t* row, const int64_t* order, const float* gradient,
                       float* table, float* moment, int32_t* last, int64_t step, float rate, float forget,
                       float epsilon) {
  std::vector<int64_t> starts;
  for (int64_t r = 0; r < R; ++r)
    if (r == 0 || row[r] != row[r - 1]) starts.push_back(r);
  starts.push_back(R);
  const double keep = 1.0 - static_cast<double>(forget);
  const __m512 share = _mm512_set1_ps(forget), down = _mm512_set1_ps(-rate), least = _mm512_set1_ps(epsilon);
  const __m512 warm = _mm512_set1_ps(static_cast<float>(1.0 - std::pow(keep, static_cast<double>(step))));
#pragma omp parallel for schedule(dynamic, 16)
  for (int64_t g = 0; g < static_cast<int64_t>(starts.size()) - 1; ++g) {
    const int64_t own = row[starts[g]];
    const __m512 left =
        _mm512_set1_ps(static_cast<float>(std::pow(keep, static_cast<double>(step - last[own]))));
    last[own] = static_cast<int32_t>(step);
    for (int64_t c = 0; c < C; c += kLanes) {
      const __mmask16 mask = lanes_below(C - c);
      __m512 sum = _mm512_setzero_ps();
      for (int64_t r = starts[g]; r < starts[g + 1]; ++r)
        sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, gradient + order[r] * C + c));
      float* const at = moment + own * C + c;
      const __m512 second = _mm512_fmadd_ps(_mm512_mul_ps(sum, sum), share,
                                            _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, at), left));
      _mm512_mask_storeu_ps(at, mask, second);
      const __m512 scale = _mm512_add_ps(_mm512_sqrt_ps(_mm512_div_ps(second, warm)), least);
      float* const weight = table + own * C + c;
      _mm512_mask_storeu_ps(weight, mask,
                            _mm512_fmadd_ps(down, _mm512_div_ps(sum, scale), _mm512_maskz_loadu_ps(mask, weight)));
    }
  }
}

// count[b] = how many of row b's N scores are not below own[b]; a NaN on either side counts.
void valuerec_count_not_below(int64_t B, int64_t N, const float* score, const float* own, int64_t* count) {
#pragma omp parallel for schedule(static)
  for (int64_t b = 0; b < B; ++b) {
    const __m512 mine = _mm512_set1_ps(own[b]);
    int64_t found = 0;
    for (int64_t n = 0; n < N; n += kLanes) {
      const __mmask16 real = lanes_below(N - n);
      const __m512 theirs = _mm512_maskz_loadu_ps(real, score + b * N + n);
      found += __builtin_popcount(_mm512_mask_cmp_ps_mask(real, theirs, mine, _CMP_NLT_UQ));
    }
    count[b] = found;
  }
}

// Which items may be among the best of each state, by bounds on bfloat16 products, and the softmax's sum.
//
// A score may be off by rounding[n] length[b] + norm[n] apart[b]. An item is told of where its score and that reach the
// want[b]-th largest of all scores less that. A state is the sum of two columns, itself in bfloat16 and the rest of it,
// so that its own rounding, which all items share, is small; of 16 lanes 8 hold the one and 8 the other. Arguments:
//   rows       bfloat16 [N][2 * pairs]; bias, rounding, norm float [N]
//   state      float [B][D]; length, apart float [B]; want int64 [B], from 1 to N
//   most       items told of a state; where more may be among the best, count is most + 1 and none is told
//   summed     whether largest and total are asked for
// Out: item int64 [B][most], ascending; score float [B][most]; count int64 [B]; e^largest[b] total[b] = Σ_n e^score.
void valuerec_candidates(int64_t N, int64_t B, int64_t D, const bf16* rows, const float* bias, const float* rounding,
                         const float* norm, const float* state, const float* length, const float* apart,
                         const int64_t* want, int64_t most, int64_t summed, bf16* packed,
                         int64_t* item, float* score, int64_t* count, float* largest, double* total) {
  struct May {
    float low, high, score;
    int64_t item;
  };
  const float infinity = std::numeric_limits<float>::infinity();
  constexpr int kHalf = kLanes / 2, kStates = kVectors * kHalf;
  const int64_t pairs = (D + 1) / 2, groups = (B + kStates - 1) / kStates;
  pack(packed, groups * kColumns, D, [&](int64_t column, int64_t d) {
    const int64_t b = column / kLanes * kHalf + column % kHalf;
    if (b >= B) return 0.0f;
    const float x = state[b * D + d];
    return column % kLanes < kHalf ? x : x - widened(rounded(x));
  });
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t begin = g * kStates, states = std::min<int64_t>(kStates, B - begin);
    const int vectors = static_cast<int>((states + kHalf - 1) / kHalf);
    const bf16* group = packed + g * pairs * kColumns * 2;
    float least[kStates];  // what a score and its error must reach
    std::vector<May> found[kStates];
    std::vector<float> lows;
    int64_t full[kStates];
    const auto give_up = [&](int64_t c) {
      least[c] = infinity, full[c] = -1;
      found[c].clear();
    };
    const auto prune = [&](int64_t c) {
      std::vector<May>& mine = found[c];
      const int64_t place = want[begin + c] - 1;
      if (static_cast<int64_t>(mine.size()) <= place) return;
      lows.clear();
      for (const May& each : mine) lows.push_back(each.low);
      std::nth_element(lows.begin(), lows.begin() + place, lows.end(), std::greater<float>());
      least[c] = lows[place];
      mine.erase(std::remove_if(mine.begin(), mine.end(), [&](const May& each) { return each.high < least[c]; }), mine.end());
    };
    const auto keep = [&](int64_t c, int64_t n, float x, float e) {
      if (full[c] < 0) return;
      if (!std::isfinite(x) || !std::isfinite(e)) return give_up(c);
      found[c].push_back({x - e, x + e, x, n});
      if (static_cast<int64_t>(found[c].size()) < full[c]) return;
      prune(c);
      const int64_t left = static_cast<int64_t>(found[c].size());
      if (left > most) give_up(c);
      else full[c] = std::max(full[c], 2 * left);
    };
    __m512 offset[kVectors], sum[kVectors], far[kVectors], off[kVectors];
    __mmask16 real[kVectors];
    const __mmask16 first_half = 0x00ff;
    for (int64_t c = 0; c < kStates; ++c) {
      least[c] = -infinity;
      full[c] = c < states ? 2 * want[begin + c] + 64 : 0;
    }
    for (int v = 0; v < kVectors; ++v) {
      real[v] = lanes_below(std::min<int64_t>(kHalf, states - v * kHalf));
      offset[v] = _mm512_set1_ps(-infinity), sum[v] = _mm512_setzero_ps();
      far[v] = _mm512_maskz_loadu_ps(real[v], length + begin + v * kHalf);
      off[v] = _mm512_maskz_loadu_ps(real[v], apart + begin + v * kHalf);
    }
    double totals[kStates] = {};
    const auto look = [&](auto vector_count, int64_t n, int64_t last) {  // at items n to n + kRows − 1 below last
      constexpr int kUsed = decltype(vector_count)::value;
      const int items = static_cast<int>(std::min<int64_t>(kRows, last - n));
      const bf16* own[kRows];
      __m512 acc[kRows][kVectors];
      for (int i = 0; i < kRows; ++i) {
        const int64_t at = std::min(n + i, last - 1);
        own[i] = rows + at * pairs * 2;
        for (int v = 0; v < kUsed; ++v) acc[i][v] = _mm512_maskz_mov_ps(first_half, _mm512_set1_ps(bias[at]));
      }
      products<kUsed>(acc, own, group, pairs);
      for (int v = 0; v < kUsed; ++v) {
        for (int i = 0; i < kRows; ++i)  // the two columns of a state; both halves then have their sum
          acc[i][v] = _mm512_add_ps(acc[i][v], _mm512_shuffle_f32x4(acc[i][v], acc[i][v], 0x4e));
        for (int i = 0; i < items; ++i) {
          const __m512 floor = _mm512_maskz_loadu_ps(first_half, least + v * kHalf);
          const __m512 error = _mm512_fmadd_ps(_mm512_set1_ps(norm[n + i]), off[v],
                                               _mm512_mul_ps(_mm512_set1_ps(rounding[n + i]), far[v]));
          __mmask16 open = _mm512_mask_cmp_ps_mask(real[v], _mm512_add_ps(acc[i][v], error), floor, _CMP_NLT_UQ);
          if (!open) continue;
          alignas(64) float scores[kLanes], errors[kLanes];
          _mm512_store_ps(scores, acc[i][v]);
          _mm512_store_ps(errors, error);
          for (; open; open = static_cast<__mmask16>(open & (open - 1)))
            keep(v * kHalf + __builtin_ctz(open), n + i, scores[__builtin_ctz(open)], errors[__builtin_ctz(open)]);
        }
        if (!summed) continue;
        __m512 high = acc[0][v];
        for (int i = 1; i < items; ++i) high = _mm512_max_ps(high, acc[i][v]);
        if (_mm512_cmp_ps_mask(high, offset[v], _CMP_GT_OQ)) {  // rarely: the sums so far become smaller
          const __m512 higher = _mm512_max_ps(high, offset[v]);
          const __m512 less = exponential(_mm512_sub_ps(offset[v], higher));
          sum[v] = _mm512_mul_ps(sum[v], less);
          alignas(64) float factors[kLanes];
          _mm512_store_ps(factors, less);
          for (int lane = 0; lane < kHalf; ++lane) totals[v * kHalf + lane] *= factors[lane];
          offset[v] = higher;
        }
        for (int i = items; i < kRows; ++i) acc[i][v] = _mm512_set1_ps(-infinity);
        for (int i = 0; i < kRows; i += 2)  // an item in each half
          sum[v] = _mm512_add_ps(sum[v], exponential(_mm512_sub_ps(_mm512_mask_blend_ps(first_half, acc[i + 1][v], acc[i][v]), offset[v])));
      }
    };
    const auto look_at_all = [&](auto vector_count) {
      for (int64_t first = 0; first < N; first += kTileItems) {
        const int64_t last = std::min(N, first + kTileItems);
        for (int64_t n = first; n < last; n += kRows) look(vector_count, n, last);
        for (int v = 0; v < vectors; ++v) {  // a tile's sum is short; the whole is kept in float64
          alignas(64) float part[kLanes];
          _mm512_store_ps(part, sum[v]);
          for (int lane = 0; lane < kHalf; ++lane) totals[v * kHalf + lane] += part[lane] + part[lane + kHalf];
          sum[v] = _mm512_setzero_ps();
        }
      }
    };
    switch (vectors) {
      case 1: look_at_all(std::integral_constant<int, 1>{}); break;
      case 2: look_at_all(std::integral_constant<int, 2>{}); break;
      case 3: look_at_all(std::integral_constant<int, 3>{}); break;
      default: look_at_all(std::integral_constant<int, kVectors>{});
    }
    float offsets[kStates];
    for (int v = 0; v < kVectors; ++v) _mm512_mask_storeu_ps(offsets + v * kHalf, first_half, offset[v]);
    for (int64_t c = 0; c < states; ++c) {
      const int64_t b = begin + c;
      if (full[c] >= 0) prune(c);
      const int64_t left = static_cast<int64_t>(found[c].size());
      count[b] = full[c] < 0 || left > most ? most + 1 : left;
      for (int64_t i = 0; i < left && count[b] <= most; ++i)
        item[b * most + i] = found[c][i].item, score[b * most + i] = found[c][i].score;
      largest[b] = offsets[c], total[b] = totals[c];
    }
  }
}

// out[r][k] = Σ_d weight[item[r]][k][d] state[row[r]][d] + bias[item[r]][k] in float64; weight float [N][K][D], state double [B][D].
void valuerec_products(int64_t R, int64_t K, int64_t D, const float* weight, const float* bias, const double* state,
                       const int64_t* row, const int64_t* item, double* out) {
#pragma omp parallel for schedule(static) if (R * K > 65536)
  for (int64_t r = 0; r < R; ++r)
    for (int64_t k = 0; k < K; ++k) {
      const float* head = weight + (item[r] * K + k) * D;
      const double* own = state + row[r] * D;
      __m512d sum = _mm512_setzero_pd();
      for (int64_t d = 0; d < D; d += 8) {
        const __mmask8 mask = static_cast<__mmask8>(lanes_below(std::min<int64_t>(D - d, 8)));
        const __m512d wide = _mm512_cvtps_pd(_mm512_castps512_ps256(_mm512_maskz_loadu_ps(mask, head + d)));
        sum = _mm512_fmadd_pd(wide, _mm512_maskz_loadu_pd(mask, own + d), sum);
      }
      out[r * K + k] = _mm512_reduce_add_pd(sum) + static_cast<double>(bias[item[r] * K + k]);
    }
}
}
