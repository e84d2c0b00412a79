#include "trainers/probes/gate_effort.h"

#include <algorithm>
#include <atomic>

namespace reverie {
namespace {

// A tenth of a second, and at an evaluation less, of one core that makes 100 GFLOPs.
constexpr double kFullFormAtStart = 1.2e10, kFullFormAtEvaluation = 4e9;
// A batch of 64 texts of 256 tokens through 11 million parameters is 3.7e11.
constexpr double kFirstForward = 6e11;
// All short forwards at the end of a run together take no more.
constexpr double kShortFormAtEnd = 1.5e11;
constexpr int64_t kFewestForwards = 2;
// Texts in all forwards of probe_causality(), both modes and lengths together.
constexpr double kTextsOfCopyProbe = 700;
constexpr double kCopyProbe = 1e11;
constexpr int64_t kLongestProbed = 256;

std::atomic<int> short_forms{0};

}  // namespace

double full_form_limit(GateMoment moment) {
  if (short_forms > 0) return 0;
  return moment == GateMoment::evaluation ? kFullFormAtEvaluation : kFullFormAtStart;
}
double first_forward_limit() {
  return kFirstForward;
}
int64_t short_form_forwards(GateMoment moment, double flops_of_forward) {
  if (moment != GateMoment::end || short_forms > 0) return kFewestForwards;
  return std::max(kFewestForwards, int64_t(kShortFormAtEnd / std::max(1.0, flops_of_forward)));
}

double forward_flops(const LanguageModel& model, int64_t rows, int64_t length) {
  return double(rows * length) * model.forward_flops_per_token(length);
}
double packed_flops(const AugmentedModel& model, int64_t texts, int64_t length, int64_t groups) {
  return forward_flops(model.base(), texts, length) +
         double(texts * groups) * model.insertion_flops(length);
}
double copy_probe_flops(const LanguageModel& model) {
  const int64_t length = std::min(model.block_size(), kLongestProbed);
  return kTextsOfCopyProbe * forward_flops(model, 1, length);
}
double copy_probe_limit() {
  return short_forms > 0 ? 0 : kCopyProbe;
}

ShortFormsOnly::ShortFormsOnly() {
  ++short_forms;
}
ShortFormsOnly::~ShortFormsOnly() {
  --short_forms;
}

}  // namespace reverie
