// Spatial attention: the maximum runs over one H x W plane.
//
// A plane is read once for its maximum and again, out of the cache, for its result.
#include "attention.h"
#include "maxima.h"
#include "vector.h"

namespace lesionkit::cpu::LESIONKIT_ISA {
template <class X, class L>
void spatial_forward(const X* x, const L* logits, X* y, SpatialShape shape, double temperature,
                     int64_t begin, int64_t end) {
  using Acc = Accumulator<X, L>;
  const Vector<Acc> scale = broadcast<Acc>(exp2_scale<Acc>(temperature));
  const Output<X> y_out(y, shape.cells, shape.elements() * sizeof(X) >= kLargeBytes);
  if (begin == end) return;
  Acc plane_top = plane_maximum<Acc>(logits + begin * shape.cells, shape.cells);
  for (int64_t plane = begin; plane < end; ++plane) {
    const int64_t start = plane * shape.cells;
    const Vector<Acc> top = broadcast<Acc>(plane_top);
    NextMaximum<Acc, L> next(logits + start + shape.cells, plane + 1 < end);
    for_each_vector<Acc>(shape.cells, [&](int64_t i, int64_t left) LESIONKIT_INLINE {
      const Vector<Acc> c = load<Acc>(logits + start + i, left);
      const Vector<Acc> weight = exp2_of_nonpositive<Acc>((c - top) * scale);
      y_out.store(start + i, load<Acc>(x + start + i, left) * weight, left);
      next.visit(i, left);
    });
    plane_top = next.maximum_of_plane();
  }
}

template <class X, class L>
void spatial_backward(const X* grad, const X* x, const L* logits, X* dx, L* dlogits,
                      SpatialShape shape, double temperature, int64_t begin, int64_t end) {
  using Acc = Accumulator<X, L>;
  const Vector<Acc> scale = broadcast<Acc>(exp2_scale<Acc>(temperature));
  const Vector<Acc> inverse_temperature = broadcast<Acc>(inverse<Acc>(temperature));
  const Output<X> dx_out(dx, shape.cells, shape.elements() * sizeof(X) >= kLargeBytes);
  const Output<L> dlogits_out(dlogits, shape.cells, shape.elements() * sizeof(L) >= kLargeBytes);
  if (begin == end) return;
  Acc plane_top = plane_maximum<Acc>(logits + begin * shape.cells, shape.cells);
  for (int64_t plane = begin; plane < end; ++plane) {
    const int64_t start = plane * shape.cells;
    const Vector<Acc> top = broadcast<Acc>(plane_top);
    NextMaximum<Acc, L> next(logits + start + shape.cells, plane + 1 < end);
    Vector<Acc> sums{};
    TieFinder<Acc> finder;
    for_each_vector<Acc>(shape.cells, [&](int64_t i, int64_t left) LESIONKIT_INLINE {
      const Vector<Acc> c = load<Acc>(logits + start + i, left, kLowest<Acc>);
      const Vector<Acc> weight = exp2_of_nonpositive<Acc>((c - top) * scale);
      const Vector<Acc> dx_value = load<Acc>(grad + start + i, left) * weight;
      const Vector<Acc> h = dx_value * load<Acc>(x + start + i, left) * inverse_temperature;
      dx_out.store(start + i, dx_value, left);
      dlogits_out.store(start + i, h, left);
      sums += h;
      finder.visit(c == top);
      next.visit(i, left);
    });
    plane_top = next.maximum_of_plane();
    const Ties<Acc> ties = finder.ties(shape.cells);
    // Only the tied maxima lack their share: the vectors that may hold one are computed again, since
    // what was stored may be rounded to 16 bits and is on its way to memory. A sum that is not
    // finite reaches the whole plane.
    const Acc sum = horizontal_sum<Acc>(sums);
    const bool finite = sum - sum == 0;
    const Vector<Acc> tied_share = broadcast<Acc>(sum / ties.count);
    const Vector<Acc> elsewhere = broadcast<Acc>(0 * sum);
    const int64_t first = finite ? ties.begin : 0;
    const int64_t end_of_ties = finite ? ties.end : shape.cells;
    for_each_vector<Acc>(end_of_ties - first, [&](int64_t i, int64_t left) {
      const int64_t cell = start + first + i;
      const Vector<Acc> c = load<Acc>(logits + cell, left, kLowest<Acc>);
      const Vector<Acc> weight = exp2_of_nonpositive<Acc>((c - top) * scale);
      const Vector<Acc> h = load<Acc>(grad + cell, left) * weight * load<Acc>(x + cell, left) *
                            inverse_temperature;
      dlogits_out.store(cell, h - (c == top ? tied_share : elsewhere), left);
    });
  }
}

#define INSTANTIATE(X, L)                                                                      \
  template void spatial_forward<X, L>(const X*, const L*, X*, SpatialShape, double, int64_t,   \
                                      int64_t);                                                \
  template void spatial_backward<X, L>(const X*, const X*, const L*, X*, L*, SpatialShape,     \
                                       double, int64_t, int64_t);
LESIONKIT_FOR_EACH_TYPE_PAIR(INSTANTIATE)

}  // namespace lesionkit::cpu::LESIONKIT_ISA
