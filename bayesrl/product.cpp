// y = a b + bias, through a ReLU if asked: a [*, M, K], b [*, K, N], bias [*, 1, N] or [*, M, 1]; any strides.
//
// A panel of b, COLUMNS wide, is packed side by side; ROWS rows of a meet it with all their sums in registers.

#pragma GCC optimize("fp-contract=fast")  // a product and a sum are one operation

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

using at::Tensor;

constexpr int LANES = 16, COLUMNS = 2 * LANES, ROWS = 8;
typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4)));

struct Matrices {  // strides in numbers; 0 where broadcast
  const float* first = nullptr;
  int64_t batch = 0, row = 0, column = 0;

  Matrices(const Tensor& t) : first(t.const_data_ptr<float>()) {
    int64_t* strides[] = {&column, &row, &batch};
    for (int64_t i = 0; i < t.dim(); i++) {
      const int64_t axis = t.dim() - 1 - i;
      *strides[i] = t.size(axis) == 1 ? 0 : t.stride(axis);
    }
  }
  Matrices() = default;
  const float* at(int64_t b, int64_t i, int64_t j) const { return first + b * batch + i * row + j * column; }
};

// R rows of y, `width` wide: `across` holds a number for each column to begin with, `down` one for each row.
template <int R>
void tile(const float* a, int64_t row, int64_t step, const float* panel, int64_t K, const float* across,
          const float* down, bool relu, float* y, int64_t N, int64_t width) {
  Lanes c[R][2];
  for (int i = 0; i < R; i++)
    for (int j = 0; j < 2; j++) c[i][j] = *reinterpret_cast<const Lanes*>(across + j * LANES) + down[i];
  for (int64_t k = 0; k < K; k++) {
    const Lanes* b = reinterpret_cast<const Lanes*>(panel + k * COLUMNS);
    for (int i = 0; i < R; i++) {
      const float x = a[i * row + k * step];
      c[i][0] += x * b[0];
      c[i][1] += x * b[1];
    }
  }
  if (relu)
    for (int i = 0; i < R; i++)
      for (int j = 0; j < 2; j++) c[i][j] = c[i][j] < 0 ? Lanes{} : c[i][j];  // NaN stays
  for (int i = 0; i < R; i++) {
    if (width == COLUMNS) {
      *reinterpret_cast<Lanes*>(y + i * N) = c[i][0];
      *reinterpret_cast<Lanes*>(y + i * N + LANES) = c[i][1];
    } else
      std::memcpy(y + i * N, c[i], width * sizeof(float));
  }
}

constexpr decltype(&tile<1>) TILES[] = {tile<1>, tile<2>, tile<3>, tile<4>, tile<5>, tile<6>, tile<7>, tile<8>};

#ifdef __clang__
#define CHOSEN(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int Places __attribute__((vector_size(4 * LANES)));
#define CHOSEN(a, b, ...) __builtin_shuffle(a, b, Places{__VA_ARGS__})
#endif

// A square of rows, seen as 2 x 2 blocks `step` wide: the two off the diagonal of each change places. With steps 1, 2,
// 4 and 8 it is transposed.
template <int step, int... e>
void exchange(Lanes (&rows)[LANES], std::integer_sequence<int, e...>) {
  for (int i = 0; i < LANES; i++) {
    if (i & step) continue;
    const Lanes above = rows[i], below = rows[i + step];
    rows[i] = CHOSEN(above, below, (e & step ? LANES + (e ^ step) : e)...);
    rows[i + step] = CHOSEN(above, below, (e & step ? LANES + e : e ^ step)...);
  }
}

void transpose(Lanes (&rows)[LANES]) {
  constexpr auto all = std::make_integer_sequence<int, LANES>();
  exchange<1>(rows, all), exchange<2>(rows, all), exchange<4>(rows, all), exchange<8>(rows, all);
}

// Columns 0 to `width` of b [K, N], side by side and filled up with zeros: [K, COLUMNS].
void pack(const float* b, int64_t row, int64_t column, int64_t K, int64_t width, float* panel) {
  if (width < COLUMNS) std::fill_n(panel, K * COLUMNS, 0.f);
  if (column == 1) {
    for (int64_t k = 0; k < K; k++) std::copy_n(b + k * row, width, panel + k * COLUMNS);
    return;
  }
  const int64_t K16 = row == 1 ? K - K % LANES : 0, wide = width - width % LANES;
  for (int64_t k = 0; k < K16; k += LANES)
    for (int64_t j = 0; j < wide; j += LANES) {
      Lanes rows[LANES];
      for (int i = 0; i < LANES; i++) rows[i] = *reinterpret_cast<const Lanes*>(b + k + (j + i) * column);
      transpose(rows);
      for (int i = 0; i < LANES; i++) *reinterpret_cast<Lanes*>(panel + (k + i) * COLUMNS + j) = rows[i];
    }
  for (int64_t j = 0; j < width; j++)
    for (int64_t k = j < wide ? K16 : 0; k < K; k++) panel[k * COLUMNS + j] = b[k * row + j * column];
}

Tensor product(const Tensor& a, const Tensor& b, const std::optional<Tensor>& bias, bool relu) {
  const int64_t dim = a.dim(), M = a.size(dim - 2), K = a.size(dim - 1), N = b.size(dim - 1);
  const int64_t batches = dim == 3 ? a.size(0) : 1;
  Tensor y = dim == 3 ? at::empty({batches, M, N}, a.options()) : at::empty({M, N}, a.options());
  float* out = y.mutable_data_ptr<float>();
  const Matrices left(a), right(b), added = bias ? Matrices(*bias) : Matrices();
  const int64_t panels = (N + COLUMNS - 1) / COLUMNS;

  const int64_t grain = 1 + 1'000'000 / (1 + M * K * COLUMNS);
  at::parallel_for(0, batches * panels, grain, [&](int64_t from, int64_t to) {
    thread_local std::vector<float> memory;
    memory.resize((K + 1) * COLUMNS);
    float *across = memory.data(), *panel = across + COLUMNS;
    for (int64_t task = from; task < to; task++) {
      const int64_t s = task / panels, n = task % panels * COLUMNS, width = std::min<int64_t>(COLUMNS, N - n);
      pack(right.at(s, 0, n), right.row, right.column, K, width, panel);
      std::fill_n(across, COLUMNS, 0.f);
      if (added.column)
        for (int64_t j = 0; j < width; j++) across[j] = *added.at(s, 0, n + j);
      for (int64_t m = 0; m < M; m += ROWS) {
        const int64_t rows = std::min<int64_t>(ROWS, M - m);
        float down[ROWS] = {};
        if (added.first && !added.column)
          for (int64_t i = 0; i < rows; i++) down[i] = *added.at(s, m + i, n);
        TILES[rows - 1](left.at(s, m, 0), left.row, left.column, panel, K, across, down, relu,
                        out + (s * M + m) * N + n, N, width);
      }
    }
  });
  return y;
}

TORCH_LIBRARY_IMPL(bayesrl, CPU, m) { m.impl("product", product); }
