#include "trainers/cli/sample_latents.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/log.h"
#include "trainers/generation/latents_aside.h"
#include "trainers/text/activity.h"
#include "trainers/text/terminal.h"

namespace reverie {
namespace {

using Opened = std::vector<OpenedCoprocessor>;
using Suppliers = std::vector<std::shared_ptr<LatentSupplier>>;
constexpr double kLongestWait = 30;

// A line of its own on standard output.
void say(const std::string& line) {
  fmt::print("{}\n", fit_terminal(STDOUT_FILENO, line));
}

int64_t late_of(const OpenedCoprocessor& c, const LatentArguments& a) {
  return a.late.value_or(c.model->options().delay);
}

Suppliers blocking_latents(const Opened& opened, const LatentArguments& a) {
  Suppliers all;
  for (const OpenedCoprocessor& c : opened)
    all.push_back(std::make_shared<BlockingLatents>(*c.model, late_of(c, a), a.every));
  return all;
}

Suppliers latents_aside(const Opened& opened, const LatentArguments& a) {
  const AsideOptions options{a.contained ? Aside::process : Aside::thread, a.late,
                             a.longest_wait.value_or(kLongestWait)};
  Suppliers all;
  for (const OpenedCoprocessor& c : opened)
    all.push_back(std::make_shared<LatentsAside>(c.model, options));
  return all;
}

GenerateOptions options_with(GenerateOptions options, Suppliers latents) {
  options.latents = std::move(latents);
  return options;
}

// "3 latents behind the prompt"; with several coprocessors, of which each.
std::string latents_in_words(const Opened& opened, const LatentArguments& a, bool pinned) {
  std::string words;
  for (const OpenedCoprocessor& c : opened) {
    words += fmt::format("{}{} latents", words.empty() ? "" : ", ", c.model->source().count());
    if (opened.size() > 1) words += " of " + c.path;
    const int64_t late = late_of(c, a);
    if (pinned)
      words += late == 0 ? std::string(" behind the prompt")
                         : fmt::format(" that arrive {} tokens late", late);
  }
  if (a.every > 0) words += fmt::format(", made anew every {} tokens", a.every);
  return words;
}

Json fields_of(const Opened& opened, const LatentArguments& a) {
  Json all = Json::array();
  for (const OpenedCoprocessor& c : opened)
    all.push_back({{"coprocessor", c.run.description},
                   {"latents", c.model->source().count()},
                   {"latents_late", late_of(c, a)}});
  if (a.every > 0) all[0]["latents_every"] = a.every;
  return all.size() == 1 ? all[0] : Json{{"coprocessors", all}};
}

// Waits for coprocessors that the text did not wait for; whether all latents were made.
bool all_made(const Suppliers& suppliers, const LatentArguments& a) {
  const Activity activity("waiting for the coprocessor");
  bool made = true;
  for (const auto& supplier : suppliers) {
    auto& latents = dynamic_cast<LatentsAside&>(*supplier);
    if (latents.report().failure.empty())
      latents.ended_within(a.longest_wait.value_or(kLongestWait));
    made = made && latents.report().seconds.has_value();
  }
  return made;
}

// Says what became of the latents of a text of so many tokens -> the same for a file.
Json say_arrival(const OpenedCoprocessor& c, const LatentArrival& report, size_t tokens,
                 const LatentArguments& a, bool alone, const std::string& prefix) {
  Json json = {{"coprocessor", c.run.description},
               {"arrived_after", report.arrived_after ? Json(*report.arrived_after) : Json()},
               {"seconds", report.seconds ? Json(*report.seconds) : Json()}};
  if (!report.failure.empty()) {
    json["failure"] = report.failure;
    log_warning("the coprocessor of {} failed ({}): the text has none of its latents{}", c.path,
                report.failure, alone ? ", and is the base's own" : "");
  } else if (!report.seconds) {
    log_warning(
        "the coprocessor of {} was not ready {} s after the text's end: the text has none of its "
        "latents{} (--latents-wait waits longer)",
        c.path, a.longest_wait.value_or(kLongestWait), alone ? ", and is the base's own" : "");
  } else if (!report.arrived_after) {
    say(fmt::format(
        "{} ready {:.3g} s after the prompt was read, when the text of {} tokens had ended", prefix,
        *report.seconds, tokens));
  } else {
    const std::string same =
        a.late || !alone
            ? std::string()
            : fmt::format("; --latents-late {} writes the same text", *report.arrived_after);
    say(fmt::format("{} ready {:.3g} s after the prompt was read, in the text after {} tokens{}",
                    prefix, *report.seconds, *report.arrived_after, same));
  }
  return json;
}

Json say_arrivals(const Opened& opened, const Suppliers& suppliers, size_t tokens,
                  const LatentArguments& a) {
  const bool alone = opened.size() == 1;
  Json all = Json::array();
  for (size_t i = 0; i < opened.size(); ++i)
    all.push_back(say_arrival(opened[i], suppliers[i]->report(), tokens, a, alone,
                              alone ? std::string("the latents were")
                                    : fmt::format("the latents of {} were", opened[i].path)));
  return all;
}

// Tokens per second of a text that is not shown, the prompt's reading included.
double speed_of(LanguageModel& model, const std::vector<int32_t>& prompt,
                const GenerateOptions& options) {
  const auto begun = std::chrono::steady_clock::now();
  const size_t tokens = generate(model, prompt, options).size();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begun;
  return double(tokens) / seconds.count();
}

// Another round of the three texts, so that weights are in memory for all of them.
Json say_speeds(const Opened& opened, const std::vector<int32_t>& prompt, const LatentArguments& a,
                const GenerateOptions& options) {
  LanguageModel& base = opened[0].model->base();
  const Activity activity("measuring");
  const Suppliers beside = latents_aside(opened, a);
  Json speed;
  speed["base"] = speed_of(base, prompt, options);
  speed["blocking"] = speed_of(base, prompt, options_with(options, blocking_latents(opened, a)));
  speed["async"] = speed_of(base, prompt, options_with(options, beside));
  int64_t arrived = 0;
  for (const auto& supplier : beside) arrived += supplier->report().arrived_after ? 1 : 0;
  speed["arrived"] = arrived;
  say(fmt::format(
      "tokens per second, the prompt and the latents included: {:.1f} the base alone, {:.1f} "
      "blocking, {:.1f} async{}",
      speed["base"].get<double>(), speed["blocking"].get<double>(), speed["async"].get<double>(),
      arrived == int64_t(beside.size()) ? "" : " (here the text ended before its latents came)"));
  all_made(beside, a);
  return speed;
}

void write_async(const Opened& opened, const std::vector<int32_t>& prompt, const LatentArguments& a,
                 const GenerateOptions& options, const WriteText& write, Json& out) {
  LanguageModel& base = opened[0].model->base();
  say(fmt::format("==== with {}, made {} while the base writes",
                  latents_in_words(opened, a, a.late.has_value()),
                  a.contained ? "in a copy of the process" : "on a thread of their own"));
  const Suppliers beside = latents_aside(opened, a);
  Json async = write(base, options_with(options, beside));
  const bool made = all_made(beside, a);
  if (made) {
    say(fmt::format("==== with {}, for which the base waits", latents_in_words(opened, a, true)));
    out["blocking"] = write(base, options_with(options, blocking_latents(opened, a)));
  }
  async["coprocessors"] = say_arrivals(opened, beside, async["tokens"].size(), a);
  async["where"] = a.contained ? "process" : "thread";
  out["with_latents"] = std::move(async);
  if (made)
    out["speed"] = say_speeds(opened, prompt, a, options);
  else
    say("tokens per second: not measured, for want of latents");
}

}  // namespace

void LatentArguments::add_to(CLI::App& command) {
  command
      .add_option("--coprocessor", runs,
                  "a run that trained latents beside this model (\"augmented\"). The latents are "
                  "made once, from the KV cache of the prompt. Prints the model's text without "
                  "latents, then with them (repeatable: latents of several runs)")
      ->take_all()
      ->allow_extra_args(false);
  command
      .add_option("--latents-late", late,
                  "the latents arrive this many tokens after the prompt, as from a slower "
                  "coprocessor (default: the run's own delay, or 0; with --async: when they are "
                  "ready)")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--latents-every", every,
                  "make the latents anew after every so many tokens of the text, in place of the "
                  "old ones; 0: once, behind the prompt")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command.add_flag("--async", async,
                   "the coprocessor works on a thread of its own while the base goes on writing, "
                   "and the latents enter at the first token after they are ready. Prints when "
                   "they arrived, and the speeds");
  command.add_flag("--contained", contained,
                   "with --async: the coprocessor works in a copy of the process, so that the text "
                   "outlives its crash (not on a GPU)");
  command
      .add_option("--latents-wait", longest_wait,
                  fmt::format("with --async: seconds to wait for latents, where --latents-late "
                              "says they enter or behind the text's end (default: {})",
                              kLongestWait))
      ->check(CLI::NonNegativeNumber);
}

void LatentArguments::require_consistent(int64_t samples) const {
  require(!late || !runs.empty(),
          "--latents-late applies to the latents of a --coprocessor: name one, or remove it");
  require(every == 0 || !runs.empty(),
          "--latents-every applies to the latents of a --coprocessor: name one, or remove it");
  require(every == 0 || runs.size() == 1,
          "--latents-every replaces all latents of the text, but {} of --coprocessor were given: "
          "name one, or remove it",
          runs.size());
  require(every == 0 || !async,
          "--latents-every makes the base wait for each of its latents, and --async does not: "
          "remove one of them");
  require(!async || !runs.empty(),
          "--async applies to the latents of a --coprocessor: name one, or remove it");
  require(async || (!contained && !longest_wait),
          "--contained and --latents-wait apply to --async: give it, or remove them");
  require(!async || samples == 1,
          "--async writes one text, but --samples is {}: remove one of them", samples);
}

std::vector<OpenedCoprocessor> open_coprocessors(const LatentArguments& arguments,
                                                 const std::string& tokenizer) {
  Opened opened;
  for (const std::string& path : arguments.runs)
    opened.push_back({path, open_model(path, {tokenizer}), nullptr});
  return opened;
}

void put_beside(std::vector<OpenedCoprocessor>& opened, const UsableModel& base,
                const std::string& base_path) {
  for (OpenedCoprocessor& c : opened) {
    AugmentedModel& model = coprocessor_beside(c.run, c.path, base, base_path);
    c.model = std::shared_ptr<AugmentedModel>(
        std::shared_ptr<LanguageModel>(std::move(c.run.model)), &model);
  }
}

void write_with_latents(const std::vector<OpenedCoprocessor>& opened,
                        const std::vector<int32_t>& prompt, const LatentArguments& arguments,
                        const GenerateOptions& options, const WriteText& write, Json& out) {
  LanguageModel& base = opened[0].model->base();
  for (const OpenedCoprocessor& c : opened)
    require_valid(LatentRenewal{arguments.every, late_of(c, arguments)});
  say("==== the base alone");
  out["base"] = write(base, options);
  out.update(fields_of(opened, arguments));
  if (arguments.async) return write_async(opened, prompt, arguments, options, write, out);
  say(fmt::format("==== with {}", latents_in_words(opened, arguments, true)));
  out["with_latents"] = write(base, options_with(options, blocking_latents(opened, arguments)));
}

}  // namespace reverie
