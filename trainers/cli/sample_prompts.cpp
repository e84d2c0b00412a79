#include "trainers/cli/sample_prompts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <system_error>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "trainers/cli/prompt_file.h"
#include "trainers/evaluation/written_text.h"
#include "trainers/serving/completion_answer.h"
#include "trainers/serving/text_writer.h"

namespace reverie {
namespace {

// Texts written side by side, unless --together says otherwise.
constexpr int64_t kTogetherByDefault = 32;

void print_text(const std::string& text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (!written || std::fflush(stdout) != 0)
    throw std::system_error(errno, std::generic_category(), "cannot write to standard output");
}

struct SideText {
  std::string text, finish;
  std::vector<int32_t> tokens;
  std::vector<TokenScore> scores;
};

// Prints texts in their order: the first that has not ended as it comes, those behind it later.
class InOrder {
 public:
  explicit InOrder(size_t count) : waiting_(count), ended_(count, false) { announce(); }
  void add(size_t number, const std::string& more) {
    if (number == turn_)
      print_text(more);
    else
      waiting_[number] += more;
  }
  void end(size_t number) {
    ended_[number] = true;
    while (turn_ < ended_.size() && ended_[turn_]) {
      print_text("\n");
      ++turn_;
      announce();
      if (turn_ < waiting_.size()) print_text(std::exchange(waiting_[turn_], ""));
    }
  }

 private:
  void announce() const {
    if (waiting_.size() > 1 && turn_ < waiting_.size())
      print_text(fmt::format("---- {} of {}\n", turn_ + 1, waiting_.size()));
  }
  std::vector<std::string> waiting_;
  std::vector<bool> ended_;
  size_t turn_ = 0;
};

// The texts behind all prompts under one of the model's names.
class SideBySide {
 public:
  SideBySide(ServedModel& model, std::vector<CompletionRequest> requests, int64_t together)
      : writer_(model),
        requests_(std::move(requests)),
        together_(together),
        completions_(requests_.size()),
        texts_(requests_.size() * size_t(requests_[0].samples)),
        output_(texts_.size()) {}

  std::vector<SideText> write() {
    size_t done = 0, said = 0;
    while (done < texts_.size()) {
      writer_.begin(next_jobs());
      writer_.step();
      done += take_pieces();
      if (done / 100 > said) {
        said = done / 100;
        log_info("{} of {} texts written", done, texts_.size());
      }
    }
    return std::move(texts_);
  }

 private:
  std::vector<PromptJob> next_jobs() {
    const int64_t each = requests_[0].samples;
    std::vector<PromptJob> jobs;
    int64_t texts = writer_.texts();
    while (next_ < requests_.size() && (texts == 0 || texts + each <= together_)) {
      completions_[next_] = std::make_shared<Completion>(std::move(requests_[next_]),
                                                         Completion::Clock::time_point::max());
      jobs.push_back({completions_[next_++], 0});
      texts += each;
    }
    return jobs;
  }
  // Texts that ended with this step.
  size_t take_pieces() {
    size_t ended = 0;
    for (size_t p = first_; p < next_; ++p) {
      if (!completions_[p]) continue;
      const auto each = size_t(completions_[p]->request.samples);
      for (const Piece& piece : completions_[p]->next()) {
        const size_t number = p * each + size_t(piece.text_number);
        add(number, piece);
        ended += piece.finish.empty() ? 0 : 1;
      }
      if (const auto refusal = completions_[p]->refusal()) fail(refusal->message);
      if (completions_[p]->over()) completions_[p] = nullptr;
    }
    while (first_ < next_ && !completions_[first_]) ++first_;
    return ended;
  }
  [[noreturn]] static void fail(const std::string& message) {
    if (message.find("not finite") != message.npos) throw DivergedError(message);
    throw MachineError(message);
  }
  void add(size_t number, const Piece& piece) {
    SideText& text = texts_[number];
    text.text += piece.text;
    text.tokens.insert(text.tokens.end(), piece.tokens.begin(), piece.tokens.end());
    text.scores.insert(text.scores.end(), piece.scores.begin(), piece.scores.end());
    text.finish = piece.finish;
    output_.add(number, piece.text);
    if (!piece.finish.empty()) output_.end(number);
  }

  TextWriter writer_;
  std::vector<CompletionRequest> requests_;
  int64_t together_;
  std::vector<std::shared_ptr<Completion>> completions_;  // null: not begun, or over
  std::vector<SideText> texts_;
  InOrder output_;
  size_t first_ = 0, next_ = 0;  // prompts that are being continued
};

// The template that --chat names; "": none.
std::string template_for(const PromptArguments& a, const SharedArguments& shared) {
  if (a.chat != "auto") return a.chat;
  return chat_template_of(shared.tokenizer.empty() ? shared.model : shared.tokenizer);
}

std::vector<FilePrompt> asked_prompts(const PromptArguments& a, const SharedArguments& shared) {
  std::vector<FilePrompt> prompts = a.file.empty()
                                        ? std::vector<FilePrompt>{{shared.prompt, {}, "--prompt"}}
                                        : read_prompt_file(a.file);
  require(a.system.empty() || !a.chat.empty(),
          "--system is the first message of a conversation: name its template (--chat), or leave "
          "it out");
  for (FilePrompt& prompt : prompts) {
    require(prompt.messages.empty() || !a.chat.empty(),
            "{} is a conversation: name its template (--chat auto for the model's own)",
            prompt.where);
    if (a.chat.empty()) continue;
    if (prompt.messages.empty()) prompt.messages = {{"user", prompt.text}};
    if (!a.system.empty() && prompt.messages[0].role != "system")
      prompt.messages.insert(prompt.messages.begin(), {"system", a.system});
  }
  return prompts;
}

// The text that the model reads, and its tokens.
Prompt read_prompt(const FilePrompt& asked, const std::string& chat, const ServedModel& model) {
  Prompt prompt;
  try {
    if (chat.empty()) {
      prompt.text = asked.text;
      prompt.tokens = prompt_tokens(model.tokenizer(), asked.text, model.vocabulary());
    } else {
      prompt.text = chat_text(chat, asked.messages);
      prompt.tokens = chat_tokens(chat, asked.messages, model.tokenizer());
      model.tokenizer().require_below(prompt.tokens, model.vocabulary());
    }
  } catch (const DataError& e) {
    throw DataError(fmt::format("{}: {}", asked.where, e.what()));
  } catch (const UserError& e) {
    throw UserError(fmt::format("{}: {}", asked.where, e.what()));
  }
  prompt.latents_after = int64_t(prompt.tokens.size());
  return prompt;
}

Json likeliest_json(const TokenScore& score, const Tokenizer& tokenizer) {
  Json list = Json::array();
  for (const auto& [token, value] : score.likeliest)
    if (token < tokenizer.vocabulary_size())
      list.push_back({{"token", token},
                      {"text", token_text(tokenizer.decode_continued(std::span(&token, 1)))},
                      {"log_probability", value}});
  return list;
}

Json text_json(SideText text, const std::vector<int32_t>& ends, bool scored,
               const Tokenizer& tokenizer) {
  Json out = {{"tokens", Json::array()}, {"text", text.text}, {"finish", text.finish}};
  // The token that ended the text is no part of it.
  const bool ended = text.finish == "stop" && !text.tokens.empty() &&
                     std::find(ends.begin(), ends.end(), text.tokens.back()) != ends.end();
  if (ended) {
    out["end_token"] = text.tokens.back();
    if (scored) out["end_log_probability"] = text.scores.back().log_probability;
    text.tokens.pop_back();
    if (scored) text.scores.pop_back();
  }
  out["tokens"] = text.tokens;
  if (!scored) return out;
  for (const char* key : {"log_probabilities", "likeliest"}) out[key] = Json::array();
  for (const TokenScore& score : text.scores) {
    out["log_probabilities"].push_back(score.log_probability);
    out["likeliest"].push_back(likeliest_json(score, tokenizer));
  }
  return out;
}

// One run of the command.
class PromptSampler {
 public:
  PromptSampler(const PromptArguments& a, const SharedArguments& shared)
      : a_(a),
        shared_(shared),
        asked_(asked_prompts(a, shared)),
        chat_(template_for(a, shared)),
        model_(shared.model, shared.coprocessor, {shared.tokenizer}, shared.late, shared.every) {
    for (const FilePrompt& prompt : asked_) prompts_.push_back(read_prompt(prompt, chat_, model_));
    if (model_.augmented())
      for (const Prompt& prompt : prompts_) require_fits(prompt);
    if (!chat_.empty())
      if (const auto end = chat_end(chat_, model_.tokenizer())) also_ends_ = {*end};
  }

  void run() {
    Json out = {{"model", model_.names()[0].description}};
    if (!chat_.empty()) out["chat_template"] = chat_;
    Verdict verdict;
    for (const ServedName& name : model_.names()) {
      if (name.verdict.leaks())
        log_warning("{}: it was trained on tokens ahead, which do not exist when it generates",
                    name.verdict.line());
      else if (!name.verdict.label().empty())
        log_warning("{}", name.verdict.line());
      verdict.merge(name.verdict);
    }
    if (!model_.augmented()) {
      out.update(write(false));
    } else {
      print_text("==== the base alone\n");
      out["base"] = write(false);
      const int64_t late = model_.latents_late();
      const int64_t every = model_.latents_every();
      print_text(fmt::format("==== with {} latents {}{}\n", model_.latent_rows(),
                             late == 0 ? std::string("behind the prompt")
                                       : fmt::format("that arrive {} tokens late", late),
                             every > 0 ? fmt::format(", made anew every {} tokens", every) : ""));
      out["coprocessor"] = model_.names()[1].description;
      out["latents"] = model_.latent_rows();
      out["latents_late"] = late;
      if (every > 0) out["latents_every"] = every;
      out["with_latents"] = write(true);
    }
    if (!shared_.texts.empty()) write_lines(out);
    if (shared_.json.empty()) return;
    if (verdict.asked() || verdict.leaks()) out["verdict"] = verdict.json();
    if (!verdict.label().empty()) out["label"] = verdict.label();
    write_file_atomically(shared_.json, json_text_replacing(out, 2) + "\n");
  }

 private:
  // The server's rule: latents that were put in do not leave the context again.
  void require_fits(const Prompt& prompt) const {
    const int64_t length = int64_t(prompt.tokens.size()),
                  all = length + model_.latent_rows() + shared_.generate.max_tokens;
    require(all <= model_.context(),
            "a prompt has {} tokens, its latents {}, and --max-tokens is {}, together {}; the "
            "model's context is {}: shorten the prompt or lower --max-tokens",
            length, model_.latent_rows(), shared_.generate.max_tokens, all, model_.context());
  }
  std::vector<CompletionRequest> requests(bool latents) const {
    std::vector<CompletionRequest> out;
    for (const Prompt& prompt : prompts_) {
      CompletionRequest request;
      request.latents = latents;
      request.prompts = {prompt};
      request.samples = shared_.samples;
      request.max_tokens = shared_.generate.max_tokens;
      request.choice = shared_.generate.choice();
      request.seed = shared_.generate.seed;
      request.stops = a_.stops;
      request.likeliest = a_.likeliest;
      request.past_end = shared_.past_end;
      request.also_ends = shared_.past_end ? std::vector<int32_t>() : also_ends_;
      out.push_back(std::move(request));
    }
    return out;
  }
  Json write(bool latents) {
    const auto begin = Completion::Clock::now();
    std::vector<SideText> texts =
        SideBySide(model_, requests(latents), a_.together.value_or(kTogetherByDefault)).write();
    const double seconds = std::chrono::duration<double>(Completion::Clock::now() - begin).count();
    std::vector<int32_t> ends = also_ends_;
    ends.insert(ends.end(), model_.ends().begin(), model_.ends().end());
    if (shared_.past_end) ends.clear();
    Json list = Json::array();
    int64_t tokens = 0;
    for (size_t i = 0; i < texts.size(); ++i) {
      const Prompt& prompt = prompts_[i / size_t(shared_.samples)];
      Json one = {{"prompt", prompt.text}, {"prompt_tokens", prompt.tokens}};
      tokens += int64_t(texts[i].tokens.size());
      one.update(
          text_json(std::move(texts[i]), ends, a_.likeliest.has_value(), model_.tokenizer()));
      list.push_back(std::move(one));
    }
    Json out = list.size() == 1 && a_.file.empty() ? list[0] : Json{{list_key(), list}};
    out["seconds"] = seconds;
    out["tokens_per_second"] = double(tokens) / seconds;
    return out;
  }
  const char* list_key() const { return a_.file.empty() ? "samples" : "texts"; }
  // {"prompt", "text"} for each text, or for the ones with latents.
  void write_lines(const Json& out) const {
    const Json& last = out.contains("with_latents") ? out["with_latents"] : out;
    std::string lines;
    for (const Json& one : last.contains(list_key()) ? last[list_key()] : Json::array({last}))
      lines += json_text_replacing(Json{{"prompt", one["prompt"]}, {"text", one["text"]}}) + "\n";
    write_file_atomically(shared_.texts, lines);
  }

  const PromptArguments& a_;
  const SharedArguments& shared_;
  std::vector<FilePrompt> asked_;
  std::string chat_;
  ServedModel model_;
  std::vector<Prompt> prompts_;
  std::vector<int32_t> also_ends_;
};

}  // namespace

void PromptArguments::add_to(CLI::App& command) {
  command.add_option(
      "--prompts", file,
      "a file of prompts instead of --prompt: one a line, or .jsonl with {\"prompt\": text} or "
      "{\"messages\": [{\"role\", \"content\"}]} a line. Their texts are written side by side");
  command
      .add_option("--together", together,
                  fmt::format("texts that are written side by side ({})", kTogetherByDefault))
      ->check(CLI::PositiveNumber);
  command.add_option("--chat", chat,
                     "the prompt is a user's message: auto for the template that lies with the "
                     "model, or one of " +
                         known_chat_templates());
  command.add_option("--system", system, "with --chat: the system's message before it");
  command.add_option("--stop", stops, "end a text in front of this string (repeatable)")
      ->take_all()
      ->allow_extra_args(false);
  command
      .add_option(
          "--logprobs", likeliest,
          "also write to --json each token's log-probability, and those of so many likeliest "
          "tokens in its place: natural logarithms of the model's own softmax")
      ->check(CLI::NonNegativeNumber);
}

void sample_prompts(const PromptArguments& a, const SharedArguments& shared) {
  require(!a.likeliest || !shared.json.empty(),
          "--logprobs are written to --json: name the file, or leave it out");
  for (const std::string& stop : a.stops)
    require(!stop.empty(), "a stop string is empty (--stop): wanted one character or more");
  require_valid(shared.generate.choice());
  PromptSampler(a, shared).run();
}

}  // namespace reverie
