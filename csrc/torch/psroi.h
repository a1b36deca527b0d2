// Checks of position-sensitive RoI pooling, the same on every device.
#pragma once

#include <string>

#include "psroi/bins.h"
#include "torch/common.h"

namespace lesionkit {

struct PsroiSizes {
  int64_t rois;      // K
  int64_t batch;     // B
  int64_t channels;  // C, of the output
  int bins;          // G
  int height;        // H
  int width;         // W
};

inline psroi::Convention convention_of(const std::string& name) {
  STD_TORCH_CHECK(name == "rfcn" || name == "torchvision",
                  "convention must be \"rfcn\" or \"torchvision\", got ", name);
  return name == "rfcn" ? psroi::Convention::rfcn : psroi::Convention::torchvision;
}

// `other` is features or grad.
inline PsroiSizes checked_sizes(const Tensor& rois, const Tensor& other, int64_t batch,
                                int64_t channels, int64_t bins, int64_t height, int64_t width) {
  constexpr int64_t kLargestExtent = int64_t{1} << 30;
  STD_TORCH_CHECK(rois.device() == other.device(), "rois must be on the features' device");
  STD_TORCH_CHECK(rois.dim() == 2 && rois.size(1) == 5, "rois must be [K, 5]");
  STD_TORCH_CHECK(
      rois.scalar_type() == ScalarType::Float || rois.scalar_type() == ScalarType::Double,
      "rois must be float32 or float64");
  for (const int64_t extent : {batch, height, width}) {
    STD_TORCH_CHECK(extent >= 0 && extent <= kLargestExtent,
                    "batch, height and width must be 0 to ", kLargestExtent, ", got ", extent);
  }
  return {rois.size(0), batch, channels, static_cast<int>(bins), static_cast<int>(height),
          static_cast<int>(width)};
}

inline PsroiSizes forward_sizes(const Tensor& features, const Tensor& rois, int64_t bins) {
  STD_TORCH_CHECK(features.dim() == 4, "features must be [B, C*G*G, H, W], got ", features.dim(),
                  " dimensions");
  STD_TORCH_CHECK(bins >= 1 && bins <= (1 << 15) && features.size(1) % (bins * bins) == 0,
                  "output_size must be at least 1 and its square divide the channels, got ", bins);
  return checked_sizes(rois, features, features.size(0), features.size(1) / (bins * bins), bins,
                       features.size(2), features.size(3));
}

inline PsroiSizes backward_sizes(const Tensor& grad, const Tensor& rois, int64_t batch,
                                 int64_t height, int64_t width) {
  STD_TORCH_CHECK(grad.dim() == 4 && grad.size(2) == grad.size(3) && grad.size(2) >= 1 &&
                      grad.size(2) <= (1 << 15) && grad.size(0) == rois.size(0),
                  "grad must be [K, C, G, G] for K rois");
  return checked_sizes(rois, grad, batch, grad.size(1), grad.size(2), height, width);
}

}  // namespace lesionkit
