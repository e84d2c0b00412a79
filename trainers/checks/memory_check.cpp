#include "trainers/checks/memory_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <set>

#include "core/error.h"
#include "layers/coprocessor/augmented_model.h"

namespace reverie {
namespace {

int64_t rows_of(const MemoryState& state) {
  return state.values.empty() ? 0 : state.values.begin()->second.size(0);
}

// The layer whose state a name means ("3.sum"); -1: no layer's own.
int64_t layer_of(const std::string& name) {
  size_t digits = 0;
  while (digits < name.size() && std::isdigit(static_cast<unsigned char>(name[digits]))) ++digits;
  if (digits == 0 || digits > 9 || (digits < name.size() && name[digits] != '.')) return -1;
  return std::stoll(name.substr(0, digits));
}

std::set<int64_t> layers_of(const MemoryState& state) {
  std::set<int64_t> layers;
  for (const auto& [name, value] : state.values)
    if (const int64_t layer = layer_of(name); layer >= 0) layers.insert(layer);
  return layers;
}

OtherMemory frozen_memory() {
  return {"frozen",
          [](const MemoryState&, const MemoryState& first,
             int64_t window) -> std::optional<MemoryState> {
            // The second window's memory is that of the first in any case.
            return window < 2 ? std::nullopt : std::optional(first);
          }};
}

OtherMemory wiped_layer(const LanguageModel& model, int64_t layer) {
  return {fmt::format("layer {}", layer),
          [&model, layer](const MemoryState& carried, const MemoryState&, int64_t) {
            MemoryState state = carried;
            const auto of_layer = [&](const auto& named) { return layer_of(named.first) == layer; };
            std::erase_if(state.values, of_layer);
            std::erase_if(state.counters, of_layer);
            const MemoryState clean = model.initial_memory(rows_of(carried));
            for (const auto& named : clean.values)
              if (of_layer(named)) state.values.insert(named);
            for (const auto& named : clean.counters)
              if (of_layer(named)) state.counters.insert(named);
            return std::optional(state);
          }};
}

// From the other side: of carrying, not of wiping.
LossChange reversed(LossChange change) {
  change.mean = -change.mean;
  const auto low = change.low;
  change.low = change.high ? std::optional(-*change.high) : std::nullopt;
  change.high = low ? std::optional(-*low) : std::nullopt;
  return change;
}

// What the model carries out of a text's first window.
MemoryState first_memory(LanguageModel& model, const ConsecutiveWindows& windows) {
  const EvaluationMode mode(model);
  SequenceState state;
  model.hidden(windows.batch(0, 0).tokens, &state);
  return state.memory;
}

void require_later_windows(const ConsecutiveWindows& windows) {
  int64_t texts = 0;
  for (int64_t g = 0; g < windows.group_count(); ++g) texts += windows.rows_at(g, 1);
  require(texts >= 2,
          "{} of the {} texts to read have more than one window of {} tokens, wanted 2 or more: "
          "what is carried into later windows can be seen in longer validation texts only",
          texts, windows.text_count(), windows.block_size());
}

MemoryCheck::Use judged(const MemoryCheck& check) {
  const LossChange &wiped = check.lines[0].change, &swapped = check.lines[1].change;
  if (!check.carried_in_training || !wiped.rises()) return MemoryCheck::Use::not_used;
  return swapped.rises() ? MemoryCheck::Use::used : MemoryCheck::Use::any_text;
}

const char* word_of(MemoryCheck::Use use) {
  switch (use) {
    case MemoryCheck::Use::none:
      return "none";
    case MemoryCheck::Use::not_used:
      return "not_used";
    case MemoryCheck::Use::any_text:
      return "any_text";
    case MemoryCheck::Use::used:
      return "used";
  }
  throw InternalError("a use of memory without a word");
}

Json lines_json(const std::vector<MemoryCheck::Line>& lines) {
  Json out = Json::object();
  for (const MemoryCheck::Line& line : lines) {
    Json& json = out[line.name] = line.change.json();
    if (line.change.predictions == 0) continue;
    json["loss"] = line.loss;
    json["loss_carried"] = line.carried;
  }
  return out;
}

}  // namespace

MemoryCheck check_memory(LanguageModel& model, const ConsecutiveWindows& windows,
                         const EvaluationProgress& progress, ForwardAudit* audit) {
  require(
      dynamic_cast<AugmentedModel*>(&model) == nullptr,
      "the model's type is \"augmented\", wanted one with a memory of its own: latents are made "
      "anew at each insertion, and `reverie eval` says what they change");
  const MemoryState memory = first_memory(model, windows);
  std::vector<OtherMemory> others;
  std::vector<std::string> what;
  if (!memory.values.empty()) {
    require_later_windows(windows);
    others = {reset_memory(), swapped_memory(), frozen_memory()};
    others[0].name = "wiped";
    what = {"wiped at every window", "swapped with another text's",
            "frozen after the first window"};
    for (const int64_t layer : layers_of(memory)) {
      others.push_back(wiped_layer(model, layer));
      what.push_back(fmt::format("layer {} alone wiped", layer));
    }
  }
  const CarriedLosses read =
      read_carried(model, windows, others, single_communicator(), progress, audit);
  // The verdict is made from the first two. The others may have no window to be asked of.
  for (size_t i = 0; i < std::min<size_t>(2, others.size()); ++i)
    require(
        read.others[i].all().targets > 0,
        "{}: no window that was read later than a text's first holds a target ({} windows of {} "
        "texts): wanted more windows, or texts with more targets",
        what[i], read.windows, read.texts);
  MemoryCheck check;
  check.carried_in_training = model.carries_memory();
  check.loss = read.loss;
  check.predictions = read.predictions;
  check.texts = read.texts;
  check.windows = read.windows;
  check.documents = read.documents;
  for (size_t i = 0; i < others.size(); ++i) {
    const PairedSums all = read.others[i].all();
    MemoryCheck::Line line{others[i].name, what[i], all.changed / all.targets,
                           all.carried / all.targets, read.others[i].change()};
    (i < 3 ? check.lines : check.layers).push_back(std::move(line));
  }
  if (!others.empty()) check.use = judged(check);
  return check;
}

std::string MemoryCheck::sentence() const {
  if (use == Use::none) return "The model has no memory that goes on from one window to the next.";
  const LossChange &wiped = lines[0].change, &swapped = lines[1].change;
  switch (use) {
    case Use::used:
      return fmt::format(
          "The model uses its memory across windows: without it, the loss of later windows changes "
          "by {}, with another text's by {}.",
          wiped.text(), swapped.text());
    case Use::any_text:
      return fmt::format(
          "The model uses carried memory, but not what it holds of this text: without it, the loss "
          "of later windows changes by {}, with another text's by {}.",
          wiped.text(), swapped.text());
    default:
      break;
  }
  const std::string does_not = "The model does not use its memory across windows: ";
  if (!carried_in_training)
    return does_not +
           fmt::format(
               "it was trained with its memory wiped at every window. Carried all the same, "
               "it changes the loss of later windows by {}.",
               reversed(wiped).text());
  std::string out =
      does_not + fmt::format("without it, the loss of later windows changes by {}", wiped.text());
  if (wiped.falls()) out += ", so that carrying it makes predictions worse";
  return out + ".";
}

Json MemoryCheck::json() const {
  Json out = {{"memory", word_of(use)},
              {"sentence", sentence()},
              {"loss", loss},
              {"predictions", predictions},
              {"texts", texts},
              {"windows", windows},
              {"of", documents ? "documents" : "pieces of one text"},
              {"carried_in_training", carried_in_training}};
  if (use == Use::none) return out;
  out["changes"] = lines_json(lines);
  out["layers"] = lines_json(layers);
  return out;
}

std::string MemoryCheck::text(const std::string& mark) const {
  std::string out = fmt::format(
      "memory carried from window to window  {:.4f} nats{}  ({} predictions, {} {}, {} "
      "windows)\n",
      loss, mark, predictions, texts, documents ? "documents" : "pieces of the text", windows);
  if (use == Use::none) return out + sentence();
  out += "in later windows, the memory           loss    carried  change [95 % over texts]\n";
  for (const auto* list : {&lines, &layers})
    for (const Line& line : *list)
      out += line.change.predictions == 0
                 ? fmt::format("  {:<34}  not measured: no two texts, or none of so many windows\n",
                               line.what)
                 : fmt::format("  {:<34}  {:.4f}  {:.4f}  {}{}\n", line.what, line.loss,
                               line.carried, line.change.text(), mark);
  return out + sentence();
}

}  // namespace reverie
