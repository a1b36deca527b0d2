// The maxima that attention subtracts, over the images of a column and over the cells of a plane,
// and how often each occurs: the gradient is shared among tied maxima.
#pragma once

#include "attention.h"
#include "vector.h"

namespace lesionkit::cpu::LESIONKIT_ISA {
namespace {

inline int64_t tile_size(int64_t left) { return left < kContextualTile ? left : kContextualTile; }

// top[i] = the maximum of column i over `images` rows; ties[i] = how often it occurs, where asked.
template <bool with_ties, class Acc, class L>
void column_maxima(const L* logits, int64_t image_stride, int64_t images, int64_t size, Acc* top,
                   Acc* ties) {
  const Vector<Acc> one = broadcast<Acc>(1);
  for (int64_t m = 0; m < images; ++m) {
    const L* row = logits + m * image_stride;
    for_each_vector<Acc>(size, [&](int64_t i, int64_t left) LESIONKIT_INLINE {
      const Vector<Acc> c = load<Acc>(row + i, left);
      const Vector<Acc> before = m == 0 ? c : load_vector(top + i);
      const Vector<Acc> after = maximum<Acc>(before, c);
      if constexpr (with_ties) {
        const Vector<Acc> counted = m == 0 ? Vector<Acc>{} : load_vector(ties + i);
        const Vector<Acc> kept = after == before ? counted : Vector<Acc>{};
        store_vector(ties + i, c == after ? kept + one : kept);
      }
      store_vector(top + i, after);
    });
  }
  for_each_vector<Acc>(size, [&](int64_t i, int64_t left) LESIONKIT_INLINE {
    store_vector(top + i, usable_maximum<Acc>(load_vector(top + i)));
  });
}

// Lanes past a plane's end hold -inf: they never win and never equal a usable maximum.
template <class Acc>
constexpr Acc kLowest = -__builtin_inf();

template <class Acc, class L>
Acc plane_maximum(const L* logits, int64_t cells) {
  constexpr int64_t lanes = kLanes<Acc>;
  // Four running maxima, so that a compare need not wait for the last.
  Vector<Acc> top[4];
  for (Vector<Acc>& one : top) one = broadcast<Acc>(kLowest<Acc>);
  int64_t i = 0;
  for (; i + 4 * lanes <= cells; i += 4 * lanes) {
    for (int k = 0; k < 4; ++k) top[k] = maximum<Acc>(top[k], load_vector(logits + i + k * lanes));
  }
  for (; i < cells; i += lanes) {
    top[0] = maximum<Acc>(top[0], load<Acc>(logits + i, cells - i, kLowest<Acc>));
  }
  const Vector<Acc> pairs = maximum<Acc>(maximum<Acc>(top[0], top[1]), maximum<Acc>(top[2], top[3]));
  return usable_maximum<Acc>(broadcast<Acc>(horizontal_maximum<Acc>(pairs)))[0];
}

// The maximum of the plane after the current one, found in the pass over the current one: a search of
// its own would wait for one stream from memory while the others stand still.
template <class Acc, class L>
class NextMaximum {
 public:
  NextMaximum(const L* logits, bool there) : logits_(there ? logits : nullptr) {}

  LESIONKIT_INLINE void visit(int64_t i, int64_t left) {
    if (logits_) top_ = maximum<Acc>(top_, load<Acc>(logits_ + i, left, kLowest<Acc>));
  }
  Acc maximum_of_plane() const {
    return usable_maximum<Acc>(broadcast<Acc>(horizontal_maximum<Acc>(top_)))[0];
  }

 private:
  const L* logits_;
  Vector<Acc> top_ = broadcast<Acc>(kLowest<Acc>);
};

// How often a plane's maximum occurs, and the cells [begin, end) outside which it does not.
template <class Acc>
struct Ties {
  Acc count;
  int64_t begin;
  int64_t end;
};

// Finds the ties in a pass that visits the vectors of a plane anyway.
template <class Acc>
class TieFinder {
 public:
  void visit(Mask<Acc> tied) {
    counts_ += tied ? broadcast<Acc>(1) : Vector<Acc>{};
    last_ = tied ? visited_ : last_;
    visited_ += 1;
  }

  Ties<Acc> ties(int64_t cells) const {
    int64_t highest = 0;
    for (int lane = 0; lane < kLanes<Acc>; ++lane) {
      highest = last_[lane] > highest ? last_[lane] : highest;
    }
    const Acc count = horizontal_sum<Acc>(counts_);
    const int64_t begin = highest * kLanes<Acc>;
    const int64_t end = begin + kLanes<Acc> < cells ? begin + kLanes<Acc> : cells;
    return {count, count == 1 ? begin : 0, end};
  }

 private:
  Vector<Acc> counts_{};
  Mask<Acc> last_{}, visited_{};  // per lane, the number of the last vector with a tie; vectors seen
};

}  // namespace
}  // namespace lesionkit::cpu::LESIONKIT_ISA
