// PSROI pooling on random and hostile rois, for a build with address and undefined sanitizers.
//
// Buffers have exactly the size the kernels may touch. A mean of features within [-1, 1] is within
// [-1, 1] too, and results start as NaN: one that is not written, or divided by a wrong area, fails.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

#include "cpu/numeric.h"
#include "cpu/psroi.h"

using namespace lesionkit;
using namespace lesionkit::cpu;
namespace kernels = lesionkit::cpu::LESIONKIT_ISA;

namespace {

std::mt19937_64 generator(20190709);

template <class T>
T pick(const std::vector<T>& choices) {
  return choices[generator() % choices.size()];
}

double uniform(double low, double high) {
  return std::uniform_real_distribution<double>(low, high)(generator);
}

template <class Real>
Real hostile() {
  using Limits = std::numeric_limits<Real>;
  static const std::vector<Real> values = {
      Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity(),
      Limits::max(),       Limits::lowest(),   Limits::denorm_min(),
      -Limits::min(),      Real(1e38),         Real(-1e38),
      Real(2147483647),    Real(-2147483648.), Real(4294967296.),
      Real(9.3e18),        Real(-9.3e18),      Real(0.49999997f),
      Real(-0.5),          Real(-0.0),         Real(16777217)};
  return pick(values);
}

template <class Real>
std::vector<Real> random_rois(const PsroiShape& shape) {
  std::vector<Real> rois(shape.rois * 5);
  for (size_t i = 0; i < rois.size(); ++i) {
    const double extent = std::max(shape.height, shape.width);
    rois[i] = static_cast<Real>(i % 5 == 0 ? std::floor(uniform(0, double(shape.batch)))
                                           : uniform(-0.5 * extent, 1.5 * extent));
    if (generator() % 16 == 0) rois[i] = hostile<Real>();
    if (generator() % 64 == 0) rois[i] = static_cast<Real>(uniform(-9, 9)) * rois[i];
  }
  return rois;
}

template <class Stored>
bool all_within(const std::vector<Stored>& values, double limit) {
  for (const Stored value : values) {
    if (!(std::abs(to_float(value)) <= limit)) return false;
  }
  return true;
}

template <class Stored, class Real>
void round_of(const PsroiShape& shape) {
  const auto rois = random_rois<Real>(shape);
  const auto convention = pick<psroi::Convention>(
      {psroi::Convention::rfcn, psroi::Convention::torchvision});
  const double scale = pick<double>({1, 0.125, 0.1, 3, 1e-30, 1e30});
  std::vector<int64_t> first(shape.batch + 1), roi(shape.rois);
  std::vector<int32_t> edges(shape.rois * 4 * shape.bins);
  const PsroiPlan plan{first.data(), roi.data(), edges.data()};
  kernels::psroi_plan(rois.data(), shape, scale, convention, plan);

  std::vector<Stored> features(shape.bands() * shape.band_cells());
  for (Stored& value : features) value = from_float<Stored>(uniform(-1, 1));
  const int64_t results = shape.rois * shape.bands_per_sample() * shape.bins;
  std::vector<Stored> pooled(results, from_float<Stored>(NAN));
  std::vector<Stored> gradient(features.size(), from_float<Stored>(NAN));
  std::vector<float> sums(sizeof(Stored) == 2 ? shape.band_cells() : 0);
  const int64_t half = shape.bands() / 2;  // as two threads would split it
  for (const auto& [begin, end] : {std::pair{int64_t{0}, half}, std::pair{half, shape.bands()}}) {
    kernels::psroi_forward(features.data(), plan, shape, pooled.data(), begin, end);
    kernels::psroi_backward(pooled.data(), plan, shape, gradient.data(), sums.data(), begin, end);
  }
  if (!all_within(pooled, 1.01) || !all_within(gradient, 1.01 * shape.rois)) {
    std::puts("a result is not the mean of cells of its map");
    std::exit(1);
  }
}

}  // namespace

int main(int, char** arguments) {
  const int64_t wanted = std::atoll(arguments[1]);
  const int64_t rois_per_round = 125;
  int64_t done = 0;
  for (int round = 0; done < wanted; ++round, done += rois_per_round) {
    const PsroiShape shape{rois_per_round,
                           pick<int64_t>({1, 2, 3}),
                           pick<int64_t>({1, 2}),
                           pick<int>({1, 2, 3, 7}),
                           pick<int>({1, 2, 3, 4, 7, 16, 21}),
                           pick<int>({1, 2, 3, 4, 5, 7, 8, 19, 32})};
    switch (round % 8) {
      case 0: round_of<float, float>(shape); break;
      case 1: round_of<Half, float>(shape); break;
      case 2: round_of<BFloat16, float>(shape); break;
      case 3: round_of<double, float>(shape); break;
      case 4: round_of<float, double>(shape); break;
      case 5: round_of<Half, double>(shape); break;
      case 6: round_of<BFloat16, double>(shape); break;
      case 7: round_of<double, double>(shape); break;
    }
  }
  std::printf("%lld rois\n", static_cast<long long>(done));
}
