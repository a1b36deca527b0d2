// Beside the emulated launchers: what they call an error has no text of the CUDA runtime.
extern "C" const char* lesionkit_error_string(int) { return "refused by the emulated launcher"; }
