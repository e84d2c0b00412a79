// A training step of a coprocessor with packed groups, beside the same loss by separate forwards.
//
//   bench_latents BASE [--length T] [--texts B] [--groups G] [--latents N] [--ahead A]
//                 [--seconds S] [--set KEY=VALUE ...] [--profile]
//
// BASE is a pretrained model (load_pretrained). Texts are random tokens, insertion points evenly
// spaced, everything f32. A step is forward, backward and AdamW: "packed_ms", and its three parts;
// "separate_ms" does the same with one plain forward and backward for each group, over nothing but
// the group's own prefix, latents and ahead tokens, in one pass over all groups. "loss" and
// "separate_loss" are the two sums over targets. "context_pairs" and "own_pairs" count what a row
// of a group sees of its text and of its group, summed over the rows of the base's groups, over
// those whose final states are wanted ("wanted_rows"), and over the coprocessor's. --set changes an
// option of the coprocessor (a JSON value). --profile says on stderr where packed steps spend their
// time, by kernel and by op. Threads as OMP_NUM_THREADS says. Prints one JSON object.

#include <omp.h>

#include <string>
#include <vector>

#include "kernels/kernel.h"
#include "layers/coprocessor/augmented_model.h"
#include "tests/benchmarks/program.h"
#include "tests/benchmarks/timing.h"
#include "trainers/checks/mask_check.h"
#include "trainers/monitoring/profile_report.h"
#include "trainers/optimizers/optimizer.h"
#include "trainers/probes/separate_group.h"

namespace reverie::benchmark {
namespace {

struct Options {
  std::string base;
  int64_t length = 256, texts = 1, groups = 128, latents = 16, ahead = 16;
  double seconds = 3;
  bool profile = false;
  std::vector<std::string> overrides;
};

Tensor random_tokens(int64_t texts, int64_t length, int64_t vocabulary) {
  Generator random(1);
  Tensor tokens = Tensor::empty({texts, length}, DType::i32);
  for (int64_t i = 0; i < tokens.numel(); ++i)
    tokens.mutable_data<int32_t>()[i] = int32_t(random.below(uint64_t(vocabulary)));
  return tokens;
}

Tensor spaced_limits(const Options& o) {
  Tensor limits = Tensor::empty({o.texts, o.groups}, DType::i32);
  const int64_t last = o.length + 1 - o.ahead;
  for (int64_t i = 0; i < limits.numel(); ++i)
    limits.mutable_data<int32_t>()[i] =
        int32_t(1 + (last - 1) * (i % o.groups) / std::max<int64_t>(1, o.groups - 1));
  return limits;
}

// Pairs of a row and a key, of the last `count` rows of groups of so many rows.
Json pairs(const Tensor& limits, int64_t rows, int64_t count) {
  int64_t context = 0;
  for (int64_t i = 0; i < limits.numel(); ++i) context += limits.data<int32_t>()[i] * count;
  return {{"rows", limits.numel() * count},
          {"context_pairs", context},
          {"own_pairs", limits.numel() * count * (2 * rows - count + 1) / 2}};
}

Json measure(const Options& o) {
  Config config(Json{{"type", "augmented"},
                     {"base", o.base},
                     {"latents", {{"type", "coprocessor"}, {"count", o.latents}}},
                     {"block_size", o.length},
                     {"groups", o.groups},
                     {"ahead", o.ahead}},
                "$");
  for (const std::string& one : o.overrides) config.set("latents." + one);
  Generator random(2);
  const ModelRegistry& models = ModelRegistry::instance();
  const auto model = models.make(resolve_component(models, config), Build{random});
  auto& augmented = dynamic_cast<AugmentedModel&>(*model);
  FlatParameters parameters(*model);
  const auto optimizer = OptimizerRegistry::instance().make(
      resolve_component(OptimizerRegistry::instance(), Config(Json{{"type", "adamw"}}, "$")),
      parameters);
  const Tensor tokens = random_tokens(o.texts, o.length, model->vocabulary_size()),
               limits = spaced_limits(o);
  const InsertionPoints points = insertion_points(tokens, tokens, limits, o.ahead);

  double loss = 0, separate = 0, forward_ms = 0, backward_ms = 0, update_ms = 0;
  const auto update = [&] { optimizer->step(0, parameters.gradient_norm()); };
  const auto packed = [&] {
    const double begin = seconds_now();
    parameters.clear_gradients();
    const Variable sum =
        model->loss_of(augmented.ahead_hidden(tokens, points), points.targets, 1.0);
    loss = sum.tensor().item();
    const double middle = seconds_now();
    backward(sum);
    const double end = seconds_now();
    update();
    forward_ms = 1e3 * (middle - begin);
    backward_ms = 1e3 * (end - middle);
    update_ms = 1e3 * (seconds_now() - end);
  };
  const double packed_ms = median_ms(o.seconds, packed);
  if (o.profile) {
    const Ceilings ceilings = measure_ceilings();
    profile::start();
    for (int i = 0; i < 10; ++i) {
      const profile::Scope step(profile::Kind::step, "step");
      packed();
    }
    fmt::print(stderr, "{}\n", profile_table(summarise(profile::stop()), ceilings, false));
  }
  const auto one_by_one = [&] {
    parameters.clear_gradients();
    separate = 0;
    for (int64_t b = 0; b < o.texts; ++b)
      for (int64_t g = 0; g < o.groups; ++g) {
        const Variable part = separate_loss(augmented, tokens, points, b, g);
        separate += part.tensor().item();
        backward(part);
      }
    update();
  };
  one_by_one();
  const double begin = seconds_now();
  one_by_one();
  const double separate_ms = 1e3 * (seconds_now() - begin);

  const TransformerShape& s = augmented.base().shape();
  const int64_t rows = augmented.source().writes_cache() ? o.ahead : o.latents + o.ahead - 1;
  return {{"base",
           {{"layers", s.layers},
            {"heads", s.heads},
            {"kv_heads", s.kv_heads},
            {"head_dim", s.head_dim},
            {"width", s.features},
            {"hidden", s.hidden},
            {"vocabulary", s.vocabulary}}},
          {"texts", o.texts},
          {"length", o.length},
          {"groups", o.groups},
          {"latents", o.latents},
          {"ahead", o.ahead},
          {"trained_parameters", augmented.source().parameter_count()},
          {"base_rows", pairs(limits, rows, rows)},
          {"wanted_rows", pairs(limits, rows, o.ahead)},
          {"coprocessor_rows", pairs(limits, o.latents, o.latents)},
          {"packed_ms", packed_ms},
          {"forward_ms", forward_ms},
          {"backward_ms", backward_ms},
          {"update_ms", update_ms},
          {"separate_ms", separate_ms},
          {"speedup", separate_ms / packed_ms},
          {"loss", loss},
          {"separate_loss", separate},
          {"isa", name_of(active_isa())},
          {"threads", omp_get_max_threads()}};
}

}  // namespace
}  // namespace reverie::benchmark

int main(int count, char** arguments) {
  using namespace reverie;
  benchmark::Options o;
  CLI::App app("A coprocessor's training step, packed and by separate forwards", "bench_latents");
  app.add_option("base", o.base, "a pretrained model")->required();
  app.add_option("--length", o.length, "tokens of a text")->check(CLI::PositiveNumber);
  app.add_option("--texts", o.texts, "texts of a step")->check(CLI::PositiveNumber);
  app.add_option("--groups", o.groups, "insertion points of a text")->check(CLI::PositiveNumber);
  app.add_option("--latents", o.latents, "N_L")->check(CLI::PositiveNumber);
  app.add_option("--ahead", o.ahead, "N_A")->check(CLI::PositiveNumber);
  app.add_option("--seconds", o.seconds, "for the packed step")->check(CLI::PositiveNumber);
  app.add_option("--set", o.overrides, "an option of the coprocessor, KEY=VALUE")
      ->take_all()
      ->allow_extra_args(false);
  app.add_flag("--profile", o.profile, "tell on stderr where packed steps spend their time");
  return benchmark::run_program(app, count, arguments, [&] {
    require(o.ahead <= o.length, "{} tokens ahead do not fit texts of {}", o.ahead, o.length);
    return benchmark::measure(o);
  });
}
