// What TensorRT's headers need of CUDA, for hosts without its toolkit.
#pragma once

typedef struct CUstream_st* cudaStream_t;
typedef struct CUevent_st* cudaEvent_t;
