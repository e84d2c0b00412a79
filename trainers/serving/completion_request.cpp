#include "trainers/serving/completion_request.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>
#include <utility>

#include "core/config.h"
#include "core/error.h"
#include "core/json.h"
#include "trainers/evaluation/written_text.h"
#include "trainers/serving/request_object.h"

namespace reverie {
namespace {

// The keys that hold one plain value.
struct PlainKeys final : Fieldset {
  explicit PlainKeys(const RequestLimits& l) : limits(l) {}
  RequestLimits limits;
  std::string model, user;
  int64_t max_tokens = 16, n = 1, best_of = 1, top_k = 0;
  double temperature = 1, top_p = 1, min_p = 0, repetition_penalty = 1;
  bool echo = false, stream = false, ignore_eos = false;
  void fields(Fields& f) override {
    f.text("model", model, {}, "one of the names of /v1/models");
    f.text("user", user, {}, "ignored");
    f.integer("max_tokens", max_tokens, {0, int64_t(1) << 30}, "tokens to write");
    f.integer("n", n, {1, limits.samples}, "texts behind each prompt");
    f.integer("best_of", best_of, {1, limits.samples}, "the same as n");
    f.integer("top_k", top_k, {0, int64_t(1) << 30}, "draw among so many; 0: among all");
    f.number("temperature", temperature, {0, 1e6}, "0: always the likeliest token");
    f.number("top_p", top_p, {1e-9, 1}, "draw among the likeliest that hold this probability");
    f.number("min_p", min_p, {0, 1}, "draw among tokens so many times as likely as the likeliest");
    f.number("repetition_penalty", repetition_penalty, {1e-6, 1e6},
             "divides the logits of tokens that the text holds; 1: none");
    f.boolean("ignore_eos", ignore_eos, "tokens that end a text do not");
    f.boolean("echo", echo, "the answer begins with the prompt");
    f.boolean("stream", stream, "the answer comes piece by piece");
  }
};

// A value for a message.
std::string shown(const Json& value) {
  std::string text = json_text(value);
  if (text.size() > 80) text = text.substr(0, 80) + "...";
  return text;
}

// The value of a key, which is taken out; null where it is absent.
Json taken(Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return nullptr;
  Json value = *found;
  object.erase(found);
  return value;
}

int64_t integer_at(const Json& value, const std::string& where, int64_t low, int64_t high) {
  const bool integer = value.is_number_integer();
  const bool fits =
      integer && (!value.is_number_unsigned() || value.get<uint64_t>() <= uint64_t(INT64_MAX));
  require(fits && value.get<int64_t>() >= low && value.get<int64_t>() <= high,
          "{} is {}, wanted an integer from {} to {}", where, shown(value), low, high);
  return value.get<int64_t>();
}

// Keys of the API that this server has no use for: only with the value that changes nothing.
void require_neutral(Json& object, int64_t samples, int64_t best_of) {
  for (const char* key : {"presence_penalty", "frequency_penalty"}) {
    const Json value = taken(object, key);
    require(value.is_null() || (value.is_number() && value.get<double>() == 0),
            "{} is {}, and this server has none: wanted 0, or leave it out", key, shown(value));
  }
  const Json bias = taken(object, "logit_bias"), suffix = taken(object, "suffix");
  require(bias.is_null() || (bias.is_object() && bias.empty()),
          "logit_bias is not supported: leave it out");
  require(suffix.is_null() || (suffix.is_string() && suffix.get_ref<const std::string&>().empty()),
          "suffix is not supported: leave it out");
  require(best_of == 1 || best_of == samples,
          "best_of is {} and n is {}: this server gives every text that it writes, so that both "
          "must be the same",
          best_of, samples);
}

Prompt prompt_of_text(const std::string& text, const ServedModel& model) {
  Prompt prompt;
  prompt.text = text;
  prompt.tokens = prompt_tokens(model.tokenizer(), text, model.vocabulary());
  prompt.added = model.tokenizer().adds_begin_of_text() ? 1 : 0;
  return prompt;
}

Prompt prompt_of_ids(const Json& ids, const std::string& where, const ServedModel& model) {
  require(!ids.empty(), "{} is empty, wanted one token or more", where);
  const int64_t known = std::min<int64_t>(model.tokenizer().vocabulary_size(), model.vocabulary());
  Prompt prompt;
  for (size_t i = 0; i < ids.size(); ++i)
    prompt.tokens.push_back(
        int32_t(integer_at(ids[i], fmt::format("{}[{}]", where, i), 0, known - 1)));
  prompt.text = model.tokenizer().decode(prompt.tokens);
  return prompt;
}

// A text, token ids, or a list of either.
std::vector<Prompt> prompts_of(const Json& value, const ServedModel& model, int64_t most) {
  if (value.is_string()) return {prompt_of_text(value.get<std::string>(), model)};
  require(value.is_array() && !value.empty(),
          "prompt is {}, wanted a text, a list of token ids, or a list of either",
          value.is_null()    ? "missing"
          : value.is_array() ? "an empty list"
                             : value.type_name());
  if (value[0].is_number()) return {prompt_of_ids(value, "prompt", model)};
  require(int64_t(value.size()) <= most, "{} prompts in one request, wanted {} or fewer",
          value.size(), most);
  std::vector<Prompt> prompts;
  for (size_t i = 0; i < value.size(); ++i) {
    const std::string where = fmt::format("prompt[{}]", i);
    require(value[i].is_string() == value[0].is_string() &&
                (value[i].is_string() || value[i].is_array()),
            "{} is {}, wanted {} like those before it", where, value[i].type_name(),
            value[0].is_string() ? "a text" : "a list of token ids");
    prompts.push_back(value[i].is_string() ? prompt_of_text(value[i].get<std::string>(), model)
                                           : prompt_of_ids(value[i], where, model));
  }
  return prompts;
}

std::vector<std::string> stops_of(const Json& value, int64_t most) {
  if (value.is_null()) return {};
  const Json list = value.is_array() ? value : Json::array({value});
  require(int64_t(list.size()) <= most, "{} stop strings, wanted {} or fewer", list.size(), most);
  std::vector<std::string> stops;
  for (const Json& stop : list) {
    require(stop.is_string() && !stop.get_ref<const std::string&>().empty(),
            "a stop string is {}, wanted a text that is not empty", shown(stop));
    stops.push_back(stop.get<std::string>());
  }
  return stops;
}

// Tokens up to the last place where `marker` ends.
int64_t tokens_up_to(const Prompt& prompt, const std::string& marker, const Tokenizer& tokenizer,
                     const std::string& where) {
  std::string text;
  std::vector<size_t> ends;
  for (const int32_t token : prompt.tokens) {
    text += tokenizer.decode_continued(std::span(&token, 1));
    ends.push_back(text.size());
  }
  const size_t found = text.rfind(marker);
  require(found != std::string::npos,
          "{} does not hold \"{}\", behind which the latents go (--latents-behind): say where they "
          "go in (latents_after), or ask for the base",
          where, marker);
  const auto end = std::lower_bound(ends.begin(), ends.end(), found + marker.size());
  const int64_t tokens = end - ends.begin() + 1;
  require(tokens < int64_t(prompt.tokens.size()),
          "{} ends with \"{}\", behind which the latents go (--latents-behind): no token behind "
          "them is scored",
          where, marker);
  return tokens;
}

// Where latents go into each prompt: see docs/serving.md.
void place_latents(CompletionRequest& request, const Json& given, const ServedModel& model,
                   const RequestLimits& limits) {
  if (!request.latents) {
    require(given.is_null(), "latents_after is given, but {} has no latents", request.model);
    return;
  }
  require(!given.is_array() || given.size() == request.prompts.size(),
          "latents_after holds {} places for {} prompts", given.size(), request.prompts.size());
  for (size_t i = 0; i < request.prompts.size(); ++i) {
    Prompt& prompt = request.prompts[i];
    const std::string where = fmt::format("prompt[{}]", i);
    const int64_t time = int64_t(prompt.tokens.size());
    if (!given.is_null()) {
      prompt.latents_after =
          integer_at(given.is_array() ? given[i] : given, "latents_after", 1, time);
      require(!request.scores_prompt() || request.max_tokens > 0 || prompt.latents_after < time,
              "latents_after is {}, and {} has as many tokens: none behind the latents is scored, "
              "and the base's own scores would look like theirs",
              time, where);
    } else if (!request.scores_prompt()) {
      prompt.latents_after = time;
    } else if (!limits.latents_behind.empty()) {
      prompt.latents_after = tokens_up_to(prompt, limits.latents_behind, model.tokenizer(), where);
    } else {
      throw UserError(fmt::format(
          "{} scores a prompt behind its latents, but nothing says where they go in: send "
          "latents_after (tokens of the prompt in front of them), or start the server with "
          "--latents-behind TEXT",
          request.model));
    }
  }
}

void require_fits(const CompletionRequest& request, const ServedModel& model, int64_t most) {
  const int64_t latents = request.latents ? model.latent_rows() : 0;
  for (size_t i = 0; i < request.prompts.size(); ++i) {
    const int64_t time = int64_t(request.prompts[i].tokens.size());
    require(most == 0 || time <= most,
            "prompt[{}] has {} tokens, this server takes {} (--max-prompt)", i, time, most);
    require(time + latents + request.max_tokens <= model.context(),
            "prompt[{}] has {} tokens{} and max_tokens is {}, together {}, but the model's context "
            "is {}: shorten the prompt or lower max_tokens",
            i, time, latents ? fmt::format(" and {} latents", latents) : "", request.max_tokens,
            time + latents + request.max_tokens, model.context());
  }
}

uint64_t seed_of(const Json& value) {
  if (value.is_null()) return std::random_device()();
  require(value.is_number_integer(), "seed is {}, wanted an integer", shown(value));
  return value.is_number_unsigned() ? value.get<uint64_t>() : uint64_t(value.get<int64_t>());
}

}  // namespace

const ServedName& requested_name(const Json& body, const ServedModel& model) {
  const auto found = body.find("model");
  if (found == body.end() || found->is_null()) return model.names()[0];
  require(found->is_string(), "model is {}, wanted a name", shown(*found));
  if (const ServedName* name = model.find(found->get_ref<const std::string&>())) return *name;
  std::vector<std::string> known;
  for (const ServedName& name : model.names()) known.push_back(name.id);
  throw UnknownModel(
      fmt::format("there is no model {}; served: {}", shown(*found), fmt::join(known, ", ")));
}

CompletionRequest parse_completion_request(std::string_view body, const ServedModel& model,
                                           const RequestLimits& limits) {
  Json object = request_object(body);
  const ServedName& name = requested_name(object, model);
  CompletionRequest request;
  request.model = name.id;
  request.latents = name.latents;
  const Json prompt = taken(object, "prompt"), stop = taken(object, "stop"),
             seed = taken(object, "seed"), logprobs = taken(object, "logprobs"),
             latents_after = taken(object, "latents_after");
  PlainKeys keys(limits);
  {
    Json others = object;
    for (const char* key : {"presence_penalty", "frequency_penalty", "logit_bias", "suffix"})
      others.erase(key);
    read_config(Config(std::move(others), "$", "the request"), keys);
  }
  require_neutral(object, keys.n, keys.best_of);
  request.samples = keys.n;
  request.max_tokens = keys.max_tokens;
  request.choice = {keys.temperature, keys.top_k, keys.top_p, keys.min_p, keys.repetition_penalty};
  require_valid(request.choice);
  request.echo = keys.echo;
  request.stream = keys.stream;
  request.past_end = keys.ignore_eos;
  if (!logprobs.is_null())
    request.likeliest = integer_at(logprobs, "logprobs", 0, limits.likeliest);
  request.seed = seed_of(seed);
  request.stops = stops_of(stop, limits.stops);
  request.prompts = prompts_of(prompt, model, limits.prompts);
  place_latents(request, latents_after, model, limits);
  require_fits(request, model, limits.prompt_tokens);
  return request;
}

}  // namespace reverie
