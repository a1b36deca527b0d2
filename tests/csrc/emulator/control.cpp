// What a test sets and asks, in the emulated library.
#include "fibers.h"

#include <utility>

extern "C" {
// 0: threads and blocks in order. Other seeds shuffle both.
void emulator_set_seed(uint64_t seed) { emulator::seed = seed; }
// Whether launches are written down and not run.
void emulator_only_record(bool only) { emulator::only_record = only; }
// What went wrong in the last launch; empty if nothing did.
const char* emulator_problem() { return emulator::problem.c_str(); }
// The launches since the last call, a line each.
const char* emulator_launches() {
  static std::string text;
  text.clear();
  for (const std::string& launch : emulator::launches) text += launch + "\n";
  emulator::launches.clear();
  return text.c_str();
}
// How many stores of so many bytes there were since the last call.
uint64_t emulator_stores(int bytes) { return std::exchange(emulator::stores[bytes], 0); }
}
