#include "trainers/exporting/hugging_face.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "datasets/tokenizers/formats/hugging_face_writer.h"
#include "datasets/tokenizers/odd_texts.h"
#include "layers/families/family.h"
#include "layers/pretrained/hugging_face_writer.h"
#include "trainers/evaluation/written_text.h"
#include "trainers/runs/exported_verdict.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTexts = 2000;
constexpr const char* kLogits = "reverie_logits.safetensors";

// Another model's files would be mixed with these: an index of shards, other tokenizer files.
void require_room(const std::string& directory) {
  require(!fs::exists(directory) || fs::is_directory(directory), "{} is no directory", directory);
  if (!fs::exists(directory) || fs::is_empty(directory)) return;
  require(fs::exists(fs::path(directory) / kLogits),
          "{} holds files that are no earlier export: name a new directory", directory);
}

// The model's logits on a sequence that is long enough for every window to end, where the model
// goes that far.
NamedTensors logits_of(LanguageModel& model) {
  const int64_t length = std::min<int64_t>(model.block_size(), 256);
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < length; ++i)
    ids.push_back(int32_t((i * 7 + 3) % model.vocabulary_size()));
  const Tensor tokens = Tensor::from<int32_t>({1, length}, ids);
  model.train(false);
  NoGrad guard;
  return {{"tokens", tokens}, {"logits", model.logits(tokens).tensor().to(DType::f32)}};
}

Json ids_of(const Tokenizer& tokenizer, const std::vector<std::string>& texts,
            const TextEnds& ends) {
  Json ids = Json::array();
  for (const std::string& text : texts) ids.push_back(tokenizer.encode(text));
  Json begins = Json::array();
  if (tokenizer.adds_begin_of_text()) begins.push_back(ends.begin.value());
  return {
      {"begins", std::move(begins)}, {"ends", ends.end}, {"texts", texts}, {"ids", std::move(ids)}};
}

}  // namespace

void export_hugging_face(LanguageModel& model, const Component& component,
                         const Tokenizer* tokenizer, const std::string& directory,
                         const Verdict* verdict) {
  const PlainModel plain = plain_model(model, component);
  TextEnds ends{{}, ends_of_text(model, tokenizer)};
  std::vector<std::string> texts;
  HuggingFaceTokenizer words;
  if (tokenizer) {
    require_fitting(*tokenizer, model.vocabulary_size(), "the run");
    ends.begin = tokenizer->begin_of_text();
    texts = odd_texts(*tokenizer, kTexts);
    words = hugging_face_tokenizer(*tokenizer, model.block_size(), texts);
    const std::string conflict =
        family_of_type(plain.component.type)->tokenizer_conflict(words.tokenizer);
    require(conflict.empty(), "{}", conflict);
  }
  Json config = hugging_face_config(plain, ends);
  if (verdict) put_verdict(config, *verdict);
  require_room(directory);

  fs::create_directories(directory);
  const auto write = [&](const char* name, const Json& json, int indent = 2) {
    write_file_atomically((fs::path(directory) / name).string(), json_text(json, indent) + "\n");
  };
  write_safetensors((fs::path(directory) / kLogits).string(), logits_of(model));
  if (tokenizer) {
    write("tokenizer.json", words.tokenizer, 1);
    write("tokenizer_config.json", words.config);
    write("special_tokens_map.json", words.special);
    write("reverie_texts.json", ids_of(*tokenizer, texts, ends), -1);
    tokenizer->save(directory);
  }
  write_safetensors((fs::path(directory) / "model.safetensors").string(),
                    hugging_face_tensors(plain), {{"format", "pt"}});
  write("generation_config.json", generation_config(ends));
  write("config.json", config);
}

}  // namespace reverie
