// Every bin is a few cells wide, and how many changes from bin to bin: loops over its cells would
// be mispredicted all the time. Its rows are therefore read as short vectors, the neighbours'
// cells masked out, and the bins of a band share their number of rows.
#include "psroi.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "vector.h"

namespace lesionkit::cpu::LESIONKIT_ISA {
namespace {

using psroi::Cells;

// Longer vectors were slower: bins of lesions have 1 to 4 columns.
template <class Acc>
constexpr int kRowLanes = std::min(4, kLanes<Acc>);
template <class Acc>
struct RowLanes {
  using Bits = std::conditional_t<sizeof(Acc) == 4, int32_t, int64_t>;
  typedef Acc Row __attribute__((vector_size(kRowLanes<Acc> * sizeof(Acc))));
  typedef Bits Mask __attribute__((vector_size(kRowLanes<Acc> * sizeof(Acc))));
};
template <class Acc>
using Row = typename RowLanes<Acc>::Row;
template <class Acc>
using RowMask = typename RowLanes<Acc>::Mask;

template <class Stored>
inline Row<Accumulator<Stored>> load_row(const Stored* source) {
  Row<Accumulator<Stored>> row;
  for (int lane = 0; lane < kRowLanes<Accumulator<Stored>>; ++lane) {
    row[lane] = to_float(source[lane]);
  }
  return row;
}
#if defined(__F16C__)
inline Row<float> load_row(const Half* source) {
  return _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(source)));
}
#endif

template <class Acc>
inline Row<Acc> masked(RowMask<Acc> mask, Row<Acc> row) {
  return reinterpret_cast<Row<Acc>>(mask & reinterpret_cast<RowMask<Acc>>(row));
}

template <class Acc>
inline Acc sum_of(Row<Acc> row) {
  Acc sum = row[0];
  for (int lane = 1; lane < kRowLanes<Acc>; ++lane) sum += row[lane];
  return sum;
}

// Calls body(first column, mask) for the row vectors that cover the columns. Near the right edge
// the vector is moved left so that it stays inside the map, which must be at least as wide.
template <class Acc, class Body>
inline void for_row_vectors(int64_t width, Cells columns, const Body& body) {
  constexpr int lanes = kRowLanes<Acc>;
  RowMask<Acc> lane;
  for (int i = 0; i < lanes; ++i) lane[i] = i;
  for (int64_t x = columns.begin; x < columns.end; x += lanes) {
    const int64_t from = std::min<int64_t>(x, width - lanes);
    const auto first = static_cast<typename RowLanes<Acc>::Bits>(x - from);
    const auto end = static_cast<typename RowLanes<Acc>::Bits>(columns.end - from);
    body(from, (lane >= first) & (lane < end));
  }
}

template <class Stored>
inline Accumulator<Stored> sum_cells(const Stored* map, int64_t width, Cells rows, Cells columns) {
  using Acc = Accumulator<Stored>;
  if (width < kRowLanes<Acc>) {
    Acc sum = 0;
    for (int64_t y = rows.begin; y < rows.end; ++y) {
      for (int64_t x = columns.begin; x < columns.end; ++x) sum += to_float(map[y * width + x]);
    }
    return sum;
  }
  Row<Acc> sums{};
  for_row_vectors<Acc>(width, columns, [&](int64_t from, RowMask<Acc> mask) {
    for (int64_t y = rows.begin; y < rows.end; ++y) {
      sums += masked<Acc>(mask, load_row(map + y * width + from));
    }
  });
  return sum_of<Acc>(sums);
}

template <class Acc>
inline void add_to_cells(Acc* map, int64_t width, Cells rows, Cells columns, Acc value) {
  if (width < kRowLanes<Acc>) {
    for (int64_t y = rows.begin; y < rows.end; ++y) {
      for (int64_t x = columns.begin; x < columns.end; ++x) map[y * width + x] += value;
    }
    return;
  }
  for_row_vectors<Acc>(width, columns, [&](int64_t from, RowMask<Acc> mask) {
    const Row<Acc> addend = masked<Acc>(mask, value - Row<Acc>{});
    for (int64_t y = rows.begin; y < rows.end; ++y) {
      const Row<Acc> row = load_row(map + y * width + from) + addend;
      std::memcpy(map + y * width + from, &row, sizeof row);
    }
  });
}

template <class Acc>
inline Acc area(Cells rows, Cells columns) {
  return static_cast<Acc>(rows.end - rows.begin) * static_cast<Acc>(columns.end - columns.begin);
}

}  // namespace

template <class Real>
void psroi_plan(const Real* rois, PsroiShape shape, double spatial_scale,
                psroi::Convention convention, PsroiPlan plan) {
  const Real scale = static_cast<Real>(spatial_scale);
  const auto sample_of = [&](int64_t roi) {
    return std::max<int64_t>(0, psroi::sample_of(rois[roi * 5], shape.batch));
  };
  std::memset(plan.first, 0, sizeof(int64_t) * (shape.batch + 1));
  for (int64_t roi = 0; roi < shape.rois; ++roi) ++plan.first[sample_of(roi) + 1];
  for (int64_t sample = 0; sample < shape.batch; ++sample) {
    plan.first[sample + 1] += plan.first[sample];
  }
  for (int64_t roi = 0; roi < shape.rois; ++roi) plan.roi[plan.first[sample_of(roi)]++] = roi;
  // Placing has moved every begin to its sample's end, which is where the next sample begins.
  std::memmove(plan.first + 1, plan.first, sizeof(int64_t) * shape.batch);
  plan.first[0] = 0;

  const int bins = shape.bins;
  for (int64_t slot = 0; slot < shape.rois; ++slot) {
    const Real* roi = rois + plan.roi[slot] * 5;
    const auto x = psroi::span_of(roi[1], roi[3], scale, bins, convention);
    const auto y = psroi::span_of(roi[2], roi[4], scale, bins, convention);
    const bool usable = psroi::sample_of(roi[0], shape.batch) >= 0 && x.usable && y.usable;
    int32_t* edges = plan.edges + slot * 4 * bins;
    for (int bin = 0; bin < bins; ++bin) {
      Cells rows{}, columns{};
      if (usable) {
        rows = psroi::cells_of(y, bin, shape.height, convention);
        columns = psroi::cells_of(x, bin, shape.width, convention);
      }
      edges[bin] = rows.begin;
      edges[bin + bins] = rows.end;
      edges[bin + 2 * bins] = columns.begin;
      edges[bin + 3 * bins] = columns.end;
    }
  }
}

template <class Stored>
void psroi_forward(const Stored* features, PsroiPlan plan, PsroiShape shape, Stored* pooled,
                   int64_t begin, int64_t end) {
  using Acc = Accumulator<Stored>;
  const int64_t bins = shape.bins;
  for (int64_t band = begin; band < end; ++band) {
    const int64_t sample = band / shape.bands_per_sample();
    const int64_t of_sample = band % shape.bands_per_sample();
    const Stored* maps = features + band * shape.band_cells();
    for (int64_t slot = plan.first[sample]; slot < plan.first[sample + 1]; ++slot) {
      const int32_t* vertical = plan.edges + slot * 4 * bins + band % bins;
      const int32_t* horizontal = plan.edges + slot * 4 * bins + 2 * bins;
      const Cells rows{vertical[0], vertical[bins]};
      Stored* means = pooled + (plan.roi[slot] * shape.bands_per_sample() + of_sample) * bins;
      for (int64_t j = 0; j < bins; ++j) {
        const Cells columns{horizontal[j], horizontal[bins + j]};
        const bool empty = rows.begin >= rows.end || columns.begin >= columns.end;
        const Acc sum = sum_cells(maps + j * shape.map_cells(), shape.width, rows, columns);
        means[j] = from_float<Stored>(empty ? 0 : sum / area<Acc>(rows, columns));
      }
    }
  }
}

template <class Stored>
void psroi_backward(const Stored* grad, PsroiPlan plan, PsroiShape shape, Stored* grad_features,
                    float* sums, int64_t begin, int64_t end) {
  using Acc = Accumulator<Stored>;
  const int64_t bins = shape.bins;
  for (int64_t band = begin; band < end; ++band) {
    const int64_t sample = band / shape.bands_per_sample();
    const int64_t of_sample = band % shape.bands_per_sample();
    Stored* result = grad_features + band * shape.band_cells();
    Acc* maps;
    if constexpr (std::is_same_v<Stored, Acc>) {
      maps = result;
    } else {
      maps = sums;
    }
    std::memset(maps, 0, sizeof(Acc) * shape.band_cells());
    for (int64_t slot = plan.first[sample]; slot < plan.first[sample + 1]; ++slot) {
      const int32_t* vertical = plan.edges + slot * 4 * bins + band % bins;
      const int32_t* horizontal = plan.edges + slot * 4 * bins + 2 * bins;
      const Cells rows{vertical[0], vertical[bins]};
      if (rows.begin >= rows.end) continue;
      const Stored* of_roi = grad + (plan.roi[slot] * shape.bands_per_sample() + of_sample) * bins;
      for (int64_t j = 0; j < bins; ++j) {
        const Cells columns{horizontal[j], horizontal[bins + j]};
        if (columns.begin >= columns.end) continue;
        const Acc share = to_float(of_roi[j]) / area<Acc>(rows, columns);
        add_to_cells(maps + j * shape.map_cells(), shape.width, rows, columns, share);
      }
    }
    if constexpr (!std::is_same_v<Stored, Acc>) {
      const int64_t cells = shape.band_cells();
      for (int64_t cell = 0; cell < cells; cell += kLanes<Acc>) {
        store<Acc>(result + cell, load<Acc>(sums + cell, cells - cell), cells - cell);
      }
    }
  }
}

template void psroi_plan(const float*, PsroiShape, double, psroi::Convention, PsroiPlan);
template void psroi_plan(const double*, PsroiShape, double, psroi::Convention, PsroiPlan);
#define INSTANTIATE(Stored)                                                                    \
  template void psroi_forward(const Stored*, PsroiPlan, PsroiShape, Stored*, int64_t, int64_t); \
  template void psroi_backward(const Stored*, PsroiPlan, PsroiShape, Stored*, float*, int64_t,  \
                               int64_t);
INSTANTIATE(double)
INSTANTIATE(float)
INSTANTIATE(Half)
INSTANTIATE(BFloat16)

}  // namespace lesionkit::cpu::LESIONKIT_ISA
