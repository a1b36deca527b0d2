// The constants that attention makes of a temperature T, for every compiled backend.
#pragma once

namespace lesionkit {
// Unnamed, so that every object file keeps the code of its own instruction set.
namespace {

// log2(e) / T, kept normal: at 0 a -inf logit would become NaN, at infinity every maximum would.
template <class Real>
inline Real exp2_scale(double temperature) {
  const double scale = 1.4426950408889634074 / temperature;
  const double lowest = sizeof(Real) == 4 ? 0x1p-126 : 0x1p-1022;
  const double highest = sizeof(Real) == 4 ? 0x1p127 : 0x1p1023;
  return static_cast<Real>(scale < lowest ? lowest : scale > highest ? highest : scale);
}

// 1 / T, kept finite: 0 times infinity would make NaN of a gradient of 0.
template <class Real>
inline Real inverse(double temperature) {
  const double highest = sizeof(Real) == 4 ? 0x1p127 : 0x1p1023;
  return static_cast<Real>(1 / temperature < highest ? 1 / temperature : highest);
}

}  // namespace
}  // namespace lesionkit
