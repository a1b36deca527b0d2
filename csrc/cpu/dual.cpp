// Dual attention: both weights from the raw features' logits, in one pass over memory.
//
// A work item is the M planes of one sample and channel: all of a column's images and all of a
// plane's cells are then at hand, and the planes stay in the second-level cache between sweeps.
#include "attention.h"
#include "maxima.h"
#include "vector.h"

namespace lesionkit::cpu::LESIONKIT_ISA {
namespace {

int64_t first_plane(const DualShape& shape, int64_t item) {
  const int64_t sample = item / shape.channels, channel = item % shape.channels;
  return (sample * shape.images * shape.channels + channel) * shape.cells;
}

}  // namespace

template <class X, class L>
void dual_forward(const X* x, const L* contextual, const L* spatial, X* y, DualShape shape,
                  double contextual_temperature, double spatial_temperature, void* scratch,
                  int64_t begin, int64_t end) {
  using Acc = Accumulator<X, L>;
  const Vector<Acc> contextual_scale = broadcast<Acc>(exp2_scale<Acc>(contextual_temperature));
  const Vector<Acc> spatial_scale = broadcast<Acc>(exp2_scale<Acc>(spatial_temperature));
  const int64_t image_stride = shape.channels * shape.cells;
  const Output<X> y_out(y, shape.cells, shape.elements() * sizeof(X) >= kLargeBytes);
  Acc* plane_top = static_cast<Acc*>(scratch);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t start = first_plane(shape, item);
    for (int64_t m = 0; m < shape.images; ++m) {
      plane_top[m] = plane_maximum<Acc>(spatial + start + m * image_stride, shape.cells);
    }
    for (int64_t first = 0; first < shape.cells; first += kContextualTile) {
      const int64_t size = tile_size(shape.cells - first);
      Acc column_top[kContextualTile];
      column_maxima<false, Acc>(contextual + start + first, image_stride, shape.images, size,
                                column_top, nullptr);
      for (int64_t m = 0; m < shape.images; ++m) {
        const int64_t row = start + m * image_stride + first;
        const Vector<Acc> top = broadcast<Acc>(plane_top[m]);
        for_each_vector<Acc>(size, [&](int64_t i, int64_t left) LESIONKIT_INLINE {
          const Vector<Acc> c = load<Acc>(contextual + row + i, left) - load_vector(column_top + i);
          const Vector<Acc> s = load<Acc>(spatial + row + i, left) - top;
          const Vector<Acc> weight =
              exp2_of_nonpositive<Acc>(c * contextual_scale + s * spatial_scale);
          y_out.store(row + i, load<Acc>(x + row + i, left) * weight, left);
        });
      }
    }
  }
}

template <class X, class L>
void dual_backward(const X* grad, const X* x, const L* contextual, const L* spatial, X* dx,
                   L* dcontextual, L* dspatial, DualShape shape, double contextual_temperature,
                   double spatial_temperature, void* scratch, int64_t begin, int64_t end) {
  using Acc = Accumulator<X, L>;
  constexpr int64_t lanes = kLanes<Acc>;
  const Vector<Acc> contextual_scale = broadcast<Acc>(exp2_scale<Acc>(contextual_temperature));
  const Vector<Acc> spatial_scale = broadcast<Acc>(exp2_scale<Acc>(spatial_temperature));
  const Vector<Acc> contextual_inverse = broadcast<Acc>(inverse<Acc>(contextual_temperature));
  const Vector<Acc> spatial_inverse = broadcast<Acc>(inverse<Acc>(spatial_temperature));
  const int64_t image_stride = shape.channels * shape.cells;
  const int64_t row_length = shape.scratch_row();
  const Output<X> dx_out(dx, shape.cells, shape.elements() * sizeof(X) >= kLargeBytes);
  const Output<L> dcontextual_out(dcontextual, shape.cells, shape.elements() * sizeof(L) >= kLargeBytes);
  const Output<L> dspatial_out(dspatial, shape.cells, shape.elements() * sizeof(L) >= kLargeBytes);
  Acc* plane_top = static_cast<Acc*>(scratch);
  Acc* plane_ties = plane_top + shape.images;
  Acc* plane_sum = plane_ties + shape.images;
  Acc* products = plane_sum + shape.images;  // g * y of the M planes
  for (int64_t item = begin; item < end; ++item) {
    const int64_t start = first_plane(shape, item);
    for (int64_t m = 0; m < shape.images; ++m) {
      const L* plane = spatial + start + m * image_stride;
      plane_top[m] = plane_maximum<Acc>(plane, shape.cells);
      plane_ties[m] = plane_sum[m] = 0;
    }
    for (int64_t first = 0; first < shape.cells; first += kContextualTile) {
      const int64_t size = tile_size(shape.cells - first);
      Acc top[kContextualTile], ties[kContextualTile], sum[kContextualTile];
      column_maxima<true, Acc>(contextual + start + first, image_stride, shape.images, size, top,
                               ties);
      for (int64_t m = 0; m < shape.images; ++m) {
        const int64_t row = start + m * image_stride + first;
        const Vector<Acc> plane = broadcast<Acc>(plane_top[m]);
        Vector<Acc> total{}, counts{};
        for_each_vector<Acc>(size, [&](int64_t i, int64_t left) LESIONKIT_INLINE {
          const Vector<Acc> c = load<Acc>(contextual + row + i, left) - load_vector(top + i);
          const Vector<Acc> s = load<Acc>(spatial + row + i, left, kLowest<Acc>) - plane;
          const Vector<Acc> weight =
              exp2_of_nonpositive<Acc>(c * contextual_scale + s * spatial_scale);
          counts += s == 0 ? broadcast<Acc>(1) : Vector<Acc>{};
          const Vector<Acc> dx_value = load<Acc>(grad + row + i, left) * weight;
          const Vector<Acc> product = dx_value * load<Acc>(x + row + i, left);
          dx_out.store(row + i, dx_value, left);
          store_vector(products + m * row_length + first + i, product);
          store_vector(sum + i, m == 0 ? product : load_vector(sum + i) + product);
          total += left < lanes ? clear_past_end<Acc>(product, left) : product;
        });
        plane_sum[m] += horizontal_sum<Acc>(total);
        plane_ties[m] += horizontal_sum<Acc>(counts);
      }
      for (int64_t m = 0; m < shape.images; ++m) {
        const int64_t row = start + m * image_stride + first;
        for_each_vector<Acc>(size, [&](int64_t i, int64_t left) LESIONKIT_INLINE {
          const Vector<Acc> c = load<Acc>(contextual + row + i, left);
          const Vector<Acc> share =
              c == load_vector(top + i) ? 1 / load_vector(ties + i) : Vector<Acc>{};
          const Vector<Acc> product = load_vector(products + m * row_length + first + i);
          const Vector<Acc> balanced = product - share * load_vector(sum + i);
          dcontextual_out.store(row + i, balanced * contextual_inverse, left);
        });
      }
    }
    for (int64_t m = 0; m < shape.images; ++m) {
      const int64_t row = start + m * image_stride;
      const Vector<Acc> top = broadcast<Acc>(plane_top[m]);
      const Vector<Acc> sum = broadcast<Acc>(plane_sum[m]);
      const Vector<Acc> tied_share = broadcast<Acc>(1 / plane_ties[m]);
      for_each_vector<Acc>(shape.cells, [&](int64_t i, int64_t left) LESIONKIT_INLINE {
        const Vector<Acc> s = load<Acc>(spatial + row + i, left);
        const Vector<Acc> share = s == top ? tied_share : Vector<Acc>{};
        const Vector<Acc> product = load_vector(products + m * row_length + i);
        dspatial_out.store(row + i, (product - share * sum) * spatial_inverse, left);
      });
    }
  }
}

#define INSTANTIATE(X, L)                                                                         \
  template void dual_forward<X, L>(const X*, const L*, const L*, X*, DualShape, double, double,   \
                                   void*, int64_t, int64_t);                                      \
  template void dual_backward<X, L>(const X*, const X*, const L*, const L*, X*, L*, L*, DualShape, \
                                    double, double, void*, int64_t, int64_t);
LESIONKIT_FOR_EACH_TYPE_PAIR(INSTANTIATE)

}  // namespace lesionkit::cpu::LESIONKIT_ISA
