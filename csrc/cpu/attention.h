// The attention kernels on the CPU: pointers and sizes, no torch.
//
// Each function processes the work items [begin, end) of its grid, which are independent of each
// other, so that the caller may hand ranges to threads. X is the stored type of x, grad, y and dx,
// L that of the logits and their gradients. All tensors are contiguous [B, M, D, H, W]. A null
// output pointer is an error; `scratch` is a thread's own, of the size that the matching
// *_scratch_bytes function gives.
#pragma once

#include <cstdint>

#include "isa.h"
#include "numeric.h"

namespace lesionkit::cpu {

// A tensor of this size has left the cores' own caches before anybody reads it, so it is written
// past them.
constexpr int64_t kLargeBytes = int64_t{16} << 20;

// Contextual: a work item is a tile of up to kContextualTile columns of one sample.
constexpr int64_t kContextualTile = 512;
constexpr int64_t kLargestVector = 16;  // lanes of any instruction set

struct ContextualShape {
  int64_t samples;  // B
  int64_t images;   // M
  int64_t columns;  // D * H * W

  int64_t tiles_per_sample() const { return (columns + kContextualTile - 1) / kContextualTile; }
  int64_t work_items() const { return samples * tiles_per_sample(); }
  int64_t elements() const { return samples * images * columns; }
  // The backward keeps h of one tile, in rows of whole vectors.
  int64_t scratch_row() const {
    const int64_t tile = columns < kContextualTile ? columns : kContextualTile;
    return (tile + kLargestVector - 1) / kLargestVector * kLargestVector;
  }
  int64_t backward_scratch_bytes() const { return images * scratch_row() * int64_t{8}; }
};

// Spatial: a work item is one H x W plane.
struct SpatialShape {
  int64_t planes;  // B * M * D
  int64_t cells;   // H * W

  int64_t elements() const { return planes * cells; }
};

// Dual: a work item is the M planes of one sample and channel.
struct DualShape {
  int64_t samples;   // B
  int64_t images;    // M
  int64_t channels;  // D
  int64_t cells;     // H * W

  int64_t work_items() const { return samples * channels; }
  int64_t elements() const { return samples * images * channels * cells; }
  // The forward keeps each plane's maximum, the backward also its ties and sum, and g * y of M
  // planes, each padded so that whole vectors can be stored.
  int64_t scratch_row() const { return cells + kLargestVector; }
  int64_t forward_scratch_bytes() const { return images * int64_t{8}; }
  int64_t backward_scratch_bytes() const { return images * (scratch_row() + 3) * int64_t{8}; }
};

LESIONKIT_FOR_EACH_ISA(
    template <class X, class L>
    void contextual_forward(const X* x, const L* logits, X* y, ContextualShape shape,
                            double temperature, int64_t begin, int64_t end);

    template <class X, class L>
    void contextual_backward(const X* grad, const X* x, const L* logits, X* dx, L* dlogits,
                             ContextualShape shape, double temperature, void* scratch,
                             int64_t begin, int64_t end);

    template <class X, class L>
    void spatial_forward(const X* x, const L* logits, X* y, SpatialShape shape, double temperature,
                         int64_t begin, int64_t end);

    template <class X, class L>
    void spatial_backward(const X* grad, const X* x, const L* logits, X* dx, L* dlogits,
                          SpatialShape shape, double temperature, int64_t begin, int64_t end);

    template <class X, class L>
    void dual_forward(const X* x, const L* contextual, const L* spatial, X* y, DualShape shape,
                      double contextual_temperature, double spatial_temperature, void* scratch,
                      int64_t begin, int64_t end);

    template <class X, class L>
    void dual_backward(const X* grad, const X* x, const L* contextual, const L* spatial, X* dx,
                       L* dcontextual, L* dspatial, DualShape shape, double contextual_temperature,
                       double spatial_temperature, void* scratch, int64_t begin, int64_t end);)

}  // namespace lesionkit::cpu

// The pairs of stored types that the kernels exist for. Others (float64 beside a smaller type) are
// rare; the caller converts the smaller one.
#define LESIONKIT_FOR_EACH_TYPE_PAIR(macro)                    \
  macro(double, double) macro(float, float) macro(float, Half) \
  macro(float, BFloat16) macro(Half, float) macro(Half, Half)  \
  macro(Half, BFloat16) macro(BFloat16, float) macro(BFloat16, Half) macro(BFloat16, BFloat16)
