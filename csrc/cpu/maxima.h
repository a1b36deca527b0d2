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

// How often a plane's maximum occurs, and the cells [begin, end) outside which it does not.
template <class Acc>
struct Ties {
  Acc count;
  int64_t begin;
  int64_t end;
};

template <class Acc, class L>
Ties<Acc> find_ties(const L* logits, int64_t cells, Vector<Acc> top) {
  using Index = typename Lanes<Acc>::Mask;
  const Vector<Acc> one = broadcast<Acc>(1);
  Vector<Acc> counts{};
  Index last{}, vector{};  // the number of the last vector with a tie in this lane; the current one
  for_each_vector<Acc>(cells, [&](int64_t i, int64_t left) LESIONKIT_INLINE {
    const Mask<Acc> tied = load<Acc>(logits + i, left, kLowest<Acc>) == top;
    counts += tied ? one : Vector<Acc>{};
    last = tied ? vector : last;
    vector += 1;
  });
  int64_t highest = 0;
  for (int lane = 0; lane < kLanes<Acc>; ++lane) highest = last[lane] > highest ? last[lane] : highest;
  const Acc count = horizontal_sum<Acc>(counts);
  const int64_t begin = highest * kLanes<Acc>;
  const int64_t end = begin + kLanes<Acc> < cells ? begin + kLanes<Acc> : cells;
  return {count, count == 1 ? begin : 0, end};
}

}  // namespace
}  // namespace lesionkit::cpu::LESIONKIT_ISA
