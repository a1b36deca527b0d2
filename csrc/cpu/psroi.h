// Position-sensitive RoI pooling on the CPU: pointers and sizes, no torch.
//
// The work item is a band: the G input channels (t*G + i)*G + 0..G-1 of one sample, whose bins
// share their rows. A band is one stretch of memory, its results for a roi are G neighbouring
// numbers, and no other band touches its gradient: bands may run in any order, on any thread.
#pragma once

#include <cstdint>

#include "isa.h"
#include "psroi/bins.h"

namespace lesionkit::cpu {

struct PsroiShape {
  int64_t rois;      // K
  int64_t batch;     // B
  int64_t channels;  // C, of the output
  int bins;          // G
  int height;        // H
  int width;         // W

  int64_t map_cells() const { return int64_t{height} * width; }
  int64_t band_cells() const { return bins * map_cells(); }
  int64_t bands_per_sample() const { return channels * bins; }
  int64_t bands() const { return batch * bands_per_sample(); }
};

// The rois ordered by sample (within a sample as given) and the cells of their bins: computed
// once, read by every band. The caller allocates.
struct PsroiPlan {
  int64_t* first;  // [B + 1] where the rois of a sample begin
  int64_t* roi;    // [K] number of the roi in the input
  int32_t* edges;  // [K, 4, G] top, bottom, left, right; bottom and right are one past the end
};

LESIONKIT_FOR_EACH_ISA(
    // rois [K, 5]. An unusable roi joins sample 0 with nothing but empty bins: batch must be > 0.
    template <class Real>
    void psroi_plan(const Real* rois, PsroiShape shape, double spatial_scale,
                    psroi::Convention convention, PsroiPlan plan);

    // features [B, C*G*G, H, W] to pooled [K, C*G*G], for the bands [begin, end).
    template <class Stored>
    void psroi_forward(const Stored* features, PsroiPlan plan, PsroiShape shape, Stored* pooled,
                       int64_t begin, int64_t end);

    // grad [K, C*G*G] to grad_features [B, C*G*G, H, W], for the bands [begin, end). `sums` is a
    // thread's own space of band_cells() numbers, used where Stored has 16 bits.
    template <class Stored>
    void psroi_backward(const Stored* grad, PsroiPlan plan, PsroiShape shape,
                        Stored* grad_features, float* sums, int64_t begin, int64_t end);)

}  // namespace lesionkit::cpu
