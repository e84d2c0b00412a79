#include <filesystem>

#include "core/error.h"
#include "core/gguf.h"
#include "datasets/tokenizers/bpe_tokenizer.h"
#include "datasets/tokenizers/formats/pretrained_spec.h"
#include "datasets/tokenizers/subword_tokenizer.h"

namespace reverie {

namespace fs = std::filesystem;

std::shared_ptr<const Tokenizer> load_tokenizer_for(const std::string& path) {
  const auto subword = [](SubwordSpec spec, const std::string& file) {
    return std::make_shared<SubwordTokenizer>(std::move(spec), file);
  };
  if (fs::is_directory(path)) {
    const auto inside = [&](std::string_view name) { return (fs::path(path) / name).string(); };
    if (fs::exists(inside(kTokenizerFile))) return load_tokenizer(path);
    for (const char* name : {"tokenizer.json", "tokenizer.model"})
      if (fs::exists(inside(name))) return load_tokenizer_for(inside(name));
    if (fs::exists(inside("encoder.json")) ||
        (fs::exists(inside("vocab.json")) && fs::exists(inside("merges.txt"))))
      return BpeTokenizer::from_gpt2_files(path);
    throw UserError(
        fmt::format("{} holds no tokenizer: wanted {}, tokenizer.json, tokenizer.model or GPT-2's "
                    "encoder.json and vocab.bpe (vocab.json and merges.txt)",
                    path, kTokenizerFile));
  }
  const std::string extension = fs::path(path).extension().string();
  if (extension == ".gguf") return subword(read_gguf_tokenizer(read_gguf(path)), path);
  const fs::path parent = fs::path(path).parent_path();
  const std::string folder = parent.empty() ? "." : parent.string();
  if (extension == ".json") return subword(read_hugging_face(path, folder), path);
  if (extension == ".model") return subword(read_sentencepiece(path, folder), path);
  if (extension == ".bin") return subword(read_llama2c(path), path);
  throw UserError(fmt::format(
      "cannot tell what kind of tokenizer {} is: wanted a directory, or a file named *.gguf, "
      "*.json (Hugging Face), *.model (SentencePiece) or *.bin (llama2.c)",
      path));
}

}  // namespace reverie
