// Contextual attention: the maximum runs over the M images of a column.
//
// A tile of columns is swept twice: once over the logits for the maximum, once over all streams.
// M tiles of logits fit the first-level cache, so memory sees each tensor once.
#include "attention.h"
#include "maxima.h"
#include "vector.h"

namespace lesionkit::cpu::LESIONKIT_ISA {
namespace {

struct Tile {
  int64_t offset;  // of the tile in image 0
  int64_t size;
};

Tile tile_of(const ContextualShape& shape, int64_t item) {
  const int64_t sample = item / shape.tiles_per_sample();
  const int64_t first = item % shape.tiles_per_sample() * kContextualTile;
  return {sample * shape.images * shape.columns + first, tile_size(shape.columns - first)};
}

}  // namespace

template <class X, class L>
void contextual_forward(const X* x, const L* logits, X* y, ContextualShape shape,
                        double temperature, int64_t begin, int64_t end) {
  using Acc = Accumulator<X, L>;
  const Vector<Acc> scale = broadcast<Acc>(exp2_scale<Acc>(temperature));
  const Output<X> y_out(y, shape.columns, shape.elements() * sizeof(X) >= kLargeBytes);
  Acc top[kContextualTile];
  for (int64_t item = begin; item < end; ++item) {
    const Tile tile = tile_of(shape, item);
    column_maxima<false, Acc>(logits + tile.offset, shape.columns, shape.images, tile.size, top,
                              nullptr);
    for (int64_t m = 0; m < shape.images; ++m) {
      const int64_t row = tile.offset + m * shape.columns;
      for_each_vector<Acc>(tile.size, [&](int64_t i, int64_t left) LESIONKIT_INLINE {
        const Vector<Acc> c = load<Acc>(logits + row + i, left);
        const Vector<Acc> weight = exp2_of_nonpositive<Acc>((c - load_vector(top + i)) * scale);
        y_out.store(row + i, load<Acc>(x + row + i, left) * weight, left);
      });
    }
  }
}

template <class X, class L>
void contextual_backward(const X* grad, const X* x, const L* logits, X* dx, L* dlogits,
                         ContextualShape shape, double temperature, void* scratch, int64_t begin,
                         int64_t end) {
  using Acc = Accumulator<X, L>;
  const Vector<Acc> scale = broadcast<Acc>(exp2_scale<Acc>(temperature));
  const Vector<Acc> inverse_temperature = broadcast<Acc>(inverse<Acc>(temperature));
  const Output<X> dx_out(dx, shape.columns, shape.elements() * sizeof(X) >= kLargeBytes);
  const Output<L> dlogits_out(dlogits, shape.columns, shape.elements() * sizeof(L) >= kLargeBytes);
  Acc* h = static_cast<Acc*>(scratch);
  const int64_t h_row = shape.scratch_row();
  Acc top[kContextualTile], ties[kContextualTile], sum[kContextualTile];
  for (int64_t item = begin; item < end; ++item) {
    const Tile tile = tile_of(shape, item);
    column_maxima<true, Acc>(logits + tile.offset, shape.columns, shape.images, tile.size, top,
                             ties);
    for (int64_t m = 0; m < shape.images; ++m) {
      const int64_t row = tile.offset + m * shape.columns;
      for_each_vector<Acc>(tile.size, [&](int64_t i, int64_t left) LESIONKIT_INLINE {
        const Vector<Acc> c = load<Acc>(logits + row + i, left);
        const Vector<Acc> weight = exp2_of_nonpositive<Acc>((c - load_vector(top + i)) * scale);
        const Vector<Acc> dx_value = load<Acc>(grad + row + i, left) * weight;
        const Vector<Acc> h_value = dx_value * load<Acc>(x + row + i, left) * inverse_temperature;
        dx_out.store(row + i, dx_value, left);
        store_vector(h + m * h_row + i, h_value);
        store_vector(sum + i, m == 0 ? h_value : load_vector(sum + i) + h_value);
      });
    }
    for (int64_t m = 0; m < shape.images; ++m) {
      const int64_t row = tile.offset + m * shape.columns;
      for_each_vector<Acc>(tile.size, [&](int64_t i, int64_t left) LESIONKIT_INLINE {
        const Vector<Acc> c = load<Acc>(logits + row + i, left);
        const Vector<Acc> share = c == load_vector(top + i) ? 1 / load_vector(ties + i) : Vector<Acc>{};
        const Vector<Acc> h_value = load_vector(h + m * h_row + i);
        dlogits_out.store(row + i, h_value - share * load_vector(sum + i), left);
      });
    }
  }
}

#define INSTANTIATE(X, L)                                                                        \
  template void contextual_forward<X, L>(const X*, const L*, X*, ContextualShape, double, int64_t, \
                                         int64_t);                                               \
  template void contextual_backward<X, L>(const X*, const X*, const L*, X*, L*, ContextualShape, \
                                          double, void*, int64_t, int64_t);
LESIONKIT_FOR_EACH_TYPE_PAIR(INSTANTIATE)

}  // namespace lesionkit::cpu::LESIONKIT_ISA
