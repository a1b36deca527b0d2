// The CUDA kernels behind a plain C interface: device pointers, sizes, a stream; no torch.
//
// Every function queues its work on `stream` (a cudaStream_t of the current device) and returns at
// once: it allocates nothing, waits for nothing and reads no device memory, so that it can be
// captured in a CUDA graph. It returns a cudaError_t: 0 for success, 1 (cudaErrorInvalidValue) for a
// type or size that it does not take. A size of 0 is a success without a launch.
//
// All tensors are contiguous and aligned to their element; 16-byte alignment makes them fast.
// Inputs and outputs must not overlap.
#pragma once

#include <stdint.h>

#if defined(__GNUC__)
#define LESIONKIT_API __attribute__((visibility("default")))
#else
#define LESIONKIT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

// Values of the *_type arguments.
enum LesionkitType {
  LESIONKIT_FLOAT32 = 0,
  LESIONKIT_FLOAT16 = 1,
  LESIONKIT_BFLOAT16 = 2,
  LESIONKIT_FLOAT64 = 3,  // rois only
};

// Values of the convention argument.
enum LesionkitConvention { LESIONKIT_RFCN = 0, LESIONKIT_TORCHVISION = 1 };

// What an error code means; never null.
LESIONKIT_API const char* lesionkit_error_string(int error);

// Contextual attention: x, logits, y [samples, images, columns], columns = D * H * W.
LESIONKIT_API int lesionkit_contextual_forward(const void* x, const void* logits, void* y,
                                               int x_type, int logits_type, int64_t samples,
                                               int64_t images, int64_t columns, double temperature,
                                               void* stream);
LESIONKIT_API int lesionkit_contextual_backward(const void* grad, const void* x, const void* logits,
                                                void* dx, void* dlogits, int x_type,
                                                int logits_type, int64_t samples, int64_t images,
                                                int64_t columns, double temperature, void* stream);

// Spatial attention: x, logits, y [planes, cells], planes = B * M * D, cells = H * W.
LESIONKIT_API int lesionkit_spatial_forward(const void* x, const void* logits, void* y, int x_type,
                                            int logits_type, int64_t planes, int64_t cells,
                                            double temperature, void* stream);
LESIONKIT_API int lesionkit_spatial_backward(const void* grad, const void* x, const void* logits,
                                             void* dx, void* dlogits, int x_type, int logits_type,
                                             int64_t planes, int64_t cells, double temperature,
                                             void* stream);

// Dual attention: all tensors [samples, images, channels, cells]; images at most
// lesionkit_dual_largest_images().
LESIONKIT_API int64_t lesionkit_dual_largest_images(void);
LESIONKIT_API int lesionkit_dual_forward(const void* x, const void* contextual_logits,
                                         const void* spatial_logits, void* y, int x_type,
                                         int logits_type, int64_t samples, int64_t images,
                                         int64_t channels, int64_t cells,
                                         double contextual_temperature, double spatial_temperature,
                                         void* stream);
LESIONKIT_API int lesionkit_dual_backward(const void* grad, const void* x,
                                          const void* contextual_logits, const void* spatial_logits,
                                          void* dx, void* dcontextual_logits, void* dspatial_logits,
                                          int x_type, int logits_type, int64_t samples,
                                          int64_t images, int64_t channels, int64_t cells,
                                          double contextual_temperature, double spatial_temperature,
                                          void* stream);

// Position-sensitive RoI pooling: features [batch, channels * bins * bins, height, width],
// rois [num_rois, 5] (float32 or float64), pooled [num_rois, channels, bins, bins]; grad and
// grad_features likewise.
LESIONKIT_API int lesionkit_psroi_forward(const void* features, const void* rois, void* pooled,
                                          int features_type, int rois_type, int64_t num_rois,
                                          int64_t batch, int64_t channels, int bins, int height,
                                          int width, double spatial_scale, int convention,
                                          void* stream);
LESIONKIT_API int lesionkit_psroi_backward(const void* grad, const void* rois, void* grad_features,
                                           int grad_type, int rois_type, int64_t num_rois,
                                           int64_t batch, int64_t channels, int bins, int height,
                                           int width, double spatial_scale, int convention,
                                           void* stream);

#ifdef __cplusplus
}
#endif
